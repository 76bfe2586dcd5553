"""Schedules fire with nobody alive, as their role, and say in the dead letters what failed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.standin.conftest import HUB, MANAGEMENT, QUEUE, Scene, allow

TARGET = "arn:aws:scheduler:::aws-sdk:ssoadmin:deleteAccountAssignment"


def _now(scene: Scene) -> datetime:
    return datetime.fromisoformat(scene.admin.health()["now"]).astimezone(UTC)


def _schedule(scene: Scene, *, minutes: float = 10, **more: Any) -> dict[str, Any]:
    start = _now(scene) + timedelta(minutes=minutes)
    return {
        "Name": "tidegate-1",
        "GroupName": "tidegate",
        "ScheduleExpression": "rate(2 minutes)",
        "StartDate": start,
        "EndDate": start + timedelta(hours=2),
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {
            "Arn": TARGET,
            "RoleArn": scene.ids["roles"]["deadline"],
            "Input": json.dumps(scene.key()),
            "DeadLetterConfig": {"Arn": QUEUE},
        },
        **more,
    }


@pytest.fixture
def planned(scene: Scene) -> Scene:
    """An assignment with its schedule, ten minutes ahead."""
    scheduler = scene.client("scheduler")
    scheduler.create_schedule_group(Name="tidegate")
    scheduler.create_schedule(**_schedule(scene))
    scene.change("Creation")
    return scene


def _fired(scene: Scene) -> int:
    return scene.admin.calls().get("schedule:DeleteAccountAssignment", 0)


def test_schedule_removes_the_assignment_with_nobody_alive(planned: Scene) -> None:
    """Not a minute early, and gone soon after."""
    planned.admin.pass_seconds(595)
    assert len(planned.admin.assignments()) == 1
    planned.admin.pass_seconds(10)
    assert planned.admin.assignments() == []


def test_schedule_tries_again_until_the_cloud_lets_it(planned: Scene) -> None:
    """Two refused attempts are dead letters, the third removes."""
    planned.admin.fault("DeleteAccountAssignment", "throttle", count=2)
    planned.admin.pass_seconds(600 + 130)
    assert len(planned.admin.assignments()) == 1
    planned.admin.pass_seconds(120)
    assert planned.admin.assignments() == []
    letters = planned.admin.dead_letters()
    assert [one["error_code"] for one in letters] == ["ThrottlingException"] * 2
    assert {one["queue"] for one in letters} == {QUEUE}


def test_schedule_may_only_what_its_role_may(planned: Scene) -> None:
    """A role without the right fills the dead letters and removes nothing."""
    planned.admin.seed(
        roles=[
            {
                "name": "deadline",
                "account": HUB,
                "trust": ["scheduler.amazonaws.com"],
                "policies": [allow("sso:List*")],
            }
        ]
    )
    planned.admin.pass_seconds(700)
    assert len(planned.admin.assignments()) == 1
    letter = planned.admin.dead_letters()[0]
    assert letter["error_code"] == "AccessDeniedException"
    assert "assumed-role" in letter["error_message"] or "role/deadline" in letter["error_message"]


def test_schedule_of_the_hub_cannot_remove_on_the_management_account(scene: Scene) -> None:
    """Its role is in the delegated administrator's account."""
    scene.admin.add_assignment("admin", MANAGEMENT, user="ana")
    scheduler = scene.client("scheduler")
    asked = _schedule(scene, GroupName="default")
    asked["Target"]["Input"] = json.dumps(scene.key(account=MANAGEMENT))
    scheduler.create_schedule(**asked)
    scene.admin.pass_seconds(700)
    assert len(scene.admin.assignments()) == 1


