"""What every route shares: how it is declared, and what it is given, spelled once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from inspect import getdoc
from typing import Annotated, Any

from litestar import HttpMethod, MediaType, route
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter, QueryParameter

from tidegate.flow.house import Actor, House
from tidegate.flow.refusing import Refusals
from tidegate.shell.api.bodies import LONGEST_ID
from tidegate.shell.api.door import PUBLIC
from tidegate.shell.api.faults import FAULTS
from tidegate.shell.api.insight import Insight
from tidegate.shell.api.lane import Lane
from tidegate.shell.api.listing import LARGEST_PAGE
from tidegate.shell.identity import Tries
from tidegate.shell.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The figures of this process, and whether everybody seems to come from this machine."""

    figures: Metrics
    behind_proxy: bool


TheHouse = NamedDependency[House]
TheActor = NamedDependency[Actor]
TheInsight = NamedDependency[Insight]
TheRefusals = NamedDependency[Refusals]
TheLane = NamedDependency[Lane]
TheMetrics = NamedDependency[Shown]
TheTries = NamedDependency[Tries]

SomeId = Annotated[str, PathParameter(max_length=LONGEST_ID)]
Limit = Annotated[int, QueryParameter(ge=1, le=LARGEST_PAGE)]
Cursor = Annotated[str | None, QueryParameter(max_length=LONGEST_ID)]


def answers(
    method: str,
    path: str,
    status: int = 200,
    *,
    public: bool = False,
    media_type: MediaType | None = None,
    in_lane: bool = False,
) -> Callable[[Callable[..., Any]], HTTPRouteHandler]:
    """Make a function the answer to `method path`, run in a thread.

    Its name becomes the operation's id (and the command a sealed refusal names), its docstring the
    operation's description. `public` opens it to everybody. With `in_lane` its thread is one of
    those kept free for panics; it takes the `lane` as an argument then.
    """

    def made(answer: Callable[..., Any]) -> HTTPRouteHandler:
        name = answer.__name__
        return route(
            path,
            http_method=HttpMethod(method),
            status_code=status,
            media_type=media_type,
            sync_to_thread=None if in_lane else True,
            responses=FAULTS,
            operation_id=name,
            summary=name.replace("_", " ").capitalize(),
            description=getdoc(answer),
            opt={PUBLIC: public},
            security=[{}] if public else None,
        )(_laned(answer) if in_lane else answer)

    return made


def _laned(answer: Callable[..., Any]) -> Callable[..., Any]:
    """`answer` in the lane it is given."""

    @wraps(answer)
    async def within(**given: Any) -> Any:
        lane: Lane = given["lane"]
        return await lane.run(partial(answer, **given))

    return within
