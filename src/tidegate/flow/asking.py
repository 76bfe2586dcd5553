"""Asking: from what somebody typed to a filed request, or a clear no that is on record.

Preview and filing use the same `Weighed`, so a preview never promises what filing refuses.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from tidegate.approve import without_votes
from tidegate.base.canonical import canonical
from tidegate.base.errors import AskedWrongly, NotAllowed, Stale
from tidegate.base.fact import Step
from tidegate.base.ids import GRANT, REQUEST
from tidegate.base.personal import Personal
from tidegate.base.text import LONGEST_REASON, clean_text
from tidegate.base.when import Instant, show_duration
from tidegate.connectors.port import Exposure
from tidegate.flow import gating
from tidegate.flow.allowing import Verb, allow
from tidegate.flow.house import Actor, House, Laws
from tidegate.flow.stopping import stop_says, stopped
from tidegate.grant import ready
from tidegate.policy.decide import Ask, Verdict, decide
from tidegate.request import (
    Item,
    Request,
    RequestState,
    Terms,
    check_terms,
    edit,
    file,
    lapse,
    refuse,
    withdraw,
)

MOST_PENDING = 50  # undecided requests of one principal: more than anybody can follow
TRIES = 5  # how often a command is decided anew when somebody else was faster
_TICKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9#/_.:-]{0,98}[A-Za-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody typed, parsed."""

    roles: tuple[str, ...]
    duration: timedelta
    reason: str
    ticket: str | None = None
    start: Instant | None = None
    emergency: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What the rules in force say about it. `refusal` is (code, why), or None when permitted."""

    terms: Terms
    reason: Personal
    verdicts: tuple[Verdict, ...]
    exposures: tuple[Exposure, ...]
    refusal: tuple[str, str] | None


def weigh(house: House, actor: Actor, asked: Asked, now: Instant) -> Weighed:
    """Everything filing would decide, without filing. Raises AskedWrongly for what cannot be asked.

    Keeps the catalogue entries it names as documents: closing and packs need them for ever.
    """
    laws = house.laws
    reason = clean_text("reason", asked.reason, LONGEST_REASON)
    ticket = _ticket(asked.ticket)
    check_terms(asked.roles, asked.duration, asked.start, now)
    items, verdicts, exposures = [], [], []
    for role_id in asked.roles:
        role = laws.catalogue.role(role_id)
        connector = house.connector(laws.catalogue.target(role.target).connector)
        _check_floor(role_id, asked.duration, connector.powers(role.kind).floor)
        verdict = judge(laws, actor.id, actor.groups, role_id, asked, now)
        house.store.keep_document("entry", canonical(laws.catalogue.entry(role_id)))
        verdicts.append(verdict)
        exposures.append(connector.exposure(laws.catalogue.target(role.target), role))
        items.append(
            Item(
                role=role_id,
                role_digest=laws.catalogue.entry_digest(role_id),
                carrier=verdict.carrier if verdict.allowed else "",
                requirement=verdict.requirement.text if verdict.requirement else "",
                rules=verdict.rules,
            )
        )
    sealed_reason = house.personal(reason)
    return Weighed(
        terms=Terms(
            principal=actor.id,
            items=tuple(items),
            duration=asked.duration,
            start=asked.start,
            reason=sealed_reason.commitment,
            ticket=ticket,
            emergency=asked.emergency,
            rules_digest=laws.rules.digest,
        ),
        reason=sealed_reason,
        verdicts=tuple(verdicts),
        exposures=tuple(exposures),
        refusal=(
            _refusal(asked.roles, verdicts)
            or _frozen(house, actor, asked, now)
            or _shut(house, asked, now)
        ),
    )


def judge(
    laws: Laws, principal: str, groups: frozenset[str], role_id: str, asked: Asked, now: Instant
) -> Verdict:
    """The verdict of `laws` on one role, for a window that starts at `asked.start` or `now`.

    The caller reads `house.laws` once, so that the verdict and the digest it is sealed with are of
    one rule set though another comes into force meanwhile.
    """
    return decide(
        laws.rules,
        Ask(
            principal=principal,
            groups=groups,
            group_parents=laws.groups.within,
            role=role_id,
            target=laws.catalogue.target(role_id.partition("/")[0]),
            emergency=asked.emergency,
            duration=asked.duration,
            start=asked.start or now,
            ticket=asked.ticket,
        ),
    )


def ask(house: House, actor: Actor, asked: Asked) -> Request:
    """File it. A refusal by the rules is filed too: it has an id, and says why.

    Returns:
        The request: `pending`, `approved` (no vote needed) or `refused`.

    Raises:
        AskedWrongly: it cannot be asked.
        NotAllowed: `too_many_pending`. Counted before filing, so calls of the same moment may each
            be one too many.
    """
    now = house.now()
    _check_room(house, actor.id)
    weighed = weigh(house, actor, asked, now)
    step = file(house.new_id(REQUEST, now), weighed.terms, now, weighed.reason)
    return _settle(house, step, weighed, now)


def change(house: House, actor: Actor, request_id: str, asked: Asked) -> Request:
    """Edit a pending request: new digest, votes void. What the rules refuse changes nothing."""

    def once() -> Request:
        now = house.now()
        request = house.store.request(request_id)
        allow(house, actor, Verb.EDIT, request)
        weighed = weigh(house, actor, asked, now)
        if weighed.refusal:
            raise NotAllowed(weighed.refusal[0], weighed.refusal[1], "the request is as it was")
        return _settle(house, edit(request, weighed.terms, now, weighed.reason), weighed, now)

    return decided_anew(once)


def take_back(house: House, actor: Actor, request_id: str) -> Request:
    """Withdraw one's own pending request."""

    def once() -> Request:
        request = house.store.request(request_id)
        allow(house, actor, Verb.WITHDRAW, request)
        step = withdraw(request, house.now())
        house.store.commit(step)
        return request_after(step)

    return decided_anew(once)