def test_schedule_ends_after_its_end_and_is_deleted(planned: Scene) -> None:
    """Sixty invocations in two hours, then none, and no schedule."""
    planned.admin.pass_seconds(600 + 3 * 3600)
    assert _fired(planned) == 60
    assert planned.admin.state()["schedules"] == []
    with pytest.raises(ClientError) as refused:
        planned.client("scheduler").get_schedule(Name="tidegate-1", GroupName="tidegate")
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_moved_schedule_fires_at_the_new_time_only(planned: Scene) -> None:
    """An update moves the end; the old one passes without effect."""
    scheduler = planned.client("scheduler")
    scheduler.update_schedule(**_schedule(planned, minutes=60))
    planned.admin.pass_seconds(1_800)
    assert len(planned.admin.assignments()) == 1
    planned.admin.pass_seconds(1_830)
    assert planned.admin.assignments() == []


def test_deleted_schedule_never_fires(planned: Scene) -> None:
    """Removed at gone, it does nothing later."""
    planned.client("scheduler").delete_schedule(Name="tidegate-1", GroupName="tidegate")
    planned.admin.pass_seconds(3_600)
    assert (_fired(planned), len(planned.admin.assignments())) == (0, 1)


def test_precision_delays_the_invocation(scene: Scene) -> None:
    """The documented minute of precision can be played as a fixed delay."""
    scene.admin.options(schedule_delay_seconds=59)
    scheduler = scene.client("scheduler")
    scheduler.create_schedule_group(Name="tidegate")
    scheduler.create_schedule(**_schedule(scene, minutes=1))
    scene.admin.pass_seconds(100)
    assert _fired(scene) == 0
    scene.admin.pass_seconds(25)
    assert _fired(scene) == 1


def test_one_off_schedule_fires_once(scene: Scene) -> None:
    """at() runs at its instant in its time zone."""
    at = (_now(scene) + timedelta(minutes=5)).strftime("at(%Y-%m-%dT%H:%M:%S)")
    asked = _schedule(scene, GroupName="default", ScheduleExpression=at)
    del asked["StartDate"], asked["EndDate"]
    scene.client("scheduler").create_schedule(**asked)
    scene.admin.pass_seconds(3_600)
    assert _fired(scene) == 1


def test_schedule_without_group_or_twice_or_without_passrole_is_refused(scene: Scene) -> None:
    """A missing group, a second schedule of the name, and a role that may not be passed."""
    scheduler = scene.client("scheduler")
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.create_schedule(**_schedule(scene))
    scheduler.create_schedule_group(Name="tidegate")
    scheduler.create_schedule(**_schedule(scene))
    with pytest.raises(scheduler.exceptions.ConflictException):
        scheduler.create_schedule(**_schedule(scene))
    scene.admin.policies("broker", [allow("scheduler:*")])
    with pytest.raises(ClientError) as refused:
        scheduler.create_schedule(**_schedule(scene, Name="tidegate-2"))
    assert "iam:PassRole" in refused.value.response["Error"]["Message"]


def test_repeated_create_with_its_token_is_the_same_schedule(scene: Scene) -> None:
    """A lost reply can be asked again with the same client token."""
    scheduler = scene.client("scheduler")
    asked = _schedule(scene, GroupName="default", ClientToken="t-1")
    first = scheduler.create_schedule(**asked)["ScheduleArn"]
    assert scheduler.create_schedule(**asked)["ScheduleArn"] == first


def test_end_in_the_past_is_refused(scene: Scene) -> None:
    """A schedule that could never fire is not made."""
    asked = _schedule(scene, GroupName="default", minutes=-200)
    scheduler = scene.client("scheduler")
    with pytest.raises(scheduler.exceptions.ValidationException):
        scheduler.create_schedule(**asked)


def test_target_input_that_no_api_takes_is_a_dead_letter(scene: Scene) -> None:
    """A wrong input is found when it fires, as on AWS."""
    asked = _schedule(scene, GroupName="default", minutes=1)
    asked["Target"]["Input"] = json.dumps({"TargetId": "1"})
    scene.client("scheduler").create_schedule(**asked)
    scene.admin.pass_seconds(61)
    assert scene.admin.dead_letters()[0]["error_code"] == "ValidationException"
