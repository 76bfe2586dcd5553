"""Large databases for measuring, made by bulk SQL: rows as the product would have left them.

Only what is measured reads: grants, their assignments and the heads of their chains. The events
behind them are not there, so such a database is for timing, never for checking evidence.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg
from sqlalchemy import BigInteger, Boolean, Integer, Table

from tidegate.store import schema

TARGETS = 100  # accounts of a large house
HOUR_MS = 3_600_000
_NUMBERED = {"sqlite": "printf('{}%0{}d', {})", "postgresql": "'{}' || lpad(({})::text, {}, '0')"}
_SOURCE = {
    "sqlite": (
        "WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL"
        " SELECT n + 1 FROM numbers WHERE n < {last}) "
    ),
    "postgresql": "WITH numbers(n) AS (SELECT generate_series({first}::bigint, {last}::bigint)) ",
}


def fill(url: str, first: int, count: int, ends_at_ms: int, *, held: bool = True) -> None:
    """Add open grants number `first` and on, which all end at `ends_at_ms`.

    Without `held` only the grants: enough for what looks for the next, not for what ends them.
    """
    engine = url.partition(":")[0]
    tables = [(schema.grants, _grant(engine, ends_at_ms))]
    if held:
        tables += [
            (schema.assignments, _assignment(engine, ends_at_ms)),
            (schema.chain_heads, _chain(engine)),
        ]
    source = _SOURCE[engine].format(first=first, last=first + count - 1)
    lines = [_insert(engine, table, said, source) for table, said in tables]
    if engine == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
            for line in lines:
                db.execute(line)
    else:
        with psycopg.connect(url, autocommit=True) as server:
            for line in lines:
                server.execute(line.encode())
            server.execute("ANALYZE")


def take_out(url: str, grants: Sequence[str]) -> None:
    """Take grants out, as if they were gone: what has ended stands in no line."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
            db.executemany("DELETE FROM grants WHERE id = ?", [(one,) for one in grants])
    else:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute("DELETE FROM grants WHERE id = ANY(%s)", (list(grants),))


def _insert(engine: str, table: Table, said: dict[str, Any], source: str) -> str:
    names = [column.name for column in table.columns]
    values = ", ".join(str(said.get(name, _empty(table.c[name]))) for name in names)
    into = f"INSERT INTO {table.name} ({', '.join(names)}) "
    chosen = f"SELECT {values} FROM numbers"
    return into + source + chosen


def _empty(column: Any) -> str:
    """What a column holds that this file says nothing of."""
    if column.nullable:
        return "NULL"
    if isinstance(column.type, Boolean):
        return "false"
    return "0" if isinstance(column.type, BigInteger | Integer) else "''"


def _numbered(engine: str, prefix: str, number: str = "n", digits: int = 26) -> str:
    order = (prefix, digits, number) if engine == "sqlite" else (prefix, number, digits)
    return _NUMBERED[engine].format(*order)


def _grant(engine: str, ends_at_ms: int) -> dict[str, Any]:
    target = _numbered(engine, "t", f"n % {TARGETS}", 3)
    return {
        "id": _numbered(engine, "gr_"),
        "request": _numbered(engine, "rq_"),
        "assignment": _numbered(engine, "as_"),
        "role": f"{target} || '/admin'",
        "target": target,
        "principal": "'pr_bench'",
        "role_digest": f"'sha256:{'0' * 64}'",
        "state": "'open'",
        "opens_at_ms": ends_at_ms - HOUR_MS,
        "claim_by_ms": ends_at_ms - HOUR_MS // 2,
        "opened_at_ms": ends_at_ms - HOUR_MS,
        "held_since_ms": ends_at_ms - HOUR_MS,
        "duration_seconds": 3600,
        "ends_at_ms": ends_at_ms,
        "due_at_ms": ends_at_ms,
        "lane": 3,
        "version": 3,
        "exposure_seconds": 30,
        "unattended_seconds": 30,
    }


def _assignment(engine: str, ends_at_ms: int) -> dict[str, Any]:
    return {
        "id": _numbered(engine, "as_"),
        "connector": "'aws'",
        "account": "'1'",
        "native_role": _numbered(engine, "arn", f"n % {TARGETS}", 3),
        "native_principal": _numbered(engine, "gr_"),
        "holders": f"""'["' || {_numbered(engine, "gr_")} || '"]'""",
        "deadline_at_ms": ends_at_ms,
        "version": 1,
    }


def _chain(engine: str) -> dict[str, Any]:
    return {"subject": _numbered(engine, "rq_"), "size": 3, "head": f"'{'a' * 64}'"}
