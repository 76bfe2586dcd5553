"""The policy documents, without a cloud: their size, their end, what they close, how they read."""

import fnmatch
import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.connectors.conftest import START, hold_of
from tidegate.base.errors import AskedWrongly
from tidegate.base.ids import id_made_at
from tidegate.base.when import Instant, from_ms
from tidegate.catalogue import Role, Target
from tidegate.connectors.aws import AwsConnector, AwsSettings
from tidegate.connectors.aws_minting import ENDLESS, MINTING, denied_calls, longest_life
from tidegate.connectors.aws_policy import (
    LONGEST_SESSION_POLICY,
    CutList,
    covers,
    cut_document,
    parse_role_arn,
    read_cut,
    session_policy,
)
from tidegate.connectors.aws_probe import PROBES
from tidegate.connectors.port import Exposure

ACCOUNT = "123456789012"
TARGET = Target(id="aws-prod", connector="aws", account=ACCOUNT)
ADMIN = f"arn:aws:iam::{ACCOUNT}:role/admin"


def role_of(arn: str = ADMIN, **changes: object) -> Role:
    """A catalogue entry."""
    values: dict[str, object] = {"id": "aws-prod/admin", "kind": "iam-role", "native": {"arn": arn}}
    return Role(**{**values, **changes})  # type: ignore[arg-type]


def longest_role(number: int, path: str = "") -> str:
    """A role ARN with a name of IAM's full 64 characters."""
    return f"arn:aws:iam::{ACCOUNT}:role/{path}{number:02d}".ljust(31 + len(path) + 64, "x")


def statements(policy: str) -> list[dict[str, object]]:
    """The statements of a policy text."""
    found: list[dict[str, object]] = json.loads(policy)["Statement"]
    return found


def test_end_is_rounded_down_never_up() -> None:
    """A grant that ends at .999 is denied from the whole second before."""
    policy = session_policy(ends_at=START + timedelta(milliseconds=999), allows=(), protected=())
    condition = {"DateGreaterThanEquals": {"aws:CurrentTime": "2026-11-18T11:06:40Z"}}
    assert statements(policy)[1] == {
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": condition,
    }


def test_longest_ordinary_case_fits() -> None:
    """Ten roles with the longest names at path `/`, nothing allowed: within AWS's limit."""
    protected = [longest_role(number) for number in range(10)]
    policy = session_policy(ends_at=START, allows=(), protected=protected)
    assert len(policy) <= LONGEST_SESSION_POLICY
    assert set(json.loads(policy)["Statement"][3]["Resource"]) == set(protected)


def test_one_path_holds_any_number_of_roles() -> None:
    """Roles under one path are one pattern; a lone role under a path stays itself."""
    many = [longest_role(number, "tidegate/") for number in range(99)]
    alone = longest_role(1, "other/")
    policy = session_policy(ends_at=START, allows=(), protected=[*many, alone])
    shortened = [alone, f"arn:aws:iam::{ACCOUNT}:role/tidegate/*"]
    assert statements(policy)[3]["Resource"] == shortened


def test_policy_over_the_limit_is_refused_with_both_numbers() -> None:
    """Too many roles at path `/` is told as got and at most, never sent to be cut off."""
    protected = [longest_role(number) for number in range(20)]
    with pytest.raises(AskedWrongly) as wrong:
        session_policy(ends_at=START, allows=(), protected=protected)
    assert wrong.value.code == "session_policy_too_long"
    assert "2048" in wrong.value.message and "20 protected" in wrong.value.message


def test_splitting_a_pattern_is_the_longest_list() -> None:
    """Opening any one call leaves room for eight roles with the longest names."""
    protected = [longest_role(number) for number in range(8)]
    for call in MINTING:
        policy = session_policy(ends_at=START, allows=(call,), protected=protected)
        assert len(policy) <= LONGEST_SESSION_POLICY, call


def closes(denied: list[str], call: str) -> bool:
    """Whether one of the patterns covers `call`, as IAM compares them."""
    return any(fnmatch.fnmatchcase(call.lower(), pattern.lower()) for pattern in denied)


