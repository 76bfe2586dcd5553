"""An account is asked at its pace by all processes together; a late end has openings wait."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support import START, World, catalogue, laws
from tidegate.base.duty import ALL
from tidegate.base.duty import told as duty_told
from tidegate.base.errors import Refused, WorldFailed
from tidegate.catalogue import Catalogue
from tidegate.connectors.port import Trouble
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow import queueing
from tidegate.flow.buckets import SHARE, Bucket, Buckets, beside, bucket_of
from tidegate.flow.governing import put_in_force
from tidegate.flow.queueing import Queue, about, queue_of
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant, GrantState, Outcome, noted
from tidegate.store import Pace, reads

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
    assert told.text == ("queue 1, last end about 1m late, openings wait until late ends are done")


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


def heard(world: World) -> None:
    """Its worker says that it is alive, and does nothing."""
    world.house.store.beat("worker:w", world.clock(), duty_told(ALL, "1"))


def an_opening_behind_ends(world: World, ends: int = 2, openings: int = 3) -> Grant:
    """The first of so many openings that wait on an account of half a look a second."""
    ending = [world.granted(), world.granted("eve")][:ends]
    world.house.laws = laws(found=paced(0.5))
    for grant in ending:
        end_early(world.house, world.who("ana" if grant is ending[0] else "eve"), grant.id)
    waiting = [world.vote(world.ask("eve")) for _ in range(openings)]
    (mine,) = world.house.store.grants(request=waiting[0].id)
    return mine


def test_queue_is_made_up(world: World) -> None:
    """What waits is counted over the account, by its pace, halved where the cloud asked for it."""
    mine = an_opening_behind_ends(world)
    store = world.house.store
    world.clock.forward(seconds=10)
    told = queue_of(world.house, mine, world.clock())
    assert told == Queue(ahead=4, usable_in=timedelta(seconds=10), late=None)
    world.clock.forward(milliseconds=1)  # an end is late from there on
    bucket = bucket_of(world.house.laws.catalogue, mine.role)
    assert bucket is not None
    store.slow_pace(bucket.name, world.clock() + 9 * SECOND, world.clock())
    told = queue_of(world.house, mine, world.clock())
    late = timedelta(seconds=10, milliseconds=1)
    assert told == Queue(ahead=4, usable_in=timedelta(seconds=20), late=late)
    assert told.text == "queue 4, usable in about 20s, last end about 10s late"
    (ending, _) = store.grants(states=frozenset({GrantState.CLOSING}))
    closing = queue_of(world.house, ending, world.clock())
    assert closing == Queue(ahead=1, usable_in=None, late=late)  # openings wait behind ends
    world.clock.forward(seconds=9)
    told = queue_of(world.house, mine, world.clock())
    assert told is not None and told.usable_in == timedelta(seconds=10)


def test_estimate_behind_an_end_that_is_stuck(world: World) -> None:
    """From the moment a late end has openings wait, no pace tells for how long: it says so."""
    mine = an_opening_behind_ends(world)
    world.clock.forward(seconds=60)
    heard(world)
    told = queue_of(world.house, mine, world.clock())
    assert told is not None and told.usable_in == timedelta(seconds=10) and not told.shut
    world.clock.forward(milliseconds=1)
    told = queue_of(world.house, mine, world.clock())
    assert told is not None and told.usable_in is None
    assert {one.code for one in told.shut} == {"closing_late"}
    (ending, _) = world.house.store.grants(states=frozenset({GrantState.CLOSING}))
    closing = queue_of(world.house, ending, world.clock())
    assert closing is not None and not closing.shut  # closing asks no gate
    assert told.text == "queue 4, last end about 1m late, openings wait until late ends are done"
    world.clock.forward(minutes=2)
    told = queue_of(world.house, mine, world.clock())  # the worker is silent, too
    assert told is not None and told.text == (
        "queue 4, last end about 3m late, openings wait until late ends are done, and because a"
        " worker that closes was last heard 2m ago"
    )


def test_estimate_at_a_gate_that_another_process_saw_shut(world: World) -> None:
    """What only an opener can see in the cloud is known by what it noted of the grant."""
    mine = an_opening_behind_ends(world, ends=0)
    for outcome in (Outcome.GATE_SHUT, Outcome.FROZEN, Outcome.UNREACHABLE):
        mine = world.grant(mine)
        world.house.store.commit(noted(mine, "gate", outcome, outcome.value, 1, world.clock()))
        told = queue_of(world.house, world.grant(mine), world.clock())
        assert told is not None
        assert (told.usable_in is None) is (outcome is not Outcome.UNREACHABLE)
        why = ", openings wait because the health gate was shut when this was last tried"
        assert told.text.endswith(why) is (outcome is Outcome.GATE_SHUT)


def test_emergency_is_told_to_wait_at_the_gate(world: World) -> None:
    """It passes, so what it waits for is the pace; each target is looked at once an answer."""
    mine = an_opening_behind_ends(world, ends=1, openings=1)
    world.clock.forward(minutes=5)
    heard(world)
    gates: dict[str, tuple[Trouble, ...]] = {}
    told = queue_of(world.house, mine, world.clock(), gates)
    assert told is not None and told.usable_in is None and told.shut == gates["prod"]
    known = queue_of(world.house, mine, world.clock(), {"prod": ()})
    assert known is not None and not known.shut
    request = world.house.store.request(mine.request)
    alarm = replace(request, terms=replace(request.terms, emergency=True))
    world.house.store.request = lambda _: alarm  # type: ignore[method-assign]
    told = queue_of(world.house, mine, world.clock(), gates)
    assert told is not None and told.usable_in == timedelta(seconds=4) and not told.shut


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_counted_so_far_taken_for_all(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Where counting stops, number and estimate are the least it is; of each kind on its own."""
    monkeypatch.setattr(reads, "MOST_COUNTED", most)
    monkeypatch.setattr(queueing, "MOST_COUNTED", most)
    mine = an_opening_behind_ends(world)
    told = queue_of(world.house, mine, world.clock())
    assert told is not None and told.at_least is (most < 4)
    if most == 2:
        assert told.text == "queue at least 3, usable in at least 8s"
    ends = world.house.store.grants(states=frozenset({GrantState.CLOSING}))
    told = queue_of(world.house, ends[0], world.clock())
    assert told is not None and told.at_least is (most < 3)
    if most == 2:
        assert told.text == "queue at least 1"


