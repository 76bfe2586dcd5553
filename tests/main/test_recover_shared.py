"""recover by a copy of the log: access that others held, or that stood, at an end."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.flow.assigned import KEY, assign, elsewhere, settle
from tests.flow.test_recalling import OWN, ground, lines
from tests.support import World
from tidegate.base.when import wire
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.journal_line import JournalLine
from tidegate.expire import EndReason
from tidegate.flow.ending import begin
from tidegate.flow.gathering import Gathered, gather
from tidegate.flow.recalling import Fate, Recalled, recall
from tidegate.grant import Grant, GrantState
from tidegate.main.copies import Copy, owed_with
from tidegate.store.sealed import sealed_state


@pytest.fixture
def assigned(world: World) -> World:
    """`prod/admin` is an assignment there."""
    return assign(world)


def by_copy(world: World) -> dict[str, Recalled]:
    """Every journal is lost: what is closed is known by the log alone."""
    world.house.journal = ClosingJournal(world.directory / "new.journal")
    nothing = gather({}, "", world.clock())
    copy = Copy(where="a copy", state=sealed_state(world.url))
    gathered, lost = owed_with(nothing, copy, world.clock())
    assert not lost
    back = recall(ground(world), gathered, timedelta(minutes=5))
    return {one.owed.hold.grant: one for one in back}


def held_on(world: World) -> tuple[Grant, Grant]:
    """The first was read back as held by the second, whose end comes ten minutes later."""
    first = world.granted()
    world.clock.forward(minutes=10)
    world.work()
    second = world.granted()
    settle(world, 22)
    assert world.grant(first).state is GrantState.REMOVED
    return first, second


def test_recover_calls_access_somebody_elses_whose_holders_have_ended(assigned: World) -> None:
    """The second had just begun to end when the copy was made: the first is owed as well."""
    world = assigned
    first, second = held_on(world)
    begin(world.house, world.grant(second), EndReason.DONE, second.principal, world.clock())
    back = by_copy(world)
    assert {name: one.fate for name, one in back.items()} == {
        first.id: Fate.REMOVED,
        second.id: Fate.REMOVED,
    }
    assert not world.cloud.assigned(KEY, world.clock())


def test_recover_takes_what_another_grant_of_the_copy_holds_on(assigned: World) -> None:
    """The second goes on: the first is held until then, and taken after it."""
    world = assigned
    first, second = held_on(world)
    assert {name: one.fate for name, one in by_copy(world).items()} == {
        first.id: Fate.HELD,
        second.id: Fate.LATER,
    }
    assert world.cloud.assigned(KEY, world.clock())
    world.clock.forward(minutes=10)
    assert {one.fate for one in by_copy(world).values()} == {Fate.REMOVED}


def test_recover_takes_what_stood_before(assigned: World) -> None:
    """Ended, and its holder had the access before any of ours: that is not ours to take."""
    world = assigned
    world.cloud.place(KEY, world.clock(), by="sync")
    world.clock.forward(minutes=5)
    grant = world.granted()
    settle(world, 32)
    assert world.grant(grant).still_held_by == "standing access"
    assert by_copy(world)[grant.id].fate is Fate.HELD
    assert world.cloud.assigned(KEY, world.clock())


def begun_alone(world: World, *kinds: str) -> tuple[Grant, Gathered]:
    """What our journal says of a grant that another machine opened: these lines and no opening."""
    grant = world.granted()
    house = world.house
    house.journal = ClosingJournal(world.directory / "new.journal")
    for kind in kinds:
        house.journal.append(JournalLine(kind=kind, grant=grant.id, at=world.clock(), data={}))
    return grant, gather({"own": house.journal.read()}, "own", world.clock())


def test_recover_drops_an_end_whose_opening_no_journal_names(assigned: World) -> None:
    """It was begun here, is not done, and is not due by its end: the copy says how to go on."""
    world = assigned
    grant, gathered = begun_alone(world, "closing")
    copy = Copy(where="a copy", state=sealed_state(world.url))
    both, lost = owed_with(gathered, copy, world.clock())
    assert (gathered.unusable, both.unusable, lost) == ((grant.id,), (), [])
    (back,) = recall(ground(world), both, timedelta(minutes=5))
    assert (back.owed.hold.grant, back.fate) == (grant.id, Fate.REMOVED)
    assert not world.cloud.assigned(KEY, world.clock())


def test_recover_doubts_what_its_journal_says_is_over(assigned: World) -> None:
    """Read back as removed since, it is nobody's to close once more, whatever an old copy says."""
    world = assigned
    _, gathered = begun_alone(world, "closing", "removed")
    copy = Copy(where="a copy", state=sealed_state(world.url))
    both, lost = owed_with(gathered, copy, world.clock())
    assert (both.owed, both.unusable, lost) == ((), (), [])


