"""How fast a cloud account may be asked: one token bucket an account, shared by all processes.

A token is one look at a grant, which makes several calls of the cloud. Each process takes a slice
of tokens at a time, so that a look costs no round trip of its own; a slice lost with its process
costs pace and nothing else. Closing is never refused for lack of a database: without it each
process keeps to its share.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from tidegate.base.errors import TidegateError
from tidegate.base.when import Instant
from tidegate.catalogue import Catalogue
from tidegate.connectors.role_kinds import IAM_ROLE, PERMISSION_SET

# Looks a second, below the clouds' own limits. Identity Center: 20 calls a second for the whole
# instance and 10 assignment changes on their way; a look makes about eight calls. IAM publishes no
# figure; its changes are throttled at tens a second for one account.
RATES = {("aws", PERMISSION_SET): 2.0, ("aws", IAM_ROLE): 5.0}
# Kinds whose limit counts for all accounts of a connector together.
WHOLE = frozenset({PERMISSION_SET})
SLICE = timedelta(seconds=1)  # what a process takes at a time, and at most loses
BURST = timedelta(seconds=5)  # what an idle account saves up
SHARE = 0.5  # of the rate, for a process that cannot ask: two of them stay within it
SLOWED = timedelta(minutes=1)  # at half the rate, after the cloud asked for it
AGAIN = timedelta(milliseconds=200)  # between two asks for a slice that was not there


@dataclass(frozen=True, slots=True)
class Bucket:
    """Which bucket, and how many looks a second it gives."""

    name: str
    per_second: float


# (bucket, tokens wanted, whether for openings, now) -> tokens given. Raises TidegateError.
Take = Callable[[Bucket, int, bool, Instant], int]


@dataclass(slots=True)
class _Slice:
    tokens: float
    next_at: Instant
    filled_at: Instant


def bucket_of(catalogue: Catalogue, role_id: str) -> Bucket | None:
    """The bucket of a role's account; None: nothing limits it, or nobody knows it any more."""
    role = catalogue.roles.get(role_id)
    target = catalogue.targets.get(role_id.partition("/")[0])
    if role is None or target is None:
        return None
    per_second = target.pace or RATES.get((target.connector, role.kind))
    if per_second is None:
        return None
    account = "*" if role.kind in WHOLE else target.account
    return Bucket(f"{target.connector}/{account}/{role.kind}", per_second)


def sharing(catalogue: Catalogue, name: str) -> tuple[str, ...]:
    """The targets whose grants may wait for the bucket called `name`."""
    connector, account, kind = name.split("/", 2)
    return tuple(
        target.id
        for target in catalogue.targets.values()
        if target.connector == connector
        and account in ("*", target.account)
        and any(r.target == target.id and r.kind == kind for r in catalogue.roles.values())
    )


def beside(catalogue: Catalogue, target: str) -> tuple[str, ...]:
    """The targets whose ends are paced with those of `target`, itself among them."""
    found = {target}
    for role in catalogue.roles.values():
        if role.target == target and (bucket := bucket_of(catalogue, role.id)):
            found.update(sharing(catalogue, bucket.name))
    return tuple(sorted(found))


class Buckets:
    """This process's slices. Thread-safe."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._lock = threading.Lock()
        self._slices: dict[str, _Slice] = {}

    def may(self, bucket: Bucket, opening: bool, now: Instant) -> bool:
        """Whether one more look may be taken now; it is taken then."""
        with self._lock:
            mine = self._filled(bucket, opening, now)
            if mine.tokens < 1:
                return False
            mine.tokens -= 1
            return True

    def room(self, bucket: Bucket, now: Instant) -> int:
        """How many looks could be taken now."""
        with self._lock:
            return int(self._filled(bucket, False, now).tokens)

    def _filled(self, bucket: Bucket, opening: bool, now: Instant) -> _Slice:
        mine = self._slices.get(bucket.name)
        if mine is None:
            mine = self._slices[bucket.name] = _Slice(0, now, now)
        if mine.tokens >= 1 or (now < mine.next_at and now >= mine.filled_at):
            return mine
        want = max(1, ceil(bucket.per_second * SLICE.total_seconds()))
        try:
            given: float = self._take(bucket, want, opening, now)
        except TidegateError:
            waited = max(0.0, (now - mine.filled_at).total_seconds())
            given = min(want, waited * bucket.per_second * SHARE)
        if given:
            mine.tokens += given
            mine.filled_at = now
        mine.next_at = now + AGAIN
        return mine


def pause_of(bucket: Bucket) -> timedelta:
    """How long a grant that found no token sleeps before it is in line again."""
    return max(AGAIN, timedelta(seconds=1 / bucket.per_second))
