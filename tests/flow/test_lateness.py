"""Late ends are findings: those that wait longest first, on every target."""

from datetime import timedelta

import pytest

from tests.support import World
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.finding import FindingKind
from tidegate.flow import lateness
from tidegate.flow.lateness import find_late
from tidegate.grant import Grant, GrantState


def stuck(world: World, role: str, count: int) -> list[Grant]:
    """Grants on `role` whose ends the cloud refuses, one begun a minute after the other."""
    world.connector.calm()
    made = []
    for _ in range(count):
        request = world.ask(role=role, duration=timedelta(minutes=20))
        if role.startswith("prod"):
            world.vote(request)
        world.work()
        made += world.house.store.grants(request=request.id)
        world.clock.forward(minutes=1)
    for verb in ("revoke", "cut"):
        world.connector.script(Fault(kind=FaultKind.REFUSE, verb=verb, count=100_000))
    world.clock.forward(minutes=30)
    world.work(40)
    assert all(world.grant(grant).state is GrantState.CLOSING for grant in made)
    return made


def late(world: World) -> set[str]:
    """The grants with a finding of a late end."""
    findings = world.house.store.findings()
    return {one.grant for one in findings if one.kind is FindingKind.LATE}


def test_ends_that_wait_longest_have_no_finding(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more late ends than one look takes, the oldest are told and not the newest."""
    monkeypatch.setattr(lateness, "AT_ONCE", 2)
    made = stuck(world, "dev/admin", 4)
    oldest = sorted(made, key=lambda one: world.grant(one).closing_at or world.clock())
    world.clock.forward(minutes=10)
    assert find_late(world.house) == [one.id for one in oldest[:2]]
    assert late(world) == {one.id for one in oldest[:2]}


def test_backlog_of_one_target_hides_a_late_end_on_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One end on another account is told beside a backlog that began before it."""
    monkeypatch.setattr(lateness, "AT_ONCE", 2)
    stuck(world, "dev/admin", 3)
    (other,) = stuck(world, "prod/admin", 1)
    world.clock.forward(minutes=10)
    find_late(world.house)
    assert other.id in late(world)


def test_late_end_on_a_target_taken_out_of_the_settings(world: World) -> None:
    """The end is late there too, whoever took the target away."""
    (grant,) = stuck(world, "prod/admin", 1)
    world.clock.forward(minutes=10)
    known = world.house.laws.catalogue.targets
    assert isinstance(known, dict)
    known.pop("prod")
    assert find_late(world.house) == [grant.id]
    assert late(world) == {grant.id}


def test_end_inside_its_bound_is_called_late(world: World) -> None:
    """One that began to close a moment ago is not late yet."""
    stuck(world, "dev/admin", 1)
    world.connector.calm()
    grant = world.granted()
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="*", count=100_000))
    world.clock.forward(minutes=30, seconds=5)
    world.work(3)
    assert grant.id not in find_late(world.house)
