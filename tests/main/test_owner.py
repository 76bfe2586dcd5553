"""Commands of that night, typed by another user than the one the server runs as."""

import errno
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.main.test_emergency import QUICK, config, owed
from tests.main.test_running import aws
from tidegate.base.when import Instant
from tidegate.connectors.port import Hold, Receipt
from tidegate.connectors.simulated import SimulatedConnector
from tidegate.main import owner
from tidegate.main.clouds import Clouds
from tidegate.main.config import load_config
from tidegate.main.emergency import recover
from tidegate.main.owner import given_to_owner
from tidegate.main.panicking import panic_here

__all__ = ["config"]
THEIRS = (4242, 4243)
PANICS = ("closing.journal.panics", "closing.journal.panics.lock")
LOCK = f"{'a' * 32}.lock"
Given = dict[str, tuple[int, int]]


@pytest.fixture
def given(config: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """The installation is somebody else's, and we are root: what was given to whom, by its name."""
    monkeypatch.setattr(owner, "_owner", lambda _: THEIRS)
    found: Given = {}

    def chown(fd: int, uid: int, gid: int) -> None:
        found[Path(os.readlink(f"/proc/self/fd/{fd}")).name] = (uid, gid)

    monkeypatch.setattr(os, "fchown", chown)
    for file in (*config.parent.glob("*.db*"), *config.parent.glob("closing.journal*")):
        file.unlink()
    Clouds().connect(load_config(config))  # a server ran here
    return found


def panic(config: Path) -> list[str]:
    """Everything, with no database; what was said of owners."""
    said: list[str] = []
    told = panic_here(config, "all", "", "night", None, patience=QUICK, tell=said.append)
    heard = [line for line in said if "whose the installation is" in line]
    assert heard == told["owner"]  # a script hears no other word of it
    return heard


def test_panic_of_root_shuts_everything(config: Path, given: Given) -> None:
    """The panic it leaves is the service's to read, and that is said in a line."""
    line = panic(config)[0]
    assert given == dict.fromkeys(PANICS, THEIRS)
    assert line.startswith("given to `#4242`") and "closing.journal.panics`" in line


def test_panic_is_the_services_only_after_everything_ended(
    config: Path, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends may take ten minutes, and nothing opens anywhere while it cannot be read."""
    seen: list[Given] = []
    monkeypatch.setattr(
        "tidegate.main.panicking.recall", lambda *_, **__: seen.append(dict(given)) or []
    )
    panic(config)
    assert seen == [dict.fromkeys(PANICS, THEIRS)]


def test_recover_of_root_leaves_what_the_service_cannot_use(
    config: Path, given: Given, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A first journal with its lock, how targets are reached, and the place for locks."""
    monkeypatch.setenv("TIDEGATE_TEST_ID", "x")
    monkeypatch.setenv("TIDEGATE_TEST_KEY", "y")
    config.write_text(config.read_text() + aws("far"))
    other = tmp_path / "other.journal"
    owed(other)
    said: list[str] = []
    told = recover(config, {"journal": [str(other)]}, dry=False, patience=QUICK, tell=said.append)
    made = ("closing.journal", "closing.journal.lock", "reached.json", "locks")
    assert given == dict.fromkeys(made, THEIRS)
    assert [line for line in said if "given to" in line] == told["owner"]
    assert len(told["owner"]) == 1


def test_what_was_there_before_changes_hands(config: Path, given: Given) -> None:
    """A file that this command did not make stays whose it is; that the service may not read it is
    told, for what made it may have been killed before it could give it.
    """
    journal = config.parent / "closing.journal"
    owed(journal)
    said: list[str] = []
    recover(config, {}, dry=False, patience=QUICK, tell=said.append)
    assert given == {}
    assert any("closing.journal" in line and "cannot be given" in line for line in said)


def test_link_in_the_owners_directory_gives_away_another_file(
    config: Path, given: Given, tmp_path: Path
) -> None:
    """Whose directory it is may put links there: no file is given away under another name."""
    other, name = tmp_path / "shadow", config.parent / "closing.journal.panics"
    other.touch()
    with given_to_owner(load_config(config), lambda _: None):
        name.symlink_to(other)
    name.unlink()
    with given_to_owner(load_config(config), lambda _: None):
        os.link(other, name)
    assert given == {}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory of root's elsewhere, with a file that is named as a lock is, and another."""
    made = tmp_path / "etc"
    made.mkdir()
    (made / LOCK).touch()
    (made / "passwd").touch()
    return made


def test_link_in_place_of_locks_gives_away_other_files(
    config: Path, given: Given, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put there while files are given: at the first that is, as whoever wins the race would."""
    locks, chown, seen = config.parent / "locks", os.fchown, list[Path]()
    locks.mkdir()

    def swap(fd: int, uid: int, gid: int) -> None:
        seen.append(Path(os.readlink(f"/proc/self/fd/{fd}")))
        if not locks.is_symlink():
            locks.rename(locks.with_name("locks.x"))
            locks.symlink_to(victim)
        chown(fd, uid, gid)

    monkeypatch.setattr(os, "fchown", swap)
    with given_to_owner(load_config(config), lambda _: None):
        (config.parent / "closing.journal").touch()
        (locks / LOCK).touch()
    assert seen == [config.parent / "closing.journal", config.parent / "locks.x" / LOCK]


def test_locks_that_are_a_link_give_away_other_files(
    config: Path, given: Given, victim: Path
) -> None:
    """It is there from the start, or instead of the directory that was to be made."""
    locks = config.parent / "locks"
    for early in (True, False):
        with ExitStack() as block:
            if not early:
                block.enter_context(given_to_owner(load_config(config), lambda _: None))
            locks.symlink_to(victim)
            if early:
                block.enter_context(given_to_owner(load_config(config), lambda _: None))
            (victim / f"{'b' * 32}.lock").touch()
        locks.unlink()
        (victim / f"{'b' * 32}.lock").unlink()
    assert given == {}


def test_other_file_of_root_is_given_away_in_the_owners_directory(
    config: Path, given: Given
) -> None:
    """No lock's name, a lock that holds something, and what was there under another name."""
    locks, kept = config.parent / "locks", config.parent / "kept"
    locks.mkdir()
    kept.touch()
    with given_to_owner(load_config(config), lambda _: None):
        (locks / "passwd").touch()
        (locks / LOCK).write_text("a secret")
        kept.rename(config.parent / "closing.journal.panics")
    assert given == {}


def test_journal_is_the_services_only_after_everything_ended(
    config: Path, given: Given, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever typed it may be cut off meanwhile: it is given before a cloud is asked."""
    other, seen, real = tmp_path / "other.journal", list[Given](), SimulatedConnector.revoke
    owed(other)

    def asked(self: SimulatedConnector, hold: Hold, now: Instant) -> Receipt:
        seen.append(dict(given))
        return real(self, hold, now)

    monkeypatch.setattr(SimulatedConnector, "revoke", asked)
    recover(config, {"journal": [str(other)]}, dry=False, patience=QUICK, tell=lambda _: None)
    assert seen[0] == dict.fromkeys(("closing.journal", "closing.journal.lock"), THEIRS)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_dropped_session_leaves_roots_files(
    config: Path, given: Given, number: signal.Signals
) -> None:
    """It ends as by Ctrl-C, after what was made was given; and signals are then as they were."""

    def mine(*_: object) -> None:
        """It must not end the tests."""

    before = signal.signal(number, mine)
    try:
        with pytest.raises(KeyboardInterrupt), given_to_owner(load_config(config), lambda _: None):
            (config.parent / "closing.journal").touch()
            signal.raise_signal(number)
        assert given == {"closing.journal": THEIRS}
        assert signal.getsignal(number) is mine
    finally:
        signal.signal(number, before)


def test_session_that_nohup_keeps_is_ended(config: Path, given: Given) -> None:
    """What is ignored stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with given_to_owner(load_config(config), lambda _: None):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_file_that_cannot_be_given_is_told_nowhere(
    config: Path, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We are not root, or the disk has it otherwise: closing goes on, and what to type is said."""

    def refused(fd: int, uid: int, gid: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    line = panic(config)[-1]
    assert "cannot be given to `#4242`" in line
    assert "sudo chown #4242" in line and "sudo -u #4242" in line


def test_owner_of_the_journal_is_taken_for_root(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where root made the directory, whoever writes the journal is who serves."""
    owed(config.parent / "closing.journal")
    real, theirs = Path.stat, {config.parent / "closing.journal": THEIRS}

    def seen(path: Path, **more: bool) -> os.stat_result:
        told = list(real(path, **more))
        told[4:6] = theirs.get(path, (0, 0))
        return os.stat_result(told)

    monkeypatch.setattr(Path, "stat", seen)
    assert owner._owner(load_config(config)) == THEIRS
    theirs.clear()
    assert owner._owner(load_config(config)) == (os.geteuid(), os.getegid())
