"""Routes: ending everything at once, watching it, and opening again what it keeps shut."""

from datetime import timedelta

from litestar.params import JSONBody

from tidegate.base.errors import EvidenceClosed
from tidegate.base.when import Instant, wire
from tidegate.flow.allowing import allow_panic, may_see_panic
from tidegate.flow.house import Actor, House, Wanted
from tidegate.flow.panic_standing import stand
from tidegate.flow.panicking import (
    call_panic,
    close_named,
    find_panic,
    panic_unsealed,
    scope_meant,
    seen_removed,
    sweep,
    unfreeze,
)
from tidegate.panic import Panic, PanicState, Scope, ScopeKind
from tidegate.shell.api.bodies import CallPanic
from tidegate.shell.api.given import SomeId, TheActor, TheHouse, TheLane, answers
from tidegate.shell.api.lane import Lane
from tidegate.shell.api.render import Renderer
from tidegate.shell.api.views import PanicsView, PanicView, StillView
from tidegate.shell.api.words import grant_says, panic_says

NEWEST = 20  # panics of one answer
MOST_LOOKED_AT = 1_000  # of those that still stop, for the ones somebody else called
MOST_STOPPING = 50  # and of those that keep something shut
MOST_STILL = 20  # grants named in one answer: a screen of them
PATIENCE = timedelta(seconds=10)  # for what can be closed from the journal while the caller waits


@answers("POST", "/api/panics", 202, in_lane=True)
def begin_panic(
    house: TheHouse, actor: TheActor, lane: TheLane, data: JSONBody[CallPanic]
) -> PanicView:
    """End everything in a scope at once, now. What was approved before opens no more."""
    scope = scope_meant(house, actor, ScopeKind(data.scope), data.name)
    try:
        panic = call_panic(house, actor, scope, data.reason, data.freeze)
    except EvidenceClosed:
        allow_panic(house, actor, scope)
        return _unsealed(house, lane, actor, scope, data)
    lane.later(sweep, house, panic)
    return _view(house, panic, house.now())


@answers("GET", "/api/panics", in_lane=True)
def list_of_panics(house: TheHouse, actor: TheActor, lane: TheLane) -> PanicsView:
    """The newest panics the caller may watch, and of those that still stop what others ask at most
    MOST_STOPPING.
    """
    now = house.now()
    stopping = [
        one
        for one in house.store.panics(stopping_at=now, limit=MOST_LOOKED_AT)
        if one.stops(now) and (one.kind is not ScopeKind.PRINCIPAL or one.actor != one.name)
    ]
    found = {one.id: one for one in (*house.store.panics(limit=NEWEST), *stopping[:MOST_STOPPING])}
    seen = [one for one in found.values() if may_see_panic(house, actor, one)]
    return PanicsView(panics=[_view(house, one, now) for one in sorted(seen, key=_newest_first)])


@answers("GET", "/api/panics/{some_id:str}", in_lane=True)
def read_panic(some_id: SomeId, house: TheHouse, actor: TheActor, lane: TheLane) -> PanicView:
    """How a panic stands now, counted."""
    return _view(house, find_panic(house, actor, some_id), house.now())


@answers("POST", "/api/panics/{some_id:str}/unfreeze", in_lane=True)
def lift_freeze(some_id: SomeId, house: TheHouse, actor: TheActor, lane: TheLane) -> PanicView:
    """Let things open again in the scope of a panic, before its freeze is over."""
    return _view(house, unfreeze(house, actor, some_id), house.now())


def _newest_first(panic: Panic) -> tuple[float, str]:
    return -panic.called_at.timestamp(), panic.id


def _view(house: House, panic: Panic, now: Instant) -> PanicView:
    standing = stand(house, panic.id, now)
    swept = panic.state is PanicState.SWEPT
    rows = (*standing.closing, *standing.unverified)
    still = [StillView(id=one.id, role=one.role, says=grant_says(one, now)) for one in rows]
    still += [StillView(id=one.id, role=one.role, says=one.says) for one in standing.beside]
    return PanicView(
        id=panic.id,
        scope=panic.kind.value,
        name=panic.name,
        says=panic_says(panic, standing, now),
        sealed=True,
        swept=swept,
        safe=swept and standing.safe,
        called_by=Renderer(house, now).person(panic.actor) if panic.via == "api" else None,
        called_at=wire(panic.called_at),
        frozen_until=wire(panic.frozen_until) if panic.frozen_until else None,
        frozen=panic.frozen(now),
        grants=panic.grants,
        requests=panic.requests,
        gone=standing.gone,
        removed=standing.removed,
        residual_until=wire(standing.residual_until) if standing.residual_until else None,
        closing=standing.still_closing,
        unverified=standing.not_verified,
        still=still[:MOST_STILL],
    )


def _unsealed(house: House, lane: Lane, actor: Actor, scope: Scope, data: CallPanic) -> PanicView:
    """The same from the closing journal (I6): looked at for PATIENCE, then it goes on by itself."""
    wanted = Wanted(scope=scope, by=actor.id, via="api", reason=data.reason, freeze=data.freeze)
    named = panic_unsealed(house, wanted)
    lane.later(close_named, house, named).join(PATIENCE.total_seconds())
    told = seen_removed(house, named)
    closing = told.closing
    now = house.now()
    return PanicView(
        id="",
        scope=scope.kind.value,
        name=scope.name,
        says=(
            "the evidence cannot be written: ends were begun in the closing journal and go on from"
            " there; the panic is sealed as soon as that can be"
        ),
        sealed=False,
        swept=False,
        safe=False,
        called_by=None,
        called_at=wire(now),
        frozen_until=None,
        frozen=False,
        grants=len(named),
        requests=0,
        gone=0,
        removed=len(told.removed),
        residual_until=None,
        closing=len(closing),
        unverified=0,
        still=[
            StillView(id=name, role="", says="not read back as removed yet")
            for name in closing[:MOST_STILL]
        ],
    )


ROUTES = (begin_panic, list_of_panics, read_panic, lift_freeze)
