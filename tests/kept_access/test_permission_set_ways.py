"""The other ways somebody keeps access, on role kind `permission-set`: state that is lost, things
deleted first, window arithmetic, many ends at once, eligibility that goes, a cloud that lies.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from chaos.proxy import FaultProxy, Rule

import tidegate_standin
from tests.backups import backup, lose, put_back
from tests.connectors.identity_center_world import ACCOUNT, OTHER, Center, running
from tests.kept_access.permission_set import (
    ADMIN_GRANTED,
    TARGET,
    CenterWorld,
    CloudClock,
    catalogue,
    laws_of,
)
from tests.support import GROUPS, laws
from tidegate.catalogue import Catalogue
from tidegate.evidence.journal import ClosingJournal
from tidegate.flow.expiring import close_now, close_once
from tidegate.flow.governing import put_in_force
from tidegate.flow.house import House
from tidegate.flow.mending import mend_cuts
from tidegate.flow.reconciling import reconcile_step
from tidegate.flow.recovering import close_forgotten, close_without_store, find_unknown
from tidegate.flow.refusing import Refusals
from tidegate.flow.revoking import end_early
from tidegate.grant import Cause, Grant, GrantState, Outcome
from tidegate.shell.worker import Worker

MANY = 14  # grants due at one instant: above the ten changes AWS lets be under way


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


def test_c_answers_yes_and_does_nothing(world: CenterWorld, center: Center) -> None:
    """C: the removal is answered with SUCCEEDED and nothing was done: read back, and seen."""
    grant = opened(world)
    session = center.sign_in()
    done = {"Status": "SUCCEEDED", "RequestId": "00000000-0000-0000-0000-000000000000"}
    body = json.dumps({"AccountAssignmentDeletionStatus": done}).encode()
    with FaultProxy(int(center.cloud.url.rpartition(":")[2])) as proxy:
        found = center.settings.targets[center.target.id]
        closer = replace(center.keys("closer"), endpoint_url=proxy.url)
        lied_to = center.made_settings(targets={TARGET.id: found}, closer=closer)
        world.house.connectors = {"aws": center.connect(lied_to, lock_dir=world.directory)}
        proxy.add(Rule(act="answer", containing=b"DeleteAccountAssignment", count=3, body=body))
        after = revoked(world, grant)
        assert (after.state, after.outcome) == (GrantState.CLOSING, Outcome.STILL_USABLE)
        assert center.assigned()
        world.until(grant, GrantState.GONE)
        assert proxy.struck["answer"] == 3
    assert not center.assigned() and not center.acts(session)


def test_g_lost_database_leaves_it_for_ever(world: CenterWorld, center: Center) -> None:
    """G: without any database the worker removes and cuts what is due from the journal."""
    grant = opened(world)
    session = center.sign_in()
    lose(world)
    assert grant.ends_at is not None
    world.clock.forward(minutes=31)
    for _ in range(6):
        world.worker.tick()
        world.clock.forward(seconds=10)
    assert not center.assigned() and not center.acts(session)


@pytest.mark.parametrize("before", ["opening", "end"])
def test_g_restored_database_reopens_or_forgets(
    world: CenterWorld, center: Center, before: str
) -> None:
    """G: an older database is put back: nothing opens again, and the end comes all the same."""
    request = world.vote(world.ask())
    kept = backup(world) if before == "opening" else None
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    world.until(grant, GrantState.OPEN)
    session = center.sign_in()
    world.settle(10)
    kept = kept or backup(world)
    revoked(world, grant)
    world.settle(30)
    put_back(world, kept)
    close_forgotten(world.house)
    world.settle(60)
    assert not center.assigned() and not center.acts(session)
    names = [one.state for one in world.house.store.grants(request=request.id)]
    assert names[0] in (GrantState.FAILED, GrantState.GONE, GrantState.REMOVED)


def test_g_renamed_catalogue_entry_strands_its_grants(world: CenterWorld, center: Center) -> None:
    """G: its role is renamed and then taken out of the catalogue: it ends by the sealed entry."""
    grant = opened(world)
    session = center.sign_in()
    found = catalogue(center)
    role = replace(found.roles[ADMIN_GRANTED], id="prod/renamed")
    put_in_force(world.house, laws(found=replace(found, roles={role.id: role})))
    emptied = laws(found=Catalogue({}, {}))
    put_in_force(world.house, emptied)
    world.restart()
    put_in_force(world.house, emptied)
    assert center.assigned() and center.acts(session)
    world.clock.forward(minutes=30)
    world.until(grant, GrantState.GONE)
    assert not center.assigned() and not center.acts(session)


def test_i_assignment_removed_by_hand_is_never_closed(world: CenterWorld, center: Center) -> None:
    """I: somebody was faster: the session is cut all the same and the grant ends."""
    grant = opened(world)
    session = center.sign_in()
    center.admin.remove_assignment(center.arn, ACCOUNT, user="ana")
    revoked(world, grant)
    world.until(grant, GrantState.GONE)
    assert not center.acts(session)


def test_i_permission_set_deleted_first_is_never_closed(world: CenterWorld, center: Center) -> None:
    """I: assignment and permission set are deleted inside the window: the grant still ends."""
    grant = opened(world)
    center.admin.remove_assignment(center.arn, ACCOUNT, user="ana")
    sso = center.client("broker", "sso-admin")
    sso.delete_permission_set(InstanceArn=center.ids["instance_arn"], PermissionSetArn=center.arn)
    revoked(world, grant)
    world.until(grant, GrantState.REMOVED)
    world.clock.forward(hours=1)  # nothing is there that could carry a deny: its sessions die out
    world.until(grant, GrantState.GONE)


def test_j_window_starts_at_its_first_sign_in(world: CenterWorld, center: Center) -> None:
    """J: signing in at minute 29 gives one minute: the clock runs from the opening."""
    grant = opened(world)
    assert grant.ends_at is not None and grant.opened_at is not None
    assert grant.ends_at - grant.opened_at <= timedelta(minutes=30)
    world.clock.forward(minutes=29)
    session = center.sign_in()
    world.clock.forward(seconds=61)
    world.work()
    world.until(grant, GrantState.GONE)
    assert not center.acts(session) and not center.may_sign_in()


def test_j_late_opening_moves_the_end(world: CenterWorld, center: Center) -> None:
    """J: with a start that was asked for, opening late shortens the window and moves no end, nor
    the deadline in the cloud.
    """
    start = world.clock() + timedelta(minutes=10)
    request = world.vote(world.ask(start=start))
    world.clock.forward(minutes=18)
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.ends_at) == (GrantState.OPEN, start + timedelta(minutes=30))
    (armed,) = center.client("broker", "scheduler").list_schedules(GroupName="tidegate")[
        "Schedules"
    ]
    asked = {"Name": armed["Name"], "GroupName": "tidegate"}
    starts = center.client("broker", "scheduler").get_schedule(**asked)["StartDate"]
    assert timedelta(0) <= starts - grant.ends_at <= timedelta(minutes=1)
    world.clock.until(grant.ends_at - timedelta(seconds=5))
    world.work()
    session = center.sign_in()
    world.until(grant, GrantState.GONE, seconds=60)
    assert not center.acts(session) and not center.may_sign_in()


def test_j_long_limit_of_another_rule_leaks(world: CenterWorld, center: Center) -> None:
    """J: eight hours of the same permission set in another account are not eight hours in this
    one, whoever may do both, and end nothing there either.
    """
    found = laws_of(center).catalogue
    dev = replace(TARGET, id="dev", account=OTHER)
    roles = {**found.roles, "dev/admin": replace(found.roles[ADMIN_GRANTED], id="dev/admin")}
    put_in_force(world.house, laws(found=Catalogue({**found.targets, "dev": dev}, roles)))
    known = center.settings.targets[center.target.id]
    both = center.made_settings(targets={TARGET.id: known, dev.id: known})
    world.house.connectors = {"aws": center.connect(both, lock_dir=world.directory)}
    hours = timedelta(hours=8)
    assert world.ask(duration=hours).state.value == "refused"
    long = world.ask(role="dev/admin", duration=hours)
    assert long.state.value == "approved"
    short = opened(world)
    (beside,) = world.house.store.grants(request=long.id)
    world.until(beside, GrantState.OPEN)
    world.clock.forward(minutes=31)
    world.until(short, GrantState.GONE)
    assert not center.assigned() and center.assigned(account=OTHER)
    assert center.acts(center.sign_in(account=OTHER))


def test_j_last_millisecond_is_given_or_taken(world: CenterWorld, center: Center) -> None:
    """J: one millisecond before its end a grant is open and assigned, at its end neither."""
    grant = opened(world)
    assert grant.ends_at is not None
    world.clock.until(grant.ends_at - timedelta(seconds=5))
    world.clock.stopped = grant.ends_at - timedelta(milliseconds=1)
    assert close_once(world.house, world.grant(grant)).state is GrantState.OPEN
    assert center.assigned()
    world.clock.stopped = grant.ends_at
    assert close_once(world.house, world.grant(grant)).state is not GrantState.OPEN
    assert not center.assigned()


@pytest.mark.only("sqlite")  # a crowd at the cloud, not at the database
def test_k_mass_expiry_loses_some(world: CenterWorld, center: Center) -> None:
    """K: more ends at one instant than the cloud lets be under way, each is under way for
    a while, and half of the calls are throttled: all assignments go.
    """
    users = [f"u{number}" for number in range(MANY)]
    center.ids["users"].update(
        center.admin.seed(users=[{"user_name": name} for name in users])["users"]
    )
    members = {**GROUPS.members, "sre": (*GROUPS.members["sre"], *users)}
    _accounts(world, users)
    put_in_force(world.house, replace(laws_of(center), groups=replace(GROUPS, members=members)))
    center.admin.options(schedule_delay_seconds=59.0)  # or the cloud's deadlines take the throttles
    start = world.clock() + timedelta(minutes=1)
    asked = [world.vote(world.ask(name, start=start)) for name in users]
    world.clock.until(start)
    world.work()
    made = [world.house.store.grants(request=one.id)[0] for one in asked]
    grants = [world.until(one, GrantState.OPEN) for one in made]
    assert {one.ends_at for one in grants} == {start + timedelta(minutes=30)}
    for operation in ("DeleteAccountAssignment", "ListAccountAssignments*"):
        center.admin.fault(operation, "throttle", count=MANY)
    slow = {"describes": 100, "seconds": 90}
    center.admin.fault("DeleteAccountAssignment", "in_progress", count=MANY, **slow)
    world.clock.until(start + timedelta(minutes=30))
    world.work()
    for one in grants:
        world.until(one, GrantState.GONE, seconds=900)
    assert not any(center.assigned(name) for name in users)
    turned_away = center.admin.refused()["sso-admin:DeleteAccountAssignment:ThrottlingException"]
    assert turned_away > MANY, "there were never ten under way"


def test_m_leaver_gets_what_was_approved(world: CenterWorld, center: Center) -> None:
    """M: out of the group between the approval and a start in the future: nothing is assigned."""
    request = world.vote(world.ask(start=world.clock() + timedelta(hours=1)))
    left = {**GROUPS.members, "sre": ("eve", "late")}
    put_in_force(world.house, replace(laws_of(center), groups=replace(GROUPS, members=left)))
    world.clock.forward(minutes=61)
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.NOT_PERMITTED)
    assert center.admin.assignments() == []
    with pytest.raises(ClientError):
        center.sign_in()


def test_m_vote_of_a_leaver_counts(world: CenterWorld, center: Center) -> None:
    """M: its only approver left the approving group before the start: nothing is assigned."""
    request = world.vote(world.ask(start=world.clock() + timedelta(hours=1)))
    left = {**GROUPS.members, "leads": ("cy", "ana")}
    put_in_force(world.house, replace(laws_of(center), groups=replace(GROUPS, members=left)))
    world.clock.forward(minutes=61)
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.NOT_PERMITTED)
    assert "the votes no longer meet" in str(world.last(grant, "grant.failed").data)
    assert center.admin.assignments() == [] and not center.may_sign_in()


def test_list_ten_minutes_old_is_believed(world: CenterWorld, center: Center) -> None:
    """A cloud that lists what was ten minutes ago: the removal is made at once and the session is
    refused, and it is called removed when a list shows it, no earlier.
    """
    grant = opened(world)
    world.clock.forward(minutes=15)
    session = center.sign_in()
    center.admin.options(stale_seconds=600)
    asked_at = world.clock()
    revoked(world, grant)
    assert not center.assigned() and not center.acts(session)
    for _ in range(19):
        assert world.grant(grant).state is GrantState.CLOSING
        assert "grant.removed" not in world.names(grant.request)
        world.clock.forward(seconds=30)
        world.work()
    after = world.until(grant, GrantState.GONE, seconds=300)
    assert after.removed_at is not None and after.removed_at - asked_at >= timedelta(minutes=10)
    assert not center.acts(session) and not center.may_sign_in()


def test_b_failed_removal_is_called_removed_by_an_old_list(
    world: CenterWorld, center: Center
) -> None:
    """B: the removal is accepted and fails, and the list is from before the opening: that it shows
    nothing is no word of AWS that there was nothing to remove.
    """
    grant = opened(world)
    world.clock.forward(minutes=2)
    center.admin.options(stale_seconds=600)
    center.admin.fault("DeleteAccountAssignment", "async_failed", count=2, reason="internal")
    after = revoked(world, grant)
    assert (after.state, after.outcome) == (GrantState.CLOSING, Outcome.REFUSED)
    assert center.assigned()
    world.until(grant, GrantState.GONE)
    assert not center.assigned() and not center.may_sign_in()
    assert world.names(grant.request).count("grant.removed") == 1


def test_l_killed_around_the_assignment(world: CenterWorld, center: Center) -> None:
    """L: the process dies right after the assignment was made: the end is known, and it comes."""

    class Killed(BaseException):
        pass

    real = world.house.connectors["aws"].grant

    def last(hold: object, now: object) -> object:
        real(hold, now)  # type: ignore[arg-type]
        raise Killed

    world.house.connectors["aws"].grant = last  # type: ignore[method-assign,assignment]
    request = world.vote(world.ask())
    with pytest.raises(Killed):
        world.work()
    assert center.assigned()
    world.restart()
    world.clock.forward(minutes=31)
    (grant,) = world.house.store.grants(request=request.id)
    world.until(grant, GrantState.GONE)
    assert not center.assigned()


def _accounts(world: CenterWorld, logins: list[str]) -> None:
    from tidegate.flow.people import LOCAL, record
    from tidegate.store import Account

    for login in logins:
        made = record(world.house, LOCAL, login, world.clock(), name=login, mail="")
        account = Account(login=login, principal=made.id, password_hash="none fits")
        world.house.store.put_account(account)


@pytest.mark.parametrize(
    ("journal", "early"), [("none", True), ("begun", True), ("whole", True), ("begun", False)]
)
def test_e_second_machine_cuts_a_later_grant(
    world: CenterWorld, center: Center, tmp_path: Path, journal: str, early: bool
) -> None:
    """E: a machine without the records of cuts, whatever its journal holds, cuts no session that
    was taken after the earlier end was sealed gone; the earlier one's stay refused.
    """
    grant = opened(world)
    old = center.sign_in()
    if early:
        revoked(world, grant)
    else:
        world.clock.forward(minutes=31)
    world.until(grant, GrantState.GONE)
    again = opened(world)
    fresh = center.sign_in()
    other = tmp_path / "other"
    other.mkdir()
    written = world.house.journal.read() if journal != "none" else []
    kinds = ("intended", "closing") if journal == "begun" else ("intended", "closing", "removed")
    beside = ClosingJournal(other / "closing.journal")
    beside.append_all(one for one in written if one.grant == grant.id and one.kind in kinds)
    found = center.settings.targets[center.target.id]
    settings = center.made_settings(targets={TARGET.id: found})
    second = House(
        store=world.house.store,
        journal=beside,
        connectors={"aws": center.connect(settings, lock_dir=other)},
        laws=world.house.laws,
        clock=world.clock,
        randomness=world.randomness,
    )
    worker = Worker(second, Refusals())
    before = center.policy()
    close_forgotten(second)
    for _ in range(12):
        world.clock.forward(seconds=5)
        mend_cuts(second)
        reconcile_step(second)
        close_without_store(second, find_unknown(second))
        worker.tick()
    assert center.acts(fresh) and not center.acts(old)
    assert center.policy() == before
    assert world.grant(grant).state is GrantState.GONE
    assert world.grant(again).state is GrantState.OPEN
    worker.stop()
