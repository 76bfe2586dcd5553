"""Routes: health, signing in and out, who one is, what can be asked for."""

from typing import Any

from litestar import Request
from litestar.params import JSONBody

from tidegate.base.errors import NotAllowed
from tidegate.shell.api.bodies import SignIn
from tidegate.shell.api.given import (
    TheActor,
    TheHouse,
    TheRefusals,
    TheTries,
    answers,
)
from tidegate.shell.api.render import Renderer
from tidegate.shell.api.views import MeView, TargetsView, TokenView
from tidegate.shell.identity import end_token, sign_in, token_of


@answers("GET", "/health", public=True)
def health() -> dict[str, str]:
    """Whether this process answers. Says nothing about the rest: `GET /api/doctor` does."""
    return {"status": "ok"}


@answers("POST", "/api/signin", 201, public=True)
def signin(
    request: Request[Any, Any, Any],
    data: JSONBody[SignIn],
    house: TheHouse,
    refusals: TheRefusals,
    tries: TheTries,
) -> TokenView:
    """Exchange a login and password for a token."""
    source = str(request.scope["state"]["source"])
    try:
        text, token = sign_in(house, tries, data.login, data.password, data.label, source)
    except NotAllowed:
        refusals.failed_signin(house, source)
        raise
    return Renderer(house, house.now()).token(text, token)


@answers("POST", "/api/signout")
def signout(request: Request[Any, Any, Any], house: TheHouse) -> dict[str, str]:
    """End the token this call came with."""
    end_token(house, token_of(house, request.scope["auth"]), house.now())
    return {"status": "signed_out"}


@answers("GET", "/api/me")
def me(request: Request[Any, Any, Any], house: TheHouse, actor: TheActor) -> MeView:
    """Who the token belongs to."""
    token = token_of(house, request.scope["auth"])
    return Renderer(house, house.now()).me(actor, token)


@answers("GET", "/api/targets")
def targets(house: TheHouse) -> TargetsView:
    """Every target with its roles: what each promises about its end."""
    renderer = Renderer(house, house.now())
    known = house.laws.catalogue.targets
    return TargetsView(targets=[renderer.target(known[name]) for name in sorted(known)])


ROUTES = (health, signin, signout, me, targets)
