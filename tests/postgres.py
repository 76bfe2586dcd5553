"""PostgreSQL for tests: one server a process, started when first asked for, and one fresh database
a test, copied from a template that has the newest schema already.
"""

import atexit
import itertools
from contextlib import ExitStack
from functools import cache

import psycopg

from tidegate.main.postgres import PostgresServer, postgres_server
from tidegate.store.engines import open_database
from tidegate.store.migrate import migrate

_numbers = itertools.count(1)


@cache
def server() -> PostgresServer:
    """The server of this process; it ends with it."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(postgres_server())


def fresh(template: str = "template0") -> str:
    """The URL of a new database, empty unless `template` names another one."""
    url = server().url(f"test_{next(_numbers)}")
    copy(template, url)
    return url


def copy(template: str, url: str) -> None:
    """Make the database of that URL, as the template (its name, or its URL) is: nobody may be
    connected to that.
    """
    made, of = (one.rpartition("/")[2] for one in (url, template))
    with psycopg.connect(server().url(), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {made} TEMPLATE {of} STRATEGY FILE_COPY".encode())


@cache
def migrated() -> str:
    """The name of a template that has the newest schema and nothing in it."""
    url = fresh()
    database = open_database(url)
    migrate(database, create=True)
    database.close()
    return url.rpartition("/")[2]


def drop(url: str) -> None:
    """Remove a database, whoever is connected."""
    name = url.rpartition("/")[2]
    with psycopg.connect(server().url(), autocommit=True) as db:
        db.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
