"""Extending: what was approved moves the end of an open grant, and warnings go out before one.

The order, and what a crash after each step leaves behind. No step leaves access without a deadline,
and none leaves one later than the sealed end:

1. All is judged again: rules, votes, role, gate, clocks. *Crash: nothing happened; tried again.*
2. The journal gets the end as it is, with the one it is moving to. *The old end stands.*
3. One Step seals the new end, on grant, assignment and request. *From here it is the end. Journal
   and cloud have the old one, so without Tidegate access ends early, never late.*
4. The journal gets the new end.
5. The cloud's own deadline is moved (`arm`), where the cloud keeps one beside its credentials.
6. `grant.armed` is sealed. *Until it is, 4 and 5 are done again; both may be done twice.*

Where the cloud could not be reached until after the old end, its own deadline has taken the access
away meanwhile: nothing is made again, and the grant ends with it (`gone_early.py`).

An end that comes first wins: the Step names the version it was decided on, and closing changes it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from tidegate.base.errors import EvidenceClosed, Stale, WorldFailed
from tidegate.base.fact import SYSTEM, Step
from tidegate.base.ids import NOTICE
from tidegate.base.when import Instant, wire
from tidegate.evidence.journal import JOURNAL_FULL, JournalLine
from tidegate.extend import Longer, armed, check_may_extend, extend, warn, warn_at
from tidegate.flow.deadlines import latest_end
from tidegate.flow.gating import passed, shut_at_opening
from tidegate.flow.gone_early import ended_by_our_deadline
from tidegate.flow.granting import intended_line, outcome_of, votes_lack
from tidegate.flow.holding import hold_of
from tidegate.flow.house import House, Laws
from tidegate.flow.pace import worth_noting
from tidegate.flow.people import groups_of
from tidegate.flow.reading import role_asked
from tidegate.flow.stopping import stop_says, stopped
from tidegate.flow.weighing import asked_of, judge_longer
from tidegate.grant import Grant, GrantState, Outcome, noted
from tidegate.request import Request, RequestState, refuse

log = structlog.get_logger("tidegate.extending")

MOST_AT_ONCE = 64  # of one target, a look; the rest comes with the next one
PAGE = 250
PAGES = 4  # a look reads a thousand of those that wait; the next one goes on behind them
MOST_WARNED = 500  # a look: one batch of the commit writer


Row = TypeVar("Row", Request, Grant)


@dataclass(frozen=True, slots=True)
class No:
    """Why an approved extension does not happen."""

    code: str
    why: str


def due_extensions(house: House) -> list[tuple[str, Callable[[], object]]]:
    """What there is to do now about ends that are to move: (target, what to call), oldest first.

    What waits keeps nothing behind it waiting, nor does a target where much is to be done.
    """
    now, store = house.now(), house.store
    due: list[tuple[str, Callable[[], object]]] = []
    for request in _read_on(house, "extensions", store.extensions_due):
        if house.pace.may(request.id, now):
            role = request.terms.items[0].role
            due.append((role.partition("/")[0], partial(apply_once, house, request)))
    for grant in _read_on(house, "arming", store.arming):
        if house.pace.may(grant.id, now):
            due.append((grant.role.partition("/")[0], partial(arm_once, house, grant)))
    busy: Counter[str] = Counter()
    taken = []
    for target, act in due:
        busy[target] += 1
        if busy[target] <= MOST_AT_ONCE:
            taken.append((target, act))
    return taken


def _read_on(house: House, name: str, read: Callable[[int, str], list[Row]]) -> Iterator[Row]:
    """All that `read` knows, or PAGES of it from where the last look stopped."""
    after = house.moving_from.pop(name, "")
    for _ in range(PAGES):
        page = read(PAGE, after)
        yield from page
        if len(page) <= PAGE // 2:  # one that lacks a few had rows that cannot be read
            return
        after = page[-1].id
    house.moving_from[name] = after


def apply_once(house: House, request: Request) -> Request:
    """One look at an approved extension: its grant's end moves, or it is refused, or it waits.

    Raises:
        WorldFailed: the database or the clocks; the worker comes back. Stale: somebody was faster.
    """
    asked = request.terms.extends
    if asked is None:
        raise RuntimeError(f"{request.id} extends nothing")
    grant = house.store.grant(asked.grant)
    with house.store.only_one(hold_of(house, grant).key.text()) as ours:
        if ours:
            request, grant = house.store.request(request.id), house.store.grant(grant.id)
            if request.state is RequestState.APPROVED and request.applied_at is None:
                _apply(house, request, grant)
        else:
            house.pace.later(request.id, house.now(), house.randomness(2))
    return house.store.request(request.id)


def _apply(house: House, request: Request, grant: Grant) -> None:
    now = house.opening_now()
    try:
        check_may_extend(grant, now)
        laws = house.laws
        verdict = _longer(house, laws, request, grant)
        if isinstance(verdict, No):
            return _refuse(house, request, verdict, now)
        if panic := stopped(house, grant.principal, grant.role, now):
            return _wait(house, request, now, stop_says(panic, now))
        target, _ = role_asked(house, grant.role_digest)
        shut = shut_at_opening(house, target, now)
        if shut and not request.terms.emergency:
            return _wait(house, request, now, shut[0].message)
        _write(house, grant, moving_to=verdict.until)
        later = max(now, house.opening_now())
        assignment = house.store.assignment(grant.assignment)
        if house.laws is not laws or assignment is None:
            # They changed while others were asked: the next look judges anew.
            return _wait(house, request, now, "the rules changed in this moment")
        step = extend(grant, assignment, request, verdict, later)
        if shut:
            exposed = (verdict.exposure, verdict.unattended)
            step = step.then(Step((), (passed(grant, shut, *exposed, later),)))
        house.store.commit(step)
    except Stale as fault:
        if fault.code == "moved_on":
            raise
        return _refuse(house, request, No(fault.code, fault.message), house.now())
    except (OSError, EvidenceClosed) as fault:
        if isinstance(fault, EvidenceClosed) and fault.code != JOURNAL_FULL:
            raise
        return _wait(house, request, now, "the closing journal cannot be written")
    house.pace.forget(request.id)
    arm_once(house, house.store.grant(grant.id), alone=True)
    return None


def _longer(house: House, laws: Laws, request: Request, grant: Grant) -> Longer | No:
    """What the laws say now of the extension that was approved, with today's groups (I8, I9)."""
    catalogue, terms = laws.catalogue, request.terms
    if grant.role not in catalogue.roles or (
        catalogue.entry_digest(grant.role) != grant.role_digest
    ):
        return No("role_changed", f"`{grant.role}` is not what it was when it was voted on")
    holder = house.store.principal(grant.principal)
    if not holder.enabled:
        return No("not_permitted", "the account that asked is disabled")
    groups = groups_of(house, holder)
    verdict = judge_longer(laws, grant.principal, groups, grant, terms.duration, asked_of(request))
    if not verdict.allowed or verdict.requirement is None:
        return No("not_permitted", f"the rules in force now say no: {verdict.why}")
    lacking = votes_lack(house, request, grant.role, holder, verdict.requirement.text)
    if lacking:
        return No("not_permitted", lacking)
    window = grant.window_ends_at
    if window is None:
        raise RuntimeError(f"extension of {grant.id} without an end")
    target, role = role_asked(house, grant.role_digest)
    exposure = house.connector(target.connector).exposure(target, role)
    grace = min(terms.items[0].grace, verdict.grace)  # never later than what was voted on
    return Longer(
        until=window + terms.duration + grace,
        grace=grace,
        exposure=exposure.attended,
        unattended=exposure.unattended,
        carrier=verdict.carrier,
        requirement=verdict.requirement.text,
        rules_digest=laws.rules.digest,
    )


