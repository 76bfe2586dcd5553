"""The command line against a fake server, as a process would see it: streams and an exit code."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.cli.fake import TOKEN, FakeLocal, FakeServer
from tidegate.shell.cli.commands import make_program


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as its one JSON object."""
        return json.loads(self.out)


class Shell:
    """Types commands on the machine `local` in the directory `home`."""

    def __init__(self, local: FakeLocal, home: Path, environment: dict[str, str]) -> None:
        self.local = local
        self.home = home
        self.environment = environment

    def __call__(self, *words: str, typed: str | None = None) -> Ran:
        """Run `tidegate words…` with `typed` on stdin."""
        done = CliRunner().invoke(
            make_program(self.local), list(words), env=self.environment, input=typed
        )
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A fake server, and its sure end."""
    made = FakeServer()
    yield made
    made.close()


@pytest.fixture
def local() -> FakeLocal:
    """A fake machine."""
    return FakeLocal()


@pytest.fixture
def tidegate(
    server: FakeServer, local: FakeLocal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    """Somebody who is signed in to the fake server, and whose lines may be of any width."""
    monkeypatch.delenv("COLUMNS", raising=False)
    home = tmp_path / "home"
    environment = {
        "TIDEGATE_HOME": str(home),
        "TIDEGATE_SERVER": server.url,
        "TIDEGATE_TOKEN": TOKEN,
        "HOME": str(tmp_path),
    }
    return Shell(local, home, environment)
