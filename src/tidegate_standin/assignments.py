"""sso-admin, account assignments: made and taken away by asynchronous requests.

Sources: IAM Identity Center API Reference, CreateAccountAssignment, DeleteAccountAssignment,
DescribeAccountAssignmentCreationStatus, DescribeAccountAssignmentDeletionStatus,
ListAccountAssignments, ListAccountAssignmentsForPrincipal; User Guide, "IAM Identity Center
quotas" (10 outstanding asynchronous calls). The API Reference does not say what a duplicate does:
the Terraform AWS provider looks first because the API accepts it, so it is accepted here, ends
SUCCEEDED, and leaves one assignment. The same provider expects the deletion of what is gone to end
either as ResourceNotFoundException at once or as FAILED with a 404 in its reason: FAILED here,
ResourceNotFoundException with the option `delete_of_missing` = `raise`.
"""

from __future__ import annotations

import uuid

from tidegate_standin.cloud import INSTANCE_ARN, Cloud, Job, Json, Key, copy_of
from tidegate_standin.errors import Refusal
from tidegate_standin.passing import poll
from tidegate_standin.rights import guard_instance
from tidegate_standin.service import Call, Operation, page


def check_instance(call: Call) -> None:
    """Raises Refusal `ResourceNotFoundException` for an instance that is not the one here."""
    if call.params["InstanceArn"] != INSTANCE_ARN:
        raise Refusal(
            "ResourceNotFoundException", f"instance {call.params['InstanceArn']} does not exist"
        )
    guard_instance(call.cloud, call.account)


def check_set(call: Call) -> str:
    """The permission set's ARN. Raises Refusal `ResourceNotFoundException`."""
    check_instance(call)
    arn: str = call.params["PermissionSetArn"]
    if arn not in call.cloud.sets:
        raise Refusal("ResourceNotFoundException", f"permission set {arn} does not exist")
    return arn


def account_resource(account: str) -> str:
    """The ARN policies name an account with: Service Authorization Reference, `sso`."""
    return f"arn:aws:sso:::account/{account}"


def _three(call: Call) -> list[str]:
    account = call.params.get("TargetId") or call.params.get("AccountId", "")
    return [call.params["InstanceArn"], call.params["PermissionSetArn"], account_resource(account)]


def instance_resource(call: Call) -> list[str]:
    """Operations that policies allow on the instance."""
    return [call.params["InstanceArn"]]


def new_job(call: Call, kind: str, key: Key) -> Job:
    """Take in an asynchronous request, as the call's fault and the options would have it."""
    fault, options = call.fault, call.cloud.options
    slow = fault is not None and fault.kind == "in_progress"
    values = fault.values if fault else {}
    job = Job(
        job_id=str(uuid.uuid4()),
        kind=kind,
        key=key,
        created_at=call.at,
        describes=int(values.get("describes", 1)) if slow else options.describes,
        done_at=call.at + float(values.get("seconds", 3600) if slow else options.settle_seconds),
    )
    if fault is not None and fault.kind == "async_failed":
        job.planned_failure = str(
            values.get("reason", "An unexpected internal service exception was encountered")
        )
    call.cloud.jobs[job.job_id] = call.cloud.under_way[job.job_id] = job
    return job


def _under_way(cloud: Cloud, key: Key) -> bool:
    return any(j.key == key and j.kind != "provision" for j in cloud.under_way.values())


def status_of(job: Job) -> Json:
    """An AccountAssignmentOperationStatus."""
    set_arn, account, kind, principal_id = job.key
    shown: Json = {
        "Status": job.status,
        "RequestId": job.job_id,
        "TargetId": account,
        "TargetType": "AWS_ACCOUNT",
        "PermissionSetArn": set_arn,
        "PrincipalType": kind,
        "PrincipalId": principal_id,
        "CreatedDate": job.created_at,
    }
    if job.reason:
        shown["FailureReason"] = job.reason
    return shown


def _change(call: Call, kind: str) -> Job:
    set_arn, params, cloud = check_set(call), call.params, call.cloud
    account: str = params["TargetId"]
    guard_instance(cloud, call.account, account, set_arn)
    if account not in cloud.accounts:
        raise Refusal("ResourceNotFoundException", f"account {account} is not in the organization")
    key: Key = (set_arn, account, params["PrincipalType"], params["PrincipalId"])
    if _under_way(cloud, key):
        raise Refusal("ConflictException", "a change of this assignment is in progress")
    if cloud.outstanding() >= cloud.options.outstanding_limit:
        raise Refusal("ThrottlingException", "too many outstanding asynchronous calls")
    if (
        kind == "delete"
        and cloud.options.delete_of_missing == "raise"
        and key not in cloud.assignments
    ):
        raise Refusal("ResourceNotFoundException", "the assignment does not exist")
    job = new_job(call, kind, key)
    if kind == "create":
        job.copy = copy_of(cloud.sets[set_arn])
    return job