def arm_once(house: House, grant: Grant, alone: bool = False) -> Grant:
    """Journal and cloud get an end that moved; sealed once both have it. `alone`: key is in hand.

    What fails is noted and tried again, for as long as the grant is open.
    """
    hold = hold_of(house, grant)
    if not alone:
        with house.store.only_one(hold.key.text()) as ours:
            if ours:
                return arm_once(house, house.store.grant(grant.id), alone=True)
        house.pace.later(grant.id, house.now(), house.randomness(2))
        return grant
    if grant.state is not GrantState.OPEN or not grant.arming:
        return grant
    now = house.now()
    assignment = house.store.assignment(grant.assignment)
    try:
        _write(house, grant)
        receipt = None
        if assignment and not assignment.stood_before:
            connector = house.connector(hold.target.connector)
            until = latest_end(house, assignment.holders) or hold.ends_at
            receipt = connector.arm(hold, until, now)
            if ended_by_our_deadline(house, connector, grant, hold, now):
                return house.store.grant(grant.id)
    except WorldFailed as fault:
        return _note(house, grant, outcome_of(fault), fault.code)
    except OSError:
        return _note(house, grant, Outcome.REFUSED, "journal_closed")
    house.store.commit(armed(grant, receipt.detail if receipt else {}, house.now()))
    house.pace.forget(grant.id)
    return house.store.grant(grant.id)


def warn_due(house: House) -> int:
    """Warn the holders of grants that end soon, once for each end; returns how many."""
    now = house.now()
    sent = []
    for grant in house.store.unwarned(now, house.warn_before, MOST_WARNED):
        at = warn_at(grant, house.warn_before)
        if at is not None and now >= at and grant.ends_at is not None and now < grant.ends_at:
            sent.append(house.store.submit(warn(grant, house.new_id(NOTICE, now), now)))
    done = 0
    for one in sent:
        try:
            one.result()
            done += 1
        except Stale:
            continue  # it ended or moved in this moment: the next look sees how it is
    return done


def _write(house: House, grant: Grant, moving_to: Instant | None = None) -> None:
    """The journal's line of the grant's end. Raises OSError, EvidenceClosed."""
    hold = hold_of(house, grant)
    assignment = house.store.assignment(grant.assignment)
    stood = bool(assignment and assignment.stood_before)
    lingers = house.connector(hold.target.connector).lingers(hold.target, hold.role)
    line = intended_line(hold, stood, lingers, house.now())
    if moving_to is not None:
        data = {**line.data, "moving_to": wire(moving_to)}
        line = JournalLine(kind=line.kind, grant=line.grant, at=line.at, data=data)
    house.journal.append_opening(line)


def _refuse(house: House, request: Request, no: No, now: Instant) -> None:
    house.store.commit(refuse(request, no.code, no.why, now, SYSTEM))
    house.pace.forget(request.id)


def _wait(house: House, request: Request, now: Instant, why: str) -> None:
    """It may still happen before the window's end; then it is refused."""
    house.pace.later(request.id, now, house.randomness(2))
    log.warning("an extension waits", request=request.id, why=why)


def _note(house: House, grant: Grant, outcome: Outcome, code: str) -> Grant:
    now = house.now()
    tries = house.pace.later(grant.id, now, house.randomness(2))
    if worth_noting(grant, outcome, tries):
        house.store.commit(noted(grant, "arm", outcome, code, tries, now))
    return house.store.grant(grant.id)
