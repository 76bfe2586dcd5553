"""Two workers against one: real processes on one PostgreSQL, a cloud whose calls take CALL_MS.

Each process has a simulated cloud of its own and closes grants of kind `iam-role`, of which a cloud
has to know nothing before: what is shared is the database alone. Timed from the instant the grants
end until the last is read back as removed. One JSON object.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support import World

from bench.commit import control, fdatasync
from bench.engine import TIMES, database, spread
from bench.lateness import LIFE, Moving, laws_of, open_many, until
from tidegate.connectors.role_kinds import IAM_ROLE
from tidegate.flow.governing import put_in_force
from tidegate.grant import GrantState

WORKERS_ENDS = int(os.environ.get("WORKERS_ENDS", "800"))
CALL_MS = int(os.environ.get("CALL_MS", "250"))
HEAD_START = 6.0  # seconds before the end in which processes come up
NOT_YET = frozenset({GrantState.OPEN, GrantState.CLOSING})


def main() -> None:
    """One, then two, TIMES each, in turn."""
    found: dict[str, Any] = {"bench": "workers", "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        found["fdatasync_us"] = fdatasync(Path(folder))
    found |= {"control_us": control(), "ends": WORKERS_ENDS, "call_ms": CALL_MS}
    rounds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(TIMES):
        for count, spent in rounds.items():
            spent.append(_round(count))
    for count, spent in rounds.items():
        found[str(count)] = {"seconds": spread(spent)}
    print(json.dumps(found))


def _round(count: int) -> float:
    with ExitStack() as stack:
        url = stack.enter_context(database("postgresql"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = World(folder, clock=Moving(), laws=laws_of(IAM_ROLE, None), url=url)
        grants = open_many(world, WORKERS_ENDS)
        ends = [grant.ends_at for grant in grants if grant.ends_at]
        of = f"{min(ends).isoformat()} {max(ends).isoformat()}"
        ends_at = time.time() + HEAD_START  # when, in real time, all have ended
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.workers", "work", url, *of.split(), str(ends_at)]
            )
            for _ in range(count)
        ]
        try:
            until(lambda: not world.house.store.grants(states=NOT_YET, limit=1))
            spent = time.time() - ends_at
            if world.house.store.grants(states=NOT_YET, limit=1):
                raise RuntimeError("expected every grant to be removed, got one that is not")
        finally:
            for one in workers:
                one.kill()
                one.wait()
            world.down()
    return spent


class Real(Moving):
    """A clock that comes to `first` at a given real instant and then goes on from `last`, in every
    process: what was opened some seconds apart ends at one instant.
    """

    def __init__(self, first: datetime, last: datetime, ends_at: float) -> None:
        super().__init__(last)
        self._first, self._ends_at = first, ends_at

    def __call__(self) -> datetime:
        """The instant it shows, in milliseconds."""
        over = int((time.time() - self._ends_at) * 1000)
        return (self.at if over >= 0 else self._first) + timedelta(milliseconds=over)


class Beside(World):
    """One more process on a database that is there."""

    def __post_init__(self) -> None:
        """Up, with a worker of its own name."""
        self._up()
        put_in_force(self.house, self.laws)


def work(url: str, first: str, last: str, ends_at: str) -> None:
    """One process; it works until it is killed."""
    clock = Real(datetime.fromisoformat(first), datetime.fromisoformat(last), float(ends_at))
    with tempfile.TemporaryDirectory() as folder:
        world = Beside(Path(folder), clock=clock, laws=laws_of(IAM_ROLE, None), url=url)
        for verb in ("observe", "revoke", "cut", "probe", "disarm"):
            setattr(world.connector, verb, _slow(getattr(world.connector, verb)))
        world.worker.start()
        time.sleep(LIFE.total_seconds())


def _slow(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` after a wait. Not inside it: there the simulated cloud has its lock in hand, and one
    call would wait for another, which no cloud does.
    """

    def slowly(*asked: Any) -> Any:
        time.sleep(CALL_MS / 1000)
        return call(*asked)

    return slowly


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(*sys.argv[2:6])
    else:
        main()
