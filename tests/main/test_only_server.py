"""One server on an installation on SQLite, with either of its disks away: it starts all the same,
and no second one does.
"""

from pathlib import Path

import pytest

from tests.main.conftest import ORIGIN, Home
from tests.main.test_running import forked_log
from tidegate.base.duty import workers
from tidegate.base.errors import AskedWrongly, EvidenceClosed, WorldFailed
from tidegate.base.fact import SYSTEM
from tidegate.evidence import witnesses
from tidegate.evidence.journal import ClosingJournal
from tidegate.flow.panicking import panic_unsealed
from tidegate.flow.panics_kept import Wanted
from tidegate.main import local
from tidegate.main.only_server import OnlyServer
from tidegate.main.wiring import publish, start
from tidegate.panic import Scope, ScopeKind


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
    assert any(one.shuts for one in first.troubles()) is (away == 0)
    with pytest.raises(AskedWrongly) as told:
        server(disks).hold()
    assert told.value.code == "already_running"
    disks[away].parent.mkdir()
    first.hold_again()
    first.hold_again()
    assert not [*first.troubles()]
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
    assert not [*first.troubles()]
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
        assert not [*one.troubles()]
        one.release()


AWAY = f'[evidence]\norigin = "{ORIGIN}"\njournal = "disk/closing.journal"\n'


def test_server_whose_journal_is_away_does_not_start_or_opens(home: Home) -> None:
    """It starts by its database, opens nothing until the journal can be had, and says why: what it
    may name is not known, which is no empty journal. Others are told so.
    """
    home.write("tidegate.toml", AWAY)
    running = start(home.config)
    house = running.house
    try:
        (trouble,) = house.outside(house.now())
        assert (trouble.code, trouble.shuts) == ("journal_away", True)
        assert "disk/closing.journal.held" in trouble.message
        assert not house.looked_back
        running.worker._beat()
        assert [one.reads for one in workers(house.store.beats())] == [False]
        (home.directory / "disk").mkdir()
        running.only.hold_again()
        assert not [one for one in house.outside(house.now()) if one.shuts]
        running.worker._look_at_journal()
        running.worker._beat()
        assert house.looked_back
        assert [one.reads for one in workers(house.store.beats())] == [True]
    finally:
        running.close()


def test_journal_that_is_away_hides_a_forked_log(home: Home) -> None:
    """An older database was put back as well: no credential is made, and no deny pruned, by it."""
    forked_log(home).store.close()
    home.write("tidegate.toml", AWAY + '[witness]\ndirectory = "witness"\n')
    running = start(home.config)
    try:
        codes = {one.code for one in running.house.outside(running.house.now())}
        assert codes == {"journal_away", "log_forked"}
        assert running.house.forked(running.house.now()) is not None
    finally:
        running.close()


def test_witness_makes_the_directory_of_a_journal_that_is_away(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an address took is kept beside the journal; it is not sent anything meanwhile, and the
    journal stays away, which is no empty one.
    """
    sent: list[str] = []
    monkeypatch.setattr(witnesses, "publish_over_http", lambda url, note: sent.append(note))
    home.write("tidegate.toml", AWAY + '[witness]\nurl = "https://witness.invalid/"\n')
    running = start(home.config)
    house = running.house
    try:
        with pytest.raises(WorldFailed, match="No such directory"):
            publish(house, running.witness)
        running.worker._look_at_journal()
        assert not house.looked_back and not (home.directory / "disk").exists()
        everybody = Wanted(scope=Scope(kind=ScopeKind.ALL), by=SYSTEM, via="cli")
        with pytest.raises(EvidenceClosed) as told:
            panic_unsealed(house, everybody)
        assert told.value.code == "nothing_writable"
        (home.directory / "disk").mkdir()
        publish(house, running.witness)
        assert len(sent) == 1
    finally:
        running.close()


def test_key_change_on_a_shared_database_blames_us_for_a_disk_that_is_away(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where several machines share the database: what is away is told, nothing is changed."""
    home.write("tidegate.toml", AWAY)
    monkeypatch.setattr(local, "database_path", lambda found: None)
    with pytest.raises(WorldFailed, match="closing journal cannot be held") as told:
        local.key_rotate(home.config)
    assert told.value.code == "journal_away"


def test_key_is_changed_beside_a_server_whose_journal_is_away(home: Home) -> None:
    """The server holds the database; and with no server, nothing is changed half."""
    home.write("tidegate.toml", AWAY)
    with pytest.raises(WorldFailed, match="closing journal cannot be held"):
        local.key_rotate(home.config)
    running = start(home.config)
    try:
        (home.directory / "disk").mkdir()
        with pytest.raises(AskedWrongly) as told:
            local.key_rotate(home.config)
        assert told.value.code == "already_running"
    finally:
        running.close()
    assert local.key_rotate(home.config)["event"]


def test_server_that_waits_for_its_database_meets_another(disks: tuple[Path, Path]) -> None:
    """The disks changed places meanwhile, and another has the database: all is shut, and told."""
    journal, database = disks
    journal.parent.mkdir()
    first = server(disks)
    first.hold()
    journal.parent.rename(journal.parent.with_name("unmounted"))
    database.parent.mkdir()
    second = server(disks)
    second.hold()
    with pytest.raises(AskedWrongly):
        first.hold_again()
    assert "already_running" in {one.code for one in first.troubles() if one.shuts}
    second.release()
    first.hold_again()
    assert not [*first.troubles()]
    first.release()


def test_database_by_another_name_is_another_one(tmp_path: Path) -> None:
    """A link to it is the same installation."""
    (tmp_path / "tidegate.db").touch()
    (tmp_path / "link.db").symlink_to("tidegate.db")
    first = OnlyServer(ClosingJournal(tmp_path / "one.journal"), tmp_path / "tidegate.db")
    first.hold()
    with pytest.raises(AskedWrongly):
        OnlyServer(ClosingJournal(tmp_path / "two.journal"), tmp_path / "link.db").hold()
    first.release()
