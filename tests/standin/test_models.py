"""Every operation and every error, held against botocore's service models and real clients."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tidegate_standin
from tests.standin.conftest import ACCOUNT, HUB, QUEUE, REGION, Scene, allow
from tidegate_standin.dispatch import SERVED

SOURCES = Path(tidegate_standin.__file__).parent
# Answered by every AWS service, named by no model: API references, "Common Errors".
COMMON = {
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "SerializationException",
    "UnknownOperationException",
    "UnrecognizedClientException",
    "ValidationException",
}
# Seen live from the portal, named by no model.
LIVE = {"ForbiddenException"}
MODULES = {
    "assignments": ["sso-admin"],
    "permission_sets": ["sso-admin"],
    "identity_store": ["identitystore"],
    "organizations": ["organizations"],
    "scheduler": ["scheduler"],
    "accounts": ["sso", "sts", "iam"],
}


def _wrong_json(shape: Any, value: Any, at: str) -> list[str]:
    """What in a JSON answer the model does not have, or has otherwise."""
    if shape.type_name == "structure":
        if not isinstance(value, dict):
            return [f"{at}: expected an object"]
        missing = [f"{at}.{name}: missing" for name in shape.required_members if name not in value]
        strange = [f"{at}.{name}: unknown" for name in value if name not in shape.members]
        inner = [
            wrong
            for name, one in value.items()
            if name in shape.members
            for wrong in _wrong_json(shape.members[name], one, f"{at}.{name}")
        ]
        return missing + strange + inner
    if shape.type_name == "list":
        return [w for one in value for w in _wrong_json(shape.member, one, f"{at}[]")]
    kinds: dict[str, Any] = {
        "string": str,
        "boolean": bool,
        "integer": int,
        "long": int,
        "timestamp": int | float,
    }
    if not isinstance(value, kinds[shape.type_name]):
        return [f"{at}: expected {shape.type_name}, got {value!r}"]
    if shape.type_name == "string":
        if shape.enum and value not in shape.enum:
            return [f"{at}: {value} is not of {shape.enum}"]
        pattern = shape.metadata.get("pattern", "")
        if pattern and "\\p" not in pattern and not re.fullmatch(pattern, value):
            return [f"{at}: {value} does not match {pattern}"]
    return []


def _wrong_xml(shape: Any, element: ElementTree.Element, at: str) -> list[str]:
    """The same for an XML answer; types are seen by botocore's parser."""
    children = {re.sub(r"\{.*\}", "", child.tag): child for child in element}
    if shape.type_name == "structure":
        missing = [f"{at}.{n}: missing" for n in shape.required_members if n not in children]
        strange = [f"{at}.{n}: unknown" for n in children if n not in shape.members]
        inner = [
            wrong
            for name, child in children.items()
            if name in shape.members
            for wrong in _wrong_xml(shape.members[name], child, f"{at}.{name}")
        ]
        return missing + strange + inner
    if shape.type_name == "list":
        return [w for child in element for w in _wrong_xml(shape.member, child, f"{at}[]")]
    return []


