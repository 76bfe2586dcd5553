"""Who of a process looks at which target: one that does not answer keeps one hand, never all.

The first hand does everything for as long as it comes back soon. The others help only while hands
before them wait for a cloud, and the last of them leave alone what did not answer the last time.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from tidegate.base.when import Instant

LOOK_HANDS = 8  # threads of a process; all but one sleep while clouds answer
FOR_SILENT = LOOK_HANDS // 2  # of them for scopes that did not answer: the others are never kept
SLOW = timedelta(seconds=2)  # above a list of a large role; from then on another hand helps


class LookHands:
    """The hands of one process. Thread-safe.

    In memory on purpose: a new process learns within one round which scopes are silent.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: dict[int, tuple[str, Instant]] = {}  # by hand: the target, and since when
        self._silent: set[str] = set()

    def needed(self, hand: int, now: Instant) -> bool:
        """Whether hand number `hand`, from 0, has work: as many others wait for a cloud.

        A look that began in the future was begun by a clock that was ahead: it counts as waiting.
        """
        with self._lock:
            waiting = sum(not since <= now < since + SLOW for _, since in self._at.values())
        return waiting >= hand

    def may_take(self, hand: int, scope: str, target: str) -> bool:
        """Whether it may look at a scope: nobody looks at the target, and it is one for this hand.

        A target has one hand whatever it has scopes.
        """
        with self._lock:
            free = all(target != name for name, _ in self._at.values())
            return free and (hand < FOR_SILENT or scope not in self._silent)

    @contextmanager
    def at(self, hand: int, target: str, now: Instant) -> Iterator[None]:
        """While it looks at a target."""
        with self._lock:
            self._at[hand] = (target, now)
        try:
            yield
        finally:
            with self._lock:
                self._at.pop(hand, None)

    def told(self, scope: str, answered: bool) -> None:
        """Whether a scope answered, this time."""
        with self._lock:
            if answered:
                self._silent.discard(scope)
            else:
                self._silent.add(scope)
