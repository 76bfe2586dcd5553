"""What every demo stands on: an installation, its servers and three people, in one directory.

The cloud is the subclass's: `sandbox_stage.py`, `standin_stage.py`. Everything runs as a process of
its own and is reached as people reach it: over HTTP, and through the command line. On SQLite one
server is the whole installation; on PostgreSQL two share a database, each with a directory, a port
and a journal of its own, as on two machines. ana and cy then talk to one of them, bo to the other.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tidegate.base.errors import WorldFailed
from tidegate.connectors.sandbox import REGION, free_port
from tidegate.main.first import CONFIG_NAME, VERIFIER_NAME, make_installation
from tidegate.main.postgres import postgres_server

BIN = Path(sys.executable).parent
PEOPLE = ("ana", "bo", "cy")  # ana and cy ask; bo leads, and approves
PASSWORD = "only for the sandbox"  # noqa: S105 - the demo's accounts live for a minute
UP_SECONDS = 30.0
PATIENCE_SECONDS = 60
SQLITE, POSTGRESQL = "sqlite", "postgresql"
ORIGIN = "demo.tidegate.invalid/log"

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

    @property
    def error(self) -> str:
        """The error among what was printed; its first line when there is none."""
        lines = self.err.strip().splitlines() or ["(nothing)"]
        found = next((line for line in lines if line.startswith("error:")), lines[0])
        return found.removeprefix("error: ")


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


@dataclass(slots=True)
class Serving:
    """One server: its own directory with settings and journal, its port, its process if it runs."""

    home: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.home / CONFIG_NAME

    def answers(self) -> bool:
        """Whether something listens on its port."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def signal(self, number: signal.Signals) -> None:
        """Signal its whole process group and wait until it is reaped."""
        process, self.process = self.process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(timeout=8)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class StageOf(ABC):
    """Everything a demo needs, and its sure end. A context manager."""

    rules = ""

    def __init__(self, directory: Path, database: str = SQLITE) -> None:
        self.directory = directory
        self.home = directory / "installation"
        self.database = database
        self.servers = [Serving(self.home)]
        if database == POSTGRESQL:
            self.servers.append(Serving(directory / "second"))
        self._left = ExitStack()

    @property
    @abstractmethod
    def cloud_url(self) -> str:
        """Where the cloud answers, once it is up."""

    @abstractmethod
    def cloud_up(self) -> None:
        """Start the cloud, with what is in it."""

    @abstractmethod
    def cloud_down(self) -> None:
        """End the cloud's process, also one that never came up."""

    @abstractmethod
    def settings(self) -> str:
        """What the installation's settings say of the cloud. Asked once it is up."""

    @abstractmethod
    def secrets(self) -> dict[str, str]:
        """Tidegate's own keys, as the settings name them in the environment."""

    @abstractmethod
    def installed(self, config: Path) -> None:
        """What is left to do in the cloud once the settings stand."""

    def __enter__(self) -> Self:
        """The cloud and the server are up, everybody is signed in."""
        try:
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """No process is left behind, whatever happened."""
        try:
            self.stop_server(signal.SIGTERM)
        finally:
            try:
                self.cloud_down()
            finally:
                self._left.close()

    @property
    def twin(self) -> bool:
        """Whether two servers share the database."""
        return len(self.servers) > 1

    @property
    def every_server(self) -> str:
        """What is killed when all are, in words."""
        return "both servers' process groups" if self.twin else "the server's process group"

    @property
    def key_file(self) -> Path:
        """The verifier key, as an auditor would have been given it beforehand."""
        return self.home / VERIFIER_NAME

    def start_server(self) -> None:
        """`tidegate serve`, leading its own process group, until it answers; each that is down."""
        down = [one for one in self.servers if one.process is None]
        with (self.directory / "server.log").open("ab") as log:
            for one in down:
                one.process = subprocess.Popen(
                    [str(BIN / "tidegate"), "serve", "--config", str(one.config)],
                    env=self.server_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        until = time.monotonic() + UP_SECONDS
        while time.monotonic() < until:
            if all(one.answers() for one in down):
                return
            if any(one.process and one.process.poll() is not None for one in down):
                break
            time.sleep(0.05)
        tail = (self.directory / "server.log").read_text(errors="replace")[-800:]
        raise WorldFailed("demo_server", f"the server did not come up: {tail}", "see its log")

    def stop_server(self, number: signal.Signals) -> None:
        """Signal every server's whole process group and wait until it is reaped."""
        for one in self.servers:
            one.signal(number)

    def answers(self) -> bool:
        """Whether something listens on any server's port."""
        return any(one.answers() for one in self.servers)

    def server_of(self, person: str) -> Serving:
        """Where that person's client goes: with two servers bo has the second as the first choice.

        Whoever's server is down goes to the other, as behind a load balancer.
        """
        second = self.twin and person == "bo"
        choice = self.servers[::-1] if second else self.servers
        return next((one for one in choice if one.process is not None), choice[0])

    def tidegate(self, person: str, *words: str, **more: str) -> Told:
        """One command of the command line, as `person` on their own machine."""
        return self._run([str(BIN / "tidegate"), *words], person, more)

    def aws(self, person: str, environment: Mapping[str, str], *words: str) -> Told:
        """The real AWS command line, with that person's environment."""
        return self._run(
            [str(BIN / "aws"), *words, "--endpoint-url", self.cloud_url], person, environment
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

    def server_environment(self) -> dict[str, str]:
        """What the server's machine has and people's do not: Tidegate's own cloud identity."""
        return {**self._environment(), **self.secrets()}

    def _run(self, command: list[str], person: str, more: Mapping[str, str]) -> Told:
        try:
            done = subprocess.run(
                command,
                env={**self._environment(), **self._person(person), **more},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            what = " ".join(command[1:3])
            said = f"expected `{what}` to end within {PATIENCE_SECONDS} s, got nothing"
            raise WorldFailed("demo_command", said, "see the server's log") from None
        return Told(done.returncode, done.stdout, done.stderr)

    def _person(self, person: str) -> dict[str, str]:
        own = self.directory / "people" / person
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = self.servers.index(self.server_of(person))
        return {"HOME": str(own), "TIDEGATE_HOME": str(own / f"tidegate-{number}")}

    def _environment(self) -> dict[str, str]:
        """A clean environment: nothing of the caller's AWS set-up reaches the demo."""
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "TERM") if key in os.environ}
        return {
            **kept,
            "PATH": f"{BIN}:{kept.get('PATH', '/usr/bin:/bin')}",
            "HOME": str(self.directory),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.cloud_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def _set_up(self) -> None:
        self.cloud_up()
        url = ""
        if self.database == POSTGRESQL:
            url = self._left.enter_context(postgres_server()).url()
        for one in self.servers:
            one.port = free_port()
        listens = [f"127.0.0.1:{one.port}" for one in self.servers]
        made = make_installation(self.home, ORIGIN, ("bo",), listens[0], url)
        with made.config.open("a") as file:
            file.write(self.settings())
        (self.home / "policies" / "rules.cedar").write_text(self.rules)
        (self.home / "groups.toml").write_text(GROUPS)
        self.installed(made.config)
        for one, listen in zip(self.servers[1:], listens[1:], strict=True):
            shutil.copytree(self.home, one.home)
            one.config.write_text(made.config.read_text().replace(listens[0], listen))
        self._accounts(made.config)
        self.start_server()
        self._sign_in()

    def _sign_in(self) -> None:
        """Everybody, at every server: a client keeps its token for one address."""
        secret = self.directory / "password"
        secret.write_text(PASSWORD + "\n")
        for login in PEOPLE:
            own = self.directory / "people" / login
            for number, one in enumerate(self.servers):
                words = ("login", one.url, "--login", login, "--password-file", str(secret))
                told = self.tidegate(login, *words, TIDEGATE_HOME=str(own / f"tidegate-{number}"))
                if told.code:
                    raise WorldFailed("demo_login", f"`{login}` could not sign in: {told.err}", "")

    def _accounts(self, config: Path) -> None:
        from tidegate.main.config import load_config
        from tidegate.main.wiring import open_house
        from tidegate.shell.identity import add_account

        with _in_environment(self.secrets()):
            house = open_house(load_config(config), create=True)
        for login in PEOPLE:
            add_account(house, login, PASSWORD, login, f"{login}@demo.invalid")
        house.store.close()


@contextmanager
def _in_environment(secrets: Mapping[str, str]) -> Iterator[None]:
    """This process's environment with `secrets`, as it was afterwards."""
    before = {name: os.environ.get(name) for name in secrets}
    os.environ.update(secrets)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
