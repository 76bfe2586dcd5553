"""Due to dispatch: from the end to the first call of the cloud, one end at a time, in real time.

On each engine. `alone`: nothing else is due. `backlog`: BACKLOG other grants ended one second
before, on targets of their own, and are still being worked through. `looks`: how often the worker
looks for what is due by time alone, half of which is the least an end waits in the middle. One JSON
object.
"""

import json
import os
import tempfile
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support import World

from bench.commit import _at, control, fdatasync
from bench.engine import ENGINES, database
from bench.lateness import PERSONS, Moving, laws_of, people, until
from tidegate.connectors.port import Hold, Receipt
from tidegate.connectors.role_kinds import IAM_ROLE
from tidegate.flow.asking import Asked, ask
from tidegate.flow.house import Actor
from tidegate.grant import Grant, GrantState
from tidegate.shell.worker import TICK

ALONE = int(os.environ.get("ALONE", "100"))
BACKLOG = int(os.environ.get("BACKLOG", "1000"))
APART = timedelta(milliseconds=37)  # no multiple of the worker's own pace
LIFE = timedelta(minutes=30)


def main() -> None:
    """Without a backlog and with one, on each engine."""
    found: dict[str, Any] = {"bench": "dispatch", "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        found["fdatasync_us"] = fdatasync(Path(folder))
    found["control_us"] = control()
    found["looks_every_ms"] = TICK.total_seconds() * 1000
    for engine in ENGINES:
        found[engine] = {"alone": one_round(engine, ALONE, 0)}
        if BACKLOG:
            found[engine]["backlog"] = one_round(engine, ALONE, BACKLOG)
    print(json.dumps(found))


def one_round(engine: str, count: int, backlog: int) -> dict[str, Any]:
    """`count` ends APART from each other, behind `backlog` ends of one instant."""
    with database(engine) as url, tempfile.TemporaryDirectory() as folder:
        clock = Moving()
        world = World(Path(folder), clock=clock, laws=laws_of(IAM_ROLE, None), url=url)
        who = people(world)
        for n in range(backlog):
            _asked(world, who[n % PERSONS], f"t{1 + n // PERSONS % 99:03d}/admin")
        _tick(world)
        clock.forward(seconds=1)
        timed = []
        for n in range(count):
            timed.append(_asked(world, who[n % PERSONS], "t000/admin"))
            _tick(world)
            clock.forward(milliseconds=APART.total_seconds() * 1000)
        grants = [grant for name in timed for grant in world.house.store.grants(request=name)]
        calls = _listen(world, clock)
        first = min(_end(grant) for grant in grants)
        clock.at = first - timedelta(seconds=1.2)  # just before the backlog's end
        clock.run()
        world.worker.start()
        until(lambda: all(grant.id in calls for grant in grants))
        waits = [(calls[grant.id] - _end(grant)).total_seconds() for grant in grants]
        closing = frozenset({GrantState.CLOSING, GrantState.OPEN})
        behind = len(world.house.store.grants(states=closing, limit=1000))
        world.down()
    return {
        "ends": len(waits),
        "p50_ms": _at(waits, 0.5, 1e3),
        "p99_ms": _at(waits, 0.99, 1e3),
        "before": backlog,
        "left_of_backlog": behind,
    }


def _asked(world: World, who: Actor, role: str) -> str:
    asked = Asked(roles=(role,), duration=LIFE, reason="bench", again=True)
    return ask(world.house, who, asked).id


def _tick(world: World) -> None:
    while world.worker.tick():
        pass


def _end(grant: Grant) -> datetime:
    if grant.ends_at is None:
        raise RuntimeError("a grant that is not open")
    return grant.ends_at


def _listen(world: World, clock: Moving) -> dict[str, datetime]:
    """When each grant was first to be taken away, by the cloud's side of the call."""
    calls: dict[str, datetime] = {}
    lock, act = threading.Lock(), world.connector.revoke

    def revoke(hold: Hold, now: datetime) -> Receipt:
        with lock:
            calls.setdefault(hold.grant, clock.exact())
        return act(hold, now)

    world.connector.revoke = revoke  # type: ignore[method-assign]
    return calls


if __name__ == "__main__":
    main()
