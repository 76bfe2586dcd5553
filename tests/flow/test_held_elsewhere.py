"""Several machines, each with a journal of its own, and then the database goes: what one of them
knows of ends that others brought about, and of grants that others opened.
"""

import errno
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.backups import locked
from tests.flow.assigned import KEY, elsewhere, settle, without_database
from tests.flow.test_extending import extended
from tests.flow.test_recalling import OWN, ground, lines, recover
from tests.support import World
from tidegate.base.errors import EvidenceBroken
from tidegate.base.when import Instant, wire
from tidegate.catalogue import Assignment
from tidegate.connectors.port import Answer, Hold, Receipt
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal_book import read_back
from tidegate.evidence.journal_line import JournalLine
from tidegate.flow import recovering
from tidegate.flow.expiring import close_now
from tidegate.flow.gathering import begin_all, gather
from tidegate.flow.house import Wanted
from tidegate.flow.panicking import close_named, panic_unsealed
from tidegate.flow.recalling import Fate, recall
from tidegate.flow.reconciling import reconcile_some
from tidegate.flow.recovering import (
    close_forgotten,
    close_without_store,
    seal_journal,
    settle_journal,
)
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant, GrantState
from tidegate.panic import Scope, ScopeKind


def two(world: World) -> tuple[Grant, Grant]:
    """Ours until the thirtieth minute, and one of another machine until the fortieth."""
    first = world.granted()
    world.clock.forward(minutes=10)
    world.work()
    with elsewhere(world):
        second = world.granted()
    return first, second


def gives(world: World) -> bool:
    """Whether the cloud has the assignment."""
    return world.cloud.assigned(KEY, world.clock())


def test_access_of_two_stays_open_when_the_database_and_one_machine_go(assigned: World) -> None:
    """The first end left it to the second, which nobody is there to bring about: taken at that."""
    world = assigned
    first, _ = two(world)
    settle(world, 22)
    assert (world.grant(first).state, gives(world)) == (GrantState.REMOVED, True)
    without_database(world, 7)  # the thirty-ninth minute
    assert gives(world)
    without_database(world, 3)
    assert not gives(world)


def test_first_end_without_the_database_takes_what_another_machine_gave(assigned: World) -> None:
    """The database goes before the first end: by then our journal has heard of the second grant."""
    world = assigned
    first, _ = two(world)
    settle(world, 3)
    assert world.grant(first).state is GrantState.OPEN
    without_database(world, 20)  # the thirty-third minute
    assert gives(world)
    without_database(world, 8)
    assert not gives(world)


def test_recover_by_one_journal_takes_what_another_machine_gave(assigned: World) -> None:
    """It is only read until the other's end, as our journal heard of that; a panic takes it."""
    world = assigned
    two(world)
    settle(world, 3)
    world.clock.forward(minutes=20)  # the thirty-third minute
    (back,) = recover(world)
    assert (back.fate, gives(world)) == (Fate.HELD, True)
    found = gather({OWN: lines(world)}, OWN, world.clock())
    everything = begin_all(found, Scope(ScopeKind.ALL), "op", world.clock())
    (back,) = recall(ground(world), everything, timedelta(minutes=1))
    assert (back.fate, gives(world)) == (Fate.REMOVED, False)


def test_panic_without_the_database_leaves_what_another_machine_gave(assigned: World) -> None:
    """Everything ends, a grant of there too, of which our journal heard as the other holder."""
    world = assigned
    two(world)
    settle(world, 3)
    with locked(world):
        wanted = Wanted(scope=Scope(ScopeKind.ALL), by=world.who("op").id, via="api", reason="x")
        close_named(world.house, panic_unsealed(world.house, wanted))
        assert not gives(world)


@pytest.mark.parametrize("again", [False, True])
def test_end_by_an_old_journal_is_called_a_revocation(assigned: World, again: bool) -> None:
    """Closed without the database, at the end our journal knew: another machine had moved it, and
    perhaps we hear of it before that is sealed. It is over for having come, and its new end is no
    news of it.
    """
    world = assigned
    grant = world.granted()
    with elsewhere(world):
        extended(world, grant)
    world.clock.forward(minutes=30)
    assert close_without_store(world.house) == [grant.id]
    if again:
        (line, *_) = (one for one in lines(world) if one.kind == "intended")
        later = wire(world.grant(grant).ends_at or world.clock())
        world.house.journal.append(replace(line, data={**line.data, "ends_at": later}))
    told = [line for line in lines(world) if line.kind == "intended"]
    settle_journal(world.house)
    assert [line for line in lines(world) if line.kind == "intended"] == told
    assert close_forgotten(world.house) == [grant.id]
    assert (world.grant(grant).state, world.grant(grant).end_reason) == (
        GrantState.CLOSING,
        "expired",
    )


