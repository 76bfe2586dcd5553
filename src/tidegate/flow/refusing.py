"""Refusals are evidence too: who was told no, when trying what. Bounded, so that nobody can use
refused calls to fill the log (I7): the first few a minute one by one, then one counted event.
"""

import threading

from tidegate.base.errors import TidegateError
from tidegate.base.fact import SYSTEM, Data, Fact, Step
from tidegate.base.personal import Personal
from tidegate.base.when import Instant, from_ms, to_ms, wire
from tidegate.flow.house import House

SEALED_ONE_BY_ONE = 10  # a minute and principal
MOST_SOURCES = 1_000  # counted apart; the rest share one line


Counts = dict[tuple[str, Instant], int]  # by who or whence, and minute


class Refusals:
    """Counts of the running minute. In memory on purpose: a crash loses counts, never refusals
    that were sealed one by one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: dict[tuple[str, Instant], int] = {}
        self._failed: dict[tuple[str, Instant], int] = {}

    def refused(
        self, house: House, principal: str, command: str, about: str, fault: TidegateError
    ) -> None:
        """Seal a refusal, or count it when this principal had many this minute."""
        now = house.now()
        key = (principal, minute_of(now))
        with self._lock:
            count = self._refused[key] = self._refused.get(key, 0) + 1
        if count <= SEALED_ONE_BY_ONE:
            data = {
                "principal": principal,
                "command": command[:80],
                "about": about[:120],
                "code": fault.code,
                "at": wire(now),
            }
            _seal(house, "command.refused", principal, principal, data)

    def failed_signin(self, house: House, source: str) -> None:
        """Count a call whose credential nobody is known by."""
        key = (source[:60], minute_of(house.now()))
        with self._lock:
            if key not in self._failed and len(self._failed) >= MOST_SOURCES:
                key = ("others", key[1])
            self._failed[key] = self._failed.get(key, 0) + 1

    def flush(self, house: House, whole: bool = False) -> int:
        """Seal the counts of minutes that are over (`whole`: of the running one too).

        Returns how many events that made. A count goes only when it is sealed: what cannot be
        sealed now is there at the next try.
        """
        this = minute_of(house.now())
        with self._lock:
            refused = {k: n for k, n in self._refused.items() if whole or k[1] < this}
            failed = {k: n for k, n in self._failed.items() if whole or k[1] < this}
        made = 0
        for key, count in refused.items():
            more = count - SEALED_ONE_BY_ONE
            if more > 0:
                data = {"principal": key[0], "count": more, "minute": wire(key[1])}
                _seal(house, "command.refused_many", key[0], key[0], data)
                made += 1
            self._less(self._refused, key, count)
        for key, count in failed.items():
            address = house.personal(key[0])  # whose it is may be found out: erasable
            data = {"source": address.commitment, "count": count, "minute": wire(key[1])}
            _seal(house, "signin.failed_many", SYSTEM, SYSTEM, data, address)
            self._less(self._failed, key, count)
            made += 1
        return made

    def _less(
        self, counts: dict[tuple[str, Instant], int], key: tuple[str, Instant], count: int
    ) -> None:
        """Take away what is sealed; more may have been counted meanwhile."""
        with self._lock:
            left = counts.get(key, 0) - count
            counts.pop(key, None)
            if left > 0:
                counts[key] = left


def minute_of(at: Instant) -> Instant:
    """The start of the minute `at` is in."""
    return from_ms(to_ms(at) // 60_000 * 60_000)


def _seal(house: House, name: str, subject: str, actor: str, data: Data, *texts: Personal) -> None:
    fact = Fact(name=name, subject=subject, actor=actor, data=data)
    house.store.commit(Step((), (fact,), texts))
