"""A PostgreSQL of one's own: it comes up again on the same files, and never outlives us."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from tidegate.main.postgres import postgres_server

HELD = """
import sys, time
from tidegate.main.postgres import postgres_server
with postgres_server() as server:
    print(server._process.pid, server.folder, flush=True)
    time.sleep(600)
"""


def test_crashed_server_comes_up_with_what_was_committed():
    """SIGKILL, then start: the same port, the same rows."""
    with postgres_server() as server:
        with psycopg.connect(server.url(), autocommit=True) as db:
            db.execute("CREATE TABLE kept AS SELECT 1 AS one")
        url = server.url()
        server.stop(signal.SIGKILL)
        server.start()
        assert server.url() == url
        with psycopg.connect(url) as db:
            assert db.execute("SELECT one FROM kept").fetchone() == (1,)
        folder = server.folder
    assert not folder.exists()


def test_server_outlives_whoever_started_it():
    """Whoever is killed without a chance to stop its server leaves none behind."""
    child = subprocess.Popen([sys.executable, "-c", HELD], stdout=subprocess.PIPE, text=True)
    pid, folder = child.stdout.readline().split()
    child.kill()
    child.communicate()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
    subprocess.run(["rm", "-rf", folder], check=True)
