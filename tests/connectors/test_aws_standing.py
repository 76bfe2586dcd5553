"""Who administers an AWS account: whoever may do everything is told, with what takes it away."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from tests.connectors.conftest import START, AwsWorld, real_now
from tidegate.base.duty import NONE, Duty
from tidegate.base.errors import Refused, Unknown
from tidegate.catalogue import Target
from tidegate.connectors.aws import AwsConnector
from tidegate.connectors.aws_calls import Aws, Keys, Reply
from tidegate.connectors.aws_standing import allows_everything, caller, look, roles_in
from tidegate.connectors.by_kind import ByKind
from tidegate.connectors.divided import Divided, perform
from tidegate.connectors.port import Administrator, administrators, paced_as
from tidegate.connectors.sandbox import ACCOUNT, ADMIN_POLICY
from tidegate.connectors.simulated import SimulatedConnector

ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
OWN = "arn:aws:iam::1:policy/own"
SOME = {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}

Page = dict[str, Any]


def one(sort: str, name: str, *attached: str, path: str = "/", **more: object) -> Page:
    """A user, role or group, as the details have it; `inline` are its inline policies."""
    kind, inline = sort.title(), cast(list[object], more.pop("inline", []))
    return {
        f"{kind}Name": name,
        "Path": path,
        "Arn": f"arn:aws:iam::1:{sort}{path}{name}",
        "AttachedManagedPolicies": [
            {"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in attached
        ],
        f"{kind}PolicyList": [
            {"PolicyName": f"p{at}", "PolicyDocument": policy} for at, policy in enumerate(inline)
        ],
        **more,
    }


def policy(arn: str, *versions: object) -> Page:
    """A managed policy; the first of its versions is in force."""
    listed = [{"Document": one, "IsDefaultVersion": not at} for at, one in enumerate(versions)]
    return {"Arn": arn, "PolicyVersionList": listed}


class FakeAws:
    """An account's details in pages (the emulator answers in one)."""

    def __init__(self, *pages: Page, who: str = f"arn:aws:iam::{ACCOUNT}:root") -> None:
        self.pages = pages
        self.who = who

    def call(self, service: str, act: Callable[[Any], Any], what: str) -> Reply:
        """The page that is asked for."""
        return Reply(body=act(self), cloud_at=START)

    def get_account_authorization_details(self, **asked: Any) -> Page:
        """With everything that may hold power asked for."""
        assert set(asked["Filter"]) == {"User", "Role", "Group", "LocalManagedPolicy"}
        at = int(asked.get("Marker", 0))
        more = {"IsTruncated": True, "Marker": str(at + 1)}
        last = {"IsTruncated": False}
        return {**(more if at + 1 < len(self.pages) else last), **self.pages[at]}

    def get_caller_identity(self) -> Page:
        """Whom it takes us for."""
        return {"Account": self.who.split(":")[4], "Arn": self.who}


class Bare(FakeAws):
    """Something in between that lets through a part of an answer."""

    def get_account_authorization_details(self, **asked: Any) -> Page:
        """No word of more."""
        return {"UserDetailList": []}


def told(*pages: Page, ours: tuple[tuple[str, str], ...] = ()) -> dict[str, Administrator]:
    """Who is told, by name."""
    found = look(cast(Aws, FakeAws(*pages)), frozenset(ours))
    return {f"{one.sort} {one.what.rpartition('/')[2]}": one for one in found}


@pytest.mark.parametrize(
    ("action", "resource", "whole"),
    [
        ("*", "*", True),
        ("*:*", "*", True),
        (["s3:Get*", "*"], ["arn:aws:s3:::b", "**"], True),
        ("?*", "arn:aws:*", True),
        ("*", "arn:*:*:*:*:*", True),
        ("*", "arn:aws:s3:::*", False),
        ("iam:*", "*", False),
        ("s3:*", "*", False),
        ("", "*", False),
    ],
)
def test_every_spelling_of_everything_is_seen(
    action: object, resource: object, whole: bool
) -> None:
    """However a policy says every action on every resource, and nothing less than that."""
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    assert allows_everything({"Statement": statement}) is whole
    assert allows_everything(json.dumps({"Statement": [SOME["Statement"][0], statement]})) is whole
    assert not allows_everything({"Statement": {**statement, "Effect": "Deny"}})


