"""The ways real systems let somebody keep access, each tried on role kind `permission-set`.

The production flow, the production connector and real HTTP; the cloud is the stand-in.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import tidegate_standin
from tests.connectors.identity_center_world import ACCOUNT, Center, running
from tests.kept_access.permission_set import ADMIN_GRANTED, CenterWorld, CloudClock, laws_of
from tidegate.base.errors import Refused
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.port import Answer, Connector, Cut, Proof
from tidegate.diagnose.story import gather
from tidegate.diagnose.verify import Verdict, Verified, verify
from tidegate.evidence.side_doors import search_says
from tidegate.flow.expiring import close_now
from tidegate.flow.governing import put_in_force
from tidegate.flow.holding import hold_of
from tidegate.flow.revoking import end_early
from tidegate.flow.searching import search_some
from tidegate.flow.trying import Trial, tell_trial
from tidegate.grant import Cause, Grant, GrantState, Outcome, Searched

# Its ways that rows decide are on both engines: `test_permission_set_ways.py`.
pytestmark = pytest.mark.only("sqlite")


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


@pytest.fixture
def center(cloud: tidegate_standin.Running) -> Center:
    """A fresh organisation."""
    return Center(cloud)


@pytest.fixture
def world(center: Center, tmp_path: Path, database: str) -> Iterator[CenterWorld]:
    """An installation on it."""
    clock = CloudClock(center)
    made = CenterWorld(
        tmp_path,
        clock=clock,  # type: ignore[arg-type]
        laws=laws_of(center),
        center=center,
        url=database,
    )
    yield made
    made.down()


def opened(world: CenterWorld, login: str = "ana", **more: object) -> Grant:
    """An open grant of the permission set."""
    request = world.vote(world.ask(login, **more))
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    return world.until(grant, GrantState.OPEN)


def revoked(world: CenterWorld, grant: Grant) -> Grant:
    """Its early end, and the first look at it."""
    return close_now(world.house, end_early(world.house, world.who("bo"), grant.id))


@pytest.mark.parametrize("kind", ["throttle", "conflict", "refuse", "error", "lost_request"])
def test_a_removal_that_failed_is_not_tried_again(
    world: CenterWorld, center: Center, kind: str
) -> None:
    """A: whatever the removal meets, it is tried until the assignment is read back gone."""
    grant = opened(world)
    session = center.sign_in()
    center.admin.fault("DeleteAccountAssignment", kind, count=3)
    assert revoked(world, grant).state is GrantState.CLOSING
    after = world.until(grant, GrantState.GONE)
    assert not center.assigned() and not center.acts(session)
    assert after.proof == "removed"


def test_b_accepted_removal_that_fails_later_is_believed(
    world: CenterWorld, center: Center
) -> None:
    """B: accepted, IN_PROGRESS, FAILED: never removed, tried again, and in the evidence."""
    grant = opened(world)
    center.admin.fault("DeleteAccountAssignment", "async_failed", count=2, reason="internal")
    after = revoked(world, grant)
    assert (after.state, after.outcome) == (GrantState.CLOSING, Outcome.REFUSED)
    assert center.assigned()
    world.until(grant, GrantState.GONE)
    assert not center.assigned()
    assert "grant.noted" in world.names(grant.request)


def test_c_success_is_shown_while_the_assignment_stands(world: CenterWorld, center: Center) -> None:
    """C: a cloud that takes long is shown as closing; no event says removed before it is."""
    grant = opened(world)
    center.admin.options(describes=1_000, settle_seconds=3_600)
    revoked(world, grant)
    world.settle(60)
    assert world.grant(grant).state is GrantState.CLOSING
    assert "grant.removed" not in world.names(grant.request)
    center.admin.options(describes=0, settle_seconds=0)
    world.clock.forward(hours=1)
    world.until(grant, GrantState.GONE)


def test_d_session_outlives_the_grant(world: CenterWorld, center: Center) -> None:
    """D: keys taken at T-1 s act for an hour on the cloud; here they are dead once it is gone."""
    grant = opened(world)
    assert grant.ends_at is not None
    left = grant.ends_at - world.clock() - timedelta(seconds=1)
    world.clock.forward(seconds=left.total_seconds())
    session = center.sign_in()
    assert center.acts(session)
    world.clock.forward(seconds=2)
    assert center.acts(session), "the end itself cuts nothing here, or this test proves nothing"
    world.work()
    assert not center.acts(session)
    world.until(grant, GrantState.GONE)
    world.clock.forward(minutes=59)
    world.work()
    assert not center.acts(session)


def test_d_regrant_revives_the_old_session(world: CenterWorld, center: Center) -> None:
    """D: a new grant during the deny works; what was taken before it stays dead, whatever comes."""
    grant = opened(world)
    session = center.sign_in()
    revoked(world, grant)
    world.until(grant, GrantState.GONE)
    world.clock.forward(minutes=5)
    world.work()
    again = opened(world)
    fresh = center.sign_in()
    assert center.acts(fresh) and not center.acts(session)
    world.settle(120)
    assert center.acts(fresh) and not center.acts(session)
    revoked(world, again)
    world.until(again, GrantState.GONE)
    assert not center.acts(fresh)


def test_e_end_of_one_grant_takes_or_leaves_the_other(world: CenterWorld, center: Center) -> None:
    """E: two grants of one permission set: it stands until the last ends, and then it is gone."""
    one = opened(world)
    world.settle(10)
    two = opened(world, role="prod/same")
    session = center.sign_in()
    revoked(world, one)
    world.settle(30)
    assert world.grant(one).state is GrantState.REMOVED
    assert world.grant(one).still_held_by == two.id
    assert center.assigned() and center.acts(session)
    revoked(world, two)
    world.until(two, GrantState.GONE)
    world.until(one, GrantState.GONE)
    assert not center.assigned() and not center.acts(session)


def test_f_other_system_makes_it_again_before_it_is_gone(
    world: CenterWorld, center: Center
) -> None:
    """F: made again while we look: it is closed again instead of being called gone."""
    center.connector = center.connect(lock_dir=world.directory)
    grant = opened(world)
    center.admin.fault("PutInlinePolicyToPermissionSet", "refuse", count=3)
    revoked(world, grant)
    assert world.grant(grant).state is GrantState.REMOVED
    center.admin.add_assignment(center.arn, ACCOUNT, user="ana")
    world.settle(30)
    world.until(grant, GrantState.GONE)
    assert not center.assigned()
    assert "grant.contradicted" in world.names(grant.request)


def test_h_session_made_by_chaining_is_called_dead(world: CenterWorld, center: Center) -> None:
    """H: a chained session carries no UserId, so the cut misses it: it acts on for its own hour.
    Nothing says denied, and the search names it as what was not looked for.
    """
    grant = opened(world)
    session, chained = center.sign_in(), center.chain()
    revoked(world, grant)
    after = world.until(grant, GrantState.GONE)
    assert not center.acts(session)
    assert center.acts(chained), "the cut reaches it after all, or this test proves nothing"
    assert after.proof == "removed"
    search_some(world.house)
    assert world.grant(grant).searched == Searched.NOT_SEARCHED
    said = world.last(grant, "grant.searched")
    assert "chained sessions: Identity Center keeps no dates of them" in str(said.data["why_not"])
    assert "chained sessions" in search_says(said)


def test_h_chained_session_outlives_a_declared_role(world: CenterWorld, center: Center) -> None:
    """H: a role that says it may assume others is gone only when what was chained is over too."""
    found = laws_of(center)
    chains = replace(found.catalogue.roles[ADMIN_GRANTED], allows=("sts:AssumeRole",))
    roles = {**found.catalogue.roles, ADMIN_GRANTED: chains}
    put_in_force(world.house, replace(found, catalogue=replace(found.catalogue, roles=roles)))
    grant = opened(world)
    chained = center.chain()
    revoked(world, grant)
    world.until(grant, GrantState.REMOVED)
    world.clock.forward(minutes=58)
    world.work()
    assert center.acts(chained)
    assert world.grant(grant).state is GrantState.REMOVED
    world.until(grant, GrantState.GONE)
    assert not center.acts(chained)


def test_l_assignment_made_before_its_deadline(world: CenterWorld, center: Center) -> None:
    """L: the end is sealed and the cloud's own deadline is set before the assignment is made."""
    center.admin.fault("CreateSchedule", "refuse", count=1)
    request = world.vote(world.ask())
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.CLOUD_REFUSED)
    assert not center.assigned()
    names = world.names(request.id)
    assert names.index("grant.intended") < names.index("grant.failed")


