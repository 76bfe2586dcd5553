"""The database full, locked, read-only, deleted, replaced, restored: nothing half-written, ever."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest

from tidegate.base.errors import EvidenceClosed, WorldFailed
from tidegate.evidence.checkpoint import TrustedKey
from tidegate.evidence.verify import verify_log
from tidegate.store import compare

from .making import NOW, SIGNER, filed, one_batch, open_store, said

ROOT = Path(__file__).parents[2]


@pytest.mark.only("sqlite")
def test_full_disk_fails_the_whole_batch_and_heals(store):
    """On a full disk every Step of the batch is refused, none is stored; later it goes on."""
    store.commit(filed(1)[0])
    pages = store._writer.run(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    store._writer.run(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    with one_batch(store):
        waiting = [store.submit(filed(number)[0]) for number in range(2, 60)]
    for future in waiting:
        assert isinstance(future.exception(), EvidenceClosed)
        assert future.exception().message == "evidence cannot be written: the disk is full"
    assert len({id(future.exception()) for future in waiting}) == len(waiting)
    assert (store.head().size, len(store.requests())) == (1, 1)
    store._writer.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
    assert store.commit(filed(2)[0]).first_idx == 1
    assert _sound(store)


@pytest.mark.parametrize("bug", [RuntimeError, ValueError, sqlite3.IntegrityError])
def test_work_that_fails_half_way_is_kept(store, bug):
    """Work that raises, whatever it raises, leaves nothing behind; what waits beside it is kept."""

    def work(db):
        db.execute("INSERT INTO heartbeats (name, at_ms, detail) VALUES ('half', 1, '')")
        raise bug("half way")

    with one_batch(store):
        failing = store._writer._put(work)
        beside = store.submit(filed(1)[0])
    assert isinstance(failing.exception(), bug)
    assert beside.result().first_idx == 0
    assert "half" not in store.beats()


def test_lock_of_another_process_is_waited_for_then_told(path):
    """While somebody else holds the write lock a commit is refused in words; then it goes on."""
    store = open_store(path, patience=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(EvidenceClosed, match="another process keeps the database locked"):
        store.commit(filed(1)[0])
    assert "evidence cannot be written" in store.integrity()[0]
    other.execute("ROLLBACK")
    other.close()
    assert store.commit(filed(1)[0]).first_idx == 0
    assert _sound(store)
    store.close()


@pytest.mark.only("sqlite")
def test_read_only_connection_refuses_and_heals(store):
    """What turns read-only underneath refuses commits, and takes them again afterwards."""
    # As when a file system is mounted read-only again: the open file stops taking writes.
    store._writer.run(lambda db: db.execute("PRAGMA query_only = ON"))
    with pytest.raises(EvidenceClosed, match="the database is read-only"):
        store.commit(filed(1)[0])
    store._database._writing.execute("PRAGMA query_only = OFF")
    assert store.commit(filed(1)[0]).first_idx == 0
    assert _sound(store)


READ_ONLY = """
    import os, sys
    from pathlib import Path
    from tests.store.making import filed, open_store
    from tidegate.base.errors import EvidenceClosed
    # Once as we are: what is imported late must be in memory before the rights go.
    open_store(Path(sys.argv[2])).commit(filed(1)[0])
    if os.geteuid() == 0:
        os.setuid(65534)  # root writes to everything: be nobody
    try:
        open_store(Path(sys.argv[1]), create=False).commit(filed(2)[0])
    except EvidenceClosed as fault:
        print(fault.message)
