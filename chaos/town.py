"""Real processes around one installation: a cloud, a server with a bomb in it, three people.

The server reaches the cloud through a fault proxy; people, and the oracle, reach it directly.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from chaos.launch import on_database
from chaos.proxy import FaultProxy
from tidegate.base.errors import WorldFailed
from tidegate.connectors.sandbox import REGION, free_port
from tidegate.main.first import CONFIG_NAME
from tidegate.main.postgres import PostgresServer, postgres_server
from tidegate.main.sandbox_stage import Stage
from tidegate.main.stage import PASSWORD, PEOPLE, Serving, StageOf
from tidegate.main.standin_stage import ACCOUNTS, SCHEDULED, SET, CenterStage

ROOT = Path(__file__).parents[1]
LAUNCH = (sys.executable, "-m", "chaos.launch", "serve")
UP_SECONDS = 40.0
CALL_SECONDS = 20.0
ROOM = 65_536  # bytes: a hundred lines of the journal, and not two commits of the database

Json = dict[str, Any]


def _ended(one: Serving) -> int | None:
    """How its process ended; None while it runs, or when there is none."""
    return one.process.poll() if one.process else None


def _limit_postgres(server: PostgresServer, most: int) -> None:
    """No process of the server writes beyond `most` bytes of a file, nor do its later children."""
    first = (server.folder / "data" / "postmaster.pid").read_text().split()[0]
    found = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    for pid in (first, *found):
        done = server.run("/usr/bin/prlimit", f"--pid={pid}", f"--fsize={most}:")
        if done.returncode and pid == first:
            raise WorldFailed("chaos_disk", f"PostgreSQL is not limited: {done.stderr}", "")


class Down(Exception):
    """The server did not answer: it is dead, or it died while it was asked."""


class Problem(Exception):
    """The server said no: its problem document."""

    def __init__(self, told: Json) -> None:
        super().__init__(f"{told.get('code')}: {told.get('detail')}")
        self.code = str(told.get("code", ""))


class _Bombed(StageOf):
    """A stage whose server is started by `chaos.launch`, and whose cloud is behind a proxy."""

    proxy: FaultProxy
    way = ""  # to another database than the settings say, as the server reaches it
    bomb: tuple[str, int] = ("", 0)
    compacts = False  # the journal drops what is over at once
    releases: dict[Path, Path]  # by a server's directory: where the release it runs is, if not ours

    def start_server(self) -> None:
        """`tidegate serve` with `bomb`, leading its own process group, until it answers; each that
        is down.
        """
        down = [one for one in self.servers if one.process is None]
        for one in down:
            one.process = self._launched(one)
        until = time.monotonic() + UP_SECONDS
        while time.monotonic() < until:
            # One whose bomb was in starting is started again by whoever needs it.
            if all(one.answers() or _ended(one) == -signal.SIGKILL for one in down):
                return
            if any(_ended(one) not in (None, -signal.SIGKILL) for one in down):
                break
            time.sleep(0.05)
        tail = (self.directory / "server.log").read_text(errors="replace")[-800:]
        raise WorldFailed("chaos_server", f"the server did not come up: {tail}", "see its log")

    def _launched(self, one: Serving) -> "subprocess.Popen[bytes]":
        point, nth = self.bomb
        source = self.releases.get(one.home, ROOT / "src")
        with (self.directory / "server.log").open("ab") as log:
            return subprocess.Popen(
                [*LAUNCH, "--config", str(one.config)],
                env={
                    **self.server_environment(),
                    "PYTHONPATH": f"{source}:{ROOT / 'src'}:{ROOT}",
                    "TIDEGATE_CHAOS_DATABASE": self.way,
                    "TIDEGATE_CHAOS_POINT": point,
                    "TIDEGATE_CHAOS_NTH": str(nth),
                    "TIDEGATE_CHAOS_COMPACTS": "1" if self.compacts else "",
                    "TIDEGATE_CHAOS_ARMED": str(self.armed),
                    "TIDEGATE_CHAOS_HITS": str(self.hits),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def armed(self) -> Path:
        """The bomb counts while this file exists."""
        return self.directory / "armed"

    @property
    def hits(self) -> Path:
        """Every point that was passed."""
        return self.directory / "hits"

    def cloud_up(self) -> None:
        """The cloud, and the proxy in front of it."""
        super().cloud_up()  # type: ignore[safe-super]
        self.proxy = FaultProxy(int(self.cloud_url.rpartition(":")[2])).__enter__()

    def cloud_down(self) -> None:
        """Both are gone."""
        if hasattr(self, "proxy"):
            self.proxy.__exit__()
        super().cloud_down()  # type: ignore[safe-super]

    def settings(self) -> str:
        """What they say of the cloud, by way of the proxy."""
        found: str = super().settings()  # type: ignore[safe-super]
        return found.replace(self.cloud_url, self.proxy.url)


class _Roles(_Bombed, Stage):
    pass


class _Center(_Bombed, CenterStage):
    pass


class Town:
    """One installation of a role kind. `call` is the API as a person; `take` and `acts` the cloud.

    With two servers each has a directory, a journal and locks of its own, as on two machines. One
    that is killed stays dead while the other lives. A context manager: no process is left behind.
    """

    def __init__(
        self, kind: str, directory: Path, engine: str = "sqlite", servers: int = 1
    ) -> None:
        self.kind, self.engine = kind, engine
        directory.mkdir(parents=True, exist_ok=True)
        self.stage: _Bombed = (_Roles if kind == "iam-role" else _Center)(directory)
        self.stage.releases = {}
        self.stage.servers += [Serving(directory / f"server-{n}") for n in range(2, servers + 1)]
        self._noticed: list[Serving] = []  # dead, and counted
        self._tokens: dict[str, str] = {}
        self._settings = ""
        self._stack = ExitStack()
        self.postgres: PostgresServer | None = None
        self.way_to_database: FaultProxy | None = None
        self.up_again = time.time()
        self.kills = 0

    def __enter__(self) -> "Town":
        """Everything is up and everybody signed in."""
        if self.engine == "postgresql":
            server = self._stack.enter_context(postgres_server())
            way = self._stack.enter_context(FaultProxy(server.port, http=False))
            self.stage.way = server.url().replace(f":{server.port}/", f":{way.port}/")
            self._stack.enter_context(on_database(server.url()))
            self.postgres, self.way_to_database = server, way
        self.stage.__enter__()
        for login in PEOPLE:
            body = {"login": login, "password": PASSWORD, "label": "chaos"}
            self._tokens[login] = self.call("", "POST", "signin", body)["token"]
        return self

    def __exit__(self, *_: object) -> None:
        """Everything is down but the database, which the evidence is read from: see `close`."""
        self.stage.__exit__()

    def close(self) -> None:
        """The database is down too."""
        self._stack.close()

    def heal(self) -> None:
        """Whatever was done to the ways and the settings is undone."""
        self.stage.proxy.clear()
        if self.way_to_database is not None:
            self.way_to_database.clear()
        self.with_targets()

    @property
    def roles(self) -> tuple[str, str]:
        """The role that is ended early and the one that runs out."""
        if self.kind == "iam-role":
            return "aws-demo/admin", "aws-demo/admin"
        return "aws-prod/admin", f"{SCHEDULED}/admin"

    def call(
        self,
        person: str,
        method: str,
        path: str,
        body: Json | None = None,
        at: Serving | None = None,
    ) -> Json:
        """One call of the API, `at` that server. Raises Down, Problem."""
        request = urllib.request.Request(
            f"{(at or self._server_of(person)).url}/api/{path}",
            method=method,
            data=json.dumps(body or {}).encode() if method != "GET" else None,
            headers={"Content-Type": "application/json"},
        )
        if person:
            request.add_header("Authorization", f"Bearer {self._tokens[person]}")
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:
                found: Json = json.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            try:
                told = json.loads(error.read())
            except (OSError, ValueError):
                raise Down from error
            raise Problem(told) from error
        except (OSError, ValueError) as error:
            raise Down(str(error)) from error

    def down(self) -> list[Serving]:
        """The servers whose process does not run."""
        return [one for one in self.stage.servers if one.process is None or _ended(one) is not None]

    @property
    def one_lives(self) -> bool:
        """Whether one of two servers is dead."""
        return 0 < len(self.down()) < len(self.stage.servers)

    def revive(self) -> bool:
        """Start the servers again when all are dead, with no bomb. Whether all were dead."""
        down = self.down()
        new = [one for one in down if one not in self._noticed]
        if new:
            self.kills += len(new)
            self._noticed += new
            self.up_again = time.time()  # from here on the others take up what it had in hand
        if len(down) < len(self.stage.servers):
            return False
        self.bring_back()
        return True

    def bring_back(self) -> None:
        """Whoever is dead is started again, with no bomb."""
        for one in self.down():
            one.signal(signal.SIGKILL)  # reaped
        self.stage.bomb = ("", 0)
        self.stage.start_server()
        self._noticed.clear()
        self.up_again = time.time()

    def _server_of(self, person: str) -> Serving:
        """Where that person's call goes: bo's to the second first; nobody's to one that is dead."""
        choice = self.stage.servers[::-1] if person == "bo" else self.stage.servers
        down = self.down()
        return next((one for one in choice if one not in down), choice[0])

    def died(self, within: float) -> bool:
        """Whether a server was killed since `restart`, or is within those seconds. Counts it."""
        until = time.monotonic() + within
        while not self.kills and not self.down() and time.monotonic() < until:
            time.sleep(0.05)
        self.revive()
        return self.kills > 0

    def restart(self, bomb: tuple[str, int], *, compacts: bool = False) -> None:
        """Stop the server well and start it with a bomb."""
        self.stage.armed.unlink(missing_ok=True)
        self.stage.hits.unlink(missing_ok=True)
        self.stage.stop_server(signal.SIGTERM)
        self.stage.bomb, self.stage.compacts = bomb, compacts
        self.stage.start_server()
        self.up_again = time.time()
        self._noticed.clear()
        self.kills = 0

    def join(self, release: Path, rule: str) -> Serving:
        """One more server, on a machine of its own, with another release and one more rule."""
        first = self.stage.servers[0]
        one = Serving(self.stage.directory / "joined", free_port())
        shutil.copytree(
            first.home, one.home, ignore=shutil.ignore_patterns("closing.*", "witness*")
        )
        (one.home / "witness").mkdir()
        text = first.config.read_text()
        one.config.write_text(text.replace(f"127.0.0.1:{first.port}", f"127.0.0.1:{one.port}"))
        (one.home / "policies" / "joined.cedar").write_text(rule)
        self.stage.releases[one.home] = release
        self.stage.servers.append(one)
        self.stage.start_server()
        return one

    def fill_disk(self, everything: bool = False) -> None:
        """No file of the database can grow beyond ROOM: the kernel refuses it until `make_room`.

        On SQLite that is the server's process, and it is left ROOM beyond the closing journal, as
        if journal and log were on a disk of their own. On PostgreSQL it is every process of that;
        it cannot write its log then, dies, and does not come up. With `everything` nothing of our
        server's can grow either.
        """
        if self.postgres is not None:
            _limit_postgres(self.postgres, ROOM)
        log, journal = self.stage.directory / "server.log", self.stage.home / "closing.journal"
        if everything:
            self._limit_files(1)
        elif self.postgres is None:
            os.truncate(log, 0)
            self._limit_files(ROOM + (journal.stat().st_size if journal.exists() else 0))

    def make_room(self) -> None:
        """Files may grow again; a PostgreSQL that went is started."""
        self._limit_files(resource.RLIM_INFINITY)
        if self.postgres is not None:
            self.postgres.stop(signal.SIGKILL)
            self.postgres.start()

    def _limit_files(self, most: int) -> None:
        for one in self.stage.servers:
            if one.process is not None and one.process.poll() is None:
                _, hard = resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (most, hard))

    def without_targets(self) -> None:
        """Every target leaves the settings, and the process that remembered them is killed."""
        path = self.stage.home / CONFIG_NAME
        self._settings = path.read_text()
        path.write_text(self._settings.partition("[[target]]")[0])
        self.stage.stop_server(signal.SIGKILL)

    def with_targets(self) -> None:
        """They are back."""
        if self._settings:
            (self.stage.home / CONFIG_NAME).write_text(self._settings)
            self._settings = ""

    def take(self, person: str, grant: str, role: str) -> Any:
        """A client that acts as the grant, with keys as its holder gets them. Raises Down, Problem.

        None: the cloud gives none now.
        """
        if isinstance(self.stage, _Roles):
            got = self.call(person, "POST", f"grants/{grant}/credentials")
            keys = (got["access_key_id"], got["secret_access_key"], got["session_token"])
            return self.stage.sandbox.client("iam", *keys)
        return self._sign_in(person, role.partition("/")[0])

    def acts(self, client: Any) -> bool:
        """Whether the cloud lets it act now."""
        try:
            client.list_users(MaxItems=1)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
                raise
            return False
        return True

    def may_sign_in(self, person: str, role: str) -> bool:
        """Whether a new session could be taken at the cloud itself now."""
        if isinstance(self.stage, _Roles):
            return False
        return self._sign_in(person, role.partition("/")[0]) is not None

    def standing(self) -> list[str]:
        """What stands in the cloud that a grant would have to answer for."""
        if not isinstance(self.stage, _Center):
            return []
        state = self.stage.cloud.ask("GET", "state")
        found = [f"{one['principal']}@{one['account']}" for one in state["assignments"]]
        found += [str(one.get("name", one)) for one in state.get("schedules", [])]
        return found

    def _sign_in(self, person: str, target: str) -> Any:
        import boto3
        from botocore.config import Config

        stage = self.stage
        assert isinstance(stage, _Center)
        config = Config(retries={"total_max_attempts": 1, "mode": "standard"})
        portal = boto3.client(
            "sso", endpoint_url=stage.cloud_url, region_name=REGION, config=config
        )
        try:
            got = portal.get_role_credentials(
                accessToken=stage._ids["portal_tokens"][person],
                accountId=ACCOUNTS[target],
                roleName=SET,
            )["roleCredentials"]
        except ClientError:
            return None
        return boto3.client(
            "iam",
            endpoint_url=stage.cloud_url,
            region_name=REGION,
            aws_access_key_id=got["accessKeyId"],
            aws_secret_access_key=got["secretAccessKey"],
            aws_session_token=got["sessionToken"],
            config=config,
        )
