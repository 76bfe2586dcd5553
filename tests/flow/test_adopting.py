"""What other machines opened, in the journal of one that closes: it ends without the database."""

import errno
import os
from datetime import timedelta
from typing import Any

import pytest

from tests.backups import backup, put_back
from tests.flow.assigned import elsewhere, settle, without_database
from tests.flow.test_extending import extended
from tests.flow.test_gate import FORKED
from tests.flow.test_held_elsewhere import gives
from tests.support import World, misshape
from tidegate.base.duty import ALL, Duty, told, workers
from tidegate.base.errors import WorldFailed
from tidegate.connectors.port import Hold
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence import journal
from tidegate.evidence.journal import open_grants
from tidegate.evidence.journal_line import HELD_UNTIL, JournalLine
from tidegate.flow import adopting
from tidegate.flow.adopting import AGAIN, adopt, adopt_open, adopt_overdue, reading_at
from tidegate.flow.expiring import close_now
from tidegate.flow.holding import hold_of
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant, GrantState
from tidegate.shell import worker

OPENER, CLOSER = frozenset({Duty.OPEN}), frozenset({Duty.CLOSE})


def opened_by(world: World, duties: frozenset[Duty], minutes: int = 30) -> Grant:
    """A grant, opened by a process with these duties on another machine."""
    world.work()
    world.house.store.beat("worker:there", world.clock(), told(duties, "1"))
    with elsewhere(world):
        return world.granted(duration=timedelta(minutes=minutes))


def lost(world: World) -> Grant:
    """A grant that such a process opened, and whose reply was lost."""
    world.work()
    world.house.store.beat("worker:there", world.clock(), told(OPENER, "1"))
    world.connector.script(Fault(kind=FaultKind.LOSE_REPLY, verb="grant"))
    with elsewhere(world):
        request = world.vote(world.ask())
        world.worker.tick()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.INTENDED
    return grant


def no_room(*asked: object) -> None:
    """Of a disk that is full."""
    raise OSError(errno.ENOSPC, "no space")


def named(world: World) -> list[str]:
    """What our journal calls open."""
    return [line.grant for line in open_grants(world.house.journal.read())]


def test_access_of_an_opener_elsewhere_outlives_its_end_without_the_database(
    assigned: World,
) -> None:
    """No process that closes wrote of its opening; ours heard of it from the rows."""
    world = assigned
    opened_by(world, OPENER)
    settle(world, 1)
    without_database(world, 28)
    assert gives(world)
    without_database(world, 2)
    assert not gives(world)


def test_machine_that_closes_itself_has_its_grants_in_every_journal(assigned: World) -> None:
    """Its own journal is enough: every other closer would ask the cloud for the same end."""
    world = assigned
    opened_by(world, ALL)
    assert (adopt_open(world.house), named(world)) == (0, [])


