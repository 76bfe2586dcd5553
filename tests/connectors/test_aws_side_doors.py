"""Side doors on AWS: what was made in a window is named, with the command that removes it."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from tests.connectors.account_world import FakeAws, event
from tests.connectors.conftest import START, AwsWorld, real_now
from tidegate.connectors.aws_calls import Aws, AwsSettings
from tidegate.connectors.aws_policy import CUT_POLICY
from tidegate.connectors.aws_side_doors import LISTED
from tidegate.connectors.aws_side_doors import look as look_into
from tidegate.connectors.aws_trail import CHAINED, CHANGES, TRAIL_LATE, Told, Trail, Window
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


WINDOW = Window(
    since=START,
    until=START,
    keys=("ASIAMINE",),
    now=START + TRAIL_LATE + timedelta(seconds=1),
    chains=False,
)


def trail(
    *events: dict[str, object],
    refuses: str = "",
    region: str = "us-east-1",
    window: Window = WINDOW,
) -> SideDoors:
    """A search that ends when the trail is complete; the holder had the key ASIAMINE."""
    return look_through(FakeAws(*events, refuses=refuses, region=region), window)


def look_through(fake: FakeAws, window: Window = WINDOW) -> SideDoors:
    """A search that waits for nothing."""
    return look_into(cast(Aws, fake), window, lambda _: None)


def test_changes_without_a_date_come_from_the_trail() -> None:
    """Trust edits and policies are named; refused calls and our own deny are not."""
    doors = trail(
        event("UpdateAssumeRolePolicy", roleName="ops"),
        event("AttachUserPolicy", key="ASIAMINE", userName="eve", policyArn="arn:admin"),
        event("PutRolePolicy", roleName="ops", policyName=CUT_POLICY),
        event("PutRolePolicy", key="ASIAMINE", roleName="app", policyName=CUT_POLICY),
        event("PutUserPolicy", error="AccessDenied", userName="eve", policyName="all"),
    )
    assert {(one.sort, one.what, one.by) for one in doors.found} == {
        ("trust_edit", "UpdateAssumeRolePolicy/ops", ""),
        ("policy_attachment", "AttachUserPolicy/eve/arn:admin", "ASIAMINE"),
        ("inline_policy", f"PutRolePolicy/app/{CUT_POLICY}", "ASIAMINE"),  # called like ours
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


def test_what_was_made_comes_without_its_order_of_removal() -> None:
    """Each object of the listings has a command that first takes off what hangs on it."""
    fake, admin = FakeAws(), "arn:aws:iam::aws:policy/Admin"
    has = {
        "AttachedManagedPolicies": [{"PolicyArn": admin}, {"PolicyArn": "arn:aws:iam::1:policy/n"}]
    }
    before, dates = START - timedelta(days=1), {"CreateDate": START}
    fake.details = {
        "UserDetailList": [
            {"UserName": "old", "Arn": "arn:aws:iam::1:user/old", "CreateDate": before, **has},
            {"UserName": "eve", "Arn": "arn:aws:iam::1:user/eve", **dates},
        ],
        "RoleDetailList": [{"RoleName": "ops", "Arn": "arn:aws:iam::1:role/ops", **dates, **has}],
        "GroupDetailList": [
            {"GroupName": "all", "Arn": "arn:aws:iam::1:group/all", **dates, **has}
        ],
        "Policies": [
            {"Arn": "arn:aws:iam::1:policy/n", "DefaultVersionId": "v1", **dates},
            {
                "Arn": "arn:aws:iam::1:policy/c",
                "DefaultVersionId": "v2",
                "CreateDate": before,
                "UpdateDate": START,
                "PolicyVersionList": [
                    {"VersionId": "v2", "CreateDate": START},
                    {"VersionId": "v1", "CreateDate": before},
                ],
            },
        ],
    }
    fake.keys = {"eve": [{"AccessKeyId": "AKIA1", **dates}], "old": [{"AccessKeyId": "AKIA2"}]}
    found = {(one.sort, one.what): one.remedy for one in look_through(fake).found}
    new, old = "--policy-arn arn:aws:iam::1:policy/n", "--policy-arn arn:aws:iam::1:policy/c"
    gone = "aws iam delete-access-key --user-name eve --access-key-id AKIA1"
    assert found == {
        ("user", "arn:aws:iam::1:user/eve"): f"{gone} && aws iam delete-user --user-name eve",
        ("access_key", "eve/AKIA1"): gone,
        ("role", "arn:aws:iam::1:role/ops"): (
            f"aws iam detach-role-policy --role-name ops --policy-arn {admin} && "
            f"aws iam detach-role-policy --role-name ops {new} && "
            "aws iam delete-role --role-name ops"
        ),
        ("policy", "arn:aws:iam::1:policy/n"): (
            f"aws iam detach-user-policy --user-name old {new} && "
            f"aws iam detach-role-policy --role-name ops {new} && "
            f"aws iam detach-group-policy --group-name all {new} && aws iam delete-policy {new}"
        ),
        ("policy", "arn:aws:iam::1:policy/c"): (
            f"aws iam set-default-policy-version {old} --version-id v1 && "
            f"aws iam delete-policy-version {old} --version-id v2"
        ),
    }


def test_user_is_not_told_where_their_keys_cannot_be_read() -> None:
    """A user made in the window is told all the same, with the keys left to list."""
    fake = FakeAws(refuses="iam:ListAccessKeys")
    made = {"UserName": "eve", "Arn": "arn:aws:iam::1:user/eve", "CreateDate": START}
    fake.details = {"UserDetailList": [made]}
    (door,) = look_through(fake).found
    assert (
        door.what == "arn:aws:iam::1:user/eve" and "list-access-keys --user-name eve" in door.remedy
    )


def test_change_comes_without_its_command() -> None:
    """A change and a chained session of the trail carry the command by what the event says."""
    arn = "arn:aws:iam::111122223333:role/ops"
    doors = trail(
        event("AttachUserPolicy", userName="e v", policyArn="arn:a"),
        event("AssumeRole", "ASIAMINE", roleArn=arn),
        event("UpdateAccessKey", userName="eve", accessKeyId="AKIA1", status="Active"),
        event("UpdateAccessKey", userName="eve", accessKeyId="AKIA2", status="Inactive"),
    )
    remedies = {one.what: one.remedy for one in doors.found}
    assert remedies.keys() == {
        "AttachUserPolicy/e v/arn:a",
        f"AssumeRole/{arn}",
        "UpdateAccessKey/eve/AKIA1",
    }
    assert remedies["AttachUserPolicy/e v/arn:a"] == (
        "aws iam detach-user-policy --user-name 'e v' --policy-arn arn:a"
    )
    assert "--role-name ops --policy-name AWSRevoke" in remedies[f"AssumeRole/{arn}"]


@pytest.mark.parametrize(
    ("region", "leader"),
    [
        ("eu-central-1", "us-east-1"),
        ("us-gov-east-1", "us-gov-west-1"),
        ("cn-northwest-1", "cn-north-1"),
    ],
)
def test_change_recorded_in_another_region_is_missed(region: str, leader: str) -> None:
    """IAM records its calls in one region of the partition: they are looked up there."""
    doors = trail(
        event("UpdateAssumeRolePolicy", region=leader, roleName="ops"),
        event("AssumeRole", "ASIAMINE", region=leader, roleArn="at-the-global-address"),
        event("AssumeRole", "ASIAMINE", region=region, roleArn="at-the-own-address"),
        region=region,
    )
    assert {one.what for one in doors.found} == {
        "UpdateAssumeRolePolicy/ops",
        "AssumeRole/at-the-global-address",
        "AssumeRole/at-the-own-address",
    }
    assert {CHAINED, *CHANGES.values()} <= set(doors.searched) and doors.why_not == ()


def test_chain_through_a_third_region_is_called_none_found() -> None:
    """Where sessions may chain, the end says that STS of other regions was not searched."""
    chain = event("AssumeRole", "ASIAMINE", region="ap-south-1", roleArn="b")
    doors = trail(chain, region="eu-central-1", window=replace(WINDOW, chains=True))
    assert doors.found == ()
    assert doors.why_not == (
        "chained sessions taken at STS of regions other than us-east-1, eu-central-1",
    )


def test_emulator_is_asked_in_regions_it_does_not_have() -> None:
    """Behind another address there is one region, the one of the settings."""
    fake = FakeAws(region="eu-central-1")
    fake.elsewhere = True
    assert look_through(fake, replace(WINDOW, chains=True)).why_not == ()
    assert set(fake.asked) == {"eu-central-1"}


def test_region_that_is_down_hides_what_another_told() -> None:
    """What was found stays found, what was not read is said, and it is worth asking again."""
    chain = event("AssumeRole", "ASIAMINE", region="eu-central-1", roleArn="b")
    fake = FakeAws(chain, region="eu-central-1")
    fake.down = "us-east-1"
    doors = Told()
    Trail(cast(Aws, fake), WINDOW, lambda _: None).look(doors)
    assert [one.what for one in doors.found] == ["AssumeRole/b"]
    assert doors.again and len(doors.why_not) == 2 and doors.searched == []
    assert all("us-east-1: cloud_unreachable" in why for why in doors.why_not)


def test_lookups_come_faster_than_cloudtrail_answers() -> None:
    """In each region two lookups are at least half a second apart."""
    fake, clock, at = FakeAws(region="eu-central-1"), [100.0], []
    window = replace(WINDOW, keys=("ASIAMINE",))

    def wait(seconds: float) -> None:
        clock[0] += seconds

    lookup = fake.lookup_events

    def dated(**asked: Any) -> dict[str, object]:
        at.append(clock[0])
        return lookup(**asked)

    fake.lookup_events = dated  # type: ignore[method-assign]
    Trail(cast(Aws, fake), window, wait, lambda: clock[0]).look(Told())
    for region in ("us-east-1", "eu-central-1"):
        times = [when for when, where in zip(at, fake.asked, strict=True) if where == region]
        assert times and all(b - a >= 0.5 for a, b in itertools.pairwise(times))


def test_real_client_asks_the_region_it_was_told() -> None:
    """The client of another region is another one, with that region's address."""
    aws = Aws(AwsSettings(region="eu-central-1", access_key_id="a", secret_access_key="b"))
    addresses = {
        aws._client("cloudtrail", region).meta.endpoint_url for region in ("", "us-east-1", "")
    }
    assert addresses == {
        "https://cloudtrail.eu-central-1.amazonaws.com",
        "https://cloudtrail.us-east-1.amazonaws.com",
    }


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
