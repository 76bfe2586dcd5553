"""sso-admin, permission sets: their text, and what of it an account has.

Sources: IAM Identity Center API Reference, CreatePermissionSet, DescribePermissionSet,
UpdatePermissionSet, PutInlinePolicyToPermissionSet, ProvisionPermissionSet,
DescribePermissionSetProvisioningStatus, ListPermissionSetsProvisionedToAccount,
ListManagedPoliciesInPermissionSet, ListCustomerManagedPolicyReferencesInPermissionSet; User Guide,
"IAM Identity Center quotas" (an inline policy of 10,240 characters without white space; the API
Reference does not say which error: ServiceQuotaExceededException here). A change acts in an
account only after it was provisioned there; provisioned is the text at the time of the call.
"""

from __future__ import annotations

import re

from tidegate_standin.assignments import (
    account_resource,
    check_instance,
    check_set,
    find_job,
    instance_resource,
    list_jobs,
    new_job,
)
from tidegate_standin.cloud import (
    ADMINISTRATOR,
    ADMINISTRATOR_ARN,
    IDENTITY_STORE_ID,
    INSTANCE_ARN,
    Json,
    PermissionSet,
    copy_of,
    derived,
)
from tidegate_standin.errors import Refusal
from tidegate_standin.policy import Unserved, read_document
from tidegate_standin.rights import guard_instance
from tidegate_standin.service import Call, Operation, page

_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?")
_LONGEST_SECONDS = 12 * 3600  # API Reference, CreatePermissionSet: one to twelve hours
_SHORTEST_SECONDS = 3600


def seconds_of(duration: str) -> int:
    """Seconds of an ISO 8601 duration of hours, minutes, seconds. Raises ValueError."""
    found = _DURATION.fullmatch(duration)
    if found is None or not any(found.groups()):
        raise ValueError(f"expected a duration like PT1H, got `{duration}`")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def set_arn_for(name: str) -> str:
    """The ARN a permission set of this name gets."""
    instance = INSTANCE_ARN.rpartition("/")[2]
    return f"arn:aws:sso:::permissionSet/{instance}/ps-{derived('permission-set', name, 16)}"


def check_duration(duration: str) -> str:
    """The duration, when AWS takes it. Raises Refusal `ValidationException`."""
    try:
        seconds = seconds_of(duration)
    except ValueError as error:
        raise Refusal("ValidationException", str(error)) from error
    if not _SHORTEST_SECONDS <= seconds <= _LONGEST_SECONDS:
        raise Refusal(
            "ValidationException", f"SessionDuration must be PT1H to PT12H, got {duration}"
        )
    return duration


def _shown(permission_set: PermissionSet) -> Json:
    shown: Json = {
        "Name": permission_set.name,
        "PermissionSetArn": permission_set.arn,
        "CreatedDate": permission_set.created_at,
        "SessionDuration": permission_set.session_duration,
    }
    if permission_set.description:
        shown["Description"] = permission_set.description
    return shown


def _both(call: Call) -> list[str]:
    return [call.params["InstanceArn"], call.params["PermissionSetArn"]]


def _create(call: Call) -> Json:
    check_instance(call)
    guard_instance(call.cloud, call.account)
    name = call.params["Name"]
    if any(s.name == name for s in call.cloud.sets.values()):
        raise Refusal("ConflictException", f"a permission set named {name} exists")
    made = PermissionSet(
        arn=set_arn_for(name),
        name=name,
        created_at=call.at,
        session_duration=check_duration(call.params.get("SessionDuration", "PT1H")),
        description=call.params.get("Description", ""),
        managed=[],
    )
    call.cloud.sets[made.arn] = made
    return {"PermissionSet": _shown(made)}


def _describe(call: Call) -> Json:
    return {"PermissionSet": _shown(call.cloud.sets[check_set(call)])}


def _changed(call: Call) -> PermissionSet:
    arn = check_set(call)
    guard_instance(call.cloud, call.account, set_arn=arn)
    changed = call.cloud.sets[arn]
    changed.version += 1
    return changed