def test_later_grants_are_never_adopted_behind_many(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some at a time, in turn; a row that cannot be read keeps none behind it from its place."""
    world = assigned
    monkeypatch.setattr(adopting, "AT_ONCE", 2)
    monkeypatch.setattr(adopting, "READ_AT_ONCE", 3)
    monkeypatch.setattr(adopting, "MOST", 3)
    grants = sorted(opened_by(world, OPENER, minutes=12).id for _ in range(9))
    for name in grants[:2]:  # as many as are taken at once
        misshape(world, name, "ends_at_ms", "grants")
    looks = [adopt_open(world.house) for _ in range(5)]
    assert sorted(named(world)) == grants[2:]
    assert max(looks) <= 4 and looks[-1] == 0


def test_older_database_fills_the_journal_with_ends_of_long_ago(assigned: World) -> None:
    """What its rows call open may be over."""
    world = assigned
    opened_by(world, OPENER)
    world.house.outside = lambda now: (FORKED,)
    assert (adopt_open(world.house), named(world)) == (0, [])


def test_later_ends_are_never_closed_behind_many_that_cannot_be_sealed(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows go on calling the first ones overdue while nothing can be written to them."""
    world = assigned
    monkeypatch.setattr(adopting, "AT_ONCE", 2)
    grants = sorted(opened_by(world, ALL, minutes=12).id for _ in range(6))
    for name in grants[:2]:
        misshape(world, name, "claim_by_ms", "grants")
    world.clock.forward(minutes=20)
    told = [name for _ in range(5) for name in adopt_overdue(world.house)]
    assert sorted(told) == sorted(named(world)) == grants[2:]


def test_end_known_by_its_decision_alone_is_nothing_to_close(assigned: World) -> None:
    """The journal has that it was to end, of a panic, and not what was opened: that is added."""
    world = assigned
    grant = opened_by(world, ALL)
    begun = JournalLine(kind="closing", grant=grant.id, at=world.clock(), data={"reason": "panic"})
    world.house.journal.append(begun)
    read_at = reading_at(world.house)
    assert adopt(world.house, grant, read_at) and not adopt(world.house, grant, read_at)
    without_database(world, 1)
    assert not gives(world)


def test_one_unreadable_end_stops_what_closes_from_the_journal(assigned: World) -> None:
    """Its row tells of no end, and whoever opened it is dead: the journal brings it about."""
    world = assigned
    grant = opened_by(world, OPENER)
    assert adopt_open(world.house) == 1
    misshape(world, grant.id, "ends_at_ms", "grants")
    settle(world, 31)
    assert not gives(world)


def test_bug_in_one_look_at_the_journal_stops_the_others(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no row tells of is closed all the same."""

    def buggy(house: object) -> None:
        raise ValueError("a bug")

    world = assigned
    grant = opened_by(world, OPENER)
    adopt_open(world.house)
    misshape(world, grant.id, "claim_by_ms", "grants")
    for step in ("settle_journal", "seal_journal", "close_forgotten"):
        monkeypatch.setattr(f"tidegate.shell.worker.{step}", buggy)
    settle(world, 31)
    assert not gives(world)


def test_access_whose_opening_lost_its_reply_outlives_its_end_without_the_database(
    assigned: World,
) -> None:
    """Its row says that it was intended, and no opener is left to look again."""
    world = assigned
    lost(world)
    assert gives(world)
    adopt_open(world.house)
    without_database(world, 31)
    assert not gives(world)


def test_early_end_is_forgotten_with_the_database(assigned: World) -> None:
    """It was being closed when a machine came up that had never heard of it."""
    world = assigned
    grant = opened_by(world, OPENER)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="revoke", count=1))
    with elsewhere(world):
        end_early(world.house, world.who("ana"), grant.id)
    assert world.grant(grant).state is GrantState.CLOSING
    adopt_open(world.house)
    world.worker._look_at_journal()
    without_database(world, 3)
    assert not gives(world)


def test_opener_that_stopped_takes_what_it_opened_with_it(assigned: World) -> None:
    """It left in order, and nobody beats in its name any more."""
    world = assigned
    opened_by(world, OPENER)
    assert adopt_open(world.house) == 1
    opened_by(world, OPENER)
    world.house.store.leave("worker:there")
    assert adopt_open(world.house) == 1


def test_who_only_closes_waits_for_an_opener_to_be_heard_of(assigned: World) -> None:
    """Another opened what is open, whoever that was."""
    world = assigned
    opened_by(world, ALL)
    world.house.duties = CLOSER
    assert adopt_open(world.house) == 1


def test_odd_row_keeps_those_beside_it_from_the_journal(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another release made of it is nothing we read; mended, it is taken up a minute later."""
    world = assigned
    odd, *others = sorted(opened_by(world, OPENER).id for _ in range(3))

    def strange(house: object, grant: Grant, assignment: object) -> Hold:
        if grant.id == odd:
            raise KeyError("kind")
        return hold_of(house, grant, assignment)  # type: ignore[arg-type]

    monkeypatch.setattr(adopting, "hold_of", strange)
    assert (adopt_open(world.house), sorted(named(world))) == (2, others)
    monkeypatch.undo()
    assert adopt_open(world.house) == 0
    world.clock.forward(seconds=AGAIN.total_seconds() + 1)
    assert adopt_open(world.house) == 1


def test_moment_without_the_database_puts_off_what_is_taken_up(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is written, and the rest is asked for at the next look, not a minute later."""
    world = assigned
    first, second = sorted(opened_by(world, OPENER).id for _ in range(2))

    def away(house: object, grant: Grant, assignment: object) -> Hold:
        if grant.id == second:
            raise WorldFailed("store_down", "the database does not answer", "wait")
        return hold_of(house, grant, assignment)  # type: ignore[arg-type]

    monkeypatch.setattr(adopting, "hold_of", away)
    with pytest.raises(WorldFailed):
        adopt_open(world.house)
    assert named(world) == [first]
    monkeypatch.undo()
    assert adopt_open(world.house) == 1


def test_end_begun_for_another_machine_is_forgotten_with_the_database(assigned: World) -> None:
    """The machine that opened it is dead, the cloud fails, and then the database goes as well."""
    world = assigned
    grant = opened_by(world, ALL)
    world.worker._look_at_journal()
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="revoke", count=2))
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    assert (world.grant(grant).state, gives(world)) == (GrantState.CLOSING, True)
    without_database(world, 3)
    assert not gives(world)


def test_lines_of_an_end_begun_here_and_proven_elsewhere_stay_for_ever(assigned: World) -> None:
    """The journal hears that it is over: nothing waits in it, and its lines can go."""
    world = assigned
    grant = opened_by(world, ALL)
    world.worker._look_at_journal()
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="revoke", count=1))
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    with elsewhere(world):
        settle(world, 10)
    assert world.grant(grant).state is GrantState.GONE
    world.worker._look_at_journal()
    assert named(world) == []
    world.clock.forward(days=2)
    world.house.journal.compact(world.clock())
    assert grant.id not in {line.grant for line in world.house.journal.read()}


def test_end_begun_for_another_machine_takes_what_a_third_holds(assigned: World) -> None:
    """Without the database the journal must know that somebody else has the same access on."""
    world = assigned
    first = opened_by(world, ALL)
    with elsewhere(world):
        second = world.granted(duration=timedelta(minutes=50))
    world.worker._look_at_journal()
    close_now(world.house, end_early(world.house, world.who("ana"), first.id))
    opening = next(line for line in world.house.journal.read() if line.grant == first.id)
    until = world.grant(second).ends_at
    assert until is not None and opening.shared_until == until and HELD_UNTIL in opening.data


def test_full_journal_keeps_an_end_from_being_written_down(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no opening, and what another machine opened is to be closed: both are written."""
    world = assigned
    grant = opened_by(world, ALL)
    world.work()
    world.house.journal.append(
        JournalLine(kind="closing", grant="gr_other", at=world.clock(), data={})
    )
    world.worker._look_at_journal()
    monkeypatch.setattr(journal, "LARGEST_JOURNAL", 10)
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    kinds = [line.kind for line in world.house.journal.read() if line.grant == grant.id]
    assert kinds[:2] == ["intended", "closing"]
    assert not gives(world)


def test_full_journal_ends_what_another_machine_prolonged(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears of the new end all the same."""
    world = assigned
    grant = world.granted()
    with elsewhere(world):
        extended(world, grant, minutes=30)
    monkeypatch.setattr(journal, "LARGEST_JOURNAL", 10)
    settle(world, 45)
    assert world.grant(grant).state is GrantState.OPEN
    assert gives(world)


def test_adopted_end_takes_what_others_hold(assigned: World) -> None:
    """It was closing when it was taken up, and whoever else holds the access has an odd row."""
    world = assigned
    first = opened_by(world, OPENER)
    with elsewhere(world):
        second = world.granted(duration=timedelta(minutes=50))
        end_early(world.house, world.who("ana"), first.id)
    misshape(world, second.id, "claim_by_ms", "grants")
    adopt_open(world.house)
    told = [line for line in world.house.journal.read() if line.grant == first.id]
    assert [line.kind for line in told] == ["intended", "closing"]
    assert told[0].shared_until is not None


def test_journal_of_a_closer_takes_nothing_and_nobody_hears_of_it(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beat says so while that lasts: what opens meanwhile nobody would close without rows."""
    world = assigned
    opened_by(world, OPENER)

    def keeps() -> bool:
        world.clock.forward(seconds=11)
        world.worker.tick()
        (seen,) = [one for one in workers(world.house.store.beats()) if one.id == "worker"]
        return seen.keeps

    with monkeypatch.context() as patch:
        patch.setattr(world.house.journal, "append_all", no_room)
        keeps()
        assert not keeps()  # a beat comes before the chore
    keeps()
    assert keeps()


def test_adopted_opening_is_later_than_its_own_end(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reply was lost, and it may end while rows are worked through: it is as old as they."""
    world = assigned
    grant = lost(world)
    read_at = world.clock()

    def slowly(*asked: Any) -> Hold:
        world.clock.forward(seconds=1)
        return hold_of(*asked)

    monkeypatch.setattr(adopting, "hold_of", slowly)
    assert adopt_open(world.house) == 1
    (opening,) = [line for line in world.house.journal.read() if line.grant == grant.id]
    assert opening.at == read_at


def test_full_disk_is_forgotten_once_nothing_is_left_to_adopt(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What opens next would be in no journal: the disk is tried though nothing is to be written."""
    world = assigned

    def keeps() -> bool:
        for _ in range(2):  # a beat comes before the chore
            world.clock.forward(seconds=11)
            world.worker.tick()
        (seen,) = [one for one in workers(world.house.store.beats()) if one.id == "worker"]
        return seen.keeps

    def silent(*asked: object) -> None:
        raise WorldFailed("store_down", "the database does not answer", "wait")

    assert keeps()
    with monkeypatch.context() as patch:
        patch.setattr(world.house.store, "unremoved_after", silent)
        world.house.opened_apart = True
        assert keeps()  # that is no fault of the disk's
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        assert not keeps()
        world.restart()
        world.worker._beat()  # its first, before any look
        (seen,) = [one for one in workers(world.house.store.beats()) if one.id == "worker"]
        assert not seen.keeps
    assert keeps()


def test_journal_that_is_too_long_to_be_read_takes_more(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what can be read is for what others open, and the rest for ends."""
    world = assigned
    grant = opened_by(world, OPENER)
    world.house.journal.append(
        JournalLine(kind="closing", grant="gr_other", at=world.clock(), data={})
    )
    monkeypatch.setattr(journal, "LARGEST_ADOPTED", 10)
    with pytest.raises(OSError, match="at most 10"):
        adopt_open(world.house)
    with pytest.raises(OSError, match="too long"):
        world.house.journal.check_room()
    assert adopt(world.house, grant, reading_at(world.house))
    assert grant.id in named(world)


def test_full_disk_keeps_what_no_row_tells_of_open(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older database is restored, and no line can be written: the look is made to its end."""
    world = assigned
    kept = backup(world)
    world.granted()
    put_back(world, kept)
    monkeypatch.setattr(worker, "settle_journal", no_room)
    monkeypatch.setattr(worker, "seal_journal", no_room)
    settle(world, 31)
    assert not gives(world)
