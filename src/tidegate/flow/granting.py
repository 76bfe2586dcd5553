"""Granting: intent and end are committed, then the cloud is called, then the outcome is.

A lost reply leaves the grant `intended` with the outcome `unknown`; the next look reads back and
asks again. Whatever happens, its end is already on record, so closing does not depend on any of it.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from tidegate.approve import item_missing
from tidegate.base.errors import EvidenceClosed, Refused, Stale, Unknown, Unreachable, WorldFailed
from tidegate.base.fact import SYSTEM, Step
from tidegate.base.ids import ASSIGNMENT
from tidegate.base.when import Instant, wire
from tidegate.catalogue import Assignment, AssignmentKey, Principal
from tidegate.connectors.port import Connector, Hold, Scope, Seen
from tidegate.evidence.journal import JournalLine
from tidegate.expire import EndReason
from tidegate.flow.baseline import maker_of, returned
from tidegate.flow.buckets import SLOWED, bucket_of
from tidegate.flow.deadlines import latest_end
from tidegate.flow.ending import begin
from tidegate.flow.gating import passed, passed_before, shut_at_filing, shut_at_opening
from tidegate.flow.holding import hold_of, key_of
from tidegate.flow.house import LOG_FORKED, House, Laws
from tidegate.flow.pace import SHORTEST_PAUSE, SLOWER, THROTTLED, pause, worth_noting
from tidegate.flow.people import approvers, groups_of, person_key
from tidegate.flow.reading import role_asked
from tidegate.flow.stopping import stopped
from tidegate.flow.weighing import asked_of, held_by, judge
from tidegate.grant import (
    Cause,
    Grant,
    GrantState,
    Opening,
    Outcome,
    end_of,
    failed,
    intend,
    noted,
    opened,
    seconds_up,
)
from tidegate.policy.decide import Verdict
from tidegate.request import Request

log = structlog.get_logger("tidegate.granting")

# Above HTTP's whole-second Date plus a slow answer; far below what would move an end noticeably.
CLOUD_CLOCK_APART = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a grant may not open, though it was approved."""

    cause: Cause
    why: str


def open_once(house: House, grant: Grant) -> Grant:
    """One look at a grant that is `ready` or `intended`: take it one step on, or note why not.

    Raises:
        WorldFailed: the database or the clocks; the worker comes back later.
    """
    now = house.opening_now()
    if grant.state is GrantState.READY and _too_late(grant, now):
        return _not_claimed(house, grant, now)
    try:
        key = key_of(house, grant)
    except WorldFailed as fault:
        if isinstance(fault, Refused) and fault.code not in SLOWER:
            return _fail(house, grant, Cause.NO_SUCH_PERSON, fault.message, now)
        return note(house, grant, "person", outcome_of(fault), fault.code)
    with house.store.only_one(key.text()) as ours:
        if not ours:
            house.store.snooze(grant.id, house.now() + SHORTEST_PAUSE, grant.version)
            return grant
        if grant.state is not GrantState.READY:
            # Whoever had the key may have taken it on: a second call would be known to nobody, and
            # a copy of it could arrive when the first is long over.
            grant = house.store.grant(grant.id)
            return _again(house, grant) if grant.state is GrantState.INTENDED else grant
        decided = _decide(house, grant, key, now)
        if decided.state is not GrantState.INTENDED:
            return decided
        return _too_much(house, decided) or _call(house, decided, first=True)


def _too_late(grant: Grant, now: Instant) -> bool:
    return now >= grant.claim_by or end_of(grant, now) <= now


def _not_claimed(house: House, grant: Grant, now: Instant) -> Grant:
    why = f"it could not be opened before {wire(grant.claim_by)}"
    if grant.outcome != Outcome.GATE_SHUT:
        return _fail(house, grant, Cause.NOT_CLAIMED, why, now)
    target, _ = role_asked(house, grant.role_digest)
    shut = shut_at_filing(house, target, now)
    said = "; ".join(f"{trouble.message}: {trouble.help}" for trouble in shut)
    said = said or "see `tidegate doctor`"
    return _fail(house, grant, Cause.GATE_SHUT, f"{why}: the health gate was shut ({said})", now)


