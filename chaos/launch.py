"""Starts the real `tidegate` command with a bomb in it: SIGKILL at a named point, and nothing else.

A point is `port.verb.before` or `.after`: before the call, or after it took effect and before
anybody learns of it. The bomb is told by the environment:

    TIDEGATE_CHAOS_POINT   cloud.revoke.after     (empty: none)
    TIDEGATE_CHAOS_NTH     1                      (which passing; counted while armed)
    TIDEGATE_CHAOS_ARMED   a file: passings count while it exists
    TIDEGATE_CHAOS_DATABASE  a URL: this database, whatever the settings say
    TIDEGATE_CHAOS_HITS    a file: each point that is passed while armed gets a line. Processes with
                           the same file count together, and one of them dies

Nothing of this is in the product: the classes are wrapped before its `main` runs.
"""

import fcntl
import importlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

CLOUD = ("key", "observe", "grant", "issue", "arm", "disarm", "revoke", "cut", "probe", "mend")
# port -> where it lives and which of its verbs change the world or tell of it
PORTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "store": ("tidegate.store.store", "Store", ("commit",)),
    "sql": ("tidegate.store.commit", "", ("store",)),  # inside the transaction
    "journal": ("tidegate.evidence.journal", "ClosingJournal", ("append",)),
    "cloud": ("tidegate.connectors.by_kind", "ByKind", CLOUD),
    "witness": ("tidegate.main.wiring", "", ("publish",)),
}


def points() -> list[str]:
    """Every point by name."""
    return [
        f"{port}.{verb}.{when}"
        for port, (_, _, verbs) in PORTS.items()
        for verb in verbs
        for when in ("before", "after")
    ]


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

    def wrapped(self, port: str, verb: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """`real` with the bomb around it. What it yields is drawn before `after`."""

        @wraps(real)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.at(f"{port}.{verb}.before")
            result = real(*args, **kwargs)
            if isinstance(result, Iterator):
                result = iter(list(result))
            self.at(f"{port}.{verb}.after")
            return result

        return call


def arm(bomb: Bomb) -> None:
    """Wrap every port."""
    for port, (module, owner, verbs) in PORTS.items():
        found: Any = importlib.import_module(module)
        place = getattr(found, owner) if owner else found
        for verb in verbs:
            setattr(place, verb, bomb.wrapped(port, verb, getattr(place, verb)))


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
    from tidegate.main import run

    with on_database(os.environ.get("TIDEGATE_CHAOS_DATABASE", "")):
        run()


if __name__ == "__main__":
    main()
