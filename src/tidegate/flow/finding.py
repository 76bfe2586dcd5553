"""Findings: opened once for one fact, handed on, signed off, and opened again when they come back.

A look calls `see` for what it sees and `heal` or `mended` for what it no longer sees; people assign
and close. Everybody's right to do so is asked in `allowing.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from tidegate.base.errors import AskedWrongly, Stale
from tidegate.base.fact import SYSTEM, Step
from tidegate.base.ids import FINDING, id_kind
from tidegate.base.text import LONGEST_REASON, clean_text
from tidegate.base.when import Instant
from tidegate.finding import (
    SEVERITY,
    ClosedHow,
    Finding,
    FindingKind,
    Severity,
    Sighting,
    assigned,
    came_back,
    closed,
    lapsed,
    opened,
    seen_again,
)
from tidegate.flow.allowing import Verb, allow_finding, allow_house, may_see_finding
from tidegate.flow.house import Actor, House
from tidegate.store import Wanted

log = structlog.get_logger("tidegate.finding")

LAPSE_AT_ONCE = 100  # acceptances a look; the rest open again at the next one
# One call looks at this many findings for those somebody may see; its page then ends early.
MOST_LOOKED_AT = 1_000
MOST_NAMED = 5  # of the oldest, beside the counts: enough to begin with


def see(house: House, seen: Sighting, now: Instant, *, once_more: bool = False) -> Finding | None:
    """One fact as a look found it: opens its finding, opens it again, or only remembers the look.

    `once_more`: it happened again, also when the finding is still open: that is counted. Returns
    the finding; None when somebody else changed it in this very moment, and the next look sees.
    """
    found = house.store.finding_of(seen.kind, seen.target, seen.what)
    step = sighted(house, found, seen, now, once_more=once_more)
    if step is None:
        return found and looked_at(house, found, now)
    try:
        house.store.commit(step)
    except Stale:
        return None
    after = house.store.finding_of(seen.kind, seen.target, seen.what)
    if after is not None:
        log.warning("finding", finding=after.id, kind=after.kind.value, target=after.target)
    return after


def sighted(
    house: House, found: Finding | None, seen: Sighting, now: Instant, *, once_more: bool = False
) -> Step | None:
    """What `see` seals of a fact whose finding, if there is one, is `found`; None: nothing."""
    if found is None:
        return opened(house.new_id(FINDING, now), seen, now)
    if found.live and once_more:
        return came_back(found, seen, now)
    return seen_again(found, seen, now)


def looked_at(house: House, found: Finding, now: Instant) -> Finding:
    """A look saw it unchanged: only when is remembered."""
    house.store.findings_seen((found.id,), now)
    return house.store.finding(found.id)


def owner_of(house: House, target: str) -> str:
    """Whose target it is today; empty when the catalogue has it no more: then the operators'."""
    found = house.laws.catalogue.targets.get(target)
    return found.owner if found else ""


def end(house: House, finding: Finding, how: ClosedHow, now: Instant) -> None:
    """A look closes it: mended by us (`healed`), or no longer to be seen (`fixed`)."""
    try:
        house.store.commit(closed(finding, how, SYSTEM, now))
    except Stale:
        log.info("finding moved on", finding=finding.id)


def find_finding(house: House, actor: Actor, some_id: str, verb: Verb) -> Finding:
    """The finding of that id, if the actor may do `verb` to it. Raises NotFound, NotAllowed."""
    if id_kind(some_id) != FINDING:
        raise AskedWrongly(
            "bad_id",
            f"expected an id like `{FINDING}_…`, got `{some_id[:40]}`",
            "list them with `tidegate findings list`",
        )
    finding = house.store.finding(some_id)
    allow_finding(house, actor, verb, finding)
    return finding


