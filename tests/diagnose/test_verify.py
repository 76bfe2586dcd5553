"""Verify says what the cloud shows now, and never more than was tried or read."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support import ARN, World, catalogue, laws
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.port import Answer, Credential, Method, Powers, Proof, Seen
from tidegate.connectors.simulated import Fault, FaultKind, SimulatedConnector
from tidegate.diagnose.story import gather
from tidegate.diagnose.verify import How, Verdict, Verified, verify
from tidegate.expire import EndReason
from tidegate.flow.ending import begin
from tidegate.flow.expiring import close_now
from tidegate.flow.governing import put_in_force
from tidegate.flow.holding import hold_of
from tidegate.flow.revoking import end_early
from tidegate.flow.trying import Trial, tell_trial
from tidegate.grant import Grant, GrantState

MINUTE = timedelta(minutes=1)


def verified(world: World, grant: Grant, others: tuple[str, ...] = ()) -> Verified:
    """Verify `grant` as it is now."""
    house = world.house
    row = world.grant(grant)
    events, _, _ = gather(house.store, row.request)
    hold = hold_of(house, row) if row.ends_at else None
    return verify(row, hold, world.connector, events, now=house.now(), others=others)


def as_assignment(world: World) -> None:
    """prod/admin becomes a native assignment: no deadline, no probe, sessions that live on."""
    found = catalogue()
    role = replace(found.roles["prod/admin"], kind="assignment", probe="")
    put_in_force(world.house, laws(found=replace(found, roles={**found.roles, "prod/admin": role})))


def ended(world: World) -> Grant:
    """A grant that is gone."""
    grant = world.granted()
    world.clock.forward(minutes=31)
    world.work()
    assert world.grant(grant).state is GrantState.GONE
    return grant


def test_open_grant_is_tried(world: World) -> None:
    """Inside the window it is open as granted, by reading alone: trying it would mint access."""
    grant = world.granted()
    told = verified(world, grant)
    assert (told.verdict, told.says, told.ok) == (
        Verdict.OPEN_AS_GRANTED,
        "open until 2026-11-23T09:30:00.000Z",
        True,
    )
    assert (told.how, told.level, told.agrees) == (How.LISTED, None, True)
    assert world.connector.calls["probe"] == 0


def test_end_believed_untried(world: World) -> None:
    """After the end it is tried as that access beside an uncut credential, and says so."""
    grant = ended(world)
    told = verified(world, grant)
    assert (told.verdict, told.level, told.how) == (Verdict.CLOSED, Proof.DENIED, How.ACTED)
    assert told.says == (
        "closed: tried as this access and refused at 2026-11-23T09:31:00.000Z"
        " (the same call by an uncut credential was allowed)"
    )
    assert told.claims.proof == "denied"
    assert told.agrees
    assert told.as_json()["seen_now"] == {
        "usable": False,
        "cut": False,
        "foreign": False,
        "inherited": "",
        "cloud_at": "2026-11-23T09:31:00.000Z",
        "deadline_at": "2026-11-23T09:30:00.000Z",
        "answer": "denied",
        "control": "allowed",
        "method": "acted",
        "call": "iam:ListUsers",
    }


def test_access_back_after_gone(world: World) -> None:
    """A cut somebody removed is NOT CLOSED, whatever the evidence says."""
    grant = world.granted()
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    assert verified(world, grant).verdict is Verdict.CLOSED
    world.cloud.tamper("123456789012", f"{ARN}-prod", grant.id, world.clock())
    told = verified(world, grant)
    assert (told.verdict, told.how, told.ok) == (Verdict.NOT_CLOSED, How.ACTED, False)
    assert told.says.startswith("NOT CLOSED: tried as this access and allowed at")
    assert not told.agrees


def test_end_nobody_sealed(world: World) -> None:
    """Past the end with no worker alive, it is closed by the cloud and the evidence lags."""
    grant = world.granted()
    world.clock.forward(minutes=31)
    told = verified(world, grant)
    assert told.verdict is Verdict.CLOSED
    assert "its end is not sealed yet" in told.help


def test_closing_that_did_not_take(world: World) -> None:
    """Ended early, and the cloud still lets it in: NOT CLOSED."""
    grant = world.granted()
    begin(world.house, world.grant(grant), EndReason.REVOKED, "pr_bo", world.clock())
    told = verified(world, grant)
    assert (told.verdict, told.how) == (Verdict.NOT_CLOSED, How.ACTED)


@pytest.mark.parametrize("kind", [FaultKind.DOWN, FaultKind.REFUSE, FaultKind.LOSE_REPLY])
def test_fault_of_the_cloud_taken_for_an_end(world: World, kind: FaultKind) -> None:
    """A cloud that does not answer tells nothing, and the fault's help is handed on."""
    grant = ended(world)
    world.connector.script(Fault(kind=kind, verb="observe"))
    told = verified(world, grant)
    assert (told.verdict, told.how, told.level, told.ok) == (
        Verdict.CANNOT_TELL,
        How.NOTHING,
        None,
        False,
    )
    assert told.help


