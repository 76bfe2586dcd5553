"""Somebody keeps the key of an access: a process that opens, hung or taken over. The end of that
access waits for two minutes and no longer, with the database and without.
"""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.support import World
from tidegate.flow.expiring import LONGEST_IN_HAND
from tidegate.flow.holding import closing_hold
from tidegate.flow.recovering import close_without_store
from tidegate.grant import Grant, GrantState

MOMENT = timedelta(seconds=1)


@pytest.fixture
def due(world: World) -> Iterator[Grant]:
    """A grant whose time is over, while somebody has its key in hand."""
    grant = world.granted()
    world.clock.forward(minutes=31)
    with world.house.store.only_one(closing_hold(world.house, grant).key.text()) as theirs:
        assert theirs
        yield grant


def wait(world: World, span: timedelta) -> None:
    """Let time pass."""
    world.clock.forward(seconds=span.total_seconds())


def test_key_in_hand_keeps_an_end_waiting(world: World, due: Grant) -> None:
    """A moment's wait is for a call on its way; after two minutes the end comes beside it."""
    world.work()
    assert world.grant(due).state is GrantState.CLOSING
    wait(world, LONGEST_IN_HAND + MOMENT)
    world.work()
    assert world.grant(due).state in (GrantState.REMOVED, GrantState.GONE)


def test_key_in_hand_keeps_an_end_waiting_without_the_database(world: World, due: Grant) -> None:
    """The same by the journal alone: two minutes from its end."""
    assert due.ends_at is not None
    world.clock.at = due.ends_at + LONGEST_IN_HAND - MOMENT
    assert close_without_store(world.house) == []
    wait(world, 2 * MOMENT)
    assert close_without_store(world.house) == [due.id]
