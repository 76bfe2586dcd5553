"""Starting while the database is away: ends go on from the journal, and nothing else does."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import structlog

from tests.flow.test_faults import settle
from tests.flow.test_worker import Silent, open_on_dev
from tests.main.conftest import TARGET, Home
from tests.main.test_emergency import owed
from tests.support import World, catalogue, laws, misshape
from tidegate.base.errors import (
    AskedWrongly,
    EvidenceBroken,
    EvidenceClosed,
    NotFound,
    Stale,
    TidegateError,
)
from tidegate.base.when import Instant
from tidegate.connectors.sandbox import free_port
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.journal_book import JournalBook, book_of
from tidegate.evidence.journal_line import ROW, JournalLine
from tidegate.flow.confirming import confirms
from tidegate.flow.erranding import Errands
from tidegate.flow.governing import put_in_force
from tidegate.flow.house import BareHouse, House
from tidegate.flow.recovering import look_back
from tidegate.grant import GrantState
from tidegate.main import wiring
from tidegate.main.clouds import Clouds
from tidegate.main.config import load_config
from tidegate.main.only_server import OnlyServer
from tidegate.main.stopping import ToldToStop
from tidegate.main.waiting import Opened, once_there
from tidegate.main.wiring import _reach, open_store

SOON = timedelta(milliseconds=5)
LATER = timedelta(hours=1)
PATIENCE = 30.0  # seconds for a process on a busy machine
AWAY = EvidenceClosed("evidence_closed", "the database cannot be reached", "")


def bare(world: World) -> BareHouse:
    """What a process has before its database answers."""
    house = world.house
    return BareHouse(
        journal=ClosingJournal(world.directory / "closing.journal"),
        connectors=house.connectors,
        laws=house.laws,
        clock=world.clock,
        randomness=world.randomness,
    )


def until(held: Callable[[], object]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE
    while not held():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.005)


def test_start_waits_for_the_database_before_it_closes(world: World) -> None:
    """What is due is closed while the database is away, what is not is left; then it is sealed."""
    due = world.granted()
    world.clock.forward(minutes=20)
    world.work()
    later = world.granted("eve")
    world.clock.forward(minutes=11)
    seen: list[int] = []

    def reach() -> House:
        closed = [line.grant for line in world.house.journal.read() if line.kind == "removed"]
        seen.append(len(closed))
        if not closed:
            raise AWAY
        assert closed == [due.id]
        return world.house

    assert once_there(bare(world), reach, threading.Event(), every=SOON) is world.house
    assert seen[0] == 0 and seen[-1] == 1
    world.work()
    assert world.grant(due).state is GrantState.GONE
    assert world.grant(later).state is GrantState.OPEN


def test_database_that_hangs_keeps_ends_waiting(world: World) -> None:
    """One that takes longer than the grace is no longer waited for, and nothing runs on beside."""
    world.granted()
    world.clock.forward(minutes=31)

    def reach() -> House:
        until(lambda: any(line.kind == "removed" for line in world.house.journal.read()))
        return world.house

    assert once_there(bare(world), reach, threading.Event(), grace=SOON) is world.house
    assert "tidegate-waiting" not in {thread.name for thread in threading.enumerate()}


def test_database_that_answers_is_passed_over(world: World) -> None:
    """With the database there, a start closes nothing from the journal."""
    world.granted()
    world.clock.forward(minutes=31)
    once_there(bare(world), lambda: world.house, threading.Event())
    assert {line.kind for line in world.house.journal.read()} == {"intended"}


@pytest.mark.parametrize(
    ("open_there", "fault"),
    [(False, AWAY), (True, AskedWrongly("other_key", "another key", ""))],
    ids=["nothing_owed", "wrong_settings"],
)
def test_start_that_cannot_succeed_hangs(
    world: World, open_there: bool, fault: TidegateError
) -> None:
    """Without anything to close, or with wrong settings, the fault is told at once."""
    if open_there:
        world.granted()
    world.clock.forward(minutes=31)

    def reach() -> House:
        raise fault

    with pytest.raises(type(fault)):
        once_there(bare(world), reach, threading.Event(), every=LATER)
    assert not any(line.kind == "removed" for line in world.house.journal.read())


def test_journal_that_cannot_be_read_for_a_moment_ends_a_start_that_closes(world: World) -> None:
    """What it names is not known, which is another thing than nothing: it is tried again."""
    due = world.granted()
    world.clock.forward(minutes=31)
    house = bare(world)
    away = world.directory / "away"
    tries = []

    def reach() -> House:
        tries.append(1)
        if len(tries) == 1:
            world.directory.joinpath("closing.journal").rename(away)
            world.directory.joinpath("closing.journal").mkdir()  # it cannot be read
        if len(tries) == 3:
            world.directory.joinpath("closing.journal").rmdir()
            away.rename(world.directory / "closing.journal")
        if not any(line.kind == "removed" for line in read()):
            raise AWAY
        return world.house

    def read() -> list[JournalLine]:
        try:
            return world.house.journal.read()
        except OSError:
            return []

    with structlog.testing.capture_logs() as said:
        once_there(house, reach, threading.Event(), every=SOON)
    assert [one.grant for one in read() if one.kind == "removed"] == [due.id]
    first = next(one for one in said if "nothing opens" in one["event"])
    assert "not known" in first["grants"]


def test_start_closes_beside_a_server_because_a_rule_is_broken(world: World) -> None:
    """Another server has the journal: it closes from it, and this start ends."""
    world.granted()

    def reach() -> House:
        raise AskedWrongly("already_running", "another server runs", "")

    def read() -> None:
        raise AskedWrongly("bad_rule", "a rule cannot be read", "")

    stopped = threading.Event()
    stopped.set()  # whoever waits is told at once
    with pytest.raises(AskedWrongly, match="another server"):
        once_there(bare(world), reach, stopped, read=read, every=LATER)


def test_broken_rule_keeps_what_is_due_open(world: World) -> None:
    """Rules that cannot be read stop a start, not the ends: it is up once they are mended."""
    due = world.granted()
    world.clock.forward(minutes=31)

    def read() -> None:
        if not any(line.kind == "removed" for line in world.house.journal.read()):
            raise AskedWrongly("bad_rule", "a rule cannot be read", "")

    def reach() -> House:
        read()
        return world.house

    once_there(bare(world), reach, threading.Event(), read=read, every=SOON)
    assert [one.grant for one in world.house.journal.read() if one.kind == "removed"] == [due.id]


@pytest.mark.parametrize(
    "bug",
    [
        ValueError("a bug of ours"),
        Stale("stale", "it moved", ""),
        NotFound("unknown_id", "nothing is called so", ""),
        EvidenceBroken("damaged_row", "a row of the log", "an event", "something else"),
    ],
    ids=lambda bug: type(bug).__name__,
)
def test_bug_in_a_start_keeps_what_is_due_open(world: World, bug: Exception) -> None:
    """Whatever a start stumbles over, also damage we have a word for: with grants owed it closes
    them and tries once more, and says that nobody's settings are to blame.
    """
    due = world.granted()
    world.clock.forward(minutes=31)

    def reach() -> House:
        if not any(line.kind == "removed" for line in world.house.journal.read()):
            raise bug
        return world.house

    with structlog.testing.capture_logs() as said:
        once_there(bare(world), reach, threading.Event(), every=SOON)
    assert [one.grant for one in world.house.journal.read() if one.kind == "removed"] == [due.id]
    (told,) = [one for one in said if one.get("exc_info")]
    assert told["log_level"] == "error"
    assert told["event"].startswith(
        "the start failed by damage in the database or a mistake of ours"
    )


def test_bug_in_a_start_with_nothing_owed_is_hidden(world: World) -> None:
    """Then nobody waits for it: it is told at once."""

    def reach() -> House:
        raise ValueError("a bug of ours")

    with pytest.raises(ValueError, match="a bug of ours"):
        once_there(bare(world), reach, threading.Event(), every=LATER)


def test_row_nobody_can_read_kills_a_start(world: World) -> None:
    """It is up at once, the others end by their rows, and this one by the journal's word."""
    broken, other = world.granted(), world.granted("eve")
    misshape(world, broken.id)
    world.down()
    world.clock.forward(minutes=31)

    def reach() -> House:
        world.up()
        look_back(world.house)
        return world.house

    once_there(bare(world), reach, threading.Event(), every=LATER)
    for _ in range(4):
        world.clock.forward(seconds=10)
        world.work()
    closed = {one.grant for one in world.house.journal.read() if one.kind == "removed"}
    assert closed == {broken.id, other.id}
    assert world.grant(other).state is GrantState.GONE


