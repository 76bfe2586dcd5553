"""The HTTP server: one thread a connection, one lock around the state, one thread for time."""

from __future__ import annotations

import json
import socket
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tidegate_standin.admin_api import PREFIX, administer
from tidegate_standin.dispatch import Desk
from tidegate_standin.errors import BadAdminRequest, Unanswered
from tidegate_standin.signing import HttpRequest
from tidegate_standin.wire import Answer

_TICK_SECONDS = 0.1
_LONGEST_BODY = 4 * 1024 * 1024  # bytes; AWS's own services stop at far less


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        """Small answers go out at once: nothing waits for more to send."""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: tests read the state."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The Date of every answer: the stand-in's clock."""
        return formatdate(
            self.server.desk.cloud.clock.now() if timestamp is None else timestamp, usegmt=True
        )

    def version_string(self) -> str:
        """No version of Python in the Server header."""
        return "tidegate-standin"

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _LONGEST_BODY:
            self._send(Answer(status=413, headers={"Connection": "close"}, body=b""))
            self.close_connection = True
            return
        body = self.rfile.read(length)
        path, _, query = self.path.partition("?")
        if path.startswith(PREFIX):
            self._send(self._administer(path, body))
            return
        request = HttpRequest(
            method=self.command,
            path=path,
            query=query,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
        )
        try:
            self._send(self._answer(request))
        except Unanswered:
            # close() alone would leave the client waiting: the socket is still held by the files.
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, request: HttpRequest) -> Answer:
        desk, lock = self.server.desk, self.server.lock
        with lock:
            desk.pass_time()
            asked = desk.recognise(request)
        if asked.fault is not None and asked.fault.kind == "delay":
            time.sleep(float(asked.fault.values.get("seconds", 1)))
        with lock:
            desk.pass_time()
            return desk.answer(request, asked)

    def _administer(self, path: str, body: bytes) -> Answer:
        try:
            asked = json.loads(body) if body else {}
            with self.server.lock:
                shown = administer(self.server.desk, self.command, path, asked)
        except (BadAdminRequest, KeyError, ValueError) as error:
            return _json(400, {"error": str(error)})
        return _json(200, shown)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - http.server's names


def _json(status: int, shown: object) -> Answer:
    headers = {"Content-Type": "application/json"}
    return Answer(status=status, headers=headers, body=json.dumps(shown).encode())


class Server(ThreadingHTTPServer):
    """Serves one `Desk` on 127.0.0.1 until `shutdown`."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, desk: Desk) -> None:
        self.desk = desk
        self.lock = threading.RLock()
        self._stopped = threading.Event()
        super().__init__(("127.0.0.1", port), _Handler)
        threading.Thread(target=self._tick, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is no news; anything else is printed by the base class."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def _tick(self) -> None:
        while not self._stopped.wait(_TICK_SECONDS):
            with self.lock:
                self.desk.pass_time()

    def server_close(self) -> None:
        """Close the socket and let the thread for time end."""
        self._stopped.set()
        super().server_close()
