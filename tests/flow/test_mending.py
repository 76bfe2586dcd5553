"""Cuts of what came back, and of what was signed off, are looked after like any other."""

from datetime import timedelta

import pytest

from tests.flow.assigned import KEY, settle
from tests.support import World
from tidegate.connectors.port import Answer
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal import ClosingJournal
from tidegate.flow.expiring import close_now
from tidegate.flow.mending import mend_cuts
from tidegate.flow.reconciling import reconcile_some
from tidegate.flow.revoking import end_early
from tidegate.flow.signing_off import sign_off
from tidegate.grant import GrantState


@pytest.mark.parametrize("elsewhere", [False, True], ids=["own_journal", "journal_of_another"])
@pytest.mark.parametrize("later", [timedelta(minutes=30), timedelta(hours=13)], ids=str)
def test_cut_of_what_came_back_stays_away(
    assigned: World, later: timedelta, elsewhere: bool
) -> None:
    """Closed and cut again beside the row, which knows of the first end alone: that cut is put
    back as it was, for what its sessions may act, and no longer.
    """
    world = assigned
    grant = world.granted()
    settle(world, 34)
    assert world.grant(grant).state is GrantState.GONE
    if elsewhere:  # another machine ended it the first time
        world.house.journal = ClosingJournal(world.directory / "two.journal")
    world.clock.forward(seconds=later.total_seconds())
    reconcile_some(world.house, 50)
    world.cloud.assign(KEY, world.clock())
    taken = world.cloud.sign_in(KEY, world.clock())
    world.clock.forward(minutes=2)
    reconcile_some(world.house, 50)
    cut_before = world.cloud.cut_before(KEY, world.clock())
    assert "leftover.closed" in world.names(grant.request)
    assert world.cloud.use(taken, world.clock()) is Answer.DENIED
    world.cloud._cuts.clear()
    assert mend_cuts(world.house) == [grant.id]
    assert world.cloud.use(taken, world.clock()) is Answer.DENIED
    assert world.cloud.cut_before(KEY, world.clock()) == cut_before
    world.clock.forward(hours=2)
    world.cloud._cuts.clear()
    assert mend_cuts(world.house) == []


def test_cut_of_a_signed_off_end_is_given_up(assigned: World) -> None:
    """Nobody saw it removed: what was cut when its closing began stays cut, and nothing more is."""
    world = assigned
    grant = world.granted()
    settle(world, 28)
    before = world.cloud.sign_in(KEY, world.clock())
    world.connector.script(
        Fault(kind=FaultKind.REFUSE, verb="revoke", count=10_000),
        Fault(kind=FaultKind.REFUSE, verb="cut", count=10_000),
    )
    settle(world, 6)
    after = world.cloud.sign_in(KEY, world.clock())
    sign_off(world.house, world.who("op"), grant.id, "they keep it until the move, INC-4711")
    assert world.grant(grant).removed_at is None
    mend_cuts(world.house)
    assert world.cloud.use(before, world.clock()) is Answer.DENIED
    assert world.cloud.use(after, world.clock()) is Answer.ALLOWED
    world.cloud._cuts.clear()
    settle(world, 2)
    mend_cuts(world.house)
    assert world.cloud.use(before, world.clock()) is Answer.DENIED
    assert world.cloud.use(after, world.clock()) is Answer.ALLOWED


def test_cut_of_what_came_back_is_told_as_taken_away(assigned: World) -> None:
    """There again, and not removed yet: that its new sessions are not cut is nobody's doing."""
    world = assigned
    grant = world.granted()
    settle(world, 34)
    assert world.grant(grant).state is GrantState.GONE
    world.clock.forward(hours=13)  # no session of before acts any more
    reconcile_some(world.house, 50)
    world.cloud.assign(KEY, world.clock())
    world.clock.forward(minutes=2)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="revoke", count=20))
    reconcile_some(world.house, 50)
    taken = world.cloud.sign_in(KEY, world.clock())
    world.clock.forward(seconds=1)
    world.cloud._cuts.clear()
    assert mend_cuts(world.house) == []
    assert world.cloud.use(taken, world.clock()) is Answer.DENIED


def test_row_that_means_nothing_stops_the_mending_of_others(assigned: World) -> None:
    """A column without its value is no error of the store's: the others' cuts are put back."""
    world = assigned
    grant, bad = world.granted(), world.granted("eve")
    settle(world, 1)
    for one in (grant, bad):
        close_now(world.house, end_early(world.house, world.who("op"), one.id))
    settle(world, 1)
    world.cloud._cuts.clear()
    with world.house.store._database.writing() as db:
        db.execute("UPDATE grants SET ends_at_ms = NULL WHERE id = ?", (bad.id,))
    assert mend_cuts(world.house) == [grant.id]
