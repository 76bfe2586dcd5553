"""Who is calling, and whether they may: identity policies, provisioned copies, control policies.

Sources: IAM User Guide, "Policy evaluation logic"; Organizations User Guide, "SCP evaluation" (SCPs
bind every principal of a member account and none of the management account, and each level must
allow); IAM Identity Center User Guide, "Revoke active IAM role sessions created by permission sets"
(the context key identitystore:UserId) and "Delegated administration" (the delegated administrator
does not act on the management account); Service Authorization Reference, which actions act on which
resources, and of IAM that iam:PassedToService is a key of iam:PassRole. Keys of one call alone come
from its caller here; sqs:SendMessage of a schedule's role is not asked for its dead letters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tidegate_standin.clock import iso
from tidegate_standin.cloud import (
    IDENTITY_STORE_ID,
    ORGANIZATION_ID,
    ROOT_ID,
    Caller,
    Cloud,
    Identity,
    Json,
    Role,
    Session,
)
from tidegate_standin.errors import Refusal
from tidegate_standin.policy import ALLOWED, EXPLICIT_DENY, Question, decide
from tidegate_standin.signing import HttpRequest, Scope, read_scope, verify

_NOTHING: Mapping[str, str] = {}


def caller_of(cloud: Cloud, request: HttpRequest, scope: Scope | None) -> Caller:
    """The identity or session whose signature this is.

    Raises Refusal: MissingAuthenticationTokenException, UnrecognizedClientException,
    InvalidSignatureException, ExpiredTokenException.
    """
    if scope is None:
        raise Refusal(
            "MissingAuthenticationTokenException", "the request is not signed", status=403
        )
    named = [i for i in cloud.identities.values() if i.access_key_id == scope.access_key_id]
    found: Caller | None = named[0] if named else cloud.sessions.get(scope.access_key_id)
    if found is None:
        raise Refusal(
            "UnrecognizedClientException",
            "the security token in the request is invalid",
            status=403,
        )
    verify(request, scope, found.secret_access_key)
    if request.headers.get("x-amz-security-token", "") != found.session_token:
        raise Refusal(
            "UnrecognizedClientException",
            "the security token in the request is invalid",
            status=403,
        )
    if isinstance(found, Session):
        if cloud.clock.now() >= found.expires_at:
            raise Refusal(
                "ExpiredTokenException", "the security token in the request is expired", status=403
            )
        if found.set_arn and not _role_stands(cloud, found):
            raise Refusal(
                "UnrecognizedClientException", "the role of this session was deleted", status=403
            )
    return found


def _role_stands(cloud: Cloud, session: Session) -> bool:
    copy = cloud.provisioned.get((session.set_arn, session.account))
    return copy is not None and copy.suffix == session.suffix


def scope_of(request: HttpRequest) -> Scope | None:
    """The SigV4 scope of a request, None when it is unsigned."""
    return read_scope(request.headers.get("authorization", ""))


def documents_of(cloud: Cloud, caller: Caller | Role) -> list[Json]:
    """The identity policies in force now: for a permission set, the provisioned copy's."""
    if isinstance(caller, Identity | Role):
        return caller.policies
    if caller.set_arn:
        copy = cloud.provisioned.get((caller.set_arn, caller.account))
        if copy is None:
            return []
        return [*copy.managed, *([json.loads(copy.inline)] if copy.inline else [])]
    return cloud.roles[caller.role_arn].policies


def context_of(cloud: Cloud, caller: Caller | Role, at: float) -> dict[str, str]:
    """The context keys this caller's requests carry."""
    keys = {
        "aws:CurrentTime": iso(at),
        "aws:PrincipalArn": caller.principal_arn if isinstance(caller, Session) else caller.arn,
        "aws:PrincipalAccount": caller.account,
        "aws:PrincipalOrgID": ORGANIZATION_ID,
    }
    if isinstance(caller, Session):
        keys["aws:TokenIssueTime"] = iso(caller.issued_at)
        keys["aws:userid"] = caller.unique_id
        if caller.user_id:
            keys["identitystore:UserId"] = caller.user_id
            keys["identitystore:IdentityStoreArn"] = (
                f"arn:aws:identitystore::{cloud.management}:identitystore/{IDENTITY_STORE_ID}"
            )
    return keys


def _levels(cloud: Cloud, account: str) -> Iterable[list[Json]]:
    for target in (ROOT_ID, account):
        yield [json.loads(p.content) for p in cloud.policies.values() if target in p.targets]


def decision(
    cloud: Cloud,
    caller: Caller | Role,
    action: str,
    resource: str,
    at: float,
    given: Mapping[str, str] = _NOTHING,
) -> tuple[str, str]:
    """(decision, the kind of policy that made it) for one action on one resource.

    `given` are the context keys of this call alone.
    """
    context = {**context_of(cloud, caller, at), **given}
    question = Question(action=action, resource=resource, context=context)
    if caller.account != cloud.management:
        for documents in _levels(cloud, caller.account):
            answer = decide(documents, question)
            if answer != ALLOWED:
                return answer, "service control policy"
    return decide(documents_of(cloud, caller), question), "identity-based policy"


def authorise(
    cloud: Cloud,
    caller: Caller | Role,
    actions: Iterable[str],
    resources: Iterable[str],
    at: float,
    given: Mapping[str, str] = _NOTHING,
) -> None:
    """Raises Refusal `AccessDeniedException`, in AWS's words, unless everything is allowed."""
    for action in actions:
        for resource in resources:
            answer, kind = decision(cloud, caller, action, resource, at, given)
            if answer == ALLOWED:
                continue
            why = (
                f"with an explicit deny in {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
                if answer == EXPLICIT_DENY
                else f"because no {kind} allows the {action} action"
            )
            raise Refusal(
                "AccessDeniedException",
                f"User: {caller.arn} is not authorized to perform: {action} "
                f"on resource: {resource} {why}",
            )


def guard_instance(cloud: Cloud, account: str, target: str = "", set_arn: str = "") -> None:
    """Identity Center is changed from the management account, or by its delegated administrator.

    Raises Refusal `AccessDeniedException`: for any other account, and for the delegated
    administrator on the management account or on a permission set provisioned there.
    """
    if account == cloud.management:
        return
    if account != cloud.delegated:
        raise Refusal(
            "AccessDeniedException", f"account {account} is not the delegated administrator"
        )
    touches = target == cloud.management or (set_arn, cloud.management) in cloud.provisioned
    if touches:
        raise Refusal(
            "AccessDeniedException",
            "the delegated administrator may not act on the management account or on a permission "
            "set that is provisioned there",
        )
