"""What a commit promises: whole or not at all, alone or with others, sealed or not there."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from tidegate.base.errors import EvidenceClosed, NotFound, Stale
from tidegate.base.fact import Change, Step
from tidegate.base.ids import PRINCIPAL, REQUEST
from tidegate.base.personal import Personal
from tidegate.base.when import from_ms
from tidegate.catalogue import Assignment
from tidegate.evidence.seal import read_event
from tidegate.grant import Grant, Outcome, noted
from tidegate.request import RequestState, withdraw

from .making import NOW, filed, intended, joined, name, one_batch, only, person, readied, said


def test_committed_step_is_there_with_its_event(store):
    """After commit returns, the row and the sealed event are both readable."""
    step, request = filed()
    done = store.commit(step)
    assert store.request(request.id) == request
    ((idx, leaf),) = store.events(request.id)
    assert idx == done.first_idx == 0
    assert done.size == store.head().size == 1
    assert read_event(leaf).fact == replace(step.facts[0], v=2)


def test_stale_step_fails_alone_among_neighbours(store):
    """One Step whose row moved on fails in words; those before and behind it are stored."""
    step, request = filed(1)
    store.commit(step)
    store.commit(withdraw(request, NOW))
    with one_batch(store):
        before = store.submit(filed(2)[0])
        stale = store.submit(withdraw(request, NOW))
        behind = store.submit(filed(3)[0])
    with pytest.raises(Stale) as caught:
        stale.result()
    assert caught.value.code == "moved_on"
    assert request.id in caught.value.message
    assert "version 1, got version 2" in caught.value.message
    assert (before.result().first_idx, behind.result().first_idx) == (2, 3)
    assert store.head().size == 4


def test_stale_row_fails_the_whole_step(store):
    """A Step with one good and one stale change stores neither, and none of its facts."""
    step, request = filed(1)
    store.commit(step)
    store.commit(withdraw(request, NOW))
    both = filed(2)[0].then(withdraw(request, NOW))
    with pytest.raises(Stale):
        store.commit(both)
    with pytest.raises(NotFound):
        store.request(name(REQUEST, 2))
    assert store.head().size == 2


def test_two_steps_on_one_row_chain_within_a_batch(store):
    """The second Step of a batch sees what the first made; the row ends as the last left it."""
    step, request = filed(1)
    with one_batch(store):
        first = store.submit(step)
        second = store.submit(withdraw(request, NOW))
    assert (first.result().first_idx, second.result().first_idx) == (0, 1)
    assert store.request(request.id).state is RequestState.WITHDRAWN
    one, two = (read_event(leaf) for _, leaf in store.events(request.id))
    assert (one.seq, two.seq) == (0, 1)
    assert two.prev


def test_same_step_twice_in_one_batch_is_stale_once(store):
    """Two answers to one state cannot both win, also within a batch."""
    step, request = filed(1)
    store.commit(step)
    with one_batch(store):
        outcomes = [store.submit(withdraw(request, NOW)) for _ in range(2)]
    assert outcomes[0].exception() is None
    assert isinstance(outcomes[1].exception(), Stale)
    assert store.head().size == 2


def test_row_that_is_there_cannot_be_made_again(store):
    """Expected 0 means: there must be no row."""
    step, _ = filed(1)
    store.commit(step)
    with pytest.raises(Stale, match="is there already"):
        store.commit(step)


def test_row_that_is_not_there_cannot_be_changed(store):
    """A change to a row nobody made is Stale, not an insert."""
    _, request = filed(1)
    with pytest.raises(Stale, match="got none"):
        store.commit(withdraw(request, NOW))


def test_taken_natural_key_of_an_assignment_is_stale_alone(store):
    """Two grants that found no assignment of one key cannot make two."""
    grants = []
    for number in (1, 2, 3):
        step, request = filed(number)
        store.commit(step)
        step, grant = readied(number, request)
        store.commit(step)
        grants.append(grant)
    with one_batch(store):
        first = store.submit(intended(grants[0], key="shared")[0])
        second = store.submit(intended(grants[1], key="shared")[0])
        third = store.submit(intended(grants[2], key="own")[0])
    assert first.exception() is None
    assert isinstance(second.exception(), Stale)
    assert third.exception() is None
    with pytest.raises(Stale, match="is there already, as"):
        store.commit(intended(grants[1], key="shared")[0])
    held = only(intended(grants[0], key="shared")[0], Assignment)
    assert store.assignment_by_key(held.key) == held == store.assignment(held.id)


def test_taken_issuer_and_subject_is_stale_alone(store):
    """One person at an identity provider is one principal."""
    store.commit(person(1, "ana"))
    with pytest.raises(Stale, match="is there already, as"):
        store.commit(person(2, "ana"))
    assert store.principal_by("local", "ana").id == name(PRINCIPAL, 1)
    assert store.head().size == 1


def test_facts_only_step_is_sealed(store):
    """A Step may say something without changing a row."""
    assert store.commit(said()).first_idx == 0
    assert len(store.events("system")) == 1


def test_step_without_facts_is_our_own_bug(store):
    """Nothing changes unsealed."""
    step, _ = filed()
    with pytest.raises(RuntimeError, match="without facts"):
        store.commit(Step(step.changes, ()))


def test_version_that_goes_back_is_our_own_bug(store):
    """A thing's version counts up only."""
    step, request = filed()
    store.commit(step)
    again = Step((Change(1, replace(request, version=1)),), said().facts)
    with pytest.raises(RuntimeError, match="goes back"):
        store.commit(again)


