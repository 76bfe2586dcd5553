"""The rights the table gives for permission sets are enough, none is spare, and more is noticed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest

import tidegate_standin
from tests.connectors.identity_center_world import (
    ACCOUNT,
    ANYTHING,
    HOUR,
    OTHER,
    Center,
    running,
)
from tidegate.base.errors import Refused
from tidegate.base.when import parse_instant
from tidegate.connectors.aws_calls import AwsSettings
from tidegate.connectors.aws_ground import Ground, policy, resources, scp_arn
from tidegate.connectors.aws_rights import RIGHTS, Identity, Option, Right
from tidegate.connectors.identity_center import IdentityCenterConnector
from tidegate.connectors.identity_center_settings import Deny
from tidegate.connectors.port import Cut, Person, Scope, Trouble
from tidegate.connectors.role_kinds import PERMISSION_SET

OF_SETS = [right for right in RIGHTS if right.kind == PERMISSION_SET]
# Changes that widening makes power over what is not ours. Provisioning brings a permission set's
# own policies where they were meant to be.
CHANGES = re.compile(r":(Create|Delete|Put|Update|Pass)")


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def shared(cloud: tidegate_standin.Running) -> Center:
    """One organisation for the tests that only change policies and look."""
    return Center(cloud)


@pytest.fixture
def narrow(shared: Center) -> Center:
    """Each test begins with exactly the rights of the table."""
    return shared.narrow()


def look(center: Center, connector: IdentityCenterConnector | None = None) -> tuple[Trouble, ...]:
    """What one look finds."""
    health = (connector or center.connector).health(center.target, center.now())
    assert health.reached
    return health.findings


def named(findings: Sequence[Trouble]) -> set[str]:
    """Every action that findings name."""
    texts = [f"{one.message} {one.help}" for one in findings if one.code != "rights_untold"]
    texts += [one.message for one in findings if one.code == "rights_untold"]
    return set(re.findall(r"`([a-z]+:[A-Z]\w+)`", " ".join(texts)))


def without(ground: Ground, right: Right) -> Any:
    """The policy of `right`'s identity with that one action on that one thing taken out.

    Also where it is allowed on all things of the sort: then AWS allows it on this one too.
    """
    document: Any = policy(ground, right.identity)
    for statement in document["Statement"]:
        if all(
            any(fnmatchcase(arn, pattern) for pattern in statement["Resource"])
            for arn in resources(right, ground)
        ):
            statement["Action"] = [one for one in statement["Action"] if one != right.action]
    document["Statement"] = [one for one in document["Statement"] if one["Action"]]
    return document


def everywhere(ground: Ground, identity: Identity) -> Any:
    """The policy of `identity` with every action on every resource."""
    document: Any = policy(ground, identity)
    for statement in document["Statement"]:
        statement["Resource"] = "*"
    return document


def live(center: Center, connector: IdentityCenterConnector) -> None:
    """Every verb, for one access that is ended early while a session of it lives."""
    hold = center.hold()
    person = Person(principal=hold.principal, login="ana")
    assert connector.key(center.target, center.role, hold.grant, person) == hold.key
    connector.arm(hold, hold.ends_at, center.now())
    assert not center.see(hold, connector).usable
    connector.grant(hold, center.now())
    connector.arm(hold, hold.ends_at + HOUR, center.now())
    seen = center.see(hold, connector)
    assert (seen.usable, seen.deadline_at is not None) == (True, True)
    session = center.sign_in()
    assert center.acts(session)
    connector.probe(hold, center.now())
    late = Scope(target=center.target, hold=hold)
    assert next(connector.observe(late, hold.ends_at)).usable
    connector.revoke(hold, center.now())
    receipt = connector.cut(hold, center.now())
    seen = center.see(hold, connector)
    assert (seen.usable, seen.cut) == (False, True)
    assert not center.acts(session)
    connector.disarm(hold, center.now())
    assert center.see(hold, connector).deadline_at is None
    assert receipt.detail["deny"] == "person"
    if center.policy():
        center.admin.options(describes=0)
        center.put_policy("")
        center.admin.options(describes=1)
        user, before = hold.key.native_principal, parse_instant(receipt.detail["before"])
        must = {hold.grant: Cut(until=hold.ends_at, native_principal=user, before=before)}
        restored = connector.mend(center.target, center.role, must, center.now())
        assert restored == (hold.grant,)
    connector.mend(center.target, center.role, {}, center.now())
    theirs = Scope(target=center.target, principal=hold.key.native_principal, role=center.role)
    assert list(connector.observe(theirs, center.now())) == []
    now = center.now()
    assert connector.side_doors(hold, (), now - HOUR, now, now).why_not
    legacy = {"permission_set": "Legacy", "account": ACCOUNT, "user": "eve"}
    policies = [{"name": "Legacy", "managed": [], "customer": ["/whole"]}]
    center.admin.seed(permission_sets=policies, assignments=[legacy])
    assert len(connector.administrators(center.target, now)) == 1
    center.pass_time(2 * HOUR)
    connector.mend(center.target, center.role, {}, center.now())


def test_whole_life_passes_with_exactly_the_rights_of_the_table(
    cloud: tidegate_standin.Running,
) -> None:
    """Key, arm, grant, move, observe, revoke, cut, disarm, mend, prune and health: none refused."""
    center = Center(cloud).narrow()
    center.admin.options(describes=1)
    assert look(center) == ()
    center.admin.clear_calls()
    live(center, center.connector)
    assert center.policy() == ""
    assert look(center) == ()
    refused = {one for one in center.admin.refused() if "AccessDenied" in one}
    assert refused == {"iam:ListUsers:AccessDeniedException"}, "the session that was cut, alone"


def test_life_with_the_deny_in_an_scp_passes_with_exactly_its_rights(
    cloud: tidegate_standin.Running,
) -> None:
    """The same with Tidegate's own SCP: no permission set is edited, and none may be."""
    center = Center(cloud)
    scp = made_scp(center)
    center.narrow(Option.SCHEDULE, Option.SCP, scp=scp["Arn"])
    connector = center.connect(center.made_settings(deny=Deny.SCP, scp=scp["Id"]))
    assert look(center, connector) == ()
    live(center, connector)
    assert look(center, connector) == ()
    refused = {one for one in center.admin.refused() if "AccessDenied" in one}
    assert refused == {"iam:ListUsers:AccessDeniedException"}, "the session that was cut, alone"


