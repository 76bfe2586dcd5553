"""A clock of ours that is an hour off, and then the database goes, and with it the right one."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.test_recalling import recover
from tests.support import ARN, World, catalogue, laws
from tidegate.base.errors import WorldFailed
from tidegate.base.when import Instant
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.port import Answer, Credential
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow.governing import put_in_force
from tidegate.flow.recovering import close_without_store
from tidegate.grant import GrantState

KEY = AssignmentKey(
    connector="simulated",
    account="123456789012",
    native_role=f"{ARN}-prod",
    native_principal="ana",
)
HOUR = timedelta(hours=1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """`prod/admin` is an assignment there."""
    made = World(tmp_path)
    found = catalogue()
    role = replace(found.roles["prod/admin"], kind="assignment", probe="")
    put_in_force(made.house, laws(found=replace(found, roles={**found.roles, role.id: role})))
    return made


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
