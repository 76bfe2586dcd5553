"""The health gate: nothing opens that could not be closed, and closing is never gated (I4)."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support import RULES, World, laws
from tidegate.base.duty import ALL, Duty, told
from tidegate.connectors.port import Health, Trouble
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow.expiring import close_now
from tidegate.flow.gating import shut_at_opening
from tidegate.flow.revoking import end_early
from tidegate.grant import Cause, Grant, GrantState, Outcome
from tidegate.request import RequestState

EMERGENCY = """
@id("fire") @max("1h") @approve("none")
permit (principal in Group::"sre", action == Action::"emergency", resource in Target::"prod");
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation with a rule for emergencies."""
    return World(tmp_path, laws=laws(RULES + EMERGENCY))


def only(world: World, request: str) -> Grant:
    """The one grant of a request."""
    (grant,) = world.house.store.grants(request=request)
    return grant


def ail(world: World, *troubles: Trouble) -> None:
    """The target is found with these from now on."""
    sound = world.connector.health

    def health(target: object, now: object) -> Health:
        found = sound(target, now)  # type: ignore[arg-type]
        return Health(
            reached=True,
            cloud_at=found.cloud_at,
            round_trip=found.round_trip,
            identity="simulated",
            findings=troubles,
        )

    world.connector.health = health  # type: ignore[method-assign,assignment]
    world.house.looks.forget()


MAY_NOT_CLOSE = Trouble(
    code="may_not_close", message="Tidegate may not call `x:Delete`", help="allow it"
)
NARROW = Trouble(code="wide", message="Tidegate may do more", help="narrow it", shuts=False)


def test_opening_what_cannot_be_closed(world: World) -> None:
    """A look that finds closing not permitted keeps it from opening, until that is mended."""
    ail(world, MAY_NOT_CLOSE)
    request = world.vote(world.ask())
    world.work()
    waiting = only(world, request.id)
    assert (waiting.state, waiting.outcome) == (GrantState.READY, Outcome.GATE_SHUT)
    assert world.connector.calls["grant"] == 0
    ail(world)
    world.clock.forward(minutes=1)
    world.work()
    assert only(world, request.id).state is GrantState.OPEN


def test_gate_shut_until_claim_by_names_no_check(world: World) -> None:
    """It fails as `gate_shut`, naming the failing check and the fix."""
    ail(world, MAY_NOT_CLOSE)
    request = world.vote(world.ask())
    for _ in range(70):
        world.clock.forward(seconds=30)
        world.work()
    grant = only(world, request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.GATE_SHUT)
    (leaf,) = [leaf for _, leaf in world.house.store.events(request.id) if b"grant.failed" in leaf]
    assert b"may not call `x:Delete`: allow it" in leaf


def test_what_mends_several_is_said_for_each(world: World) -> None:
    """A refusal names each right that is missing, and what to do about them once."""
    ail(world, MAY_NOT_CLOSE, replace(MAY_NOT_CLOSE, message="Tidegate may not call `x:Read`"))
    target = world.house.laws.catalogue.target("prod")
    world.house.looks.look(world.connector, target, world.clock())
    why = world.ask().why
    assert "may not call `x:Delete`, Tidegate may not call `x:Read`: allow it" in why
    assert why.count("allow it") == 1


def test_warning_shuts_the_gate(world: World) -> None:
    """What is merely not as it should be (wider rights) opens."""
    ail(world, NARROW)
    assert world.granted().state is GrantState.OPEN


def test_new_grant_beside_a_failing_end(world: World) -> None:
    """While an end on the target is refused, a request there is refused and says which and why."""
    grant = world.granted()
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=10_000))
    close_now(world.house, end_early(world.house, world.who("bo"), grant.id))
    refused = world.ask()
    assert (refused.state, refused.code) == (RequestState.REFUSED, "gate_shut")
    assert grant.id in refused.why and "tidegate trace" in refused.why
    assert world.ask(role="dev/admin").state is RequestState.APPROVED
    world.connector.calm()
    world.clock.forward(minutes=5)
    world.work()
    assert world.grant(grant).state is GrantState.GONE
    assert world.ask().state is RequestState.PENDING


@pytest.mark.parametrize("ahead", [timedelta(minutes=5), timedelta(hours=1)])
def test_end_begun_by_a_fast_clock_is_late_by_that_clock(world: World, ahead: timedelta) -> None:
    """Its lateness counts from the approved end, whatever instant was sealed; until then it fails:
    nobody can say for how long.
    """
    stuck = world.granted(duration=timedelta(minutes=5))
    world.connector.script(Fault(kind=FaultKind.LOSE_REQUEST, verb="revoke", count=100_000))
    world.clock.forward(seconds=ahead.total_seconds())
    world.work()
    assert world.grant(stuck).state is GrantState.CLOSING
    world.clock.forward(seconds=-ahead.total_seconds())
    assert stopped(world) == ["closing_fails", "closing_late"]
    due = world.grant(stuck).ends_at
    assert due is not None
    world.clock.forward(seconds=(due + timedelta(minutes=2) - world.clock()).total_seconds())
    assert stopped(world) == ["closing_late"]
    world.clock.forward(seconds=1)
    assert stopped(world) == ["closing_fails", "closing_late"]


def stopped(world: World) -> list[str]:
    """What would keep an opening on the target back."""
    target = world.house.laws.catalogue.target("prod")
    world.house.looks.forget()
    return sorted({one.code for one in shut_at_opening(world.house, target, world.clock())})


def test_closing_kept_back_by_the_gate(world: World) -> None:
    """Closing is never gated: an end goes on whatever the gate says."""
    grant = world.granted()
    ail(world, MAY_NOT_CLOSE)
    world.clock.forward(minutes=31)
    world.work()
    assert world.grant(grant).state is GrantState.GONE


def test_emergency_passes_the_gate_unseen(world: World) -> None:
    """An emergency opens though the gate is shut, and that is sealed with what it exposes."""
    ail(world, MAY_NOT_CLOSE)
    request = world.ask(emergency=True, duration=timedelta(minutes=20))
    world.work()
    assert only(world, request.id).state is GrantState.OPEN
    assert "gate.passed" in world.names(request.id)
    (leaf,) = [leaf for _, leaf in world.house.store.events(request.id) if b"gate.passed" in leaf]
    assert b"may_not_close" in leaf and b"exposure_seconds" in leaf


def test_later_start_refused_for_what_ails_now(world: World) -> None:
    """A window that starts later is gated when it comes, not at filing."""
    grant = world.granted()
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=10_000))
    close_now(world.house, end_early(world.house, world.who("bo"), grant.id))
    later = world.ask(start=world.clock() + timedelta(hours=3))
    assert later.state is RequestState.PENDING


def test_silent_witness_opens(world: World) -> None:
    """What lies outside, like a witness nobody reaches, shuts the gate too."""
    silent = Trouble(code="witness_silent", message="the witness is silent", help="mend it")
    world.house.outside = lambda now: (silent,)
    assert world.ask().code == "gate_shut"


def test_dead_worker_takes_requests(world: World) -> None:
    """With no worker at work nothing would open or close: asking says so."""
    world.work()
    world.clock.forward(minutes=2)
    refused = world.ask()
    assert refused.code == "gate_shut" and "worker" in refused.why


def test_opener_alive_passes_for_a_closer(world: World) -> None:
    """A living worker that only opens does not keep the gate open when nobody closes."""
    world.house.store.beat("worker:a", world.clock(), told({Duty.CLOSE}, "1"))
    world.house.store.beat("worker:b", world.clock(), told({Duty.OPEN}, "1"))
    assert world.ask().code == ""
    world.clock.forward(seconds=31)
    world.house.store.beat("worker:b", world.clock(), told({Duty.OPEN}, "1"))
    refused = world.ask()
    assert refused.code == "gate_shut" and "a worker that closes" in refused.why
    world.house.store.beat("worker:c", world.clock(), told({Duty.CLOSE}, "1"))
    assert world.ask().code == ""


def test_dead_worker_among_the_living_shuts_the_gate(world: World) -> None:
    """One worker that died long ago is no trouble while another closes, and is forgotten."""
    world.house.store.beat("worker:a", world.clock(), told(ALL, "1"))
    world.house.store.beat("witness url", world.clock(), "7")
    world.clock.forward(hours=25)
    world.worker.tick()
    assert world.ask().code == ""
    assert sorted(world.house.store.beats()) == ["witness url", "worker:worker"]
