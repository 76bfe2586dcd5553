"""Large databases for measuring, made by bulk SQL: rows as the product would have left them.

Only what is measured reads: grants, their assignments and the heads of their chains. The events
behind them are not there, so such a database is for timing, never for checking evidence.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

TARGETS = 100  # accounts of a large house
HOUR_MS = 3_600_000


def fill(path: Path, first: int, count: int, ends_at_ms: int) -> None:
    """Add open grants number `first` and on, which all end at `ends_at_ms`. SQLite only."""
    with closing(sqlite3.connect(path)) as db, db:
        empty = {  # what a column holds that this file says nothing of
            name: None if not needed else "" if kind == "TEXT" else 0
            for _, name, kind, needed, *_ in db.execute("PRAGMA table_info(grants)")
        }
        names = list(empty)
        marks = ", ".join("?" * len(names))
        db.executemany(
            f"INSERT INTO grants ({', '.join(names)}) VALUES ({marks})",
            _rows(empty, first, count, ends_at_ms),
        )
        numbers = range(first, first + count)
        db.executemany(
            "INSERT INTO assignments VALUES (?, 'aws', '1', ?, ?, ?, ?, 0, 1)",
            (
                (
                    f"as_{n:026d}",
                    f"arn{n % TARGETS}",
                    f"gr_{n:026d}",
                    f'["gr_{n:026d}"]',
                    ends_at_ms,
                )
                for n in numbers
            ),
        )
        db.executemany(
            "INSERT INTO chain_heads VALUES (?, 3, ?)",
            ((f"rq_{n:026d}", "a" * 64) for n in numbers),
        )


def _rows(
    empty: dict[str, Any], first: int, count: int, ends_at_ms: int
) -> Iterator[tuple[Any, ...]]:
    with_value = {
        "principal": "pr_bench",
        "role_digest": "sha256:" + "0" * 64,
        "state": "open",
        "opens_at_ms": ends_at_ms - HOUR_MS,
        "claim_by_ms": ends_at_ms - HOUR_MS // 2,
        "duration_seconds": 3600,
        "ends_at_ms": ends_at_ms,
        "opened_at_ms": ends_at_ms - HOUR_MS,
        "due_at_ms": ends_at_ms,
        "lane": 3,
        "version": 3,
        "exposure_seconds": 30,
        "unattended_seconds": 30,
    }
    for n in range(first, first + count):
        target = f"t{n % TARGETS:03d}"
        own = {
            "id": f"gr_{n:026d}",
            "request": f"rq_{n:026d}",
            "role": f"{target}/admin",
            "assignment": f"as_{n:026d}",
            "target": target,
        }
        yield tuple({**empty, **with_value, **own}.values())
