"""How a panic stands: its grants by their rows, by the journal where no row tells, and what came
back after its end and is being closed again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tidegate.base.when import Instant
from tidegate.evidence.journal_book import read_back
from tidegate.evidence.journal_line import JournalLine
from tidegate.finding import Finding, FindingKind
from tidegate.flow.house import CLOCKS_APART, House
from tidegate.flow.panic_names import named_by
from tidegate.flow.panic_unrowed import count_unrowed, doubt_of
from tidegate.grant import Grant
from tidegate.panic import Beside, Scope, ScopeKind, Standing, Unrowed, standing

BACK = (FindingKind.READDED, FindingKind.LEFTOVER)


def stand(house: House, panic_id: str, now: Instant) -> Standing:
    """How everything the panic named stands now, and whether that is all there is."""
    panic, names = house.store.panic(panic_id), named_by(house, panic_id)
    found = house.store.grants_named(names)
    unrowed = count_unrowed(house, names, found)
    doubt = doubt_of(house, unrowed, now)
    rows = {name: row for name, row in found.items() if name not in unrowed.names}
    told = standing(rows.values(), unrowed, now, doubt=doubt)
    counted = {one.id for one in (*told.closing, *told.unverified)}
    counted.update(one.id for one in told.beside)
    back = [one for one in _back(house, panic.scope) if one.grant not in counted]
    if not back:
        return told
    again = {one.grant for one in back}
    left = (row for name, row in rows.items() if name not in again)  # each counts once
    return standing(left, _with(house, unrowed, back), now, doubt=doubt)


def _back(house: House, scope: Scope) -> list[Finding]:
    """What is there again, or still, after its end, in `scope`: it is closed again for as long as
    its finding is live. One of each grant, and not what our journal saw removed, sessions and all,
    since a look saw it there.
    """
    found = [one for kind in BACK for one in house.store.live_of_kind(kind)]
    rows = house.store.grants_named({one.grant for one in found if one.grant}) if found else {}
    try:
        lines: Mapping[str, Sequence[JournalLine]] = house.journal.book().lines
    except OSError:
        lines = {}  # and the journal's own doubt is told
    meant: dict[str, Finding] = {}
    for one in found:
        is_there = not _is_removed(one, lines.get(one.grant, ()))
        if is_there and _is_meant(scope, one, rows.get(one.grant)):
            meant.setdefault(one.grant or one.id, one)
    return list(meant.values())


def _is_removed(finding: Finding, lines: Sequence[JournalLine]) -> bool:
    last = read_back(lines)
    return last is not None and not last.uncut and last.at >= finding.last_seen_at + CLOCKS_APART


def _is_meant(scope: Scope, finding: Finding, grant: Grant | None) -> bool:
    """Whether it is in scope: as it was first seen, or by the grant that had it last. Whose it is,
    or by which role, may not be known: then it may be.
    """
    if grant is not None and scope.covers(grant.principal, grant.role):
        return True
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


def _with(house: House, unrowed: Unrowed, back: Iterable[Finding]) -> Unrowed:
    """With these counted: as closing, but for what no look comes to any more."""
    closing, unread = [*unrowed.closing], [*unrowed.unread]
    for one in back:
        name, id = one.grant or one.id, one.id
        if one.role in house.laws.catalogue.roles:
            says = f"there after its end, and is being closed again: {id}"
            closing.append(Beside(id=name, role=one.role, says=says))
        else:
            says = (
                "there after its end, and its role is handed out no more, so no look comes to it: "
                f"remove it in the cloud, then `tidegate findings close {id}`"
            )
            unread.append(Beside(id=name, role=one.role, says=says))
    return replace(unrowed, closing=tuple(closing), unread=tuple(unread))
