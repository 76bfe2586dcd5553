"""Panics that could not be sealed yet, in a small local file beside the closing journal.

It is not evidence: it carries a panic, with its freeze, over a crash until it can be sealed.
It is written as the journal is: whole or not at all, on disk before anything is told, under a lock
on a side file, mode 0600. Without anything to keep there is no file. Each line is 16 hex digits
(the start of the SHA-256 of the rest), a blank, canonical JSON.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import orjson

from tidegate.base.canonical import Json, canonical
from tidegate.base.errors import WorldFailed
from tidegate.evidence.journal import (
    LOCK_TRIES,
    is_whole,
    put_in_place,
    read_file,
    sum_of,
    sync_directory,
    take_lock,
)

MOST_KEPT = 100  # panics of one outage; beyond it they are kept in memory alone, and that is told

Plain = dict[str, Json]


class PanicFile:
    """The file `path`, made by the first panic that cannot be sealed. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._side = path.with_name(f"{path.name}.lock")
        self._lock = Lock()

    def read(self) -> list[Plain]:
        """What is kept, oldest first; takes no lock.

        Raises:
            OSError: it cannot be read, or is no regular file.
            WorldFailed: `panics_broken`: it is damaged. A crash does not do that.
        """
        return [self._plain(row) for row in read_file(self.path).splitlines()]

    def change(self, work: Callable[[Sequence[Plain]], list[Plain]]) -> None:
        """Put what `work` makes of the list in its place; returns once that is on disk.

        Raises:
            OSError, WorldFailed: as `read`; or it cannot be written, or another process keeps it.
        """
        with self._lock:
            taken = take_lock(self._side, LOCK_TRIES)
            try:
                before = self.read()
                after = work(tuple(before))
                if after and after != before:
                    put_in_place(self.path, b"".join(map(_line, after)))
                elif not after and before:
                    self.path.unlink()
                    sync_directory(self.path.parent)
            finally:
                os.close(taken)

    def _plain(self, row: bytes) -> Plain:
        found = orjson.loads(row.partition(b" ")[2]) if is_whole(row) else None
        if not isinstance(found, dict):
            raise WorldFailed(
                "panics_broken",
                f"`{self.path.name}` is damaged, and what it keeps shut is not known",
                "read it, call the panics it names again, then remove it",
            )
        return found


def _line(plain: Plain) -> bytes:
    body = canonical(plain)
    return sum_of(body) + b" " + body + b"\n"
