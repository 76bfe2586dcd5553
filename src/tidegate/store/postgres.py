"""PostgreSQL: how it is connected to, when it may still be trusted, and its failures in words.

One connection writes (the writer's); the log-head row, locked first, makes the commits of all
processes serial. Reading goes through a pool in one view each; single looks through spare
connections without a transaction. Every connection must lead to the database that was opened: the
same cluster, by its system identifier, and the same database in it.
"""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, LiteralString

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from tidegate.base.errors import AskedWrongly, EvidenceClosed, WorldFailed
from tidegate.store.answered import BEYOND, Answered, Presence, Silent
from tidegate.store.database import CommitUnknown, Cursor, News, Params, Raw, Words, closed_because
from tidegate.store.engines import parsed
from tidegate.store.listening import CHANNEL, Listener
from tidegate.store.locks import Locks
from tidegate.store.spare import Spare

# No call may hang for ever on a server that is gone without a word: each wait below is bounded.
CONNECT_SECONDS = 5
UNANSWERED = timedelta(seconds=10)  # sent and not acknowledged: the kernel gives the connection up
KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}
WRITE_STATEMENT = timedelta(seconds=20)  # the largest batch takes well under one
READ_STATEMENT = timedelta(seconds=120)  # a page of the log, or one count over all of it
IDLE_IN_TRANSACTION = timedelta(seconds=60)  # a process stopped in the middle keeps the head locked
AGAIN = timedelta(milliseconds=100)  # between two tries to connect
READERS = 4  # kept for views; a server's whole share is READERS + MOST_LOOKS + 4 at rest
MOST_READERS = 16
MOST_LOOKS = 8
OLDEST = 130_000  # PostgreSQL 13: xid8, and what later clauses need

WORDS = Words(
    name="postgresql",
    among="(SELECT jsonb_array_elements_text(CAST(? AS jsonb)))",
    listed="jsonb_array_elements(CAST(? AS jsonb))",
    item="(wanted.value ->> {place})",
    for_update=" FOR UPDATE",
    skip_locked=" FOR UPDATE SKIP LOCKED",
    tables="SELECT tablename FROM pg_tables WHERE schemaname = current_schema()",
    notify=f"SELECT pg_notify('{CHANNEL}', '')",
    container="database",
)

_SETTINGS: Mapping[str, str] = {
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION.total_seconds():.0f}s",
    # So that the server, too, lets go of the locks of a client that is gone without a word.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "client_min_messages": "warning",
}
# The server's own default may be weaker: only a stronger one is kept.
_GREETING = "SELECT " + ", ".join(  # noqa: S608 - nothing but the constants above
    (
        "set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
        " WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)",
        "set_config('statement_timeout', %s, false)",
        "set_config('lock_timeout', %s, false)",
        "(SELECT oid::bigint FROM pg_database WHERE datname = current_database())",
        "current_setting('server_version_num')::bigint",
        *(f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items()),
    )
)
_BEGIN: LiteralString = "BEGIN"
_BEGIN_LIGHTLY: LiteralString = "BEGIN; SET LOCAL synchronous_commit = off"
_CLUSTER = "SELECT system_identifier FROM pg_control_system()"
_CLOCK = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

Identity = tuple[int | None, int]  # the cluster's (None: it does not say) and the database's