def test_l_lost_reply_to_the_assignment_leaves_it_for_ever(
    world: CenterWorld, center: Center
) -> None:
    """L: made, and the reply was lost: intent and end are on record, so it ends all the same."""
    center.admin.fault("CreateAccountAssignment", "lost_reply", count=100)
    request = world.vote(world.ask())
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state in (GrantState.INTENDED, GrantState.OPEN)
    world.clock.forward(minutes=31)
    world.work()
    world.until(grant, GrantState.GONE)
    assert not center.assigned()


def test_nobody_of_ours_is_left_and_it_stays(world: CenterWorld, center: Center) -> None:
    """With every process and the database gone, the cloud removes it within ten minutes."""
    grant = opened(world)
    world.down()
    for path in world.directory.iterdir():
        if path.is_file():
            path.unlink()
    assert grant.ends_at is not None
    world.clock.forward(seconds=(grant.ends_at - world.clock()).total_seconds() - 1)
    assert center.assigned()
    world.clock.forward(minutes=10)
    assert not center.assigned()
    world._up(create=True)


def test_group_that_gives_it_too_is_called_gone(world: CenterWorld, center: Center) -> None:
    """Ended and still held by a group: a finding, never gone, until the group lets go."""
    grant = opened(world)
    group = center.ids["groups"]["ops"]
    store = center.client("broker", "identitystore")
    made = store.create_group_membership(
        IdentityStoreId=center.ids["identity_store_id"],
        GroupId=group,
        MemberId={"UserId": center.ids["users"]["ana"]},
    )
    center.admin.add_assignment(center.arn, ACCOUNT, group="ops")
    revoked(world, grant)
    world.settle(60)
    after = world.grant(grant)
    assert after.state is GrantState.REMOVED
    assert after.still_held_by == f"standing access by group {group}"
    store.delete_group_membership(
        IdentityStoreId=center.ids["identity_store_id"], MembershipId=made["MembershipId"]
    )
    world.until(grant, GrantState.GONE, seconds=600)


