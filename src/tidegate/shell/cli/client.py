"""A small HTTP client for Tidegate's own API, on the standard library, so that commands start fast.

Certificates are checked, redirects are not followed, every exchange is bounded in bytes and time
and is tried once. Plain `http://` goes to this machine only: the token would otherwise cross a
network in the clear. Answers that are not of our API are told as such, never as a traceback.
"""

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from tidegate import __version__
from tidegate.base.address import is_loopback
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
from tidegate.shell.cli.answer import Answer, strange

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

PATIENCE = timedelta(seconds=30)  # for one whole exchange: minting waits for the cloud's answer
LARGEST_ANSWER = 8 * 1024 * 1024  # bytes of JSON: a full page of requests is far below
LARGEST_DOWNLOAD = 72 * 1024 * 1024  # bytes: the largest evidence pack, with room for its directory
LARGEST_TEXT = 65_536  # bytes: a signed checkpoint with its signatures
LONGEST_TEXT = 2_000  # characters of a server's message that are shown
_CHUNK = 65_536

Query = Mapping[str, str | int | None]


class Server:
    """One server, asked as one principal. `token` is empty when nobody is signed in."""

    def __init__(self, server: str, token: str = "", patience: timedelta = PATIENCE) -> None:
        self.name = server.rstrip("/")
        self._address = check_address(self.name)
        self._token = token
        self._patience = patience
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise NotSignedIn(
                "damaged_token", f"the token for `{self.name}` is damaged", "run `tidegate login`"
            )

    def get(self, *path: str, query: Query | None = None) -> Answer:
        """What GET answers. `path` are the parts after the address, each encoded here.

        Raises:
            TidegateError: the problem the server told, in its own class.
            WorldFailed: not reached, no answer, or an answer not of our API.
        """
        return _understood(*self._exchange("GET", _target(path, query), None, LARGEST_ANSWER))

    def post(self, *path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """What POST answers to `body` (an empty object without). Raises as `get` does."""
        return _understood(*self._exchange("POST", _target(path, None), body or {}, LARGEST_ANSWER))

    def put(self, *path: str, body: Mapping[str, Any]) -> Answer:
        """What PUT answers to `body`. Raises as `get` does."""
        return _understood(*self._exchange("PUT", _target(path, None), body, LARGEST_ANSWER))

    def download(self, *path: str) -> bytes:
        """The bytes GET answers, at most LARGEST_DOWNLOAD. Raises as `get` does."""
        status, raw = self._exchange("GET", _target(path, None), None, LARGEST_DOWNLOAD)
        if status != 200:
            _understood(status, raw)
            raise strange("a file", None)
        return raw

    def read_text(self, *path: str) -> str:
        """The text GET answers, as it is: clean it before it is printed. Raises as `get` does."""
        raw = self.download(*path)
        if len(raw) > LARGEST_TEXT:
            raise strange(f"a text of at most {LARGEST_TEXT} bytes", raw)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise strange("a text in UTF-8", raw) from None

    def _exchange(
        self, method: str, target: str, body: Mapping[str, Any] | None, most: int
    ) -> tuple[int, bytes]:
        """Status and body of one exchange, whatever they are."""
        import json
        from http.client import HTTPException

        until = time.monotonic() + self._patience.total_seconds()
        line = self._connected()
        try:
            sent = None if body is None else json.dumps(body).encode()
            line.request(
                method, self._address.path.rstrip("/") + target, body=sent, headers=self._headers()
            )
            reply = line.getresponse()
            return reply.status, _read(line, reply, until, most)
        except (OSError, HTTPException) as fault:
            raise self._no_answer(method, fault) from fault
        finally:
            line.close()

    def _headers(self) -> dict[str, str]:
        headers = {
            "Accept": "application/json, application/problem+json, application/zip, text/plain",
            "Content-Type": "application/json",
            "User-Agent": f"tidegate/{__version__}",
        }
        return headers | ({"Authorization": f"Bearer {self._token}"} if self._token else {})

    def _connected(self) -> "HTTPConnection":
        """A connection to the server, checked before anything is sent on it."""
        from http.client import HTTPConnection, HTTPException, HTTPSConnection
        from ssl import SSLCertVerificationError, create_default_context

        host, port = self._address.hostname or "", self._address.port
        seconds = self._patience.total_seconds()
        line: HTTPConnection
        if self._address.scheme == "https":
            line = HTTPSConnection(host, port, timeout=seconds, context=create_default_context())
        else:
            line = HTTPConnection(host, port, timeout=seconds)
        try:
            line.connect()
        except SSLCertVerificationError as fault:
            raise WorldFailed(
                "bad_certificate",
                f"the certificate of `{self.name}` does not hold: {fault.verify_message}",
                "check the address; for a private authority set SSL_CERT_FILE to its certificate",
            ) from fault
        except (OSError, HTTPException, UnicodeError) as fault:
            raise self._unreached(fault) from fault
        # `localhost` is whatever the resolver says; nothing is sent before it is seen to be here.
        if self._address.scheme == "http" and not is_loopback(str(line.sock.getpeername()[0])):
            line.close()
            raise _in_the_clear(self.name)
        return line

    def _unreached(self, fault: Exception) -> WorldFailed:
        return WorldFailed(
            "server_unreachable",
            f"`{self.name}` cannot be reached ({_reason(fault)})",
            "check the address and that the server runs: `tidegate serve`, or TIDEGATE_SERVER",
        )

    def _no_answer(self, method: str, fault: Exception) -> WorldFailed:
        if method == "GET":
            return WorldFailed(
                "no_answer", f"`{self.name}` gave no answer ({_reason(fault)})", "try again"
            )
        return WorldFailed(
            "no_answer",
            f"`{self.name}` gave no answer ({_reason(fault)}), so it may or may not have been done",
            "look before you repeat it: `tidegate requests`, `tidegate grants`",
        )


def check_address(server: str) -> SplitResult:
    """`server` taken apart. Raises AskedWrongly unless it is https, or http to this machine."""
    try:
        address = urlsplit(server)
        port = address.port
    except ValueError:
        address, port = urlsplit(""), None
    clean = server.isascii() and server.isprintable() and " " not in server
    extra = address.query or address.fragment or "@" in address.netloc
    host = address.hostname or ""
    if not (clean and host) or extra or port == 0 or address.scheme not in ("http", "https"):
        raise AskedWrongly(
            "bad_server",
            f"expected a server like `https://tidegate.example`, got `{server[:80]}`",
            "give the whole address, with `https://` and without a query",
        )
    if address.scheme == "http" and not is_loopback(host):
        raise _in_the_clear(server)
    return address


def _in_the_clear(server: str) -> AskedWrongly:
    return AskedWrongly(
        "insecure_server",
        f"expected `https://` to another machine, got `{server[:80]}`",
        "plain http would carry your token in the clear; use the https address",
    )


def _target(path: tuple[str, ...], query: Query | None) -> str:
    given = {
        key: value for key, value in (query or {}).items() if value is not None and value != ""
    }
    where = "/" + "/".join(quote(part, safe="") for part in path)
    return f"{where}?{urlencode(given)}" if given else where


def _read(line: "HTTPConnection", reply: "HTTPResponse", until: float, most: int) -> bytes:
    """The whole body within its bounds: a server that drips bytes does not hold us for ever."""
    announced = reply.length
    parts: list[bytes] = []
    total = 0
    while announced is None or total < announced:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("no whole answer in time")
        if line.sock is not None:
            line.sock.settimeout(left)
        part = reply.read1(_CHUNK)
        if not part:
            break
        parts.append(part)
        total += len(part)
        if total > most:
            raise WorldFailed(
                "large_answer",
                f"expected at most {most} bytes from the server, got more",
                "check the server's address",
            )
    if announced is not None and total < announced:
        raise ConnectionError("the answer was cut short")
    return b"".join(parts)


def _understood(status: int, raw: bytes) -> Answer:
    """The answer of a success; the error of anything else."""
    import json

    if status == 204:
        return Answer({})
    try:
        plain = json.loads(raw)
    except (ValueError, RecursionError):
        plain = None
    if 200 <= status < 300:
        if isinstance(plain, dict):
            return Answer(plain)
        raise strange("an object", plain)
    raise problem(status, Answer(plain if isinstance(plain, dict) else {}))


def problem(status: int, told: Answer) -> TidegateError:
    """The error an answer of `status` with the problem `told` (RFC 9457) stands for."""
    detail = told.text("detail") or told.text("title")
    if not (detail and told.text("code")):
        return _foreign(status, detail)
    code, help = told.text("code")[:80], told.text("help")[:LONGEST_TEXT]
    detail = detail[:LONGEST_TEXT]
    if reference := told.text("reference"):
        detail = f"{detail} (reference {reference[:40]})"
    if status == 422:
        what, expected, rest = detail.partition(": expected ")
        wanted, comma, got = rest.partition(", got ")
        if expected and comma:
            return EvidenceBroken(code, what, wanted, got)
    exact: dict[int, type[TidegateError]] = {
        401: NotSignedIn,
        404: NotFound,
        409: Stale,
        502: Refused,
    }
    families: dict[str, type[TidegateError]] = {
        kind.family: kind for kind in (AskedWrongly, NotAllowed, WorldFailed)
    }
    kind = exact.get(status) or families.get(told.text("family")) or _by_status(status)
    return kind(code, detail, help)


def _by_status(status: int) -> type[TidegateError]:
    if status == 403:
        return NotAllowed
    return AskedWrongly if 400 <= status < 500 else WorldFailed


def _foreign(status: int, detail: str) -> TidegateError:
    """An answer that is not a problem of ours: a proxy's page, another service, a redirect."""
    if 300 <= status < 400:
        return AskedWrongly(
            "redirected",
            f"expected an answer, got a redirect ({status})",
            "sign in with the address it leads to: `tidegate login https://…`",
        )
    if status == 401:
        return NotSignedIn("not_signed_in", "the server does not know you", "run `tidegate login`")
    said = f": {detail[:200]}" if detail else ""
    return WorldFailed(
        "strange_answer",
        f"expected an answer of Tidegate, got status {status}{said}",
        "check the server's address; a proxy in between may have answered",
    )


def _reason(fault: Exception) -> str:
    return getattr(fault, "strerror", None) or str(fault)[:120] or type(fault).__name__
