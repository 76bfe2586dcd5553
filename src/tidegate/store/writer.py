"""The commit writer: one thread that turns waiting Steps into durable batches.

It takes one job, drains what else is waiting, and commits them together. It never lingers: while
one batch becomes durable the next one gathers by itself. A batch that cannot be written fails
whole, and says so to everybody in it; a stale Step fails alone.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from tidegate.base.errors import EvidenceClosed, Stale, TidegateError, WorldFailed
from tidegate.base.fact import Step
from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.evidence.note import Signer
from tidegate.evidence.seal import seal
from tidegate.store import commit, head, mass
from tidegate.store.batch import Batch, Committed, check_step
from tidegate.store.database import CommitUnknown, Database, Raw, closed_because
from tidegate.store.mass import Mass
from tidegate.store.rows import codecs

MOST_IN_BATCH = 500  # Steps: larger ones gain nothing and hold the lock longer
# Jobs waiting: about a second's work. Beyond it callers are told, instead of waiting for minutes.
MOST_WAITING = 20_000

T = TypeVar("T")
Work = Callable[[Raw], Any]


@dataclass(frozen=True, slots=True)
class Free:
    """Work that no commit decides by, and that waits for no row: it needs not have the log's head.

    So that claims of one process do not wait for the commits of another. Nor is it waited for at
    the disk: what a power cut may take are leases, beats and tokens, which cost a look too early.
    """

    work: Work

    def __call__(self, db: Raw) -> Any:
        """Do it."""
        return self.work(db)


Job = Step | Work | Mass


@dataclass(frozen=True, slots=True)
class _Job:
    """A Step to commit, or a piece of work inside the same transaction."""

    future: Future[Any]
    what: Job


class _Wake:
    """Put in the queue for each urgent job: whoever waits there looks at those first."""


WAKE = _Wake()


class Committer:
    """Turns jobs into one transaction, and knows the log's head. Not safe between threads."""

    def __init__(
        self, database: Database, signer: Signer, clock: Callable[[], Instant], begun: head.LogHead
    ) -> None:
        self._database = database
        self._signer = signer
        self._clock = clock
        self._head = begun
        self._codecs = codecs()
        self._sql = commit.statements(self._codecs, database.words)

    def check(self, step: Step) -> None:
        """Raise RuntimeError for a Step that no database could take."""
        check_step(step, self._codecs)

    def commit(self, jobs: Sequence[Job]) -> list[Any]:
        """One transaction. What it returns is durable; the head moves in memory only after it.

        Returns:
            For each job, in order: where its facts are, what its work returned, or the exception it
            failed with alone.

        Raises:
            WorldFailed: it cannot be written; nothing was.
        """
        if any(isinstance(job, Mass) for job in jobs):
            return self._end_many(jobs)
        if all(isinstance(job, Free) for job in jobs):
            return self._do_freely(jobs)
        batch: Batch | None = None
        try:
            with self._database.writing() as db:
                before = after = head.read(db, self._database.words, self._head, self._signer)
                batch = self._begin(db, jobs, before)
                outcomes = [self._take(db, batch, job) for job in jobs]
                if batch.facts:
                    after = commit.store(db, batch, before, self._signer, self._sql)
        except CommitUnknown as unknown:
            if batch is None or not batch.facts or not self._is_there(batch, unknown):
                raise
        self._head = after
        if commit.due_now(batch):
            self._database.news.tell()
        return [
            Committed(first_idx=outcome, size=batch.size, at=batch.at)
            if isinstance(job, Step) and isinstance(outcome, int)
            else outcome
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]

    def _begin(self, db: Raw, jobs: Sequence[Job], before: head.LogHead) -> Batch:
        steps = [job for job in jobs if isinstance(job, Step)]
        known = commit.gather(db, steps, self._codecs, self._sql)
        at = max(from_ms(to_ms(self._clock())), before.at)
        return Batch(self._codecs, known, before.tree.size, at)

    def _do_freely(self, jobs: Sequence[Job]) -> list[Any]:
        """Work alone, without the log's head."""
        with self._database.writing(lasting=False) as db:
            head.check_schema(db)
            return [self._take(db, None, job) for job in jobs]

    def _is_there(self, batch: Batch, unknown: CommitUnknown) -> bool:
        """Whether a batch whose commit was never answered is durable: its own first event tells.

        The log's head is locked for the look: a commit still on its way has ended by then.

        Raises:
            EvidenceClosed: it is not: nothing was stored.
            CommitUnknown: the database cannot be asked.
        """
        first = batch.seal()[0]
        try:
            with self._database.writing() as db:
                head.read(db, self._database.words, None)
                row = db.execute("SELECT hash FROM events WHERE idx = ?", (first.idx,)).fetchone()
        except EvidenceClosed as fault:
            raise unknown from fault
        if row is None or bytes(row[0]) != first.hash:
            raise closed_because("the connection was lost while committing; nothing was stored")
        return True

    def _end_many(self, jobs: Sequence[Job]) -> list[Any]:
        """Ends in bulk have a transaction of their own: no Step beside them may touch their rows.

        Raises:
            RuntimeError: there is something beside them. The writer then tries each alone.
        """
        if len(jobs) > 1:
            raise RuntimeError("ends in bulk beside other work")
        (job,) = jobs
        assert isinstance(job, Mass)
        with self._database.writing() as db:
            before = after = head.read(db, self._database.words, self._head, self._signer)
            at = max(from_ms(to_ms(self._clock())), before.at)
            facts = mass.end(db, job, self._sql)
            if facts:
                heads = commit.chain_heads(db, self._sql, {fact.subject for fact in facts})
                sealed = seal(facts, first_idx=before.tree.size, at=at, heads=heads)
                after = commit.write_log(db, sealed, before, at, self._signer, self._sql, tell=True)
        self._head = after
        if facts:
            self._database.news.tell()
        return [len(facts)]

    def _take(self, db: Raw, batch: Batch | None, what: Job) -> Any:
        """The Step's first index, the work's result, or why it failed alone."""
        try:
            if isinstance(what, Step):
                assert batch is not None
                return batch.admit(what)
            if isinstance(what, Mass):
                raise RuntimeError("ends in bulk beside other work")
            with _savepoint(db):
                return what(db)
        except (Stale, RuntimeError) as refusal:
            return refusal
        except self._database.clashes as clash:
            return clash