def test_server_that_starts_with_a_broken_rule_closes_nothing(home: Home) -> None:
    """A real `serve`: it says which line is wrong, closes, and serves once that is mended."""
    journal = home.directory / "closing.journal"
    home.config.write_text(home.config.read_text() + TARGET)
    rules = home.directory / "policies"
    rules.mkdir(exist_ok=True)
    (rules / "broken.cedar").write_text("permit (principal\n")
    owed(journal)
    server = serve(home.config)
    try:
        until(lambda: any(line.kind == "removed" for line in ClosingJournal(journal).read()))
        (rules / "broken.cedar").unlink()
        assert server.stderr is not None
        said = iter(server.stderr.readline, b"")
        first = next(said)
        assert b"rules or groups cannot be read" in first and b"broken.cedar" in first
        assert any(b'"serving"' in line for line in said)
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("code", ["no_database", "secret_missing", "newer_schema"])
def test_what_a_person_must_put_back_keeps_what_is_due_open(world: World, code: str) -> None:
    """A disk that is not mounted, with a key or a password on it, stops a start, not the ends; nor
    does a release that was put back too far.
    """
    due = world.granted()
    world.clock.forward(minutes=31)

    def reach() -> House:
        if not any(line.kind == "removed" for line in world.house.journal.read()):
            raise AskedWrongly(code, "something is not there", "")
        return world.house

    once_there(bare(world), reach, threading.Event(), every=SOON)
    assert [one.grant for one in world.house.journal.read() if one.kind == "removed"] == [due.id]


