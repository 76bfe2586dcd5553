"""Real processes on one PostgreSQL: who does what, who refuses to start, who hears a stop."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.main.conftest import ORIGIN, PASSWORD, TARGET
from tidegate.base.errors import AskedWrongly
from tidegate.evidence.note import FileSigner
from tidegate.main import local
from tidegate.shell.cli.local import Account

PATIENCE = 60.0  # seconds for a process to start on a busy machine
Started = subprocess.Popen[bytes]


@pytest.fixture
def url() -> Iterator[str]:
    """An empty database."""
    made = postgres.fresh()
    yield made
    postgres.drop(made)


@pytest.fixture
def home(tmp_path: Path, url: str) -> Path:
    """An installation on it."""
    local.init(tmp_path / "one", ORIGIN, [Account(login="op", password=PASSWORD)], url)
    config = tmp_path / "one" / "tidegate.toml"
    config.write_text(config.read_text() + TARGET)
    return tmp_path / "one"


@pytest.fixture
def run() -> Iterator[Callable[..., Started]]:
    """Starts `tidegate` processes, and ends those that are left."""
    started: list[Started] = []

    def start(home: Path, *words: str) -> Started:
        command = [
            sys.executable,
            "-m",
            "tidegate",
            *words,
            "--config",
            str(home / "tidegate.toml"),
        ]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def until(held: Callable[[], bool]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE
    while not held():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.05)


def duties(url: str) -> list[str]:
    """What the workers that beat say they do."""
    with psycopg.connect(url) as db:
        rows = db.execute("SELECT detail FROM heartbeats WHERE name LIKE 'worker:%'").fetchall()
    return sorted(row[0].partition(" ")[0] for row in rows)


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_processes_share_a_database(home: Path, url: str, run: Callable[..., Started]) -> None:
    """A server without a worker, an opener and a closer run side by side and each stops cleanly."""
    other = shutil.copytree(home, home.with_name("two"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = run(home, "serve", "--worker", "none", "--port", str(port))
    workers = [run(other, "worker", "--close"), run(home, "worker", "--open")]
    until(lambda: answers(port))
    api.send_signal(signal.SIGTERM)  # the port is open, and HTTP may not answer yet
    assert api.wait(PATIENCE) == 0
    until(lambda: duties(url) == ["close", "open"])  # who stops takes back its sign of life
    for worker in workers:
        worker.terminate()
    assert [worker.wait(PATIENCE) for worker in workers] == [0, 0]


def test_another_key_signs_the_log(home: Path, run: Callable[..., Started]) -> None:
    """A process whose key is not the log's refuses to start and says what to put back."""
    key = home / "keys" / "log.key"
    key.write_text(FileSigner(ORIGIN, os.urandom(32)).text() + "\n")
    refused = run(home, "worker")
    _, said = refused.communicate(timeout=PATIENCE)
    assert refused.returncode == 2
    assert b"the key that signed this log" in said and b"put back the key file" in said


def test_key_is_changed_under_running_processes(
    home: Path, url: str, run: Callable[..., Started]
) -> None:
    """`key rotate` is refused while a process is at work, and done once it has stopped."""
    key = home / "keys" / "log.key"
    before = key.read_text()
    worker = run(home, "worker")
    until(lambda: len(duties(url)) == 1)
    with pytest.raises(AskedWrongly, match="no process at work on this database"):
        local.key_rotate(home / "tidegate.toml")
    assert key.read_text() == before
    worker.terminate()
    assert worker.wait(PATIENCE) == 0
    local.key_rotate(home / "tidegate.toml")
    assert key.read_text() != before


def test_server_is_cut_down_while_it_starts(
    home: Path, url: str, run: Callable[..., Started]
) -> None:
    """A stop that comes while a server still waits for its database ends it with code 0."""
    with psycopg.connect(url) as db:
        db.execute("LOCK TABLE heartbeats, documents")  # `start` reads them
        server = run(home, "serve")
        until(lambda: waits(url))
        server.terminate()
        time.sleep(0.2)  # the signal is there before the way is free
    _, said = server.communicate(timeout=PATIENCE)
    assert server.returncode == 0, said
    assert b"told to stop while starting" in said and b"serving" not in said.replace(b"served", b"")
    assert duties(url) == []


def waits(url: str) -> bool:
    """Whether somebody waits for a lock in that database."""
    with psycopg.connect(url) as db:
        found = db.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
        return found.fetchone() is not None
