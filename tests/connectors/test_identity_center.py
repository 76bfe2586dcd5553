"""A permission set from grant to gone, on Identity Center as a process over HTTP."""

import contextlib
import itertools
from collections.abc import Iterator
from datetime import timedelta

import pytest

import tidegate_standin
from tests.connectors.identity_center_world import (
    ACCOUNT,
    HOUR,
    OTHER,
    PROPAGATION,
    Center,
    running,
)
from tidegate.base.errors import Refused, Unknown
from tidegate.catalogue import Target
from tidegate.connectors.identity_center import IdentityCenterConnector
from tidegate.connectors.identity_center_settings import Deny, Match
from tidegate.connectors.port import Answer, Person, Scope

SECOND = timedelta(seconds=1)
FIVE_MINUTES = timedelta(minutes=5)


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


@pytest.fixture
def center(cloud: tidegate_standin.Running) -> Center:
    """A fresh organisation."""
    return Center(cloud)


def test_assignment_works_in_the_window_and_not_after(center: Center) -> None:
    """Granted: the portal gives a session. Revoked: it gives none, and the read-back says so."""
    hold = center.hold()
    assert not center.see(hold).usable
    receipt = center.connector.grant(hold, center.now())
    assert receipt.detail == {"assignment": "made", "read_back": "yes"}
    assert center.may_sign_in()
    seen = center.see(hold)
    assert (seen.usable, seen.cut, seen.foreign, seen.inherited) == (True, False, True, "")
    removed = center.connector.revoke(hold, center.now())
    assert removed.detail == {"assignment": "removed", "read_back": "yes"}
    assert not center.may_sign_in()
    assert not center.see(hold).usable


def test_session_taken_a_second_before_the_end_is_dead_after_the_cut(center: Center) -> None:
    """The classic failure: the session outlives the assignment until the deny ends it, for good."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    session = center.sign_in()
    center.connector.revoke(hold, center.now())
    assert center.acts(session), "without a cut the session goes on, or this test proves nothing"
    assert not center.see(hold).cut
    cut = center.connector.cut(hold, center.now())
    assert (cut.detail["deny"], cut.detail["provisioned"]) == ("person", "yes")
    assert not center.acts(session)
    seen = center.see(hold)
    assert (seen.usable, seen.cut) == (False, True)
    center.pass_time(FIVE_MINUTES)
    again = center.hold()
    center.connector.grant(again, center.now())
    assert center.acts(center.sign_in()), "a new grant five minutes later works"
    assert not center.acts(session), "and the old credentials stay dead"
    assert not center.see(again).cut, "the cut of the earlier grant is not taken for this one's"


def test_regrant_waits_until_sessions_are_accepted(center: Center) -> None:
    """Under a deny that still lies ahead nothing is made; after it, the assignment is."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    center.connector.revoke(hold, center.now())
    center.connector.cut(hold, center.now())
    again = center.hold()
    with pytest.raises(Refused) as refused:
        center.connector.grant(again, center.now())
    assert refused.value.code == "settling"
    assert not center.assigned()
    center.pass_time(PROPAGATION + SECOND)
    center.connector.grant(again, center.now())
    assert center.acts(center.sign_in())


def test_schedule_removes_it_with_nobody_alive(center: Center) -> None:
    """Armed, then nothing of ours runs any more: gone within ten minutes of its end."""
    hold = center.hold()
    center.connector.arm(hold, hold.ends_at, center.now())
    center.connector.grant(hold, center.now())
    assert center.see(hold).deadline_at is not None
    center.pass_time(timedelta(minutes=59))
    assert center.assigned()
    center.pass_time(timedelta(minutes=11))
    assert not center.assigned()


