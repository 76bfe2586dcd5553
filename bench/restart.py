"""Restart with many live grants: how soon it serves, and when the first due end is called.

The rows are made in bulk (`filling`); the closing journal holds `intended` lines for as many of
them as fit below its bound (64 MiB: about a hundred thousand; a server opens no more than that).
Timed in a new process, from its first line of ours on, imports left out: the steps of
`tidegate serve` up to its worker, then the worker. DUE grants end while the process is down.
One JSON object.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support import START, World

from bench.commit import control, fdatasync
from bench.engine import ENGINES, TIMES, database, spread
from bench.filling import fill
from bench.lateness import Moving, laws_of, open_many, until
from tidegate.base.errors import EvidenceClosed
from tidegate.base.when import to_ms, wire
from tidegate.connectors.port import Hold, Receipt
from tidegate.connectors.simulated import IAM_ROLE
from tidegate.flow.governing import put_in_force
from tidegate.flow.recovering import close_forgotten

RESTART_LIVE = int(os.environ.get("RESTART_LIVE", "20000"))
JOURNAL_LINES = int(os.environ.get("JOURNAL_LINES", "1000000"))  # or as many as fit
DUE = 20
NOW = START + timedelta(hours=1)
CHUNK = 5_000


def main() -> None:
    """On each engine, TIMES new processes on the same files."""
    found: dict[str, Any] = {"bench": "restart", "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        found["fdatasync_us"] = fdatasync(Path(folder))
    found["control_us"] = control()
    for engine in ENGINES:
        found[engine] = _engine(engine)
    print(json.dumps(found))


def _engine(engine: str) -> dict[str, Any]:
    with database(engine) as url, tempfile.TemporaryDirectory() as folder:
        lines = _make(Path(folder), url)
        size = (Path(folder) / "closing.journal").stat().st_size
        runs = [_once(url, folder) for _ in range(TIMES)]
    steps = {name: spread([run[name] for run in runs]) for name in runs[0]}
    made = {"live": RESTART_LIVE, "due": DUE}
    return made | {"journal_lines": lines, "journal_mb": round(size / 2**20, 1), **steps}


def _make(folder: Path, url: str) -> int:
    """What the process before left; returns how many lines its journal has."""
    world = World(folder, clock=Moving(), laws=laws_of(IAM_ROLE, None), url=url)
    open_many(world, DUE * TIMES)  # ends at half past: every run finds those it ended still due
    (line, *_) = [one for one in world.house.journal.read() if one.kind == "intended"]
    late = NOW + timedelta(hours=8)
    fill(url, 0, RESTART_LIVE, to_ms(late))
    wanted = min(JOURNAL_LINES, RESTART_LIVE)
    try:
        for first in range(0, wanted, CHUNK):
            world.house.journal.append_all(
                replace(
                    line,
                    grant=f"gr_{n:026d}",
                    data={
                        **line.data,
                        "native_principal": f"gr_{n:026d}",
                        "request": f"rq_{n:026d}",
                        "ends_at": wire(late),
                    },
                )
                for n in range(first, min(first + CHUNK, wanted))
            )
    except EvidenceClosed:
        pass  # full: this is the bound
    lines = len(world.house.journal.read())
    world.down()
    return lines


def _once(url: str, folder: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.restart", "up", url, folder],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


class Again(World):
    """The same installation, come up on files that are there; not served yet."""

    def __post_init__(self) -> None:
        """As `tidegate serve` comes up."""
        self._up()


def up(url: str, folder: str) -> None:
    """One new process: come up, call the first end that is due, look at the journal once."""
    clock = Moving(NOW)
    clock.run()
    began = time.perf_counter()
    world = Again(Path(folder), clock=clock, laws=laws_of(IAM_ROLE, None), url=url)
    world.house.store.free_leases()
    put_in_force(world.house, world.laws)
    close_forgotten(world.house)
    serves = time.perf_counter() - began
    calls: list[float] = []
    act = world.connector.revoke

    def revoke(hold: Hold, now: datetime) -> Receipt:
        calls.append(time.perf_counter() - began)
        if len(calls) > 1:  # one is enough: the others stay due for the next run
            raise RuntimeError("the rest stays as it is")
        return act(hold, now)

    world.connector.revoke = revoke  # type: ignore[method-assign]
    looks = time.perf_counter()
    world.worker._look_at_journal()
    look = time.perf_counter() - looks
    again = time.perf_counter()
    world.worker.start()
    until(lambda: bool(calls))
    first = serves + (calls[0] - (again - began)) if calls else float("inf")
    print(json.dumps({"to_serve_s": serves, "first_call_s": first, "journal_look_s": look}))
    sys.stdout.flush()
    os._exit(0)  # a crash: nothing is tidied up


if __name__ == "__main__":
    if sys.argv[1:2] == ["up"]:
        up(*sys.argv[2:4])
    else:
        main()
