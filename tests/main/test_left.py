"""A target leaves the settings while grants are open on it, and a new process must end them."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.main.closing_machine import APART
from tests.main.conftest import TARGET, Home
from tests.main.test_running import aws, knows
from tidegate.base.duty import Duty
from tidegate.base.when import wire
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.main.clouds import LOCKS, Clouds
from tidegate.main.config import load_config
from tidegate.main.left import FILE, left_open

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The secrets of `aws` are there, until a test takes them away."""
    monkeypatch.setenv("TIDEGATE_TEST_ID", "x-the-key-id")
    monkeypatch.setenv("TIDEGATE_TEST_KEY", "y-the-secret")
    yield monkeypatch


def opened(home: Home, target: str, grant: str = "gr_1", account: str = "123456789012") -> None:
    """A grant was intended on a target."""
    journal = ClosingJournal(home.directory / "closing.journal")
    data = {"target": target, "account": account, "ends_at": wire(NOW + timedelta(hours=1))}
    journal.append(JournalLine(kind="intended", grant=grant, at=NOW, data=data))


def left(home: Home) -> list[tuple[str, bool]]:
    """Targets with open grants that the settings do not name, and whether they can be reached."""
    return [(one.target, not one.why) for one in left_open(load_config(home.config))]


def test_new_process_cannot_close_on_a_target_that_left(home: Home) -> None:
    """The process is gone with its memory; the next one reaches the target as the last did."""
    Clouds().connect(load_config(home.settings(aws("old") + aws("new"))))
    opened(home, "old")
    made = Clouds().connect(load_config(home.settings(aws("new"))))
    assert knows(made["aws"], "old") and knows(made["aws"], "new")
    assert left(home) == [("old", True)]
    again = Clouds().connect(load_config(home.settings(TARGET)))
    assert knows(again["aws"], "old") and knows(again["aws"], "new")


def test_target_that_left_is_offered(home: Home) -> None:
    """It can be closed on, never asked for: the catalogue in force does not have it."""
    from tidegate.main.config import load_catalogue

    Clouds().connect(load_config(home.settings(aws("old"))))
    config = load_config(home.settings(aws("new")))
    Clouds().connect(config)
    assert "old" not in load_catalogue(config).targets


def test_secret_is_kept_in_the_file(home: Home) -> None:
    """Only where the keys are read from is written down, for its owner alone."""
    Clouds().connect(load_config(home.settings(aws("old"))))
    path = home.directory / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert "env:TIDEGATE_TEST_KEY" in text
    assert "x-the-key-id" not in text and "y-the-secret" not in text


def test_grants_nobody_can_end_are_not_named(home: Home, keys: pytest.MonkeyPatch) -> None:
    """Its keys left with it: the others are reached, and `check` names its grants as an error."""
    Clouds().connect(load_config(home.settings(aws("old"))))
    for number in range(5):
        opened(home, "old", f"gr_{number}")
    keys.delenv("TIDEGATE_TEST_KEY")
    assert "simulated" in Clouds().connect(load_config(home.settings(TARGET)))
    assert left(home) == [("old", False)]
    (told,) = [one for one in home.told() if one["code"] == "left_open"]
    assert told["level"] == "error"
    assert "`gr_0`" in told["got"] and "and 2 more" in told["got"]
    assert "put it back" in told["help"]


def test_target_that_can_be_closed_is_an_error(home: Home) -> None:
    """While its keys are there it is a warning that says what happens."""
    Clouds().connect(load_config(home.settings(aws("old"))))
    opened(home, "old")
    home.settings(TARGET)
    (told,) = [one for one in home.told() if one["code"] == "left_open"]
    assert (told["level"], "last reached" in told["help"]) == ("warning", True)


def test_target_only_its_opener_is_missing_for_is_an_error(
    home: Home, keys: pytest.MonkeyPatch
) -> None:
    """A machine that only closes never had the opener's keys: its own end what is open there."""
    apart = APART.format(id="old")
    keys.setenv("TIDEGATE_TEST_CLOSER", "x")
    Clouds(frozenset({Duty.CLOSE})).connect(load_config(home.settings(apart)))
    opened(home, "old")
    for worker, level in (("close", "warning"), ("all", "error")):
        home.settings(f'{TARGET}\n[server]\nworker = "{worker}"\n')
        (told,) = [one for one in home.told() if one["code"] == "left_open"]
        assert told["level"] == level


def test_target_that_means_another_account_is_believed(home: Home) -> None:
    """The name is there, with another account: what is open in the old one is named."""
    Clouds().connect(load_config(home.settings(aws("old"))))
    opened(home, "old", account="999999999999")
    assert left(home) == [("old", False)]


def test_closed_grant_is_named(home: Home) -> None:
    """What is gone needs no way any more."""
    opened(home, "old")
    journal = ClosingJournal(home.directory / "closing.journal")
    journal.append(JournalLine(kind="gone", grant="gr_1", at=NOW, data={}))
    assert left(home) == []


@pytest.mark.parametrize("text", ["", "{", '{"target": [{"id": 1}]}', '{"target": 5}'])
def test_broken_file_stops_the_server(home: Home, text: str) -> None:
    """A file that cannot be read is as none: the targets of the settings are reached."""
    (home.directory / FILE).write_text(text)
    made = Clouds().connect(load_config(home.settings(aws("new"))))
    assert knows(made["aws"], "new")
    assert json.loads((home.directory / FILE).read_text())["target"][0]["id"] == "new"


def test_directory_that_cannot_be_written_stops_the_server(home: Home) -> None:
    """Without a place for the memory everything else works."""
    (home.directory / FILE).unlink(missing_ok=True)
    (home.directory / FILE).mkdir()
    assert knows(Clouds().connect(load_config(home.settings(aws("new"))))["aws"], "new")


def test_no_place_for_locks_stops_the_ends(home: Home) -> None:
    """It is a file, or its directory cannot be written: what closes does without, and is made."""
    (home.directory / LOCKS).write_text("")
    assert knows(Clouds().connect(load_config(home.settings(aws("new"))))["aws"], "new")


def test_planted_link_has_another_file_overwritten(home: Home) -> None:
    """Whose directory it is may put a link at the name beside: it goes, what it led to stays."""
    other = home.directory / "other"
    other.write_text("root's only")
    beside = home.directory / f"{FILE}.{os.getpid()}.new"
    beside.symlink_to(other)
    Clouds().connect(load_config(home.settings(aws("old"))))
    assert other.read_text() == "root's only"
    assert (home.directory / FILE).exists() and not beside.is_symlink()
