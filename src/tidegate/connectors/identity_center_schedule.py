"""A deadline in the cloud for an assignment, which has none of its own.

One schedule of EventBridge Scheduler a natural key, which removes the assignment at the end and
every two minutes after it, whoever is alive then. What it cannot do goes to the dead-letter queue.
It removes whatever stands there by that key, so it is moved before a longer grant begins.
"""

import hashlib
import json
from datetime import timedelta
from typing import Any

from tidegate.base.when import Instant, from_ms, to_ms, wire
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.aws_calls import CloudNo
from tidegate.connectors.identity_center_assignments import request_of
from tidegate.connectors.identity_center_calls import Body, Center, missing
from tidegate.connectors.identity_center_settings import ScheduleSettings
from tidegate.connectors.port import Receipt

EVERY = "rate(2 minutes)"
LASTING = timedelta(hours=2)
# At the end, two minutes at most to the first try, two for one that met another change, the time a
# change takes in AWS: what is promised of it.
BOUND = timedelta(minutes=10)
_TARGET = "arn:aws:scheduler:::aws-sdk:ssoadmin:deleteAccountAssignment"
# A try that fails is followed by the next one anyway.
_RETRIES = {"MaximumEventAgeInSeconds": 120, "MaximumRetryAttempts": 1}


def name_of(key: AssignmentKey) -> str:
    """The schedule's name for a natural key: the same wherever it is asked."""
    return f"tidegate-{hashlib.sha256(key.text().encode()).hexdigest()[:32]}"


class Schedules:
    """The deadlines of one instance."""

    def __init__(self, settings: ScheduleSettings) -> None:
        self._settings = settings

    def arm(self, center: Center, key: AssignmentKey, until: Instant) -> Receipt:
        """Have the assignment removed at `until`: made, moved, or as it is.

        Raises:
            Refused: `no_schedule_group` or what AWS refuses; Unreachable, Unknown.
        """
        wanted = self._request(center, key, until)
        read, at = self._read(center, key)
        if read is None:
            try:
                reply = center.call("scheduler", "create_schedule", **wanted)
            except CloudNo as no:
                if no.aws_code != "ConflictException":
                    raise
                # Another process made it meanwhile, maybe for another end.
                reply = center.call("scheduler", "update_schedule", **wanted)
            return _receipt("made", until, reply.cloud_at)
        if all(_same(read.get(name), value) for name, value in wanted.items()):
            return _receipt("there", until, at)
        reply = center.call("scheduler", "update_schedule", **wanted)
        return _receipt("moved", until, reply.cloud_at)

    def disarm(self, center: Center, key: AssignmentKey) -> Receipt:
        """Take the deadline away; one that is not there is taken away."""
        group = self._settings.group
        try:
            reply = center.call("scheduler", "delete_schedule", Name=name_of(key), GroupName=group)
        except CloudNo as no:
            if not missing(no) or no.cloud_at is None:
                raise
            return Receipt(cloud_at=no.cloud_at, detail={"deadline": "absent"})
        return Receipt(cloud_at=reply.cloud_at, detail={"deadline": "removed"})

    def deadline(self, center: Center, key: AssignmentKey) -> Instant | None:
        """When the cloud removes the assignment by itself; None: no such thing there."""
        read, _ = self._read(center, key)
        start = read.get("StartDate") if read else None
        return None if start is None else from_ms(to_ms(start))

    def _read(self, center: Center, key: AssignmentKey) -> tuple[Body | None, Instant]:
        group = self._settings.group
        try:
            reply = center.call("scheduler", "get_schedule", Name=name_of(key), GroupName=group)
        except CloudNo as no:
            if not missing(no) or no.cloud_at is None:
                raise
            return None, no.cloud_at
        return reply.body, reply.cloud_at

    def _request(self, center: Center, key: AssignmentKey, until: Instant) -> dict[str, Any]:
        request = {"InstanceArn": center.instance, **request_of(key)}
        return {
            "Name": name_of(key),
            "GroupName": self._settings.group,
            "ScheduleExpression": EVERY,
            "StartDate": until,
            "EndDate": until + LASTING,
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "DELETE",
            "State": "ENABLED",
            "Target": {
                "Arn": _TARGET,
                "RoleArn": self._settings.role,
                "Input": json.dumps(request, sort_keys=True),
                "DeadLetterConfig": {"Arn": self._settings.dead_letter},
                "RetryPolicy": _RETRIES,
            },
        }


def _same(read: object, wanted: object) -> bool:
    """Whether the schedule has it already. Instants come back in whole seconds."""
    if isinstance(wanted, Instant):
        return isinstance(read, Instant) and abs(read - wanted) < timedelta(seconds=1)
    return read == wanted


def _receipt(how: str, until: Instant, at: Instant) -> Receipt:
    return Receipt(cloud_at=at, detail={"deadline": how, "deadline_at": wire(until)})
