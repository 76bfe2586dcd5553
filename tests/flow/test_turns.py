"""Turns of looks at the cloud: by the database's clock, the one that waits longest first."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.assigned import KEY
from tests.flow.test_reconciling import EVE, assignments, every, gone, look
from tests.support import ARN, World, catalogue, laws
from tidegate.base.errors import EvidenceBroken, Refused
from tidegate.base.when import Instant
from tidegate.catalogue import Catalogue
from tidegate.connectors.port import Hold, Scope, Seen
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow import role_look
from tidegate.flow.governing import put_in_force
from tidegate.flow.holding import closing_hold
from tidegate.flow.house import House
from tidegate.flow.reconciling import PASS_EVERY, reconcile_some
from tidegate.grant import Grant


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[World]:
    """`prod/admin` is an assignment there."""
    made = World(tmp_path, url=database)
    put_in_force(made.house, laws(found=assignments(catalogue())))
    yield made
    made.down()


def test_clock_an_hour_ahead_for_a_moment_stops_reconciling_for_an_hour(world: World) -> None:
    """Looks that a wrong clock put off go on once it is right: what came back is closed again."""
    gone(world)
    look(world)
    world.clock.forward(hours=1)
    assert reconcile_some(world.house, 50)
    world.clock.forward(hours=-1)
    world.cloud.place(KEY, world.clock(), by="sync")
    assert look(world) == []
    assert every(world) == [("readded", "healed", 1)]


def test_process_whose_clock_is_ahead_puts_off_the_looks_of_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the database has a clock, turns go by it, however far ahead a process is."""
    monkeypatch.setattr(world.house.store, "now", lambda: world.clock() - ahead)
    ahead = timedelta(minutes=4)  # not so far that what it writes is taken for a wrong clock's
    world.clock.forward(minutes=4)
    assert reconcile_some(world.house, 50)
    world.clock.forward(minutes=-4)
    ahead = timedelta(0)
    world.clock.forward(seconds=PASS_EVERY.total_seconds() + 1)
    assert reconcile_some(world.house, 50)


LOST = EvidenceBroken("no_document", "the entry that was voted on", "it", "nothing")


@pytest.mark.parametrize(
    "fault", [LOST, ValueError("a mistake of ours"), Refused("no_such_role", "no such role")]
)
def test_role_that_cannot_be_looked_at_starves_the_roles_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """They have their looks, whatever one before them fails by, and it is looked at again too."""
    found = world.house.laws.catalogue
    native = {"arn": f"{ARN}-zed"}
    zed = replace(found.roles["prod/admin"], id="prod/zed", native=native)
    more = Catalogue(found.targets, {**found.roles, "prod/zed": zed})
    put_in_force(world.house, laws(found=more))
    world.cloud.place(replace(KEY, native_role=native["arn"]), world.clock(), by="root")
    observe, looks = world.connector.observe, dict.fromkeys(("prod/admin", "prod/zed"), 0)

    def failing(scope: Scope, now: Instant) -> Iterator[Seen]:
        if scope.role is not None and scope.role.id in looks:
            looks[scope.role.id] += 1
            if scope.role.id == "prod/admin":
                raise fault.with_traceback(None)
        return observe(scope, now)

    monkeypatch.setattr(world.connector, "observe", failing)
    for _ in range(120):
        world.clock.forward(seconds=5)
        reconcile_some(world.house, 50)
    assert looks["prod/admin"] >= 5
    assert looks["prod/zed"] >= 5


def test_silent_role_is_passed_over_at_its_first_failure(world: World) -> None:
    """A call that failed once is made again within seconds, not a whole round later."""
    gone(world)
    look(world)
    world.cloud.place(KEY, world.clock(), by="sync")
    world.clock.forward(seconds=PASS_EVERY.total_seconds())
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="observe", count=3))
    for _ in range(5):
        reconcile_some(world.house, 50)
        world.clock.forward(seconds=2)
    assert every(world) == [("readded", "healed", 1)]


@pytest.mark.parametrize("fault", [LOST, ValueError("a mistake of ours")])
@pytest.mark.parametrize("uncut", [False, True])
def test_one_broken_grant_keeps_what_came_back_of_others(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception, uncut: bool
) -> None:
    """What of it cannot be closed again hides no other's return, nor sessions that act on."""
    broken = gone(world)
    other = gone(world, "eve")
    look(world)

    def lost(house: House, grant: Grant) -> Hold:
        if grant.id == broken.id:
            raise fault.with_traceback(None)
        return closing_hold(house, grant)

    world.cloud.place(EVE, world.clock(), by="sync")
    if uncut:
        world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke"))
        assert [one.grant for one in look(world)] == [other.id]
        world.cloud.unassign(EVE, world.clock())  # by hand, which cuts no session
    world.cloud.place(KEY, world.clock(), by="sync")
    monkeypatch.setattr(role_look, "closing_hold", lost)
    for _ in range(3):
        look(world)
    (found,) = [one for one in world.house.store.findings() if one.grant == other.id]
    assert (found.kind.value, found.closed_how) == ("readded", "healed")
    assert not world.cloud.assigned(EVE, world.clock())
