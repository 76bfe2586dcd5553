"""What time alone proves goes by the cloud's clock: ours may be wrong, and theirs are several."""

from datetime import timedelta
from typing import Any

import pytest

from tests.flow.test_faults import settle
from tests.support import World, catalogue, laws
from tidegate.base.when import Instant
from tidegate.connectors.port import Scope
from tidegate.flow.governing import put_in_force
from tidegate.flow.revoking import end_early
from tidegate.grant import GrantState


def test_chained_session_is_gone_by_a_clock_of_ours_that_jumped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its sessions derived lives an hour by the cloud's clock, whatever ours says."""
    hour = timedelta(hours=1)
    monkeypatch.setattr(world.connector, "residual", lambda target, role, cut: hour)
    grant = world.granted()
    end_early(world.house, world.who("ana"), grant.id)
    world.work()
    assert world.grant(grant).state is GrantState.REMOVED
    begun = world.clock()
    real = world.connector._clock
    world.connector._clock = lambda: real() - hour
    world.clock.forward(minutes=60)
    for _ in range(12):
        world.clock.forward(seconds=30)
        world.work()
        assert world.grant(grant).state is GrantState.REMOVED
    world.clock.forward(minutes=55)
    world.work()
    assert world.grant(grant).state is GrantState.GONE
    assert world.clock() - hour >= begun + hour


def test_list_a_second_behind_says_a_native_end_was_undone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read again where nothing was tried, and another of the cloud's machines may answer."""
    put_in_force(world.house, laws(found=catalogue(probe="")))
    grant = world.granted()
    looks = iter([0, 3])
    real = world.connector._clock
    looked = world.connector.observe

    def observe(scope: Scope, now: Instant) -> Any:
        behind = timedelta(seconds=next(looks, 0))
        world.connector._clock = lambda: real() - behind
        try:
            return list(looked(scope, now))
        finally:
            world.connector._clock = real

    monkeypatch.setattr(world.connector, "observe", observe)
    world.clock.forward(minutes=30)
    world.work()
    settle(world, 10)
    assert world.grant(grant).state is GrantState.GONE
    assert "grant.contradicted" not in world.names(grant.request)
    assert next(looks, None) is None