def test_failed_probe_taken_for_a_refusal(world: World) -> None:
    """A probe that did not come back leaves what was read back, and no more."""
    grant = ended(world)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="probe"))
    told = verified(world, grant)
    assert (told.verdict, told.level, told.how) == (Verdict.CLOSED, Proof.REMOVED, How.LISTED)
    assert "trying it failed" in told.says


def test_refusal_of_everybody_taken_for_a_cut(world: World) -> None:
    """When the uncut credential is refused as well, the probe proves nothing."""
    grant = ended(world)
    real = world.connector.probe
    world.connector.probe = lambda hold, now: replace(real(hold, now), control=Answer.DENIED)  # type: ignore[method-assign]
    told = verified(world, grant)
    assert (told.verdict, told.level) == (Verdict.CLOSED, Proof.REMOVED)
    assert "proves nothing" in told.says


def test_session_that_lives_on(world: World) -> None:
    """Removed, with a session that may still act: nobody says closed before that instant."""
    as_assignment(world)
    grant = world.granted()
    key = hold_of(world.house, world.grant(grant)).key
    keys: Credential = world.cloud.sign_in(key, world.clock())
    world.clock.forward(minutes=31)
    world.connector.script(Fault(kind=FaultKind.LOSE_REQUEST, verb="cut", count=100))
    world.work()
    world.connector.calm()
    world.cloud.unassign(key, world.clock())
    world.clock.forward(seconds=10)
    assert world.use(keys) is Answer.ALLOWED
    told = verified(world, grant)
    assert told.verdict is Verdict.CANNOT_TELL
    assert told.says.startswith("removed; a session taken before may act until ")
    world.clock.forward(days=2)
    assert verified(world, grant).verdict is Verdict.CLOSED


def test_standing_access_called_closed(world: World) -> None:
    """Access that stood before is still there after the end, and said so."""
    as_assignment(world)
    key = AssignmentKey(
        connector="simulated",
        account="123456789012",
        native_role=f"{ARN}-prod",
        native_principal="ana",
    )
    world.cloud.place(key, world.clock())
    grant = world.granted()
    world.clock.forward(minutes=31)
    world.work()
    told = verified(world, grant)
    assert told.verdict is Verdict.NOT_CLOSED
    assert told.says.endswith("still held by standing access")
    assert told.agrees


def test_overlap_called_not_closed(world: World) -> None:
    """The same access open under another grant is not this one's failure."""
    as_assignment(world)
    first = world.granted()
    other = world.granted(duration=timedelta(minutes=80))
    world.clock.forward(minutes=31)
    world.work()
    told = verified(world, first, others=(other.id,))
    assert told.verdict is Verdict.OPEN_AS_GRANTED
    assert other.id in told.says


