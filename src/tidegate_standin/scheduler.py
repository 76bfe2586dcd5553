"""EventBridge Scheduler: schedules kept, and fired by the stand-in's clock.

Sources: EventBridge Scheduler API Reference, CreateSchedule, UpdateSchedule (what is left out goes
back to its default), GetSchedule, DeleteSchedule, ListSchedules, CreateScheduleGroup; User Guide,
"Schedule types" (60-second precision: the option `schedule_delay_seconds`; StartDate and EndDate
bound a rate), "Using universal targets", "Setting up the execution role" (the role's trust names
scheduler.amazonaws.com; whoever makes the schedule needs iam:PassRole) and "Configuring a
dead-letter queue". A rate fires first at its StartDate. A failure goes to the dead letters at once:
retries of one invocation are not played. Flexible windows and cron() are not served.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tidegate_standin.clock import iso, read_iso
from tidegate_standin.cloud import NEVER, REGION, Cloud, Json, Role, Schedule
from tidegate_standin.errors import Refusal
from tidegate_standin.service import Call, Operation, page

_UNITS = {"minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")
_TARGET = re.compile(r"arn:aws:scheduler:::aws-sdk:([a-z0-9]+):([a-zA-Z]+)")
_OLDEST_START_SECONDS = 300  # API Reference, CreateSchedule: not earlier than five minutes ago
_KEPT = [
    "ActionAfterCompletion",
    "Description",
    "EndDate",
    "FlexibleTimeWindow",
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
    "StartDate",
    "State",
    "Target",
]


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else read_iso(str(value))


def first_at(request: Json, now: float) -> float:
    """When a schedule fires first. Raises Refusal `ValidationException` for what is not served."""
    expression = request["ScheduleExpression"]
    at = _AT.fullmatch(expression)
    if at:
        try:
            zone = ZoneInfo(request.get("ScheduleExpressionTimezone", "UTC"))
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise Refusal("ValidationException", "Invalid ScheduleExpressionTimezone.") from error
        return datetime.fromisoformat(at.group(1)).replace(tzinfo=zone).astimezone(UTC).timestamp()
    if not _RATE.fullmatch(expression):
        raise Refusal("ValidationException", f"Invalid Schedule Expression {expression}.")
    start = _seconds(request["StartDate"]) if "StartDate" in request else now
    end = _seconds(request["EndDate"]) if "EndDate" in request else NEVER
    if start < now - _OLDEST_START_SECONDS:
        raise Refusal(
            "ValidationException", "The StartDate you specify cannot be earlier than 5 minutes ago."
        )
    if end <= max(start, now):
        raise Refusal(
            "ValidationException", "The EndDate must be in the future and after the StartDate."
        )
    return max(start, now)


def next_after(request: Json, fired_at: float) -> float:
    """When it fires after `fired_at`; never, when its EndDate comes first or it is a one-off."""
    rate = _RATE.fullmatch(request["ScheduleExpression"])
    if rate is None:
        return NEVER
    following = fired_at + int(rate.group(1)) * _UNITS[rate.group(2)]
    end = _seconds(request["EndDate"]) if "EndDate" in request else NEVER
    return following if following < end else NEVER


def _key(call: Call, group: str | None) -> tuple[str, str, str]:
    return call.account, group or "default", call.params["Name"]


def _schedule(call: Call) -> Schedule:
    found = call.cloud.schedules.get(_key(call, call.params.get("GroupName")))
    if found is None:
        raise Refusal(
            "ResourceNotFoundException", f"Schedule {call.params['Name']} does not exist."
        )
    return found


def _check(call: Call) -> Json:
    request = {k: v for k, v in call.params.items() if k in _KEPT}
    target = request["Target"]
    if request["FlexibleTimeWindow"]["Mode"] != "OFF":
        raise Refusal("ValidationException", "the stand-in serves FlexibleTimeWindow OFF only")
    if not _TARGET.fullmatch(target["Arn"]):
        raise Refusal(
            "ValidationException", "the stand-in serves universal targets of the AWS SDK only"
        )
    try:
        json.loads(target.get("Input", "{}"))
    except ValueError as error:
        raise Refusal("ValidationException", "Invalid Input: expected JSON.") from error
    role = call.cloud.roles.get(target["RoleArn"])
    if role is None or not _trusts_scheduler(role):
        raise Refusal(
            "ValidationException",
            "The execution role must allow AWS EventBridge Scheduler to assume the role.",
        )
    return request


def _trusts_scheduler(role: Role) -> bool:
    return "scheduler.amazonaws.com" in role.trust


def _group_exists(call: Call, group: str) -> None:
    if group != "default" and (call.account, group) not in call.cloud.schedule_groups:
        raise Refusal("ResourceNotFoundException", f"Schedule group {group} does not exist.")


def _delayed(call: Call, at: float) -> float:
    return at + call.cloud.options.schedule_delay_seconds


def _create(call: Call) -> Json:
    key = _key(call, call.params.get("GroupName"))
    _group_exists(call, key[1])
    request, token = _check(call), call.params.get("ClientToken", "")
    standing = call.cloud.schedules.get(key)
    if standing is not None:
        if token and token == standing.client_token:
            return {"ScheduleArn": standing.arn}
        raise Refusal("ConflictException", f"Schedule {key[2]} already exists.")
    made = Schedule(
        account=key[0],
        group=key[1],
        name=key[2],
        request=request,
        created_at=call.at,
        modified_at=call.at,
        next_at=_delayed(call, first_at(request, call.at)),
        client_token=token,
    )
    if request.get("State") == "DISABLED":
        made.next_at = NEVER
    call.cloud.schedules[key] = made
    return {"ScheduleArn": made.arn}


def _update(call: Call) -> Json:
    changed, request = _schedule(call), _check(call)
    first = _delayed(call, first_at(request, call.at))
    changed.request, changed.modified_at = request, call.at
    changed.next_at = NEVER if request.get("State") == "DISABLED" else first
    return {"ScheduleArn": changed.arn}


def _get(call: Call) -> Json:
    found = _schedule(call)
    shown = {
        "State": "ENABLED",
        "ActionAfterCompletion": "NONE",
        "ScheduleExpressionTimezone": "UTC",
        **found.request,
        "Arn": found.arn,
        "GroupName": found.group,
        "Name": found.name,
        "CreationDate": found.created_at,
        "LastModificationDate": found.modified_at,
    }
    for date in ("StartDate", "EndDate"):
        if date in shown:
            shown[date] = _seconds(shown[date])
    return shown


def _delete(call: Call) -> Json:
    found = _schedule(call)
    del call.cloud.schedules[found.account, found.group, found.name]
    return {}


def _list(call: Call) -> Json:
    group, prefix = call.params.get("GroupName"), call.params.get("NamePrefix", "")
    state = call.params.get("State")
    rows = [
        {
            "Arn": s.arn,
            "CreationDate": s.created_at,
            "GroupName": s.group,
            "LastModificationDate": s.modified_at,
            "Name": s.name,
            "State": s.request.get("State", "ENABLED"),
            "Target": {"Arn": s.request["Target"]["Arn"]},
        }
        for _, s in sorted(call.cloud.schedules.items())
        if s.account == call.account
        and group in (None, s.group)
        and s.name.startswith(prefix)
        and state in (None, s.request.get("State", "ENABLED"))
    ]
    return page(call, "Schedules", rows)


def _group_arn(call: Call, name: str) -> str:
    return f"arn:aws:scheduler:{REGION}:{call.account}:schedule-group/{name}"


def _create_group(call: Call) -> Json:
    name = call.params["Name"]
    if name == "default" or (call.account, name) in call.cloud.schedule_groups:
        raise Refusal("ConflictException", f"Schedule group {name} already exists.")
    call.cloud.schedule_groups[call.account, name] = call.at
    return {"ScheduleGroupArn": _group_arn(call, name)}


def _get_group(call: Call) -> Json:
    name = call.params["Name"]
    _group_exists(call, name)
    made = call.cloud.schedule_groups.get((call.account, name), 0.0)
    return {
        "Arn": _group_arn(call, name),
        "CreationDate": made,
        "LastModificationDate": made,
        "Name": name,
        "State": "ACTIVE",
    }


def dead_letter(cloud: Cloud, schedule: Schedule, at: float, refusal: Refusal) -> None:
    """Put a failed invocation where the schedule's dead-letter queue would have it."""
    target = schedule.request["Target"]
    cloud.dead_letters.append(
        {
            "at": iso(at),
            "queue": target.get("DeadLetterConfig", {}).get("Arn", ""),
            "schedule": schedule.arn,
            "target": target["Arn"],
            "input": target.get("Input", ""),
            "error_code": refusal.code,
            "error_message": refusal.message,
        }
    )


