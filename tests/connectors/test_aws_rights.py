"""The table of rights, and the documents made from it: none may ask for more or less."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.loaders import Loader
from hypothesis import given
from hypothesis import strategies as st

from tidegate.base.errors import AskedWrongly
from tidegate.connectors.aws_ground import (
    DEAD_LETTERS,
    LONGEST_INLINE,
    ROLE_NAMES,
    Ground,
    instance_of,
    needed,
    policy,
    resources,
    scp_arn,
    trust_of_roles,
)
from tidegate.connectors.aws_rights import RIGHTS, Identity, On, Option
from tidegate.connectors.aws_templates import FORMS, as_cloudformation, as_plain, as_terraform
from tidegate.connectors.identity_center_calls import action_of
from tidegate.connectors.role_kinds import IAM_ROLE, PERMISSION_SET

ROOT = Path(__file__).parents[2]
CONNECTORS = ROOT / "src" / "tidegate" / "connectors"
GOLDEN = Path(__file__).parent / "golden"
INSTANCE = "arn:aws:sso:::instance/ssoins-1234567890abcdef"
SET = "arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/ps-1234567890abcdef"
SCP = "arn:aws:organizations::999900001111:policy/o-abcdefghij/service_control_policy/p-abcdefgh"
TARGET, HUB = "111122223333", "444455556666"
ADMIN = f"arn:aws:iam::{TARGET}:role/tidegate/admin"
READER = f"arn:aws:iam::{TARGET}:role/tidegate/reader"
ROLES = Ground(account=TARGET, roles=(ADMIN, READER))
CENTER = Ground(
    account=HUB,
    region="eu-central-1",
    sets=(SET,),
    assigned=(TARGET,),
    store="d-1234567890",
    options=frozenset({Option.SCHEDULE, Option.CUT}),
)
BOTH = (ROLES, CENTER)
# Asked of AWS without a right: no policy can allow or deny it (STS API, GetCallerIdentity).
FREE = {"sts:GetCallerIdentity"}
# Only `discover` lists roles, and nothing calls that on AWS yet.
UNCALLED = {"iam:ListRoles"}
# Reads tried only where the simulator may not be asked, so never with the rights of the table.
FALLBACK = {"sso:ListAccountAssignmentDeletionStatus", "sso:ListPermissionSetProvisioningStatus"}
SUFFIX = {"cloudformation": "json", "terraform": "tf", "json": "json"}

Asked = set[tuple[str, str, str, str, str]]  # account, identity, action, resource, condition


def of_table(grounds: tuple[Ground, ...]) -> Asked:
    """Every single thing the table asks for."""
    return {
        (ground.account, identity.value, right.action, arn, json.dumps(condition(right.condition)))
        for ground in grounds
        for identity in Identity
        for right in needed(ground, identity)
        for arn in resources(right, ground)
    }


def condition(told: tuple[str, str, str] | None) -> dict[str, dict[str, str]]:
    """As IAM writes it."""
    return {told[0]: {told[1]: told[2]}} if told else {}


def of_policy(account: str, identity: str, document: Any) -> Asked:
    """Every single thing a policy document allows."""
    assert document["Version"] == "2012-10-17"
    found = set()
    for one in document["Statement"]:
        assert one.keys() <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert one["Effect"] == "Allow"
        limits = json.dumps(one.get("Condition", {}))
        found |= {
            (account, identity, action, arn, limits)
            for action in one["Action"]
            for arn in one["Resource"]
        }
    return found


def of_cloudformation(text: str) -> Asked:
    """What the roles of a template are allowed."""
    found: Asked = set()
    for name, part in json.loads(text)["Resources"].items():
        if part["Type"] != "AWS::IAM::Role":
            continue
        identity, account = re.fullmatch(r"([A-Z][a-z]+)In(\d{12})", name).groups()  # type: ignore[union-attr]
        for one in part["Properties"]["Policies"]:
            found |= of_policy(account, identity.lower(), one["PolicyDocument"])
    return found


def of_terraform(text: str) -> Asked:
    """What the role policies of a configuration are allowed."""
    found: Asked = set()
    shape = r'resource "aws_iam_role_policy" "([a-z]+)_(\d{12})" \{.*?<<POLICY\n(.*?)\nPOLICY\n'
    for identity, account, document in re.findall(shape, text, re.DOTALL):
        plain = document.replace("$${", "${").replace("%%{", "%{")
        found |= of_policy(account, identity, json.loads(plain))
    return found


def of_json(plain: Any) -> Asked:
    """What the policies of the plain form allow."""
    found: Asked = set()
    for identity, told in plain["identities"].items():
        for one in told["policies"]:
            found |= of_policy(one["account"], identity, one["policy"])
    return found


@pytest.mark.parametrize("form", FORMS)
def test_changed_document_is_found(form: str) -> None:
    """Each form is byte for byte what was looked at and kept."""
    text = FORMS[form](BOTH)
    assert text == (GOLDEN / f"{form}.{SUFFIX[form]}").read_text()
    assert text == FORMS[form](BOTH)


accounts = st.text("0123456789", min_size=12, max_size=12)
names = st.text("abcdefghijklmnopqrstuvwxyz+=,.@-_", min_size=1, max_size=20)
grounds_drawn = st.builds(
    lambda account, roles, sets, assigned, options: Ground(
        account=account,
        region="eu-west-1",
        roles=tuple(f"arn:aws:iam::{account}:role/{role}" for role in sorted(roles)),
        sets=tuple(f"{SET[:-16]}{one:016x}" for one in sorted(sets)),
        assigned=tuple(sorted(assigned)),
        options=frozenset(options),
        scp=SCP,
    ),
    accounts,
    st.sets(names, max_size=4),
    st.sets(st.integers(0, 99), max_size=3),
    st.sets(accounts, min_size=1, max_size=3),
    st.sets(st.sampled_from(Option)),
)


@given(st.lists(grounds_drawn, max_size=3, unique_by=lambda one: one.account).map(tuple))
def test_document_that_asks_for_more_or_less_is_found(grounds: tuple[Ground, ...]) -> None:
    """Read back, the three forms ask for exactly what the table does, right by right."""
    wanted = of_table(grounds)
    assert of_cloudformation(as_cloudformation(grounds)) == wanted
    assert of_terraform(as_terraform(grounds)) == wanted
    assert of_json(as_plain(grounds)) == wanted
    told: Any = as_plain(grounds)["rights"]
    single = {
        (one["account"], one["identity"], one["action"], arn, json.dumps(one["condition"]))
        for one in told
        for arn in one["resources"]
    }
    assert single == wanted


def test_call_without_a_right_is_found() -> None:
    """Every call the connector names when it asks AWS is in the table, and nothing else is."""
    called = set()
    for file in ("aws", "aws_cut", "aws_health", "aws_allowed", "aws_side_doors", "aws_trail"):
        text = (CONNECTORS / f"{file}.py").read_text()
        last = r"(?:\)|name\)|region=)"
        called |= set(re.findall(rf'"((?:iam|sts|cloudtrail):[A-Za-z]+)",?\s*{last}', text))
    called |= {"sts:TagSession", "sts:SetSourceIdentity"}  # by tags and source identity of a call
    called |= {"iam:SimulatePrincipalPolicy"}
    assert called - FREE - UNCALLED == {one.action for one in RIGHTS if one.kind == IAM_ROLE}


def actions_by_method() -> dict[tuple[str, str], str]:
    """The IAM action of every boto3 method of the services Identity Center is run by."""
    loader = Loader()
    services = {"sso-admin": "sso", "sts": "sts", "iam": "iam"}
    services |= {one: one for one in ("identitystore", "scheduler", "organizations")}
    return {
        (service, xform_name(operation)): f"{prefix}:{operation}"
        for service, prefix in services.items()
        for operation in loader.load_service_model(service, "service-2")["operations"]
    }


def test_identity_center_call_without_a_right_is_found() -> None:
    """Every boto3 method the Identity Center connector names is in the table, and nothing else."""
    methods = actions_by_method()
    known = {name: action for (_, name), action in methods.items()}
    called = {"iam:PassRole", "iam:SimulatePrincipalPolicy"}  # by a schedule's role; by `simulated`
    for path in CONNECTORS.glob("identity_center*.py"):
        named = re.findall(r'"([a-z]+(?:_[a-z]+)+)"', path.read_text())
        called |= {known[name] for name in named if name in known}
    held = {
        one.action
        for one in RIGHTS
        if one.kind == PERMISSION_SET and one.identity is not Identity.SCHEDULE
    }
    assert called - FREE - FALLBACK == held
    named = {action_of(*method): action for method, action in methods.items() if action in held}
    assert named == {action: action for action in named.values()}, "a refusal names the action"


def test_right_listed_twice_is_found() -> None:
    """One line for each identity, kind, action, thing and option; each says which verb needs it."""
    keys = [(one.kind, one.identity, one.action, one.on, one.option) for one in RIGHTS]
    assert len(keys) == len(set(keys))
    verbs = (
        r"(grant|issue|probe|revoke|cut|mend|observe|health|arm|disarm|side doors|standing)(, |: )"
    )
    assert all(re.match(verbs, one.why) for one in RIGHTS if one.identity is not Identity.SCHEDULE)
    assert {one.kind for one in RIGHTS} == {IAM_ROLE, PERMISSION_SET}


def test_opener_with_a_closing_right_is_found() -> None:
    """Who opens cannot end, and who ends cannot open: neither holds the other's power."""
    by = {one: {right.action for right in RIGHTS if right.identity is one} for one in Identity}
    power = {"iam:PutRolePolicy", "iam:DeleteRolePolicy", "sso:DeleteAccountAssignment"}
    assert not by[Identity.OPENER] & power
    opening = {"sts:AssumeRole", "sso:CreateAccountAssignment", "scheduler:CreateSchedule"}
    assert not by[Identity.CLOSER] & (opening | {"iam:PassRole"})
    assert by[Identity.SCHEDULE] == {"sso:DeleteAccountAssignment", "sqs:SendMessage"}
    assert all(right.closing for right in RIGHTS if right.action in power)


