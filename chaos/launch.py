"""Starts the real `tidegate` command with a bomb in it: SIGKILL at a named point, and nothing else.

A point is `port.verb.before` or `.after`: before the call, or after it took effect and before
anybody learns of it. Lines of the journal have a third, `.torn`: half of their bytes are written.
The bomb is told by the environment:

    TIDEGATE_CHAOS_POINT   cloud.revoke.after     (empty: none)
    TIDEGATE_CHAOS_NTH     1                      (which passing; counted while armed)
    TIDEGATE_CHAOS_ARMED   a file: passings count while it exists
    TIDEGATE_CHAOS_DATABASE  a URL: this database, whatever the settings say
    TIDEGATE_CHAOS_COMPACTS  not empty: the journal drops what is over at once, not after an hour
    TIDEGATE_CHAOS_HITS    a file: each point that is passed while armed gets a line. Processes with
                           the same file count together, and one of them dies

Nothing of this is in the product: the classes are wrapped before its `main` runs.
"""

import fcntl
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

CLOUD = ("key", "observe", "grant", "issue", "arm", "disarm", "revoke", "cut", "probe", "mend")
# port -> where it lives and which of its verbs change the world or tell of it
PORTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "store": ("tidegate.store.store", "Store", ("commit",)),
    "sql": ("tidegate.store.commit", "", ("store",)),  # inside the transaction
    "writer": ("tidegate.store.writer", "Writer", ("end",)),  # `Store.end_due`, once an end came
    "mass": ("tidegate.store.mass", "", ("end",)),  # its rows, inside its transaction
    "queue": ("tidegate.store.queue", "", ("claim", "snooze")),  # inside the transaction
    "worker": ("tidegate.shell.worker", "Worker", ("_handle",)),  # of what was claimed
    "compact": ("tidegate.evidence.journal", "", ("put_in_place",)),
    "cloud": ("tidegate.connectors.by_kind", "ByKind", CLOUD),
    "witness": ("tidegate.main.wiring", "", ("publish",)),
}
KIND = re.compile(rb'"kind":"(\w+)"')


class Bomb:
    """Goes off once, at the n-th passing of its point."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._point = environment.get("TIDEGATE_CHAOS_POINT", "")
        self._nth = int(environment.get("TIDEGATE_CHAOS_NTH", "1"))
        self._armed = Path(environment.get("TIDEGATE_CHAOS_ARMED", "/nonexistent"))
        self._hits = Path(environment.get("TIDEGATE_CHAOS_HITS", "/dev/null"))

    def at(self, point: str) -> None:
        """The process is at `point`; it may be the last thing it does."""
        if not self._armed.exists():
            return
        with suppress(OSError):  # the disk is full in a case that kills nobody
            self._count(point)

    def _count(self, point: str) -> None:
        with self._hits.open("a+") as hits:
            fcntl.flock(hits, fcntl.LOCK_EX)  # until it is closed, or this process is dead
            hits.write(f"{point}\n")
            hits.flush()
            hits.seek(0)
            if point == self._point and hits.read().split().count(point) == self._nth:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(self, point: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """`real` with the bomb around it. What it yields is drawn before `after`."""

        @wraps(real)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.at(f"{point}.before")
            result = real(*args, **kwargs)
            if isinstance(result, Iterator):
                result = iter(list(result))
            self.at(f"{point}.after")
            return result

        return call

    def around_lines(self, real: Callable[..., None]) -> Callable[..., None]:
        """`ClosingJournal.append_all`, told by the kind of its last line: `journal.closing`."""

        @wraps(real)
        def append_all(journal: Any, lines: Iterable[Any]) -> None:
            told = tuple(lines)
            if told:
                self.wrapped(f"journal.{told[-1].kind}", real)(journal, told)

        return append_all

    def within_lines(self, real: Callable[..., None]) -> Callable[..., None]:
        """What writes their bytes, in two halves with the bomb between them."""

        @wraps(real)
        def write(file: Any, data: bytes) -> None:
            half = len(data) // 2
            real(file, data[:half])
            self.at(f"journal.{KIND.findall(data)[-1].decode()}.torn")
            real(file, data[half:])

        return write

    def around_log(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """`commit.write_log`: `mass.write_log` when it seals many ends, else `sql.write_log`."""

        @wraps(real)
        def write_log(*args: Any, **kwargs: Any) -> Any:
            many = sys._getframe(1).f_code.co_name == "_end_many"
            return self.wrapped(f"{'mass' if many else 'sql'}.write_log", real)(*args, **kwargs)

        return write_log

    def around_future(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """`Store.submit`; `after` is once the Step is durable, and before its future says so."""

        @wraps(real)
        def submit(store: Any, step: Any, *, urgent: bool = False) -> Any:
            point = f"store.{'urgent' if urgent else 'submit'}"
            told: Future[Any] = Future()

            def tell(done: "Future[Any]") -> None:
                fault = done.exception()
                if fault is not None:
                    told.set_exception(fault)
                    return
                self.at(f"{point}.after")
                told.set_result(done.result())

            self.at(f"{point}.before")
            real(store, step, urgent=urgent).add_done_callback(tell)
            return told

        return submit


def arm(bomb: Bomb) -> None:
    """Wrap every port."""
    for port, (module, owner, verbs) in PORTS.items():
        found: Any = importlib.import_module(module)
        place = getattr(found, owner) if owner else found
        for verb in verbs:
            point = f"{port}.{verb.strip('_')}"
            setattr(place, verb, bomb.wrapped(point, getattr(place, verb)))
    from tidegate.evidence.journal import ClosingJournal, _Appending
    from tidegate.store import commit
    from tidegate.store.store import Store

    told: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (ClosingJournal, "append_all", bomb.around_lines),
        (_Appending, "write", bomb.within_lines),
        (commit, "write_log", bomb.around_log),
        (Store, "submit", bomb.around_future),
    )
    for place, verb, around in told:
        setattr(place, verb, around(getattr(place, verb)))


def compact_at_once() -> None:
    """The journal drops the lines of a grant as soon as it is gone and sealed."""
    from tidegate.evidence import journal
    from tidegate.main import wiring

    journal.KEPT_BEYOND = -timedelta(days=1)  # longer than any grant of a life, with its sessions
    wiring.COMPACT_EVERY = timedelta(0)


@contextmanager
def on_database(url: str) -> Iterator[None]:
    """In the block the installation's database is `url`; empty: the one of its settings."""
    from tidegate.store.store import Store

    real = Store.open
    if url:
        Store.open = lambda _, **more: real(url, **more)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Store.open = real  # type: ignore[method-assign]


def main() -> None:
    """`python -m chaos.launch serve --config …`: as `tidegate serve --config …`."""
    arm(Bomb(dict(os.environ)))
    if os.environ.get("TIDEGATE_CHAOS_COMPACTS"):
        compact_at_once()
    from tidegate.main import run

    with on_database(os.environ.get("TIDEGATE_CHAOS_DATABASE", "")):
        run()


if __name__ == "__main__":
    main()
