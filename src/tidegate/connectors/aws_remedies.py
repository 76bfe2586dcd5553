"""The command that takes away what was made on AWS to come back by, ready for a shell. Pure.

What must go first comes first, where it is known. What nobody can know here (the trust from before,
which version was the default) stands in CAPITALS in the command, to be filled in. Names are what
somebody chose: each is quoted for the shell.

What hangs on a user, a role or a policy and keeps it from being deleted: IAM API Reference,
DeleteUser, DeleteRole, DeletePolicy. The end of a role's sessions: IAM User Guide, "Revoke IAM role
temporary security credentials".
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

# Characters: as many as the sealed event keeps of it. A command cut short could name another.
LONGEST = 400

# By the call that made a change: the command that undoes it, and the parameters it takes over.
_UNDO: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "AttachUserPolicy": ("detach-user-policy", ("userName", "policyArn")),
    "AttachRolePolicy": ("detach-role-policy", ("roleName", "policyArn")),
    "AttachGroupPolicy": ("detach-group-policy", ("groupName", "policyArn")),
    "PutUserPolicy": ("delete-user-policy", ("userName", "policyName")),
    "PutRolePolicy": ("delete-role-policy", ("roleName", "policyName")),
    "PutGroupPolicy": ("delete-group-policy", ("groupName", "policyName")),
    "AddUserToGroup": ("remove-user-from-group", ("groupName", "userName")),
    # Nobody knows the password from before: without one, nobody signs in with it.
    "UpdateLoginProfile": ("delete-login-profile", ("userName",)),
    "UpdateAccessKey": ("update-access-key", ("userName", "accessKeyId")),
}
_OPTIONS = {
    "userName": "user_name",
    "roleName": "role_name",
    "groupName": "group_name",
    "policyName": "policy_name",
    "policyArn": "policy_arn",
    "accessKeyId": "access_key_id",
}
# The policy by which AWS's own console ends a role's sessions. The shell puts the instant in as it
# runs, so that sessions taken since the search are refused too.
_NOW = """'"$(date -u +%Y-%m-%dT%H:%M:%SZ)"'"""
_REVOKE = (
    """'{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","""
    f""""Condition":{{"DateLessThan":{{"aws:TokenIssueTime":"{_NOW}"}}}}}}]}}'"""
)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/(?:[!-.0-~]+/)*([\w+=,.@-]{1,64})", re.A)
OF_CENTER = "/aws-reserved/sso.amazonaws.com/"  # the path of roles that Identity Center makes
_LINKED = "/aws-service-role/"  # the path of roles that only their service may let go of


def of_change(name: str, asked: Mapping[str, Any], show: str) -> str:
    """What undoes the change that `name` made with the parameters `asked`; `show` without them."""
    given = {_OPTIONS[one]: str(asked[one]) for one in _OPTIONS if asked.get(one)}
    if name == "UpdateAssumeRolePolicy" and "role_name" in given:
        role = given["role_name"]
        trust = "file://TRUST_FROM_BEFORE.json"
        return _fitting(
            iam("get-role", role_name=role),
            iam("update-assume-role-policy", role_name=role, policy_document=trust),
            otherwise=show,
        )
    if name == "SetDefaultPolicyVersion" and "policy_arn" in given:
        return _fitting(*_version_from_before(given["policy_arn"]), otherwise=show)
    verb, needs = _UNDO.get(name, ("", ()))
    options = {_OPTIONS[one]: given.get(_OPTIONS[one], "") for one in needs}
    if not options or not all(options.values()):
        return show
    more = " --status Inactive" if name == "UpdateAccessKey" else ""
    return _fitting(iam(verb, **options) + more, otherwise=show)


def of_session(role_arn: str, account: str, show: str) -> str:
    """What ends the sessions that a role of `role_arn` has by then; `show` where that is none.

    In another account than `account` it is for somebody who has keys there.
    """
    role = _ROLE.fullmatch(role_arn)
    if role is None:
        return show
    there, name = role.groups()
    profile = "" if account in ("", there) else f" --profile OF_ACCOUNT_{there}"
    command = iam("put-role-policy", role_name=name, policy_name="AWSRevokeOlderSessions")
    return f"{command} --policy-document {_REVOKE}{profile}"


def of_event(event: str, name: str, region: str) -> str:
    """What shows an event of the trail whose parameters do not say what was changed."""
    key, value = ("EventId", event) if event else ("EventName", name)
    attribute = shlex.quote(f"AttributeKey={key},AttributeValue={value}")
    where = shlex.quote(region)
    return f"aws cloudtrail lookup-events --region {where} --lookup-attributes {attribute}"


def of_key(user: str, key: str) -> str:
    """What takes an access key away."""
    return iam("delete-access-key", user_name=user, access_key_id=key)


def of_password(user: str) -> str:
    """What takes a password away."""
    return iam("delete-login-profile", user_name=user)


def of_user(user: Mapping[str, Any], keys: Sequence[str] | None, password: bool) -> str:
    """What deletes a user, and first what hangs on them. `keys` is None where it was not read.

    Where that is too much for one line, what makes them harmless.
    """
    name = str(user["UserName"])
    first = [of_key(name, key) for key in keys or ()]
    if keys is None:
        first = [iam("list-access-keys", user_name=name), of_key(name, "EACH_KEY_LISTED")]
    return _fitting(
        *first,
        *([of_password(name)] if password else ()),
        *_policies_off("user", name, user),
        *(
            iam("remove-user-from-group", group_name=str(group), user_name=name)
            for group in user.get("GroupList") or ()
        ),
        iam("delete-user", user_name=name),
        otherwise=_deny_all("user", name, str(user["Arn"])),
    )


