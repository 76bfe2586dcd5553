"""Errands: what a process without a cloud identity asks of one that has it."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.support import START, World
from tidegate.base.duty import ALL, NONE, Duty, Process
from tidegate.base.errors import EvidenceClosed, NotAllowed, Refused, Unreachable, WorldFailed
from tidegate.base.when import Instant
from tidegate.connectors.divided import LOOKS, Divided, perform
from tidegate.connectors.port import Scope
from tidegate.flow import erranding
from tidegate.flow.brokering import issue
from tidegate.flow.erranding import Errands, answer, send
from tidegate.flow.errands_done import ErrandsDone
from tidegate.flow.holding import hold_of
from tidegate.flow.house import House
from tidegate.grant import Grant
from tidegate.session import SessionState

KEY = b"k" * 32  # what all processes of the installation share


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[World]:
    """An installation whose worker has every duty."""
    made = World(tmp_path, url=database)
    made.house.errand_key = KEY
    yield made
    made.down()


def beside(world: World, duties: frozenset[Duty]) -> House:
    """Another process on the same database."""
    errands = Errands()
    made = House(
        store=world.house.store,
        journal=world.house.journal,
        connectors={"simulated": Divided(world.connector, duties, errands.look)},
        laws=world.laws,
        clock=world.clock,
        randomness=world.randomness,
        process=Process(id="beside", duties=duties, key=KEY),
    )
    errands.house = made
    return made


@pytest.fixture
def served(world: World) -> Iterator[None]:
    """The worker looks for errands until the test ends."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            world.worker._run_errands()
            over.wait(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    yield
    over.set()
    thread.join()


def test_api_without_identity_mints_itself(world: World, served: None) -> None:
    """A credential comes from a process that may open; its session is sealed before it is here."""
    grant = world.granted()
    api = beside(world, NONE)
    _, session, credential = issue(api, world.who("ana"), grant.id)
    assert world.use(credential) == "allowed"
    (kept,) = world.house.store.sessions(grant.id)
    assert (kept.id, kept.state) == (session, SessionState.LIVE)


def test_material_lies_in_the_database(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the row of an answer holds nothing of the credential, and the row is deleted."""
    grant = world.granted()
    rows: list[str] = []
    keep = world.house.store.answer
    monkeypatch.setattr(
        world.house.store, "answer", lambda *words: (rows.append(words[1]), keep(*words))[1]
    )
    stop = threading.Event()
    worker = threading.Thread(
        target=lambda: [world.worker._run_errands() or stop.wait(0.01) for _ in range(400)]
    )
    worker.start()
    _, _, credential = issue(beside(world, NONE), world.who("ana"), grant.id)
    stop.set()
    worker.join()
    (row,) = rows
    for secret in credential.material.values():
        assert secret.encode().hex() not in row and secret not in row
    with world.house.store.reading() as db:
        assert db.exec_driver_sql("SELECT count(*) FROM errands").scalar() == 0


def asked(world: World, grant: Grant, principal: str, until: timedelta) -> erranding.Errand:
    """An errand as the table holds it, taken."""
    now = world.house.store.now()
    errand = erranding.Errand(
        id="er_1",
        kind=erranding.ISSUE,
        duty=Duty.OPEN,
        asked_by="beside",
        asked=msgspec.json.encode({"grant": grant.id, "principal": principal}).decode(),
        reader=erranding.public_of(b"r" * 32).hex(),
        until=now + until,
    )
    errand = replace(errand, proof=erranding._mark(world.house, "ask", errand).hex())
    world.house.store.ask(errand)
    (taken,) = world.house.store.take_errands(ALL, "me", now, 10)
    return taken


def test_late_answer_is_handed_out(world: World) -> None:
    """What is minted after its errand has run out is dropped, and no session is sealed for it."""
    grant = world.granted()
    taken = asked(world, grant, grant.principal, timedelta(seconds=5))
    world.clock.forward(seconds=6)
    answer(world.house, taken)
    assert world.house.store.reply_to(taken.id) is None
    assert world.house.store.sessions(grant.id) == []


def test_errand_of_another_persons_grant_is_done(world: World) -> None:
    """Whoever writes errands for grants that are not the principal's is refused by the worker."""
    grant = world.granted()
    taken = asked(world, grant, world.who("eve").id, timedelta(seconds=5))
    answer(world.house, taken)
    reply = world.house.store.reply_to(taken.id)
    assert reply is not None
    box = erranding.open_box(
        bytes.fromhex(reply), b"r" * 32, erranding._mark(world.house, "answer", taken)
    )
    with pytest.raises(NotAllowed) as no:
        erranding._opened(box)
    assert no.value.code == "not_yours"


def test_answer_of_another_errand_is_believed(world: World) -> None:
    """An answer opens for its own errand and key only."""
    grant = world.granted()
    taken = asked(world, grant, grant.principal, timedelta(seconds=5))
    answer(world.house, taken)
    reply = bytes.fromhex(world.house.store.reply_to(taken.id) or "")
    for key, errand in ((b"x" * 32, taken), (b"r" * 32, replace(taken, id="er_2"))):
        with pytest.raises(WorldFailed) as fault:
            erranding.open_box(reply, key, erranding._mark(world.house, "answer", errand))
        assert fault.value.code == "box_broken"


def test_nobody_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a worker there is a clear error, after a bounded time, and no errand is left."""
    api = beside(world, NONE)
    monkeypatch.setattr(
        world.house.store, "wait_for_news", lambda span: world.clock.forward(seconds=5)
    )
    with pytest.raises(Unreachable) as fault:
        send(api, erranding.LOOK, Duty.CLOSE, {})
    assert fault.value.code == "no_worker" and "tidegate worker --close" in fault.value.help
    assert world.house.store.take_errands(ALL, "me", world.house.store.now(), 10) == []


def test_look_is_done_by_a_process_without_the_duty(world: World, served: None) -> None:
    """A process without identities sees what a worker sees, and changes nothing."""
    grant = world.granted()
    api = beside(world, NONE)
    hold = hold_of(api, grant)
    connector = api.connector("simulated")
    scope = Scope(target=hold.target, hold=hold)
    now = world.clock()
    assert list(connector.observe(scope, now)) == list(world.connector.observe(scope, now))
    assert connector.health(hold.target, now).reached
    for change in (
        lambda: connector.revoke(hold, now),
        lambda: connector.cut(hold, now),
        lambda: connector.grant(hold, now),
        lambda: connector.issue(hold, "se", now),
        lambda: connector.disarm(hold, now),
        lambda: connector.arm(hold, now, now),
        lambda: connector.mend(hold.target, hold.role, {}, now),
    ):
        with pytest.raises(Refused) as no:
            change()
        assert no.value.code == "not_our_duty"
    with pytest.raises(Refused):
        perform(world.connector, "revoke", {})
    assert "revoke" not in LOOKS and "grant" not in LOOKS


def test_opener_word_keeps_a_closer_from_closing(world: World) -> None:
    """A process that only closes ends a grant with no opener alive, and asks none to prove it."""
    grant = world.granted()
    world.worker.house = closer = beside(world, frozenset({Duty.CLOSE}))
    world.clock.forward(minutes=31)
    for _ in range(6):
        world.work()
        world.clock.forward(minutes=2)
    found = closer.store.grant(grant.id)
    assert (found.state, found.proof) == ("gone", "removed")


def test_forged_ask_mints_keys(world: World) -> None:
    """Who can only write the database asks for keys of somebody's grant, and gets none."""
    grant = world.granted()
    taken = asked(world, grant, grant.principal, timedelta(seconds=5))
    for forged in (
        replace(taken, proof=""),
        replace(taken, proof="zz"),
        replace(taken, reader=erranding.public_of(b"t" * 32).hex()),
        replace(taken, until=taken.until + timedelta(minutes=1)),
        replace(taken, id="er_2"),
    ):
        answer(world.house, forged)
    assert world.house.store.reply_to(taken.id) is None
    assert world.house.store.sessions(grant.id) == []


def test_ask_copied_back_mints_twice(world: World) -> None:
    """A row that was asked and answered is not answered again, however often it is put back."""
    grant = world.granted()
    taken = asked(world, grant, grant.principal, timedelta(seconds=5))
    answer(world.house, taken)
    world.house.store.drop_errand(taken.id, world.house.store.now())
    world.house.store.ask(taken)
    (again,) = world.house.store.take_errands(ALL, "me", world.house.store.now(), 10)
    answer(world.house, again)
    assert len(world.house.store.sessions(grant.id)) == 1


@pytest.mark.parametrize("after", ["second process", "restart"])
def test_ask_copied_back_mints_twice_elsewhere(world: World, after: str) -> None:
    """Nor by a process that never saw it: the mark is the database's, not a process's."""
    grant = world.granted()
    taken = asked(world, grant, grant.principal, timedelta(seconds=5))
    answer(world.house, taken)
    if after == "restart":
        world.restart()
        world.house.errand_key = KEY
    world.house.store.drop_errand(taken.id, world.house.store.now())
    world.house.store.ask(taken)
    other = beside(world, ALL) if after == "second process" else world.house
    (again,) = other.store.take_errands(ALL, "other", other.store.now(), 10)
    answer(other, again)
    assert len(other.store.sessions(grant.id)) == 1
    assert other.store.reply_to(taken.id) is None


def test_unmarked_errand_is_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the mark cannot be written nothing is minted."""
    grant = world.granted()
    taken = asked(world, grant, grant.principal, timedelta(seconds=5))

    def full(*_: object) -> bool:
        raise EvidenceClosed("database_full", "no room", "make some")

    monkeypatch.setattr(world.house.store, "use_errand", full)
    with pytest.raises(EvidenceClosed):
        answer(world.house, taken)
    assert world.house.store.sessions(grant.id) == []


def test_forged_rows_fill_database_and_log(world: World) -> None:
    """What nobody of ours asked is deleted, and told once a minute with how many there were."""
    grant = world.granted()
    with capture_logs() as logs:
        for seconds in (0, 0, 0, 61):
            world.clock.forward(seconds=seconds)
            taken = asked(world, grant, grant.principal, timedelta(seconds=5))
            answer(world.house, replace(taken, proof="00"))
    told = [one["count"] for one in logs if "no process of ours asked" in one["event"]]
    assert told == [1, 3]
    with world.house.store.reading() as db:
        assert db.exec_driver_sql("SELECT count(*) FROM errands").scalar() == 0


class Slow(dict[str, Instant]):
    """A memory in which every other hand has its turn between a look and what follows it."""

    def __contains__(self, name: object) -> bool:
        """Look, and let the others go on."""
        found = super().__contains__(name)
        time.sleep(0)
        return found


def test_errand_is_first_for_two_hands() -> None:
    """Of many hands that answer at once, exactly one is the first for an errand."""
    done, firsts, hands = ErrandsDone(), list[str](), 8
    done._until = Slow()

    def hand() -> None:
        for number in range(100):
            if done.first(f"er_{number}", START + timedelta(hours=1), START):
                firsts.append(f"er_{number}")

    threads = [threading.Thread(target=hand) for _ in range(hands)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(firsts) == sorted(f"er_{number}" for number in range(100))


def test_forged_answer_is_handed_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A box that anybody can seal to the asker's public key does not open without the mark."""
    grant = world.granted()
    api, keys = beside(world, NONE), world.keys(grant)

    def forge(span: timedelta) -> None:
        (taken,) = world.house.store.take_errands(ALL, "thief", world.house.store.now(), 1)
        forger = replace_key(world.house)
        said = {"ok": {"session": "se_x", "credential": msgspec.to_builtins(keys)}}
        box = erranding.seal_box(
            msgspec.json.encode(said),
            bytes.fromhex(taken.reader),
            erranding._mark(forger, "answer", taken),
            b"z" * 32,
        )
        world.house.store.answer(taken.id, box.hex(), world.house.store.now())

    monkeypatch.setattr(world.house.store, "wait_for_news", forge)
    with pytest.raises(WorldFailed) as fault:
        issue(api, world.who("ana"), grant.id)
    assert fault.value.code == "box_broken"


def replace_key(house: House) -> House:
    """A house that has another key, as whoever guesses one has."""

    class Guess:
        errand_key = b"g" * 32

    return cast(House, Guess())
