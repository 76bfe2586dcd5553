"""Which cuts were written lately, a role at a time: what a read or a list may not know yet.

IAM may answer a read from a replica that lags, and a `mend` may hold a list of grants that was read
just before a revoke. What stands here outranks both for FRESH. With a `lock_dir` it is also a file
beside the lock, so that the processes of one machine know of each other's cuts.

Age is measured on the cloud's clock: ours may be stepped, and theirs is the same for every process.
"""

import json
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tidegate.base.when import Instant, from_ms, to_ms

# How long an own write outranks a read or a list that lacks it. IAM's replicas agree within
# seconds; the rest is margin, also for a `mend` whose list was read just before a revoke.
FRESH = timedelta(minutes=2)
_LAST_MS = 253_402_300_800_000  # the year 10000, which no instant can hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """One late write. `named`: the list names the grant; else a deny by issue time covers it."""

    written_at: Instant
    named: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentRead:
    """What is known of a role. Not `whole` when the shared record could not be read."""

    cuts: dict[str, Recent]
    whole: bool


class RecentCuts:
    """The memory of this process and, with `lock_dir`, the record shared with others.

    Both verbs are called under the role's lock only.
    """

    def __init__(self, lock_dir: Path | None) -> None:
        self._lock_dir = lock_dir
        self._memory: dict[str, dict[str, Recent]] = {}

    def load(self, name: str, cloud_at: Instant) -> RecentRead:
        """The cuts on role `name` (a file name) not older than FRESH at `cloud_at`."""
        known, whole = dict(self._memory.get(name, {})), True
        try:
            shared = self._shared(name)
        except (OSError, ValueError):
            shared, whole = {}, False
        for grant, one in shared.items():
            if grant not in known or known[grant].written_at <= one.written_at:
                known[grant] = one
        cuts = {grant: one for grant, one in known.items() if cloud_at - one.written_at <= FRESH}
        return RecentRead(cuts=cuts, whole=whole)

    def save(self, name: str, cuts: dict[str, Recent]) -> None:
        """Keep `cuts` as all that is known of the role.

        A record that cannot be written stays in memory alone: closing never waits for a disk.
        """
        self._memory[name] = dict(cuts)
        if self._lock_dir is None:
            return
        path = self._lock_dir / f"{name}.recent"
        beside = path.with_suffix(".new")
        try:
            descriptor = os.open(
                beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(record(cuts))
            beside.replace(path)
        except OSError:
            return

    def _shared(self, name: str) -> dict[str, Recent]:
        if self._lock_dir is None:
            return {}
        try:
            return parse_record((self._lock_dir / f"{name}.recent").read_text("utf-8"))
        except FileNotFoundError:
            return {}


def record(cuts: dict[str, Recent]) -> str:
    """The text of the shared record: grant id to milliseconds and whether it is named."""
    return json.dumps({grant: [to_ms(one.written_at), one.named] for grant, one in cuts.items()})


def parse_record(text: str) -> dict[str, Recent]:
    """What `record` wrote. Raises ValueError for anything else."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, got {type(found).__name__}")
    return {grant: _parse(one) for grant, one in found.items()}


def _parse(one: object) -> Recent:
    match one:
        case [int(ms), bool(named)] if not isinstance(ms, bool) and 0 <= ms < _LAST_MS:
            return Recent(written_at=from_ms(ms), named=named)
    raise ValueError("expected milliseconds and a truth value")
