"""The worker: what is due is looked at, level-triggered, for ever.

It keeps no timers and no list: every tick asks the store what is due now, so a restart loses
nothing. When the store cannot be used it closes from the journal instead.
"""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import structlog

from tidegate import __version__
from tidegate.base.duty import FORGOTTEN, WORKER, Duty, told
from tidegate.base.errors import EvidenceClosed, Stale, TidegateError, WorldFailed
from tidegate.base.when import Instant
from tidegate.flow.adopting import adopt_open, adopt_overdue
from tidegate.flow.asking import lapse_due
from tidegate.flow.buckets import Bucket, bucket_of, pause_of
from tidegate.flow.came_late import take_back
from tidegate.flow.confirming import confirms
from tidegate.flow.erranding import answer, target_of
from tidegate.flow.expiring import close_once
from tidegate.flow.extending import due_extensions, warn_due
from tidegate.flow.granting import open_once
from tidegate.flow.house import House, take_its_word
from tidegate.flow.journal_hands import JournalHands
from tidegate.flow.lateness import find_late
from tidegate.flow.mending import mend_cuts
from tidegate.flow.panic_unrowed import begin_unrowed
from tidegate.flow.panicking import resume
from tidegate.flow.recovering import (
    Unknown,
    close_forgotten,
    find_unknown,
    seal_journal,
    settle_journal,
)
from tidegate.flow.refusing import Refusals
from tidegate.grant import Grant, GrantState
from tidegate.store import AT_ONCE, SCHEMA_MOVED, Share
from tidegate.store.errands import Errand

log = structlog.get_logger("tidegate.worker")

TICK = timedelta(milliseconds=200)  # the longest sleep: how late what nobody told of is noticed
# Whoever comes back from the disk waits so long for a thread that computes, and an end comes back
# dozens of times before its call. Python's own is ten times that.
SWITCH = timedelta(milliseconds=0.5)
LAPSE_AT_ONCE = 64  # requests a look; the rest lapse at the next one
LEASE = timedelta(minutes=2)  # longer than every cloud call's time-out together
HANDS_A_TARGET = 16  # cloud calls at a time: below the rate limits of one account
EXTENDING_A_TARGET = HANDS_A_TARGET // 4  # of them for ends that move: most are for closing
HANDS = 4 * HANDS_A_TARGET  # three targets may be silent and the others still end in time
RECONCILE_EVERY = timedelta(milliseconds=250)  # some looks; see `flow/reconciling.py`
HELP_EVERY = timedelta(seconds=1)  # a hand that helps where others wait for a cloud
SEARCH_EVERY = timedelta(seconds=2)
ERRANDS_A_TARGET = 8  # calls that people wait for; they share the rate limits with HANDS
ERRAND_HANDS = 4 * ERRANDS_A_TARGET  # three targets may be silent, as with HANDS
STRAGGLERS = timedelta(seconds=2)  # how long a look waits for the hands it sent out
JOURNAL_EVERY = timedelta(seconds=10)
LATE_EVERY = timedelta(seconds=30)
PANIC_EVERY = timedelta(seconds=2)
MEND_EVERY = timedelta(seconds=30)
GOVERN_EVERY = timedelta(seconds=2)
WITNESS_EVERY = timedelta(seconds=10)  # one small file each: bounds what is lost and what is kept
FLUSH_EVERY = timedelta(seconds=20)
BEAT_EVERY = timedelta(seconds=2)
SILENT_EVERY = timedelta(seconds=2)
LAPSE_EVERY = timedelta(seconds=1)
BULK_AGAIN = timedelta(seconds=30)  # after ends could not be sealed in bulk: one by one until then
WARN_EVERY = timedelta(seconds=1)
FORGET_EVERY = timedelta(hours=1)

OPENING = frozenset({GrantState.READY, GrantState.INTENDED})


