"""recover and a witness that nobody can read: whether the log went on is not known then."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.main.test_emergency import config, owed, run
from tests.main.test_recover_unknown import witnessed_later
from tidegate.evidence.witness import remember
from tidegate.main.config import load_config
from tidegate.main.wiring import witness_memory

__all__ = ["config"]


def own_witness(config: Path) -> Path:
    """Where the installation keeps its checkpoints; there is none yet."""
    found = load_config(config)
    place = found.path(found.witness.directory)
    shutil.rmtree(place, ignore_errors=True)
    return place


def broken(place: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Nothing of what is kept there can be read, or `latest` alone."""
    if fault == "is not there":
        shutil.rmtree(place)
        return
    if fault == "damaged":
        for file in place.iterdir():
            file.write_bytes(b"\xff")
        return
    methods, number = {
        "may not be read": (("open",), errno.EACCES),
        "its disk is away": (("open", "stat"), errno.ESTALE),
        "its latest is damaged": (("open",), errno.EIO),
    }[fault]

    def away(real: Callable[..., object]) -> Callable[..., object]:
        def called(path: Path, *args: object, **more: object) -> object:
            if path == place / "latest" or (place in (path, path.parent) and "latest" not in fault):
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *args, **more)

        return called

    for method in methods:
        monkeypatch.setattr(Path, method, away(getattr(Path, method)))


FAULTS = ["is not there", "may not be read", "its disk is away", "damaged", "its latest is damaged"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("other", [True, False])
def test_witness_that_cannot_be_read_passes_for_one_that_has_no_more(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, other: bool
) -> None:
    """A backup is in place, and our journal is missing: what was opened since is not known, and
    nobody can say that nothing was.
    """
    witness = own_witness(config)
    backup = witnessed_later(config, witness)
    for file in (*config.parent.glob("*.db*"), *config.parent.glob("closing.journal*")):
        file.unlink()
    (config.parent / "tidegate.db").write_bytes(backup)
    if "latest" in fault:  # what is kept beside it was put back with the backup
        for file in witness.glob("checkpoint-*"):
            file.unlink()
    broken(witness, monkeypatch, fault)
    sources = {}
    if other:
        owed(tmp_path / "b.journal")
        sources = {"journal": [str(tmp_path / "b.journal")]}
    told = run(config, **sources)
    assert (told["ok"], told["unread"], told["blind"]) == (False, 1, not other)
    said: list[str] = list(told["unknown"])  # type: ignore[call-overload]
    assert any(one.startswith(f"witness `{witness}`: ") for one in said)
    assert other or "a witness that may have more cannot be read" in said[0]


def test_witness_that_has_nothing_makes_our_own_database_an_old_copy(config: Path) -> None:
    """An empty directory: nobody says that the database lacks anything."""
    for file in config.parent.glob("closing.journal*"):
        file.unlink()
    own_witness(config).mkdir()
    told = run(config)
    assert (told["ok"], told["blind"]) == (True, False)


URL = "https://witness.invalid/"


@pytest.mark.parametrize("away", [False, True], ids=["it took more", "its memory is away"])
def test_address_that_took_more_is_not_asked(config: Path, tmp_path: Path, away: bool) -> None:
    """Its memory here says that the log went on after the backup that is in place, or cannot be
    read: what was opened since is not known.
    """
    own_witness(config).mkdir()
    backup = witnessed_later(config, tmp_path / "later")
    text = config.read_text().replace("[witness]", f'[witness]\nurl = "{URL}"')
    if away:
        text = text.replace('"closing.journal"', '"disk/closing.journal"')
    config.write_text(text)
    memory = witness_memory(load_config(config))
    if not away:
        remember(memory, URL, (tmp_path / "later" / "latest").read_text())
    for file in (*config.parent.glob("*.db*"), *config.parent.glob("closing.journal*")):
        file.unlink()
    (config.parent / "tidegate.db").write_bytes(backup)
    told = run(config)
    assert (told["ok"], told["blind"]) == (False, True)
    assert not (config.parent / "disk" / "witnessed").exists()
