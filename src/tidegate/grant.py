"""Stage 3, Grant: one item of an approved request, opened with its own end.

Decides when a grant may open, which instant ends it, and every move it may make; how it closes is
told in `expire.py`. The end is fixed when intent is sealed, before the cloud is called (I1): no
grant can be open without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any

from tidegate.base.errors import Stale
from tidegate.base.fact import SYSTEM, Change, Fact, Step, moved
from tidegate.base.table import Table
from tidegate.base.when import Instant, parse_instant, whole_seconds, wire
from tidegate.catalogue import Assignment, AssignmentKey, hold, let_go
from tidegate.request import CLAIM_WITHIN, Item, Request, RequestState


class GrantState(StrEnum):
    """Where a grant is. `gone` and `failed` are ends, `signed_off` a person's word."""

    READY = "ready"
    INTENDED = "intended"
    OPEN = "open"
    CLOSING = "closing"
    REMOVED = "removed"
    GONE = "gone"
    FAILED = "failed"
    SIGNED_OFF = "signed_off"


S = GrantState
TABLE: Table[GrantState] = Table(
    "grant",
    {
        (None, "grant.readied"): S.READY,
        (S.READY, "grant.noted"): S.READY,
        (S.READY, "grant.intended"): S.INTENDED,
        (S.READY, "grant.failed"): S.FAILED,
        (S.INTENDED, "grant.noted"): S.INTENDED,
        (S.INTENDED, "grant.opened"): S.OPEN,
        (S.INTENDED, "grant.failed"): S.FAILED,
        (S.INTENDED, "grant.closing"): S.CLOSING,
        (S.OPEN, "session.issued"): S.OPEN,
        (S.OPEN, "grant.warned"): S.OPEN,
        (S.OPEN, "grant.extended"): S.OPEN,
        (S.OPEN, "grant.noted"): S.OPEN,
        (S.OPEN, "grant.armed"): S.OPEN,
        (S.OPEN, "grant.closing"): S.CLOSING,
        (S.CLOSING, "grant.noted"): S.CLOSING,
        (S.CLOSING, "grant.removed"): S.REMOVED,
        (S.REMOVED, "grant.noted"): S.REMOVED,
        (S.REMOVED, "grant.cut"): S.REMOVED,
        (S.REMOVED, "grant.contradicted"): S.CLOSING,
        (S.REMOVED, "grant.gone"): S.GONE,
        (S.REMOVED, "grant.searched"): S.REMOVED,
        (S.GONE, "grant.searched"): S.GONE,
        (S.FAILED, "grant.searched"): S.FAILED,
        (S.SIGNED_OFF, "grant.searched"): S.SIGNED_OFF,
        (S.CLOSING, "grant.signed_off"): S.SIGNED_OFF,
        (S.REMOVED, "grant.signed_off"): S.SIGNED_OFF,
        (S.SIGNED_OFF, "grant.resumed"): S.CLOSING,
    },
    {
        "grant.readied": "make it ready",
        "grant.noted": "note an outcome of it",
        "grant.intended": "begin to open it",
        "grant.opened": "open it",
        "grant.failed": "call it off",
        "session.issued": "start a session under it",
        "grant.warned": "warn its holder",
        "grant.extended": "move its end",
        "grant.armed": "move its end in the cloud",
        "grant.closing": "end it",
        "grant.removed": "call it removed",
        "grant.cut": "call its sessions cut",
        "grant.contradicted": "call it back",
        "grant.gone": "call it gone",
        "grant.searched": "tell what a search for side doors found of it",
        "grant.signed_off": "sign its end off",
        "grant.resumed": "take its end up again",
    },
)

# Events of a grant whose meaning changed while their fields stayed: the version they are sealed in.
# Before version 2 a grant called back stayed searched, and the last search's word stood.
SEALED_AS: Mapping[str, int] = {
    "grant.contradicted": 2,
    "grant.searched": 2,
    "grant.resumed": 2,
}

# What ends first when many must end at once: a sum, so that each part outranks all below it.
# Fixed with the intent, from what is known then.
RISK_UNBOUNDED = 4  # nothing ends it while every Tidegate process is dead
RISK_EMERGENCY = 2  # opened as an emergency: perhaps past a shut gate, and rarely a small role
RISK_LONG = 1  # its end takes longer than LONG_EXPOSURE at the worst
LONG_EXPOSURE = timedelta(minutes=5)  # above what a cloud takes to make a removal true everywhere

