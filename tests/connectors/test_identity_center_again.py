"""What came back after its end in Identity Center: removed once more, and cut anew."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import tidegate_standin
from tests.connectors.identity_center_world import ACCOUNT, HOUR, PROPAGATION, Center, running
from tidegate.base.errors import Refused, Unknown
from tidegate.base.when import parse_instant
from tidegate.connectors.identity_center_ended import Ended, EndedGrants, record
from tidegate.connectors.port import Cut, Hold
from tidegate.flow.expiring import take_away


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


@pytest.fixture
def center(cloud: tidegate_standin.Running) -> Center:
    """A fresh organisation."""
    return Center(cloud)


def ended(center: Center) -> Hold:
    """A grant that was opened, and removed and cut."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    assert take_away(center.connector, hold, False, center.now()).cut
    return hold


def back_again(center: Center) -> Any:
    """Somebody makes an assignment anew, and the person takes a session by it."""
    center.pass_time(PROPAGATION + timedelta(minutes=5))
    center.admin.add_assignment(center.name, ACCOUNT, user="ana")
    session = center.sign_in()
    assert center.acts(session)
    center.pass_time(timedelta(seconds=2))
    return session


def test_session_acts_on_after_a_second_removal_whose_answer_was_lost(center: Center) -> None:
    """Cut, back, and removed again without an answer: the session taken meanwhile is cut too."""
    hold = ended(center)
    session = back_again(center)
    center.admin.fault("DeleteAccountAssignment", "lost_reply", count=1)
    with pytest.raises(Unknown):
        take_away(center.connector, hold, False, center.now())
    center.pass_time(timedelta(seconds=2))
    seen = take_away(center.connector, hold, False, center.now())
    assert (seen.usable, seen.cut) == (False, True)
    assert not center.acts(session)


def test_lost_second_removal_is_called_cut_by_the_first_one(center: Center) -> None:
    """Between the lost answer and the next try nothing is said of the cut of the first end."""
    hold = ended(center)
    back_again(center)
    fault = center.admin.fault("DeleteAccountAssignment", "lost_reply", count=1)
    with pytest.raises(Unknown):
        center.connector.revoke(hold, center.now())
    center.admin.clear_faults(fault)
    center.pass_time(timedelta(seconds=2))
    assert (center.see(hold).usable, center.see(hold).cut) == (False, False)


def test_session_acts_on_when_somebody_removed_what_came_back(center: Center) -> None:
    """Cut, back, and removed by hand before our removal finds it absent: cut up to now."""
    hold = ended(center)
    session = back_again(center)
    center.admin.remove_assignment(center.name, ACCOUNT, user="ana")
    seen = take_away(center.connector, hold, False, center.now())
    assert (seen.usable, seen.cut) == (False, True)
    assert not center.acts(session)


def test_session_acts_on_when_what_came_back_cannot_be_removed(center: Center) -> None:
    """Cut, back, and its removal refused: the person is held back, as at a first end."""
    hold = ended(center)
    session = back_again(center)
    center.admin.fault("DeleteAccountAssignment", "refuse")
    with pytest.raises(Refused):
        take_away(center.connector, hold, False, center.now())
    assert not center.acts(session)
    seen = center.see(hold)
    assert (seen.usable, seen.cut) == (True, False)


def test_cut_of_an_earlier_removal_is_remembered_by_another_process(
    center: Center, tmp_path: Path
) -> None:
    """Two processes knew the first cut; one removes again: the other believes the first no more."""
    one, other = center.connect(lock_dir=tmp_path), center.connect(lock_dir=tmp_path)
    hold = center.hold()
    one.grant(hold, center.now())
    for connector in (one, other):
        assert take_away(connector, hold, False, center.now()).cut
    back_again(center)
    center.admin.fault("DeleteAccountAssignment", "lost_reply", count=1)
    with pytest.raises(Unknown):
        one.revoke(hold, center.now())
    center.pass_time(timedelta(seconds=2))
    for connector in (one, other):
        assert not center.see(hold, connector).cut


def test_removal_begun_anew_is_undone_by_an_older_record(tmp_path: Path) -> None:
    """A clock set back, a file that cannot be written, an older try that ends late: all lose."""
    at = parse_instant("2026-11-22T07:03:36Z")
    ours, theirs = EndedGrants(tmp_path), EndedGrants(tmp_path)

    def was_cut(ended: Ended) -> Ended:
        return replace(ended, gone_at=at, before=at, spread=True)

    first = ours.begin("gr_a", at)
    for one in (ours, theirs):
        one.note("gr_a", at, was_cut, first.tried_at)
    second = ours.begin("gr_a", at - timedelta(minutes=1))
    assert second.tried_at > first.tried_at
    ours.note("gr_a", at, was_cut, first.tried_at)
    for one in (ours, theirs, EndedGrants(tmp_path)):
        assert one.of("gr_a") == second
    written = next(tmp_path.glob("*.ended"))
    written.unlink()
    written.mkdir()
    third = ours.begin("gr_a", at)
    written.rmdir()
    written.write_text(record({"gr_a": was_cut(second)}))
    assert ours.of("gr_a") == third


