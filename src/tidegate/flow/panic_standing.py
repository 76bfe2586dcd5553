"""How a panic stands: its grants by their rows, by the journal where no row tells, and what came
back after its end and is being closed again.
"""

from collections.abc import Iterator, Mapping, Sequence

from tidegate.base.when import Instant
from tidegate.evidence.journal_book import read_back
from tidegate.evidence.journal_line import JournalLine
from tidegate.finding import Finding, FindingKind
from tidegate.flow.house import House
from tidegate.flow.panic_names import named_by
from tidegate.flow.panic_unrowed import count_unrowed, doubt_of
from tidegate.panic import Beside, Scope, ScopeKind, Standing, standing

BACK = (FindingKind.READDED, FindingKind.LEFTOVER)


def stand(house: House, panic_id: str, now: Instant) -> Standing:
    """How everything the panic named stands now, and whether that is all there is."""
    panic, names = house.store.panic(panic_id), named_by(house, panic_id)
    found = house.store.grants_named(names)
    unrowed = count_unrowed(house, names, found)
    rows = [row for name, row in found.items() if name not in unrowed.names]
    doubt = doubt_of(house, unrowed, now)
    told = standing(rows, unrowed, now, doubt=doubt)
    counted = {one.id for one in (*told.closing, *told.unverified)}
    counted.update(one.id for one in told.beside)
    back = [one for one in _back(house, panic.scope) if one.grant not in counted]
    return standing(rows, unrowed, now, back=map(_beside, back), doubt=doubt) if back else told


def _back(house: House, scope: Scope) -> Iterator[Finding]:
    """What is there again, or still, after its end, in `scope`: it is closed again for as long as
    its finding is live. But what our journal saw removed since a look saw it there.
    """
    try:
        lines: Mapping[str, Sequence[JournalLine]] = house.journal.book().lines
    except OSError:
        lines = {}  # and the journal's own doubt is told
    for kind in BACK:
        for finding in house.store.live_of_kind(kind):
            last = read_back(lines.get(finding.grant, ()))
            if _is_meant(scope, finding) and (last is None or last.at < finding.last_seen_at):
                yield finding


def _is_meant(scope: Scope, finding: Finding) -> bool:
    """Whether it is in scope; whose it is, or by which role, may not be known: then it may be."""
    match scope.kind:
        case ScopeKind.PRINCIPAL:
            return finding.principal in ("", scope.name)
        case ScopeKind.ROLE:
            target = scope.name.partition("/")[0]
            return finding.role == scope.name or (not finding.role and finding.target == target)
        case ScopeKind.TARGET:
            return finding.target == scope.name
        case ScopeKind.ALL:
            return True


def _beside(finding: Finding) -> Beside:
    says = f"there after its end, and is being closed again: {finding.id}"
    return Beside(id=finding.grant or finding.id, role=finding.role, says=says)
