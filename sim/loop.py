"""Virtual time: a heap of what happens next, and tasks that stop at every I/O step.

A task is a greenlet. Exactly one runs at any moment; it gives way only in `pause`, so the seed
alone decides every interleaving. Nothing here knows the real clock.
"""

import heapq
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from greenlet import getcurrent, greenlet

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)  # a Monday morning
REMEMBERED = 40  # steps told when a run fails


class Killed(BaseException):
    """The process is gone: nothing of the house may catch it."""


class Task(greenlet):
    """Something a process, or a person, is doing. `started` is in milliseconds of true time."""

    process: Any
    name: str
    started: int
    memo: Any


class Turn:
    """When a task that waits for something goes on at the latest."""

    __slots__ = ("over", "task", "when")

    def __init__(self, task: Task, when: int) -> None:
        self.task = task
        self.when = when
        self.over = False


class Loop:
    """What happens when. `now` is the true time in whole milliseconds since START."""

    def __init__(self) -> None:
        self.now = 0
        self.told: deque[tuple[int, str]] = deque(maxlen=REMEMBERED)
        self.bugs: list[tuple[str, BaseException]] = []
        self._heap: list[tuple[int, int, Callable[[], None] | Task | Turn]] = []
        self._count = 0
        self.speaker: Task | None = None  # for whom the running task speaks, never over a pause
        self._hub = getcurrent()
        self._tasks: set[Task] = set()

    @property
    def instant(self) -> datetime:
        """The true time as an instant."""
        return START + timedelta(milliseconds=self.now)

    @property
    def task(self) -> Task | None:
        """The task that runs now; None between tasks."""
        found = self.speaker or getcurrent()
        return found if isinstance(found, Task) else None

    def tell(self, words: str) -> None:
        """Remember one step for the story of a failing run."""
        self.told.append((self.now, words))

    def at(self, when: int, run: Callable[[], None]) -> None:
        """Call `run` at `when` (at once when that has passed)."""
        self._push(when, run)

    def after(self, span: int, run: Callable[[], None]) -> None:
        """Call `run` in `span` milliseconds."""
        self._push(self.now + span, run)

    def spawn(self, process: Any, name: str, run: Callable[[], None], memo: Any = None) -> Task:
        """Begin a task now; it runs until its first pause before this returns."""
        task = Task(self._wrapped(run))
        task.process, task.name, task.started, task.memo = process, name, self.now, memo
        self._tasks.add(task)
        if getcurrent() is self._hub:
            task.switch()
        else:
            self._push(self.now, task)
        return task

    def pause(self, span: int) -> None:
        """Let others go on for `span` milliseconds. Raises Killed when the process died then."""
        task = self.task
        if task is None:
            return
        self._push(self.now + span, task)
        self._hub.switch()

    def sleep_until(self, when: int) -> "Turn":
        """A place in the queue for the task that runs now, which `wake` may bring forward."""
        task = self.task
        assert task is not None
        turn = Turn(task, when)
        self._push(when, turn)
        return turn

    def wake(self, turn: "Turn", when: int) -> None:
        """Have it go on at `when`, when that is sooner."""
        if not turn.over and when < turn.when:
            turn.when = when
            self._push(when, turn)

    def rest(self, turn: "Turn") -> None:
        """Let others go on until the turn has come. Raises Killed as `pause` does."""
        if not turn.over:
            self._hub.switch()

    def run(self, until: int) -> None:
        """Do everything that is due before `until`, in order."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            when, _, what = heapq.heappop(heap)
            if when > self.now:
                self.now = when
            if isinstance(what, Task):
                self._resume(what)
            elif isinstance(what, Turn):
                if not what.over and when >= what.when:
                    what.over = True
                    self._resume(what.task)
            else:
                what()
        self.now = max(self.now, until)

    def end(self) -> None:
        """Nobody goes on: every task that waits is thrown out."""
        for task in list(self._tasks):
            if not task.dead:
                with suppress(Killed):  # one that never began has nobody to catch it
                    task.throw(Killed)
        self._heap.clear()

    def _resume(self, task: Task) -> None:
        if task.dead:
            return
        process = task.process
        if process is not None and not process.alive:
            with suppress(Killed):
                task.throw(Killed)
        elif process is not None and self.now < process.stopped_until:
            self._push(process.stopped_until, task)
        else:
            task.switch()

    def _push(self, when: int, what: "Callable[[], None] | Task | Turn") -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, what))

    def _wrapped(self, run: Callable[[], None]) -> Callable[[], None]:
        def wrapped() -> None:
            task = getcurrent()
            try:
                run()
            except Killed:
                pass
            except Exception as bug:  # noqa: BLE001 - told at the end of the world, with its name
                self.bugs.append((getattr(task, "name", "?"), bug))
            finally:
                self._tasks.discard(task)  # type: ignore[arg-type]

        return wrapped


class Hands(Executor):
    """The worker's hands as tasks of the same process."""

    def __init__(self, loop: Loop, process: Any) -> None:
        self._loop = loop
        self._process = process

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Begin `fn` now as a task; its outcome is the future's."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as fault:  # noqa: BLE001 - as every executor
                future.set_exception(fault)

        self._loop.spawn(self._process, f"hand of {self._process.name}", run)
        return future


def wait_for(loop: Loop, futures: Any, seconds: float, step: int = 50) -> Any:
    """What `concurrent.futures.wait` does, in virtual time; it looks every `step` ms.

    Between two looks that could see nothing new it is not resumed.
    """
    began, until = loop.now, loop.now + int(seconds * 1000)
    waiting = [one for one in futures if not one.done()]
    if waiting and until > began and loop.task is not None:
        left = len(waiting)

        def one_done(_: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                at = began + -((began - loop.now) // step) * step
                loop.wake(turn, max(at, began + step))

        turn = loop.sleep_until(began + -((began - until) // step) * step)
        for one in waiting:
            one.add_done_callback(one_done)
        loop.rest(turn)
    return {one for one in futures if one.done()}