def test_later_end_in_the_cloud(world: World) -> None:
    """A deadline in the cloud behind the granted end is not open as granted."""
    grant = world.granted()
    real: SimulatedConnector = world.connector

    class Generous:
        """Shows a deadline an hour late."""

        def observe(self, scope: object, now: object) -> list[Seen]:
            """As the cloud, but later."""
            (seen,) = real.observe(scope, now)  # type: ignore[arg-type]
            assert seen.deadline_at
            return [replace(seen, deadline_at=seen.deadline_at + timedelta(hours=1))]

        def powers(self, kind: str) -> Powers:
            """As the cloud."""
            return real.powers(kind)

        def residual(self, target: object, role: object, cut: bool) -> timedelta:
            """As the cloud."""
            return timedelta(0)

    row = world.grant(grant)
    events, _, _ = gather(world.house.store, row.request)
    told = verify(row, hold_of(world.house, row), Generous(), events, now=world.clock())  # type: ignore[arg-type]
    assert told.verdict is Verdict.NOT_CLOSED
    assert "granted was until" in told.says


def test_never_opened_grant_is_looked_for(world: World) -> None:
    """Without an intent the cloud was never asked; after a plain no, nothing was ever issued."""
    request = world.vote(world.ask())
    (grant,) = world.house.store.grants(request=request.id)
    told = verified(world, grant)
    assert (told.verdict, told.how, told.seen) == (Verdict.CLOSED, How.SEALED, None)
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="grant"))
    world.work()
    assert world.grant(grant).state is GrantState.FAILED
    told = verified(world, grant)
    assert (told.verdict, told.how) == (Verdict.CLOSED, How.SEALED)


def test_role_that_vanished_is_called_open(world: World) -> None:
    """Inside the window, a role nobody can assume any more is closed, and not what was sealed."""
    grant = world.granted()
    world.cloud.delete_role("123456789012", f"{ARN}-prod")
    told = verified(world, grant)
    assert (told.verdict, told.agrees) == (Verdict.CLOSED, False)
    assert told.says.startswith("closed before its end")


def test_gap_in_the_evidence_is_agreed_with(world: World) -> None:
    """The cloud is read all the same, and nothing agrees with evidence that has a hole."""
    grant = ended(world)
    row = world.grant(grant)
    events, _, _ = gather(world.house.store, row.request)
    hold = hold_of(world.house, row)
    told = verify(row, hold, world.connector, events[:4] + events[5:], now=world.clock())
    assert told.verdict is Verdict.CLOSED
    assert told.claims.gap
    assert not told.agrees


# Kinds whose sessions outlive the assignment.


@pytest.fixture
def center(world: World) -> World:
    """prod/admin is an assignment."""
    as_assignment(world)
    return world


def shut(world: World, minutes: float = 1) -> Grant:
    """A grant of a minute, ended early and looked at once; then `minutes` of the worker's tries."""
    grant = world.granted()
    world.clock.forward(minutes=1)
    close_now(world.house, end_early(world.house, world.who("bo"), grant.id))
    for _ in range(int(minutes * 12)):
        world.clock.forward(seconds=5)
        world.work()
    return grant


def test_uncut_session_called_closed(center: World) -> None:
    """Removed and not cut: removed is the level, by listing, and it is not closed before T."""
    center.connector.cuts = False
    told = verified(center, shut(center))
    assert (told.verdict, told.level, told.how) == (
        Verdict.CANNOT_TELL,
        Proof.REMOVED,
        How.LISTED,
    )
    assert told.says == ("removed; a session taken before may act until 2026-11-23T10:01:00.000Z")
    assert (told.claims.level, told.claims.how) == (Proof.REMOVED, "listed")


def test_cut_leaves_the_long_residual(center: World) -> None:
    """Once the cut is seen and settled it is closed, with the method sealed beside the level."""
    told = verified(center, shut(center))
    assert (told.verdict, told.level, told.how) == (Verdict.CLOSED, Proof.REMOVED, How.LISTED)
    assert (told.claims.level, told.claims.how, told.claims.cut) == (Proof.REMOVED, "listed", True)
    assert told.agrees


