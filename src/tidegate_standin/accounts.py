"""What runs with credentials: the access portal, STS, and the few calls of IAM and S3 to try.

Sources: IAM Identity Center Portal API Reference, GetRoleCredentials, ListAccounts,
ListAccountRoles; User Guide, "Understanding authentication sessions" (a role session keeps its
SessionDuration whatever happens to the assignment); STS API Reference, AssumeRole (a chained
session lasts an hour at most) and GetCallerIdentity (needs no permission); IAM API Reference,
ListUsers, GetRole, ListRoles, SimulatePrincipalPolicy (keys of ContextEntries take part in
conditions, the first value of each; one result for each action and resource). A portal without
access answers ForbiddenException, which clients see live and no model names.
"""

from __future__ import annotations

import secrets
from urllib.parse import quote

from tidegate_standin.clock import iso
from tidegate_standin.cloud import Cloud, Identity, Json, Role, Session, User, derived, key_pair
from tidegate_standin.errors import Refusal
from tidegate_standin.permission_sets import seconds_of
from tidegate_standin.policy import ALLOWED, EXPLICIT_DENY, Question, decide, like
from tidegate_standin.rights import context_of, decision, documents_of
from tidegate_standin.service import Call, Operation

_CHAINED_SECONDS = 3600


def _portal_user(call: Call) -> User:
    user_id, until = call.cloud.portal_tokens.get(call.params["accessToken"], ("", 0.0))
    user = call.cloud.users.get(user_id)
    if user is None or not user.enabled or call.at >= until:
        raise Refusal("UnauthorizedException", "Session token not found or invalid", status=401)
    return user


def _held(cloud: Cloud, user: User) -> list[tuple[str, str]]:
    holders = {("USER", user.user_id), *(("GROUP", g) for g in cloud.groups_of(user.user_id))}
    return sorted({key[:2] for key in cloud.assignments if key[2:] in holders})


def _role_credentials(call: Call) -> Json:
    user, cloud = _portal_user(call), call.cloud
    account, name = call.params["accountId"], call.params["roleName"]
    for set_arn, where in _held(cloud, user):
        if where == account and cloud.sets[set_arn].name == name:
            made = _permission_set_session(call, user, set_arn, account)
            return {
                "roleCredentials": {
                    "accessKeyId": made.access_key_id,
                    "secretAccessKey": made.secret_access_key,
                    "sessionToken": made.session_token,
                    "expiration": int(made.expires_at * 1000),
                }
            }
    raise Refusal("ForbiddenException", "No access", status=403)


def _permission_set_session(call: Call, user: User, set_arn: str, account: str) -> Session:
    cloud = call.cloud
    copy = cloud.provisioned[set_arn, account]
    role = cloud.role_name(set_arn, copy.suffix)
    key_id, secret = key_pair("ASIA")
    issued = float(int(call.at))
    made = Session(
        access_key_id=key_id,
        secret_access_key=secret,
        session_token=secrets.token_urlsafe(96),
        account=account,
        arn=f"arn:aws:sts::{account}:assumed-role/{role}/{user.user_name}",
        unique_id=f"AROA{derived('role', role, 17).upper()}:{user.user_name}",
        principal_arn=f"arn:aws:iam::{account}:role/aws-reserved/sso.amazonaws.com/{role}",
        issued_at=issued,
        expires_at=issued + seconds_of(cloud.sets[set_arn].session_duration),
        user_id=user.user_id,
        set_arn=set_arn,
        suffix=copy.suffix,
    )
    cloud.sessions[key_id] = made
    return made


def _portal_page(call: Call, name: str, rows: list[Json]) -> Json:
    start = int(call.params.get("nextToken", 0))
    limit = int(call.params.get("maxResults", 100))
    shown: Json = {name: rows[start : start + limit]}
    if start + limit < len(rows):
        shown["nextToken"] = str(start + limit)
    return shown


def _portal_accounts(call: Call) -> Json:
    accounts = sorted({account for _, account in _held(call.cloud, _portal_user(call))})
    rows: list[Json] = [
        {"accountId": a, "accountName": call.cloud.accounts[a], "emailAddress": f"{a}@example.com"}
        for a in accounts
    ]
    return _portal_page(call, "accountList", rows)


