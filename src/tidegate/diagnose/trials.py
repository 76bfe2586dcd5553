"""What a holder saw, trying their access with keys of their own: statements, and no more.

Reads `access.tried` events. Such a trial never makes the sealed proof of a grant stronger; it is
told beside it, with whose word it is. Used by `verify` and by the tellers of `trace`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tidegate.connectors.port import Answer
from tidegate.evidence.events import Event

DURING, AFTER = "during", "after"  # phases, as sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One `access.tried`. `call` is a commitment: equal ones are the same call of one grant."""

    idx: int
    by: str
    phase: str
    outcome: str
    call: str
    tried_at: str


def trials_of(events: Iterable[Event], grant: str) -> tuple[Trial, ...]:
    """Every trial of `grant`, in the order they were sealed."""
    return tuple(
        Trial(
            idx=event.idx,
            by=str(event.data["by"]),
            phase=str(event.data["phase"]),
            outcome=str(event.data["outcome"]),
            call=str(event.data["call"]),
            tried_at=str(event.data["tried_at"]),
        )
        for event in events
        if event.name == "access.tried" and event.data["grant"] == grant
    )


def denied_by(trials: Sequence[Trial], holder: str) -> Trial | None:
    """The holder's trial after the end that was denied what was allowed before, if it stands.

    It stands when the very same call was allowed during the window, and nothing was allowed since.
    """
    allowed = {
        one.call
        for one in trials
        if (one.by, one.phase, one.outcome) == (holder, DURING, Answer.ALLOWED.value)
    }
    found = None
    for one in trials:
        if one.phase != AFTER:
            continue
        if one.outcome == Answer.ALLOWED.value:
            found = None
        elif one.outcome == Answer.DENIED.value and one.by == holder and one.call in allowed:
            found = one
    return found


def allowed_after(trials: Sequence[Trial]) -> Trial | None:
    """The last trial after the end, when it was allowed."""
    told = [one for one in trials if one.phase == AFTER and one.outcome != Answer.UNTOLD.value]
    return told[-1] if told and told[-1].outcome == Answer.ALLOWED.value else None


def tried_says(trials: Sequence[Trial], names: Callable[[str], str]) -> str:
    """`tried by ana on their own machine during: allowed; after: denied`: the last a phase."""
    people = list(dict.fromkeys(one.by for one in trials))
    told = []
    for who in people:
        last = {one.phase: one.outcome for one in trials if one.by == who}
        said = "; ".join(f"{phase}: {outcome}" for phase, outcome in last.items())
        told.append(f"tried by {names(who)} on their own machine {said}")
    return "; ".join(told)
