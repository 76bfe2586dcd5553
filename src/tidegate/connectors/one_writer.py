"""One writer of a shared document at a time: a lock within the process, and one between processes.

Clouds have no compare-and-swap for policy documents, so two writers that both read first lose what
the other wrote. Between processes of one machine it is a file lock in a directory they share, and
between machines whatever the house gives (`Between`): the database's one hand a key.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from tidegate.base.errors import Refused
from tidegate.connectors.patience import VERB

# As long as one verb may take. Who has it longer was stopped or hangs: no end waits for that.
PATIENCE = VERB
PAUSE = 0.02  # seconds between tries of a file lock


# Whether a key is ours among all machines, until the context ends. It does not wait.
Between = Callable[[str], AbstractContextManager[bool]]

# Two seconds: a writer of another machine holds it for a few calls. Then an end goes on all the
# same, which also bounds what a machine that keeps the key, or a database that is away, can cost.
TRIES_BETWEEN = 100


class OneWriter:
    """Locks by name. Without `lock_dir` and `between` only within this process."""

    def __init__(
        self,
        lock_dir: Path | None,
        code: str,
        patience: timedelta = PATIENCE,
        between: Between | None = None,
    ) -> None:
        self._lock_dir = lock_dir
        self._between = between
        self._code = code
        self._patience = patience.total_seconds()
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    @contextmanager
    def alone(self, name: str, what: str, *, must: bool) -> Iterator[None]:
        """Nobody else is inside for `name` meanwhile; `what` names it in messages.

        Without `must` a file lock that cannot be had is done without: closing never waits for a
        disk, nor for a process that was stopped while it had the lock, and what two writers then
        lose is put back by mending.

        Raises:
            Refused: the code given at making, when `must` and there is no lock; `busy` when another
                thread of this process is inside for longer than the patience, or, when `must`,
                another machine is.
        """
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        if not lock.acquire(timeout=self._patience):
            raise Refused(
                "busy",
                f"expected {what} to be free within {self._patience:g} s, got another change of it",
                "it is tried again shortly",
            )
        descriptor = None
        try:
            descriptor = self._file_lock(name, what, must)
            with ExitStack() as held:
                if not self._ours(held, name) and must:
                    raise Refused(
                        "busy",
                        f"expected to be the one writer of {what}, got another machine at it",
                        "it is tried again shortly",
                    )
                yield
        finally:
            if descriptor is not None:
                os.close(descriptor)  # and with it the lock
            lock.release()

    def _ours(self, held: ExitStack, name: str) -> bool:
        if self._between is None:
            return True
        for _ in range(TRIES_BETWEEN):
            with ExitStack() as tried:
                if tried.enter_context(self._between(f"document|{name}")):
                    held.push(tried.pop_all())
                    return True
            time.sleep(PAUSE)
        return False

    def _file_lock(self, name: str, what: str, must: bool) -> int | None:
        if self._lock_dir is None:
            return None
        import fcntl  # POSIX only, as are the machines that run several processes on one directory

        path = self._lock_dir / f"{file_name(name)}.lock"
        descriptor = None
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            for _ in range(int(self._patience / PAUSE)):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return descriptor
                except BlockingIOError:
                    time.sleep(PAUSE)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            if must:
                raise Refused(
                    self._code,
                    f"expected a file lock for {what}, got `{type(error).__name__}`",
                    "look at the room and the rights of Tidegate's lock directory",
                ) from error
            return None
        return descriptor


def file_name(name: str) -> str:
    """The name of a thing's files in a lock directory, without their suffix."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]
