"""Routes: how late ends were, health in short, and the figures for a monitoring system."""

from dataclasses import asdict
from typing import Annotated, Any

from litestar import Request, Response
from litestar.params import QueryParameter

from tidegate.base.address import is_loopback
from tidegate.base.errors import NotSignedIn
from tidegate.base.when import parse_duration, wire
from tidegate.flow.allowing import Verb, allow_house
from tidegate.flow.finding import open_findings
from tidegate.shell.api.bodies import LONGEST_ID
from tidegate.shell.api.door import bearer_of
from tidegate.shell.api.given import (
    TheActor,
    TheHouse,
    TheInsight,
    TheMetrics,
    TheRefusals,
    answers,
)
from tidegate.shell.api.render import open_view
from tidegate.shell.api.views import HealthView
from tidegate.shell.identity import who

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")  # a proxy of some kind stands in front


@answers("GET", "/api/report/lateness")
def report_lateness(
    house: TheHouse,
    actor: TheActor,
    insight: TheInsight,
    since: Annotated[str, QueryParameter(max_length=20)] = "30d",
    by: Annotated[str, QueryParameter(max_length=20)] = "all",
    target: Annotated[str, QueryParameter(max_length=LONGEST_ID)] = "",
) -> dict[str, Any]:
    """How late ends were, each latency apart, computed from the log. For auditors.

    Beside it the findings that are open there: figures alone would let nobody know of them.
    """
    allow_house(house, actor, Verb.AUDIT)
    report = dict(insight.lateness(actor, parse_duration(since), by, target))
    return {**report, "findings": asdict(open_view(open_findings(house, actor, target), target))}


@answers("GET", "/api/health")
def read_health(house: TheHouse, actor: TheActor) -> HealthView:
    """In short: whether the database answers, and which findings are open. For auditors.

    Looks at no cloud and is made to be asked every minute; `GET /api/doctor` looks at everything.
    """
    found = open_view(open_findings(house, actor))
    return HealthView(
        status="findings" if found.open else "ok",
        at=wire(house.now()),
        log_size=house.store.head().size,
        findings=found,
        next="`tidegate doctor` looks at everything",
    )


@answers("GET", "/metrics", public=True)
def read_metrics(
    request: Request[Any, Any, Any], house: TheHouse, metrics: TheMetrics, refusals: TheRefusals
) -> Response[bytes]:
    """Figures in OpenMetrics: to this machine itself, or with the token of an auditor."""
    if not _from_here(request, metrics.behind_proxy):
        try:
            actor = who(house, bearer_of(request.scope))
        except NotSignedIn:  # counted here: the door lets everybody at this route
            refusals.failed_signin(house, str(request.scope["state"]["source"]))
            raise
        allow_house(house, actor, Verb.AUDIT)
    data, media_type = metrics.figures.render(request.headers.get("accept", ""))
    return Response(data, media_type=media_type)


def _from_here(request: Request[Any, Any, Any], behind_proxy: bool) -> bool:
    """Whether the caller is on this machine for certain: behind a proxy everybody seems to be."""
    client = request.scope["client"]
    named = any(name in request.headers for name in FORWARDED)
    return not (behind_proxy or named) and client is not None and is_loopback(client[0])


ROUTES = (report_lateness, read_health, read_metrics)
