"""The part of the store that says what is due, and keeps several workers off each other's work."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import timedelta

from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.catalogue import Assignment
from tidegate.grant import Grant
from tidegate.request import Request
from tidegate.store import chores, paces, queue, reads
from tidegate.store.database import Database
from tidegate.store.mass import AT_ONCE, Mass
from tidegate.store.paces import Pace
from tidegate.store.queue import Share
from tidegate.store.reads import Waiting
from tidegate.store.writer import Direct, Free, Writer


class DueStore:
    """Raises as `Store` does."""

    _database: Database
    _writer: Writer | Direct
    _clock: Callable[[], Instant]
    _turns: queue.Turns

    def claim_due(
        self, now: Instant, limit: int, lease: timedelta, share: Share | None = None
    ) -> list[Grant]:
        """Lease what must be looked at now: ends before openings, the riskiest first.

        Nobody else is given a leased grant until `now + lease`, or until it changes or is snoozed.
        `share` bounds how many are of one target, and says whether openings, ends or both are
        wanted; without it `limit` alone does.
        """
        self._database.check()
        if not queue.any_due(self._database, now, share):
            return []
        words, turns = self._database.words, self._turns
        return self._writer.run(
            Free(lambda db: queue.claim(db, words, now, limit, lease, share, turns))
        )

    def next_due(self, after: Instant) -> Instant | None:
        """When the next thing becomes due after `after`; None when nothing will. Cheap."""
        return queue.next_due(self._database, after)

    def take_tokens(self, pace: Pace, want: int, now: Instant) -> int:
        """Take at most `want` tokens of a bucket all processes share; returns how many."""
        words = self._database.words
        given: int = self._writer.run(Free(lambda db: paces.take(db, words, pace, want, now)))
        return given

    def slow_pace(self, name: str, until: Instant, now: Instant) -> None:
        """Halve the rate of a bucket until then: the cloud asked for it."""
        self._writer.run(Free(lambda db: paces.slow(db, name, until, now)))

    def slowed_until(self, name: str) -> Instant | None:
        """Until when a bucket gives half its rate; None when it never did."""
        return paces.slowed_until(self._database, name)

    def waiting(self, targets: tuple[str, ...], now: Instant) -> Waiting:
        """What waits on these targets: ends that are not removed, and openings that are due."""
        with self._database.reading() as db:
            return reads.waiting(db, targets, now)

    def late(
        self, targets: tuple[str, ...], now: Instant, longer: timedelta, limit: int
    ) -> list[Grant]:
        """Grants on these targets closing for longer than that at `now`, the longest first.

        Last those that a clock ahead of `now` called back: for how long they are, no row says.
        """
        return chores.late(self._database, targets, now, longer, limit)

    def overdue(self, now: Instant, longer: timedelta, limit: int) -> list[str]:
        """The ids of grants not removed whose end came longer ago than that, sealed or not."""
        return chores.overdue(self._database, now, longer, limit)

    def open_ends(self, ids: Iterable[str]) -> dict[str, tuple[Instant, str]]:
        """When those of these grants that are open end, and the assignment of each."""
        return chores.open_ends(self._database, ids)

    def unremoved_after(self, after: str, limit: int) -> list[str]:
        """The ids of grants whose access may be there, that come after that one, in order."""
        return chores.unremoved_after(self._database, after, limit)

    def shared(self, ids: Iterable[str]) -> dict[str, Assignment]:
        """Those of these assignments that more than one grant holds, by id."""
        return chores.shared(self._database, ids)

    def ending_targets(self) -> list[str]:
        """Every target with an end that is due or under way, in the settings or not any more."""
        return chores.ending_targets(self._database)

    def wait_for_news(self, timeout: timedelta) -> bool:
        """Wait until something was committed that is due at once; whether it was.

        News of before the wait, since this thread's last one, counts. It may be lost: what is due
        is looked for after every wait, whatever this says.
        """
        return self._database.news.wait(timeout)

    def only_one(self, key: str, *, unasked: bool = False) -> AbstractContextManager[bool]:
        """Have `key` in hand: True when nobody else has, in any process on this database.

        While the database cannot be asked the answer is `unasked`, if nobody in this process has
        it: no for an opening, yes for an end, which waits for no database. Whoever is told True has
        it until the context ends; on PostgreSQL a lost connection ends it sooner, so what is done
        meanwhile must bear a second hand, as everything bears one after a crash.
        """
        return self._database.only_one(key, unasked)

    def only_one_here(self, key: str) -> AbstractContextManager[bool]:
        """`only_one` among the threads of this process; the database is not asked."""
        return self._database.only_one_here(key)

    def end_due(self, now: Instant, limit: int = AT_ONCE) -> int:
        """End grants whose end has come at `now`, in bulk; returns how many.

        As if each had been ended by itself, `expired`; at most `limit` (and AT_ONCE), by their end.

        Raises:
            RuntimeError, ValueError, TypeError, OverflowError: an unreadable row; nothing stored.
        """
        if not reads.any_ending(self._database, now):
            return 0
        return self._writer.end(Mass(now, limit))

    def free_silent(self, now: Instant) -> int:
        """Free what a silent worker holds, wake ends that sleep too long; how many. Cheap."""
        if not queue.any_silent(self._database, now):
            return 0
        work = Free(lambda db: queue.free_silent(db, self._database.words, now))
        return int(self._writer.run(work))

    def leave(self, name: str) -> None:
        """The worker that beat as `name` has stopped: its leases are free, and so is its name."""
        self._writer.run(Free(lambda db: queue.leave(db, name)))

    def check_log(self) -> None:
        """Look at the log's head as a commit does. Raises EvidenceClosed: nothing can be sealed."""
        self._writer.run(lambda _: None)

    def free_leases(self) -> None:
        """Forget every lease: for a process that knows that no other one is at work."""
        self._writer.run(queue.free_leases)

    def snooze(self, grant_id: str, until: Instant, version: int | None = None) -> None:
        """Look at a grant again at `until` (an open one at its end at the latest).

        With `version`, only if it is still at that version: a change since has its own due time.
        """
        now = from_ms(to_ms(self._clock()))
        self._writer.run(lambda db: queue.snooze(db, grant_id, until, version, now))

    def lapsed(self, now: Instant, limit: int) -> list[Request]:
        """Pending requests whose decide-by has passed, longest over first."""
        return chores.lapsed(self._database, now, limit)

    def approved_without_grants(self, limit: int) -> list[Request]:
        """Approved requests with fewer grants than items: for `doctor`, not for a loop."""
        with self._database.reading() as db:
            return reads.approved_without_grants(db, limit)
