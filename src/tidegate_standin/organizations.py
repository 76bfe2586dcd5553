"""organizations: service control policies, where they are attached, and who may change them.

Sources: Organizations API Reference, CreatePolicy, UpdatePolicy, AttachPolicy, DetachPolicy,
DescribePolicy, ListPolicies, ListPoliciesForTarget, ListTargetsForPolicy, DescribeOrganization;
User Guide, "Quotas" (an SCP of 5,120 characters, white space counted, five on a target). One root,
no organizational units.
"""

from __future__ import annotations

import secrets

from tidegate_standin.cloud import ORGANIZATION_ID, ROOT_ID, Cloud, ControlPolicy, Json
from tidegate_standin.errors import Refusal
from tidegate_standin.policy import Unserved, read_document
from tidegate_standin.service import Call, Operation, page

_MOST_ON_A_TARGET = 5


def _arn(cloud: Cloud, policy: ControlPolicy) -> str:
    owner = "aws" if policy.aws_managed else cloud.management
    middle = "" if policy.aws_managed else f"{ORGANIZATION_ID}/"
    return (
        f"arn:aws:organizations::{owner}:policy/{middle}service_control_policy/{policy.policy_id}"
    )


def _target_arn(cloud: Cloud, target: str) -> str:
    kind = "root" if target == ROOT_ID else "account"
    return f"arn:aws:organizations::{cloud.management}:{kind}/{ORGANIZATION_ID}/{target}"


def _summary(cloud: Cloud, policy: ControlPolicy) -> Json:
    return {
        "Id": policy.policy_id,
        "Arn": _arn(cloud, policy),
        "Name": policy.name,
        "Description": policy.description,
        "Type": "SERVICE_CONTROL_POLICY",
        "AwsManaged": policy.aws_managed,
    }


def _shown(cloud: Cloud, policy: ControlPolicy) -> Json:
    return {"Policy": {"PolicySummary": _summary(cloud, policy), "Content": policy.content}}


def _guard(call: Call, *, change: bool) -> None:
    allowed = {call.cloud.management} if change else {call.cloud.management, call.cloud.delegated}
    if call.account not in allowed:
        raise Refusal(
            "AccessDeniedException", "You don't have permissions to access this resource."
        )


def _policy(call: Call, *, change: bool = False) -> ControlPolicy:
    _guard(call, change=change)
    found = call.cloud.policies.get(call.params["PolicyId"])
    if found is None:
        raise Refusal(
            "PolicyNotFoundException",
            "We can't find a policy with the PolicyId that you specified.",
        )
    if change and found.aws_managed and call.operation == "UpdatePolicy":
        raise Refusal("InvalidInputException", "an AWS managed policy cannot be changed")
    return found


def _target(call: Call) -> str:
    target: str = call.params["TargetId"]
    if target != ROOT_ID and target not in call.cloud.accounts:
        raise Refusal("TargetNotFoundException", f"target {target} does not exist")
    return target


def _check_content(call: Call, content: str) -> str:
    limit = call.cloud.options.scp_limit
    if len(content) > limit:
        raise Refusal(
            "ConstraintViolationException",
            f"the policy has {len(content)} characters; at most {limit}",
            extra={"Reason": "POLICY_CONTENT_LIMIT_EXCEEDED"},
        )
    try:
        read_document(content)
    except Unserved as error:
        raise Refusal("MalformedPolicyDocumentException", str(error)) from error
    return content


def _create(call: Call) -> Json:
    _guard(call, change=True)
    params = call.params
    if params["Type"] != "SERVICE_CONTROL_POLICY":
        raise Refusal(
            "PolicyTypeNotAvailableForOrganizationException", "only service control policies here"
        )
    if any(p.name == params["Name"] for p in call.cloud.policies.values()):
        raise Refusal("DuplicatePolicyException", f"a policy named {params['Name']} exists")
    made = ControlPolicy(
        policy_id=f"p-{secrets.token_hex(5)}",
        name=params["Name"],
        description=params["Description"],
        content=_check_content(call, params["Content"]),
    )
    call.cloud.policies[made.policy_id] = made
    return _shown(call.cloud, made)


def _update(call: Call) -> Json:
    policy, params = _policy(call, change=True), call.params
    if "Content" in params:
        policy.content = _check_content(call, params["Content"])
    policy.name = params.get("Name", policy.name)
    policy.description = params.get("Description", policy.description)
    return _shown(call.cloud, policy)


def _delete(call: Call) -> Json:
    policy = _policy(call, change=True)
    if policy.targets:
        raise Refusal("PolicyInUseException", "the policy is attached")
    del call.cloud.policies[policy.policy_id]
    return {}


def _attach(call: Call) -> Json:
    policy, target = _policy(call, change=True), _target(call)
    if target in policy.targets:
        raise Refusal("DuplicatePolicyAttachmentException", "the policy is attached to this target")
    if sum(target in p.targets for p in call.cloud.policies.values()) >= _MOST_ON_A_TARGET:
        raise Refusal(
            "ConstraintViolationException",
            f"at most {_MOST_ON_A_TARGET} policies on a target",
            extra={"Reason": "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED"},
        )
    policy.targets.append(target)
    return {}


