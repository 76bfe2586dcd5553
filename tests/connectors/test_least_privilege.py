"""The rights the table gives are enough for the whole life of an access, and none is spare."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.conftest import AwsWorld, real_now
from tidegate.base.errors import Refused
from tidegate.connectors.aws import AwsConnector
from tidegate.connectors.aws_calls import Keys
from tidegate.connectors.aws_ground import Ground, needed, policy
from tidegate.connectors.aws_rights import Identity, On, Right
from tidegate.connectors.port import Answer, Cut, Health, Hold, Scope, Trouble
from tidegate.connectors.sandbox import ACCOUNT, Sandbox

NAMED = (Identity.OPENER, Identity.CLOSER)
ANY_ROLE = Ground(account=ACCOUNT, roles=(f"arn:aws:iam::{ACCOUNT}:role/any",))
RIGHTS = [right for identity in NAMED for right in needed(ANY_ROLE, identity)]
# The emulator asks no identity policy for these two, only the trust policy of the role (tags), or
# nobody at all (source identity). AWS asks both.
NOT_ENFORCED = {"sts:TagSession", "sts:SetSourceIdentity"}
_NAMES = itertools.count(1)


@dataclass
class Narrow:
    """A role handed out, and two users who hold exactly what the table says."""

    world: AwsWorld
    ground: Ground
    users: dict[Identity, str]
    connector: AwsConnector

    def allow(self, identity: Identity, document: Any) -> None:
        """Put this policy, and no other, on the user that is `identity`."""
        self.world.sandbox.client("iam").put_user_policy(
            UserName=self.users[identity], PolicyName="rights", PolicyDocument=json.dumps(document)
        )

    def exactly(self, identity: Identity) -> Any:
        """The policy of the table for `identity`.

        NB. the emulator knows no resource of `iam:SimulatePrincipalPolicy` and compares `*`; on AWS
        it is the principal that is simulated.
        """
        document: Any = policy(self.ground, identity)
        itself = [self.ground.holders[identity]]
        for statement in document["Statement"]:
            if statement["Resource"] == itself:
                statement["Resource"] = ["*"]
        return document

    def without(self, right: Right) -> None:
        """Take one action away from its identity."""
        document = self.exactly(right.identity)
        for statement in document["Statement"]:
            statement["Action"] = [one for one in statement["Action"] if one != right.action]
        document["Statement"] = [one for one in document["Statement"] if one["Action"]]
        self.allow(right.identity, document)

    def health(self) -> Health:
        """What doctor is told."""
        return self.connector.health(self.world.target, real_now())

    def hold(self) -> Hold:
        """A grant of ten minutes."""
        return self.world.hold(timedelta(minutes=10))


@pytest.fixture(scope="module")
def shared(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Narrow:
    """One role and two users for all tests here: they differ in policies only."""
    world = AwsWorld(sandbox)
    iam = sandbox.client("iam")
    users, keys = {}, {}
    for identity in NAMED:
        users[identity] = f"{identity}-{next(_NAMES)}"
        iam.create_user(UserName=users[identity])
        made = iam.create_access_key(UserName=users[identity])["AccessKey"]
        keys[identity] = Keys(
            access_key_id=made["AccessKeyId"], secret_access_key=made["SecretAccessKey"]
        )
    ground = Ground(
        account=ACCOUNT,
        roles=(world.arn,),
        holders={one: f"arn:aws:iam::{ACCOUNT}:user/{users[one]}" for one in NAMED},
    )
    settings = replace(
        world.settings,
        access_key_id="",
        secret_access_key="",
        opener=keys[Identity.OPENER],
        closer=keys[Identity.CLOSER],
    )
    locks: Path = tmp_path_factory.mktemp("locks")
    connector = AwsConnector({world.target.id: settings}, lock_dir=locks)
    return Narrow(world, ground, users, connector)


@pytest.fixture
def narrow(shared: Narrow) -> Iterator[Narrow]:
    """Each test begins and ends with exactly the rights of the table, and no cut on the role."""
    for identity in NAMED:
        shared.allow(identity, shared.exactly(identity))
    yield shared
    iam = shared.world.sandbox.client("iam")
    if "TidegateCut" in iam.list_role_policies(RoleName=shared.world.name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=shared.world.name, PolicyName="TidegateCut")


def one_of(health: Health, code: str) -> Trouble:
    """The one finding with `code`."""
    found = [one for one in health.findings if one.code == code]
    assert len(found) == 1, health.findings
    return found[0]


def test_whole_life_passes_with_exactly_the_rights_of_the_table(narrow: Narrow) -> None:
    """Grant, issue, use, early end, observe, probe, mend both ways and health: nothing refused."""
    aws, world, hold = narrow.connector, narrow.world, narrow.hold()
    assert narrow.health().findings == ()
    assert aws.grant(hold, real_now()).detail["role_id"]
    credential = aws.issue(hold, world.session(), real_now())
    assert world.use(credential) is Answer.ALLOWED
    assert next(aws.observe(Scope(target=world.target, hold=hold), real_now())).usable
    assert aws.probe(hold, real_now()).answer is Answer.ALLOWED
    assert aws.revoke(hold, real_now()).detail["read_back"] == "yes"
    assert aws.cut(hold, real_now()).detail["wrote"] == "no"
    assert world.use(credential) is Answer.DENIED
    assert next(aws.observe(Scope(target=world.target, hold=hold), real_now())).cut
    assert aws.probe(hold, real_now()).proves_denied
    world.tamper(hold)
    must = {hold.grant: Cut(until=hold.ends_at)}
    assert aws.mend(world.target, world.role, must, real_now()) == (hold.grant,)
    over = {hold.grant: Cut(until=real_now() - timedelta(hours=1))}
    aws.mend(world.target, world.role, over, real_now())
    assert not list(aws.observe(Scope(target=world.target), real_now()))
    assert narrow.health().findings == ()


@pytest.mark.parametrize("right", RIGHTS, ids=lambda one: f"{one.identity}-{one.action}")
def test_missing_right_is_named_by_health(narrow: Narrow, right: Right) -> None:
    """With any one action taken away, a finding names it; nothing opens when an end needs it."""
    narrow.without(right)
    told = [one for one in narrow.health().findings if f"`{right.action}`" in one.message]
    assert told, narrow.health().findings
    if right.on is On.ROLES:
        assert narrow.world.arn in told[0].message or narrow.world.name in told[0].message
    # Who cannot be asked whether it may close is taken for one that may not.
    blind = right.on is On.SELF and right.identity is Identity.CLOSER
    assert any(one.shuts for one in told) == (right.closing or blind)


def searched(at: Narrow, hold: Hold) -> None:
    """A search for side doors; what it was refused is told, so it is raised here."""
    now = real_now()
    doors = at.connector.side_doors(hold, (), now - timedelta(hours=1), now, now)
    for why in doors.why_not:
        raise Refused("access_denied" if "access_denied" in why else "other", why, "")


VERBS: dict[str, Callable[[Narrow, Hold], object]] = {
    "grant": lambda at, hold: at.connector.grant(hold, real_now()),
    "issue": lambda at, hold: at.connector.issue(hold, at.world.session(), real_now()),
    "revoke": lambda at, hold: at.connector.revoke(hold, real_now()),
    "observe": lambda at, hold: list(
        at.connector.observe(Scope(target=at.world.target, hold=hold), real_now())
    ),
    "mend": lambda at, hold: at.connector.mend(
        at.world.target, at.world.role, {hold.grant: Cut(until=hold.ends_at)}, real_now()
    ),
    "side_doors": searched,
    # By one that remembers no cut of another test, so that nothing is left to keep.
    "unmend": lambda at, hold: AwsConnector(at.connector._settings).mend(
        at.world.target,
        at.world.role,
        {hold.grant: Cut(until=real_now() - timedelta(hours=1))},
        real_now(),
    ),
}
FAILS = {
    (Identity.OPENER, "iam:GetRole"): "grant",
    (Identity.OPENER, "sts:AssumeRole"): "issue",
    (Identity.OPENER, "sts:TagSession"): "issue",
    (Identity.OPENER, "sts:SetSourceIdentity"): "issue",
    (Identity.CLOSER, "iam:GetRole"): "observe",
    (Identity.CLOSER, "iam:GetRolePolicy"): "revoke",
    (Identity.CLOSER, "iam:PutRolePolicy"): "revoke",
    (Identity.CLOSER, "iam:DeleteRolePolicy"): "unmend",
    (Identity.CLOSER, "iam:GetAccountAuthorizationDetails"): "side_doors",
    (Identity.CLOSER, "iam:ListAccessKeys"): "side_doors",
    (Identity.CLOSER, "iam:GetLoginProfile"): "side_doors",
    (Identity.CLOSER, "cloudtrail:LookupEvents"): "side_doors",
}


@pytest.mark.parametrize(("which", "verb"), FAILS.items(), ids=lambda one: str(one))
def test_spare_right_is_found(narrow: Narrow, which: tuple[Identity, str], verb: str) -> None:
    """Without any one action the verb the table names for it is refused by the cloud."""
    right = next(one for one in RIGHTS if (one.identity, one.action) == which)
    hold = narrow.hold()
    if verb == "unmend":
        narrow.connector.revoke(hold, real_now())
    narrow.without(right)
    if right.action in NOT_ENFORCED:
        VERBS[verb](narrow, hold)  # goes red when the emulator begins to ask: then it is tried
        return
    with pytest.raises(Refused) as refused:
        VERBS[verb](narrow, hold)
    assert refused.value.code == "access_denied"
    assert right.action in refused.value.message


def test_every_right_is_tried_or_told() -> None:
    """A right of the table that no test here takes away from its verb is only health's own."""
    untried = {(one.identity, one.action) for one in RIGHTS} - FAILS.keys()
    assert {action for _, action in untried} == {
        "iam:SimulatePrincipalPolicy",
        "iam:ListAttachedRolePolicies",
    }


