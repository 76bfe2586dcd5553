"""recover typed again, or by fewer journals: what others hold stays theirs until their end."""

from dataclasses import replace
from datetime import timedelta
from itertools import cycle

import pytest

from tests.flow.assigned import KEY, settle
from tests.flow.test_recalling import OWN, ground, lines, told
from tests.support import World
from tidegate.base.errors import Unreachable
from tidegate.base.when import Instant, wire
from tidegate.connectors.port import Answer, Hold, Receipt
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.journal_line import JournalLine, removed_line
from tidegate.flow import recalling
from tidegate.flow.gathering import begin_all, gather
from tidegate.flow.recalling import Fate, Ground, Recalled, recall
from tidegate.flow.recovering import close_without_store
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant
from tidegate.panic import Scope, ScopeKind


def gives(world: World) -> bool:
    """Whether the cloud has the assignment."""
    return world.cloud.assigned(KEY, world.clock())


def run(world: World, *others: list[JournalLine], minutes: float = 5) -> dict[str, Recalled]:
    """Everything that our journal and these owe."""
    journals = {OWN: lines(world)} | {f"/{number}": one for number, one in enumerate(others)}
    found = gather(journals, OWN, world.clock())
    back = recall(ground(world), found, timedelta(minutes=minutes))
    return {one.owed.hold.grant: one for one in back}


def passing(world: World) -> Ground:
    """Time passes also while nothing rests: what goes round without end comes to one."""

    def later() -> Instant:
        world.clock.forward(seconds=1)
        return world.clock()

    return replace(ground(world), clock=later)


def theirs(world: World) -> tuple[Grant, Grant, list[JournalLine]]:
    """One that is due and one that is not, of one assignment, in the journal of another machine."""
    first = world.granted()
    world.clock.forward(minutes=10)
    world.work()
    second = world.granted()
    journal = lines(world)
    (world.directory / "closing.journal").unlink()
    world.clock.forward(minutes=21)
    return first, second, journal


def test_typed_again_without_the_other_journal_takes_what_its_grant_holds(assigned: World) -> None:
    """The second run, or a server without its database, has our journal alone."""
    world = assigned
    first, second, journal = theirs(world)
    back = run(world, journal)
    assert (back[first.id].fate, back[second.id].fate) == (Fate.HELD, Fate.LATER)
    back = run(world)
    assert (back[first.id].fate, back[first.id].owed.shared) == (Fate.HELD, True)
    close_without_store(world.house)
    assert gives(world)
    world.clock.forward(minutes=10)  # the forty-first: nobody here knows the second but by its end
    world.cloud.place(KEY, world.clock(), by="sync")
    assert run(world)[first.id].fate is Fate.REMOVED
    assert not gives(world)


@pytest.mark.parametrize("ours", [True, False])
def test_first_run_that_reached_no_cloud_has_the_next_take_it(assigned: World, ours: bool) -> None:
    """What our journal is told of an end says until when somebody else gives the same."""
    world = assigned
    first, _, journal = theirs(world)
    if ours:
        world.house.journal.append_all(one for one in journal if one.grant == first.id)
    until = world.clock() + timedelta(minutes=2)
    for verb in ("observe", "revoke"):
        fault = Fault(kind=FaultKind.DOWN, verb=verb, count=1_000, until=until)
        world.connector.script(fault)
    assert run(world, journal, minutes=1)[first.id].fate is Fate.CLOSING
    world.connector.calm()
    world.clock.forward(minutes=1)
    assert run(world)[first.id].fate is Fate.HELD
    close_without_store(world.house)
    assert gives(world)


def away(world: World, verb: str, minutes: int) -> None:
    """The cloud does not answer it for that long."""
    until = world.clock() + timedelta(minutes=minutes)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb=verb, count=1_000, until=until))