def _decide(house: House, grant: Grant, key: AssignmentKey, now: Instant) -> Grant:
    """Everything is asked again before intent: catalogue, rules, votes, the gate, the cloud."""
    if _too_late(grant, now):
        return _not_claimed(house, grant, now)
    laws = house.laws
    verdict = _judge(house, laws, grant, now)
    if isinstance(verdict, Refusal):
        return _fail(house, grant, verdict.cause, verdict.why, now)
    if stopped(house, grant.principal, grant.role, now):
        return note(house, grant, "panic", Outcome.FROZEN, "frozen")
    target, role = role_asked(house, grant.role_digest)
    connector = house.connector(target.connector)
    shut = shut_at_opening(house, target, now)
    request = house.store.request(grant.request)
    if shut and not request.terms.emergency:
        return note(house, grant, "gate", Outcome.GATE_SHUT, shut[0].code)
    assignment = house.store.assignment_by_key(key)
    if assignment and house.store.closing_on(assignment.id):
        return note(house, grant, "wait", Outcome.STILL_CLOSING, "still_closing")
    item = next(one for one in request.terms.items if one.role == grant.role)
    grace = min(item.grace, verdict.grace)  # never a later end than the one that was voted on
    looked_for = Hold(
        grant=grant.id,
        request=grant.request,
        principal=grant.principal,
        target=target,
        role=role,
        key=key,
        ends_at=end_of(grant, now) + grace,
    )
    try:
        seen = next(iter(connector.observe(Scope(target=target, hold=looked_for), now)))
        if abs(seen.cloud_at - now) > CLOUD_CLOCK_APART:  # no deadline is set by a wrong clock
            return note(house, grant, "observe", Outcome.CLOCK_APART, "clock_apart")
        if assignment and assignment.holders and not assignment.stood_before:
            held_until = latest_end(house, assignment.holders) or looked_for.ends_at
            connector.arm(looked_for, max(held_until, looked_for.ends_at), now)
    except WorldFailed as fault:
        return note(house, grant, "observe", outcome_of(fault), fault.code)
    ours = _ours_left(house, assignment, seen)
    left = ours is not None and _left_in_place(house, target.id, ours, now)
    if ours is not None and not left:
        return note(house, grant, "wait", Outcome.STILL_CLOSING, "still_closing")
    exposure = connector.exposure(target, role)
    opening = Opening(
        assignment_id=house.new_id(ASSIGNMENT, now),
        key=key,
        stood_before=seen.foreign and (left or ours is None),
        exposure=exposure.attended,
        unattended=exposure.unattended,
        carrier=verdict.carrier,
        requirement=verdict.requirement.text if verdict.requirement else "",
        rules_digest=laws.rules.digest,
        emergency=request.terms.emergency,
        grace=grace,
        held_since=_held_since(house, grant, now),
    )
    # The window's clock starts when intent is sealed: read it once more after asking the cloud.
    later = max(now, house.opening_now())
    if house.laws is not laws:
        return _decide(house, grant, key, later)  # they changed while the cloud was asked
    if stopped(house, grant.principal, grant.role, later):
        return note(house, grant, "panic", Outcome.FROZEN, "frozen")
    step = intend(grant, assignment, opening, later)
    if shut:
        exposed = (opening.exposure, opening.unattended)
        step = step.then(Step((), (passed(grant, shut, *exposed, later),)))
    house.store.commit(step)
    return house.store.grant(grant.id)


def _ours_left(house: House, assignment: Assignment | None, seen: Seen) -> Assignment | None:
    """Its row, when access that somebody else made, as it seems, is ours: come back, or left.

    The next look at the role closes it again. Opened upon before that, it would pass for access
    that stood before, which no end removes. What the cloud itself says that we made is not foreign,
    and ends with the grant that opens upon it.
    """
    if assignment is None or assignment.holders or not (seen.usable and seen.foreign):
        return None
    return None if maker_of(house, assignment, seen) is None else assignment


def _left_in_place(house: House, target: str, assignment: Assignment, now: Instant) -> bool:
    """Whether somebody signed for its return, so that neither a look nor an end closes it."""
    return any(one.accepted(now) for one in returned(house, target, assignment))


def _judge(house: House, laws: Laws, grant: Grant, now: Instant) -> Verdict | Refusal:
    """Whether it may still open under `laws`, with today's groups of holder and voters (I8, I9)."""
    catalogue = laws.catalogue
    if grant.role not in catalogue.roles or (
        catalogue.entry_digest(grant.role) != grant.role_digest
    ):
        why = f"`{grant.role}` is not what it was when it was voted on"
        return Refusal(Cause.ROLE_CHANGED, why)
    request = house.store.request(grant.request)
    holder = house.store.principal(grant.principal)
    if not holder.enabled:
        return Refusal(Cause.NOT_PERMITTED, "the account that asked is disabled")
    verdict = judge(
        laws,
        grant.principal,
        groups_of(house, holder),
        grant.role,
        asked_of(request),
        now,
        held_by(house, grant.principal, grant.role, now, but=grant.id),
    )
    if not verdict.allowed or verdict.requirement is None:
        return Refusal(Cause.NOT_PERMITTED, f"the rules in force now say no: {verdict.why}")
    lacking = votes_lack(house, request, grant.role, holder, verdict.requirement.text)
    return Refusal(Cause.NOT_PERMITTED, lacking) if lacking else verdict


