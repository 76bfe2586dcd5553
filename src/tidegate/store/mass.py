"""Many ends in one instant: set statements, and the same rows and events as one by one.

The facts are made by `expire.closing`, as those of a single end are; the row changes are written
out here, and tests hold them to what `grant.evolve` and `catalogue.let_go` would have made.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tidegate.base.canonical import canonical
from tidegate.base.fact import SYSTEM, Fact
from tidegate.base.when import Instant, from_ms, to_ms, wire
from tidegate.catalogue import without
from tidegate.expire import EndReason, closing
from tidegate.grant import GrantState
from tidegate.store import commit
from tidegate.store.database import Raw
from tidegate.store.queue import ENDING_INDEX
from tidegate.store.rows import LANES

# Grants one transaction ends: with more the time for each no longer falls, and whoever else writes
# waits longer than a hundred milliseconds.
AT_ONCE = 2_000

_END = f"""
UPDATE grants SET state = '{GrantState.CLOSING}', closing_at_ms = :now,
  end_reason = '{EndReason.EXPIRED}', outcome = '', tries = 0, version = version + 1,
  due_at_ms = :now, lease_until_ms = NULL, lane = {LANES[GrantState.CLOSING]}
WHERE id IN (
  SELECT id FROM grants{{ending}} WHERE state IN ('open', 'intended') AND ends_at_ms <= :now
  ORDER BY ends_at_ms, id LIMIT :limit)
RETURNING id, request, ends_at_ms, assignment
"""  # noqa: S608 - our own words
_HELD = "SELECT id, holders, version FROM assignments WHERE id IN {among}"


@dataclass(frozen=True, slots=True)
class Mass:
    """End at most `limit` grants whose end has come at `now`."""

    now: Instant
    limit: int


def end(db: Raw, mass: Mass, sql: commit.Statements) -> list[Fact]:
    """Change the rows; returns the facts to be sealed with them, the earliest end first.

    Raises:
        ValueError, TypeError, OverflowError: a row holds what no version of ours wrote. Nothing may
            be kept then: one by one, the others still end.
    """
    asked = {"now": to_ms(mass.now), "limit": min(mass.limit, AT_ONCE)}
    rows = db.execute(_END.format(ending=ENDING_INDEX.get(sql.words.name, "")), asked).fetchall()
    rows.sort(key=lambda row: (row[2], row[0]))
    _let_go(db, rows, sql)
    at = wire(mass.now)
    ends = {ms: wire(from_ms(ms)) for ms in {row[2] for row in rows}}
    return [
        closing(id, request, ends[ends_at_ms], EndReason.EXPIRED, SYSTEM, at)
        for id, request, ends_at_ms, _ in rows
    ]


def _let_go(db: Raw, rows: list[Any], sql: commit.Statements) -> None:
    """Each grant that ended holds its assignment no more: one version a holder that leaves."""
    leaving: Mapping[str, list[str]] = defaultdict(list)
    for id, _, _, assignment in rows:
        leaving[assignment].append(id)
    changed: list[tuple[str, str, int]] = []
    wanted = orjson.dumps(sorted(leaving)).decode()
    for name, kept, version in db.execute(_HELD.format(among=sql.words.among), (wanted,)):
        holders = tuple(orjson.loads(kept))
        for grant in leaving[name]:
            if grant in holders:
                holders, version = without(holders, grant), version + 1
        changed.append((name, canonical(holders).decode(), version))
    sql.holders.run(db, sorted(changed))