@pytest.mark.parametrize("was_removed", [False, True])
def test_end_begun_on_another_machine_is_forgotten_without_its_journal(
    assigned: World, was_removed: bool
) -> None:
    """Opened here and revoked there, or removed here and begun there once more; no cloud answers.
    The next run has our journal alone: it is no success, and closed as soon as that can be.
    """
    world = assigned
    grant = world.granted()
    if was_removed:
        end_early(world.house, world.who("op"), grant.id)
        settle(world, 1)
        kept = [line for line in lines(world) if line.kind not in ("gone", "sealed")]
        world.house.journal = ClosingJournal(world.directory / "new.journal")
        world.house.journal.append_all(kept)
        world.clock.forward(minutes=61)
        world.cloud.place(KEY, world.clock(), by="sync")
    begun = told(world, grant.id, "closing", 0, reason="revoked", actor="system", row=9)
    away(world, "revoke", 3)
    world.clock.forward(minutes=1)
    assert run(world, [begun], minutes=1)[grant.id].fate is Fate.CLOSING
    assert lines(world)[-1] == begun
    assert run(world, minutes=0.5)[grant.id].fate is Fate.CLOSING
    world.clock.forward(minutes=2)
    assert run(world)[grant.id].fate is Fate.REMOVED
    assert not gives(world)
    assert run(world)[grant.id].fate is Fate.BEFORE


def test_sessions_left_by_another_machine_are_forgotten_without_its_journal(
    assigned: World,
) -> None:
    """It was removed there and its sessions not cut, which cannot be done here either: the next run
    has our journal alone, and owes the cut.
    """
    world = assigned
    grant = world.granted()
    theirs = [
        told(world, grant.id, "closing", 0),
        removed_line(grant.id, world.clock(), uncut=True),
    ]
    away(world, "cut", 10)
    world.cloud.unassign(KEY, world.clock())
    assert run(world, theirs, minutes=1)[grant.id].uncut
    assert run(world, minutes=1)[grant.id].uncut
    world.clock.forward(minutes=10)
    back = run(world)[grant.id]
    assert (back.fate, back.uncut) == (Fate.REMOVED, False)


def test_old_end_in_a_second_journal_hides_the_later_one(world: World) -> None:
    """A journal that never heard of the extension, its lines of a later clock: the later end is it.

    So is what one journal can say when the last line of another says too little.
    """
    grant = world.granted()
    keys = world.keys(grant)
    (opened,) = lines(world)
    later = {**opened.data, "ends_at": "2026-11-23T14:00:00.000Z"}
    world.house.journal.append(replace(opened, data=later))
    stale = replace(opened, at=opened.at + timedelta(seconds=2))
    broken = replace(opened, at=opened.at + timedelta(seconds=3), data={"role": "x"})
    world.clock.forward(minutes=40)
    found = gather({OWN: lines(world), "other": [stale, broken]}, OWN, world.clock())
    assert found.unusable == ()
    assert run(world, [stale, broken])[grant.id].fate is Fate.LATER
    assert world.use(keys) is Answer.DENIED  # bound to the end they were issued under
    world.clock.forward(hours=5)
    assert run(world, [stale, broken])[grant.id].fate is Fate.REMOVED


@pytest.mark.parametrize("gone", [True, False])
def test_later_end_by_a_fast_clock_undoes_an_end_that_ours_read_back(
    assigned: World, gone: bool
) -> None:
    """Another machine writes a later end seconds before ours ends the grant, by a clock that is
    two minutes ahead. The end stands, and holds no other grant's open that is due.
    """
    world = assigned
    first = world.granted()
    world.clock.forward(minutes=1)
    (opened,) = lines(world)
    later = {**opened.data, "ends_at": wire(world.clock() + timedelta(hours=4))}
    other = replace(opened, at=world.clock() + timedelta(minutes=2), data=later)
    end_early(world.house, world.who("op"), first.id)
    settle(world, 1)
    if not gone:
        kept = [line for line in lines(world) if line.kind not in ("gone", "sealed")]
        world.house.journal = ClosingJournal(world.directory / "new.journal")
        world.house.journal.append_all(kept)
    second = world.granted()
    world.clock.forward(minutes=31)
    world.cloud.place(KEY, world.clock(), by="sync")
    back = run(world, [other])
    assert {name: one.fate for name, one in back.items()} == {
        first.id: Fate.REMOVED,
        second.id: Fate.REMOVED,
    }
    assert not gives(world)


