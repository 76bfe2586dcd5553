"""Runs a command, and ends it when whoever started this process is gone.

`sandbox.py` starts it by path, as the leader of a new process group, with a pipe as standard input
that only the starter holds open. A starter that dies, however it dies, closes the pipe; the guard
then kills its whole group, itself included. Imports nothing of ours, so that it starts at once.
"""

import os
import select
import signal
import subprocess
import sys

POLL_SECONDS = 0.05  # how late the end of the command may be noticed


def guard(command: list[str]) -> int:
    """Run `command` until it ends (its exit code) or standard input does (never returns).

    SIGTERM to the group ends the command; the guard stays to reap it, since nobody else may.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while True:
        code = child.poll()
        if code is not None:
            return code
        ready, _, _ = select.select([0], [], [], POLL_SECONDS)
        if ready and not os.read(0, 1):
            child.kill()
            child.wait()
            os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1:]))