def test_what_cannot_be_read_is_told_and_what_is_not_whole_is_not() -> None:
    """A document that is none is told; power that takes a way round is not seen."""
    assert allows_everything("{") and allows_everything(None)
    almost = {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}
    assert not allows_everything({"Statement": [almost]})
    assert not allows_everything({"Statement": ["broken"]})


def test_every_way_to_power_is_named_with_what_takes_it_away() -> None:
    """AWS's own policy, another of the same words, an inline one, and a group one is in."""
    found = told(
        {
            "UserDetailList": [
                one("user", "eve", ADMIN, OWN, inline=[ADMIN_POLICY], GroupList=["ops", "readers"]),
                one("user", "bo", GroupList=["ops"]),
                one(
                    "user", "cy", "arn:aws:iam::1:policy/old", inline=[SOME], GroupList=["readers"]
                ),
            ]
        },
        {"GroupDetailList": [one("group", "ops", OWN), one("group", "readers", inline=[SOME])]},
        {"RoleDetailList": [one("role", "deploy", inline=[SOME, ADMIN_POLICY])]},
        {
            "Policies": [
                policy(OWN, ADMIN_POLICY, SOME),
                policy("arn:aws:iam::1:policy/old", SOME, ADMIN_POLICY),
            ]
        },
    )
    assert set(found) == {"user eve", "user bo", "group ops", "role deploy"}
    assert found["user bo"].remedy == (
        "aws iam remove-user-from-group --group-name ops --user-name bo"
    )
    assert found["group ops"].remedy == (
        f"aws iam detach-group-policy --group-name ops --policy-arn {OWN}"
    )
    assert found["role deploy"].remedy == (
        "aws iam delete-role-policy --role-name deploy --policy-name p1"
    )
    assert found["user eve"].remedy.split(" && ") == [
        "aws iam remove-user-from-group --group-name ops --user-name eve",
        "aws iam delete-user-policy --user-name eve --policy-name p0",
        f"aws iam detach-user-policy --user-name eve --policy-arn {ADMIN}",
        f"aws iam detach-user-policy --user-name eve --policy-arn {OWN}",
    ]
    assert "policy `AdministratorAccess`" in found["user eve"].says


def test_ours_and_the_clouds_own_are_left_out() -> None:
    """Handed out, Tidegate's own, service-linked and Identity Center's roles are no finding."""
    linked, reserved = "/aws-service-role/x.amazonaws.com/", "/aws-reserved/sso.amazonaws.com/eu/"
    page = {
        "RoleDetailList": [
            one("role", "AWSServiceRoleForX", ADMIN, path=linked),
            one("role", "AWSReservedSSO_Admin_1", ADMIN, path=reserved),
            one("role", "handed", ADMIN, path="/tidegate/"),
            one("role", "TidegateCloser", ADMIN),
            one("role", "near", ADMIN, path="/x/aws-service-role/"),
        ],
        "UserDetailList": [one("user", "handed", ADMIN), one("user", "closer", ADMIN)],
    }
    arns = (
        "arn:aws:iam::1:role/tidegate/handed",  # twelve digits make an account
        "arn:aws:iam::111111111111:role/tidegate/handed",
        "arn:aws:iam::222222222222:role/near",
    )
    ours = tuple(roles_in(arns, "111111111111"))
    assert ours == (("role", "handed"),)
    me = FakeAws(who="arn:aws:sts::111111111111:assumed-role/TidegateCloser/session")
    user = FakeAws(who="arn:aws:iam::111111111111:user/x/closer")
    for aws in (me, user):
        ours += tuple(caller(cast(Aws, aws), "111111111111"))
    assert set(told(page, ours=ours)) == {"role near", "user handed"}


def test_another_account_is_not_told_as_this_one() -> None:
    """An identity of another account would tell who administers that one."""
    with pytest.raises(Refused) as no:
        list(caller(cast(Aws, FakeAws()), "999999999999"))
    assert no.value.code == "other_account"