def votes_lack(
    house: House, request: Request, role: str, holder: Principal, requirement: str
) -> str:
    """What the votes on `request` lack of `requirement`, as known now; empty when they meet it."""
    item = next(item for item in request.terms.items if item.role == role)
    voters = approvers(house, (vote.voter for vote in request.votes))
    own = person_key(house, holder)
    others = {name: voter for name, voter in voters.items() if voter.person != own}
    lacking = item_missing(request, item, others, requirement)
    needs = " and ".join(f"{need.count} of group:{need.group}" for need in lacking)
    return f"the votes no longer meet the rules in force: missing {needs}" if needs else ""


def _too_much(house: House, grant: Grant) -> Grant | None:
    """The grant, failed, when another of the same role and person was intended in this moment.

    Each was judged without the other. Both are on record by now, so at least one of them sees it.
    """
    now = house.opening_now()
    if not held_by(house, grant.principal, grant.role, now, but=grant.id):
        return None
    verdict = _judge(house, house.laws, grant, now)
    if isinstance(verdict, Refusal):
        return _fail(house, grant, verdict.cause, verdict.why, now)
    return None


def _held_since(house: House, grant: Grant, now: Instant) -> Instant | None:
    """Since when the role is held without a break, by grants this one will overlap with."""
    held = held_by(house, grant.principal, grant.role, now, but=grant.id)
    return min((one.held_since for one in held if one.held_since), default=None)


def _again(house: House, grant: Grant) -> Grant:
    """Another try at an intent: judged again, for rules and people may have changed since (I9).

    A no closes it, since an earlier call may have taken effect. One that must wait is called no
    more and stays owed: its end comes all the same.
    """
    laws, now = house.laws, house.opening_now()
    verdict = _judge(house, laws, grant, now)
    if isinstance(verdict, Refusal):
        house.store.commit(noted(grant, "judge", Outcome.REFUSED, verdict.cause.value, 1, now))
        return begin(house, house.store.grant(grant.id), EndReason.REVOKED, SYSTEM, now)
    if not _over(grant, house.now()):
        kept_back = _kept_back(house, grant, now)
        if kept_back is not None:
            return kept_back
        if house.laws is not laws:
            return _again(house, grant)  # they changed while the cloud was asked for its health
    return _call(house, grant, first=False)


def _over(grant: Grant, now: Instant) -> bool:
    """Whether an intent may not be called any more: past claim-by, or its end has come."""
    return now >= grant.claim_by or (grant.ends_at is not None and now >= grant.ends_at)


def _kept_back(house: House, grant: Grant, now: Instant) -> Grant | None:
    """The grant, noted, when another try must wait, as a first one would: for the gate or a panic.

    An emergency passes the gate, and what it had not passed before is sealed. A log that forked
    since the intent lets none through: that the grant ended may be in what the log lacks.
    """
    target, _ = role_asked(house, grant.role_digest)
    shut = shut_at_opening(house, target, now)
    emergency = bool(shut) and house.store.request(grant.request).terms.emergency
    before = passed_before(house, grant) if emergency else frozenset()
    new = tuple(trouble for trouble in shut if trouble.code not in before)
    bars = [one for one in new if not emergency or one.code == LOG_FORKED]
    if bars:
        return note(house, grant, "gate", Outcome.GATE_SHUT, bars[0].code)
    if stopped(house, grant.principal, grant.role, now):
        return note(house, grant, "panic", Outcome.FROZEN, "frozen")
    if new:
        fact = passed(grant, new, grant.exposure, grant.unattended, now)
        house.store.commit(Step((), (fact,)))
    return None


