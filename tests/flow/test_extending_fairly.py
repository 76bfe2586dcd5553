"""Ends that wait to be moved keep no other end waiting, on the same target or on another."""

from datetime import timedelta

import pytest

from tests.flow.test_extending import longer
from tests.support import World, misshape
from tidegate.base.errors import Unreachable
from tidegate.base.when import Instant
from tidegate.connectors.port import Health, Hold, Receipt
from tidegate.flow import extending
from tidegate.flow.extending import due_extensions
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant, GrantState
from tidegate.request import Request


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of two, and of those three a look: a handful is then a crowd."""
    monkeypatch.setattr(extending, "PAGE", 2)
    monkeypatch.setattr(extending, "PAGES", 3)


def waiting(world: World, how_many: int) -> list[Request]:
    """Extensions of eve's grants on a target whose gate is shut when their ends are to move."""
    real = world.connector.health
    grants = []
    for _ in range(how_many):
        request = world.ask("eve", "dev/admin", duration=timedelta(minutes=10))
        world.work()
        grants += world.house.store.grants(request=request.id)
    lost = Health(reached=False, cloud_at=None, round_trip=timedelta(0), identity="")
    filed = [longer(world, grant, 20, "eve") for grant in grants]
    world.connector.health = lambda target, now: (  # type: ignore[method-assign]
        real(target, now) if target.id != "dev" else lost
    )
    world.house.looks.forget()
    return filed


def in_line(world: World) -> list[str]:
    """The targets of what is due now."""
    return [target for target, _ in due_extensions(world.house)]


@pytest.mark.parametrize("crowd", [5, 7, 13])
def test_extensions_that_wait_keep_one_behind_them_waiting(world: World, crowd: int) -> None:
    """However many wait on a target whose gate is shut, another target's end moves in time."""
    prod = world.granted()
    waiting(world, crowd)
    for _ in range(8):
        world.clock.forward(milliseconds=200)
        world.worker.tick()
    world.vote(longer(world, prod))
    ends_at = prod.ends_at
    assert ends_at is not None
    for _ in range(6):
        world.clock.forward(milliseconds=200)
        world.worker.tick()
    assert world.grant(prod).ends_at == ends_at + timedelta(minutes=30)


def test_many_due_on_one_target_leave_no_hand_for_another(world: World) -> None:
    """Of one target a few are taken at a time, and what is not taken takes nobody's place."""
    due = [("dev", lambda: None)] * 40 + [("prod", lambda: None)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tidegate.shell.worker.due_extensions", lambda house: due)
        taken = [target for target, _ in world.worker._extensions()]
    assert taken == ["dev"] * 4 + ["prod"]


def test_one_target_fills_a_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each target only so many are due in one look: the others are in it all the same."""
    monkeypatch.setattr(extending, "MOST_AT_ONCE", 3)
    prod: Grant = world.granted()
    waiting(world, 4)
    world.vote(longer(world, prod))
    assert in_line(world) == ["dev", "dev", "dev", "prod"]


@pytest.mark.parametrize("table", ["grants", "requests"])
def test_row_nobody_can_read_stops_ends_and_extensions(world: World, table: str) -> None:
    """Its end waits to be moved: others still move, and what is due is closed by its row at once,
    and not from the journal as if there were no database.
    """
    broken, due = world.granted(), world.granted("eve")
    (moved,) = world.house.store.grants(request=world.ask("eve", "dev/admin").id)
    world.work()
    moved = world.grant(moved)
    asked = longer(world, broken, 40)
    world.vote(asked)
    if table == "grants":
        world.connector.arm = _down  # type: ignore[method-assign]
        world.work()
        assert world.grant(broken).arming
        misshape(world, broken.id, "opened_at_ms")
    else:
        misshape(world, asked.id, "decide_by_ms", table)
    end_early(world.house, world.who("op"), due.id)
    longer(world, moved, 20, "eve")  # approved by itself
    world.clock.forward(minutes=1)
    world.work()
    after = world.grant(moved)
    assert moved.ends_at is not None and after.ends_at == moved.ends_at + timedelta(minutes=20)
    assert world.grant(due).state is not GrantState.CLOSING


def _down(hold: Hold, until: Instant, now: Instant) -> Receipt | None:
    raise Unreachable("down", "expected an answer, got none", "")
