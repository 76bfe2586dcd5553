"""How a demo is played: told in plain words as it happens, each claim checked, nothing left behind.

`demo.py` and `demo_break.py` have the acts; here is what both do, on whichever stage.
"""

import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from tidegate.base.errors import TidegateError
from tidegate.main.logs import log_quietly
from tidegate.main.stage import StageOf

S = TypeVar("S", bound=StageOf)


@dataclass(slots=True)
class Telling:
    """Says what happens as it happens, and keeps every check for the end."""

    quiet: bool
    began: float
    checks: list[dict[str, Any]] = field(default_factory=list)

    def act(self, title: str) -> None:
        """A new part of the play."""
        self._say(f"\n{title}\n{'─' * len(title)}")

    def tell(self, words: str) -> None:
        """Something that happened."""
        self._say(f"  {words}")

    def check(self, name: str, ok: bool, words: str) -> bool:
        """Something that must be so."""
        self.checks.append({"check": name, "ok": ok, "says": words})
        self._say(f"  {'✓' if ok else '✗'} {words}")
        return ok

    def show(self, text: str) -> None:
        """Something printed by a command, indented."""
        for line in text.rstrip().splitlines():
            self._say(f"    {line}")

    def _say(self, line: str) -> None:
        if not self.quiet:
            print(line, flush=True)  # noqa: T201 - this is what the demo is for


def perform(
    stage_in: Callable[[Path], S],
    acts: Sequence[Callable[[S, Telling], None]],
    *,
    opening: str,
    moral: str,
    as_json: bool,
    keep: bool,
) -> int:
    """Play `acts`. Returns 0 when every check held, else 1. Leaves no process behind.

    Args:
        stage_in: the stage, in a directory of its own.
        acts: what is played, in order.
        opening: what is told while the stage is made.
        moral: what is told at the end, when every check held.
        as_json: print one object with each check at the end, and nothing else.
        keep: leave the temporary directory for a look.
    """
    log_quietly()
    told = Telling(as_json, time.monotonic())
    directory = tempfile.mkdtemp(prefix="tidegate-demo-")
    fault = ""
    try:
        with _interrupted_once(), _cleared(Path(directory), keep):
            told.tell(opening)
            with stage_in(Path(directory)) as stage:
                for act in acts:
                    act(stage, told)
    except TidegateError as error:
        fault = error.message
    except KeyboardInterrupt:
        fault = "interrupted"
    return _finish(told, fault, directory if keep else "", moral)


@contextmanager
def _cleared(directory: Path, keep: bool) -> Iterator[None]:
    """Nothing of `directory` stays, unless it is to be kept."""
    try:
        yield
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """SIGINT and SIGTERM end the play the first time, and no more: the stage has to be cleared."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(number: int, frame: FrameType | None) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(told: Telling, fault: str, kept: str, moral: str) -> int:
    ok = not fault and bool(told.checks) and all(check["ok"] for check in told.checks)
    seconds = round(time.monotonic() - told.began, 1)
    failed = [check["check"] for check in told.checks if not check["ok"]]
    if told.quiet:
        print(  # noqa: T201
            json.dumps(
                {"ok": ok, "seconds": seconds, "fault": fault, "kept": kept, "checks": told.checks}
            )
        )
        return 0 if ok else 1
    told.act(f"{len(told.checks) - len(failed)} of {len(told.checks)} checks held, {seconds} s")
    if fault:
        told.tell(f"stopped: {fault}")
    if failed:
        told.tell(f"did not hold: {', '.join(failed)}")
    if kept:
        told.tell(f"everything is in {kept}")
    if ok:
        told.tell(moral)
    return 0 if ok else 1
