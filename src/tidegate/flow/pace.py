"""How patient the worker is: pauses between tries, and which tries are worth a line of evidence."""

import threading
from collections import Counter
from datetime import timedelta

from tidegate.base.when import Instant
from tidegate.grant import Grant, GrantState, Outcome

SHORTEST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=2)  # a removal is never more than this from its next try
# Codes of a refusal that only means "slower, please": certainly not applied, worth trying again.
# `busy`: another change of the same thing is under way; `settling`: a deny of an earlier grant of
# the same person is younger than the time a change takes to be everywhere.
THROTTLED = "throttled"
SLOWER = frozenset({THROTTLED, "busy", "settling"})
NOTED_EVERY = 30  # at the longest pause: about one line an hour


def pause(tries: int, noise: bytes) -> timedelta:
    """How long to wait after try number `tries` (1 is the first), for ever.

    Doubles from SHORTEST_PAUSE to LONGEST_PAUSE, jittered down to half by the two bytes of `noise`
    so that many grants that failed together do not come back together.
    """
    doubled: timedelta = SHORTEST_PAUSE * 2 ** min(tries - 1, 20)
    return min(doubled, LONGEST_PAUSE) * (0.5 + int.from_bytes(noise[:2]) / 131_072)


def worth_noting(grant: Grant, outcome: Outcome, tries: int) -> bool:
    """Whether this try joins the evidence: the first, a change of outcome, then about hourly."""
    return grant.outcome != outcome.value or tries % NOTED_EVERY == 0


class Tries:
    """How often this process tried each grant in the state it is in. Thread-safe.

    In memory on purpose: counting every try in the database would be a write a try. A new process
    starts at one, which only makes it more eager.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[GrantState, int]] = {}
        self._sent: dict[str, tuple[Instant, int]] = {}
        self._removed: dict[str, tuple[Instant | None, ...]] = {}
        self._unsettled: Counter[tuple[str, str]] = Counter()

    def one_more(self, grant: Grant) -> int:
        """Count a try; returns which one of this state it is, from 1."""
        with self._lock:
            state, count = self._counts.get(grant.id, (grant.state, 0))
            count = count + 1 if state is grant.state else 1
            self._counts[grant.id] = (grant.state, count)
            return count

    def again(self, grant: str) -> int:
        """Count one more time that the grant went back to closing; returns which one, from 1."""
        with self._lock:
            state, count = self._counts.get(f"{grant} again", (GrantState.CLOSING, 0))
            self._counts[f"{grant} again"] = (state, count + 1)
            return count + 1

    def count(self, step: str, outcome: Outcome) -> None:
        """A call settled nothing: for the figures of this process."""
        with self._lock:
            self._unsettled[step, outcome.value] += 1

    def settle_counts(self) -> dict[tuple[str, str], int]:
        """How many calls settled nothing since the last asking, by step and outcome."""
        with self._lock:
            counted, self._unsettled = dict(self._unsettled), Counter()
            return counted

    def sent(self, grant: str, at: Instant) -> tuple[Instant, int]:
        """Count a call that takes the grant away; returns when the first was sent, and how many."""
        with self._lock:
            first, calls = self._sent.get(grant, (at, 0))
            self._sent[grant] = (first, calls + 1)
            return self._sent[grant]

    def removed(self, grant: str, *at: Instant | None) -> None:
        """The last removal was by this process, or it has cut anew after it: when that was sealed,
        and when it was by the closing journal.
        """
        with self._lock:
            self._removed[grant] = at

    def removed_elsewhere(self, grant: str, at: Instant | None) -> Instant | None:
        """`at`, when it was removed, if another process may have made that removal."""
        with self._lock:
            return None if at in self._removed.get(grant, ()) else at

    def forget(self, grant: str) -> None:
        """The grant is over."""
        with self._lock:
            self._removed.pop(grant, None)
            self._sent.pop(grant, None)
            self._counts.pop(grant, None)
            self._counts.pop(f"{grant} again", None)


class JournalPace:
    """When something may next be tried that has no due time in the database: by its id.

    Of grants closed from the journal, and of ends that are to move. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, tuple[Instant, int]] = {}

    def may(self, name: str, now: Instant) -> bool:
        """Whether it is time; also when the clock was set back since the last try."""
        with self._lock:
            if name not in self._next:
                return True
            at, _ = self._next[name]
            return now >= at or at > now + LONGEST_PAUSE

    def since(self, name: str) -> Instant | None:
        """From when on it may be tried again; None when no try has failed."""
        with self._lock:
            return self._next[name][0] if name in self._next else None

    def later(self, name: str, now: Instant, noise: bytes) -> int:
        """A try failed: wait longer than the last time. Returns how many have, from 1."""
        with self._lock:
            tries = self._next[name][1] + 1 if name in self._next else 1
            self._next[name] = (now + pause(tries, noise), tries)
            return tries

    def look_again(self, name: str, at: Instant) -> None:
        """No try was made: it is looked at again at `at`, as often as had failed before."""
        with self._lock:
            self._next[name] = (at, self._next[name][1] if name in self._next else 0)

    def forget(self, name: str) -> None:
        """It is done."""
        with self._lock:
            self._next.pop(name, None)
