"""One server on an installation on SQLite, also while a disk is away.

It holds a file beside the closing journal and one beside the database, which belong on different
disks: with either away a start ends what it can by the other, and still no second one can start.
"""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import structlog

from tidegate.base.errors import AskedWrongly, WorldFailed
from tidegate.connectors.port import Trouble
from tidegate.evidence.journal import HOLD_TRIES, ClosingJournal, take_lock

log = structlog.get_logger("tidegate.start")

HOLD_AGAIN = timedelta(seconds=10)
JOURNAL, DATABASE = "closing journal", "database"


class OnlyServer:
    """The hold of one process on `journal` and on the SQLite file `database`; None: of a process
    that shares its database, and holds nothing.
    """

    def __init__(self, journal: ClosingJournal, database: Path | None) -> None:
        self._journal = journal
        self._side: Path | None = None
        if database is not None:  # by whatever name the settings call it
            real = Path(os.path.realpath(database))
            self._side = real.with_name(f"{real.name}.held")
        self._held: set[str] = set()
        self._lock: int | None = None
        self._away: dict[str, OSError] = {}  # by what is not held: why
        self._other: AskedWrongly | None = None  # another process has one of them

    def hold(self) -> None:
        """Be the one, until `release` or until this process ends.

        Raises:
            AskedWrongly: `already_running`.
            WorldFailed: `no_disk`: neither the journal's directory nor the database's can be had.
        """
        try:
            self.hold_again()
        except AskedWrongly:
            self.release()
            raise
        if len(self._away) > 1:
            raise WorldFailed(
                "no_disk",
                "expected the directory of the closing journal or of the database, got neither: "
                + "; ".join(said(fault) for fault in self._away.values()),
                "mount what is not mounted, or mend its rights; nothing is closed until one of"
                " them is there",
            )

    def hold_again(self) -> None:
        """Hold what could not be held before. Raises AskedWrongly: another process has it."""
        if self._side is None:
            return
        try:
            self._hold(JOURNAL, self._journal.hold)
            self._hold(DATABASE, self._hold_database)
        except AskedWrongly as fault:
            self._other = fault
            raise
        self._other = None

    def troubles(self) -> Iterator[Trouble]:
        """What is wrong with it now. All is shut while the journal is not ours, or another process
        has one of the two.
        """
        if self._other is not None:
            yield Trouble(code=self._other.code, message=self._other.message, help=self._other.help)
        for what, fault in tuple(self._away.items()):  # held again by another thread
            yield Trouble(
                code="journal_away" if what == JOURNAL else "database_unheld",
                message=f"the {what} cannot be held: {said(fault)}",
                help="mount its disk, or mend its directory: it is tried every ten seconds, and"
                " ends go on without",
                shuts=what == JOURNAL,
            )

    def release(self) -> None:
        """Let another server start. Nothing happens when this one holds nothing."""
        self._held.clear()
        self._journal.release()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)  # the file stays: a removed one could be locked twice

    def _hold(self, what: str, take: Callable[[], None]) -> None:
        if what in self._held:
            return
        try:
            take()
        except OSError as fault:
            if what not in self._away:
                log.error("not held: ends go on without", what=what, why=said(fault))
            self._away[what] = fault
        else:
            self._held.add(what)
            self._away.pop(what, None)

    def _hold_database(self) -> None:
        if self._side is None:
            return
        try:
            self._lock = take_lock(self._side, HOLD_TRIES)
        except BlockingIOError as error:
            raise AskedWrongly(
                "already_running",
                "expected no other server on this installation, got one that is running",
                f"stop it first: it has `{self._side}` open",
            ) from error


def said(fault: OSError) -> str:
    """What failed, with the file it is about where that is known."""
    return f"`{fault.filename}`: {fault.strerror}" if fault.filename else str(fault.strerror)
