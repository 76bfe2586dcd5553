"""`recover` and `revoke --local`, typed on a machine that only closes, with the keys it has."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.main.closing_machine import APART, only_closes
from tests.main.test_emergency import config, owed
from tidegate.base.duty import ALL, Duty
from tidegate.connectors.aws_calls import AwsSettings
from tidegate.main.clouds import Clouds
from tidegate.main.config import load_config
from tidegate.main.left import left_open
from tidegate.main.machine import ThisMachine
from tidegate.main.owner import Giving
from tidegate.main.panicking import _house
from tidegate.shell.cli.commands import make_program

__all__ = ["config"]
LATER = "2099-01-01T00:00:00.000Z"
CLOSES = frozenset({Duty.CLOSE})


@pytest.fixture
def reached(config: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, AwsSettings]:
    """The machine; by what its targets were reached."""
    config.write_text(config.read_text() + APART.format(id="far"))
    return only_closes(monkeypatch)


def typed(config: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """A command of that night: how it ended, and what it printed."""
    whole = [*words, "--config", str(config), "--timeout", "5s"]
    done = CliRunner().invoke(make_program(ThisMachine()), [*whole, "--json"])
    return done.exit_code, json.loads(done.stdout), done.stderr


def far(config: Path, **more: str) -> None:
    """A grant on the target whose opener is another machine."""
    there = {"target": "far", "connector": "aws", "role": "far/admin"}
    owed(config.parent / "closing.journal", "gr_1", **(there | more))


def test_recover_where_only_the_closers_keys_are_closes_nothing(
    config: Path, reached: dict[str, AwsSettings]
) -> None:
    """What is due is removed with the closer's keys; the opener's are not missed."""
    far(config)
    code, told, err = typed(config, "recover")
    assert [(one["fate"], one["why"]) for one in told["grants"]] == [("removed", "")]
    assert (code, told["ok"], err) == (0, True, "")
    assert (reached["far"].access_key_id, reached["far"].opener) == ("the-closer", None)


def test_panic_where_only_the_closers_keys_are_closes_nothing(
    config: Path, reached: dict[str, AwsSettings]
) -> None:
    """The same before any end has come, by the journal alone."""
    for file in config.parent.glob("*.db*"):
        file.unlink()
    far(config, ends_at=LATER)
    code, told, _ = typed(config, "revoke", "--all", "--local", "--yes")
    assert (code, told["removed"], told["closing"]) == (4, 1, 0)


def test_panic_with_its_database_does_what_takes_an_opener(
    config: Path, reached: dict[str, AwsSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the opener's keys are not, it closes and no more; where all are, both, as a server."""
    found = load_config(config)
    house = _house(found, Giving(found, print))
    assert (house.duties, reached["far"].access_key_id) == (CLOSES, "the-closer")
    house.store.close()
    monkeypatch.setenv("TIDEGATE_TEST_OPENER", "the-opener")
    house = _house(found, Giving(found, print))
    assert house.duties == ALL
    house.store.close()


def test_recover_goes_on_without_the_closers_keys_in_silence(
    config: Path, reached: dict[str, AwsSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those are what it needs: that they are missing is named, and it is no success."""
    far(config)
    monkeypatch.delenv("TIDEGATE_TEST_CLOSER")
    code, told, _ = typed(config, "recover")
    assert (code, told["ok"]) == (4, False)
    assert any("TIDEGATE_TEST_CLOSER" in one for one in told["unknown"])
    assert not any("TIDEGATE_TEST_OPENER" in one for one in told["unknown"])


def test_closer_cannot_close_on_a_target_that_left(
    config: Path, reached: dict[str, AwsSettings]
) -> None:
    """It left the settings with an opener's keys, which a closer never had."""
    Clouds(CLOSES).connect(load_config(config))
    config.write_text(config.read_text().replace(APART.format(id="far"), APART.format(id="new")))
    far(config)
    reached.clear()
    code, told, _ = typed(config, "recover")
    assert (code, [one["fate"] for one in told["grants"]]) == (0, ["removed"])
    assert set(reached) == {"far", "new"}
    assert [one.why for one in left_open(load_config(config), CLOSES)] == [""]
