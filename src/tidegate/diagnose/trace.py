"""`tidegate trace`: the five stages of a request, and the stage at which its evidence stops.

Decides nothing and changes nothing. Everything told comes from the request's own chain of events;
rows are only compared with it, and a difference is itself where the evidence stops.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tidegate.base.when import Instant, wire
from tidegate.diagnose.asked import Telling, tell_approve, tell_request
from tidegate.diagnose.drawing import render_text
from tidegate.diagnose.ended import tell_expire
from tidegate.diagnose.held import tell_grant, tell_run
from tidegate.diagnose.story import Story, disagreement, gather, read_story
from tidegate.diagnose.walk import Stage, StageState, StageView, Trace, Walk, parse_trace
from tidegate.evidence.events import Event
from tidegate.grant import Grant
from tidegate.request import Request

__all__ = [
    "Stage",
    "StageState",
    "StageView",
    "Trace",
    "Walk",
    "gather",
    "parse_trace",
    "render_text",
    "trace",
]

_COMPARE = "`tidegate evidence rebuild --check` compares all rows with the evidence"
_VERIFY_LOG = "`tidegate evidence verify` checks the whole log and names the first bad event"


def trace(
    events: Sequence[Event],
    request: Request,
    grants: Sequence[Grant],
    *,
    now: Instant,
    names: Callable[[str], str],
    texts: Callable[[str], str | None],
    beats: Mapping[str, tuple[Instant, str]],
) -> Trace:
    """Walk the five stages of every grant of `request`, or of the request alone.

    Args:
        events: the whole chain of the request, in order, as `gather` reads it.
        request: its row.
        grants: the rows of *all* its grants: one that is left out counts as missing.
        now: what the instants in the evidence are held against.
        names: what people call a principal id. Need not be safe to print.
        texts: the personal text behind a commitment, None when it was erased.
        beats: when each part of the house was last alive.
    """
    story = read_story(events, request.id)
    rows = {grant.id: grant for grant in grants}
    known = sorted(story.grants if story.gap else {*story.grants, *rows})
    walks = []
    for name in known or [""]:
        told = story.grants.get(name)
        telling = Telling(
            story=story,
            request=story.request or request,
            grant=told,
            now=now,
            names=names,
            texts=texts,
            beats=beats,
        )
        walk = _walk(telling, name, rows.get(name))
        if story.gap:
            if not (told and told.over) or all(grant.over for grant in story.grants.values()):
                walk = _stop(walk, story.gap, _VERIFY_LOG)
        elif differs := _differs(story, request, told, rows.get(name), name):
            walk = _stop(walk, differs, _COMPARE)
        walks.append(walk)
    return Trace(request=request.id, at=wire(now), walks=tuple(walks))


def _walk(telling: Telling, name: str, row: Grant | None) -> Walk:
    if telling.story.request is None:
        views = tuple(
            StageView(stage=stage, state=StageState.NOT_REACHED, headline="no evidence of it")
            for stage in Stage
        )
        return Walk(grant=name, role=row.role if row else "", views=views)
    views = (
        tell_request(telling),
        tell_approve(telling),
        tell_grant(telling),
        tell_run(telling),
        tell_expire(telling),
    )
    held = telling.grant or row
    asked = ", ".join(item.role for item in telling.items)
    return Walk(grant=name, role=held.role if held else asked, views=views)


def _differs(
    story: Story, request: Request, told: Grant | None, row: Grant | None, name: str
) -> str:
    """How evidence and rows disagree about this walk, or empty."""
    if differs := disagreement(story.request, request):
        return f"request: {differs}"
    differs = disagreement(told, row)
    return f"grant `{name}`: {differs}" if differs else ""


def _stop(walk: Walk, why: str, step: str) -> Walk:
    """The walk with its evidence stopping at the first stage that is not done."""
    views = list(walk.views)
    place = next(
        (at for at, view in enumerate(views) if view.state is not StageState.DONE), len(views) - 1
    )
    views[place] = replace(views[place], state=StageState.STOPPED, headline=why, next_step=step)
    for later in range(place + 1, len(views)):
        views[later] = replace(views[later], state=StageState.NOT_REACHED)
    return replace(walk, views=tuple(views))
