"""`tidegate onboard aws`, from settings and from options: for what, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tidegate.base.duty import ALL, NONE, Duty
from tidegate.base.errors import AskedWrongly, TidegateError
from tidegate.connectors.aws_calls import Keys
from tidegate.connectors.aws_rights import Identity, Option
from tidegate.main import clouds
from tidegate.main.config import load_config
from tidegate.main.onboarding import grounds, onboard_aws
from tidegate.main.wiring import secret_checks
from tidegate.shell.cli.local import AwsAsked

SET = "arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/ps-1234567890abcdef"
INSTANCE = "arn:aws:sso:::instance/ssoins-1234567890abcdef"
ONE, TWO, HUB = "111122223333", "222233334444", "444455556666"
CENTER: dict[str, Any] = {"sets": (SET,), "accounts": (ONE,), "hub": HUB, "region": "eu-central-1"}
HEAD = '[evidence]\norigin = "t.example/log"\n'


def role(account: str, name: str = "admin") -> str:
    """A role's ARN."""
    return f"arn:aws:iam::{account}:role/{name}"


def settings(tmp_path: Path, text: str) -> Path:
    """A settings file."""
    path = tmp_path / "tidegate.toml"
    path.write_text(HEAD + text)
    return path


def target(name: str, account: str, *roles: tuple[str, str], aws: str = "") -> str:
    """A target with its roles, each a kind and an ARN."""
    head = f'[[target]]\nid = "{name}"\nconnector = "aws"\naccount = "{account}"\n'
    body = "".join(
        f'[[target.role]]\nname = "r{n}"\nkind = "{kind}"\narn = "{arn}"\n'
        for n, (kind, arn) in enumerate(roles)
    )
    return f"{head}[target.aws]\n{aws}{body}"


def test_settings_are_read_account_by_account(tmp_path: Path) -> None:
    """Targets of one account are one ground; permission sets go to the hub, with their accounts."""
    text = (
        target("a", TWO, ("iam-role", role(TWO)))
        + target("b", ONE, ("iam-role", role(ONE)), ("permission-set", SET))
        + target("c", ONE, ("iam-role", role(ONE, "reader")))
    )
    asked = AwsAsked(hub=HUB, region="eu-central-1")
    plain = json.loads(onboard_aws(settings(tmp_path, text), "json", asked))
    openers = plain["identities"]["opener"]["policies"]
    assert [one["account"] for one in openers] == [ONE, TWO, HUB]
    first = openers[0]["policy"]["Statement"][0]
    assert first["Resource"] == [role(ONE), role(ONE, "reader")]
    made = next(one for one in plain["rights"] if one["action"] == "sso:CreateAccountAssignment")
    assert made["resources"] == [f"arn:aws:sso:::account/{ONE}", INSTANCE, SET]
    assert [one["account"] for one in plain["identities"]["schedule"]["policies"]] == [HUB]


CENTER_PART = f"""
[identity_center]
instance = "{INSTANCE}"
identity_store = "d-1234567890"
region = "eu-west-3"
deny = "scp"
scp = "p-abcdefgh"

[identity_center.schedule]
role = "arn:aws:iam::{HUB}:role/ends"
dead_letter = "arn:aws:sqs:eu-west-3:{HUB}:letters"
group = "ours"
"""


def test_identity_center_of_the_settings_is_followed(tmp_path: Path) -> None:
    """Region, store, deny, group, role and queue are the settings'; the role names the hub."""
    text = CENTER_PART + target("a", ONE, ("permission-set", SET))
    path = settings(tmp_path, text)
    plain = json.loads(onboard_aws(path, "json", AwsAsked()))
    told = {arn for one in plain["rights"] for arn in one["resources"]}
    assert told >= {
        f"arn:aws:scheduler:eu-west-3:{HUB}:schedule/ours/tidegate-*",
        f"arn:aws:iam::{HUB}:role/ends",
        f"arn:aws:sqs:eu-west-3:{HUB}:letters",
        "arn:aws:identitystore::*:identitystore/d-1234567890",
        "arn:aws:organizations::*:policy/o-*/service_control_policy/p-abcdefgh",
    }
    assert {one["account"] for one in plain["rights"]} == {HUB}
    assert plain["identities"]["schedule"]["policies"][0]["name"] == "ends"
    template = onboard_aws(path, "cloudformation", AwsAsked())
    assert '"RoleName": "ends"' in template and '"QueueName": "letters"' in template
    path.write_text(path.read_text().replace(":role/ends", ":role/a/ends"))
    with pytest.raises(AskedWrongly) as refused:
        onboard_aws(path, "json", AwsAsked())
    assert refused.value.code == "schedule_role_path"


