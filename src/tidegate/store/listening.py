"""News over PostgreSQL's NOTIFY, on a connection of its own. Losing it costs only the floor."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import structlog

from tidegate.base.errors import TidegateError
from tidegate.store.database import News

CHANNEL = "tidegate_due"
LOOK_UP = 1.0  # seconds: how late the listener notices that it should stop
AGAIN = 1.0  # seconds between two tries to listen again

log = structlog.get_logger("tidegate.store")


class HeardNews(News):
    """News that begins to listen when somebody first waits for it."""

    def __init__(self, begin: Callable[[], None]) -> None:
        super().__init__()
        self._begin = begin

    def wait(self, timeout: timedelta) -> bool:
        """As `News.wait`, also for what other processes commit."""
        self._begin()
        return super().wait(timeout)


class Listener:
    """One thread that passes on what is notified. It starts with the first who waits."""

    def __init__(self, connect: Callable[[], "psycopg.Connection[Any]"]) -> None:
        self.news = HeardNews(self._start)
        self._connect = connect
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._gate = threading.Lock()

    def close(self) -> None:
        """Stop listening."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._gate:
            if self._thread is None and not self._stopping.is_set():
                thread = threading.Thread(target=self._run, name="tidegate-news", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (psycopg.Error, TidegateError) as fault:
                log.info("news of other processes comes late", why=type(fault).__name__)
                self._stopping.wait(AGAIN)

    def _listen(self) -> None:
        with self._connect() as db:
            db.execute(f"LISTEN {CHANNEL}")
            self.news.tell()  # what was notified while nobody listened
            while not self._stopping.is_set():
                for _ in db.notifies(timeout=LOOK_UP, stop_after=1):
                    self.news.tell()
