"""A small API server whose answers a test writes, and a machine without an installation."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tidegate.base.when import Instant
from tidegate.shell.cli.local import Account, AwsAsked, Plain

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
RQ = "rq_01j00000000000000000000001"
GR = "gr_01j00000000000000000000001"
FI = "fi_01j00000000000000000000001"
PN = "pn_01j00000000000000000000001"
DIGEST = "sha256:" + "9f" * 32
ESCAPE = "\x1b[31m"  # turns a terminal red
TOKEN = "tdg_" + "t" * 43

Reply = tuple[int, Any]  # status, and a JSON object, text or bytes
Call = tuple[str, str, Any]  # method, path with query, body


class FakeServer(ThreadingHTTPServer):
    """Answers `replies[(method, path)]`; a list is answered in turn, its last for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: dict[tuple[str, str], Reply | list[Reply]] = {}
        self.calls: list[Call] = []
        self.headers: list[Mapping[str, str]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def on(self, method: str, path: str, *replies: Reply | Any) -> None:
        """Answer `path`: each reply a (status, body), or a body answered with 200."""
        told = [one if isinstance(one, tuple) else (200, one) for one in replies]
        self.replies[method, path] = told

    def sent(self, method: str) -> list[Any]:
        """The bodies sent by `method`."""
        return [body for how, _, body in self.calls if how == method]

    def close(self) -> None:
        """Stop, and free the port."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer
    wbufsize = -1  # head and body in one packet: two would wait for each other's acknowledgement

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.calls.append((self.command, self.path, json.loads(raw) if raw else None))
        self.server.headers.append(dict(self.headers.items()))
        told = self.server.replies.get((self.command, path))
        if isinstance(told, list):
            told = told.pop(0) if len(told) > 1 else told[0]
        status, body = told or (404, problem("unknown_id", "nothing you may see has this id"))
        data = body if isinstance(body, bytes) else _encoded(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if 300 <= status < 400:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the names http.server calls

    def log_message(self, *_: Any) -> None:
        """Silence."""


def _encoded(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def problem(code: str, detail: str, family: str = "asked_wrongly", help: str = "do so") -> Plain:
    """A problem as the API tells it."""
    told = {"detail": detail, "code": code, "family": family, "help": help}
    return {"title": "t", "status": 0, **told}


def a_request(**changed: Any) -> dict[str, Any]:
    """A request as the API answers it."""
    item = {
        "role": "aws-prod/admin",
        "title": "Administrator",
        "carrier": "prod-admin",
        "requirement": "1 of group:leads",
        "missing": ["1 of group:leads"],
        "exposure": "an end takes effect at once",
    }
    plain = {
        "id": RQ,
        "state": "pending",
        "says": "waits for 1 of group:leads",
        "principal": {"id": "pr_1", "name": "ana"},
        "items": [item],
        "duration_seconds": 2700,
        "start": None,
        "reason": "roll back the gateway",
        "ticket": "INC-4711",
        "emergency": False,
        "digest": DIGEST,
        "decide_by": "2026-11-23T17:00:00.000Z",
        "votes": [],
        "grants": [],
    }
    return plain | changed


def a_grant(**changed: Any) -> dict[str, Any]:
    """A grant as the API answers it."""
    plain = {
        "id": GR,
        "request": RQ,
        "principal": {"id": "pr_1", "name": "ana"},
        "role": "aws-prod/admin",
        "state": "open",
        "says": "open for another 44m",
        "ends_at": "2026-11-23T09:44:00.000Z",
        "remaining_seconds": 2640,
        "sessions": 1,
        "proof": "",
        "cause": "",
    }
    return plain | changed


def a_panic(**changed: Any) -> dict[str, Any]:
    """A panic as the API answers it."""
    plain = {
        "id": PN,
        "scope": "all",
        "name": "",
        "says": "everything in all: 0 gone, 2 still closing",
        "sealed": True,
        "swept": True,
        "safe": False,
        "grants": 2,
        "requests": 0,
        "gone": 0,
        "removed": 0,
        "residual_until": None,
        "closing": 2,
        "unverified": 0,
        "still": [{"id": GR, "role": "aws-prod/admin", "says": "the cloud refused the last call"}],
    }
    return plain | changed


def some_credentials(**changed: Any) -> dict[str, Any]:
    """One credential as the API answers it."""
    plain = {
        "kind": "aws",
        "grant": GR,
        "session": "se_1",
        "access_key_id": "ASIAFAKE",
        "secret_access_key": "very secret",
        "session_token": "token'with quote",
        "ends_at": "2026-11-23T09:44:00.000Z",
        "expires_at": "2026-11-23T10:00:00.000Z",
        "bound_until": "2026-11-23T09:44:00.000Z",
    }
    return plain | changed


@dataclass
class FakeReport:
    """An outcome of a check of evidence."""

    ok: bool
    findings: list[Plain] = field(default_factory=list)

    def as_json(self) -> Plain:
        """Ready for JSON."""
        return {"ok": self.ok, "findings": self.findings, "size": 7, "cannot_exclude": ["a cut"]}


@dataclass
class FakeLocal:
    """A machine: time stands still, waiting is counted, and what it was asked is kept."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    findings: Sequence[Plain] = ()
    differing: Sequence[Plain] = ()
    report: FakeReport = field(default_factory=lambda: FakeReport(True))
    panicked: Plain = field(default_factory=lambda: a_panic(safe=True))
    recovered: Plain = field(default_factory=lambda: {"ok": True, "grants": [], "counts": {}})
    code: int = 0
    interrupt_after: int = 1_000
    pauses: int = 0
    drawn: int = 0

    def clock(self) -> Instant:
        """Always the same."""
        return NOW

    def randomness(self, count: int) -> bytes:
        """Different each time."""
        self.drawn += 1
        return self.drawn.to_bytes(count)

    def pause(self, seconds: float) -> None:
        """Hardly any time passes; Ctrl-C comes after `interrupt_after` times."""
        time.sleep(0.002)
        self.pauses += 1
        if self.pauses > self.interrupt_after:
            raise KeyboardInterrupt

    def init(
        self,
        directory: Path,
        origin: str,
        accounts: Sequence[Account],
        database: str = "",
    ) -> Plain:
        """Remember it."""
        self.asked.append(("init", directory, origin, list(accounts), database))
        return {"directory": str(directory), "config": "c.toml", "verifier": "log+00+AA"}

    def serve(self, config: Path, host: str, port: int, worker: str = "") -> int:
        """Remember it."""
        self.asked.append(("serve", config, host, port, worker))
        return self.code

    def work(self, config: Path, worker: str) -> int:
        """Remember it."""
        self.asked.append(("work", config, worker))
        return self.code

    def check(self, config: Path) -> Sequence[Plain]:
        """What the test wants found."""
        return self.findings

    def onboard_aws(self, config: Path | None, form: str, asked: AwsAsked) -> str:
        """Remember it."""
        self.asked.append(("onboard", config, form, asked))
        return '{"format": "fake"}\n'

    def demo(self, as_json: bool, keep: bool, broken: bool, database: str) -> int:
        """Remember it."""
        self.asked.append(("demo", as_json, keep, broken, database))
        return self.code

    def account_add(self, config: Path, account: Account) -> Plain:
        """Remember it."""
        self.asked.append(("add", account))
        return {"principal": "pr_1", "login": account.login, "enabled": True}

    def account_list(self, config: Path) -> Sequence[Plain]:
        """Two of them."""
        return [
            {"login": "ana", "name": "Ana", "enabled": True, "groups": ["sre"]},
            {"login": "bo", "name": f"Bo{ESCAPE}", "enabled": False, "groups": []},
        ]

    def account_enable(self, config: Path, login: str, enabled: bool) -> Plain:
        """Remember it."""
        self.asked.append(("enable", login, enabled))
        return {"login": login, "enabled": enabled}

    def account_password(self, config: Path, login: str, password: str) -> Plain:
        """Remember it."""
        self.asked.append(("passwd", login, password))
        return {"login": login}

    def verify_log(self, config: Path, since: Sequence[str]) -> FakeReport:
        """What the test wants reported."""
        self.asked.append(("verify_log", config, list(since)))
        return self.report

    def key_show(self, config: Path) -> Plain:
        """A log whose key was changed once."""
        keys = [
            {"id": "0a0b0c0d", "first": 0, "until": 42, "ended_at": "2026-11-23T09:00:00.000Z"},
            {"id": "01020304", "first": 43, "until": None, "ended_at": None},
        ]
        public = f"log+0a0b0c0d+AA 0-42\nlog+01020304+BB 43- CC{ESCAPE}\n"
        return {"origin": "log", "keys": keys, "public": public, "left_over": True}

    def key_rotate(self, config: Path) -> Plain:
        """Remember it."""
        self.asked.append(("key_rotate", config))
        found = {"before": "log+0a0b0c0d+AA", "after": "log+01020304+BB", "event": 42}
        return {"origin": "log", "public": "keys/log.vkey", "kept": "keys/old", **found}

    def panic(self, *asked: Any) -> Plain:
        """Remember all but the way to tell; what the test wants to have come of it."""
        self.asked.append(("panic", *asked[:-1]))
        asked[-1]("sealed")
        return self.panicked

    def recover(self, *asked: Any) -> Plain:
        """Remember all but the way to tell; what the test wants to have come of it."""
        self.asked.append(("recover", *asked[:-1]))
        return self.recovered

    def rebuild_check(self, config: Path) -> Sequence[Plain]:
        """What the test wants to differ."""
        return self.differing
