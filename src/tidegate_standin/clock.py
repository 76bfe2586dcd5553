"""The stand-in's own clock: the machine's, moved ahead by as much as a test says.

Nothing else in the package reads the time. Instants are seconds since the epoch, as floats.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Seconds since the epoch. Only ever moved forward, so that no event runs twice."""

    def __init__(self) -> None:
        self._ahead = 0.0

    @property
    def ahead(self) -> float:
        """How many seconds this clock is ahead of the machine's."""
        return self._ahead

    def now(self) -> float:
        """The instant it is here."""
        return time.time() + self._ahead

    def move_to(self, ahead: float) -> None:
        """Be `ahead` seconds ahead. Raises ValueError when that would go back."""
        if ahead < self._ahead:
            raise ValueError(f"the clock is {self._ahead} s ahead and cannot go back to {ahead} s")
        self._ahead = ahead

    def restart(self) -> None:
        """Back to the machine's clock; only for a reset of the whole stand-in."""
        self._ahead = 0.0


def iso(at: float) -> str:
    """`2026-01-31T12:00:00Z`, whole seconds, as AWS writes instants into policies' context."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_iso(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 text or of a number of seconds in text.

    Raises ValueError for anything else. A text without an offset is UTC.
    """
    try:
        return float(text)
    except ValueError:
        pass
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