def test_queue_of_what_waits_for_its_own_time(world: World) -> None:
    """Before its start, and once open, nothing is ahead of a grant; without a pace no estimate."""
    held = world.granted()
    later = world.vote(world.ask("eve", start=world.clock() + timedelta(minutes=5)))
    (grant,) = world.house.store.grants(request=later.id)
    assert queue_of(world.house, held, world.clock()) is None
    assert queue_of(world.house, grant, world.clock()) is None
    world.clock.forward(minutes=5)
    heard(world)
    told = queue_of(world.house, grant, world.clock())
    assert told == Queue(ahead=0, usable_in=None, late=None) and told.text == ""


def test_queue_in_words() -> None:
    """Numbers as people read them."""
    queue = Queue(ahead=40, usable_in=timedelta(seconds=121), late=timedelta(seconds=118))
    assert queue.text == "queue 40, usable in about 2m, last end about 2m late"
    one, other = (Trouble(code=c, message=f"{c} ails", help="mend it") for c in ("a", "b"))
    queue = Queue(ahead=0, usable_in=None, late=None, shut=(one, other))
    assert queue.text == "openings wait because a ails (1 more: see `tidegate doctor`)"
    assert [about(timedelta(seconds=s)) for s in (0, 59, 61, 7_300)] == ["1s", "59s", "1m", "2h2m"]
