"""One stage for all stories: the sandbox cloud and the server as real processes, reached over HTTP
and through the installed command line, as a person would.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.main.sandbox_stage import Stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A running installation with ana, bo and cy signed in."""
    with Stage(Path(tmp_path_factory.mktemp("stage"))) as made:
        yield made


def granted(stage: Stage, person: str = "ana", window: str = "10m") -> dict[str, str]:
    """An open grant of the sandbox's administrator role."""
    held = stage.tidegate(person, "grants", "--state", "open", "--json").json()
    for old in held["grants"]:  # a story begins without what an earlier one left open
        assert stage.tidegate(person, "done", old["id"]).code == 0
    words = ("--for", window, "--reason", "a story", "--ticket", "INC-1", "--json")
    asked = stage.tidegate(person, "request", "aws-demo/admin", *words).json()
    voted = stage.tidegate("bo", "approve", asked["id"], "--yes", "--json")
    assert voted.code == 0, voted
    grant = stage.wait_for(person, asked["id"], "open", "failed")
    assert grant["state"] == "open", grant
    return grant


def sessions(stage: Stage, grant: str) -> int:
    """How many session events the evidence of a grant holds."""
    told = stage.tidegate("bo", "evidence", "list", grant)
    assert told.code == 0, told
    return told.out.count("session.issued")
