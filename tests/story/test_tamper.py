"""Somebody with the server's disk edits the evidence: the commands an auditor runs find it."""

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ORIGIN, World
from tidegate.evidence.note import parse_signer
from tidegate.main.first import make_installation
from tidegate.main.sandbox_stage import BIN


def tidegate(*words: str) -> tuple[int, dict[str, object]]:
    """A local command's exit code and its JSON."""
    done = subprocess.run(
        [str(BIN / "tidegate"), *words, "--json"], capture_output=True, text=True, check=False
    )
    text = done.stdout.strip() or done.stderr.strip()
    assert "Traceback" not in done.stderr
    found = json.loads(text)
    return done.returncode, found if isinstance(found, dict) else {"rows": found}


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """An installation with one whole life in it, a checkpoint and a backup from its middle."""
    home = tmp_path / "home"
    made = make_installation(home, ORIGIN)
    world = World(home, signer=parse_signer((home / "keys" / "log.key").read_text()))
    world.granted()
    (tmp_path / "old.checkpoint").write_text(world.house.store.head().checkpoint_text)
    world.down()
    shutil.copytree(home, tmp_path / "backup")
    world.up()
    world.clock.forward(minutes=31)
    world.work()
    (tmp_path / "new.checkpoint").write_text(world.house.store.head().checkpoint_text)
    world.down()
    return made.config


def altered(config: Path, change: Callable[[sqlite3.Connection], object]) -> None:
    """Change the database behind Tidegate's back."""
    with sqlite3.connect(config.parent / "tidegate.db") as db:
        change(db)
    db.close()


def test_sound_log_is_doubted(installation: Path, tmp_path: Path) -> None:
    """An untouched log verifies, against an older checkpoint too, and its rows equal its events."""
    code, report = tidegate(
        "evidence",
        "verify",
        "--config",
        str(installation),
        "--since",
        str(tmp_path / "old.checkpoint"),
    )
    assert (code, report["ok"]) == (0, True)
    assert tidegate("evidence", "rebuild", "--check", "--config", str(installation))[0] == 0


VOTED = "(select min(idx) from events where name = 'request.voted')"
CHANGED = "replace(cast(bytes as text), 'approve', 'approvE')"
EDITS = {
    "edited": f"update event_bytes set bytes = cast({CHANGED} as blob) where idx = {VOTED}",
    "edited as text": f"update event_bytes set bytes = {CHANGED} where idx = {VOTED}",
    "dropped": f"delete from event_bytes where idx = {VOTED}",
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_edited_event_passes(installation: Path, edit: str) -> None:
    """An event edited or dropped in the database is found, and the first bad one is named."""
    with sqlite3.connect(installation.parent / "tidegate.db") as db:
        (first_bad,) = db.execute(f"select {VOTED}").fetchone()
    altered(installation, lambda db: db.execute(edit))
    code, report = tidegate("evidence", "verify", "--config", str(installation))
    assert (code, report["ok"]) == (5, False)
    assert report["findings"][0]["idx"] == first_bad  # type: ignore[index]


def test_edited_row_passes(installation: Path) -> None:
    """A row changed without an event is found by rebuilding (I7)."""
    altered(installation, lambda db: db.execute("update grants set principal = 'pr_other'"))
    code, _ = tidegate("evidence", "rebuild", "--check", "--config", str(installation))
    assert code == 5


def test_restored_backup_passes(installation: Path, tmp_path: Path) -> None:
    """A database put back to an earlier state verifies alone, saying what it cannot exclude, and is
    found against a checkpoint somebody remembered.
    """
    backup = tmp_path / "backup" / installation.name
    code, report = tidegate("evidence", "verify", "--config", str(backup))
    assert code == 0
    assert report["cannot_exclude"]
    code, report = tidegate(
        "evidence", "verify", "--config", str(backup), "--since", str(tmp_path / "new.checkpoint")
    )
    assert (code, report["ok"]) == (5, False)


def test_history_signed_again_with_the_real_key_passes(installation: Path, tmp_path: Path) -> None:
    """Another history under the real key is sound alone, and found against an old checkpoint."""
    home = tmp_path / "forged"
    shutil.copytree(installation.parent, home)
    for name in ("tidegate.db", "tidegate.db-wal", "tidegate.db-shm", "closing.journal"):
        (home / name).unlink(missing_ok=True)
    world = World(home, signer=parse_signer((home / "keys" / "log.key").read_text()))
    world.granted("eve")
    world.clock.forward(minutes=31)
    world.work()
    world.down()
    config = str(home / installation.name)
    assert tidegate("evidence", "verify", "--config", config)[0] == 0
    since = str(tmp_path / "old.checkpoint")
    assert tidegate("evidence", "verify", "--config", config, "--since", since)[0] == 5