def invocation(schedule: Schedule) -> tuple[str, str, Json]:
    """(service as the SDK for Java names it, operation, parameters) of a schedule's target."""
    target = schedule.request["Target"]
    found = _TARGET.fullmatch(target["Arn"])
    if found is None:
        raise Refusal("ValidationException", f"unserved target {target['Arn']}")
    name = found.group(2)
    return found.group(1), name[0].upper() + name[1:], json.loads(target.get("Input", "{}"))


def went_off(cloud: Cloud, schedule: Schedule, at: float) -> None:
    """Note that it fired at `at` and when it fires next; drop it when it is done and says so."""
    schedule.fired.append(at)
    schedule.next_at = next_after(schedule.request, at)
    if schedule.next_at == NEVER and schedule.request.get("ActionAfterCompletion") == "DELETE":
        cloud.schedules.pop((schedule.account, schedule.group, schedule.name), None)


def _resource(call: Call) -> list[str]:
    group = call.params.get("GroupName", "default")
    return [f"arn:aws:scheduler:{REGION}:{call.account}:schedule/{group}/{call.params['Name']}"]


def _group_resource(call: Call) -> list[str]:
    return [_group_arn(call, call.params["Name"])]


def passed_role(call: Call) -> list[str]:
    """The role that iam:PassRole is needed on, for operations that hand one over."""
    role = call.params.get("Target", {}).get("RoleArn")
    return [role] if role and call.operation in ("CreateSchedule", "UpdateSchedule") else []


OPERATIONS = {
    "CreateScheduleGroup": Operation(
        run=_create_group, actions=("scheduler:CreateScheduleGroup",), resources=_group_resource
    ),
    "GetScheduleGroup": Operation(
        run=_get_group, actions=("scheduler:GetScheduleGroup",), resources=_group_resource
    ),
    "CreateSchedule": Operation(
        run=_create, actions=("scheduler:CreateSchedule",), resources=_resource
    ),
    "UpdateSchedule": Operation(
        run=_update, actions=("scheduler:UpdateSchedule",), resources=_resource
    ),
    "GetSchedule": Operation(run=_get, actions=("scheduler:GetSchedule",), resources=_resource),
    "DeleteSchedule": Operation(
        run=_delete, actions=("scheduler:DeleteSchedule",), resources=_resource
    ),
    "ListSchedules": Operation(run=_list, actions=("scheduler:ListSchedules",)),
}
