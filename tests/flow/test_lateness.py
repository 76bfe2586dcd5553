"""Late ends are findings: those that wait longest first, on every target."""

from collections.abc import Sequence

import pytest

from tests.support import World
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.finding import FindingKind
from tidegate.flow import lateness
from tidegate.flow.expiring import close_once
from tidegate.flow.lateness import find_late
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant, GrantState


def stuck(world: World, roles: Sequence[str]) -> list[Grant]:
    """A grant on each role whose end the cloud refuses, one begun a minute after the other."""
    made: list[Grant] = []
    for role in roles:
        request = world.ask(role=role)
        if role.startswith("prod"):
            world.vote(request)
        world.work()
        made += world.house.store.grants(request=request.id)
    for verb in ("revoke", "cut"):
        world.connector.script(Fault(kind=FaultKind.REFUSE, verb=verb, count=100_000))
    for grant in made:
        world.clock.forward(minutes=1)
        end_early(world.house, world.who("ana"), grant.id)
        world.work()
    closing = [world.grant(grant) for grant in made]
    assert [one.state for one in closing] == [GrantState.CLOSING] * len(roles)
    return closing


def late(world: World) -> set[str]:
    """The grants with a finding of a late end."""
    findings = world.house.store.findings()
    return {one.grant for one in findings if one.kind is FindingKind.LATE}


def test_ends_that_wait_longest_have_no_finding(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more late ends than one look takes, the oldest are told and not the newest."""
    monkeypatch.setattr(lateness, "AT_ONCE", 2)
    oldest = stuck(world, ["dev/admin"] * 4)
    world.clock.forward(minutes=10)
    assert find_late(world.house) == [one.id for one in oldest[:2]]
    assert late(world) == {one.id for one in oldest[:2]}


def test_backlog_of_one_target_hides_a_late_end_on_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One end on another account is told beside a backlog that began before it."""
    monkeypatch.setattr(lateness, "AT_ONCE", 2)
    *_, other = stuck(world, ["dev/admin"] * 3 + ["prod/admin"])
    world.clock.forward(minutes=10)
    find_late(world.house)
    assert other.id in late(world)


def test_late_end_on_a_target_taken_out_of_the_settings(world: World) -> None:
    """The end is late there too, whoever took the target away."""
    (grant,) = stuck(world, ["prod/admin"])
    world.clock.forward(minutes=10)
    known = world.house.laws.catalogue.targets
    assert isinstance(known, dict)
    known.pop("prod")
    assert find_late(world.house) == [grant.id]
    assert late(world) == {grant.id}


def test_late_end_waits_for_the_journal_to_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the journal is read beside a start, it is removed; judged late is it afterwards."""
    (grant,) = stuck(world, ["prod/admin"])
    world.clock.forward(minutes=10)
    world.connector.calm()
    world.house.looked_back = False

    def unread() -> None:
        raise AssertionError("it waits for the journal")

    with monkeypatch.context() as patched:
        patched.setattr(world.house.journal, "book", unread)
        close_once(world.house, world.grant(grant))
        assert world.grant(grant).removed_at is not None
        assert find_late(world.house) == [] and late(world) == set()
    world.house.looked_back = True
    world.clock.forward(minutes=1)
    assert find_late(world.house) == [grant.id]
    (finding,) = [one for one in world.house.store.findings() if one.kind is FindingKind.LATE]
    assert "was read back as removed 10m late" in finding.says
    assert find_late(world.house) == []


def test_journal_nobody_can_read_for_days_fills_the_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits to be judged is bounded: one more is judged by its row alone."""
    monkeypatch.setattr(lateness, "MOST_UNJUDGED", 1)
    first, second = stuck(world, ["dev/admin", "prod/admin"])
    world.clock.forward(minutes=10)
    world.connector.calm()
    world.house.looked_back = False
    close_once(world.house, world.grant(first))
    assert (late(world), world.house.unjudged) == (set(), {first.id})
    close_once(world.house, world.grant(second))
    assert (late(world), world.house.unjudged) == ({second.id}, {first.id})


def test_end_inside_its_bound_is_called_late(world: World) -> None:
    """One that began to close a moment ago is not late yet."""
    stuck(world, ["dev/admin"])
    world.clock.forward(minutes=1)
    assert find_late(world.house) == []
    assert late(world) == set()
