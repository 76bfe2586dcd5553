"""Sessions from assignments: what ends them, and what only looks as if it did."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.standin.conftest import ACCOUNT, HUB, MANAGEMENT, Keys, Scene, allow


def _code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def _may(scene: Scene, keys: Keys) -> bool:
    try:
        scene.client("iam", keys).list_users()
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied"
        return False
    return True


def _cut(scene: Scene, before: str, user: str = "ana") -> dict[str, Any]:
    condition = {
        "StringEquals": {"identitystore:UserId": [scene.ids["users"][user]]},
        "DateLessThan": {"aws:TokenIssueTime": before},
    }
    statement = {
        "Sid": "TidegateCut1",
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": condition,
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _put(scene: Scene, document: dict[str, Any]) -> None:
    scene.client("sso-admin").put_inline_policy_to_permission_set(
        InstanceArn=scene.ids["instance_arn"],
        PermissionSetArn=scene.set_arn,
        InlinePolicy=json.dumps(document),
    )


def test_session_outlives_its_assignment(scene: Scene) -> None:
    """Credentials taken before the removal act until SessionDuration, and no longer."""
    scene.change("Creation")
    keys = scene.sign_in()
    assert scene.change("Deletion")["Status"] == "SUCCEEDED"
    assert scene.admin.assignments() == []
    scene.admin.pass_seconds(3_500)
    assert _may(scene, keys)
    scene.admin.pass_seconds(200)
    with pytest.raises(ClientError) as refused:
        scene.client("iam", keys).list_users()
    assert _code(refused) == "ExpiredToken"


def test_removed_assignment_gives_no_new_session(scene: Scene) -> None:
    """The portal refuses who has neither an assignment nor a group that has one."""
    scene.change("Creation")
    scene.change("Deletion")
    with pytest.raises(ClientError) as refused:
        scene.sign_in()
    assert _code(refused) == "ForbiddenException"


def test_assignment_elsewhere_gives_nothing_here(scene: Scene) -> None:
    """The portal gives the account and the permission set that are assigned, no other."""
    scene.change("Creation")
    for account, name in ((HUB, "admin"), (ACCOUNT, "reader")):
        with pytest.raises(ClientError) as refused:
            scene.client("sso").get_role_credentials(
                roleName=name, accountId=account, accessToken="ana-token"
            )
        assert _code(refused) == "ForbiddenException"
    scene.admin.pass_seconds(9 * 3_600)
    with pytest.raises(ClientError) as refused:
        scene.sign_in()
    assert _code(refused) == "UnauthorizedException"


def test_group_still_gives_what_the_assignment_no_longer_does(scene: Scene) -> None:
    """A person in a group that is assigned signs in without an assignment of their own."""
    scene.admin.add_assignment("admin", ACCOUNT, group="sre")
    assert _may(scene, scene.sign_in("bo"))


def test_inline_policy_acts_only_after_provisioning(scene: Scene) -> None:
    """A deny that was put but not provisioned cuts nobody."""
    scene.change("Creation")
    keys = scene.sign_in()
    _put(scene, _cut(scene, "2099-01-01T00:00:00Z"))
    assert _may(scene, keys)
    assert scene.provision() == "SUCCEEDED"
    assert not _may(scene, keys)


def test_deny_by_user_and_issue_time_cuts_old_but_not_new_sessions(scene: Scene) -> None:
    """The same person's later sign-in and another person's older one are left alone."""
    scene.change("Creation")
    scene.admin.add_assignment("admin", ACCOUNT, user="bo")
    old, other = scene.sign_in(), scene.sign_in("bo")
    scene.admin.pass_seconds(60)
    _put(scene, _cut(scene, scene.admin.health()["now"]))
    assert scene.provision() == "SUCCEEDED"
    scene.admin.pass_seconds(2)
    new = scene.sign_in()
    assert (_may(scene, old), _may(scene, new), _may(scene, other)) == (False, True, True)


def test_denied_session_can_still_ask_who_it_is(scene: Scene) -> None:
    """GetCallerIdentity needs no permission and cannot be denied."""
    scene.change("Creation")
    keys = scene.sign_in()
    _put(scene, _cut(scene, "2099-01-01T00:00:00Z"))
    scene.provision()
    arn = scene.client("sts", keys).get_caller_identity()["Arn"]
    assert arn.startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_admin_")
    with pytest.raises(ClientError):
        scene.client("s3", keys).list_buckets()


def test_new_assignment_provisions_the_text_as_it_is(scene: Scene) -> None:
    """A policy that was put but not provisioned comes into an account with the next assignment."""
    scene.change("Creation")
    keys = scene.sign_in()
    _put(scene, _cut(scene, "2099-01-01T00:00:00Z"))
    scene.change("Creation", **scene.key("bo"))
    assert not _may(scene, keys)


def test_chained_role_escapes_the_cut_by_user_id(scene: Scene) -> None:
    """A session that assumed another role has that role's issue time and no user id."""
    scene.admin.seed(
        roles=[{"name": "side", "account": ACCOUNT, "trust": ["*"], "policies": [allow("*")]}]
    )
    scene.change("Creation")
    keys = scene.sign_in()
    scene.admin.pass_seconds(90)
    got = scene.client("sts", keys).assume_role(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/side", RoleSessionName="door"
    )["Credentials"]
    chained: Keys = (got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])
    _put(scene, _cut(scene, "2099-01-01T00:00:00Z"))
    scene.provision()
    assert (_may(scene, keys), _may(scene, chained)) == (False, True)
    sessions = {s["access_key_id"]: s for s in scene.admin.state()["sessions"]}
    assert sessions[chained[0]]["came_from"] == keys[0]
    assert sessions[chained[0]]["issued_at"] > sessions[keys[0]]["issued_at"]