def of_role(role: Mapping[str, Any]) -> str:
    """What deletes a role, and first what hangs on it; see `of_user`.

    Roles of Identity Center and of services are let go of by those.
    """
    name, path = str(role["RoleName"]), str(role.get("Path") or "/")
    if path.startswith(OF_CENTER):
        account = str(role["Arn"]).split(":")[4]
        return (
            "aws sso-admin delete-account-assignment --instance-arn INSTANCE "
            f"--permission-set-arn PERMISSION_SET --target-type AWS_ACCOUNT --target-id {account} "
            "--principal-type USER_OR_GROUP --principal-id WHO_HOLDS_IT"
        )
    if path.startswith(_LINKED):
        return iam("delete-service-linked-role", role_name=name)
    return _fitting(
        *(
            iam(
                "remove-role-from-instance-profile",
                instance_profile_name=str(profile["InstanceProfileName"]),
                role_name=name,
            )
            for profile in role.get("InstanceProfileList") or ()
        ),
        *_policies_off("role", name, role),
        iam("delete-role", role_name=name),
        otherwise=_deny_all("role", name, str(role["Arn"])),
    )


def of_new_policy(policy: Mapping[str, Any], holders: Iterable[tuple[str, str]]) -> str:
    """What deletes a managed policy, and first takes it off who has it: (`user`, name), …"""
    arn, default = str(policy["Arn"]), policy.get("DefaultVersionId")
    versions = [one["VersionId"] for one in policy.get("PolicyVersionList") or ()]
    return _fitting(
        *(
            iam(f"detach-{kind}-policy", **{f"{kind}_name": name}, policy_arn=arn)
            for kind, name in holders
        ),
        *(_version_off(arn, one) for one in versions if one != default),
        iam("delete-policy", policy_arn=arn),
        otherwise=_fitting(
            iam("list-entities-for-policy", policy_arn=arn),
            iam("delete-policy", policy_arn=arn),
            otherwise=iam("list-entities-for-policy", policy_arn=arn),
        ),
    )


def _number(version: str) -> int:
    """Versions are `v1` and so on; one that was in force may be deleted since, and leaves a gap."""
    digits = version[1:]
    return int(digits) if digits.isdecimal() else 0


def of_changed_policy(
    policy: Mapping[str, Any], inside: Callable[[object], bool], before: Callable[[object], bool]
) -> str:
    """What puts the version from before back, and takes away those made inside the window.

    Which version was the default is known only where there was one.
    """
    arn, default = str(policy["Arn"]), policy.get("DefaultVersionId")
    versions = policy.get("PolicyVersionList") or ()
    made = [str(one["VersionId"]) for one in versions if inside(one.get("CreateDate"))]
    old = [str(one["VersionId"]) for one in versions if before(one.get("CreateDate"))]
    if made and default not in made:
        back: tuple[str, ...] = ()
    elif len(old) == 1 and made and _number(old[0]) + 1 == min(map(_number, made)):
        back = (_default(arn, old[0]),)
    elif made and not old:
        policy_document = "file://POLICY_FROM_BEFORE.json"
        new = iam("create-policy-version", policy_arn=arn, policy_document=policy_document)
        back = (f"{new} --set-as-default",)
    else:
        back = _version_from_before(arn)
    short = _fitting(
        *(back or (_version_off(arn, made[0]),)), otherwise=_version_from_before(arn)[0]
    )
    return _fitting(*back, *(_version_off(arn, one) for one in made), otherwise=short)


def _policies_off(kind: str, name: str, detail: Mapping[str, Any]) -> Iterator[str]:
    """What takes every policy off a user or a role."""
    who = {f"{kind}_name": name}
    for one in detail.get("AttachedManagedPolicies") or ():
        yield iam(f"detach-{kind}-policy", **who, policy_arn=str(one["PolicyArn"]))
    for one in detail.get(f"{kind.title()}PolicyList") or ():
        yield iam(f"delete-{kind}-policy", **who, policy_name=str(one["PolicyName"]))


def _deny_all(kind: str, name: str, arn: str) -> str:
    """AWS's own policy that denies everything, on a user or a role."""
    policy = f"arn:{arn.split(':')[1]}:iam::aws:policy/AWSDenyAll"
    return iam(f"attach-{kind}-policy", **{f"{kind}_name": name}, policy_arn=policy)


def _version_from_before(arn: str) -> tuple[str, str]:
    return iam("list-policy-versions", policy_arn=arn), _default(arn, "VERSION_FROM_BEFORE")


def _default(arn: str, version: str) -> str:
    return iam("set-default-policy-version", policy_arn=arn, version_id=version)


def _version_off(arn: str, version: str) -> str:
    return iam("delete-policy-version", policy_arn=arn, version_id=version)


def _fitting(*commands: str, otherwise: str) -> str:
    """One after the other, each only if the one before it went through; `otherwise` if too long."""
    chain = " && ".join(commands)
    return chain if len(chain) <= LONGEST else otherwise


def iam(verb: str, **options: str) -> str:
    """One command of the AWS command line, safe to type: whoever made a thing chose its name."""
    words = [f"aws iam {verb}"]
    for option, value in options.items():
        # A value that begins with a dash would be read as another option.
        between = "=" if value.startswith("-") else " "
        words.append(f"--{option.replace('_', '-')}{between}{shlex.quote(value)}")
    return " ".join(words)
