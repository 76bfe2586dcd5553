"""What a permission set's holder made in the account is found with the account's own keys."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

import tidegate_standin
from tests.connectors.account_world import FakeAws, event
from tests.connectors.conftest import START
from tests.connectors.identity_center_world import ACCOUNT, HOUR, MANAGEMENT, Center, running
from tests.connectors.test_identity_center_health import SETTINGS, written
from tidegate.base.errors import Refused
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors.aws_calls import Aws, AwsSettings, Reply
from tidegate.connectors.aws_trail import CHAINED, TRAIL_LATE, HeldBy
from tidegate.connectors.by_kind import ByKind
from tidegate.connectors.identity_center import IdentityCenterConnector
from tidegate.connectors.identity_center_account import Span, both, look
from tidegate.connectors.identity_center_calls import Center as CenterCalls
from tidegate.connectors.port import Hold, SideDoors
from tidegate.main.clouds import Clouds
from tidegate.main.config import load_catalogue, load_config

OWN = "111122223333"
SESSION = f"arn:aws:sts::{OWN}:assumed-role/AWSReservedSSO_Admin_0123456789abcdef"
SPAN = Span(since=START, until=START, now=START + TRAIL_LATE + timedelta(seconds=1))
HOLD = Hold(
    grant="gr_1",
    request="rq_1",
    principal="pr_1",
    target=Target(id="prod", connector="aws", account=OWN),
    role=Role(id="prod/admin", kind="permission-set", native={"arn": "ps-1"}),
    key=AssignmentKey(connector="aws", account=OWN, native_role="ps-1", native_principal="user-1"),
    ends_at=START,
)


class FakeCenter:
    """An instance that knows one permission set, and ana while she is there."""

    store = "d-1"
    gone = False

    def sso(self, operation: str, **_: object) -> Reply:
        """The permission set."""
        return _reply({"PermissionSet": {"Name": "Admin"}})

    def call(self, service: str, operation: str, **_: object) -> Reply:
        """The user."""
        if self.gone:
            raise Refused("not_there", "expected the user, got none")
        return _reply({"UserName": "Ana@example.org"})


def _reply(body: Mapping[str, Any]) -> Reply:
    return Reply(body=body, cloud_at=START)


def searched(aws: FakeAws | None, center: FakeCenter | None = None) -> SideDoors:
    """A search of the account that waits for nothing."""
    held = cast(CenterCalls, center or FakeCenter())
    return look(held, cast(Aws, aws) if aws else None, HOLD, SPAN, lambda _: None)


def test_account_with_keys_is_not_searched() -> None:
    """What the holder's own sessions did is named as theirs, by role and user name."""
    chained = f"arn:aws:iam::{OWN}:role/ops"
    doors = searched(
        FakeAws(
            event("AssumeRole", "ASIA1", arn=f"{SESSION}/ana@example.org", roleArn=chained),
            event("AssumeRole", "ASIA2", arn=f"{SESSION}/bo@example.org", roleArn="bo"),
            event("PutUserPolicy", "ASIA2", userName="eve", policyName="p"),
        )
    )
    assert {(one.sort, one.what, one.by) for one in doors.found} == {
        (CHAINED, f"AssumeRole/{chained}", "ASIA1"),
        ("inline_policy", "PutUserPolicy/eve/p", ""),
    }
    assert {"user", "access_key", "trust_edit", CHAINED} <= set(doors.searched)
    assert doors.why_not == (
        "chained sessions taken at STS of regions other than us-east-1",
        "changes of permission sets: Identity Center keeps no dates of them",
    )


@pytest.mark.parametrize(
    ("arn", "theirs"),
    [
        (f"{SESSION}/ana", True),
        (f"{SESSION}/ANA", True),
        (f"{SESSION}/anna", False),
        (SESSION.replace("Admin_", "Admin_2_") + "/ana", False),
        (SESSION.replace("assumed-role", "federated-user") + "/ana", False),
        ("", False),
    ],
)
def test_session_of_somebody_else_is_the_holders(arn: str, theirs: bool) -> None:
    """A session is the holder's by the whole name of the permission set and of the user."""
    assert HeldBy(role="AWSReservedSSO_Admin_", session="ana").has(arn) is theirs