class Tour:
    """Calls through real clients, with each raw answer held against its model."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.seen: set[tuple[str, str]] = set()
        self.wrong: list[str] = []

    def client(self, service: str, who: Any = "root") -> Any:
        """A client whose answers are looked at."""
        client = self.scene.client(service, who)

        def look(http_response: Any, parsed: Any, model: Any, **rest: Any) -> None:
            self.look(service, model, http_response.content)

        client.meta.events.register("after-call.*.*", look)
        return client

    def look(self, service: str, model: Any, content: bytes) -> None:
        """Hold one raw answer against the output shape of its operation."""
        self.seen.add((service, model.name))
        if service in ("sts", "iam"):
            result = next(e for e in ElementTree.fromstring(content) if e.tag.endswith("Result"))
            self.wrong += _wrong_xml(model.output_shape, result, model.name)
        elif service != "s3":
            shown = json.loads(content or b"{}")
            if model.output_shape is None:
                self.wrong += [f"{model.name}: expected nothing"] if shown else []
            else:
                self.wrong += _wrong_json(model.output_shape, shown, model.name)


def _identity_store(tour: Tour) -> None:
    store = {"IdentityStoreId": tour.scene.ids["identity_store_id"]}
    client = tour.client("identitystore")
    user = client.create_user(
        **store,
        UserName="cy",
        DisplayName="cy",
        Name={"GivenName": "c", "FamilyName": "y"},
        Emails=[{"Value": "cy@example.com", "Primary": True}],
    )["UserId"]
    group = client.create_group(**store, DisplayName="dba")["GroupId"]
    member = {"UserId": user}
    made = client.create_group_membership(**store, GroupId=group, MemberId=member)
    client.describe_user(**store, UserId=user)
    for path, value in (("userName", "cy"), ("emails.value", "cy@example.com")):
        attribute = {"AttributePath": path, "AttributeValue": value}
        found = client.get_user_id(**store, AlternateIdentifier={"UniqueAttribute": attribute})
        assert found["UserId"] == user
    client.list_users(**store, Filters=[{"AttributePath": "UserName", "AttributeValue": "cy"}])
    client.describe_group(**store, GroupId=group)
    client.list_groups(**store)
    client.list_group_memberships(**store, GroupId=group)
    client.list_group_memberships_for_member(**store, MemberId=member)
    client.delete_group_membership(**store, MembershipId=made["MembershipId"])
    client.delete_user(**store, UserId=user)


def _permission_sets(tour: Tour) -> None:
    instance = {"InstanceArn": tour.scene.ids["instance_arn"]}
    client = tour.client("sso-admin")
    client.list_instances()
    client.list_permission_sets(**instance, MaxResults=1)
    arn = client.create_permission_set(
        **instance, Name="reader", SessionDuration="PT2H", Description="reads"
    )["PermissionSet"]["PermissionSetArn"]
    both = {**instance, "PermissionSetArn": arn}
    client.describe_permission_set(**both)
    client.update_permission_set(**both, SessionDuration="PT1H")
    client.put_inline_policy_to_permission_set(**both, InlinePolicy=json.dumps(allow("s3:*")))
    client.get_inline_policy_for_permission_set(**both)
    client.list_managed_policies_in_permission_set(**both, MaxResults=1)
    client.list_customer_managed_policy_references_in_permission_set(**both, MaxResults=1)
    client.delete_inline_policy_from_permission_set(**both)
    asked = client.provision_permission_set(**both, TargetType="AWS_ACCOUNT", TargetId=ACCOUNT)
    request = asked["PermissionSetProvisioningStatus"]["RequestId"]
    for _ in range(2):
        client.describe_permission_set_provisioning_status(
            **instance, ProvisionPermissionSetRequestId=request
        )
    client.list_permission_set_provisioning_status(**instance)
    client.list_permission_sets_provisioned_to_account(**instance, AccountId=ACCOUNT)
    client.list_accounts_for_provisioned_permission_set(**both)
    client.delete_permission_set(**both)


def _assignments(tour: Tour) -> None:
    scene, client = tour.scene, tour.client("sso-admin")
    instance = {"InstanceArn": scene.ids["instance_arn"]}
    scene.admin.fault("DeleteAccountAssignment", "async_failed", count=1)
    for kind, run, ask in (
        (
            "Creation",
            client.create_account_assignment,
            client.describe_account_assignment_creation_status,
        ),
        (
            "Deletion",
            client.delete_account_assignment,
            client.describe_account_assignment_deletion_status,
        ),
    ):
        request = run(**scene.key())[f"AccountAssignment{kind}Status"]["RequestId"]
        for _ in range(2):
            ask(**instance, **{f"AccountAssignment{kind}RequestId": request})
    client.list_account_assignment_creation_status(**instance, Filter={"Status": "SUCCEEDED"})
    client.list_account_assignment_deletion_status(**instance)
    client.list_account_assignments(
        **instance, AccountId=ACCOUNT, PermissionSetArn=scene.set_arn, MaxResults=1
    )
    client.list_account_assignments_for_principal(
        **instance, PrincipalId=scene.ids["users"]["ana"], PrincipalType="USER"
    )


def _sessions(tour: Tour) -> None:
    scene, portal = tour.scene, tour.client("sso")
    portal.list_accounts(accessToken="ana-token", maxResults=1)
    portal.list_account_roles(accessToken="ana-token", accountId=ACCOUNT)
    got = portal.get_role_credentials(accessToken="ana-token", accountId=ACCOUNT, roleName="admin")[
        "roleCredentials"
    ]
    keys = (got["accessKeyId"], got["secretAccessKey"], got["sessionToken"])
    scene.admin.seed(
        roles=[{"name": "side", "account": ACCOUNT, "trust": [ACCOUNT], "policies": []}],
        identities=[{"name": "old", "account": ACCOUNT, "policies": []}],
    )
    sts, iam = tour.client("sts", keys), tour.client("iam", keys)
    sts.get_caller_identity()
    sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/side", RoleSessionName="me")
    assert [u["UserName"] for u in iam.list_users()["Users"]] == ["old"]
    assert len(iam.list_roles()["Roles"]) == 2
    iam.get_role(RoleName="side")
    iam.simulate_principal_policy(
        PolicySourceArn=f"arn:aws:iam::{ACCOUNT}:role/side",
        ActionNames=["sso:DeleteAccountAssignment"],
        ResourceArns=[scene.set_arn],
        ContextEntries=[
            {
                "ContextKeyName": "aws:CurrentTime",
                "ContextKeyValues": ["2026-01-01T00:00:00Z"],
                "ContextKeyType": "date",
            }
        ],
    )
    tour.client("s3", keys).list_buckets()


def _organizations(tour: Tour) -> None:
    client = tour.client("organizations")
    client.describe_organization()
    client.list_accounts(MaxResults=1)
    client.describe_account(AccountId=ACCOUNT)
    policy = client.create_policy(
        Name="cut",
        Description="",
        Type="SERVICE_CONTROL_POLICY",
        Content=json.dumps(allow("*")),
    )["Policy"]["PolicySummary"]["Id"]
    client.describe_policy(PolicyId=policy)
    client.update_policy(PolicyId=policy, Content=json.dumps(allow("s3:*")))
    client.attach_policy(PolicyId=policy, TargetId=HUB)
    client.list_policies(Filter="SERVICE_CONTROL_POLICY")
    client.list_policies_for_target(TargetId=HUB, Filter="SERVICE_CONTROL_POLICY")
    client.list_targets_for_policy(PolicyId=policy)
    client.detach_policy(PolicyId=policy, TargetId=HUB)
    client.delete_policy(PolicyId=policy)


def _scheduler(tour: Tour) -> None:
    client = tour.client("scheduler", "broker")
    group = {"GroupName": "tidegate", "Name": "tidegate-1"}
    client.create_schedule_group(Name="tidegate")
    client.get_schedule_group(Name="tidegate")
    start = datetime.now(UTC) + timedelta(hours=1)
    asked = {
        **group,
        "ScheduleExpression": "rate(2 minutes)",
        "StartDate": start,
        "EndDate": start + timedelta(hours=2),
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {
            "Arn": "arn:aws:scheduler:::aws-sdk:ssoadmin:deleteAccountAssignment",
            "RoleArn": tour.scene.ids["roles"]["deadline"],
            "Input": json.dumps(tour.scene.key()),
            "DeadLetterConfig": {"Arn": QUEUE},
            "RetryPolicy": {"MaximumRetryAttempts": 0},
        },
    }
    client.create_schedule(**asked)
    client.update_schedule(**asked, Description="moved")
    kept = client.get_schedule(**group)
    assert kept["StartDate"] == start.replace(microsecond=kept["StartDate"].microsecond)
    assert kept["Target"] == asked["Target"]
    client.list_schedules(GroupName="tidegate", NamePrefix="tidegate-", MaxResults=1)
    client.delete_schedule(**group)


STOPS: list[Callable[[Tour], None]] = [
    _identity_store,
    _permission_sets,
    _assignments,
    _sessions,
    _organizations,
    _scheduler,
]


def test_answer_that_no_model_has_is_found(scene: Scene) -> None:
    """Every operation served answers members, types, enums and patterns of its output shape."""
    tour = Tour(scene)
    for stop in STOPS:
        stop(tour)
    assert tour.wrong == []
    served = {(service, name) for service, names in SERVED.items() for name in names}
    assert served - tour.seen == set()


def test_operation_that_no_service_has_is_found(clients: Any) -> None:
    """What is served exists, under that name, in the service's model."""
    for service, names in SERVED.items():
        assert set(names) <= set(clients.get_service_model(service).operation_names), service