def test_moved_deadline_is_the_one_that_acts(center: Center) -> None:
    """A later end moves the one schedule; the same again changes nothing; disarmed, none fires."""
    hold = center.hold()
    later = hold.ends_at + timedelta(hours=1)
    arm, disarm = center.connector.arm, center.connector.disarm
    said = []
    for until in (hold.ends_at, hold.ends_at, later):
        receipt = arm(hold, until, center.now())
        assert receipt is not None
        said.append(receipt.detail["deadline"])
    assert said == ["made", "there", "moved"]
    center.connector.grant(hold, center.now())
    center.pass_time(timedelta(minutes=75))
    assert center.assigned(), "the earlier end does not act any more"
    receipt = disarm(hold, center.now())
    assert receipt is not None and receipt.detail["deadline"] == "removed"
    again = disarm(hold, center.now())
    assert again is not None and again.detail["deadline"] == "absent"
    assert center.see(hold).deadline_at is None
    center.pass_time(timedelta(hours=3))
    assert center.assigned()


def test_lost_reply_to_arming_is_read_back(center: Center) -> None:
    """A schedule made by a call whose answer was lost is found by the next one."""
    hold = center.hold()
    center.admin.fault("CreateSchedule", "lost_reply", count=1)
    with pytest.raises(Unknown):
        center.connector.arm(hold, hold.ends_at, center.now())
    receipt = center.connector.arm(hold, hold.ends_at, center.now())
    assert receipt is not None and receipt.detail["deadline"] == "there"


def test_schedule_finds_it_removed_already(center: Center) -> None:
    """Removed by us and not disarmed: the schedule has nothing to do and harms nobody."""
    hold = center.hold(lasts=timedelta(minutes=5))
    center.connector.arm(hold, hold.ends_at, center.now())
    center.connector.grant(hold, center.now())
    center.connector.revoke(hold, center.now())
    center.pass_time(timedelta(minutes=10))
    assert not center.see(hold).usable


def test_without_a_schedule_nothing_is_armed(center: Center) -> None:
    """A target that opted out has no deadline, and its exposure says that nobody ends it."""
    connector = center.connect(center.made_settings(schedule=None))
    hold = center.hold()
    assert connector.arm(hold, hold.ends_at, center.now()) is None
    assert connector.disarm(hold, center.now()) is None
    assert connector.exposure(center.target, center.role).unattended is None
    armed = center.connector.exposure(center.target, center.role)
    assert armed.unattended == timedelta(minutes=70)
    assert armed.attended < timedelta(seconds=10)


def test_without_a_deny_a_session_outlives_the_end_and_says_so(center: Center) -> None:
    """deny = none: nothing is claimed to be cut, and the residual is the session's life."""
    connector = center.connect(center.made_settings(deny=Deny.NONE))
    hold = center.hold()
    connector.grant(hold, center.now())
    session = center.sign_in()
    connector.revoke(hold, center.now())
    assert connector.cut(hold, center.now()).detail == {"deny": "none"}
    seen = center.see(hold, connector)
    assert (seen.usable, seen.cut) == (False, False)
    assert center.acts(session)
    assert connector.residual(center.target, center.role, seen.cut) == HOUR
    assert connector.exposure(center.target, center.role).attended > HOUR
    assert connector.mend(center.target, center.role, {}, center.now()) == ()


def test_removal_that_fails_does_not_leave_a_session_alive(center: Center) -> None:
    """The assignment cannot be removed: the person is refused all the same, renewed, then freed."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    before = center.sign_in()
    fault = center.admin.fault("DeleteAccountAssignment", "refuse")
    with pytest.raises(Refused) as refused:
        center.connector.revoke(hold, center.now())
    assert refused.value.code == "access_denied"
    cut = center.connector.cut(hold, center.now())
    assert cut.detail["deny"] == "held_back"
    after = center.sign_in()
    assert not center.acts(before)
    assert not center.acts(after), "a session taken after the end is refused too"
    seen = center.see(hold)
    assert (seen.usable, seen.cut) == (True, False), "refused for a while is not cut"
    for _ in range(10):
        center.pass_time(timedelta(minutes=9))
        center.connector.cut(hold, center.now())
    assert not center.acts(center.sign_in()), "renewed before it ran out"
    center.admin.clear_faults(fault)
    center.connector.revoke(hold, center.now())
    assert center.connector.cut(hold, center.now()).detail["deny"] == "person"
    assert center.see(hold).cut
    center.pass_time(PROPAGATION + SECOND)
    again = center.hold()
    center.connector.grant(again, center.now())
    assert center.acts(center.sign_in()), "once it is gone nobody is held back any more"


def test_held_back_person_is_freed_by_the_next_grant(center: Center) -> None:
    """Removed by somebody else meanwhile: the far deny is shortened instead of waited for."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    fault = center.admin.fault("DeleteAccountAssignment", "refuse")
    with pytest.raises(Refused):
        center.connector.revoke(hold, center.now())
    center.connector.cut(hold, center.now())
    center.admin.clear_faults(fault)
    center.admin.remove_assignment(center.name, ACCOUNT, user="ana")
    again = center.hold()
    with pytest.raises(Refused) as refused:
        center.connector.grant(again, center.now())
    assert refused.value.code == "settling"
    center.pass_time(PROPAGATION + SECOND)
    center.connector.grant(again, center.now())
    assert center.acts(center.sign_in())


