"""Whose turn it is: the riskiest first, every target in turn, however long the backlog."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tidegate.base.ids import GRANT
from tidegate.expire import EndReason, end
from tidegate.grant import Grant, GrantState, intend, opened, ready, risk_of
from tidegate.store import Share, queue

from .making import ITEM as ITEM_OF_ALL
from .making import NOW, filed, lifecycle, name, only, opening_of

LEASE = timedelta(minutes=2)
MINUTE = timedelta(minutes=1)


def closing(store, number, target, *, unattended=MINUTE, emergency=False, at=NOW):
    """A grant on `target` that began to close at `at`."""
    step, request = filed(number)
    store.commit(step)
    item = replace(ITEM_OF_ALL, role=f"{target}/admin")
    step = ready(name(GRANT, number), request, item, NOW)
    store.commit(step)
    grant = only(step, Grant)
    opening = replace(opening_of(grant), unattended=unattended, emergency=emergency)
    step = intend(grant, None, opening, NOW)
    store.commit(step)
    step = opened(only(step, Grant), NOW, {}, NOW)
    store.commit(step)
    grant = only(step, Grant)
    step = end(grant, store.assignment(grant.assignment), EndReason.REVOKED, "system", at)
    store.commit(step)
    return only(step, Grant)


def claimed(store, limit, share=None, now=NOW + MINUTE):
    """The targets of what one look takes, in order."""
    return [one.role.partition("/")[0] for one in store.claim_due(now, limit, LEASE, share)]


def test_riskier_end_waits_behind_a_harmless_one(store):
    """No bound without us outranks an emergency, that outranks an older end, that a younger one."""
    young = closing(store, 1, "a", at=NOW + timedelta(seconds=1))
    old = closing(store, 2, "a")
    emergency = closing(store, 3, "a", emergency=True, at=NOW + timedelta(seconds=2))
    unbounded = closing(store, 4, "a", unattended=None, at=NOW + timedelta(seconds=3))
    due = store.claim_due(NOW + MINUTE, 10, LEASE)
    assert [one.id for one in due] == [unbounded.id, emergency.id, old.id, young.id]


def test_risk_is_a_sum_in_which_each_part_outranks_all_below_it():
    """The scale of words.md, from nothing to everything."""
    short, long = MINUTE, timedelta(hours=1)
    scale = [
        risk_of(short, short, emergency=False),
        risk_of(short, long, emergency=False),
        risk_of(short, short, emergency=True),
        risk_of(long, short, emergency=True),
        risk_of(short, None, emergency=False),
        risk_of(long, None, emergency=False),
        risk_of(short, None, emergency=True),
        risk_of(long, None, emergency=True),
    ]
    assert scale == list(queue.RISKS)


@pytest.mark.parametrize("head", [4, queue.HEAD])
def test_backlog_of_one_target_starves_anothers_end(store, monkeypatch, head):
    """However many of one target are due for longer, each look takes another target's first."""
    monkeypatch.setattr(queue, "HEAD", head)
    for number in range(12):
        closing(store, number, "big", unattended=None)
    closing(store, 20, "small", at=NOW + timedelta(seconds=30))
    assert "small" in claimed(store, 2)


@pytest.mark.parametrize("head", [4, queue.HEAD])
def test_target_in_hand_is_given_more_than_its_share(store, monkeypatch, head):
    """What is in hand counts: no target gets beyond its share, and the freest is served first."""
    monkeypatch.setattr(queue, "HEAD", head)
    for number in range(6):
        closing(store, number, "a")
        closing(store, 10 + number, "b")
    share = Share(a_target=3, in_hand={"a": 2})
    assert claimed(store, 10, share) == ["b", "b", "a", "b"]


def test_target_is_never_reached_behind_many_others(store, monkeypatch):
    """A look that cannot visit every target goes on where the last one stopped."""
    monkeypatch.setattr(queue, "HEAD", 2)
    monkeypatch.setattr(queue, "MOST_TARGETS", 2)
    for number, target in enumerate("aabbccdd"):
        closing(store, number, target)
    share = Share(a_target=1)
    assert [claimed(store, 10, share) for _ in range(3)] == [["a", "b"], ["c", "d"], ["a", "b"]]


def test_more_woken_than_one_look_takes_are_lost(store, monkeypatch):
    """Open grants past their end that no look has moved into line are still claimed."""
    monkeypatch.setattr(queue, "_WAKE", queue._WAKE.replace(f"LIMIT {queue.MOST_WOKEN}", "LIMIT 1"))
    grants = []
    for number in range(3):
        step, request = filed(number)
        store.commit(step)
        step = ready(name(GRANT, number), request, request.terms.items[0], NOW)
        store.commit(step)
        grant = only(step, Grant)
        step = intend(grant, None, opening_of(grant), NOW)
        store.commit(step)
        store.commit(opened(only(step, Grant), NOW, {}, NOW))
        grants.append(grant.id)
    due = store.claim_due(NOW + timedelta(hours=2), 10, LEASE)
    assert {one.id for one in due} == set(grants)
    assert {one.state for one in due} == {GrantState.OPEN}


def test_target_with_an_end_under_way_is_not_named(store):
    """Each target with an end that is due or under way once, and no other."""
    assert store.ending_targets() == []
    for number, target in enumerate(("b", "a", "b"), 1):
        closing(store, number, target)
    lifecycle(store, 9)
    assert store.ending_targets() == ["a", "b"]
