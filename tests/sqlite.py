"""SQLite for tests: an empty file gets the newest schema at once, as the migrations made it in
another one. The migrations alone took a quarter of what the tests took.
"""

import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from tidegate.store import migrate
from tidegate.store.database import Database
from tidegate.store.engines import open_database

by_revisions: Callable[[Database], None] = migrate._upgrade


def make_at_once() -> None:
    """From here on, in this process. What holds an older schema is migrated as ever."""
    migrate._upgrade = at_once


def at_once(database: Database) -> None:
    """As `by_revisions`."""
    if database.words.name != "sqlite" or migrate.version(database) is not None:
        by_revisions(database)
        return
    with database.writing() as db:
        for statement in _statements():
            db.execute(statement, ())


@cache
def _statements() -> Sequence[str]:
    """What makes that schema, with the rows the migrations leave."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tidegate.db"
        database = open_database(f"sqlite:///{file}", create=True)
        by_revisions(database)
        database.close()
        made = sqlite3.connect(file)
        dump = [line for line in made.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")]
        made.close()
        return dump
