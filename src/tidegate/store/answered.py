"""A connection to PostgreSQL on which no answer is waited for longer than the server is there.

The server's own bounds end a statement that takes too long. They are of no use behind something
that takes every byte and passes none on: a load balancer whose server went, a frozen machine. So
whoever has waited for ANSWER asks, on a connection of its own, whether the server is there at all.
"""

import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

ANSWER = timedelta(seconds=5)  # without a word, before it is asked whether the server is there
BEYOND = timedelta(seconds=10)  # over a statement's own bound: then only this connection is dead
AGAIN = timedelta(seconds=1)  # between two tries to reach a server that was not there

Got = TypeVar("Got")


class Silent(psycopg.OperationalError):
    """The server did not answer, neither here nor when it was asked whether it is there."""


class Presence:
    """Whether the server is there: one asks for all of this process. Thread-safe.

    Once it is known not to be, nobody waits for it: a thread asks until it is there again.

    `at` are the connection's parameters, with a bound for making one (`connect_timeout`).
    """

    def __init__(self, at: Mapping[str, Any]) -> None:
        self._at = at
        self._asking = threading.Lock()
        self._asked_at = 0.0
        self._there = True
        self._gate = threading.Lock()
        self._stopping = threading.Event()
        self.away = False

    def close(self) -> None:
        """Nobody asks any more."""
        self._stopping.set()

    def check(self) -> None:
        """Raise Silent while it is known not to be there."""
        if self.away:
            raise Silent("timeout expired: the server does not answer")

    def missed(self) -> None:
        """A connection could not be made in time: from now on it is not there."""
        with self._gate:
            if self.away or self._stopping.is_set():
                return
            self.away = True
        threading.Thread(target=self._until_back, name="tidegate-presence", daemon=True).start()

    def ask(self) -> bool:
        """Whether it takes a connection now, or did since this call began."""
        began = time.monotonic()
        with self._asking:
            if self.away:
                return False
            if self._asked_at < began:
                self._there = self._is_there()
                self._asked_at = time.monotonic()
                if not self._there:
                    self.missed()
            return self._there

    def _until_back(self) -> None:
        while not self._stopping.wait(AGAIN.total_seconds()):
            if self._is_there():
                break
        self.away = False

    def _is_there(self) -> bool:
        try:
            psycopg.connect(**self._at).close()
        except psycopg.Error as error:
            return "FATAL" in str(error)  # it said no: that is an answer
        return True


class Answered(psycopg.Connection[Any]):
    """A connection whose every wait ends, once `presence` is set. `longest`: seconds of one."""

    presence: Presence | None = None
    longest: float | None = None

    def wait(self, gen: PQGen[Got], interval: float = 0.1, timeout: float | None = None) -> Got:
        """As its parent's. Raises Silent, and the connection is closed then."""
        if timeout is not None or self.presence is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(_asking(gen, self.presence, self.longest), interval)
        except Silent:
            self.pgconn.finish()
            raise


def _asking(gen: PQGen[Got], presence: Presence, longest: float | None) -> PQGen[Got]:
    """`gen`, and what it waits for is asked after. It is told of every `interval` without news."""
    began = heard = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            now = time.monotonic()
            if ready:
                began = heard = now
            elif longest is not None and now - began > longest:
                raise Silent("timeout expired: no answer on this connection")
            elif now - heard > ANSWER.total_seconds():
                if not presence.ask():
                    raise Silent("timeout expired: the server does not answer")
                heard = time.monotonic()
            wanted = gen.send(ready)
    except StopIteration as done:
        got: Got = done.value
        return got
