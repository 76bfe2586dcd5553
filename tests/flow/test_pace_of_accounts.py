"""An account is asked at its pace by all processes together; a late end has openings wait."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support import START, World, catalogue, laws
from tidegate.base.errors import Refused, WorldFailed
from tidegate.catalogue import Catalogue
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow.buckets import SHARE, Bucket, Buckets, beside, bucket_of
from tidegate.flow.governing import put_in_force
from tidegate.flow.queueing import Queue, about, queue_of
from tidegate.flow.revoking import end_early
from tidegate.grant import GrantState, Outcome
from tidegate.store import Pace

SECOND = timedelta(seconds=1)


def paced(per_second: float) -> Catalogue:
    """The usual catalogue, its one account with a pace."""
    usual = catalogue()
    targets = {id: replace(one, pace=per_second) for id, one in usual.targets.items()}
    return Catalogue(targets, usual.roles)


def test_bucket_gives_more_than_its_rate(world: World) -> None:
    """Whoever takes, a burst and then the rate is all there is; time that goes back gives none."""
    store = world.house.store
    pace = Pace(name="a", per_second=2.0, most=4, kept=0)
    assert [store.take_tokens(pace, 3, START) for _ in range(3)] == [3, 1, 0]
    assert store.take_tokens(pace, 9, START + SECOND) == 2
    assert store.take_tokens(pace, 9, START) == 0
    assert store.take_tokens(pace, 9, START + SECOND) == 0


def test_openings_take_what_ends_need(world: World) -> None:
    """What an opening may take leaves a part for ends."""
    store = world.house.store
    assert store.take_tokens(Pace(name="a", per_second=1, most=4, kept=2), 9, START) == 2
    assert store.take_tokens(Pace(name="a", per_second=1, most=4, kept=0), 9, START) == 2


def test_throttled_account_is_asked_as_before(world: World) -> None:
    """After the cloud asked for it, half the rate for a while, and nothing saved up."""
    store = world.house.store
    pace = Pace(name="a", per_second=2.0, most=10, kept=0)
    store.slow_pace("a", START + 10 * SECOND, START)
    assert store.take_tokens(pace, 9, START + 4 * SECOND) == 4
    assert store.take_tokens(pace, 9, START + 11 * SECOND) == 9


def test_row_of_a_wrong_clock_stops_everybody(world: World) -> None:
    """A bucket written by a clock an hour ahead gives tokens all the same."""
    store = world.house.store
    pace = Pace(name="a", per_second=2.0, most=2, kept=0)
    assert store.take_tokens(pace, 2, START + timedelta(hours=1)) == 2
    assert store.take_tokens(pace, 2, START) == 0
    assert store.take_tokens(pace, 2, START + SECOND) == 2


def test_closing_stops_without_a_database() -> None:
    """A process that cannot ask keeps to its share of the rate, and goes on."""

    def broken(*_: object) -> int:
        raise WorldFailed("database_unreadable", "no database", "wait")

    buckets, bucket = Buckets(broken), Bucket("a", 10.0)
    given = 0
    for tenth in range(101):
        given += buckets.may(bucket, False, START + tenth * SECOND / 10)
    assert 10 * 10 * SHARE * 0.5 <= given <= 10 * 10 * SHARE


def test_look_costs_a_round_trip_each() -> None:
    """A slice is taken for a second of looks."""
    asked = []

    def take(bucket: Bucket, want: int, opening: bool, now: object) -> int:
        asked.append(want)
        return want

    buckets = Buckets(take)
    assert all(buckets.may(Bucket("a", 10.0), False, START) for _ in range(10))
    assert asked == [10]


def test_accounts_of_one_limit_are_paced_apart() -> None:
    """Targets of one account share a bucket, and so their queue; without a pace there is none."""
    assert bucket_of(catalogue(), "prod/admin") is None
    assert beside(catalogue(), "prod") == ("prod",)
    assert beside(paced(2.0), "prod") == ("dev", "prod", "vault")


def test_account_is_asked_faster_than_its_pace(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many ends at once: no more looks at once than the bucket gives, and all in the end."""
    for _ in range(12):
        world.ask("eve", role="dev/admin", duration=timedelta(minutes=10))
    world.work()
    world.house.laws = laws(found=paced(1.0))
    looked: list[str] = []
    revoke = world.connector.revoke

    def counted(hold: object, now: object) -> object:
        looked.append("")
        return revoke(hold, now)  # type: ignore[arg-type]

    monkeypatch.setattr(world.connector, "revoke", counted)
    world.clock.forward(minutes=10, seconds=1)
    world.work()
    assert 1 <= len(looked) <= 6
    for _ in range(60):
        world.clock.forward(seconds=2)
        world.work()
    assert {one.state for one in world.house.store.grants()} == {GrantState.GONE}


