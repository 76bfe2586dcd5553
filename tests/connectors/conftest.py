"""Two worlds behind one face: the simulated cloud, and AWS as a real emulator process over HTTP."""

import itertools
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from botocore.exceptions import ClientError

from tidegate.base.ids import make_id
from tidegate.base.when import Instant, from_ms
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors.aws import AwsConnector, AwsSettings
from tidegate.connectors.port import Answer, Connector, Credential, Hold
from tidegate.connectors.sandbox import ACCOUNT, Sandbox
from tidegate.connectors.simulated import SimulatedConnector

START = from_ms(1_795_000_000_000)
_NAMES = itertools.count(1)


def real_now() -> Instant:
    """The machine's clock, which is the emulator's too."""
    return from_ms(time.time_ns() // 1_000_000)


def hold_of(target: Target, role: Role, made_at: Instant, ends_at: Instant) -> Hold:
    """A grant's hold with ids of its own."""
    grant = make_id("gr", made_at, os.urandom(10))
    return Hold(
        grant=grant,
        request=make_id("rq", made_at, os.urandom(10)),
        principal=make_id("pr", made_at, os.urandom(10)),
        target=target,
        role=role,
        key=AssignmentKey(
            connector=target.connector,
            account=target.account,
            native_role=role.native["arn"],
            native_principal=grant,
        ),
        ends_at=ends_at,
    )


class World(Protocol):
    """What the contract suite needs of a cloud."""

    target: Target
    role: Role

    @property
    def connector(self) -> Connector: ...
    def now(self) -> Instant: ...
    def wait(self, until: Instant) -> None: ...
    def use(self, credential: Credential) -> Answer: ...
    def tamper(self, hold: Hold) -> None: ...
    def delete_role(self) -> None: ...
    def hold(self, lasts: timedelta) -> Hold: ...
    def session(self) -> str: ...


class _Base:
    target: Target
    role: Role

    def now(self) -> Instant:
        raise NotImplementedError

    def hold(self, lasts: timedelta) -> Hold:
        now = self.now()
        return hold_of(self.target, self.role, now, now + lasts)

    def session(self) -> str:
        return make_id("se", self.now(), os.urandom(10))


class SimulatedWorld(_Base):
    """The cloud's time, which moves only when a test waits; `now` may be ours and differ."""

    def __init__(self) -> None:
        self.connector = SimulatedConnector(clock=self.now)
        self.target = Target(id="sim", connector="simulated", account="sim-1")
        native = {"arn": "sim-admin"}
        self.role = Role(id="sim/admin", kind="iam-role", native=native, probe="sim:List")
        self._now = START

    def now(self) -> Instant:
        return self._now

    def wait(self, until: Instant) -> None:
        self._now = max(self._now, until)

    def use(self, credential: Credential) -> Answer:
        return self.connector.cloud.use(credential, self._now)

    def tamper(self, hold: Hold) -> None:
        name = hold.key.native_role
        self.connector.cloud.tamper(hold.key.account, name, hold.grant, self._now)

    def delete_role(self) -> None:
        self.connector.cloud.delete_role(self.target.account, self.role.native["arn"])


class AwsWorld(_Base):
    """One fresh role on the emulator; time is real."""

    def __init__(self, sandbox: Sandbox, allows: tuple[str, ...] = ()) -> None:
        self.sandbox = sandbox
        self.name = f"admin-{next(_NAMES)}"
        self.arn = sandbox.create_role(self.name)
        self.target = Target(id="aws-prod", connector="aws", account=ACCOUNT)
        self.role = Role(
            id="aws-prod/admin",
            kind="iam-role",
            native={"arn": self.arn},
            allows=allows,
            probe="iam:ListUsers",
        )
        self.settings: AwsSettings = sandbox.settings(self.arn)
        self.connector = AwsConnector({"aws-prod": self.settings}, monotonic=time.monotonic)

    def now(self) -> Instant:
        return real_now()

    def wait(self, until: Instant) -> None:
        while (left := (until - real_now()).total_seconds()) > 0:
            time.sleep(left)

    def client(self, service: str, credential: Credential) -> Any:
        return self.sandbox.client(
            service,
            credential.material["access_key_id"],
            credential.material["secret_access_key"],
            credential.material["session_token"],
        )

    def use(self, credential: Credential) -> Answer:
        try:
            self.client("iam", credential).list_users(MaxItems=1)
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
            return Answer.DENIED
        return Answer.ALLOWED

    def tamper(self, hold: Hold) -> None:
        iam = self.sandbox.client("iam")
        iam.delete_role_policy(RoleName=self.name, PolicyName="TidegateCut")

    def delete_role(self) -> None:
        iam = self.sandbox.client("iam")
        for policy in iam.list_role_policies(RoleName=self.name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=self.name, PolicyName=policy)
        iam.delete_role(RoleName=self.name)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The emulator, one process for the whole run."""
    directory: Path = tmp_path_factory.mktemp("sandbox")
    with Sandbox(directory) as running:
        yield running


@pytest.fixture
def aws(sandbox: Sandbox) -> AwsWorld:
    """A fresh role on the emulator."""
    return AwsWorld(sandbox)


@pytest.fixture(params=["simulated", "aws"])
def world(request: pytest.FixtureRequest) -> World:
    """Each contract test runs in both worlds."""
    if request.param == "simulated":
        return SimulatedWorld()
    made: AwsWorld = request.getfixturevalue("aws")
    return made
