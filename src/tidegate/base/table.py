"""The shape of a stage's transition table.

A table maps (state, event name) to the next state. What is absent is illegal: there is no `if` that
forbids, and no way to a new state that is not a line of a table. `docs/states.md` is drawn from
these tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from tidegate.base.errors import Stale

State = TypeVar("State", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Table(Generic[State]):
    """The legal moves of one kind of thing. `None` is "does not exist yet".

    `verbs` says what each event is to people (`vote on it`): the word for it in a refusal.
    """

    thing: str
    moves: Mapping[tuple[State | None, str], State]
    verbs: Mapping[str, str] = field(default_factory=dict)

    def next(self, state: State | None, event: str) -> State:
        """The state after `event`. Raises Stale: the caller acted on what is no longer so."""
        after = self.moves.get((state, event))
        if after is None:
            now = state.value if state else "not there"
            verb = self.verbs.get(event)
            so = f"nobody can {verb} now" if verb else f"`{event}` cannot happen to it"
            raise Stale(
                "wrong_state",
                f"this {self.thing} is {now}, so {so}",
                "look at it again: it may have moved on since you read it",
            )
        return after

    def allows(self, state: State | None, event: str) -> bool:
        """Whether `event` may happen in `state`."""
        return (state, event) in self.moves
