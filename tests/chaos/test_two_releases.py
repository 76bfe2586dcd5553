"""A newer release is rolled out beside an older one: two real processes on one PostgreSQL.

The older is this source. The newer is a copy of it with one more migration (`chaos/release.py`).
Nothing here is asked of Tidegate that the cloud, or a person with old keys, can tell.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from chaos.life import TAKEN
from chaos.release import newer_release
from chaos.town import ROOT, Problem, Town

from tidegate.base.when import wire
from tidegate.evidence.journal import ClosingJournal
from tidegate.main.stage import Serving
from tidegate.main.wiring import clock

PATIENCE = 60.0
LOOK = 3.0  # seconds after an end within which an older release would have taken what was moved on
FORBIDDEN = """
@id("no-more-of-the-old")
forbid (principal, action == Action::"request", resource)
when { context has ticket && context.ticket like "INC-9*" };
"""
PROD, BILLING = "aws-prod/admin", "aws-billing/admin"


def until(held: Callable[[], Any]) -> Any:
    """What `held` gives once it gives something."""
    end = time.monotonic() + PATIENCE
    while not (found := held()):
        assert time.monotonic() < end, f"it never came to hold: {held()!r}"
        time.sleep(0.2)
    return found


class Rollout:
    """The town, its older server and, once it joined, its newer one."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.older = town.stage.servers[0]
        self.newer: Serving

    def ask(self, at: Serving, person: str, ticket: str, seconds: int, **more: Any) -> str:
        """A request that bo approved at that server."""
        body = {"duration_seconds": seconds, "reason": "rollout", "ticket": ticket, **more}
        asked = self.town.call(person, "POST", "requests", body, at)
        vote = {"choice": "approve", "digest": asked["digest"]}
        self.town.call("bo", "POST", f"requests/{asked['id']}/votes", vote, at)
        return str(asked["id"])

    def grant(self, at: Serving, person: str, request: str) -> dict[str, Any]:
        """Its one grant."""
        path = f"grants?view=mine&request={request}"
        (found,) = self.town.call(person, "GET", path, at=at)["grants"]
        return dict(found)

    def held(self, at: Serving, person: str, request: str, role: str) -> tuple[str, Any]:
        """The grant once it is open, and a client that acts by it."""
        until(lambda: self.grant(at, person, request)["state"] == "open")
        name = str(self.grant(at, person, request)["id"])
        keys = until(lambda: self.town.take(person, name, role))
        assert self.town.acts(keys)
        return name, keys

    def refused(self, *call: Any) -> str:
        """The code of what the older release refuses."""
        with pytest.raises(Problem) as told:
            self.town.call(*call, at=self.older)
        return told.value.code

    def closed_by_older(self) -> set[str]:
        """Grants the older machine's own journal calls removed."""
        lines = ClosingJournal(self.older.home / "closing.journal").read()
        return {line.grant for line in lines if line.kind == "removed"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A local command of the newer release."""
        source = self.town.stage.releases[self.newer.home]
        assert self.town.postgres is not None
        return subprocess.run(
            [sys.executable, "-m", "chaos.launch", *words, "--config", str(self.newer.config)],
            env={
                **os.environ,
                **self.town.stage.secrets(),
                "PYTHONPATH": f"{source}:{ROOT / 'src'}:{ROOT}",
                "TIDEGATE_CHAOS_DATABASE": self.town.postgres.url(),
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


def test_newer_release_beside_an_older_one(tmp_path: Path) -> None:
    """The older one takes nothing on and goes on closing; it takes nothing that the newer moved
    on, opens nothing that it forbids, is not started again, and nothing is lost.
    """
    release = newer_release(tmp_path / "newer")
    for tried in (1, 4):  # a window that was too short for a busy machine is no verdict
        began = time.monotonic()
        town = Town("permission-set", tmp_path / f"town-{tried}", "postgresql")
        try:
            with town:
                window = tried * int(8 + (time.monotonic() - began) / 2)
                if _roll_out(Rollout(town), window, release):
                    return
        finally:
            town.close()
    pytest.fail("the machine is too slow for the longest window")


def _roll_out(one: Rollout, window: int, release: Path) -> bool:
    """Whether the windows were long enough to tell."""
    town, older = one.town, one.older
    starts = clock() + timedelta(seconds=window + 2)
    asked = {who: one.ask(older, who, f"INC-1{who}", window, roles=[PROD]) for who in ("ana", "cy")}
    forbidden = one.ask(older, "ana", "INC-9", 60, roles=[BILLING], start=wire(starts))
    due, due_keys = one.held(older, "ana", asked["ana"], PROD)
    moved, moved_keys = one.held(older, "cy", asked["cy"], PROD)
    ends = time.time() + window  # both, at the latest

    one.newer = newer = town.join(release, FORBIDDEN)
    body = {"roles": [PROD], "duration_seconds": 60, "reason": "rollout", "ticket": "INC-2"}
    assert one.refused("ana", "POST", "requests", body) == "schema_moved"
    assert one.grant(older, "ana", asked["ana"])["id"] == due  # it may still be read
    first_end = one.grant(newer, "cy", asked["cy"])["ends_at"]
    one.ask(newer, "cy", "INC-3", 300, extends=moved)
    until(lambda: one.grant(newer, "cy", asked["cy"])["ends_at"] > first_end or time.time() > ends)
    newer.signal(signal.SIGKILL)
    if time.time() > ends:
        return False

    until(lambda: not town.acts(due_keys))
    assert time.time() < ends + TAKEN
    until(lambda: due in one.closed_by_older())
    time.sleep(max(0.0, ends + LOOK - time.time()))
    assert town.acts(moved_keys) and moved not in one.closed_by_older()
    assert not town.may_sign_in("ana", BILLING)
    assert one.refused("cy", "POST", f"grants/{moved}/end") == "ended_unsealed"
    until(lambda: not town.acts(moved_keys))

    town.stage.start_server()  # the newer one is back
    until(lambda: one.grant(newer, "ana", asked["ana"])["state"] == "gone")
    until(lambda: one.grant(newer, "ana", forbidden)["state"] == "failed")
    _never_serves_again(one)
    town.stage.releases[older.home] = release  # now this machine too: its journal is sealed
    town.stage.start_server()
    until(lambda: one.grant(newer, "cy", asked["cy"])["state"] == "gone")
    assert not town.standing()
    town.stage.stop_server(signal.SIGTERM)
    for words in (("evidence", "rebuild", "--check"), ("evidence", "verify")):
        told = one.run(*words)
        assert told.returncode == 0, told.stdout + told.stderr
    return True


def _never_serves_again(one: Rollout) -> None:
    """The older release, started again: it says what its database is, and answers nobody."""
    one.older.signal(signal.SIGTERM)
    log = one.town.stage.directory / "server.log"
    before = log.stat().st_size
    one.older.process = process = one.town.stage._launched(one.older)
    until(lambda: b"newer" in log.read_bytes()[before:])
    assert not one.older.answers()
    assert process.poll() != 0
    one.older.signal(signal.SIGKILL)