def test_end_that_moved_while_the_cloud_was_asked_is_called_a_revocation(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database comes back while a hand waits for the cloud, and our journal hears that the end
    had been moved: it came all the same, by what was known when it was begun.
    """
    world = assigned
    grant = world.granted()
    with elsewhere(world):
        extended(world, grant)
    real = world.connector.revoke

    def slow(hold: Hold, now: Instant) -> Receipt:
        settle_journal(world.house)
        return real(hold, now)

    world.clock.forward(minutes=30)
    with monkeypatch.context() as patch:
        patch.setattr(world.connector, "revoke", slow)
        assert close_without_store(world.house) == [grant.id]
    assert [line.kind for line in lines(world)] == ["intended", "intended", "removed"]
    assert close_forgotten(world.house) == [grant.id]
    assert world.grant(grant).end_reason == "expired"


def test_removed_grant_holds_the_access_of_a_later_one(assigned: World) -> None:
    """Ended early by another machine, not gone yet, and the database goes: it holds nothing."""
    world = assigned
    world.connector.cuts = False
    early = world.granted(duration=timedelta(minutes=110))
    settle(world, 1)
    with elsewhere(world):
        close_now(world.house, end_early(world.house, world.who("op"), early.id))
    settle_journal(world.house)
    assert world.grant(early).state is GrantState.REMOVED
    world.granted()
    assert gives(world)
    without_database(world, 32)
    assert not gives(world)


def test_end_elsewhere_is_owed_because_our_journal_takes_no_other_news(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is over is written before what is open is followed: a journal shrinks by that alone."""
    world = assigned
    grant = world.granted()
    with elsewhere(world):
        close_now(world.house, end_early(world.house, world.who("op"), grant.id))
        settle(world, 40)
    assert world.grant(grant).state is GrantState.GONE

    def unwritable(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(recovering, "follow_open", unwritable)
    with pytest.raises(OSError, match="no space"):
        settle_journal(world.house)
    assert [line.kind for line in lines(world)][-2:] == ["gone", "sealed"]


def test_early_end_that_nobody_tried_yet_waits_for_the_old_one(assigned: World) -> None:
    """Sealed by another machine, and then machine and database go: our journal has heard of it."""
    world = assigned
    grant = world.granted()
    with elsewhere(world):
        end_early(world.house, world.who("op"), grant.id)
    assert world.grant(grant).state is GrantState.CLOSING
    settle_journal(world.house)
    told = lines(world)
    settle_journal(world.house)
    assert lines(world) == told
    without_database(world, 3)
    assert not gives(world)


def test_panic_that_cannot_be_sealed_leaves_what_only_another_machine_opened(
    assigned: World,
) -> None:
    """The rows can be read: what must be known to close it is written down with the panic."""
    world = assigned
    with elsewhere(world):
        world.granted()
    with locked(world):
        wanted = Wanted(scope=Scope(ScopeKind.ALL), by=world.who("op").id, via="api", reason="x")
        close_named(world.house, panic_unsealed(world.house, wanted))
        assert not gives(world)


def test_end_that_another_machine_moved_comes_at_the_old_one(assigned: World) -> None:
    """Extended there, and then the database goes: our journal has the later end, once."""
    world = assigned
    grant = world.granted()
    world.clock.forward(minutes=10)
    with elsewhere(world):
        world.work()
        moved = extended(world, grant, 20)
    assert moved.ends_at == grant.ends_at + timedelta(minutes=20) if grant.ends_at else False
    settle_journal(world.house)
    told = lines(world)
    settle_journal(world.house)
    assert lines(world) == told
    without_database(world, 35)  # the forty-fifth minute
    assert gives(world)
    without_database(world, 6)
    assert not gives(world)


def test_later_holder_is_taken_at_the_end_of_an_earlier_one(assigned: World) -> None:
    """A third grant came after the line was written: the next look at the journal has its end."""
    world = assigned
    two(world)
    settle(world, 22)
    with elsewhere(world):
        third = world.granted()
    settle(world, 1)
    told = read_back(lines(world))
    assert told is not None and told.held_until == third.ends_at
    assert seal_journal(world.house) == 0
    without_database(world, 20)  # the fifty-third minute; the second one's end was the fortieth
    assert gives(world)
    without_database(world, 12)
    assert not gives(world)


def test_end_by_another_machine_takes_what_is_held_since(assigned: World) -> None:
    """Ended there, and held by a grant of there: our journal hears of it before it is over."""
    world = assigned
    first, _ = two(world)
    with elsewhere(world):
        world.clock.forward(minutes=21)
        world.work()
    assert (world.grant(first).state, gives(world)) == (GrantState.REMOVED, True)
    settle_journal(world.house)
    told = lines(world)
    settle_journal(world.house)
    assert lines(world) == told
    without_database(world, 5)
    assert gives(world)
    without_database(world, 5)
    assert not gives(world)


def test_closing_line_of_a_fast_clock_hides_what_came_after_it(assigned: World) -> None:
    """Begun here by a clock an hour ahead, removed there and held on by a grant of there: by the
    versions of the row our journal hears of it, and takes nothing of the other's.
    """
    world = assigned
    first, _ = two(world)
    world.house._clock = lambda: world.clock() + timedelta(hours=1)
    world.connector.script(Fault(kind=FaultKind.DOWN, count=9))
    close_now(world.house, end_early(world.house, world.who("op"), first.id))
    world.connector.calm()
    world.house._clock = world.clock
    assert world.grant(first).state is GrantState.CLOSING
    with elsewhere(world):
        world.clock.forward(minutes=3)
        world.work()
    assert (world.grant(first).state, gives(world)) == (GrantState.REMOVED, True)
    settle_journal(world.house)
    without_database(world, 5)
    assert gives(world)


def test_what_another_machine_saw_come_back_stays_open(assigned: World) -> None:
    """Removed by us, made again, called back to closing there: our journal has it owed again."""
    world = assigned
    world.connector.cuts = False
    grant = world.granted()
    settle(world, 10)
    close_now(world.house, end_early(world.house, world.who("op"), grant.id))
    world.cloud.assign(KEY, world.clock())
    world.clock.forward(seconds=40)
    with elsewhere(world):
        reconcile_some(world.house, 50)
    assert world.grant(grant).state is GrantState.CLOSING
    settle_journal(world.house)
    told = lines(world)
    settle_journal(world.house)
    assert lines(world) == told and told[-1].kind == "closing"
    without_database(world, 3)
    assert not gives(world)


def test_cut_by_another_machine_is_owed_by_ours(assigned: World) -> None:
    """Removed by us with sessions left, cut there: our journal hears that they are."""
    world = assigned
    grant = world.granted()
    settle(world, 29)
    until = world.clock() + timedelta(minutes=2)
    world.connector.script(Fault(kind=FaultKind.THROTTLE, verb="cut", count=99, until=until))
    world.clock.forward(minutes=1, seconds=1)
    world.worker.tick()
    assert lines(world)[-1].uncut
    with elsewhere(world):
        for _ in range(120):  # five seconds each
            if world.grant(grant).cut:
                break
            settle(world, 1 / 12)
    assert (world.grant(grant).state, world.grant(grant).cut) == (GrantState.REMOVED, True)
    settle_journal(world.house)
    assert lines(world)[-1].kind == "removed" and not lines(world)[-1].uncut


def test_row_that_knows_less_than_the_journal_calls_it_removed(assigned: World) -> None:
    """A panic wrote that it is to be looked at once more: the row's older word changes nothing."""
    world = assigned
    world.connector.cuts = False
    grant = world.granted()
    settle(world, 10)
    close_now(world.house, end_early(world.house, world.who("op"), grant.id))
    world.clock.forward(seconds=5)
    line = JournalLine(kind="closing", grant=grant.id, at=world.clock(), data={"reason": "panic"})
    world.house.journal.append(line)
    settle_journal(world.house)
    assert world.grant(grant).state is GrantState.REMOVED and read_back(lines(world)) is None


def test_recover_calls_removed_what_others_hold(assigned: World) -> None:
    """Held until the other's end: said so, nothing called; from then on it is closed."""
    world = assigned
    two(world)
    settle(world, 22)
    calls = world.connector.calls["revoke"]
    (back,) = recover(world)
    assert (back.fate, back.owed.shared) == (Fate.HELD, True) and "until 2026-" in back.why
    assert (world.connector.calls["revoke"], gives(world)) == (calls, True)
    world.clock.forward(minutes=8)
    (back,) = recover(world)
    assert back.fate is Fate.REMOVED and not gives(world)
    assert [line.kind for line in lines(world)][-3:] == ["removed", "closing", "removed"]


def test_recover_calls_standing_access_removed_the_second_time(assigned: World) -> None:
    """What was left to its owner is there: it is held, however often that is asked."""
    world = assigned
    world.cloud.place(KEY, world.clock(), by="terraform")
    world.granted()
    settle(world, 32)
    (back,) = recover(world)
    assert (back.fate, back.owed.shared) == (Fate.HELD, False) and gives(world)


def test_panic_without_a_database_leaves_what_was_held(assigned: World) -> None:
    """Everything ends: what an ended grant left to others of another machine is taken now."""
    world = assigned
    first, _ = two(world)
    taken = world.cloud.sign_in(KEY, world.clock())
    settle(world, 22)
    found = gather({OWN: lines(world)}, OWN, world.house.now())
    begun = begin_all(found, Scope(ScopeKind.ALL), "system", world.house.now())
    (back,) = recall(ground(world), begun, timedelta(minutes=1))
    assert (back.owed.hold.grant, back.fate) == (first.id, Fate.REMOVED)
    assert not gives(world) and world.use(taken) is Answer.DENIED


def test_row_that_cannot_be_read_keeps_the_journal_from_all_else(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds one of them cannot be told: the look at the journal goes on to the others."""
    world = assigned
    first, _ = two(world)
    asked = world.ask(role="dev/admin", duration=timedelta(minutes=5))
    world.work()
    (other,) = world.house.store.grants(request=asked.id)
    with elsewhere(world):
        world.clock.forward(minutes=21)
        world.work()

    def broken(name: str) -> Assignment | None:
        raise EvidenceBroken("row", "an assignment's row", "what a row has", "damage")

    monkeypatch.setattr(world.house.store, "assignment", broken)
    settle_journal(world.house)
    told = {line.grant: line.kind for line in lines(world)}
    assert told == {first.id: "intended", other.id: "sealed"}
