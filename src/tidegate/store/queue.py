"""What is due: the worker's way to the grants it must look at next.

Due times and leases are the worker's own columns, not state: losing them costs a look too early,
never one too few. Every commit of a grant sets when it is due again and frees its lease.
"""

import sqlite3
from datetime import timedelta

from sqlalchemy import Connection, select

from tidegate.base.when import Instant, to_ms
from tidegate.grant import Grant
from tidegate.store import schema
from tidegate.store.reads import bounded
from tidegate.store.rows import codecs

# What must end comes first, then what is waiting to be called gone, then what may open: a rush of
# openings must never keep a close waiting. An intent past its end is closed, so it ranks as one.
_CLAIM = """
UPDATE grants SET lease_until_ms = :lease WHERE id IN (
  SELECT id FROM grants
  WHERE due_at_ms <= :now AND (lease_until_ms IS NULL OR lease_until_ms <= :now)
  ORDER BY
    CASE
      WHEN state = 'removed' THEN 1
      WHEN state IN ('open', 'closing') OR ends_at_ms <= :now THEN 0
      ELSE 2
    END,
    due_at_ms, id
  LIMIT :limit)
RETURNING *
"""
# An open grant is never put to sleep past its end.
_SNOOZE = """
UPDATE grants SET lease_until_ms = NULL, due_at_ms = CASE
    WHEN state IN ('intended', 'open') AND ends_at_ms > :now THEN min(:until, ends_at_ms)
    ELSE :until
  END
WHERE id = :grant AND due_at_ms IS NOT NULL AND (:version IS NULL OR version = :version)
"""


def any_due(db: Connection, now: Instant) -> bool:
    """Whether a claim would find something: spares an idle worker the write."""
    table = schema.grants
    free = table.c.lease_until_ms.is_(None) | (table.c.lease_until_ms <= to_ms(now))
    query = select(table.c.id).where(table.c.due_at_ms <= to_ms(now), free).limit(1)
    return db.execute(query).first() is not None


def claim(db: sqlite3.Connection, now: Instant, limit: int, lease: timedelta) -> list[Grant]:
    """Lease at most `limit` due grants until `now + lease`: ends first, then the longest due."""
    cursor = db.execute(
        _CLAIM, {"now": to_ms(now), "lease": to_ms(now + lease), "limit": bounded(limit)}
    )
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    rows.sort(key=lambda row: (_rank(row, to_ms(now)), row["due_at_ms"], row["id"]))
    decode = codecs()[Grant].decode
    return [decode(row) for row in rows]


def free_leases(db: sqlite3.Connection) -> None:
    """Whoever held a lease is gone."""
    db.execute("UPDATE grants SET lease_until_ms = NULL WHERE lease_until_ms IS NOT NULL")


def snooze(
    db: sqlite3.Connection, grant: str, until: Instant, version: int | None, now: Instant
) -> None:
    """Look at `grant` again at `until`, and free its lease.

    Nothing happens to a grant that is over, or that is no longer at `version` (None: any): a change
    since then has set its own due time.
    """
    db.execute(
        _SNOOZE,
        {"grant": grant, "until": to_ms(until), "version": version, "now": to_ms(now)},
    )


def _rank(row: dict[str, int | str | None], now_ms: int) -> int:
    if row["state"] == "removed":
        return 1
    ends = row["ends_at_ms"]
    ending = row["state"] in ("open", "closing") or (isinstance(ends, int) and ends <= now_ms)
    return 0 if ending else 2
