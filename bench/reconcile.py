"""Reconciling: how long until every access of a cloud was looked at once, and what that costs.

Prints one JSON object. The production worker looks in real time, with the chores and the hands that
`tidegate serve` gives it; the cloud is the simulated one, which answers at once and has no pace of
its own. Every second access is ours: an open grant holds it, and the cloud keeps its deadline. The
others stood there before. Nothing is wrong with any of them, so what is measured is looking.

A shape is `TARGETSxROLESxPEOPLE`: roles of each target, who holds each role. The first run takes
the baselines (`first_s`). TIMES more, each a new process on the same database, find them there.
`bare` is the control of each: the same lists asked for one after the other, and nothing else.
"""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support import GROUPS, World, laws

from bench.commit import control, fdatasync
from bench.engine import ENGINES, TIMES, database, spread
from bench.lateness import PERSONS, Moving, all_open, people, until
from tidegate.catalogue import AssignmentKey, Catalogue, Role, Target
from tidegate.connectors.port import Scope
from tidegate.connectors.simulated import ASSIGNMENT
from tidegate.flow import reconciling
from tidegate.flow.asking import Asked, ask
from tidegate.flow.house import House, Laws
from tidegate.flow.reconciling import Looked, look_at
from tidegate.main.wiring import _looks
from tidegate.shell.worker import Chore, Worker

