"""Being told to stop: SIGTERM and SIGINT set an event, from before there is anything to stop."""

import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STOPPING = (signal.SIGTERM, signal.SIGINT)


class ToldToStop(Exception):
    """A stop came while a start still waited for something."""


class Stopped(threading.Event):
    """An event that a signal handler may set.

    `Event.set` takes a lock that is not reentrant. A handler runs between two steps of the main
    thread, which may be in `Event.wait` and have it: both would wait for ever. The queue is made to
    be put to from there (`queue.SimpleQueue`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it was told."""
        return self._is_set

    def set(self) -> None:
        """Tell everybody who waits, now or later."""
        self._is_set = True
        self._told.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, `timeout` seconds at the most; whether it is."""
        if not self._is_set:
            with suppress(queue.Empty):
                self._told.get(timeout=timeout)
                self._told.put(None)  # for whoever waits too
        return self._is_set


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that those signals set while the block lasts. For the main thread."""
    stopped = Stopped()
    before = {one: signal.signal(one, lambda *_: stopped.set()) for one in STOPPING}
    try:
        yield stopped
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