def test_wildcard_resource_is_found() -> None:
    """Only what AWS binds to nothing is asked on `*`; open parts are names AWS gives."""
    asked = of_table((*BOTH, scp_ground()))
    assert {action for _, _, action, arn, _ in asked if arn == "*"} == {
        "cloudtrail:LookupEvents",
        "iam:GetAccountAuthorizationDetails",
        "sso:ListInstances",
    }
    assert {arn for *_, arn, _ in asked if "*" in arn} == {
        "*",
        *(
            f"arn:aws:iam::{account}:user/*"
            for account in {one.account for one in BOTH if one.roles}
        ),
        "arn:aws:identitystore:::membership/*",
        "arn:aws:identitystore:::user/*",
        "arn:aws:identitystore::*:identitystore/d-1234567890",
        "arn:aws:identitystore::*:identitystore/*",
        f"arn:aws:scheduler:eu-central-1:{HUB}:schedule/tidegate/tidegate-*",
        f"{SET.rpartition('/')[0]}/*",
    }


def scp_ground() -> Ground:
    """Identity Center with the deny in an SCP, and no schedules."""
    return Ground(
        account=HUB, sets=(SET,), assigned=(TARGET,), options=frozenset({Option.SCP}), scp=SCP
    )


def test_option_not_in_use_asks_for_nothing() -> None:
    """With the deny in an SCP no permission set is edited; without schedules no role is passed."""
    actions = {action for _, _, action, _, _ in of_table((scp_ground(),))}
    assert "organizations:UpdatePolicy" in actions
    assert not {one for one in actions if "PutInline" in one or one.startswith("scheduler:")}
    assert not actions & {"iam:PassRole", "sqs:SendMessage"}
    assert policy(scp_ground(), Identity.SCHEDULE) is None
    assert policy(ROLES, Identity.SCHEDULE) is None


