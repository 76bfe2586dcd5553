"""Side doors on AWS: what was made in a window is named, with the command that removes it."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, cast

import pytest

from tests.connectors.conftest import START, AwsWorld, real_now
from tidegate.base.errors import Refused
from tidegate.connectors.aws_calls import Aws, Reply
from tidegate.connectors.aws_policy import CUT_POLICY
from tidegate.connectors.aws_side_doors import CHANGES, LISTED, TRAIL_LATE, Window
from tidegate.connectors.aws_side_doors import look as look_into
from tidegate.connectors.aws_trust import trusted_by
from tidegate.connectors.port import SideDoors

TRUST = {"Version": "2012-10-17", "Statement": []}


@pytest.fixture
def made(aws: AwsWorld) -> Iterator[AwsWorld]:
    """A role on the emulator, and what the test makes is taken away after it."""
    yield aws
    iam = aws.sandbox.client("iam")
    for user in iam.list_users()["Users"]:
        if not user["UserName"].startswith("door-"):
            continue
        name = user["UserName"]
        for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        iam.delete_user(UserName=name)


def look(aws: AwsWorld, keys: tuple[str, ...] = (), later: timedelta = timedelta(0)) -> SideDoors:
    """A search of the last few seconds."""
    hold, now = aws.hold(timedelta(minutes=5)), real_now()
    return aws.connector.side_doors(hold, keys, now - timedelta(seconds=5), now, now + later)


def test_key_user_password_and_role_are_named(made: AwsWorld) -> None:
    """A user, a key, a password and a role made in the window are each named with a remedy."""
    iam, name = made.sandbox.client("iam"), f"door-{made.name}"
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]["AccessKeyId"]
    iam.create_login_profile(UserName=name, Password="Xx1!xxxxxxxxxxxx")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    doors = look(made)
    found = {(one.sort, one.what.rpartition("/")[2]): one for one in doors.found}
    assert ("user", name) in found
    assert ("role", name) in found
    assert found["access_key", key].remedy == (
        f"aws iam delete-access-key --user-name {name} --access-key-id {key}"
    )
    assert ("login_profile", name) in found
    assert all(one.by == "" for one in doors.found)  # made inside the window, not made by
    assert set(LISTED) | set(CHANGES.values()) <= set(doors.searched)
    assert doors.why_not == ()
    iam.delete_login_profile(UserName=name)
    iam.delete_role(RoleName=name)


class FakeAws:
    """CloudTrail's event history as AWS tells it (the emulator names no call of IAM)."""

    def __init__(self, *events: dict[str, object], refuses: str = "") -> None:
        self.events = events
        self.refuses = refuses

    def call(self, service: str, act: Callable[[Any], Any], what: str) -> Reply:
        """One page of what was asked for."""
        if what == self.refuses:
            raise Refused("access_denied", f"AWS answered `{what}` with `AccessDenied`")
        return Reply(body=act(self), cloud_at=START)

    def get_account_authorization_details(self, **_: object) -> dict[str, object]:
        """An empty account."""
        return {"UserDetailList": [], "RoleDetailList": [], "Policies": [], "IsTruncated": False}

    def lookup_events(self, **asked: Any) -> dict[str, object]:
        """The events of that name."""
        name = asked["LookupAttributes"][0]["AttributeValue"]
        return {"Events": [one for one in self.events if one["EventName"] == name]}


def event(name: str, key: str = "ASIAOTHER", error: str = "", **asked: str) -> dict[str, object]:
    """One event, as LookupEvents gives it."""
    told: dict[str, object] = {"userIdentity": {"accessKeyId": key}, "requestParameters": asked}
    if error:
        told["errorCode"] = error
    return {"EventName": name, "EventTime": START, "CloudTrailEvent": json.dumps(told)}


def trail(*events: dict[str, object], refuses: str = "") -> SideDoors:
    """A search that ends when the trail is complete; the holder had the key ASIAMINE."""
    window = Window(
        since=START, until=START, keys=("ASIAMINE",), now=START + TRAIL_LATE + timedelta(seconds=1)
    )
    return look_into(cast(Aws, FakeAws(*events, refuses=refuses)), window)