@pytest.mark.parametrize("module", sorted(MODULES))
def test_error_that_no_model_has_is_found(clients: Any, module: str) -> None:
    """Every error a module answers is modelled for its service, common to all, or seen live."""
    named = set(re.findall(r'Refusal\(\s*"(\w+)"', (SOURCES / f"{module}.py").read_text()))
    modelled: set[str] = set()
    for service in MODULES[module]:
        model = clients.get_service_model(service)
        for operation in model.operation_names:
            for shape in model.operation_model(operation).error_shapes:
                modelled |= {shape.name, shape.error_code}
    assert named - modelled - COMMON - LIVE == set()


def _aws(scene: Scene, *arguments: str) -> dict[str, Any]:
    keys = scene.ids["identities"]["broker"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "AWS_ACCESS_KEY_ID": keys["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": keys["secret_access_key"],
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": scene.url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [str(Path(sys.executable).parent / "aws"), *arguments, "--output", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_real_command_line_cannot_use_it(scene: Scene) -> None:
    """The `aws` command assigns, signs in at the portal and asks who it is."""
    key = scene.key()
    asked = _aws(
        scene,
        *("sso-admin", "create-account-assignment", "--instance-arn", key["InstanceArn"]),
        *("--target-id", ACCOUNT, "--target-type", "AWS_ACCOUNT", "--principal-type", "USER"),
        *("--permission-set-arn", scene.set_arn, "--principal-id", key["PrincipalId"]),
    )
    assert asked["AccountAssignmentCreationStatus"]["Status"] == "IN_PROGRESS"
    scene.admin.pass_seconds(3)
    got = _aws(
        scene,
        *("sso", "get-role-credentials", "--role-name", "admin"),
        *("--account-id", ACCOUNT, "--access-token", "ana-token"),
    )
    assert got["roleCredentials"]["accessKeyId"].startswith("ASIA")
    assert _aws(scene, "sts", "get-caller-identity")["Arn"].endswith("user/broker")