def test_cut_that_came_later_counts_from_the_removal(center: World) -> None:
    """A `grant.cut` sealed after the removal shortens the wait that verify tells."""
    center.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=3))
    grant = shut(center, 0)
    assert "may act until 2026-11-23T10:01" in verified(center, grant).says
    for _ in range(12):
        center.clock.forward(seconds=5)
        center.work()
    assert verified(center, grant).verdict is Verdict.CLOSED


def test_cut_taken_away_is_still_closed(center: World) -> None:
    """A sealed cut that is not seen any more: until T again, and it does not agree."""
    grant = shut(center)
    center.cloud._cuts.clear()
    told = verified(center, grant)
    assert (told.verdict, told.level, told.agrees) == (Verdict.CANNOT_TELL, Proof.REMOVED, False)
    assert told.says.startswith("removed; the cut that is sealed is not seen, and a session taken")
    center.clock.forward(hours=1)
    assert verified(center, grant).verdict is Verdict.CLOSED


def test_group_access_called_closed(center: World) -> None:
    """A group that gives the access keeps it from ever being closed, and is named."""
    grant = center.granted()
    key = hold_of(center.house, center.grant(grant)).key
    center.cloud.give_by_group(key, "admins")
    center.clock.forward(minutes=31)
    center.work()
    told = verified(center, grant)
    assert told.verdict is Verdict.NOT_CLOSED
    assert told.says.endswith("still held by standing access by group admins")
    assert (told.level, told.claims.level, told.agrees) == (None, None, True)
    center.clock.forward(days=9)
    assert verified(center, grant).verdict is Verdict.NOT_CLOSED


def test_group_access_in_the_window_is_called_ours(center: World) -> None:
    """Inside the window, access by a group alone is not what was granted."""
    grant = center.granted()
    key = hold_of(center.house, center.grant(grant)).key
    center.cloud.unassign(key, center.clock())
    center.cloud.give_by_group(key, "admins")
    told = verified(center, grant)
    assert told.says.startswith("usable by standing access by group admins, not by this grant")
    assert not told.agrees


def test_refused_removal_is_called_standing_access(center: World) -> None:
    """What the cloud would not remove is still usable, and not somebody else's."""
    grant = center.granted()
    center.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=100))
    center.clock.forward(minutes=31)
    center.work()
    told = verified(center, grant)
    assert told.verdict is Verdict.NOT_CLOSED and told.says.endswith("it is still usable")
    assert (told.level, told.claims.level) == (None, None)


def test_access_made_again_is_called_ours(center: World) -> None:
    """There again after its end was sealed: not closed, and the evidence says otherwise."""
    grant = shut(center)
    key = hold_of(center.house, center.grant(grant)).key
    center.cloud.place(key, center.clock())
    told = verified(center, grant)
    assert (told.verdict, told.agrees) == (Verdict.NOT_CLOSED, False)
    assert told.says.endswith("it is usable again after its end was sealed")


def test_list_from_before_the_opening_is_believed(center: World) -> None:
    """A list read inside the stale window says nothing about an end."""
    grant = center.granted()
    center.connector.cuts = False
    begin(center.house, center.grant(grant), EndReason.REVOKED, "pr_bo", center.clock())
    center.cloud.unassign(hold_of(center.house, center.grant(grant)).key, center.clock())
    told = verified(center, grant)
    assert (told.verdict, told.level) == (Verdict.CANNOT_TELL, None)
    assert "may still be from before" in told.says


def simulating(world: World, answer: Answer) -> None:
    """The cloud's policy simulator answers instead of a trial."""
    real = world.connector.probe
    world.connector.probe = lambda hold, now: replace(  # type: ignore[method-assign]
        real(hold, now), method=Method.SIMULATED, answer=answer
    )