STANDING = "standing access"  # how `still_held_by` begins when it is no grant that holds it

UNREMOVED = (S.INTENDED, S.OPEN, S.CLOSING)  # the access may be in the cloud
LIVE = frozenset({*UNREMOVED, S.REMOVED})  # something may be in the cloud


class Cause(StrEnum):
    """Why a grant failed to open."""

    NOT_CLAIMED = "not_claimed"  # could not be opened before claim-by
    NOT_PERMITTED = "not_permitted"  # the rules in force no longer permit it
    ROLE_CHANGED = "role_changed"  # the catalogue entry is not the one voted on
    CLOUD_REFUSED = "cloud_refused"  # a plain no: certainly nothing was made
    JOURNAL_CLOSED = "journal_closed"  # the closing journal could not be written
    GATE_SHUT = "gate_shut"  # what would open could not be closed for certain
    NO_SUCH_PERSON = "no_such_person"  # the cloud does not know who it is for
    ENDED_BEFORE = "ended_before"  # its owner or somebody else ended it before it opened


class Outcome(StrEnum):
    """What the last call to the cloud came back with, while the grant stays where it is."""

    UNKNOWN = "unknown"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    STILL_USABLE = "still_usable"  # read back, and not yet removed
    CLOCK_APART = "clock_apart"  # the cloud's clock and ours disagree
    NOT_PROVEN = "not_proven"  # removed, and the stronger proof was not reached yet
    NOT_CUT = "not_cut"  # removed, and live sessions are not seen cut yet
    STILL_ACTS = "still_acts"  # removed, and tried as that access it was still allowed
    LATER = "later"  # told to slow down: certainly nothing changed, and it is tried again
    GATE_SHUT = "gate_shut"  # waits: a check of the health gate says no
    FROZEN = "frozen"  # waits: a panic keeps shut what it is in
    STILL_CLOSING = "still_closing"  # waits: an earlier grant of the same access is not removed yet


class Searched(StrEnum):
    """What the search for side doors came to, when a grant had ended."""

    NONE_FOUND = "none_found"
    FOUND = "found"
    NOT_SEARCHED = "not_searched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A grant as it is now. Instants are None until they are known.

    `ends_at` is the absolute end; `residual_until` the instant until which a session taken before
    the end may still act; `proof` how its end is known (empty while it is not over). `unattended`
    is the exposure with every Tidegate process dead, None without a bound; `cut` says that live
    sessions were seen cut, `cut_before` those issued before which instant (None: by name). `risk`
    is what `risk_of` gave at the intent: the larger, the sooner its end comes in a rush.

    `ends_at` is the window's end plus `grace`: the instant everything is bound to. `held_since` is
    since when its holder has held the role without a break, by this grant and those it overlaps
    with; `extended` how much longer its window was made. `arming`: the end moved, and journal and
    cloud are not known to have the new one. `warned`: its holder was warned of this end. `acted`:
    tried as that access after the removal it was allowed; from then on only a refused try proves
    its end, whatever time passes.
    """

    id: str
    request: str
    principal: str
    role: str
    role_digest: str
    state: GrantState
    opens_at: Instant
    claim_by: Instant
    duration: timedelta
    start: Instant | None
    ends_at: Instant | None
    assignment: str
    exposure: timedelta
    unattended: timedelta | None
    opened_at: Instant | None
    closing_at: Instant | None
    end_reason: str
    removed_at: Instant | None
    residual_until: Instant | None
    gone_at: Instant | None
    proof: str
    cause: str
    outcome: str
    tries: int
    sessions: int
    still_held_by: str
    cut: bool
    cut_before: Instant | None
    searched: str
    version: int
    risk: int = 0
    grace: timedelta = timedelta(0)
    held_since: Instant | None = None
    extended: timedelta = timedelta(0)
    arming: bool = False
    warned: bool = False
    acted: bool = False

    @property
    def window_ends_at(self) -> Instant | None:
        """From when no session is issued; those there were may act until `ends_at`."""
        return None if self.ends_at is None else self.ends_at - self.grace

    @property
    def held_by_standing(self) -> bool:
        """Whether what holds it still is access that no grant gave (I5)."""
        return self.still_held_by.startswith(STANDING)

    @property
    def had_to_end_at(self) -> Instant | None:
        """The end its lateness counts from: the approved one, or the decision if that came first.

        Not when its end was sealed to begin: a clock that is ahead says that too late.
        """
        return min((at for at in (self.ends_at, self.closing_at) if at is not None), default=None)

    @property
    def wake_at(self) -> Instant | None:
        """When the worker must look at it next; None once it is over."""
        return {
            S.READY: self.opens_at,
            S.INTENDED: self.opens_at,
            S.OPEN: self.ends_at,
            S.CLOSING: self.closing_at,
            S.REMOVED: self.removed_at,
        }.get(self.state)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state in (S.GONE, S.FAILED, S.SIGNED_OFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What is decided and sealed before the cloud is called.

    `carrier`, `requirement` and `rules_digest` are those in force now, not those at filing.
    `emergency`: it was asked for as one.
    """

    assignment_id: str
    key: AssignmentKey
    stood_before: bool
    exposure: timedelta
    unattended: timedelta | None
    carrier: str
    requirement: str
    rules_digest: str
    emergency: bool = False
    grace: timedelta = timedelta(0)
    held_since: Instant | None = None  # None: from the opening on


