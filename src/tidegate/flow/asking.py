"""Asking: from what somebody typed to a filed request, or a clear no that is on record.

Preview and filing use the same `Weighed`, so a preview never promises what filing refuses.
"""

from collections.abc import Callable

from tidegate.approve import without_votes
from tidegate.base.errors import AskedWrongly, NotAllowed, Stale
from tidegate.base.fact import Step
from tidegate.base.ids import GRANT, REQUEST
from tidegate.base.when import Instant
from tidegate.flow.allowing import Verb, allow
from tidegate.flow.house import Actor, House
from tidegate.flow.weighing import Asked as Asked
from tidegate.flow.weighing import Weighed as Weighed
from tidegate.flow.weighing import check_one_at_a_time
from tidegate.flow.weighing import judge as judge
from tidegate.flow.weighing import weigh as weigh
from tidegate.grant import ready
from tidegate.request import Request, RequestState, edit, file, lapse, refuse, withdraw

MOST_PENDING = 50  # undecided requests of one principal: more than anybody can follow
TRIES = 5  # how often a command is decided anew when somebody else was faster


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
    check_one_at_a_time(house, weighed.terms)
    step = file(house.new_id(REQUEST, now), weighed.terms, now, weighed.reason)
    return _settle(house, step, weighed, now)


def change(house: House, actor: Actor, request_id: str, asked: Asked) -> Request:
    """Edit a pending request: new digest, votes void. What the rules refuse changes nothing."""

    def once() -> Request:
        now = house.now()
        request = house.store.request(request_id)
        allow(house, actor, Verb.EDIT, request)
        _check_same_kind(request, asked)
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
    """The Step of an approval together with the grants it makes ready, one an item.

    An extension makes none: the worker moves the end of the grant it names.
    """
    request = request_after(approved)
    if request.terms.extends:
        return approved
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
        step = ready_grants(house, step.then(approved), min(now, house.ending_now()))
    house.store.commit(step)
    return request_after(step)


def _check_same_kind(request: Request, asked: Asked) -> None:
    """An edit changes how long and why, never which grant an extension is of."""
    named = request.terms.extends.grant if request.terms.extends else ""
    if asked.extends != named:
        raise AskedWrongly(
            "other_grant",
            f"expected a change of `{request.id}`, which extends `{named or 'nothing'}`, "
            f"got one that extends `{asked.extends[:40] or 'nothing'}`",
            f"withdraw it (`tidegate withdraw {request.id}`) and ask anew",
        )


def _check_room(house: House, principal: str) -> None:
    pending = frozenset({RequestState.PENDING})
    waiting = house.store.requests(states=pending, principal=principal, limit=MOST_PENDING)
    if len(waiting) >= MOST_PENDING:
        raise NotAllowed(
            "too_many_pending",
            f"expected fewer than {MOST_PENDING} undecided requests, got {len(waiting)}",
            "withdraw what you no longer need: `tidegate requests`, `tidegate withdraw`",
        )
