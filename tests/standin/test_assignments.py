"""Account assignments and permission sets, with everything AWS does late, twice or not at all."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError, ReadTimeoutError

from tests.standin.conftest import ACCOUNT, HUB, MANAGEMENT, REGION, Scene, allow


def _refused(run: Any, /, **params: Any) -> str:
    with pytest.raises(ClientError) as refused:
        run(**params)
    return str(refused.value.response["Error"]["Code"])


def _listed(scene: Scene) -> list[str]:
    pages = scene.client("sso-admin").get_paginator("list_account_assignments")
    found = pages.paginate(
        InstanceArn=scene.ids["instance_arn"],
        AccountId=ACCOUNT,
        PermissionSetArn=scene.set_arn,
        PaginationConfig={"PageSize": 2},
    )
    return [row["PrincipalId"] for one in found for row in one["AccountAssignments"]]


def test_request_stays_in_progress_and_has_no_effect_yet(scene: Scene) -> None:
    """The assignment stands only once the request ended."""
    scene.admin.fault("CreateAccountAssignment", "in_progress", describes=3, count=1)
    asked = scene.client("sso-admin").create_account_assignment(**scene.key())
    request = asked["AccountAssignmentCreationStatus"]["RequestId"]
    seen = []
    for _ in range(4):
        assert _listed(scene) == []
        seen.append(scene.status("Creation", request)["Status"])
    assert seen == ["IN_PROGRESS"] * 3 + ["SUCCEEDED"]
    assert _listed(scene) == [scene.ids["users"]["ana"]]


def test_request_nobody_asks_about_ends_by_itself(scene: Scene) -> None:
    """A deletion takes effect after a while although its caller died."""
    scene.change("Creation")
    scene.client("sso-admin").delete_account_assignment(**scene.key())
    assert len(_listed(scene)) == 1
    scene.admin.pass_seconds(3)
    assert _listed(scene) == []


def test_async_failure_leaves_the_assignment_and_says_why(scene: Scene) -> None:
    """An accepted deletion that FAILED removed nothing."""
    scene.change("Creation")
    scene.admin.fault("DeleteAccountAssignment", "async_failed", count=1, reason="no luck")
    ended = scene.change("Deletion")
    assert (ended["Status"], ended["FailureReason"]) == ("FAILED", "no luck")
    assert len(_listed(scene)) == 1


def test_second_change_while_one_is_under_way_conflicts(scene: Scene) -> None:
    """The same set, account and principal cannot be changed twice at once."""
    sso = scene.client("sso-admin")
    sso.create_account_assignment(**scene.key())
    assert _refused(sso.delete_account_assignment, **scene.key()) == "ConflictException"
    sso.create_account_assignment(**scene.key("bo"))


def test_duplicate_create_leaves_one_assignment(scene: Scene) -> None:
    """A repeated create succeeds, and one delete takes it away."""
    assert [scene.change("Creation")["Status"] for _ in range(2)] == ["SUCCEEDED"] * 2
    assert len(_listed(scene)) == 1
    scene.change("Deletion")
    assert _listed(scene) == []


def test_delete_of_what_is_gone_fails_in_both_ways_aws_has(scene: Scene) -> None:
    """Asynchronously by default, at once with the option."""
    ended = scene.change("Deletion")
    assert ended["Status"] == "FAILED"
    assert "404" in ended["FailureReason"]
    scene.admin.options(delete_of_missing="raise")
    sso = scene.client("sso-admin")
    code = _refused(sso.delete_account_assignment, **scene.key())
    assert code == "ResourceNotFoundException"


def test_eleventh_outstanding_request_is_throttled(scene: Scene) -> None:
    """Ten asynchronous changes may be under way; one that ended makes room."""
    scene.admin.seed(users=[{"user_name": f"u{n}"} for n in range(11)])
    scene.ids = scene.admin.ids()
    scene.admin.options(settle_seconds=3600)
    sso = scene.client("sso-admin")
    first = sso.create_account_assignment(**scene.key("u0"))["AccountAssignmentCreationStatus"]
    for n in range(1, 10):
        sso.create_account_assignment(**scene.key(f"u{n}"))
    code = _refused(sso.create_account_assignment, **scene.key("u10"))
    assert code == "ThrottlingException"
    while scene.status("Creation", first["RequestId"])["Status"] == "IN_PROGRESS":
        pass
    sso.create_account_assignment(**scene.key("u10"))


def test_unknown_person_fails_late(scene: Scene) -> None:
    """An assignment to nobody is accepted and ends FAILED."""
    key = {**scene.key(), "PrincipalId": "0000000000-00000000-0000-4000-8000-000000000000"}
    assert scene.change("Creation", **key)["Status"] == "FAILED"


def test_removal_for_a_deleted_person_fails_and_leaves_the_assignment(scene: Scene) -> None:
    """Who is gone from the identity store still has a row that a deletion does not remove."""
    scene.change("Creation")
    scene.client("identitystore").delete_user(
        IdentityStoreId=scene.ids["identity_store_id"], UserId=scene.ids["users"]["ana"]
    )
    ended = scene.change("Deletion")
    assert "was not found in directory" in ended["FailureReason"]
    assert len(_listed(scene)) == 1
    scene.admin.options(delete_for_deleted_user="succeed")
    assert scene.change("Deletion")["Status"] == "SUCCEEDED"


def test_lost_reply_took_effect(scene: Scene) -> None:
    """The caller hears nothing, and the assignment stands."""
    scene.admin.fault("CreateAccountAssignment", "lost_reply", count=1)
    started = time.monotonic()
    with pytest.raises(HTTPClientError):
        scene.client("sso-admin").create_account_assignment(**scene.key())
    assert time.monotonic() - started < 5
    scene.admin.pass_seconds(3)
    assert _listed(scene) == [scene.ids["users"]["ana"]]


def test_lost_request_took_no_effect(scene: Scene) -> None:
    """The caller hears the same nothing, and no assignment comes."""
    scene.admin.fault("CreateAccountAssignment", "lost_request", count=1)
    with pytest.raises(HTTPClientError):
        scene.client("sso-admin").create_account_assignment(**scene.key())
    scene.admin.pass_seconds(30)
    assert _listed(scene) == []


def test_stale_list_shows_the_removed_one(scene: Scene) -> None:
    """A listing behind the truth shows what was removed and not what was added."""
    scene.change("Creation")
    scene.admin.pass_seconds(60)
    scene.admin.options(stale_seconds=30)
    scene.change("Deletion")
    scene.change("Creation", **scene.key("bo"))
    assert _listed(scene) == [scene.ids["users"]["ana"]]
    scene.admin.pass_seconds(31)
    assert _listed(scene) == [scene.ids["users"]["bo"]]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("conflict", "ConflictException"),
        ("throttle", "ThrottlingException"),
        ("refuse", "AccessDeniedException"),
        ("error", "InternalServerException"),
    ],
)
def test_fault_is_met_as_often_as_asked_and_changes_nothing(
    scene: Scene, kind: str, code: str
) -> None:
    """A counted fault answers that often, then the call goes through."""
    scene.admin.fault("CreateAccountAssignment", kind, count=2)
    sso = scene.client("sso-admin")
    codes = [_refused(sso.create_account_assignment, **scene.key()) for _ in range(2)]
    assert codes == [code] * 2
    assert _listed(scene) == []
    assert scene.change("Creation")["Status"] == "SUCCEEDED"
    assert scene.admin.refused()[f"sso-admin:CreateAccountAssignment:{code}"] == 2


def test_fault_in_force_for_a_while_ends_by_the_clock(scene: Scene) -> None:
    """A fault with seconds, and one for requests that contain a text."""
    sso = scene.client("sso-admin")
    scene.admin.fault("*", "refuse", seconds_in_force=60, containing=ACCOUNT)
    assert _refused(sso.create_account_assignment, **scene.key()) == "AccessDeniedException"
    sso.list_instances()
    scene.admin.pass_seconds(61)
    sso.create_account_assignment(**scene.key())


def test_cloud_that_is_down_answers_nobody_but_the_admin(scene: Scene) -> None:
    """Every service hangs up until the fault is cleared."""
    fault = scene.admin.fault("*", "down")
    with pytest.raises(HTTPClientError):
        scene.client("sts").get_caller_identity()
    assert scene.admin.health()["ok"]
    scene.admin.clear_faults(fault)
    scene.client("sts").get_caller_identity()


def test_delayed_answer_outlasts_an_impatient_client(scene: Scene) -> None:
    """A delay holds the answer back, and nobody else's."""
    scene.admin.fault("ListInstances", "delay", seconds=0.6, count=1)
    impatient = scene.client("sso-admin")
    impatient = scene.session.create_client(
        "sso-admin",
        region_name=REGION,
        endpoint_url=scene.url,
        aws_access_key_id="AKIABROKER",
        aws_secret_access_key="broker-secret",
        config=impatient.meta.config.merge(type(impatient.meta.config)(read_timeout=0.2)),
    )
    with pytest.raises(ReadTimeoutError):
        impatient.list_instances()
    assert scene.client("sso-admin").list_instances()["Instances"]


