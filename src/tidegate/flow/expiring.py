"""Expiring: taking access away, and not stopping until it is known to be gone (I2).

Nothing here is gated. A call that fails is tried again at `pace`; what was read back decides which
word is sealed: accepted is not removed, removed is not gone.
"""

from collections.abc import Mapping
from datetime import timedelta

import structlog

from tidegate.base.errors import (
    Refused,
    Stale,
    TidegateError,
    Unknown,
    Unreachable,
    WorldFailed,
)
from tidegate.base.fact import SYSTEM, Fact, Step
from tidegate.base.when import Instant, wire
from tidegate.catalogue import target_chain
from tidegate.connectors.port import Answer, Connector, Hold, Probed, Scope, Seen
from tidegate.evidence.journal import JournalLine
from tidegate.expire import EndReason, Proof, ReadBack, contradicted, gone, may_be_gone, removed
from tidegate.flow.ending import begin
from tidegate.flow.granting import hold_of, note, outcome_of
from tidegate.flow.house import House
from tidegate.flow.pace import LONGEST_PAUSE, SHORTEST_PAUSE
from tidegate.grant import Grant, GrantState, Outcome

log = structlog.get_logger("tidegate.expiring")

CLOUD_FAULTS = (Refused, Unreachable, Unknown)
# A cloud's clock is read off whole seconds with an allowance, so just after a native end it cannot
# yet show that the end has passed. That is no failure and no news: look again in a second.
CLOUD_TICKS = timedelta(seconds=6)
# A deny may be pruned only by the cloud's own clock, which the connector reads. So denies are
# looked after this much longer than our clock says, however far ahead ours may be.
CLOCKS_MAY_DIFFER = timedelta(minutes=15)


def close_once(house: House, grant: Grant) -> Grant:
    """One look at a grant that must end: as many steps towards `gone` as the cloud allows now.

    `open` and `intended` grants are closed only from their end on, on the earlier of the clocks
    that matter: our own reading here; the cloud's own deadline does not wait for us.
    """
    now = house.now()
    if grant.state in (GrantState.OPEN, GrantState.INTENDED):
        if grant.ends_at is None or now < grant.ends_at:
            return grant
        grant = begin(house, grant, EndReason.EXPIRED, SYSTEM, now)
    with house.in_hand.only_one(hold_of(house, grant).key.text()) as ours:
        if not ours:
            house.store.snooze(grant.id, now + SHORTEST_PAUSE, grant.version)
            return grant
        if grant.state is GrantState.CLOSING:
            grant = _remove(house, grant)
        if grant.state is GrantState.REMOVED:
            grant = _prove(house, grant)
        return grant


def close_now(house: House, grant: Grant) -> Grant:
    """`close_once` for somebody waiting at a terminal: a fault leaves the rest to the worker."""
    try:
        return close_once(house, grant)
    except (WorldFailed, Stale) as fault:
        log.warning("closing goes on in the worker", grant=grant.id, code=fault.code)
        return house.store.grant(grant.id)


def take_away(connector: Connector, hold: Hold, still_wanted: bool, now: Instant) -> Seen:
    """Ask the cloud to end the hold and read it back. Used with and without the database.

    With `still_wanted` another grant holds the same assignment: only read, change nothing (I5).
    Raises what connectors raise.
    """
    if not still_wanted:
        connector.revoke(hold, now)
        connector.cut(hold, now)
    return next(iter(connector.observe(Scope(target=hold.target, hold=hold), now)))


def _remove(house: House, grant: Grant) -> Grant:
    hold = hold_of(house, grant)
    assignment = house.store.assignment(grant.assignment)
    others = assignment.holders if assignment else ()
    standing = bool(assignment and assignment.stood_before)
    connector = house.connector(hold.target.connector)
    acted_at = house.now()
    _journal(house, "closing", grant.id, acted_at, {"reason": grant.end_reason})
    try:
        seen = take_away(connector, hold, bool(others) or standing, acted_at)
    except CLOUD_FAULTS as fault:
        return note(house, grant, "revoke", outcome_of(fault), fault.code)
    powers = connector.powers(hold.role.kind)
    held_by = ", ".join(others) or ("standing access" if standing else "")
    if seen.usable and not held_by:
        if powers.native_deadline and hold.ends_at <= acted_at < hold.ends_at + CLOUD_TICKS:
            house.store.snooze(grant.id, acted_at + SHORTEST_PAUSE, grant.version)
            return grant
        return note(house, grant, "read_back", Outcome.STILL_USABLE, "still_usable")
    if not seen.cut and acted_at < hold.ends_at + powers.stale_window:
        return note(house, grant, "read_back", Outcome.STILL_USABLE, "inside_stale_window")
    back = ReadBack(
        cloud_at=seen.cloud_at,
        detail=dict(seen.detail),
        acted_at=acted_at,
        derived=connector.residual(hold.role),
        settling=powers.propagation,
        native_deadline=powers.native_deadline,
        still_held_by=held_by,
    )
    house.store.commit(removed(grant, back, house.now()))
    _journal(house, "removed", grant.id, acted_at, {"cloud_at": wire(seen.cloud_at)})
    return house.store.grant(grant.id)


