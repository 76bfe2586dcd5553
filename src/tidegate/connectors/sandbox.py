"""A sandbox cloud: the AWS emulator as a process of its own on a loopback port.

For the demo and the tests; extra `demo`. It is reached over HTTP by the same clients as AWS and it
checks signatures, policies and expiry. What it does not enforce is in docs/connectors/aws.md. It
runs in a process group of its own under `sandbox_guard.py`, so that stopping it is sure and it dies
with its starter, and it is told to listen on 127.0.0.1 only.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from tidegate.base.errors import Unreachable
from tidegate.connectors.aws_calls import AwsSettings

ACCOUNT = "000000000000"  # the emulator's only account
REGION = "us-east-1"
ROOT_KEY = "root"
ROOT_SECRET = "secret"  # noqa: S105 - the emulator's own; it opens nothing but the sandbox
ADMIN_POLICY: Mapping[str, object] = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}

GUARD = Path(__file__).with_name("sandbox_guard.py")
START_SECONDS = 20.0  # it is up in 0.3 s; a loaded machine takes longer
STOP_SECONDS = 3.0  # after that SIGTERM becomes SIGKILL
STARTS = 3  # a free port may be taken by somebody else before the emulator has it
_POLL_SECONDS = 0.05
_LOG_TAIL = 400  # characters of its log that an error quotes


class Sandbox:
    """One emulator. A context manager, or `start` and `stop` by hand.

    Args:
        directory: where it runs and writes its log (`sandbox.log`); made if missing.
        port: the port on 127.0.0.1; 0 takes a free one.
    """

    def __init__(self, directory: Path, port: int = 0) -> None:
        self._directory = directory
        self._asked = port
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._session: Any = None
        self.port = port

    @property
    def url(self) -> str:
        """Where it listens. Valid after `start`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The file with everything it printed."""
        return self._directory / "sandbox.log"

    @property
    def group(self) -> int:
        """Its process group, led by the guard. Raises RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("the sandbox was not started")
        return self._process.pid

    def __enter__(self) -> "Sandbox":
        """Started."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stopped, whatever happened."""
        self.stop()

    def start(self) -> "Sandbox":
        """Start it and wait until it answers.

        Raises:
            Unreachable: `no_emulator` (not installed) or `emulator_down` (it did not come up).
        """
        if self._process is not None:
            raise RuntimeError("the sandbox was started twice")
        executable = Path(sys.executable).parent / "ministack"
        if not executable.exists():
            raise Unreachable(
                "no_emulator",
                "expected the sandbox cloud `ministack` beside the Python in use, got none",
                "install Tidegate with its `demo` extra",
            )
        self._directory.mkdir(parents=True, exist_ok=True)
        for _ in range(1 if self._asked else STARTS):
            self.port = self._asked or free_port()
            self._launch(executable)
            if self._wait():
                return self
            self.stop()
        tail = self.log.read_text(errors="replace")[-_LOG_TAIL:]
        raise Unreachable(
            "emulator_down",
            f"expected the sandbox cloud on {self.url}, got no answer; its log ends: {tail}",
            f"read `{self.log}`",
        )

    def stop(self) -> None:
        """End its whole process group and wait until the leader is reaped. Twice is as once."""
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        if process.returncode is not None:
            return  # it ended by itself and was reaped: its id may be another's by now
        until = time.monotonic() + STOP_SECONDS
        # Not reaped yet, so that its id cannot be another's when the rest of the group is killed.
        peek = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while os.waitid(os.P_PID, process.pid, peek) is None and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def health(self) -> Mapping[str, Any]:
        """Its own health page: `version`, `auth`. Raises Unreachable."""
        try:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(f"{self.url}/_ministack/health", timeout=2) as answer:
                page: dict[str, Any] = json.loads(answer.read())
                return page
        except (OSError, HTTPException, ValueError) as error:
            raise Unreachable(
                "emulator_down",
                f"expected the sandbox cloud to answer on {self.url}, got {type(error).__name__}",
                f"read `{self.log}`",
            ) from error

    def settings(self, *roles: str) -> AwsSettings:
        """Settings that reach it as its root, handing out the role ARNs `roles`."""
        return AwsSettings(
            region=REGION,
            endpoint_url=self.url,
            access_key_id=ROOT_KEY,
            secret_access_key=ROOT_SECRET,
            handed=roles,
        )

    def client(
        self,
        service: str,
        access_key_id: str = ROOT_KEY,
        secret_access_key: str = ROOT_SECRET,
        session_token: str | None = None,
    ) -> Any:
        """A boto3 client of `service` there, one attempt a call; root unless keys are given."""
        import boto3
        from botocore.config import Config

        config = Config(retries={"total_max_attempts": 1, "mode": "standard"}, proxies={})
        with self._lock:  # a boto3 session is not thread-safe while it makes a client
            if self._session is None:
                self._session = boto3.session.Session()
            return self._session.client(
                service,
                region_name=REGION,
                endpoint_url=self.url,
                aws_access_key_id=access_key_id,
                aws_secret_access_key=secret_access_key,
                aws_session_token=session_token,
                config=config,
            )

    def create_role(
        self,
        name: str,
        policy: Mapping[str, object] = ADMIN_POLICY,
        trust: Mapping[str, object] | None = None,
    ) -> str:
        """Make an IAM role that the account may assume with tags; its ARN.

        NB. at path `/`: the emulator leaves paths out when it compares resource ARNs.
        """
        iam = self.client("iam")
        made = iam.create_role(
            RoleName=name,
            AssumeRolePolicyDocument=json.dumps(trust or account_trust()),
            MaxSessionDuration=3600,
        )
        iam.put_role_policy(RoleName=name, PolicyName="role", PolicyDocument=json.dumps(policy))
        return str(made["Role"]["Arn"])

    def _launch(self, executable: Path) -> None:
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self._directory),
            "TMPDIR": str(self._directory),
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            # Without these two it also listens on 0.0.0.0, in spite of BIND_HOST.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "CLOUDTRAIL_RECORDING": "1",
            "AWS_ACCESS_KEY_ID": ROOT_KEY,
            "AWS_SECRET_ACCESS_KEY": ROOT_SECRET,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(executable)],
                cwd=self._directory,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait(self) -> bool:
        """Whether it came up with the port and the sign-in checks it was asked for."""
        until = time.monotonic() + START_SECONDS
        while self._process is not None and self._process.poll() is None:
            with suppress(Unreachable):
                if self.health().get("auth") == "enabled" and self._process.poll() is None:
                    return True
            if time.monotonic() > until:
                return False
            time.sleep(_POLL_SECONDS)
        return False


def account_trust(account: str = ACCOUNT) -> Mapping[str, object]:
    """A trust policy that lets `account` assume a role with tags and a source identity."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
                "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
            }
        ],
    }


def free_port() -> int:
    """A port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # already gone
        os.killpg(group, number)
