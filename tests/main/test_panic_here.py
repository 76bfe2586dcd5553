"""A panic on the machine whose database opens and then bears nothing, and what it counts."""

import errno
import re
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.main.test_emergency import LATER, QUICK, config, owed, tell
from tests.support import START, World
from tidegate.base.errors import AskedWrongly, EvidenceBroken, EvidenceClosed, WorldFailed
from tidegate.base.when import parse_instant
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.evidence.journal_line import removed_line
from tidegate.evidence.panic_file import PanicFile
from tidegate.flow.house import Wanted
from tidegate.flow.panicking import Unsealed, panic_unsealed, resume
from tidegate.main import panicking
from tidegate.main.config import load_config
from tidegate.main.emergency import recover
from tidegate.main.panicking import panic_here
from tidegate.main.wiring import clock, open_house
from tidegate.panic import Scope, ScopeKind
from tidegate.store import Store
from tidegate.store.database import closed_because

__all__ = ["config"]
PR = "pr_01m83t4cm0msnh3qjhbzn6j079"


def unreadable(*_: object, **__: object) -> None:
    """As a database that opens, and whose pages cannot be read."""
    raise WorldFailed("database_unreadable", "the database cannot be read", "restore it")


def odd(*_: object, **__: object) -> None:
    """As an event nobody can read."""
    raise EvidenceBroken("event", "an event", "canonical JSON", "something else")


def buggy(*_: object, **__: object) -> None:
    """As damage that nobody foresaw."""
    raise ValueError("not a number")


@pytest.mark.parametrize("fail", [unreadable, odd, buggy])
@pytest.mark.parametrize(
    ("kind", "name", "method", "is_sealed"),
    [
        ("principal", PR, "principal", False),
        ("all", "", "grants", True),
        ("all", "", "grants_named", True),
    ],
)
def test_database_that_opens_and_cannot_be_read_ends_nothing(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    name: str,
    method: str,
    is_sealed: bool,
    fail: object,
) -> None:
    """Whom it means, what is open, how it stands: whichever cannot be read, the journal's grants
    end, and the panic is sealed once, at once or later.
    """
    owed(config.parent / "closing.journal", ends_at=LATER, principal=PR)
    said: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(Store, method, fail)
        told = panic_here(config, kind, name, "night", None, patience=QUICK, tell=said.append)
    assert (told["removed"], told["safe"], told["sealed"]) == (1, False, is_sealed)
    assert any("by the closing journal" in line for line in said)
    house = open_house(load_config(config))
    ids = [one.id for one in house.wanted.all()]
    assert len(ids) == 1 and (not is_sealed or ids == [told["id"]])
    if not is_sealed:
        house.wanted.drop(ids[0])  # nobody of that id is in this database
    resume(house)
    assert [one.id for one in house.store.panics()] == ([told["id"]] if is_sealed else [])
    house.store.close()


