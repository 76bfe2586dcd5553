"""Identity Center as a process over HTTP: one organisation, one permission set, people in it."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import tidegate_standin
from tests.connectors.conftest import real_now
from tidegate.base.ids import make_id
from tidegate.base.when import Instant
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors.aws_calls import AwsSettings
from tidegate.connectors.aws_ground import Ground, policy
from tidegate.connectors.aws_rights import Identity, Option
from tidegate.connectors.identity_center import IdentityCenterConnector
from tidegate.connectors.identity_center_calls import Pace
from tidegate.connectors.identity_center_settings import (
    AccountSettings,
    CenterSettings,
    Deny,
    Handed,
    Match,
    ScheduleSettings,
)
from tidegate.connectors.port import Hold, Scope, Seen

HOUR = timedelta(hours=1)
PROPAGATION = timedelta(seconds=5)
ACCOUNT = tidegate_standin.ACCOUNT
MANAGEMENT = tidegate_standin.MANAGEMENT
OTHER = "222222222222"
REGION = "us-east-1"
FAST = Pace(every=timedelta(milliseconds=1), most=6, apart=timedelta(0))
ANYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
_NAMES = itertools.count(1)


@contextmanager
def running() -> Iterator[tidegate_standin.Running]:
    """A stand-in process for one module of tests, and one boto3 session for all its clients.

    Loading the service models anew for each connector would take most of the time.
    """
    session = boto3.session.Session()
    with (
        pytest.MonkeyPatch.context() as patched,
        tidegate_standin.start([ACCOUNT, OTHER]) as cloud,
    ):
        patched.setattr(boto3.session, "Session", lambda: session)
        patched.setattr(boto3, "client", session.client)
        yield cloud


class Center:
    """A fresh organisation on a running stand-in; time there is moved, never waited for."""

    def __init__(self, cloud: tidegate_standin.Running) -> None:
        self.cloud, self.admin = cloud, cloud.admin
        self.admin.reset()
        self.admin.clear_faults()
        self.name = f"Admin{next(_NAMES)}"
        self.ids = self.admin.seed(
            accounts=[ACCOUNT, OTHER],
            users=[{"user_name": name} for name in ("ana", "bo", "cy", "eve")],
            groups=[{"name": "ops", "members": []}],
            permission_sets=[{"name": self.name}],
            identities=[
                {"name": name, "policies": [ANYTHING]} for name in ("broker", "opener", "closer")
            ],
            roles=[
                {
                    "name": "TidegateSchedule",
                    "trust": ["scheduler.amazonaws.com"],
                    "policies": [ANYTHING],
                }
            ],
            portal_tokens=[{"user": name} for name in ("ana", "bo", "cy", "eve")],
            options={"describes": 0, "settle_seconds": 1.0},
        )
        self.arn = self.ids["permission_sets"][self.name]
        self.client("broker", "scheduler").create_schedule_group(Name="tidegate")
        self.target = Target(id="aws-prod", connector="aws", account=ACCOUNT)
        self.role = Role(
            id="aws-prod/admin",
            kind="permission-set",
            native={"arn": self.arn, "session_seconds": "3600"},
        )
        self.settings = self.made_settings()
        self.connector = self.connect()

    def keys(self, identity: str) -> AwsSettings:
        """How Tidegate is one of the seeded identities."""
        known = self.ids["identities"][identity]
        return AwsSettings(
            region=REGION,
            endpoint_url=self.cloud.url,
            access_key_id=known["access_key_id"],
            secret_access_key=known["secret_access_key"],
        )

    def made_settings(self, **values: Any) -> CenterSettings:
        """The instance as settings, changed by `values`."""
        handed = (Handed(role=self.role.id, arn=self.arn, session=HOUR),)
        base = CenterSettings(
            instance=self.ids["instance_arn"],
            identity_store=self.ids["identity_store_id"],
            opener=self.keys("opener"),
            closer=self.keys("closer"),
            deny=Deny.PERMISSION_SET,
            propagation=PROPAGATION,
            match=Match.USER_NAME,
            schedule=ScheduleSettings(
                role=f"arn:aws:iam::{MANAGEMENT}:role/TidegateSchedule",
                dead_letter=f"arn:aws:sqs:{REGION}:{MANAGEMENT}:tidegate-dead-letters",
            ),
            targets={self.target.id: AccountSettings(handed=handed)},
        )
        return replace(base, **values)

    def connect(
        self, settings: CenterSettings | None = None, lock_dir: Path | None = None
    ) -> IdentityCenterConnector:
        """Another connector of the same instance."""
        return IdentityCenterConnector(
            settings or self.settings, lock_dir=lock_dir, pace=FAST, stale=timedelta(0)
        )

    def ground(self, *options: Option, scp: str = "") -> Ground:
        """What Tidegate does in the hub with these options, as the rights are made from it."""
        schedule = self.settings.schedule
        assert schedule is not None
        known = self.ids["identities"]
        return Ground(
            account=MANAGEMENT,
            region=REGION,
            sets=(self.arn,),
            assigned=(ACCOUNT,),
            store=self.ids["identity_store_id"],
            options=frozenset(options or (Option.SCHEDULE, Option.CUT)),
            scp=scp,
            dead_letters=schedule.dead_letter.rpartition(":")[2],
            holders={
                Identity.OPENER: known["opener"]["arn"],
                Identity.CLOSER: known["closer"]["arn"],
                Identity.SCHEDULE: schedule.role,
            },
        )

    def allow(self, identity: Identity, *documents: Any) -> None:
        """Put these policies, and no others, on who is `identity`."""
        if identity is Identity.SCHEDULE:
            role = {"name": "TidegateSchedule", "trust": ["scheduler.amazonaws.com"]}
            self.admin.seed(roles=[{**role, "policies": list(documents)}])
        else:
            self.admin.policies(identity.value, list(documents))

    def narrow(self, *options: Option, scp: str = "") -> "Center":
        """Give every identity exactly the rights of the table."""
        for identity in Identity:
            document = policy(self.ground(*options, scp=scp), identity)
            self.allow(identity, *([document] if document else []))
        return self

    def now(self) -> Instant:
        """The cloud's clock, which a test may have moved on."""
        return real_now() + timedelta(seconds=self.admin.health()["ahead"])

    def pass_time(self, span: timedelta) -> None:
        """Move the cloud's clock on."""
        self.admin.pass_seconds(span.total_seconds())

    def hold(
        self, user: str = "ana", lasts: timedelta = HOUR, target: Target | None = None
    ) -> Hold:
        """A grant's hold with ids of its own."""
        now, target = self.now(), target or self.target
        return Hold(
            grant=make_id("gr", now, os.urandom(10)),
            request=make_id("rq", now, os.urandom(10)),
            principal=make_id("pr", now, os.urandom(10)),
            target=target,
            role=self.role,
            key=AssignmentKey(
                connector="aws",
                account=target.account,
                native_role=self.arn,
                native_principal=self.ids["users"].get(user, user),
            ),
            ends_at=now + lasts,
        )

    def see(self, hold: Hold, connector: IdentityCenterConnector | None = None) -> Seen:
        """The one Seen of a hold."""
        scope = Scope(target=hold.target, hold=hold)
        (seen,) = (connector or self.connector).observe(scope, self.now())
        return seen

    def client(self, identity: str, service: str) -> Any:
        """A client as one of the seeded identities."""
        keys = self.keys(identity)
        return self._client(service, keys.access_key_id, keys.secret_access_key)

    def sign_in(
        self, user: str = "ana", account: str = ACCOUNT, role: str = "", service: str = "iam"
    ) -> Any:
        """A client of a session the person takes at the portal now, as they would use it."""
        portal = boto3.client(
            "sso", endpoint_url=self.cloud.url, region_name=REGION, config=_config()
        )
        got = portal.get_role_credentials(
            accessToken=self.ids["portal_tokens"][user],
            accountId=account,
            roleName=role or self.name,
        )["roleCredentials"]
        keys = (got["accessKeyId"], got["secretAccessKey"], got["sessionToken"])
        return self._client(service, *keys)

    def chain(self, user: str = "ana") -> Any:
        """A client of a session that the person's session takes of another role of the account."""
        trust = [f"arn:aws:iam::{ACCOUNT}:role/*"]
        self.admin.seed(
            roles=[{"name": "ops", "account": ACCOUNT, "trust": trust, "policies": [ANYTHING]}]
        )
        got = self.sign_in(user, service="sts").assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/ops", RoleSessionName="chained"
        )["Credentials"]
        keys = (got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])
        return self._client("iam", *keys)

    def may_sign_in(self, user: str = "ana", account: str = ACCOUNT) -> bool:
        """Whether the portal gives the person a session now."""
        try:
            self.sign_in(user, account)
        except ClientError as error:
            assert error.response["Error"]["Code"] in (
                "ForbiddenException",
                "UnauthorizedException",
            )
            return False
        return True

    def acts(self, session: Any) -> bool:
        """Whether a session can act now."""
        try:
            session.list_users(MaxItems=1)
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
            return False
        return True

    def assigned(self, user: str = "ana", account: str = ACCOUNT) -> bool:
        """Whether the assignment stands, by the stand-in's own state."""
        wanted = (self.arn, account, "USER", self.ids["users"][user])
        return wanted in {_key(one) for one in self.admin.assignments()}

    def policy(self) -> str:
        """The permission set's inline policy."""
        sso = self.client("broker", "sso-admin")
        got = sso.get_inline_policy_for_permission_set(
            InstanceArn=self.ids["instance_arn"], PermissionSetArn=self.arn
        )
        return str(got.get("InlinePolicy", ""))

    def put_policy(self, text: str) -> None:
        """Replace that policy and provision it, as its owner would."""
        sso, instance = self.client("broker", "sso-admin"), self.ids["instance_arn"]
        if text:
            sso.put_inline_policy_to_permission_set(
                InstanceArn=instance, PermissionSetArn=self.arn, InlinePolicy=text
            )
        else:
            sso.delete_inline_policy_from_permission_set(
                InstanceArn=instance, PermissionSetArn=self.arn
            )
        made = sso.provision_permission_set(
            InstanceArn=instance,
            PermissionSetArn=self.arn,
            TargetType="AWS_ACCOUNT",
            TargetId=ACCOUNT,
        )["PermissionSetProvisioningStatus"]
        sso.describe_permission_set_provisioning_status(
            InstanceArn=instance, ProvisionPermissionSetRequestId=made["RequestId"]
        )

    def _client(self, service: str, key: str, secret: str, token: str = "") -> Any:
        return boto3.client(
            service,
            endpoint_url=self.cloud.url,
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token or None,
            config=_config(),
        )


def _config() -> Config:
    return Config(retries={"total_max_attempts": 1, "mode": "standard"})


def _key(one: Any) -> tuple[str, str, str, str]:
    return (
        one["permission_set_arn"],
        one["account"],
        one["principal_type"],
        one["principal_id"],
    )