@settings(deadline=None, max_examples=50)
@given(st.sets(st.sampled_from(sorted(MINTING))))
def test_every_minting_call_is_open_or_denied(allows: set[str]) -> None:
    """A call is denied by exactly the calls the role does not open (with what those need)."""
    denied = denied_calls(allows)
    opened = allows | {need for call in allows for need in MINTING[call].needs}
    assert {call for call in MINTING if not closes(denied, call)} == opened


@pytest.mark.parametrize(
    "call",
    [
        "iam:DeleteAccessKey",
        "iam:DeleteLoginProfile",
        "iam:DeleteServiceSpecificCredential",
        "iam:DeleteSSHPublicKey",
        "iam:GetAccessKeyLastUsed",
        "iam:GetLoginProfile",
        "iam:ListAccessKeys",
        "iam:UpdateUser",
        "ecr:GetDownloadUrlForLayer",
        "ecs:DescribeTasks",
        "iot:DeleteCertificate",
        "s3express:CreateBucket",
        "ssm:GetParameter",
        "ssm:TerminateSession",
        "sts:GetCallerIdentity",
    ],
)
def test_pattern_closes_no_reading_or_cleaning_up(call: str) -> None:
    """Patterns are wide to be short, not so wide that an incident could not be answered."""
    assert not closes(denied_calls(()), call)


def test_unknown_allow_is_refused() -> None:
    """A misspelt call is not silently kept closed or opened."""
    with pytest.raises(AskedWrongly) as wrong:
        denied_calls(["ecr:GetAuthorisationToken"])
    assert wrong.value.code == "unknown_allow"


def test_exposure_grows_by_the_life_of_what_is_allowed() -> None:
    """An allowed ECR token adds twelve hours; an access key never ends by itself."""
    connector = AwsConnector({})
    target = TARGET
    assert connector.residual(target, role_of(), cut=False) == timedelta(0)
    plain = Exposure(attended=timedelta(seconds=60), unattended=timedelta(seconds=2))
    assert connector.exposure(target, role_of()) == plain
    ecr, half_day = role_of(allows=("ecr:GetAuthorizationToken",)), timedelta(hours=12)
    assert connector.residual(target, ecr, cut=True) == half_day
    assert connector.exposure(target, ecr) == Exposure(attended=half_day, unattended=half_day)
    chained = role_of(allows=("sts:AssumeRole",))
    assert connector.residual(target, chained, cut=True) == timedelta(hours=1)
    assert longest_life(["iam:CreateAccessKey", "sts:AssumeRole"]) == ENDLESS


def test_get_caller_identity_is_no_probe() -> None:
    """No deny stops it, so it can prove nothing."""
    assert not any("GetCallerIdentity" in call for call in PROBES)


@settings(deadline=None, max_examples=50)
@given(
    st.frozensets(st.text(alphabet="abcdefghjkmnpqrstvwxyz0123456789_", min_size=1), max_size=20),
    st.none() | st.integers(0, 4_000_000_000).map(lambda second: from_ms(second * 1_000)),
)
def test_cut_document_round_trips(grants: frozenset[str], before: Instant | None) -> None:
    """What is written reads back the same."""
    cuts = CutList(grants=grants, before=before)
    if grants or before is not None:
        assert read_cut(cut_document(cuts)) == cuts
        assert read_cut(json.loads(cut_document(cuts))) == cuts


@pytest.mark.parametrize(
    "change",
    [
        {"Effect": "Allow"},
        {"Action": "s3:*"},
        {"Resource": "arn:aws:s3:::none"},
        {"Condition": {"StringEquals": {"aws:PrincipalTag/tidegate-grant": ["g"], "a": "b"}}},
        {"Condition": {"StringNotEquals": {"aws:PrincipalTag/tidegate-grant": ["g"]}}},
        {"Principal": "*"},
    ],
)
def test_weakened_deny_does_not_count_as_a_cut(change: dict[str, object]) -> None:
    """A statement somebody narrowed reads as absent, so that it is put back."""
    document = json.loads(cut_document(CutList(grants=frozenset({"g"}))))
    document["Statement"][0] |= change
    assert read_cut(document) == CutList()