def test_recover_never_comes_to_an_end_for_what_is_long_gone(assigned: World) -> None:
    """Begun here, and proven by another machine: the copy says so, and nothing is left to do."""
    world = assigned
    grant = world.granted()
    ours = world.house.journal
    begun = {"reason": "done", "row": world.grant(grant).version}
    settle(world, 40)
    assert world.grant(grant).state is GrantState.GONE
    line = JournalLine(kind="closing", grant=grant.id, at=world.clock(), data=begun)
    gathered = gather({"own": [line]}, "own", world.clock())
    copy = Copy(where="a copy", state=sealed_state(world.url))
    both, lost = owed_with(gathered, copy, world.clock())
    assert (gathered.unusable, both.unusable, both.owed, lost) == ((grant.id,), (), (), [])
    again = gather({"own": [line], "theirs": ours.read()[1:]}, "own", world.clock())
    assert again.unusable == ()


def test_recover_takes_what_was_opened_after_an_end_that_the_copy_saw(assigned: World) -> None:
    """Begun here and read back by another, its sessions uncut; somebody else has the access now."""
    world = assigned
    first = world.granted()
    version = world.grant(first).version
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=1_000))
    settle(world, 31)
    assert world.grant(first).state is GrantState.REMOVED
    copy = Copy(where="a copy", state=sealed_state(world.url))
    world.granted()
    begun = {"reason": "expired", "row": version}
    line = JournalLine(kind="closing", grant=first.id, at=world.clock(), data=begun)
    both, _ = owed_with(gather({"own": [line]}, "own", world.clock()), copy, world.clock())
    recall(ground(world), both, timedelta(minutes=1))
    assert world.cloud.assigned(KEY, world.clock())


def test_recover_goes_by_the_journal_named_last(assigned: World) -> None:
    """Two machines began its end, one of them after the copy was made: that one is owed."""
    world = assigned
    first = world.granted()
    version = world.grant(first).version
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=1_000))
    settle(world, 31)
    copy = Copy(where="a copy", state=sealed_state(world.url))
    world.cloud.place(KEY, world.clock(), by="sync")
    lines = {
        name: [JournalLine(kind="closing", grant=first.id, at=world.clock(), data={"row": row})]
        for name, row in (("own", world.grant(first).version), ("other", version))
    }
    both, _ = owed_with(gather(lines, "own", world.clock()), copy, world.clock())
    (back,) = recall(ground(world), both, timedelta(minutes=1))
    assert back.fate is Fate.REMOVED
    assert not world.cloud.assigned(KEY, world.clock())


def test_recover_takes_what_was_opened_after_an_end_that_the_copy_proved(assigned: World) -> None:
    """The machine that opened the first never heard of its end: the second's access stays."""
    world = assigned
    first = world.granted()
    lines = world.house.journal.read()
    settle(world, 40)
    assert world.grant(first).state is GrantState.GONE
    copy = Copy(where="a copy", state=sealed_state(world.url))
    world.granted()
    world.house.journal = ClosingJournal(world.directory / "new.journal")
    both, _ = owed_with(gather({"other": lines}, "own", world.clock()), copy, world.clock())
    (back,) = recall(ground(world), both, timedelta(minutes=1))
    assert back.fate is Fate.BEFORE
    assert world.cloud.assigned(KEY, world.clock())