@dataclass(slots=True)
class Chore:
    """Something done now and then. `every` is the least time between two starts.

    With `aside` it may wait for a cloud: it runs on a thread of its own, and a start that falls in
    a run that still goes on is left out. One that is `long` may take seconds when much is alive:
    a worker that was started does it aside as well, and `tick` does it at once.
    """

    name: str
    every: timedelta
    run: Callable[[], object]
    aside: bool = False
    long: bool = False
    next_at: Instant | None = field(default=None)


class Worker:
    """One thread that looks and a few hands that act. `start`, then `stop`.

    It takes on what the house has duties for. Without any it only does the chores of a process:
    laws, counts, and saying that it is alive.
    """

    def __init__(self, house: House, refusals: Refusals, chores: tuple[Chore, ...] = ()) -> None:
        self.house = house
        self.name = f"{WORKER}:{house.me}"  # what it beats by, and holds leases by
        self._stopping = threading.Event()
        self._hands = ThreadPoolExecutor(HANDS, thread_name_prefix="tidegate-hand")
        self._errand_hands = ThreadPoolExecutor(ERRAND_HANDS, thread_name_prefix="tidegate-errand")
        # Not those that act by the store: when it answers again they are all free.
        alone = ThreadPoolExecutor(HANDS, thread_name_prefix="tidegate-journal")
        self._from_journal = JournalHands(alone, HANDS_A_TARGET, HANDS)
        self._errands: dict[Future[None], str] = {}  # the target of each errand handed out
        self._in_hand: dict[Future[None], str] = {}  # the target of each grant handed out
        self._paced: dict[str, set[Bucket]] = {}  # by target, as met: what paces it
        self._bulk_from: Instant | None = None  # not before then: a row kept it from working
        self._kept: bool | None = None  # whether our journal takes what others open; not asked yet
        self._reads = True  # whether our journal could be read when it was last looked at
        self._unsealed = False  # the log could not be written: an end waits for more than its row
        self._looked_at: Instant | None = None  # by what clock it was last claimed; None: it failed
        self._beside: dict[str, Future[None]] = {}  # by chore: its run that may still go on
        self._extending: dict[Future[None], str] = {}  # the target of each end that is to move
        self._thread = threading.Thread(target=self._run, name="tidegate-worker", daemon=True)
        self._heart = Chore("beat", BEAT_EVERY, self._beat)
        self._chores = (
            self._heart,
            Chore("silent", SILENT_EVERY, self._free_silent),  # after our own beat
            Chore("lapse", LAPSE_EVERY, lambda: lapse_due(house, LAPSE_AT_ONCE)),
            Chore("forget", FORGET_EVERY, self._forget),
            Chore("warn", WARN_EVERY, lambda: warn_due(house)),
            Chore("flush", FLUSH_EVERY, lambda: refusals.flush(house)),
            *(self._closing_chores() if Duty.CLOSE in house.duties else self._opening_chores()),
            *chores,
        )
        # A hand for each: one that waits for a silent cloud keeps no other waiting.
        asides = sum(chore.aside or chore.long for chore in self._chores)
        self._asides = ThreadPoolExecutor(asides + 1, thread_name_prefix="tidegate-aside")

    def start(self) -> None:
        """Begin looking. From here on the threads of this process take turns SWITCH apart."""
        sys.setswitchinterval(SWITCH.total_seconds())
        self._thread.start()

    def stop(self, patience: timedelta = timedelta(seconds=10)) -> None:
        """Finish the grants in hand, start no others. What is left is free for another process."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(patience.total_seconds())
        self._asides.shutdown(wait=True, cancel_futures=True)
        self._errand_hands.shutdown(wait=True, cancel_futures=True)
        self._hands.shutdown(wait=True, cancel_futures=True)
        self._from_journal.executor.shutdown(wait=True, cancel_futures=True)
        with suppress(TidegateError):  # else it is free once this one has been silent for a while
            self.house.store.leave(self.name)

    def tick(self) -> int:
        """One look; returns how many grants were handled. Tests call this instead of `start`.

        A hand that waits for a silent cloud is left behind after STRAGGLERS; its grant is leased,
        and everybody else's end goes on. No more is claimed than there are hands for: a lease that
        runs out while its grant waits for a hand would put the grant in line twice.
        """
        self._do_chores()
        return self._look()

    def _look(self, beside: bool = False) -> int:
        """One look without the chores. With `beside` it waits for none who closes from the journal:
        whether the database is back is asked meanwhile.
        """
        self._looked_at = None
        if not self.house.duties:
            return 0
        self._run_errands()
        try:
            self._ask_log()
            more = Duty.CLOSE in self.house.duties and self._seal_ends()
            due = self._claim()
        except TidegateError as fault:
            log.error("the store cannot be used; closing from the journal", code=fault.code)
            self._heed_rows(fault)
            self._close_from_journal(beside=beside)
            return 0
        except Exception:  # the rim: whatever is wrong with the store, ends do not wait for it
            log.exception("the store cannot be used; closing from the journal")
            self._heed_rows()
            self._close_from_journal(beside=beside)
            return 0
        self._from_journal.answered()
        moving = self._extensions() if self._opens() else []
        sent = {self._hands.submit(self._handle, grant): _target(grant) for grant in due}
        self._in_hand.update(sent)
        ends = {self._hands.submit(self._guarded, name, act): name for name, act in moving}
        self._extending.update(ends)
        sent.update(ends)
        patience = 0.0 if more else STRAGGLERS.total_seconds()
        for done in wait(sent, patience).done:
            done.result()  # only what must end the process gets here: `_handle` keeps the rest
        return len(sent) or int(more)

    def _ask_log(self) -> None:
        """Whether the log can be written again, if it could not be: rows can be claimed all the
        same, and what is claimed would then wait for its seal with the access there.

        Raises:
            EvidenceClosed: it cannot.
        """
        if self._unsealed:
            self.house.store.check_log()
            self._unsealed = False

    def _seal_ends(self) -> bool:
        """Seal the ends that have come, many at a time; whether more may be waiting.

        What cannot be sealed in bulk ends one by one, as it is claimed.

        Raises:
            EvidenceClosed: none can be sealed at all.
        """
        now = self.house.now()
        if self._bulk_from is not None and now < self._bulk_from:
            return False
        try:
            return self.house.store.end_due(now) >= AT_ONCE
        except EvidenceClosed:
            self._unsealed = True
            raise
        except TidegateError as fault:
            log.warning("ends are not sealed in bulk", code=fault.code, why=fault.message)
        except Exception:  # the rim: one bad row must not keep the others open
            log.exception("ends are not sealed in bulk")
            self._bulk_from = now + BULK_AGAIN
        return False

    def _extensions(self) -> list[tuple[str, Callable[[], object]]]:
        """Ends that are to move now, as far as hands are left for them; the rest waits.

        Nothing that goes wrong keeps what was claimed from its hands: it is leased by now.
        """
        self._extending = {one: name for one, name in self._extending.items() if not one.done()}
        busy = Counter(self._extending.values())
        taken: list[tuple[str, Callable[[], object]]] = []
        try:
            for target, act in due_extensions(self.house):
                if busy[target] < EXTENDING_A_TARGET and busy.total() < HANDS_A_TARGET:
                    busy[target] += 1
                    taken.append((target, act))
        except TidegateError as fault:
            log.warning("extensions wait", code=fault.code, why=fault.message)
        except Exception:  # the rim: ends do not wait for what moves others
            log.exception("extensions wait")
        return taken

    def _guarded(self, target: str, act: Callable[[], object]) -> None:
        """Move one end. Nothing that goes wrong with it may stop anything else."""
        try:
            act()
        except Stale:
            pass  # somebody else moved it on: the next look sees how it is now
        except TidegateError as fault:
            self._unsealed |= isinstance(fault, EvidenceClosed)
            log.warning("an extension waits", target=target, code=fault.code, why=fault.message)
        except Exception:  # the rim: see _handle
            log.exception("an extension could not be handled", target=target)

    def _run_errands(self) -> None:
        """Hand out what other processes ask, to hands of their own: a person waits for it.

        A target has its share of them: what is asked of one that is silent keeps no other waiting.
        """
        self._errands = {one: name for one, name in self._errands.items() if not one.done()}
        free = ERRAND_HANDS - len(self._errands)
        house, busy, targets = self.house, Counter(self._errands.values()), dict[str, str]()

        def may(errand: Errand) -> bool:
            target = targets[errand.id] = target_of(house, errand)
            if busy[target] >= ERRANDS_A_TARGET:
                return False
            busy[target] += 1
            return True

        try:
            for errand in house.store.take_errands(
                house.duties, house.me, house.store.now(), free, may
            ):
                done = self._errand_hands.submit(self._run_errand, errand)
                self._errands[done] = targets[errand.id]
        except TidegateError as fault:
            log.warning("errands wait", code=fault.code, why=fault.message)
        except Exception:  # the rim: ends do not wait for what others ask
            log.exception("errands wait")

    def _run_errand(self, errand: Errand) -> None:
        try:
            answer(self.house, errand)
        except TidegateError as fault:
            log.warning("an errand is not answered", code=fault.code, why=fault.message)
        except Exception:  # the rim: see _handle
            log.exception("an errand is not answered")

    def _claim(self) -> list[Grant]:
        """What is due, as far as there are hands for it, and for its target."""
        self._in_hand = {one: name for one, name in self._in_hand.items() if not one.done()}
        free = HANDS - len(self._in_hand)
        now = self.house.closing_now()
        room = {
            target: max(self.house.buckets.room(bucket, now) for bucket in buckets)
            for target, buckets in self._paced.items()
        }
        share = Share(
            a_target=HANDS_A_TARGET,
            in_hand=Counter(self._in_hand.values()) + Counter(self._from_journal.busy()),
            room=room,
            opens=self._opens(),
            closes=Duty.CLOSE in self.house.duties,
            by=self.name,
        )
        due = self.house.store.claim_due(now, free, LEASE, share)
        self._looked_at = now
        return due

    def _opens(self) -> bool:
        """Whether anything may be opened here: not before what ended meanwhile is known."""
        return Duty.OPEN in self.house.duties and self.house.looked_back

    def _look_at_journal(self) -> None:
        self._reads = self._looks_at_journal(_read)
        if not self._reads:  # said once a look; whatever is in it waits for the next one
            return
        try:
            if not self.house.looked_back:
                self.house.looked_back = self._looks_at_journal(close_forgotten)
            for step in (
                settle_journal,
                seal_journal,
                close_forgotten,
                self._end_unknown,
                self._end_unrowed,
            ):
                self._looks_at_journal(step)
        except EvidenceClosed as fault:
            # Nothing may be due by the rows, and ends begun in the journal must go on all the same.
            self._heed_rows(fault)
            self._close_from_journal()
            raise

    def _end_unknown(self, house: House) -> None:
        if unknown := find_unknown(house):
            self._close_from_journal(Unknown(unknown, house.store))

    def _end_unrowed(self, house: House) -> None:
        if begun := begin_unrowed(house):
            self._close_from_journal(Unknown(frozenset(begun), house.store))

    def _looks_at_journal(self, step: Callable[[House], object]) -> bool:
        """One step of it; whether it was done. A row that nobody foresaw stops no other step: the
        last of them closes what no row tells of.
        """
        try:
            step(self.house)
        except TidegateError:
            raise
        except OSError as fault:  # a full disk keeps lines from being written, not ends from coming
            log.error("a look at the journal failed", step=step.__name__, errno=fault.errno)
            return False
        except Exception:  # the rim: see _handle
            log.exception("a look at the journal failed", step=step.__name__)
            return False
        return True

    def _adopt(self) -> None:
        """What others open, written into our journal; that it cannot be shuts the gate for them.

        Where there is nothing to write, a full disk shows all the same: what opens next would be
        in no journal.
        """
        try:
            adopt_open(self.house)
            self.house.journal.check_room()
        except WorldFailed:  # the store does not answer: that is told elsewhere, and not of a disk
            raise
        except OSError as fault:
            self._kept = False
            log.error("the closing journal takes nothing, so nothing opens", errno=fault.errno)
            return
        except Exception:
            self._kept = False
            raise
        self._kept = True

    def _keeps(self) -> bool:
        """Whether our journal took what others open; before the first look, whether it could."""
        if self._kept is None and Duty.CLOSE in self.house.duties:
            try:
                self.house.journal.check_room()
            except OSError:
                return False  # asked again at the next beat
            self._kept = True
        return self._kept is not False

    def _opening_chores(self) -> tuple[Chore, ...]:
        """Of a process that does not close: its journal hears of the ends from the database."""
        return (
            Chore("journal", JOURNAL_EVERY, lambda: settle_journal(self.house), long=True),
            Chore("panic", PANIC_EVERY, lambda: resume(self.house)),  # sealing needs no cloud
        )

    def _closing_chores(self) -> tuple[Chore, ...]:
        return (
            Chore("journal", JOURNAL_EVERY, self._look_at_journal, long=True),
            Chore("adopt", JOURNAL_EVERY, self._adopt, long=True),
            Chore("panic", PANIC_EVERY, lambda: resume(self.house)),
            Chore("late", LATE_EVERY, lambda: find_late(self.house), long=True),
            Chore("mend", MEND_EVERY, lambda: mend_cuts(self.house), long=True),
        )

    def _heed_rows(self, fault: TidegateError | None = None) -> None:
        """A store that only cannot be written, for a newer release moved its schema, is asked
        before an end: that release may have moved it, or given the access anew; and for what that
        release leaves open. Any other may not answer, and no end waits for that.
        """
        asks = fault is not None and fault.code == SCHEMA_MOVED
        self.house.confirms = partial(confirms, self.house.store) if asks else take_its_word
        if asks and Duty.CLOSE in self.house.duties:
            try:
                adopt_overdue(self.house)
            except (TidegateError, OSError) as unread:
                log.warning("the rows tell of no other ends", why=str(unread))
            except Exception:  # the rim: another release's rows may be of any shape
                log.exception("the rows tell of no other ends")

    def _close_from_journal(self, only: Unknown | None = None, *, beside: bool = False) -> None:
        """Have hands close what the journal owes, of `only` if given. They are waited for as those
        that act by the store are, and not at all with `beside`.
        """
        if Duty.CLOSE not in self.house.duties:
            return
        try:
            begun = self._from_journal.look(self.house, only)
        except OSError as fault:
            log.error("the closing journal cannot be read", errno=fault.errno)
            return
        if not beside:
            wait(begun, STRAGGLERS.total_seconds())

    def _handle(self, grant: Grant) -> None:
        """Take one grant on. Nothing that goes wrong with it may stop the others."""
        try:
            if self._must_wait(grant):
                return
            opens = grant.state in OPENING and not _past(grant, self.house.closing_now())
            duty = Duty.OPEN if opens else Duty.CLOSE
            if duty not in self.house.duties:
                # Its end came between the claim and now: the lease is given back at once.
                self.house.store.snooze(grant.id, self.house.now(), grant.version)
            elif opens:
                open_once(self.house, grant)
            else:
                close_once(self.house, grant)
        except Stale:
            # Somebody else moved it on: the next look sees how it is now. What we opened meanwhile
            # may be known to nobody.
            if grant.state in OPENING:
                take_back(self.house, grant)
        except TidegateError as fault:
            self._unsealed |= isinstance(fault, EvidenceClosed)
            log.warning("grant waits", grant=grant.id, code=fault.code, why=fault.message)
        except Exception:  # the rim: one grant's bug must not stop the others' end
            log.exception("grant could not be handled", grant=grant.id)

    def _must_wait(self, grant: Grant) -> bool:
        """Whether the account may not be asked yet; the grant is then in line again soon."""
        bucket = bucket_of(self.house.laws.catalogue, grant.role)
        if bucket is None:
            return False
        self._paced = {
            **self._paced,
            _target(grant): self._paced.get(_target(grant), set()) | {bucket},
        }
        now = self.house.now()
        opening = grant.state in OPENING and not _past(grant, now)
        if self.house.buckets.may(bucket, opening, now):
            return False
        self.house.store.snooze(grant.id, now + pause_of(bucket), grant.version)
        return True

    def _do_chores(self, beside: bool = False) -> None:
        """What is due among the chores. None of them can stop another, nor the looking.

        With `beside` long ones go aside too.
        """
        now = self.house.now()
        for chore in self._chores:
            if _is_due(chore, now):
                chore.next_at = now + chore.every
                if not (chore.aside or (chore.long and beside)):
                    _do(chore)
                elif chore.name not in self._beside or self._beside[chore.name].done():
                    self._beside[chore.name] = self._asides.submit(_do, chore)

    def _beat(self) -> None:
        rules = self.house.laws.rules.digest
        reads = Duty.CLOSE not in self.house.duties or (self._reads and self.house.looked_back)
        said = told(
            self.house.duties,
            __version__,
            rules,
            keeps=self._keeps(),
            ahead=self.house.asked.older,
            reads=reads,
        )
        # By the database's clock, as whoever listens: one that is ahead would seem alive when dead.
        self.house.store.beat(self.name, self.house.store.now(), said)

    def _free_silent(self) -> None:
        """What a worker had in hand that beats no more is anybody's; so is what a wrong clock put
        to sleep.
        """
        freed = self.house.store.free_silent(self.house.store.now())
        if freed:
            log.warning("what another worker left behind is taken up", grants=freed)

    def _forget(self) -> None:
        """Beats of workers that are no more, and of the release that had one worker."""
        self.house.store.forget_beats(WORKER, self.house.store.now() - FORGOTTEN)

    def _run(self) -> None:
        """Look, then do chores, for ever: after a restart what is due waits for no chore.

        But for one beat: nobody frees what a worker claims that was heard of.
        """
        _do(self._heart)
        while not self._stopping.is_set():
            handled = 0
            with self._outlived():
                handled = self._look(beside=True)
            with self._outlived():
                self._do_chores(beside=True)
            if not handled:
                self._wait()

    @contextmanager
    def _outlived(self) -> Iterator[None]:
        try:
            yield
        except Exception:  # the rim: the loop outlives every single tick
            log.exception("tick failed")

    def _wait(self) -> None:
        """Until something is due. What a commit makes due at once is told; whatever else happens,
        be it to a clock or to the news, it is TICK at the most.
        """
        self.house.store.wait_for_news(self._nap())

    def _nap(self) -> timedelta:
        """How long nothing is due, as far as the store knows."""
        if self._looked_at is None:
            return TICK
        try:
            due = self.house.store.next_due(self._looked_at)
        except TidegateError:
            return TICK
        # Since the last look, not since now: what became due in between was not seen by it.
        left = TICK if due is None else due - self.house.closing_now()
        return max(timedelta(0), min(TICK, left))


def _is_due(chore: Chore, now: Instant) -> bool:
    """Whether to start it; a next start further away than its pace means the clock went back."""
    return chore.next_at is None or not now < chore.next_at <= now + chore.every


def _read(house: House) -> None:
    house.journal.book()


def _do(chore: Chore) -> None:
    try:
        chore.run()
    except TidegateError as fault:
        log.warning("chore failed", chore=chore.name, code=fault.code, why=fault.message)
    except Exception:  # the rim: see _handle
        log.exception("chore failed", chore=chore.name)


def _target(grant: Grant) -> str:
    return grant.role.partition("/")[0]


def _past(grant: Grant, now: Instant) -> bool:
    return grant.ends_at is not None and now >= grant.ends_at
