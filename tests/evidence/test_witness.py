"""Checkpoints published and remembered: forks, rollbacks, and addresses that are not witnesses."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.evidence.made_log import ORIGIN, SIGNER, make_log, story
from tidegate.base.errors import AskedWrongly, EvidenceBroken, Refused, Unreachable
from tidegate.evidence.checkpoint import Checkpoint, sign_checkpoint
from tidegate.evidence.witness import (
    publish_over_http,
    publish_to_directory,
    read_directory,
    recall,
    remember,
)

OLD, NEW = make_log(story()[:9]).checkpoint(), make_log().checkpoint()
FORK = sign_checkpoint(Checkpoint(origin=ORIGIN, size=25, root=bytes(32)), SIGNER)


def test_published_checkpoints_are_read_back_in_order(tmp_path: Path) -> None:
    """Each size has its file, `latest` is the newest, and publishing again changes nothing."""
    for note in (NEW, OLD, NEW):
        publish_to_directory(tmp_path, note)
    assert read_directory(tmp_path) == [OLD, NEW]
    assert (tmp_path / "latest").read_text() == NEW
    assert len(list(tmp_path.iterdir())) == 3


def test_fork_never_overwrites_what_was_witnessed(tmp_path: Path) -> None:
    """A second checkpoint of one size is refused, and the first stays."""
    publish_to_directory(tmp_path, NEW)
    with pytest.raises(EvidenceBroken) as caught:
        publish_to_directory(tmp_path, FORK)
    assert caught.value.code == "forked"
    assert read_directory(tmp_path) == [NEW]


def test_missing_directory_is_an_os_error(tmp_path: Path) -> None:
    """A witness directory is made by a person, elsewhere; we never make one up."""
    with pytest.raises(FileNotFoundError):
        publish_to_directory(tmp_path / "none", NEW)


def test_remembered_checkpoint_only_grows(tmp_path: Path) -> None:
    """A client keeps the newest per server, privately, and refuses an older one."""
    home, server = tmp_path / "state", "https://tidegate.example:8443/../x"
    assert recall(home, server) is None
    remember(home, server, OLD)
    remember(home, server, NEW)
    assert recall(home, server) == NEW
    assert recall(home, "https://other.example") is None
    with pytest.raises(EvidenceBroken) as caught:
        remember(home, server, OLD)
    assert caught.value.code == "rolled_back"
    (kept,) = home.iterdir()
    assert kept.parent == home and kept.stat().st_mode & 0o777 == 0o600


def test_remembered_garbage_is_told(tmp_path: Path) -> None:
    """A damaged memory is an error, not an empty memory."""
    remember(tmp_path, "s", OLD)
    (kept,) = tmp_path.iterdir()
    for garbage in (b"\xff", b"x" * 70_000):
        kept.write_bytes(garbage)
        with pytest.raises(EvidenceBroken):
            remember(tmp_path, "s", NEW)


class Witness(BaseHTTPRequestHandler):
    """Takes a checkpoint at `/take`, redirects `/away`, refuses anything else."""

    def do_POST(self) -> None:
        """Answer by path."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.taken.append((self.path, body))  # type: ignore[attr-defined]
        self.send_response({"/take": 204, "/away": 302}.get(self.path, 503))
        if self.path == "/away":
            self.send_header("Location", "/take")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - how a followed redirect would arrive

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def witness() -> Iterator[HTTPServer]:
    """A witness on a free loopback port."""
    server = HTTPServer(("127.0.0.1", 0), Witness)
    server.taken = []  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_checkpoint_is_posted_and_redirects_are_not_followed(witness: HTTPServer) -> None:
    """The configured address gets the text; any other answer than 2xx is a refusal."""
    base = f"http://127.0.0.1:{witness.server_port}"
    publish_over_http(f"{base}/take", NEW)
    for path in ("/away", "/no"):
        with pytest.raises(Refused):
            publish_over_http(base + path, NEW)
    taken = witness.taken  # type: ignore[attr-defined]
    assert taken == [(path, NEW.encode()) for path in ("/take", "/away", "/no")]


def test_dead_witness_is_unreachable(witness: HTTPServer) -> None:
    """Nobody listening means certainly not delivered."""
    with pytest.raises(Unreachable):
        publish_over_http("http://127.0.0.1:9/take", NEW)


@pytest.mark.parametrize(
    "url",
    [
        "http://witness.example/x",
        "http://169.254.169.254/latest",
        "http://localhost.evil.example/x",
        "https://user:hunter2@witness.example/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "https://",
        "https://[::1",
        "https://x:port/",
        "",
    ],
)
def test_address_that_is_no_witness_is_refused_before_any_call(url: str) -> None:
    """Only https, or http to this machine; a password in it is neither used nor shown."""
    with pytest.raises(AskedWrongly) as caught:
        publish_over_http(url, NEW)
    assert "hunter2" not in caught.value.message