def test_server_that_starts_without_its_key_closes_nothing(home: Home) -> None:
    """A real `serve`: it says which secret is not there, closes, and serves once it is."""
    journal = home.directory / "closing.journal"
    home.config.write_text(home.config.read_text() + TARGET)
    key = home.directory / "keys" / "log.key"
    kept = key.rename(home.directory / "elsewhere")
    owed(journal)
    server = serve(home.config)
    try:
        until(lambda: any(line.kind == "removed" for line in ClosingJournal(journal).read()))
        kept.rename(key)
        assert server.stderr is not None
        said = iter(server.stderr.readline, b"")
        first = next(said)
        assert b"a secret cannot be read" in first and b"log.key" in first
        assert b"put the log's key back" in first  # nobody sees what an exit would have said
        assert any(b'"serving"' in line for line in said)
    finally:
        server.kill()
        server.communicate()


def test_slow_start_takes_what_another_server_gave(world: World) -> None:
    """While the database of a start answers, an end that it does not owe is left alone: another
    server has closed that grant and given the same access anew.
    """
    found = catalogue()
    role = replace(found.roles["prod/admin"], kind="assignment", probe="")
    put_in_force(world.house, laws(found=replace(found, roles={**found.roles, role.id: role})))
    world.granted(duration=timedelta(minutes=10))
    ours = bare(world)
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    world.clock.forward(minutes=11)
    settle(world, 35)
    held = world.granted()
    assert all(line.kind == "intended" for line in ours.journal.read())
    calls = world.connector.calls["revoke"]
    asked: list[str] = []
    opened = Opened(lambda: world.house.store)

    def confirms(grant: str, book: JournalBook, now: Instant) -> bool:
        said = opened.confirms(grant, book, now)
        asked.append(grant)
        return said

    def reach() -> House:
        opened.open()
        until(lambda: asked)
        return world.house

    ours.confirms = confirms
    once_there(ours, reach, threading.Event(), grace=SOON)
    until(lambda: not hands_alive())
    assert world.connector.calls["revoke"] == calls
    assert world.grant(held).state is GrantState.OPEN


def hands_alive() -> bool:
    """Whether a hand of a start that is through is still under way."""
    return any(thread.name.startswith("tidegate-journal") for thread in threading.enumerate())