def risk_of(attended: timedelta, unattended: timedelta | None, emergency: bool) -> int:
    """0 to 7, the larger the sooner it must end when not everything can end at once.

    No bound without us outranks an emergency, which outranks a long exposure.
    """
    longest = attended if unattended is None else max(attended, unattended)
    return (
        RISK_UNBOUNDED * (unattended is None)
        + RISK_EMERGENCY * emergency
        + RISK_LONG * (longest > LONG_EXPOSURE)
    )


def ready(grant_id: str, request: Request, item: Item, now: Instant) -> Step:
    """One item of an approved request becomes a grant that waits for its window."""
    opens_at = max(now, request.terms.start) if request.terms.start else now
    fact = Fact(
        name="grant.readied",
        subject=request.id,
        actor=SYSTEM,
        data={
            "grant": grant_id,
            "request": request.id,
            "at": wire(now),
            "principal": request.terms.principal,
            "role": item.role,
            "role_digest": item.role_digest,
            "opens_at": wire(opens_at),
            "claim_by": wire(opens_at + CLAIM_WITHIN),
            "duration_seconds": whole_seconds(request.terms.duration),
            "start": wire(request.terms.start) if request.terms.start else None,
        },
    )
    return moved(None, evolve(None, fact), fact)


def end_of(grant: Grant, now: Instant) -> Instant:
    """The end of a window that opens at `now`: a late opening never shifts an asked window."""
    return (grant.start or now) + grant.duration


def ends_by(request: Request, item: Item, grant: Grant | None) -> Instant | None:
    """The instant an item's access ends, its grace in it: what an approver approves.

    Sealed with its `grant`, or sure from what was asked (a start, an extension), else the latest
    there can be: decided and claimed as late as may be. None when it ends already or never opens.
    """
    terms = request.terms
    if request.state not in (RequestState.PENDING, RequestState.APPROVED) or request.applied_at:
        return None
    if terms.extends:
        return terms.extends.until
    if grant is None:
        opens = terms.start or request.decide_by + CLAIM_WITHIN
        return opens + terms.duration + item.grace
    if grant.state not in (S.READY, S.INTENDED, S.OPEN):
        return None
    return grant.ends_at or end_of(grant, grant.claim_by) + item.grace