def test_recover_leaves_what_came_back_after_the_copy_proved_its_end(assigned: World) -> None:
    """A journal says that it was begun anew, by a later row: the copy is old, and it is closed."""
    world = assigned
    first = world.granted()
    lines = list(world.house.journal.read())
    settle(world, 40)
    gone = world.grant(first)
    copy = Copy(where="a copy", state=sealed_state(world.url))
    world.cloud.place(KEY, world.clock(), by="sync")
    begun = {"reason": "leftover", "row": gone.version}
    lines.append(JournalLine(kind="closing", grant=first.id, at=world.clock(), data=begun))
    both, _ = owed_with(gather({"own": lines}, "own", world.clock()), copy, world.clock())
    (back,) = recall(ground(world), both, timedelta(minutes=1))
    assert back.fate is Fate.REMOVED
    assert not world.cloud.assigned(KEY, world.clock())


def test_run_that_reached_no_cloud_has_an_end_pass_for_begun_after_its_proof(
    assigned: World,
) -> None:
    """Another machine's journal ends where it began the end; the copy, which proved it, is found
    later. Our journal has that line as it is: what others were given since stays.
    """
    world = assigned
    first = world.granted()
    ours = world.house.journal
    line = JournalLine(
        kind="closing", grant=first.id, at=world.clock(), data={"row": world.grant(first).version}
    )
    with elsewhere(world):
        settle(world, 40)
    assert world.grant(first).state is GrantState.GONE
    on = replace(ground(world), journal=ours, shut={"prod": "no keys"})
    found = gather({OWN: ours.read(), "other": [line]}, OWN, world.clock())
    assert [one.fate for one in recall(on, found, timedelta(minutes=1))] == [Fate.CLOSING]
    world.cloud.place(KEY, world.clock(), by="sync")
    copy = Copy(where="a copy", state=sealed_state(world.url))
    found, _ = owed_with(gather({OWN: ours.read()}, OWN, world.clock()), copy, world.clock())
    (back,) = recall(ground(world), found, timedelta(minutes=1))
    assert back.fate is Fate.BEFORE
    assert world.cloud.assigned(KEY, world.clock())


def unsealed(world: World, minutes: int) -> tuple[str, JournalLine, Copy]:
    """A grant that is due, its sealed access outliving it; a line that has `gr_9` hold the same for
    an hour to come, dated so long before the head of a copy that has no such grant; and that copy.
    """
    grant = world.granted()
    (opened,) = world.house.journal.read()
    world.clock.forward(minutes=31)
    world.cloud.place(KEY, world.clock(), by="sync")
    state = sealed_state(world.url)
    until = wire(world.clock() + timedelta(hours=1))
    at = state.head.at - timedelta(minutes=minutes)
    line = replace(opened, grant="gr_9", at=at, data={**opened.data, "ends_at": until})
    return grant.id, line, Copy(where="a copy", state=state)


def by_theirs(world: World, line: JournalLine, copy: Copy) -> dict[str, Fate]:
    """What becomes of each grant by our journal, the copy, and another's that has this line."""
    found = gather({OWN: lines(world), "other": [line]}, OWN, world.clock())
    found, _ = owed_with(found, copy, world.clock())
    back = recall(ground(world), found, timedelta(minutes=5))
    return {one.owed.hold.grant: one.fate for one in back}


def test_opening_that_was_never_sealed_holds_what_is_due(assigned: World) -> None:
    """An intent is sealed before its line is written, and a copy of much later has none: what is
    due is closed. So is the other at its own end.
    """
    world = assigned
    name, line, copy = unsealed(world, 61)
    assert by_theirs(world, line, copy) == {name: Fate.REMOVED, "gr_9": Fate.LATER}
    assert not world.cloud.assigned(KEY, world.clock())
    world.clock.forward(hours=1)
    world.cloud.place(KEY, world.clock(), by="sync")
    assert by_theirs(world, line, copy)["gr_9"] is Fate.REMOVED
    assert not world.cloud.assigned(KEY, world.clock())


@pytest.mark.parametrize(("minutes", "ours"), [(59, False), (-10, False), (61, True)])
def test_what_a_grant_opened_since_a_copy_holds_is_taken(
    assigned: World, minutes: int, ours: bool
) -> None:
    """As far as clocks can tell it may have been sealed after the copy; and of what our own journal
    has the log may have been put back from before.
    """
    world = assigned
    name, line, copy = unsealed(world, minutes)
    if ours:
        world.house.journal.append(line)
    assert by_theirs(world, line, copy) == {name: Fate.HELD, "gr_9": Fate.LATER}
    assert world.cloud.assigned(KEY, world.clock())
