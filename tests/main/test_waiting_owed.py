"""A start that waits with its database open: what it closes from the journal, what it leaves."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.flow.assigned import KEY, assign, settle
from tests.main.test_waiting import bare
from tests.support import World, misshape
from tidegate.base.errors import EvidenceClosed
from tidegate.connectors.port import Answer
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.journal_line import JournalLine
from tidegate.flow.expiring import close_now
from tidegate.flow.house import BareHouse
from tidegate.flow.reconciling import reconcile_some
from tidegate.flow.recovering import close_without_store
from tidegate.flow.revoking import end_early
from tidegate.flow.signing_off import sign_off
from tidegate.grant import Grant, GrantState
from tidegate.main.waiting import Opened


@pytest.fixture
def assigned(world: World) -> World:
    """`prod/admin` is an assignment there."""
    return assign(world)


def start(world: World) -> tuple[BareHouse, Opened]:
    """A start that is not through, with its database open."""
    ours, opened = bare(world), Opened(lambda: world.house.store)
    opened.open()
    ours.confirms = opened.confirms
    return ours, opened


def two(world: World) -> tuple[Grant, Grant]:
    """The same access until the thirtieth minute, and until the fortieth; it is the tenth."""
    first = world.granted()
    world.clock.forward(minutes=10)
    world.work()
    return first, world.granted()


def gives(world: World) -> bool:
    """Whether the cloud has the assignment."""
    return world.cloud.assigned(KEY, world.clock())


def closing(world: World, grant: Grant) -> JournalLine:
    """That its end was decided, while nothing could be sealed."""
    return JournalLine(kind="closing", grant=grant.id, at=world.clock(), data={"reason": "panic"})


def test_shared_access_outlives_both_of_its_ends(assigned: World) -> None:
    """Nobody sealed the two ends, so the rows have both as holders: each is closed all the same."""
    world = assigned
    two(world)
    ours, _ = start(world)
    world.clock.forward(minutes=21)
    assert close_without_store(ours) == [] and gives(world)  # the second goes on by its row
    world.clock.forward(minutes=10)
    assert len(close_without_store(ours)) == 2
    assert not gives(world)


def test_panic_that_was_not_sealed_leaves_what_two_hold(assigned: World) -> None:
    """Both ends were begun by the journal: neither row keeps the other's access open."""
    world = assigned
    both = two(world)
    ours, _ = start(world)
    world.clock.forward(minutes=2)
    ours.journal.append_all(closing(world, grant) for grant in both)
    assert len(close_without_store(ours)) == 2
    assert not gives(world)


def test_holder_nobody_can_read_is_taken_or_kept_for_ever(assigned: World) -> None:
    """Its row says nothing, nor does our journal: the assignment's deadline does."""
    world = assigned
    first = world.granted()
    ours, _ = start(world)
    world.clock.forward(minutes=10)
    world.work()
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    second = world.granted()
    misshape(world, second.id)
    world.clock.forward(minutes=21)
    assert close_without_store(ours) == [] and gives(world)
    world.clock.forward(minutes=10)
    assert close_without_store(ours) == [first.id]
    assert not gives(world)


def test_access_held_on_by_another_outlives_that_too(assigned: World) -> None:
    """The first was read back as held until the other's end, which nobody sealed."""
    world = assigned
    first, second = two(world)
    settle(world, 22)
    assert (world.grant(first).state, gives(world)) == (GrantState.REMOVED, True)
    ours, _ = start(world)
    assert close_without_store(ours) == []
    ours.journal.append(JournalLine(kind="gone", grant=second.id, at=world.clock(), data={}))
    world.clock.forward(minutes=10)  # the first alone is owed now
    assert close_without_store(ours) == [first.id]
    assert not gives(world)


def test_sessions_not_cut_act_on_while_a_start_waits(assigned: World) -> None:
    """Removed and sealed, its cut refused: it is made from the journal."""
    world = assigned
    world.granted()
    settle(world, 29)
    taken = world.cloud.sign_in(KEY, world.clock())
    until = world.clock() + timedelta(minutes=2)
    world.connector.script(Fault(kind=FaultKind.THROTTLE, verb="cut", count=99, until=until))
    world.clock.forward(minutes=1, seconds=1)
    world.worker.tick()
    ours, _ = start(world)
    world.clock.forward(minutes=2)
    assert world.use(taken) is Answer.ALLOWED
    assert len(close_without_store(ours)) == 1
    assert world.use(taken) is Answer.DENIED


@pytest.mark.parametrize("signed_off", [False, True], ids=["gone", "signed_off"])
def test_what_came_back_stays_while_a_start_waits(assigned: World, signed_off: bool) -> None:
    """Its row is over; the journal opened it anew after that, and could not close it yet."""
    world = assigned
    grant = over(world, signed_off)
    world.cloud.assign(KEY, world.clock())
    ours, _ = start(world)
    assert close_without_store(ours) == []  # what only the row ended is no business of a start
    until = world.clock() + timedelta(minutes=3)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="revoke", until=until))
    world.clock.forward(seconds=40)
    reconcile_some(world.house, 50)
    assert ours.journal.book().waiting[grant.id].at == world.clock()
    world.clock.forward(minutes=4)
    assert gives(world)
    assert close_without_store(ours) == [grant.id]
    assert not gives(world)


def over(world: World, signed_off: bool) -> Grant:
    """One that is over: gone, or closing in vain until somebody signed it off."""
    grant = world.granted()
    world.clock.forward(minutes=1)
    if signed_off:
        world.connector.script(Fault(kind=FaultKind.DOWN, verb="revoke", count=1))
    close_now(world.house, end_early(world.house, world.who("op"), grant.id))
    if signed_off:
        sign_off(world.house, world.who("op"), grant.id, "it is no more")
        return world.grant(grant)
    settle(world, 2)
    assert world.grant(grant).state is GrantState.GONE
    return grant


def test_end_the_database_did_not_owe_waits_on_when_that_goes(assigned: World) -> None:
    """However often it said no: seconds after it is gone the journal's word holds again."""
    world = assigned
    first = world.granted()
    ours, opened = start(world)
    world.clock.forward(minutes=10)
    world.work()
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    world.granted(duration=timedelta(hours=1))
    world.clock.forward(minutes=21)
    for _ in range(100):
        assert close_without_store(ours) == []
        world.clock.forward(seconds=3)
    opened.store = None
    world.clock.forward(seconds=5)
    assert close_without_store(ours) == [first.id]


def test_end_the_database_did_not_owe_takes_an_accounts_pace(assigned: World) -> None:
    """What is not called costs nothing: those that are owed have the account to themselves."""
    world = assigned
    world.granted()
    ours, _ = start(world)
    world.clock.forward(minutes=10)
    world.work()
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    world.granted()
    world.clock.forward(minutes=21)

    def no_more(*_: object) -> bool:
        raise EvidenceClosed("taken", "expected nothing to be taken", "")

    targets = {one.id: replace(one, pace=1.0) for one in ours.laws.catalogue.targets.values()}
    ours.laws = replace(ours.laws, catalogue=replace(ours.laws.catalogue, targets=targets))
    ours.alone.may = no_more  # type: ignore[assignment]
    assert close_without_store(ours) == []
