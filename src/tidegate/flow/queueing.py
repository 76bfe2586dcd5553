"""What waits before a grant, in numbers and words: how long, and how late the latest end is.

The estimate is of the account's real pace: what its bucket gives now, slowed or not. Without a
bucket nothing but the cloud limits it, and no estimate is made up; nor is one while openings wait
for something that has no pace, as for a late end.
"""

from dataclasses import dataclass
from datetime import timedelta

from tidegate.base.when import Instant, show_duration, whole_seconds
from tidegate.connectors.port import Trouble
from tidegate.flow.buckets import beside, bucket_of
from tidegate.flow.gating import ENDS_FIRST, shut_as_known
from tidegate.flow.house import House
from tidegate.grant import Grant, GrantState, Outcome
from tidegate.store.reads import MOST_COUNTED

WAITS = frozenset({GrantState.READY, GrantState.INTENDED, GrantState.CLOSING})
LATE = timedelta(seconds=10)  # an end younger than that is no news
# What the last try met that no pace tells the end of; the grant's own sentence says which it was.
KEPT_BACK = frozenset({Outcome.GATE_SHUT, Outcome.FROZEN, Outcome.STILL_CLOSING})
# Of a gate that only a process with a way to the cloud saw shut, by what it noted.
SEEN_SHUT = Trouble(
    code="gate_shut",
    message="the health gate was shut when this was last tried",
    help="see `tidegate doctor`",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What waits on an account. `ahead` counts ends and openings; `usable_in` is for openings.

    `late` is how long the longest end on the account has been closing; None when none is late.
    `at_least`: there was more than is counted, so `ahead` and `usable_in` are the least it is.
    `shut` is why the health gate keeps the opening waiting; `usable_in` is None then.
    """

    ahead: int
    usable_in: timedelta | None
    late: timedelta | None
    at_least: bool = False
    shut: tuple[Trouble, ...] = ()

    @property
    def text(self) -> str:
        """`queue 40, usable in about 2m, last end about 2m late`; empty with nothing to say.

        At a shut gate `queue 1, last end about 2m late, openings wait until late ends are done`.
        """
        told = []
        if self.ahead:
            told.append(f"queue {'at least ' if self.at_least else ''}{self.ahead}")
        if self.usable_in is not None:
            roughly = "at least" if self.at_least else "about"
            told.append(f"usable in {roughly} {about(self.usable_in)}")
        if self.late is not None:
            told.append(f"last end about {about(self.late)} late")
        if self.shut:
            told.append(f"openings wait {_why(self.shut)}")
        return ", ".join(told)


def queue_of(
    house: House,
    grant: Grant,
    now: Instant,
    gates: dict[str, tuple[Trouble, ...]] | None = None,
) -> Queue | None:
    """What waits before `grant`; None when it is waiting for nothing but its own time.

    The cloud is not asked. `gates` is what was found of each target's gate at `now`: whoever asks
    of many grants hands in the same one, and each target is looked at once.
    """
    if grant.state not in WAITS or (grant.state is GrantState.READY and now < grant.opens_at):
        return None
    target = grant.role.partition("/")[0]
    waiting = house.store.waiting(beside(house.laws.catalogue, target), now)
    opening = grant.state is not GrantState.CLOSING
    ahead = max(0, waiting.ends + (waiting.openings if opening else 0) - 1)
    shut = _shut(house, grant, now, {} if gates is None else gates) if opening else ()
    bucket = bucket_of(house.laws.catalogue, grant.role)
    usable_in = None
    if opening and bucket is not None and not shut and grant.outcome not in KEPT_BACK:
        slowed = house.store.slowed_until(bucket.name)
        rate = bucket.per_second / 2 if slowed and now < slowed else bucket.per_second
        usable_in = timedelta(seconds=(ahead + 1) / rate)
    late = now - waiting.oldest if waiting.oldest else None
    return Queue(
        ahead=ahead,
        usable_in=usable_in,
        late=late if late is not None and late > LATE else None,
        at_least=MOST_COUNTED in (waiting.ends, waiting.openings if opening else 0),
        shut=shut,
    )


def _shut(
    house: House, grant: Grant, now: Instant, gates: dict[str, tuple[Trouble, ...]]
) -> tuple[Trouble, ...]:
    """Why the gate keeps it waiting. An emergency passes, but for what its last try noted."""
    seen = (SEEN_SHUT,) if grant.outcome == Outcome.GATE_SHUT else ()
    target = house.laws.catalogue.targets.get(grant.role.partition("/")[0])
    if target is None:
        return seen
    if target.id not in gates:
        gates[target.id] = shut_as_known(house, target, now)
    if gates[target.id] and house.store.request(grant.request).terms.emergency:
        return seen
    return gates[target.id] or seen


def _why(shut: tuple[Trouble, ...]) -> str:
    """Ends that are late in one phrase, which the number before it makes clear; one other."""
    others = [trouble.message for trouble in shut if trouble.code not in ENDS_FIRST]
    told = ["until late ends are done"] if len(others) < len(shut) else []
    if others:
        more = f" ({len(others) - 1} more: see `tidegate doctor`)" if len(others) > 1 else ""
        told.append(f"because {others[0]}{more}")
    return ", and ".join(told)


def about(span: timedelta) -> str:
    """A duration nobody should read as exact: seconds below a minute, then minutes, then hours."""
    seconds = max(1, whole_seconds(span))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{round(seconds / 60)}m"
    return show_duration(timedelta(minutes=round(seconds / 60)))
