"""Verifying a log offline: events a second, with the canonical check of every event.

Prints one JSON object. The log is made in memory, of requests with ten events each; measured is
`verify_log` as `tidegate evidence verify` runs it, on one core.
"""

import json
import platform
import time
from collections.abc import Iterator

from tidegate.base.fact import Fact
from tidegate.base.ids import GRANT, REQUEST, make_id
from tidegate.base.when import Instant, from_ms, wire
from tidegate.evidence.checkpoint import Checkpoint, TrustedKey, sign_checkpoint
from tidegate.evidence.merkle import Frontier
from tidegate.evidence.note import FileSigner
from tidegate.evidence.seal import Head, Sealed, seal
from tidegate.evidence.verify import verify_log

ORIGIN = "bench.invalid/log"
SUBJECTS = 10_000
EVENTS_EACH = 10
AT_ONCE = 5_000
RUNS = 3


def main() -> None:
    """Seal a log, verify it RUNS times, print the fastest and the control of the same run."""
    signer = FileSigner(ORIGIN, bytes(32))
    at = from_ms(1_800_000_000_000)
    sealed = list(make_log(at))
    leaves = [event.data for event in sealed]
    tree = Frontier().extend(event.hash for event in sealed)
    note = sign_checkpoint(Checkpoint(origin=ORIGIN, size=tree.size, root=tree.root()), signer)
    keys = (TrustedKey(key=signer.verifier()),)
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        report = verify_log(leaves, note, keys)
        times.append(time.perf_counter() - began)
        if not report.ok:
            raise RuntimeError(report.findings[0].text())
    result = {
        "bench": "verify",
        "python": platform.python_version(),
        "control_us": control(),
        "events": len(leaves),
        "bytes_each": sum(map(len, leaves)) // len(leaves),
        "events_per_second": round(len(leaves) / min(times)),
        "slowest_per_second": round(len(leaves) / max(times)),
    }
    print(json.dumps(result))


def make_log(at: Instant) -> Iterator[Sealed]:
    """SUBJECTS chains of EVENTS_EACH events, interleaved as they would be."""
    heads: dict[str, Head] = {}
    facts = [
        _fact(subject, turn, at)
        for block in range(0, SUBJECTS, 100)
        for turn in range(EVENTS_EACH)
        for subject in range(block, block + 100)
    ]
    for first in range(0, len(facts), AT_ONCE):
        made = seal(facts[first : first + AT_ONCE], first_idx=first, at=at, heads=heads)
        heads.update((event.subject, event.head) for event in made)
        yield from made


def control() -> float:
    """Microseconds of a fixed computation, the median: how fast the box is."""
    times = []
    for _ in range(2_000):
        began = time.perf_counter()
        sum(range(2_000))
        times.append(time.perf_counter() - began)
    return round(sorted(times)[len(times) // 2] * 1e6, 3)


def _fact(subject: int, turn: int, at: Instant) -> Fact:
    request = make_id(REQUEST, at, subject.to_bytes(10))
    return Fact(
        name="grant.noted",
        subject=request,
        actor="system",
        data={
            "grant": make_id(GRANT, at, subject.to_bytes(10)),
            "request": request,
            "at": wire(at),
            "step": "revoke",
            "outcome": "unreachable",
            "code": "timeout",
            "tries": turn,
        },
    )


if __name__ == "__main__":
    main()