def _detach(call: Call) -> Json:
    policy, target = _policy(call, change=True), _target(call)
    if target not in policy.targets:
        raise Refusal("PolicyNotAttachedException", "the policy is not attached to this target")
    others = [p for p in call.cloud.policies.values() if target in p.targets and p is not policy]
    if not others:
        raise Refusal(
            "ConstraintViolationException",
            "a target keeps at least one service control policy",
            extra={"Reason": "MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED"},
        )
    policy.targets.remove(target)
    return {}


def _list(call: Call) -> Json:
    _guard(call, change=False)
    rows = [_summary(call.cloud, p) for p in call.cloud.policies.values()]
    return page(call, "Policies", rows, default=20)


def _list_for_target(call: Call) -> Json:
    _guard(call, change=False)
    target = _target(call)
    rows = [_summary(call.cloud, p) for p in call.cloud.policies.values() if target in p.targets]
    return page(call, "Policies", rows, default=20)


def _list_targets(call: Call) -> Json:
    rows = [
        {
            "TargetId": t,
            "Arn": _target_arn(call.cloud, t),
            "Name": call.cloud.accounts.get(t, "Root"),
            "Type": "ROOT" if t == ROOT_ID else "ACCOUNT",
        }
        for t in _policy(call).targets
    ]
    return page(call, "Targets", rows, default=20)


def _organization(call: Call) -> Json:
    management = call.cloud.management
    account = f"account/{ORGANIZATION_ID}/{management}"
    return {
        "Organization": {
            "Id": ORGANIZATION_ID,
            "Arn": f"arn:aws:organizations::{management}:organization/{ORGANIZATION_ID}",
            "FeatureSet": "ALL",
            "MasterAccountArn": f"arn:aws:organizations::{management}:{account}",
            "MasterAccountId": management,
            "MasterAccountEmail": f"{management}@example.com",
            "AvailablePolicyTypes": [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}],
        }
    }


def _account(call: Call) -> Json:
    _guard(call, change=False)
    account = call.params["AccountId"]
    if account not in call.cloud.accounts:
        raise Refusal("AccountNotFoundException", f"account {account} does not exist")
    return {"Account": _account_shown(call.cloud, account)}


def _account_shown(cloud: Cloud, account: str) -> Json:
    return {
        "Id": account,
        "Arn": _target_arn(cloud, account),
        "Email": f"{account}@example.com",
        "Name": cloud.accounts[account],
        "Status": "ACTIVE",
        "JoinedMethod": "CREATED",
        "JoinedTimestamp": 0.0,
    }


def _accounts(call: Call) -> Json:
    _guard(call, change=False)
    return page(
        call, "Accounts", [_account_shown(call.cloud, a) for a in call.cloud.accounts], default=20
    )


def _of_policy(call: Call) -> list[str]:
    policy = call.cloud.policies.get(call.params["PolicyId"])
    return [_arn(call.cloud, policy)] if policy else ["*"]


def _of_both(call: Call) -> list[str]:
    return [*_of_policy(call), _target_arn(call.cloud, call.params["TargetId"])]


def _of_target(call: Call) -> list[str]:
    return [_target_arn(call.cloud, call.params["TargetId"])]


def _needs(name: str) -> tuple[str]:
    return (f"organizations:{name}",)


OPERATIONS = {
    "CreatePolicy": Operation(run=_create, actions=_needs("CreatePolicy")),
    "UpdatePolicy": Operation(run=_update, actions=_needs("UpdatePolicy"), resources=_of_policy),
    "DeletePolicy": Operation(run=_delete, actions=_needs("DeletePolicy"), resources=_of_policy),
    "DescribePolicy": Operation(
        run=lambda call: _shown(call.cloud, _policy(call)),
        actions=_needs("DescribePolicy"),
        resources=_of_policy,
    ),
    "AttachPolicy": Operation(run=_attach, actions=_needs("AttachPolicy"), resources=_of_both),
    "DetachPolicy": Operation(run=_detach, actions=_needs("DetachPolicy"), resources=_of_both),
    "ListPolicies": Operation(run=_list, actions=_needs("ListPolicies")),
    "ListPoliciesForTarget": Operation(
        run=_list_for_target, actions=_needs("ListPoliciesForTarget"), resources=_of_target
    ),
    "ListTargetsForPolicy": Operation(
        run=_list_targets, actions=_needs("ListTargetsForPolicy"), resources=_of_policy
    ),
    "DescribeOrganization": Operation(run=_organization, actions=_needs("DescribeOrganization")),
    "DescribeAccount": Operation(run=_account, actions=_needs("DescribeAccount")),
    "ListAccounts": Operation(run=_accounts, actions=_needs("ListAccounts")),
}
