"""Signing off: a person answers for an end that cannot be proven, and it is never called gone."""

import pytest

from tests.support import World
from tidegate.base.errors import NotAllowed, NotFound, Stale
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.finding import FindingKind
from tidegate.flow.gating import refusal
from tidegate.flow.lateness import find_late
from tidegate.flow.signing_off import sign_off, take_up_again
from tidegate.grant import Grant, GrantState
from tidegate.store import compare


def stuck(world: World) -> Grant:
    """A grant whose end the cloud refuses."""
    grant = world.granted()
    world.connector.script(
        Fault(kind=FaultKind.REFUSE, verb="revoke", count=10_000),
        Fault(kind=FaultKind.REFUSE, verb="cut", count=10_000),
    )
    world.clock.forward(minutes=31)
    for _ in range(20):
        world.clock.forward(seconds=15)
        world.work()
    return world.grant(grant)


def test_end_that_is_refused_is_given_up(world: World) -> None:
    """A day of refusals later it is still closing, and still tried."""
    grant = stuck(world)
    before = world.connector.calls["revoke"]
    world.clock.forward(hours=24)
    world.work()
    assert world.grant(grant).state is GrantState.CLOSING
    assert world.connector.calls["revoke"] > before


def test_sign_off_is_shown_as_gone(world: World) -> None:
    """The tries stop, who answers is sealed, the gate opens, and no word of proof is said."""
    grant = stuck(world)
    assert refusal(world.house, ("prod/admin",), world.clock()) is not None
    signed = sign_off(world.house, world.who("op"), grant.id, "account closed, INC-4711")
    before = world.connector.calls["revoke"]
    world.clock.forward(hours=2)
    world.work()
    assert signed.state is GrantState.SIGNED_OFF
    assert (signed.gone_at, signed.proof) == (None, "")
    assert world.connector.calls["revoke"] == before
    assert refusal(world.house, ("prod/admin",), world.clock()) is None
    assert compare(world.house.store) == []
    assert world.house.store.integrity() == ()


def test_sign_off_leaves_the_finding_open(world: World) -> None:
    """The finding that the end is late is closed with it, by whom and why."""
    grant = stuck(world)
    find_late(world.house)
    sign_off(world.house, world.who("op"), grant.id, "account closed")
    late = world.house.store.finding_of(FindingKind.LATE, "prod", grant.id)
    assert late is not None and not late.live


def test_end_taken_up_again_stays_signed_off(world: World) -> None:
    """Taken back, it is closing, and tried until it is gone."""
    grant = stuck(world)
    sign_off(world.house, world.who("op"), grant.id, "account closed")
    take_up_again(world.house, world.who("op"), grant.id, "it is still there")
    world.connector.calm()
    for _ in range(40):
        world.clock.forward(minutes=3)
        world.work()
    assert world.grant(grant).state is GrantState.GONE
    assert compare(world.house.store) == []


@pytest.mark.parametrize("login", ["ana", "bo", "audit"])
def test_others_sign_off(world: World, login: str) -> None:
    """Neither its holder, nor an approver, nor an auditor may answer for it."""
    grant = stuck(world)
    with pytest.raises(NotAllowed, match="not yours to sign off"):
        sign_off(world.house, world.who(login), grant.id, "trust me")
    with pytest.raises(NotFound):
        sign_off(world.house, world.who("eve"), grant.id, "trust me")
    assert world.grant(grant).state is GrantState.CLOSING


def test_open_or_healthy_grant_is_signed_off(world: World) -> None:
    """What is open, or was never tried in vain, cannot be signed off: it is to be ended."""
    grant = world.granted()
    with pytest.raises(NotAllowed, match="expected an end that was tried"):
        sign_off(world.house, world.who("op"), grant.id, "done")
    with pytest.raises(Stale):
        take_up_again(world.house, world.who("op"), grant.id, "again")
