"""The production flow on AWS's emulator as a process over HTTP. Time there is real, so windows are
seconds long and a test waits for the one instant it is about.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from tests.connectors.conftest import AwsWorld, real_now
from tests.support import World, laws
from tidegate.catalogue import Catalogue, Role, Target
from tidegate.connectors.aws import AwsConnector
from tidegate.connectors.port import Answer, Credential
from tidegate.connectors.sandbox import ACCOUNT
from tidegate.flow.house import Laws
from tidegate.grant import Grant, GrantState

PATIENCE = 20.0  # seconds: far above what one end takes there
LOOK = 0.1


class RealClock:
    """The machine's clock, which is the emulator's too; ours can be put ahead of it."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        """The instant now."""
        return real_now() + self.ahead


def laws_of(aws: AwsWorld) -> Laws:
    """`prod/admin` and `prod/same` are one IAM role."""
    target = Target(id="prod", connector="aws", account=ACCOUNT, labels=("env=prod",), pace=100)
    roles = {
        name: Role(
            id=name, kind="iam-role", native={"arn": aws.arn}, probe="iam:ListUsers", title=name
        )
        for name in ("prod/admin", "prod/same")
    }
    return laws(found=Catalogue({"prod": target}, roles))


@dataclass
class AwsKept(World):
    """An installation whose target is one role on the emulator."""

    aws: AwsWorld = field(kw_only=True)
    endpoint: str = field(kw_only=True, default="")

    def _up(self, create: bool = False) -> None:
        super()._up(create)
        settings = self.aws.settings
        if self.endpoint:
            settings = replace(settings, endpoint_url=self.endpoint)
        made = AwsConnector({"prod": settings}, lock_dir=self.directory, monotonic=time.monotonic)
        self.house.connectors = {"aws": made}

    def acts(self, taken: Credential) -> bool:
        """Whether the emulator lets the keys act."""
        return self.aws.use(taken) is Answer.ALLOWED

    def tries(self, service: str, taken: Credential, call: str, **values: Any) -> str:
        """The error code of a call made with the keys; empty when it went through."""
        try:
            getattr(self.aws.client(service, taken), call)(**values)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""

    def wait(self, until: datetime) -> None:
        """Let real time pass."""
        self.aws.wait(until)

    def until(self, grant: Grant, state: GrantState) -> Grant:
        """The grant once it is in `state`; fails when it does not get there."""
        patience = time.monotonic() + PATIENCE
        while time.monotonic() < patience:
            found = self.grant(grant)
            if found.state is state:
                return found
            with suppress(TimeoutError):
                self.work()
            time.sleep(LOOK)
        now = self.grant(grant)
        raise AssertionError(f"{now.state} {now.outcome} {now.proof}, expected {state}: {now}")
