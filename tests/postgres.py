"""PostgreSQL for tests: one server a process, started when first asked for, and one fresh database
a test, copied from a template that has the newest schema already.
"""

import atexit
import itertools
from contextlib import ExitStack
from functools import cache

import psycopg

from tidegate.main.postgres import PostgresServer, postgres_server

_numbers = itertools.count(1)
TEMPLATE = "tidegate_template"


@cache
def server() -> PostgresServer:
    """The server of this process; it ends with it."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(postgres_server())


def fresh(template: str = "template0") -> str:
    """The URL of a new database, empty unless `template` names another one."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server().url(), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY".encode())
    return server().url(name)


def drop(url: str) -> None:
    """Remove a database, whoever is connected."""
    name = url.rpartition("/")[2]
    with psycopg.connect(server().url(), autocommit=True) as db:
        db.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
