"""Routes: findings, who works on them, and their sign-off."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from litestar.params import JSONBody, QueryParameter

from tidegate.base.errors import AskedWrongly
from tidegate.base.fact import SYSTEM
from tidegate.base.ids import FINDING, GRANT, id_kind
from tidegate.base.when import wire
from tidegate.catalogue import target_chain
from tidegate.evidence.events import Event
from tidegate.evidence.seal import read_event
from tidegate.finding import Finding, FindingKind, FindingState
from tidegate.flow.allowing import Verb
from tidegate.flow.baseline import take_baseline
from tidegate.flow.finding import assign, close, find_finding, list_findings
from tidegate.flow.house import House
from tidegate.shell.api.bodies import LONGEST_ID, Assign, SignOff, Why
from tidegate.shell.api.given import Cursor, Limit, SomeId, TheActor, TheHouse, answers
from tidegate.shell.api.listing import PAGE
from tidegate.shell.api.render import Renderer
from tidegate.shell.api.views import (
    BaselinesView,
    BaselineView,
    FindingStory,
    FindingsView,
    FindingView,
    Person,
    StepView,
)
from tidegate.shell.api.words import finding_next
from tidegate.store import Wanted


class Which(StrEnum):
    """Which findings are listed, by their state."""

    LIVE = "live"  # not closed
    OPEN = "open"
    ASSIGNED = "assigned"
    CLOSED = "closed"
    ALL = "all"


_STATES = {
    Which.LIVE: frozenset({FindingState.OPEN, FindingState.ASSIGNED}),
    Which.OPEN: frozenset({FindingState.OPEN}),
    Which.ASSIGNED: frozenset({FindingState.ASSIGNED}),
    Which.CLOSED: frozenset({FindingState.CLOSED}),
    Which.ALL: None,
}


@answers("GET", "/api/findings")
def list_of_findings(
    house: TheHouse,
    actor: TheActor,
    which: Annotated[Which, QueryParameter(name="state")] = Which.LIVE,
    kind: Annotated[FindingKind | None, QueryParameter(name="kind")] = None,
    target: Annotated[str | None, QueryParameter(max_length=LONGEST_ID)] = None,
    of_grant: Annotated[str | None, QueryParameter(name="grant", max_length=LONGEST_ID)] = None,
    limit: Limit = PAGE,
    before: Cursor = None,
) -> FindingsView:
    """Findings the caller may see, newest first; closed ones only when asked for."""
    _check_id("grant", of_grant, GRANT, "list yours with `tidegate grants`")
    _check_id("before", before, FINDING, "take it from the end of the page before")
    wanted = Wanted(states=_STATES[which], kind=kind, target=target, grant=of_grant)
    found, after = list_findings(house, actor, wanted, limit, before)
    if target is not None and not found and after is None:
        house.laws.catalogue.target(target)  # one that left the settings may have findings still
    return FindingsView(findings=[_view(house, one) for one in found], next_before=after)


@answers("GET", "/api/findings/{some_id:str}")
def read_finding(some_id: SomeId, house: TheHouse, actor: TheActor) -> FindingStory:
    """One finding with its history."""
    finding = find_finding(house, actor, some_id, Verb.SEE)
    history = [
        _step(house, event)
        for event in map(_read, house.store.events(target_chain(finding.target)))
        if event.data.get("finding") == finding.id
    ]
    return FindingStory(finding=_view(house, finding), history=history)


@answers("POST", "/api/findings/{some_id:str}/assign")
def assign_finding(
    some_id: SomeId, house: TheHouse, actor: TheActor, data: JSONBody[Assign]
) -> FindingView:
    """Hand a finding to a person or a group."""
    return _view(house, assign(house, actor, some_id, data.to))


@answers("POST", "/api/findings/{some_id:str}/close")
def close_finding(
    some_id: SomeId, house: TheHouse, actor: TheActor, data: JSONBody[SignOff]
) -> FindingView:
    """Sign a finding off with a reason: as mended, or accepted for a while."""
    accept = None if data.accept_seconds is None else timedelta(seconds=data.accept_seconds)
    return _view(house, close(house, actor, some_id, data.reason, accept))


@answers("POST", "/api/targets/{some_id:str}/baseline")
def take_new_baseline(
    some_id: SomeId, house: TheHouse, actor: TheActor, data: JSONBody[Why]
) -> BaselinesView:
    """Call everything that stands on a target now known, with a reason."""
    taken = take_baseline(house, actor, some_id, data.reason)
    return BaselinesView(
        target=some_id,
        roles=[
            BaselineView(role=one.role, count=one.count, taken_at=wire(one.taken_at))
            for one in taken
        ],
    )


ROUTES = (list_of_findings, read_finding, assign_finding, close_finding, take_new_baseline)


def _check_id(name: str, given: str | None, kind: str, help: str) -> None:
    """A filter that fits nothing is told, never answered with an empty list."""
    if given is not None and id_kind(given) != kind:
        message = f"expected an id like `{kind}_…` for `{name}`, got `{given[:40]}`"
        raise AskedWrongly("bad_id", message, help)


def _read(stored: tuple[int, bytes]) -> Event:
    return read_event(stored[1])


def _view(house: House, finding: Finding) -> FindingView:
    renderer = Renderer(house, house.now())
    to = finding.assigned_to
    return FindingView(
        id=finding.id,
        kind=finding.kind.value,
        severity=finding.severity.value,
        state=finding.state.value,
        target=finding.target,
        role=finding.role,
        sort=finding.sort,
        what=finding.what,
        says=finding.says,
        remedy=finding.remedy,
        by=finding.by,
        owner=finding.owner,
        assigned_to=to,
        assigned_name=renderer.person(to).login if to and ":" not in to else to,
        principal=renderer.person(finding.principal) if finding.principal else None,
        grant=finding.grant,
        times=finding.times,
        first_seen_at=wire(finding.first_seen_at),
        last_seen_at=wire(finding.last_seen_at),
        closed_at=wire(finding.closed_at) if finding.closed_at else None,
        closed_how=finding.closed_how,
        closed_by=_person(renderer, finding.closed_by),
        reason=house.store.text(finding.reason) if finding.reason else None,
        accepted_until=wire(finding.accepted_until) if finding.accepted_until else None,
        next=finding_next(finding),
    )


def _step(house: House, event: Event) -> StepView:
    reason, renderer = event.data.get("reason"), Renderer(house, house.now())
    said = [str(event.data[name]) for name in ("says", "how", "why") if name in event.data]
    if to := str(event.data.get("to", "")):
        said.append(to if to.startswith("group:") else renderer.person(to).name or to)
    return StepView(
        idx=event.idx,
        at=event.at,
        name=event.name,
        by=_person(renderer, event.actor),
        says=": ".join(said),
        reason=house.store.text(reason) if isinstance(reason, str) else None,
    )


def _person(renderer: Renderer, named: str) -> Person | None:
    return renderer.person(named) if named and named != SYSTEM else None
