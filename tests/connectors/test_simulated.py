"""The simulated cloud: scripted faults, sessions with lives of their own, and its independence."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.connectors.conftest import START, hold_of
from tidegate.base.errors import Refused, Unknown, Unreachable, WorldFailed
from tidegate.base.when import Instant
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors.port import Answer, Hold, Scope, Seen
from tidegate.connectors.simulated import (
    ASSIGNMENT,
    SESSION_LIFE,
    Fault,
    FaultKind,
    SimulatedCloud,
    SimulatedConnector,
)

TARGET = Target(id="sim", connector="simulated", account="sim-1")
ROLE = Role(id="sim/admin", kind="iam-role", native={"arn": "admin"}, probe="sim:List")
SEAT = replace(ROLE, kind=ASSIGNMENT, probe="")
MINUTE = timedelta(minutes=1)


def hold(role: Role = ROLE) -> Hold:
    """A hold that ends ten minutes after START."""
    return hold_of(TARGET, role, START, START + 10 * MINUTE)


def see(sim: SimulatedConnector, one: Hold, now: Instant = START) -> Seen:
    """Its one Seen."""
    (seen,) = sim.observe(Scope(target=TARGET, hold=one), now)
    return seen


@pytest.mark.parametrize(
    ("kind", "error", "applied"),
    [
        (FaultKind.THROTTLE, Refused, False),
        (FaultKind.REFUSE, Refused, False),
        (FaultKind.LOSE_REQUEST, Unknown, False),
        (FaultKind.LOSE_REPLY, Unknown, True),
        (FaultKind.DOWN, Unreachable, False),
    ],
)
def test_fault_says_what_the_caller_may_believe(
    kind: FaultKind, error: type[WorldFailed], applied: bool
) -> None:
    """Only a lost reply takes effect; after one call the script is spent."""
    sim, one = SimulatedConnector(), hold()
    sim.script(Fault(kind=kind, verb="revoke"))
    with pytest.raises(error) as failed:
        sim.revoke(one, START)
    assert type(failed.value) is error
    assert see(sim, one).cut is applied
    sim.revoke(one, START)
    assert see(sim, one).cut


def test_faults_strike_the_named_verb_so_often() -> None:
    """Two throttles on issue leave grant alone and let the third issue pass."""
    sim, one = SimulatedConnector(), hold()
    sim.script(Fault(kind=FaultKind.THROTTLE, verb="issue", count=2))
    sim.grant(one, START)
    for _ in range(2):
        with pytest.raises(Refused):
            sim.issue(one, "se", START)
    sim.issue(one, "se", START)
    assert sim.calls["issue"] == 3


def test_cloud_down_for_longer_than_the_grant() -> None:
    """Nobody reaches the cloud until past the end; the session ended all the same."""
    sim, one = SimulatedConnector(), hold()
    credential = sim.issue(one, "se", START)
    sim.script(Fault(kind=FaultKind.DOWN, until=one.ends_at + MINUTE))
    for at in (START + MINUTE, one.ends_at):
        with pytest.raises(Unreachable):
            sim.revoke(one, at)
    assert not sim.health(TARGET, START).reached
    assert sim.cloud.use(credential, one.ends_at) is Answer.DENIED
    assert sim.revoke(one, one.ends_at + MINUTE).detail == {"deny": "deadline"}


def test_late_effect_is_accepted_before_it_is_true() -> None:
    """A removal answered well but applied a minute later: accepted is not removed."""
    sim, one = SimulatedConnector(), hold()
    credential = sim.issue(one, "se", START)
    sim.script(Fault(kind=FaultKind.APPLY_LATE, verb="revoke", delay=MINUTE))
    sim.revoke(one, START)
    assert sim.cloud.use(credential, START + MINUTE / 2) is Answer.ALLOWED
    assert not see(sim, one, START + MINUTE / 2).cut
    assert sim.cloud.use(credential, START + MINUTE) is Answer.DENIED
    assert see(sim, one, START + MINUTE).cut


@pytest.mark.parametrize("role", [ROLE, SEAT])
def test_removal_that_fails_later_is_done(role: Role) -> None:
    """Accepted, a minute under way and then failed: it stands all the while and after it, asking
    again meanwhile changes nothing, and the next one is made.
    """
    sim, one = SimulatedConnector(), hold(role)
    sim.grant(one, START)
    sim.script(Fault(kind=FaultKind.FAIL_LATE, verb="revoke", delay=MINUTE))
    for at in (START, START + MINUTE - timedelta(milliseconds=1)):
        assert sim.revoke(one, at).detail == {"request": "in_progress"}
        assert see(sim, one, at).usable
    assert see(sim, one, START + MINUTE).usable
    sim.revoke(one, START + MINUTE)
    assert not see(sim, one, START + MINUTE).usable


def test_other_access_waits_for_a_removal_that_fails() -> None:
    """What is under way for one hold holds up nobody else's; it strikes no look."""
    sim, one = SimulatedConnector(), hold(SEAT)
    other = replace(one, key=replace(one.key, native_principal="bo"))
    sim.grant(other, START)
    sim.script(Fault(kind=FaultKind.FAIL_LATE, delay=MINUTE, count=2))
    assert see(sim, other).usable
    sim.revoke(one, START)
    sim.revoke(other, START)
    assert not see(sim, other).usable


