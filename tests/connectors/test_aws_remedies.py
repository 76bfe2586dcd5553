"""The command with a side door takes that door away, and runs nothing else in a shell."""

import itertools
import json
import shlex
import subprocess
from datetime import timedelta
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from tests.connectors.conftest import START
from tidegate.base.when import parse_instant
from tidegate.connectors import aws_remedies
from tidegate.connectors.aws_remedies import LONGEST
from tidegate.connectors.aws_trail import CHANGES

ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
OWN = "arn:aws:iam::111122223333:policy/own"
ROLE = "arn:aws:iam::111122223333:role/team/ops"
SHOW = "aws cloudtrail lookup-events"
OLD, INSIDE = START - timedelta(days=9), START
NASTY = """-a b'c"d $(touch x) `y` ; & | > # \\"""

# What was asked of each call that leaves no date, and the whole command that undoes it.
UNDONE: dict[str, tuple[dict[str, str], str]] = {
    "UpdateAssumeRolePolicy": (
        {"roleName": "ops", "policyDocument": "{}"},
        "aws iam get-role --role-name ops && aws iam update-assume-role-policy --role-name ops "
        "--policy-document file://TRUST_FROM_BEFORE.json",
    ),
    "AttachUserPolicy": (
        {"userName": "eve", "policyArn": ADMIN},
        f"aws iam detach-user-policy --user-name eve --policy-arn {ADMIN}",
    ),
    "AttachRolePolicy": (
        {"roleName": "ops", "policyArn": ADMIN},
        f"aws iam detach-role-policy --role-name ops --policy-arn {ADMIN}",
    ),
    "AttachGroupPolicy": (
        {"groupName": "all", "policyArn": ADMIN},
        f"aws iam detach-group-policy --group-name all --policy-arn {ADMIN}",
    ),
    "PutUserPolicy": (
        {"userName": "eve", "policyName": "more", "policyDocument": "{}"},
        "aws iam delete-user-policy --user-name eve --policy-name more",
    ),
    "PutRolePolicy": (
        {"roleName": "ops", "policyName": "more", "policyDocument": "{}"},
        "aws iam delete-role-policy --role-name ops --policy-name more",
    ),
    "PutGroupPolicy": (
        {"groupName": "all", "policyName": "more", "policyDocument": "{}"},
        "aws iam delete-group-policy --group-name all --policy-name more",
    ),
    "AddUserToGroup": (
        {"groupName": "all", "userName": "eve"},
        "aws iam remove-user-from-group --group-name all --user-name eve",
    ),
    "SetDefaultPolicyVersion": (
        {"policyArn": OWN, "versionId": "v3"},
        f"aws iam list-policy-versions --policy-arn {OWN} && aws iam set-default-policy-version "
        f"--policy-arn {OWN} --version-id VERSION_FROM_BEFORE",
    ),
    "UpdateLoginProfile": (
        {"userName": "eve"},
        "aws iam delete-login-profile --user-name eve",
    ),
    "UpdateAccessKey": (
        {"userName": "eve", "accessKeyId": "AKIA1", "status": "Active"},
        "aws iam update-access-key --user-name eve --access-key-id AKIA1 --status Inactive",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_without_the_command_that_undoes_it(name: str) -> None:
    """Every change that is searched for comes with the whole command, by what was asked."""
    asked, command = UNDONE[name]
    assert aws_remedies.of_change(name, asked, SHOW) == command


@pytest.mark.parametrize("name", CHANGES)
def test_change_that_does_not_say_of_what_gets_half_a_command(name: str) -> None:
    """Without what it was asked of there is only the command that shows the event."""
    assert aws_remedies.of_change(name, {}, SHOW) == SHOW


def test_event_cannot_be_found_again() -> None:
    """The command that shows an event names it by its id, or by its name where it has none."""
    assert aws_remedies.of_event("e-1", "PutUserPolicy", "us-east-1") == (
        "aws cloudtrail lookup-events --region us-east-1 "
        "--lookup-attributes AttributeKey=EventId,AttributeValue=e-1"
    )
    assert aws_remedies.of_event("", "PutUserPolicy", "us-east-1").endswith("=PutUserPolicy")


def argv(command: str) -> list[list[str]]:
    """Each command of a chain as the words a program would get."""
    every: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word == "&&":
            every.append([])
        else:
            every[-1].append(word)
    return every


def value(words: list[str], option: str) -> str:
    """What `option` says, as the AWS command line reads it: a dash begins another option."""
    for at, word in enumerate(words):
        if word == option:
            assert not words[at + 1].startswith("-")
            return words[at + 1]
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    raise AssertionError(f"{option} in {words}")


@pytest.mark.parametrize("name", CHANGES)
def test_name_runs_as_a_command(name: str) -> None:
    """A name with quotes, spaces and a leading dash stays one word, whichever option has it."""
    asked = {key: text if key == "status" else NASTY for key, text in UNDONE[name][0].items()}
    last = argv(aws_remedies.of_change(name, asked, SHOW))[-1]
    plain = argv(UNDONE[name][1])[-1]
    options = [word for word in plain if word.startswith("--")]
    named = [one for one in options if one not in ("--status", "--policy-document", "--version-id")]
    assert named and [value(last, one) for one in named] == [NASTY] * len(named)
    assert len([word for word in last if word.startswith("--")]) == len(options)


def test_session_command_refuses_only_what_was_there_at_the_search() -> None:
    """The deny of a role's sessions carries the instant at which a shell runs it."""
    command = aws_remedies.of_session(ROLE, "111122223333", SHOW)
    shell = ["sh", "-c", 'aws() { printf "%s\\n" "$@"; }; ' + command]
    words = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[:6] == [
        *("iam", "put-role-policy", "--role-name", "ops"),
        *("--policy-name", "AWSRevokeOlderSessions"),
    ]
    assert words[6] == "--policy-document" and len(words) == 8
    (statement,) = json.loads(words[7])["Statement"]
    before = statement["Condition"]["DateLessThan"].pop("aws:TokenIssueTime")
    assert parse_instant(before) > START
    assert statement == {
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"DateLessThan": {}},
    }


def test_session_in_another_account_is_ended_with_the_wrong_keys() -> None:
    """A role of another account is for keys of that account; what is no role is only shown."""
    command = aws_remedies.of_session(ROLE, "999988887777", SHOW)
    assert command.endswith(" --profile OF_ACCOUNT_111122223333")
    longest = f"arn:aws:iam::111122223333:role/{'n' * 64}"
    assert len(aws_remedies.of_session(longest, "999988887777", SHOW)) <= LONGEST
    assert aws_remedies.of_session("arn:aws:iam::1:role/x", "", SHOW) == SHOW


def user(name: str = "eve", **hanging: Any) -> dict[str, Any]:
    """A user as IAM's account details tell of one."""
    return {"UserName": name, "Arn": f"arn:aws:iam::111122223333:user/{name}", **hanging}


def role(name: str = "ops", path: str = "/", **hanging: Any) -> dict[str, Any]:
    """A role, likewise."""
    arn = f"arn:aws:iam::111122223333:role{path}{name}"
    return {"RoleName": name, "Path": path, "Arn": arn, **hanging}


def policy(*versions: tuple[str, Any], default: str) -> dict[str, Any]:
    """A managed policy with the dates of its versions."""
    listed = [{"VersionId": one, "CreateDate": at} for one, at in versions]
    return {"Arn": OWN, "DefaultVersionId": default, "PolicyVersionList": listed}


def test_user_is_deleted_before_what_hangs_on_them() -> None:
    """Keys, password, policies and groups go first, the user last."""
    hanging: dict[str, Any] = {
        "AttachedManagedPolicies": [{"PolicyName": "A", "PolicyArn": "arn:aws:iam::aws:policy/A"}],
        "UserPolicyList": [{"PolicyName": "more"}],
        "GroupList": ["all"],
    }
    assert aws_remedies.of_user(user(**hanging), ["AKIA1"], password=True).split(" && ") == [
        "aws iam delete-access-key --user-name eve --access-key-id AKIA1",
        "aws iam delete-login-profile --user-name eve",
        "aws iam detach-user-policy --user-name eve --policy-arn arn:aws:iam::aws:policy/A",
        "aws iam delete-user-policy --user-name eve --policy-name more",
        "aws iam remove-user-from-group --group-name all --user-name eve",
        "aws iam delete-user --user-name eve",
    ]
    assert aws_remedies.of_user(user(), [], password=False) == "aws iam delete-user --user-name eve"


def test_user_whose_keys_were_not_read_is_called_bare() -> None:
    """Then the keys are listed first, and a place is left for them."""
    assert aws_remedies.of_user(user(), None, password=False) == (
        "aws iam list-access-keys --user-name eve && aws iam delete-access-key --user-name eve "
        "--access-key-id EACH_KEY_LISTED && aws iam delete-user --user-name eve"
    )


def test_command_is_cut_short() -> None:
    """Where too much hangs on a user or a role for one line, one command makes them harmless."""
    many = [{"PolicyName": str(n), "PolicyArn": ADMIN} for n in range(9)]
    for command in (
        aws_remedies.of_user(user(AttachedManagedPolicies=many), [], password=False),
        aws_remedies.of_role(role("eve", AttachedManagedPolicies=many)),
    ):
        assert command.startswith("aws iam attach-")
        assert command.endswith(" eve --policy-arn arn:aws:iam::aws:policy/AWSDenyAll")
    versions = [(f"v{n}", INSIDE) for n in range(2, 9)]
    assert aws_remedies.of_new_policy(policy(("v1", INSIDE), *versions, default="v1"), ()) == (
        f"aws iam list-entities-for-policy --policy-arn {OWN} && "
        f"aws iam delete-policy --policy-arn {OWN}"
    )
    assert changed(policy(("v1", OLD), *versions, default="v2")) == (
        f"aws iam set-default-policy-version --policy-arn {OWN} --version-id v1"
    )


def test_role_is_deleted_before_what_hangs_on_it() -> None:
    """Instance profiles and policies go first; what Identity Center or AWS made, by those."""
    hanging: dict[str, Any] = {
        "InstanceProfileList": [{"InstanceProfileName": "box"}],
        "AttachedManagedPolicies": [{"PolicyName": "A", "PolicyArn": ADMIN}],
        "RolePolicyList": [{"PolicyName": "more"}],
    }
    assert aws_remedies.of_role(role(**hanging)).split(" && ") == [
        "aws iam remove-role-from-instance-profile --instance-profile-name box --role-name ops",
        f"aws iam detach-role-policy --role-name ops --policy-arn {ADMIN}",
        "aws iam delete-role-policy --role-name ops --policy-name more",
        "aws iam delete-role --role-name ops",
    ]
    assert aws_remedies.of_role(role("X", "/aws-service-role/ecs.amazonaws.com/")) == (
        "aws iam delete-service-linked-role --role-name X"
    )
    center = aws_remedies.of_role(role("AWSReservedSSO_A_1", "/aws-reserved/sso.amazonaws.com/"))
    assert center.startswith("aws sso-admin delete-account-assignment --instance-arn INSTANCE ")
    assert "--target-id 111122223333 " in center


def test_new_policy_is_deleted_while_somebody_has_it() -> None:
    """It is taken off its holders and loses its other versions first."""
    made = policy(("v1", INSIDE), ("v2", INSIDE), default="v2")
    assert aws_remedies.of_new_policy(made, [("role", "ops"), ("group", "all")]).split(" && ") == [
        f"aws iam detach-role-policy --role-name ops --policy-arn {OWN}",
        f"aws iam detach-group-policy --group-name all --policy-arn {OWN}",
        f"aws iam delete-policy-version --policy-arn {OWN} --version-id v1",
        f"aws iam delete-policy --policy-arn {OWN}",
    ]


def changed(of: dict[str, Any]) -> str:
    """The command for a policy that was there before the window."""
    return aws_remedies.of_changed_policy(of, lambda at: at == INSIDE, lambda at: at == OLD)


@pytest.mark.parametrize(
    ("of", "commands"),
    [
        (
            policy(("v1", OLD), ("v2", INSIDE), default="v2"),
            ["set-default-policy-version v1", "delete-policy-version v2"],
        ),
        (  # made and never put in force: what is in force stays
            policy(("v1", OLD), ("v2", INSIDE), default="v1"),
            ["delete-policy-version v2"],
        ),
        (  # the one in force was deleted meanwhile: an older one may allow more
            policy(("v1", OLD), ("v3", INSIDE), default="v3"),
            [
                "list-policy-versions",
                "set-default-policy-version VERSION_FROM_BEFORE",
                "delete-policy-version v3",
            ],
        ),
        (  # which of two was in force is nobody's guess
            policy(("v1", OLD), ("v2", OLD), ("v3", INSIDE), default="v3"),
            [
                "list-policy-versions",
                "set-default-policy-version VERSION_FROM_BEFORE",
                "delete-policy-version v3",
            ],
        ),
        (  # the versions from before were deleted
            policy(("v2", INSIDE), default="v2"),
            ["create-policy-version file://POLICY_FROM_BEFORE.json", "delete-policy-version v2"],
        ),
        (
            {"Arn": OWN},
            ["list-policy-versions", "set-default-policy-version VERSION_FROM_BEFORE"],
        ),
    ],
)
def test_version_in_force_is_guessed(of: dict[str, Any], commands: list[str]) -> None:
    """The version from before comes back where it is known; else it is left to fill in."""
    told = []
    for words in argv(changed(of)):
        assert words[:2] == ["aws", "iam"] and value(words, "--policy-arn") == OWN
        options = ("--version-id", "--policy-document")
        told.append(" ".join([words[2], *(value(words, one) for one in options if one in words)]))
    assert told == commands


def test_key_and_password_have_their_commands() -> None:
    """Each by the user it belongs to."""
    assert aws_remedies.of_key("e v", "AKIA1") == (
        "aws iam delete-access-key --user-name 'e v' --access-key-id AKIA1"
    )
    assert aws_remedies.of_password("eve") == "aws iam delete-login-profile --user-name eve"


def test_command_is_none_of_the_aws_command_line() -> None:
    """Every verb and option is of AWS's own models, and nothing that it requires is left out."""
    many: dict[str, Any] = {"AttachedManagedPolicies": [{"PolicyArn": ADMIN}] * 9}
    hanging: dict[str, Any] = {
        "AttachedManagedPolicies": [{"PolicyArn": ADMIN}],
        "GroupList": ["all"],
    }
    profile: dict[str, Any] = {"InstanceProfileList": [{"InstanceProfileName": "box"}]}
    commands = [
        *(aws_remedies.of_change(name, asked, SHOW) for name, (asked, _) in UNDONE.items()),
        aws_remedies.of_event("e-1", "PutUserPolicy", "us-east-1"),
        aws_remedies.of_session(ROLE, "", SHOW),
        aws_remedies.of_user(user(**hanging), ["AKIA1"], password=True),
        aws_remedies.of_user(user(**many), None, password=False),
        aws_remedies.of_role(role(**profile)),
        aws_remedies.of_role(role(**many)),
        aws_remedies.of_role(role(path="/aws-reserved/sso.amazonaws.com/")),
        aws_remedies.of_role(role(path="/aws-service-role/ecs.amazonaws.com/")),
        aws_remedies.of_new_policy(policy(("v1", INSIDE), default="v1"), [("group", "all")]),
        changed(policy(("v1", OLD), ("v2", INSIDE), default="v2")),
        changed(policy(("v2", INSIDE), default="v2")),
    ]
    session = botocore.session.get_session()
    models = {one: session.get_service_model(one) for one in ("iam", "sso-admin", "cloudtrail")}
    for words in itertools.chain.from_iterable(argv(command) for command in commands):
        model = models[words[1]]
        verbs = {xform_name(one, "-"): one for one in model.operation_names}
        shape = model.operation_model(verbs[words[2]]).input_shape
        known = {xform_name(one, "-") for one in shape.members} | {"region", "profile"}
        given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
        assert given <= known, words
        assert {xform_name(one, "-") for one in shape.required_members} <= given, words