def made_scp(center: Center) -> Any:
    """Tidegate's own SCP, attached to the account."""
    organizations = center.client("broker", "organizations")
    content = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"a:b","Resource":"*"}]}'
    )
    made = organizations.create_policy(
        Name=f"TidegateCut-{center.name}",
        Description="x",
        Type="SERVICE_CONTROL_POLICY",
        Content=content,
    )["Policy"]["PolicySummary"]
    organizations.attach_policy(PolicyId=made["Id"], TargetId=ACCOUNT)
    return made


def delegated(center: Center) -> IdentityCenterConnector:
    """Tidegate in a member account that is the delegated administrator, with exactly its rights."""
    names = [one.value for one in (Identity.OPENER, Identity.CLOSER)]
    role = {"name": "TidegateSchedule", "account": OTHER, "trust": ["scheduler.amazonaws.com"]}
    center.ids |= center.admin.seed(
        delegated_administrator=OTHER,
        identities=[{"name": name, "account": OTHER, "policies": [ANYTHING]} for name in names],
        roles=[role],
    )
    center.admin.options(for_principal_from_management_only=True)
    center.client("opener", "scheduler").create_schedule_group(Name="tidegate")
    base = center.settings.schedule
    assert base is not None
    arn = f"arn:aws:iam::{OTHER}:role/TidegateSchedule"
    settings = center.made_settings(schedule=replace(base, role=arn))
    ground = replace(center.ground(), account=OTHER)
    ground = replace(ground, holders={**ground.holders, Identity.SCHEDULE: arn})
    documents: dict[Identity, Any] = {one: policy(ground, one) for one in Identity}
    for name in names:
        center.admin.policies(name, [documents[Identity(name)]])
    center.admin.seed(roles=[{**role, "policies": [documents[Identity.SCHEDULE]]}])
    return center.connect(settings)


def test_spare_right_is_found(cloud: tidegate_standin.Running) -> None:
    """What the life and the health of an access call, here and delegated, is what the table has."""
    center = Center(cloud).narrow()
    center.admin.options(describes=1)
    center.admin.clear_calls()
    live(center, center.connector)
    look(center)
    called = {as_action(one) for one in center.admin.calls()}
    connector = delegated(center)
    assert look(center, connector) == ()
    center.admin.clear_calls()
    live(center, connector)
    called |= {as_action(one) for one in center.admin.calls()}
    # Nobody calls these: AWS asks for them, of who makes a schedule and of the schedule's role.
    called |= {"iam:PassRole", "sqs:SendMessage"}
    held = {right.action for right in OF_SETS if right.option is not Option.SCP}
    assert called - UNHELD == held


# Without a right, and what the person does: the sign-in, and an act of the session.
UNHELD = {"sso:GetRoleCredentials", "iam:ListUsers", "sts:GetCallerIdentity"}


