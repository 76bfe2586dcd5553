"""Changing the log's key in the database: sealed by both, all or nothing, and no way around."""

from pathlib import Path

import pytest

from tidegate.base.errors import AskedWrongly, EvidenceClosed, WorldFailed
from tidegate.evidence.checkpoint import TrustedKey
from tidegate.evidence.note import FileSigner, Signer
from tidegate.evidence.verify import verify_log
from tidegate.store import Store, compare
from tidegate.store.rekey import change_key
from tidegate.store.sealed import sealed_log

from .making import ORIGIN, SIGNER, Clock, filed, open_store

NEW = FileSigner(ORIGIN, b"\7" * 32)


def change(path: Path, before: Signer = SIGNER, after: Signer = NEW) -> int:
    """Change the key; the event's index."""
    made = change_key(f"sqlite:///{path}", origin=ORIGIN, before=before, after=after, clock=Clock())
    return made.index


def opened(path: Path, signer: Signer) -> Store:
    """The store under a key."""
    return Store.open(f"sqlite:///{path}", origin=ORIGIN, signer=signer, clock=Clock())


@pytest.fixture
def used(path: Path) -> Path:
    """A database with an event in it, closed."""
    store = open_store(path)
    store.commit(filed(1)[0])
    store.close()
    return path


def test_change_is_sealed_by_one_key_only(used: Path) -> None:
    """The event follows the last one, the log goes on under the new key, and all of it verifies."""
    assert change(used) == 1
    store = opened(used, NEW)
    store.commit(filed(2)[0])
    assert compare(store) == []
    store.close()
    with sealed_log(f"sqlite:///{used}") as (head, leaves, hashes):
        first = (TrustedKey(key=SIGNER.verifier()),)
        report = verify_log(leaves, head.checkpoint_text, first, hashes=hashes)
    assert (report.ok, report.events) == (True, 3)


def test_old_key_opens_the_log_again(used: Path) -> None:
    """Behind the change the old key is refused, and can change nothing any more."""
    change(used)
    with pytest.raises(AskedWrongly, match="expected the key"):
        opened(used, SIGNER)
    with pytest.raises(AskedWrongly, match="expected the key"):
        change(used)
    assert change(used, NEW, FileSigner(ORIGIN, b"\x09" * 32)) == 2


def test_writer_that_was_missed_signs_on(used: Path) -> None:
    """A process that still holds the old key writes nothing more, and says why."""
    store = opened(used, SIGNER)
    change(used)
    with pytest.raises(EvidenceClosed, match="key was changed"):
        store.commit(filed(3)[0])
    store.close()
    opened(used, NEW).close()


class Failing:
    """A key that cannot sign the checkpoint after it signed the change."""

    name, key_id, public = NEW.name, NEW.key_id, NEW.public

    def __init__(self) -> None:
        self.signed = 0

    def sign(self, message: bytes) -> bytes:
        """Once."""
        self.signed += 1
        if self.signed > 1:
            raise WorldFailed("no_signer", "it is gone", "")
        return NEW.sign(message)


def test_half_a_change_is_written(used: Path) -> None:
    """When the new key cannot sign the checkpoint, the log is the old key's as before."""
    with pytest.raises(WorldFailed):
        change(used, after=Failing())
    store = opened(used, SIGNER)
    assert store.head().size == 1
    store.close()


def test_sealed_log_needs_a_database(path: Path) -> None:
    """Without a file there is no log, and none is made."""
    with pytest.raises(AskedWrongly), sealed_log(f"sqlite:///{path}"):
        pass
    assert not path.exists()