def _create(call: Call) -> Json:
    return {"AccountAssignmentCreationStatus": status_of(_change(call, "create"))}


def _delete(call: Call) -> Json:
    return {"AccountAssignmentDeletionStatus": status_of(_change(call, "delete"))}


def find_job(call: Call, kind: str, member: str) -> Job:
    """The request asked about, polled once. Raises Refusal `ResourceNotFoundException`."""
    check_instance(call)
    job = call.cloud.jobs.get(call.params[member])
    if job is None or job.kind != kind:
        raise Refusal("ResourceNotFoundException", f"request {call.params[member]} does not exist")
    poll(call.cloud, job, call.at)
    return job


def _describe_creation(call: Call) -> Json:
    job = find_job(call, "create", "AccountAssignmentCreationRequestId")
    return {"AccountAssignmentCreationStatus": status_of(job)}


def _describe_deletion(call: Call) -> Json:
    job = find_job(call, "delete", "AccountAssignmentDeletionRequestId")
    return {"AccountAssignmentDeletionStatus": status_of(job)}


def list_jobs(call: Call, kind: str, name: str) -> Json:
    """One page of the requests of a kind, newest first, filtered by status."""
    check_instance(call)
    wanted = call.params.get("Filter", {}).get("Status")
    jobs = [
        {"Status": j.status, "RequestId": j.job_id, "CreatedDate": j.created_at}
        for j in reversed(call.cloud.jobs.values())
        if j.kind == kind and wanted in (None, j.status)
    ]
    return page(call, name, jobs)


def _list(call: Call) -> Json:
    set_arn, account = check_set(call), call.params["AccountId"]
    found = [_row(key) for key in call.cloud.listed() if key[:2] == (set_arn, account)]
    return page(call, "AccountAssignments", found)


def _row(key: Key) -> Json:
    set_arn, account, kind, principal_id = key
    return {
        "AccountId": account,
        "PermissionSetArn": set_arn,
        "PrincipalType": kind,
        "PrincipalId": principal_id,
    }


def _list_for_principal(call: Call) -> Json:
    """A user's rows include those of their groups, as rows of the group."""
    check_instance(call)
    if (
        call.cloud.options.for_principal_from_management_only
        and call.account != call.cloud.management
    ):
        raise Refusal("AccessDeniedException", "must be called from the management account")
    kind, principal_id = call.params["PrincipalType"], call.params["PrincipalId"]
    holders = {(kind, principal_id)}
    if kind == "USER":
        holders |= {("GROUP", group) for group in call.cloud.groups_of(principal_id)}
    only = call.params.get("Filter", {}).get("AccountId")
    found = [
        _row(key)
        for key in call.cloud.listed()
        if key[2:] in holders and only in (None, "", key[1])
    ]
    return page(call, "AccountAssignments", found)


OPERATIONS = {
    "CreateAccountAssignment": Operation(
        run=_create, actions=("sso:CreateAccountAssignment",), resources=_three
    ),
    "DeleteAccountAssignment": Operation(
        run=_delete, actions=("sso:DeleteAccountAssignment",), resources=_three
    ),
    "DescribeAccountAssignmentCreationStatus": Operation(
        run=_describe_creation,
        actions=("sso:DescribeAccountAssignmentCreationStatus",),
        resources=instance_resource,
    ),
    "DescribeAccountAssignmentDeletionStatus": Operation(
        run=_describe_deletion,
        actions=("sso:DescribeAccountAssignmentDeletionStatus",),
        resources=instance_resource,
    ),
    "ListAccountAssignmentCreationStatus": Operation(
        run=lambda call: list_jobs(call, "create", "AccountAssignmentsCreationStatus"),
        actions=("sso:ListAccountAssignmentCreationStatus",),
        resources=instance_resource,
    ),
    "ListAccountAssignmentDeletionStatus": Operation(
        run=lambda call: list_jobs(call, "delete", "AccountAssignmentsDeletionStatus"),
        actions=("sso:ListAccountAssignmentDeletionStatus",),
        resources=instance_resource,
    ),
    "ListAccountAssignments": Operation(
        run=_list, actions=("sso:ListAccountAssignments",), resources=_three
    ),
    "ListAccountAssignmentsForPrincipal": Operation(
        run=_list_for_principal,
        actions=("sso:ListAccountAssignmentsForPrincipal",),
        resources=instance_resource,
    ),
}