def test_cut_of_an_ended_grant_spares_the_one_after_it(center: Center) -> None:
    """A late cut of the first grant does not end the sessions of the second."""
    first = center.hold()
    center.connector.grant(first, center.now())
    old = center.sign_in()
    center.connector.revoke(first, center.now())
    center.pass_time(FIVE_MINUTES)
    second = center.hold()
    center.connector.grant(second, center.now())
    new = center.sign_in()
    center.connector.cut(first, center.now())
    assert not center.acts(old)
    assert center.acts(new)
    assert center.see(first).cut


def test_unknown_end_never_refuses_a_standing_holder(center: Center) -> None:
    """Another process knows nothing of the first removal: it refuses to hold anybody back."""
    first = center.hold()
    center.connector.grant(first, center.now())
    center.connector.revoke(first, center.now())
    second = center.hold()
    center.connector.grant(second, center.now())
    session = center.sign_in()
    with pytest.raises(Refused) as refused:
        center.connect().cut(first, center.now())
    assert refused.value.code == "still_assigned"
    assert center.acts(session)


ORDERS = list(itertools.permutations(("end a", "end b", "again")))


@pytest.mark.parametrize("order", ORDERS, ids=["-".join(order) for order in ORDERS])
def test_two_overlapping_grants_in_any_order(center: Center, order: tuple[str, ...]) -> None:
    """Two grants of one natural key: twice granted is once; after the last end nothing is left."""
    a, b = center.hold(), center.hold()
    for hold in (a, b):
        center.connector.grant(hold, center.now())
    session = center.sign_in()
    for step in order:
        if step == "again":
            with contextlib.suppress(Refused):  # settling: an end came before
                center.connector.grant(a, center.now())
            continue
        hold = a if step == "end a" else b
        center.connector.revoke(hold, center.now())
        center.connector.cut(hold, center.now())
    for hold in (a, b):
        center.connector.revoke(hold, center.now())
        center.connector.cut(hold, center.now())
    assert not center.assigned()
    assert not center.acts(session)
    for hold in (a, b):
        seen = center.see(hold)
        assert (seen.usable, seen.cut) == (False, True)