def test_chain_longer_than_an_hour_is_refused(scene: Scene) -> None:
    """A session may not assume a role for longer than AWS lets chains live."""
    scene.admin.seed(
        roles=[
            {"name": "side", "account": ACCOUNT, "trust": ["*"], "max_seconds": 43_200},
        ]
    )
    scene.change("Creation")
    with pytest.raises(ClientError) as refused:
        scene.client("sts", scene.sign_in()).assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/side",
            RoleSessionName="door",
            DurationSeconds=7_200,
        )
    assert _code(refused) == "ValidationError"


def test_control_policy_denies_in_members_but_not_on_management(scene: Scene) -> None:
    """An attached deny binds a member account's sessions; the management account has none."""
    scene.admin.add_assignment("admin", ACCOUNT, user="ana")
    scene.admin.add_assignment("admin", MANAGEMENT, user="ana")
    member, management = scene.sign_in(), scene.sign_in(account=MANAGEMENT)
    org = scene.client("organizations", "root")
    made = org.create_policy(
        Name="cut",
        Description="cut",
        Type="SERVICE_CONTROL_POLICY",
        Content=json.dumps(_cut(scene, "2099-01-01T00:00:00Z")),
    )["Policy"]["PolicySummary"]["Id"]
    assert _may(scene, member)
    org.attach_policy(PolicyId=made, TargetId="r-root")
    assert (_may(scene, member), _may(scene, management)) == (False, True)
    org.detach_policy(PolicyId=made, TargetId="r-root")
    assert _may(scene, member)


def test_role_goes_with_the_last_assignment_when_asked(scene: Scene) -> None:
    """With the option the account's role is deleted, and its sessions with it."""
    scene.admin.options(role_goes_with_last_assignment=True)
    scene.change("Creation")
    keys = scene.sign_in()
    scene.change("Deletion")
    with pytest.raises(ClientError) as refused:
        scene.client("iam", keys).list_users()
    assert _code(refused) == "InvalidClientTokenId"


def test_paused_provisioning_stays_in_progress(scene: Scene) -> None:
    """While provisioning is paused a deny is under way and acts on nobody."""
    scene.change("Creation")
    keys = scene.sign_in()
    scene.admin.options(provisioning_paused=True)
    _put(scene, _cut(scene, "2099-01-01T00:00:00Z"))
    assert scene.provision() == "IN_PROGRESS"
    scene.admin.pass_seconds(600)
    assert _may(scene, keys)
    scene.admin.options(provisioning_paused=False)
    assert not _may(scene, keys)


def test_session_of_a_deleted_person_lives_on(scene: Scene) -> None:
    """Deleting the person shuts the portal, not what they took from it."""
    scene.change("Creation")
    keys = scene.sign_in()
    scene.client("identitystore").delete_user(
        IdentityStoreId=scene.ids["identity_store_id"], UserId=scene.ids["users"]["ana"]
    )
    assert _may(scene, keys)
    with pytest.raises(ClientError) as refused:
        scene.sign_in()
    assert _code(refused) == "UnauthorizedException"


def test_simulation_says_what_a_call_would_be_answered(scene: Scene) -> None:
    """SimulatePrincipalPolicy sees the identity's policies and the control policies."""
    iam = scene.client("iam", "root")
    broker = f"arn:aws:iam::{HUB}:user/broker"

    def ask() -> list[str]:
        got = iam.simulate_principal_policy(
            PolicySourceArn=broker,
            ActionNames=["sso:DeleteAccountAssignment", "iam:CreateUser"],
        )
        return [one["EvalDecision"] for one in got["EvaluationResults"]]

    assert ask() == ["allowed", "implicitDeny"]
    scene.admin.policies("broker", [allow("identitystore:*")])
    assert ask() == ["implicitDeny", "implicitDeny"]
