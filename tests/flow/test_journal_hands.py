"""Closing without the database: no target, no grant and no thread keeps another's end waiting."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.flow.test_worker import Silent, open_on_dev
from tests.support import World
from tidegate.base.errors import EvidenceClosed, Unreachable
from tidegate.base.when import Instant, wire
from tidegate.connectors.port import Hold, Receipt
from tidegate.flow.journal_hands import JournalHands
from tidegate.flow.recovering import close_owed, close_without_store, owed_now
from tidegate.grant import GrantState
from tidegate.shell import worker as looking


class Away:
    """A database nothing is claimed from until it is back."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        self._claim, self._end = world.house.store.claim_due, world.house.store.end_due
        self._there = False
        patch.setattr(world.house.store, "claim_due", lambda *a: self._or_away(self._claim, *a))
        patch.setattr(world.house.store, "end_due", lambda *a: self._or_away(self._end, *a))

    def back(self) -> None:
        """It answers."""
        self._there = True

    def _or_away(self, asked: Any, *args: Any) -> Any:
        if not self._there:
            raise EvidenceClosed("evidence_closed", "the database is away", "")
        return asked(*args)


class AtOnce(Executor):
    """Does what is submitted before it says so."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Do it."""
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@pytest.fixture
def hands() -> Iterator[JournalHands]:
    """Two hands, one a target, on threads of their own."""
    with ThreadPoolExecutor(2) as threads:
        yield JournalHands(threads, 1, 2)


def closed(world: World) -> list[str]:
    """What the journal says was removed."""
    return [line.grant for line in world.house.journal.read() if line.kind == "removed"]


def test_silent_target_keeps_ends_of_others_in_the_journal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the database too one that does not answer keeps its share of the hands and no more;
    the look does not wait for it.
    """
    open_on_dev(world, looking.HANDS + 1)
    healthy = world.granted(duration=timedelta(minutes=10, seconds=30))
    Away(world, monkeypatch)
    silent = Silent(world, monkeypatch)
    world.clock.forward(minutes=10, seconds=31)
    try:
        for _ in range(3):
            world.worker.tick()
        silent.await_calls(looking.HANDS_A_TARGET)
        assert closed(world) == [healthy.id]
        assert len(silent.called) == looking.HANDS_A_TARGET
    finally:
        silent.answer()


def test_database_that_is_back_does_not_stop_the_journal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it answers nothing more is begun without it, and what others owe is claimed at once."""
    open_on_dev(world, looking.HANDS_A_TARGET + 3)
    later = world.granted(duration=timedelta(minutes=11))
    away = Away(world, monkeypatch)
    silent = Silent(world, monkeypatch)
    world.clock.forward(minutes=10, seconds=31)
    try:
        world.worker.tick()
        silent.await_calls(looking.HANDS_A_TARGET)
        world.clock.forward(minutes=1)
        away.back()
        for _ in range(9):
            world.worker.tick()
        assert world.grant(later).state is GrantState.GONE
        assert len(silent.called) == looking.HANDS_A_TARGET  # those by the store share the room
    finally:
        silent.answer()
    world.worker._from_journal.executor.shutdown(wait=True)
    assert not set(closed(world)) - {later.id}


def test_two_hands_take_the_same_assignment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a hand closes from the journal nobody else in the process asks for that removal."""
    open_on_dev(world, 1)
    away = Away(world, monkeypatch)
    silent = Silent(world, monkeypatch)
    world.clock.forward(minutes=10, seconds=31)
    try:
        world.worker.tick()
        silent.await_calls(1)
        assert close_without_store(world.house, frozenset(silent.called)) == []
        away.back()
        for _ in range(9):
            world.worker.tick()
        assert len(silent.called) == 1
    finally:
        silent.answer()


def test_access_opened_since_the_look_is_taken(world: World) -> None:
    """An end that waited for a hand is looked at anew when its assignment was opened meanwhile."""
    first = world.granted(duration=timedelta(minutes=10))
    world.clock.forward(minutes=10)
    (owed,) = owed_now(world.house)
    (line,) = world.house.journal.read()
    ends = wire(world.clock() + timedelta(hours=1))
    again = replace(line, grant="g-since", data={**line.data, "ends_at": ends})
    world.house.journal.append(again)
    before = world.connector.calls["revoke"]
    assert not close_owed(world.house, owed, world.house.alone)
    assert closed(world) == [] and world.connector.calls["revoke"] == before
    (owed,) = owed_now(world.house)
    assert owed.hold.grant == first.id and owed.still_wanted


def test_grants_that_cannot_be_closed_are_tried_before_one_that_never_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has waited for the longest is first, whatever it is called."""
    open_on_dev(world, 4)
    asked: list[str] = []

    def refused(hold: Hold, now: Instant) -> Receipt:
        asked.append(hold.grant)
        raise Unreachable("cloud_down", "no answer", "wait")

    monkeypatch.setattr(world.connector, "revoke", refused)
    world.clock.forward(minutes=10)
    first, second, *_ = owed_now(world.house)
    for one in (first, second):
        close_owed(world.house, one, world.house.alone)
    world.clock.forward(minutes=5)
    tried = [one.hold.grant for one in owed_now(world.house)]
    assert sorted(tried[2:]) == sorted(asked)


def test_hands_of_one_look_are_lost_to_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, hands: JournalHands
) -> None:
    """Looks beside a silent target begin nothing twice; a hand that is free goes on by itself."""
    open_on_dev(world, 3)
    Away(world, monkeypatch)
    silent = Silent(world, monkeypatch)
    world.clock.forward(minutes=10, seconds=31)
    for _ in range(5):
        hands.look(world.house)
    silent.await_calls(1)
    assert len(silent.called) == 1 and hands.busy() == {"dev": 1}
    silent.answer()
    silent.await_calls(2)
    assert len(set(silent.called)) == 3


def test_hands_that_act_at_once_close_nothing(world: World) -> None:
    """With an executor that does at once what it is given, one look closes all that is owed."""
    open_on_dev(world, 3)
    world.clock.forward(minutes=10, seconds=31)
    JournalHands(AtOnce(), 16, 64).look(world.house)
    assert len(closed(world)) == 3