"""


def test_read_only_file_is_told_in_words(tmp_path):
    """A file this process may not write is refused with its reason, and is as it was."""
    with tempfile.TemporaryDirectory() as name:  # tmp_path is under a folder only we may enter
        folder = Path(name)
        path = folder / "tidegate.db"
        store = open_store(path)
        store.commit(filed(1)[0])
        store.close()
        path.chmod(0o444)
        folder.chmod(0o777)
        done = _child(READ_ONLY, str(path), str(tmp_path / "other.db"))
        assert "evidence cannot be written: the database is read-only" in done.stdout, done.stderr
        path.chmod(0o600)
        store = open_store(path)
        assert store.head().size == 1
        store.close()


def test_deleted_file_closes_evidence_until_it_is_back(store, path):
    """A commit to a deleted file would be lost: it is refused. The same file back is taken."""
    store.commit(filed(1)[0])
    away = path.with_name("away.db")
    path.rename(away)
    with pytest.raises(EvidenceClosed, match="no longer the file that was opened"):
        store.commit(filed(2)[0])
    with pytest.raises(EvidenceClosed):
        store.claim_due(NOW, 10, timedelta(minutes=1))
    assert "no longer the file" in store.integrity()[0]
    away.rename(path)
    assert store.commit(filed(2)[0]).first_idx == 1
    assert _sound(store)


def test_replaced_file_closes_evidence(store, path):
    """Another file under the same name is not written to, however much it looks like ours."""
    store.commit(filed(1)[0])
    shutil.copy(path, path.with_name("copy.db"))
    os.replace(path.with_name("copy.db"), path)
    with pytest.raises(EvidenceClosed, match="no longer the file that was opened"):
        store.commit(filed(2)[0])


def test_file_deleted_during_a_commit_is_not_called_durable(store, path):
    """When the file goes while a batch is being written, the caller is not told it is safe."""
    entered = store._writer._put(lambda db: path.unlink())
    with pytest.raises(EvidenceClosed, match="no longer the file that was opened"):
        entered.result()


def test_log_that_went_back_is_not_forked(store, path):
    """A head restored from a copy under a running server stops it: it would fork the log."""
    store.commit(said())
    kept = _head_row(path)
    store.commit(said())
    _set_head(path, kept)
    with pytest.raises(EvidenceClosed, match="the log has 1 events where it had 2"):
        store.commit(said())
    assert _head_row(path) == kept


def test_head_that_contradicts_its_checkpoint_is_refused(path):
    """A head whose size was edited is found when the log is opened."""
    store = open_store(path)
    store.commit(said())
    store.commit(said())
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE log_head SET root = zeroblob(32)")
    db.close()
    with pytest.raises(EvidenceClosed, match="contradicts its checkpoint"):
        open_store(path, create=False)


def test_signer_that_cannot_sign_closes_evidence(store, monkeypatch):
    """Without a signature there is no checkpoint, so nothing is stored."""

    def fail(*_):
        raise WorldFailed("signer_away", "the key service did not answer")

    with monkeypatch.context() as patch:
        patch.setattr("tidegate.store.commit.signed", fail)
        with pytest.raises(EvidenceClosed, match="the key service did not answer"):
            store.commit(filed(1)[0])
    assert store.requests() == []
    assert store.commit(filed(1)[0]).first_idx == 0


def test_unreadable_database_is_told_in_words(store, path):
    """A reader that cannot read says so, as the world's failure and not as a bug."""
    store._database._readers.dispose()
    store._database._looks.clear()
    path.rename(path.with_name("away.db"))
    with pytest.raises(WorldFailed, match="the database file cannot be opened"):
        store.head()
    path.with_name("away.db").rename(path)
    assert store.head().size == 0


KILLED = r"""
    import os, sys, threading
    from pathlib import Path
    from tests.store.making import lifecycle, open_store
    store = open_store(Path(sys.argv[1]))
    def work(first):
        for number in range(first, 1_000_000, 4):
            lifecycle(store, number)
            os.write(1, b"%d\n" % number)  # in one piece, whatever the other threads write
    for first in range(4):
        threading.Thread(target=work, args=(first,)).start()
"""


def test_crash_in_the_middle_of_committing_leaves_a_sound_log(path):
    """SIGKILL while four threads commit: everything told as done is there, and nothing is torn."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    told = [int(child.stdout.readline()) for _ in range(12)]
    child.kill()
    told += [int(line) for line in child.stdout.read().splitlines() if line]
    child.wait()
    store = open_store(path, create=False)
    gone = [grant.id for grant in store.grants(limit=1_000) if grant.over]
    assert len(gone) >= len(told)
    assert store.head().size >= 8 * len(told)
    assert _sound(store)
    store.commit(said())
    store.close()


def test_two_processes_on_one_file_do_not_fork_the_log(path):
    """Two writers take turns on one log: every index once, one chain, one tree."""
    ours, theirs = open_store(path), open_store(path)
    for number in range(0, 40, 2):
        ours.commit(filed(number)[0])
        theirs.commit(filed(number + 1)[0])
        ours.commit(said("ours"))
        theirs.commit(said("theirs"))
    assert ours.head() == theirs.head()
    assert ours.head().size == 80
    assert [idx for idx, _ in ours.all_events()] == list(range(80))
    assert _sound(ours)
    theirs.close()
    ours.close()


def _sound(store) -> bool:
    """The log verifies against its own key, its rows are what its events say, nothing is off."""
    head = store.head()
    leaves = [leaf for _, leaf in store.all_events()]
    report = verify_log(leaves, head.checkpoint_text, (TrustedKey(key=SIGNER.verifier()),))
    assert report.ok, report.findings
    assert compare(store) == []
    assert store.integrity() == ()
    return len(leaves) == head.size


def _child(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def _head_row(path):
    with sqlite3.connect(path) as db:
        row = db.execute("SELECT size, root, tree, checkpoint FROM log_head").fetchone()
    db.close()
    return row


def _set_head(path, row):
    with sqlite3.connect(path) as db:
        db.execute("UPDATE log_head SET size = ?, root = ?, tree = ?, checkpoint = ?", row)
    db.close()
