"""Two servers on one PostgreSQL and one of them killed: the acts that both demos add for it, and
the one in which it differs from run to run which of the two tried, removed, cut and is asked.
"""

from pathlib import Path

import pytest

from tidegate.main import demo, demo_break
from tidegate.main.sandbox_stage import Stage
from tidegate.main.stage import POSTGRESQL
from tidegate.main.standin_stage import CenterStage
from tidegate.main.telling import Telling

WINDOW = "8s"  # the demos' 15 s are for people who read along


def test_role_stays_open_when_one_of_two_servers_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IAM roles: the other server serves, ends the grant by itself, and its evidence verifies."""
    monkeypatch.setattr(demo, "WINDOW", WINDOW)
    told = Telling(quiet=True, began=0.0)
    with Stage(tmp_path, POSTGRESQL) as stage:
        demo.killed_one_of_two(stage, told)
    assert [check for check in told.checks if not check["ok"]] == []
    assert {"one_dead", "other_serves", "gone_by_the_other"} <= names(told)


def test_assignment_stays_when_one_of_two_servers_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permission sets: a refused removal is told, tried on and proven by either server; then one is
    killed, and the other removes the assignment and cuts the session.
    """
    told = Telling(quiet=True, began=0.0)
    with CenterStage(tmp_path, POSTGRESQL) as stage:
        demo_break.first_grant(stage, told)
        monkeypatch.setattr(demo_break, "WINDOW", WINDOW)
        demo_break.one_left(stage, told)
    assert [check for check in told.checks if not check["ok"]] == []
    assert {"rung_denied", "one_dead", "other_closes", "pack_by_the_other"} <= names(told)


def names(told: Telling) -> set[str]:
    """What was checked."""
    return {check["check"] for check in told.checks}
