"""SQLite: how the file is opened, when it may still be trusted, and its failures in words.

One connection writes (the writer's, raw, for speed); reading goes through a pool that cannot write.
The file must stay the one that was opened: were it deleted or replaced underneath, SQLite would
go on writing to something nobody will ever read.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from tidegate.base.errors import AskedWrongly, EvidenceClosed, WorldFailed
from tidegate.store.database import KeysInHand, News, Params, Words, closed_because
from tidegate.store.spare import Spare

PATIENCE = timedelta(seconds=5)  # for a lock of another process: longer than any batch takes
FILE_MODE = 0o600
READERS = 8  # connections kept; a request holds one for well under a millisecond
MOST_READERS = 80  # as many as the API has threads, and its lane for panics
# Pages in the write-ahead log before a commit copies them back: 4 MB. With more, throughput stays
# the same and the slowest commit becomes slower.
CHECKPOINT_PAGES = 1_000
WAL_KEPT_BYTES = 64 * 1024 * 1024
CACHE_KB = 32 * 1024

WORDS = Words(
    name="sqlite",
    among="(SELECT value FROM json_each(?))",
    for_update="",
    skip_locked="",
    listed="json_each(?)",
    item="json_extract(wanted.value, '$[{place}]')",
    tables="SELECT name FROM sqlite_master WHERE type = 'table'",
    notify="",
    container="file",
)


class SqliteFile:
    """One SQLite file: the writer's connection, the readers' pool, and whether it is there."""

    def __init__(self, path: Path, patience: timedelta = PATIENCE) -> None:
        """Open an existing file. Raises EvidenceClosed when it cannot be opened."""
        self.path = path
        self.shown = str(path)
        self.words = WORDS
        self.clashes: tuple[type[Exception], ...] = (sqlite3.IntegrityError,)
        self.news = News()
        self._keys = KeysInHand()
        self._patience = patience
        self._lasting = True  # how the writing connection was told to commit
        try:
            self._writing = self.connect()
            self._prepare()
            self._identity = self._look()
        except (sqlite3.Error, OSError) as error:
            raise closed(error) from error
        self._readers = self.engine(read_only=True)
        self._looks = Spare(self._reader, MOST_READERS, patience)

    def close(self) -> None:
        """Let go of the file. SQLite then folds the write-ahead log back into it."""
        self._readers.dispose()
        self._looks.clear()
        self._writing.close()

    def connect(self) -> sqlite3.Connection:
        """A new connection that leaves transactions to us and never makes a file."""
        db = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw",
            uri=True,
            timeout=self._patience.total_seconds(),
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        for pragma in (
            "synchronous = FULL",
            "fullfsync = ON",  # macOS only: its plain fsync does not reach the disk
            "checkpoint_fullfsync = ON",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            f"journal_size_limit = {WAL_KEPT_BYTES}",
            f"cache_size = -{CACHE_KB}",
            "trusted_schema = OFF",
        ):
            db.execute(f"PRAGMA {pragma}")
        return db

    def engine(self, *, read_only: bool) -> Engine:
        """SQLAlchemy over this file. Without `read_only` each transaction takes the write lock."""

        engine = create_engine(
            "sqlite+pysqlite://",
            creator=self._reader if read_only else self.connect,
            poolclass=QueuePool,
            pool_size=READERS,
            max_overflow=MOST_READERS - READERS,
            pool_timeout=self._patience.total_seconds(),
        )
        begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

        @event.listens_for(engine, "begin")
        def _begin(db: Connection) -> None:
            db.exec_driver_sql(begin)

        return engine

    def _reader(self) -> sqlite3.Connection:
        db = self.connect()
        db.execute("PRAGMA query_only = ON")
        return db

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view of the database. Raises WorldFailed when it cannot be read."""
        try:
            with self._readers.connect() as db:
                yield db
        except (DBAPIError, PoolTimeout) as error:
            raise unreadable(getattr(error, "orig", None) or error) from error

    def look(self, sql: str, params: Params) -> list[Any]:
        """The rows of one query, on the driver itself. Raises WorldFailed."""
        try:
            db = self._looks.take()
            try:
                rows = db.execute(sql, params).fetchall()
            except sqlite3.Error:
                self._looks.drop(db)
                raise
            self._looks.give(db)
        except (sqlite3.Error, TimeoutError) as error:
            raise unreadable(error) from error
        return rows

    @contextmanager
    def writing(self, lasting: bool = True) -> Iterator[sqlite3.Connection]:
        """The one write transaction: durable when it ends well, undone when it does not.

        For the writer's thread only. One that is not `lasting` reaches the disk with the next that
        is: the write-ahead log is one file, and syncing it syncs all of it.

        Raises:
            EvidenceClosed: not the file that was opened, full, locked, read-only or damaged. After
                a loss seen only behind COMMIT the outcome is unknown: callers read again.
        """
        db = self._writing
        self.check()
        try:
            if lasting != self._lasting:
                db.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
                self._lasting = lasting
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise closed(error) from error
        except BaseException:
            self._undo()
            raise
        self.check()

    def check(self) -> None:
        """Raise EvidenceClosed unless the path still names the file that was opened."""
        try:
            same = self._look() == self._identity
        except OSError:
            same = False
        if not same:
            raise EvidenceClosed(
                "database_replaced",
                f"evidence cannot be written: `{self.path}` is no longer the file that was opened",
                "put the file back, or restart to use the one that is there now",
            )

    def doubts(self) -> list[str]:
        """What is wrong with the file itself, in words: its mode lets anybody but its owner in."""
        if self.path.exists() and stat.S_IMODE(os.stat(self.path).st_mode) & 0o077:
            return [f"`{self.path}` can be read by others: chmod 600 it"]
        return []

    def only_one(self, key: str, unasked: bool = False) -> AbstractContextManager[bool]:
        """Have `key` in hand, unless somebody of this process has: a file has one server."""
        return self._keys.only_one(key)

    def only_one_here(self, key: str) -> AbstractContextManager[bool]:
        """The same: there is nobody else."""
        return self._keys.only_one(key)

    def closed(self, error: BaseException) -> EvidenceClosed:
        """A failure of the driver, as callers may be told it."""
        return closed(error)

    def now_ms(self) -> int | None:
        """A file has no clock."""
        return None

    def _prepare(self) -> None:
        mode = self._writing.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"no write-ahead log here (journal mode {mode})")
        # The first look into the file makes the write-ahead log, whose identity is kept too.
        self._writing.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def _look(self) -> tuple[tuple[int, int], ...]:
        found = (os.stat(self.path), os.stat(f"{self.path}-wal"))
        return tuple((one.st_dev, one.st_ino) for one in found)

    def _undo(self) -> None:
        # SQLite has rolled back already on a full disk; a second ROLLBACK would be an error.
        if self._writing.in_transaction:
            self._writing.execute("ROLLBACK")


