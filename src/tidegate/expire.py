"""Stage 5, Expire: access ends, and how that is known.

Decides what ends a grant and which words may be used for it: `accepted` is not removed, `removed`
is not gone. Pure; the calls and the patience are in `flow/expiring.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from tidegate.base.fact import Change, Fact, Step, moved
from tidegate.base.personal import Personal
from tidegate.base.when import Instant, wire
from tidegate.catalogue import Assignment, let_go
from tidegate.grant import Grant, Searched, evolve, told
from tidegate.session import Session, SessionState, Why, ended

# Of what is sealed, beside a clock that is right: nothing opens by one that is a second off.
MOST_AHEAD = timedelta(seconds=2)


class EndReason(StrEnum):
    """Why a grant ends. Four words kept apart: time, owner, somebody else, everything at once."""

    EXPIRED = "expired"
    DONE = "done"
    REVOKED = "revoked"
    PANIC = "panic"


class Proof(StrEnum):
    """How an end is known, weakest first.

    `accepted`: the cloud said yes to the removal. `removed`: read back, no new session can start.
    `denied`: tried as that access and refused. `quiet`: the cloud's own trail is silent to the end
    plus its delay.
    """

    ACCEPTED = "accepted"
    REMOVED = "removed"
    DENIED = "denied"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What was seen in the cloud after asking for removal.

    `acted_at` is when we acted, on our own clock: earlier than the sealing when the database was
    down. `native_deadline` says that the cloud itself refused from the end on. `derived` is how
    long tokens and chained sessions made from this access outlive it;
    `settling` how long the removal itself may take to be true everywhere, counted from
    `changed_by`, our clock when every change of this look had been made. `cut`: live sessions were
    seen cut with it, those issued before `cut_before` where the deny names an instant.
    """

    cloud_at: Instant
    detail: Mapping[str, str]
    acted_at: Instant
    changed_by: Instant
    derived: timedelta
    settling: timedelta
    native_deadline: bool
    still_held_by: str = ""
    cut: bool = False
    cut_before: Instant | None = None


def end(
    grant: Grant,
    assignment: Assignment | None,
    reason: EndReason,
    actor: str,
    now: Instant,
    comment: Personal | None = None,
) -> Step:
    """Begin to close, and stop holding the assignment. Raises Stale unless intended or open."""
    if grant.ends_at is None:
        raise RuntimeError(f"closing {grant.id} without an end")
    fact = closing(grant.id, grant.request, wire(grant.ends_at), reason, actor, wire(now), comment)
    step = moved(grant, evolve(grant, fact), fact)
    changes = step.changes
    if assignment is not None and grant.id in assignment.holders:
        changes = (*changes, Change(assignment.version, let_go(assignment, step.facts[0])))
    return Step(changes, step.facts, (comment,) if comment else ())


def closing(
    grant: str,
    request: str,
    ends_at: str,
    reason: EndReason,
    actor: str,
    at: str,
    comment: Personal | None = None,
) -> Fact:
    """That a grant began to close. Instants on the wire: many ends at once make many of these."""
    return Fact(
        name="grant.closing",
        subject=request,
        actor=actor,
        data={
            "grant": grant,
            "request": request,
            "at": at,
            "reason": reason.value,
            "ends_at": ends_at,
            "comment": comment.commitment if comment else None,
        },
    )


def removed(grant: Grant, seen: ReadBack, now: Instant) -> Step:
    """It was read back that no new session can start."""
    data = {
        "cloud_at": wire(seen.cloud_at),
        "residual_until": wire(residual_until(_end_of(grant), seen)),
        "read_back": dict(seen.detail),
        "acted_at": wire(seen.acted_at),
        "still_held_by": seen.still_held_by,
        "cut": seen.cut,
        "cut_before": wire(seen.cut_before) if seen.cut_before else None,
    }
    return told(grant, "grant.removed", now, data)


def cut(grant: Grant, seen: ReadBack, now: Instant) -> Step:
    """Live sessions were cut after the removal, and seen cut: the residual shrinks to settling."""
    until = residual_until(_end_of(grant), seen)
    if grant.residual_until is not None:
        until = min(until, grant.residual_until)
    data = {
        "cloud_at": wire(seen.cloud_at),
        "residual_until": wire(until),
        "cut_before": wire(seen.cut_before) if seen.cut_before else None,
        "read_back": dict(seen.detail),
        "acted_at": wire(seen.acted_at),
    }
    return told(grant, "grant.cut", now, data)


