"""What the tests of this room share: a home folder, a server, and the helper run three ways."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.fake_server import TOKEN, FakeServer, serving
from tidegate_credentials import answer
from tidegate_credentials.cache import instant

HELPER = str(Path(sys.executable).parent / "tidegate-credentials")
T0 = 1_767_225_600.0  # 2026-01-01T00:00:00Z
MINUTE = 60.0


class Desk:
    """One person's machine: a home folder signed in to `server`."""

    def __init__(self, home: Path, server: FakeServer) -> None:
        self.home = home
        self.server = server
        self.environment = {
            "PATH": os.environ["PATH"],
            "TIDEGATE_HOME": str(home),
            "TIDEGATE_SERVER": server.url,
            "TIDEGATE_TOKEN": TOKEN,
        }

    def at(self, now: float, *arguments: str) -> str:
        """What the helper prints at `now`, run in this process."""
        return answer(arguments or ("gr_one",), self.environment, now)

    def spawn(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The installed command, run as AWS clients do."""
        return subprocess.run(
            [HELPER, *(arguments or ("gr_one",))],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def cached(self) -> list[Path]:
        return [path for path in (self.home / "cache").iterdir() if "lock-" not in path.name]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "tidegate"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def desk(home: Path) -> Iterator[Desk]:
    """A grant of 10 minutes from T0, with keys of 15 (the cloud's floor)."""
    with serving(instant(T0 + 10 * MINUTE), instant(T0 + 15 * MINUTE)) as server:
        yield Desk(home, server)


@pytest.fixture
def desk_now(home: Path) -> Iterator[Desk]:
    """The same, from the real now on, for tests that start the real command."""
    now = time.time()
    with serving(instant(now + 10 * MINUTE), instant(now + 15 * MINUTE)) as server:
        yield Desk(home, server)
