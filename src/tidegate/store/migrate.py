"""Brings a database to the schema this version speaks, and refuses one it does not know.

Alembic is loaded only when there is something to do: starting a current server does not pay for it.
"""

import sqlite3
from collections.abc import Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tidegate.base.errors import AskedWrongly
from tidegate.store.sqlite import Database, closed

# Oldest first; the last is what this version speaks. A test holds it to the files.
REVISIONS: Sequence[str] = ("0001", "0002", "0003", "0004", "0005")
SCRIPTS = "tidegate.store:migrations"


def version(db: sqlite3.Connection) -> str | None:
    """The schema version of a database; None for an empty one.

    Raises:
        AskedWrongly: it holds tables, but not ours.
    """
    names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "alembic_version" in names:
        row = db.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])
    if names:
        raise AskedWrongly(
            "other_database",
            f"expected a Tidegate database, got one with a table `{min(names)[:40]}`",
            "name another file in `[database] url`",
        )
    return None


def migrate(database: Database, *, create: bool) -> None:
    """Bring the schema up to date in one transaction. Does nothing when it is.

    Raises:
        AskedWrongly: empty and not `create`, not ours, or newer than this version.
        EvidenceClosed: it cannot be read or written.
    """
    try:
        with_read = database.connect()
        try:
            found = version(with_read)
        finally:
            with_read.close()
    except sqlite3.Error as error:
        raise closed(error) from error
    if found == REVISIONS[-1]:
        return
    if found is None and not create:
        raise AskedWrongly(
            "no_database",
            f"expected a Tidegate database at `{database.path}`, got an empty file",
            "make one with `tidegate init`",
        )
    if found is not None and found not in REVISIONS:
        raise AskedWrongly(
            "newer_schema",
            f"expected schema `{REVISIONS[-1]}` or older, got `{found[:40]}`",
            "a newer Tidegate has used this database: run that version",
        )
    _upgrade(database)


def _upgrade(database: Database) -> None:
    engine = database.engine(read_only=False)
    try:
        with engine.begin() as connection:
            run(connection)
    except DBAPIError as error:
        raise closed(error.orig or error) from error
    finally:
        engine.dispose()


def run(connection: Connection) -> None:
    """Run every missing revision on an open transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