def test_session_acts_on_when_another_machine_removed_what_came_back(center: Center) -> None:
    """That machine could not cut, and this one is at it by what it knows of the first end: asked to
    cut anew, it believes that no more, whether its cut succeeds or not.
    """
    hold, other = ended(center), center.connect()
    session = back_again(center)
    other.revoke(hold, center.now())
    anew = replace(hold, removed_elsewhere=center.now())
    fault = center.admin.fault("PutInlinePolicyToPermissionSet", "refuse")
    with pytest.raises(Refused):
        center.connector.cut(anew, center.now())
    assert not center.see(anew).cut
    center.admin.clear_faults(fault)
    center.connector.cut(anew, center.now())
    assert center.see(hold).cut
    assert not center.acts(session)
    center.pass_time(timedelta(minutes=1))
    assert center.connector.cut(anew, center.now()).detail["wrote"] == "no", "once for a removal"


def test_removed_deny_is_put_back_only_up_to_the_end_this_machine_knows(center: Center) -> None:
    """Another machine removed and cut what came back, as is sealed: mending here reaches that."""
    hold, other = ended(center), center.connect()
    session = back_again(center)
    later = take_away(other, hold, False, center.now()).cut_before
    center.put_policy("")
    assert center.acts(session)
    user, now = hold.key.native_principal, center.now()
    cut = Cut(until=now + HOUR, native_principal=user, before=later)
    mended = center.connector.mend(center.target, center.role, {hold.grant: cut}, now)
    assert mended == (hold.grant,)
    assert not center.acts(session)


def test_removed_deny_stays_away_where_the_cut_had_failed(center: Center) -> None:
    """This machine removed it and could not cut, another did, as is sealed: mending here reaches
    that, and makes no cut of its own before any is sealed.
    """
    hold, other = center.hold(), center.connect()
    center.connector.grant(hold, center.now())
    session = center.sign_in()
    center.connector.revoke(hold, center.now())
    user, now = hold.key.native_principal, center.now()
    unsealed = Cut(until=now + HOUR, native_principal=user, before=now + PROPAGATION)
    assert center.connector.mend(center.target, center.role, {hold.grant: unsealed}, now) == ()
    assert center.policy() == ""
    other.cut(hold, center.now())
    sealed = center.see(hold, other).cut_before
    center.pass_time(PROPAGATION + timedelta(minutes=10))
    center.put_policy("")
    assert center.acts(session)
    cut, now = replace(unsealed, before=sealed), center.now()
    assert center.connector.mend(center.target, center.role, {hold.grant: cut}, now) == (
        hold.grant,
    )
    assert not center.acts(session)


def test_cut_of_another_machine_is_missing_where_one_was_tried_in_vain(center: Center) -> None:
    """Another machine removed it; this one found it gone, a second later than that one, and was
    refused the deny: the cut that the other made, as it is sealed, is the cut of this end.
    """
    hold, other = center.hold(), center.connect()
    center.connector.grant(hold, center.now())
    other.revoke(hold, center.now())
    center.pass_time(timedelta(seconds=5))
    fault = center.admin.fault("PutInlinePolicyToPermissionSet", "refuse")
    with pytest.raises(Refused):
        center.connector.cut(hold, center.now())
    center.admin.clear_faults(fault)
    other.cut(hold, center.now())
    sealed = replace(hold, cut_before=center.see(hold, other).cut_before)
    assert sealed.cut_before is not None and center.see(sealed).cut
    center.put_policy("")
    assert not center.see(sealed).cut


def test_removal_of_the_very_moment_passes_for_none() -> None:
    """Gone in the same millisecond as it was begun: that was a removal of ours all the same."""
    at = parse_instant("2026-11-22T07:03:36Z")
    assert Ended(tried_at=at, gone_at=at).only_read
    assert not Ended(tried_at=at).gone(at).only_read
    assert not Ended(tried_at=at).gone(at + timedelta(seconds=1)).only_read


def test_cut_that_fails_is_tried_again_up_to_a_later_instant(center: Center) -> None:
    """Its removal was refused and somebody else removed it: each try is the same cut from then."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    center.admin.fault("DeleteAccountAssignment", "refuse", count=1)
    with pytest.raises(Refused):
        center.connector.revoke(hold, center.now())
    center.admin.remove_assignment(center.name, ACCOUNT, user="ana")
    center.admin.fault("PutInlinePolicyToPermissionSet", "refuse", count=1)
    with pytest.raises(Refused):
        center.connector.cut(hold, center.now())
    known_gone = center.now()
    center.pass_time(timedelta(minutes=1))
    told = center.connector.cut(hold, center.now())
    before = parse_instant(str(told.detail["before"]))
    assert before <= known_gone + PROPAGATION + timedelta(seconds=2)
    assert center.see(hold).cut