def lapse_due(house: House, limit: int) -> int:
    """Lapse pending requests nobody decided in time; returns how many."""
    now = house.now()
    due = house.store.lapsed(now, limit)
    for request in due:
        try:
            house.store.commit(lapse(request, now))
        except Stale:
            continue  # decided in the same moment: that decision holds
    return len(due)


def ready_grants(house: House, approved: Step, now: Instant) -> Step:
    """The Step of an approval together with the grants it makes ready, one an item."""
    request = request_after(approved)
    for item in request.terms.items:
        approved = approved.then(ready(house.new_id(GRANT, now), request, item, now))
    return approved


def request_after(step: Step) -> Request:
    """The request as a Step leaves it."""
    for made in step.changes:
        if isinstance(made.after, Request):
            return made.after
    raise RuntimeError("no request in this Step")


def decided_anew(once: Callable[[], Request]) -> Request:
    """`once`, decided again from fresh state when another writer was faster.

    Only losing a race is tried again: a refusal decided on fresh state stands at once, because the
    second reading raises it as well.
    """
    for _ in range(TRIES - 1):
        try:
            return once()
        except Stale as lost:
            if lost.code != "moved_on":
                raise
    return once()


def _settle(house: House, step: Step, weighed: Weighed, now: Instant) -> Request:
    request = request_after(step)
    if weighed.refusal:
        step = step.then(refuse(request, *weighed.refusal, now, "system"))
    elif approved := without_votes(request, now):
        step = ready_grants(house, step.then(approved), now)
    house.store.commit(step)
    return request_after(step)


def _check_room(house: House, principal: str) -> None:
    pending = frozenset({RequestState.PENDING})
    waiting = house.store.requests(states=pending, principal=principal, limit=MOST_PENDING)
    if len(waiting) >= MOST_PENDING:
        raise NotAllowed(
            "too_many_pending",
            f"expected fewer than {MOST_PENDING} undecided requests, got {len(waiting)}",
            "withdraw what you no longer need: `tidegate requests`, `tidegate withdraw`",
        )


def _refusal(roles: tuple[str, ...], verdicts: list[Verdict]) -> tuple[str, str] | None:
    for role, verdict in zip(roles, verdicts, strict=True):
        if not verdict.allowed:
            return verdict.code, f"`{role}`: {verdict.why}"
    return None


def _frozen(house: House, actor: Actor, asked: Asked, now: Instant) -> tuple[str, str] | None:
    """A panic's no: no emergency passes it, for whoever panics may fear just that."""
    at = max(now, asked.start) if asked.start else now
    for role in asked.roles:
        if panic := stopped(house, actor.id, role, at):
            return "frozen", stop_says(panic, at)
    return None


def _shut(house: House, asked: Asked, now: Instant) -> tuple[str, str] | None:
    """The gate's no. A later start is gated when it comes, an emergency passes (and that shows)."""
    if asked.emergency or (asked.start is not None and asked.start > now):
        return None
    return gating.refusal(house, asked.roles, now)


def _ticket(ticket: str | None) -> str | None:
    if ticket is None or _TICKET.fullmatch(ticket):
        return ticket
    raise AskedWrongly(
        "bad_ticket",
        f"expected a ticket like `INC-4711` (at most 100 characters), got `{ticket[:40]}`",
        "give the key of the ticket, not its address or title",
    )


def _check_floor(role_id: str, duration: timedelta, floor: timedelta) -> None:
    if duration < floor:
        raise AskedWrongly(
            "below_floor",
            f"`{role_id}` can be held for {show_duration(floor)} at the least, "
            f"got {show_duration(duration)}",
            f"ask for {show_duration(floor)} or more; you can end it early with `tidegate done`",
        )
