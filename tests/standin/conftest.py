"""One stand-in process a module, set back before each test; clients that never retry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

import tidegate_standin
from tidegate_standin.admin import Admin

ACCOUNT = tidegate_standin.ACCOUNT
MANAGEMENT = tidegate_standin.MANAGEMENT
HUB = "222222222222"
REGION = "us-east-1"
QUEUE = f"arn:aws:sqs:{REGION}:{HUB}:dead"


def allow(*actions: str, resource: str = "*") -> dict[str, Any]:
    """A policy document that allows these actions."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement]}


BROKER = allow("sso:*", "identitystore:*", "scheduler:*", "iam:PassRole", "organizations:*")
SCENE: dict[str, Any] = {
    "accounts": [HUB],
    "delegated_administrator": HUB,
    "users": [{"user_name": "ana"}, {"user_name": "bo"}],
    "groups": [{"name": "sre", "members": ["bo"]}],
    "permission_sets": [{"name": "admin"}],
    "identities": [
        {
            "name": "broker",
            "account": HUB,
            "access_key_id": "AKIABROKER",
            "secret_access_key": "broker-secret",
            "policies": [BROKER],
        },
        {
            "name": "root",
            "account": MANAGEMENT,
            "access_key_id": "AKIAROOT",
            "secret_access_key": "root-secret",
            "policies": [allow("*")],
        },
    ],
    "roles": [
        {
            "name": "deadline",
            "account": HUB,
            "trust": ["scheduler.amazonaws.com"],
            "policies": [allow("sso:DeleteAccountAssignment")],
        }
    ],
    "portal_tokens": [{"user": "ana", "token": "ana-token"}, {"user": "bo", "token": "bo-token"}],
}

Keys = tuple[str, str, str | None]


@dataclass(slots=True)
class Scene:
    """A seeded stand-in and what tests do with it."""

    url: str
    admin: Admin
    session: Any
    ids: dict[str, Any] = field(default_factory=dict)

    @property
    def set_arn(self) -> str:
        """The permission set `admin`."""
        return str(self.ids["permission_sets"]["admin"])

    def client(self, service: str, who: str | Keys = "broker") -> Any:
        """A botocore client for an identity by name, or for keys."""
        if isinstance(who, str):
            named = self.ids["identities"][who]
            keys: Keys = (named["access_key_id"], named["secret_access_key"], None)
        else:
            keys = who
        return self.session.create_client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
            aws_session_token=keys[2],
            config=Config(retries={"total_max_attempts": 1, "mode": "standard"}, read_timeout=20),
        )

    def key(self, user: str = "ana", account: str = ACCOUNT) -> dict[str, str]:
        """The parameters that name an assignment of `admin` to a user."""
        return {
            "InstanceArn": self.ids["instance_arn"],
            "TargetId": account,
            "TargetType": "AWS_ACCOUNT",
            "PermissionSetArn": self.set_arn,
            "PrincipalType": "USER",
            "PrincipalId": self.ids["users"][user],
        }

    def change(self, kind: str, **params: str) -> dict[str, Any]:
        """Create or delete (`Creation`, `Deletion`) and ask until it ended; the last status."""
        sso = self.client("sso-admin")
        run = {"Creation": sso.create_account_assignment, "Deletion": sso.delete_account_assignment}
        name = f"AccountAssignment{kind}Status"
        status = run[kind](**(params or self.key()))[name]
        for _ in range(20):
            if status["Status"] != "IN_PROGRESS":
                break
            status = self.status(kind, status["RequestId"])
        return dict(status)

    def status(self, kind: str, request_id: str) -> dict[str, Any]:
        """One question for the status of a request."""
        sso, named = self.client("sso-admin"), f"AccountAssignment{kind}RequestId"
        ask = {
            "Creation": sso.describe_account_assignment_creation_status,
            "Deletion": sso.describe_account_assignment_deletion_status,
        }[kind]
        asked = {"InstanceArn": self.ids["instance_arn"], named: request_id}
        return dict(ask(**asked)[f"AccountAssignment{kind}Status"])

    def sign_in(self, user: str = "ana", account: str = ACCOUNT) -> Keys:
        """Credentials from the portal for `admin`."""
        portal = self.client("sso")
        got = portal.get_role_credentials(
            roleName="admin", accountId=account, accessToken=f"{user}-token"
        )["roleCredentials"]
        return got["accessKeyId"], got["secretAccessKey"], got["sessionToken"]

    def provision(self, account: str = ACCOUNT) -> str:
        """Provision `admin` into an account and ask until it ended; the status."""
        sso = self.client("sso-admin")
        asked = sso.provision_permission_set(
            InstanceArn=self.ids["instance_arn"],
            PermissionSetArn=self.set_arn,
            TargetType="AWS_ACCOUNT",
            TargetId=account,
        )["PermissionSetProvisioningStatus"]
        for _ in range(5):
            asked = sso.describe_permission_set_provisioning_status(
                InstanceArn=self.ids["instance_arn"],
                ProvisionPermissionSetRequestId=asked["RequestId"],
            )["PermissionSetProvisioningStatus"]
        return str(asked["Status"])


@pytest.fixture(scope="session")
def clients() -> Any:
    """One botocore session: its loader keeps the models."""
    return botocore.session.get_session()


@pytest.fixture(scope="module")
def running() -> Iterator[tidegate_standin.Running]:
    """The process of this module."""
    with tidegate_standin.start() as started:
        yield started


@pytest.fixture
def scene(running: tidegate_standin.Running, clients: Any) -> Scene:
    """The stand-in as `SCENE` says, nothing else in it."""
    running.admin.reset()
    made = Scene(url=running.url, admin=running.admin, session=clients)
    made.ids = running.admin.seed(**SCENE)
    return made
