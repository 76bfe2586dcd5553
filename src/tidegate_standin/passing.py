"""What happens by time alone: asynchronous requests finish and schedules fire, in order of time."""

from __future__ import annotations

from collections.abc import Callable

from tidegate_standin.cloud import IDENTITY_STORE_ID, NEVER, Cloud, Job, Schedule


def principal_exists(cloud: Cloud, kind: str, principal_id: str) -> bool:
    """Whether the user or group is in the identity store."""
    return principal_id in (cloud.users if kind == "USER" else cloud.groups)


def finish(cloud: Cloud, job: Job, at: float) -> None:
    """End an asynchronous request at `at`, with its effect or with a reason why there is none.

    A deletion for a person who is no longer in the identity store fails (reported live for
    identity stores fed by SCIM; `delete_for_deleted_user` turns it off), and so does the deletion
    of what is not there.
    """
    cloud.under_way.pop(job.job_id, None)
    set_arn, account, kind, principal_id = job.key
    reason = job.planned_failure
    gone = not principal_exists(cloud, kind, principal_id)
    strict = job.kind == "create" or cloud.options.delete_for_deleted_user == "fail"
    if not reason and job.kind != "provision" and gone and strict:
        who = f"the {kind} assignee {principal_id}"
        reason = (
            f"Received a 404 status error: {who} was not found in directory {IDENTITY_STORE_ID}"
        )
    if not reason and job.kind == "delete" and job.key not in cloud.assignments:
        reason = "Received a 404 status error: EntitlementItem doesn't exist with the given key"
    if reason:
        job.status, job.reason = "FAILED", reason
        return
    job.status = "SUCCEEDED"
    if job.kind == "delete":
        cloud.unassign(job.key, at)
        others = any(k[:2] == job.key[:2] for k in cloud.assignments)
        if cloud.options.role_goes_with_last_assignment and not others:
            cloud.provisioned.pop((set_arn, account), None)
        return
    if job.copy is not None:
        for where in job.accounts or [account]:
            cloud.provision(set_arn, where, job.copy)
    if job.kind == "create":
        cloud.assign(job.key, at)


def due_at(cloud: Cloud, job: Job) -> float:
    """When a request ends if nobody asks for its status."""
    if job.kind == "provision" and cloud.options.provisioning_paused:
        return NEVER
    return job.done_at


def pass_time(cloud: Cloud, fire: Callable[[Cloud, Schedule, float], None]) -> None:
    """Let everything happen that is due by now, earliest first, each at its own instant."""
    now = cloud.clock.now()
    while True:
        job = min(cloud.under_way.values(), key=lambda j: due_at(cloud, j), default=None)
        job_at = due_at(cloud, job) if job else NEVER
        schedule = min(cloud.schedules.values(), key=lambda s: s.next_at, default=None)
        schedule_at = schedule.next_at if schedule else NEVER
        if min(job_at, schedule_at) > now:
            return
        if job is not None and job_at <= schedule_at:
            finish(cloud, job, job_at)
        elif schedule is not None:
            fire(cloud, schedule, schedule_at)


def poll(cloud: Cloud, job: Job, at: float) -> None:
    """Somebody asked for the status: one answer fewer stays IN_PROGRESS."""
    if job.status != "IN_PROGRESS":
        return
    if job.kind == "provision" and cloud.options.provisioning_paused:
        return
    if job.describes <= 0:
        finish(cloud, job, at)
    else:
        job.describes -= 1
