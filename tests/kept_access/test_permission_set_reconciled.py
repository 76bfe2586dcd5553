"""Reconcile on role kind `permission-set`: what others do there is seen, and only ours is ended.

The production flow, the production connector and real HTTP; the cloud is the stand-in.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import tidegate_standin
from tests.connectors.identity_center_world import ACCOUNT, OTHER, Center, running
from tests.kept_access.permission_set import CenterWorld, CloudClock, laws_of
from tidegate.evidence.seal import read_event
from tidegate.finding import Finding, FindingKind
from tidegate.flow.baseline import take_baseline
from tidegate.flow.reconciling import PASS_EVERY, reconcile_some
from tidegate.flow.revoking import end_early
from tidegate.flow.searching import search_some
from tidegate.grant import Grant, GrantState

# Its ways that rows decide are on both engines: `test_permission_set_ways.py`.
pytestmark = pytest.mark.only("sqlite")


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


@pytest.fixture
def center(cloud: tidegate_standin.Running) -> Center:
    """A fresh organisation."""
    return Center(cloud)


@pytest.fixture
def world(center: Center, tmp_path: Path, database: str) -> Iterator[CenterWorld]:
    """An installation on it."""
    clock = CloudClock(center)
    made = CenterWorld(
        tmp_path,
        clock=clock,  # type: ignore[arg-type]
        laws=laws_of(center),
        center=center,
        url=database,
    )
    yield made
    made.down()


def opened(world: CenterWorld, login: str = "ana") -> Grant:
    """An open grant of the permission set."""
    request = world.vote(world.ask(login))
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    return world.until(grant, GrantState.OPEN)


def gone(world: CenterWorld) -> Grant:
    """A grant that was opened, ended early and is gone."""
    grant = opened(world)
    end_early(world.house, world.who("bo"), grant.id)
    return world.until(grant, GrantState.GONE)


def look(world: CenterWorld) -> list[Finding]:
    """One whole look at everything; the findings that are not closed after it."""
    world.clock.forward(seconds=PASS_EVERY.total_seconds())
    for _ in range(3):  # two names of one permission set, and a pause between them
        reconcile_some(world.house, 10)
        world.clock.forward(seconds=1)
    live = world.house.store.live_of_role
    return [*live("prod", "prod/admin"), *live("prod", "prod/same")]


def every(world: CenterWorld) -> list[tuple[str, str, int]]:
    """Kind, how closed and times of every finding."""
    return [(one.kind.value, one.closed_how, one.times) for one in world.house.store.findings()]


def assign(center: Center, user: str = "ana") -> None:
    """What another system does: an assignment."""
    center.admin.add_assignment(center.name, ACCOUNT, user=user)


def unassign(center: Center, user: str = "ana") -> None:
    """What another system does: the assignment taken away."""
    center.admin.remove_assignment(center.name, ACCOUNT, user=user)


def test_quiet_account_has_no_findings(world: CenterWorld, center: Center) -> None:
    """Open, closing, removed and gone: nothing to find, and nothing is changed by looking."""
    look(world)
    grant = opened(world)
    assert look(world) == [] and center.assigned()
    end_early(world.house, world.who("bo"), grant.id)
    for _ in range(4):
        world.work()
        assert look(world) == []
    world.until(grant, GrantState.GONE)
    assert look(world) == []
    assert every(world) == []


def test_a_sync_that_makes_it_again_and_again(world: CenterWorld, center: Center) -> None:
    """Each time another system assigns it again it is removed, and sessions taken by it end."""
    look(world)
    grant = gone(world)
    for times in (1, 2, 3):
        assign(center)
        session = center.sign_in()
        assert look(world) == []
        assert not center.assigned()
        assert every(world) == [("readded", "healed", times)]
        world.clock.forward(seconds=10)
        assert not center.acts(session)
    assert world.names(grant.request)[-3:] == ["leftover.closed"] * 3
    assert world.grant(grant).state is GrantState.GONE


def test_readded_while_the_deny_cannot_be_written(world: CenterWorld, center: Center) -> None:
    """A removal without its cut is no end: the finding stays until both were read back."""
    look(world)
    gone(world)
    assign(center)
    session = center.sign_in()
    center.admin.fault("PutInlinePolicyToPermissionSet", "error", count=2)
    center.admin.fault("GetInlinePolicyForPermissionSet", "error", count=2)
    for _ in range(3):
        look(world)
        world.work()
    assert not center.assigned()
    world.clock.forward(seconds=10)
    assert not center.acts(session)
    assert every(world) == [("readded", "healed", 1)]


def test_standing_administrator_is_a_finding_and_stays(world: CenterWorld, center: Center) -> None:
    """One baseline, then changes: whom we did not assign is told, and never touched."""
    assign(center, "cy")
    assert look(world) == []
    assign(center, "bo")
    (found,) = look(world)
    assert found.kind is FindingKind.STANDING
    assert "delete-account-assignment" in found.remedy
    assert center.assigned("bo") and center.assigned("cy")
    unassign(center, "bo")
    assert look(world) == []
    assert every(world) == [("standing", "fixed", 1)]


def test_baseline_calls_it_known(world: CenterWorld, center: Center) -> None:
    """An owner's new baseline ends the finding; nothing changes in the cloud."""
    look(world)
    assign(center, "cy")
    assert [one.kind for one in look(world)] == [FindingKind.STANDING]
    take_baseline(world.house, world.who("op"), "prod", "cy runs the break-glass drills")
    assert look(world) == []
    assert center.assigned("cy")


