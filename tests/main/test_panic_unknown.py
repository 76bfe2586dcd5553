"""A panic with a database that is older than this machine's journal: what that alone names."""

import re
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.main.conftest import PASSWORD
from tests.main.test_emergency import LATER, QUICK, config, database, owed, tell
from tests.main.test_recover_unknown import witnessed_later
from tests.support import START, World
from tidegate.base.when import wire
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.flow import panic_unrowed
from tidegate.flow.gathering import Gathered
from tidegate.flow.panic_standing import stand
from tidegate.flow.panicking import call_panic
from tidegate.flow.recalling import Fate, Recalled
from tidegate.flow.revoking import end_early
from tidegate.grant import GrantState
from tidegate.main import local, panic_unknown, panicking
from tidegate.main.config import load_config
from tidegate.main.owner import Giving
from tidegate.main.panic_unknown import Unknown, close_unknown
from tidegate.main.panicking import panic_here
from tidegate.main.wiring import clock
from tidegate.panic import Scope, ScopeKind, Standing
from tidegate.shell.cli.local import Account
from tidegate.store import Store

__all__ = ["config"]


def panic(config: Path, kind: str = "all", name: str = "") -> dict[str, object]:
    """Called on the machine, with the database there."""
    told = panic_here(config, kind, name, "", None, patience=QUICK, tell=tell)
    assert told["sealed"] is True
    return dict(told)


def kinds(config: Path) -> list[tuple[str, str]]:
    """The journal's lines."""
    journal = ClosingJournal(config.parent / "closing.journal")
    return [(line.kind, line.grant) for line in journal.read()]


def test_panic_leaves_open_what_an_older_database_does_not_know(config: Path) -> None:
    """It was opened after the backup that was put back, and its end is far off."""
    owed(config.parent / "closing.journal", ends_at=LATER)
    told = panic(config)
    assert (told["grants"], told["removed"], told["safe"]) == (1, 1, True)
    assert "the database does not" in str(told["says"])
    assert kinds(config)[-2:] == [("closing", "gr_1"), ("removed", "gr_1")]
    assert panic(config)["grants"] == 0  # typed again, nothing is left


def test_panic_that_cannot_close_what_its_database_does_not_know_is_safe(config: Path) -> None:
    """No way leads to its target: begun in the journal, counted and named."""
    owed(config.parent / "closing.journal", ends_at=LATER, connector="elsewhere")
    told = panic(config)
    assert (told["closing"], told["removed"], told["safe"]) == (1, 0, False)
    assert [one["id"] for one in told["still"]] == ["gr_1"]  # type: ignore[attr-defined]
    assert kinds(config)[-1] == ("closing", "gr_1")


def test_panic_calls_safe_what_its_journal_says_too_little_of(config: Path) -> None:
    """Neither it nor the database says what to close."""
    line = JournalLine(kind="intended", grant="gr_1", at=START, data={"ends_at": LATER})
    ClosingJournal(config.parent / "closing.journal").append(line)
    told = panic(config)
    assert (told["unverified"], told["safe"]) == (1, False)


@pytest.mark.parametrize("more", [{"target": "dev"}, {"ends_at": wire(START - timedelta(days=90))}])
def test_panic_takes_what_is_out_of_its_scope(config: Path, more: dict[str, str]) -> None:
    """Another target's role is nobody's business here, also where it is overdue."""
    owed(config.parent / "closing.journal", role="dev/admin", **({"ends_at": LATER} | more))
    assert panic(config, "role", "prod/admin")["grants"] == 0
    assert kinds(config) == [("intended", "gr_1")]


def test_journal_that_cannot_be_read_keeps_a_panic_safe(config: Path) -> None:
    """What it names is not known, and that is no success."""
    journal = config.parent / "closing.journal"
    owed(journal, ends_at=LATER)
    journal.write_text("nonsense\n" + journal.read_text())
    told = panic(config)
    assert (told["removed"], told["safe"]) == (1, False)
    assert "cannot be read" in str(told["says"])


def test_journal_whose_disk_is_away_keeps_a_panic_safe(config: Path) -> None:
    """A directory that is not there is no journal without a line."""
    text = config.read_text().replace('"closing.journal"', '"disk/closing.journal"')
    config.write_text(text)
    told = panic(config)
    assert told["safe"] is False
    assert "No such directory" in str(told["says"])
    (config.parent / "disk").mkdir()
    assert panic(config)["safe"] is True