def test_part_of_an_account_is_never_told_as_the_whole() -> None:
    """An answer that does not say whether there is more, and one that never ends, are refused."""
    with pytest.raises(Unknown) as fault:
        look(cast(Aws, Bare()), frozenset())
    assert fault.value.code == "bad_answer"
    with pytest.raises(Refused) as no:
        told({"IsTruncated": True, "Marker": "0"})
    assert no.value.code == "too_many"


@pytest.fixture
def made(aws: AwsWorld) -> Iterator[AwsWorld]:
    """A role that is handed out on the emulator; what the test makes is taken away after it."""
    yield aws
    iam, name = aws.sandbox.client("iam"), f"standing-{aws.name}"
    for user in [one["UserName"] for one in iam.list_users()["Users"]]:
        if user != name:
            continue
        for attached in iam.list_attached_user_policies(UserName=user)["AttachedPolicies"]:
            iam.detach_user_policy(UserName=user, PolicyArn=attached["PolicyArn"])
        for key in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
        iam.delete_user(UserName=user)


def names(world: AwsWorld) -> set[str]:
    """Who is told on the emulator, by name."""
    found = world.connector.administrators(world.target, real_now())
    return {one.what.rpartition("/")[2] for one in found}


def test_user_made_administrator_is_told_until_it_is_taken_away(made: AwsWorld) -> None:
    """On the emulator: attached it is told, detached it is not; the handed role never."""
    iam, name = made.sandbox.client("iam"), f"standing-{made.name}"
    iam.create_user(UserName=name)
    assert name not in names(made)
    iam.attach_user_policy(UserName=name, PolicyArn=ADMIN)
    told = names(made)
    assert name in told and made.name not in told
    iam.detach_user_policy(UserName=name, PolicyArn=ADMIN)
    assert name not in names(made)
    stranger = AwsConnector({made.target.id: replace(made.settings, handed=())})
    arns = {one.what for one in stranger.administrators(made.target, real_now())}
    assert made.arn in arns  # handed out nowhere it is somebody's standing power


def test_look_without_the_right_is_refused(made: AwsWorld) -> None:
    """On the emulator, which asks an identity's policies: refused as such, with the call's name."""
    iam, name = made.sandbox.client("iam"), f"standing-{made.name}"
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    keys = Keys(access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"])
    bare = AwsConnector({made.target.id: replace(made.settings, closer=keys)})
    with pytest.raises(Refused) as no:
        bare.administrators(made.target, real_now())
    assert no.value.code == "access_denied"
    assert "iam:GetAccountAuthorizationDetails" in no.value.message


def test_look_finds_its_way_through_kinds_and_processes() -> None:
    """By the kind that tells, by a process that closes or asks one, and never where none tells."""
    target = Target(id="sim", connector="simulated", account="1")
    tells, mute = SimulatedConnector(), SimulatedConnector()
    tells.tells_administrators = True
    tells.cloud.administer("1", "eve")
    joined = ByKind({"iam-role": tells, "assignment": mute})
    assert paced_as(joined, target) == "iam-role" and paced_as(mute, target) == ""
    asked: list[tuple[object, ...]] = []

    def ask(*what: Any) -> Any:
        asked.append(what[:3])
        return perform(joined, what[2], what[3])

    for connector in (
        joined,
        Divided(joined, frozenset({Duty.CLOSE}), None),
        Divided(joined, NONE, ask),
    ):
        assert paced_as(connector, target) == "iam-role"
        assert [one.what for one in administrators(connector, target, START)] == ["eve"]
    assert [verb for _, _, verb in asked] == ["administrators"]
    assert administrators(cast(Any, object()), target, START) == ()


def test_path_of_a_policy_runs_in_the_shell_of_who_removes_it() -> None:
    """Paths of policies take any character there is; in the command they are one word."""
    bad = "arn:aws:iam::1:policy/$(reboot)/x"
    everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    page = {"UserDetailList": [one("user", "eve", bad)], "Policies": [policy(bad, everything)]}
    (told,) = look(cast(Aws, FakeAws(page)), frozenset())
    assert told.remedy.endswith(f" --policy-arn '{bad}'")
