"""A panic with a database that is older than this machine's journal: what that alone names."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.main.test_emergency import LATER, QUICK, config, owed, tell
from tests.support import START
from tidegate.base.when import wire
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.main.panicking import panic_here

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
    (still,) = told["still"]  # type: ignore[misc]
    assert still["id"] == "gr_1"  # type: ignore[index]
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
