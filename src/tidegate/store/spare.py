"""Connections kept for the next reader: one look each, no transaction, no ORM between."""

import threading
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What is kept."""

    def close(self) -> None:
        """Let go of it."""
        ...


C = TypeVar("C", bound=Closable)


class Spare(Generic[C]):
    """At most `most` connections at a time; whoever finds none waits up to `patience`."""

    def __init__(self, make: Callable[[], C], most: int, patience: timedelta) -> None:
        self._make = make
        self._free: deque[C] = deque()
        self._places = threading.Semaphore(most)
        self._patience = patience.total_seconds()

    def take(self) -> C:
        """A connection of one's own until `give` or `drop`. Raises what making one raises."""
        if not self._places.acquire(timeout=self._patience):
            raise TimeoutError("every connection for reading is in use")
        try:
            return self._free.pop()
        except IndexError:
            pass
        try:
            return self._make()
        except BaseException:
            self._places.release()
            raise

    def give(self, connection: C) -> None:
        """Back for the next one."""
        self._free.append(connection)
        self._places.release()

    def drop(self, connection: C) -> None:
        """Closed: it is broken."""
        self._places.release()
        connection.close()

    def clear(self) -> None:
        """Close those nobody has."""
        while self._free:
            self._free.pop().close()
