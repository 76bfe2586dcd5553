"""A copy of a SQLite database, read without changing one byte of it or of what lies beside it.

SQLite writes when it only reads: it makes the files of a write-ahead log, folds one back, or undoes
a transaction that was cut short. A copy may be all the evidence there is. So it is either opened as
a file that nobody changes, or, when a log lies beside it, copied with that log to a private place
and read there.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tidegate.base.errors import WorldFailed
from tidegate.store.sqlite import unreadable

BESIDE = ("-wal", "-journal")  # without these the file alone is the whole database


@contextmanager
def reading_copy(path: Path) -> Iterator[Connection]:
    """One view of the copy at `path`, and of the log beside it.

    Raises:
        WorldFailed: it cannot be read, or there is no room for the private copy.
    """
    beside = [end for end in BESIDE if _has_bytes(path, end)]
    if not beside:
        with _reading(path, "mode=ro&immutable=1") as db:
            yield db
        return
    with tempfile.TemporaryDirectory(prefix="tidegate-copy-") as place:  # mode 0700
        private = Path(place) / "copy.db"
        try:
            for end in ("", *beside):
                shutil.copyfile(f"{path}{end}", f"{private}{end}")
        except OSError as fault:
            raise WorldFailed(
                "copy_failed",
                f"expected room for a private copy of `{path}` in `{place}`: {fault.strerror}",
                "set TMPDIR to a place with room for it",
            ) from fault
        with _reading(private, "mode=rw") as db:
            yield db


@contextmanager
def _reading(path: Path, how: str) -> Iterator[Connection]:
    def connect() -> sqlite3.Connection:
        db = sqlite3.connect(
            f"file:{quote(str(path))}?{how}", uri=True, isolation_level=None, timeout=0
        )
        for pragma in ("query_only = ON", "trusted_schema = OFF"):
            db.execute(f"PRAGMA {pragma}")
        return db

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", lambda db: db.exec_driver_sql("BEGIN"))
    try:
        with engine.connect() as db:
            yield db
    except (DBAPIError, sqlite3.Error) as fault:
        raise unreadable(getattr(fault, "orig", None) or fault) from fault
    finally:
        engine.dispose()


def _has_bytes(path: Path, end: str) -> bool:
    try:
        return Path(f"{path}{end}").stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError as fault:
        why = f"`{path}{end}` cannot be looked at: {fault.strerror}"
        raise WorldFailed("database_unreadable", why, "mend its rights") from fault