SHAPES = tuple(one for one in os.environ.get("SHAPES", "100x1x10").split(",") if one)
LIFE = timedelta(hours=8)  # beyond every run: nothing ends meanwhile, and nobody is warned
ITEMS = 20  # of one request, at most
BETWEEN = timedelta(minutes=2)  # from one run to the next: every scope is due again
RULE = """
@id("free") @max("12h") @approve("none")
permit (principal in Group::"sre", action == Action::"request", resource in Label::"env=bench");
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """How much access there is, and where."""

    targets: int
    roles: int  # of each target
    persons: int  # who hold each role

    def __str__(self) -> str:
        """As SHAPES has it."""
        return f"{self.targets}x{self.roles}x{self.persons}"

    @property
    def assignments(self) -> int:
        """Of the whole cloud."""
        return self.targets * self.roles * self.persons

    @property
    def named(self) -> list[Role]:
        """Every role of every target."""
        return [
            Role(id=f"t{n:03d}/r{m:04d}", kind=ASSIGNMENT, native={"arn": f"r{m:04d}"})
            for n in range(self.targets)
            for m in range(self.roles)
        ]


def shape_of(text: str) -> Shape:
    """As SHAPES has it. Raises ValueError for anything else."""
    shape = Shape(*(int(part) for part in text.split("x")))
    if not 0 < shape.persons <= PERSONS:
        raise ValueError(f"expected 1 to {PERSONS} people a role, got {shape.persons}")
    return shape


class Kept(World):
    """One whose cloud removes an assignment by itself at its end."""

    def _up(self, create: bool = False) -> None:
        super()._up(create)
        self.connector.deadlines = True


def main() -> None:
    """Every shape on each engine."""
    found: dict[str, Any] = {"bench": "reconcile", "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        found["fdatasync_us"] = fdatasync(Path(folder))
    found["control_us"] = control()
    for engine in ENGINES:
        found[engine] = {text: one_shape(engine, shape_of(text), TIMES) for text in SHAPES}
    print(json.dumps(found))


def one_shape(engine: str, shape: Shape, times: int) -> dict[str, Any]:
    """One cloud, looked at by a process that takes the baselines and by `times` after it.

    `seconds` until everything was looked at once, or until PATIENCE is over: then `looked_at` is
    below `assignments`. `cpu_s` is of the whole process, not of PostgreSQL; `looks_cpu_s` of the
    threads that look; `rows` is what those read of the database.
    """
    with database(engine) as url, tempfile.TemporaryDirectory() as folder:
        world = Kept(Path(folder), clock=Moving(), laws=laws_of(shape), url=url)
        began = time.perf_counter()
        fill(world, shape)
        _say(f"{engine}, {shape}: there after {time.perf_counter() - began:.0f} s")
        runs = []
        for turn in range(1 + times):
            if turn:
                world.restart()
            bare = _bare(world, shape)
            runs.append({**one_pass(world, shape), **bare})
            _say(f"{engine}, {shape}: all looked at after {runs[-1]['seconds']:.1f} s")
            world.clock.forward(seconds=BETWEEN.total_seconds())
        world.down()
    first, again = runs[0], runs[1:]
    return {
        "assignments": shape.assignments,
        "roles": shape.targets * shape.roles,
        "scopes": shape.targets,
        "first_s": round(first["seconds"], 3),
        "looked_at": int(min(run["looked_at"] for run in runs)),
        **{name: spread([run[name] for run in again]) for name in again[0] if name != "looked_at"},
    }


def laws_of(shape: Shape) -> Laws:
    """The roles of a shape, which PERSONS persons get for the asking."""
    targets = {
        name: Target(id=name, connector="simulated", account=name, labels=("env=bench",))
        for name in (f"t{n:03d}" for n in range(shape.targets))
    }
    some = tuple(f"p{n:03d}" for n in range(PERSONS))
    groups = replace(GROUPS, members={**GROUPS.members, "sre": some})
    return laws(RULE, groups, Catalogue(targets, {role.id: role for role in shape.named}))


def fill(world: World, shape: Shape) -> None:
    """Every second access by a grant that the worker opens, the others by somebody's hand."""
    names = [role.id for role in shape.named]
    asked = []
    for n, who in enumerate(people(world)[: shape.persons]):
        if n % 2:
            for role in shape.named:
                key = AssignmentKey(
                    connector="simulated",
                    account=role.target,
                    native_role=role.native["arn"],
                    native_principal=f"s{n:03d}",
                )
                world.cloud.place(key, world.clock(), by="somebody")
            continue
        for at in range(0, len(names), ITEMS):
            some = Asked(roles=tuple(names[at : at + ITEMS]), duration=LIFE, reason="bench")
            asked.append(ask(world.house, who, some))
    all_open(world, asked, (shape.persons + 1) // 2 * len(names))


def one_pass(world: World, shape: Shape) -> dict[str, float]:
    """The worker of a new process from its start until it has looked at everything once."""
    assert isinstance(world.clock, Moving)
    watch = _Watch()
    world.worker.stop()
    world.worker = Worker(world.house, world.refusals, tuple(watch.chores(world.house)))
    with watch.watching(world.house):
        world.clock.run()
        cpu, began = time.process_time(), time.perf_counter()
        world.worker.start()
        until(lambda: len(watch.looks) == shape.targets * shape.roles)
        cpu, over = time.process_time() - cpu, time.perf_counter()
        world.worker.stop()
        world.clock.stand()
    if found := [role for role, (looked, _) in watch.looks.items() if looked.findings]:
        raise RuntimeError(f"expected a cloud with nothing wrong in it, got findings on {found[0]}")
    whole = len(watch.looks) == shape.targets * shape.roles
    last = max(at for _, at in watch.looks.values()) if whole else over
    return {
        "seconds": last - began,
        "looked_at": sum(looked.shown for looked, _ in watch.looks.values()),
        "cpu_s": cpu,
        "looks_cpu_s": watch.cpu,
        "rows": watch.rows,
    }


@dataclass(slots=True)
class _Watch:
    """What the looking threads of one process do."""

    looks: dict[str, tuple[Looked, float]] = field(default_factory=dict)  # by role: its first
    rows: int = 0
    cpu: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _looking: threading.local = field(default_factory=threading.local)

    def chores(self, house: House) -> Iterator[Chore]:
        """Those of `tidegate serve`, their threads watched."""
        for chore in _looks(house):
            yield replace(chore, run=self._watched(chore))

    @contextmanager
    def watching(self, house: House) -> Iterator[None]:
        """See each look of the house, and what is read for it."""
        asked = house.store._database.look

        def look(sql: str, params: Any) -> list[Any]:
            rows = asked(sql, params)
            if getattr(self._looking, "on", False):
                with self._lock:
                    self.rows += len(rows)
            return rows

        def looked(house: House, target: Target, role: Role) -> Looked:
            found = look_at(house, target, role)
            with self._lock:
                self.looks.setdefault(role.id, (found, time.perf_counter()))
            return found

        house.store._database.look = look  # type: ignore[method-assign]
        reconciling.look_at = looked
        try:
            yield
        finally:
            reconciling.look_at = look_at

    def _watched(self, chore: Chore) -> Callable[[], None]:
        def run() -> None:
            self._looking.on, cpu = True, time.thread_time()
            try:
                chore.run()
            finally:
                self._looking.on = False
                with self._lock:
                    self.cpu += time.thread_time() - cpu

        return run


def _bare(world: World, shape: Shape) -> dict[str, float]:
    """The same lists, asked for one after the other."""
    house, shown = world.house, 0
    cpu, began = time.process_time(), time.perf_counter()
    for role in shape.named:
        scope = Scope(target=house.laws.catalogue.target(role.target), role=role)
        shown += len(list(world.connector.observe(scope, house.now())))
    cpu, spent = time.process_time() - cpu, time.perf_counter() - began
    if shown != shape.assignments:
        raise RuntimeError(f"expected the cloud to show {shape.assignments}, got {shown}")
    return {"bare_s": spent, "bare_cpu_s": cpu}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