def as_action(call: str) -> str:
    """The stand-in's name of a call as the IAM action it needs."""
    service, _, operation = call.partition(":")
    return f"{'sso' if service == 'sso-admin' else service}:{operation}"


def test_deadline_is_kept_with_exactly_the_rights_of_its_role(
    cloud: tidegate_standin.Running,
) -> None:
    """Nobody of ours alive: the schedule removes the assignment as its role, and nothing fails."""
    center = Center(cloud).narrow()
    hold = center.hold()
    center.connector.arm(hold, hold.ends_at, center.now())
    center.connector.grant(hold, center.now())
    assert center.assigned()
    center.pass_time(HOUR + timedelta(minutes=1))
    assert not center.assigned()
    assert center.admin.dead_letters() == []


IN_USE = [right for right in OF_SETS if right.option is not Option.SCP]


@pytest.mark.parametrize(
    "right", IN_USE, ids=lambda one: f"{one.identity}-{one.action}-{one.on.name}"
)
def test_missing_right_is_named_by_health(narrow: Center, right: Right) -> None:
    """With any one action taken away exactly it is named, and it shuts when an end needs it."""
    narrow.allow(right.identity, without(narrow.ground(), right))
    told = look(narrow)
    assert named(told) == {right.action}, told
    assert {one.code for one in told} <= {"missing_right", "rights_untold", "access_denied"}
    also = (one for one in IN_USE if (one.action, one.on) == (right.action, right.on))
    ends = any(one.closing for one in also if one.identity is right.identity)
    assert any(one.shuts for one in told) == ends


@pytest.fixture(scope="module")
def by_scp(shared: Center) -> tuple[IdentityCenterConnector, str]:
    """The same organisation with the deny in an SCP, and that policy's id."""
    scp = made_scp(shared)
    return shared.connect(shared.made_settings(deny=Deny.SCP, scp=scp["Id"])), scp["Id"]


@pytest.mark.parametrize(
    "right", [one for one in OF_SETS if one.option is Option.SCP], ids=lambda one: one.action
)
def test_missing_right_on_the_scp_is_named_by_health(
    narrow: Center, by_scp: tuple[IdentityCenterConnector, str], right: Right
) -> None:
    """Also where the policy cannot be read: then that alone, by its name, and not what follows."""
    connector, scp = by_scp
    options = (Option.SCHEDULE, Option.SCP)
    narrow.narrow(*options, scp=scp_arn(scp, "aws"))
    assert look(narrow, connector) == ()
    narrow.allow(right.identity, without(narrow.ground(*options, scp=scp_arn(scp, "aws")), right))
    told = look(narrow, connector)
    assert named(told) == {right.action}, told
    assert any(one.shuts for one in told) == right.closing


Verb = Any
VERBS: Mapping[str, Verb] = {
    "key": lambda at, hold: at.connector.key(
        at.target, at.role, hold.grant, Person(principal=hold.principal, login="ana")
    ),
    "arm": lambda at, hold: at.connector.arm(hold, hold.ends_at, at.now()),
    "move": lambda at, hold: [
        at.connector.arm(hold, hold.ends_at + span, at.now()) for span in (HOUR, 2 * HOUR)
    ],
    "grant": lambda at, hold: at.connector.grant(hold, at.now()),
    "revoke": lambda at, hold: at.connector.revoke(hold, at.now()),
    "cut": lambda at, hold: at.connector.cut(hold, at.now()),
    "disarm": lambda at, hold: at.connector.disarm(hold, at.now()),
    "discover": lambda at, hold: list(at.connector.discover(at.target)),
}
REFUSED = {
    (Identity.OPENER, "identitystore:GetUserId"): "key",
    (Identity.OPENER, "scheduler:GetSchedule"): "arm",
    (Identity.OPENER, "scheduler:CreateSchedule"): "arm",
    (Identity.OPENER, "scheduler:UpdateSchedule"): "move",
    (Identity.OPENER, "sso:CreateAccountAssignment"): "grant",
    (Identity.CLOSER, "sso:DeleteAccountAssignment"): "revoke",
    (Identity.CLOSER, "scheduler:DeleteSchedule"): "disarm",
}


@pytest.mark.parametrize(("which", "verb"), REFUSED.items(), ids=str)
def test_verb_without_its_right_names_it(
    narrow: Center, which: tuple[Identity, str], verb: str
) -> None:
    """The verb that needs an action is refused by AWS, and the refusal names the action."""
    right = next(one for one in OF_SETS if (one.identity, one.action) == which)
    narrow.allow(right.identity, without(narrow.ground(), right))
    with pytest.raises(Refused) as refused:
        VERBS[verb](narrow, narrow.hold())
    assert refused.value.code == "access_denied"
    assert f"`{right.action}`" in refused.value.message


