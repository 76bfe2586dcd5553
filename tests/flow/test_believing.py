"""recover by several journals: a line that cannot be so stops no end, and hides none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.flow.assigned import KEY
from tests.flow.test_recalling import OWN, end_early_in_journal, ground, lines, told
from tests.flow.test_recalling_again import gives, run
from tests.support import World
from tidegate.base.when import wire
from tidegate.connectors.port import Answer
from tidegate.evidence.journal_line import JournalLine, removed_line
from tidegate.flow.gathering import begin_all, gather
from tidegate.flow.holding import hold_of_line
from tidegate.flow.recalling import Fate, recall
from tidegate.panic import Scope, ScopeKind

FAR = "9999-01-01T00:00:00.000Z"
LAST = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)
A_YEAR = 366 * 24 * 60  # minutes


def overdue(world: World) -> tuple[str, JournalLine]:
    """A grant whose end has come, and its opening; the access outlived the cloud's own deadline."""
    grant = world.granted()
    (opened,) = lines(world)
    world.clock.forward(minutes=31)
    world.cloud.place(KEY, world.clock(), by="sync")
    return grant.id, opened


def saying(line: JournalLine, **data: object) -> JournalLine:
    """The same line, which says this besides."""
    return replace(line, data={**line.data, **data})


def a_second_later(line: JournalLine) -> str:
    """The end of that opening, and a second."""
    end = datetime.fromisoformat(str(line.data["ends_at"]))
    return wire(end.astimezone(UTC) + timedelta(seconds=1))


@pytest.mark.parametrize("wrong", [{"native_principal": "nobody"}, {"stood_before": True}])
def test_line_of_another_journal_points_an_end_at_other_access(
    assigned: World, wrong: dict[str, object]
) -> None:
    """It has the latest end, and names another holder, or calls the access none of ours: what is
    closed is what our own journal says.
    """
    world = assigned
    name, opened = overdue(world)
    other = saying(opened, ends_at=a_second_later(opened), **wrong)
    assert run(world, [other])[name].fate is Fate.REMOVED
    assert not gives(world)


# All by which a connector closes: the key, and beside it what is of the role and the target.
ELSEWHERE = (
    {"native_principal": "nobody"},
    {"kind": "iam-role"},
    {"native": {"arn": "arn:aws:iam::123456789012:role/other"}},
    {"target": "other"},
)


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_other_journals_that_name_two_accesses_end_one_of_them(
    assigned: World, elsewhere: dict[str, object]
) -> None:
    """Ours does not know it: it is told that nobody can say which to close, nor by what role."""
    world = assigned
    name, opened = overdue(world)
    wrong = saying(opened, ends_at=a_second_later(opened), **elsewhere)
    found = gather({OWN: [], "a": [opened], "b": [wrong]}, OWN, world.clock())
    assert (found.owed, found.unusable) == ((), (name,))


@pytest.mark.parametrize("kind", ["gone", "removed"])
@pytest.mark.parametrize("begun", [True, False])
def test_read_back_of_a_time_to_come_hides_an_end(world: World, kind: str, begun: bool) -> None:
    """A year ahead, no clock is off by that: what our journal owes is closed."""
    grant = world.granted()
    keys = world.keys(grant)
    if begun:
        end_early_in_journal(world, grant.id)
    else:
        world.clock.forward(minutes=31)
    assert run(world, [told(world, grant.id, kind, A_YEAR)])[grant.id].fate is Fate.REMOVED
    assert world.use(keys) is Answer.DENIED


def test_read_back_of_this_hour_to_come_hides_an_end_begun_long_before(assigned: World) -> None:
    """Some clock is off: whether it was read back after all is not known, so it is closed."""
    world = assigned
    grant = world.granted()
    end_early_in_journal(world, grant.id)
    world.clock.forward(hours=2)
    world.cloud.place(KEY, world.clock(), by="sync")
    assert run(world, [told(world, grant.id, "removed", 30)])[grant.id].fate is Fate.REMOVED
    assert not gives(world)


def test_opening_nobody_names_is_over_by_a_line_of_a_time_to_come(world: World) -> None:
    """It is told that the journals say too little of it."""
    other = [told(world, "gr_other", "gone", A_YEAR)]
    assert gather({OWN: [], "b": other}, OWN, world.clock()).unusable == ("gr_other",)


@pytest.mark.parametrize("seconds", [10**14, -1, True, "60"])
def test_one_number_of_another_journal_keeps_everything_open(world: World, seconds: object) -> None:
    """No session lives for as long as that: its grant is named, and ours is closed."""
    grant = world.granted()
    (opened,) = lines(world)
    world.clock.forward(minutes=31)
    other = [replace(saying(opened, lingers_seconds=seconds), grant="gr_other")]
    found = gather({OWN: lines(world), "b": other}, OWN, world.clock())
    assert found.unusable == ("gr_other",)
    assert run(world, other)[grant.id].fate is Fate.REMOVED