def test_panic_on_one_of_many_machines_is_safe_with_an_older_database(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this machine's journal names proves that the database is older, and whatever others
    opened since is in theirs.
    """
    monkeypatch.setattr(Store, "is_shared", True)
    owed(config.parent / "closing.journal", ends_at=LATER)
    told = panic(config)
    assert (told["removed"], told["safe"]) == (1, False)
    assert "on every machine that closes" in str(told["says"])
    again = panic(config, "role", "prod/admin")  # nothing of it is left, and it is as old
    assert (again["grants"], again["safe"]) == (0, False)


def test_panic_is_safe_where_the_journal_is_lost_and_the_database_older(
    config: Path, tmp_path: Path
) -> None:
    """Its disk is not mounted, and a witness has more than the database: what was opened since is
    in no journal that is here.
    """
    witness = tmp_path / "witness"
    backup = witnessed_later(config, witness)
    settings = re.sub(r"(?m)^directory = .*$", f'directory = "{witness}"', config.read_text())
    config.write_text(settings)
    assert panic(config)["safe"] is True  # nothing was ever opened, and the log is whole
    file = database(config)
    for one in config.parent.glob("*.db*"):
        one.unlink()
    file.write_bytes(backup)
    told = panic(config)
    assert told["safe"] is False
    assert "older than what was witnessed" in str(told["says"])


def test_panic_is_safe_where_the_log_outgrew_what_was_witnessed(
    config: Path, tmp_path: Path
) -> None:
    """An older database was put back and went on, beyond the size that the witness has: it is not
    the log that was witnessed, and what was opened in the lost part is in no journal here.
    """
    witness = tmp_path / "witness"
    backup = witnessed_later(config, witness)
    settings = re.sub(r"(?m)^directory = .*$", f'directory = "{witness}"', config.read_text())
    config.write_text(settings)
    file = database(config)
    for one in config.parent.glob("*.db*"):
        one.unlink()
    file.write_bytes(backup)
    for login in ("eve", "mallory"):
        local.account_add(config, Account(login=login, password=PASSWORD))
    owed(config.parent / "closing.journal", ends_at=LATER)
    panic(config)  # what this machine's journal names is over by this
    told = panic(config)
    assert (told["closing"], told["unverified"], told["safe"]) == (0, 0, False)
    assert "does not extend what was witnessed" in str(told["says"])


def test_what_a_panic_removed_is_said_to_act_no_more(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session taken before may act for a while, and until when is told."""
    until = clock() + timedelta(hours=1)

    def removed(_: object, gathered: Gathered, *__: object, **___: object) -> list[Recalled]:
        (one,) = gathered.owed
        return [Recalled(owed=one, fate=Fate.REMOVED, at=clock(), residual_until=until)]

    monkeypatch.setattr(panic_unknown, "recall", removed)
    owed(config.parent / "closing.journal", ends_at=LATER)
    assert panic(config)["residual_until"] == wire(until)


def test_panic_leaves_what_came_back_to_nobody(
    world: World, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is over; it was there again, and the process that was closing it died."""
    grant = world.granted()
    world.house.journal = ClosingJournal(config.parent / "closing.journal")
    end_early(world.house, world.who("bo"), grant.id)
    for _ in range(12):
        world.clock.forward(seconds=5)
        world.work()
    row = world.grant(grant)
    assert row.state is GrantState.GONE
    owed(config.parent / "closing.journal", grant.id, ends_at=LATER, native_principal="again")
    data = {"reason": "leftover", "actor": "system", "row": row.version}
    line = JournalLine(kind="closing", grant=grant.id, at=clock(), data=data)
    world.house.journal.append(line)
    found, giving = load_config(config), Giving(load_config(config), tell)
    called = call_panic(world.house, world.who("op"), Scope(ScopeKind.ALL), "", None)
    told = close_unknown(
        found, world.house, called, world.house.store.head().size, QUICK, tell, giving
    )
    assert [one.owed.hold.grant for one in told.done] == [grant.id]


def test_what_no_row_tells_of_keeps_what_has_rows_open(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cloud hangs: the others are watched and closed meanwhile."""
    looked = threading.Event()

    def looks(*some: Any) -> Standing:
        looked.set()
        return stand(*some)

    def hangs(*_: object) -> Unknown:
        return Unknown(unread="" if looked.wait(5) else "nobody looked meanwhile")

    monkeypatch.setattr(panicking, "stand", looks)
    monkeypatch.setattr(panicking, "close_unknown", hangs)
    assert panic(config)["safe"] is True


def test_panic_here_takes_what_another_grant_holds_by_the_rows(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left to that one's end, neither begun nor called safe, and it is said why (I5)."""
    owed(config.parent / "closing.journal", ends_at=LATER)
    for room in (panic_unknown, panic_unrowed):
        monkeypatch.setattr(room, "is_held", lambda *_: True)
    told = panic(config)
    assert (told["unverified"], told["removed"], told["safe"]) == (1, 0, False)
    assert any("another grant" in one["says"] for one in told["still"])  # type: ignore[attr-defined]
    assert kinds(config) == [("intended", "gr_1")]