def test_opening_that_our_journal_cannot_use_is_not_written_anew(world: World) -> None:
    """Our own line is damaged and another's is not: a server that starts has ours alone."""
    grant = world.granted()
    (opened,) = lines(world)
    world.house.journal.append(replace(opened, data={"role": "x"}))
    world.clock.forward(minutes=31)
    assert run(world, [opened])[grant.id].fate is Fate.REMOVED
    assert run(world)[grant.id].fate is Fate.BEFORE


@pytest.mark.parametrize("patience", [10, 0.9])
def test_end_that_comes_while_others_are_tried_is_called_not_due(
    world: World, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """One cloud does not answer, and a grant comes to its end meanwhile: it is closed as well, and
    where time ran out it is at least not called `not due`.
    """
    early, late = world.granted(), world.granted("eve")
    world.house.journal.append(told(world, early.id, "closing", 0))
    real = world.connector.revoke

    def silent(hold: Hold, now: object) -> Receipt:
        if hold.grant == early.id:
            raise Unreachable("cloud_down", "the cloud was not reached", "wait")
        return real(hold, now)  # type: ignore[arg-type]

    monkeypatch.setattr(world.connector, "revoke", silent)
    world.clock.forward(minutes=29, seconds=30)
    back = run(world, minutes=patience)
    assert back[early.id].fate is Fate.CLOSING
    assert back[late.id].fate in (Fate.REMOVED, Fate.DUE)


@pytest.mark.parametrize("panic", [False, True])
def test_group_that_gives_what_others_held_has_it_tried_without_end(
    assigned: World, panic: bool
) -> None:
    """Whoever held it has ended, or a panic ends it, and a group gives it all the same: it is
    looked at once, and called what it is.
    """
    world = assigned
    grant = world.granted()
    world.clock.forward(minutes=31)
    until = world.clock() + timedelta(minutes=10)
    line = removed_line(grant.id, world.clock(), held=True, held_until=until, alone=True)
    world.house.journal.append(line)
    world.cloud.give_by_group(KEY, "admins")
    world.clock.forward(minutes=1 if panic else 11)
    found = gather({OWN: lines(world)}, OWN, world.clock())
    if panic:
        found = begin_all(found, Scope(ScopeKind.ALL), "system", world.clock())

    (back,) = recall(passing(world), found, timedelta(minutes=2))
    assert (back.fate, back.why) == (
        Fate.HELD,
        "standing access by group admins, which is not ours to take",
    )
    assert [line.kind for line in lines(world)].count("closing") == 1


def test_end_of_other_grants_is_brought_about_by_a_panic(assigned: World) -> None:
    """What a panic does not cover is due by an old journal: it is not touched, and what it holds
    is held also against the panic. Once it ends it holds nothing.
    """
    world = assigned
    first, second, journal = theirs(world)
    world.house.journal.append_all(journal)
    patience = timedelta(minutes=1)

    def only(grant: Grant) -> dict[str, Fate]:
        found = gather({OWN: lines(world)}, OWN, world.clock())
        back = recall(ground(world), found, patience, only={grant.id})
        return {one.owed.hold.grant: one.fate for one in back}

    assert only(second) == {first.id: Fate.DUE, second.id: Fate.LATER}
    assert lines(world) == journal and gives(world)
    assert only(first) == {first.id: Fate.HELD, second.id: Fate.LATER}
    assert gives(world)
    world.clock.forward(minutes=10)
    assert only(first) == {first.id: Fate.REMOVED, second.id: Fate.DUE}
    assert not gives(world)


def test_end_that_is_called_due_again_has_no_rest_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever mistake calls it so: no cloud is asked in a loop."""
    grant = world.granted()
    world.clock.forward(minutes=31)
    called = cycle(([grant.id], []))  # after each round, and again after its rest
    monkeypatch.setattr(recalling, "_come_due", lambda *_: next(called))
    on, rests = passing(world), list[float]()
    found = gather({OWN: lines(world)}, OWN, world.clock())
    recall(replace(on, rest=rests.append), found, timedelta(minutes=1))
    rounds = [line.kind for line in lines(world)].count("removed")
    assert len(rests) >= rounds - 1 > 0 and min(rests) > 0
