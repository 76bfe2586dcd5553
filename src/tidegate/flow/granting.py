"""Granting: intent and end are committed, then the cloud is called, then the outcome is.

A lost reply leaves the grant `intended` with the outcome `unknown`; the next look reads back and
asks again. Whatever happens, its end is already on record, so closing does not depend on any of it.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from tidegate.approve import item_missing
from tidegate.base.errors import EvidenceClosed, Refused, Stale, Unknown, Unreachable, WorldFailed
from tidegate.base.fact import SYSTEM
from tidegate.base.ids import ASSIGNMENT
from tidegate.base.when import Instant, wire
from tidegate.catalogue import AssignmentKey, Role, Target, role_of_entry
from tidegate.connectors.port import Hold, Scope
from tidegate.evidence.journal import JournalLine
from tidegate.expire import EndReason
from tidegate.flow.asking import Asked, judge
from tidegate.flow.ending import begin
from tidegate.flow.house import House, Laws
from tidegate.flow.pace import SHORTEST_PAUSE, THROTTLED, pause, worth_noting
from tidegate.flow.people import approvers, groups_of, person_key
from tidegate.flow.reading import entry_of
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
)
from tidegate.policy.decide import Verdict
from tidegate.request import Request

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
    target, role = role_of_entry(entry_of(house, grant.role_digest))
    with house.in_hand.only_one(natural_key(house, target, role, grant).text()) as ours:
        if not ours:
            house.store.snooze(grant.id, house.now() + SHORTEST_PAUSE, grant.version)
            return grant
        if grant.state is not GrantState.READY:
            return _again(house, grant)
        decided = _decide(house, grant, house.opening_now())
        if decided.state is not GrantState.INTENDED:
            return decided
        return _call(house, decided, first=True)


def hold_of(house: House, grant: Grant) -> Hold:
    """The grant as connectors see it, from the catalogue entry that was voted on."""
    if grant.ends_at is None:
        raise RuntimeError(f"hold of {grant.id} without an end")
    target, role = role_of_entry(entry_of(house, grant.role_digest))
    assignment = house.store.assignment(grant.assignment)
    key = assignment.key if assignment else natural_key(house, target, role, grant)
    return Hold(
        grant=grant.id,
        request=grant.request,
        principal=grant.principal,
        target=target,
        role=role,
        key=key,
        ends_at=grant.ends_at,
    )


def natural_key(house: House, target: Target, role: Role, grant: Grant) -> AssignmentKey:
    """The natural key of what the cloud will hold. Issued credentials are each grant's own."""
    own = house.connector(target.connector).powers(role.kind).issues
    return AssignmentKey(
        connector=target.connector,
        account=target.account,
        native_role=role.native.get("arn", role.id),
        native_principal=grant.id if own else house.store.principal(grant.principal).subject,
    )


def _decide(house: House, grant: Grant, now: Instant) -> Grant:
    """Everything is asked again before intent: claim-by, catalogue, rules, votes, the cloud."""
    if now >= grant.claim_by or end_of(grant, now) <= now:
        why = f"it could not be opened before {wire(grant.claim_by)}"
        return _fail(house, grant, Cause.NOT_CLAIMED, why, now)
    laws = house.laws
    verdict = _judge(house, laws, grant, now)
    if isinstance(verdict, Refusal):
        return _fail(house, grant, verdict.cause, verdict.why, now)
    target, role = role_of_entry(entry_of(house, grant.role_digest))
    connector = house.connector(target.connector)
    key = natural_key(house, target, role, grant)
    looked_for = Hold(
        grant=grant.id,
        request=grant.request,
        principal=grant.principal,
        target=target,
        role=role,
        key=key,
        ends_at=end_of(grant, now),
    )
    try:
        seen = next(iter(connector.observe(Scope(target=target, hold=looked_for), now)))
    except WorldFailed as fault:
        return note(house, grant, "observe", outcome_of(fault), fault.code)
    if abs(seen.cloud_at - now) > CLOUD_CLOCK_APART:
        return note(house, grant, "observe", Outcome.CLOCK_APART, "clock_apart")
    opening = Opening(
        assignment_id=house.new_id(ASSIGNMENT, now),
        key=key,
        stood_before=seen.foreign,
        exposure=connector.exposure(role),
        carrier=verdict.carrier,
        requirement=verdict.requirement.text if verdict.requirement else "",
        rules_digest=laws.rules.digest,
    )
    # The window's clock starts when intent is sealed: read it once more after asking the cloud.
    later = max(now, house.opening_now())
    if house.laws is not laws:
        return _decide(house, grant, later)  # they changed while the cloud was asked
    house.store.commit(intend(grant, house.store.assignment_by_key(key), opening, later))
    return house.store.grant(grant.id)


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
        laws, grant.principal, groups_of(house, holder), grant.role, _asked(request), now
    )
    if not verdict.allowed or verdict.requirement is None:
        return Refusal(Cause.NOT_PERMITTED, f"the rules in force now say no: {verdict.why}")
    item = next(item for item in request.terms.items if item.role == grant.role)
    voters = approvers(house, (vote.voter for vote in request.votes))
    own = person_key(house, holder)
    others = {name: voter for name, voter in voters.items() if voter.person != own}
    lacking = item_missing(request, item, others, verdict.requirement.text)
    if lacking:
        needs = " and ".join(f"{need.count} of group:{need.group}" for need in lacking)
        why = f"the votes no longer meet the rules in force: missing {needs}"
        return Refusal(Cause.NOT_PERMITTED, why)
    return verdict


