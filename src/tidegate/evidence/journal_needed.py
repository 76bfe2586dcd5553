"""How long the lines of a grant that is over are needed: what a compaction of a journal keeps."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import Instant, parse_instant
from tidegate.evidence.journal_line import JournalLine

# A cut is looked after for fifteen minutes beyond its end, for clocks that differ; four times that.
KEPT_BEYOND = timedelta(hours=1)


def needed_until(lines: Sequence[JournalLine]) -> dict[str, Instant]:
    """Grants whose last `intended` is followed by both `gone` and `sealed`: needed until when."""
    seen: dict[str, list[JournalLine]] = {}
    for line in lines:
        if line.kind == "intended":
            seen[line.grant] = [line]
        else:
            seen.setdefault(line.grant, []).append(line)
    return {
        grant: _needed_until(told)
        for grant, told in seen.items()
        if {"gone", "sealed"} <= {line.kind for line in told}
    }


def _needed_until(told: Sequence[JournalLine]) -> Instant:
    """The later of the end that was fixed and the last line, a session's life and a margin on. A
    life that is beyond every calendar is one that is not over.
    """
    until, data = told[-1].at, told[0].data
    with suppress(AskedWrongly):
        until = max(until, parse_instant(str(data.get("ends_at"))))
    lingers = data.get("lingers_seconds", 0)
    try:
        return until + timedelta(seconds=lingers if type(lingers) is int else 0) + KEPT_BEYOND
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
