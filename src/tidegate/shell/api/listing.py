"""Pages of requests and grants: what each view holds, and how far one call looks."""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from tidegate.approve import Approver
from tidegate.flow.allowing import Verb, allow_house, may_vote
from tidegate.flow.house import Actor, House
from tidegate.flow.people import person_named
from tidegate.grant import Grant, GrantState
from tidegate.request import Request, RequestState

PAGE = 50
LARGEST_PAGE = 200
# One call looks at this many pending requests for those that wait for one person; the page then
# ends early and `next_before` goes on from there.
MOST_LOOKED_AT = 1_000

Thing = TypeVar("Thing", Request, Grant)


class View(StrEnum):
    """Whose things are listed."""

    MINE = "mine"
    WAITING = "waiting"  # for the caller's vote
    ALL = "all"  # for operators and auditors


def list_requests(
    house: House,
    actor: Actor,
    view: View,
    state: RequestState | None,
    limit: int,
    before: str | None,
) -> tuple[list[Request], str | None]:
    """A page of requests, newest first, and where the next one begins.

    Raises:
        NotAllowed: `all` for somebody who is neither operator nor auditor.
    """
    states = frozenset({state}) if state is not None else None
    if view is View.WAITING:
        return _waiting(house, actor, limit, before)
    if view is View.ALL:
        allow_house(house, actor, Verb.AUDIT)
    found = house.store.requests(
        states=states,
        principal=actor.id if view is View.MINE else None,
        limit=limit,
        before=before,
    )
    return found, _next(found, limit)


def list_grants(
    house: House,
    actor: Actor,
    view: View,
    *,
    role: str | None,
    state: GrantState | None,
    request: str | None,
    limit: int,
    before: str | None,
) -> tuple[list[Grant], str | None]:
    """A page of grants, newest first, and where the next one begins. Raises as `list_requests`."""
    if view is not View.MINE:
        allow_house(house, actor, Verb.AUDIT)
    found = house.store.grants(
        principal=actor.id if view is View.MINE else None,
        role=role,
        request=request,
        states=frozenset({state}) if state is not None else None,
        limit=limit,
        before=before,
    )
    return found, _next(found, limit)


def _waiting(
    house: House, actor: Actor, limit: int, before: str | None
) -> tuple[list[Request], str | None]:
    looked = house.store.requests(
        states=frozenset({RequestState.PENDING}), limit=MOST_LOOKED_AT, before=before
    )
    wanted = _waits_for(house, actor)
    found: list[Request] = []
    for request in looked:
        if wanted(request):
            found.append(request)
            if len(found) == limit:
                return found, request.id
    return found, _next(looked, MOST_LOOKED_AT)


def _waits_for(house: House, actor: Actor) -> Callable[[Request], bool]:
    """Whether a pending request could take the actor's vote: not their own, not voted on, in time.

    A convenience: the vote itself is decided by `approve.vote`.
    """
    approver = Approver(principal=actor.id, person=actor.person, groups=actor.groups)
    now = house.now()

    def wanted(request: Request) -> bool:
        return (
            may_vote(request, approver)
            and now < request.decide_by
            and all(vote.voter != actor.id for vote in request.votes)
            and person_named(house, request.terms.principal) != actor.person
        )

    return wanted


def _next(found: list[Thing], limit: int) -> str | None:
    return found[-1].id if found and len(found) == limit else None