class _Session:
    """A connection as `Raw`: SQL in the store's spelling."""

    __slots__ = ("_db",)

    def __init__(self, db: "psycopg.Connection[Any]") -> None:
        self._db = db

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, sound or not."""
        return self._db.info.transaction_status != TransactionStatus.IDLE

    def execute(self, sql: str, params: Params = (), /) -> Cursor:
        """Run one statement."""
        return self._db.execute(spelled(sql), params)

    def executemany(self, sql: str, params: Any, /) -> Cursor:
        """Run it for each of `params`, in one go."""
        cursor = self._db.cursor()
        cursor.executemany(spelled(sql), params)
        return cursor


class Postgres:
    """One PostgreSQL database."""

    def __init__(self, url: str, password: str | None, patience: timedelta) -> None:
        """Connect. Raises AskedWrongly for no such database, EvidenceClosed when it cannot be."""
        at = parsed(url)
        self.shown = at.render_as_string()
        self.words = WORDS
        self.clashes: tuple[type[Exception], ...] = (psycopg.IntegrityError,)
        self._patience = patience
        self._at: dict[str, Any] = {
            "application_name": "tidegate",
            **KEEPALIVE,
            "tcp_user_timeout": int(UNANSWERED.total_seconds() * 1000),
            "connect_timeout": CONNECT_SECONDS,
            **{name: str(value) for name, value in at.query.items()},
            "user": at.username,
            "dbname": at.database,
        }
        for name, value in (("host", at.host), ("port", at.port), ("password", password)):
            if value is not None:
                self._at[name] = value
        self._presence = Presence(self._at)
        self._identity: Identity | None = None
        try:
            self._writing: psycopg.Connection[Any] | None = self._connect(WRITE_STATEMENT)
        except psycopg.Error as error:
            self._presence.close()
            if "does not exist" in str(error) and "database" in str(error):
                raise AskedWrongly(
                    "no_database",
                    f"expected a database at `{self.shown}`, got none of that name",
                    "make it: CREATE DATABASE, as docs/operations.md shows",
                ) from error
            raise closed(error) from error
        self._readers = self.engine(read_only=True)
        self._looks = Spare(lambda: self._connect(READ_STATEMENT), MOST_LOOKS, patience)
        self._listener = Listener(lambda: self._connect(WRITE_STATEMENT))
        self.news: News = self._listener.news
        self._locks = Locks(lambda: self._connect(WRITE_STATEMENT))

    def close(self) -> None:
        """Close every connection."""
        self._listener.close()
        self._locks.close()
        self._readers.dispose()
        self._looks.clear()
        self._presence.close()
        if self._writing is not None:
            self._writing.close()

    def engine(self, *, read_only: bool) -> Engine:
        """SQLAlchemy over this database; a reader's transaction sees one moment."""

        def connect() -> "psycopg.Connection[Any]":
            return self._connect(READ_STATEMENT if read_only else timedelta(0))

        engine = create_engine(
            "postgresql+psycopg://",
            creator=connect,
            poolclass=QueuePool,
            pool_size=READERS,
            max_overflow=MOST_READERS - READERS,
            pool_timeout=self._patience.total_seconds(),
            pool_pre_ping=True,  # after a restart of the server the first reader is not the victim
        )
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if read_only else "BEGIN"

        @event.listens_for(engine, "begin")
        def _begin(db: Connection) -> None:
            db.exec_driver_sql(begin)

        return engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view of the database. Raises WorldFailed when it cannot be read."""
        try:
            with self._readers.connect() as db:
                yield db
        except (DBAPIError, psycopg.Error, PoolTimeout) as error:
            raise _unreadable(getattr(error, "orig", None) or error) from error

    def look(self, sql: str, params: Params) -> list[Any]:
        """The rows of one query. A connection that broke since its last use is replaced once."""
        try:
            for last in (False, True):
                db = self._looks.take()
                try:
                    rows = db.execute(sql, params).fetchall()
                except psycopg.Error:
                    if not db.broken:
                        self._looks.give(db)
                        raise
                    self._looks.drop(db)
                    if last:
                        raise
                    self._looks.clear()  # the others broke with it
                    continue
                self._looks.give(db)
                return rows
        except (psycopg.Error, TimeoutError) as error:
            raise _unreadable(error) from error
        raise AssertionError("two tries, and neither ended")

    @contextmanager
    def writing(self, lasting: bool = True) -> Iterator[Raw]:
        """The write transaction: durable when it ends well, undone when it does not.

        One that is not `lasting` may be undone by a crash of the server, whole.

        Raises:
            CommitUnknown: the connection was lost while committing.
            EvidenceClosed: anything else that keeps it from being written.
        """
        db = self._begun(_BEGIN if lasting else _BEGIN_LIGHTLY)
        try:
            yield _Session(db)
        except psycopg.Error as error:
            self._undo(db)
            if isinstance(error, psycopg.DataError):
                raise  # one job's values, not the database: the writer finds out whose
            raise closed(error) from error
        except BaseException:
            self._undo(db)
            raise
        try:
            ended = db.execute("COMMIT", prepare=False).statusmessage
        except psycopg.Error as error:
            self._undo(db)
            if db.closed or _is_lost(error):
                raise CommitUnknown(
                    "outcome_unknown",
                    f"the commit was sent and its answer never came: {_why(error)}",
                    "read again before you decide; run `tidegate doctor` on the server",
                ) from error
            raise closed(error) from error
        if ended != "COMMIT":  # a failed transaction answers COMMIT with a rollback, without error
            raise closed_because("the database undid the transaction")

    def check(self) -> None:
        """Nothing costs nothing here: every connection is checked when it is made."""

    def doubts(self) -> list[str]:
        """What the server was told that makes durable mean less."""
        settings = (
            "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes')"
        )
        return [
            f"the server runs with {name} = off: a power cut may lose what was called durable"
            for name, setting in self.look(settings, ())
            if setting == "off"
        ]

    def only_one(self, key: str, unasked: bool = False) -> AbstractContextManager[bool]:
        """Have `key` in hand, unless somebody has, in any process on this database."""
        return self._locks.only_one(key, unasked)

    def only_one_here(self, key: str) -> AbstractContextManager[bool]:
        """The same among the threads of this process; the server is not asked."""
        return self._locks.only_one_here(key)

    def closed(self, error: BaseException) -> EvidenceClosed:
        """A failure of the driver, as callers may be told it."""
        return closed(error)

    def now_ms(self) -> int | None:
        """The server's clock."""
        return int(self.look(_CLOCK, ())[0][0])

    def _connect(self, statement: timedelta) -> "psycopg.Connection[Any]":
        """A new connection, once it is known to lead to the same database.

        Raises:
            psycopg.Error: no connection.
            EvidenceClosed: it leads to another database, or a server that is too old.
        """
        self._presence.check()
        try:
            db = Answered.connect(autocommit=True, prepare_threshold=2, **self._at)
        except psycopg.errors.ConnectionTimeout:
            self._presence.missed()
            raise
        try:
            db.presence = self._presence
            db.longest = (statement + BEYOND).total_seconds() if statement else None
            db.prepared_max = 300
            # One width, or each mix of small and large numbers would be another statement.
            db.adapters.register_dumper(int, Int8Dumper)
            waits = (_ms(statement), _ms(self._patience if statement else READ_STATEMENT))
            greeting = db.execute(_GREETING, waits).fetchone()
            assert greeting is not None
            durable, _, _, oid, release = greeting[:5]
            if durable not in ("on", "remote_apply"):
                raise closed_because(f"expected synchronous_commit on, got {durable}")
            if release < OLDEST:
                raise closed_because(f"expected PostgreSQL 13 or later, got {release // 10_000}")
            self._recognise((_cluster(db), int(oid)))
        except BaseException:
            db.close()
            raise
        return db

    def _recognise(self, found: Identity) -> None:
        if self._identity is None:
            self._identity = found
        elif found != self._identity:
            raise EvidenceClosed(
                "database_replaced",
                f"evidence cannot be written: `{self.shown}` now leads to another database than "
                "the one that was opened",
                "point the address back, or restart to use the one that is there now",
            )

    def _begun(self, begin: LiteralString) -> "psycopg.Connection[Any]":
        """The write connection in a new transaction; connects again while there is patience."""
        deadline = time.monotonic() + self._patience.total_seconds()
        while True:
            try:
                if self._writing is None:
                    self._writing = self._connect(WRITE_STATEMENT)
                db = self._writing
                if db.info.transaction_status != TransactionStatus.IDLE:
                    self._undo(db)
                    continue
                db.execute(begin, prepare=False)
                return db
            except psycopg.Error as error:
                if self._writing is not None:
                    self._undo(self._writing)
                if time.monotonic() > deadline or not _may_heal(error):
                    raise closed(error) from error
                time.sleep(AGAIN.total_seconds())

    def _undo(self, db: "psycopg.Connection[Any]") -> None:
        """Roll back; a connection that cannot is closed, which does as much."""
        if not db.closed:
            with contextlib.suppress(psycopg.Error):
                db.rollback()
        if db.closed or db.info.transaction_status != TransactionStatus.IDLE:
            db.close()
            self._writing = None