def test_standing_assignment_is_removed_at_the_end(world: CenterWorld, center: Center) -> None:
    """It stood before any intent of ours: never removed, no deadline of ours, never gone (I5)."""
    center.admin.add_assignment(center.arn, ACCOUNT, user="ana")
    grant = opened(world)
    assert center.client("broker", "scheduler").list_schedules()["Schedules"] == []
    revoked(world, grant)
    world.settle(60)
    assert world.grant(grant).state is GrantState.REMOVED
    assert world.grant(grant).still_held_by == "standing access"
    assert center.assigned()


def test_person_deleted_while_holding_is_never_closed(world: CenterWorld, center: Center) -> None:
    """Deleted from the identity store inside the window: the grant ends all the same."""
    grant = opened(world)
    center.client("broker", "identitystore").delete_user(
        IdentityStoreId=center.ids["identity_store_id"], UserId=center.ids["users"]["ana"]
    )
    world.clock.forward(minutes=31)
    world.work()
    world.until(grant, GrantState.GONE, seconds=900)


def test_person_nobody_knows_gets_somebody_elses_access(world: CenterWorld, center: Center) -> None:
    """A requester the identity store does not know: failed, said so, nothing made."""
    center.client("broker", "identitystore").delete_user(
        IdentityStoreId=center.ids["identity_store_id"], UserId=center.ids["users"]["eve"]
    )
    request = world.vote(world.ask("eve"))
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.NO_SUCH_PERSON)
    assert center.admin.assignments() == []


