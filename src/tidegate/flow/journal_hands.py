"""Hands that close from the journal: a target that does not answer keeps no more than its share.

Without the database nobody claims anything for them: each look says what is owed, and a hand that
is free takes what has waited for the longest on a target with room. They go on beside whoever
looked, so a look never waits for a cloud.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass

import structlog

from tidegate.flow.buckets import Buckets
from tidegate.flow.house import BareHouse
from tidegate.flow.recovering import Owed, Unknown, close_owed, owed_now
from tidegate.store import Store

log = structlog.get_logger("tidegate.journal_hands")


@dataclass(frozen=True, slots=True)
class _Task:
    """What one hand does: an end, whose pace it keeps, and the database that knows nothing of it,
    if one answers.
    """

    owed: Owed
    buckets: Buckets
    store: Store | None


class JournalHands:
    """The hands of one process. Thread-safe.

    `a_target` is how many of them one target may keep, `most` how many there are; `executor` has a
    thread for each (in tests and simulations: whatever does what is submitted).
    """

    def __init__(self, executor: Executor, a_target: int, most: int) -> None:
        self.executor = executor
        self._a_target = a_target
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[_Task] = []
        self._without_store = False  # what waits does so only while the database does not answer
        self._under_way: dict[str, Owed] = {}  # by assignment: never two at the same
        self._kept: dict[str, ExitStack] = {}  # of them: what is in hand for another house too
        self._hands = 0

    def look(self, house: BareHouse, only: Unknown | None = None) -> list[Future[None]]:
        """Begin what the journal of `house` owes, as far as there are hands; what they will do.

        What is left they take up by themselves. What an earlier look left is looked at anew.
        With `only` it is these ends, of which a database that answers knows nothing.

        Raises:
            OSError: the journal cannot be read.
        """
        # A store that cannot be used is not asked for the pace either: it may say nothing at all.
        buckets, store = (house.buckets, only.store) if only else (house.alone, None)
        owed = owed_now(house, only.names if only else None)
        tasks = [_Task(one, buckets, store) for one in owed]
        with self._lock:
            self._waiting, self._without_store = tasks, only is None
            more = min(len(tasks), self._most - self._hands)
            self._hands += more
        return [self.executor.submit(self._work, house) for _ in range(more)]

    def answered(self) -> None:
        """The database answers: no more is begun without it. What is under way comes to its end."""
        with self._lock:
            if self._without_store:
                self._waiting = []

    def keep(self, house: BareHouse) -> None:
        """Have what is under way in hand for `house` too, until it comes to its end: nobody there
        opens or closes the same assignment beside it.
        """
        with self._lock:
            for key in self._under_way:
                self._kept[key] = ExitStack()
                self._kept[key].enter_context(house.only_one_here(key))

    def busy(self) -> Mapping[str, int]:
        """How many hands each target keeps."""
        with self._lock:
            return Counter(owed.hold.target.id for owed in self._under_way.values())

    def _work(self, house: BareHouse) -> None:
        while (task := self._take()) is not None:
            try:
                close_owed(house, task.owed, task.buckets, task.store)
            except Exception:  # the rim: one grant's bug must not stop the others' end
                log.exception("closing from the journal failed", grant=task.owed.hold.grant)
            finally:
                with self._lock:
                    key = task.owed.hold.key.text()
                    del self._under_way[key]
                    self._kept.pop(key, ExitStack()).close()

    def _take(self) -> _Task | None:
        """The next for a hand that is free; None: it is not needed any more."""
        with self._lock:
            busy = Counter(owed.hold.target.id for owed in self._under_way.values())
            for place, task in enumerate(self._waiting):
                hold = task.owed.hold
                free = busy[hold.target.id] < self._a_target
                if free and hold.key.text() not in self._under_way:
                    self._under_way[hold.key.text()] = task.owed
                    del self._waiting[place]
                    return task
            self._hands -= 1
            return None
