"""Finding: something that should not be, with an owner, until it is mended or signed off.

Decides when a fact seen again is the same finding, who signed it off and until when, and every move
it may make. The same fact is one finding, by its natural key, however often it is looked at. Pure;
what is looked for is in `flow/role_look.py` and `flow/searching.py`.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from tidegate.base.errors import AskedWrongly
from tidegate.base.fact import SYSTEM, Data, Fact, Step, moved
from tidegate.base.personal import Personal
from tidegate.base.table import Table
from tidegate.base.when import Instant, parse_instant, wire
from tidegate.catalogue import target_chain

# A year: whoever looks after the target has changed by then, and signs again or does not.
LONGEST_ACCEPTED = timedelta(days=366)


class FindingState(StrEnum):
    """Where a finding is. A closed one can open again."""

    OPEN = "open"
    ASSIGNED = "assigned"
    CLOSED = "closed"


S = FindingState
TABLE: Table[FindingState] = Table(
    "finding",
    {
        (None, "finding.opened"): S.OPEN,
        (S.OPEN, "finding.seen"): S.OPEN,
        (S.OPEN, "finding.assigned"): S.ASSIGNED,
        (S.OPEN, "finding.closed"): S.CLOSED,
        (S.ASSIGNED, "finding.seen"): S.ASSIGNED,
        (S.ASSIGNED, "finding.assigned"): S.ASSIGNED,
        (S.ASSIGNED, "finding.closed"): S.CLOSED,
        (S.CLOSED, "finding.reopened"): S.OPEN,
    },
    {
        "finding.opened": "open it",
        "finding.seen": "see it again",
        "finding.assigned": "assign it",
        "finding.closed": "close it",
        "finding.reopened": "open it again",
    },
)


class FindingKind(StrEnum):
    """What is not as it should be."""

    LEFTOVER = "leftover"  # ours, in the cloud, and no grant wants it: closed again at once
    READDED = "readded"  # there again after we removed it: closed again at once
    STANDING = "standing"  # access nobody asked us for, not in the baseline
    HELD_STILL = "held_still"  # a grant ended, and other access to the same stands
    GONE_EARLY = "gone_early"  # the access of an open grant was taken away by somebody else
    DEADLINE = "deadline"  # the cloud's own deadline of an open grant missing or changed
    ROLE_CHANGED = "role_changed"  # a role we hand out is gone or trusts others than it should
    DENY_REMOVED = "deny_removed"  # somebody took away a deny of ours: it was put back
    LATE = "late"  # an end that was not read back as removed within its bound
    SIDE_DOOR = "side_door"  # made inside a grant's window: a way back in after its end


class Severity(StrEnum):
    """How soon somebody must look, soonest first."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


SEVERITY = {
    FindingKind.LEFTOVER: Severity.MEDIUM,
    FindingKind.READDED: Severity.HIGH,
    FindingKind.STANDING: Severity.HIGH,
    FindingKind.HELD_STILL: Severity.HIGH,
    FindingKind.GONE_EARLY: Severity.LOW,
    FindingKind.DEADLINE: Severity.MEDIUM,
    FindingKind.ROLE_CHANGED: Severity.HIGH,
    FindingKind.DENY_REMOVED: Severity.HIGH,
    FindingKind.LATE: Severity.MEDIUM,
    FindingKind.SIDE_DOOR: Severity.HIGH,
}


class ClosedHow(StrEnum):
    """How a finding was closed."""

    HEALED = "healed"  # we mended it ourselves, and that was read back
    FIXED = "fixed"  # a later look no longer sees it
    RESOLVED = "resolved"  # a person says it is mended: seen again, it opens again
    BASELINE = "baseline"  # it stands, and a person called it known with a new baseline
    ACCEPTED = "accepted"  # a person signed it off until an instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One fact as a look found it. `kind`, `target` and `what` are its natural key.

    `what` is the native object's id, `sort` what sort of object it is; `grant` and `principal` are
    whose it is when known. `by` names who did it, as far as the cloud says. `remedy` is the command
    that would mend it; empty when Tidegate mends it by itself.
    """

    kind: FindingKind
    target: str
    what: str
    sort: str
    says: str
    remedy: str = ""
    owner: str = ""
    role: str = ""
    principal: str = ""
    grant: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A finding as it is now.

    `owner` is whose target it is on, `assigned_to` who works on it (`group:NAME` or a principal id;
    empty: the owner). `times` counts how often it came (back). `last_seen_at` is the last look that
    saw it; looks are no events, so only the database knows it exactly. `closed_by`, `reason` (a
    commitment) and `accepted_until` are the sign-off.
    """

    id: str
    kind: FindingKind
    target: str
    what: str
    sort: str
    says: str
    remedy: str
    owner: str
    role: str
    principal: str
    grant: str
    by: str
    severity: Severity
    state: FindingState
    assigned_to: str
    times: int
    first_seen_at: Instant
    last_seen_at: Instant
    closed_at: Instant | None
    closed_how: str
    closed_by: str
    reason: str
    accepted_until: Instant | None
    version: int

    @property
    def live(self) -> bool:
        """Whether somebody still has to do something about it."""
        return self.state is not FindingState.CLOSED

    def accepted(self, now: Instant) -> bool:
        """Whether a person signed it off and that still holds."""
        return (
            self.closed_how == ClosedHow.ACCEPTED
            and self.accepted_until is not None
            and now < self.accepted_until
        )


