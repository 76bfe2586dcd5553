"""Who may do everything in an AWS account, whoever gave it, as the account's own details tell it.

A policy that allows every action on every resource counts, whatever its conditions. What may take
that away again is not asked: denies, permissions boundaries, SCPs. Nor is power that takes a way
round: `iam:*`, `NotAction`, rights put together from several statements.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tidegate.base.errors import AskedWrongly, Refused, Unknown
from tidegate.connectors.aws_calls import Aws
from tidegate.connectors.aws_policy import parse_role_arn
from tidegate.connectors.aws_remedies import iam
from tidegate.connectors.port import Administrator

# Of users, roles, groups and policies. A page is answered well within READ_TIMEOUT with the
# documents in it, and most accounts have one or two.
PAGE = 300
ALL_KINDS = ("User", "Role", "Group", "LocalManagedPolicy")
MOST_PAGES = 200  # more than IAM's highest quotas come to, also in pages that are not full
MOST_WAYS = 5  # commands in one finding: what is left is told by the next look
# The one managed policy of AWS's own that allows everything; their documents are not read.
_AWS_OWN = re.compile(r"arn:[a-z-]+:iam::aws:policy/AdministratorAccess")
# Roles that AWS makes and only AWS can change: no person gave them, and none can take them away.
_BY_AWS = ("/aws-service-role/", "/aws-reserved/sso.amazonaws.com/")
_EVERY_ACTION = re.compile(r"[*?:]*\*[*?:]*")
_EVERY_IAM = re.compile(r"(?i:iam):[*?]*\*[*?]*")
_EVERY_RESOURCE = re.compile(r"(arn:(aws[a-z-]*:)?)?[*?:]*\*[*?:]*")

Detail = Mapping[str, Any]
Named = tuple[str, str]  # what it is (`user`, `role`), and its name, which is its own in an account
Way = tuple[str, str]  # by what it may do everything, and the command that takes that away


@dataclass(slots=True)
class _Account:
    """What the pages tell together: a policy may come pages after whom it is attached to."""

    users: list[Detail] = field(default_factory=list)
    groups: list[Detail] = field(default_factory=list)
    roles: list[Detail] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)  # ARNs of its own policies that allow everything


def look(aws: Aws, ours: frozenset[Named]) -> tuple[Administrator, ...]:
    """Every user, role and group that may do everything, but `ours` and AWS's own roles.

    Raises:
        WorldFailed: AWS did not let us look, or did not tell all. Never a part for the whole.
    """
    account = _read(aws)
    found: list[Administrator] = []
    groups: dict[str, list[Way]] = {}
    for group in account.groups:
        name, ways = str(group["GroupName"]), _ways("group", group, account.whole)
        if ways:
            groups[name] = ways
            found.append(_told("group", group, ways))
    for user in account.users:
        name, ways = str(user["UserName"]), _ways("user", user, account.whole)
        for group in user.get("GroupList", ()):
            if group in groups:
                remedy = iam("remove-user-from-group", group_name=group, user_name=name)
                ways.append((f"group `{group}`", remedy))
        if ways and ("user", name) not in ours:
            found.append(_told("user", user, ways))
    for role in account.roles:
        name, ways = str(role["RoleName"]), _ways("role", role, account.whole)
        by_aws = str(role.get("Path", "")).startswith(_BY_AWS)
        if ways and not by_aws and ("role", name) not in ours:
            found.append(_told("role", role, ways))
    return tuple(found)


def roles_in(arns: Iterable[str], account: str) -> Iterator[Named]:
    """Which of these ARNs are roles of the account; what is none is told by `check`."""
    for text in arns:
        try:
            arn = parse_role_arn(text)
        except AskedWrongly:
            continue
        if arn.account == account:
            yield ("role", arn.name)


def caller(aws: Aws, account: str) -> Iterator[Named]:
    """Whom AWS takes us for, as the user or the role it is. Nobody for the account's root.

    Raises:
        Refused: `other_account`: what we would be told is another account's.
        WorldFailed: AWS did not answer.
    """
    reply = aws.call("sts", lambda sts: sts.get_caller_identity(), "sts:GetCallerIdentity")
    seen, arn = str(reply.body.get("Account", "")), str(reply.body.get("Arn", ""))
    if seen != account:
        raise Refused(
            "other_account",
            f"expected Tidegate's identity in account `{account}`, got one of `{seen}`",
            "use an identity of that account",
        )
    sort, _, rest = arn.rpartition(":")[2].partition("/")
    if sort == "assumed-role":
        yield ("role", rest.partition("/")[0])
    elif sort == "user":
        yield ("user", rest.rpartition("/")[2])


def policies_that_administer(aws: Aws) -> frozenset[str]:
    """ARNs of the account's customer managed policies that `administers` is true of.

    Raises:
        WorldFailed: as `look`.
    """
    found = (
        one for page in _pages(aws, ("LocalManagedPolicy",)) for one in page.get("Policies", ())
    )
    return frozenset(str(one["Arn"]) for one in found if _in_force(one, administers))


def allows_everything(document: object) -> bool:
    """Whether a statement of the policy allows every action on every resource.

    One that cannot be read does: what is not understood is told, never passed by.
    """
    return _allows(document, _EVERY_ACTION)


def administers(document: object) -> bool:
    """Whether it allows everything, or every action of IAM on every resource: that gives the rest.

    One that cannot be read does.
    """
    return _allows(document, _EVERY_ACTION) or _allows(document, _EVERY_IAM)


def _allows(document: object, action: re.Pattern[str]) -> bool:
    if isinstance(document, str):
        try:
            document = json.loads(unquote(document))
        except ValueError:
            return True
    if not isinstance(document, dict):
        return True
    return any(_is_whole(one, action) for one in _many(document.get("Statement")))


def _is_whole(statement: object, action: re.Pattern[str]) -> bool:
    if not isinstance(statement, dict) or statement.get("Effect") != "Allow":
        return False
    actions, resources = _many(statement.get("Action")), _many(statement.get("Resource"))
    return any(action.fullmatch(str(one)) for one in actions) and any(
        _EVERY_RESOURCE.fullmatch(str(one)) for one in resources
    )


def _ways(sort: str, detail: Detail, whole: set[str]) -> list[Way]:
    """By which of its own policies it may do everything."""
    kind, ways = sort.title(), list[Way]()
    of = {f"{sort}_name": str(detail[f"{kind}Name"])}
    for policy in detail.get("AttachedManagedPolicies", ()):
        arn = str(policy["PolicyArn"])
        if arn in whole or _AWS_OWN.fullmatch(arn):
            remedy = iam(f"detach-{sort}-policy", **of, policy_arn=arn)
            ways.append((f"policy `{policy['PolicyName']}`", remedy))
    for policy in detail.get(f"{kind}PolicyList", ()):
        if allows_everything(policy.get("PolicyDocument")):
            name = str(policy["PolicyName"])
            remedy = iam(f"delete-{sort}-policy", **of, policy_name=name)
            ways.append((f"inline policy `{name}`", remedy))
    return ways


def _told(sort: str, detail: Detail, ways: Sequence[Way]) -> Administrator:
    first = sorted(ways)[:MOST_WAYS]  # in whatever order AWS tells them, it is the same finding
    by = ", ".join(one for one, _ in first)
    return Administrator(
        sort=sort,
        what=str(detail["Arn"]),
        says=f"{sort} `{detail[f'{sort.title()}Name']}` may do everything in the account by {by}",
        remedy=" && ".join(remedy for _, remedy in first),
    )


def _read(aws: Aws) -> _Account:
    account = _Account()
    for page in _pages(aws):
        account.users += page.get("UserDetailList", ())
        account.groups += page.get("GroupDetailList", ())
        account.roles += page.get("RoleDetailList", ())
        for policy in page.get("Policies", ()):
            if _in_force(policy, allows_everything):
                account.whole.add(str(policy["Arn"]))
    return account


def _in_force(policy: Detail, is_so: Callable[[object], bool]) -> bool:
    versions = policy.get("PolicyVersionList", ())
    return any(is_so(one.get("Document")) for one in versions if one.get("IsDefaultVersion"))


def _pages(aws: Aws, kinds: Sequence[str] = ALL_KINDS) -> Iterator[Detail]:
    more: dict[str, str] = {}
    for _ in range(MOST_PAGES):
        page = aws.call(
            "iam",
            lambda iam, more=more: iam.get_account_authorization_details(  # type: ignore[misc]
                Filter=list(kinds), MaxItems=PAGE, **more
            ),
            "iam:GetAccountAuthorizationDetails",
        ).body
        if "IsTruncated" not in page:
            raise Unknown(
                "bad_answer",
                "expected `IsTruncated` in the answer, got none: there may be more",
                "look whether a proxy in between answers for AWS",
            )
        yield page
        if not page["IsTruncated"]:
            return
        more = {"Marker": str(page["Marker"])}
    raise Refused("too_many", f"expected at most {MOST_PAGES} pages of account details, got more")


def _many(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
