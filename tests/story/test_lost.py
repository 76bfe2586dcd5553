"""The night the database is gone: the commands of that night, typed against a cloud that decides by
itself what it refuses.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.story.conftest import granted
from tests.story.test_longer import used_directly
from tidegate.main.sandbox_stage import BIN, Stage, Told


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Stage]:
    """A stage that nobody else uses: its server is killed, and its database taken away."""
    with Stage(tmp_path) as made:
        yield made


def on_the_machine(stage: Stage, *words: str) -> Told:
    """A command typed where the server ran, with the keys the server had."""
    config = ("--config", str(stage.servers[0].config), "--json")
    return stage._run([str(BIN / "tidegate"), *words, *config], "op", stage.secrets())


def test_keys_work_on_after_the_server_was_killed_and_its_database_lost(alone: Stage) -> None:
    """A panic on the machine ends what is open by the journal alone, recover has nothing left to
    do and says what cannot be known, and the server seals it once the database is put back.
    """
    stage = alone
    grant = granted(stage)
    given = stage._run([str(BIN / "tidegate-credentials"), grant["id"]], "ana", {}).json()
    keys = [given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]]
    assert used_directly(stage, keys) == "works"
    stage.stop_server(signal.SIGKILL)
    lost = stage.directory / "lost"
    lost.mkdir()
    home = stage.servers[0].home
    for file in home.glob("tidegate.db*"):
        file.rename(lost / file.name)
    dry = on_the_machine(stage, "recover", "--dry-run")
    assert (dry.code, dry.json()["counts"]["not due"]) == (0, 1), dry
    panic = on_the_machine(stage, "revoke", "--all", "--local", "--yes")
    assert (panic.code, panic.json()["removed"]) == (4, 1), panic  # others may have opened more
    assert "AccessDenied" in used_directly(stage, keys)
    told = on_the_machine(stage, "recover", "--from", f"database={lost / 'tidegate.db'}")
    assert told.code == 0, told
    assert [one["fate"] for one in told.json()["grants"]] == ["removed before"]
    assert any("cannot be known" in one for one in told.json()["unknown"])
    for file in lost.iterdir():
        file.rename(home / file.name)
    stage.start_server()
    ended = stage.wait_for("ana", grant["id"], "gone")
    assert (ended["state"], ended["end_reason"]) == ("gone", "panic"), ended
    sealed = stage.tidegate("bo", "evidence", "list", grant["id"])
    assert "journal.sealed" in sealed.out, sealed