def _prove(house: House, grant: Grant) -> Grant:
    hold = hold_of(house, grant)
    if grant.still_held_by:
        return _held_still(house, grant)
    connector = house.connector(hold.target.connector)
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


def _held_still(house: House, grant: Grant) -> Grant:
    """Never gone while something else holds the access; back to closing when nothing does.

    Standing access is not ours to take, so such a grant stays `removed`: a finding for a person.
    """
    assignment = house.store.assignment(grant.assignment)
    if assignment is None or assignment.stood_before or assignment.holders:
        house.store.snooze(grant.id, house.now() + LONGEST_PAUSE, grant.version)
        return grant
    how = {"held_by": grant.still_held_by}
    house.store.commit(contradicted(grant, "its other holders have ended", how, house.now()))
    return house.store.grant(grant.id)


def _judge_proof(
    house: House, grant: Grant, hold: Hold, connector: Connector, probed: Probed, acted_at: Instant
) -> Grant:
    now = house.now()
    settled = grant.residual_until is not None and now >= grant.residual_until
    how = _how(probed)
    if probed.answer is Answer.ALLOWED and settled:
        house.store.commit(contradicted(grant, "a probe was allowed after the end", how, now))
        return house.store.grant(grant.id)
    denied = probed.proves_denied
    if not may_be_gone(grant, denied, connector.residual(hold.role), now):
        return note(house, grant, "probe", Outcome.NOT_PROVEN, f"probe_{probed.answer}")
    proof = Proof.DENIED if denied else Proof.REMOVED
    sessions = tuple(house.store.sessions(grant.id))
    house.store.commit(gone(grant, sessions, proof, how, acted_at, now))
    _journal(house, "gone", grant.id, acted_at, {"proof": proof.value})
    _journal(house, "sealed", grant.id, now, {})
    house.tries.forget(grant.id)
    return house.store.grant(grant.id)


def mend_cuts(house: House) -> list[str]:
    """Put back cuts somebody removed and prune those that no longer matter, role by role.

    Returns the grant ids whose cut was gone and is there again; each is sealed as `cut.restored`.
    """
    now = house.now()
    # By native role, not by catalogue entry: two entries may hand out one role, and looking after
    # the denies of one alone would prune those of the other.
    by_role: dict[tuple[str, str, str], tuple[Hold, dict[str, Instant]]] = {}
    seen_cut: set[str] = set()
    for grant in house.store.cuts_in_force(now - CLOCKS_MAY_DIFFER):
        hold = hold_of(house, grant)
        role = (hold.key.connector, hold.key.account, hold.key.native_role)
        by_role.setdefault(role, (hold, {}))[1][grant.id] = hold.ends_at
        if grant.removed_at is not None:
            seen_cut.add(grant.id)
    restored: list[str] = []
    for hold, cuts in by_role.values():
        try:
            back = house.connector(hold.target.connector).mend(hold.target, hold.role, cuts, now)
        except TidegateError as fault:  # one role's trouble must not keep the others open
            log.warning("cuts could not be looked after", role=hold.role.id, code=fault.code)
            continue
        # NB. a cut that was never read back was not removed by anybody: it is only written early.
        taken_away = tuple(grant for grant in back if grant in seen_cut)
        if taken_away:
            restored.extend(taken_away)
            house.store.commit(Step((), (_restored(hold, taken_away, now),)))
    return restored


def _restored(hold: Hold, grants: tuple[str, ...], now: Instant) -> Fact:
    return Fact(
        name="cut.restored",
        subject=target_chain(hold.target.id),
        actor=SYSTEM,
        data={
            "target": hold.target.id,
            "role": hold.role.id,
            "grants": sorted(grants),
            "at": wire(now),
        },
    )


def _how(probed: Probed) -> dict[str, str]:
    return {
        "answer": probed.answer.value,
        "control": probed.control.value,
        "call": probed.call,
        "cloud_at": wire(probed.cloud_at),
        **{key: value for key, value in probed.detail.items() if key != "cloud_at"},
    }


def _journal(house: House, kind: str, grant: str, at: Instant, data: Mapping[str, str]) -> None:
    """A line around a closing call. A journal that cannot be written never stops closing."""
    try:
        house.journal.append(JournalLine(kind=kind, grant=grant, at=at, data=dict(data)))
    except OSError as fault:
        log.error("closing journal cannot be written", grant=grant, errno=fault.errno)