@lru_cache(maxsize=1_024)
def spelled(sql: str) -> bytes:
    """The store's SQL with psycopg's placeholders: `%s` for `?`, `%(name)s` for `:name`."""

    def one(found: "re.Match[str]") -> str:
        text = found.group()
        if text == "?":
            return "%s"
        if text.startswith(":") and text != "::":
            return f"%({text[1:]})s"
        return text.replace("%", "%%")

    return re.sub(r"'[^']*'|::|:[a-z_][a-z0-9_]*|\?|%", one, sql).encode()


def closed(error: BaseException) -> EvidenceClosed:
    """A failure of the server or the way to it, as callers may be told it."""
    return closed_because(_why(error))


def _unreadable(error: BaseException) -> WorldFailed:
    return WorldFailed(
        "database_unreadable",
        f"the database cannot be read: {_why(error)}",
        "run `tidegate doctor` on the server",
    )


def _cluster(db: "psycopg.Connection[Any]") -> int | None:
    try:
        row = db.execute(_CLUSTER).fetchone()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction):
        return None
    return None if row is None else int(row[0])


def _ms(span: timedelta) -> str:
    return f"{span.total_seconds() * 1000:.0f}ms"


def _is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, so that nobody heard the answer."""
    state = error.sqlstate or ""
    return not state or state.startswith(("08", "57P"))


def _may_heal(error: psycopg.Error) -> bool:
    """Whether trying again in a moment may help: the server is away, not unwilling.

    Nor is one that was waited for already: that was all the patience there is.
    """
    if isinstance(error, Silent | psycopg.errors.ConnectionTimeout):
        return False
    state = error.sqlstate or ""
    if state.startswith("28") or state == "3D000" or "authentication failed" in str(error):
        return False
    return _is_lost(error) or state in ("53300", "55000")


_STATES: tuple[tuple[str, str], ...] = (
    ("53100", "the database's disk is full"),
    ("53200", "the database is out of memory"),
    ("53300", "the database has too many connections"),
    ("25006", "the database is read-only (a standby, or set so)"),
    ("57P01", "the database was shut down"),
    ("57P02", "the database crashed"),
    ("57P03", "the database is starting up or shutting down"),
    ("57014", "the database did not answer in time"),
    ("25P03", "the transaction was idle for too long"),
    ("55P03", "another process keeps the database locked"),
    ("40001", "two transactions got in each other's way; nothing was stored"),
    ("40P01", "two transactions waited for each other; nothing was stored"),
    ("28", "the database refused the login"),
    ("3D000", "there is no database of that name"),
    ("42501", "the database role may not do that"),
    ("42P01", "a table is missing"),
    ("XX00", "the database's files are damaged"),
    ("58", "the database's disk answered with an error"),
    ("23", "the database contradicts itself"),
    ("08", "the connection to the database was lost"),
)


def _why(error: BaseException) -> str:
    state = getattr(error, "sqlstate", None) or ""
    if state:
        for start, words in _STATES:
            if state.startswith(start):
                return words
    told = str(error)
    for part, words in (
        ("too many clients", "the database has too many connections"),
        ("too many connections", "the database has too many connections"),
        ("starting up", "the database is starting up or shutting down"),
        ("shutting down", "the database is starting up or shutting down"),
        ("authentication failed", "the database refused the login"),
        ("no password supplied", "the database asks for a password"),
        ("does not exist", "the database knows no such role or database"),
        ("SSL", "TLS to the database failed"),
        ("certificate", "TLS to the database failed"),
        ("timeout expired", "the database cannot be reached"),
        ("refused", "the database cannot be reached"),
        ("resolve", "the database's name cannot be resolved"),
        ("No such file", "the database cannot be reached"),
    ):
        if part in told:
            return words
    if isinstance(error, psycopg.OperationalError):
        return "the connection to the database was lost"
    return told.splitlines()[0] if told else type(error).__name__
