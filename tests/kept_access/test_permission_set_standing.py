"""Who administers an account by a permission set nobody hands out, held against its baseline.

The production flow, the production connector and real HTTP; the cloud is the stand-in.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tidegate_standin
from tests.connectors.identity_center_world import ACCOUNT, Center, running
from tests.connectors.permission_sets_clocked import allowing
from tests.kept_access.permission_set import CenterWorld, CloudClock, laws_of
from tidegate.finding import Finding, FindingKind
from tidegate.flow.baseline import take_baseline
from tidegate.flow.standing import ACCOUNT_EVERY, look_at_standing
from tidegate.grant import GrantState

pytestmark = pytest.mark.only("sqlite")


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


@pytest.fixture
def center(cloud: tidegate_standin.Running) -> Center:
    """A fresh organisation, with a permission set that is not handed out."""
    made = Center(cloud)
    made.admin.seed(
        permission_sets=[{"name": "Legacy"}],
        assignments=[{"permission_set": "Legacy", "account": ACCOUNT, "user": "cy"}],
    )
    return made


@pytest.fixture
def world(center: Center, tmp_path: Path, database: str) -> Iterator[CenterWorld]:
    """An installation on it."""
    clock: Any = CloudClock(center)
    made = CenterWorld(tmp_path, clock=clock, laws=laws_of(center), center=center, url=database)
    yield made
    made.down()


def look(world: CenterWorld, looked: int = 1) -> list[Finding]:
    """The next look at the account; the findings of it that are not closed after it."""
    world.clock.forward(seconds=ACCOUNT_EVERY.total_seconds())
    assert look_at_standing(world.house) == looked
    found = world.house.store.findings()
    return [one for one in found if one.live and one.role == "prod/*"]


def test_set_assigned_after_the_first_look_is_one_finding_until_it_is_taken_away(
    world: CenterWorld, center: Center
) -> None:
    """Who held it is the baseline; who is assigned it later is told with what removes that."""
    assert look(world) == []
    center.admin.add_assignment("Legacy", ACCOUNT, user="eve")
    (found,) = look(world)
    user, arn = center.ids["users"]["eve"], center.admin.ids()["permission_sets"]["Legacy"]
    assert (found.kind, found.sort) == (FindingKind.STANDING, "user")
    assert found.what == f"aws|{ACCOUNT}|{arn}|{user}|user"
    assert found.remedy.startswith("aws sso-admin delete-account-assignment ")
    assert found.remedy.endswith(f" --principal-type USER --principal-id {user}")
    assert [one.id for one in look(world)] == [found.id]
    center.admin.remove_assignment("Legacy", ACCOUNT, user="eve")
    assert look(world) == []
    assert world.house.store.finding(found.id).closed_how == "fixed"


def test_live_grant_of_ours_is_no_finding_and_a_group_is_one(
    world: CenterWorld, center: Center
) -> None:
    """What is handed out has its own look; whoever is in a group has what the group is assigned."""
    assert look(world) == []
    request = world.vote(world.ask("ana"))
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    world.until(grant, GrantState.OPEN)
    assert center.assigned("ana")
    assert look(world) == []
    center.admin.add_assignment("Legacy", ACCOUNT, group="ops")
    (found,) = look(world)
    assert (found.sort, center.ids["groups"]["ops"] in found.says) == ("group", True)


def test_look_that_fails_is_not_looked_at_and_changes_nothing(
    world: CenterWorld, center: Center
) -> None:
    """Neither a baseline of nobody nor a finding closed: it is said why, and looked at again."""
    center.admin.fault("ListAccountAssignments", "refuse", count=1)
    assert look(world, looked=0) == []
    assert "access_denied" in world.house.unlooked["prod"]
    assert world.house.store.baselines("prod") == []
    assert look(world) == [] and world.house.unlooked == {}
    center.admin.add_assignment("Legacy", ACCOUNT, user="eve")
    (found,) = look(world)
    center.admin.fault("ListPermissionSetsProvisionedToAccount", "error", count=1)
    assert [one.id for one in look(world, looked=0)] == [found.id]


def test_one_old_reading_after_a_restart_ends_a_finding_as_fixed(
    world: CenterWorld, center: Center
) -> None:
    """AWS tells the set's policy of before its change once: whoever holds it is not gone."""
    plain = {"managed": [], "attached": [], "inline_policy": allowing("s3:*")}
    whole = {**plain, "inline_policy": allowing("*")}
    center.admin.seed(permission_sets=[{"name": "Legacy", **plain}])
    assert look(world) == []
    world.restart()
    center.admin.seed(permission_sets=[{"name": "Legacy", **whole}])
    (found,) = look(world)
    world.restart()
    center.admin.seed(permission_sets=[{"name": "Legacy", **plain}])
    assert [one.id for one in look(world)] == [found.id]


def test_new_baseline_calls_its_holders_known(world: CenterWorld, center: Center) -> None:
    """It closes their findings, and they are none afterwards."""
    look(world)
    center.admin.add_assignment("Legacy", ACCOUNT, user="eve")
    (found,) = look(world)
    taken = take_baseline(world.house, world.who("op"), "prod", "CHG-7")
    assert {one.role: one.count for one in taken}["prod/*"] == 2
    assert world.house.store.finding(found.id).closed_how == "baseline"
    assert look(world) == []
