"""recover by several journals: a line that cannot be so stops no end, and hides none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.flow.assigned import KEY
from tests.flow.test_recalling import OWN, lines
from tests.flow.test_recalling_again import gives, run
from tests.support import World
from tidegate.base.when import wire
from tidegate.evidence.journal_line import JournalLine
from tidegate.flow.gathering import gather
from tidegate.flow.recalling import Fate


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


def test_other_journals_that_name_two_accesses_end_one_of_them(assigned: World) -> None:
    """Ours does not know it: it is told that nobody can say which to close."""
    world = assigned
    name, opened = overdue(world)
    wrong = saying(opened, ends_at=a_second_later(opened), native_principal="nobody")
    found = gather({OWN: [], "a": [opened], "b": [wrong]}, OWN, world.clock())
    assert (found.owed, found.unusable) == ((), (name,))
