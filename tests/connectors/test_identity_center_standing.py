"""Who administers an account by a permission set nobody hands out, each with what takes it away."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

import tidegate_standin
from tests.connectors.identity_center_world import ACCOUNT, FAST, OTHER, Center, running
from tests.connectors.permission_sets_clocked import Clocked, account, allowing, give
from tests.connectors.test_identity_center_health import ARN, SETTINGS, written
from tidegate.base.errors import Refused, Unknown, WorldFailed
from tidegate.catalogue import Target
from tidegate.connectors.aws import AwsConnector
from tidegate.connectors.aws_standing import administers
from tidegate.connectors.by_kind import ByKind
from tidegate.connectors.identity_center import IdentityCenterConnector
from tidegate.connectors.identity_center_settings import AccountSettings
from tidegate.connectors.port import administrators, paced_as
from tidegate.connectors.role_kinds import IAM_ROLE, PERMISSION_SET
from tidegate.main.clouds import Clouds
from tidegate.main.config import load_catalogue, load_config

POWER = "arn:aws:iam::aws:policy/PowerUserAccess"
FULL = "arn:aws:iam::aws:policy/IAMFullAccess"
READ = "arn:aws:iam::aws:policy/ReadOnlyAccess"


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


@pytest.fixture
def center(cloud: tidegate_standin.Running) -> Center:
    """A fresh organisation, where the closer has exactly its rights."""
    return Center(cloud).narrow()


def told(center: Center, connector: IdentityCenterConnector | None = None) -> set[tuple[str, str]]:
    """Who is told: the permission set by name, and the principal."""
    found = (connector or center.connector).administrators(center.target, center.now())
    names = {one: name for part in ("users", "groups") for name, one in center.ids[part].items()}
    sets = {arn: name for name, arn in center.admin.ids()["permission_sets"].items()}
    keys = [one.what.split("|") for one in found]
    assert all(key[:2] == ["aws", ACCOUNT] for key in keys)
    return {(sets[key[2]], names[key[3]]) for key in keys}


def test_who_administers_by_an_uncatalogued_set_is_told_with_what_takes_it_away(
    center: Center,
) -> None:
    """A user and a group, named by principal, set and account; the command does what it says."""
    arn = give(center, "Everything", to="eve", attached=[READ, FULL])
    give(center, "Everything", to="ops", attached=[READ, FULL])
    by = {one.sort: one for one in center.connector.administrators(center.target, center.now())}
    user, group = center.ids["users"]["eve"], center.ids["groups"]["ops"]
    assert set(by) == {"user", "group"}
    assert by["user"].says == (
        f"user `{user}` holds permission set `Everything` in account `{ACCOUNT}`, "
        "which administers it by policy `IAMFullAccess`"
    )
    command = (
        f"aws sso-admin delete-account-assignment --instance-arn {center.settings.instance} "
        f"--permission-set-arn {arn} --target-type AWS_ACCOUNT --target-id {ACCOUNT} "
    )
    assert by["user"].remedy == f"{command}--principal-type USER --principal-id {user}"
    assert by["group"].remedy == f"{command}--principal-type GROUP --principal-id {group}"
    assert by["group"].what == f"aws|{ACCOUNT}|{arn}|{group}|group"
    assert f"group `{group}`" in by["group"].says
    words = by["user"].remedy.split()[3:]
    asked = {
        "".join(part.title() for part in option[2:].split("-")): value
        for option, value in zip(words[::2], words[1::2], strict=True)
    }
    center.client("broker", "sso-admin").delete_account_assignment(**asked)
    center.pass_time(FAST.every * 5_000)
    assert told(center) == {("Everything", "ops")}


def test_only_what_administers_is_told(center: Center) -> None:
    """AWS's own policy, an inline one of everything or of IAM; neither less, nor what denies."""
    give(center, "Administrator", to="ana", attached=[tidegate_standin.cloud.ADMINISTRATOR_ARN])
    give(center, "Whole", to="bo", inline_policy=allowing("*"))
    give(center, "Iam", to="cy", inline_policy=allowing("iam:*"))
    give(center, "Power", to="eve", attached=[POWER], inline_policy=allowing("s3:*"))
    give(center, "Elsewhere", OTHER, to="eve", inline_policy=allowing("*"))
    assert told(center) == {("Administrator", "ana"), ("Whole", "bo"), ("Iam", "cy")}


