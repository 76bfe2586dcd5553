"""One request to one answer: recognised, authenticated, authorised, run; and a schedule's likewise.

Called by the server, under its lock.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from tidegate_standin import (
    accounts,
    assignments,
    identity_store,
    organizations,
    permission_sets,
    scheduler,
)
from tidegate_standin.cloud import Cloud, Json, Schedule
from tidegate_standin.errors import Refusal, Unanswered
from tidegate_standin.faults import Fault, Faults, refusal_of
from tidegate_standin.passing import pass_time
from tidegate_standin.rights import authorise, caller_of, scope_of
from tidegate_standin.service import Call, Operation
from tidegate_standin.signing import HttpRequest
from tidegate_standin.wire import (
    Answer,
    Models,
    check_parameters,
    read_parameters,
    recognise,
    write_answer,
    write_refusal,
)

SERVED: dict[str, dict[str, Operation]] = {
    "sso-admin": {**assignments.OPERATIONS, **permission_sets.OPERATIONS},
    "identitystore": identity_store.OPERATIONS,
    "organizations": organizations.OPERATIONS,
    "scheduler": scheduler.OPERATIONS,
    "sso": accounts.PORTAL,
    "sts": accounts.STS,
    "iam": accounts.IAM,
    "s3": accounts.S3,
}
_SCHEDULED = {"ssoadmin": "sso-admin"}
# Service Authorization Reference, IAM, and EventBridge Scheduler User Guide, "Setting up the
# execution role": who makes or changes a schedule passes its role to this service.
_PASSED_TO = {"iam:PassedToService": "scheduler.amazonaws.com"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A recognised request with the fault it meets, before it runs."""

    service: str
    operation: str
    parts: Json
    fault: Fault | None
    early: Answer | None = None


@dataclass(slots=True, kw_only=True)
class Desk:
    """Everything a request needs. Use it only while holding the server's lock."""

    cloud: Cloud
    faults: Faults = field(default_factory=Faults)
    models: Models = field(default_factory=Models)

    def pass_time(self) -> None:
        """Let what is due happen: requests finish, schedules fire."""
        pass_time(self.cloud, self._fire)

    def recognise(self, request: HttpRequest) -> Asked:
        """Which operation this is and which fault it meets. Counts the call."""
        scope = scope_of(request)
        service = scope.service if scope and scope.service in ("iam", "sts", "s3") else "scheduler"
        name = ""
        try:
            service, name, parts = recognise(
                self.models,
                request.method,
                request.path,
                dict(request.headers),
                request.body,
                scope.service if scope else "",
            )
            if name not in SERVED.get(service, {}):
                raise Refusal(
                    "UnknownOperationException", f"the stand-in does not serve {service} {name}"
                )
        except Refusal as refusal:
            answer = write_refusal(self.models, service, name, refusal, str(uuid.uuid4()))
            return Asked(service="", operation="", parts={}, fault=None, early=answer)
        counted = f"{service}:{name}"
        self.cloud.calls[counted] = self.cloud.calls.get(counted, 0) + 1
        text = f"{request.path}?{request.query}\n{request.body.decode(errors='replace')}"
        fault = self.faults.take(name, self.cloud.clock.now(), text=text)
        return Asked(service=service, operation=name, parts=parts, fault=fault)

    def answer(self, request: HttpRequest, asked: Asked) -> Answer:
        """Run it. Raises Unanswered when its fault takes the connection."""
        if asked.early is not None:
            return asked.early
        kind = asked.fault.kind if asked.fault else ""
        if kind in ("lost_request", "down"):
            raise Unanswered(kind)
        request_id = str(uuid.uuid4())
        try:
            result = self._run(request, asked)
            answer = write_answer(self.models, asked.service, asked.operation, result, request_id)
        except Refusal as refusal:
            counted = f"{asked.service}:{asked.operation}:{refusal.code}"
            self.cloud.refused[counted] = self.cloud.refused.get(counted, 0) + 1
            answer = write_refusal(self.models, asked.service, asked.operation, refusal, request_id)
        if kind == "lost_reply":
            raise Unanswered(kind)
        return answer

    def _run(self, request: HttpRequest, asked: Asked) -> Json:
        cloud, operation = self.cloud, SERVED[asked.service][asked.operation]
        open_to_all = asked.service == "sso"
        caller = None if open_to_all else caller_of(cloud, request, scope_of(request))
        if asked.fault is not None:
            refusal = refusal_of(asked.fault, asked.service)
            if refusal is not None:
                raise refusal
        params = read_parameters(
            self.models,
            asked.service,
            asked.operation,
            asked.parts,
            request.query,
            dict(request.headers),
            request.body,
        )
        call = Call(
            cloud=cloud,
            service=asked.service,
            operation=asked.operation,
            params=params,
            at=cloud.clock.now(),
            caller=caller,
            fault=asked.fault,
        )
        if caller is not None:
            authorise(cloud, caller, operation.actions, operation.resources(call), call.at)
            role = scheduler.passed_role(call)
            authorise(cloud, caller, ["iam:PassRole"], role, call.at, _PASSED_TO)
        return operation.run(call)

    def _fire(self, cloud: Cloud, schedule: Schedule, at: float) -> None:
        try:
            self._invoke(schedule, at)
        except Refusal as refusal:
            scheduler.dead_letter(cloud, schedule, at, refusal)
        scheduler.went_off(cloud, schedule, at)

    def _invoke(self, schedule: Schedule, at: float) -> None:
        sdk_name, name, params = scheduler.invocation(schedule)
        service = _SCHEDULED.get(sdk_name, sdk_name)
        operation = SERVED.get(service, {}).get(name)
        role = self.cloud.roles.get(schedule.request["Target"]["RoleArn"])
        if operation is None or role is None:
            raise Refusal("AccessDeniedException", "the target or its role does not exist")
        counted = f"schedule:{name}"
        self.cloud.calls[counted] = self.cloud.calls.get(counted, 0) + 1
        text = schedule.request["Target"].get("Input", "")
        fault = self.faults.take(name, at, text=text, by_schedule=True)
        refusal = refusal_of(fault, service) if fault else None
        if refusal is not None:
            raise refusal
        check_parameters(self.models, service, name, params)
        call = Call(
            cloud=self.cloud,
            service=service,
            operation=name,
            params=params,
            at=at,
            fault=fault,
            by_account=role.account,
        )
        authorise(self.cloud, role, operation.actions, operation.resources(call), at)
        operation.run(call)
