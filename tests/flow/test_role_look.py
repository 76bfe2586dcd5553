"""The look at one role: what clocks and damaged rows must not hide from it."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.test_assignments import KEY, ended, settle
from tests.flow.test_errands import beside
from tests.flow.test_reconciling import EVE, assignments, every, gone, live, look
from tests.support import World, catalogue, laws, misshape
from tidegate.base.duty import ALL
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.finding import FindingKind
from tidegate.flow.expiring import close_once
from tidegate.flow.governing import put_in_force
from tidegate.flow.reconciling import PASS_EVERY, reconcile_some
from tidegate.grant import GrantState

HOUR = timedelta(hours=1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """`prod/admin` is an assignment there."""
    made = World(tmp_path)
    put_in_force(made.house, laws(found=assignments(catalogue())))
    return made


def off(world: World, by: timedelta) -> None:
    """Our clock is wrong by that much from now on; the cloud's and the turns' are not."""
    world.house._clock = lambda: world.clock() + by


@pytest.mark.parametrize("who", ["the look at its role", "the proof of its end"])
def test_what_comes_back_stands_until_the_hour_a_fast_clock_sealed(world: World, who: str) -> None:
    """Removed by a clock an hour ahead that is put right: it is closed again at the next look."""
    grant = world.granted()
    world.clock.forward(minutes=1)
    off(world, HOUR)
    ended(world, grant)
    settle(world, 1)
    off(world, timedelta(0))
    grant = world.grant(grant)
    assert (grant.state, grant.cut) == (GrantState.REMOVED, True)
    assert grant.removed_at is not None and grant.removed_at > world.clock() + HOUR / 2
    look(world)
    world.cloud.place(KEY, world.clock(), by="sync")
    if who == "the look at its role":
        look(world)
    else:
        close_once(world.house, grant)
    settle(world, 1)
    assert not world.cloud.assigned(KEY, world.clock())
    assert "grant.contradicted" in world.names(grant.request)


def test_proof_by_a_slow_clock_calls_gone_what_is_not(world: World) -> None:
    """Looked at before its time because of that clock: what is cut settles by the later of both."""
    grant = world.granted()
    world.clock.forward(minutes=1)
    ended(world, grant)
    grant = world.grant(grant)
    assert (grant.state, grant.cut) == (GrantState.REMOVED, True)
    off(world, -HOUR)
    assert close_once(world.house, grant).state is GrantState.REMOVED
    world.clock.forward(minutes=5)
    assert close_once(world.house, world.grant(grant)).state is GrantState.REMOVED
    off(world, timedelta(0))
    assert close_once(world.house, world.grant(grant)).state is GrantState.GONE


def test_look_by_a_slow_clock_leaves_what_came_back(world: World) -> None:
    """It was removed in what is the future there: the one access is read again all the same."""
    gone(world)
    look(world)
    off(world, -HOUR)
    world.cloud.place(KEY, world.clock(), by="sync")
    look(world)
    assert not world.cloud.assigned(KEY, world.clock())
    assert every(world) == [("readded", "healed", 1)]


def test_looks_remove_anew_what_only_lacks_its_cut(world: World) -> None:
    """Removed by us and not there: only its sessions are looked after, until somebody sees it."""
    gone(world)
    look(world)
    world.cloud.place(KEY, world.clock(), by="sync")
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=99))
    (found,) = look(world)
    calls = world.connector.calls
    sent, tried = calls["revoke"], calls["cut"]
    assert look(world, 3) == live(world) and calls["revoke"] == sent and calls["cut"] > tried
    world.cloud.place(KEY, world.clock(), by="sync")
    world.clock.forward(seconds=PASS_EVERY.total_seconds())
    reconcile_some(beside(world, ALL), 50)  # another machine sees it, and takes it away
    sent = calls["revoke"]
    assert not world.cloud.assigned(KEY, world.clock())
    assert [one.id for one in look(world)] == [found.id]
    assert calls["revoke"] == sent + 1, "what that machine cut is not known here"


@pytest.mark.parametrize("damaged", ["assignments", "grants", "findings"])
def test_one_damaged_row_leaves_what_came_back_of_others(world: World, damaged: str) -> None:
    """Nor does it make looks rare, or its own access somebody's standing one."""
    look(world)
    broken, other = gone(world), gone(world, "eve")
    world.cloud.place(KEY, world.clock(), by="sync")
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke"))
    (found,) = look(world)
    row = {"assignments": broken.assignment, "grants": broken.id, "findings": found.id}[damaged]
    misshape(world, row, "holders" if damaged == "assignments" else "state", damaged)

    def looks(times: int) -> None:
        for _ in range(times):
            world.clock.forward(seconds=PASS_EVERY.total_seconds() + 1)
            reconcile_some(world.house, 50)

    looks(12)
    world.cloud.place(EVE, world.clock(), by="sync")
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=2))
    looks(2)
    assert not world.cloud.assigned(EVE, world.clock())
    known = world.house.store.finding_of(FindingKind.READDED, "prod", EVE.text())
    assert known is not None and (known.grant, known.closed_how) == (other.id, "healed")
    assert world.house.store.finding_of(FindingKind.STANDING, "prod", KEY.text()) is None