def test_stale_list_shows_what_was() -> None:
    """A lagging read still shows an assignment that is gone, under the true time."""
    sim, one = SimulatedConnector(), hold(SEAT)
    sim.grant(one, START)
    sim.revoke(one, START + MINUTE)
    sim.script(Fault(kind=FaultKind.LIST_STALE, verb="observe", delay=2 * MINUTE / 3))
    stale = see(sim, one, START + 1.5 * MINUTE)
    assert stale.usable
    assert stale.cloud_at == START + 1.5 * MINUTE
    assert not see(sim, one, START + 1.5 * MINUTE).usable


def test_assignment_session_outlives_removal_unless_cut() -> None:
    """No native deadline: removing stops new sessions, the live one acts on until it is cut."""
    sim, one = SimulatedConnector(), hold(SEAT)
    sim.grant(one, START)
    taken = sim.cloud.sign_in(one.key, START)
    sim.revoke(one, one.ends_at)
    later = one.ends_at + MINUTE
    assert not see(sim, one, later).usable
    with pytest.raises(Refused):
        sim.cloud.sign_in(one.key, later)
    assert sim.cloud.use(taken, later) is Answer.ALLOWED
    assert sim.residual(one.target, SEAT, cut=False) == SESSION_LIFE
    assert sim.residual(one.target, SEAT, cut=True) == timedelta(0)
    sim.cut(one, later)
    assert sim.cloud.use(taken, later) is Answer.DENIED
    assert see(sim, one, later).cut


def test_cut_of_an_assignment_spares_a_later_grant() -> None:
    """A session taken through a new assignment after the cut is not dead at birth."""
    sim, one = SimulatedConnector(), hold(SEAT)
    sim.cut(one, START)
    sim.grant(one, START + MINUTE)
    taken = sim.cloud.sign_in(one.key, START + MINUTE)
    assert sim.cloud.use(taken, START + MINUTE) is Answer.ALLOWED


def test_granting_an_assignment_twice_and_removing_it_once() -> None:
    """One removal takes away what two grants of the same key made."""
    sim, one = SimulatedConnector(), hold(SEAT)
    sim.grant(one, START)
    sim.grant(one, START)
    sim.revoke(one, START)
    sim.revoke(one, START)
    assert sim.cloud.standing(START) == ()


def test_foreign_assignment_is_told_apart() -> None:
    """Access that stood before is seen as not ours, and taking hold of it does not change that."""
    sim, one = SimulatedConnector(), hold(SEAT)
    sim.cloud.place(one.key, START)
    assert see(sim, one).foreign
    sim.grant(one, START)
    assert see(sim, one).foreign


def test_inventory_knows_nothing_of_grants() -> None:
    """The oracle's list holds exactly the sessions that could act, probes not among them."""
    sim, first, second = SimulatedConnector(), hold(), hold()
    sim.issue(first, "se", START)
    sim.issue(second, "se", START)
    sim.revoke(second, START)
    sim.probe(first, START)
    assert [live.grant for live in sim.cloud.alive(START)] == [first.grant]
    assert sim.cloud.alive(first.ends_at) == ()