def test_gone_early_is_told_and_not_made_again(world: CenterWorld, center: Center) -> None:
    """Somebody removed an open grant's assignment: told, and left as it is."""
    look(world)
    grant = opened(world)
    look(world)
    unassign(center)
    (found,) = look(world)
    assert (found.kind, found.grant) == (FindingKind.GONE_EARLY, grant.id)
    assert not center.assigned()


@pytest.mark.parametrize("how", ["gone", "moved"])
def test_schedule_changed_outside_is_set_again(
    world: CenterWorld, center: Center, how: str
) -> None:
    """The cloud's own deadline of an open grant, taken away or moved, is there again, told once."""
    look(world)
    opened(world)
    look(world)
    scheduler = center.client("broker", "scheduler")
    (known,) = scheduler.list_schedules(GroupName="tidegate")["Schedules"]
    asked = {"Name": known["Name"], "GroupName": "tidegate"}
    was = scheduler.get_schedule(**asked)
    if how == "gone":
        scheduler.delete_schedule(**asked)
    else:
        keep = ("FlexibleTimeWindow", "Target", "ScheduleExpression")
        later = {name: was[name] + timedelta(hours=3) for name in ("StartDate", "EndDate")}
        scheduler.update_schedule(**asked, **{name: was[name] for name in keep}, **later)
    assert look(world) == []
    again = scheduler.get_schedule(**asked)
    assert again["StartDate"] == was["StartDate"]
    look(world)
    assert every(world) == [("deadline", "healed", 1)]


def test_scheduler_down_hides_no_leftover(world: CenterWorld, center: Center) -> None:
    """A deadline that cannot be read does not keep what came back from being removed."""
    look(world)
    gone(world)
    opened(world, "eve")
    assign(center)
    center.admin.fault("GetSchedule", "error", count=50)
    look(world)
    assert not center.assigned()
    center.admin.clear_faults()


def test_several_pages_of_people(world: CenterWorld, center: Center) -> None:
    """A list longer than a page of the cloud is read whole."""
    center.admin.seed(users=[{"user_name": f"u{n}"} for n in range(130)])
    look(world)
    for n in range(130):
        assign(center, f"u{n}")
    assert len(look(world)) == 130


def made(center: Center, user: str, account: str = ACCOUNT) -> None:
    """An assignment made by the API, as an administrator would."""
    center.client("broker", "sso-admin").create_account_assignment(
        InstanceArn=center.ids["instance_arn"],
        PermissionSetArn=center.arn,
        TargetType="AWS_ACCOUNT",
        TargetId=account,
        PrincipalType="USER",
        PrincipalId=center.ids["users"][user],
    )


def searched(world: CenterWorld, grant: Grant) -> dict[str, object]:
    """What the search of an ended grant told."""
    end_early(world.house, world.who("bo"), grant.id)
    world.until(grant, GrantState.GONE)
    search_some(world.house)
    events = [read_event(leaf) for _, leaf in world.house.store.events(grant.request)]
    (event,) = [event for event in events if event.name == "grant.searched"]
    return dict(event.data)


def test_assignment_made_inside_the_window_is_a_side_door(
    world: CenterWorld, center: Center
) -> None:
    """What was assigned meanwhile is named with its command; grants' own and older ones are not."""
    made(center, "bo")
    world.clock.forward(minutes=5)
    grant, other = opened(world), opened(world, "eve")
    world.clock.forward(minutes=1)
    made(center, "cy")
    made(center, "ana", OTHER)
    made(center, "bo", OTHER)
    world.clock.forward(minutes=1)
    told = searched(world, grant)
    found = [one for one in world.house.store.findings() if one.kind is FindingKind.SIDE_DOOR]
    users = center.ids["users"]
    assert {one.what.rpartition("|")[2] for one in found} == {users["cy"], users["ana"]}
    assert all(one.remedy.startswith("aws sso-admin delete-account") for one in found)
    assert all(one.by == "" for one in found)
    assert told["searched"] == ["account_assignment"]
    assert ACCOUNT in str(told["why_not"])
    assert center.assigned("cy") and world.grant(other).state is GrantState.OPEN


def test_search_that_may_not_be_made_says_why(world: CenterWorld, center: Center) -> None:
    """Without the right to list requests nothing is said to be searched."""
    grant = opened(world)
    center.admin.fault("ListAccountAssignmentCreationStatus", "refuse", count=50)
    told = searched(world, grant)
    assert told["searched"] == [] and "account assignments: " in str(told["why_not"])
    assert world.grant(grant).searched == "not_searched"


def test_a_sync_is_laundered_by_one_more_grant(world: CenterWorld, center: Center) -> None:
    """Made again by a sync, it is removed before the next grant opens, whose end is an end."""
    look(world)
    gone(world)
    assign(center)
    request = world.vote(world.ask("ana"))
    world.work()
    (second,) = world.house.store.grants(request=request.id)
    assert second.outcome == "still_closing"
    assert look(world) == []
    assert not center.assigned()
    world.until(second, GrantState.OPEN)
    end_early(world.house, world.who("bo"), second.id)
    world.until(second, GrantState.GONE)
    assert world.grant(second).still_held_by == ""
    assert not center.assigned()


def test_slow_provisioning_leaves_what_was_closed_again_uncut(
    world: CenterWorld, center: Center
) -> None:
    """Slower than one look: the looks after it wait for the same cut, and do not begin another."""
    look(world)
    gone(world)
    assign(center)
    session = center.sign_in()
    slow = center.admin.fault(
        "ProvisionPermissionSet", "in_progress", count=99, describes=99, seconds=45
    )
    (found,) = look(world)
    assert found.kind is FindingKind.READDED and not center.assigned()
    for _ in range(3):
        look(world)
    center.admin.clear_faults(slow)
    assert every(world) == [("readded", "healed", 1)]
    assert not center.acts(session)