def _call(house: House, grant: Grant, first: bool) -> Grant:
    """Intent is sealed: write the journal, then ask the cloud, then seal the outcome.

    Only the `first` call of an intent may end in `failed`: a later one cannot know whether an
    earlier one, perhaps of a process that died, took effect.
    """
    now = house.now()
    hold = hold_of(house, grant)
    if _over(grant, now):
        # Something may be in the cloud, so an intent past claim-by is closed, never failed.
        return begin(house, grant, EndReason.EXPIRED, SYSTEM, now)
    try:
        lingers = house.connector(hold.target.connector).lingers(hold.target, hold.role)
        house.journal.append_opening(intended_line(hold, _stood_before(house, grant), lingers, now))
    except (OSError, EvidenceClosed):
        if not first:
            return note(house, grant, "journal", Outcome.REFUSED, "journal_closed")
        why = "the closing journal cannot be written, so nothing opens"
        return _fail(house, grant, Cause.JOURNAL_CLOSED, why, now)
    connector = house.connector(hold.target.connector)
    assignment = house.store.assignment(grant.assignment)
    try:
        if assignment and not assignment.stood_before:
            until = latest_end(house, assignment.holders) or hold.ends_at
            connector.arm(hold, until, now)
        receipt = connector.grant(hold, now)
    except Refused as fault:
        if fault.code in SLOWER or not first:
            return note(house, grant, "grant", outcome_of(fault), fault.code)
        _disarm(connector, hold, assignment)
        return _fail(house, grant, Cause.CLOUD_REFUSED, fault.message, house.now())
    except (Unreachable, Unknown) as fault:
        return note(house, grant, "grant", outcome_of(fault), fault.code)
    house.store.commit(opened(grant, receipt.cloud_at, receipt.detail, house.now()))
    return house.store.grant(grant.id)


def _disarm(connector: Connector, hold: Hold, assignment: Assignment | None) -> None:
    """Take back the cloud's own deadline for what was never made, when nobody else needs it.

    One that stays only removes, and what stood before was never armed.
    """
    if assignment is None or assignment.stood_before or assignment.holders != (hold.grant,):
        return
    try:
        connector.disarm(hold, hold.ends_at)
    except WorldFailed as fault:
        log.warning("a deadline in the cloud is left over", grant=hold.grant, code=fault.code)


def note(house: House, grant: Grant, step: str, outcome: Outcome, code: str) -> Grant:
    """Record that a call settled nothing, and when to look again (first, changes, hourly: I7)."""
    now = house.now()
    tries = house.tries.one_more(grant)
    house.tries.count(step, outcome)
    if code == THROTTLED and (bucket := bucket_of(house.laws.catalogue, grant.role)):
        with suppress(WorldFailed):  # then each process keeps to its share
            house.store.slow_pace(bucket.name, now + SLOWED, now)
    if worth_noting(grant, outcome, tries):
        try:
            house.store.commit(noted(grant, step, outcome, code, tries, now))
        except Stale:
            return house.store.grant(grant.id)
    current = house.store.grant(grant.id)
    if current.state is grant.state:
        # Guarded by the version: a revocation that came meanwhile is never put to sleep.
        until = now + pause(tries, house.randomness(2))
        house.store.snooze(grant.id, until, current.version)
    return current


def outcome_of(fault: WorldFailed) -> Outcome:
    """The recorded word for a connector's error."""
    if isinstance(fault, Refused):
        return Outcome.LATER if fault.code in SLOWER else Outcome.REFUSED
    return Outcome.UNREACHABLE if isinstance(fault, Unreachable) else Outcome.UNKNOWN


def _stood_before(house: House, grant: Grant) -> bool:
    assignment = house.store.assignment(grant.assignment)
    return bool(assignment and assignment.stood_before)


def intended_line(hold: Hold, stood_before: bool, lingers: timedelta, now: Instant) -> JournalLine:
    """What the journal must know to close this hold without any database."""
    return JournalLine(
        kind="intended",
        grant=hold.grant,
        at=now,
        data={
            "request": hold.request,
            "principal": hold.principal,
            "target": hold.target.id,
            "connector": hold.key.connector,
            "account": hold.key.account,
            "role": hold.role.id,
            "kind": hold.role.kind,
            "native": dict(hold.role.native),
            "allows": list(hold.role.allows),
            "probe": hold.role.probe,
            "native_role": hold.key.native_role,
            "native_principal": hold.key.native_principal,
            "ends_at": wire(hold.ends_at),
            "stood_before": stood_before,
            "lingers_seconds": seconds_up(lingers),
        },
    )


def _fail(house: House, grant: Grant, cause: Cause, why: str, now: Instant) -> Grant:
    assignment = house.store.assignment(grant.assignment) if grant.assignment else None
    house.store.commit(failed(grant, assignment, cause, why, now))
    if grant.state is GrantState.INTENDED:
        with suppress(OSError):  # then the next look at the journal does it
            never_made(house, house.store.grant(grant.id), now)
    house.tries.forget(grant.id)
    return house.store.grant(grant.id)


def never_made(house: House, grant: Grant, now: Instant) -> None:
    """Tell the journal that nothing is to be closed of a grant that failed. Raises OSError."""
    house.journal.append_all(
        JournalLine(kind=kind, grant=grant.id, at=now, data={"why": grant.cause})
        for kind in ("gone", "sealed")
    )
