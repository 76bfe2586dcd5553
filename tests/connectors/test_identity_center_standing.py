"""Who administers an account by a permission set nobody hands out, each with what takes it away."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

import tidegate_standin
from tests.connectors.account_world import FakeAws
from tests.connectors.identity_center_world import ACCOUNT, FAST, OTHER, Center, running
from tests.connectors.test_identity_center_health import ARN, SETTINGS, written
from tidegate.base.errors import Refused, Unknown, WorldFailed
from tidegate.catalogue import Target
from tidegate.connectors.aws import AwsConnector
from tidegate.connectors.aws_calls import Aws
from tidegate.connectors.aws_standing import administers
from tidegate.connectors.by_kind import ByKind
from tidegate.connectors.identity_center import IdentityCenterConnector
from tidegate.connectors.identity_center_assignments import Assignments, Holders
from tidegate.connectors.identity_center_calls import Center as CenterCalls
from tidegate.connectors.identity_center_settings import AccountSettings
from tidegate.connectors.identity_center_standing import (
    KNOWN_FOR,
    LISTED_FOR,
    LONGEST_LOOK,
    LONGEST_SECOND,
    MOST_HELD,
    StandingSets,
)
from tidegate.connectors.partly_told import PartlyTold, Told, certain_of
from tidegate.connectors.port import Administrator, administrators, paced_as
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


def allowing(action: str) -> dict[str, Any]:
    """A policy of one statement, on everything."""
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def give(center: Center, name: str, account: str = ACCOUNT, *, to: str, **policies: Any) -> str:
    """Somebody assigns a permission set that the catalogue does not have; its ARN."""
    who = {"group" if to == "ops" else "user": to}
    made = {"name": name, "managed": [], "attached": [], **policies}
    ids = center.admin.seed(
        permission_sets=[made], assignments=[{"permission_set": name, "account": account, **who}]
    )
    return str(ids["permission_sets"][name])


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


class Clocked:
    """The look by itself, with a clock and pauses of the test."""

    def __init__(self, center: Center, each: float = 0.0) -> None:
        self.center, self.each, self.at = center, each, 0.0
        self.pauses: list[float] = []
        pace = replace(FAST, apart=FAST.every * 250, wait=self.wait)
        self.sets = StandingSets(Assignments(FAST), pace, self.monotonic)
        self.calls = CenterCalls(center.settings, Aws(center.settings.closer))

    def monotonic(self) -> float:
        """A clock that goes on by pauses alone, and by `each` for every call after one."""
        return self.at

    def wait(self, seconds: float) -> None:
        """A pause, and the call that follows it."""
        self.pauses.append(seconds)
        self.at += seconds + self.each

    def later(self, **span: float) -> None:
        """Let time pass; without a span, until the next look at an account."""
        self.at += timedelta(**(span or {"minutes": 10})).total_seconds()

    def look(self, aws: FakeAws | None = None) -> tuple[Administrator, ...]:
        """One look."""
        handed = frozenset({self.center.arn})
        return self.sets.look(self.calls, self.center.target, handed, cast(Aws, aws))


def test_calls_have_a_pause_before_each_and_policies_are_read_once_for_all_accounts(
    center: Center,
) -> None:
    """Ends have the instance's calls first; what a set may is the same wherever it is assigned."""
    give(center, "Plain", to="bo", inline_policy=allowing("s3:*"))
    give(center, "Whole", to="eve", inline_policy=allowing("*"))
    clocked = Clocked(center)
    center.admin.clear_calls()
    assert len(clocked.look()) == 1
    assert clocked.pauses == [0.25] * sum(center.admin.calls().values())
    assert center.admin.calls()["sso-admin:ListAccountAssignments"] == 2  # as there is none before
    center.admin.clear_calls()
    assert len(clocked.look()) == 1
    assert center.admin.calls() == {
        "sso-admin:ListPermissionSetsProvisionedToAccount": 1,
        "sso-admin:ListAccountAssignments": 1,
    }


