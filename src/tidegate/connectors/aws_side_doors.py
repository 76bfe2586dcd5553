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
from tidegate.connectors.aws_calls import Aws
from tidegate.connectors.aws_trail import MOST_PAGES, Told, Trail, Window
from tidegate.connectors.port import SideDoor, SideDoors

MOST_USERS = 500  # whose keys and passwords are asked for, a call or two each

LISTED = ("user", "role", "policy", "access_key", "login_profile")
_GONE = frozenset({"NoSuchEntity"})


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


def _account(aws: Aws, window: Window, told: Told) -> list[str] | None:
    """Users, roles and policies made inside the window; every user's name. None: not readable."""
    users: list[str] = []
    found = told.found
    try:
        for page in _details(aws):
            for user in page.get("UserDetailList", ()):
                users.append(str(user["UserName"]))
                if window.holds(user.get("CreateDate")):
                    remedy = f"aws iam delete-user --user-name {user['UserName']}"
                    found.append(_door("user", user["Arn"], user["CreateDate"], remedy))
            for role in page.get("RoleDetailList", ()):
                if window.holds(role.get("CreateDate")):
                    remedy = f"aws iam delete-role --role-name {role['RoleName']}"
                    found.append(_door("role", role["Arn"], role["CreateDate"], remedy))
            for policy in page.get("Policies", ()):
                at = policy.get("UpdateDate") or policy.get("CreateDate")
                if window.holds(at):
                    remedy = f"aws iam list-policy-versions --policy-arn {policy['Arn']}"
                    found.append(_door("policy", policy["Arn"], at, remedy))
    except Refused as no:
        told.failed("users, roles, policies, keys, passwords", no)
        return None
    told.searched += ["user", "role", "policy"]
    return users


def _details(aws: Aws) -> Iterator[Mapping[str, Any]]:
    marker = ""
    for _ in range(MOST_PAGES):
        more = {"Marker": marker} if marker else {}
        page = aws.call(
            "iam",
            lambda iam, more=more: iam.get_account_authorization_details(  # type: ignore[misc]
                Filter=["User", "Role", "LocalManagedPolicy"], **more
            ),
            "iam:GetAccountAuthorizationDetails",
        ).body
        yield page
        marker = str(page.get("Marker") or "")
        if not page.get("IsTruncated") or not marker:
            return
    raise Refused("too_many", f"expected at most {MOST_PAGES} pages of account details, got more")


def _of_users(aws: Aws, window: Window, users: list[str], told: Told) -> None:
    """Access keys and passwords made inside the window, user by user."""
    if len(users) > MOST_USERS:
        left = len(users) - MOST_USERS
        told.why_not.append(f"access keys and passwords of {left} users: too many")
    try:
        for name in users[:MOST_USERS]:
            told.found += _keys_of(aws, window, name)
            told.found += _password_of(aws, window, name)
    except Refused as no:
        told.failed("access keys and passwords", no)
        return
    told.searched += ["access_key", "login_profile"]


def _keys_of(aws: Aws, window: Window, name: str) -> Iterator[SideDoor]:
    keys = _one(aws, "list_access_keys", "iam:ListAccessKeys", name)
    for key in keys.get("AccessKeyMetadata", ()):
        if window.holds(key.get("CreateDate")):
            what = str(key["AccessKeyId"])
            remedy = f"aws iam delete-access-key --user-name {name} --access-key-id {what}"
            yield _door("access_key", f"{name}/{what}", key["CreateDate"], remedy)


def _password_of(aws: Aws, window: Window, name: str) -> Iterator[SideDoor]:
    profile = _one(aws, "get_login_profile", "iam:GetLoginProfile", name).get("LoginProfile") or {}
    if window.holds(profile.get("CreateDate")):
        remedy = f"aws iam delete-login-profile --user-name {name}"
        yield _door("login_profile", name, profile["CreateDate"], remedy)


def _one(aws: Aws, verb: str, what: str, name: str) -> Mapping[str, Any]:
    """One call about one user; empty when that is not there, or not any more."""
    try:
        return aws.call("iam", lambda iam: getattr(iam, verb)(UserName=name), what).body
    except Refused as no:
        if getattr(no, "aws_code", "") in _GONE:
            return {}
        raise


def _door(sort: str, what: object, at: datetime, remedy: str) -> SideDoor:
    made = from_ms(to_ms(at))
    return SideDoor(
        sort=sort,
        what=str(what),
        at=made,
        says=f"{sort.replace('_', ' ')} made at {wire(made)}, inside the window",
        remedy=remedy,
    )