def test_template_with_a_dangling_name_is_found() -> None:
    """Every Ref, condition and resource name of the template exists and is well formed."""
    template = json.loads(as_cloudformation(BOTH))
    assert template["AWSTemplateFormatVersion"] == "2010-09-09"
    known = {*template["Parameters"], *template["Resources"], "AWS::AccountId", "AWS::NoValue"}
    text = json.dumps(template)
    assert set(re.findall(r'"Ref": "([^"]+)"', text)) <= known
    assert set(re.findall(r'"Fn::If": \["([^"]+)"', text)) <= template["Conditions"].keys()
    for name, part in template["Resources"].items():
        assert name.isalnum()
        assert part.keys() == {"Type", "Condition", "Properties"}
        assert part["Condition"] in template["Conditions"]
    kinds = sorted(part["Type"] for part in template["Resources"].values())
    assert kinds == [
        *["AWS::IAM::Role"] * 5,
        "AWS::SQS::Queue",
        "AWS::Scheduler::ScheduleGroup",
    ]
    assert {part["Properties"].get("QueueName") for part in template["Resources"].values()} == {
        None,
        DEAD_LETTERS,
    }
    named = [part["Properties"].get("RoleName") for part in template["Resources"].values()]
    assert {one for one in named if one} == set(ROLE_NAMES.values())


