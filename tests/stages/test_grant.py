"""Grant and session: no grant without its end, no credential outside it."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from tests.stages.make import KEY, NOW, OPENING, TERMS, a_grant, a_request, thing
from tidegate.base.errors import NotAllowed, Stale
from tidegate.base.fact import Fact, Step
from tidegate.base.when import wire
from tidegate.catalogue import Assignment, hold, let_go
from tidegate.evidence.archive import MOST_EVENTS
from tidegate.evidence.events import latest
from tidegate.grant import (
    SEALED_AS,
    TABLE,
    Cause,
    Grant,
    GrantState,
    Outcome,
    end_of,
    evolve,
    failed,
    intend,
    noted,
    ready,
)
from tidegate.request import MOST_ITEMS
from tidegate.session import MOST_SESSIONS, Session, SessionState, issued, may_issue
from tidegate.session import evolve as evolve_session

MS = timedelta(milliseconds=1)


def test_intent_without_an_end() -> None:
    """Sealing intent fixes the absolute end; there is no other way to `intended` (I1)."""
    grant, _ = a_grant("intended")
    assert grant.ends_at == NOW + timedelta(minutes=45)
    assert [event for (_, event), after in TABLE.moves.items() if after is GrantState.INTENDED] == [
        "grant.intended",
        "grant.noted",
    ]


def test_late_opening_shifts_an_asked_window() -> None:
    """With a start asked for, the end is start + duration however late it opens."""
    request = a_request(replace(TERMS, start=NOW + timedelta(minutes=10)))
    grant = thing(ready("gr_1", request, TERMS.items[0], NOW), Grant)
    assert isinstance(grant, Grant)
    assert grant.opens_at == NOW + timedelta(minutes=10)
    assert end_of(grant, NOW + timedelta(minutes=20)) == NOW + timedelta(minutes=55)


def test_window_begins_at_approval_not_at_use() -> None:
    """Without a start, the end counts from the opening instant and never moves afterwards."""
    grant, _ = a_grant("open")
    assert grant.ends_at == NOW + grant.duration


@pytest.mark.parametrize("late", [timedelta(minutes=30), timedelta(minutes=31)])
def test_intent_at_claim_by(late: timedelta) -> None:
    """Claim-by is exclusive: at its instant nothing opens any more."""
    grant, _ = a_grant()
    with pytest.raises(Stale):
        intend(grant, None, OPENING, NOW + late)
    intend(grant, None, OPENING, NOW + timedelta(minutes=30) - MS)


def test_intent_before_the_window() -> None:
    """A millisecond before its start a grant cannot open."""
    grant, _ = a_grant()
    with pytest.raises(Stale):
        intend(grant, None, OPENING, NOW - MS)


def test_asked_window_that_is_over() -> None:
    """A window that passed while nobody opened it is not opened backwards."""
    grant, _ = a_grant()
    grant = replace(grant, start=NOW, duration=timedelta(minutes=5))
    with pytest.raises(Stale):
        intend(grant, None, OPENING, NOW + timedelta(minutes=5))


def test_move_that_is_not_in_the_table() -> None:
    """Every (state, event) pair absent from the table raises Stale."""
    grant, _ = a_grant("open")
    for state, event in product(GrantState, {name for _, name in TABLE.moves}):
        if not TABLE.allows(state, event):
            fact = Fact(name=event, subject=grant.request, actor="x", data={"at": wire(NOW)})
            with pytest.raises(Stale):
                evolve(replace(grant, state=state), fact)


@pytest.mark.parametrize("state", [GrantState.CLOSING, GrantState.REMOVED, GrantState.GONE])
def test_late_reply_reopens_a_closing_grant(state: GrantState) -> None:
    """A success that arrives after closing began opens nothing: no table line leads back."""
    assert not TABLE.allows(state, "grant.opened")
    assert not TABLE.allows(state, "session.issued")


def test_lost_reply_becomes_failed() -> None:
    """Unknown is an outcome noted on `intended`, which it stays (I1)."""
    grant, _ = a_grant("intended")
    after = thing(noted(grant, "grant", Outcome.UNKNOWN, "time_out", 1, NOW), Grant)
    assert isinstance(after, Grant)
    assert after.state is GrantState.INTENDED
    assert after.outcome == "unknown"


def test_failed_grant_keeps_its_hold() -> None:
    """A plain no after intent lets go of the assignment in the same Step."""
    grant, held = a_grant("intended")
    step = failed(grant, held, Cause.CLOUD_REFUSED, "no", NOW)
    after = thing(step, Assignment)
    assert isinstance(after, Assignment)
    assert after.holders == ()


def test_forgotten_holder() -> None:
    """Two grants on one assignment: in any order, the second's hold survives the first's end."""
    first, held = a_grant("intended")
    assert held is not None
    other = replace(a_grant()[0], id="gr_other")
    step = intend(other, held, replace(OPENING, assignment_id="as_2"), NOW + timedelta(minutes=5))
    both = thing(step, Assignment)
    assert isinstance(both, Assignment)
    assert both.id == held.id
    assert set(both.holders) == {first.id, "gr_other"}
    assert both.deadline_at == NOW + timedelta(minutes=50)
    closing = Fact(name="grant.closing", subject="s", actor="x", data={"grant": first.id})
    assert let_go(both, closing).holders == ("gr_other",)


def test_stale_deadline_of_an_earlier_holder() -> None:
    """An assignment nobody holds takes the new holder's end, even when it is earlier."""
    _, held = a_grant("intended")
    assert held is not None
    empty = replace(held, holders=(), deadline_at=NOW + timedelta(days=9))
    fact = Fact(
        name="grant.intended",
        subject="s",
        actor="x",
        data={"grant": "gr_2", "ends_at": wire(NOW + timedelta(minutes=1)), "stood_before": True},
    )
    assert hold(empty, fact).deadline_at == NOW + timedelta(minutes=1)
    assert hold(held, fact).deadline_at == held.deadline_at