@pytest.mark.parametrize("identity", NAMED, ids=str)
def test_wider_rights_are_a_warning_that_names_them(narrow: Narrow, identity: Identity) -> None:
    """With `*` the calls that are power over roles are named, on ours and on others; none shuts."""
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    narrow.allow(identity, {"Version": "2012-10-17", "Statement": [statement]})
    found = narrow.health().findings
    assert {one.code for one in found} == {"excess_right"}
    assert not any(one.shuts for one in found)
    ours, others = found
    mine = {right.action for right in RIGHTS if right.identity is identity}
    assert "`iam:UpdateAssumeRolePolicy`" in ours.message and f"{identity} " in ours.message
    assert not any(f"`{action}`" in ours.message for action in mine)
    assert "not handed out" in others.message and "`sts:AssumeRole`" in others.message


def test_right_on_every_role_is_a_warning(narrow: Narrow) -> None:
    """The right actions on `*` let the closer rewrite roles that nobody hands out."""
    document = narrow.exactly(Identity.CLOSER)
    for one in document["Statement"]:
        one["Resource"] = "*"
    narrow.allow(Identity.CLOSER, document)
    told = one_of(narrow.health(), "excess_right")
    assert "`iam:DeleteRolePolicy`, `iam:PutRolePolicy`" in told.message
    assert "not handed out" in told.message


