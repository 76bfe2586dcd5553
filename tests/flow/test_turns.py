"""Turns of looks at the cloud: by the database's clock, the one that waits longest first."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.test_assignments import KEY
from tests.flow.test_reconciling import assignments, every, gone, look
from tests.support import World, catalogue, laws
from tidegate.flow.governing import put_in_force
from tidegate.flow.reconciling import PASS_EVERY, reconcile_some


@pytest.fixture
def world(tmp_path: Path) -> World:
    """`prod/admin` is an assignment there."""
    made = World(tmp_path)
    put_in_force(made.house, laws(found=assignments(catalogue())))
    return made


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
