"""The emulator as a process: its version, where it listens, and that stopping it is sure."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tidegate.base.errors import Unreachable
from tidegate.connectors.sandbox import Sandbox


def members(group: int) -> list[int]:
    """The processes of a process group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def test_emulator_is_the_version_the_facts_were_tried_on(sandbox: Sandbox) -> None:
    """What it enforces was tried on this version; another one is tried again first."""
    health = sandbox.health()
    assert health["version"] == "1.5.33"
    assert health["auth"] == "enabled"


def test_nothing_listens_beyond_loopback(sandbox: Sandbox) -> None:
    """Every listening socket of the process is on 127.0.0.1."""
    inodes = set()
    for process in members(sandbox.group):
        for entry in Path(f"/proc/{process}/fd").iterdir():
            link = os.readlink(entry) if entry.is_symlink() else ""
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append(fields[1].partition(":")[0])
    assert set(listening) == {"0100007F"}


def test_stopped_means_dead(tmp_path: Path) -> None:
    """After stop its group has no process and its port is free; stopping twice is as once."""
    sandbox = Sandbox(tmp_path).start()
    group, port = sandbox.group, sandbox.port
    sandbox.stop()
    sandbox.stop()
    assert members(group) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_taken_port_is_told(tmp_path: Path) -> None:
    """A port somebody else holds is an error in words, not a sandbox that is not ours."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sandbox = Sandbox(tmp_path, port=int(taken.getsockname()[1]))
        with pytest.raises(Unreachable) as down:
            sandbox.start()
    assert down.value.code == "emulator_down"
    with pytest.raises(RuntimeError):
        assert sandbox.group


def test_killed_starter_leaves_no_emulator(tmp_path: Path) -> None:
    """A starter that gets SIGKILL cannot clean up; the emulator ends all the same."""
    code = (
        "import sys, time; from pathlib import Path; "
        "from tidegate.connectors.sandbox import Sandbox; "
        "print(Sandbox(Path(sys.argv[1])).start().group, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        group = int(starter.stdout.readline())
        assert len(members(group)) >= 2
        starter.kill()
        starter.wait()
    until = time.monotonic() + 5
    while members(group) and time.monotonic() < until:
        time.sleep(0.05)
    assert members(group) == []
