"""Removed, with sessions not seen cut, and somebody opens a newer grant of the same access: without
the database only the cut is owed, and what gives the access now is not ours to take.
"""

from datetime import timedelta

import pytest

from tests.flow.assigned import KEY, elsewhere, settle, without_database
from tests.flow.test_recalling import OWN, ground, lines, recover
from tests.support import World
from tidegate.base.when import Instant
from tidegate.connectors.port import Hold, Receipt
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal_book import read_back
from tidegate.evidence.journal_line import removed_line
from tidegate.flow.gathering import gather
from tidegate.flow.recalling import Fate, recall
from tidegate.flow.recovering import close_without_store
from tidegate.grant import Grant, GrantState


def uncut(world: World, minutes: int) -> Grant:
    """Ended, its assignment removed; cuts are refused for that many minutes more."""
    grant = world.granted(duration=timedelta(minutes=10))
    until = world.clock() + timedelta(minutes=11 + minutes)
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=500, until=until))
    settle(world, 11)
    after = world.grant(grant)
    assert (after.state, after.cut) == (GrantState.REMOVED, False) and lines(world)[-1].uncut
    return grant


def newer(world: World) -> Grant:
    """Opened on another machine, whose journal nobody here has."""
    with elsewhere(world):
        return world.granted()


def gives(world: World) -> bool:
    """Whether the cloud has the assignment."""
    return world.cloud.assigned(KEY, world.clock())


def test_removal_that_lacks_its_cut_takes_a_newer_grant(assigned: World) -> None:
    """The database goes: the cut is tried, and nothing is removed once more."""
    world = assigned
    uncut(world, 60)
    newer(world)
    calls, cuts = world.connector.calls["revoke"], world.connector.calls["cut"]
    without_database(world, 6)
    assert gives(world)
    assert world.connector.calls["revoke"] == calls
    assert world.connector.calls["cut"] > cuts


def test_recover_takes_a_newer_grant_for_the_cut_of_an_older(assigned: World) -> None:
    """It says that something gives the access, and the run does not end well."""
    world = assigned
    uncut(world, 60)
    newer(world)
    calls = world.connector.calls["revoke"]
    (back,) = recover(world, minutes=2)
    assert (back.fate, back.uncut) == (Fate.HELD, True) and "removed before" in back.why
    assert gives(world) and world.connector.calls["revoke"] == calls


def test_recover_from_another_machine_has_ours_take_a_newer_grant(assigned: World) -> None:
    """What its journal says is copied as it is: a removal that lacks its cut, not an end begun."""
    world = assigned
    uncut(world, 60)
    newer(world)
    others = lines(world)
    (world.directory / "closing.journal").unlink()
    found = gather({OWN: [], "other": others}, OWN, world.clock())
    recall(ground(world), found, timedelta(minutes=2))
    told = read_back(lines(world))
    assert told is not None and told.uncut and not told.alone
    close_without_store(world.house)
    assert gives(world)


def test_held_access_whose_sessions_are_uncut_is_only_cut_at_its_end(assigned: World) -> None:
    """What held it on has ended: it is removed, not only cut."""
    world = assigned
    grant = uncut(world, 0)
    line = lines(world)[-1]
    until = world.clock() + timedelta(minutes=1)
    held = removed_line(grant.id, line.at, uncut=True, held=True, held_until=until)
    world.house.journal.append(held)
    world.cloud.assign(KEY, world.clock())
    world.clock.forward(minutes=1)
    close_without_store(world.house)
    assert not gives(world)


@pytest.mark.parametrize("ours", [True, False])
def test_cut_reaches_up_to_an_earlier_removal_of_ours(
    assigned: World, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    """Another machine removed it, so what we know of a removal may be of one before that."""
    world = assigned
    uncut(world, 60)
    (told,) = [line for line in lines(world) if line.uncut]
    if not ours:
        world.house.tries.forget(told.grant)  # as a process that did not remove it
    asked: list[Instant | None] = []

    def cut(hold: Hold, now: Instant) -> Receipt:
        asked.append(hold.removed_elsewhere)
        return Receipt(cloud_at=now, detail={})

    monkeypatch.setattr(world.connector, "cut", cut)
    without_database(world, 1)
    recover(world, minutes=0)
    assert asked == [None if ours else told.at, told.at]