def test_set_that_is_changed_is_seen_by_the_next_look_but_an_old_list_closes_nothing(
    center: Center,
) -> None:
    """What administers no longer is read again at once, by whoever asks for a second list."""
    give(center, "Changed", to="eve", inline_policy=allowing("s3:*"))
    clocked = Clocked(center)
    assert clocked.look() == ()
    give(center, "Changed", to="eve", inline_policy=allowing("*"))
    clocked.at += KNOWN_FOR.total_seconds()
    assert len(clocked.look()) == 1
    give(center, "Changed", to="eve", inline_policy=allowing("s3:*"))
    clocked.at += KNOWN_FOR.total_seconds()
    assert clocked.look() == ()
    give(center, "Changed", to="eve", inline_policy=allowing("*"))
    assert len(clocked.look()) == 1


FIRST = (LONGEST_LOOK - LONGEST_SECOND).total_seconds()
EACH = 0.1  # what a call takes in these tests
MOST_LOOKS = 20  # by then all of it is read


def timed(clocked: Clocked, most: float) -> tuple[tuple[Administrator, ...], Refused | None]:
    """Whom a list tells, in part or in full, and why not in full; it lasts so long at most."""
    began, why = clocked.at, None
    try:
        found = clocked.look()
    except PartlyTold as part:
        found, why = part.told, part
    except Refused as no:
        found, why = (), no
    assert clocked.at - began <= most + clocked.each  # one call is waited for
    assert why is None or why.code == "not_yet"
    return found, why


def until_whole(clocked: Clocked) -> tuple[Administrator, ...]:
    """Looks, until one tells all."""
    for _ in range(MOST_LOOKS):
        found, why = timed(clocked, FIRST)
        if why is None:
            return found
        clocked.later()
    raise AssertionError("never told in full")


def test_instance_too_large_for_one_look_is_not_looked_at_until_all_is_read(
    center: Center,
) -> None:
    """A look has its time, since a stop waits for it; the next one goes on, and says so until."""
    for at in range(6):
        give(center, f"S{at}", to="eve", inline_policy=allowing("*"))
    clocked = Clocked(center, each=1.0)
    with pytest.raises(Refused) as no:
        clocked.look()
    assert no.value.code == "not_yet"
    assert "of 6 permission sets to be read their policies, got that of 4 " in no.value.message
    for _ in range(MOST_LOOKS):
        clocked.later()
        found, why = timed(clocked, FIRST)
        if why is None:
            break
    assert len(found) == 6 and why is None


def fill(center: Center, count: int, user: str = "eve") -> list[str]:
    """So many permission sets that administer the account, all held by one; their ARNs, sorted."""
    names = [f"S{at:02}" for at in range(count)]
    made = [{"name": one, "managed": [allowing("*")]} for one in names]
    rows = [{"permission_set": one, "account": ACCOUNT, "user": user} for one in names]
    ids = center.admin.seed(permission_sets=made, assignments=rows)
    return sorted(str(ids["permission_sets"][one]) for one in names)


def name_of(center: Center, arn: str) -> str:
    """The name of a set."""
    sets = center.admin.ids()["permission_sets"]
    return next(name for name, one in sets.items() if one == arn)


def test_one_deadline_for_the_whole_look_and_the_next_one_goes_on(center: Center) -> None:
    """Policies, names and lists, and the second list: what was not read by then is `not_yet`."""
    arns = fill(center, MOST_HELD)
    clocked, known = Clocked(center, each=EACH), [0]
    for _ in range(MOST_LOOKS):
        found, why = timed(clocked, FIRST)
        known.append(len(found))
        if why is None:
            break
        timed(clocked, LONGEST_SECOND.total_seconds())
        clocked.later()
    assert why is None and known == sorted(known)
    assert len(set(known)) > 3 and known[-1] == MOST_HELD
    assert {arn for arn in arns if any(arn in one.what for one in found)} == set(arns)


def test_what_was_not_listed_in_time_is_never_nobody(center: Center) -> None:
    """Of a set that was never listed the look is not certain, nor of one not listed by this one."""
    arns = fill(center, MOST_HELD)
    clocked = Clocked(center, each=EACH)
    for _ in range(MOST_LOOKS):
        why = timed(clocked, FIRST)[1]
        if isinstance(why, PartlyTold) and why.told:
            break
        clocked.later()
    assert isinstance(why, PartlyTold)
    listed = {arn for arn in arns if any(arn in one.what for one in why.told)}
    assert listed < set(arns)
    assert {arn for arn in arns if why.certain(f"aws|{ACCOUNT}|{arn}|x|user")} <= listed
    until_whole(clocked)
    clocked.later()
    found = until_whole(clocked)
    assert isinstance(found, Told) and len(found) == MOST_HELD
    sure = {arn for arn in arns if found.certain(f"aws|{ACCOUNT}|{arn}|x|user")}
    assert set() < sure < set(arns)
    assert found.certain(f"arn:aws:iam::{ACCOUNT}:user/x")