def test_deny_somebody_removed_stays_removed(world: CenterWorld, center: Center) -> None:
    """The deny is put back by the worker and that is sealed; the session stays dead."""
    grant = opened(world)
    session = center.sign_in()
    revoked(world, grant)
    world.until(grant, GrantState.GONE)
    center.put_policy("")
    assert center.acts(session)
    world.settle(60)
    assert not center.acts(session)
    assert "cut.restored" in world.names("target:prod")


def test_deny_outlives_its_need(world: CenterWorld, center: Center) -> None:
    """An hour after the removal no session can live: the deny is pruned, our policy with it."""
    grant = opened(world)
    revoked(world, grant)
    world.until(grant, GrantState.GONE)
    assert "TidegateCut" in center.policy()
    world.clock.forward(hours=1)
    world.settle(180, step=30)
    assert center.policy() == ""


def test_new_grant_beside_a_removal_that_is_refused(world: CenterWorld, center: Center) -> None:
    """The gate: while the removal is refused, a new request there is refused and says why."""
    grant = opened(world)
    center.admin.fault("DeleteAccountAssignment", "refuse")
    revoked(world, grant)
    refused = world.ask("ana", role="prod/same")
    assert refused.code == "gate_shut" and grant.id in refused.why
    center.admin.clear_faults()
    world.until(grant, GrantState.GONE)


def test_cut_is_restored_from_the_rows_alone(world: CenterWorld, center: Center) -> None:
    """A new process on the same database puts the deny back, with no file of the old one's left."""
    grant = opened(world)
    session = center.sign_in()
    revoked(world, grant)
    after = world.until(grant, GrantState.GONE)
    center.put_policy("")
    fresh = center.connect()
    assert after.removed_at is not None
    key = AssignmentKey(
        connector="aws",
        account=ACCOUNT,
        native_role=center.arn,
        native_principal=center.ids["users"]["ana"],
    )
    cut = Cut(
        until=after.removed_at + timedelta(hours=2),
        native_principal=key.native_principal,
        before=after.removed_at + timedelta(seconds=5),
    )
    assert fresh.mend(center.target, center.role, {grant.id: cut}, world.clock()) == (grant.id,)
    assert not center.acts(session)


def test_creation_that_cannot_be_looked_at_leaves_it_for_ever(
    world: CenterWorld, center: Center
) -> None:
    """Accepted, and every look at what came of it refused: never failed, and it ends the same."""
    center.admin.fault("DescribeAccountAssignmentCreationStatus", "refuse")
    center.admin.options(describes=3, settle_seconds=1)
    request = world.vote(world.ask())
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is not GrantState.FAILED
    world.clock.forward(minutes=31)
    world.work()
    world.until(grant, GrantState.GONE, seconds=600)
    assert not center.assigned()


def test_group_from_before_makes_ours_look_like_standing(
    world: CenterWorld, center: Center
) -> None:
    """A group gave it at opening already: our own assignment is removed, the group's is told."""
    group = center.ids["groups"]["ops"]
    store = center.client("broker", "identitystore")
    made = store.create_group_membership(
        IdentityStoreId=center.ids["identity_store_id"],
        GroupId=group,
        MemberId={"UserId": center.ids["users"]["ana"]},
    )
    center.admin.add_assignment(center.arn, ACCOUNT, group="ops")
    grant = opened(world)
    assert center.assigned()
    revoked(world, grant)
    world.settle(60)
    assert not center.assigned()
    assert world.grant(grant).still_held_by == f"standing access by group {group}"
    store.delete_group_membership(
        IdentityStoreId=center.ids["identity_store_id"], MembershipId=made["MembershipId"]
    )
    world.until(grant, GrantState.GONE, seconds=600)