def _update(call: Call) -> Json:
    duration = call.params.get("SessionDuration")
    if duration is not None:
        check_duration(duration)
    changed = _changed(call)
    changed.session_duration = duration or changed.session_duration
    changed.description = call.params.get("Description", changed.description)
    return {}


def _get_inline(call: Call) -> Json:
    text = call.cloud.sets[check_set(call)].inline
    return {"InlinePolicy": text} if text else {}


def _put_inline(call: Call) -> Json:
    text, limit = call.params["InlinePolicy"], call.cloud.options.inline_limit
    length = len(re.sub(r"\s", "", text))
    if length > limit:
        raise Refusal(
            "ServiceQuotaExceededException",
            f"the inline policy has {length} characters without white space; at most {limit}",
        )
    try:
        read_document(text)
    except Unserved as error:
        raise Refusal("ValidationException", str(error)) from error
    _changed(call).inline = text
    return {}


def _delete_inline(call: Call) -> Json:
    if not call.cloud.sets[check_set(call)].inline:
        raise Refusal("ResourceNotFoundException", "the permission set has no inline policy")
    _changed(call).inline = ""
    return {}


def _delete_set(call: Call) -> Json:
    arn = check_set(call)
    guard_instance(call.cloud, call.account, set_arn=arn)
    if any(key[0] == arn for key in call.cloud.assignments):
        raise Refusal("ConflictException", "the permission set is assigned to accounts")
    for where in [key for key in call.cloud.provisioned if key[0] == arn]:
        del call.cloud.provisioned[where]
    del call.cloud.sets[arn]
    return {}


def _list_sets(call: Call) -> Json:
    check_instance(call)
    return page(call, "PermissionSets", sorted(call.cloud.sets))


def _list_managed(call: Call) -> Json:
    found = call.cloud.sets[check_set(call)]
    arns = found.attached
    if arns is None:
        arns = [ADMINISTRATOR_ARN] if ADMINISTRATOR in found.managed else []
    shown = [{"Name": arn.rpartition("/")[2], "Arn": arn} for arn in arns]
    return page(call, "AttachedManagedPolicies", shown)


def _list_customer(call: Call) -> Json:
    names = [one.rpartition("/") for one in call.cloud.sets[check_set(call)].customer]
    shown = [{"Name": name, "Path": f"{path}/"} for path, _, name in names]
    return page(call, "CustomerManagedPolicyReferences", shown)


def _latest(call: Call, arn: str, account: str) -> bool:
    wanted = call.params.get("ProvisioningStatus")
    latest = call.cloud.provisioned[arn, account].version == call.cloud.sets[arn].version
    return wanted is None or latest == (wanted == "LATEST_PERMISSION_SET_PROVISIONED")


def _list_in_account(call: Call) -> Json:
    check_instance(call)
    account = call.params["AccountId"]
    there = [arn for arn, where in sorted(call.cloud.provisioned) if where == account]
    return page(call, "PermissionSets", [arn for arn in there if _latest(call, arn, account)])


def _list_accounts(call: Call) -> Json:
    arn = check_set(call)
    there = [where for one, where in sorted(call.cloud.provisioned) if one == arn]
    return page(call, "AccountIds", [where for where in there if _latest(call, arn, where)])


def _provision(call: Call) -> Json:
    arn, cloud = check_set(call), call.cloud
    everywhere = call.params["TargetType"] == "ALL_PROVISIONED_ACCOUNTS"
    account = call.params.get("TargetId", "")
    if not everywhere and not account:
        raise Refusal("ValidationException", "TargetId is required for AWS_ACCOUNT")
    guard_instance(cloud, call.account, account, arn)
    if not everywhere and account not in cloud.accounts:
        raise Refusal("ResourceNotFoundException", f"account {account} is not in the organization")
    busy = any(j.kind == "provision" and j.key[0] == arn for j in cloud.under_way.values())
    if busy:
        raise Refusal("ConflictException", "the permission set is being provisioned")
    accounts = (
        [where for one, where in sorted(cloud.provisioned) if one == arn]
        if everywhere
        else [account]
    )
    if not accounts:
        raise Refusal("ValidationException", "the permission set is provisioned in no account")
    job = new_job(call, "provision", (arn, accounts[0], "", ""))
    job.accounts, job.copy = accounts, copy_of(cloud.sets[arn])
    return {"PermissionSetProvisioningStatus": _job_shown(job.job_id, call)}


