"""recover that cannot say or write something: what is owed is closed all the same."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.flow.test_recalling import OWN, ground, lines
from tests.support import World
from tidegate.connectors.port import Answer
from tidegate.evidence.journal import LONGEST_LINE
from tidegate.flow.gathering import gather
from tidegate.flow.recalling import Fate, recall

SHORT = timedelta(minutes=1)


@pytest.mark.parametrize("fault", [BrokenPipeError(), ValueError("write to closed file")])
def test_reader_that_went_away_keeps_the_rest_open(world: World, fault: Exception) -> None:
    """Whoever read what it says has closed the pipe: nothing is heard any more, all is closed."""
    grants = [world.granted(), world.granted("eve")]
    keys = [world.keys(grants[0]), world.keys(grants[1], "eve")]
    world.clock.forward(minutes=31)

    def broken(line: str) -> None:
        raise fault

    found = gather({OWN: lines(world)}, OWN, world.clock())
    back = recall(replace(ground(world), tell=broken), found, SHORT)
    assert [one.fate for one in back] == [Fate.REMOVED, Fate.REMOVED]
    assert [world.use(one) for one in keys] == [Answer.DENIED, Answer.DENIED]


@pytest.mark.parametrize("native", [{"Arn": "x"}, {"arn": "x" * LONGEST_LINE}])
def test_line_that_cannot_be_written_costs_the_others_theirs(
    world: World, native: dict[str, str]
) -> None:
    """Another machine's opening has no canonical form, or is too long: it is named, and all other
    grants of that round have their lines.
    """
    grant = world.granted()
    (opened,) = lines(world)
    data = {**opened.data, "native": native}
    odd, good = (replace(opened, grant=name) for name in ("gr_odd", "gr_good"))
    odd = replace(odd, data=data)
    world.clock.forward(minutes=31)
    found = gather({OWN: lines(world), "other": [odd, good]}, OWN, world.clock())
    said: list[str] = []
    back = recall(ground(world, said), found, SHORT)
    assert {one.fate for one in back} == {Fate.REMOVED}
    begun = [(one.kind, one.grant) for one in lines(world) if one.kind in ("intended", "closing")]
    assert begun == [
        ("intended", grant.id),
        ("closing", grant.id),
        ("intended", "gr_good"),
        ("closing", "gr_good"),
    ]
    (why,) = [line for line in said if "cannot be written" in line]
    assert "`gr_odd`" in why and grant.id not in why


def test_connector_that_is_not_in_the_settings_is_waited_for(world: World) -> None:
    """Settings are read once: no later try finds one, and the run ends with what it can do."""
    world.granted()
    world.clock.forward(minutes=31)
    before = world.clock()
    on = replace(ground(world), connectors={})
    (back,) = recall(on, gather({OWN: lines(world)}, OWN, before), SHORT)
    assert (back.fate, world.clock()) == (Fate.CLOSING, before)
    assert back.why == "no connector `simulated` in the settings"


def test_removal_that_cannot_be_written_keeps_the_rest_open(world: World) -> None:
    """The grant's own name is too long for a line: it is closed, and said so, and so is ours."""
    grant = world.granted()
    (opened,) = lines(world)
    odd = replace(opened, grant="gr_" + "x" * LONGEST_LINE)
    world.clock.forward(minutes=31)
    found = gather({OWN: lines(world), "other": [odd]}, OWN, world.clock())
    back = {one.owed.hold.grant: one for one in recall(ground(world), found, SHORT)}
    assert back[grant.id].fate is Fate.REMOVED
    assert "could not be written" in back[odd.grant].why
