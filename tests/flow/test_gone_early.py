"""Access gone before its end is told to its holder, and never made again by itself."""

import pytest

from tests.flow.test_assignments import KEY, ended, settle
from tests.flow.test_extending import MINUTE, extended, longer
from tests.flow.test_reconciling import every, look, world
from tests.support import START, World
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.finding import FindingKind
from tidegate.grant import Grant, GrantState
from tidegate.notice import GONE_EARLY
from tidegate.store import compare

__all__ = ["world"]


def told(world: World, grant: Grant) -> list[str]:
    """How its holder was told that it was gone, newest first."""
    found = world.house.store.notices(audience=grant.principal)
    return [notice.payload["how"] for notice, _ in found if notice.kind == GONE_EARLY]


def unreachable(world: World, *, until: int) -> Grant:
    """A grant whose end moved to 60 minutes, while the cloud cannot be reached until then."""
    grant = world.granted()
    world.vote(longer(world, grant))
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="arm", count=1))
    world.work(1)
    moved = world.grant(grant)
    assert moved.arming and moved.ends_at == START + 60 * MINUTE
    world.clock.at = START + until * MINUTE
    world.house.store.beat("worker", world.clock(), "")
    return moved


def test_holder_hears_nothing_of_access_taken_away(world: World) -> None:
    """One notice each time it is gone, not one a look; and it is not made again."""
    grant = world.granted()
    look(world)
    world.cloud.unassign(KEY, world.clock())
    look(world, 4)
    assert told(world, grant) == ["somebody removed it in the cloud"]
    assert world.names(grant.request).count("access.gone_early") == 1
    assert not world.cloud.assigned(KEY, world.clock())
    world.cloud.assign(KEY, world.clock())
    assert look(world, 3) == []
    world.cloud.unassign(KEY, world.clock())
    look(world, 2)
    assert len(told(world, grant)) == 2
    assert every(world) == [("gone_early", "", 2)]
    ended(world, grant)
    settle(world, 3)
    assert compare(world.house.store) == []


def test_extension_the_cloud_never_heard_of_leaves_a_grant_without_access(world: World) -> None:
    """Its own deadline took it away at the old end: the grant ends too, and its holder is told."""
    grant = unreachable(world, until=31)
    settle(world, 3)
    after = world.grant(grant)
    assert after.state in (GrantState.CLOSING, GrantState.REMOVED, GrantState.GONE)
    assert (after.end_reason, after.sessions) == ("revoked", 0)
    (how,) = told(world, grant)
    assert "at its old end" in how
    (found,) = [one for one in world.house.store.findings() if one.grant == grant.id]
    assert found.kind is FindingKind.GONE_EARLY
    settle(world, 5)
    assert world.grant(grant).state is GrantState.GONE
    assert not world.cloud.assigned(KEY, world.clock())
    assert compare(world.house.store) == []


def test_extension_the_cloud_hears_of_in_time_ends_early(world: World) -> None:
    """Reached before the old end, the access goes on until the new one and nobody is told."""
    grant = unreachable(world, until=29)
    world.work()
    assert not world.grant(grant).arming
    world.clock.at = START + 45 * MINUTE
    look(world)
    assert world.grant(grant).state is GrantState.OPEN
    assert world.cloud.assigned(KEY, world.clock())
    assert told(world, grant) == []


def test_crash_after_the_cloud_was_armed_and_before_it_was_sealed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cloud has the new end and nobody knows: the next tick arms again, and seals it."""
    grant = world.granted()
    world.vote(longer(world, grant))
    commit = world.house.store.commit

    def killed(step: object) -> object:
        if any(fact.name == "grant.armed" for fact in step.facts):  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return commit(step)  # type: ignore[arg-type]

    monkeypatch.setattr(world.house.store, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        world.work(1)
    monkeypatch.undo()
    assert world.cloud.deadline(KEY) == START + 60 * MINUTE
    world.restart()
    world.connector.deadlines = True
    assert world.grant(grant).arming
    world.work()
    assert not world.grant(grant).arming
    assert world.names(grant.request).count("grant.armed") == 1
    assert world.cloud.deadline(KEY) == START + 60 * MINUTE
    assert compare(world.house.store) == []


def test_second_extension_is_judged_by_the_first_end(world: World) -> None:
    """One that was armed once and then not in time still ends only where nothing is left."""
    grant = extended(world, world.granted())
    world.vote(longer(world, grant))
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="arm", count=1))
    world.work(1)
    world.clock.at = START + 45 * MINUTE
    world.house.store.beat("worker", world.clock(), "")
    world.work()
    after = world.grant(grant)
    assert (after.state, after.arming) == (GrantState.OPEN, False)
    assert world.cloud.deadline(KEY) == START + 90 * MINUTE