def _job_shown(job_id: str, call: Call) -> Json:
    job = call.cloud.jobs[job_id]
    shown: Json = {
        "Status": job.status,
        "RequestId": job.job_id,
        "PermissionSetArn": job.key[0],
        "CreatedDate": job.created_at,
    }
    if len(job.accounts) == 1:
        shown["AccountId"] = job.accounts[0]
    if job.reason:
        shown["FailureReason"] = job.reason
    return shown


def _describe_provisioning(call: Call) -> Json:
    job = find_job(call, "provision", "ProvisionPermissionSetRequestId")
    return {"PermissionSetProvisioningStatus": _job_shown(job.job_id, call)}


def _list_instances(call: Call) -> Json:
    one = {
        "InstanceArn": INSTANCE_ARN,
        "IdentityStoreId": IDENTITY_STORE_ID,
        "OwnerAccountId": call.cloud.management,
        "Status": "ACTIVE",
    }
    return page(call, "Instances", [one])


def _in_account(call: Call) -> list[str]:
    return [call.params["InstanceArn"], account_resource(call.params["AccountId"])]


OPERATIONS = {
    "ListInstances": Operation(run=_list_instances, actions=("sso:ListInstances",)),
    "ListPermissionSets": Operation(
        run=_list_sets, actions=("sso:ListPermissionSets",), resources=instance_resource
    ),
    "CreatePermissionSet": Operation(
        run=_create, actions=("sso:CreatePermissionSet",), resources=instance_resource
    ),
    "DescribePermissionSet": Operation(
        run=_describe, actions=("sso:DescribePermissionSet",), resources=_both
    ),
    "UpdatePermissionSet": Operation(
        run=_update, actions=("sso:UpdatePermissionSet",), resources=_both
    ),
    "DeletePermissionSet": Operation(
        run=_delete_set, actions=("sso:DeletePermissionSet",), resources=_both
    ),
    "GetInlinePolicyForPermissionSet": Operation(
        run=_get_inline, actions=("sso:GetInlinePolicyForPermissionSet",), resources=_both
    ),
    "PutInlinePolicyToPermissionSet": Operation(
        run=_put_inline, actions=("sso:PutInlinePolicyToPermissionSet",), resources=_both
    ),
    "DeleteInlinePolicyFromPermissionSet": Operation(
        run=_delete_inline, actions=("sso:DeleteInlinePolicyFromPermissionSet",), resources=_both
    ),
    "ListManagedPoliciesInPermissionSet": Operation(
        run=_list_managed, actions=("sso:ListManagedPoliciesInPermissionSet",), resources=_both
    ),
    "ListCustomerManagedPolicyReferencesInPermissionSet": Operation(
        run=_list_customer,
        actions=("sso:ListCustomerManagedPolicyReferencesInPermissionSet",),
        resources=_both,
    ),
    "ProvisionPermissionSet": Operation(
        run=_provision, actions=("sso:ProvisionPermissionSet",), resources=_both
    ),
    "DescribePermissionSetProvisioningStatus": Operation(
        run=_describe_provisioning,
        actions=("sso:DescribePermissionSetProvisioningStatus",),
        resources=instance_resource,
    ),
    "ListPermissionSetProvisioningStatus": Operation(
        run=lambda call: list_jobs(call, "provision", "PermissionSetsProvisioningStatus"),
        actions=("sso:ListPermissionSetProvisioningStatus",),
        resources=instance_resource,
    ),
    "ListPermissionSetsProvisionedToAccount": Operation(
        run=_list_in_account,
        actions=("sso:ListPermissionSetsProvisionedToAccount",),
        resources=_in_account,
    ),
    "ListAccountsForProvisionedPermissionSet": Operation(
        run=_list_accounts,
        actions=("sso:ListAccountsForProvisionedPermissionSet",),
        resources=_both,
    ),
}
