"""Restart with many live grants: how soon it serves, and when the first due end is called.

The rows are made in bulk (`filling`); the closing journal holds `intended` lines for as many of
them as fit below its bound (64 MiB: about a hundred thousand; a server opens no more than that).
Timed in a new process, from its first line of ours on, imports left out: the steps of
`tidegate serve` up to its worker, then the worker. DUE grants end while the process is down, and
COMING more in the seconds after it came up.
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
from bench.lateness import LIFE, Moving, laws_of, people, until
from tidegate.base.errors import EvidenceClosed
from tidegate.base.when import to_ms, wire
from tidegate.connectors.port import Hold, Receipt
from tidegate.connectors.role_kinds import IAM_ROLE
from tidegate.flow.asking import Asked, ask
from tidegate.flow.governing import put_in_force
from tidegate.flow.house import Actor
from tidegate.flow.recovering import look_back
from tidegate.grant import GrantState

RESTART_LIVE = int(os.environ.get("RESTART_LIVE", "20000"))
JOURNAL_LINES = int(os.environ.get("JOURNAL_LINES", "1000000"))  # or as many as fit
DUE = 20  # ends of while nobody was there
COMING = 20  # ends after the start
FIRST, APART = timedelta(seconds=0.5), timedelta(milliseconds=170)
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
        runs = [_once(url, folder, turn) for turn in range(TIMES)]
    steps = {name: spread([run[name] for run in runs]) for name in runs[0]}
    made = {"live": RESTART_LIVE, "due": DUE, "coming": COMING}
    return made | {"journal_lines": lines, "journal_mb": round(size / 2**20, 1), **steps}


def _comes_up(turn: int) -> datetime:
    """When process number `turn` comes up."""
    return NOW + turn * timedelta(minutes=5)


def _make(folder: Path, url: str) -> int:
    """What the process before left; returns how many lines its journal has."""
    world = World(folder, clock=Moving(), laws=laws_of(IAM_ROLE, None), url=url)
    who = people(world)
    for turn in range(TIMES):
        for n in range(DUE):  # ends before the process comes up
            _open(world, who[n], _comes_up(turn) - timedelta(minutes=2), f"t{turn:03d}/admin")
        for n in range(COMING):  # ends while it reads its journal
            end = _comes_up(turn) + FIRST + n * APART
            _open(world, who[DUE + n], end, f"t{turn:03d}/admin")
    line = next(one for one in world.house.journal.read() if one.kind == "intended")
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


def _open(world: World, who: Actor, end: datetime, role: str) -> None:
    """One open grant that ends then."""
    world.clock.at = end - LIFE
    world.worker.tick()  # it says that it is alive: without one that is, nothing is asked for
    asked = Asked(roles=(role,), duration=LIFE, reason="bench", again=True)
    name = ask(world.house, who, asked).id
    opened = frozenset({GrantState.OPEN})
    while not world.house.store.grants(request=name, states=opened):
        if not world.worker.tick():
            world.clock.forward(milliseconds=1)


def _once(url: str, folder: str, turn: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.restart", "up", url, folder, str(turn)],
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


def up(url: str, folder: str, turn: int) -> None:
    """One new process: come up, and call what is due while the journal is read beside it.

    `to_serve`: until the API would answer. `first_call` and `last_call`: until the cloud is asked
    to end the first and the last of what ended while nobody was there. `late_most`: the longest
    that any end of after the start waited for its call. `journal_read`: until what the journal
    knows is known, and things may open again.
    """
    clock = Moving(_comes_up(turn))
    clock.run()
    began, started = time.perf_counter(), clock()
    world = Again(Path(folder), clock=clock, laws=laws_of(IAM_ROLE, None), url=url)
    world.house.store.free_leases()
    put_in_force(world.house, world.laws)
    look_back(world.house)
    serves = time.perf_counter() - began
    calls: dict[str, tuple[datetime, datetime]] = {}  # by grant: when it ended, and was called
    read: list[float] = []
    act = world.connector.revoke

    def revoke(hold: Hold, now: datetime) -> Receipt:
        calls.setdefault(hold.grant, (hold.ends_at, clock()))
        return act(hold, now)

    def through() -> bool:
        if world.house.looked_back and not read:
            read.append(time.perf_counter() - began)
        return bool(read) and len(calls) == DUE + COMING

    world.connector.revoke = revoke  # type: ignore[method-assign]
    world.worker.start()
    until(through)
    if len(calls) != DUE + COMING:
        raise RuntimeError(f"expected {DUE + COMING} ends to be called, got {len(calls)}")
    before = sorted((at - started).total_seconds() for end, at in calls.values() if end < started)
    after = [(at - end).total_seconds() for end, at in calls.values() if end >= started]
    found = {"to_serve_s": serves, "first_call_s": before[0], "last_call_s": before[-1]}
    print(json.dumps(found | {"late_most_s": max(after), "journal_read_s": read[0]}))
    sys.stdout.flush()
    os._exit(0)  # a crash: nothing is tidied up


if __name__ == "__main__":
    if sys.argv[1:2] == ["up"]:
        up(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
