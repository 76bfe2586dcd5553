"""Lateness: many ends in one instant, from the deadline to what the cloud answers; one JSON object.

Every end is sealed, read back and proven by the production worker on each engine; the cloud is the
simulated one, which answers at once. `denies` is asked of the cloud's own state for keys taken
before the end: it is measured beside the worker, not told by it. The other latencies are those of
`tidegate report lateness`, computed from the sealed events.

`unthrottled` runs in real time. `paced` runs on a clock that is moved forward, because its hours
come from the pace alone: it shows what a queue at that pace does, never how fast this box is.
"""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support import GROUPS, START, Clock, World, laws

from bench.commit import control, fdatasync
from bench.engine import ENGINES, database
from tidegate.catalogue import Catalogue, Role, Target
from tidegate.connectors.port import Answer, Credential
from tidegate.connectors.role_kinds import IAM_ROLE
from tidegate.connectors.simulated import ASSIGNMENT
from tidegate.evidence.lateness import Latency, figures, measure
from tidegate.evidence.seal import read_event
from tidegate.flow.asking import Asked, ask
from tidegate.flow.brokering import issue
from tidegate.flow.governing import put_in_force
from tidegate.flow.house import Actor, Laws
from tidegate.flow.people import LOCAL, actor, record
from tidegate.grant import Grant, GrantState
from tidegate.request import Request
from tidegate.store import Account

ENDS = int(os.environ.get("ENDS", "1000"))  # that come in one instant, of each role kind
PACES = tuple(float(n) for n in os.environ.get("PACES", "0.33,2").split(",") if n)
PACED_ENDS = int(os.environ.get("PACED_ENDS", "300"))
TARGETS = 100
PERSONS = 100  # with TARGETS: as many assignments of one kind as there can be apart
KEYS = 500  # taken before the end and tried afterwards, at most
LIFE = timedelta(minutes=30)
PATIENCE = float(os.environ.get("PATIENCE", "200"))  # seconds of real time a round may take
RULE = """
@id("free") @max("1h") @approve("none")
permit (principal in Group::"sre", action == Action::"request", resource in Label::"env=bench");
"""


class Moving(Clock):
    """A clock that stands until it is let go; then it runs with real time."""

    def __init__(self, at: datetime = START) -> None:
        super().__init__(at)
        self._since: float | None = None

    def __call__(self) -> datetime:
        """The instant it shows, in milliseconds."""
        now = self.exact()
        return now - timedelta(microseconds=now.microsecond % 1000)

    def exact(self) -> datetime:
        """The same to the microsecond, to measure by."""
        if self._since is None:
            return self.at
        return self.at + timedelta(seconds=time.perf_counter() - self._since)

    def run(self) -> None:
        """Let it go."""
        self._since = time.perf_counter()

    def stand(self) -> None:
        """Stop it where it is."""
        self.at, self._since = self(), None


def main() -> None:
    """On each engine: each role kind unthrottled, then the kind without a deadline of its own at
    each pace.
    """
    found: dict[str, Any] = {"bench": "lateness", "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        found["fdatasync_us"] = fdatasync(Path(folder))
    found["control_us"] = control()
    for engine in ENGINES:
        kinds = (IAM_ROLE, ASSIGNMENT) if ENDS else ()
        found[engine] = {
            "unthrottled": {kind: one_round(engine, kind, ENDS, None) for kind in kinds},
            "paced": {
                f"{pace:g}": one_round(engine, ASSIGNMENT, PACED_ENDS, pace) for pace in PACES
            },
        }
    print(json.dumps(found))


def one_round(engine: str, kind: str, count: int, pace: float | None) -> dict[str, Any]:
    """`count` ends of one instant: each latency, and what of it was our CPU.

    Args:
        engine: `sqlite` or `postgresql`, whose own CPU is not counted.
        kind: of the roles; one of the simulated cloud.
        count: at most TARGETS times PERSONS.
        pace: looks a second of the account, on a clock that is moved forward; None: real time.
    """
    with database(engine) as url, tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), clock=Moving(), laws=laws_of(kind, None), url=url)
        began = time.perf_counter()
        grants = open_many(world, count)
        keys = _keys(world, kind, grants)
        _say(f"{engine}, {kind}: {len(grants)} open after {time.perf_counter() - began:.0f} s")
        end = max(grant.ends_at for grant in grants if grant.ends_at)
        cpu, began = time.process_time(), time.perf_counter()
        if pace is None:
            _in_real_time(world, end)
        else:
            put_in_force(world.house, laws_of(kind, pace))
            _at_pace(world, end, pace)
        cpu, spent = time.process_time() - cpu, time.perf_counter() - began
        told = _told(world, [grant.request for grant in grants])
        told |= {
            "denies": _spans([_denied_after(world, key, end) for key in keys]),
            "keys": len(keys),
            "ends": count,
            "clock": "real" if pace is None else "moved forward",
            "seconds": round(spent, 1),
            "cpu_us_per_end": round(cpu / count * 1e6),
        }
        world.down()
    return told


