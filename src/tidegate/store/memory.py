"""SQLite in memory: one connection for reading and writing, gone with it. For simulation.

The schema is built once a process, by the same migrations as a file's, and copied from there.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import StaticPool

from tidegate.store.database import KeysInHand, News, Params
from tidegate.store.migrate import run
from tidegate.store.sqlite import WORDS, SqliteFile, closed

_copying = threading.Lock()  # the template is one connection


class Memory(SqliteFile):
    """A database of this process alone. Whoever reads or writes has it for themselves."""

    def __init__(self) -> None:
        self.shown = "memory"
        self.words = WORDS
        self.clashes = (sqlite3.IntegrityError,)
        self.news = News()
        self._keys = KeysInHand()
        self._alone = threading.RLock()
        self._writing = _connect()
        template = _template()
        with _copying:
            template.backup(self._writing)
        self._readers = _engine(self._writing)
        self._view: Connection | None = None

    def close(self) -> None:
        """Nothing: a store that goes on with it may be open (`Store.memory`)."""

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """The database; nobody writes meanwhile."""
        with self._alone:
            if self._view is None:
                self._view = self._readers.connect()
            yield self._view

    def look(self, sql: str, params: Params) -> list[Any]:
        """The rows of one query."""
        with self._alone:
            return self._writing.execute(sql, params).fetchall()

    @contextmanager
    def writing(self, lasting: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, undone when it does not end well. Raises EvidenceClosed."""
        db = self._writing
        with self._alone:
            try:
                db.execute("BEGIN")
                yield db
                db.execute("COMMIT")
            except sqlite3.Error as error:
                self._undo()
                raise closed(error) from error
            except BaseException:
                self._undo()
                raise

    def check(self) -> None:
        """There is no file."""

    def doubts(self) -> list[str]:
        """Nothing: nobody else can reach it."""
        return []


def _connect() -> sqlite3.Connection:
    return sqlite3.connect(
        ":memory:", isolation_level=None, check_same_thread=False, cached_statements=256
    )


def _engine(db: sqlite3.Connection) -> Engine:
    """SQLAlchemy over one connection; it begins nothing, so that it undoes nothing either."""
    return create_engine(
        "sqlite+pysqlite://", creator=lambda: db, poolclass=StaticPool, pool_reset_on_return=None
    )


@cache
def _template() -> sqlite3.Connection:
    """An empty database of the newest schema."""
    db = _connect()
    with _engine(db).begin() as connection:
        run(connection)
    return db
