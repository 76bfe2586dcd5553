"""Routes: requests and votes."""

from typing import Annotated

from litestar.params import FromQuery, JSONBody, QueryParameter

from tidegate.flow.approving import cast
from tidegate.flow.asking import ask, change, take_back, weigh
from tidegate.flow.reading import find_request
from tidegate.request import RequestState
from tidegate.shell.api.bodies import Ask, Ballot
from tidegate.shell.api.given import (
    Cursor,
    Limit,
    SomeId,
    TheActor,
    TheHouse,
    answers,
)
from tidegate.shell.api.listing import PAGE, View, list_requests
from tidegate.shell.api.render import Renderer
from tidegate.shell.api.views import PreviewView, RequestsView, RequestView


@answers("POST", "/api/requests", 201)
def file_request(data: JSONBody[Ask], house: TheHouse, actor: TheActor) -> RequestView:
    """Ask. A refusal by the rules is filed too: its `state` is `refused` and `why` says why."""
    return Renderer(house, house.now()).request(ask(house, actor, data.asked()))


@answers("POST", "/api/requests/preview")
def preview_request(data: JSONBody[Ask], house: TheHouse, actor: TheActor) -> PreviewView:
    """What filing would decide, without filing."""
    now = house.now()
    return Renderer(house, now).preview(weigh(house, actor, data.asked(), now))


@answers("GET", "/api/requests")
def list_of_requests(
    house: TheHouse,
    actor: TheActor,
    view: FromQuery[View] = View.MINE,
    in_state: Annotated[RequestState | None, QueryParameter(name="state")] = None,
    limit: Limit = PAGE,
    before: Cursor = None,
) -> RequestsView:
    """Requests, newest first: one's own, those waiting for one's vote, or all (auditors)."""
    found, after = list_requests(house, actor, view, in_state, limit, before)
    renderer = Renderer(house, house.now())
    return RequestsView(requests=[renderer.request(one) for one in found], next_before=after)


@answers("GET", "/api/requests/{some_id:str}")
def read_request(some_id: SomeId, house: TheHouse, actor: TheActor) -> RequestView:
    """One request, by its id or by the id of one of its grants."""
    return Renderer(house, house.now()).request(find_request(house, actor, some_id))


@answers("PUT", "/api/requests/{some_id:str}")
def edit_request(
    some_id: SomeId, data: JSONBody[Ask], house: TheHouse, actor: TheActor
) -> RequestView:
    """Change one's own pending request: a new digest, and the votes cast so far are void."""
    return Renderer(house, house.now()).request(change(house, actor, some_id, data.asked()))


@answers("POST", "/api/requests/{some_id:str}/votes", 201)
def vote_on_request(
    some_id: SomeId, data: JSONBody[Ballot], house: TheHouse, actor: TheActor
) -> RequestView:
    """Vote on exactly the digest that was shown."""
    voted = cast(house, actor, some_id, data.chosen, data.digest, data.comment)
    return Renderer(house, house.now()).request(voted)


@answers("POST", "/api/requests/{some_id:str}/withdraw")
def withdraw_request(some_id: SomeId, house: TheHouse, actor: TheActor) -> RequestView:
    """Take back one's own pending request."""
    return Renderer(house, house.now()).request(take_back(house, actor, some_id))


ROUTES = (
    file_request,
    preview_request,
    list_of_requests,
    read_request,
    edit_request,
    vote_on_request,
    withdraw_request,
)
