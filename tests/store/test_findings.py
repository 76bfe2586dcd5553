"""Findings and turns in the store: one row for one fact, one hand on a turn."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tidegate.base.errors import Stale
from tidegate.finding import FindingKind, FindingState
from tidegate.store import SEARCH, Wanted, findings

from .making import NOW, accepted, finding, lifecycle

LEASE = timedelta(minutes=2)


def test_second_finding_of_one_fact_is_refused(store):
    """The natural key is one row's, whichever id the second one brings."""
    step, found = finding(1)
    store.commit(step)
    again, other = finding(1)
    assert other.what == found.what
    with pytest.raises(Stale):
        store.commit(again)
    assert store.finding_of(FindingKind.STANDING, "aws-prod", found.what) == found


def test_findings_are_listed_by_what_is_asked(store):
    """Each filter leaves only what fits, newest first, and an acceptance that is over is found."""
    for number in (1, 2, 3):
        step, found = finding(number)
        store.commit(step)
    store.commit(accepted(found))
    live = Wanted(states=frozenset({FindingState.OPEN}))
    assert [one.id for one in store.findings(live)] == sorted(
        (one.id for one in store.findings(live)), reverse=True
    )
    assert len(store.findings(live)) == 2
    assert len(store.findings(Wanted(target="aws-prod"))) == 3
    assert store.findings(Wanted(target="other")) == []
    assert store.acceptances_over(NOW + timedelta(days=29), 10) == []
    (over,) = store.acceptances_over(NOW + timedelta(days=30), 10)
    assert over.id == found.id


def test_look_is_remembered_without_an_event(store):
    """Seeing a fact again moves only the worker's own column."""
    step, found = finding(1)
    store.commit(step)
    size = store.head().size
    store.findings_seen((found.id,), NOW + LEASE)
    after = store.finding(found.id)
    assert after == replace(found, last_seen_at=NOW + LEASE)
    assert store.head().size == size


def test_turn_is_one_hands_and_comes_back_where_it_stopped(store):
    """A turn is leased, given back with its place, due again later, and lost with its lease."""
    turn = store.take_turn("scope|a", NOW, LEASE)
    assert (turn.place, turn.tries) == ("", 0)
    assert store.take_turn("scope|a", NOW, LEASE) is None
    store.end_turn(replace(turn, place="a/b", tries=2), NOW + LEASE)
    assert store.take_turn("scope|a", NOW, LEASE) is None
    turn = store.take_turn("scope|a", NOW + LEASE, LEASE)
    assert (turn.place, turn.tries) == ("a/b", 2)
    turn = store.take_turn("scope|a", NOW + 2 * LEASE, LEASE)
    assert turn is not None
    store.drop_turn("scope|a")
    assert store.take_turn("scope|a", NOW, LEASE).place == ""


def test_turns_to_take_are_those_nobody_has_and_that_are_due(store):
    """What was never taken is first, in the order asked for; one that is leased is not there."""
    names = ("scope|c", "scope|a", "scope|b")
    turn = store.take_turn("scope|a", NOW, LEASE)
    assert store.turns_to_take(names, NOW) == ["scope|c", "scope|b"]
    assert store.turns_to_take(names, NOW + LEASE) == ["scope|c", "scope|b", "scope|a"]
    store.end_turn(turn, NOW + 2 * LEASE)
    assert store.turns_to_take(names, NOW + LEASE) == ["scope|c", "scope|b"]
    assert store.turns_to_take(names, NOW + 2 * LEASE) == ["scope|c", "scope|b", "scope|a"]


def test_first_turns_by_name_come_before_one_that_is_due_longer(store):
    """However often the first ones are due again, the one that waits longest is first."""
    for place, name in enumerate(("scope|c", "scope|b", "scope|a")):
        turn = store.take_turn(name, NOW, LEASE)
        store.end_turn(turn, NOW + timedelta(seconds=place))
    later = NOW + LEASE
    names = ("scope|a", "scope|b", "scope|c")
    assert store.turns_to_take(names, later) == ["scope|c", "scope|b", "scope|a"]


@pytest.mark.parametrize("name", ["scope|a", "again|a"])
@pytest.mark.parametrize("leased", [False, True])
def test_turn_is_put_off_by_a_clock_that_was_ahead(store, name, leased):
    """Due or leased further ahead than any wait, it is had at once; within its wait it is not."""
    ahead = NOW + timedelta(hours=1, minutes=1)
    store.owe_turn(name, "7", ahead)
    turn = store.take_turn(name, ahead, LEASE)
    if not leased:
        store.end_turn(turn, ahead)
    assert store.turns_to_take((name,), NOW) == [name]
    assert store.turns_due(name[:6], NOW, 9) == [name]
    turn = store.take_turn(name, NOW, LEASE)
    assert turn is not None
    assert store.turns_due(name[:6], NOW, 9) == store.turns_to_take((name,), NOW) == []
    store.end_turn(turn, NOW + timedelta(minutes=4))
    assert store.turns_due(name[:6], NOW, 9) == store.turns_to_take((name,), NOW) == []
    assert store.take_turn(name, NOW, LEASE) is None


def test_turn_that_is_owed_is_taken_by_whoever_looks(store):
    """Noted once, found by how it begins when it is due and in nobody's hand, with its place."""
    store.owe_turn("again|a", "7", NOW + LEASE)
    store.owe_turn("again|a", "8", NOW)
    store.owe_turn("again|b", "9", NOW)
    store.owe_turn("scope|a", "", NOW)
    assert store.turns_due("again|", NOW, 9) == ["again|b"]
    assert store.turns_due("again|", NOW + LEASE, 9) == ["again|b", "again|a"]
    assert store.turns_due("again|", NOW + LEASE, 1) == ["again|b"]
    assert store.take_turn("again|b", NOW, LEASE).place == "9"
    assert store.turns_due("again|", NOW, 9) == []
    assert store.take_turn("again|a", NOW + LEASE, LEASE).place == "7"


def test_owed_turn_that_is_over_is_made_anew(store):
    """What it was for went with it: whoever had its name from a look before gets nothing."""
    store.owe_turn("again|a", "7", NOW)
    (name,) = store.turns_due("again|", NOW, 9)
    store.drop_turn(name)
    assert store.take_turn(name, NOW, LEASE) is None
    assert store._writer.run(lambda db: findings.take_turn(db, name, NOW, LEASE)) is None
    assert store.turns_due("again|", NOW + 2 * LEASE, 9) == []


def test_search_is_put_off_by_a_clock_that_was_ahead(store):
    """An end whose search a wrong clock put off by a day is among those to be searched now."""
    ended = lifecycle(store, 1)
    store.owe_turn(f"{SEARCH}{ended.id}", "", NOW + timedelta(days=1))
    assert [one.id for one in store.unsearched(NOW - LEASE, NOW, 9)] == [ended.id]


def test_unsearched_end_hides_behind_one_that_waits(store):
    """An end whose search waits, or is in a hand, is not among those to be searched now."""
    ended = lifecycle(store, 1)
    since = NOW - LEASE
    assert [one.id for one in store.unsearched(since, NOW, 9)] == [ended.id]
    turn = store.take_turn(f"search|{ended.id}", NOW, LEASE)
    assert store.unsearched(since, NOW, 9) == []
    store.end_turn(turn, NOW + 2 * LEASE)
    assert store.unsearched(since, NOW + LEASE, 9) == []
    assert [one.id for one in store.unsearched(since, NOW + 2 * LEASE, 9)] == [ended.id]
