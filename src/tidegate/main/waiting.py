"""Starting without all that a start needs (a database, a key, rules that can be read): what is due
is closed from the closing journal (I6).

A process that closes and whose journal names open grants does not give up, nor wait for a person
first: it closes from the journal as a running one does, and is up once what it lacks is there
(`_missing`). With nothing owed it fails at once, so that a wrong setting is told. What a journal
names that cannot be read is not known: that is waited for as well.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog

from tidegate.base.errors import (
    AskedWrongly,
    EvidenceBroken,
    NotFound,
    Stale,
    TidegateError,
    WorldFailed,
)
from tidegate.base.when import Instant
from tidegate.evidence.journal_book import JournalBook
from tidegate.flow.confirming import confirms
from tidegate.flow.house import BareHouse, House
from tidegate.flow.journal_hands import JournalHands
from tidegate.main.config import NOT_THERE
from tidegate.main.stopping import ToldToStop
from tidegate.shell.worker import HANDS, HANDS_A_TARGET, TICK
from tidegate.store import Store

log = structlog.get_logger("tidegate.waiting")

# A start takes well under a second. One that hangs at its database lets no end wait for longer.
GRACE = timedelta(seconds=5)
TRY_EVERY = timedelta(seconds=2)
SAY_EVERY = 15  # tries: half a minute
AWAY = "the database is away"
UNREAD = "not known: the closing journal cannot be read"
# Nothing of the settings: what was read back of our own, or a mistake in how that is done.
DAMAGED = (EvidenceBroken, NotFound, Stale)
DAMAGE = "the start failed by damage in the database or a mistake of ours"
MISSING = {
    "no_database": AWAY,
    NOT_THERE: "a secret cannot be read",
    "newer_schema": "the database is of a newer release",
}


@dataclass(slots=True)
class Opened:
    """The database of a start that is not through yet, kept over its tries while it answers.

    What the journal owes is asked of it, so that a start that is slow, or waits for a person, takes
    nothing that another process has given meanwhile.
    """

    opening: Callable[[], Store]
    store: Store | None = None

    def open(self) -> Store:
        """The database, opened unless it is. Raises what `opening` raises."""
        self.store = self.store or self.opening()
        return self.store

    def close(self) -> None:
        """Let go of it, if it is open."""
        store, self.store = self.store, None
        if store is not None:
            store.close()

    def confirms(self, grant: str, book: JournalBook, now: Instant) -> bool:
        """Whether it owes an end of the journal's too, as far as it is open."""
        store = self.store
        return store is None or confirms(store, grant, book, now)


def once_there(
    bare: BareHouse,
    reach: Callable[[], House],
    stopped: threading.Event,
    *,
    read: Callable[[], object] = lambda: None,
    grace: timedelta = GRACE,
    every: timedelta = TRY_EVERY,
) -> House:
    """The house `reach` makes, as soon as all is there that it needs; until then ends go on.

    Args:
        bare: what closing from the journal needs. Nobody else closes from that journal meanwhile.
        reach: opens the database and does all that a start needs of it.
        stopped: set when the process is told to stop.
        read: reads rules and groups as `reach` does; while it raises AskedWrongly, nothing opens.
        grace: how long `reach` may take before ends go on without it.
        every: the pause between two tries.

    Raises:
        ToldToStop: `stopped` was set while something was missing.
        TidegateError: as `reach`, when nothing is owed or waiting would not help.
        Exception: a bug met by `reach`, when nothing is owed.
    """
    alone = ThreadPoolExecutor(HANDS, thread_name_prefix="tidegate-journal")
    hands = JournalHands(alone, HANDS_A_TARGET, HANDS)
    try:
        house = _tried(bare, reach, stopped, hands, read=read, grace=grace, every=every)
        # A call that a cloud does not answer is under way for most of a minute. Nobody waits for
        # it, but whoever wants the same assignment.
        hands.keep(house)
    finally:
        alone.shutdown(wait=sys.exception() is not None, cancel_futures=True)
    return house


def _tried(
    bare: BareHouse,
    reach: Callable[[], House],
    stopped: threading.Event,
    hands: JournalHands,
    *,
    read: Callable[[], object],
    grace: timedelta,
    every: timedelta,
) -> House:
    tries = 0
    while True:
        try:
            with _closing(bare, hands, grace):
                house = reach()
        except Exception as fault:  # the rim: ends wait for no bug of a start either
            missing = _missing(fault, read)
            owed = _owed(bare) if missing else 0
            if owed == 0:
                raise
            if tries % SAY_EVERY == 0:
                log.error(
                    f"{missing}; what is due is closed from the journal, nothing opens",
                    why=fault.message if isinstance(fault, TidegateError) else type(fault).__name__,
                    next=fault.help if isinstance(fault, TidegateError) else "",
                    grants=UNREAD if owed is None else owed,
                    exc_info=not tries and missing == DAMAGE,
                )
            tries += 1
        else:
            if tries:
                log.info("all is there that a start needs")
            return house
        with _closing(bare, hands, timedelta(0)):
            if stopped.wait(every.total_seconds()):
                raise ToldToStop


def _missing(fault: Exception, read: Callable[[], object]) -> str:
    """What a start lacks that may come by itself, or by what a person does; empty for all else.

    A file that is gone may be on a disk that is not mounted: with open grants in the journal there
    was one; so may a key or a password be. A release that is too old for its database goes when the
    newer one is put back, damage or a bug when a copy or another release is. Rules and groups are
    edited by hand, and no mistake in them may keep access open.
    """
    if not isinstance(fault, TidegateError) or isinstance(fault, DAMAGED):
        return DAMAGE
    if fault.code == "already_running":
        return ""  # another server closes, or a command changes the log's key for a moment
    if isinstance(fault, WorldFailed):
        return AWAY
    if fault.code in MISSING:
        return MISSING[fault.code]
    try:
        read()
    except AskedWrongly:
        return "rules or groups cannot be read"
    except TidegateError:
        return ""
    return ""


def _owed(bare: BareHouse) -> int | None:
    """How many grants the journal calls open; None when it cannot be read."""
    try:
        return len(bare.journal.book().waiting)
    except OSError:
        return None


@contextmanager
def _closing(bare: BareHouse, hands: JournalHands, after: timedelta) -> Iterator[None]:
    """Close from the journal beside the block, from `after` on; when it is over none is begun."""
    over = threading.Event()
    thread = threading.Thread(
        target=_close, args=(bare, hands, after, over), name="tidegate-waiting", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()  # it calls no cloud
        hands.answered()


def _close(bare: BareHouse, hands: JournalHands, after: timedelta, over: threading.Event) -> None:
    wait, told = after, False
    while not over.wait(wait.total_seconds()):
        wait = TICK
        try:
            hands.look(bare)
        except OSError as fault:
            if not told:  # once a try: there are five looks a second
                log.error("the closing journal cannot be read", why=fault.strerror)
            told = True
        except Exception:  # the rim: whatever is wrong with one look, the next one comes
            log.exception("closing from the journal failed")
