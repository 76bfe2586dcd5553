"""A Tidegate API of two routes, over real HTTP on loopback, that counts what it is asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "tgt_the-users-own-token"
SECRETS = ("ASIAEXAMPLE", "secret-of-session", "token-of-session", TOKEN)


class FakeServer:
    """One grant, `gr_one`, of `aws-prod/admin`; tests move its end and state as they please."""

    def __init__(self, ends_at: str, expires_at: str) -> None:
        self.ends_at = ends_at
        self.expires_at = expires_at
        self.bound_until = ""
        self.state = "open"
        self.grant = "gr_one"
        self.mints = 0
        self.looks = 0
        self.resolves = 0
        self.tokens: set[str] = set()
        self.raw: bytes | None = None
        self.refuse: tuple[int, dict[str, Any]] | None = None
        self.pause = threading.Event()
        self.pause.set()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    @property
    def asked(self) -> int:
        return self.mints + self.looks + self.resolves

    def kill(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def reply(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        url = urlsplit(path)
        if self.refuse:
            return self.refuse
        if method == "POST" and url.path == f"/api/grants/{self.grant}/credentials":
            self.mints += 1
            return 201, self.minted()
        if url.path == f"/api/grants/{self.grant}":
            self.looks += 1
            return 200, {"state": self.state, "ends_at": self.ends_at, "role": "aws-prod/admin"}
        if url.path == "/api/grants":
            self.resolves += 1
            right = parse_qs(url.query) == {"role": ["aws-prod/admin"], "state": ["open"]}
            open_now = right and self.state == "open"
            return 200, {"grants": [{"id": self.grant}] if open_now else []}
        return 404, {"code": "not_found", "title": "Not found", "detail": "no such grant"}

    def minted(self) -> dict[str, Any]:
        return {
            "kind": "aws",
            "access_key_id": f"ASIAEXAMPLE{self.mints}",
            "secret_access_key": f"secret-of-session-{self.mints}",
            "session_token": f"token-of-session-{self.mints}",
            "key_id": f"ASIAEXAMPLE{self.mints}",
            "session": "se_one",
            "grant": self.grant,
            "issued_at": "2026-01-01T00:00:00.000Z",
            "expires_at": self.expires_at,
            "bound_until": self.bound_until or self.ends_at,
            "ends_at": self.ends_at,
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("GET")

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._answer("POST")

            def _answer(self, method: str) -> None:
                fake.tokens.add(self.headers["Authorization"])
                fake.pause.wait(5)
                if fake.raw is not None:
                    self.wfile.write(fake.raw)
                    return
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    status, document = 401, {"code": "not_signed_in"}
                else:
                    status, document = fake.reply(method, self.path)
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@contextmanager
def serving(ends_at: str, expires_at: str) -> Iterator[FakeServer]:
    server = FakeServer(ends_at, expires_at)
    try:
        yield server
    finally:
        server.pause.set()
        if server.thread.is_alive():
            server.kill()
