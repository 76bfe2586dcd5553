"""What a test says exists: read from JSON, merged into the cloud, answered with the ids it got."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

from tidegate_standin.cloud import (
    ADMINISTRATOR,
    FULL_ACCESS_ID,
    IDENTITY_STORE_ID,
    INSTANCE_ARN,
    Cloud,
    Group,
    Identity,
    Json,
    Options,
    PermissionSet,
    Role,
    User,
    copy_of,
    derived,
    key_pair,
    store_id,
)
from tidegate_standin.errors import BadAdminRequest
from tidegate_standin.permission_sets import seconds_of, set_arn_for
from tidegate_standin.policy import Unserved, read_document

_PORTAL_SECONDS = 8 * 3600


def _documents(asked: list[Any] | None) -> list[Json]:
    try:
        return [read_document(one) for one in asked or []]
    except Unserved as error:
        raise BadAdminRequest(str(error)) from error


def _seed_accounts(cloud: Cloud, asked: Json) -> None:
    for account in asked.get("accounts", []):
        number, name = (
            (account, f"account-{account}")
            if isinstance(account, str)
            else (account["id"], account["name"])
        )
        cloud.accounts[number] = name
        targets = cloud.policies[FULL_ACCESS_ID].targets
        if number not in targets:
            targets.append(number)
    cloud.delegated = asked.get("delegated_administrator", cloud.delegated)


def _seed_people(cloud: Cloud, asked: Json) -> None:
    for one in asked.get("users", []):
        name = one["user_name"]
        user = User(
            user_id=one.get("user_id", store_id("user", name)),
            user_name=name,
            email=one.get("email", f"{name}@example.com"),
            display_name=one.get("display_name", name),
            external_id=one.get("external_id", ""),
            external_issuer=one.get("external_issuer", ""),
            enabled=one.get("enabled", True),
        )
        cloud.users[user.user_id] = user
    for one in asked.get("groups", []):
        name = one["name"]
        group_id = one.get("group_id", store_id("group", name))
        group = cloud.groups.setdefault(group_id, Group(group_id=group_id, name=name))
        if "members" in one:
            members = [user_named(cloud, member) for member in one["members"]]
            group.members = {
                m.user_id: store_id("membership", f"{name}/{m.user_name}") for m in members
            }


def user_named(cloud: Cloud, name: str) -> User:
    """The user of this user name or id. Raises BadAdminRequest."""
    for user in cloud.users.values():
        if name in (user.user_name, user.user_id):
            return user
    raise BadAdminRequest(f"no user `{name}`")


def _group_named(cloud: Cloud, name: str) -> Group:
    for group in cloud.groups.values():
        if name in (group.name, group.group_id):
            return group
    raise BadAdminRequest(f"no group `{name}`")


def set_named(cloud: Cloud, name: str) -> PermissionSet:
    """The permission set of this name or ARN. Raises BadAdminRequest."""
    for permission_set in cloud.sets.values():
        if name in (permission_set.name, permission_set.arn):
            return permission_set
    raise BadAdminRequest(f"no permission set `{name}`")


def _seed_sets(cloud: Cloud, asked: Json) -> None:
    now = cloud.clock.now()
    for one in asked.get("permission_sets", []):
        inline = one.get("inline_policy", "")
        text = inline if isinstance(inline, str) else json.dumps(inline)
        _documents([text] if text else [])
        duration = one.get("session_duration", "PT1H")
        try:
            seconds_of(duration)
        except ValueError as error:
            raise BadAdminRequest(str(error)) from error
        made = PermissionSet(
            arn=one.get("arn", set_arn_for(one["name"])),
            name=one["name"],
            created_at=now,
            session_duration=duration,
            description=one.get("description", ""),
            inline=text,
            managed=_documents(one["managed"]) if "managed" in one else [ADMINISTRATOR],
            attached=one.get("attached"),
            customer=list(one.get("customer", [])),
        )
        cloud.sets[made.arn] = made
        for account in one.get("provisioned_in", []):
            cloud.provision(made.arn, account, copy_of(made))
    for one in asked.get("assignments", []):
        permission_set = set_named(cloud, one["permission_set"])
        if "user" in one:
            who = ("USER", user_named(cloud, one["user"]).user_id)
        else:
            who = ("GROUP", _group_named(cloud, one["group"]).group_id)
        if (permission_set.arn, one["account"]) not in cloud.provisioned:
            cloud.provision(permission_set.arn, one["account"], copy_of(permission_set))
        cloud.assign((permission_set.arn, one["account"], *who), now)


def _seed_identities(cloud: Cloud, asked: Json) -> None:
    for one in asked.get("identities", []):
        name = one["name"]
        before = cloud.identities.get(name)
        account = one.get("account", before.account if before else cloud.management)
        key_id, secret = key_pair("AKIA")
        cloud.identities[name] = Identity(
            name=name,
            arn=one.get("arn", before.arn if before else f"arn:aws:iam::{account}:user/{name}"),
            account=account,
            access_key_id=one.get("access_key_id", before.access_key_id if before else key_id),
            secret_access_key=one.get(
                "secret_access_key", before.secret_access_key if before else secret
            ),
            session_token=one.get("session_token", before.session_token if before else ""),
            policies=_documents(one["policies"])
            if "policies" in one
            else before.policies
            if before
            else [],
        )
    for one in asked.get("roles", []):
        account = one.get("account", cloud.management)
        arn = one.get("arn", f"arn:aws:iam::{account}:role/{one.get('name', '')}")
        cloud.roles[arn] = Role(
            arn=arn,
            name=arn.rpartition("/")[2],
            account=arn.split(":")[4],
            trust=list(one.get("trust", [])),
            policies=_documents(one.get("policies")),
            max_seconds=int(one.get("max_seconds", 3600)),
        )
    for one in asked.get("portal_tokens", []):
        user = user_named(cloud, one["user"])
        token = one.get("token", f"portal-{derived('portal', user.user_id, 32)}")
        until = cloud.clock.now() + float(one.get("seconds", _PORTAL_SECONDS))
        cloud.portal_tokens[token] = (user.user_id, until)


def set_options(cloud: Cloud, asked: Json) -> None:
    """Change options by name. Raises BadAdminRequest for one that does not exist."""
    known = {f.name for f in fields(Options)}
    strange = set(asked) - known
    if strange:
        raise BadAdminRequest(f"expected options of {sorted(known)}, got `{sorted(strange)[0]}`")
    cloud.options = replace(cloud.options, **asked)


def seed(cloud: Cloud, asked: Json) -> Json:
    """Merge what is asked into the cloud; a thing of the same name is replaced, its keys stay.

    Answers with every id and key there is. Raises BadAdminRequest.
    """
    try:
        _seed_accounts(cloud, asked)
        _seed_people(cloud, asked)
        _seed_sets(cloud, asked)
        _seed_identities(cloud, asked)
    except KeyError as error:
        raise BadAdminRequest(f"expected the member {error}") from error
    set_options(cloud, asked.get("options", {}))
    return ids(cloud)


def ids(cloud: Cloud) -> Json:
    """What a test needs to name things: ids, ARNs, keys and portal tokens, by name."""
    return {
        "instance_arn": INSTANCE_ARN,
        "identity_store_id": IDENTITY_STORE_ID,
        "management": cloud.management,
        "delegated_administrator": cloud.delegated,
        "accounts": dict(cloud.accounts),
        "users": {u.user_name: u.user_id for u in cloud.users.values()},
        "groups": {g.name: g.group_id for g in cloud.groups.values()},
        "permission_sets": {s.name: s.arn for s in cloud.sets.values()},
        "identities": {
            i.name: {
                "arn": i.arn,
                "account": i.account,
                "access_key_id": i.access_key_id,
                "secret_access_key": i.secret_access_key,
                "session_token": i.session_token,
            }
            for i in cloud.identities.values()
        },
        "roles": {r.name: r.arn for r in cloud.roles.values()},
        "portal_tokens": {
            cloud.users[user].user_name: token
            for token, (user, _) in cloud.portal_tokens.items()
            if user in cloud.users
        },
    }
