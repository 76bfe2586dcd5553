"""What waits before a grant, in numbers and words: how long, and how late the latest end is.

The estimate is of the account's real pace: what its bucket gives now, slowed or not. Without a
bucket nothing but the cloud limits it, and no estimate is made up.
"""

from dataclasses import dataclass
from datetime import timedelta

from tidegate.base.when import Instant, show_duration, whole_seconds
from tidegate.flow.buckets import beside, bucket_of
from tidegate.flow.house import House
from tidegate.grant import Grant, GrantState
from tidegate.store.reads import MOST_COUNTED

WAITS = frozenset({GrantState.READY, GrantState.INTENDED, GrantState.CLOSING})
LATE = timedelta(seconds=10)  # an end younger than that is no news


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What waits on an account. `ahead` counts ends and openings; `usable_in` is for openings.

    `late` is how long the longest end on the account has been closing; None when none is late.
    """

    ahead: int
    usable_in: timedelta | None
    late: timedelta | None

    @property
    def text(self) -> str:
        """`queue 40, usable in about 2m, last end about 2m late`; empty with nothing to say."""
        told = []
        if self.ahead:
            many = f"{MOST_COUNTED} or more" if self.ahead >= MOST_COUNTED else str(self.ahead)
            told.append(f"queue {many}")
        if self.usable_in is not None:
            told.append(f"usable in about {about(self.usable_in)}")
        if self.late is not None:
            told.append(f"last end about {about(self.late)} late")
        return ", ".join(told)


def queue_of(house: House, grant: Grant, now: Instant) -> Queue | None:
    """What waits before `grant`; None when it is waiting for nothing but its own time."""
    if grant.state not in WAITS or (grant.state is GrantState.READY and now < grant.opens_at):
        return None
    target = grant.role.partition("/")[0]
    waiting = house.store.waiting(beside(house.laws.catalogue, target), now)
    opening = grant.state is not GrantState.CLOSING
    ahead = max(0, waiting.ends + (waiting.openings if opening else 0) - 1)
    bucket = bucket_of(house.laws.catalogue, grant.role)
    usable_in = None
    if opening and bucket is not None:
        slowed = house.store.slowed_until(bucket.name)
        rate = bucket.per_second / 2 if slowed and now < slowed else bucket.per_second
        usable_in = timedelta(seconds=(ahead + 1) / rate)
    late = now - waiting.oldest if waiting.oldest else None
    return Queue(
        ahead=ahead, usable_in=usable_in, late=late if late is not None and late > LATE else None
    )


def about(span: timedelta) -> str:
    """A duration nobody should read as exact: seconds below a minute, then minutes, then hours."""
    seconds = max(1, whole_seconds(span))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{round(seconds / 60)}m"
    return show_duration(timedelta(minutes=round(seconds / 60)))
