"""Expiring: taking access away, and not stopping until it is known to be gone (I2).

Nothing here is gated. A call that fails is tried again at `pace`; what was read back decides which
word is sealed: accepted is not removed, removed is not gone.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import structlog

from tidegate.base.duty import Duty
from tidegate.base.errors import (
    Refused,
    Stale,
    Unknown,
    Unreachable,
    WorldFailed,
)
from tidegate.base.fact import SYSTEM, Fact, Step
from tidegate.base.when import Instant, wire
from tidegate.connectors.port import (
    Answer,
    Connector,
    Hold,
    Method,
    Powers,
    Probed,
    Scope,
    Seen,
)
from tidegate.evidence.journal import JournalLine
from tidegate.evidence.journal_line import ROW, removed_line
from tidegate.expire import (
    EndReason,
    Proof,
    ReadBack,
    contradicted,
    cut,
    gone,
    may_be_gone,
    removed,
    sealed_ahead,
)
from tidegate.flow.adopting import lacking_line
from tidegate.flow.deadlines import held_until, latest_end
from tidegate.flow.ending import begin, write_down
from tidegate.flow.granting import note, outcome_of
from tidegate.flow.holding import closing_hold
from tidegate.flow.house import House
from tidegate.flow.lateness import note_acting, note_removed
from tidegate.flow.pace import LONGEST_PAUSE, SHORTEST_PAUSE, pause
from tidegate.grant import STANDING, Grant, GrantState, Outcome, noted

log = structlog.get_logger("tidegate.expiring")

LONGEST_IN_HAND = timedelta(minutes=2)  # of a key: longer than every call of one step together
CLOUD_FAULTS = (Refused, Unreachable, Unknown)
# A cloud's clock is read off whole seconds with an allowance, so just after a native end it cannot
# yet show that the end has passed. That is no failure and no news: look again in a second.
CLOUD_TICKS = timedelta(seconds=6)


def close_once(house: House, grant: Grant) -> Grant:
    """One look at a grant that must end: as many steps towards `gone` as the cloud allows now.

    `open` and `intended` grants are closed only from their end on, as soon as our clock or the
    database's says so; the cloud's own deadline waits for neither.
    """
    now = house.closing_now()
    if grant.state in (GrantState.OPEN, GrantState.INTENDED):
        if grant.ends_at is None or now < grant.ends_at:
            return grant
        grant = begin(house, grant, EndReason.EXPIRED, SYSTEM, now)
    with house.store.only_one(closing_hold(house, grant).key.text(), unasked=True) as ours:
        if not ours and not _held_back(grant, now):
            house.store.snooze(grant.id, now + SHORTEST_PAUSE, grant.version)
            return grant
        if grant.state is GrantState.CLOSING:
            grant = _remove(house, grant)
        if grant.state is GrantState.REMOVED:
            grant = _prove(house, grant)
        return grant


def _held_back(grant: Grant, now: Instant) -> bool:
    """Whether somebody has had its key in hand for longer than any call takes. Then we act beside
    them, as after a crash: nobody who opens may keep an end waiting by holding on to a key.
    """
    since = grant.removed_at or grant.closing_at
    return since is not None and now - since > LONGEST_IN_HAND


def close_now(house: House, grant: Grant) -> Grant:
    """`close_once` for somebody waiting at a terminal: a fault leaves the rest to the worker, and
    so does a process that does not close.
    """
    if Duty.CLOSE not in house.duties:
        return house.store.grant(grant.id)
    try:
        return close_once(house, grant)
    except (WorldFailed, Stale) as fault:
        log.warning("closing goes on in the worker", grant=grant.id, code=fault.code)
        return house.store.grant(grant.id)


def take_away(connector: Connector, hold: Hold, still_wanted: bool, now: Instant) -> Seen:
    """Ask the cloud to end the hold and read it back. Used with and without the database.

    With `still_wanted` another grant holds the same assignment: only read, change nothing (I5).
    Where cutting is a change of its own, a removal that is refused does not keep it from being
    tried, nor the other way round: whatever took effect shows in what is read back.

    Raises:
        WorldFailed: what connectors raise; of the removal when both fail.
    """
    if not still_wanted:
        apart = connector.powers(hold.role.kind).cuts_apart
        try:
            connector.revoke(hold, now)
        except CLOUD_FAULTS:
            if apart:
                _try_cut(connector, hold, now)
            raise
        if apart:
            _try_cut(connector, hold, now)
        else:
            connector.cut(hold, now)
    return next(iter(connector.observe(Scope(target=hold.target, hold=hold), now)))


def only_cut(connector: Connector, hold: Hold, now: Instant) -> Seen:
    """End the sessions that outlived the removal of `hold`, and read it back.

    Nothing is removed: without the database nobody knows whose access is there by now.

    Raises:
        WorldFailed: what connectors raise of reading; a cut that fails is not in what is read.
    """
    _try_cut(connector, hold, now)
    return next(iter(connector.observe(Scope(target=hold.target, hold=hold), now)))


def _try_cut(connector: Connector, hold: Hold, now: Instant) -> None:
    """A cut beside a removal: one that fails is tried again until it is seen."""
    try:
        connector.cut(hold, now)
    except CLOUD_FAULTS as fault:
        log.warning("live sessions are not cut yet", grant=hold.grant, code=fault.code)


def _remove(house: House, grant: Grant) -> Grant:
    hold = closing_hold(house, grant)
    assignment = house.store.assignment(grant.assignment)
    others = assignment.holders if assignment else ()
    standing = bool(assignment and assignment.stood_before)
    connector = house.connector(hold.target.connector)
    acted_at = house.now()
    lacking = lacking_line(house, grant, hold, assignment)
    write_down(house, *([lacking] if lacking else ()), _begun(grant, acted_at))
    first_at, calls = house.tries.sent(grant.id, acted_at)
    try:
        seen = take_away(connector, hold, bool(others) or standing, acted_at)
    except CLOUD_FAULTS as fault:
        return note(house, grant, "revoke", outcome_of(fault), fault.code)
    if others and not standing:
        _move_deadline(house, connector, hold, others)
    powers = connector.powers(hold.role.kind)
    held_by = ", ".join(others) or _standing(standing, seen)
    if seen.usable and not held_by:
        if powers.native_deadline and hold.ends_at <= acted_at < hold.ends_at + CLOUD_TICKS:
            house.store.snooze(grant.id, acted_at + SHORTEST_PAUSE, grant.version)
            return grant
        return note(house, grant, "read_back", Outcome.STILL_USABLE, "still_usable")
    settled_at = _readable_from(grant, powers)
    if (powers.cuts_apart or not seen.cut) and acted_at < settled_at:
        house.store.snooze(grant.id, min(settled_at, acted_at + LONGEST_PAUSE), grant.version)
        return grant
    back = ReadBack(
        cloud_at=seen.cloud_at,
        detail=dict(seen.detail),
        acted_at=acted_at,
        changed_by=house.now(),
        derived=connector.residual(hold.target, hold.role, seen.cut),
        settling=powers.propagation,
        native_deadline=powers.native_deadline,
        still_held_by=held_by,
        cut=seen.cut,
        cut_before=seen.cut_before,
    )
    step = removed(grant, back, house.now())
    if calls > 1:
        step = step.then(Step((), (_sent(grant, first_at, calls, house.now()),)))
    house.store.commit(step)
    house.tries.removed(grant.id, house.store.grant(grant.id).removed_at, acted_at)
    note_removed(house, house.store.grant(grant.id))
    line = removed_line(
        grant.id,
        acted_at,
        cloud_at=seen.cloud_at,
        cut_before=seen.cut_before,
        uncut=powers.cuts_apart and not seen.cut and not held_by,
        held=bool(held_by),
        held_until=held_until(house, assignment) if held_by else None,
    )
    write_down(house, line)
    return house.store.grant(grant.id)


def _sent(grant: Grant, first_at: Instant, calls: int, now: Instant) -> Fact:
    """That the end took more than one call: how late the first was is then not in the others."""
    return Fact(
        name="end.sent",
        subject=grant.request,
        actor=SYSTEM,
        data={
            "grant": grant.id,
            "request": grant.request,
            "at": wire(now),
            "sent_at": wire(first_at),
            "calls": calls,
        },
    )


def _move_deadline(house: House, connector: Connector, hold: Hold, others: tuple[str, ...]) -> None:
    """The cloud's own deadline goes to the latest end that is left.

    Closing does not wait for it: what is armed may only be too late, and the worker is not. Where
    this process may not set it, the next look at the role has one set it that may.
    """
    until = latest_end(house, others)
    if until is None or Duty.OPEN not in house.duties:
        return
    try:
        connector.arm(hold, until, house.now())
    except CLOUD_FAULTS as fault:
        log.warning("the cloud's deadline is not moved yet", grant=hold.grant, code=fault.code)


def _standing(stood_before: bool, seen: Seen) -> str:
    """Access that is not ours and that the holder still has (I5); empty when there is none."""
    if not seen.usable:
        return ""
    if seen.inherited:
        return f"{STANDING} by {seen.inherited}"
    return STANDING if stood_before else ""


def _readable_from(grant: Grant, powers: Powers) -> Instant:
    """From when a list that does not show the assignment cannot be one from before it was made."""
    made_at = grant.opened_at or grant.closing_at
    if made_at is None:
        raise RuntimeError(f"reading back {grant.id} before it closes")
    return made_at + powers.stale_window


def _prove(house: House, grant: Grant) -> Grant:
    hold = closing_hold(house, grant)
    connector = house.connector(hold.target.connector)
    if grant.still_held_by:
        return _held_still(house, grant, hold, connector)
    apart = connector.powers(hold.role.kind).cuts_apart
    if apart and not grant.cut:
        grant = _cut_after(house, grant, hold, connector)
        if grant.state is not GrantState.REMOVED:
            return grant
    now = house.now()
    if grant.acted or (apart and not grant.cut and now < (grant.residual_until or now)):
        note_acting(house, grant, now)
    acted_at = house.now()
    try:
        probed = connector.probe(hold, acted_at)
    except CLOUD_FAULTS as fault:
        probed = Probed(
            answer=Answer.UNTOLD,
            control=Answer.UNTOLD,
            call="",
            cloud_at=acted_at,
            detail={"why": fault.code},
        )
    return _judge_proof(house, grant, hold, connector, probed, acted_at)


def _cut_after(house: House, grant: Grant, hold: Hold, connector: Connector) -> Grant:
    """Removed, and live sessions not seen cut: try again, and look whether it is there again."""
    acted_at, refused = house.now(), None
    elsewhere = house.tries.removed_elsewhere(grant.id, grant.removed_at)
    hold = replace(hold, removed_elsewhere=elsewhere)
    try:
        connector.cut(hold, acted_at)
        if elsewhere is not None:
            house.tries.removed(grant.id, elsewhere)
    except CLOUD_FAULTS as fault:
        refused = fault
    try:
        seen = next(iter(connector.observe(Scope(target=hold.target, hold=hold), acted_at)))
    except CLOUD_FAULTS as fault:
        return note(house, grant, "cut", outcome_of(fault), fault.code)
    powers = connector.powers(hold.role.kind)
    if _usable_again(house, grant, seen):
        return _once_more(house, grant, "it is usable again", _as_seen(seen))
    if refused is not None and not seen.cut:
        note(house, grant, "cut", outcome_of(refused), refused.code)
    elif seen.cut:
        back = ReadBack(
            cloud_at=seen.cloud_at,
            detail=dict(seen.detail),
            acted_at=acted_at,
            changed_by=house.now(),
            derived=connector.residual(hold.target, hold.role, cut=True),
            settling=powers.propagation,
            native_deadline=powers.native_deadline,
            cut=True,
            cut_before=seen.cut_before,
        )
        house.store.commit(cut(grant, back, house.now()))
        # The line before says that its sessions are owed a cut. It is the same removal still.
        at = grant.removed_at or acted_at
        line = removed_line(grant.id, at, cloud_at=seen.cloud_at, cut_before=seen.cut_before)
        write_down(house, line)
    return house.store.grant(grant.id)


def _usable_again(house: House, grant: Grant, seen: Seen) -> bool:
    """Whether it is there again without us; a later grant of the same access does not count."""
    assignment = house.store.assignment(grant.assignment)
    return seen.usable and not (assignment and assignment.holders)


def _as_seen(seen: Seen) -> dict[str, str]:
    return {"inherited": seen.inherited, "read_back": "usable", "cloud_at": wire(seen.cloud_at)}


def _once_more(house: House, grant: Grant, why: str, how: Mapping[str, str]) -> Grant:
    """Back to closing. Something that keeps coming back is answered more and more slowly.

    The journal says so first: what it calls removed is nobody's to close without the database.
    """
    now = house.now()
    write_down(house, _begun(grant, now))
    house.store.commit(contradicted(grant, why, how, now))
    after = house.store.grant(grant.id)
    if (times := house.tries.again(grant.id)) > 1:
        until = house.now() + pause(times, house.randomness(2))
        house.store.snooze(grant.id, until, after.version)
    return after


def _held_still(house: House, grant: Grant, hold: Hold, connector: Connector) -> Grant:
    """Never gone while something else holds the access; back to closing when nothing does.

    Standing access is not ours to take, so such a grant stays `removed`, a finding for a person,
    until whoever owns that access has ended it.
    """
    assignment = house.store.assignment(grant.assignment)
    why = "its other holders have ended"
    if assignment and assignment.holders:
        if not assignment.stood_before:
            _move_deadline(house, connector, hold, assignment.holders)
        house.store.snooze(grant.id, house.now() + LONGEST_PAUSE, grant.version)
        return grant
    if grant.held_by_standing:
        now = house.now()
        try:
            seen = next(iter(connector.observe(Scope(target=hold.target, hold=hold), now)))
        except CLOUD_FAULTS as fault:
            return note(house, grant, "read_back", outcome_of(fault), fault.code)
        if seen.usable:
            house.store.snooze(grant.id, now + LONGEST_PAUSE, grant.version)
            return grant
        why = "the standing access has ended"
    return _once_more(house, grant, why, {"held_by": grant.still_held_by})


def _judge_proof(
    house: House, grant: Grant, hold: Hold, connector: Connector, probed: Probed, acted_at: Instant
) -> Grant:
    now = house.now()
    settled = grant.residual_until is not None and now >= grant.residual_until
    how = _how(probed)
    if probed.answer is Answer.ALLOWED:
        grant = _still_acts(house, grant)
        if grant.state is not GrantState.REMOVED:
            return grant
        if settled:
            return _once_more(house, grant, "a probe was allowed after the end", how)
    denied = probed.proves_denied
    apart = connector.powers(hold.role.kind).cuts_apart
    derived = connector.residual(hold.target, hold.role, grant.cut)
    lives_on = apart or bool(derived)  # what time ends, not the removal
    if not may_be_gone(grant, denied, derived, now):
        if not apart or grant.residual_until is None:
            allowed = probed.answer is Answer.ALLOWED
            outcome = Outcome.STILL_ACTS if allowed else Outcome.NOT_PROVEN
            return note(house, grant, "probe", outcome, f"probe_{probed.answer}")
        # What a wrong clock sealed may be long ahead: what is there now is looked at all the same.
        if not sealed_ahead(grant.removed_at or now, now):
            return _wait(house, grant, grant.residual_until - now, now)
    try:
        if lives_on or not denied:  # nothing was refused to that access: look once more now
            seen = next(iter(connector.observe(Scope(target=hold.target, hold=hold), now)))
            if _usable_again(house, grant, seen):
                return _seen_again(house, grant, hold, connector, seen, now)
            # What is left ends by the cloud's clock: a fast one of ours proves nothing, and by a
            # slow one nothing is gone before it was removed.
            by = min(now, seen.cloud_at)
            if lives_on and grant.residual_until and not may_be_gone(grant, denied, derived, by):
                return _wait(house, grant, grant.residual_until - by, now, apart)
            how = _how(probed, seen.cloud_at)
        assignment = house.store.assignment(grant.assignment)
        if not (assignment and assignment.holders):  # else the deadline is another grant's by now
            connector.disarm(hold, now)
    except CLOUD_FAULTS as fault:
        return note(house, grant, "disarm", outcome_of(fault), fault.code)
    proof = Proof.DENIED if denied else Proof.REMOVED
    sessions = tuple(house.store.sessions(grant.id))
    house.store.commit(gone(grant, sessions, proof, how, acted_at, now))
    proven = {"proof": proof.value}
    write_down(house, JournalLine(kind="gone", grant=grant.id, at=acted_at, data=proven))
    write_down(house, JournalLine(kind="sealed", grant=grant.id, at=now, data={}))
    house.tries.forget(grant.id)
    return house.store.grant(grant.id)


def _seen_again(
    house: House, grant: Grant, hold: Hold, connector: Connector, seen: Seen, now: Instant
) -> Grant:
    """Back to closing, but for the moments after a native end: see CLOUD_TICKS. Another of the
    cloud's machines may be behind the one that showed it over.
    """
    native = connector.powers(hold.role.kind).native_deadline
    if native and not grant.cut and hold.ends_at <= now < hold.ends_at + CLOUD_TICKS:
        house.store.snooze(grant.id, now + SHORTEST_PAUSE, grant.version)
        return grant
    return _once_more(house, grant, "it is usable again", _as_seen(seen))


def _still_acts(house: House, grant: Grant) -> Grant:
    """Seal that it acted, before anything else is made of it: a later look that gets no answer,
    by this process or by another, must not call it gone.

    A row that moved meanwhile (a search was told of it) keeps it from nothing: it is told of the
    row as it is then.
    """
    while grant.state is GrantState.REMOVED and not grant.acted:
        tries, now = house.tries.one_more(grant), house.now()
        step = noted(grant, "probe", Outcome.STILL_ACTS, "probe_allowed", tries, now)
        with suppress(Stale):
            house.store.commit(step)
        grant = house.store.grant(grant.id)
    return grant


def _wait(house: House, grant: Grant, left: timedelta, now: Instant, apart: bool = True) -> Grant:
    """Nothing but time is missing; where a cut is made `apart`, one not seen is tried again."""
    if apart and not grant.cut:
        return note(house, grant, "cut", Outcome.NOT_CUT, "not_cut")
    pausing = min(max(left, SHORTEST_PAUSE), LONGEST_PAUSE)
    house.store.snooze(grant.id, now + pausing, grant.version)
    return grant


def _how(probed: Probed, read_at: Instant | None = None) -> dict[str, str]:
    """What was asked and told. Where nothing was, the proof is the list `read_at` by the cloud."""
    untold = probed.answer is Answer.UNTOLD
    return {
        "answer": probed.answer.value,
        "control": probed.control.value,
        "call": probed.call,
        "cloud_at": wire(read_at if untold and read_at else probed.cloud_at),
        "method": (Method.LISTED if untold else probed.method).value,
        **{key: value for key, value in probed.detail.items() if key != "cloud_at"},
    }


def _begun(grant: Grant, at: Instant) -> JournalLine:
    """Why it ends, and by which version of its row: by that, not by clocks, rows are newer."""
    data = {"reason": grant.end_reason, ROW: grant.version}
    return JournalLine(kind="closing", grant=grant.id, at=at, data=data)
