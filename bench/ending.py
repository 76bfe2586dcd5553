"""Ends: what a claim costs with many grants alive, and many that end in one instant.

Prints one JSON object. `claim_ms` is one look that finds 64 due grants, at each number of grants
that live besides; what a look found is out of the way before the next. `bulk` seals the end of BULK
grants that are due at once. On each engine, beside the fdatasync probe and the control of the same
run.
"""

import json
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.commit import _at, control, fdatasync
from bench.engine import ENGINES, TIMES, database, opened, spread
from bench.filling import fill, take_out
from tidegate.base.when import from_ms
from tidegate.store import Share

LIVE = tuple(int(n) for n in os.environ.get("LIVE", "10000,100000").split(",") if n)
BULK = int(os.environ.get("BULK", "100000"))
LOOKS = 60
BESIDE = 1_000_000_000  # the first number of a due grant: beyond all that live
LEASE = timedelta(days=1)


def main() -> None:
    """Both measurements on each engine."""
    found: dict[str, Any] = {"bench": "ending", "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        found["fdatasync_us"] = fdatasync(Path(folder))
    found["control_us"] = control()
    for engine in ENGINES:
        found[engine] = {}
        if BULK:
            found[engine]["bulk"] = _bulk(engine)
        if LIVE:
            found[engine]["claim_ms"] = _claims(engine)
    print(json.dumps(found))


def _claims(engine: str) -> dict[str, Any]:
    """One database that grows: how a look of 64 fares in each size of it."""
    found: dict[str, Any] = {}
    with database(engine) as url:
        store, there = opened(url), 0
        for live in LIVE:
            now_ms = int(time.time() * 1000)
            fill(url, there, live - there, now_ms + 24 * 3_600_000, held=False)
            there = live
            rounds = [
                _looks(url, store, BESIDE + there + turn * LOOKS * 64) for turn in range(TIMES)
            ]
            found[str(live)] = {
                "p50": spread([_at(times, 0.5, 1e3) for times in rounds]),
                "p99": spread([_at(times, 0.99, 1e3) for times in rounds]),
            }
        store.close()
    return found


def _looks(url: str, store: Any, first: int) -> list[float]:
    now_ms = int(time.time() * 1000)
    fill(url, first, LOOKS * 64, now_ms)
    now, times = from_ms(now_ms), []
    while store.end_due(now):
        pass
    for _ in range(LOOKS):
        began = time.perf_counter()
        found = store.claim_due(now, 64, LEASE, Share(a_target=16))
        times.append(time.perf_counter() - began)
        if len(found) != 64:
            raise RuntimeError(f"expected 64 due grants, got {len(found)}")
        take_out(url, [grant.id for grant in found])
    return times


def _bulk(engine: str) -> dict[str, Any]:
    seconds, cpu = [], []
    for _ in range(TIMES):
        now_ms = int(time.time() * 1000)
        with database(engine) as url:
            store = opened(url)
            fill(url, 0, BULK, now_ms)
            began, used, ended = time.perf_counter(), time.process_time(), 0
            while some := store.end_due(from_ms(now_ms)):
                ended += some
            seconds.append(time.perf_counter() - began)
            cpu.append((time.process_time() - used) / BULK * 1e6)
            store.close()
        if ended != BULK:
            raise RuntimeError(f"expected {BULK} ends, got {ended}")
    return {"ended": BULK, "seconds": spread(seconds), "cpu_us_per_end": spread(cpu, 1)}


if __name__ == "__main__":
    main()