class Direct:
    """Writes at once, in the caller's thread, one job a transaction: for a store in memory."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._alone = threading.RLock()
        self._closed = False

    def commit(self, step: Step) -> Committed:
        """Store a Step; it is stored on return. Raises what its future would."""
        self._committer.check(step)
        done: Committed = self._do(step)
        return done

    def submit(self, step: Step, *, urgent: bool = False) -> "Future[Committed]":
        """`commit` as a future that has ended; nothing ever waits here, so all are urgent."""
        self._committer.check(step)
        future: Future[Committed] = Future()
        try:
            future.set_result(self._do(step))
        except Exception as fault:  # noqa: BLE001 - the rim: whatever it is belongs to the future
            future.set_exception(fault)
        return future

    def run(self, work: Callable[[Raw], T]) -> T:
        """Do `work` inside a transaction of its own."""
        done: T = self._do(work)
        return done

    def close(self) -> None:
        """Nothing is taken afterwards."""
        self._closed = True

    def end(self, many: Mass) -> int:
        """End in bulk; returns how many."""
        done: int = self._do(many)
        return done

    def _do(self, what: Job) -> Any:
        if self._closed:
            raise _not_taken("store_closed", "the server is stopping")
        try:
            with self._alone:
                (outcome,) = self._committer.commit((what,))
        except WorldFailed as fault:
            raise _as_closed(fault) from fault
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Writer:
    """One thread that writes for everybody. Safe to call from any thread."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._jobs: queue.SimpleQueue[_Job | _Wake | None] = queue.SimpleQueue()
        self._urgent: deque[_Job] = deque()
        self._closing = False
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="tidegate-writer", daemon=True)
        self._thread.start()

    def commit(self, step: Step) -> Committed:
        """`submit`, and wait for it."""
        return self.submit(step).result()

    def submit(self, step: Step, *, urgent: bool = False) -> "Future[Committed]":
        """Queue a Step. The future ends once it is durable, or with Stale or EvidenceClosed.

        Urgent Steps are taken before all others, in their own order, however many wait.
        """
        self._committer.check(step)
        return self._put(step, urgent)

    def run(self, work: Callable[[Raw], T]) -> T:
        """Do `work` inside the next batch's transaction; wait until it is durable.

        For small writes no event makes. Whatever it raises undoes it; a constraint it breaks, and a
        RuntimeError, undo it alone.
        """
        done: Future[T] = self._put(work)
        return done.result()

    def end(self, many: Mass) -> int:
        """End in bulk, in a transaction of its own; returns how many once that is durable."""
        done: int = self._put(many).result()
        return done

    def close(self) -> None:
        """Commit what is waiting, then stop."""
        with self._gate:
            if self._closing:
                return
            self._closing = True
            self._jobs.put(None)
        self._thread.join()

    def _put(self, what: Job, urgent: bool = False) -> "Future[Any]":
        future: Future[Any] = Future()
        with self._gate:
            if self._closing:
                raise _not_taken("store_closed", "the server is stopping")
            if urgent:
                self._urgent.append(_Job(future, what))
                self._jobs.put(WAKE)
                return future
            if self._jobs.qsize() >= MOST_WAITING:
                raise _not_taken("writer_busy", f"{MOST_WAITING} writes are waiting already")
            self._jobs.put(_Job(future, what))
        return future

    def _run(self) -> None:
        going = True
        while going:
            jobs, going = self._drain()
            if jobs:
                self._settle(jobs)

    def _drain(self) -> tuple[list[_Job], bool]:
        """What is waiting, at least one job, and whether to go on after it."""
        jobs: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            for one in self._next(job, MOST_IN_BATCH - len(jobs)):
                if one.future.set_running_or_notify_cancel():
                    jobs.append(one)
            if len(jobs) >= MOST_IN_BATCH:
                return jobs, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, True
        return jobs, False

    def _next(self, job: _Job | _Wake, room: int) -> Iterator[_Job]:
        """`job`, after what is urgent, as far as there is `room` for that.

        A wake whose job was taken before it stands for none.
        """
        while self._urgent and room > 0:
            yield self._urgent.popleft()
            room -= 1
        if isinstance(job, _Job):
            yield job

    def _settle(self, jobs: list[_Job]) -> None:
        """Commit `jobs` together and tell each caller; ends in bulk after the others, alone."""
        if len(jobs) > 1 and (bulk := [job for job in jobs if isinstance(job.what, Mass)]):
            others = [job for job in jobs if not isinstance(job.what, Mass)]
            for some in ([others] if others else []) + [[job] for job in bulk]:
                self._settle(some)
            return
        try:
            outcomes = self._committer.commit([job.what for job in jobs])
        except WorldFailed as fault:
            for job in jobs:
                # One object each: a traceback belongs to the thread that raises it.
                job.future.set_exception(_as_closed(fault))
        except Exception as bug:  # noqa: BLE001 - the rim: the writer outlives any one Step's bug
            if len(jobs) == 1:
                jobs[0].future.set_exception(bug)
                return
            for job in jobs:  # one of them is at fault; alone, it fails alone
                self._settle([job])
        else:
            for job, outcome in zip(jobs, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    job.future.set_exception(outcome)
                else:
                    job.future.set_result(outcome)


@contextmanager
def _savepoint(db: Raw) -> Iterator[None]:
    db.execute("SAVEPOINT work")
    try:
        yield
    except BaseException:
        if db.in_transaction:  # a full disk has undone all of it already
            db.execute("ROLLBACK TO work")
            db.execute("RELEASE work")
        raise
    db.execute("RELEASE work")


def _as_closed(fault: TidegateError) -> EvidenceClosed:
    if isinstance(fault, EvidenceClosed):
        return EvidenceClosed(fault.code, fault.message, fault.help)
    return EvidenceClosed(
        "evidence_closed", f"evidence cannot be written: {fault.message}", fault.help
    )


def _not_taken(code: str, why: str) -> EvidenceClosed:
    return EvidenceClosed(code, f"evidence cannot be written: {why}", "try again in a moment")