@settings(deadline=None, max_examples=50)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_foreign_document_reads_as_no_cut(document: object) -> None:
    """Whatever somebody wrote under our name, reading it does not fail."""
    assert read_cut(document) == CutList()
    assert read_cut({"Statement": document}) == CutList()


def test_issue_time_deny_covers_only_older_grants() -> None:
    """A grant made after the deny by issue time is never taken for cut by it."""
    target_role = role_of()
    older = hold_of(TARGET, target_role, START - timedelta(hours=1), START).grant
    younger = hold_of(TARGET, target_role, START + timedelta(hours=1), START).grant
    cuts = CutList(before=START)
    assert covers(cuts, older, id_made_at(older)) == "issue_time"
    assert covers(cuts, younger, id_made_at(younger)) == ""


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "admin",
        f"arn:aws:iam::{ACCOUNT}:user/admin",
        "arn:aws:iam::12345:role/admin",
        f"arn:aws:iam::{ACCOUNT}:role/",
        f"arn:aws:iam::{ACCOUNT}:role/a*",
        f"arn:aws:iam::{ACCOUNT}:role/{'a' * 65}",
        f"{ADMIN}\n",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/admin/x",
        f"arn:aws:iam::{ACCOUNT}:role/*/admin",
    ],
)
def test_malformed_role_arn_is_refused(arn: str) -> None:
    """Neither another kind of ARN nor a pattern passes for a role."""
    with pytest.raises(AskedWrongly):
        parse_role_arn(arn)


def check(role: Role, others: tuple[Role, ...] = (), **changes: object) -> str:
    """What `check` says, as one text."""
    values: dict[str, object] = {"region": "eu-west-1", "handed": (ADMIN,), **changes}
    connector = AwsConnector({"aws-prod": AwsSettings(**values)})  # type: ignore[arg-type]
    return "\n".join(connector.check(TARGET, role, others))


def test_check_passes_a_good_entry() -> None:
    """Nothing to say about an entry that works."""
    assert check(role_of(probe="iam:ListUsers", allows=("ssm:StartSession",))) == ""


@pytest.mark.parametrize(
    ("role", "told"),
    [
        (role_of("nonsense"), "expected a role ARN"),
        (role_of("arn:aws:iam::999999999999:role/admin"), "got one of `999999999999`"),
        (role_of(probe="sts:GetCallerIdentity"), "expected a probe of"),
        (role_of(allows=("s3:GetObject",)), "token-minting call"),
        (role_of(kind="permission-set"), "expected role kind `iam-role`"),
    ],
)
def test_check_tells_what_would_fail_later(role: Role, told: str) -> None:
    """Each wrong entry is told offline, before anyone asks for it."""
    assert told in check(role)


def test_check_measures_the_longest_case() -> None:
    """Roles of the same target count into the policy, whoever asks for which."""
    others = tuple(role_of(longest_role(number), id=f"aws-prod/r{number}") for number in range(20))
    handed = (ADMIN, *(other.native["arn"] for other in others))
    assert "at most 2048 characters" in check(role_of(), others, handed=handed)


def test_check_names_a_role_left_out_of_the_protected_ones() -> None:
    """A role handed out but not protected could be changed by holders of another."""
    other = role_of(f"arn:aws:iam::{ACCOUNT}:role/ops", id="aws-prod/ops")
    assert "not listed in `handed`" in check(role_of(), (other,))


def test_check_without_settings() -> None:
    """A target nobody configured is told, not crashed on."""
    assert "no" in "".join(AwsConnector({}).check(TARGET, role_of(), ()))


def test_settings_repr_shows_no_secret() -> None:
    """Settings may end in a log; keys may not."""
    shown = repr(AwsSettings(region="r", access_key_id="AK", secret_access_key="s3cr3t"))
    assert "s3cr3t" not in shown


def test_documented_calls_are_the_calls_of_the_tables() -> None:
    """The page a catalogue is written from names each call that can be opened or probed."""
    page = (Path(__file__).parents[2] / "docs" / "connectors" / "aws.md").read_text()
    missing = [call for call in (*MINTING, *PROBES) if f"`{call}`" not in page]
    assert missing == []