def opened(finding_id: str, seen: Sighting, now: Instant) -> Step:
    """A fact is seen for the first time."""
    data = {
        "finding": finding_id,
        "target": seen.target,
        "at": wire(now),
        "kind": seen.kind.value,
        "what": seen.what,
        "sort": seen.sort,
        "says": seen.says,
        "remedy": seen.remedy,
        "owner": seen.owner,
        "role": seen.role,
        "principal": seen.principal,
        "grant": seen.grant,
        "by": seen.by,
        "severity": SEVERITY[seen.kind].value,
    }
    fact = _fact("finding.opened", seen.target, SYSTEM, data)
    return moved(None, evolve(None, fact), fact)


def seen_again(finding: Finding, seen: Sighting, now: Instant) -> Step | None:
    """What seeing the same fact again changes; None: nothing, and nothing is sealed.

    A finding that is closed opens again, unless a person accepted it until an instant ahead. One
    that is open changes only with what it says.
    """
    if finding.accepted(now):
        return None
    told = {"says": seen.says, "remedy": seen.remedy, "by": seen.by, "grant": seen.grant}
    if not finding.live:
        return _told(finding, "finding.reopened", SYSTEM, {**told, "why": "it is there again"}, now)
    if (finding.says, finding.remedy, finding.by, finding.grant) == tuple(told.values()):
        return None
    return _told(finding, "finding.seen", SYSTEM, told, now)


def came_back(finding: Finding, seen: Sighting, now: Instant) -> Step:
    """The same thing happened once more while the finding is open: counted."""
    told = {"says": seen.says, "remedy": seen.remedy, "by": seen.by, "grant": seen.grant}
    return _told(finding, "finding.seen", SYSTEM, told, now)


def assigned(finding: Finding, to: str, actor: str, now: Instant) -> Step:
    """Somebody else works on it from now on. Raises Stale when it is closed."""
    return _told(finding, "finding.assigned", actor, {"to": to}, now)


def closed(
    finding: Finding,
    how: ClosedHow,
    actor: str,
    now: Instant,
    reason: Personal | None = None,
    until: Instant | None = None,
) -> Step:
    """Close it: by a look (`healed`, `fixed`), or signed by a person with a reason.

    Raises:
        Stale: it is closed already.
        AskedWrongly: `until` is past or further ahead than LONGEST_ACCEPTED.
    """
    if until is not None and not now < until <= now + LONGEST_ACCEPTED:
        raise AskedWrongly(
            "bad_until",
            f"expected an instant ahead, at most {LONGEST_ACCEPTED.days} days, got {wire(until)}",
            "sign it off for a while: somebody looks again then",
        )
    data = {
        "how": how.value,
        "reason": reason.commitment if reason else None,
        "until": wire(until) if until else None,
    }
    step = _told(finding, "finding.closed", actor, data, now)
    return Step(step.changes, step.facts, (reason,) if reason else ())


def lapsed(finding: Finding, now: Instant) -> Step:
    """Its acceptance is over: somebody has to look again."""
    told = {
        "says": finding.says,
        "remedy": finding.remedy,
        "by": finding.by,
        "grant": finding.grant,
        "why": "it was accepted until now",
    }
    return _told(finding, "finding.reopened", SYSTEM, told, now)


def evolve(before: Finding | None, fact: Fact) -> Finding:
    """The finding after `fact`. The only function that makes or changes one."""
    data = fact.data
    state = TABLE.next(before.state if before else None, fact.name)
    at = parse_instant(str(data["at"]))
    if before is None:
        return _first(data, at)
    after = replace(before, state=state, version=before.version + 1)
    match fact.name:
        case "finding.seen":
            return replace(_said(after, data, at), times=before.times + 1)
        case "finding.assigned":
            return replace(after, assigned_to=str(data["to"]))
        case "finding.closed":
            return replace(
                after,
                closed_at=at,
                closed_how=str(data["how"]),
                closed_by=fact.actor,
                reason=str(data["reason"] or ""),
                accepted_until=parse_instant(str(data["until"])) if data["until"] else None,
            )
        case "finding.reopened":
            again = replace(
                after,
                assigned_to="",
                closed_at=None,
                closed_how="",
                closed_by="",
                reason="",
                accepted_until=None,
            )
            return replace(_said(again, data, at), times=before.times + 1)
    raise RuntimeError(f"{fact.name} is in the table and has no meaning")


def _first(data: Data, at: Instant) -> Finding:
    return Finding(
        id=str(data["finding"]),
        kind=FindingKind(str(data["kind"])),
        target=str(data["target"]),
        what=str(data["what"]),
        sort=str(data["sort"]),
        says=str(data["says"]),
        remedy=str(data["remedy"]),
        owner=str(data["owner"]),
        role=str(data["role"]),
        principal=str(data["principal"]),
        grant=str(data["grant"]),
        by=str(data["by"]),
        severity=Severity(str(data["severity"])),
        state=S.OPEN,
        assigned_to="",
        times=1,
        first_seen_at=at,
        last_seen_at=at,
        closed_at=None,
        closed_how="",
        closed_by="",
        reason="",
        accepted_until=None,
        version=1,
    )


def _said(finding: Finding, data: Data, at: Instant) -> Finding:
    return replace(
        finding,
        says=str(data["says"]),
        remedy=str(data["remedy"]),
        by=str(data["by"]),
        grant=str(data["grant"]),
        last_seen_at=at,
    )


def _told(finding: Finding, name: str, actor: str, more: Data, now: Instant) -> Step:
    data = {"finding": finding.id, "target": finding.target, "at": wire(now), **more}
    fact = _fact(name, finding.target, actor, data)
    return moved(finding, evolve(finding, fact), fact)


def _fact(name: str, target: str, actor: str, data: Data) -> Fact:
    return Fact(name=name, subject=target_chain(target), actor=actor, data=data)