def test_inherited_assignment_is_listed_as_the_groups(scene: Scene) -> None:
    """A user's listing has the group's row, filtered by account and paged."""
    scene.admin.add_assignment("admin", ACCOUNT, group="sre")
    scene.admin.add_assignment("admin", ACCOUNT, user="bo")
    scene.admin.add_assignment("admin", HUB, user="bo")
    pages = scene.client("sso-admin").get_paginator("list_account_assignments_for_principal")

    def rows(**more: Any) -> list[tuple[str, str]]:
        found = pages.paginate(
            InstanceArn=scene.ids["instance_arn"],
            PrincipalId=scene.ids["users"]["bo"],
            PrincipalType="USER",
            PaginationConfig={"PageSize": 1},
            **more,
        )
        return [
            (row["AccountId"], row["PrincipalType"])
            for one in found
            for row in one["AccountAssignments"]
        ]

    here = [(ACCOUNT, "GROUP"), (ACCOUNT, "USER")]
    assert sorted(rows()) == sorted([*here, (HUB, "USER")])
    assert sorted(rows(Filter={"AccountId": ACCOUNT})) == here


def test_delegated_administrator_is_refused_on_the_management_account(scene: Scene) -> None:
    """Neither an assignment there, nor a set that is provisioned there."""
    sso = scene.client("sso-admin")
    key = scene.key(account=MANAGEMENT)
    assert _refused(sso.create_account_assignment, **key) == "AccessDeniedException"
    scene.admin.add_assignment("admin", MANAGEMENT, user="ana")
    put = {
        "InstanceArn": scene.ids["instance_arn"],
        "PermissionSetArn": scene.set_arn,
        "InlinePolicy": json.dumps(allow("s3:*")),
    }
    assert _refused(sso.put_inline_policy_to_permission_set, **put) == "AccessDeniedException"
    scene.client("sso-admin", "root").put_inline_policy_to_permission_set(**put)


