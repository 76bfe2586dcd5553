"""A clock of ours that is an hour off, and then the database goes, and with it the right one."""

from datetime import timedelta

import pytest

from tests.flow.assigned import KEY, settle
from tests.flow.test_recalling import recover
from tests.support import World
from tidegate.base.errors import WorldFailed
from tidegate.base.when import Instant
from tidegate.connectors.port import Answer, Credential
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow.reconciling import reconcile_some
from tidegate.flow.recovering import close_without_store, settle_journal
from tidegate.grant import GrantState

HOUR = timedelta(hours=1)


@pytest.fixture
def world(assigned: World) -> World:
    """`prod/admin` is an assignment there."""
    return assigned


def off(world: World, by: timedelta) -> None:
    """From now on our clock is wrong; the database's and the cloud's are right."""
    world.house._clock = lambda: world.clock() + by


def away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database says nothing any more, the time neither."""

    def silent() -> Instant:
        raise WorldFailed("away", "expected an answer, got none", "wait")

    monkeypatch.setattr(world.house.store, "now", silent)


def test_slow_clock_keeps_access_open_once_the_database_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What our clock was behind is known from when the database answered last."""
    grant = world.granted()
    off(world, -HOUR)
    world.clock.forward(minutes=10)
    world.work()
    away(world, monkeypatch)
    world.clock.forward(minutes=19)
    assert close_without_store(world.house) == []
    world.clock.forward(minutes=2)
    assert world.house.closing_now() == world.clock()
    assert close_without_store(world.house) == [grant.id]
    assert not world.cloud.assigned(KEY, world.clock())


def test_clock_that_is_right_again_still_counts_as_slow(world: World) -> None:
    """Mended while the database answers: it is behind by nothing from then on."""
    world.granted()
    off(world, -HOUR)
    world.house.closing_now()
    off(world, timedelta(0))
    world.house.closing_now()
    world.clock.forward(minutes=29)
    assert close_without_store(world.house) == []


def test_fast_clock_slows_nothing_down(world: World) -> None:
    """Ahead of the database, it is taken as it is: an end without the database may be early."""
    grant = world.granted()
    off(world, HOUR)
    world.house.closing_now()
    assert close_without_store(world.house) == [grant.id]


def uncut(world: World) -> Credential:
    """A session outlives its assignment: removed, and the cut was refused."""
    grant = world.granted()
    world.clock.forward(minutes=29)
    taken = world.cloud.sign_in(KEY, world.clock())
    until = world.clock() + timedelta(minutes=4)
    world.connector.script(Fault(kind=FaultKind.THROTTLE, verb="cut", count=99, until=until))
    world.clock.forward(minutes=2)
    world.work()
    assert world.grant(grant).state is GrantState.REMOVED and not world.grant(grant).cut
    world.clock.forward(minutes=5)
    return taken


def test_clock_put_forward_leaves_sessions_uncut(world: World) -> None:
    """The hour a session lives is not over because our clock says so."""
    taken = uncut(world)
    off(world, HOUR)
    close_without_store(world.house)
    assert world.use(taken) is Answer.DENIED


def test_clock_put_forward_lets_recover_leave_sessions_uncut(world: World) -> None:
    """So it is for `recover`."""
    taken = uncut(world)
    off(world, HOUR)
    recover(world)
    assert world.use(taken) is Answer.DENIED


def test_closing_begun_by_a_slow_clock_is_settled_by_the_earlier_end(world: World) -> None:
    """What came back is closed again, which fails: by the row's version, not by its clock, that is
    a later end than the one that was sealed.
    """
    grant = world.granted()
    settle(world, 34)
    assert world.grant(grant).state is GrantState.GONE
    world.cloud.assign(KEY, world.clock())
    off(world, -HOUR)
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=1))
    world.clock.forward(seconds=31)
    reconcile_some(world.house, 10)
    settle_journal(world.house)
    assert world.cloud.assigned(KEY, world.clock())
    assert grant.id in world.house.journal.book().waiting
    close_without_store(world.house)
    assert not world.cloud.assigned(KEY, world.clock())