def test_every_set_of_a_large_account_is_certain_in_its_turn(center: Center) -> None:
    """So a finding of each can close: lists go round, those read longest ago first."""
    arns = fill(center, MOST_HELD)
    clocked, sure = Clocked(center, each=EACH), set[str]()
    for _ in range(MOST_LOOKS):
        found, why = timed(clocked, FIRST)
        if why is None:
            certain = certain_of(found)
            sure |= {arn for arn in arns if certain(f"aws|{ACCOUNT}|{arn}|x|user")}
        clocked.later()
    assert sure == set(arns)


def test_one_old_list_of_holders_misses_nobody(center: Center) -> None:
    """Whom a list lacks, a second one is asked about at once; and who is gone is gone by two."""
    give(center, "Whole", to="eve", inline_policy=allowing("*"))
    clocked, real = Clocked(center), Assignments.holders
    assert len(clocked.look()) == 1
    old = iter([Holders(users=frozenset(), groups=frozenset(), cloud_at=center.now())])

    class Lagging(Assignments):
        def holders(self, center: CenterCalls, account: str, permission_set: str) -> Holders:
            return next(old, None) or real(self, center, account, permission_set)

    clocked.sets._assignments = Lagging(FAST)
    clocked.later()
    assert len(clocked.look()) == 1
    center.admin.remove_assignment("Whole", ACCOUNT, user="eve")
    found = clocked.look()
    assert found == () and certain_of(found)("eve")


def test_list_of_long_ago_is_none(center: Center) -> None:
    """Another process had the looks meanwhile: what this one knew of holders is not told."""
    arns = fill(center, 30)
    clocked = Clocked(center, each=EACH)
    until_whole(clocked)
    for arn in arns:
        center.admin.remove_assignment(name_of(center, arn), ACCOUNT, user="eve")
    clocked.later(seconds=LISTED_FOR.total_seconds())
    found, why = timed(clocked, FIRST)
    assert found == () and isinstance(why, PartlyTold)


def test_set_that_administers_no_longer_by_one_reading_is_not_certain_later(
    center: Center,
) -> None:
    """The list that read it is certain; one that had no time to read it again is not."""
    arn = give(center, "Changed", to="eve", inline_policy=allowing("*"))
    clocked = Clocked(center)
    assert len(clocked.look()) == 1
    give(center, "Changed", to="eve", inline_policy=allowing("s3:*"))
    clocked.later()
    what = f"aws|{ACCOUNT}|{arn}|x|user"
    assert certain_of(clocked.look())(what)
    clocked.each = 1.0
    found, why = timed(clocked, LONGEST_SECOND.total_seconds() + 1)
    assert (found, why) == ((), None) and not certain_of(found)(what)
    clocked.each = 0.0
    clocked.later()
    assert certain_of(clocked.look())(what)


def test_more_sets_than_are_looked_at_are_said_to_be(center: Center) -> None:
    """A bound is told as one, and never as nobody."""
    names = [f"S{at:02}" for at in range(MOST_HELD + 1)]
    center.admin.seed(
        permission_sets=[{"name": one, "managed": [allowing("*")]} for one in names],
        assignments=[{"permission_set": one, "account": ACCOUNT, "user": "eve"} for one in names],
    )
    clocked = Clocked(center)
    for _ in range(MOST_LOOKS):
        with pytest.raises(Refused) as no:
            clocked.look()
        if no.value.code != "not_yet":
            break
        clocked.later()
    assert (no.value.code, str(MOST_HELD + 1) in no.value.message) == ("too_many", True)


def account(*policies: tuple[str, object]) -> FakeAws:
    """The account's own IAM, with these customer managed policies in force."""
    aws = FakeAws()
    aws.account = ACCOUNT
    aws.details = {
        "Policies": [
            {
                "Arn": f"arn:aws:iam::{ACCOUNT}:policy{name}",
                "PolicyVersionList": [{"IsDefaultVersion": True, "Document": document}],
            }
            for name, document in policies
        ]
    }
    return aws


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