def test_identity_without_the_right_is_named_in_the_refusal(scene: Scene) -> None:
    """The message names the caller, the action and the resource, and the right can come back."""
    scene.admin.policies("broker", [allow("sso:List*", "sso:Describe*")])
    sso = scene.client("sso-admin")
    with pytest.raises(ClientError) as refused:
        sso.delete_account_assignment(**scene.key())
    error = refused.value.response["Error"]
    assert error["Code"] == "AccessDeniedException"
    assert f"arn:aws:iam::{HUB}:user/broker is not authorized to perform:" in error["Message"]
    assert "no identity-based policy allows the sso:DeleteAccountAssignment" in error["Message"]
    scene.admin.policies("broker", [allow("sso:*")])
    sso.delete_account_assignment(**scene.key())


def test_right_on_one_account_is_not_a_right_on_another(scene: Scene) -> None:
    """Every resource of a call must be allowed: instance, permission set and account."""
    documents = [
        allow("sso:CreateAccountAssignment", resource="arn:aws:sso:::instance/*"),
        allow("sso:CreateAccountAssignment", resource=scene.set_arn),
        allow("sso:CreateAccountAssignment", resource=f"arn:aws:sso:::account/{ACCOUNT}"),
    ]
    scene.admin.policies("broker", documents)
    sso = scene.client("sso-admin")
    sso.create_account_assignment(**scene.key())
    code = _refused(sso.create_account_assignment, **scene.key(account=HUB))
    assert code == "AccessDeniedException"


def test_listing_for_a_principal_can_be_kept_to_the_management_account(scene: Scene) -> None:
    """The API Reference's letter, with the option."""
    scene.admin.options(for_principal_from_management_only=True)
    asked = {
        "InstanceArn": scene.ids["instance_arn"],
        "PrincipalId": scene.ids["users"]["ana"],
        "PrincipalType": "USER",
    }
    hub = scene.client("sso-admin").list_account_assignments_for_principal
    assert _refused(hub, **asked) == "AccessDeniedException"
    scene.client("sso-admin", "root").list_account_assignments_for_principal(**asked)


def test_account_that_is_no_administrator_sees_nothing(scene: Scene) -> None:
    """A member account may not even list, whatever its own policies say."""
    scene.admin.seed(identities=[{"name": "member", "account": ACCOUNT, "policies": [allow("*")]}])
    scene.ids = scene.admin.ids()
    sso = scene.client("sso-admin", "member")
    code = _refused(sso.list_permission_sets, InstanceArn=scene.ids["instance_arn"])
    assert code == "AccessDeniedException"


def test_many_at_once_lose_nothing(scene: Scene) -> None:
    """Forty callers at once: each request is answered and each assignment stands."""
    scene.admin.options(outstanding_limit=100)
    scene.admin.seed(users=[{"user_name": f"u{n}"} for n in range(40)])
    scene.ids = scene.admin.ids()
    sso = scene.client("sso-admin")
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(sso.create_account_assignment, **scene.key(f"u{n}")) for n in range(40)
        ]
        assert len([one.result() for one in asked]) == 40
    scene.admin.pass_seconds(3)
    assert len(_listed(scene)) == 40


def test_parameter_that_aws_would_refuse_is_refused(scene: Scene) -> None:
    """Patterns are checked, which no client does."""
    sso = scene.client("sso-admin")
    key = {**scene.key(), "PrincipalId": "ana"}
    assert _refused(sso.create_account_assignment, **key) == "ValidationException"


def test_date_of_an_answer_is_the_clouds(scene: Scene) -> None:
    """Every answer carries the stand-in's own clock."""
    scene.admin.ahead(86_400)
    answer = scene.client("sts").get_caller_identity()["ResponseMetadata"]["HTTPHeaders"]["date"]
    assert 86_000 < parsedate_to_datetime(answer).timestamp() - time.time() < 87_000
