"""What was made in an AWS account inside a window, by which somebody could come back after it.

Objects come from IAM's own listings, by the dates they carry. Changes of trust and of policies
carry none, so they come from CloudTrail's event history, where it may be read. Neither says who: an
object is "made inside the window", and by the holder only where the trail names a session's key.

CloudTrail delivers usually within 15 minutes (AWS CloudTrail User Guide, "How CloudTrail works"),
so the trail is not believed to be complete before that.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tidegate.base.errors import Refused
from tidegate.base.when import Instant, from_ms, to_ms, wire
from tidegate.connectors.aws_calls import Aws
from tidegate.connectors.aws_policy import CUT_POLICY
from tidegate.connectors.port import SideDoor, SideDoors

TRAIL_LATE = timedelta(minutes=15)
MOST_PAGES = 200  # of account details and of the trail: 100 roles or 50 events a page
MOST_USERS = 500  # whose keys and passwords are asked for, a call or two each
MARGIN = timedelta(seconds=2)  # IAM dates have whole seconds, and its clock is its own

LISTED = ("user", "role", "policy", "access_key", "login_profile")
# Changes that leave no date on any object, by the call that makes them.
CHANGES: Mapping[str, str] = {
    "UpdateAssumeRolePolicy": "trust_edit",
    "AttachUserPolicy": "policy_attachment",
    "AttachRolePolicy": "policy_attachment",
    "AttachGroupPolicy": "policy_attachment",
    "PutUserPolicy": "inline_policy",
    "PutRolePolicy": "inline_policy",
    "PutGroupPolicy": "inline_policy",
    "AddUserToGroup": "group_membership",
    "SetDefaultPolicyVersion": "policy",
    "UpdateLoginProfile": "login_profile",
}
_CHAINED = "chained_session"
_GONE = frozenset({"NoSuchEntity"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When, by which sessions' keys, and of which account."""

    since: Instant
    until: Instant
    keys: tuple[str, ...]
    now: Instant

    def holds(self, at: object) -> bool:
        """Whether a date of AWS falls into it."""
        return isinstance(at, datetime) and self.since - MARGIN <= at <= self.until + MARGIN


def look(aws: Aws, window: Window) -> SideDoors:
    """Everything that can be looked through; what cannot is said. Changes nothing.

    Raises:
        WorldFailed: AWS did not answer at all; worth asking again.
    """
    found: list[SideDoor] = []
    searched: list[str] = []
    why_not: list[str] = []
    users = _account(aws, window, found, searched, why_not)
    if users is not None:
        _of_users(aws, window, users, found, searched, why_not)
    again_at = _of_trail(aws, window, found, searched, why_not)
    return SideDoors(
        searched=tuple(dict.fromkeys(searched)),
        found=tuple(dict.fromkeys(found)),
        why_not=tuple(why_not),
        again_at=again_at,
    )


def _account(
    aws: Aws, window: Window, found: list[SideDoor], searched: list[str], why_not: list[str]
) -> list[str] | None:
    """Users, roles and policies made inside the window; every user's name. None: not readable."""
    users: list[str] = []
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
        why_not.append(f"users, roles, policies, keys, passwords: {no.code}: {no.message}")
        return None
    searched += ["user", "role", "policy"]
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


def _of_users(
    aws: Aws,
    window: Window,
    users: list[str],
    found: list[SideDoor],
    searched: list[str],
    why_not: list[str],
) -> None:
    """Access keys and passwords made inside the window, user by user."""
    if len(users) > MOST_USERS:
        why_not.append(f"access keys and passwords of {len(users) - MOST_USERS} users: too many")
    try:
        for name in users[:MOST_USERS]:
            found += _keys_of(aws, window, name)
            found += _password_of(aws, window, name)
    except Refused as no:
        why_not.append(f"access keys and passwords: {no.code}: {no.message}")
        return
    searched += ["access_key", "login_profile"]


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


def _of_trail(
    aws: Aws, window: Window, found: list[SideDoor], searched: list[str], why_not: list[str]
) -> Instant | None:
    """Changes the trail names; when it is worth reading again, None when it is complete or shut."""
    complete_at = window.until + TRAIL_LATE
    try:
        for name, sort in (*CHANGES.items(), ("AssumeRole", _CHAINED)):
            for event in _events(aws, window, name):
                door = _of_event(event, name, sort, window)
                if door is not None:
                    found.append(door)
    except Refused as no:
        why_not.append(f"changes of trust and policies, chained sessions: {no.code}: {no.message}")
        return None
    searched += [*CHANGES.values(), _CHAINED]
    return complete_at if window.now < complete_at else None


def _events(aws: Aws, window: Window, name: str) -> Iterator[Mapping[str, Any]]:
    token = ""
    for _ in range(MOST_PAGES):
        more = {"NextToken": token} if token else {}
        page = aws.call(
            "cloudtrail",
            lambda trail, more=more: trail.lookup_events(  # type: ignore[misc]
                LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": name}],
                StartTime=window.since - MARGIN,
                EndTime=window.until + MARGIN,
                **more,
            ),
            "cloudtrail:LookupEvents",
        ).body
        yield from page.get("Events", ())
        token = str(page.get("NextToken") or "")
        if not token:
            return
    raise Refused("too_many", f"expected at most {MOST_PAGES} pages of `{name}`, got more")


def _of_event(event: Mapping[str, Any], name: str, sort: str, window: Window) -> SideDoor | None:
    try:
        told = json.loads(event.get("CloudTrailEvent") or "{}")
    except ValueError:
        told = {}
    if told.get("errorCode"):
        return None
    asked = told.get("requestParameters") or {}
    key = str((told.get("userIdentity") or {}).get("accessKeyId") or "")
    ours = bool(key) and key in window.keys
    if sort == _CHAINED and not ours:
        return None
    if name == "PutRolePolicy" and asked.get("policyName") == CUT_POLICY:
        return None  # our own deny
    named = [str(asked[one]) for one in _NAMED if asked.get(one)]
    what = "/".join([name, *named]) or name
    says = f"{sort.replace('_', ' ')} made inside the window"
    return SideDoor(
        sort=sort,
        what=what[:400],
        at=event.get("EventTime") if isinstance(event.get("EventTime"), datetime) else None,
        says=f"{says} by its session {key}" if ours else says,
        remedy=_REMEDY.get(sort, "look at it in the IAM console"),
        by=key if ours else "",
    )


_NAMED = ("userName", "roleName", "groupName", "policyName", "policyArn", "roleArn")
_REMEDY = {
    "trust_edit": "aws iam update-assume-role-policy with the trust from before",
    "policy_attachment": "aws iam detach-{user,role,group}-policy for what is named",
    "inline_policy": "aws iam delete-{user,role,group}-policy for what is named",
    "group_membership": "aws iam remove-user-from-group for what is named",
    "policy": "aws iam set-default-policy-version with the version before",
    _CHAINED: "a chained session lives an hour at most: deny the role's sessions before now",
}


def _door(sort: str, what: object, at: datetime, remedy: str) -> SideDoor:
    made = from_ms(to_ms(at))
    return SideDoor(
        sort=sort,
        what=str(what),
        at=made,
        says=f"{sort.replace('_', ' ')} made at {wire(made)}, inside the window",
        remedy=remedy,
    )