def test_database_of_a_start_says_wrongly_what_it_owes(world: World) -> None:
    """It owes what is due or begun and nothing that is over or moved on; what it does not know, or
    cannot say, it leaves to the journal.
    """
    grant = world.granted()
    store, now = world.house.store, world.clock()
    opened = world.house.journal.book()
    line = JournalLine(kind="closing", grant=grant.id, at=now, data={})
    begun = book_of((*opened.lines[grant.id], line))
    assert not confirms(store, grant.id, opened, now)  # its end was moved on elsewhere
    assert confirms(store, grant.id, begun, now)  # it was begun, and that is not sealed yet
    assert confirms(store, "gr_unknown", opened, now)
    world.clock.forward(minutes=31)
    assert confirms(store, grant.id, opened, world.clock())
    world.work()
    over = world.grant(grant)
    assert over.state is GrantState.GONE
    assert not confirms(store, grant.id, begun, world.clock())
    for version, owes in ((over.version, True), (over.version - 1, False)):  # begun since, or not
        anew = replace(line, at=now, data={ROW: version})
        book = book_of((*opened.lines[grant.id], anew))
        assert confirms(store, grant.id, book, world.clock()) is owes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "grants_named", lambda _: raising(AWAY))
        assert confirms(store, grant.id, opened, world.clock())


def test_start_that_waits_for_a_rule_forgets_its_database(home: Home) -> None:
    """It is kept over the tries, for what is closed meanwhile; one that fails is let go of."""
    config = load_config(home.config)
    opened = Opened(partial(open_store, config))
    journal = ClosingJournal(home.directory / "closing.journal")
    only = OnlyServer(journal, None)
    reach = partial(_reach, config, opened, only, journal, Clouds(), Errands(), "me")
    broken = home.directory / "policies" / "broken.cedar"
    broken.parent.mkdir(exist_ok=True)
    broken.write_text("permit (principal\n")
    with pytest.raises(AskedWrongly):
        reach()
    store = opened.store
    assert store is not None
    broken.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "put_in_force", lambda *_, **__: raising(AWAY))
        with pytest.raises(EvidenceClosed):
            reach()
        assert opened.store is None
        damaged = EvidenceBroken("damaged_row", "a row", "an event", "something else")
        patch.setattr(wiring, "put_in_force", lambda *_, **__: raising(damaged))
        with pytest.raises(EvidenceBroken):
            reach()
    assert opened.store is None  # a file that was put back in its place is opened anew
    house = reach()
    assert house.store is opened.store
    opened.close()


def raising(fault: TidegateError) -> None:
    """Raise it."""
    raise fault


def test_stop_is_not_heard_while_waiting(world: World) -> None:
    """A process that waits for its database can be told to stop."""
    world.granted()
    stopped = threading.Event()

    def reach() -> House:
        stopped.set()
        raise AWAY

    with pytest.raises(ToldToStop):
        once_there(bare(world), reach, stopped, every=LATER)


def test_server_that_starts_beside_a_broken_file_closes_nothing(home: Home) -> None:
    """A real `serve`: it closes from its journal, is up once the file is back, and hears a stop."""
    journal = home.directory / "closing.journal"
    home.config.write_text(home.config.read_text() + TARGET)
    database = home.directory / "tidegate.db"
    kept = database.rename(home.directory / "kept.db")
    database.write_bytes(b"no database" * 1000)
    owed(journal)
    server = serve(home.config)
    try:
        until(lambda: any(line.kind == "removed" for line in ClosingJournal(journal).read()))
        os.replace(kept, database)
        assert server.stderr is not None
        said = iter(server.stderr.readline, b"")
        assert next(line for line in said if b'"serving"' in line)
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0
    finally:
        server.kill()
        server.communicate()


def serve(config: Path) -> subprocess.Popen[bytes]:
    """`tidegate serve`, on a free port."""
    words = ["serve", "--port", str(free_port()), "--config", str(config)]
    return subprocess.Popen([sys.executable, "-m", "tidegate", *words], stderr=subprocess.PIPE)


def test_silent_cloud_keeps_a_start_and_the_ends_of_others_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is not answered holds neither another target's end nor the start; until it comes
    back the server that started makes no second one.
    """
    silent = Silent(world, monkeypatch)
    open_on_dev(world, 1)
    other = world.granted(duration=timedelta(minutes=10, seconds=5))
    world.clock.forward(minutes=11)

    def reach() -> House:
        removed = [line.grant for line in world.house.journal.read() if line.kind == "removed"]
        if other.id not in removed or not silent.called:
            raise AWAY
        return world.house

    try:
        once_there(bare(world), reach, threading.Event(), every=SOON)
        for _ in range(5):
            world.worker.tick()
        assert len(silent.called) == 1
    finally:
        silent.answer()