def test_sessions_uncut_at_the_end_of_time_keep_everything_open(world: World) -> None:
    """No instant is a session's life after that: its grant is closed like any other."""
    grant = world.granted()
    (opened,) = lines(world)
    world.clock.forward(minutes=31)
    other = replace(saying(opened, lingers_seconds=3600), grant="gr_other")
    removed = removed_line("gr_other", LAST, uncut=True)
    back = run(world, [other, removed])
    assert {name: one.fate for name, one in back.items()} == {
        grant.id: Fate.REMOVED,
        "gr_other": Fate.REMOVED,
    }


@pytest.mark.parametrize(
    ("data", "years"),
    [
        ({"ends_at": FAR}, 0),
        ({"ends_at": FAR}, 7_000),
        ({"held_until": FAR}, 0),
    ],
)
def test_end_that_no_grant_can_have_is_waited_for(
    assigned: World, data: dict[str, object], years: int
) -> None:
    """Another journal says so of a grant that is overdue by ours, whenever it says it was opened;
    or that somebody else holds it until then.
    """
    world = assigned
    name, opened = overdue(world)
    if "held_until" in data:
        data = {**data, "ends_at": a_second_later(opened)}
    other = replace(saying(opened, **data), at=opened.at + timedelta(days=365 * years))
    assert run(world, [other])[name].fate is Fate.REMOVED
    assert not gives(world)


def test_access_is_left_to_others_until_no_grant_can_last(assigned: World) -> None:
    """Read back by another machine as held until then: that is no read-back."""
    world = assigned
    name, _ = overdue(world)
    other = removed_line(name, world.clock(), held=True, held_until=LAST)
    assert run(world, [other])[name].fate is Fate.REMOVED
    assert not gives(world)


def test_line_that_says_oddly_how_long_sessions_live_hides_ours(world: World) -> None:
    """Another journal has a later end in it: nothing of that line is believed."""
    grant = world.granted()
    (opened,) = lines(world)
    world.clock.forward(minutes=31)
    until = wire(world.clock() + timedelta(hours=1))
    odd = saying(opened, ends_at=until, lingers_seconds=10**14)
    assert run(world, [odd])[grant.id].fate is Fate.REMOVED


def test_holder_that_no_source_names_is_called_another_grant_like_any(assigned: World) -> None:
    """It is known by its end alone, of one line: whoever reads the answer is told so."""
    world = assigned
    name, opened = overdue(world)
    until = wire(world.clock() + timedelta(minutes=10))
    other = [saying(opened, held_until=until)]
    why = f"another grant, which no journal or copy here names, holds the same access until {until}"
    back = run(world, other)[name]
    assert (back.fate, back.why) == (Fate.HELD, why)


@pytest.mark.parametrize("begun", [True, False])
def test_end_that_cannot_be_keeps_open_what_needs_no_end(assigned: World, begun: bool) -> None:
    """No other line tells when: it is closed where its end was begun, and by a panic; else it is
    told that nobody can say.
    """
    world = assigned
    name, opened = overdue(world)
    (world.directory / "closing.journal").unlink()
    world.house.journal.append(saying(opened, ends_at=FAR))
    found = gather({OWN: lines(world)}, OWN, world.clock())
    assert (found.owed, found.unusable) == ((), (name,))
    if begun:
        end_early_in_journal(world, name)
        found = gather({OWN: lines(world)}, OWN, world.clock())
    else:
        found = begin_all(found, Scope(ScopeKind.ALL), "system", world.clock())
    (back,) = recall(ground(world), found, timedelta(minutes=1))
    assert (back.fate, found.unusable, gives(world)) == (Fate.REMOVED, (), False)


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_line_of_another_journal_names_what_a_doubtful_one_of_ours_does(
    assigned: World, elsewhere: dict[str, object]
) -> None:
    """Ours says what to close and no end that can be, another's a good end of another access: what
    to close is our own journal's word.
    """
    world = assigned
    name, opened = overdue(world)
    (world.directory / "closing.journal").unlink()
    world.house.journal.append(saying(opened, ends_at=FAR))
    other = saying(opened, **elsewhere)
    found = gather({OWN: lines(world), "b": [other]}, OWN, world.clock())
    assert (found.owed, found.unusable) == ((), (name,))
    assert [one.hold for one in found.undated] == [hold_of_line(lines(world)[0])]


def in_lists(depth: int) -> list[object]:
    """Nothing, in as many lists."""
    return [in_lists(depth - 1)] if depth else []


@pytest.mark.parametrize("native", [[[1, "arn"]], {"arn": in_lists(500)}])
def test_native_ids_that_nothing_can_be_called_by_end_what_they_name(
    assigned: World, native: object
) -> None:
    """No line of ours has such: another journal that names the access rightly is gone by."""
    world = assigned
    name, opened = overdue(world)
    odd = saying(opened, ends_at=a_second_later(opened), native=native)
    found = gather({OWN: [], "a": [opened], "b": [odd]}, OWN, world.clock())
    assert [one.hold for one in found.owed] == [hold_of_line(opened)]
    assert gather({OWN: [], "b": [odd]}, OWN, world.clock()).unusable == (name,)
