"""Permission sets, control policies and people: limits, conflicts and look-ups."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.standin.conftest import ACCOUNT, Scene, allow


def _refused(run: Any, /, **params: Any) -> str:
    with pytest.raises(ClientError) as refused:
        run(**params)
    return str(refused.value.response["Error"]["Code"])


def test_inline_policy_over_the_limit_is_refused(scene: Scene) -> None:
    """10,240 characters without white space fit, one more does not."""
    sso = scene.client("sso-admin")
    frame = len(json.dumps(allow("sso:*", resource=""), separators=(",", ":")))

    def put(length: int) -> dict[str, str]:
        document = allow("sso:*", resource="x" * (length - frame))
        text = json.dumps(document, indent=4)
        return {
            "InstanceArn": scene.ids["instance_arn"],
            "PermissionSetArn": scene.set_arn,
            "InlinePolicy": text,
        }

    sso.put_inline_policy_to_permission_set(**put(10_240))
    code = _refused(sso.put_inline_policy_to_permission_set, **put(10_241))
    assert code == "ServiceQuotaExceededException"


def test_control_policy_over_the_limit_or_from_a_member_is_refused(scene: Scene) -> None:
    """5,120 characters with white space, and only the management account changes policies."""
    root, hub = scene.client("organizations", "root"), scene.client("organizations")
    frame = len(json.dumps(allow("sso:*", resource="")))

    def asked(length: int) -> dict[str, str]:
        content = json.dumps(allow("sso:*", resource="x" * (length - frame)))
        return {
            "Name": "cut",
            "Description": "cut",
            "Type": "SERVICE_CONTROL_POLICY",
            "Content": content,
        }

    assert _refused(root.create_policy, **asked(5_121)) == "ConstraintViolationException"
    assert _refused(hub.create_policy, **asked(5_120)) == "AccessDeniedException"
    made = root.create_policy(**asked(5_120))["Policy"]["PolicySummary"]["Id"]
    hub.describe_policy(PolicyId=made)
    assert _refused(hub.attach_policy, PolicyId=made, TargetId=ACCOUNT) == "AccessDeniedException"
    root.attach_policy(PolicyId=made, TargetId=ACCOUNT)
    again = _refused(root.attach_policy, PolicyId=made, TargetId=ACCOUNT)
    assert again == "DuplicatePolicyAttachmentException"


def test_second_provisioning_of_a_set_conflicts(scene: Scene) -> None:
    """A permission set is provisioned by one request at a time."""
    scene.change("Creation")
    sso = scene.client("sso-admin")
    asked = {
        "InstanceArn": scene.ids["instance_arn"],
        "PermissionSetArn": scene.set_arn,
        "TargetType": "ALL_PROVISIONED_ACCOUNTS",
    }
    sso.provision_permission_set(**asked)
    assert _refused(sso.provision_permission_set, **asked) == "ConflictException"


def test_person_is_found_by_the_providers_id(scene: Scene) -> None:
    """GetUserId by ExternalId, and nobody for another issuer's."""
    issuer = "https://idp.example"
    scene.admin.seed(users=[{"user_name": "cy", "external_id": "00u1", "external_issuer": issuer}])
    store = scene.client("identitystore")

    def ask(name: str) -> dict[str, Any]:
        return {
            "IdentityStoreId": scene.ids["identity_store_id"],
            "AlternateIdentifier": {"ExternalId": {"Issuer": name, "Id": "00u1"}},
        }

    assert store.get_user_id(**ask(issuer))["UserId"] == scene.admin.ids()["users"]["cy"]
    assert _refused(store.get_user_id, **ask("https://other")) == "ResourceNotFoundException"