def test_simulated_denial_called_denied(world: World) -> None:
    """What only the simulator says is told as that: removed at best, and never tried."""
    grant = ended(world)
    simulating(world, Answer.DENIED)
    told = verified(world, grant)
    assert (told.verdict, told.level, told.how) == (Verdict.CLOSED, Proof.REMOVED, How.SIMULATED)
    assert told.says.endswith("(the cloud's policy simulator says denied; not tried)")
    simulating(world, Answer.ALLOWED)
    told = verified(world, grant)
    assert (told.verdict, told.how) == (Verdict.NOT_CLOSED, How.SIMULATED)
    assert "simulator says allowed" in told.says and "tried as" not in told.says


def tried(
    world: World, grant: Grant, outcome: str, call: str = "aws s3 ls", by: str = "ana"
) -> None:
    """Somebody tells what they saw, now."""
    trial = Trial(outcome=Answer(outcome), exit_code=1, call=call, tried_at=world.clock())
    tell_trial(world.house, world.who(by), grant.id, trial)


def test_holders_word_makes_the_level(center: World) -> None:
    """Allowed during and denied after, of the same call: denied, on the holder's word."""
    grant = center.granted()
    tried(center, grant, "allowed")
    center.clock.forward(minutes=31)
    center.work()
    center.clock.forward(seconds=10)
    center.work()
    tried(center, grant, "denied")
    told = verified(center, grant)
    assert (told.verdict, told.level, told.how, told.by_holder) == (
        Verdict.CLOSED,
        Proof.DENIED,
        How.ACTED,
        True,
    )
    assert told.level_says == "denied (tried by its holder, acted)"
    ana = center.who("ana").id
    assert told.tried == f"tried by {ana} on their own machine during: allowed; after: denied"
    assert told.claims.level is Proof.REMOVED  # what is sealed of the end stays as it is


@pytest.mark.parametrize(
    ("during", "after", "by"),
    [
        ("aws s3 ls", "aws s3 ls s3://x", "ana"),  # another call
        ("", "", "ana"),  # a call kept back is like no other
        ("aws s3 ls", "aws s3 ls", "op"),  # not the holder
        (None, "aws s3 ls", "ana"),  # never allowed before
    ],
)
def test_holders_word_says_too_much(center: World, during: str | None, after: str, by: str) -> None:
    """A denial alone, of another call, kept back, or by another person makes no level."""
    grant = center.granted()
    if during is not None:
        tried(center, grant, "allowed", during, by)
    center.clock.forward(minutes=31)
    center.work()
    center.clock.forward(seconds=10)
    center.work()
    tried(center, grant, "denied", after, by)
    told = verified(center, grant)
    assert (told.verdict, told.level, told.by_holder) == (Verdict.CLOSED, Proof.REMOVED, False)


def test_holder_who_was_let_in_again_is_overheard(center: World) -> None:
    """Allowed after a denial: nobody says closed, and other ways are looked for."""
    grant = center.granted()
    tried(center, grant, "allowed")
    center.clock.forward(minutes=32)
    center.work()
    center.clock.forward(seconds=10)
    center.work()
    tried(center, grant, "denied")
    tried(center, grant, "allowed", "aws iam list-users")
    told = verified(center, grant)
    assert (told.verdict, told.level, told.agrees) == (Verdict.CANNOT_TELL, Proof.REMOVED, False)
    assert "and allowed at" in told.says
    assert told.help.startswith(f"`tidegate paths {grant.id} prod`")


def test_accepted_removal_called_removed(center: World) -> None:
    """The cloud took the removal and still lists the access: accepted is all that is sealed."""
    grant = center.granted()
    center.clock.forward(minutes=1)
    fault = Fault(kind=FaultKind.LIST_STALE, verb="observe", count=100, delay=timedelta(seconds=30))
    center.connector.script(fault)
    close_now(center.house, end_early(center.house, center.who("bo"), grant.id))
    told = verified(center, grant)
    assert (told.claims.level, told.claims.how, told.level) == (Proof.ACCEPTED, "", None)
    assert told.verdict is Verdict.NOT_CLOSED
