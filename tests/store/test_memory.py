"""A store in memory: as a file's, at once, and cheap to make."""

import threading

import pytest

from tidegate.base.errors import EvidenceClosed, Stale
from tidegate.evidence.checkpoint import TrustedKey
from tidegate.evidence.verify import verify_log
from tidegate.store import Store, compare

from .making import ORIGIN, SIGNER, Clock, filed, lifecycle


@pytest.fixture
def memory():
    """An empty store in memory."""
    return Store.memory(origin=ORIGIN, signer=SIGNER, clock=Clock())


def test_commit_in_memory_is_over_when_it_returns(memory):
    """No thread is needed: the facts are sealed on return, and a future has ended."""
    before = threading.active_count()
    assert memory.commit(filed(1)[0]).first_idx == 0
    future = memory.submit(filed(2)[0])
    assert future.done() and future.result().first_idx == 1
    assert isinstance(memory.submit(filed(2)[0]).exception(), Stale)
    with pytest.raises(Stale):
        memory.commit(filed(2)[0])
    assert threading.active_count() == before
    assert memory.head().size == 2


def test_life_in_memory_is_sealed_as_in_a_file(memory):
    """A whole life leaves a log that verifies and rows that are what the events say."""
    lifecycle(memory, 1)
    head = memory.head()
    leaves = [leaf for _, leaf in memory.all_events()]
    report = verify_log(leaves, head.checkpoint_text, (TrustedKey(key=SIGNER.verifier()),))
    assert report.ok and len(leaves) == head.size
    assert compare(memory) == [] and memory.integrity() == ()


def test_stores_in_memory_share_nothing_unless_told(memory):
    """Another store is empty; one made to go on has everything, and its log continues."""
    memory.commit(filed(1)[0])
    assert Store.memory(origin=ORIGIN, signer=SIGNER, clock=Clock()).head().size == 0
    after = Store.memory(origin=ORIGIN, signer=SIGNER, clock=Clock(), again=memory)
    assert after.commit(filed(2)[0]).first_idx == 1


def test_failing_work_in_memory_leaves_nothing(memory):
    """What raises half way is undone, and the next commit goes through."""

    def work(db):
        db.execute("INSERT INTO heartbeats (name, at_ms, detail) VALUES ('half', 1, '')")
        raise ValueError("half way")

    with pytest.raises(ValueError):
        memory._writer.run(work)
    assert memory.beats() == {}
    assert memory.commit(filed(1)[0]).first_idx == 0


def test_closed_store_in_memory_takes_nothing(memory):
    """After `close` a commit is refused, as on a file."""
    memory.close()
    with pytest.raises(EvidenceClosed):
        memory.commit(filed(1)[0])
