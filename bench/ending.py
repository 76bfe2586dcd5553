"""Ends: what a claim costs with many grants alive, and many that end in one instant; SQLite.

Prints one JSON object. `claim_ms` is one look that finds 64 due grants, at each number of grants
that live besides; `bulk` seals the end of BULK grants that are due at once. Beside them the
fdatasync probe and the control of the same run.
"""

import json
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.commit import ORIGIN, _at, control, fdatasync
from bench.filling import fill
from tidegate.base.when import from_ms
from tidegate.evidence.note import FileSigner
from tidegate.store import Share, Store

LIVE = tuple(int(n) for n in os.environ.get("LIVE", "10000,100000").split(","))
BULK = int(os.environ.get("BULK", "20000"))
LOOKS = 60
LEASE = timedelta(minutes=2)


def main() -> None:
    """One database a number of grants that live."""
    claims = {str(live): _claims(live) for live in LIVE}
    with tempfile.TemporaryDirectory() as folder:
        probe = fdatasync(Path(folder))
    bulk = _bulk(BULK)
    found = {"fdatasync_us": probe, "control_us": control(), "claim_ms": claims, "bulk": bulk}
    print(json.dumps({"bench": "ending", "load": os.getloadavg()[0], **found}))


def _claims(live: int) -> dict[str, float]:
    now_ms = int(time.time() * 1000)
    times = []
    with tempfile.TemporaryDirectory() as folder:
        store = _store(folder)
        path = Path(folder) / "bench.db"
        fill(path, 0, live, now_ms + 24 * 3_600_000)
        fill(path, live, LOOKS * 64, now_ms)
        now = from_ms(now_ms)
        while store.end_due(now):
            pass
        for _ in range(LOOKS):
            began = time.perf_counter()
            found = store.claim_due(now, 64, LEASE, Share(a_target=16))
            times.append(time.perf_counter() - began)
            assert len(found) == 64
        store.close()
    return {"p50": _at(times, 0.5, 1e3), "p99": _at(times, 0.99, 1e3)}


def _bulk(count: int) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    with tempfile.TemporaryDirectory() as folder:
        store = _store(folder)
        fill(Path(folder) / "bench.db", 0, count, now_ms)
        began, cpu, ended = time.perf_counter(), time.process_time(), 0
        while some := store.end_due(from_ms(now_ms)):
            ended += some
        spent, cpu = time.perf_counter() - began, time.process_time() - cpu
        store.close()
    return {"ended": ended, "seconds": round(spent, 3), "cpu_us": round(cpu / ended * 1e6, 1)}


def _store(folder: str) -> Store:
    return Store.open(
        f"sqlite:///{folder}/bench.db",
        origin=ORIGIN,
        signer=FileSigner(ORIGIN, bytes(32)),
        clock=lambda: datetime.now(UTC),
        create=True,
    )


if __name__ == "__main__":
    main()
