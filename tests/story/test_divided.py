"""Opening and closing apart, as three real processes, on a cloud that holds each to its rights."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.main.stage import BIN, POSTGRESQL
from tidegate.main.standin_stage import CenterStage

WINDOW = "8s"


@contextmanager
def running(
    stage: CenterStage, home: Path, keys: str, *words: str
) -> Iterator[subprocess.Popen[bytes]]:
    """One process of the installation, which has these of its cloud keys."""
    environment = stage._environment()
    environment |= {name: key for name, key in stage.secrets().items() if keys and keys in name}
    with (stage.directory / "divided.log").open("ab") as log:
        process = subprocess.Popen(
            [str(BIN / "tidegate"), *words, "--config", str(home / "tidegate.toml")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def opens(stage: CenterStage) -> bool:
    """Whether anything opens on the target: the server answers, and who closes was heard."""
    seen = stage.tidegate("bo", "doctor", "--json")
    checks = json.loads(seen.out)["findings"] if seen.out else []
    return any(one["name"] == "target aws-prod gate" and one["ok"] for one in checks)


def test_opener_that_hangs_keeps_access_open(tmp_path: Path) -> None:
    """The server has no key of the cloud at all, the opener opens and is then stopped in its
    tracks; the closer, with its own rights, removes the assignment and cuts its sessions.
    """
    with CenterStage(tmp_path, POSTGRESQL) as stage:
        stage.stop_server(signal.SIGTERM)
        one, two = stage.servers
        with (
            running(stage, one.home, "", "serve", "--worker", "none") as one.process,
            running(stage, one.home, "CLOSER", "worker", "--close"),
            running(stage, two.home, "OPENER", "worker", "--open") as opener,
        ):
            words = ("--for", WINDOW, "--reason", "a story", "--ticket", "INC-1", "--json")
            while not opens(stage):
                time.sleep(0.2)
            asked = stage.tidegate("ana", "request", "aws-prod/admin", *words).json()
            assert stage.tidegate("bo", "approve", asked["id"], "--yes").code == 0
            grant = stage.wait_for("ana", asked["id"], "open", "failed")
            keys = stage.sign_in("ana", "aws-prod")
            assert grant["state"] == "open" and keys is not None, grant
            listed = stage.aws("ana", keys.environment(), "iam", "list-users")
            opener.send_signal(signal.SIGSTOP)
            ended = stage.wait_for("ana", grant["id"], "gone")
            assert (listed.code, ended["state"]) == (0, "gone"), (listed, ended)
            refused = stage.aws("ana", keys.environment(), "iam", "list-users")
            assert "AccessDenied" in refused.err and stage.sign_in("ana", "aws-prod") is None