def path_of(url: str) -> Path:
    """The file a database URL names. Raises AskedWrongly for anything but `sqlite:///FILE`."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    name = parsed.database if parsed and parsed.get_backend_name() == "sqlite" else None
    if not name or name == ":memory:" or name.startswith("file:"):
        shown = parsed.render_as_string(hide_password=True) if parsed else "something else"
        raise AskedWrongly(
            "bad_database",
            f"expected a database like `sqlite:///tidegate.db`, got `{shown[:80]}`",
            "set `[database] url` in tidegate.toml",
        )
    return Path(name).absolute()


def is_there(path: Path) -> bool:
    """Whether the file exists. Raises EvidenceClosed when we may not even look."""
    try:
        return path.exists()
    except OSError as error:
        raise closed(error) from error


def make_file(path: Path) -> None:
    """An empty file only its owner may read, there for good. Nothing happens when it exists.

    Raises:
        EvidenceClosed: it cannot be made there.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, FILE_MODE))
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # a new name is durable only with its folder
        finally:
            os.close(folder)
    except FileExistsError:
        return
    except OSError as error:
        raise closed(error) from error


def closed(error: BaseException) -> EvidenceClosed:
    """A failure of the file, the disk or the lock, as callers may be told it."""
    return closed_because(_why(error))


def unreadable(error: BaseException) -> WorldFailed:
    """A failure of SQLite while it only read, in our words."""
    return WorldFailed(
        "database_unreadable",
        f"the database cannot be read: {_why(error)}",
        "run `tidegate doctor` on the server",
    )


def _why(error: Any) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""
    for start, words in (
        ("SQLITE_FULL", "the disk is full"),
        ("SQLITE_BUSY", "another process keeps the database locked"),
        ("SQLITE_READONLY_DBMOVED", "the database file was moved or deleted"),
        ("SQLITE_READONLY", "the database is read-only"),
        ("SQLITE_CANTOPEN", "the database file cannot be opened"),
        ("SQLITE_IOERR", "the disk answered with an error"),
        ("SQLITE_CORRUPT", "the database file is damaged"),
        ("SQLITE_NOTADB", "the file is not a database"),
        ("SQLITE_CONSTRAINT", "the database contradicts itself"),
    ):
        if name.startswith(start):
            return words
    return str(error) or type(error).__name__