def test_roles_of_identity_center_are_side_doors() -> None:
    """What Identity Center itself does for an assignment or a cut of ours is no finding."""
    name = "AWSReservedSSO_Admin_0123456789abcdef"
    aws = FakeAws(event("PutRolePolicy", roleName=name, policyName="AwsSSOInlinePolicy"))
    path = "/aws-reserved/sso.amazonaws.com/eu-central-1/"
    made = {
        "RoleName": name,
        "Path": path,
        "Arn": f"arn:aws:iam::{OWN}:role{path}{name}",
        "CreateDate": START,
    }
    aws.details = {"RoleDetailList": [made]}
    assert searched(aws).found == ()


def test_keys_of_another_account_search_that_one() -> None:
    """Nothing is read with them, and the end says whose they are."""
    aws = FakeAws(event("PutUserPolicy", userName="eve", policyName="p"))
    aws.account = "999988887777"
    doors = searched(aws)
    assert (doors.found, doors.searched, aws.asked) == ((), (), [])
    assert "are of account 999988887777" in doors.why_not[0]


def test_account_without_keys_is_called_searched() -> None:
    """The end says what to set."""
    doors = searched(None)
    assert doors.searched == () and "`[target.aws]` the keys of a closer" in doors.why_not[0]
    assert "chained sessions: Identity Center keeps no dates of them" in doors.why_not[1]


def test_person_who_is_gone_hides_what_was_made() -> None:
    """Then nobody's sessions are told apart, and all else is searched."""
    center = FakeCenter()
    center.gone = True
    doors = searched(FakeAws(event("PutUserPolicy", userName="eve", policyName="p")), center)
    assert [one.sort for one in doors.found] == ["inline_policy"]
    assert CHAINED not in doors.searched and "not_there" in doors.why_not[0]
    assert not doors.again


def test_account_that_is_down_hides_what_was_assigned() -> None:
    """Its search fails by itself, and is worth another try."""
    aws = FakeAws()
    aws.down = aws.region
    assigned = SideDoors(searched=("account_assignment",))
    doors = both(assigned, searched(aws))
    assert doors.searched == ("account_assignment",) and doors.again
    assert "cloud_unreachable" in doors.why_not[0]


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


def test_keys_of_the_target_are_never_used(cloud: tidegate_standin.Running) -> None:
    """With keys the account is asked, without any the process's own identity is not taken."""
    center = Center(cloud)
    hold, now = center.hold(), center.now()

    def told(keys: AwsSettings) -> str:
        connector = IdentityCenterConnector(center.settings, accounts={center.target.id: keys})
        return str(connector.side_doors(hold, (), now - HOUR, now, now).why_not)

    assert f"are of account {MANAGEMENT}" in told(center.keys("closer"))
    bare = AwsSettings(region="us-east-1", endpoint_url=cloud.url)
    assert f"in account {ACCOUNT}: Tidegate has no identity" in told(bare)


def test_keys_of_the_settings_never_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The closer's keys of `[target.aws]` are the ones that the account is asked with."""
    for name in ("OPENER", "CLOSER"):
        monkeypatch.setenv(f"{name}_ID", f"{name}-id")
        monkeypatch.setenv(f"{name}_SECRET", f"{name}-secret")
    own = 'closer_access_key_id = "env:CLOSER_ID"\ncloser_secret_access_key = "env:CLOSER_SECRET"'

    def of(text: str) -> Aws | None:
        config = load_config(written(tmp_path, text))
        sets = cast(ByKind, Clouds().connect(config)["aws"])._kinds["permission-set"]
        target = load_catalogue(config).targets["aws-prod"]
        return cast(IdentityCenterConnector, sets)._account(target)

    aws = of(SETTINGS.replace("schedule = false", f"schedule = false\n{own}"))
    assert aws is not None and aws._keys is not None
    assert aws._keys.access_key_id == "CLOSER-id"
    assert of(SETTINGS) is None


@pytest.mark.parametrize(
    "called",
    [
        event("AttachUserPolicy", userName="AWSReservedSSO_x", policyArn="arn:admin"),
        event("AddUserToGroup", groupName="AWSReservedSSO_x", userName="eve"),
    ],
    ids=["user", "group"],
)
def test_name_of_identity_centers_roles_hides_what_is_none(called: dict[str, object]) -> None:
    """Users and groups may be called as anybody likes: what is done to them is found."""
    assert len(searched(FakeAws(called)).found) == 1
