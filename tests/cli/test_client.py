"""The HTTP client: where it sends a token, what it believes, how long it waits."""

import socket
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.cli.fake import TOKEN, FakeServer, problem
from tidegate.base.errors import (
    AskedWrongly,
    EvidenceBroken,
    NotAllowed,
    NotFound,
    NotSignedIn,
    Refused,
    Stale,
    TidegateError,
    WorldFailed,
)
from tidegate.shell.cli.client import Server


@pytest.mark.parametrize(
    "address",
    [
        "http://tidegate.example",
        "http://127.0.0.1.evil.example",
        "http://10.0.0.1",
        "http://user:pw@127.0.0.1",
        "https://user@tidegate.example",
        "ftp://127.0.0.1",
        "tidegate.example",
        "https://",
        "https://a b",
        "https://x?y=1",
        "https://x#y",
        "https://x:99999",
        "https://x:0",
        "https://\x1b[31m",
        "https://bücher.example",
        "",
    ],
)
def test_token_is_not_sent_to_a_strange_address(address: str) -> None:
    """Only https, or http to this machine; nothing that hides who is asked."""
    with pytest.raises(AskedWrongly):
        Server(address, TOKEN)


def test_localhost_that_is_elsewhere_gets_no_token(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that takes `localhost` elsewhere is noticed before anything is sent."""
    monkeypatch.setattr(socket.socket, "getpeername", lambda _: ("10.0.0.1", 80), raising=False)
    with pytest.raises(AskedWrongly, match="https"):
        Server(server.url.replace("127.0.0.1", "localhost"), TOKEN).get("api", "me")
    assert server.calls == []


def test_redirect_is_not_followed(server: FakeServer) -> None:
    """A redirect is told, and the token goes nowhere else."""
    server.on("GET", "/api/me", (307, b""))
    with pytest.raises(AskedWrongly, match="redirect"):
        Server(server.url, TOKEN).get("api", "me")
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("status", "family", "kind"),
    [
        (400, "asked_wrongly", AskedWrongly),
        (401, "not_allowed", NotSignedIn),
        (403, "not_allowed", NotAllowed),
        (404, "asked_wrongly", NotFound),
        (409, "asked_wrongly", Stale),
        (415, "asked_wrongly", AskedWrongly),
        (429, "not_allowed", NotAllowed),
        (500, "world_failed", WorldFailed),
        (502, "world_failed", Refused),
        (503, "world_failed", WorldFailed),
        (403, "", NotAllowed),
    ],
)
def test_problem_keeps_its_family(
    server: FakeServer, status: int, family: str, kind: type[TidegateError]
) -> None:
    """Each problem becomes the error it was, with code, message and help."""
    server.on("GET", "/api/me", (status, problem("a_code", "what", family, "do")))
    with pytest.raises(TidegateError) as caught:
        Server(server.url, TOKEN).get("api", "me")
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.message, caught.value.help) == ("a_code", "what", "do")


def test_broken_evidence_told_by_a_server_stays_so(server: FakeServer) -> None:
    """A 422 of the evidence family exits like evidence found broken here."""
    told = problem("forged", "root: expected a, got b")
    server.on("GET", "/api/me", (422, told))
    with pytest.raises(EvidenceBroken) as caught:
        Server(server.url, TOKEN).get("api", "me")
    assert (caught.value.what, caught.value.expected, caught.value.got) == ("root", "a", "b")


def test_ids_cannot_leave_their_place_in_the_path(server: FakeServer) -> None:
    """What is typed as an id is one path part, whatever it holds."""
    with pytest.raises(NotFound):
        Server(server.url, TOKEN).get("api", "requests", "../grants?x=1#y")
    assert server.calls[0][1] == "/api/requests/..%2Fgrants%3Fx%3D1%23y"


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_silent_server_is_not_waited_for(silent: socket.socket) -> None:
    """No answer within the patience ends the call; a POST may have been done, and that is said."""
    server = Server(f"http://127.0.0.1:{silent.getsockname()[1]}", TOKEN, timedelta(seconds=0.1))
    with pytest.raises(WorldFailed, match="gave no answer"):
        server.get("api", "me")
    with pytest.raises(WorldFailed, match="may or may not have been done"):
        server.post("api", "requests")


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"",
    ],
)
def test_answer_cut_short_is_no_answer(silent: socket.socket, raw: bytes) -> None:
    """What is not a whole HTTP answer is never taken for one."""

    def answer() -> None:
        line, _ = silent.accept()
        with line:
            line.recv(65_536)
            line.sendall(raw)

    threading.Thread(target=answer, daemon=True).start()
    with pytest.raises(WorldFailed):
        Server(f"http://127.0.0.1:{silent.getsockname()[1]}", TOKEN).get("api", "me")


def test_endless_answer_is_bounded(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the bound is refused, not read."""
    monkeypatch.setattr("tidegate.shell.cli.client.LARGEST_ANSWER", 1_000)
    server.on("GET", "/api/me", b'{"x": "' + b"y" * 100_000 + b'"}')
    with pytest.raises(WorldFailed, match="at most 1000 bytes"):
        Server(server.url, TOKEN).get("api", "me")


def test_damaged_token_is_not_sent(server: FakeServer) -> None:
    """A token with a line break could forge headers."""
    with pytest.raises(NotSignedIn):
        Server(server.url, "tdg_x\r\nX-Evil: 1")
