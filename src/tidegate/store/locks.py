"""One hand a key among all processes on a PostgreSQL: session-level advisory locks on one
connection. With the connection they are gone, and the server gives them to whoever asks next.
"""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import structlog

from tidegate.base.errors import TidegateError
from tidegate.store.database import KeysInHand

AGAIN = 1.0  # seconds between two tries to connect: callers are told no meanwhile, at once

log = structlog.get_logger("tidegate.store")


class Locks:
    """Keys this process has in hand. Safe to call from any thread."""

    def __init__(self, connect: Callable[[], "psycopg.Connection[Any]"]) -> None:
        self._connect = connect
        self._here = KeysInHand()  # a session may lock its own lock again: not we
        self._gate = threading.Lock()
        self._db: psycopg.Connection[Any] | None = None
        self._held: dict[int, psycopg.Connection[Any]] = {}  # number: the connection that has it
        self._not_before = 0.0
        self._closed = False

    def only_one(self, key: str, unasked: bool = False) -> AbstractContextManager[bool]:
        """Whether `key` is ours until the end; `unasked` while the server cannot be asked."""
        return self._here.only_one(key, lambda one: self._take(one, unasked), self._leave)

    def only_one_here(self, key: str) -> AbstractContextManager[bool]:
        """Whether `key` is ours until the end, among the threads of this process."""
        return self._here.only_one(key)

    def close(self) -> None:
        """Give everything back."""
        with self._gate:
            self._closed = True
            if self._db is not None:
                self._db.close()
            self._db = None

    def _take(self, key: str, unasked: bool) -> bool:
        number = number_of(key)
        with self._gate:
            if number in self._held:
                return False  # another key of the same number: rare, and then one waits
            try:
                db = self._connected()
                if db is None:
                    return unasked
                row = db.execute("SELECT pg_try_advisory_lock(%s)", (number,)).fetchone()
            except (psycopg.Error, TidegateError) as fault:
                self._lose(fault)
                return unasked
            if row is None or not row[0]:
                return False
            self._held[number] = db
            return True

    def _leave(self, key: str) -> None:
        number = number_of(key)
        with self._gate:
            db = self._held.pop(number, None)
            if db is None or db is not self._db:
                return  # it went with its connection
            try:
                db.execute("SELECT pg_advisory_unlock(%s)", (number,))
            except psycopg.Error as fault:
                self._lose(fault)

    def _connected(self) -> "psycopg.Connection[Any] | None":
        if self._db is None:
            if self._closed or time.monotonic() < self._not_before:
                return None
            self._db = self._connect()
        return self._db

    def _lose(self, fault: Exception) -> None:
        log.warning("keys in hand cannot be asked for", why=type(fault).__name__)
        self._not_before = time.monotonic() + AGAIN
        if self._db is not None:
            with contextlib.suppress(psycopg.Error):
                self._db.close()
        self._db = None


def number_of(key: str) -> int:
    """A key as the 64 signed bits an advisory lock has."""
    return int.from_bytes(hashlib.sha256(b"tidegate:" + key.encode()).digest()[:8], signed=True)
