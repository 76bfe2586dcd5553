"""The demo of a refused end is a test too; and however it stops, nothing of it stays."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.story.test_demo import DATABASE
from tidegate.main.stage import BIN

LONGEST = 240  # seconds; it takes about one minute
UP = 2  # listening ports once the stage stands: the cloud's and the server's
_ADOPT = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
_LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp


@pytest.fixture(autouse=True)
def adopted() -> Iterator[None]:
    """Whatever outlives a demo becomes a child of this process, so that it can be seen."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_ADOPT, 1, 0, 0, 0)
    yield
    prctl(_ADOPT, 0, 0, 0, 0)


@dataclass
class Watched:
    """A demo as a process: what it started and where that listened, seen while it ran."""

    process: subprocess.Popen[str]
    others: frozenset[int]
    ports: set[int] = field(default_factory=set)

    def look(self) -> None:
        """Remember the ports of everything below it."""
        pids = below(self.process.pid)
        self.ports |= {port for pid in pids for port in ports_of(pid)}

    def until_up(self) -> None:
        """Return when its cloud and its server listen."""
        until = time.monotonic() + 60
        while len(self.ports) < UP and time.monotonic() < until:
            self.look()
            time.sleep(0.1)
        assert len(self.ports) >= UP, "the stage did not come up"

    def end(self) -> dict[str, Any]:
        """Wait for its end; what it told. Fails when a process or a port is left."""
        with_end = time.monotonic() + LONGEST
        while self.process.poll() is None and time.monotonic() < with_end:
            self.look()
            time.sleep(0.5)
        out, _ = self.process.communicate(timeout=10)
        left = below(os.getpid()) - self.others
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"left behind: {left}"
        assert [port for port in self.ports if answers(port)] == []
        assert len(self.ports) >= UP
        told: dict[str, Any] = json.loads(out)
        return told


def started() -> Watched:
    """The demo, as a newcomer starts it."""
    others = frozenset(below(os.getpid()))
    words = [str(BIN / "tidegate"), "demo", "--break", "--json", *DATABASE]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    return Watched(process, others)


def parents() -> dict[int, int]:
    """Every process that is not a zombie, with its parent."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(stat.parent.name)] = int(parent)
    return found


def below(pid: int) -> set[int]:
    """The descendants of `pid`."""
    known, found = parents(), {pid}
    while more := {one for one, parent in known.items() if parent in found} - found:
        found |= more
    return found - {pid}


def ports_of(pid: int) -> set[int]:
    """The TCP ports `pid` listens at."""
    held = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                held.add(os.readlink(descriptor))
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == _LISTENS and f"socket:[{words[9]}]" in held:
            found.add(int(words[1].rpartition(":")[2], 16))
    return found


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def test_broken_demo_claims_what_does_not_hold() -> None:
    """`tidegate demo --break --json`: one object, every check in it held, nothing left."""
    watched = started()
    told = watched.end()
    assert [check for check in told["checks"] if not check["ok"]] == []
    assert (told["ok"], told["fault"], watched.process.returncode) == (True, "", 0)
    assert len(told["checks"]) >= 34
    names = [check["check"] for check in told["checks"]]
    rungs = ["rung_accepted", "rung_removed", "rung_gone", "rung_denied"]
    assert [name for name in names if name in rungs] == rungs


def test_interrupted_demo_leaves_processes() -> None:
    """SIGINT, and another while it clears up: it stops, says so, and nothing is left."""
    watched = started()
    watched.until_up()
    watched.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    watched.process.send_signal(signal.SIGINT)
    told = watched.end()
    assert (told["ok"], told["fault"], watched.process.returncode) == (False, "interrupted", 1)


def test_failed_demo_leaves_processes() -> None:
    """Its cloud dies in the middle: one object that says what failed, exit 1, nothing left."""
    watched = started()
    watched.until_up()
    clouds = [pid for pid in below(watched.process.pid) if is_standin(pid)]
    assert len(clouds) == 1
    os.kill(clouds[0], signal.SIGKILL)
    told = watched.end()
    assert (told["ok"], watched.process.returncode) == (False, 1)
    assert told["fault"] or [check for check in told["checks"] if not check["ok"]]


def is_standin(pid: int) -> bool:
    """Whether it is the demo's cloud."""
    with suppress(OSError):
        return b"tidegate_standin" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