def residual_until(ends_at: Instant, seen: ReadBack) -> Instant:
    """Until when a session taken before `ends_at` may act, directly or by what it derived.

    At a native end nothing needs to settle: the end is inside every credential. It has come only
    when the cloud's clock says so too: with ours ahead, the end was brought about by a change, like
    an early one. A change takes `settling` to be true everywhere, counted from when it was made:
    without a native deadline a late removal leaves access open until then.
    """
    if seen.native_deadline and min(seen.acted_at, seen.cloud_at) >= ends_at:
        return ends_at + seen.derived
    made = max(seen.acted_at, seen.changed_by)
    # The cloud counts the life of its sessions by its own clock, which may be ahead of ours.
    lives = max(made, seen.cloud_at) + seen.derived if seen.derived else made
    return max(lives, made + seen.settling)


def _end_of(grant: Grant) -> Instant:
    if grant.ends_at is None:
        raise RuntimeError(f"residual of {grant.id} without an end")
    return grant.ends_at


def may_be_gone(grant: Grant, denied: bool, derived: timedelta, now: Instant) -> bool:
    """Whether `gone` is true of a removed grant.

    Never while standing access still holds it. Otherwise once `residual_until` has passed, or at
    once when live sessions were seen cut and nothing derived from them can act. Where a try was
    once allowed (`acted`), time proves nothing: only a try that is `denied` now.
    """
    if grant.residual_until is None or grant.still_held_by:
        return False
    if grant.acted and not denied:
        return False
    return now >= grant.residual_until or (denied and not derived)


def sealed_ahead(at: Instant, now: Instant) -> bool:
    """Whether what was sealed as past lies ahead: one of two clocks is wrong, and no wait that is
    counted from `at` says anything.
    """
    return at > now + MOST_AHEAD


def gone(
    grant: Grant,
    sessions: tuple[Session, ...],
    proof: Proof,
    how: Mapping[str, str],
    acted_at: Instant,
    now: Instant,
) -> Step:
    """Nobody can act under it any more; its sessions are over with it."""
    data = {"proof": proof.value, "how": dict(how), "acted_at": wire(acted_at)}
    step = told(grant, "grant.gone", now, data)
    for session in sessions:
        if session.state is SessionState.LIVE:
            early = acted_at < session.bound_until
            step = step.then(ended(session, Why.CUT if early else Why.EXPIRED, now))
    return step


def signed_off(grant: Grant, actor: str, reason: Personal, now: Instant) -> Step:
    """A named person answers for an end that is not known: it is tried no more.

    Raises:
        Stale: it is neither closing nor removed.
    """
    step = told(grant, "grant.signed_off", now, {"reason": reason.commitment}, actor)
    return Step(step.changes, step.facts, (reason,))


def resumed(grant: Grant, actor: str, reason: Personal, now: Instant) -> Step:
    """Somebody takes the sign-off back: it is closing again, and tried until it is gone."""
    step = told(grant, "grant.resumed", now, {"reason": reason.commitment}, actor)
    return Step(step.changes, step.facts, (reason,))


def contradicted(grant: Grant, why: str, how: Mapping[str, str], now: Instant) -> Step:
    """It was called removed and then acted: back to closing."""
    return told(grant, "grant.contradicted", now, {"why": why, "how": dict(how)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What the search for side doors came to: which sorts of object were looked through, what was
    found (finding, sort, what, remedy), and which sorts could not be looked through, with why.

    `since` and `until` bound the window in which what is found was made.
    """

    since: Instant
    until: Instant
    searched: tuple[str, ...]
    found: tuple[Mapping[str, str], ...]
    why_not: tuple[str, ...]
    tries: int

    @property
    def outcome(self) -> Searched:
        """The one word for it. What was found is said also when something was not looked through;
        "none found" is said only when everything was."""
        if self.found:
            return Searched.FOUND
        return Searched.NOT_SEARCHED if self.why_not else Searched.NONE_FOUND


def searched(grant: Grant, search: Search, now: Instant) -> Step:
    """Say what the search for side doors came to. It changes nothing about the end."""
    data = {
        "outcome": search.outcome.value,
        "since": wire(search.since),
        "until": wire(search.until),
        "searched": list(search.searched),
        "found": [dict(one) for one in search.found],
        "why_not": list(search.why_not),
        "tries": search.tries,
    }
    return told(grant, "grant.searched", now, data)
