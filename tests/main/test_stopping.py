"""A process that is told to stop does, whatever its main thread is doing at that moment."""

import subprocess
import sys
import threading

from tidegate.main.stopping import Stopped

# The main thread is told while it is in the middle of waiting: it holds whatever lock that takes.
TOLD = """
import os, signal
from tidegate.main.stopping import stopped_by_signals
with stopped_by_signals() as stopped:
    with stopped._cond:
        os.kill(os.getpid(), signal.SIGTERM)
    print(stopped.wait(5))
"""

# The system gives the signal to another thread: what the main thread waits in is not broken off.
ELSEWHERE = """
import signal, threading, time
from tidegate.main.stopping import stopped_by_signals
def tell():
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
with stopped_by_signals() as stopped:
    threading.Thread(target=tell).start()
    print(stopped.wait())
"""


def test_process_told_while_it_begins_to_wait_hangs_for_ever() -> None:
    """A signal that breaks off no wait is heard of all the same."""
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_process_told_in_the_middle_of_waiting_hangs_for_ever() -> None:
    """The handler waits for nothing that the thread it interrupts may have."""
    done = subprocess.run(
        [sys.executable, "-c", TOLD], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_one_of_two_that_wait_is_not_told() -> None:
    """Both go on, and so does whoever asks later; before, a wait ends with its time."""
    stopped = Stopped()
    assert not stopped.wait(0.01) and not stopped.is_set()
    waiting = [threading.Thread(target=stopped.wait, daemon=True) for _ in range(2)]
    for one in waiting:
        one.start()
    stopped.set()
    for one in waiting:
        one.join(10)
    assert not any(one.is_alive() for one in waiting)
    assert stopped.wait(0) and stopped.is_set()
