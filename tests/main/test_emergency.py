"""recover and a panic on the machine: what they say when the database is gone or an older one."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from tests.main.conftest import TARGET
from tests.support import START
from tidegate.base.errors import AskedWrongly
from tidegate.base.when import wire
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.flow.panicking import resume
from tidegate.flow.stopping import stop_says, stopped
from tidegate.main import local
from tidegate.main.config import load_config
from tidegate.main.emergency import panic_here, recover
from tidegate.main.wiring import open_house
from tidegate.panic import PanicState
from tidegate.shell.cli.local import Account

QUICK = timedelta(seconds=5)


def tell(line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An installation with a database and an operator."""
    account = Account(login="op", password="correct horse battery staple")
    local.init(tmp_path / "here", "test.tidegate.invalid/log", [account])
    made = tmp_path / "here" / "tidegate.toml"
    made.write_text(made.read_text() + TARGET)
    return made


def owed(path: Path, grant: str = "gr_1") -> None:
    """A journal in which a grant is long overdue."""
    data = {
        "request": "rq_1",
        "principal": "pr_1",
        "target": "prod",
        "connector": "simulated",
        "account": "123456789012",
        "role": "prod/admin",
        "kind": "iam-role",
        "native": {"arn": "arn:aws:iam::123456789012:role/admin"},
        "allows": [],
        "probe": "",
        "native_role": "arn:aws:iam::123456789012:role/admin",
        "native_principal": grant,
        "ends_at": wire(START - timedelta(days=90)),
        "stood_before": False,
        "lingers_seconds": 0,
    }
    line = JournalLine(kind="intended", grant=grant, at=START - timedelta(days=90), data=data)
    ClosingJournal(path).append(line)


def run(config: Path, **sources: list[str]) -> dict[str, object]:
    """Recover, for good."""
    return dict(recover(config, sources, dry=False, patience=QUICK, tell=tell))


def database(config: Path) -> Path:
    """The database file."""
    (found,) = config.parent.glob("*.db")
    return found


def test_recover_needs_a_database(config: Path, tmp_path: Path) -> None:
    """Settings, key and a journal are enough; it says that nothing is known of the rest."""
    for file in config.parent.glob("*.db*"):
        file.unlink()
    other = tmp_path / "other.journal"
    owed(other)
    told = run(config, journal=[str(other)])
    assert told["ok"] is True
    said = " ".join(told["unknown"])  # type: ignore[arg-type]
    assert "no copy of the log" in said and "cannot be known" in said
    assert [one["fate"] for one in told["grants"]] == ["removed"]  # type: ignore[attr-defined]


def test_missing_events_are_not_counted(config: Path, tmp_path: Path) -> None:
    """An older copy and a newer witness: how many events are missing, and since when."""
    witness = tmp_path / "witness"
    witness.mkdir()
    backup = tmp_path / "backup.db"
    shutil.copy(database(config), backup)
    local.account_add(config, Account(login="late", password="correct horse battery staple"))
    from tidegate.evidence.witness import publish_to_directory
    from tidegate.main.wiring import open_store

    store = open_store(load_config(config))
    publish_to_directory(witness, store.head().checkpoint_text)
    size = store.head().size
    store.close()
    told = run(config, database=[str(backup)], witness=[str(witness)])
    (said,) = [one for one in told["unknown"] if "events are missing" in one]  # type: ignore[attr-defined]
    assert f"{size} were witnessed" in said and "accounts disabled since" in said


def test_misspelt_source_is_passed_over(config: Path) -> None:
    """A source that is not there is an error: it might hold the one grant that matters."""
    for sources in ({"journal": ["/nowhere"]}, {"database": ["/nowhere.db"]}):
        with pytest.raises(AskedWrongly):
            run(config, **sources)


def test_panic_on_the_machine_needs_a_server(config: Path) -> None:
    """No server runs: sealed as a panic of the machine; nothing was open, so it is safe."""
    told = panic_here(config, "all", "", "night", None, patience=QUICK, tell=tell)
    assert told["sealed"] and told["safe"] and str(told["id"]).startswith("pn_")


def test_panic_without_a_database_is_called_safe(config: Path) -> None:
    """The journal's grants are closed, and what it does not hold keeps the word `safe` away."""
    for file in config.parent.glob("*.db*"):
        file.unlink()
    (journal,) = [config.parent / "closing.journal"]
    owed(next(config.parent.glob("*.journal"), journal))
    told = panic_here(config, "all", "", "", None, patience=QUICK, tell=tell)
    assert (told["removed"], told["closing"], told["safe"]) == (1, 0, False)


def test_panic_without_a_database_is_forgotten(config: Path) -> None:
    """Called with no database at all: it waits on this machine, keeps its scope shut from the first
    moment of the next start, and is sealed with its freeze.
    """
    (file,) = config.parent.glob("*.db")
    away = file.with_name("away")
    file.rename(away)
    said: list[str] = []
    freeze = timedelta(hours=1)
    panic_here(config, "target", "prod", "night", freeze, patience=QUICK, tell=said.append)
    assert any("kept in" in line for line in said)
    with pytest.raises(AskedWrongly):
        panic_here(config, "all", "", "", timedelta(days=30), patience=QUICK, tell=tell)
    away.rename(file)
    house = open_house(load_config(config))
    stop = stopped(house, "pr_1", "prod/admin", house.now())
    assert stop is not None and stop_says(stop, house.now()).endswith(f"(`{stop.id}`)")
    resume(house)
    (sealed,) = house.store.panics()
    assert (sealed.id, sealed.via, sealed.name) == (stop.id, "machine", "prod")
    assert sealed.state is PanicState.SWEPT and sealed.frozen(house.now())
    assert stopped(house, "pr_1", "dev/admin", house.now()) is None
    house.store.close()