def list_findings(
    house: House, actor: Actor, wanted: Wanted, limit: int, before: str | None
) -> tuple[list[Finding], str | None]:
    """A page of the findings the actor may see, newest first, and where the next one begins."""
    looked = house.store.findings(wanted, MOST_LOOKED_AT, before)
    found: list[Finding] = []
    for finding in looked:
        if may_see_finding(house, actor, finding):
            found.append(finding)
            if len(found) == limit:
                return found, finding.id
    return found, looked[-1].id if len(looked) == MOST_LOOKED_AT else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFindings:
    """What is not closed: how many by kind, the most severe kinds first, and the oldest few."""

    by_kind: Mapping[FindingKind, int]
    oldest: tuple[Finding, ...]

    @property
    def count(self) -> int:
        """How many in all."""
        return sum(self.by_kind.values())

    @property
    def high(self) -> int:
        """How many of them are of the highest severity."""
        return sum(n for kind, n in self.by_kind.items() if SEVERITY[kind] is Severity.HIGH)


def open_findings(house: House, actor: Actor, target: str = "") -> OpenFindings:
    """What is not closed, counted; with `target` only there. Raises NotAllowed: for auditors."""
    allow_house(house, actor, Verb.AUDIT)
    counts, oldest = house.store.live_findings(MOST_NAMED, target)
    soonest = list(Severity)
    order = sorted(counts, key=lambda kind: (soonest.index(SEVERITY[kind]), kind.value))
    return OpenFindings(by_kind={kind: counts[kind] for kind in order}, oldest=tuple(oldest))


def assign(house: House, actor: Actor, some_id: str, to: str) -> Finding:
    """Hand a finding to a person (login or principal id) or to a group (`group:NAME`).

    Raises:
        NotFound, NotAllowed: as `find_finding`. Stale: it is closed.
        AskedWrongly: nobody is called that.
    """
    finding = _live(find_finding(house, actor, some_id, Verb.ASSIGN), "hand it on")
    house.store.commit(assigned(finding, _somebody(house, to), actor.id, house.now()))
    return house.store.finding(finding.id)


def close(
    house: House, actor: Actor, some_id: str, reason: str, accept_for: timedelta | None = None
) -> Finding:
    """Sign a finding off: as mended (seen again, it opens again), or accepted for a while.

    Raises:
        NotFound, NotAllowed: as `find_finding`. Stale: it is closed.
        AskedWrongly: no reason, or a time that is too long.
    """
    finding = _live(find_finding(house, actor, some_id, Verb.CLOSE), "close it")
    words = clean_text("reason", reason, LONGEST_REASON)
    now = house.now()
    how = ClosedHow.RESOLVED if accept_for is None else ClosedHow.ACCEPTED
    until = None if accept_for is None else now + accept_for
    house.store.commit(closed(finding, how, actor.id, now, house.personal(words), until))
    return house.store.finding(finding.id)


def lapse_accepted(house: House) -> int:
    """Open again what was accepted until now; returns how many."""
    now = house.now()
    over = house.store.acceptances_over(now, LAPSE_AT_ONCE)
    for finding in over:
        try:
            house.store.commit(lapsed(finding, now))
        except Stale:
            log.info("finding moved on", finding=finding.id)
    return len(over)


def _live(finding: Finding, deed: str) -> Finding:
    """`finding`, unless it is closed. Raises Stale."""
    if finding.live:
        return finding
    raise Stale(
        "closed_already",
        f"expected an open finding to {deed}, got `{finding.id}` closed ({finding.closed_how})",
        f"`tidegate findings show {finding.id}` says how; seen again, it opens by itself",
    )


def _somebody(house: House, to: str) -> str:
    """`group:NAME` or a principal id. Raises AskedWrongly."""
    name = to.removeprefix("group:")
    if to.startswith("group:"):
        laws = house.laws
        owners = {one.owner.removeprefix("group:") for one in laws.catalogue.targets.values()}
        if name and name in {*laws.groups.names, *owners, laws.operators, laws.auditors}:
            return to
    else:
        account = house.store.account(to)
        if account is not None:
            return account.principal
        if id_kind(to) == "pr" and house.store.principal(to):
            return to
    raise AskedWrongly(
        "nobody",
        f"expected a login, a principal id or a known `group:NAME`, got `{to[:80]}`",
        "a login as `tidegate account list` shows it on the server, or a group of the groups file",
    )
