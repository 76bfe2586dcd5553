"""The log as others read it: pages, chains and proofs that verify."""

import pytest

from tidegate.base.errors import AskedWrongly, NotFound
from tidegate.evidence.merkle import leaf_hash, verify_consistency, verify_inclusion
from tidegate.evidence.seal import read_event

from .making import filed, one_batch, said


@pytest.fixture
def grown(store):
    """A store with more events than one tile and one page hold, and two remembered heads."""
    heads = [store.head()]
    for count in (1, 299, 800):
        with one_batch(store):
            waiting = [store.submit(said()) for _ in range(count)]
        waiting[-1].result()
        heads.append(store.head())
    store.commit(filed()[0])
    return store, [*heads, store.head()]


def test_every_event_is_walked_once_in_order(grown):
    """Pages join without a gap or an overlap, from any start."""
    store, heads = grown
    size = heads[-1].size
    assert size == 1_101
    assert [idx for idx, _ in store.all_events()] == list(range(size))
    assert [idx for idx, _ in store.all_events(1_000)] == list(range(1_000, size))
    assert list(store.all_events(size)) == []


def test_chain_holds_only_its_subject(grown):
    """The events of a subject, in the order of its chain."""
    store, _ = grown
    events = [read_event(leaf) for _, leaf in store.events("system")]
    assert [event.seq for event in events] == list(range(1_100))
    assert {event.subject for event in events} == {"system"}
    assert store.events("nobody") == []


@pytest.mark.parametrize("idx", [0, 1, 255, 256, 300, 1_023, 1_100])
def test_inclusion_proof_verifies_now_and_at_an_older_head(grown, idx):
    """Any event is proven against the current head, and against every older one that holds it."""
    store, heads = grown
    leaf = leaf_hash(next(leaf for _, leaf in store.all_events(idx)))
    now = heads[-1]
    verify_inclusion(leaf, idx, now.size, store.prove(idx), now.root)
    for old in heads:
        if old.size > idx:
            verify_inclusion(leaf, idx, old.size, store.prove(idx, old.size), old.root)


def test_consistency_proofs_link_every_head_to_every_later_one(grown):
    """Nothing remembered can have been changed."""
    store, heads = grown
    for place, old in enumerate(heads):
        for new in heads[place:]:
            proof = store.consistency(old.size, new.size)
            verify_consistency(old.size, old.root, new.size, new.root, proof)
    assert store.consistency(1) == store.consistency(1, heads[-1].size)


def test_event_that_is_not_there_has_no_proof(grown):
    """An index at or past the size asked for is not found."""
    store, heads = grown
    for idx, size in ((heads[-1].size, None), (5, 5), (-1, None), (0, heads[-1].size + 1)):
        with pytest.raises(NotFound):
            store.prove(idx, size)


def test_size_the_log_never_had_is_told(grown):
    """A remembered checkpoint ahead of the log means it was cut, and the answer says so."""
    store, heads = grown
    with pytest.raises(AskedWrongly, match="expected sizes up to 1101") as caught:
        store.consistency(heads[-1].size + 1)
    assert "cut" in caught.value.help


def test_head_time_is_the_last_event(store, clock):
    """The head says when the log last grew."""
    before = store.head().at
    clock.now = before.replace(hour=9)
    assert store.head().at == before
    store.commit(said())
    assert store.head().at == clock.now
