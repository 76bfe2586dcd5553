"""The process: it says where it is, is alone on the loopback interface, and ends when asked."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

import tidegate_standin
from tests.standin.conftest import ACCOUNT, Scene
from tidegate_standin.admin import Admin, AdminRefused


def test_process_that_is_told_to_stop_stops() -> None:
    """SIGTERM ends it with status 0, and its port answers no more."""
    running = tidegate_standin.start([ACCOUNT, "333333333333"])
    assert set(running.admin.ids()["accounts"]) == {ACCOUNT, "333333333333", "999999999999"}
    running.stop()
    running.stop()
    assert running.process.returncode == 0
    with pytest.raises(OSError):
        running.admin.health()


def test_process_does_not_outlive_who_started_it() -> None:
    """A stand-in whose starter is gone goes too."""
    code = "import os, tidegate_standin as t; r = t.start(); print(r.url, flush=True); os._exit(0)"
    url = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()
    admin = Admin(url, timeout=2)
    for _ in range(100):
        try:
            admin.health()
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail("the process is still there")


def test_reset_forgets_everything(scene: Scene) -> None:
    """After a reset there is nobody, no fault, and the clock is the machine's."""
    scene.admin.fault("*", "down")
    scene.admin.ahead(3_600)
    scene.admin.reset()
    state = scene.admin.state()
    assert (state["users"], state["identities"], state["faults"]) == ({}, {}, [])
    assert state["ahead"] == 0


def test_clock_cannot_go_back(scene: Scene) -> None:
    """An event that happened would happen again."""
    scene.admin.ahead(60)
    with pytest.raises(AdminRefused):
        scene.admin.ahead(30)


@pytest.mark.parametrize(
    "asked",
    [
        {"options": {"nonsense": 1}},
        {"identities": [{}]},
        {"assignments": [{"permission_set": "none", "account": ACCOUNT, "user": "ana"}]},
        {"permission_sets": [{"name": "x", "session_duration": "an hour"}]},
        {"identities": [{"name": "x", "policies": ["{"]}]},
    ],
)
def test_seed_that_makes_no_sense_is_refused(scene: Scene, asked: dict[str, object]) -> None:
    """A wrong seed is an error of the test, said at once."""
    with pytest.raises(AdminRefused):
        scene.admin.seed(**asked)


def test_fault_of_an_unknown_kind_is_refused(scene: Scene) -> None:
    """A misspelt fault would let a test pass for nothing."""
    with pytest.raises(AdminRefused):
        scene.admin.fault("*", "explode")


def test_unknown_operation_and_path_are_refused(scene: Scene) -> None:
    """What is not served says so, in JSON."""
    parts = urlsplit(scene.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("GET", "/_standin/nothing")
    reply = connection.getresponse()
    assert reply.status == 400
    assert "expected one of" in json.loads(reply.read())["error"]
    connection.request("POST", "/", "{}", {"X-Amz-Target": "SWBExternalService.CreateInstance"})
    reply = connection.getresponse()
    assert b"UnknownOperationException" in reply.read()
    connection.close()
