"""Moving an end: never past what was voted on, never after it has come, never to no end at all."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.make import NOW, TERMS, a_grant, a_request, thing
from tidegate.base.errors import NotAllowed, Stale
from tidegate.catalogue import Assignment
from tidegate.expire import EndReason, end
from tidegate.extend import Longer, extend
from tidegate.grant import Grant, GrantState
from tidegate.request import Extension, Request, RequestState
from tidegate.session import Session, issued, may_issue

MS = timedelta(milliseconds=1)
LONGEST = timedelta(hours=2)


def asked(grant: Grant, by: timedelta) -> Request:
    """An approved extension of the end the grant has."""
    assert grant.ends_at is not None
    terms = replace(
        TERMS,
        duration=by,
        extends=Extension(grant=grant.id, ends_at=grant.ends_at, until=grant.ends_at + by),
    )
    return replace(a_request(terms), state=RequestState.APPROVED)


def longer(request: Request) -> Longer:
    """What the rules said of it."""
    assert request.terms.extends is not None
    return Longer(
        until=request.terms.extends.until,
        grace=timedelta(0),
        exposure=timedelta(minutes=1),
        unattended=timedelta(minutes=1),
        carrier="prod-admin",
        requirement="2 of group:sre-leads",
        rules_digest=TERMS.rules_digest,
    )


@pytest.mark.parametrize("late", [-MS, timedelta(0), MS], ids=["-1ms", "at", "+1ms"])
def test_renewal_at_the_limit(late: timedelta) -> None:
    """A millisecond before the end it moves; at the end and after it, it does not."""
    grant, held = a_grant("open")
    assert held is not None and grant.ends_at is not None
    request = asked(grant, timedelta(minutes=5))
    if late < timedelta(0):
        step = extend(grant, held, request, longer(request), grant.ends_at + late)
        moved = thing(step, Grant)
        assert isinstance(moved, Grant)
        assert moved.ends_at == grant.ends_at + timedelta(minutes=5)
        return
    with pytest.raises(Stale) as told:
        extend(grant, held, request, longer(request), grant.ends_at + late)
    assert told.value.code == "ended"


@pytest.mark.parametrize("by", [timedelta(0), -MS, timedelta(minutes=5) + MS])
def test_end_other_than_the_one_voted_on(by: timedelta) -> None:
    """Neither earlier nor as it is nor a millisecond later than the votes said."""
    grant, held = a_grant("open")
    assert held is not None and grant.ends_at is not None
    request = asked(grant, timedelta(minutes=5))
    with pytest.raises(Stale) as told:
        extend(grant, held, request, replace(longer(request), until=grant.ends_at + by), NOW)
    assert told.value.code == "not_later"


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["extend", "old_extend", "session", "expire", "revoke"]),
        st.integers(0, 50 * 60_000),  # ms of time before it
        st.integers(1, 60),  # minutes asked for
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(MOVES)
def test_any_order_of_extending_and_ending(moves: list[tuple[str, int, int]]) -> None:
    """No session outlives the sealed end, no end passes the longest window, none is ever lost."""
    grant, held = a_grant("open")
    assert held is not None
    now, first, sessions = NOW, asked(grant, timedelta(minutes=1)), list[Session]()
    for number, (move, ms, minutes) in enumerate(moves):
        now += ms * MS
        before = grant
        assert grant.ends_at is not None and grant.held_since is not None
        try:
            if move == "expire" and now >= grant.ends_at:
                step = end(grant, held, EndReason.EXPIRED, "system", now)
            elif move == "revoke" and minutes > 50:
                step = end(grant, held, EndReason.REVOKED, "pr_bo", now)
            elif move == "session":
                may_issue(grant, grant.principal, now)
                step = issued(grant, f"se_{number}", "key", now + LONGEST, now)
            elif move in ("extend", "old_extend"):
                by = min(timedelta(minutes=minutes), grant.held_since + LONGEST - grant.ends_at)
                request = asked(grant, by) if move == "extend" else first
                step = extend(grant, held, request, longer(request), now)
            else:
                continue
        except (Stale, NotAllowed):
            continue
        for change in step.changes:
            if isinstance(change.after, Grant):
                grant = change.after
            elif isinstance(change.after, Assignment):
                held = change.after
            elif isinstance(change.after, Session):
                sessions.append(change.after)
        assert grant.ends_at is not None
        assert before.ends_at is not None
        assert before.ends_at <= grant.ends_at <= NOW + LONGEST
        assert grant.ends_at == before.ends_at or now < before.ends_at
        assert grant.ends_at == before.ends_at or before.state is GrantState.OPEN
        assert held.deadline_at == grant.ends_at
        assert all(session.bound_until <= grant.ends_at for session in sessions)