def intend(grant: Grant, assignment: Assignment | None, opening: Opening, now: Instant) -> Step:
    """Seal the intent and the absolute end. Only after this is committed may the cloud be called.

    `assignment` is the row of the same natural key, if there is one.

    Raises:
        Stale: not ready, too early, past claim-by, or the asked window is already over.
    """
    if now < grant.opens_at:
        raise Stale("too_early", f"`{grant.id}` opens at {wire(grant.opens_at)}", "wait")
    window = end_of(grant, now)
    if now >= grant.claim_by or window <= now:
        raise Stale(
            "not_claimed", f"`{grant.id}` had to open by {wire(grant.claim_by)}", "ask again"
        )
    held = bool(assignment and assignment.holders)
    fact = Fact(
        name="grant.intended",
        subject=grant.request,
        actor=SYSTEM,
        data={
            "grant": grant.id,
            "request": grant.request,
            "at": wire(now),
            "ends_at": wire(window + opening.grace),
            "grace_seconds": whole_seconds(opening.grace),
            "held_since": wire(min(opening.held_since or now, grant.start or now)),
            "assignment": assignment.id if assignment else opening.assignment_id,
            "connector": opening.key.connector,
            "account": opening.key.account,
            "native_role": opening.key.native_role,
            "native_principal": opening.key.native_principal,
            "stood_before": assignment.stood_before
            if assignment and held
            else opening.stood_before,
            "exposure_seconds": seconds_up(opening.exposure),
            "unattended_seconds": (
                None if opening.unattended is None else seconds_up(opening.unattended)
            ),
            "rules_digest": opening.rules_digest,
            "carrier": opening.carrier,
            "requirement": opening.requirement,
            "risk": risk_of(opening.exposure, opening.unattended, opening.emergency),
        },
    )
    kept = hold(assignment, fact)
    expected = assignment.version if assignment else 0
    step = moved(grant, evolve(grant, fact), fact)
    return Step((*step.changes, Change(expected, kept)), step.facts)


