"""One server on an installation on SQLite, also while a disk is away.

It holds a file beside the closing journal and one beside the database, which belong on different
disks: with either away a start ends what it can by the other, and still no second one can start.
"""

import os
from datetime import timedelta
from pathlib import Path

import structlog

from tidegate.base.errors import AskedWrongly, WorldFailed
from tidegate.connectors.port import Trouble
from tidegate.evidence.journal import HOLD_TRIES, ClosingJournal, take_lock

log = structlog.get_logger("tidegate.start")

HOLD_AGAIN = timedelta(seconds=10)


class OnlyServer:
    """The hold of one process on `journal` and on the SQLite file `database`; None: of a process
    that shares its database, and holds nothing.
    """

    def __init__(self, journal: ClosingJournal, database: Path | None) -> None:
        self._journal = journal
        self._side = None if database is None else database.with_name(f"{database.name}.held")
        self._lock: int | None = None
        self._held = False  # the journal is
        self._away: dict[str, OSError] = {}  # by what it keeps from being held: why

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
                + "; ".join(f"{what}: {fault.strerror}" for what, fault in self._away.items()),
                "mount what is not mounted; nothing is closed until one of them is there",
            )

    def hold_again(self) -> None:
        """Hold what could not be held before. Raises AskedWrongly: another process has it."""
        if self._side is None:
            return
        if not self._held:
            try:
                self._journal.hold()
                self._held = True
                self._away.pop("journal", None)
            except OSError as fault:
                self._is_away("journal", fault)
        if self._lock is None:
            try:
                self._lock = take_lock(self._side, HOLD_TRIES)
                self._away.pop("database", None)
            except BlockingIOError as error:
                raise AskedWrongly(
                    "already_running",
                    "expected no other server on this installation, got one that is running",
                    f"stop it first: it has `{self._side}` open",
                ) from error
            except OSError as fault:
                self._is_away("database", fault)

    def trouble(self) -> Trouble | None:
        """What keeps everything shut while the journal is not held."""
        fault = self._away.get("journal")
        if fault is None:
            return None
        return Trouble(
            code="journal_away",
            message=f"the closing journal cannot be had: {fault.strerror}",
            help="mount its disk, or mend its directory: it is tried every ten seconds, and ends"
            " come by the database meanwhile",
        )

    def release(self) -> None:
        """Let another server start. Nothing happens when this one holds nothing."""
        self._journal.release()
        self._held = False
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)  # the file stays: a removed one could be locked twice

    def _is_away(self, what: str, fault: OSError) -> None:
        if what not in self._away:
            log.error("a directory is away: ends go on without it", of=what, errno=fault.errno)
        self._away[what] = fault