def test_standing_access_decided_once_for_ever() -> None:
    """With no holder left, what stands there is judged anew; with one, it is still ours."""
    _, held = a_grant("intended")
    assert held is not None
    data = {"grant": "gr_2", "ends_at": wire(NOW + timedelta(minutes=1)), "stood_before": True}
    fact = Fact(name="grant.intended", subject="s", actor="x", data=data)
    assert hold(replace(held, holders=()), fact).stood_before
    assert not hold(held, fact).stood_before
    assert held.key == KEY


def session_of(grant: Grant) -> Step:
    """One session issued now."""
    return issued(grant, "se_1", "ASIAX", NOW + timedelta(hours=1), NOW)


def test_credential_outlives_the_grant_unseen() -> None:
    """The sealed session says both when the keys expire and when the cloud denies them."""
    grant, _ = a_grant("open")
    session = thing(session_of(grant), Session)
    assert isinstance(session, Session)
    assert session.bound_until == grant.ends_at
    assert session.expires_at > session.bound_until
    assert session.state is SessionState.LIVE
    assert evolve_session(None, session_of(grant).facts[0]) == session


def test_session_of_a_grant_that_began_to_close() -> None:
    """Issuing changes the grant's version, so a close in the same moment makes it stale."""
    grant, _ = a_grant("open")
    step = session_of(grant)
    (guard,) = [c for c in step.changes if isinstance(c.after, Grant)]
    assert guard.expected == grant.version


@pytest.mark.parametrize("after_end", [timedelta(0), MS])
def test_credential_at_the_end(after_end: timedelta) -> None:
    """The end itself is too late; the millisecond before is in time (I3c)."""
    grant, _ = a_grant("open")
    assert grant.ends_at is not None
    with pytest.raises(NotAllowed) as caught:
        may_issue(grant, grant.principal, grant.ends_at + after_end)
    assert caught.value.code == "ended"
    may_issue(grant, grant.principal, grant.ends_at - MS)


@pytest.mark.parametrize("state", [s for s in GrantState if s is not GrantState.OPEN])
def test_credential_of_a_grant_that_is_not_open(state: GrantState) -> None:
    """Only an open grant gives credentials."""
    grant = replace(a_grant("open")[0], state=state)
    with pytest.raises(NotAllowed):
        may_issue(grant, grant.principal, NOW)


def test_credential_for_somebody_else() -> None:
    """A grant is used by its holder alone."""
    grant, _ = a_grant("open")
    with pytest.raises(NotAllowed) as caught:
        may_issue(grant, "pr_bo", NOW)
    assert caught.value.code == "not_yours"


def test_endless_minting() -> None:
    """A client that mints without a cache meets a bound."""
    grant = replace(a_grant("open")[0], sessions=MOST_SESSIONS)
    with pytest.raises(NotAllowed) as caught:
        may_issue(grant, grant.principal, NOW)
    assert caught.value.code == "too_many_sessions"


def test_sessions_no_pack_can_hold() -> None:
    """Every session of every item of a request, made and ended, fits in one evidence pack."""
    room_for_the_rest = MOST_EVENTS // 10
    assert 2 * MOST_ITEMS * MOST_SESSIONS + room_for_the_rest <= MOST_EVENTS


@pytest.mark.parametrize("name", SEALED_AS)
def test_event_changes_a_row_as_another_version_than_it_is_sealed_in(name: str) -> None:
    """Else the rows would not come out of the events again."""
    assert SEALED_AS[name] == latest(name)