def test_standing_access_that_left_is_made_anew_without_an_end(
    world: CenterWorld, center: Center
) -> None:
    """Gone between the look and the call: nothing is made that nobody would remove."""
    center.admin.add_assignment(center.arn, ACCOUNT, user="ana")
    request = world.vote(world.ask())
    real = world.house.connectors["aws"].grant

    def owner_is_faster(hold: object, now: object) -> object:
        center.admin.remove_assignment(center.arn, ACCOUNT, user="ana")
        return real(hold, now)  # type: ignore[arg-type]

    world.house.connectors["aws"].grant = owner_is_faster  # type: ignore[method-assign,assignment]
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.CLOUD_REFUSED)
    assert not center.assigned()


def test_second_grant_makes_anew_what_stood_before_the_first(
    world: CenterWorld, center: Center
) -> None:
    """Its owner takes it away while one grant goes by it: a second one, by another role of the same
    permission set, is refused, for no end of either would remove what it made. The next after both
    has an end again.
    """
    center.admin.add_assignment(center.arn, ACCOUNT, user="ana")
    first = opened(world)
    center.admin.remove_assignment(center.arn, ACCOUNT, user="ana")
    request = world.vote(world.ask(role="prod/same"))
    world.work()
    (second,) = world.house.store.grants(request=request.id)
    assert (second.state, second.cause) == (GrantState.FAILED, Cause.CLOUD_REFUSED)
    assert not center.assigned()
    revoked(world, first)
    world.until(first, GrantState.GONE, seconds=900)
    third = opened(world)
    assert center.assigned()
    revoked(world, third)
    world.until(third, GrantState.GONE, seconds=900)
    assert not center.assigned()


def test_standing_access_that_ends_floods_the_log(world: CenterWorld, center: Center) -> None:
    """When its owner ends what stood before, the grant is gone after one more look."""
    center.admin.add_assignment(center.arn, ACCOUNT, user="ana")
    grant = opened(world)
    revoked(world, grant)
    world.settle(30)
    center.admin.remove_assignment(center.arn, ACCOUNT, user="ana")
    world.until(grant, GrantState.GONE, seconds=900)
    assert world.names(grant.request).count("grant.contradicted") == 1


def test_made_again_while_it_settles_is_called_gone(world: CenterWorld, center: Center) -> None:
    """Removed and cut, and somebody makes it again before it is gone: seen at that very moment."""
    grant = opened(world)
    revoked(world, grant)
    assert world.grant(grant).state is GrantState.REMOVED
    center.admin.add_assignment(center.arn, ACCOUNT, user="ana")
    world.until(grant, GrantState.GONE)
    assert not center.assigned()
    assert "grant.contradicted" in world.names(grant.request)


def test_end_of_one_grant_takes_the_deadline_of_the_next(
    world: CenterWorld, center: Center
) -> None:
    """A new grant opened while the old one waits to be gone keeps the cloud's own deadline."""
    one = opened(world)
    center.admin.fault("PutInlinePolicyToPermissionSet", "refuse")
    revoked(world, one)
    assert world.grant(one).state is GrantState.REMOVED
    two = opened(world)
    center.admin.clear_faults()
    world.until(one, GrantState.GONE, seconds=600)
    assert world.grant(two).state is GrantState.OPEN
    assert len(center.client("broker", "scheduler").list_schedules()["Schedules"]) == 1


def test_end_waits_for_the_opener(world: CenterWorld, center: Center) -> None:
    """Moving a deadline back needs the opener; ending one of two grants does not wait for it."""
    one = opened(world)
    world.settle(10)
    opened(world, role="prod/same", duration=timedelta(minutes=20))
    center.admin.fault("UpdateSchedule", "refuse")
    revoked(world, one)
    assert world.grant(one).state is GrantState.REMOVED


def test_being_told_to_slow_down_shuts_the_gate(world: CenterWorld, center: Center) -> None:
    """A throttled removal is no failing one: others may go on asking."""
    grant = opened(world)
    center.admin.fault("DeleteAccountAssignment", "throttle", count=2)
    after = revoked(world, grant)
    assert (after.state, after.outcome) == (GrantState.CLOSING, Outcome.LATER)
    assert world.ask(role="prod/same").code != "gate_shut"


