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

WORKERS_ENDS = int(os.environ.get("WORKERS_ENDS", "400"))
CALL_MS = int(os.environ.get("CALL_MS", "50"))
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
        end = max(grant.ends_at for grant in grants if grant.ends_at)
        ends_at = time.time() + HEAD_START  # when, in real time, `end` comes
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.workers", "work", url, end.isoformat(), str(ends_at)]
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
    """A clock that shows `end` at a given real instant, in every process."""

    def __init__(self, end: datetime, ends_at: float) -> None:
        super().__init__(end)
        self._ends_at = ends_at

    def __call__(self) -> datetime:
        """The instant it shows, in milliseconds."""
        return self.at + timedelta(milliseconds=int((time.time() - self._ends_at) * 1000))


class Beside(World):
    """One more process on a database that is there."""

    def __post_init__(self) -> None:
        """Up, with a worker of its own name."""
        self._up()
        put_in_force(self.house, self.laws)


def work(url: str, end: str, ends_at: str) -> None:
    """One process; it works until it is killed."""
    clock = Real(datetime.fromisoformat(end), float(ends_at))
    with tempfile.TemporaryDirectory() as folder:
        world = Beside(Path(folder), clock=clock, laws=laws_of(IAM_ROLE, None), url=url)
        act = world.connector._reach

        def reach(*asked: Any) -> Any:
            time.sleep(CALL_MS / 1000)
            return act(*asked)

        world.connector._reach = reach  # type: ignore[assignment,method-assign]
        world.worker.start()
        time.sleep(LIFE.total_seconds())


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(*sys.argv[2:5])
    else:
        main()
