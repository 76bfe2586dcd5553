"""Using a grant with real AWS clients against the real server: sessions, ends, refusals."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from tests.story.conftest import granted, sessions
from tidegate.main.sandbox_stage import BIN, Stage

MANY_CALLS = """
import boto3
from botocore.config import Config
iam = boto3.client("iam", config=Config(retries={"total_max_attempts": 1}))
for _ in range(1000):
    iam.list_users()
print("done")
"""
SHOW_KEYS = """
import os
print(os.environ["AWS_ACCESS_KEY_ID"][:4], "AWS_CREDENTIAL_EXPIRATION" in os.environ)
"""
NEW_CLIENTS = """
import boto3
for _ in range(15):
    boto3.session.Session(profile_name="held").client("iam").list_users()
print("done")
"""


def test_thousand_calls_mint_a_session_each(stage: Stage) -> None:
    """1,000 boto3 calls in a 10-minute grant make at most 2 sessions, though botocore asks for
    credentials on every one of them.
    """
    grant = granted(stage)
    done = stage.tidegate("ana", "exec", grant["id"], "--", sys.executable, "-c", MANY_CALLS)
    assert (done.code, done.out.strip()) == (0, "done"), done
    assert sessions(stage, grant["id"]) <= 2


def test_helper_mints_a_session_a_spawn(stage: Stage) -> None:
    """Every new client behind a profile spawns the helper; they share one session."""
    grant = granted(stage)
    config = stage.directory / "held.config"
    config.write_text(
        "[profile held]\nregion = us-east-1\n"
        f"credential_process = tidegate-credentials {grant['id']}\n"
    )
    done = stage._run([sys.executable, "-c", NEW_CLIENTS], "ana", {"AWS_CONFIG_FILE": str(config)})
    assert (done.code, done.out.strip()) == (0, "done"), done
    assert sessions(stage, grant["id"]) == 1


def test_profile_without_a_grant_says_nothing_useful(stage: Stage) -> None:
    """A profile of a role nobody granted prints the very command that asks for it."""
    config = stage.directory / "none.config"
    config.write_text(
        "[profile held]\nregion = us-east-1\n"
        "credential_process = tidegate-credentials aws-demo/admin\n"
    )
    told = stage.aws(
        "bo", {"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "held"}, "iam", "list-users"
    )
    assert told.code != 0
    assert "tidegate request aws-demo/admin" in told.err
    assert "Traceback" not in told.err


def test_end_before_its_time_reaches_a_running_program(stage: Stage) -> None:
    """`done` refuses the running program's very next call, in words of the cloud."""
    grant = granted(stage)
    keys = stage.tidegate("ana", "credentials", grant["id"], "--json").json()
    held = {
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }
    assert stage.aws("ana", held, "iam", "list-users").code == 0
    assert stage.tidegate("ana", "done", grant["id"]).code == 0
    assert "AccessDenied" in stage.aws("ana", held, "iam", "list-users").err


def test_exec_with_static_keys_says_nothing(stage: Stage) -> None:
    """`exec --env` works for tools that need keys in the environment, and warns."""
    grant = granted(stage)
    done = stage.tidegate(
        "ana", "exec", grant["id"], "--env", "--", sys.executable, "-c",
        SHOW_KEYS,
    )  # fmt: skip
    assert done.out.split() == ["ASIA", "False"], done
    assert "warning" in done.err.lower()


def test_secret_left_on_the_server_or_in_the_evidence(stage: Stage) -> None:
    """No secret key or token of a session is in the database, the logs or a pack."""
    grant = granted(stage)
    keys = stage.tidegate("ana", "credentials", grant["id"], "--json").json()
    pack = stage.directory / "secret.pack.zip"
    assert stage.tidegate("bo", "evidence", "pack", grant["id"], "-o", str(pack)).code == 0
    places = [*stage.home.rglob("*"), stage.directory / "server.log", pack]
    for place in places:
        if place.is_file():
            data = place.read_bytes()
            for name in ("SecretAccessKey", "SessionToken"):
                assert keys[name].encode() not in data, place


def test_server_told_to_stop_hangs(tmp_path: Path) -> None:
    """SIGTERM ends the server with code 0 within its grace."""
    with Stage(tmp_path) as own:
        process, own.servers[0].process = own.servers[0].process, None
        assert process is not None
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=15) == 0
        assert time.monotonic() - began < 12


def test_second_server_forks_the_log(stage: Stage) -> None:
    """A command on the server's machine and the server write one log: it verifies afterwards."""
    config = stage.home / "tidegate.toml"
    environment = stage.server_environment()
    secret = stage.directory / "password"
    made = subprocess.run(
        [str(BIN / "tidegate"), "account", "add", "dee", "--config", str(config),
         "--password-file", str(secret)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made
    granted(stage, "cy")
    checked = subprocess.run(
        [str(BIN / "tidegate"), "evidence", "verify", "--config", str(config), "--json"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked


def test_reason_missing_from_the_pack(stage: Stage) -> None:
    """A pack discloses the texts behind its commitments, and the report shows them."""
    grant = granted(stage)
    path = stage.directory / "told.pack.zip"
    assert stage.tidegate("bo", "evidence", "pack", grant["id"], "-o", str(path)).code == 0
    checked = stage.tidegate(
        "cy", "evidence", "verify", str(path), "--key", str(stage.key_file), "--json"
    ).json()
    assert (checked["ok"], checked["erased"]) == (True, [])
    with zipfile.ZipFile(path) as archive:
        assert "a story" in archive.read("report.html").decode()


def test_two_servers_on_one_installation(stage: Stage) -> None:
    """A second server on one installation is refused in words; the first goes on."""
    second = subprocess.run(
        [str(BIN / "tidegate"), "serve", "--config", str(stage.home / "tidegate.toml")],
        env=stage.server_environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode == 2, second
    assert "no other server on this installation" in second.stderr
    assert "Traceback" not in second.stderr
    assert stage.answers()
