"""A loopback endpoint in the form AWS clients know as container credentials.

An AWS client that finds AWS_CONTAINER_CREDENTIALS_FULL_URI asks it for keys and comes back before
they expire, so running processes follow a refresh or an extension and no key stands in an
environment. `Expiration` is when the keys at hand stop working, at the latest the grant's end:
botocore then asks on every call of the last 15 minutes, which is answered from memory, and after
the end it shows the message of our refusal.

The endpoint listens on 127.0.0.1 only. Other accounts of the machine can reach it there, hence the
random path and the token, compared in constant time; both live in the child's environment only.
"""

import hmac
import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from types import TracebackType
from typing import Any, Self

from tidegate.base.errors import AskedWrongly, NotAllowed, NotSignedIn, TidegateError
from tidegate.base.when import wire
from tidegate.broker.holding import Holding
from tidegate.broker.material import Material

LEAST_TOKEN = 32  # characters: 24 random bytes in base 64, beyond guessing
MOST_CALLERS = 64  # at once; more wait in the kernel's queue
QUEUE = 128
CALLER_SECONDS = 5.0  # a caller that connects and says nothing is dropped
WATCH_SECONDS = 1.0  # how long after the end the keys may stay in memory


class Endpoint:
    """Serves the keys of one holding until closed. Use as a context manager.

    `token` gives a fresh unguessable text of URL-safe characters at each call. `tell` is handed one
    line before the end. Entering fetches the
    first keys, so a refusal comes before any command is started.

    Attributes:
        uri: for AWS_CONTAINER_CREDENTIALS_FULL_URI.
        token: for AWS_CONTAINER_AUTHORIZATION_TOKEN.
    """

    def __init__(
        self,
        holding: Holding,
        token: Callable[[], str],
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self.holding = holding
        self._tell = tell
        self.token = token()
        self._path = f"/{token()}"
        if min(len(self.token), len(self._path) - 1) < LEAST_TOKEN or self.token == self._path[1:]:
            raise RuntimeError("the token source gives texts that are short or repeat")
        self._closed = threading.Event()
        self._server: _Server | None = None
        self._threads: list[threading.Thread] = []

    @property
    def uri(self) -> str:
        """The full address, path included. Only while open."""
        if self._server is None:
            raise RuntimeError("the endpoint is not open")
        return f"http://127.0.0.1:{self._server.server_address[1]}{self._path}"

    def __enter__(self) -> Self:
        """Fetch the first keys and listen. Raises what `Holding.take` raises."""
        self.holding.take()
        self._server = _Server(self.answer)
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True),
            threading.Thread(target=self._watch, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening and drop the keys."""
        self._closed.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        for thread in self._threads:
            thread.join()
        self.holding.wipe()

    def answer(self, path: str, token: str) -> tuple[HTTPStatus, dict[str, str]]:
        """What a caller with `path` and `token` gets. Never raises for what a caller can do."""
        path_is_right = hmac.compare_digest(path.encode(), self._path.encode())
        token_is_right = hmac.compare_digest(token.encode(), self.token.encode())
        if not path_is_right:
            return HTTPStatus.NOT_FOUND, {"Code": "NotFound", "Message": "no such path"}
        if not token_is_right:
            return HTTPStatus.FORBIDDEN, {"Code": "WrongToken", "Message": "wrong token"}
        try:
            return HTTPStatus.OK, credentials(self.holding.take())
        except NotSignedIn as fault:
            return HTTPStatus.SERVICE_UNAVAILABLE, _refusal("NotSignedIn", fault)
        except (NotAllowed, AskedWrongly) as fault:
            return HTTPStatus.FORBIDDEN, _refusal("AccessEnded", fault)
        except TidegateError as fault:
            return HTTPStatus.SERVICE_UNAVAILABLE, _refusal("Unavailable", fault)

    def _watch(self) -> None:
        """Drop the keys at the end also when nobody asks for them any more."""
        while not self._closed.wait(WATCH_SECONDS):
            self.holding.wipe_if_over()
            if self._tell is not None and (line := self.holding.warning()):
                self._tell(line)


def credentials(material: Material) -> dict[str, str]:
    """`material` as a container-credentials document."""
    return {
        "AccessKeyId": material.access_key_id,
        "SecretAccessKey": material.secret_access_key,
        "Token": material.session_token,
        "Expiration": wire(material.usable_until),
    }


def _refusal(code: str, fault: TidegateError) -> dict[str, str]:
    text = f"{fault.message}; {fault.help}" if fault.help else fault.message
    return {"Code": code, "Message": text}


class _Server(ThreadingHTTPServer):
    """One short thread a connection, at most MOST_CALLERS at once, on 127.0.0.1 at a free port."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = QUEUE

    def __init__(self, answer: Callable[[str, str], tuple[HTTPStatus, dict[str, str]]]) -> None:
        self.answer = answer
        self._places = threading.BoundedSemaphore(MOST_CALLERS)
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the caller a thread; when none comes free in CALLER_SECONDS, hang up."""
        if not self._places.acquire(timeout=CALLER_SECONDS):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, then free the place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """Say nothing: the terminal is the child's, and a caller that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    """GET and nothing else; one exchange a connection (HTTP/1.0), so no caller keeps a thread."""

    server: _Server
    timeout = CALLER_SECONDS
    server_version = "tidegate"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one caller in JSON."""
        status, document = self.server.answer(self.path, self.headers.get("Authorization") or "")
        body = json.dumps(document, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the path is a secret, and stderr is the child's."""