def test_group_that_gives_it_too_is_seen(center: Center) -> None:
    """Removed in their own name and still there by a group: usable, and named as inherited."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    ops = center.ids["groups"]["ops"]
    center.admin.seed(groups=[{"name": "ops", "members": ["ana"]}])
    center.admin.add_assignment(center.name, ACCOUNT, group="ops")
    assert center.see(hold).inherited == "", "in their own name first"
    center.connector.revoke(hold, center.now())
    seen = center.see(hold)
    assert (seen.usable, seen.foreign, seen.inherited) == (True, False, f"group {ops}")
    scope = Scope(target=center.target, principal=hold.key.native_principal)
    ways = list(center.connector.observe(scope, center.now()))
    assert [(way.key.native_role, way.inherited) for way in ways] == [(center.arn, f"group {ops}")]


def test_every_assignment_of_a_target_is_seen(center: Center) -> None:
    """A whole target: everybody who has a handed out permission set there, groups as such."""
    center.admin.add_assignment(center.name, ACCOUNT, user="bo")
    center.admin.add_assignment(center.name, ACCOUNT, group="ops")
    center.admin.add_assignment(center.name, OTHER, user="cy")
    seen = list(center.connector.observe(Scope(target=center.target), center.now()))
    ops = center.ids["groups"]["ops"]
    assert {(one.key.native_principal, one.inherited) for one in seen} == {
        (center.ids["users"]["bo"], ""),
        (ops, f"group {ops}"),
    }
    assert [found.title for found in center.connector.discover(center.target)] == [center.name]


@pytest.mark.parametrize("how", ["fail", "allow"])
def test_person_deleted_while_holding_is_closed(center: Center, how: str) -> None:
    """AWS may keep the assignment of somebody who is gone: nobody signs in by it, and it is cut."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    session = center.sign_in()
    center.admin.options(delete_for_deleted_user=how)
    center.client("broker", "identitystore").delete_user(
        IdentityStoreId=center.ids["identity_store_id"], UserId=hold.key.native_principal
    )
    removed = center.connector.revoke(hold, center.now())
    assert removed.detail["assignment"] == ("left" if how == "fail" else "removed")
    center.connector.cut(hold, center.now())
    assert not center.acts(session)
    seen = center.see(hold)
    assert (seen.usable, seen.cut) == (False, True)


@pytest.mark.parametrize("goes", [True, False])
def test_role_that_leaves_with_the_last_assignment(center: Center, goes: bool) -> None:
    """Whether or not AWS takes the role away with the last assignment, the session is dead."""
    center.admin.options(role_goes_with_last_assignment=goes)
    hold = center.hold()
    center.connector.grant(hold, center.now())
    session = center.sign_in()
    center.connector.revoke(hold, center.now())
    center.connector.cut(hold, center.now())
    assert not center.acts(session)
    assert center.see(hold).cut
    center.pass_time(FIVE_MINUTES)
    center.connector.grant(center.hold(), center.now())
    assert not center.acts(session)
    assert center.acts(center.sign_in())


def test_cut_in_one_account_spares_the_other(center: Center) -> None:
    """One permission set in two accounts: the end in one leaves the session in the other alone."""
    there = Target(id="aws-other", connector="aws", account=OTHER)
    here, other = center.hold(), center.hold(target=there)
    for hold in (here, other):
        center.connector.grant(hold, center.now())
    mine, beside = center.sign_in(), center.sign_in(account=OTHER)
    center.connector.revoke(here, center.now())
    center.connector.cut(here, center.now())
    assert not center.acts(mine)
    assert center.acts(beside)
    assert not center.see(other).cut


def test_person_is_found_by_table_then_by_the_store(center: Center) -> None:
    """The table names them without a call; else exactly one attribute of the store is asked."""
    ana, bo = center.ids["users"]["ana"], center.ids["users"]["bo"]
    settings = center.made_settings(users={"root-of-all": bo})
    connector = center.connect(settings)

    def user(who: Person, of: IdentityCenterConnector = connector) -> str:
        return of.key(center.target, center.role, "gr_x", who).native_principal

    assert user(Person(principal="pr_1", login="root-of-all")) == bo
    assert user(Person(principal="pr_1", login="ana")) == ana
    by_mail = center.connect(center.made_settings(match=Match.MAIL))
    assert user(Person(principal="pr_1", login="x", mail="ana@example.com"), by_mail) == ana
    by_table = center.connect(center.made_settings(match=Match.NONE))
    for who, of in (
        (Person(principal="pr_1", login="nobody"), connector),
        (Person(principal="pr_1"), connector),
        (Person(principal="pr_1", login="ana"), by_mail),
        (Person(principal="pr_1", login="ana"), by_table),
    ):
        with pytest.raises(Refused) as refused:
            user(who, of)
        assert refused.value.code == "no_such_person"


def test_nothing_is_issued(center: Center) -> None:
    """The person signs in at the portal; a probe cannot act as them and says so."""
    hold = center.hold()
    with pytest.raises(Refused) as refused:
        center.connector.issue(hold, "se_x", center.now())
    assert refused.value.code == "portal_only"
    probed = center.connector.probe(hold, center.now())
    assert not probed.proves_denied
    assert probed.answer is Answer.UNTOLD