def test_role_passed_without_its_right_is_refused(narrow: Center) -> None:
    """AWS answers `CreateSchedule` with what it misses: the right to pass the schedule's role."""
    right = next(one for one in OF_SETS if one.action == "iam:PassRole")
    narrow.allow(Identity.OPENER, without(narrow.ground(), right))
    hold = narrow.hold()
    with pytest.raises(Refused) as refused:
        narrow.connector.arm(hold, hold.ends_at, narrow.now())
    assert refused.value.code == "access_denied"


def excess(findings: Sequence[Trouble]) -> Trouble:
    """The one warning, of rights beyond need, that shuts nothing."""
    (told,) = findings
    assert (told.code, told.shuts) == ("excess_right", False)
    return told


@pytest.mark.parametrize("identity", Identity, ids=str)
def test_wider_rights_are_a_warning_that_names_them(narrow: Center, identity: Identity) -> None:
    """With `*` every call that is power is named, on what is ours and on what is not."""
    narrow.allow(identity, ANYTHING)
    told = excess(look(narrow)).message
    assert f"Tidegate's {identity} may call" in told
    for action in ("sso:CreatePermissionSet", "iam:CreateUser", "iam:UpdateAssumeRolePolicy"):
        assert f"`{action}`" in told
    ours = re.search(r"may call (.+?) on permission sets that are handed out", told)
    assert ours is not None
    mine = {right.action for right in IN_USE if right.identity is identity}
    assert not mine & set(re.findall(r"`([^`]+)`", ours[1]))
    assert "`sso:CreateAccountAssignment`" in told and "not handed out" in told


@pytest.mark.parametrize("identity", Identity, ids=str)
def test_right_on_everything_is_a_warning(narrow: Center, identity: Identity) -> None:
    """The right actions on `*`: each that changes something is named, and no other."""
    narrow.allow(identity, everywhere(narrow.ground(), identity))
    told = excess(look(narrow))
    mine = {right.action for right in IN_USE if right.identity is identity}
    changes = {one for one in mine if CHANGES.search(one)}
    assert named([told]) == changes


def test_role_that_may_be_passed_anywhere_is_a_warning(narrow: Center) -> None:
    """Without its condition the opener could run code as the schedule's role, and so end access."""
    document: Any = policy(narrow.ground(), Identity.OPENER)
    for statement in document["Statement"]:
        statement.pop("Condition", None)
    narrow.allow(Identity.OPENER, document)
    assert "`iam:PassRole` of the schedule's role to other services" in excess(look(narrow)).message


def test_opener_that_may_close_is_a_warning(narrow: Center) -> None:
    """Rights of one identity on the other are named: a stolen one would do the work of both."""
    grounds = narrow.ground()
    both = [policy(grounds, one) for one in (Identity.OPENER, Identity.CLOSER)]
    narrow.allow(Identity.OPENER, *both)
    told = excess(look(narrow)).message
    assert "`sso:DeleteAccountAssignment`" in told
    assert "`sso:PutInlinePolicyToPermissionSet`" in told
    assert "not handed out" not in told


def test_one_identity_is_used_for_both(narrow: Center) -> None:
    """One principal with both policies opens and closes without a finding."""
    broker = narrow.ids["identities"]["broker"]["arn"]
    ground = narrow.ground()
    held = {**ground.holders, Identity.OPENER: broker, Identity.CLOSER: broker}
    ground = replace(ground, holders=held)
    both: list[Any] = [policy(ground, one) for one in (Identity.OPENER, Identity.CLOSER)]
    keys = narrow.keys("broker")
    connector = narrow.connect(narrow.made_settings(opener=keys, closer=keys))
    narrow.admin.policies("broker", both)
    try:
        assert look(narrow, connector) == ()
    finally:
        narrow.admin.policies("broker", [ANYTHING])


def test_no_identity_is_told(narrow: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is missing says what cannot be done: opened, closed, or both."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    nobody = AwsSettings(region="us-east-1", endpoint_url=narrow.cloud.url)
    made = narrow.made_settings
    for settings, deed in (
        (made(opener=nobody, closer=nobody), "opened or closed"),
        (made(closer=nobody), "closed"),
        (made(opener=nobody), "opened"),
    ):
        health = narrow.connect(settings).health(narrow.target, narrow.now())
        (told,) = [one for one in health.findings if one.code == "no_identity"]
        assert told.message.endswith(f"nothing can be {deed} there")
        assert told.shuts
        assert health.reached == (deed == "opened")
