"""A database that is lost, put back as it once was, or locked, on either engine."""

import itertools
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg

from tests import postgres
from tests.support import World

_copies = itertools.count(1)


def backup(world: World) -> str:
    """The world's database as it is now: a copy beside it, by its name.

    PostgreSQL copies no database in use, so there the process is another one afterwards.
    """
    if not _on_postgres(world):
        kept = world.directory / f"backup-{next(_copies)}.db"
        with closing(sqlite3.connect(_file(world))) as db, closing(sqlite3.connect(kept)) as copy:
            db.backup(copy)
        return str(kept)
    world.down()
    kept_url = postgres.fresh(world.url)
    world.up()
    return kept_url


def put_back(world: World, kept: str) -> None:
    """Restore a backup: the process stops, the database is replaced, a new one starts."""
    world.down()
    lose(world)
    if _on_postgres(world):
        postgres.copy(kept, world.url)
    else:
        shutil.copy(kept, _file(world))
    world.up()


def lose(world: World) -> None:
    """The database is not there any more, whoever uses it."""
    if _on_postgres(world):
        postgres.drop(world.url)
        return
    for end in ("", "-wal", "-shm"):
        (world.directory / f"tidegate.db{end}").unlink(missing_ok=True)


@contextmanager
def locked(world: World) -> Iterator[None]:
    """Another process keeps the database from being written."""
    if _on_postgres(world):
        with psycopg.connect(world.url) as blocker:
            blocker.execute("LOCK TABLE log_head IN SHARE MODE")
            yield
            blocker.rollback()
        return
    with closing(sqlite3.connect(_file(world), isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


def _on_postgres(world: World) -> bool:
    return not world.url.startswith("sqlite:")


def _file(world: World) -> Path:
    return world.directory / "tidegate.db"