def test_opening_beside_a_late_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that is late has openings on its account wait; the gate names it."""
    late = world.granted(duration=timedelta(minutes=5))

    def busy(*_: object) -> object:
        raise Refused("throttled", "slower", "wait")

    monkeypatch.setattr(world.connector, "revoke", busy)
    world.clock.forward(minutes=5, seconds=1)
    world.work()
    assert world.grant(late).state is GrantState.CLOSING
    world.clock.forward(seconds=70)
    world.work(ticks=1)
    request = world.vote(world.ask("eve"))
    world.work(ticks=3)
    (waits,) = world.house.store.grants(request=request.id)
    assert (waits.state, waits.outcome) == (GrantState.READY, Outcome.GATE_SHUT)
    told = queue_of(world.house, waits, world.clock())
    assert told is not None
    assert told.late is not None
    assert told.text == "queue 1, last end about 1m late"


@pytest.mark.parametrize("late_by", [60_000, 60_001])
def test_late_end_bears_calls_that_openings_beside_it_take(world: World, late_by: int) -> None:
    """After a minute, an end that is late on a neighbour of the account has openings wait; another
    account opens meanwhile. Once the end is there, the account opens, too.
    """
    found = paced(2.0)
    far = replace(found.targets["vault"], account="999999999999")
    found = Catalogue({**found.targets, "vault": far}, found.roles)
    put_in_force(world.house, laws(found=found))
    ends = world.granted(duration=timedelta(minutes=5)).ends_at
    assert ends is not None
    until = ends + timedelta(hours=1)
    world.connector.script(Fault(kind=FaultKind.LOSE_REQUEST, verb="revoke", until=until))
    for late in (0, late_by - 10_000):  # looked at, and the worker heard of
        world.clock.at = ends + timedelta(milliseconds=late)
        world.work(ticks=1)
    beside_it = world.ask("eve", role="dev/admin")
    elsewhere = world.vote(world.vote(world.ask("eve", role="vault/admin")), "cy")
    world.clock.forward(seconds=10)
    world.work(ticks=3)
    (neighbour,) = world.house.store.grants(request=beside_it.id)
    (other,) = world.house.store.grants(request=elsewhere.id)
    assert other.state is GrantState.OPEN
    if late_by == 60_000:
        assert neighbour.state is GrantState.OPEN
        return
    assert (neighbour.state, neighbour.outcome) == (GrantState.READY, Outcome.GATE_SHUT)
    world.connector.calm()
    for _ in range(12):
        world.clock.forward(seconds=10)
        world.work()
    assert world.grant(neighbour).state is GrantState.OPEN


def test_queue_is_made_up(world: World) -> None:
    """What waits is counted over the account, by its pace, halved where the cloud asked for it."""
    ending = [world.granted(), world.granted("eve")]
    world.house.laws = laws(found=paced(0.5))
    store = world.house.store
    for grant in ending:
        end_early(world.house, world.who("ana" if grant is ending[0] else "eve"), grant.id)
    waiting = [world.vote(world.ask("eve")) for _ in range(3)]
    (mine,) = store.grants(request=waiting[0].id)
    world.clock.forward(seconds=10)
    told = queue_of(world.house, mine, world.clock())
    assert told == Queue(ahead=4, usable_in=timedelta(seconds=10), late=None)
    world.clock.forward(milliseconds=1)  # an end is late from there on
    bucket = bucket_of(world.house.laws.catalogue, mine.role)
    assert bucket is not None
    store.slow_pace(bucket.name, world.clock() + timedelta(minutes=1), world.clock())
    told = queue_of(world.house, mine, world.clock())
    late = timedelta(seconds=10, milliseconds=1)
    assert told == Queue(ahead=4, usable_in=timedelta(seconds=20), late=late)
    assert told.text == "queue 4, usable in about 20s, last end about 10s late"
    closing = queue_of(world.house, world.grant(ending[0]), world.clock())
    assert closing == Queue(ahead=1, usable_in=None, late=late)  # openings wait behind ends
    world.clock.forward(minutes=1)
    told = queue_of(world.house, mine, world.clock())
    assert told is not None and told.usable_in == timedelta(seconds=10)


def test_queue_of_what_waits_for_its_own_time(world: World) -> None:
    """Before its start, and once open, nothing is ahead of a grant; without a pace no estimate."""
    held = world.granted()
    later = world.vote(world.ask("eve", start=world.clock() + timedelta(minutes=5)))
    (grant,) = world.house.store.grants(request=later.id)
    assert queue_of(world.house, held, world.clock()) is None
    assert queue_of(world.house, grant, world.clock()) is None
    world.clock.forward(minutes=5)
    told = queue_of(world.house, grant, world.clock())
    assert told == Queue(ahead=0, usable_in=None, late=None) and told.text == ""


def test_queue_in_words() -> None:
    """Numbers as people read them."""
    queue = Queue(ahead=40, usable_in=timedelta(seconds=121), late=timedelta(seconds=118))
    assert queue.text == "queue 40, usable in about 2m, last end about 2m late"
    assert [about(timedelta(seconds=s)) for s in (0, 59, 61, 7_300)] == ["1s", "59s", "1m", "2h2m"]
