"""The token bucket of a cloud account: one row all processes share. No state: losing it costs pace.

Tokens are counted in thousandths.
"""

from dataclasses import dataclass
from functools import cache

from sqlalchemy import bindparam, select

from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.store import schema
from tidegate.store.database import Raw, Words
from tidegate.store.look import Look, Looking

_READ = "SELECT tokens, at_ms, slow_until_ms FROM paces WHERE name = ?"
_MAKE = (
    "INSERT INTO paces (name, tokens, at_ms, slow_until_ms) VALUES (?, ?, ?, 0)"
    " ON CONFLICT (name) DO NOTHING"
)
_MOVE = "UPDATE paces SET tokens = ?, at_ms = ? WHERE name = ?"
_SLOW = (
    "INSERT INTO paces (name, tokens, at_ms, slow_until_ms) VALUES (?, 0, ?, ?)"
    " ON CONFLICT (name) DO UPDATE SET tokens = 0, slow_until_ms = excluded.slow_until_ms"
)
FUTURE_MS = 5_000  # a row further ahead was written by a clock that was wrong: it is not waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A bucket: tokens a second, how many it may hold, and how many this taker leaves in it."""

    name: str
    per_second: float
    most: int
    kept: int


def take(db: Raw, words: Words, pace: Pace, want: int, now: Instant) -> int:
    """Take at most `want` tokens; returns how many there were."""
    now_ms = to_ms(now)
    db.execute(_MAKE, (pace.name, pace.most * 1000, now_ms))
    tokens, at_ms, slow_until_ms = db.execute(_READ + words.for_update, (pace.name,)).fetchone()
    if at_ms > now_ms + FUTURE_MS:
        at_ms = now_ms
    rate = pace.per_second / 2 if now_ms < slow_until_ms else pace.per_second
    tokens = min(pace.most * 1000, tokens + int(max(0, now_ms - at_ms) * rate))
    given = max(0, min(want, (tokens - pace.kept * 1000) // 1000))
    db.execute(_MOVE, (tokens - given * 1000, max(at_ms, now_ms), pace.name))
    return int(given)


def slow(db: Raw, name: str, until: Instant, now: Instant) -> None:
    """The cloud asked to be called less: half the rate until then, and nothing saved up."""
    db.execute(_SLOW, (name, to_ms(now), to_ms(until)))


def slowed_until(db: Looking, name: str) -> Instant | None:
    """Until when the bucket gives half its rate; None when it never did."""
    for row in _slowed().rows(db, wanted=name):
        return from_ms(row["slow_until_ms"]) if row["slow_until_ms"] else None
    return None


@cache
def _slowed() -> Look:
    table = schema.paces
    return Look(select(table.c.slow_until_ms).where(table.c.name == bindparam("wanted")))