def test_malformed_fact_fails_alone(store):
    """A fact that does not fit its event fails its own Step; neighbours are stored."""
    bad = said()
    bad = Step((), (replace(bad.facts[0], data={"nonsense": 1}),))
    with one_batch(store):
        before, broken, behind = (store.submit(step) for step in (said(), bad, said()))
    assert isinstance(broken.exception(), RuntimeError)
    assert (before.result().first_idx, behind.result().first_idx) == (0, 1)


def test_row_that_cannot_be_written_fails_alone(store):
    """A value no database takes is found only in the write; its neighbours are tried again."""
    step, request = filed(1)
    poisoned = replace(request, why="\ud800")
    with one_batch(store):
        before = store.submit(filed(2)[0])
        broken = store.submit(Step((Change(0, poisoned),), step.facts, step.personal))
        behind = store.submit(filed(3)[0])
    assert isinstance(broken.exception(), UnicodeEncodeError)
    assert before.exception() is None
    assert behind.exception() is None
    assert store.head().size == 2
    assert store.integrity() == ()


def test_personal_text_is_kept_once_and_apart(store):
    """A text is found by its commitment; no event holds it."""
    step, request = filed()
    store.commit(step)
    text = step.personal[0]
    assert store.text(request.terms.reason) == text.text
    assert store.disclosures([text.commitment, "sha256:none"]) == {text.commitment: text}
    assert all(text.text.encode() not in leaf for _, leaf in store.all_events())


def test_text_no_fact_names_is_our_own_bug(store):
    """A text without a commitment in the log could never be shown or erased."""
    step, _ = filed()
    stray = Personal(b"x" * 32, "stray")
    with pytest.raises(RuntimeError, match="no fact"):
        store.commit(Step(step.changes, step.facts, (*step.personal, stray)))


def test_erased_text_stays_erased(store, path):
    """A text that was erased does not come back with a later Step that carries it."""
    step, request = filed()
    store.commit(step)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE disclosures SET salt = NULL, text = NULL")
    db.close()
    store.commit(filed(2)[0])
    assert store.text(request.terms.reason) is None


def test_sealing_never_goes_back_in_time(store, clock):
    """A clock set back does not make the log's time run backwards."""
    first = store.commit(said())
    clock.now = NOW - timedelta(hours=1)
    second = store.commit(said())
    assert second.at == first.at
    clock.now = NOW + timedelta(microseconds=1_999)
    assert store.commit(said()).at == NOW + timedelta(milliseconds=1)


def test_grant_is_due_when_it_wakes(store, path):
    """Every commit sets when the worker looks next; a grant that is over is never due."""
    step, request = filed()
    store.commit(step)
    step, grant = readied(1, request)
    store.commit(step)
    assert _due(path) == [(grant.id, grant.opens_at)]
    step, grant = intended(grant)
    store.commit(step)
    step = noted(grant, "grant", Outcome.UNKNOWN, "timeout", 1, NOW)
    store.commit(step)
    assert _due(path) == [(grant.id, only(step, Grant).wake_at)]


def test_wide_and_narrow_batches_store_the_same(store):
    """More rows than one statement takes, and the remainder, all arrive and can all be changed."""
    requests = []
    with one_batch(store):
        for number in range(123):
            step, request = filed(number)
            requests.append(request)
            store.submit(step)
    with one_batch(store):
        waiting = [store.submit(withdraw(request, NOW)) for request in requests]
    assert all(future.exception() is None for future in waiting)
    stored = store.requests(limit=1_000)
    assert len(stored) == 123
    assert {one.state for one in stored} == {RequestState.WITHDRAWN}
    assert store.head().size == 246
    assert store.integrity() == ()


def test_many_callers_each_get_their_own_place(store):
    """Concurrent commits: every index is given once, and the log is as long as they are many."""
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda number: store.commit(filed(number)[0]), range(200)))
    assert sorted(one.first_idx for one in done) == list(range(200))
    assert all(one.first_idx < one.size for one in done)


def test_closed_store_takes_nothing_and_loses_nothing(path, store):
    """What was submitted before close is durable; what comes after is refused in words."""
    with one_batch(store):
        waiting = store.submit(filed(1)[0])
    store.close()
    assert waiting.result().first_idx == 0
    with pytest.raises(EvidenceClosed, match="stopping"):
        store.submit(filed(2)[0])


def test_too_many_waiting_are_told_so(store, monkeypatch):
    """The queue is bounded: a caller is refused instead of kept waiting for minutes."""
    monkeypatch.setattr("tidegate.store.writer.MOST_WAITING", 2)
    with one_batch(store):
        waiting = [store.submit(filed(number)[0]) for number in (1, 2)]
        with pytest.raises(EvidenceClosed, match="waiting already"):
            store.submit(filed(3)[0])
    assert all(future.exception() is None for future in waiting)


def test_membership_joins_and_leaves(store):
    """One row per principal, group and source, through joining and leaving."""
    step = joined(1, "sre")
    store.commit(step)
    (held,) = store.memberships(principal=name(PRINCIPAL, 1))
    assert held == step.changes[0].after
    store.commit(joined(1, "sre", held, "left"))
    assert store.memberships() == []
    assert [one.left for one in store.memberships(with_left=True)] == [True]


def _due(path):
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT id, due_at_ms FROM grants WHERE due_at_ms IS NOT NULL").fetchall()
    db.close()
    return [(grant, from_ms(due)) for grant, due in rows]
