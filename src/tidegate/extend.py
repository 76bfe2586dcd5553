"""Between Run and Expire: warning the holder of an open grant, and moving its end.

Decides when an end may move and to where, and when its holder is to be warned. Nothing else moves
an end, and an end only moves later. Whether the rules permit it is asked by the caller, at that
moment, like at an opening.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from tidegate.base.errors import Stale
from tidegate.base.fact import SYSTEM, Change, Fact, Step, moved
from tidegate.base.when import Instant, whole_seconds, wire
from tidegate.catalogue import Assignment, prolong
from tidegate.grant import TABLE, Grant, GrantState, evolve, seconds_up, told
from tidegate.notice import notice_of
from tidegate.request import Request, apply

_AGAIN = "`tidegate grants` shows how it is now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Longer:
    """What an extension is sealed with: judged anew at that moment, like an opening.

    `until` is the new end, its `grace` in it.
    """

    until: Instant
    grace: timedelta
    exposure: timedelta
    unattended: timedelta | None
    carrier: str
    requirement: str
    rules_digest: str


def check_may_extend(grant: Grant, now: Instant) -> Instant:
    """The end of its window, when that may move: it is open, and `now` is before it.

    Raises:
        Stale: `not_open`, or `ended`: at the window's end already, to the millisecond.
    """
    window = grant.window_ends_at
    if grant.state is not GrantState.OPEN or window is None:
        raise Stale("not_open", f"expected an open grant, `{grant.id}` is `{grant.state}`", _AGAIN)
    if now >= window:
        raise Stale(
            "ended",
            f"the window of `{grant.id}` ended at {wire(window)}",
            f"ask again: `tidegate request {grant.role} --for … --reason …`",
        )
    return window


def extend(
    grant: Grant, assignment: Assignment, request: Request, longer: Longer, now: Instant
) -> Step:
    """Move the end of an open grant as the approved extension `request` says: one Step.

    Raises:
        Stale: as `check_may_extend`; `moved_on`: `assignment` was read after `grant`, and it no
            longer holds it; `end_moved`: its end is not the one that was voted on; `not_later`: the
            new end is not after the old one, or after what was voted on.
    """
    check_may_extend(grant, now)
    asked = request.terms.extends
    if asked is None or asked.grant != grant.id:
        raise RuntimeError(f"{request.id} is no extension of {grant.id}")
    if grant.id not in assignment.holders:
        raise Stale("moved_on", f"expected an open grant, `{grant.id}` ended just now", _AGAIN)
    if grant.ends_at is None or grant.ends_at != asked.ends_at:
        got = wire(grant.ends_at) if grant.ends_at else "none"
        raise Stale(
            "end_moved",
            f"expected the end {wire(asked.ends_at)} that was voted on, got {got}",
            _AGAIN,
        )
    if not grant.ends_at < longer.until <= asked.until:
        raise Stale(
            "not_later",
            f"expected an end after {wire(grant.ends_at)} and by {wire(asked.until)}, "
            f"got {wire(longer.until)}",
            _AGAIN,
        )
    fact = Fact(
        name="grant.extended",
        subject=grant.request,
        actor=SYSTEM,
        data={
            "grant": grant.id,
            "request": grant.request,
            "at": wire(now),
            "extension": request.id,
            "digest": request.digest,
            "votes": [vote.plain() for vote in request.votes],
            "ended_at": wire(grant.ends_at),
            "ends_at": wire(longer.until),
            "grace_seconds": whole_seconds(longer.grace),
            "exposure_seconds": seconds_up(longer.exposure),
            "unattended_seconds": (
                None if longer.unattended is None else seconds_up(longer.unattended)
            ),
            "rules_digest": longer.rules_digest,
            "carrier": longer.carrier,
            "requirement": longer.requirement,
        },
    )
    step = moved(grant, evolve(grant, fact), fact)
    kept = Change(assignment.version, prolong(assignment, fact))
    return Step((*step.changes, kept), step.facts).then(apply(request, grant.request, now))


def armed(grant: Grant, receipt: Mapping[str, str], now: Instant) -> Step:
    """The journal has the new end, and so has the cloud where it keeps one itself."""
    if grant.ends_at is None:
        raise RuntimeError(f"arming {grant.id} without an end")
    data = {"ends_at": wire(grant.ends_at), "receipt": dict(receipt)}
    return told(grant, "grant.armed", now, data)


def warn_at(grant: Grant, before: timedelta) -> Instant | None:
    """When its holder is warned: `before` the window's end, or half a window that is shorter."""
    window = grant.window_ends_at
    length = grant.duration + grant.extended
    return None if window is None else window - min(before, length / 2)


def warn(grant: Grant, notice_id: str, now: Instant) -> Step:
    """Its holder is warned of its end, once for each end: the fact and the notice in one Step."""
    window = grant.window_ends_at
    if window is None or grant.ends_at is None:
        raise RuntimeError(f"warning of {grant.id} without an end")
    TABLE.next(grant.state, "grant.warned")
    fact = Fact(
        name="grant.warned",
        subject=grant.request,
        actor=SYSTEM,
        data={
            "grant": grant.id,
            "request": grant.request,
            "at": wire(now),
            "principal": grant.principal,
            "role": grant.role,
            "notice": notice_id,
            "window_ends_at": wire(window),
            "ends_at": wire(grant.ends_at),
        },
    )
    step = moved(grant, evolve(grant, fact), fact)
    return Step((*step.changes, Change(0, notice_of(fact))), step.facts)