def seconds_up(span: timedelta) -> int:
    """A bound in whole seconds, rounded up."""
    return -(-span // timedelta(seconds=1))


def opened(grant: Grant, cloud_at: Instant, receipt: Mapping[str, str], now: Instant) -> Step:
    """The cloud said yes."""
    return told(grant, "grant.opened", now, {"cloud_at": wire(cloud_at), "receipt": dict(receipt)})


def failed(
    grant: Grant,
    assignment: Assignment | None,
    cause: Cause,
    why: str,
    now: Instant,
    actor: str = SYSTEM,
) -> Step:
    """It will not open: decided before intent, or a plain no of the cloud after it."""
    step = told(grant, "grant.failed", now, {"cause": cause.value, "why": why}, actor)
    if assignment is None or grant.id not in assignment.holders:
        return step
    return Step(
        (*step.changes, Change(assignment.version, let_go(assignment, step.facts[0]))), step.facts
    )


def noted(
    grant: Grant, at_step: str, outcome: Outcome, code: str, tries: int, now: Instant
) -> Step:
    """A call came back without settling anything; the grant stays where it is."""
    data = {"step": at_step, "outcome": outcome.value, "code": code, "tries": tries}
    return told(grant, "grant.noted", now, data)


def told(
    grant: Grant, name: str, now: Instant, more: Mapping[str, object], actor: str = SYSTEM
) -> Step:
    """The Step of one event of this grant's table."""
    fact = Fact(
        name=name,
        subject=grant.request,
        actor=actor,
        data={"grant": grant.id, "request": grant.request, "at": wire(now), **more},
        v=SEALED_AS.get(name, 1),
    )
    return moved(grant, evolve(grant, fact), fact)


def evolve(before: Grant | None, fact: Fact) -> Grant:
    """The grant after `fact`. The only function that makes or changes one."""
    data = fact.data
    state = TABLE.next(before.state if before else None, fact.name)
    at = parse_instant(str(data["at"]))
    if before is None:
        return _readied(fact, at)
    after = replace(before, state=state, version=before.version + 1)
    match fact.name:
        case "grant.intended":
            return replace(
                after,
                ends_at=parse_instant(data["ends_at"]),
                assignment=data["assignment"],
                exposure=timedelta(seconds=data["exposure_seconds"]),
                unattended=_unattended(data),
                risk=_risk(data),
                grace=timedelta(seconds=data.get("grace_seconds", 0)),
                held_since=_held_since(before, data),
                outcome="",
                tries=0,
            )
        case "grant.extended":
            return _extended(after, data)
        case "grant.armed":
            return replace(after, arming=False, outcome="", tries=0)
        case "grant.warned":
            return replace(after, warned=True)
        case "grant.opened":
            return replace(after, opened_at=at, outcome="", tries=0)
        case "grant.failed":
            return replace(after, cause=data["cause"], outcome="")
        case "grant.noted":
            acted = before.acted or data["outcome"] == Outcome.STILL_ACTS
            return replace(after, outcome=data["outcome"], tries=data["tries"], acted=acted)
        case "session.issued":
            return replace(after, sessions=before.sessions + 1)
        case "grant.closing":
            return replace(after, closing_at=at, end_reason=data["reason"], outcome="", tries=0)
        case "grant.removed":
            return replace(
                after,
                removed_at=at,
                residual_until=parse_instant(data["residual_until"]),
                still_held_by=data["still_held_by"],
                cut=data.get("cut", False),
                cut_before=_maybe(data.get("cut_before")),
                outcome="",
                tries=0,
            )
        case "grant.cut":
            until = parse_instant(data["residual_until"])
            before_at = _maybe(data["cut_before"])
            return replace(
                after, residual_until=until, cut=True, cut_before=before_at, outcome="", tries=0
            )
        case "grant.signed_off":
            return after
        case "grant.contradicted":
            return _back(after, fact.v)
        case "grant.resumed":
            return replace(_back(after, fact.v), outcome="", tries=0)
        case "grant.gone":
            return replace(after, gone_at=at, proof=data["proof"], outcome="")
        case "grant.searched":
            word = data["outcome"]
            return replace(after, searched=_gravest(before.searched, word) if fact.v > 1 else word)
    raise RuntimeError(f"{fact.name} is in the table and has no meaning")


def _gravest(before: str, outcome: str) -> str:
    """Of two searches for one end: what one found, or could not look through, no other takes back.

    The second is of access that came back after the end, over a window of its own.
    """
    order = [Searched.FOUND.value, Searched.NOT_SEARCHED.value]
    return next((word for word in order if word in (before, outcome)), outcome)


def _back(after: Grant, v: int) -> Grant:
    """Closing once more: what was read back, and searched, counts no longer (`SEALED_AS`)."""
    return replace(
        after,
        removed_at=None,
        residual_until=None,
        still_held_by="",
        cut=False,
        cut_before=None,
        searched="" if v > 1 else after.searched,
    )


def _maybe(at: str | None) -> Instant | None:
    return None if at is None else parse_instant(at)


def _held_since(before: Grant, data: Mapping[str, Any]) -> Instant:
    """Before version 3 nobody could hold one role by two grants on purpose."""
    told = data.get("held_since")
    return parse_instant(told) if told else parse_instant(data["ends_at"]) - before.duration


def _extended(after: Grant, data: Mapping[str, Any]) -> Grant:
    ends_at, grace = parse_instant(data["ends_at"]), timedelta(seconds=data["grace_seconds"])
    if after.window_ends_at is None:
        raise RuntimeError(f"extension of {after.id} without an end")
    return replace(
        after,
        ends_at=ends_at,
        grace=grace,
        extended=after.extended + (ends_at - grace - after.window_ends_at),
        exposure=timedelta(seconds=data["exposure_seconds"]),
        unattended=_unattended(data),
        arming=True,
        warned=False,
        outcome="",
        tries=0,
    )


def _unattended(data: Mapping[str, Any]) -> timedelta | None:
    """Before version 2 there were only role kinds that end by themselves: then it is the same."""
    seconds = data.get("unattended_seconds", data["exposure_seconds"])
    return None if seconds is None else timedelta(seconds=seconds)


def _risk(data: Mapping[str, Any]) -> int:
    """Before version 3 it was not sealed: then from the exposures alone."""
    if "risk" in data:
        return int(data["risk"])
    return risk_of(timedelta(seconds=data["exposure_seconds"]), _unattended(data), False)


def _readied(fact: Fact, at: Instant) -> Grant:
    data = fact.data
    return Grant(
        id=data["grant"],
        request=data["request"],
        principal=data["principal"],
        role=data["role"],
        role_digest=data["role_digest"],
        state=S.READY,
        opens_at=parse_instant(data["opens_at"]),
        claim_by=parse_instant(data["claim_by"]),
        duration=timedelta(seconds=data["duration_seconds"]),
        start=parse_instant(data["start"]) if data["start"] else None,
        ends_at=None,
        assignment="",
        exposure=timedelta(0),
        unattended=timedelta(0),
        opened_at=None,
        closing_at=None,
        end_reason="",
        removed_at=None,
        residual_until=None,
        gone_at=None,
        proof="",
        cause="",
        outcome="",
        tries=0,
        sessions=0,
        still_held_by="",
        cut=False,
        cut_before=None,
        searched="",
        version=1,
    )
