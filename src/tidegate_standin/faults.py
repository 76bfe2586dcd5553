"""What a test lets go wrong: faults by operation, for a number of calls or until an instant."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any

from tidegate_standin.errors import BadAdminRequest, Refusal

Json = dict[str, Any]

KINDS = {
    "in_progress": "the async request stays IN_PROGRESS: `describes`, `seconds`",
    "async_failed": "the async request ends FAILED: `reason`",
    "conflict": "ConflictException",
    "throttle": "ThrottlingException",
    "refuse": "AccessDeniedException",
    "error": "InternalServerException, or `code` with `status`",
    "lost_request": "shut before anything happened",
    "lost_reply": "done, then shut without an answer",
    "delay": "answered `seconds` later",
    "down": "every call of every service is shut",
}
_OVER_THE_WIRE = {"lost_request", "lost_reply", "delay", "down"}


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault. `left` None means until it is reset or `until` has come."""

    fault_id: int
    operation: str
    kind: str
    left: int | None
    until: float | None
    containing: str
    values: Json


class Faults:
    """The faults in force, oldest first; the first that fits is taken."""

    def __init__(self) -> None:
        self._all: list[Fault] = []
        self._made = 0

    def add(self, asked: Json, now: float) -> int:
        """Take in `{"operation", "kind", "count"?, "seconds_in_force"?, "containing"?, …}`.

        `operation` is a name with `*` allowed; `containing` is a text the request must have in it.
        Raises BadAdminRequest for an unknown kind.
        """
        kind = asked.get("kind", "")
        if kind not in KINDS:
            raise BadAdminRequest(f"expected a kind of {sorted(KINDS)}, got `{kind}`")
        self._made += 1
        lasting = asked.get("seconds_in_force")
        fault = Fault(
            fault_id=self._made,
            operation=asked.get("operation", "*"),
            kind=kind,
            left=asked.get("count"),
            until=None if lasting is None else now + float(lasting),
            containing=asked.get("containing", ""),
            values=asked,
        )
        self._all.append(fault)
        return fault.fault_id

    def clear(self, fault_id: int | None = None) -> None:
        """Forget one fault, or all."""
        self._all = [] if fault_id is None else [f for f in self._all if f.fault_id != fault_id]

    def listed(self) -> list[Json]:
        """The faults still in force."""
        return [{"id": f.fault_id, "left": f.left, **f.values} for f in self._all]

    def take(
        self, operation: str, now: float, *, text: str = "", by_schedule: bool = False
    ) -> Fault | None:
        """The fault this call meets, counted down. A schedule's call meets no fault of the wire."""
        for fault in self._all:
            if by_schedule and fault.kind in _OVER_THE_WIRE:
                continue
            spent = fault.left == 0 or (fault.until is not None and now >= fault.until)
            wanted = fault.kind == "down" or fnmatch.fnmatchcase(operation, fault.operation)
            if spent or not wanted or (fault.containing not in text):
                continue
            if fault.left is not None:
                fault.left -= 1
            return fault
        return None


def refusal_of(fault: Fault, service: str) -> Refusal | None:
    """The error this fault is answered with, None when it is of another sort."""
    if fault.kind == "conflict" and service == "organizations":
        return Refusal("ConcurrentModificationException", "the organization is being changed")
    if fault.kind == "conflict":
        return Refusal(
            "ConflictException", "a conflict with a previous successful write was detected"
        )
    if fault.kind == "throttle":
        code = {"organizations": "TooManyRequestsException", "sso": "TooManyRequestsException"}
        codes = {**code, "iam": "Throttling", "sts": "Throttling", "s3": "SlowDown"}
        return Refusal(codes.get(service, "ThrottlingException"), "Rate exceeded")
    if fault.kind == "refuse":
        return Refusal(
            "AccessDeniedException", str(fault.values.get("reason", "refused by a fault"))
        )
    if fault.kind == "error":
        code_of = {"organizations": "ServiceException", "iam": "ServiceFailure"}
        return Refusal(
            str(fault.values.get("code", code_of.get(service, "InternalServerException"))),
            str(fault.values.get("reason", "an unexpected internal error")),
            status=int(fault.values.get("status", 500)),
        )
    return None
