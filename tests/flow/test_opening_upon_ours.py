"""Opening upon access of ours that came back: it is closed again first, never called standing."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.backups import backup, put_back
from tests.flow.test_assignments import KEY, ended, settle
from tests.flow.test_reconciling import assignments, every, failed, gone, look
from tests.support import World, catalogue, laws
from tidegate.connectors.port import Answer
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.evidence.journal_line import removed_line
from tidegate.finding import FindingKind
from tidegate.flow.confirming import confirms
from tidegate.flow.finding import close
from tidegate.flow.governing import put_in_force
from tidegate.flow.recovering import close_owed, find_unknown, owed_now
from tidegate.flow.signing_off import sign_off, take_up_again
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


def signed_off(world: World, how_long: timedelta) -> None:
    """Access of ours came back, could not be closed at once, and an operator accepts it."""
    gone(world)
    look(world)
    world.cloud.place(KEY, world.clock(), by="sync")
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke"))
    (found,) = look(world)
    assert found.kind is FindingKind.READDED
    close(world.house, world.who("cy"), found.id, "permanent now, CHG-9", how_long)
    world.work()


def opened_and_ended(world: World) -> Grant:
    """A grant opened upon what is signed for, that has ended."""
    grant = asked(world)
    assert grant.state is GrantState.OPEN
    assert stood_before(world, grant)
    ended(world, grant)
    settle(world, 3)
    return world.grant(grant)


def test_end_of_a_grant_removes_what_an_operator_accepted(world: World) -> None:
    """An accepted return does not keep its holder's grant waiting, and stands as long as it was
    signed for, however many grants end upon it meanwhile.
    """
    signed_off(world, timedelta(hours=5))
    for _ in range(2):
        grant = opened_and_ended(world)
        assert (grant.state, grant.still_held_by) == (GrantState.REMOVED, "standing access")
        assert {one.kind for one in look(world, 3)} == {FindingKind.HELD_STILL}
        settle(world, 1)
        assert world.cloud.assigned(KEY, world.clock())


@pytest.mark.parametrize("uncut", [False, True])
def test_accepted_return_outlives_its_sign_off_by_a_grant_opened_upon_it(
    world: World, uncut: bool
) -> None:
    """Once the sign-off is over it is closed again, sessions too, and whenever it comes back."""
    signed_off(world, timedelta(hours=1))
    taken = world.cloud.sign_in(KEY, world.clock())
    opened_and_ended(world)
    if uncut:
        world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=2))
    world.clock.forward(hours=1)
    look(world, 3)
    world.clock.forward(seconds=10)
    assert not world.cloud.assigned(KEY, world.clock())
    assert world.cloud.use(taken, world.clock()) is Answer.DENIED
    assert [one for one in every(world) if one[0] != "held_still"] == [("readded", "healed", 2)]
    world.cloud.place(KEY, world.clock(), by="sync")
    look(world, 3)
    assert not world.cloud.assigned(KEY, world.clock())
    assert [one for one in every(world) if one[0] != "held_still"] == [("readded", "healed", 3)]


def test_sessions_of_an_accepted_return_are_cut(world: World) -> None:
    """What an operator signed for is left alone, its sessions too, and nobody is told to have taken
    a deny away; those from before it was closed in vain stay cut.
    """
    gone(world)
    look(world)
    world.cloud.place(KEY, world.clock(), by="sync")
    before = world.cloud.sign_in(KEY, world.clock())
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke"))
    (found,) = look(world)
    close(world.house, world.who("cy"), found.id, "permanent now, CHG-9", timedelta(hours=5))
    world.clock.forward(minutes=1)
    taken = world.cloud.sign_in(KEY, world.clock())
    settle(world, 10)
    assert world.cloud.use(taken, world.clock()) is Answer.ALLOWED
    assert world.cloud.use(before, world.clock()) is Answer.DENIED
    assert [one for one in every(world) if one[0] == "deny_removed"] == []


def taken_up_again(world: World) -> Grant:
    """Signed off while it could not be closed; what came back is accepted for half an hour, another
    grant opened upon it and ended, and the end of the first is taken up again.
    """
    first = world.granted()
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=3))
    world.clock.forward(minutes=1)
    ended(world, first)
    sign_off(world.house, world.who("op"), first.id, "it is the sync's now")
    world.cloud.place(KEY, world.clock(), by="sync")
    world.clock.forward(minutes=1)
    (found,) = look(world)
    close(world.house, world.who("cy"), found.id, "until CHG-9", timedelta(minutes=30))
    world.connector.calm()
    settle(world, 1)
    opened_and_ended(world)
    take_up_again(world.house, world.who("op"), first.id, "it was not")
    return world.grant(first)


def test_end_taken_up_again_upon_an_accepted_return_is_called_back_for_ever(world: World) -> None:
    """Its own end leaves what another grant opened upon; once the acceptance is over it is closed,
    not called back to an end that leaves it again.
    """
    first = taken_up_again(world)
    settle(world, 1)
    assert world.grant(first).still_held_by == "standing access"
    look(world, 2)
    assert world.cloud.assigned(KEY, world.clock())
    world.clock.forward(minutes=30)
    look(world)
    assert not world.cloud.assigned(KEY, world.clock())
    settle(world, 3)
    assert world.grant(first).state is GrantState.GONE


def test_return_whose_sign_off_is_over_passes_for_standing(world: World) -> None:
    """The next grant waits until it is closed; it is not called fixed while one still holds it."""
    signed_off(world, timedelta(minutes=10))
    grant = asked(world)
    assert stood_before(world, grant)
    world.clock.forward(minutes=11)
    for _ in range(4):
        look(world)
        (found,) = [one for one in world.house.store.findings() if one.kind == "readded"]
        assert found.live
    ended(world, grant)
    settle(world, 3)
    second = asked(world)
    assert (second.state, second.outcome) == (GrantState.READY, Outcome.STILL_CLOSING)
    look(world)
    assert not world.cloud.assigned(KEY, world.clock())
    settle(world, 1)
    assert world.grant(second).state is GrantState.OPEN
    assert not stood_before(world, second)
    ended(world, second)
    settle(world, 3)
    assert world.grant(second).state is GrantState.GONE


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


def test_access_we_made_anew_is_called_standing(world: World) -> None:
    """It stood before the first grant, and whoever gave it took it away. A second grant of the same
    access would make it anew, and by the first one's row no end would remove it: it is refused.
    """
    world.cloud.place(KEY, world.clock(), by="root")
    look(world)
    first = asked(world)
    assert stood_before(world, first)
    world.cloud.unassign(KEY, world.clock())
    second = asked(world)
    assert second.state is GrantState.FAILED
    assert not world.cloud.assigned(KEY, world.clock())
    ended(world, first)
    settle(world, 3)
    third = asked(world)
    assert third.state is GrantState.OPEN and not stood_before(world, third)
    ended(world, third)
    settle(world, 3)
    assert not world.cloud.assigned(KEY, world.clock())
    assert world.grant(third).still_held_by == ""


def test_second_grant_upon_what_still_stands_has_it_removed(world: World) -> None:
    """Nobody took it away: it stays standing access, whoever comes and goes (I5)."""
    world.cloud.place(KEY, world.clock(), by="root")
    look(world)
    first, second = asked(world), asked(world)
    assert stood_before(world, second)
    for grant in (first, second):
        ended(world, grant)
        settle(world, 3)
    assert world.cloud.assigned(KEY, world.clock())


def test_end_that_no_row_tells_of_takes_what_was_given_since(world: World) -> None:
    """An older database is put back and the same person given the same access anew, by another
    machine: that is theirs until its own end, and then nothing is left of either.
    """
    kept = backup(world)
    asked(world)
    world.clock.forward(minutes=10)
    put_back(world, kept)
    put_in_force(world.house, laws(found=assignments(catalogue())))
    ours = world.house.journal
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    second = asked(world)
    assert second.state is GrantState.OPEN
    world.house.journal = ours
    world.clock.forward(minutes=21)  # the first one's end has come
    settle(world, 3)
    assert world.cloud.assigned(KEY, world.clock())
    assert world.grant(second).state is GrantState.OPEN
    world.clock.forward(minutes=10)
    settle(world, 6)
    assert not world.cloud.assigned(KEY, world.clock())


def test_access_given_between_the_look_and_the_end_is_taken(world: World) -> None:
    """What no row tells of was found due, and another machine gave the same access before its turn
    came: that is asked in the moment it is closed, with the assignment in hand among all processes.
    """
    kept = backup(world)
    first = asked(world)
    put_back(world, kept)
    put_in_force(world.house, laws(found=assignments(catalogue())))
    ours, store = world.house.journal, world.house.store
    world.clock.forward(minutes=31)
    unknown = find_unknown(world.house)
    (owed,) = owed_now(world.house, unknown)
    assert (unknown, owed.hold.grant) == ({first.id}, first.id)
    with store.only_one(owed.hold.key.text()):  # who opens it has it in hand
        assert not close_owed(world.house, owed, world.house.buckets, store)
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    second = asked(world)
    world.house.journal = ours
    assert not close_owed(world.house, owed, world.house.buckets, store)
    assert world.grant(second).state is GrantState.OPEN
    assert world.cloud.assigned(KEY, world.clock())
    ended(world, second)
    settle(world, 6)
    assert not world.cloud.assigned(KEY, world.clock())


@pytest.mark.parametrize("cut", [False, True])
def test_cut_of_what_no_row_tells_of_waits_for_who_was_given_the_same_since(
    world: World, cut: bool
) -> None:
    """Once it was read back as removed only its own sessions are left: to cut those takes nothing
    of what another grant holds. Of what came back since, or holds on for another, it would.
    """
    kept = backup(world)
    first = asked(world)
    put_back(world, kept)
    put_in_force(world.house, laws(found=assignments(catalogue())))
    ours, store = world.house.journal, world.house.store
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    asked(world)
    now = world.clock()
    ours.append(removed_line(first.id, now, alone=True, uncut=not cut))
    assert confirms(store, first.id, ours.book(), now) is not cut
    until = now + timedelta(minutes=1)
    ours.append(removed_line(first.id, now, alone=True, uncut=True, held=True, held_until=until))
    assert confirms(store, first.id, ours.book(), now)
    assert not confirms(store, first.id, ours.book(), until)
    ours.append(JournalLine(kind="closing", grant=first.id, at=now, data={}))
    assert not confirms(store, first.id, ours.book(), now)


@pytest.mark.parametrize("damage", ["assignments", "grants"])
def test_damaged_row_of_another_keeps_what_no_row_tells_of_open(world: World, damage: str) -> None:
    """Who else holds the access cannot be read, or until when: its own end comes all the same."""
    kept = backup(world)
    first = asked(world)
    put_back(world, kept)
    put_in_force(world.house, laws(found=assignments(catalogue())))
    ours = world.house.journal
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    asked(world)
    world.house.journal = ours
    with world.house.store._database.writing() as db:
        column = "holders" if damage == "assignments" else "state"
        db.execute(f"UPDATE {damage} SET {column} = 'odd'")
    world.clock.forward(minutes=31)
    settle(world, 3)
    lines = [line.kind for line in world.house.journal.read() if line.grant == first.id]
    assert "removed" in lines
