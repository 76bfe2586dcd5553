"""What `recover` cannot know: a copy that is none, is old or cannot be read, and what it names."""

import io
import shutil
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.assigned import KEY, assign, elsewhere, settle
from tests.flow.test_recalling import OWN, lines
from tests.main.conftest import PASSWORD
from tests.main.test_emergency import QUICK, config, database, owed, run, tell
from tests.main.test_recover_known import copy_of
from tests.main.test_running import aws
from tests.support import START, World
from tidegate.base.errors import AskedWrongly
from tidegate.base.when import wire
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.witness import publish_to_directory
from tidegate.flow.gathering import gather
from tidegate.flow.recalling import Fate, Recalled
from tidegate.flow.reconciling import reconcile_some
from tidegate.grant import GrantState
from tidegate.main import local
from tidegate.main.config import load_config
from tidegate.main.emergency import read_journals, recover
from tidegate.main.unknown import came_back
from tidegate.main.wiring import clock, open_store
from tidegate.shell.cli.local import Account

__all__ = ["config"]
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2"


def tar_of_a_dump() -> bytes:
    """What `pg_dump -Ft` makes begins like this."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("toc.dat"))
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"grants: none\n", "no database"),
        (bytes(range(256)) * 40, "no database"),
        (b"", "no database"),
        (b"PGDMP\x01\x0e\x00" + bytes(100), "a dump"),
        (b"--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\n", "a dump"),
        (tar_of_a_dump(), "a dump"),
    ],
)
def test_named_file_that_is_no_database_is_passed_over(
    config: Path, tmp_path: Path, content: bytes, what: str
) -> None:
    """Refused before anything is done, with what it is and what to name for a dump."""
    owed(config.parent / "closing.journal")
    before = (config.parent / "closing.journal").read_bytes()
    named = tmp_path / "backup"
    named.write_bytes(content)
    with pytest.raises(AskedWrongly, match=f"got {what}") as told:
        run(config, database=[str(named)])
    assert "a dump is restored into a database of its own first" in told.value.help
    assert (config.parent / "closing.journal").read_bytes() == before


def test_named_directory_is_passed_over(config: Path, tmp_path: Path) -> None:
    """The nearest slip; and `pg_dump -Fd` makes one too."""
    with pytest.raises(AskedWrongly, match="got no file"):
        run(config, database=[str(tmp_path)])


@pytest.mark.parametrize("named", ["its server is away", "it is another program's"])
def test_named_copy_that_cannot_be_read_passes_for_read(
    config: Path, tmp_path: Path, named: str
) -> None:
    """The journals are gone by, what is overdue is closed, and it is no success: what that copy
    would have said is not known. It is said first.
    """
    owed(config.parent / "closing.journal")
    where = NOWHERE
    if named != "its server is away":
        where = str(tmp_path / "other.db")
        with closing(sqlite3.connect(where)) as db:
            db.execute("CREATE TABLE cakes (name TEXT)")
    told = run(config, database=[where])
    assert [one["fate"] for one in told["grants"]] == ["removed"]  # type: ignore[attr-defined]
    assert (told["ok"], told["copy_unread"], told["blind"]) == (False, True, False)
    assert told["unknown"][0].startswith("what the copy that was named says")  # type: ignore[index]
    assert where in told["unknown"][0]  # type: ignore[index]
    assert any("type the same again" in one for one in told["next"])  # type: ignore[attr-defined]


def witnessed_later(config: Path, witness: Path) -> bytes:
    """The log goes on after a backup, and a witness has it. The backup."""
    backup = database(config).read_bytes()
    local.account_add(config, Account(login="late", password=PASSWORD))
    witness.mkdir()
    store = open_store(load_config(config))
    publish_to_directory(witness, store.head().checkpoint_text)
    store.close()
    return backup


@pytest.mark.parametrize("named", [True, False])
def test_old_copy_alone_passes_for_all_there_is(config: Path, tmp_path: Path, named: bool) -> None:
    """The journals are lost and the copy is one that was named, or lacks what was witnessed: what
    was opened since is not known, so nothing is called closed.
    """
    witness = tmp_path / "witness"
    backup = witnessed_later(config, witness)
    for file in (*config.parent.glob("*.db*"), *config.parent.glob("closing.journal*")):
        file.unlink()
    there = tmp_path / "backup.db" if named else config.parent / "tidegate.db"
    there.write_bytes(backup)
    sources = {"database": [str(there)]} if named else {"witness": [str(witness)]}
    told = run(config, **sources)
    assert (told["ok"], told["blind"]) == (False, True)
    assert "no journal here has a line" in told["unknown"][0]  # type: ignore[index]
    assert "--from journal=FILE" in told["next"][0]  # type: ignore[index]


def test_own_database_alone_passes_for_an_old_copy(config: Path) -> None:
    """It is there and nothing says that it lacks anything: no grant, and nothing to close. Named
    by its path it is the same one.
    """
    for file in config.parent.glob("closing.journal*"):
        file.unlink()
    for sources in ({}, {"database": [str(database(config))]}):
        told = run(config, **sources)
        assert (told["ok"], told["blind"]) == (True, False)


def test_grants_opened_after_a_copy_are_not_called_unknown(config: Path, tmp_path: Path) -> None:
    """A copy at hand knows nothing of what came after it, and neither do the journals of others:
    that is said with a copy as without one, and names no journal that has no line.
    """
    own, other = config.parent / "closing.journal", tmp_path / "other.journal"
    backup = tmp_path / "backup.db"
    shutil.copy(database(config), backup)
    own.touch(0o600)
    owed(other)
    said = " ".join(
        run(config, database=[str(backup)], journal=[str(other)], witness=[])["unknown"]
    )  # type: ignore[arg-type]
    (line,) = [
        one
        for one in run(config, database=[str(backup)], journal=[str(other)])["unknown"]  # type: ignore[attr-defined]
        if "by a process whose journal is not among these" in one
    ]
    assert line.startswith("grants opened after 20") and f"`{other}`" in line
    assert "grants that no journal here names, requests, votes" in said


@pytest.mark.parametrize("empty", [True, False])
def test_journal_without_a_line_is_named_as_one_that_tells(config: Path, empty: bool) -> None:
    """With no copy: no journal was read, or the one that was has nothing."""
    for file in (*config.parent.glob("*.db*"), *config.parent.glob("closing.journal*")):
        file.unlink()
    own = config.parent / "closing.journal"
    if empty:
        own.touch(0o600)
    said: list[str] = list(run(config)["unknown"])  # type: ignore[call-overload]
    assert "no journal was read that has a line, so no process's grants can be known" in said
    own_is = "own journal at" if empty else "no journal of its own at"
    assert any(own_is in one for one in said)
    assert not any("whose journal is not among these" in one for one in said)


def test_older_latest_hides_a_newer_checkpoint(config: Path, tmp_path: Path) -> None:
    """`latest` was put back with the backup; the checkpoint beside it says how long the log was."""
    witness = tmp_path / "witness"
    witness.mkdir()
    store = open_store(load_config(config))
    publish_to_directory(witness, store.head().checkpoint_text)
    store.close()
    old = (witness / "latest").read_bytes()
    later = tmp_path / "later"
    backup = tmp_path / "backup.db"
    backup.write_bytes(witnessed_later(config, later))
    for one in later.glob("checkpoint-*"):
        shutil.copy(one, witness / one.name)
    (witness / "latest").write_bytes(old)
    told = run(config, database=[str(backup)], witness=[str(witness)])
    assert any("1 events are missing" in one for one in told["unknown"])  # type: ignore[attr-defined]


@pytest.fixture
def returned(world: World) -> World:
    """Access that came back after its end was proven, and that another machine could not close."""
    assign(world)
    grant = world.granted()
    while world.grant(grant).state is not GrantState.GONE:
        settle(world, 1)
    world.cloud.place(KEY, world.clock(), by="sync")
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=1000))
    with elsewhere(world):
        while not world.house.store.findings():
            world.clock.forward(minutes=1)
            world.work()
            reconcile_some(world.house, 10)
    return world


def test_access_that_the_copy_says_came_back_is_not_told(
    returned: World, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its grant is gone by journal and log, and the log's open finding says that it is there again:
    named, with where to read on, and no success.
    """
    (finding,) = returned.house.store.findings()
    assert finding.live
    copy = copy_of(returned)
    monkeypatch.setattr("tidegate.main.emergency.read_copy", lambda *_: copy)
    told = run(config)
    assert (told["ok"], told["lost"], told["grants"]) == (False, 1, [])
    (said,) = [one for one in told["unknown"] if finding.id in one]  # type: ignore[attr-defined]
    assert f"tidegate findings show {finding.id}" in said and finding.grant in said


