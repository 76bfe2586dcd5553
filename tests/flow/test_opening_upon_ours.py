"""Opening upon access of ours that came back: it is closed again first, never called standing."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.test_assignments import KEY, ended, settle
from tests.flow.test_reconciling import assignments, every, failed, gone, look
from tests.support import World, catalogue, laws
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.finding import FindingKind
from tidegate.flow.finding import close
from tidegate.flow.governing import put_in_force
from tidegate.grant import Grant, GrantState, Outcome


@pytest.fixture
def world(tmp_path: Path) -> World:
    """`prod/admin` is an assignment there."""
    made = World(tmp_path)
    put_in_force(made.house, laws(found=assignments(catalogue())))
    return made


def asked(world: World) -> Grant:
    """An approved grant of the same access, as the worker left it at its first look."""
    request = world.vote(world.ask())
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    return grant


def stood_before(world: World, grant: Grant) -> bool:
    """What the intent says of the access."""
    row = world.house.store.assignment(world.grant(grant).assignment)
    assert row is not None
    return row.stood_before


def test_access_that_came_back_is_laundered_by_one_more_grant(world: World) -> None:
    """What another system adds again is closed before the next grant opens, and ends with it."""
    look(world)
    gone(world)
    world.cloud.place(KEY, world.clock(), by="sync")
    second = asked(world)
    assert (second.state, second.outcome) == (GrantState.READY, Outcome.STILL_CLOSING)
    assert look(world) == []
    assert every(world) == [("readded", "healed", 1)]
    settle(world, 1)
    assert world.grant(second).state is GrantState.OPEN
    assert not stood_before(world, second)
    ended(world, second)
    settle(world, 3)
    assert (world.grant(second).state, world.grant(second).still_held_by) == (GrantState.GONE, "")
    assert not world.cloud.assigned(KEY, world.clock())


def test_signed_off_return_outlives_the_grant_opened_upon_it(world: World) -> None:
    """An accepted return does not keep its holder's grant waiting, and the grant's end ends it."""
    gone(world)
    look(world)
    world.cloud.place(KEY, world.clock())
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke"))
    (found,) = look(world)
    assert found.kind is FindingKind.READDED
    close(world.house, world.who("cy"), found.id, "permanent now, CHG-9", timedelta(hours=1))
    world.work()
    second = asked(world)
    assert second.state is GrantState.OPEN
    assert not stood_before(world, second)
    ended(world, second)
    settle(world, 3)
    assert not world.cloud.assigned(KEY, world.clock())


@pytest.mark.parametrize("after_a_failed_one", [False, True])
def test_what_stood_before_our_first_intent_is_removed(
    world: World, after_a_failed_one: bool
) -> None:
    """Access that was never ours opens at once as standing, again and again, and stays (I5)."""
    if after_a_failed_one:
        failed(world)
    world.cloud.place(KEY, world.clock(), by="root")
    look(world)
    for _ in range(2):
        grant = asked(world)
        assert grant.state is GrantState.OPEN
        assert stood_before(world, grant)
        ended(world, grant)
        settle(world, 3)
        assert world.grant(grant).still_held_by == "standing access"
        assert world.cloud.assigned(KEY, world.clock())
