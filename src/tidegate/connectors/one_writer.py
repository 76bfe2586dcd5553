"""One writer of a shared document at a time: a lock within the process, and one between processes.

Clouds have no compare-and-swap for policy documents, so two writers that both read first lose what
the other wrote. Between processes of one machine it is a file lock in a directory they share.
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.base.errors import Refused


class OneWriter:
    """Locks by name. Without `lock_dir` only within this process."""

    def __init__(self, lock_dir: Path | None, code: str) -> None:
        self._lock_dir = lock_dir
        self._code = code
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    @contextmanager
    def alone(self, name: str, what: str, *, must: bool) -> Iterator[None]:
        """Nobody else is inside for `name` meanwhile; `what` names it in messages.

        Without `must` a file lock that cannot be had is done without: closing never waits for a
        disk, and what two writers then lose is put back by mending.

        Raises:
            Refused: the code given at making, when `must` and there is no lock.
        """
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            descriptor = self._file_lock(name, what, must)
            try:
                yield
            finally:
                if descriptor is not None:
                    os.close(descriptor)  # and with it the lock

    def _file_lock(self, name: str, what: str, must: bool) -> int | None:
        if self._lock_dir is None:
            return None
        import fcntl  # POSIX only, as are the machines that run several processes on one directory

        path = self._lock_dir / f"{file_name(name)}.lock"
        descriptor = None
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
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