@pytest.mark.parametrize(("later", "told"), [(1, 0), (-1, 1)])
def test_access_that_was_removed_since_is_told_as_come_back(
    returned: World, later: int, told: int
) -> None:
    """A journal says that it was removed after the finding was last seen; before says nothing."""
    world = returned
    (finding,) = world.house.store.findings()
    other = world.granted("eve")
    (owed,) = gather({OWN: lines(world)}, OWN, world.clock()).owed
    assert owed.hold.grant == other.id
    at = finding.last_seen_at + timedelta(seconds=later)
    removed = replace(owed, hold=replace(owed.hold, grant=finding.grant), done=True, removed_at=at)
    assert len(came_back(copy_of(world), [Recalled(owed=removed, fate=Fate.BEFORE)])) == told


@pytest.mark.parametrize("unnamed", [True, False])
def test_access_is_left_to_a_grant_that_nobody_knows_without_a_word(
    config: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    """One line alone says that another grant holds it: told where people look, and no fault."""
    owed(config.parent / "closing.journal")
    (due,) = gather(read_journals(load_config(config), ()).lines, "", START).owed
    held = replace(due, shared=True, unnamed=unnamed)
    back = [Recalled(owed=held, fate=Fate.HELD, why="another grant holds it")]
    monkeypatch.setattr("tidegate.main.emergency.recall", lambda *_, **__: back)
    told = run(config)
    said = [one for one in told["unknown"] if "is anybody's" in one]  # type: ignore[attr-defined]
    assert (told["ok"], len(said)) == (True, int(unnamed))


def test_mended_access_is_told_as_come_back(returned: World) -> None:
    """The finding was closed: it is over by the same copy."""
    world = returned
    world.connector.calm()
    while any(one.live for one in world.house.store.findings()):
        world.clock.forward(minutes=1)
        reconcile_some(world.house, 10)
    assert came_back(copy_of(world), []) == []


def test_dry_run_says_that_something_was_done(config: Path) -> None:
    """One end is due: nothing was done, so nothing is to be sealed; what to type is said."""
    owed(config.parent / "closing.journal")
    told = recover(config, {}, dry=True, patience=QUICK, tell=tell)
    assert [one["fate"] for one in told["grants"]] == [Fate.DUE]
    assert told["next"][0] == "type the same without `--dry-run`"
    assert not any("seals what was done" in one for one in told["next"])


def test_dry_run_writes(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither how targets are reached nor a place for locks, nor the journal."""
    monkeypatch.setenv("TIDEGATE_TEST_ID", "x")
    monkeypatch.setenv("TIDEGATE_TEST_KEY", "y")
    config.write_text(config.read_text() + aws("far"))
    owed(config.parent / "closing.journal")
    before = {one.name for one in config.parent.iterdir()}
    journal = ClosingJournal(config.parent / "closing.journal").read()
    recover(config, {}, dry=True, patience=QUICK, tell=tell)
    assert {one.name for one in config.parent.iterdir()} == before
    assert ClosingJournal(config.parent / "closing.journal").read() == journal


@pytest.mark.parametrize("by", ["journal", "copy"])
def test_clock_that_is_behind_calls_the_overdue_not_due(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """It came back ten hours slow: what ended an hour ago lies ahead. A line of a journal, or the
    log, has a later date than now: nothing ends early by that, and it is no success.
    """
    now, own = clock(), config.parent / "closing.journal"
    owed(own, ends_at=wire(now - timedelta(hours=1)))
    if by == "journal":
        owed(own, "gr_2", ends_at=wire(now + timedelta(days=40)))  # opened now
        for file in config.parent.glob("*.db*"):
            file.unlink()
    monkeypatch.setattr("tidegate.main.emergency.clock", lambda: now - timedelta(hours=10))
    told = run(config)
    assert {one["fate"] for one in told["grants"]} == {"not due"}  # type: ignore[attr-defined]
    assert told["ok"] is False
    assert told["clock_behind"] is True
    (said,) = [one for one in told["unknown"] if "this machine's clock" in one]  # type: ignore[attr-defined]
    assert wire(now - timedelta(hours=10)) in said
    assert (f"`{own}`" if by == "journal" else "tidegate.db") in said
    assert told["next"][0] == "set this machine's clock right, and type the same again"  # type: ignore[index]


def test_clock_that_is_right_is_called_behind(config: Path) -> None:
    """Lines of today, and a log whose last event is seconds old."""
    owed(config.parent / "closing.journal", ends_at=wire(clock() + timedelta(days=40)))
    told = run(config)
    assert (told["ok"], told["clock_behind"]) == (True, False)


@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize("by", ["nothing", "own database", "own database that is outgrown"])
def test_other_machines_journal_passes_for_our_own(
    config: Path, tmp_path: Path, by: str, empty: bool
) -> None:
    """Ours is on a disk that is not mounted. What it opened is known by the installation's own
    database alone, and by that only where no witness has more.
    """
    own, other, witness = (
        config.parent / "closing.journal", tmp_path / "b.journal", tmp_path / "witness",
    )  # fmt: skip
    own.unlink(missing_ok=True)
    if empty:
        own.touch(0o600)
    owed(other)
    sources = {"journal": [str(other)]}
    if by == "nothing":
        for file in config.parent.glob("*.db*"):
            file.unlink()
    elif by != "own database":
        backup = witnessed_later(config, witness)
        for file in config.parent.glob("*.db*"):
            file.unlink()
        (config.parent / "tidegate.db").write_bytes(backup)
        sources |= {"witness": [str(witness)]}
    told = run(config, **sources)
    known = by == "own database"
    assert [one["fate"] for one in told["grants"]] == ["removed"]  # type: ignore[attr-defined]
    assert (told["ok"], told["unread"]) == (known, int(not known))
    (said,) = [one for one in told["unknown"] if f"`{own}`" in one]  # type: ignore[attr-defined]
    assert "mount" in said
    assert any("this machine's journal" in one for one in told["next"]) is not known  # type: ignore[attr-defined]