def test_cloud_outlives_its_connector() -> None:
    """A second process on the same cloud sees what the first one cut before it died."""
    before, one = SimulatedConnector(), hold()
    before.revoke(one, START)
    after = SimulatedConnector(before.cloud)
    assert see(after, one).cut


def test_cloud_with_a_clock_of_its_own() -> None:
    """With a clock given, the cloud's time is its own, ten minutes from ours if need be."""
    sim, one = SimulatedConnector(clock=lambda: START + 10 * MINUTE), hold()
    assert sim.grant(one, START).cloud_at == START + 10 * MINUTE
    assert not see(sim, one).usable
    health = sim.health(TARGET, START)
    assert health.cloud_at == START + 10 * MINUTE


def test_same_calls_give_the_same_cloud() -> None:
    """Nothing in it is random: two runs of one script end alike."""

    def run() -> list[str]:
        sim, one = SimulatedConnector(), hold()
        sim.script(Fault(kind=FaultKind.LOSE_REPLY, verb="issue"))
        with pytest.raises(Unknown):
            sim.issue(one, "se", START)
        sim.issue(one, "se", START)
        return [live.key_id for live in sim.cloud.alive(START)]

    assert run() == run()


def test_cut_of_an_earlier_end_is_read_as_this_one() -> None:
    """A cut of before the assignment was made again says nothing of the sessions taken since."""
    cloud = SimulatedCloud()
    key = AssignmentKey(
        connector="simulated", account="1", native_role="arn:r", native_principal="ana"
    )
    cloud.assign(key, START)
    cloud.unassign(key, START + timedelta(minutes=1))
    cloud.cut_sessions(key, START + timedelta(minutes=1))
    assert cloud.sessions_cut(key, START + timedelta(minutes=2))
    cloud.assign(key, START + timedelta(minutes=3))
    keys = cloud.sign_in(key, START + timedelta(minutes=4))
    cloud.unassign(key, START + timedelta(minutes=5))
    later = START + timedelta(minutes=6)
    assert not cloud.sessions_cut(key, later)
    assert cloud.use(keys, later) is Answer.ALLOWED
    cloud.cut_sessions(key, later)
    assert cloud.sessions_cut(key, later)
    assert cloud.use(keys, later) is Answer.DENIED


def test_session_of_the_very_instant_of_a_cut_lives_on() -> None:
    """What was taken in the same millisecond may have been taken before the cut: it is cut too."""
    cloud = SimulatedCloud()
    key = AssignmentKey(
        connector="simulated", account="1", native_role="arn:r", native_principal="ana"
    )
    cloud.assign(key, START)
    keys = cloud.sign_in(key, START + timedelta(minutes=1))
    cloud.unassign(key, START + timedelta(minutes=1))
    cloud.cut_sessions(key, START + timedelta(minutes=1))
    assert cloud.use(keys, START + timedelta(minutes=1)) is Answer.DENIED


def test_clock_set_back_undoes_what_the_cloud_has_done() -> None:
    """Denied, removed and cut under a clock ahead stay so, however far it is set back."""
    sim, one, seat = SimulatedConnector(), hold(), hold(SEAT)
    sim.grant(seat, START)
    key, session = sim.issue(one, "se_1", START), sim.cloud.sign_in(seat.key, START)
    ahead, back = START + 5 * MINUTE, START + MINUTE
    sim.revoke(one, ahead)
    sim.revoke(seat, ahead)
    sim.cut(seat, ahead)
    sim.cloud.set_back(back)
    assert sim.cloud.use(key, back) is Answer.DENIED
    assert sim.cloud.use(session, back) is Answer.DENIED
    assert not sim.cloud.assigned(seat.key, back)


def test_session_lives_longer_for_a_clock_set_back() -> None:
    """Taken under a clock that was an hour ahead, it is over an hour after that was mended."""
    sim, seat = SimulatedConnector(), hold(SEAT)
    sim.grant(seat, START)
    session = sim.cloud.sign_in(seat.key, START + SESSION_LIFE)
    sim.cloud.set_back(START)
    assert sim.cloud.use(session, START + SESSION_LIFE) is Answer.DENIED