def test_hub_that_is_a_target_too_has_one_role_of_each_kind() -> None:
    """An account that is both gets one opener and one closer with both kinds of rights."""
    (one,) = grounds(AwsAsked(roles=(role(HUB),), **CENTER))
    assert one.kinds() == {"iam-role", "permission-set"}
    assert one.options == {Option.CUT, Option.SCHEDULE}


def test_order_and_repeats_change_nothing() -> None:
    """The same things named in another order give the same document."""
    names = (role(TWO), role(ONE), role(ONE, "b"))
    texts = {
        onboard_aws(None, form, AwsAsked(roles=roles))
        for form in ("json", "terraform", "cloudformation")
        for roles in (names, names[::-1], names * 2)
    }
    assert len(texts) == 3


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (AwsAsked(), "nothing_handed_out"),
        (AwsAsked(roles=("admin",)), "bad_role_arn"),
        (AwsAsked(roles=(role(ONE),), accounts=("12",)), "bad_option"),
        (AwsAsked(roles=(role(ONE),), hub="12"), "bad_option"),
        (AwsAsked(**CENTER | {"hub": ""}), "no_hub"),
        (AwsAsked(**CENTER | {"accounts": ()}), "no_accounts"),
        (AwsAsked(**CENTER | {"region": ""}), "bad_option"),
        (AwsAsked(**CENTER | {"sets": ("ps-1",)}), "bad_permission_set"),
        (AwsAsked(**CENTER, instance=INSTANCE[:-1] + "0"), "other_instance"),
        (AwsAsked(**CENTER, store="store"), "bad_option"),
        (AwsAsked(**CENTER, deny="scp"), "bad_scp"),
        (AwsAsked(**CENTER, deny="all"), "bad_deny"),
    ],
)
def test_what_was_named_wrongly_is_told(asked: AwsAsked, code: str) -> None:
    """Each mistake has its own code and says what to do."""
    with pytest.raises(AskedWrongly) as refused:
        grounds(asked)
    assert refused.value.code == code
    assert refused.value.help


def test_role_of_another_account_is_told(tmp_path: Path) -> None:
    """Settings whose role is not of its target's account would make rights in the wrong place."""
    path = settings(tmp_path, target("a", ONE, ("iam-role", role(TWO))))
    with pytest.raises(AskedWrongly) as refused:
        onboard_aws(path, "json", AwsAsked())
    assert refused.value.code == "other_account"


KEYS = (
    'opener_access_key_id = "env:OPENER_ID"\nopener_secret_access_key = "env:OPENER_KEY"\n'
    'closer_access_key_id = "env:CLOSER_ID"\ncloser_secret_access_key = "env:CLOSER_KEY"\n'
)


def test_half_a_pair_of_keys_is_told(tmp_path: Path) -> None:
    """Each identity takes both keys or neither; the fault names which."""
    text = target("a", ONE, aws='closer_access_key_id = "env:X"\n')
    with pytest.raises(TidegateError) as refused:
        load_config(settings(tmp_path, text))
    assert "`closer_access_key_id` and `closer_secret_access_key`" in str(vars(refused.value))


def test_identities_sign_with_their_own_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every key is read where its reference says, and a missing one is told with its place."""
    config = load_config(settings(tmp_path, target("a", ONE, aws=KEYS)))
    checks = dict(secret_checks(config))
    place = ("target", 0, "aws", "closer_secret_access_key")
    with pytest.raises(AskedWrongly):
        checks[place]()
    for name in ("OPENER_ID", "OPENER_KEY", "CLOSER_ID", "CLOSER_KEY"):
        monkeypatch.setenv(name, name.lower())
    checks[place]()
    found = clouds._settings(config, config.target, ALL)["a"]
    assert found.opener == Keys(access_key_id="opener_id", secret_access_key="opener_key")
    assert found.closer == Keys(access_key_id="closer_id", secret_access_key="closer_key")
    assert found.keys(Identity.CLOSER) is found.closer
    assert "opener_key" not in repr(found) and "closer_key" not in repr(found)
    quiet = clouds._settings(config, config.target, NONE)["a"]
    assert quiet.opener is None and quiet.keys(Identity.OPENER) is None


def test_closer_reads_the_openers_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with one duty reads that duty's keys only, and signs everything with them."""
    config = load_config(settings(tmp_path, target("a", ONE, aws=KEYS)))
    for name in ("CLOSER_ID", "CLOSER_KEY"):
        monkeypatch.setenv(name, name.lower())
    found = clouds._settings(config, config.target, frozenset({Duty.CLOSE}))["a"]
    keys = [found.keys(identity) for identity in (Identity.OPENER, Identity.CLOSER)]
    assert {one.access_key_id for one in keys if one} == {"closer_id"}
    with pytest.raises(AskedWrongly):
        clouds._settings(config, config.target, frozenset({Duty.OPEN}))
    nobody = clouds._settings(config, config.target, NONE)["a"]
    assert nobody.keys(Identity.OPENER) is None
