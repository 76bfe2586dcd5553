"""An installation as `tidegate init` leaves it, to be spoilt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tidegate.main import local
from tidegate.main.checking import findings
from tidegate.shell.cli.local import Account

ORIGIN = "test.tidegate.invalid/log"
PASSWORD = "a password of some length"
TARGET = """
[[target]]
id = "prod"
connector = "simulated"
account = "123456789012"

[[target.role]]
name = "admin"
arn = "some text"
"""


@dataclass
class Home:
    """The files of an installation."""

    directory: Path

    @property
    def config(self) -> Path:
        """The settings."""
        return self.directory / "tidegate.toml"

    def write(self, name: str, text: str) -> Path:
        """Replace a file."""
        (self.directory / name).write_text(text, encoding="utf-8")
        return self.directory / name

    def settings(self, text: str) -> Path:
        """Replace the settings; the log's name is added."""
        return self.write("tidegate.toml", f'{text}\n[evidence]\norigin = "{ORIGIN}"\n')

    def told(self) -> list[dict[str, Any]]:
        """What `check` finds."""
        return [dict(one) for one in findings(self.config)]

    def lines(self) -> set[tuple[str, str, int]]:
        """What `check` finds, as (code, file, line)."""
        return {(one["code"], one["file"], one["line"]) for one in self.told()}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An installation with one operator and nothing to ask for."""
    account = Account(login="op", password=PASSWORD)
    local.init(tmp_path / "home", ORIGIN, [account])
    return Home(tmp_path / "home")