@pytest.mark.parametrize(
    ("action", "whole"),
    [("*", True), ("iam:*", True), ("IAM:**", True), ("iam:Get*", False), ("iamx:*", False)],
)
def test_every_spelling_of_all_of_iam_is_seen(action: str, whole: bool) -> None:
    """Every action of IAM gives the rest; some of them, or another service's, do not."""
    assert administers(allowing(action)) is whole
    assert administers("{")


def test_sets_that_are_handed_out_are_left_to_their_own_look(center: Center) -> None:
    """By whichever target of the account; one that is handed out elsewhere alone is told."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    center.admin.add_assignment(center.name, ACCOUNT, user="eve")
    assert told(center) == set()
    mine = center.settings.targets[center.target.id]
    second = give(center, "Second", to="bo", inline_policy=allowing("*"))
    other = AccountSettings(account=ACCOUNT, handed=(replace(mine.handed[0], arn=second),))
    targets = {center.target.id: mine, "second": other}
    assert told(center, center.connect(center.made_settings(targets=targets))) == set()
    targets["second"] = replace(other, account=OTHER)
    connector = center.connect(center.made_settings(targets=targets))
    assert told(center, connector) == {("Second", "bo")}


def test_holders_and_sets_past_one_page_are_told(center: Center) -> None:
    """A hundred come on a page: of sets of the account, and of who holds one of them."""
    users = [f"u{at:03}" for at in range(101)]
    sets = [f"S{at:03}" for at in range(101)]
    center.ids |= center.admin.seed(
        users=[{"user_name": one} for one in users],
        permission_sets=[
            {"name": one, "managed": [], "inline_policy": allowing("*" if one == last else "s3:*")}
            for last in [max(sets, key=lambda one: center_arn(center, one))]
            for one in sets
        ],
        assignments=[{"permission_set": one, "account": ACCOUNT, "user": "bo"} for one in sets],
    )
    last = max(sets, key=lambda one: center_arn(center, one))
    rows = [{"permission_set": last, "account": ACCOUNT, "user": one} for one in users]
    center.admin.seed(assignments=rows)
    assert told(center) == {(last, one) for one in ("bo", *users)}


def center_arn(center: Center, name: str) -> str:
    """The ARN a permission set of this name gets: the order in which sets are listed."""
    return tidegate_standin.permission_sets.set_arn_for(name)


@pytest.mark.parametrize(
    ("operation", "kind", "code"),
    [
        ("ListPermissionSetsProvisionedToAccount", "refuse", "access_denied"),
        ("ListManagedPoliciesInPermissionSet", "throttle", "throttled"),
        ("GetInlinePolicyForPermissionSet", "refuse", "access_denied"),
        ("ListCustomerManagedPolicyReferencesInPermissionSet", "lost_reply", "no_answer"),
        ("ListAccountAssignments", "error", "cloud_error"),
    ],
)
def test_what_cannot_be_read_is_never_nobody(
    center: Center, operation: str, kind: str, code: str
) -> None:
    """Whichever call fails, the look fails with it and names the call; the next one is whole."""
    give(center, "Plain", to="bo", inline_policy=allowing("s3:*"))
    give(center, "Whole", to="eve", inline_policy=allowing("*"))
    center.admin.fault(operation, kind, count=1)
    with pytest.raises(WorldFailed) as failed:
        center.connector.administrators(center.target, center.now())
    assert (failed.value.code, operation in failed.value.message) == (code, True)
    assert told(center) == {("Whole", "eve")}


def test_second_page_that_cannot_be_read_is_never_a_shorter_list(center: Center) -> None:
    """Half of those who hold a set are not told as all of them."""
    users = [f"u{at:03}" for at in range(101)]
    center.admin.seed(users=[{"user_name": one} for one in users])
    give(center, "Whole", to="eve", inline_policy=allowing("*"))
    rows = [{"permission_set": "Whole", "account": ACCOUNT, "user": one} for one in users]
    center.admin.seed(assignments=rows)
    center.admin.fault("ListAccountAssignments", "error", count=1, containing="NextToken")
    with pytest.raises(Unknown):
        center.connector.administrators(center.target, center.now())


def test_customer_managed_policy_is_read_in_the_account(center: Center) -> None:
    """Identity Center has its name alone: by path and name it is one of the account's own."""
    give(center, "Platform", to="eve", customer=["/team/whole", "/other"])
    clocked, other = Clocked(center), ("/other", allowing("s3:*"))
    (found,) = clocked.look(account(("/team/whole", allowing("iam:*")), other))
    assert "customer managed policy `/team/whole`" in found.says
    assert clocked.look(account(("/whole", allowing("*")), other)) == ()


