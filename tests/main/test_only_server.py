"""One server on an installation on SQLite, with either of its disks away: it starts all the same,
and no second one does.
"""

from pathlib import Path

import pytest

from tests.main.conftest import ORIGIN, Home
from tidegate.base.errors import AskedWrongly, WorldFailed
from tidegate.evidence.journal import ClosingJournal
from tidegate.main.only_server import OnlyServer
from tidegate.main.wiring import start


@pytest.fixture
def disks(tmp_path: Path) -> tuple[Path, Path]:
    """Where the journal and the database belong; neither is mounted yet."""
    return tmp_path / "journal" / "closing.journal", tmp_path / "data" / "tidegate.db"


def server(disks: tuple[Path, Path]) -> OnlyServer:
    """A process that starts there."""
    journal, database = disks
    return OnlyServer(ClosingJournal(journal), database)


@pytest.mark.parametrize("away", [0, 1], ids=["journal", "database"])
def test_second_server_starts_while_a_disk_is_away(disks: tuple[Path, Path], away: int) -> None:
    """The first has the other one, and both once the disk is there; it frees what it has."""
    disks[1 - away].parent.mkdir()
    first = server(disks)
    first.hold()
    assert (first.trouble() is not None) is (away == 0)
    with pytest.raises(AskedWrongly) as told:
        server(disks).hold()
    assert told.value.code == "already_running"
    disks[away].parent.mkdir()
    first.hold_again()
    first.hold_again()
    assert first.trouble() is None
    for some in disks:
        with pytest.raises(AskedWrongly):
            OnlyServer(ClosingJournal(some), some).hold()
    first.release()
    second = server(disks)
    second.hold()
    second.release()


def test_server_refused_by_one_file_keeps_the_other(disks: tuple[Path, Path]) -> None:
    """Refused by the database's, it lets go of the journal's at once."""
    disks[1].parent.mkdir()
    first = server(disks)
    first.hold()
    disks[0].parent.mkdir()
    with pytest.raises(AskedWrongly, match="no other server"):
        server(disks).hold()
    first.hold_again()
    assert first.trouble() is None
    first.release()


def test_start_with_neither_disk_hangs_or_claims_to_close(disks: tuple[Path, Path]) -> None:
    """It says what is missing, and that nothing is closed."""
    with pytest.raises(WorldFailed) as told:
        server(disks).hold()
    assert told.value.code == "no_disk" and "nothing is closed" in told.value.help


def test_process_that_shares_its_database_is_refused(tmp_path: Path) -> None:
    """On PostgreSQL any number run, also beside one journal."""
    several = [OnlyServer(ClosingJournal(tmp_path / "closing.journal"), None) for _ in range(2)]
    for one in several:
        one.hold()
        one.hold_again()
        assert one.trouble() is None
        one.release()


def test_server_whose_journal_is_away_ends_nothing(home: Home) -> None:
    """It starts by its database, opens nothing until the journal can be had, and says why."""
    text = f'[evidence]\norigin = "{ORIGIN}"\njournal = "disk/closing.journal"\n'
    home.write("tidegate.toml", text)
    running = start(home.config)
    try:
        (trouble,) = running.house.outside(running.house.now())
        assert (trouble.code, trouble.shuts) == ("journal_away", True)
        (home.directory / "disk").mkdir()
        running.only.hold_again()
        assert not [one for one in running.house.outside(running.house.now()) if one.shuts]
    finally:
        running.close()
