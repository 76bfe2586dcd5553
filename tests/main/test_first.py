"""`init` makes everything or nothing, and never touches what was there."""

from pathlib import Path

import pytest

from tests.main.conftest import ORIGIN, PASSWORD
from tidegate.base.errors import AskedWrongly
from tidegate.main import local
from tidegate.main.first import make_installation, unmade_on_failure
from tidegate.shell import identity
from tidegate.shell.cli.local import Account

BAD = {
    "password": Account(login="ana", password="short"),
    "mail": Account(login="ana", password=PASSWORD, mail="no address"),
    "login": Account(login="Ana", password=PASSWORD),
    "name": Account(login="ana", password=PASSWORD, name="a\x1bb"),
}


@pytest.mark.parametrize("account", BAD.values(), ids=BAD.keys())
def test_bad_account_blocks_the_next_try(tmp_path: Path, account: Account) -> None:
    """A typing error in the first account leaves nothing, so that the next `init` works."""
    home = tmp_path / "a" / "home"
    with pytest.raises(AskedWrongly):
        local.init(home, ORIGIN, [account])
    assert list(tmp_path.iterdir()) == []
    local.init(home, ORIGIN, [Account(login="ana", password=PASSWORD)])


def test_late_failure_leaves_half_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When an account cannot be stored, what this call made goes, and what was there stays."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "mine.cedar").write_text("// mine\n")
    (tmp_path / "notes").write_text("mine")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(identity, "add_account", fail)
        with pytest.raises(KeyboardInterrupt):
            local.init(tmp_path, ORIGIN, [Account(login="ana", password=PASSWORD)])
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["notes", "policies", "policies/mine.cedar"]
    local.init(tmp_path, ORIGIN, [Account(login="ana", password=PASSWORD)])


def test_foreign_file_is_removed_with_ours(tmp_path: Path) -> None:
    """A directory somebody put a file into meanwhile stays, with that file."""
    made = make_installation(tmp_path / "home", ORIGIN)
    theirs = made.directory / "witness" / "theirs"
    with pytest.raises(KeyboardInterrupt), unmade_on_failure(made):
        theirs.write_text("x")
        raise KeyboardInterrupt
    assert [path for path in made.directory.rglob("*") if path.is_file()] == [theirs]


@pytest.mark.parametrize("name", ["tidegate.toml", "keys/log.key", "tidegate.db"])
def test_installation_is_made_twice(tmp_path: Path, name: str) -> None:
    """What looks like an installation is refused, and not changed."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("precious")
    with pytest.raises(AskedWrongly) as told:
        make_installation(tmp_path, ORIGIN)
    assert told.value.code == "already_there"
    assert (tmp_path / name).read_text() == "precious"


def test_place_that_cannot_be_written_is_a_crash(tmp_path: Path) -> None:
    """A file in the way is told in words with its path, and is not overwritten."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(AskedWrongly, match="file") as told:
        make_installation(tmp_path / "file", ORIGIN)
    assert told.value.code == "cannot_make"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "groups.toml").write_text("precious")
    with pytest.raises(AskedWrongly, match=r"groups\.toml") as told:
        make_installation(tmp_path / "home", ORIGIN)
    assert told.value.code == "cannot_make"
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["groups.toml"]