def _portal_roles(call: Call) -> Json:
    held = _held(call.cloud, _portal_user(call))
    wanted = call.params["accountId"]
    names = sorted(call.cloud.sets[arn].name for arn, account in held if account == wanted)
    return _portal_page(call, "roleList", [{"roleName": n, "accountId": wanted} for n in names])


def _identity(call: Call) -> Json:
    caller = call.caller
    if caller is None:
        raise Refusal(
            "MissingAuthenticationTokenException", "the request is not signed", status=403
        )
    unique = (
        caller.unique_id
        if isinstance(caller, Session)
        else f"AIDA{derived('id', caller.arn, 17).upper()}"
    )
    return {"UserId": unique, "Account": caller.account, "Arn": caller.arn}


def trusts(role: Role, names: list[str]) -> bool:
    """Whether a role's trust names one of these ARNs, account ids or services."""
    return any(like(pattern, name) for pattern in role.trust for name in names)


def _assume(call: Call) -> Json:
    caller, cloud, params = call.caller, call.cloud, call.params
    role = cloud.roles.get(params["RoleArn"])
    arns = [] if caller is None else [caller.arn, caller.account]
    if isinstance(caller, Session):
        arns.append(caller.principal_arn)
    if caller is None or role is None or not trusts(role, arns):
        raise Refusal(
            "AccessDeniedException",
            f"User: {caller.arn if caller else 'nobody'} is not authorized to perform: "
            f"sts:AssumeRole on resource: {params['RoleArn']}",
        )
    longest = _CHAINED_SECONDS if isinstance(caller, Session) else role.max_seconds
    seconds = int(params.get("DurationSeconds", 3600))
    if not 900 <= seconds <= longest:
        raise Refusal(
            "ValidationException", f"DurationSeconds must be 900 to {longest}, got {seconds}"
        )
    key_id, secret = key_pair("ASIA")
    issued, name = float(int(call.at)), params["RoleSessionName"]
    unique = f"AROA{derived('role', role.arn, 17).upper()}:{name}"
    made = Session(
        access_key_id=key_id,
        secret_access_key=secret,
        session_token=secrets.token_urlsafe(96),
        account=role.account,
        arn=f"arn:aws:sts::{role.account}:assumed-role/{role.name}/{name}",
        unique_id=unique,
        principal_arn=role.arn,
        issued_at=issued,
        expires_at=issued + seconds,
        role_arn=role.arn,
        came_from=caller.access_key_id,
    )
    cloud.sessions[key_id] = made
    return {
        "Credentials": {
            "AccessKeyId": key_id,
            "SecretAccessKey": secret,
            "SessionToken": made.session_token,
            "Expiration": made.expires_at,
        },
        "AssumedRoleUser": {"AssumedRoleId": unique, "Arn": made.arn},
    }


def _users(call: Call) -> Json:
    users = [
        {
            "Path": "/",
            "UserName": i.name,
            "UserId": f"AIDA{derived('id', i.arn, 17).upper()}",
            "Arn": i.arn,
            "CreateDate": call.at,
        }
        for i in call.cloud.identities.values()
        if i.account == call.account and ":user/" in i.arn
    ]
    return {"Users": users, "IsTruncated": False}


def _role_shown(arn: str, at: float, longest: int) -> Json:
    path, name = arn.split(":role", 1)[1].rsplit("/", 1)
    return {
        "Path": f"{path}/",
        "RoleName": name,
        "RoleId": f"AROA{derived('role', name, 17).upper()}",
        "Arn": arn,
        "CreateDate": at,
        "AssumeRolePolicyDocument": quote('{"Version":"2012-10-17","Statement":[]}'),
        "MaxSessionDuration": longest,
    }


