"""Commits of one moment in one transaction, as the production writer's thread gathers them."""

from collections.abc import Callable
from typing import Any

from sim.loop import Task
from tidegate.base.errors import WorldFailed
from tidegate.store.writer import _as_closed

GATHERED_MS = 20  # for so long the first waits for others: what a slow disk takes


class Gatherer:
    """The Steps one process commits. Whoever comes first writes for all that came since."""

    def __init__(self, loop: Any, real: Any, told: Callable[[Any, int], None]) -> None:
        self.loop = loop
        self.real = real
        self.told = told  # of each Step that became durable, in order, before anybody goes on
        self._waiting: list[_Waiting] = []

    def commit(self, step: Any, entered: int) -> Any:
        """Store a Step with its neighbours. Raises what the production commit would."""
        self.real._writer._committer.check(step)
        task = self.loop.task
        if task is None:  # before the first task there is nobody to wait for
            done = self.real.commit(step)
            self.told(step, entered)
            return done
        mine = _Waiting(step, entered, task)
        self._waiting.append(mine)
        if len(self._waiting) == 1:
            self.loop.pause(GATHERED_MS)
            batch, self._waiting = self._waiting, []
            self._write(batch)
        while mine.outcome is None:
            self.loop.pause(1)
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        return mine.outcome

    def _write(self, batch: "list[_Waiting]") -> None:
        try:
            outcomes = self.real._writer._committer.commit([one.step for one in batch])
        except WorldFailed as fault:
            outcomes = [_as_closed(fault)] * len(batch)
        try:
            for one, outcome in zip(batch, outcomes, strict=True):
                one.outcome = outcome
                if not isinstance(outcome, Exception):
                    self.loop.speaker = one.task
                    self.told(one.step, one.entered)
        finally:
            self.loop.speaker = None


class _Waiting:
    """A Step on its way, whose task waits."""

    def __init__(self, step: Any, entered: int, task: Task) -> None:
        self.step = step
        self.entered = entered
        self.task = task
        self.outcome: Any = None


__all__ = ["Gatherer"]
