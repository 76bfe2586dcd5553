"""What the store asks of an engine. `sqlite.py`, `memory.py` and `postgres.py` answer.

SQL on the driver itself is written once, with SQLite's placeholders (`?`, `:name`); what engines
spell differently is in `Words`.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Protocol

from sqlalchemy import Column, Connection, Dialect, Engine

from tidegate.base.errors import EvidenceClosed

Params = Sequence[Any] | Mapping[str, Any]


class Cursor(Protocol):
    """What a statement answered."""

    @property
    def rowcount(self) -> int:
        """How many rows it touched."""
        ...

    @property
    def description(self) -> Any:
        """One entry a column, the name first."""
        ...

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Every row that is left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Row by row."""
        ...


class Raw(Protocol):
    """The driver's own connection, inside the one write transaction."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    def execute(self, sql: str, params: Any = ..., /) -> Cursor:
        """Run one statement."""
        ...

    def executemany(self, sql: str, params: Any, /) -> Cursor:
        """Run it for each of `params`; the row count is of all together."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What engines spell differently.

    `among` is a subquery of the texts in a JSON list that is one parameter; `listed` the list's
    members as a table, to be called `wanted`, and `item` one part of such a member. `for_update`
    locks the rows a query finds; `skip_locked` passes over those others hold. `tables` asks for the
    names of all tables, `notify` wakes other processes (empty: there are none). `container` is what
    people call the place: a file, a database.
    """

    name: str
    among: str
    listed: str
    item: str
    for_update: str
    skip_locked: str
    tables: str
    notify: str
    container: str

    def spelled(self, sql: str) -> str:
        """The store's SQL as the driver takes it, for `Database.look`."""
        if self.name == "sqlite":
            return sql
        from tidegate.store.postgres import spelled  # another engine's users do not load it

        return spelled(sql).decode()

    def typed(self, column: Column[Any]) -> str:
        """A placeholder that says its type, where the engine would not find out by itself."""
        if self.name == "sqlite":
            return "?"
        return f"CAST(? AS {column.type.compile(dialect=_postgres())})"


@cache
def _postgres() -> Dialect:
    from sqlalchemy.dialects.postgresql import dialect  # another engine's users do not load it

    found: Dialect = dialect()  # type: ignore[no-untyped-call]
    return found


class CommitUnknown(EvidenceClosed):
    """The connection went while a commit was on its way: it may be durable, or not."""


def closed_because(why: str) -> EvidenceClosed:
    """The refusal every failure to write ends in."""
    return EvidenceClosed(
        "evidence_closed",
        f"evidence cannot be written: {why}",
        "nothing opens until it can; run `tidegate doctor` on the server",
    )


class Database(Protocol):
    """One open database. Every method may be called from any thread but `writing`.

    `shown` is where it is, as people may see it; `clashes` what the driver raises for a broken
    constraint.
    """

    shown: str
    words: Words
    clashes: tuple[type[Exception], ...]
    news: "News"

    def close(self) -> None:
        """Let go of it."""
        ...

    def engine(self, *, read_only: bool) -> Engine:
        """SQLAlchemy over it."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """One consistent view. Raises WorldFailed when it cannot be read."""
        ...

    def look(self, sql: str, params: Params) -> list[Any]:
        """The rows of one query, on the driver itself. Raises WorldFailed."""
        ...

    def writing(self, lasting: bool = True) -> AbstractContextManager[Raw]:
        """The write transaction: durable when it ends well, undone when it does not.

        One that is not `lasting` is not waited for at the disk: a power cut may undo it, whole.

        Raises:
            EvidenceClosed: it cannot be written; CommitUnknown when nobody can say.
        """
        ...

    def check(self) -> None:
        """Raise EvidenceClosed unless it still is what was opened. Cheap."""
        ...

    def doubts(self) -> list[str]:
        """What is wrong with how it is kept, in words."""
        ...

    def closed(self, error: BaseException) -> EvidenceClosed:
        """A failure of the driver, as callers may be told it."""
        ...

    def only_one(self, key: str, unasked: bool = False) -> AbstractContextManager[bool]:
        """Have `key` in hand, unless somebody has; `unasked` is the answer nobody can give."""
        ...

    def only_one_here(self, key: str) -> AbstractContextManager[bool]:
        """The same among the threads of this process; nobody else is asked."""
        ...

    def now_ms(self) -> int | None:
        """Its clock, in milliseconds since the epoch; None when it has none of its own."""
        ...


class News:
    """Tells threads that wait that something may be due."""

    def __init__(self) -> None:
        self._told = 0
        self._changed = threading.Condition()
        self._mine = threading.local()

    def tell(self) -> None:
        """Wake everybody who waits, and whoever waits next without having heard of it."""
        with self._changed:
            self._told += 1
            self._changed.notify_all()

    def wait(self, timeout: timedelta) -> bool:
        """Wait until something was told since this thread last waited; whether it was."""
        heard = getattr(self._mine, "heard", 0)
        with self._changed:
            told = self._changed.wait_for(lambda: self._told != heard, timeout.total_seconds())
            self._mine.heard = self._told
        return told


class KeysInHand:
    """Keys somebody in this process has in hand."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def only_one(
        self,
        key: str,
        take: Callable[[str], bool] = lambda _: True,
        leave: Callable[[str], None] = lambda _: None,
    ) -> Iterator[bool]:
        """Whether `key` is ours until the end: nobody here has it, and `take` says yes."""
        with self._lock:
            free = key not in self._keys
            self._keys.add(key)
        if not free:
            yield False
            return
        try:
            if not take(key):
                yield False
                return
            try:
                yield True
            finally:
                leave(key)
        finally:
            with self._lock:
                self._keys.discard(key)
