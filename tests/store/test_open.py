"""Opening: the right file, the right log, the right key, the right schema, or a plain no."""

import sqlite3
import stat

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tests import sqlite
from tidegate.base.errors import AskedWrongly, EvidenceClosed
from tidegate.evidence.note import FileSigner
from tidegate.store import Store, migrate
from tidegate.store.migrate import REVISIONS, SCRIPTS
from tidegate.store.schema import metadata
from tidegate.store.sqlite import SqliteFile

from .making import ORIGIN, SIGNER, Clock, filed, open_store, said


@pytest.fixture(autouse=True)
def revisions(monkeypatch):
    """Here a new file is migrated as it is for users."""
    monkeypatch.setattr(migrate, "_upgrade", sqlite.by_revisions)


def test_file_made_at_once_differs_from_a_migrated_one(path, monkeypatch):
    """What nearly every test runs on is what the migrations make, row for row."""
    made = []
    for name, how in (("revisions", sqlite.by_revisions), ("once", sqlite.at_once)):
        monkeypatch.setattr(migrate, "_upgrade", how)
        file = path.with_name(name)
        open_store(file).close()
        with sqlite3.connect(file) as db:
            made.append(list(db.iterdump()))
        db.close()
    assert made[0] == made[1]


def test_migrations_from_nothing_are_the_schema(path):
    """What the chain of migrations builds is what the code speaks."""
    open_store(path).close()
    database = SqliteFile(path)
    with database.reading() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == REVISIONS[-1]
    with sqlite3.connect(path) as raw:
        sql = dict(raw.execute("SELECT name, sql FROM sqlite_master"))
    raw.close()
    assert "CHECK (id = 1)" in sql["log_head"]
    assert "WITHOUT ROWID" in sql["chain_heads"]
    assert "WHERE due_at_ms IS NOT NULL" in sql["grants_due"]
    database.close()


def test_list_of_revisions_is_the_chain_of_files():
    """A migration that is not listed would never run."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    config.set_main_option("path_separator", "os")
    chain = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(reversed([script.revision for script in chain])) == tuple(REVISIONS)


def test_new_log_is_empty_signed_and_private(store, path):
    """A new database has a signed head of size 0, and only its owner may read the files."""
    head = store.head()
    assert (head.origin, head.size) == (ORIGIN, 0)
    assert head.checkpoint_text.startswith(f"{ORIGIN}\n0\n")
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        assert stat.S_IMODE(name.stat().st_mode) == 0o600
    assert store.integrity() == ()
    path.chmod(0o644)
    assert "can be read by others" in store.integrity()[0]


def test_opening_again_goes_on_where_it_ended(path):
    """Everything committed is there after close and open, also with `create`."""
    store = open_store(path)
    step, request = filed()
    store.commit(step)
    store.close()
    for create in (False, True):
        store = open_store(path, create=create)
        assert store.request(request.id) == request
        assert store.commit(said()).first_idx == 1 + create
        store.close()


def test_missing_database_is_not_made_unasked(path):
    """Without `create` a wrong path is an error, not a new empty log."""
    with pytest.raises(AskedWrongly, match="no such file"):
        open_store(path, create=False)
    assert not path.exists()


def test_empty_file_is_not_taken_for_a_database(path):
    """An empty file, as a truncated database leaves it, is refused without `create`."""
    path.touch()
    with pytest.raises(AskedWrongly, match="got an empty file"):
        open_store(path, create=False)


def test_database_of_something_else_is_left_alone(path):
    """A file with other tables is refused, also with `create`."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE invoices (id INTEGER)")
    db.close()
    with pytest.raises(AskedWrongly, match="a table `invoices`"):
        open_store(path)


def test_file_that_is_no_database_is_told_in_words(path):
    """Any other file is refused in words."""
    path.write_bytes(b"not a database, and long enough to be looked at" * 100)
    with pytest.raises(EvidenceClosed, match="the file is not a database"):
        open_store(path)


def test_newer_schema_is_refused(path):
    """A database a newer version has migrated is not touched."""
    open_store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    with pytest.raises(AskedWrongly, match="got `9999`"):
        open_store(path)


def test_lock_during_migration_is_told_in_words(path):
    """A database somebody else is writing to is not migrated: plain words, and no trace."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(EvidenceClosed, match="another process keeps the database locked"):
        open_store(path, patience=0.05)
    other.execute("ROLLBACK")
    other.close()
    open_store(path).close()


def test_other_origin_is_refused(path):
    """The origin is chosen once: another one is another log."""
    open_store(path).close()
    other = "log.example/other"
    with pytest.raises(AskedWrongly, match="expected the log `log"):
        Store.open(
            f"sqlite:///{path}", origin=other, signer=FileSigner(other, bytes(32)), clock=Clock()
        )


def test_other_key_is_refused(path):
    """A key that did not sign this log's head must not sign what follows."""
    open_store(path).close()
    with pytest.raises(AskedWrongly, match="expected the key that signed this log"):
        Store.open(
            f"sqlite:///{path}",
            origin=ORIGIN,
            signer=FileSigner(ORIGIN, b"k" * 32),
            clock=Clock(),
        )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://ana:hush@db/x",
        "mysql://a:hush@db/x",
        "x.db",
    ],
)
def test_url_of_another_engine_is_refused_without_its_password(url):
    """Only engines we speak are taken; a password in the URL is refused and not repeated."""
    with pytest.raises(AskedWrongly, match="expected a database") as caught:
        Store.open(url, origin=ORIGIN, signer=SIGNER, clock=Clock(), create=True)
    assert "hush" not in caught.value.message
