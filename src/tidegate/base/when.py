"""Instants and durations. The only file that makes either.

An instant is an aware UTC `datetime` cut to whole milliseconds: what the database, the wire and a
cloud's condition key can all carry without rounding. A duration is a `timedelta`. Names that leave
Python carry the unit (`due_at_ms`, `duration_seconds`).
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from tidegate.base.errors import AskedWrongly

Instant = datetime

# A year bounds every duration: longer access is standing access, which this product exists to end.
LONGEST_DURATION = timedelta(days=366)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)
_WIRE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?Z", re.ASCII)


def from_ms(ms: int) -> Instant:
    """The instant `ms` milliseconds after the Unix epoch."""
    return _EPOCH + timedelta(0, 0, ms * 1000)  # by place: what a row is read with, often


def to_ms(at: Instant) -> int:
    """Whole milliseconds since the Unix epoch, rounded down."""
    return (at - _EPOCH) // _MS


@lru_cache(maxsize=4_096)  # as `parse_instant`
def wire(at: Instant) -> str:
    """RFC 3339 in UTC with exactly three decimals: `2026-11-22T07:03:36.000Z`."""
    at = at if at.tzinfo is UTC else at.astimezone(UTC)
    return at.isoformat("T", "milliseconds")[:-6] + "Z"


@lru_cache(maxsize=4_096)  # an event, and its neighbours, say the same instants again and again
def parse_instant(text: str) -> Instant:
    """Read RFC 3339 in UTC (`Z` only). Raises AskedWrongly."""
    if _WIRE.fullmatch(text):
        try:
            return datetime.fromisoformat(text[:-1] + "+00:00")
        except ValueError:
            pass  # a well-formed shape with an impossible date: told like any other bad instant
    raise AskedWrongly(
        "bad_instant",
        f"expected an instant in UTC like `2026-11-22T07:03:36Z`, got `{text[:40]}`",
        "write it in UTC with a final `Z`",
    )


def parse_duration(text: str) -> timedelta:
    """Read `45m`, `1h30m`, `2d` or `90s`. Zero and more than a year are refused.

    Raises:
        AskedWrongly: not of that shape, zero, or over LONGEST_DURATION.
    """
    match = _DURATION.fullmatch(text.strip())
    if text.strip() and match:
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        span = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if timedelta(0) < span <= LONGEST_DURATION:
            return span
        if span:
            raise AskedWrongly(
                "bad_duration",
                f"expected a duration of at most {LONGEST_DURATION.days}d, got `{text[:40]}`",
                "ask for less",
            )
    raise AskedWrongly(
        "bad_duration",
        f"expected a duration above zero like `45m` or `1h30m`, got `{text[:40]}`",
        "use whole numbers with d, h, m or s, largest unit first",
    )


def show_duration(span: timedelta) -> str:
    """The shortest text that `parse_duration` reads back to `span`, down to the second."""
    total = max(0, int(span.total_seconds()))
    parts = (
        (total // 86400, "d"),
        (total % 86400 // 3600, "h"),
        (total % 3600 // 60, "m"),
        (total % 60, "s"),
    )
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


def whole_seconds(span: timedelta) -> int:
    """`span` in whole seconds, rounded down: access is never rounded up."""
    return span // timedelta(seconds=1)