def elsewhere(world: CenterWorld, tmp_path: Path) -> Connector:
    """The connector of another machine, which keeps what it knows of ends in a place of its own."""
    known = world.house.connectors["aws"]._settings  # type: ignore[attr-defined]
    (kept := tmp_path / "elsewhere").mkdir(exist_ok=True)
    return world.center.connect(known, lock_dir=kept)


def another_machine(world: CenterWorld, tmp_path: Path) -> Verified:
    """What `verify` says on a machine that has seen nothing of the end but its evidence."""
    stranger = elsewhere(world, tmp_path)
    (gone,) = world.house.store.grants()
    events, _, _ = gather(world.house.store, gone.request)
    return verify(gone, hold_of(world.house, gone), stranger, events, now=world.house.now())


def test_end_is_doubted_by_a_machine_that_did_not_cut(
    world: CenterWorld, center: Center, tmp_path: Path
) -> None:
    """Two machines, one database: who asks the other one is told of the cut that is sealed."""
    grant = opened(world)
    ana = world.who("ana")

    def tried(outcome: Answer) -> None:
        saw = Trial(outcome=outcome, exit_code=0, call="aws iam x", tried_at=world.clock())
        tell_trial(world.house, ana, grant.id, saw)

    tried(Answer.ALLOWED)
    revoked(world, grant)
    world.until(grant, GrantState.GONE)
    tried(Answer.DENIED)
    told = another_machine(world, tmp_path)
    assert (told.verdict, told.level, told.by_holder) == (Verdict.CLOSED, Proof.DENIED, True)
    assert told.agrees
    center.put_policy("")
    told = another_machine(world, tmp_path)
    assert (told.verdict, told.agrees) == (Verdict.CANNOT_TELL, False)
    assert "the cut that is sealed is not seen" in told.says


@pytest.mark.parametrize("refused", [True, False])
def test_end_is_doubted_by_a_machine_that_began_to_remove_it(
    world: CenterWorld, center: Center, tmp_path: Path, refused: bool
) -> None:
    """Its removal was refused, or it removed and did not cut; another machine did both: that cut
    counts.
    """
    grant = opened(world)
    if refused:
        center.admin.fault("DeleteAccountAssignment", "refuse", count=1)
    with pytest.raises(Refused) if refused else nullcontext():
        elsewhere(world, tmp_path).revoke(hold_of(world.house, grant), world.clock())
    world.settle(1)
    revoked(world, grant)
    world.until(grant, GrantState.GONE)
    told = another_machine(world, tmp_path)
    assert (told.verdict, told.agrees) == (Verdict.CLOSED, True)
    elsewhere(world, tmp_path).revoke(hold_of(world.house, grant), world.clock())
    told = another_machine(world, tmp_path)  # it may have come back: that cut is of an earlier end
    assert (told.verdict, told.agrees) == (Verdict.CANNOT_TELL, False)


def test_older_cut_of_this_machine_hides_that_the_sealed_one_is_gone(
    world: CenterWorld, center: Center, tmp_path: Path
) -> None:
    """It came back after that cut, and another machine ended it again: that one's is looked for."""
    grant = opened(world)
    hold = hold_of(world.house, grant)
    elsewhere(world, tmp_path).revoke(hold, world.clock())
    world.settle(2)
    elsewhere(world, tmp_path).cut(hold, world.clock())
    world.settle(60)
    old = center.policy()
    center.admin.add_assignment(center.arn, ACCOUNT, user="ana")
    world.settle(120)
    session = center.sign_in()
    revoked(world, grant)
    world.until(grant, GrantState.GONE, seconds=900)
    assert another_machine(world, tmp_path).verdict is Verdict.CLOSED
    center.put_policy(old)  # as a tool does that knows only that one
    assert center.acts(session)
    told = another_machine(world, tmp_path)
    assert (told.verdict, told.agrees) == (Verdict.CANNOT_TELL, False)
