"""identitystore: people, groups and memberships.

Sources: Identity Store API Reference, DescribeUser, GetUserId (unique attributes `userName` and
`emails.value`, or an ExternalId), ListUsers, ListGroups, ListGroupMembershipsForMember,
ListGroupMemberships, CreateUser, CreateGroup, CreateGroupMembership, DeleteUser. DeleteUser leaves
the person's account assignments where they are (IAM Identity Center User Guide, "Delete users").
"""

from __future__ import annotations

from tidegate_standin.cloud import IDENTITY_STORE_ID, Group, Json, User, store_id
from tidegate_standin.errors import Refusal
from tidegate_standin.rights import guard_instance
from tidegate_standin.service import Call, Operation, page

_REVISION = "1"


def _arn(kind: str, identifier: str) -> str:
    return f"arn:aws:identitystore:::{kind}/{identifier}"


def _check_store(call: Call) -> None:
    if call.params["IdentityStoreId"] != IDENTITY_STORE_ID:
        raise Refusal("ResourceNotFoundException", "the identity store does not exist")
    guard_instance(call.cloud, call.account)


def _id(value: str) -> str:
    return value.rpartition("/")[2]


def _user(call: Call, user_id: str) -> User:
    _check_store(call)
    found = call.cloud.users.get(_id(user_id))
    if found is None:
        raise Refusal(
            "ResourceNotFoundException",
            f"user {user_id} does not exist",
            extra={"ResourceType": "USER"},
        )
    return found


def _group(call: Call, group_id: str) -> Group:
    _check_store(call)
    found = call.cloud.groups.get(_id(group_id))
    if found is None:
        raise Refusal(
            "ResourceNotFoundException",
            f"group {group_id} does not exist",
            extra={"ResourceType": "GROUP"},
        )
    return found


def _user_shown(user: User) -> Json:
    shown: Json = {
        "IdentityStoreId": IDENTITY_STORE_ID,
        "UserId": user.user_id,
        "UserArn": _arn("user", user.user_id),
        "Revision": _REVISION,
        "UserName": user.user_name,
        "DisplayName": user.display_name,
        "Name": {"GivenName": user.display_name, "FamilyName": user.display_name},
        "UserStatus": "ENABLED" if user.enabled else "DISABLED",
    }
    if user.email:
        shown["Emails"] = [{"Value": user.email, "Type": "work", "Primary": True}]
    if user.external_id:
        shown["ExternalIds"] = [{"Issuer": user.external_issuer, "Id": user.external_id}]
    return shown


def _group_shown(group: Group) -> Json:
    return {
        "IdentityStoreId": IDENTITY_STORE_ID,
        "GroupId": group.group_id,
        "GroupArn": _arn("group", group.group_id),
        "Revision": _REVISION,
        "DisplayName": group.name,
    }


def _membership_shown(group: Group, user_id: str) -> Json:
    membership = group.members[user_id]
    return {
        "IdentityStoreId": IDENTITY_STORE_ID,
        "MembershipId": membership,
        "MembershipArn": _arn("membership", membership),
        "GroupId": group.group_id,
        "MemberId": {"UserId": user_id},
    }


def _describe_user(call: Call) -> Json:
    return _user_shown(_user(call, call.params["UserId"]))


def _attribute(user: User, path: str) -> str:
    values = {
        "username": user.user_name,
        "emails.value": user.email,
        "externalids.id": user.external_id,
    }
    if path.lower() not in values:
        raise Refusal("ValidationException", f"AttributePath {path} is not served")
    return values[path.lower()]


def _get_user_id(call: Call) -> Json:
    _check_store(call)
    asked = call.params["AlternateIdentifier"]
    if "ExternalId" in asked:
        wanted = asked["ExternalId"]
        found = [
            u
            for u in call.cloud.users.values()
            if u.external_id
            and (u.external_issuer, u.external_id) == (wanted["Issuer"], wanted["Id"])
        ]
    else:
        unique = asked["UniqueAttribute"]
        value = str(unique["AttributeValue"]).lower()
        users = call.cloud.users.values()
        found = [u for u in users if _attribute(u, unique["AttributePath"]).lower() == value]
    if not found:
        raise Refusal("ResourceNotFoundException", "USER not found", extra={"ResourceType": "USER"})
    user = found[0]
    return {
        "IdentityStoreId": IDENTITY_STORE_ID,
        "UserId": user.user_id,
        "UserArn": _arn("user", user.user_id),
    }


def _list_users(call: Call) -> Json:
    _check_store(call)
    users = sorted(call.cloud.users.values(), key=lambda u: u.user_name)
    for wanted in call.params.get("Filters", []):
        value = wanted["AttributeValue"]
        users = [u for u in users if _attribute(u, wanted["AttributePath"]) == value]
    return page(call, "Users", [_user_shown(u) for u in users])