def test_customer_managed_policy_that_nobody_can_read_is_told(center: Center) -> None:
    """Without keys of the account it may say anything: its holders are told, and why."""
    give(center, "Platform", to="eve", customer=["/whole"])
    (found,) = center.connector.administrators(center.target, center.now())
    assert "`/whole`, which Tidegate has no keys of the account to read" in found.says


def test_keys_of_another_account_tell_nothing_of_this_one(center: Center) -> None:
    """Nor does an account that refuses: then nobody is told, and why."""
    give(center, "Platform", to="eve", customer=["/whole"])
    aws = account()
    aws.account = OTHER
    with pytest.raises(Refused) as no:
        Clocked(center).look(aws)
    assert no.value.code == "other_account"
    aws = account()
    aws.refuses = "iam:GetAccountAuthorizationDetails"
    with pytest.raises(Refused) as no:
        Clocked(center).look(aws)
    assert no.value.code == "access_denied"


def test_look_is_paced_as_permission_sets_where_one_is_handed_out(center: Center) -> None:
    """An account whose catalogue has only permission sets has a look, and no other one has."""
    by_kind = ByKind(
        {IAM_ROLE: AwsConnector({}), PERMISSION_SET: center.connector},
        {center.target.id: frozenset({PERMISSION_SET})},
    )
    assert paced_as(by_kind, center.target) == PERMISSION_SET
    give(center, "Whole", to="eve", inline_policy=allowing("*"))
    assert len(administrators(by_kind, center.target, center.now())) == 1
    both = ByKind({IAM_ROLE: AwsConnector({}), PERMISSION_SET: center.connector})
    with pytest.raises(WorldFailed):  # what one kind cannot tell is not made up for by another
        administrators(both, center.target, center.now())
    strange = Target(id="strange", connector="aws", account=ACCOUNT)
    for connector in (center.connector, IdentityCenterConnector(None)):
        assert paced_as(connector, strange) == ""
        assert administrators(connector, strange, center.now()) == ()


def test_accounts_of_targets_come_from_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a second target of an account hands out is left out of the first one's look too."""
    for name in ("OPENER_ID", "OPENER_SECRET", "CLOSER_ID", "CLOSER_SECRET"):
        monkeypatch.setenv(name, name.lower())
    second = SETTINGS[SETTINGS.index("[[target]]") :].replace("aws-prod", "aws-second")
    arn = f"{ARN[:-1]}f"
    config = load_config(written(tmp_path, SETTINGS + second.replace(ARN, arn)))
    sets = cast(ByKind, Clouds().connect(config)["aws"])._kinds[PERMISSION_SET]
    settings = cast(IdentityCenterConnector, sets)._settings
    assert settings is not None
    for target in load_catalogue(config).targets.values():
        assert settings.handed_in(target) == {ARN, arn}
