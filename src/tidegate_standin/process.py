"""The stand-in as a process of its own: run it, or start and stop one."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType

from tidegate_standin.admin import Admin
from tidegate_standin.clock import Clock
from tidegate_standin.cloud import new_cloud
from tidegate_standin.dispatch import Desk
from tidegate_standin.server import Server

ACCOUNT = "111111111111"
MANAGEMENT = "999999999999"
_STOP_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A started stand-in. Use it as a context manager, or call `stop`."""

    url: str
    pid: int
    process: subprocess.Popen[str]

    @property
    def admin(self) -> Admin:
        """A client of its admin API."""
        return Admin(self.url)

    def stop(self) -> None:
        """End the process and wait for it; a second call does nothing."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start(
    accounts: Sequence[str] = (ACCOUNT,), *, management: str = MANAGEMENT, port: int = 0
) -> Running:
    """Start a stand-in on a free port of 127.0.0.1 and return when it listens.

    It ends with `stop`, or when the process that started it is gone. Raises RuntimeError when it
    does not come up.
    """
    command = [
        sys.executable,
        "-m",
        "tidegate_standin",
        "--port",
        str(port),
        "--management",
        management,
    ]
    command += [part for account in accounts for part in ("--account", account)]
    command += ["--parent", str(os.getpid())]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        process.kill()
        raise RuntimeError(f"the stand-in did not start: exit {process.wait()}")
    said = json.loads(line)
    return Running(url=said["url"], pid=process.pid, process=process)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tidegate_standin",
        description="A stand-in for AWS's Identity Center and what acts through it, on 127.0.0.1.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--account", action="append", default=[], help="a member account, 12 digits"
    )
    parser.add_argument("--management", default=MANAGEMENT, help="the management account")
    parser.add_argument("--parent", type=int, default=0, help="stop when this process is gone")
    return parser


def _watch(server: Server, parent: int, stopped: threading.Event) -> None:
    while not stopped.wait(0.5):
        if os.getppid() != parent:
            server.shutdown()
            return


def run(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Prints one line of JSON when it listens."""
    asked = _parser().parse_args(arguments)
    clock = Clock()
    desk = Desk(cloud=new_cloud(clock, asked.account or [ACCOUNT], asked.management))
    server = Server(asked.port, desk)
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if asked.parent:
        threading.Thread(target=_watch, args=(server, asked.parent, stopped), daemon=True).start()
    port = server.server_address[1]
    sys.stdout.write(
        json.dumps({"url": f"http://127.0.0.1:{port}", "port": port, "pid": os.getpid()}) + "\n"
    )
    sys.stdout.flush()
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    return 0