def laws_of(kind: str, pace: float | None) -> Laws:
    """TARGETS targets with one role of `kind` each, which PERSONS persons get for the asking."""
    names = [f"t{n:03d}" for n in range(TARGETS)]
    targets = {
        name: Target(
            id=name, connector="simulated", account="123456789012", labels=("env=bench",), pace=pace
        )
        for name in names
    }
    roles = {
        f"{name}/admin": Role(
            id=f"{name}/admin", kind=kind, native={"arn": name}, probe="iam:ListUsers"
        )
        for name in names
    }
    people = tuple(f"p{n:03d}" for n in range(PERSONS))
    groups = replace(GROUPS, members={**GROUPS.members, "sre": people})
    return laws(RULE, groups, Catalogue(targets, roles))


def people(world: World) -> list[Actor]:
    """PERSONS who may ask."""
    house, made = world.house, []
    for n in range(PERSONS):
        login = f"p{n:03d}"
        person = record(house, LOCAL, login, world.clock(), name=login, mail=f"{login}@x.invalid")
        house.store.put_account(Account(login=login, principal=person.id, password_hash="-"))
        made.append(person.id)
    put_in_force(house, house.laws)  # the accounts join their groups
    return [actor(house, person) for person in made]


def open_many(world: World, count: int) -> list[Grant]:
    """`count` open grants that end together: each another person's, or of another target.

    A few may be opened, and end, a second later than the others.
    """
    asked = []
    for n, who in enumerate(people(world)):
        for turn in range(n * count // PERSONS, (n + 1) * count // PERSONS):
            role = f"t{turn % TARGETS:03d}/admin"
            asked.append(ask(world.house, who, Asked(roles=(role,), duration=LIFE, reason="bench")))
    return all_open(world, asked, count)


def all_open(world: World, asked: Iterable[Request], count: int) -> list[Grant]:
    """The `count` grants of these requests, once the worker has opened them."""
    until(lambda: not _opening(world))
    grants = [one for request in asked for one in world.house.store.grants(request=request.id)]
    if len(grants) != count or any(grant.state is not GrantState.OPEN for grant in grants):
        raise RuntimeError(f"expected {count} open grants, got others")
    return grants


def _opening(world: World) -> bool:
    """One look at what waits to be opened; whether anything still does."""
    if not world.worker.tick():
        world.clock.forward(seconds=1)  # what found its key in another hand sleeps for so long
    waits = frozenset({GrantState.READY, GrantState.INTENDED})
    return bool(world.house.store.grants(states=waits, limit=1))


def _keys(world: World, kind: str, grants: list[Grant]) -> list[Credential]:
    """Keys that people hold when the end comes."""
    some = grants[:: max(1, len(grants) // KEYS)][:KEYS]
    if kind == IAM_ROLE:
        return [issue(world.house, actor(world.house, one.principal), one.id)[2] for one in some]
    made = []
    for one in some:
        assignment = world.house.store.assignment(one.assignment)
        assert assignment is not None
        made.append(world.cloud.sign_in(assignment.key, world.clock(), one.id))
    return made


def _in_real_time(world: World, end: datetime) -> None:
    assert isinstance(world.clock, Moving)
    world.clock.at = end - timedelta(seconds=1)
    world.clock.run()
    world.worker.start()
    until(lambda: not _left(world))


def until(true: Callable[[], bool]) -> None:
    """Wait until it is so, or for PATIENCE."""
    waited, began = threading.Event(), time.perf_counter()
    while not true() and time.perf_counter() - began < PATIENCE:
        waited.wait(0.05)


def _at_pace(world: World, end: datetime, pace: float) -> None:
    """Half a turn of the bucket at a time, so that no token waits for the clock for long."""
    world.clock.at = end - timedelta(seconds=30)
    step = min(1.0, 0.5 / pace)
    began, looks = time.perf_counter(), 0
    while time.perf_counter() - began < PATIENCE:
        if not world.worker.tick():
            world.clock.forward(seconds=step)
        looks += 1
        if looks % 200 == 0 and not _left(world):
            return


def _left(world: World) -> bool:
    living = frozenset({GrantState.OPEN, GrantState.CLOSING, GrantState.REMOVED})
    return bool(world.house.store.grants(states=living, limit=1))


def _told(world: World, requests: list[str]) -> dict[str, Any]:
    """The five latencies, from sealed events alone, and how many ends are not through."""
    spans: dict[Latency, list[int]] = {name: [] for name in Latency}
    for request in requests:
        events = [read_event(leaf) for _, leaf in world.house.store.events(request)]
        grant = next(str(e.data["grant"]) for e in events if e.name == "grant.readied")
        late = measure(events, grant)
        for name, span in (late.spans if late else {}).items():
            spans[name].append(span)
    told: dict[str, Any] = {
        name.value: _spans(spans[name])
        for name in (Latency.SENT, Latency.REMOVED, Latency.GONE, Latency.DECLARED)
    }
    return told | {"not_gone": len(requests) - len(spans[Latency.GONE])}


def _spans(spans: list[int]) -> Mapping[str, Any]:
    """Milliseconds."""
    found = figures(spans)
    return found.as_json() if found else {"n": 0}


def _denied_after(world: World, key: Credential, end: datetime) -> int:
    """From which millisecond after the end the cloud refuses this key, by its own state."""
    low, high = -1, 24 * 3_600_000  # allowed at `low`, refused at `high`
    while high - low > 1:
        middle = (low + high) // 2
        at = end + timedelta(milliseconds=middle)
        if world.cloud.use(key, at) is Answer.ALLOWED:
            low = middle
        else:
            high = middle
    return high


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
