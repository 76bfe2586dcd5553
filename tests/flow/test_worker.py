"""The worker: one bad row, one silent cloud or one bug keeps nobody else's end waiting."""

import threading
from collections.abc import Callable
from copy import copy
from datetime import timedelta

import psycopg
import pytest

from tests.support import ORIGIN, World
from tidegate.base.errors import Unreachable
from tidegate.base.when import Instant
from tidegate.connectors.port import Hold, Receipt
from tidegate.flow.asking import Asked, ask
from tidegate.flow.refusing import Refusals
from tidegate.grant import GrantState
from tidegate.request import RequestState
from tidegate.shell import worker as looking
from tidegate.store import Store, listening


class Silent:
    """A target that does not answer until told; `called` names the grants it was asked about."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.called: list[str] = []
        self._came = threading.Semaphore(0)
        self._answers = threading.Event()
        self._revoke = world.connector.revoke
        monkeypatch.setattr(world.connector, "revoke", self)
        monkeypatch.setattr(looking, "STRAGGLERS", timedelta(milliseconds=50))

    def __call__(self, hold: Hold, now: Instant) -> Receipt:
        """`revoke` of the port."""
        if hold.target.id != "dev":
            return self._revoke(hold, now)
        self.called.append(hold.grant)
        self._came.release()
        self._answers.wait(20)
        raise Unreachable("cloud_down", "no answer", "wait")

    def await_calls(self, count: int) -> None:
        """Return once `count` more calls have come."""
        for _ in range(count):
            assert self._came.acquire(timeout=10)

    def answer(self) -> None:
        """Let every call fail."""
        self._answers.set()


def spoil(world: World, change: str, id: str) -> None:
    """Write into the database what no code of ours writes."""
    with world.house.store._database.writing() as db:
        db.execute(f"{change} WHERE id = ?", (id,))


def test_unreadable_grant_keeps_the_others_open(world: World) -> None:
    """A grant whose row cannot be read is left out; everybody else's end comes in time."""
    good, bad = world.granted(), world.granted("eve", duration=timedelta(minutes=5))
    spoil(world, "UPDATE grants SET state = 'opne'", bad.id)
    world.clock.forward(minutes=31)
    world.work()
    assert world.grant(good).state is GrantState.GONE


def test_unreadable_request_keeps_everything_waiting(world: World) -> None:
    """A request whose row cannot be read neither stops ends nor keeps others from lapsing."""
    grant, bad, late = world.granted(), world.ask("eve"), world.ask("ana")
    spoil(world, "UPDATE requests SET items = '[{}]'", bad.id)
    world.clock.forward(days=3)
    world.work()
    assert world.grant(grant).state is GrantState.GONE
    assert world.house.store.request(late.id).state is RequestState.LAPSED


