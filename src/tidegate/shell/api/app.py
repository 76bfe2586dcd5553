"""The app: routes, the door before them, one error table behind them."""

from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import MutableScopeHeaders
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Message, Scope

from tidegate import __version__
from tidegate.flow.house import Actor, House
from tidegate.flow.refusing import Refusals
from tidegate.shell.api import (
    routes_evidence,
    routes_findings,
    routes_grants,
    routes_notices,
    routes_panics,
    routes_people,
    routes_report,
    routes_requests,
)
from tidegate.shell.api.bodies import parse_json
from tidegate.shell.api.door import OPENAPI_PATH, Door
from tidegate.shell.api.faults import fault_handlers
from tidegate.shell.api.given import Shown
from tidegate.shell.api.insight import Insight
from tidegate.shell.api.lane import Lane
from tidegate.shell.identity import Tries
from tidegate.shell.metrics import Metrics

LARGEST_BODY = 64 * 1024  # bytes: the longest reason and comment, twenty roles, and room

# Answers are data, never pages: a browser may neither keep, guess, frame nor run them.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def make_app(
    house: House, refusals: Refusals, insight: Insight, *, behind_proxy: bool = False
) -> Litestar:
    """The API over `house`. Holds no state of its own but the counts of sign-in tries.

    `behind_proxy`: a proxy on this machine says in X-Forwarded-For where calls come from.
    """
    tries = Tries()
    lane = Lane()
    shown = Shown(figures=Metrics(house), behind_proxy=behind_proxy)
    return Litestar(
        route_handlers=[
            *routes_people.ROUTES,
            *routes_requests.ROUTES,
            *routes_grants.ROUTES,
            *routes_notices.ROUTES,
            *routes_findings.ROUTES,
            *routes_panics.ROUTES,
            *routes_report.ROUTES,
            *routes_evidence.ROUTES,
        ],
        dependencies={
            "house": Provide(lambda: house, sync_to_thread=False),
            "refusals": Provide(lambda: refusals, sync_to_thread=False),
            "insight": Provide(lambda: insight, sync_to_thread=False),
            "lane": Provide(lambda: lane, sync_to_thread=False),
            "metrics": Provide(lambda: shown, sync_to_thread=False),
            "tries": Provide(lambda: tries, sync_to_thread=False),
            "actor": Provide(_actor, sync_to_thread=False),
        },
        middleware=[Door(house, refusals, lane, behind_proxy=behind_proxy)],
        exception_handlers=fault_handlers(house.randomness),
        before_send=[_harden],
        on_shutdown=[lane.close],
        request_class=StrictRequest,
        request_max_body_size=LARGEST_BODY,
        openapi_config=OpenAPIConfig(
            title="Tidegate",
            version=__version__,
            path=OPENAPI_PATH,
            render_plugins=[JsonRenderPlugin(path="/")],
            components=Components(
                security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}
            ),
            security=[{"token": []}],
        ),
        logging_config=None,
        debug=False,
    )


class StrictRequest(Request[Any, Any, Any]):
    """A call whose JSON has only one reading: as what its route declares, strictly.

    The framework's own conversion would take `"1800"` for a number.
    """

    async def json(self) -> Any:
        """The body, parsed. Raises AskedWrongly."""
        declared = self.route_handler.parsed_data_field
        return parse_json(await self.body(), declared.annotation if declared else Any)


def _actor(request: Request[Any, Any, Any]) -> Actor:
    """Whoever the door let in."""
    found = request.scope["user"]
    if not isinstance(found, Actor):
        raise RuntimeError("a route asked for an actor and is public")
    return found


async def _harden(message: Message, scope: Scope) -> None:
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        for name, value in HEADERS.items():
            headers[name] = value
