"""Commits: transitions a second and how long one takes, beside what the disk and the box can do.

Prints one JSON object; the engine is its argument, SQLite without one. A transition is one guarded
row change with one sealed event, durable when counted. `in_flight_500` keeps 500 Steps waiting from
16 threads; in the other rounds every caller waits for its own commit. Latencies in milliseconds.
"""

import gc
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tidegate.base.fact import Step
from tidegate.base.ids import GRANT, REQUEST, make_id
from tidegate.base.when import Instant
from tidegate.evidence.note import FileSigner
from tidegate.grant import Grant, Outcome, noted, ready
from tidegate.main.postgres import PostgresServer
from tidegate.request import Item, Request, RequestState, Terms
from tidegate.store import Committed, Store, compare

ORIGIN = "bench.invalid/log"
DIGEST = "sha256:" + "0" * 64
THREADS = 16
IN_FLIGHT = 500
SHARE = IN_FLIGHT // THREADS  # each thread's part of what is in flight
LIFE = 10  # transitions of one grant from ready to gone


def main(engine: str = "sqlite") -> None:
    """Run every round in one temporary folder on the disk the system uses for such.

    Args:
        engine: `sqlite`, or `postgresql`: a server of its own in that folder, with fsync on.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        url = f"sqlite:///{folder}/bench.db"
        if engine == "postgresql":
            os.chmod(folder, 0o755)  # the server may run as another user
            server = PostgresServer(Path(folder) / "server", {"shared_buffers": "256MB"})
            server.folder.mkdir()
            stack.callback(server.stop)
            server.start()
            url = server.url()
        store = Store.open(
            url,
            origin=ORIGIN,
            signer=FileSigner(ORIGIN, bytes(32)),
            clock=lambda: datetime.now(UTC),
            create=True,
        )
        result = {
            "bench": "commit",
            "engine": engine,
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "control_us": control(),
            "fdatasync_us": fdatasync(Path(folder)),
            "callers_1": callers(store, transitions(store, 1, 4_000)),
            "callers_16": callers(store, transitions(store, THREADS, 1_500)),
            "in_flight_500": in_flight(store, transitions(store, THREADS, 5_000)),
        }
        head = store.head()
        result["events"] = head.size
        result["sound"] = not store.integrity() and not compare(store)
        store.close()
    print(json.dumps(result))


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

    def work(mine: list[Step], times: list[float]) -> None:
        waiting: deque[tuple[float, Future[Committed]]] = deque()
        for step in mine:
            waiting.append((time.perf_counter(), store.submit(step)))
            if len(waiting) == SHARE:
                began, future = waiting.popleft()
                future.result()
                times.append(time.perf_counter() - began)
        for began, future in waiting:
            future.result()
            times.append(time.perf_counter() - began)

    return _round(steps, work)


def transitions(store: Store, threads: int, count: int) -> list[list[Step]]:
    """About `count` Steps for each thread, on new grants of its own.

    A grant lives through LIFE of them, SHARE grants of a thread at a time, as many are open at once
    in a house. Made before the clock starts: what is measured is storing, not deciding.
    """
    made: list[list[Step]] = [[] for _ in range(threads)]
    for _ in range(count // (LIFE * SHARE)):
        grants = make_grants(store, threads * SHARE)
        for number in range(threads):
            mine = grants[number::threads]
            for turn in range(LIFE * SHARE):
                step = _transition(mine[turn % SHARE])
                mine[turn % SHARE] = _after(step)
                made[number].append(step)
    gc.collect()
    gc.freeze()  # tens of thousands of waiting Steps are the bench's, not the store's
    return made


def make_grants(store: Store, count: int) -> list[Grant]:
    """Grants that wait for their window, one a request, sealed as they would be."""
    now, first = _now(), store.head().size
    steps = [_ready(now, first + number) for number in range(count)]
    for future in [store.submit(step) for step in steps]:
        future.result()
    return [_after(step) for step in steps]


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
    began, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, cpu = time.perf_counter() - began, time.process_time() - cpu
    every = [one for some in times for one in some]
    return {
        "transitions": len(every),
        "per_second": round(len(every) / spent),
        "cpu_us": round(cpu / len(every) * 1e6, 1),
        "p50_ms": _at(every, 0.5, 1e3),
        "p99_ms": _at(every, 0.99, 1e3),
    }


def _now() -> Instant:
    now = datetime.now(UTC)
    return now - timedelta(microseconds=now.microsecond % 1000)


def _ready(now: Instant, number: int) -> Step:
    request = _request(make_id(REQUEST, now, number.to_bytes(10)))
    return ready(make_id(GRANT, now, number.to_bytes(10)), request, request.terms.items[0], now)


def _transition(grant: Grant) -> Step:
    return noted(grant, "grant", Outcome.UNREACHABLE, "timeout", grant.tries + 1, _now())


def _after(step: Step) -> Grant:
    grant = step.changes[0].after
    if not isinstance(grant, Grant):
        raise RuntimeError("a Step of something else")
    return grant


def _request(request_id: str) -> Request:
    now = _now()
    item = Item(
        role="aws-prod/admin", role_digest=DIGEST, carrier="prod", requirement="none", rules=()
    )
    terms = Terms(
        principal="pr_bench",
        items=(item,),
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
    main(*sys.argv[1:2])