def test_changes_without_a_date_come_from_the_trail() -> None:
    """Trust edits and policies are named; refused calls and our own deny are not."""
    doors = trail(
        event("UpdateAssumeRolePolicy", roleName="ops"),
        event("AttachUserPolicy", key="ASIAMINE", userName="eve", policyArn="arn:admin"),
        event("PutRolePolicy", roleName="ops", policyName=CUT_POLICY),
        event("PutUserPolicy", error="AccessDenied", userName="eve", policyName="all"),
    )
    assert {(one.sort, one.what, one.by) for one in doors.found} == {
        ("trust_edit", "UpdateAssumeRolePolicy/ops", ""),
        ("policy_attachment", "AttachUserPolicy/eve/arn:admin", "ASIAMINE"),
    }
    assert all(one.remedy for one in doors.found)


def test_chained_session_is_only_told_of_the_holder() -> None:
    """Everybody assumes roles all day; only a chain that starts at the holder's key is told."""
    doors = trail(
        event("AssumeRole", roleArn="arn:a"), event("AssumeRole", "ASIAMINE", roleArn="b")
    )
    assert [(one.sort, one.what) for one in doors.found] == [("chained_session", "AssumeRole/b")]


def test_trail_that_cannot_be_read_is_said() -> None:
    """What was not looked through is never told as clean."""
    doors = trail(refuses="cloudtrail:LookupEvents")
    assert "trust_edit" not in doors.searched
    assert "access_denied" in doors.why_not[0]
    assert (doors.again_at, doors.again) == (None, False)


def test_account_that_cannot_be_read_is_said() -> None:
    """Without the listing there is no word on users, keys and passwords."""
    doors = trail(refuses="iam:GetAccountAuthorizationDetails")
    assert not set(LISTED) & set(doors.searched) - {"policy", "login_profile"}
    assert "access_denied" in doors.why_not[0]


def test_event_that_is_no_json_is_still_told() -> None:
    """A change whose details cannot be read is a change all the same."""
    broken = {**event("UpdateAssumeRolePolicy"), "CloudTrailEvent": "{"}
    (door,) = trail(broken).found
    assert door.sort == "trust_edit"


def test_trail_is_not_called_complete_before_it_can_be(made: AwsWorld) -> None:
    """Until the trail's delay has passed, the search says when to look again; then no more."""
    assert look(made).again_at is not None
    assert look(made, later=TRAIL_LATE + timedelta(seconds=1)).again_at is None


def test_what_is_older_than_the_window_is_left_out(made: AwsWorld) -> None:
    """Whatever was there before is not told as made inside."""
    hold, now = made.hold(timedelta(minutes=5)), real_now()
    later = now + timedelta(hours=1)
    doors = made.connector.side_doors(hold, (), later, later, later)
    assert doors.found == ()


@pytest.mark.parametrize(
    ("statement", "who"),
    [
        ({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::1:root"}}, {"arn:aws:iam::1:root"}),
        ({"Effect": "Allow", "Principal": {"AWS": ["a", "b"], "Service": "s"}}, {"a", "b", "s"}),
        ({"Effect": "Allow", "Principal": "*"}, {"anybody"}),
        ({"Effect": "Allow", "Principal": {"AWS": "*"}}, {"anybody"}),
        ({"Effect": "Allow", "NotPrincipal": {"AWS": "a"}}, {"anybody"}),
        ({"Effect": "Deny", "Principal": "*"}, set()),
        ("broken", set()),
    ],
)
def test_whom_a_trust_lets_in(statement: object, who: set[str]) -> None:
    """Every form of principal is read; what is not understood is anybody."""
    assert trusted_by({"Statement": statement}) == who
    assert trusted_by(json.dumps({"Statement": [statement]})) == who
    assert trusted_by("{") == trusted_by(None) == {"anybody"}


def test_trust_that_lets_another_account_in_is_drift(made: AwsWorld) -> None:
    """A role whose trust names others than us and its own account says whom, and a lost one so."""
    assert made.connector.drift(made.target, made.role, real_now()) == ()
    trust = {
        **TRUST,
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::666666666666:root"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    iam = made.sandbox.client("iam")
    iam.update_assume_role_policy(RoleName=made.name, PolicyDocument=json.dumps(trust))
    assert made.connector.drift(made.target, made.role, real_now()) == (
        "its trust lets arn:aws:iam::666666666666:root in",
    )
    made.delete_role()
    assert made.connector.drift(made.target, made.role, real_now()) == ("the role is gone",)
