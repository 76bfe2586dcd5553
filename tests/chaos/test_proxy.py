"""The fault proxy does what its rule says and only that: else its chaos proves nothing."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from chaos.proxy import FaultProxy, Rule


class _Counting(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.heard.append(body)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def heard() -> list[bytes]:
    """What the server behind the proxy was asked."""
    return []


@pytest.fixture
def proxy(heard: list[bytes]) -> Iterator[FaultProxy]:
    """A proxy in front of a server that counts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Counting)
    server.heard = heard  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with FaultProxy(server.server_port) as made:
        yield made
    server.shutdown()
    server.server_close()
    thread.join()


def ask(proxy: FaultProxy, body: bytes = b"Action=Cut", timeout: float = 5) -> tuple[int, bytes]:
    """One request through the proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout)
    try:
        connection.request("POST", "/", body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_request_without_a_rule_is_struck(proxy: FaultProxy, heard: list[bytes]) -> None:
    """It passes once, unchanged, also beside a rule for another call."""
    proxy.add(Rule(act="reset", containing=b"Action=Other"))
    assert ask(proxy) == (200, b"Action=Cut")
    assert heard == [b"Action=Cut"]


@pytest.mark.parametrize(("act", "arrives"), [("reset", 0), ("lose_reply", 1), ("reset_mid", 1)])
def test_lost_call_is_answered(
    proxy: FaultProxy, heard: list[bytes], act: str, arrives: int
) -> None:
    """A lost request never arrives, a lost reply did; neither is answered; the next one is."""
    proxy.add(Rule(act=act, count=1))
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(proxy)
    assert len(heard) == arrives
    assert ask(proxy)[0] == 200


def test_duplicate_is_done_once(proxy: FaultProxy, heard: list[bytes]) -> None:
    """One request, done twice, answered once."""
    proxy.add(Rule(act="twice", count=1))
    assert ask(proxy)[0] == 200
    assert len(heard) == 2


def test_half_open_answers(proxy: FaultProxy, heard: list[bytes]) -> None:
    """It is taken and never answered."""
    proxy.add(Rule(act="half_open", count=1))
    with pytest.raises(TimeoutError):
        ask(proxy, timeout=0.3)
    assert heard == []


def test_false_answer_reaches_the_server(proxy: FaultProxy, heard: list[bytes]) -> None:
    """The proxy's own answer: the server hears nothing of it."""
    proxy.add(Rule(act="answer", count=1, status=400, body=b"no"))
    assert ask(proxy) == (400, b"no")
    assert heard == []


def test_cut_way_lets_something_through(proxy: FaultProxy) -> None:
    """Cut means cut, frozen means frozen, and `clear` mends both."""
    proxy.cut()
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(proxy)
    proxy.clear()
    assert ask(proxy)[0] == 200
    proxy.freeze()
    with pytest.raises(TimeoutError):
        ask(proxy, timeout=0.3)
    proxy.clear()
    assert ask(proxy)[0] == 200


def test_plain_bytes_are_changed() -> None:
    """Without HTTP it passes bytes both ways as they come, and a cut resets them."""
    echo = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = echo.accept()
        with peer, suppress(OSError):
            while data := peer.recv(100):
                peer.sendall(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with (
        FaultProxy(echo.getsockname()[1], http=False) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client,
    ):
        client.sendall(b"\x00\x01")
        assert client.recv(100) == b"\x00\x01"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    thread.join(5)
    echo.close()