def test_opener_that_closes_is_found_out(narrow: Narrow) -> None:
    """The opener alone can end nothing, and the closer alone can take no session."""
    hold = narrow.hold()
    turned = replace(
        narrow.connector._settings[narrow.world.target.id],
        opener=narrow.connector._settings[narrow.world.target.id].closer,
        closer=narrow.connector._settings[narrow.world.target.id].opener,
    )
    aws = AwsConnector({narrow.world.target.id: turned})
    with pytest.raises(Refused):
        aws.revoke(hold, real_now())
    with pytest.raises(Refused):
        aws.issue(hold, narrow.world.session(), real_now())
    assert any(one.shuts for one in aws.health(narrow.world.target, real_now()).findings)


def test_one_identity_is_used_for_both(narrow: Narrow) -> None:
    """With the plain keys alone, one user with both policies opens and closes without a finding."""
    settings = narrow.connector._settings[narrow.world.target.id]
    assert settings.closer is not None
    iam = narrow.world.sandbox.client("iam")
    closer = narrow.users[Identity.CLOSER]
    extra = json.dumps(narrow.exactly(Identity.OPENER))
    iam.put_user_policy(UserName=closer, PolicyName="extra", PolicyDocument=extra)
    one = replace(
        settings,
        opener=None,
        closer=None,
        access_key_id=settings.closer.access_key_id,
        secret_access_key=settings.closer.secret_access_key,
    )
    aws, hold = AwsConnector({narrow.world.target.id: one}), narrow.hold()
    try:
        assert aws.health(narrow.world.target, real_now()).findings == ()
        assert aws.issue(hold, narrow.world.session(), real_now()).key_id
        assert aws.revoke(hold, real_now()).detail["wrote"] == "yes"
    finally:
        iam.delete_user_policy(UserName=closer, PolicyName="extra")


def test_no_identity_is_told_and_nothing_is_sent(
    narrow: Narrow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the process has no identity at all, health says that it can neither open nor close."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    settings = narrow.connector._settings[narrow.world.target.id]
    bare = AwsConnector({narrow.world.target.id: replace(settings, opener=None, closer=None)})
    health = bare.health(narrow.world.target, real_now())
    assert not health.reached
    told = one_of(health, "no_identity")
    assert "nothing can be opened or closed there" in told.message and told.shuts
    only = AwsConnector({narrow.world.target.id: replace(settings, opener=None)})
    health = only.health(narrow.world.target, real_now())
    assert health.reached
    assert "nothing can be opened there" in one_of(health, "no_identity").message
    only = AwsConnector({narrow.world.target.id: replace(settings, closer=None)})
    told = one_of(only.health(narrow.world.target, real_now()), "no_identity")
    assert "nothing can be closed there" in told.message