def test_fault_of_the_store_keeps_the_journal_unread(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the store raises, grants past their end are closed from the journal."""
    asked: list[str] = []
    monkeypatch.setattr(world.worker._from_journal, "look", lambda *_: asked.append("closed") or [])

    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(world.house.store, "claim_due", broken)
    assert world.worker.tick() == 0
    assert asked == ["closed"]


def test_list_of_extensions_that_fails_drops_what_was_claimed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with ends that are to move, those that have come are acted on."""
    grant = world.granted()

    def broken(*_: object) -> None:
        raise IndexError("a row without items")

    monkeypatch.setattr(looking, "due_extensions", broken)
    world.clock.forward(minutes=30)
    world.worker.tick()
    assert world.grant(grant).state not in (GrantState.OPEN, GrantState.CLOSING)


def open_on_dev(world: World, count: int) -> None:
    """Open grants of ten minutes on the target that will be silent."""
    for _ in range(count):
        world.ask("eve", role="dev/admin", duration=timedelta(minutes=10))
    world.work()


def test_silent_target_holds_every_hand(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that does not answer keeps its share of the hands and no more: others end."""
    open_on_dev(world, looking.HANDS + 1)
    healthy = world.granted(duration=timedelta(minutes=10, seconds=30))
    silent = Silent(world, monkeypatch)
    world.clock.forward(minutes=10, seconds=31)
    try:
        world.worker.tick()
        silent.await_calls(looking.HANDS_A_TARGET)
        for _ in range(20):
            world.worker.tick()
        assert world.grant(healthy).state is GrantState.GONE
        assert len(silent.called) == looking.HANDS_A_TARGET
    finally:
        silent.answer()


def test_lease_runs_out_while_its_grant_waits_for_a_hand(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no hand is free for is not claimed, so it cannot be in line twice."""
    open_on_dev(world, looking.HANDS_A_TARGET + 4)
    silent = Silent(world, monkeypatch)
    world.clock.forward(minutes=10, seconds=1)
    try:
        world.worker.tick()
        silent.await_calls(looking.HANDS_A_TARGET)
        for _ in range(3):
            world.clock.forward(seconds=130)  # longer than a lease
            assert world.worker.tick() == 0
    finally:
        silent.answer()


def another(world: World, name: str) -> looking.Worker:
    """A worker of another process on the same database, not yet at work."""
    house = copy(world.house)
    house.me = name
    return looking.Worker(house, Refusals())


def test_end_waits_for_a_worker_that_was_killed(world: World) -> None:
    """What a worker claimed before it died is ended by another ten seconds after its last beat."""
    grant = world.granted()
    dead, other = another(world, "dead"), another(world, "other")
    dead._beat()
    world.clock.forward(minutes=31)
    dead._beat()
    world.house.store.end_due(world.house.now())
    (claimed,) = dead._claim()  # and then it is killed, with the end in hand
    assert claimed.id == grant.id
    world.clock.forward(seconds=9)
    other.tick()
    assert world.grant(grant).state is GrantState.CLOSING
    world.clock.forward(seconds=3)
    other.tick()
    assert world.grant(grant).state is not GrantState.CLOSING
    other.stop()


def test_stopped_worker_keeps_what_it_held(world: World) -> None:
    """A worker that stops leaves nothing leased, and counts as alive no more."""
    grant = world.granted()
    leaving, other = another(world, "leaving"), another(world, "other")
    leaving._beat()
    world.clock.forward(minutes=31)
    assert [one.id for one in leaving._claim()] == [grant.id]
    leaving.stop()
    assert [one.id for one in other._claim()] == [grant.id]
    assert leaving.name not in world.house.store.beats()
    other.stop()


def test_clock_set_back_stills_the_chores(world: World) -> None:
    """A clock that goes back an hour does not keep a worker from saying that it is alive."""
    worker = another(world, "here")
    worker._do_chores()
    world.clock.forward(hours=-1)
    worker._do_chores()
    assert world.house.store.beats()[worker.name][0] == world.house.now()
    worker.stop()


def test_end_comes_while_the_worker_sleeps_on(world: World) -> None:
    """An end in 50 ms is slept towards and no further; one that just came, not at all."""
    grant = world.granted()
    assert grant.ends_at is not None
    world.clock.at = grant.ends_at - timedelta(milliseconds=50)
    world.worker.tick()
    assert world.worker._nap() == timedelta(milliseconds=50)
    world.clock.forward(milliseconds=51)  # between the look and the nap
    assert world.worker._nap() == timedelta(0)


def test_clock_or_store_makes_the_worker_oversleep(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never sleeps longer than TICK: not for a far end, a clock set back, or a silent store."""
    grant = world.granted()
    assert grant.ends_at is not None
    world.worker.tick()
    assert world.worker._nap() == looking.TICK
    world.clock.at = grant.ends_at - timedelta(milliseconds=50)
    world.worker.tick()
    world.clock.forward(hours=-1)
    assert world.worker._nap() == looking.TICK

    def silent(after: Instant) -> None:
        raise Unreachable("no_answer", "no answer", "wait")

    monkeypatch.setattr(world.house.store, "next_due", silent)
    assert world.worker._nap() == looking.TICK


def test_due_end_waits_for_a_chore_after_a_restart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A started worker beats, then claims what is due, and only then does chores; an end that comes
    while one of them takes long does not wait for it.
    """
    first, second = world.granted(), world.granted("eve", duration=timedelta(minutes=40))
    world.restart()
    world.clock.forward(minutes=31)
    told: list[str] = []
    over = threading.Event()
    revoke, beat = world.connector.revoke, world.house.store.beat

    def called(hold: Hold, now: Instant) -> Receipt:
        told.append(hold.grant)
        if hold.grant == second.id:
            over.set()
        return revoke(hold, now)

    def beaten(name: str, now: Instant, said: str) -> None:
        told.append("beat")
        beat(name, now, said)

    def read(*_: object) -> None:
        if "chore" not in told:
            told.append("chore")
            world.clock.forward(minutes=10)
        assert over.wait(10)

    monkeypatch.setattr(world.connector, "revoke", called)
    monkeypatch.setattr(world.house.store, "beat", beaten)
    monkeypatch.setattr(looking, "settle_journal", read)
    world.worker.start()
    assert over.wait(10)
    world.worker.stop()
    assert list(dict.fromkeys(told)) == ["beat", first.id, "chore", second.id]


LISTENERS = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"


@pytest.mark.only("postgresql")
def test_commit_is_missed_while_nobody_listens(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its connection for news cut and not made again, what another process makes due is found
    by looking: no look is more than TICK after the one before.
    """
    monkeypatch.setattr(listening, "AGAIN", 3_600)
    waits: list[timedelta] = []
    wait = world.house.store.wait_for_news

    def counted(timeout: timedelta) -> bool:
        waits.append(timeout)
        return wait(timeout)

    monkeypatch.setattr(world.house.store, "wait_for_news", counted)
    theirs = copy(world.house)
    theirs.store = Store.open(
        world.url, origin=ORIGIN, signer=world.signer, clock=world.clock, create=False
    )
    with psycopg.connect(world.url, autocommit=True) as db:
        world.worker.start()
        assert soon(lambda: bool(db.execute(f"SELECT 1 {LISTENERS}").fetchall()))
        db.execute(f"SELECT pg_terminate_backend(pid, 5000) {LISTENERS}".encode())
        terms = Asked(roles=("dev/admin",), duration=timedelta(minutes=9), reason="look")
        request = ask(theirs, world.who("eve"), terms)
        assert soon(
            lambda: (
                [one.state for one in theirs.store.grants(request=request.id)] == [GrantState.OPEN]
            )
        )
        assert db.execute(f"SELECT 1 {LISTENERS}").fetchall() == []
    theirs.store.close()
    assert waits and max(waits) <= looking.TICK


def soon(true: Callable[[], bool]) -> bool:
    """Whether it comes true before anybody would give up."""
    return any(true() or threading.Event().wait(0.05) for _ in range(600))
