"""Expire: which word may be used for an end."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.stages.make import NOW, a_grant, thing
from tidegate.base.errors import Stale
from tidegate.base.fact import SYSTEM
from tidegate.base.personal import Personal
from tidegate.catalogue import Assignment
from tidegate.expire import (
    EndReason,
    Proof,
    ReadBack,
    contradicted,
    end,
    gone,
    may_be_gone,
    removed,
    residual_until,
    resumed,
    signed_off,
)
from tidegate.grant import Grant, GrantState, Outcome, noted
from tidegate.session import Session, Why, issued

MINUTE = timedelta(minutes=1)
NONE = timedelta(0)


def back(acted_at: datetime, derived: timedelta = NONE, native: bool = True) -> ReadBack:
    """What a read-back saw at `acted_at`."""
    return ReadBack(
        cloud_at=acted_at,
        detail={},
        acted_at=acted_at,
        changed_by=acted_at,
        derived=derived,
        settling=MINUTE,
        native_deadline=native,
    )


def a_removed(acted_at: datetime, derived: timedelta = NONE) -> Grant:
    """A grant ended at `acted_at` and read back."""
    grant, held = a_grant("open")
    grant = thing(end(grant, held, EndReason.EXPIRED, SYSTEM, acted_at), Grant)  # type: ignore[assignment]
    after = thing(removed(grant, back(acted_at, derived), acted_at), Grant)
    assert isinstance(after, Grant)
    return after


def test_ending_twice() -> None:
    """A grant that closes cannot begin to close again."""
    grant, held = a_grant("open")
    closing = thing(end(grant, held, EndReason.DONE, "pr_ana", NOW), Grant)
    assert isinstance(closing, Grant)
    with pytest.raises(Stale):
        end(closing, None, EndReason.REVOKED, "pr_bo", NOW)


def test_closing_keeps_holding() -> None:
    """Beginning to close lets go of the assignment in the same Step."""
    grant, held = a_grant("open")
    after = thing(end(grant, held, EndReason.EXPIRED, SYSTEM, NOW), Assignment)
    assert isinstance(after, Assignment)
    assert after.holders == ()


def test_early_end_called_gone_while_it_may_not_have_spread() -> None:
    """An early cut needs its settling time, unless it was tried and refused."""
    grant = a_removed(NOW + MINUTE)
    assert grant.residual_until == NOW + 2 * MINUTE
    assert not may_be_gone(grant, False, NONE, NOW + 2 * MINUTE - timedelta(milliseconds=1))
    assert may_be_gone(grant, False, NONE, NOW + 2 * MINUTE)
    assert may_be_gone(grant, True, NONE, NOW + MINUTE)


def test_native_end_waits_for_nothing() -> None:
    """At its own end nothing has to spread: the end is inside every credential."""
    grant, _ = a_grant("open")
    assert grant.ends_at is not None
    assert residual_until(grant.ends_at, back(grant.ends_at + MINUTE)) == grant.ends_at


def test_late_removal_counted_from_the_end_it_missed() -> None:
    """Where the cloud has no deadline of its own, access was open until it was removed, however
    late: what may still act is counted from then.
    """
    grant, _ = a_grant("open")
    assert grant.ends_at is not None
    late = grant.ends_at + timedelta(hours=3)
    hour = timedelta(hours=1)
    assert residual_until(grant.ends_at, back(late, hour, native=False)) == late + hour
    assert residual_until(grant.ends_at, back(late, hour)) == grant.ends_at + hour


def test_native_end_believed_by_a_clock_of_ours_that_is_ahead() -> None:
    """While the cloud's clock is short of the end its deadline refuses nobody yet: what ended the
    access was a change, and that needs its settling time from when it was made.
    """
    grant, _ = a_grant("open")
    assert grant.ends_at is not None
    tick = timedelta(milliseconds=1)
    for ours, clouds in ((MINUTE, -40 * MINUTE), (NONE, -tick)):
        seen = replace(back(grant.ends_at + ours), cloud_at=grant.ends_at + clouds)
        assert residual_until(grant.ends_at, seen) == grant.ends_at + ours + MINUTE
        late = replace(seen, derived=timedelta(hours=12))
        until = grant.ends_at + ours + timedelta(hours=12)
        assert residual_until(grant.ends_at, late) == until
    come = replace(back(grant.ends_at + MINUTE), cloud_at=grant.ends_at)
    assert residual_until(grant.ends_at, come) == grant.ends_at


def test_derived_tokens_forgotten() -> None:
    """What a session may have minted outlives it: a refusal today does not make that gone."""
    grant = a_removed(NOW + MINUTE, derived=timedelta(hours=12))
    assert grant.residual_until == NOW + MINUTE + timedelta(hours=12)
    assert not may_be_gone(grant, True, timedelta(hours=12), NOW + timedelta(hours=1))
    assert may_be_gone(grant, False, timedelta(hours=12), NOW + timedelta(hours=13))


def test_still_held_by_standing_access_called_gone() -> None:
    """Access that also stands by other means is never gone (I5)."""
    grant = replace(a_removed(NOW), still_held_by="standing access")
    assert not may_be_gone(grant, True, NONE, NOW + timedelta(days=1))


def test_closing_that_was_never_read_back_called_gone() -> None:
    """Accepted is not removed, removed is not gone: no table line skips a word (I2)."""
    grant, held = a_grant("open")
    closing = thing(end(grant, held, EndReason.EXPIRED, SYSTEM, NOW), Grant)
    assert isinstance(closing, Grant)
    with pytest.raises(Stale):
        gone(closing, (), Proof.ACCEPTED, {}, NOW, NOW)


@pytest.mark.parametrize(("minutes", "why"), [(10, Why.CUT), (46, Why.EXPIRED)])
def test_session_left_live_behind_a_gone_grant(minutes: int, why: Why) -> None:
    """A grant's sessions end with it, each saying whether it was cut or ran out."""
    grant, _ = a_grant("open")
    session = thing(issued(grant, "se_1", "ASIAX", NOW + timedelta(hours=1), NOW), Session)
    assert isinstance(session, Session)
    at = NOW + minutes * MINUTE
    over = replace(a_removed(at), id=grant.id)
    after = thing(gone(over, (session,), Proof.DENIED, {}, at, at), Session)
    assert isinstance(after, Session)
    assert after.why == why


