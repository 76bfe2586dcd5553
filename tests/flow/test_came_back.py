"""What came back after it was removed, and then the database is away: the journal closes it again.

And panics that others can neither hide nor leave behind.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.backups import locked
from tests.flow.assigned import KEY, settle, without_database
from tests.support import START, World
from tidegate.connectors.port import Answer
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.diagnose.doctor import MOST_SAID, _panics
from tidegate.diagnose.looking import _kept
from tidegate.evidence.journal_book import read_back
from tidegate.evidence.journal_line import JournalLine
from tidegate.flow.expiring import close_now, close_once
from tidegate.flow.gathering import gather
from tidegate.flow.house import Wanted
from tidegate.flow.panicking import call_panic, close_named, panic_unsealed, resume, sweep
from tidegate.flow.reconciling import reconcile_some
from tidegate.flow.revoking import end_early
from tidegate.flow.stopping import stopped
from tidegate.grant import Grant, GrantState
from tidegate.panic import PanicState, Scope, ScopeKind


def back_while_unreachable(world: World) -> None:
    """Somebody makes it again; it is seen, and closing it fails for three minutes."""
    world.cloud.assign(KEY, world.clock())
    until = world.clock() + timedelta(minutes=3)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="revoke", until=until))
    world.clock.forward(seconds=40)
    reconcile_some(world.house, 50)
    world.clock.forward(seconds=5)
    world.work()


def test_access_called_back_is_called_removed_without_the_database(assigned: World) -> None:
    """The journal has an earlier `removed`: that was before its end began once more."""
    world = assigned
    world.connector.cuts = False
    grant = world.granted()
    settle(world, 10)
    close_now(world.house, end_early(world.house, world.who("op"), grant.id))
    settle(world, 1)
    back_while_unreachable(world)
    assert world.grant(grant).state is GrantState.CLOSING
    with locked(world):
        world.clock.forward(minutes=1)
        wanted = Wanted(scope=Scope(ScopeKind.ALL), by=world.who("op").id, via="api", reason="x")
        told = close_named(world.house, panic_unsealed(world.house, wanted))
        assert (told.removed, told.closing) == ((), (grant.id,))
    owed = gather({"own": world.house.journal.read()}, "own", world.clock())
    assert [one.done for one in owed.owed] == [False]
    without_database(world, 10)
    assert not world.cloud.assigned(KEY, world.clock())


def back_and_seen_by(world: World, look: Callable[[], object]) -> Grant:
    """A grant that was removed, is made again by somebody, and is seen so by `look` alone."""
    world.connector.cuts = False
    grant = world.granted()
    settle(world, 10)
    close_now(world.house, end_early(world.house, world.who("op"), grant.id))
    settle(world, 1)
    assert world.grant(grant).state is GrantState.REMOVED
    world.cloud.assign(KEY, world.clock())
    world.clock.forward(seconds=40)
    look()
    assert world.grant(grant).state is GrantState.CLOSING
    return grant


@pytest.mark.parametrize("who", ["the look at its role", "the proof of its end"])
def test_what_came_back_stays_open_when_the_database_goes_at_once(
    assigned: World, who: str
) -> None:
    """Seen to be there again, and no try to take it away yet: the journal alone has it closed."""
    world = assigned

    def look() -> None:
        if who == "the look at its role":
            reconcile_some(world.house, 50)
            return
        (grant,) = world.house.store.grants()
        close_once(world.house, grant)

    back_and_seen_by(world, look)
    without_database(world, 3)
    assert not world.cloud.assigned(KEY, world.clock())


def test_panic_without_evidence_calls_removed_what_came_back(assigned: World) -> None:
    """Nobody else saw that it is there again: the panic looks itself, whatever was said before."""
    world = assigned
    world.connector.cuts = False
    grant = world.granted()
    settle(world, 10)
    close_now(world.house, end_early(world.house, world.who("op"), grant.id))
    settle(world, 1)
    world.cloud.assign(KEY, world.clock())
    with locked(world):
        wanted = Wanted(scope=Scope(ScopeKind.ALL), by=world.who("op").id, via="api", reason="x")
        named = panic_unsealed(world.house, wanted)
        assert named == (grant.id,)
        without_revoke(world)
        told = close_named(world.house, named)
        assert (told.removed, told.closing) == ((), (grant.id,))
        world.clock.forward(minutes=2)
        told = close_named(world.house, named)
    assert told.removed == (grant.id,)
    assert not world.cloud.assigned(KEY, world.clock())


def test_panic_without_evidence_leaves_out_what_is_closed_again(assigned: World) -> None:
    """It was gone once, and came back: it is named like all that is open."""
    world = assigned
    grant = world.granted()
    settle(world, 33)
    assert world.grant(grant).state is GrantState.GONE
    back_while_unreachable(world)
    with locked(world):
        wanted = Wanted(scope=Scope(ScopeKind.ALL), by=world.who("op").id, via="api", reason="x")
        assert panic_unsealed(world.house, wanted) == (grant.id,)


def without_revoke(world: World) -> None:
    """The cloud takes nothing away for a minute."""
    until = world.clock() + timedelta(minutes=1)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="revoke", until=until))


def test_leftover_stays_open_without_the_database(assigned: World) -> None:
    """Gone, made again, and the first try to close it again failed: it is owed by the journal."""
    world = assigned
    grant = world.granted()
    settle(world, 33)
    assert world.grant(grant).state is GrantState.GONE
    back_while_unreachable(world)
    assert world.cloud.assigned(KEY, world.clock())
    without_database(world, 10)
    assert not world.cloud.assigned(KEY, world.clock())


def test_standing_access_is_called_removed_by_a_panic_without_evidence(assigned: World) -> None:
    """The grant ended beside access that is not ours: it is there, and the panic says so."""
    world = assigned
    world.cloud.place(KEY, world.clock(), by="terraform")
    grant = world.granted(duration=timedelta(minutes=10))
    settle(world, 12)
    assert world.grant(grant).state is GrantState.REMOVED
    with locked(world):
        wanted = Wanted(scope=Scope(ScopeKind.ALL), by=world.who("op").id, via="api", reason="x")
        told = close_named(world.house, panic_unsealed(world.house, wanted))
    assert told.removed == ()
    assert world.cloud.assigned(KEY, world.clock())


def test_access_by_a_group_is_called_removed_by_a_panic_without_evidence(assigned: World) -> None:
    """Ours is taken from the journal, and a group still gives the same: it is there."""
    world = assigned
    grant = world.granted()
    settle(world, 2)
    world.cloud.give_by_group(KEY, "admins")
    with locked(world):
        world.clock.forward(minutes=1)
        wanted = Wanted(scope=Scope(ScopeKind.ALL), by=world.who("op").id, via="api", reason="x")
        told = close_named(world.house, panic_unsealed(world.house, wanted))
    assert (told.removed, told.closing) == ((), (grant.id,))


@pytest.mark.parametrize(
    ("kinds", "is_back"),
    [
        (("intended",), False),
        (("intended", "closing"), False),
        (("intended", "closing", "removed"), True),
        (("intended", "closing", "removed", "closing"), False),
        (("intended", "closing", "removed", "gone", "sealed"), True),
        (("intended", "closing", "removed", "gone", "sealed", "intended", "closing"), False),
        (("closing", "removed", "intended", "closing", "removed"), True),
    ],
)
def test_earlier_end_speaks_for_a_later_one(kinds: tuple[str, ...], is_back: bool) -> None:
    """Only what was read back after the last opening and the last beginning of the end counts."""
    at = START
    lines = [JournalLine(kind=kind, grant="gr_1", at=at, data={}) for kind in kinds]
    assert (read_back(lines) is not None) is is_back


def test_panics_of_one_person_hide_the_freeze_of_another(world: World) -> None:
    """A hundred panics about oneself: what an operator froze stays shut, and is counted."""
    house, eve = world.house, world.who("eve")
    target = Scope(ScopeKind.TARGET, "dev")
    frozen = sweep(house, call_panic(house, world.who("op"), target, "x", timedelta(hours=4)))
    for _ in range(101):
        world.clock.forward(milliseconds=20)
        own = Scope(ScopeKind.PRINCIPAL, eve.id)
        call_panic(house, eve, own, "", timedelta(days=7))
    found = stopped(house, world.who("ana").id, "dev/admin", world.clock())
    assert found is not None and found.id == frozen.id
    assert stopped(house, world.who("ana").id, "prod/admin", world.clock()) is None
    assert stopped(house, eve.id, "prod/admin", world.clock()) is not None
    assert house.store.stopping_count(world.clock()) == 102
    assert world.ask("ana", "dev/admin").code == "frozen"


def test_panics_of_one_person_hide_the_freeze_of_another_from_doctor(world: World) -> None:
    """Doctor shows a few, and a list has a page: those called for others come first."""
    house, eve = world.house, world.who("eve")
    target = Scope(ScopeKind.TARGET, "dev")
    frozen = sweep(house, call_panic(house, world.who("op"), target, "x", timedelta(hours=4)))
    for _ in range(MOST_SAID):
        world.clock.forward(milliseconds=20)
        own = Scope(ScopeKind.PRINCIPAL, eve.id)
        call_panic(house, eve, own, "", timedelta(days=7))
    kept = _kept(house.store, ("dev",), world.clock())
    assert len(kept.panics) == MOST_SAID + 1
    assert any(frozen.id in check.says for check in _panics(kept))
    (first,) = house.store.panics(stopping_at=world.clock(), limit=1)
    assert first.id == frozen.id


def test_panic_called_by_a_clock_ahead_is_left_by_all(world: World) -> None:
    """Its server died before it swept: whoever is left takes it up, whatever its instant says."""
    grant = world.granted()
    right = world.clock()
    world.clock.forward(hours=1)
    called = call_panic(world.house, world.who("op"), Scope(ScopeKind.ALL), "x", None)
    world.clock.at = right + timedelta(minutes=1)
    resume(world.house)
    assert world.house.store.panic(called.id).state is PanicState.SWEPT
    assert world.grant(grant).state is not GrantState.OPEN


def test_group_of_somebody_whose_access_came_back_is_cut_at_every_look(assigned: World) -> None:
    """What came back is taken once; what a group of theirs gives stays, with its sessions."""
    world = assigned
    grant = world.granted()
    settle(world, 34)
    assert world.grant(grant).state is GrantState.GONE
    reconcile_some(world.house, 50)
    world.cloud.assign(KEY, world.clock())
    world.cloud.give_by_group(KEY, "admins")
    settle(world, 1)
    calls = []
    for _ in range(4):
        world.clock.forward(minutes=1)
        reconcile_some(world.house, 50)
        calls.append((world.connector.calls["revoke"], world.connector.calls["cut"]))
    assert calls[0] == calls[-1]
    taken = world.cloud.sign_in(KEY, world.clock())
    world.clock.forward(minutes=1)
    reconcile_some(world.house, 50)
    assert world.use(taken) is Answer.ALLOWED
