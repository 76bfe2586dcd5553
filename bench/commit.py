"""Commits: transitions a second and how long one takes, beside what the disk and the box can do.

Prints one JSON object. A transition is one guarded row change with one sealed event, durable when
counted. `in_flight_500` keeps 500 Steps waiting from 16 threads; in the other rounds every caller
waits for its own commit. Latencies are in milliseconds.
"""

import gc
import json
import os
import platform
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tidegate.base.fact import Step
from tidegate.base.ids import GRANT, REQUEST, make_id
from tidegate.evidence.note import FileSigner
from tidegate.grant import Grant, Outcome, noted, ready
from tidegate.request import Item, Request, RequestState, Terms
from tidegate.store import Committed, Store, compare

ORIGIN = "bench.invalid/log"
DIGEST = "sha256:" + "0" * 64
GRANTS = 2_000
IN_FLIGHT = 500
THREADS = 16


def main() -> None:
    """Run every round in one temporary folder on the disk the system uses for such."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(
            f"sqlite:///{folder}/bench.db",
            origin=ORIGIN,
            signer=FileSigner(ORIGIN, bytes(32)),
            clock=lambda: datetime.now(UTC),
            create=True,
        )
        grants = make_grants(store)
        result = {
            "bench": "commit",
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "control_us": control(),
            "fdatasync_us": fdatasync(Path(folder)),
            "callers_1": callers(store, transitions(grants, 1, 4_000)),
            "callers_16": callers(store, transitions(grants, THREADS, 1_500)),
            "in_flight_500": in_flight(store, transitions(grants, THREADS, 4_000)),
        }
        head = store.head()
        result["events"] = head.size
        result["sound"] = not store.integrity() and not compare(store)
        store.close()
    print(json.dumps(result))


def make_grants(store: Store) -> list[Grant]:
    """Grants that wait for their window, one a request, sealed as they would be."""
    now = datetime.now(UTC).replace(microsecond=0)
    made, waiting = [], []
    for number in range(GRANTS):
        grant_id = make_id(GRANT, now, number.to_bytes(10))
        step = ready(grant_id, _request(make_id(REQUEST, now, number.to_bytes(10))), _item(), now)
        waiting.append(store.submit(step))
        made.append(step.changes[0].after)
    for future in waiting:
        future.result()
    return [grant for grant in made if isinstance(grant, Grant)]


def callers(store: Store, steps: list[list[Step]]) -> dict[str, float]:
    """Each thread waits for its own commit before the next."""

    def work(mine: list[Step], times: list[float]) -> None:
        for step in mine:
            began = time.perf_counter()
            store.commit(step)
            times.append(time.perf_counter() - began)

    return _round(steps, work)


def in_flight(store: Store, steps: list[list[Step]]) -> dict[str, float]:
    """500 Steps waiting at any time, fed by 16 threads; a latency is submit to durable."""
    share = IN_FLIGHT // THREADS

    def work(mine: list[Step], times: list[float]) -> None:
        waiting: deque[tuple[float, Future[Committed]]] = deque()
        for step in mine:
            waiting.append((time.perf_counter(), store.submit(step)))
            if len(waiting) == share:
                began, future = waiting.popleft()
                future.result()
                times.append(time.perf_counter() - began)
        for began, future in waiting:
            future.result()
            times.append(time.perf_counter() - began)

    return _round(steps, work)


def transitions(grants: list[Grant], threads: int, count: int) -> list[list[Step]]:
    """`count` Steps for each thread, on grants of its own; `grants` are then as after them.

    Made before the clock starts: what is measured is storing, not deciding.
    """
    made: list[list[Step]] = [[] for _ in range(threads)]
    for number in range(threads):
        mine = grants[number::threads]
        for turn in range(count):
            grant = mine[turn % len(mine)]
            step = noted(grant, "grant", Outcome.UNREACHABLE, "timeout", grant.tries + 1, _now())
            after = step.changes[0].after
            assert isinstance(after, Grant)
            mine[turn % len(mine)] = after
            made[number].append(step)
        grants[number::threads] = mine
    gc.collect()
    gc.freeze()  # tens of thousands of waiting Steps are the bench's, not the store's
    return made


def fdatasync(folder: Path) -> dict[str, float]:
    """What one small durable append costs here: the floor under a lone caller."""
    times = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(500):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return {"p50": _at(times, 0.5, 1e6), "p99": _at(times, 0.99, 1e6)}


def control() -> dict[str, float]:
    """The same pure computation again and again: how noisy the box itself is."""
    times = []
    for _ in range(2_000):
        began = time.perf_counter()
        sum(range(2_000))
        times.append(time.perf_counter() - began)
    return {"p50": _at(times, 0.5, 1e6), "p99": _at(times, 0.99, 1e6)}


def _round(
    steps: list[list[Step]], work: Callable[[list[Step], list[float]], None]
) -> dict[str, float]:
    times: list[list[float]] = [[] for _ in steps]
    threads = [
        threading.Thread(target=work, args=(mine, times[number]))
        for number, mine in enumerate(steps)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - began
    every = [one for some in times for one in some]
    return {
        "transitions": len(every),
        "per_second": round(len(every) / spent),
        "p50_ms": _at(every, 0.5, 1e3),
        "p99_ms": _at(every, 0.99, 1e3),
    }


def _now() -> datetime:
    now = datetime.now(UTC)
    return now - timedelta(microseconds=now.microsecond % 1000)


def _item() -> Item:
    return Item(
        role="aws-prod/admin", role_digest=DIGEST, carrier="prod", requirement="none", rules=()
    )


def _request(request_id: str) -> Request:
    now = _now()
    terms = Terms(
        principal="pr_bench",
        items=(_item(),),
        duration=timedelta(hours=1),
        start=None,
        reason=DIGEST,
        ticket=None,
        emergency=False,
        rules_digest=DIGEST,
    )
    return Request(
        id=request_id,
        state=RequestState.APPROVED,
        terms=terms,
        digest=DIGEST,
        filed_at=now,
        decide_by=now + timedelta(hours=8),
        decided_at=now,
        votes=(),
        code="",
        why="",
        version=2,
    )


def _at(times: list[float], share: float, scale: float) -> float:
    ordered = sorted(times)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * scale, 3)


if __name__ == "__main__":
    main()
