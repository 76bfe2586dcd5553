"""The demo is a test: what a newcomer is shown is what holds."""

import json
import os
import subprocess

from tidegate.main.sandbox_stage import BIN

DATABASE = ("--database", os.environ.get("TEST_DATABASE", "sqlite"))


def test_demo_claims_what_does_not_hold() -> None:
    """`tidegate demo --json` prints one object, each check in it held, nothing is left running."""
    done = subprocess.run(
        [str(BIN / "tidegate"), "demo", "--json", *DATABASE],
        capture_output=True,
        text=True,
        timeout=240,
    )
    told = json.loads(done.stdout)
    assert [check for check in told["checks"] if not check["ok"]] == []
    assert (told["ok"], told["fault"], done.returncode) == (True, "", 0)
    assert len(told["checks"]) >= 25
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert "tidegate-demo-" not in running