def _roles_in(call: Call) -> list[Json]:
    cloud = call.cloud
    found = [
        _role_shown(r.arn, call.at, r.max_seconds)
        for r in cloud.roles.values()
        if r.account == call.account
    ]
    for (set_arn, account), copy in cloud.provisioned.items():
        if account == call.account and set_arn in cloud.sets:
            name = cloud.role_name(set_arn, copy.suffix)
            arn = f"arn:aws:iam::{account}:role/aws-reserved/sso.amazonaws.com/{name}"
            found.append(
                _role_shown(arn, call.at, seconds_of(cloud.sets[set_arn].session_duration))
            )
    return found


def _list_roles(call: Call) -> Json:
    prefix = call.params.get("PathPrefix", "/")
    return {
        "Roles": [r for r in _roles_in(call) if r["Path"].startswith(prefix)],
        "IsTruncated": False,
    }


def _get_role(call: Call) -> Json:
    for role in _roles_in(call):
        if role["RoleName"] == call.params["RoleName"]:
            return {"Role": role}
    raise Refusal(
        "NoSuchEntity", f"The role with name {call.params['RoleName']} cannot be found.", status=404
    )


def _subject(cloud: Cloud, arn: str) -> Identity | Role | Session:
    found: list[Identity | Role | Session] = [i for i in cloud.identities.values() if i.arn == arn]
    if arn in cloud.roles:
        found.append(cloud.roles[arn])
    found += [s for s in cloud.sessions.values() if arn in (s.arn, s.principal_arn)]
    if not found:
        raise Refusal("NoSuchEntity", f"{arn} does not exist", status=404)
    return found[0]


def _simulate(call: Call) -> Json:
    cloud, params = call.cloud, call.params
    subject = _subject(cloud, params["PolicySourceArn"])
    given = {
        e["ContextKeyName"]: (e.get("ContextKeyValues") or [""])[0]
        for e in params.get("ContextEntries", [])
    }
    context = {"aws:CurrentTime": iso(call.at), **context_of(cloud, subject, call.at), **given}
    results = []
    for action in params["ActionNames"]:
        for resource in params.get("ResourceArns", ["*"]):
            question = Question(action=action, resource=resource, context=context)
            answer = decide(documents_of(cloud, subject), question)
            whole, kind = decision(cloud, subject, action, resource, call.at, given)
            by_control = kind == "service control policy"
            shown: Json = {
                "EvalActionName": action,
                "EvalResourceName": resource,
                "EvalDecision": whole if by_control and answer != EXPLICIT_DENY else answer,
                "MatchedStatements": [],
                "MissingContextValues": [],
            }
            if subject.account != cloud.management:
                shown["OrganizationsDecisionDetail"] = {
                    "AllowedByOrganizations": not by_control or whole == ALLOWED
                }
            results.append(shown)
    return {"EvaluationResults": results, "IsTruncated": False}


def _role_resource(call: Call) -> list[str]:
    name = call.params["RoleName"]
    there = [r["Arn"] for r in _roles_in(call) if r["RoleName"] == name]
    return there or [f"arn:aws:iam::{call.account}:role/{name}"]


PORTAL = {
    "GetRoleCredentials": Operation(run=_role_credentials),
    "ListAccounts": Operation(run=_portal_accounts),
    "ListAccountRoles": Operation(run=_portal_roles),
}
STS = {
    "GetCallerIdentity": Operation(run=_identity),
    "AssumeRole": Operation(
        run=_assume, actions=("sts:AssumeRole",), resources=lambda call: [call.params["RoleArn"]]
    ),
}
IAM = {
    "ListUsers": Operation(
        run=_users,
        actions=("iam:ListUsers",),
        resources=lambda call: [f"arn:aws:iam::{call.account}:user/"],
    ),
    "ListRoles": Operation(
        run=_list_roles,
        actions=("iam:ListRoles",),
        resources=lambda call: [f"arn:aws:iam::{call.account}:role/"],
    ),
    "GetRole": Operation(run=_get_role, actions=("iam:GetRole",), resources=_role_resource),
    "SimulatePrincipalPolicy": Operation(
        run=_simulate,
        actions=("iam:SimulatePrincipalPolicy",),
        resources=lambda call: [call.params["PolicySourceArn"]],
    ),
}
S3 = {"ListBuckets": Operation(run=lambda call: {}, actions=("s3:ListAllMyBuckets",))}
