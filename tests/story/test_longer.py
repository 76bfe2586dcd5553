"""A grant extended while its work runs, against a cloud that decides by itself what it refuses."""

import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.story.conftest import granted
from tidegate.base.when import Instant, parse_instant
from tidegate.main.sandbox_stage import BIN, Stage

WINDOW, MORE = "12s", "7s"
TICK = timedelta(seconds=1)  # a call begun before an end may be answered after it
SLOW = """
import json, sys, time
import boto3
from botocore.config import Config
session = boto3.session.Session()
iam = session.client("iam", config=Config(retries={"total_max_attempts": 1}))
for _ in range(400):
    try:
        keys = session.get_credentials().get_frozen_credentials()
        iam.list_users()
    except Exception as fault:
        print(json.dumps({"at": time.time(), "says": str(fault)}), flush=True)
        sys.exit(7)
    print(json.dumps({"at": time.time(), "keys": keys[:3]}), flush=True)
    time.sleep(0.2)
"""


def sleep_to(instant: Instant) -> None:
    """Until the cloud's clock, which is this machine's, is past that instant."""
    time.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()) + 0.1)


def used_directly(stage: Stage, keys: list[str]) -> str:
    """What the cloud itself says to those keys, with nothing of Tidegate between."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    said = stage.aws("ana", dict(zip(names, keys, strict=True)), "iam", "list-users")
    return "works" if said.code == 0 else said.err


def lines_of(path: Path) -> list[dict[str, Any]]:
    """What the running program has told so far."""
    whole = path.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def test_running_work_restarted_by_an_extension_or_outlives_it(stage: Stage) -> None:
    """One process goes on past the old end, where the cloud refuses the keys taken before; at the
    new end its own next call is refused, and so are its last keys, by the cloud.
    """
    grant = granted(stage, window=WINDOW)
    told = stage.directory / "slow.out"
    with told.open("w") as out:
        slow = subprocess.Popen(
            [str(BIN / "tidegate"), "exec", grant["id"], "--", sys.executable, "-c", SLOW],
            env={**stage._environment(), **stage._person("ana")},
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        words = ("--for", MORE, "--reason", "it is slow", "--json")
        asked = stage.tidegate("ana", "extend", grant["id"], *words)
        assert asked.code == 0, asked
        voted = stage.tidegate("bo", "approve", asked.json()["id"], "--yes")
        assert voted.code == 0, voted
        old = parse_instant(grant["ends_at"])
        assert datetime.now(UTC) < old, "this machine is too slow for these windows"
        sleep_to(old)
        first = lines_of(told)[0]["keys"]
        assert "AccessDenied" in used_directly(stage, first)
        now = stage.tidegate("ana", "grants", grant["id"], "--json").json()
        new = parse_instant(now["ends_at"])
        assert (now["state"], new - old) == ("open", timedelta(seconds=7))
        assert slow.wait(30) == 7
    finally:
        slow.kill()
        slow.wait()
    *worked, refused = lines_of(told)
    last = datetime.fromtimestamp(worked[-1]["at"], UTC)
    assert old + TICK < last < new + TICK, (old, last, new)
    assert datetime.fromtimestamp(refused["at"], UTC) >= new
    assert grant["id"] in refused["says"] or "AccessDenied" in refused["says"], refused
    assert worked[-1]["keys"] != first
    assert "AccessDenied" in used_directly(stage, worked[-1]["keys"])


def test_work_starts_that_cannot_finish(stage: Stage) -> None:
    """`exec --needs` starts nothing with less left; with --extend it starts once the end has moved,
    and that time is left then.
    """
    grant, mark = granted(stage, window="2m"), stage.directory / "started"
    begin = [sys.executable, "-c", f"open({str(mark)!r}, 'w').write('')"]
    needs = ("exec", "--needs", "5m")
    refused = stage.tidegate("ana", *needs, grant["id"], "--", *begin)
    assert (refused.code, mark.exists()) == (3, False), refused
    assert f"tidegate extend {grant['id']} --for 4m" in refused.err
    words = (*needs, "--extend", "--reason", "a migration", grant["id"], "--", *begin)
    with subprocess.Popen(
        [str(BIN / "tidegate"), *words],
        env={**stage._environment(), **stage._person("ana")},
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as waiting:  # fmt: skip
        assert waiting.stderr is not None
        try:
            told = re.search(r"rq_\w+", waiting.stderr.readline())
            assert told is not None and not mark.exists()
            assert stage.tidegate("bo", "approve", told[0], "--yes").code == 0
            assert waiting.wait(30) == 0
        finally:
            waiting.kill()
    now = stage.tidegate("ana", "grants", grant["id"], "--json").json()
    assert now["extended_seconds"] == 240
    began = datetime.fromtimestamp(mark.stat().st_mtime, UTC)
    assert parse_instant(now["window_ends_at"]) - began > timedelta(minutes=5)
    stage.tidegate("ana", "done", grant["id"])