def test_trust_that_lets_another_in_is_found() -> None:
    """A handed role trusts the opener alone, by our tags; the schedule's role trusts AWS for us."""
    trust: Any = trust_of_roles(ROLES)
    (one,) = trust["Statement"]
    assert one["Principal"] == {"AWS": f"arn:aws:iam::{TARGET}:role/TidegateOpener"}
    assert set(one["Action"]) == {"sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"}
    assert one["Condition"]["StringLike"]["aws:RequestTag/tidegate-grant"]
    template = json.loads(as_cloudformation(BOTH))
    schedule = template["Resources"][f"ScheduleIn{HUB}"]["Properties"]["AssumeRolePolicyDocument"]
    (one,) = schedule["Statement"]
    assert one["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert one["Condition"]["StringEquals"]["aws:SourceAccount"] == HUB
    told = template["Metadata"]["Tidegate"]["TrustOfHandedRoles"]
    assert [part["role"] for part in told] == [ADMIN, READER]


def test_serve_is_told_to_need_nothing() -> None:
    """The process that serves has no policy anywhere."""
    plain: Any = as_plain(BOTH)
    assert plain["identities"]["serve"]["policies"] == []
    assert "no identity" in plain["identities"]["serve"]["says"]
    assert not any(one.identity.value == "serve" for one in RIGHTS)


def test_policy_longer_than_aws_takes_is_refused() -> None:
    """More roles than a role's inline policies can name are refused with both numbers."""
    many = tuple(f"arn:aws:iam::{TARGET}:role/tidegate/{n:050d}" for n in range(150))
    with pytest.raises(AskedWrongly) as refused:
        policy(Ground(account=TARGET, roles=many), Identity.CLOSER)
    assert refused.value.code == "rights_too_long"
    assert str(LONGEST_INLINE) in refused.value.message


@pytest.mark.parametrize("text", ["", "x", SET[:-1], SET.replace("sso", "iam"), SET + "\n"])
def test_malformed_permission_set_is_refused(text: str) -> None:
    """A permission set's ARN names its instance; anything else is refused in words."""
    assert instance_of(SET) == INSTANCE
    with pytest.raises(AskedWrongly) as refused:
        instance_of(text)
    assert refused.value.code == "bad_permission_set"


def test_malformed_scp_is_refused() -> None:
    """Only the ARN or the id of a service control policy will do."""
    assert scp_arn(SCP, "aws") == SCP
    assert scp_arn("p-abcdefgh", "aws").endswith(":policy/o-*/service_control_policy/p-abcdefgh")
    for text in ("", "p-*", SCP.replace("service_control", "tag")):
        with pytest.raises(AskedWrongly) as refused:
            scp_arn(text, "aws")
        assert refused.value.code == "bad_scp"


def test_document_told_otherwise_is_found() -> None:
    """docs/connectors/aws.md lists exactly the rights of the table."""
    page = (ROOT / "docs" / "connectors" / "aws.md").read_text()
    section = page.partition("## What Tidegate needs\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!Identity|-)(.+) \|$", section, re.MULTILINE)
    told = []
    for one in RIGHTS:
        limits = f"; {one.condition[1]} = {one.condition[2]}" if one.condition else ""
        only = f" ({one.option.value})" if one.option else ""
        needs = "yes" if one.closing else ""
        told.append(
            f"{one.identity.value} | `{one.kind}` | `{one.action}` | {one.on.value}{limits} |"
            f" {one.why}{only} | {needs}".rstrip()
        )
    assert [row.rstrip() for row in rows] == told
    assert {on.value for on in On} <= {part for row in rows for part in re.split(r" \| |;", row)}