def test_probe_that_acts_after_removed_is_shrugged_off() -> None:
    """A removal that turns out not to hold goes back to closing."""
    after = thing(contradicted(a_removed(NOW), "acted", {}, NOW), Grant)
    assert isinstance(after, Grant)
    assert after.state is GrantState.CLOSING
    assert after.removed_at is None


def acted(grant: Grant) -> Grant:
    """It was tried as that access after the removal, and was allowed."""
    after = thing(noted(grant, "probe", Outcome.STILL_ACTS, "probe_allowed", 1, NOW), Grant)
    assert isinstance(after, Grant)
    return after


def test_access_that_acted_called_gone_because_time_passed() -> None:
    """Once a try was allowed, no time and no unanswered try proves its end: only a refused one."""
    grant = acted(a_removed(NOW))
    assert not may_be_gone(grant, False, NONE, NOW + timedelta(days=30))
    assert may_be_gone(grant, True, NONE, NOW + timedelta(minutes=1))


def test_access_that_acted_forgotten_by_what_is_noted_later() -> None:
    """Neither an unanswered try, nor another read-back, nor a sign-off taken back forgets it."""
    grant = acted(a_removed(NOW))
    for step in (
        lambda g: noted(g, "probe", Outcome.NOT_PROVEN, "probe_untold", 2, NOW),
        lambda g: contradicted(g, "it is usable again", {}, NOW),
        lambda g: noted(g, "revoke", Outcome.UNREACHABLE, "unreachable", 1, NOW),
        lambda g: removed(g, back(NOW + MINUTE), NOW + MINUTE),
        lambda g: signed_off(g, "pr_bo", Personal(b"s" * 32, "closed"), NOW + MINUTE),
        lambda g: resumed(g, "pr_bo", Personal(b"s" * 32, "no"), NOW + MINUTE),
        lambda g: removed(g, back(NOW + 2 * MINUTE), NOW + 2 * MINUTE),
    ):
        after = thing(step(grant), Grant)
        assert isinstance(after, Grant)
        grant = after
    assert grant.acted
    assert not may_be_gone(grant, False, NONE, NOW + timedelta(days=30))
