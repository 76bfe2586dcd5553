"""Room kept free for panics: threads of their own, so that a busy API cannot hold them up."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import structlog

from tidegate.base.errors import TidegateError

log = structlog.get_logger("tidegate.api")

THREADS = 8  # calls at a time: somebody panics, and some watch
PATHS = "/api/panics"

T = TypeVar("T")


def in_lane(path: str) -> bool:
    """Whether a call to `path` may use this room."""
    return path == PATHS or path.startswith(f"{PATHS}/")


class Lane:
    """Threads for panics and nothing else. One of an app, which closes it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tidegate-lane")

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """`work(*args)` in one of its threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args))

    def later(self, work: Callable[..., object], *args: Any) -> threading.Thread:
        """`work(*args)` in a thread of its own, which nobody waits for. Faults are logged."""

        def run() -> None:
            try:
                work(*args)
            except TidegateError as fault:
                log.warning("panic waits", code=fault.code, why=fault.message)
            except Exception:  # a rim: the worker's chore takes the panic up again
                log.exception("panic could not go on")

        thread = threading.Thread(target=run, name="tidegate-panic", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Take no more calls. Sweeps under way end with the process and are taken up again."""
        self._pool.shutdown(wait=False, cancel_futures=True)
