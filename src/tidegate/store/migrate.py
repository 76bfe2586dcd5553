"""Brings a database to the schema this version speaks, and refuses one it does not know.

Alembic is loaded only when there is something to do: starting a current server does not pay for it.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from tidegate.base.errors import AskedWrongly, WorldFailed
from tidegate.store.database import Database, closed_because

# Oldest first; the last is what this version speaks. A test holds it to the files.
REVISIONS: Sequence[str] = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0008",
    "0009",
    "0010",
    "0011",
    "0012",
    "0013",
    "0014",
)
SCRIPTS = "tidegate.store:migrations"
# Any number, as long as every release has the same: two that start at once take turns.
TURN = 7_415_208_511_907_463_001


def version(database: Database) -> str | None:
    """The schema version of a database; None for an empty one.

    Raises:
        AskedWrongly: it holds tables, but not ours.
        WorldFailed: it cannot be read.
    """
    names = {row[0] for row in database.look(database.words.tables, ())}
    if "alembic_version" in names:
        rows = database.look("SELECT version_num FROM alembic_version", ())
        return str(rows[0][0]) if rows else None
    if names:
        raise AskedWrongly(
            "other_database",
            f"expected a Tidegate database, got one with a table `{min(names)[:40]}`",
            f"name another {database.words.container} in `[database] url`",
        )
    return None


def migrate(database: Database, *, create: bool) -> None:
    """Bring the schema up to date in one transaction. Does nothing when it is.

    Raises:
        AskedWrongly: empty and not `create`, not ours, or newer than this version.
        EvidenceClosed: it cannot be read or written.
    """
    try:
        found = version(database)
    except WorldFailed as fault:
        raise closed_because(fault.message.removeprefix("the database cannot be read: ")) from fault
    if found == REVISIONS[-1]:
        return
    if found is None and not create:
        raise AskedWrongly(
            "no_database",
            f"expected a Tidegate database at `{database.shown}`, "
            f"got an empty {database.words.container}",
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
        raise database.closed(error.orig or error) from error
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
    if connection.dialect.name == "postgresql":
        _take_turns(connection)
    command.upgrade(config, "head")
    if connection.dialect.name == "postgresql":
        _order_by_bytes(connection)


def _take_turns(connection: Connection) -> None:
    """One release at a time, and none while somebody commits: a commit reads the version first."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": TURN})
    if connection.execute(text("SELECT to_regclass('log_head')")).scalar():
        connection.execute(text("LOCK TABLE log_head IN ACCESS EXCLUSIVE MODE"))


def _order_by_bytes(connection: Connection) -> None:
    """Texts compare as bytes, as in SQLite, whatever language the database was made for.

    Pages go by id and targets by a range of role ids; in a language's order both would leave rows
    out. Only columns that are new are changed.
    """
    columns = connection.execute(
        text(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND data_type = 'text'"
            " AND collation_name IS DISTINCT FROM 'C'"
        )
    ).all()
    for table, column in columns:
        connection.execute(
            text(f'ALTER TABLE "{table}" ALTER COLUMN "{column}" TYPE text COLLATE "C"')
        )
