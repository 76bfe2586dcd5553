"""What was made in an AWS account inside a window, by which somebody could come back after it.

Objects come from IAM's own listings, by the dates they carry. Changes of trust and of policies
carry none, so they come from CloudTrail's event history, where it may be read (`aws_trail.py`).
Neither says who: an object is "made inside the window", and by the holder only where the trail
names a session's key.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from tidegate.base.errors import Refused
from tidegate.base.when import from_ms, to_ms, wire
from tidegate.connectors import aws_remedies
from tidegate.connectors.aws_calls import Aws
from tidegate.connectors.aws_trail import MOST_PAGES, Told, Trail, Window
from tidegate.connectors.port import SideDoor, SideDoors

MOST_USERS = 500  # whose keys and passwords are asked for, a call or two each

LISTED = ("user", "role", "policy", "access_key", "login_profile")
_GONE = frozenset({"NoSuchEntity"})

Detail = Mapping[str, Any]  # one entry of the account's details, as IAM gives it


def look(aws: Aws, window: Window, wait: Callable[[float], None] = time.sleep) -> SideDoors:
    """Everything that can be looked through; what cannot is said. Changes nothing.

    `wait` takes seconds: CloudTrail is asked no faster than it answers.

    Raises:
        WorldFailed: IAM did not answer at all; worth asking again.
    """
    told = Told()
    users = _account(aws, window, told)
    if users is not None:
        _of_users(aws, window, users, told)
    again_at = Trail(aws, window, wait).look(told)
    return SideDoors(
        searched=tuple(dict.fromkeys(told.searched)),
        found=tuple(dict.fromkeys(told.found)),
        why_not=tuple(told.why_not),
        again=told.again,
        again_at=again_at,
    )


def _account(aws: Aws, window: Window, told: Told) -> list[Detail] | None:
    """Roles and policies made inside the window; every user. None: not readable.

    Users made inside it come first: of them most has to be known.
    """
    users: list[Detail] = []
    policies: list[Detail] = []
    holders: dict[str, list[tuple[str, str]]] = {}
    try:
        for page in _details(aws):
            users += page.get("UserDetailList", ())
            policies += page.get("Policies", ())
            for arn, who in _holders(page):
                holders.setdefault(arn, []).append(who)
            for role in page.get("RoleDetailList", ()):
                if window.holds(role.get("CreateDate")):
                    remedy = aws_remedies.of_role(role)
                    told.found.append(_door("role", role["Arn"], role["CreateDate"], remedy))
    except Refused as no:
        told.failed("users, roles, policies, keys, passwords", no)
        return None
    for policy in policies:
        told.found += _of_policy(window, policy, holders.get(str(policy["Arn"]), []))
    told.searched += ["user", "role", "policy"]
    return sorted(users, key=lambda user: not window.holds(user.get("CreateDate")))


def _holders(page: Detail) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each managed policy that somebody has, and who."""
    for kind in ("User", "Role", "Group"):
        for one in page.get(f"{kind}DetailList", ()):
            for policy in one.get("AttachedManagedPolicies") or ():
                yield str(policy["PolicyArn"]), (kind.lower(), str(one[f"{kind}Name"]))


def _of_policy(
    window: Window, policy: Detail, holders: list[tuple[str, str]]
) -> Iterator[SideDoor]:
    """A policy that was made or got a version inside the window."""
    at = policy.get("UpdateDate") or policy.get("CreateDate")
    if window.holds(policy.get("CreateDate")):
        remedy = aws_remedies.of_new_policy(policy, holders)
    elif window.holds(at):
        remedy = aws_remedies.of_changed_policy(policy, window.holds, window.begins_after)
    else:
        return
    yield _door("policy", policy["Arn"], at or policy["CreateDate"], remedy)


def _details(aws: Aws) -> Iterator[Mapping[str, Any]]:
    marker = ""
    for _ in range(MOST_PAGES):
        more = {"Marker": marker} if marker else {}
        page = aws.call(
            "iam",
            lambda iam, more=more: iam.get_account_authorization_details(  # type: ignore[misc]
                Filter=["User", "Role", "Group", "LocalManagedPolicy"], **more
            ),
            "iam:GetAccountAuthorizationDetails",
        ).body
        yield page
        marker = str(page.get("Marker") or "")
        if not page.get("IsTruncated") or not marker:
            return
    raise Refused("too_many", f"expected at most {MOST_PAGES} pages of account details, got more")


def _of_users(aws: Aws, window: Window, users: list[Detail], told: Told) -> None:
    """Users, access keys and passwords made inside the window, user by user."""
    if len(users) > MOST_USERS:
        left = len(users) - MOST_USERS
        told.why_not.append(f"access keys and passwords of {left} users: too many")
    read = 0
    try:
        for user in users[:MOST_USERS]:
            told.found += _of_user(aws, window, user)
            read += 1
    except Refused as no:
        told.failed("access keys and passwords", no)
    else:
        told.searched += ["access_key", "login_profile"]
    told.found += (
        _user_door(user, aws_remedies.of_user(user, None, password=False))
        for user in users[read:]
        if window.holds(user.get("CreateDate"))
    )


def _of_user(aws: Aws, window: Window, user: Detail) -> list[SideDoor]:
    """A user's keys and password made inside the window, and the user if made there too."""
    name = str(user["UserName"])
    keys = _one(aws, "list_access_keys", "iam:ListAccessKeys", name).get("AccessKeyMetadata", ())
    profile = _one(aws, "get_login_profile", "iam:GetLoginProfile", name).get("LoginProfile") or {}
    found = []
    if window.holds(user.get("CreateDate")):
        ids = [str(key["AccessKeyId"]) for key in keys]
        remedy = aws_remedies.of_user(user, ids, password=bool(profile))
        found.append(_user_door(user, remedy))
    for key in keys:
        if window.holds(key.get("CreateDate")):
            what = str(key["AccessKeyId"])
            remedy = aws_remedies.of_key(name, what)
            found.append(_door("access_key", f"{name}/{what}", key["CreateDate"], remedy))
    if window.holds(profile.get("CreateDate")):
        remedy = aws_remedies.of_password(name)
        found.append(_door("login_profile", name, profile["CreateDate"], remedy))
    return found


def _one(aws: Aws, verb: str, what: str, name: str) -> Mapping[str, Any]:
    """One call about one user; empty when that is not there, or not any more."""
    try:
        return aws.call("iam", lambda iam: getattr(iam, verb)(UserName=name), what).body
    except Refused as no:
        if getattr(no, "aws_code", "") in _GONE:
            return {}
        raise


def _user_door(user: Detail, remedy: str) -> SideDoor:
    return _door("user", user["Arn"], user["CreateDate"], remedy)


def _door(sort: str, what: object, at: datetime, remedy: str) -> SideDoor:
    made = from_ms(to_ms(at))
    return SideDoor(
        sort=sort,
        what=str(what),
        at=made,
        says=f"{sort.replace('_', ' ')} made at {wire(made)}, inside the window",
        remedy=remedy,
    )