def _again(house: House, grant: Grant) -> Grant:
    """Another try at an intent: judged again, for rules and people may have changed since (I9).

    A no closes it, since an earlier call may have taken effect.
    """
    now = house.opening_now()
    verdict = _judge(house, house.laws, grant, now)
    if isinstance(verdict, Refusal):
        house.store.commit(noted(grant, "judge", Outcome.REFUSED, verdict.cause.value, 1, now))
        return begin(house, house.store.grant(grant.id), EndReason.REVOKED, SYSTEM, now)
    return _call(house, grant, first=False)


def _call(house: House, grant: Grant, first: bool) -> Grant:
    """Intent is sealed: write the journal, then ask the cloud, then seal the outcome.

    Only the `first` call of an intent may end in `failed`: a later one cannot know whether an
    earlier one, perhaps of a process that died, took effect.
    """
    now = house.now()
    hold = hold_of(house, grant)
    if now >= grant.claim_by or now >= hold.ends_at:
        # Something may be in the cloud, so an intent past claim-by is closed, never failed.
        return begin(house, grant, EndReason.EXPIRED, SYSTEM, now)
    try:
        house.journal.append(intended_line(hold, _stood_before(house, grant), now))
    except (OSError, EvidenceClosed):
        if not first:
            return note(house, grant, "journal", Outcome.REFUSED, "journal_closed")
        why = "the closing journal cannot be written, so nothing opens"
        return _fail(house, grant, Cause.JOURNAL_CLOSED, why, now)
    connector = house.connector(hold.target.connector)
    try:
        receipt = connector.grant(hold, now)
    except Refused as fault:
        if fault.code in THROTTLED or not first:
            return note(house, grant, "grant", Outcome.REFUSED, fault.code)
        return _fail(house, grant, Cause.CLOUD_REFUSED, fault.message, house.now())
    except (Unreachable, Unknown) as fault:
        return note(house, grant, "grant", outcome_of(fault), fault.code)
    house.store.commit(opened(grant, receipt.cloud_at, receipt.detail, house.now()))
    return house.store.grant(grant.id)


def note(house: House, grant: Grant, step: str, outcome: Outcome, code: str) -> Grant:
    """Record that a call settled nothing, and when to look again (first, changes, hourly: I7)."""
    now = house.now()
    tries = house.tries.one_more(grant)
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
        return Outcome.REFUSED
    return Outcome.UNREACHABLE if isinstance(fault, Unreachable) else Outcome.UNKNOWN


def _stood_before(house: House, grant: Grant) -> bool:
    assignment = house.store.assignment(grant.assignment)
    return bool(assignment and assignment.stood_before)


def intended_line(hold: Hold, stood_before: bool, now: Instant) -> JournalLine:
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
        },
    )


def _fail(house: House, grant: Grant, cause: Cause, why: str, now: Instant) -> Grant:
    assignment = house.store.assignment(grant.assignment) if grant.assignment else None
    house.store.commit(failed(grant, assignment, cause, why, now))
    if grant.state is GrantState.INTENDED:
        with suppress(OSError):  # then the journal names a grant that its database calls failed
            for kind in ("gone", "sealed"):
                line = JournalLine(kind=kind, grant=grant.id, at=now, data={"why": cause.value})
                house.journal.append(line)
    house.tries.forget(grant.id)
    return house.store.grant(grant.id)


def _asked(request: Request) -> Asked:
    terms = request.terms
    return Asked(
        roles=tuple(item.role for item in terms.items),
        duration=terms.duration,
        reason="",
        ticket=terms.ticket,
        start=terms.start,
        emergency=terms.emergency,
    )
