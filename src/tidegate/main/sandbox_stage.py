"""The demo's stage: a sandbox cloud, a server and three people, all in one temporary directory."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.base.errors import WorldFailed
from tidegate.connectors.sandbox import ACCOUNT, REGION, ROOT_KEY, ROOT_SECRET, Sandbox, free_port
from tidegate.main.first import CONFIG_NAME, VERIFIER_NAME, make_installation

BIN = Path(sys.executable).parent
PEOPLE = ("ana", "bo", "cy")  # ana and cy ask; bo leads, and approves
PASSWORD = "only for the sandbox"  # noqa: S105 - the demo's accounts live for a minute
UP_SECONDS = 30.0
PATIENCE_SECONDS = 60

TARGET = """
[[target]]
id = "aws-demo"
connector = "aws"
account = "{account}"
owner = "group:sre-leads"
time_zone = "UTC"
labels = ["env=demo"]

[target.aws]
region = "{region}"
endpoint_url = "{url}"
access_key_id = "env:TIDEGATE_DEMO_KEY"
secret_access_key = "env:TIDEGATE_DEMO_SECRET"

[[target.role]]
name = "admin"
title = "Administrator of the sandbox account"
arn = "{arn}"
probe = "iam:ListUsers"
"""
RULES = """
@id("demo-admin") @max("1h") @approve("1 of group:sre-leads")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"aws-demo")
when { context has ticket && context.ticket like "INC-*" };
"""
GROUPS = """
[group.tidegate-operators]
members = ["bo"]

[group.sre]
members = ["ana", "cy"]

[group.sre-leads]
members = ["bo"]
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Its one JSON object. Raises WorldFailed when it printed none."""
        try:
            found = json.loads(self.out)
        except json.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise WorldFailed(
                "demo_output", f"expected JSON, got `{(self.out + self.err)[:300]}`", ""
            )
        return found


@dataclass(frozen=True, slots=True)
class Keys:
    """Static keys in somebody's hand."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""

    def environment(self) -> dict[str, str]:
        """As the AWS tools read them."""
        found = {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
        }
        return {**found, "AWS_SESSION_TOKEN": self.session_token} if self.session_token else found


class Stage:
    """Everything the demo needs, and its sure end. A context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "installation"
        self.sandbox = Sandbox(directory / "cloud")
        self.port = 0
        self.server: subprocess.Popen[bytes] | None = None
        self.role_arn = ""

    def __enter__(self) -> "Stage":
        """The sandbox and the server are up, everybody is signed in."""
        try:
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """No process is left behind, whatever happened."""
        self.stop_server(signal.SIGTERM)
        self.sandbox.stop()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def key_file(self) -> Path:
        """The verifier key, as an auditor would have been given it beforehand."""
        return self.home / VERIFIER_NAME

    def start_server(self) -> None:
        """`tidegate serve`, leading its own process group, until it answers."""
        with (self.directory / "server.log").open("ab") as log:
            self.server = subprocess.Popen(
                [str(BIN / "tidegate"), "serve", "--config", str(self.home / CONFIG_NAME)],
                env=self.server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + UP_SECONDS
        while time.monotonic() < until:
            if self.answers():
                return
            if self.server.poll() is not None:
                break
            time.sleep(0.05)
        tail = (self.directory / "server.log").read_text(errors="replace")[-800:]
        raise WorldFailed("demo_server", f"the server did not come up: {tail}", "see its log")

    def stop_server(self, number: signal.Signals) -> None:
        """Signal the server's whole process group and wait until it is reaped."""
        server, self.server = self.server, None
        if server is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        try:
            server.wait(timeout=8)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()

    def answers(self) -> bool:
        """Whether something listens on the server's port."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def tidegate(self, person: str, *words: str, **more: str) -> Told:
        """One command of the command line, as `person` on their own machine."""
        return self._run([str(BIN / "tidegate"), *words], person, more)

    def aws(self, person: str, environment: Mapping[str, str], *words: str) -> Told:
        """The real AWS command line, with that person's environment."""
        return self._run(
            [str(BIN / "aws"), *words, "--endpoint-url", self.sandbox.url], person, environment
        )

    def wait_for(self, person: str, grant: str, *states: str) -> dict[str, Any]:
        """The grant once it is in one of `states`; what it is now when patience ends."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            told = self.tidegate(person, "grants", grant, "--json")
            found = told.json() if told.code == 0 else {"state": "?", "says": told.err}
            if found.get("state") in states or time.monotonic() > until:
                return found
            time.sleep(0.2)

    def _run(self, command: list[str], person: str, more: Mapping[str, str]) -> Told:
        done = subprocess.run(
            command,
            env={**self._environment(), **self._person(person), **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Told(done.returncode, done.stdout, done.stderr)

    def _person(self, person: str) -> dict[str, str]:
        own = self.directory / "people" / person
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {"HOME": str(own), "TIDEGATE_HOME": str(own / "tidegate")}

    def _environment(self) -> dict[str, str]:
        """A clean environment: nothing of the caller's AWS set-up reaches the demo."""
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "TERM") if key in os.environ}
        return {
            **kept,
            "PATH": f"{BIN}:{kept.get('PATH', '/usr/bin:/bin')}",
            "HOME": str(self.directory),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.sandbox.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def server_environment(self) -> dict[str, str]:
        """What the server's machine has and people's do not: Tidegate's own cloud identity."""
        return {
            **self._environment(),
            "TIDEGATE_DEMO_KEY": ROOT_KEY,
            "TIDEGATE_DEMO_SECRET": ROOT_SECRET,
        }

    def _set_up(self) -> None:
        from tidegate.main.config import load_config
        from tidegate.main.wiring import open_house
        from tidegate.shell.identity import add_account

        self.sandbox.start()
        self.role_arn = self.sandbox.create_role("demo-admin")
        self.port = free_port()
        made = make_installation(
            self.home, "demo.tidegate.invalid/log", ("bo",), f"127.0.0.1:{self.port}"
        )
        with made.config.open("a") as file:
            file.write(
                TARGET.format(
                    account=ACCOUNT, region=REGION, url=self.sandbox.url, arn=self.role_arn
                )
            )
        (self.home / "policies" / "rules.cedar").write_text(RULES)
        (self.home / "groups.toml").write_text(GROUPS)
        os.environ.update(TIDEGATE_DEMO_KEY=ROOT_KEY, TIDEGATE_DEMO_SECRET=ROOT_SECRET)
        house = open_house(load_config(made.config), create=True)
        for login in PEOPLE:
            add_account(house, login, PASSWORD, login, f"{login}@demo.invalid")
        house.store.close()
        self.start_server()
        secret = self.directory / "password"
        secret.write_text(PASSWORD + "\n")
        for login in PEOPLE:
            told = self.tidegate(
                login, "login", self.url, "--login", login, "--password-file", str(secret)
            )
            if told.code:
                raise WorldFailed("demo_login", f"`{login}` could not sign in: {told.err}", "")
