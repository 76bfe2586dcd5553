"""What is due: the worker's way to the grants it must look at next.

Due times and leases are the worker's own columns, not state: losing them costs a look too early,
never one too few. Every commit of a grant sets when it is due again and frees its lease.
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from sqlalchemy import Connection, select

from tidegate.base.when import Instant, to_ms
from tidegate.grant import Grant
from tidegate.store import schema
from tidegate.store.reads import bounded
from tidegate.store.rows import UNREADABLE, codecs

log = structlog.get_logger("tidegate.store")

# What must end comes first, then what is waiting to be called gone, then what may open: a rush of
# openings must never keep a close waiting. An intent past its end is closed, so it ranks as one.
# No target is given more than its share, so one that does not answer cannot hold all the hands.
_CLAIM = """
UPDATE grants SET lease_until_ms = :lease WHERE id IN (
  SELECT id FROM (
    SELECT id, urgency, due_at_ms, target,
      row_number() OVER (PARTITION BY target ORDER BY urgency, due_at_ms, id) AS place
    FROM (
      SELECT id, due_at_ms, substr(role, 1, instr(role, '/') - 1) AS target,
        CASE
          WHEN state = 'removed' THEN 1
          WHEN state IN ('open', 'closing') OR ends_at_ms <= :now THEN 0
          ELSE 2
        END AS urgency
      FROM grants
      WHERE due_at_ms <= :now AND (lease_until_ms IS NULL OR lease_until_ms <= :now))
    WHERE (:opens = 1 AND urgency = 2) OR (:closes = 1 AND urgency < 2))
  WHERE place <= :a_target - coalesce(
    (SELECT value FROM json_each(:in_hand) WHERE key = target), 0)
  ORDER BY urgency, due_at_ms, id
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many grants of one target may be in hand at a time, and how many are by target id.

    `opens` and `closes`: what the asker may do. What may open is `ready`, or an intent before its
    end; everything else is closing.
    """

    a_target: int
    in_hand: Mapping[str, int] = field(default_factory=dict)
    opens: bool = True
    closes: bool = True


def any_due(db: Connection, now: Instant, share: Share | None = None) -> bool:
    """Whether a claim would find something: spares an idle worker the write."""
    table = schema.grants
    free = table.c.lease_until_ms.is_(None) | (table.c.lease_until_ms <= to_ms(now))
    query = select(table.c.id).where(table.c.due_at_ms <= to_ms(now), free).limit(1)
    if share is not None and share.opens != share.closes:
        ends = table.c.ends_at_ms
        opening = table.c.state.in_(("ready", "intended")) & (ends.is_(None) | (ends > to_ms(now)))
        query = query.where(opening if share.opens else ~opening)
    return db.execute(query).first() is not None


def claim(
    db: sqlite3.Connection, now: Instant, limit: int, lease: timedelta, share: Share | None
) -> list[Grant]:
    """Lease at most `limit` due grants until `now + lease`: ends first, then the longest due.

    A row that cannot be read is named in the server's log, leased and left out: it must not keep
    the others from ending. Its own end is the journal's and the cloud's.
    """
    limit = bounded(limit)
    share = share or Share(a_target=limit)
    cursor = db.execute(
        _CLAIM,
        {
            "now": to_ms(now),
            "lease": to_ms(now + lease),
            "limit": limit,
            "a_target": share.a_target,
            "in_hand": json.dumps(dict(share.in_hand)),
            "opens": int(share.opens),
            "closes": int(share.closes),
        },
    )
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    rows.sort(key=lambda row: (_rank(row, to_ms(now)), row["due_at_ms"], row["id"]))
    return [grant for row in rows if (grant := _read(row))]


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


def _read(row: dict[str, int | str | None]) -> Grant | None:
    try:
        found: Grant = codecs()[Grant].decode(row)
    except UNREADABLE as fault:
        log.error("a grant's row cannot be read", grant=row["id"], why=type(fault).__name__)
        return None
    return found


def _rank(row: dict[str, int | str | None], now_ms: int) -> int:
    if row["state"] == "removed":
        return 1
    ends = row["ends_at_ms"]
    ending = row["state"] in ("open", "closing") or (isinstance(ends, int) and ends <= now_ms)
    return 0 if ending else 2
