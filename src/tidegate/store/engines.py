"""Which engine a database URL names."""

from datetime import timedelta

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from tidegate.base.errors import AskedWrongly
from tidegate.store.database import Database
from tidegate.store.sqlite import PATIENCE, SqliteFile, is_there, make_file, path_of


def open_database(
    url: str, *, password: str | None = None, create: bool = False, patience: timedelta = PATIENCE
) -> Database:
    """The database at `url`: `sqlite:///FILE` or `postgresql://USER@HOST:PORT/DB?OPTION=VALUE`.

    Args:
        url: where it is; never with a password.
        password: PostgreSQL's.
        create: make the file when there is none. A PostgreSQL database is made by its operator.
        patience: how long to wait for a lock, or for the server to be there again.

    Raises:
        AskedWrongly: no such database, or no such engine.
        EvidenceClosed: it cannot be opened.
    """
    if is_postgres(url):
        from tidegate.store.postgres import Postgres  # another engine's users do not load it

        return Postgres(url, password, patience)
    path = path_of(url)
    if create:
        make_file(path)
    elif not is_there(path):
        raise AskedWrongly(
            "no_database",
            f"expected a database at `{path}`, got no such file",
            "name the settings of an installation (`--config FILE`), or make one: `tidegate init`",
        )
    return SqliteFile(path, patience)


def is_postgres(url: str) -> bool:
    """Whether `url` names a PostgreSQL database."""
    return url.startswith("postgresql://")


def parsed(url: str) -> URL:
    """The parts of a PostgreSQL URL.

    Raises:
        AskedWrongly: no user, host or database in it, or a password.
    """
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        found = None
    if found is None or not (found.username and found.database):
        raise AskedWrongly(
            "bad_database",
            "expected a database like `postgresql://tidegate@db.example:5432/tidegate`, "
            "got no user or no database in it",
            "set `[database] url` in tidegate.toml",
        )
    if found.password is not None or "password" in found.query:
        raise AskedWrongly(
            "password_in_url",
            "expected a database URL without a password, got one with it",
            'take it out, and set `[database] password = "env:NAME"` or `"file:PATH"`',
        )
    return found
