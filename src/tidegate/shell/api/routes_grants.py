"""Routes: grants, the credentials they give, and their early end."""

from typing import Annotated

from litestar.params import FromQuery, JSONBody, QueryParameter

from tidegate.flow.allowing import Verb
from tidegate.flow.brokering import as_plain, issue
from tidegate.flow.expiring import close_now
from tidegate.flow.reading import find_grant
from tidegate.flow.revoking import end_early
from tidegate.flow.signing_off import sign_off, take_up_again
from tidegate.grant import GrantState
from tidegate.shell.api.bodies import LONGEST_ID, End, Why
from tidegate.shell.api.given import (
    Cursor,
    Limit,
    SomeId,
    TheActor,
    TheHouse,
    answers,
)
from tidegate.shell.api.listing import PAGE, View, list_grants
from tidegate.shell.api.render import Renderer
from tidegate.shell.api.searched import side_doors_of
from tidegate.shell.api.views import GrantsView, GrantView


@answers("GET", "/api/grants")
def list_of_grants(
    house: TheHouse,
    actor: TheActor,
    view: FromQuery[View] = View.MINE,
    role: Annotated[str | None, QueryParameter(max_length=LONGEST_ID)] = None,
    in_state: Annotated[GrantState | None, QueryParameter(name="state")] = None,
    of_request: Annotated[str | None, QueryParameter(name="request", max_length=LONGEST_ID)] = None,
    limit: Limit = PAGE,
    before: Cursor = None,
) -> GrantsView:
    """Grants, newest first: one's own, or all (auditors)."""
    found, after = list_grants(
        house,
        actor,
        view,
        role=role,
        state=in_state,
        request=of_request,
        limit=limit,
        before=before,
    )
    renderer = Renderer(house, house.now())
    return GrantsView(grants=[renderer.grant(one) for one in found], next_before=after)


@answers("GET", "/api/grants/{some_id:str}")
def read_grant(some_id: SomeId, house: TheHouse, actor: TheActor) -> GrantView:
    """One grant, by its id or by its request's when that has only one."""
    grant = find_grant(house, actor, some_id, Verb.SEE)
    return Renderer(house, house.now()).grant(grant, side_doors_of(house, actor, grant))


@answers("POST", "/api/grants/{some_id:str}/credentials", 201)
def issue_credentials(some_id: SomeId, house: TheHouse, actor: TheActor) -> dict[str, str]:
    """One credential of one's own open grant. Its secret parts are said this once."""
    return as_plain(*issue(house, actor, some_id))


@answers("POST", "/api/grants/{some_id:str}/end")
def end_grant(
    some_id: SomeId, house: TheHouse, actor: TheActor, data: JSONBody[End | None] = None
) -> GrantView:
    """End a grant early and try once to close it now; the answer says how far that came."""
    grant = end_early(house, actor, some_id, data.comment if data else "")
    closed = grant if grant.over else close_now(house, grant)
    return Renderer(house, house.now()).grant(closed)


@answers("POST", "/api/grants/{some_id:str}/sign-off")
def sign_grant_off(
    some_id: SomeId, house: TheHouse, actor: TheActor, data: JSONBody[Why]
) -> GrantView:
    """Answer for an end that cannot be proven; it is tried no more. Operators, not its holder."""
    return Renderer(house, house.now()).grant(sign_off(house, actor, some_id, data.reason))


@answers("POST", "/api/grants/{some_id:str}/resume")
def resume_grant(
    some_id: SomeId, house: TheHouse, actor: TheActor, data: JSONBody[Why]
) -> GrantView:
    """Take a sign-off back; the end is tried again until it is known."""
    return Renderer(house, house.now()).grant(take_up_again(house, actor, some_id, data.reason))


ROUTES = (
    list_of_grants,
    read_grant,
    issue_credentials,
    end_grant,
    sign_grant_off,
    resume_grant,
)
