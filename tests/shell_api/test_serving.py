"""A real server in a process of its own: where it listens, what it believes, how it stops."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.base.errors import AskedWrongly
from tidegate.shell.api.serving import listen

SERVER = """
import sys
from pathlib import Path
from tests.support import World
from tests.shell_api.conftest import Seen
from tidegate.shell.api import make_app, serve
from tidegate.shell.api.serving import THREADS
from litestar.concurrency import get_asyncio_executor

world = World(Path(sys.argv[1]))
app = make_app(world.house, world.refusals, Seen().insight())

def stop():
    print("flushed", world.refusals.flush(world.house), flush=True)
    world.down()
    print("stopped", flush=True)

def start(host, port):
    assert get_asyncio_executor()._max_workers == THREADS
    print(port, flush=True)

serve(app, "127.0.0.1", 0, stop, on_start=start)
print("code after serving runs", flush=True)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server on a free port, and its sure end."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_server_that_dies_on_sigterm(server: tuple[subprocess.Popen[str], int]) -> None:
    """It answers, says nothing about itself, and ends in order with 0 on SIGTERM."""
    process, port = server
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    line.request("GET", "/health", headers={"X-Forwarded-For": "6.6.6.6"})
    answer = line.getresponse()
    assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')
    assert answer.getheader("server") is None
    assert answer.getheader("cache-control") == "no-store"
    line.request("GET", "/api/me", headers={"X-Forwarded-For": "6.6.6.6"})
    assert line.getresponse().status == 401
    line.close()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 0, said
    assert said.split("\n")[-3:] == ["stopped", "code after serving runs", ""]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "", "127.0.0.1.x"])
def test_listening_beyond_this_machine(host: str) -> None:
    """Anything but loopback is refused unless it is asked for."""
    with pytest.raises(AskedWrongly, match="loopback"):
        listen(host, 0)


def test_port_that_is_taken() -> None:
    """A taken port is told in words, and a free one is had."""
    with listen("127.0.0.1", 0) as first, pytest.raises(AskedWrongly, match="is taken"):
        listen("127.0.0.1", first.getsockname()[1])
    with pytest.raises(AskedWrongly, match="cannot be had"):
        listen("127.0.0.1", 70_000)
