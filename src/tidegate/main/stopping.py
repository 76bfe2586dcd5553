"""Being told to stop: SIGTERM and SIGINT set an event, from before there is anything to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGTERM, signal.SIGINT)


class ToldToStop(Exception):
    """A stop came while a start still waited for something."""


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that those signals set while the block lasts. For the main thread."""
    stopped = threading.Event()
    before = {one: signal.signal(one, lambda *_: stopped.set()) for one in STOPPING}
    try:
        yield stopped
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
