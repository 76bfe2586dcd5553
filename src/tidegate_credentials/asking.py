"""One HTTP exchange with the server, by hand: the standard client costs more than the whole helper.

Plain `http://` goes to loopback only, because the token and the keys would otherwise cross a
network in the clear; everything else is `https://`, through the standard library. Every exchange is
bounded in bytes and in time, follows no redirect and is tried once.
"""

import json
import socket
import time
from typing import Any
from urllib.parse import SplitResult, urlsplit

from tidegate_credentials.cache import Client, Stop

CONNECT_SECONDS = 3.0  # a server that is there accepts at once
ANSWER_SECONDS = 20.0  # minting waits for the cloud's own answer; botocore itself waits for ever
LARGEST_ANSWER = 262_144  # bytes: a page of grants or one set of keys is far below
LONGEST_WORDS = 300  # characters of a server's message that are shown
_REFUSALS = frozenset({400, 403, 404, 409, 410, 422})


class NoAnswer(Exception):
    """Nothing is known: not reached, too slow, not signed in, or not an answer of ours."""


class Refusal(Stop):
    """The server understood and said no. `problem` is the `code` it gave."""

    def __init__(self, line: str, problem: str) -> None:
        super().__init__(line)
        self.problem = problem


def ask(client: Client, method: str, path: str) -> dict[str, Any]:
    """The JSON object the server answers to `method` on `path` (with its query, already encoded).

    A POST sends the body `{}`.

    Raises:
        NoAnswer: nothing can be concluded about the grant.
        Refusal: the server refused, in its own words.
        Stop: the server's address may not be asked.
    """
    address = _address(client.server)
    if not client.token:
        raise NoAnswer(f"not signed in to {client.server}; run: tidegate login")
    if not (client.token.isascii() and client.token.isprintable()) or " " in client.token:
        raise NoAnswer(f"the token for {client.server} is damaged; run: tidegate login")
    target = address.path.rstrip("/") + path
    body = b"{}" if method == "POST" else b""
    headers = {
        "Authorization": f"Bearer {client.token}",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    try:
        if address.scheme == "https":
            status, raw = _by_tls(address, method, target, headers, body)
        else:
            status, raw = _by_hand(address, method, target, headers, body)
    except OSError as fault:
        why = fault.strerror or type(fault).__name__
        raise NoAnswer(f"cannot reach {client.server} ({why})") from fault
    return _understood(client, status, raw)


def _address(server: str) -> SplitResult:
    try:
        address = urlsplit(server)
        port_is_good = address.port != 0
    except ValueError:
        raise Stop(
            f"expected a server like `https://tidegate.example`, got `{server[:80]}`"
        ) from None
    clean = server.isascii() and server.isprintable() and " " not in server
    host = address.hostname or ""
    extra = address.query or address.fragment or address.username or address.password
    if not (clean and host and port_is_good) or extra or address.scheme not in ("http", "https"):
        raise Stop(f"expected a server like `https://tidegate.example`, got `{server[:80]}`")
    if address.scheme == "http" and host != "localhost" and not _is_loopback(host):
        raise Stop(f"`{server[:80]}` would carry the token in the clear; use https://")
    return address


def _is_loopback(host: str) -> bool:
    parts = host.split(".")
    four = len(parts) == 4 and all(part.isdigit() for part in parts)
    return host == "::1" or (four and parts[0] == "127")


def _by_hand(
    address: SplitResult, method: str, target: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    host = address.hostname or ""
    until = time.monotonic() + ANSWER_SECONDS
    with socket.create_connection((host, address.port or 80), timeout=CONNECT_SECONDS) as line:
        # `localhost` is whatever the resolver says; nothing is sent before it is seen to be here.
        if not _is_loopback(str(line.getpeername()[0])):
            raise Stop(f"`{host}` is not this machine; use https://")
        # HTTP/1.0: the answer then ends with the connection and can never be chunked.
        lines = [f"{method} {target} HTTP/1.0", f"Host: {address.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        line.sendall("\r\n".join([*lines, "", ""]).encode("ascii") + body)
        return _split(_received(line, until))


def _received(line: socket.socket, until: float) -> bytes:
    raw = b""
    while len(raw) <= LARGEST_ANSWER:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(0, "no answer in time")
        line.settimeout(left)
        part = line.recv(65_536)
        if not part:
            return raw
        raw += part
    raise NoAnswer("the server's answer is too large to be one of ours")


def _split(raw: bytes) -> tuple[int, bytes]:
    """Status and body of a whole HTTP answer; a body shorter than announced is no answer."""
    head, blank, body = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if (
        not blank
        or len(words) < 2
        or not words[0].startswith("HTTP/1.")
        or not _is_status(words[1])
    ):
        raise NoAnswer("the server's answer is not HTTP")
    for header in rest:
        name, _, value = header.partition(":")
        if name.strip().lower() == "transfer-encoding":
            raise NoAnswer("the server's answer is in a form not asked for")
        if name.strip().lower() == "content-length" and value.strip() != str(len(body)):
            raise NoAnswer("the server's answer was cut short")
    return int(words[1]), body


def _is_status(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isdigit()


def _by_tls(
    address: SplitResult, method: str, target: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    import http.client
    import ssl

    line = http.client.HTTPSConnection(
        address.hostname or "",
        address.port or 443,
        timeout=ANSWER_SECONDS,
        context=ssl.create_default_context(),
    )
    try:
        line.request(method, target, body=body, headers=headers)
        reply = line.getresponse()
        raw = reply.read(LARGEST_ANSWER + 1)
    except http.client.HTTPException as fault:
        raise NoAnswer(f"the server's answer is not HTTP ({type(fault).__name__})") from fault
    finally:
        line.close()
    if len(raw) > LARGEST_ANSWER:
        raise NoAnswer("the server's answer is too large to be one of ours")
    return reply.status, raw


def _understood(client: Client, status: int, raw: bytes) -> dict[str, Any]:
    if status == 401:
        raise NoAnswer(f"not signed in to {client.server}; run: tidegate login")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not (status in (200, 201) or status in _REFUSALS):
        raise NoAnswer(f"{client.server} answered {status}; see: tidegate doctor")
    if status in (200, 201):
        return content
    said = str(content.get("detail") or content.get("title") or f"refused with {status}")
    to_do = str(content.get("help") or "")
    line = f"{said[:LONGEST_WORDS]}; {to_do[:LONGEST_WORDS]}" if to_do else said[:LONGEST_WORDS]
    raise Refusal(line, str(content.get("code") or "")[:80])
