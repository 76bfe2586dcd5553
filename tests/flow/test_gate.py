"""The health gate: nothing opens that could not be closed, and closing is never gated (I4)."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.assigned import KEY
from tests.flow.test_reconciling import assignments
from tests.support import RULES, World, catalogue, laws
from tidegate.base.duty import ALL, Duty, told
from tidegate.connectors.port import Health, Trouble
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow.expiring import close_now
from tidegate.flow.gating import shut_at_opening
from tidegate.flow.governing import put_in_force
from tidegate.flow.granting import open_once
from tidegate.flow.house import LOG_FORKED, Wanted
from tidegate.flow.revoking import end_early
from tidegate.grant import Cause, Grant, GrantState, Outcome
from tidegate.panic import Scope, ScopeKind
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


def test_nobody_would_close_what_opens_once_the_database_is_gone(world: World) -> None:
    """A closer whose journal does not take what others open; the other one's does."""
    beat = world.house.store.beat
    beat("worker:a", world.clock(), told({Duty.CLOSE}, "1", keeps=False))
    beat("worker:b", world.clock(), told({Duty.OPEN}, "1"))
    refused = world.ask()
    assert refused.code == "gate_shut" and "its journal does not take" in refused.why
    beat("worker:c", world.clock(), told({Duty.CLOSE}, "1"))
    assert world.ask().code == ""


def test_dead_worker_among_the_living_shuts_the_gate(world: World) -> None:
    """One worker that died long ago is no trouble while another closes, and is forgotten."""
    world.house.store.beat("worker:a", world.clock(), told(ALL, "1"))
    world.house.store.beat("witness url", world.clock(), "7")
    world.clock.forward(hours=25)
    world.worker.tick()
    assert world.ask().code == ""
    assert sorted(world.house.store.beats()) == ["witness url", "worker:worker"]


FORKED = Trouble(code=LOG_FORKED, message="an older database", help="compare them")


def intended(world: World, lost: FaultKind = FaultKind.LOSE_REQUEST, **more: object) -> Grant:
    """A grant whose first call came to nothing that is known."""
    world.connector.script(Fault(kind=lost, verb="grant"))
    request = world.ask(**more)
    if request.state is RequestState.PENDING:
        world.vote(request)
    world.worker.tick()
    found = only(world, request.id)
    assert (found.state, found.outcome) == (GrantState.INTENDED, Outcome.UNKNOWN)
    return found


def wait(world: World, seconds: int) -> None:
    """Let the worker have its tries for that long."""
    for _ in range(seconds // 5):
        world.clock.forward(seconds=5)
        world.work()


def calls(world: World) -> int:
    """How often the cloud was asked to open."""
    return world.connector.calls["grant"]


def test_another_try_at_an_intent_passes_a_shut_gate(world: World) -> None:
    """What could not be closed is not tried again either; once that is mended, it opens."""
    grant, before = intended(world), calls(world)
    ail(world, MAY_NOT_CLOSE)
    wait(world, 60)
    assert (world.grant(grant).state, world.grant(grant).outcome) == (
        GrantState.INTENDED,
        Outcome.GATE_SHUT,
    )
    assert calls(world) == before
    ail(world)
    wait(world, 180)
    assert world.grant(grant).state is GrantState.OPEN


@pytest.mark.parametrize("emergency", [False, True])
def test_intent_of_an_older_database_is_opened_over_a_forked_log(
    world: World, emergency: bool
) -> None:
    """That it ended may be in what the log lacks, whoever it is for: it is never called again."""
    grant, before = intended(world, emergency=emergency), calls(world)
    world.house.outside = lambda now: (FORKED,)
    wait(world, 60)
    assert world.grant(grant).state is GrantState.INTENDED
    assert calls(world) == before


def test_emergency_of_a_forked_log_is_never_tried_again(world: World) -> None:
    """One that was let open over the fork is not of an older database: its lost call is made."""
    world.house.outside = lambda now: (FORKED,)
    grant = intended(world, emergency=True)
    wait(world, 10)
    assert world.grant(grant).state is GrantState.OPEN
    assert world.names(grant.request).count("gate.passed") == 1


def test_another_try_at_an_intent_opens_in_a_freeze(world: World) -> None:
    """Also in one that could not be sealed yet, and for an emergency too."""
    grants = [intended(world), intended(world, login="eve", emergency=True)]
    before = calls(world)
    freeze = timedelta(hours=1)
    op = world.who("bo").id
    wanted = Wanted(scope=Scope(ScopeKind.ALL), by=op, via="api", reason="x", freeze=freeze)
    world.house.wanted.keep(wanted, "pa_x", world.clock())
    for grant in grants:
        world.clock.forward(seconds=5)
        open_once(world.house, world.grant(grant))
        assert world.grant(grant).outcome == Outcome.FROZEN
    assert calls(world) == before


def test_emergency_tried_again_past_the_gate_unseen(world: World) -> None:
    """It passes a gate that shut since its intent, and that is sealed with what it exposes, once
    however often it is tried.
    """
    grant = intended(world, emergency=True)
    ail(world, MAY_NOT_CLOSE)
    world.connector.script(Fault(kind=FaultKind.LOSE_REQUEST, verb="grant", count=3))
    wait(world, 60)
    assert world.grant(grant).state is GrantState.OPEN
    (leaf,) = [leaf for _, leaf in world.house.store.events(grant.request) if b"gate.pas" in leaf]
    assert b"may_not_close" in leaf and b"exposure_seconds" in leaf


@pytest.mark.parametrize("end", ["claim-by", "its end", "revoked"])
@pytest.mark.parametrize("outside", [(), (FORKED,)])
def test_intent_kept_back_outlives_its_end(
    world: World, end: str, outside: tuple[Trouble, ...]
) -> None:
    """It may have taken effect: kept back it stays owed, and is removed at its end."""
    minutes = {"claim-by": 50, "its end": 10, "revoked": 50}[end]
    put_in_force(world.house, laws(RULES + EMERGENCY, found=assignments(catalogue())))
    grant = intended(world, FaultKind.LOSE_REPLY, duration=timedelta(minutes=minutes))
    assert world.cloud.assigned(KEY, world.clock())
    ail(world, MAY_NOT_CLOSE)
    world.house.outside = lambda now: outside
    wait(world, 60)
    if end == "revoked":
        end_early(world.house, world.who("bo"), grant.id)
    else:
        wait(world, {"claim-by": 31, "its end": 10}[end] * 60)
    wait(world, 10)
    assert world.grant(grant).state in (GrantState.REMOVED, GrantState.GONE)
    assert not world.cloud.assigned(KEY, world.clock())