def test_mistake_in_watching_ends_the_panic(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed, and then something nobody foresaw: the journal is gone by all the same."""
    owed(config.parent / "closing.journal", ends_at=LATER)
    monkeypatch.setattr(panicking, "stand", buggy)
    told = panic_here(config, "all", "", "", None, patience=QUICK, tell=tell)
    assert (told["removed"], told["sealed"], told["safe"]) == (1, True, False)


def test_connector_bug_with_one_grant_ends_the_watch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look tries it again, and the others are closed."""
    monkeypatch.setattr(panicking, "close_now", buggy)
    panicking._closed(world.house, world.granted())


@pytest.mark.parametrize("connector", ["simulated", "silent"])
def test_panic_ends_or_waits_for_what_is_not_in_its_scope(
    config: Path, monkeypatch: pytest.MonkeyPatch, connector: str
) -> None:
    """Somebody else's end is overdue by this journal, or was begun: the journal may be an old one,
    and the access another machine's by now. It is left alone, and where it is ended is told.
    """
    for file in config.parent.glob("*.db*"):
        file.unlink()
    journal = config.parent / "closing.journal"
    owed(journal, "gr_1", ends_at=LATER)
    for name, more in (("gr_2", {"ends_at": LATER}), ("gr_3", {"ends_at": LATER}), ("gr_4", {})):
        owed(journal, name, principal="pr_2", connector=connector, **more)
    begun = JournalLine(kind="closing", grant="gr_2", at=START, data={"reason": "done"})
    ClosingJournal(journal).append(begun)
    monkeypatch.setattr(time, "sleep", buggy)  # nothing of the scope has it wait
    said: list[str] = []
    told = panic_here(config, "principal", "pr_1", "", None, patience=QUICK, tell=said.append)
    assert (told["grants"], told["removed"], told["closing"]) == (1, 1, 0)
    assert not told["safe"]
    assert str(told["says"]).startswith("went by this machine's journal alone")
    acted = [line.grant for line in ClosingJournal(journal).read() if line.kind != "intended"]
    assert acted == ["gr_2", "gr_1", "gr_1"]
    assert any("2 ends outside the scope" in line and "recover" in line for line in said)


def test_journal_that_cannot_be_read_is_an_error_of_another_kind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever calls is promised EvidenceClosed, and the panic is kept."""

    def unread(self: ClosingJournal) -> list[JournalLine]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(ClosingJournal, "read", unread)
    wanted = Wanted(scope=Scope(ScopeKind.ALL), by="system", via="machine")
    with pytest.raises(EvidenceClosed, match="cannot be read"):
        panic_unsealed(world.house, wanted)
    assert len(world.house.wanted.all()) == 1


def test_counting_what_is_closing_takes_minutes() -> None:
    """A hundred thousand names are gone through once, not once for each."""

    class Counted(tuple[str, ...]):
        times = 0

        def __iter__(self):  # type: ignore[no-untyped-def]
            Counted.times += 1
            return super().__iter__()

    told = Unsealed(named=("a", "b", "c"), removed=Counted(("b",)))
    assert told.closing == ("a", "c")
    assert Counted.times == 1


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("reason", "freeze", "why"),
    [
        ("", timedelta(days=30), "freeze"),
        ("\x1b[31m", None, "reason"),
        ("x" * 2_001, None, "reason"),
    ],
)
def test_panic_is_kept_that_nobody_can_seal(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: bool,
    reason: str,
    freeze: timedelta | None,
    why: str,
) -> None:
    """Refused before anything ends, also where the database cannot be read or is gone: a server
    would refuse it each time, and all that waits behind it.
    """
    monkeypatch.setattr(Store, "principal", unreadable)
    if not there:
        for file in config.parent.glob("*.db*"):
            file.unlink()
    with pytest.raises(AskedWrongly, match=why):
        panic_here(config, "principal", PR, reason, freeze, patience=QUICK, tell=tell)
    assert not list(config.parent.glob("*.panics"))


@pytest.mark.parametrize("swept", [True, False])
def test_sealed_panic_is_called_not_frozen(
    config: Path, monkeypatch: pytest.MonkeyPatch, swept: bool
) -> None:
    """Sealed with its freeze, and then the database fails: what was sealed is told as it is."""
    owed(config.parent / "closing.journal", ends_at=LATER)
    if swept:
        monkeypatch.setattr(panicking, "stand", buggy)
    else:
        monkeypatch.setattr(Store, "grants", unreadable)
    freeze = timedelta(hours=1)
    told = panic_here(config, "all", "", "", freeze, patience=QUICK, tell=tell)
    assert (told["sealed"], told["frozen"], told["swept"]) == (True, True, swept)
    assert told["frozen_until"] and not told["safe"]
    assert str(told["says"]).startswith("went by this machine's journal alone")


@pytest.mark.parametrize("case", ["gone", "unread", "sealed"])
def test_panic_that_cannot_be_kept_is_told_nowhere(
    config: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Its file cannot be written: whoever called it hears that it is to be called again, in the
    answer too, which is all a script reads; and this machine is not done.
    """

    def full(self: PanicFile, work: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    owed(config.parent / "closing.journal", ends_at=LATER, principal=PR)
    if case == "gone":
        for file in config.parent.glob("*.db*"):
            file.unlink()
    elif case == "sealed":
        monkeypatch.setattr(Store, "grants", unreadable)
    else:
        monkeypatch.setattr(panicking, "begin_panic", unreadable)

    def panic(kept: bool) -> list[str]:
        said: list[str] = []
        told = panic_here(config, "all", "", "night", None, patience=QUICK, tell=said.append)
        assert told["sealed"] is (case == "sealed")
        assert told["done"] is (kept and case != "sealed")
        assert ("call it again" in told["says"]) is not kept
        return [line for line in said if "kept in" in line]

    with monkeypatch.context() as patched:
        patched.setattr(PanicFile, "change", full)
        (line,) = panic(kept=False)
        assert "cannot be kept" in line and "call it again" in line
    if case == "sealed":
        assert panic(kept=True) == []  # the log has it
        return
    (line,) = panic(kept=True)
    assert "a server that starts here seals it" in line
    assert panic(kept=True) == [line]  # once, under one id


@pytest.mark.parametrize(
    ("case", "is_done"),
    [
        ("ended", True),
        ("not its scope", False),
        ("held still", False),
        ("held until later, out of its scope", False),
        ("no journal", False),
        ("damaged journal", False),
        ("with its database", False),
    ],
)
def test_what_a_machine_has_ended_is_typed_for_ever(
    config: Path, monkeypatch: pytest.MonkeyPatch, case: str, is_done: bool
) -> None:
    """Without the database it is never safe, since others may have opened more; whether anything is
    left for this machine is another question, and only its whole journal answers that.
    """
    journal = config.parent / "closing.journal"
    if case == "with its database":
        monkeypatch.setattr(panicking, "stand", buggy)
    else:
        for file in config.parent.glob("*.db*"):
            file.unlink()
    if case != "no journal":
        target = "gone" if case == "held still" else "prod"
        connector = "none" if case == "held still" else "simulated"
        owed(journal, ends_at=LATER, target=target, connector=connector)
    if case == "damaged journal":
        journal.write_bytes(b"no line of it\n" + journal.read_bytes())
    if case == "held until later, out of its scope":
        later = parse_instant(LATER)
        held = removed_line("gr_1", clock(), held=True, held_until=later, alone=True)
        ClosingJournal(journal).append(held)
    scope = ("target", "elsewhere") if case.endswith("its scope") else ("all", "")
    told = panic_here(config, *scope, "", None, patience=timedelta(seconds=1), tell=tell)
    assert (told["done"], told["safe"]) == (is_done, False)


@pytest.mark.parametrize(
    ("lacks", "names"),
    [
        ("the log's key", "keys/away.key"),
        ("its password", "TIDEGATE_TEST_PASSWORD"),
        ("a password of the shell", "PGPASSWORD"),
    ],
)
def test_sound_database_is_called_lost_where_a_secret_is_not_here(
    config: Path, monkeypatch: pytest.MonkeyPatch, lacks: str, names: str
) -> None:
    """This shell lacks what the server has: what that is, and that with it the database is used;
    of a password `recover` says the same.
    """
    text = config.read_text()
    if lacks == "its password":
        monkeypatch.delenv(names, raising=False)
        made = 'url = "postgresql://tidegate@127.0.0.1:1/x"\npassword = "env:{names}"'
        text = re.sub("^url = .*$", made.format(names=names), text, flags=re.MULTILINE)
    elif lacks == "the log's key":
        text = text.replace("file:keys/log.key", f"file:{names}")
    else:

        def asked(*_: object) -> None:
            raise closed_because("the database asks for a password")

        monkeypatch.setattr(panicking, "open_store", asked)
    config.write_text(text)
    owed(config.parent / "closing.journal", ends_at=LATER)
    said: list[str] = []
    told = panic_here(config, "all", "", "", None, patience=QUICK, tell=said.append)
    assert told["removed"] == 1
    (line,) = [one for one in said if one.startswith("the database cannot be used")]
    assert names in line and "may be sound, and with that it is used" in line
    if lacks == "its password":
        unknown = recover(config, {}, dry=True, patience=QUICK, tell=tell)["unknown"]
        assert any(names in one and "may be sound, and with that" in one for one in unknown)
