"""Being told to stop: SIGTERM and SIGINT set an event, from before there is anything to stop."""

import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STOPPING = (signal.SIGTERM, signal.SIGINT)
LOOK_UP = 0.5  # seconds: how late a stop is heard of that did not break off the wait


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
        """Wait until it is set, `timeout` seconds at the most; whether it is.

        In short waits: the interpreter runs a handler between two steps of the main thread, and a
        signal that comes after the last of them and before the system call, or to another thread,
        breaks off no wait (https://docs.python.org/3/library/signal.html, "Execution of Python
        signal handlers").
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self._is_set:
            left = LOOK_UP if until is None else min(LOOK_UP, until - time.monotonic())
            with suppress(queue.Empty):
                self._told.get(timeout=max(0.0, left))
                self._told.put(None)  # for whoever waits too
            if until is not None and left <= 0:
                break
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