def _delete_user(call: Call) -> Json:
    user = _user(call, call.params["UserId"])
    del call.cloud.users[user.user_id]
    for group in call.cloud.groups.values():
        group.members.pop(user.user_id, None)
    return {}


def _create_user(call: Call) -> Json:
    _check_store(call)
    params = call.params
    name = params.get("UserName", "")
    if not name:
        raise Refusal("ValidationException", "UserName is required")
    if any(u.user_name.lower() == name.lower() for u in call.cloud.users.values()):
        raise Refusal(
            "ConflictException",
            f"user {name} exists",
            extra={"Reason": "UNIQUENESS_CONSTRAINT_VIOLATION"},
        )
    emails = params.get("Emails", [])
    user = User(
        user_id=store_id("user", f"{name}@{call.at}"),
        user_name=name,
        email=emails[0].get("Value", "") if emails else "",
        display_name=str(params.get("DisplayName", name)),
    )
    call.cloud.users[user.user_id] = user
    shown = _user_shown(user)
    return {k: shown[k] for k in ("IdentityStoreId", "UserId", "UserArn", "Revision")}


def _describe_group(call: Call) -> Json:
    return _group_shown(_group(call, call.params["GroupId"]))


def _list_groups(call: Call) -> Json:
    _check_store(call)
    groups = sorted(call.cloud.groups.values(), key=lambda g: g.name)
    for wanted in call.params.get("Filters", []):
        groups = [g for g in groups if g.name == wanted["AttributeValue"]]
    return page(call, "Groups", [_group_shown(g) for g in groups])


def _create_group(call: Call) -> Json:
    _check_store(call)
    name = call.params.get("DisplayName", "")
    if not name or any(g.name == name for g in call.cloud.groups.values()):
        raise Refusal(
            "ConflictException",
            f"group {name} exists",
            extra={"Reason": "UNIQUENESS_CONSTRAINT_VIOLATION"},
        )
    group = Group(group_id=store_id("group", name), name=name)
    call.cloud.groups[group.group_id] = group
    shown = _group_shown(group)
    return {k: shown[k] for k in ("IdentityStoreId", "GroupId", "GroupArn", "Revision")}


def _create_membership(call: Call) -> Json:
    group = _group(call, call.params["GroupId"])
    user = _user(call, call.params["MemberId"]["UserId"])
    if user.user_id in group.members:
        raise Refusal(
            "ConflictException",
            "the membership exists",
            extra={"Reason": "UNIQUENESS_CONSTRAINT_VIOLATION"},
        )
    group.members[user.user_id] = store_id("membership", f"{group.name}/{user.user_name}")
    shown = _membership_shown(group, user.user_id)
    return {k: shown[k] for k in ("IdentityStoreId", "MembershipId", "MembershipArn")}


def _delete_membership(call: Call) -> Json:
    _check_store(call)
    wanted = _id(call.params["MembershipId"])
    for group in call.cloud.groups.values():
        for user_id, membership in list(group.members.items()):
            if membership == wanted:
                del group.members[user_id]
                return {}
    raise Refusal("ResourceNotFoundException", "the membership does not exist")


def _list_members(call: Call) -> Json:
    group = _group(call, call.params["GroupId"])
    return page(
        call, "GroupMemberships", [_membership_shown(group, u) for u in sorted(group.members)]
    )


def _list_of_member(call: Call) -> Json:
    user = _user(call, call.params["MemberId"]["UserId"])
    groups = [call.cloud.groups[g] for g in call.cloud.groups_of(user.user_id)]
    return page(call, "GroupMemberships", [_membership_shown(g, user.user_id) for g in groups])


def _store(call: Call) -> list[str]:
    return [f"arn:aws:identitystore::{call.cloud.management}:identitystore/{IDENTITY_STORE_ID}"]


_RUNS = {
    "DescribeUser": _describe_user,
    "GetUserId": _get_user_id,
    "ListUsers": _list_users,
    "CreateUser": _create_user,
    "DeleteUser": _delete_user,
    "DescribeGroup": _describe_group,
    "ListGroups": _list_groups,
    "CreateGroup": _create_group,
    "CreateGroupMembership": _create_membership,
    "DeleteGroupMembership": _delete_membership,
    "ListGroupMemberships": _list_members,
    "ListGroupMembershipsForMember": _list_of_member,
}
OPERATIONS = {
    name: Operation(run=run, actions=(f"identitystore:{name}",), resources=_store)
    for name, run in _RUNS.items()
}
