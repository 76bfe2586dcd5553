"""What other machines opened, in the journal of one that closes: it ends without the database."""

from datetime import timedelta

import pytest

from tests.flow.assigned import elsewhere, settle, without_database
from tests.flow.test_gate import FORKED
from tests.flow.test_held_elsewhere import gives
from tests.support import World, misshape
from tidegate.base.duty import ALL, Duty, told
from tidegate.evidence.journal import open_grants
from tidegate.evidence.journal_line import JournalLine
from tidegate.flow import adopting
from tidegate.flow.adopting import adopt, adopt_open, adopt_overdue
from tidegate.grant import Grant

OPENER = frozenset({Duty.OPEN})


def opened_by(world: World, duties: frozenset[Duty], minutes: int = 30) -> Grant:
    """A grant, opened by a process with these duties on another machine."""
    world.work()
    world.house.store.beat("worker:there", world.clock(), told(duties, "1"))
    with elsewhere(world):
        return world.granted(duration=timedelta(minutes=minutes))


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
    grants = sorted(opened_by(world, OPENER, minutes=12).id for _ in range(7))
    misshape(world, grants[0], "ends_at_ms", "grants")
    for _ in range(5):
        adopt_open(world.house)
    assert sorted(named(world)) == grants[1:]
    assert adopt_open(world.house) == 0


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
    misshape(world, grants[0], "claim_by_ms", "grants")
    world.clock.forward(minutes=20)
    told = [name for _ in range(5) for name in adopt_overdue(world.house)]
    assert sorted(told) == sorted(named(world)) == grants[1:]


def test_end_known_by_its_decision_alone_is_nothing_to_close(assigned: World) -> None:
    """The journal has that it was to end, of a panic, and not what was opened: that is added."""
    world = assigned
    grant = opened_by(world, ALL)
    begun = JournalLine(kind="closing", grant=grant.id, at=world.clock(), data={"reason": "panic"})
    world.house.journal.append(begun)
    assert adopt(world.house, grant) and not adopt(world.house, grant)
    without_database(world, 1)
    assert not gives(world)
