"""What a transition gives back: facts, not yet sealed, and the things they made.

A `Step` is one indivisible move of the house: either every change in it passes its version guard
and every fact is sealed, in one transaction, or nothing happened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tidegate.base.personal import Personal

SYSTEM = "system"  # the subject and the actor of what no principal did

Data = Mapping[str, Any]  # canonical subset; the sealing checks it field by field


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that happened, before the writer gives it an index, an instant and its `prev`.

    `name` is one of `evidence.events.EVENTS`; `subject` is the chain it joins (a request id, a
    principal id, `rules`, `catalogue` or `system`); `actor` is a principal id or `system`. `data`
    holds only what the event's schema lists, ready for canonical bytes, and everything needed to
    rebuild the rows it changes. `v` is the version of the name that `data` follows: `evolve`
    functions read it where versions differ.
    """

    name: str
    subject: str
    actor: str
    data: Data
    v: int = 1


class Thing(Protocol):
    """A row of state. `version` counts its changes; 0 is a thing not stored yet."""

    @property
    def id(self) -> str:
        """Its primary key."""
        ...

    @property
    def version(self) -> int:
        """How many Steps have changed it."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """A thing as it is after a Step, and the version its row must still have (0: no row yet)."""

    expected: int
    after: Thing


@dataclass(frozen=True, slots=True)
class Step:
    """One move: the things as they are after it, the facts that made them, the texts behind them.

    It is stored whole or not at all: one row that has moved on makes the whole Step Stale.
    """

    changes: tuple[Change, ...]
    facts: tuple[Fact, ...]
    personal: tuple[Personal, ...] = ()

    def then(self, other: "Step") -> "Step":
        """Both moves as one. A thing both change keeps its first guard and its last state."""
        merged: dict[tuple[type, str], Change] = {}
        for change in (*self.changes, *other.changes):
            key = (type(change.after), change.after.id)
            first = merged.get(key)
            merged[key] = Change(first.expected if first else change.expected, change.after)
        return Step(
            tuple(merged.values()),
            (*self.facts, *other.facts),
            (*self.personal, *other.personal),
        )


def moved(before: Thing | None, after: Thing, fact: Fact, *personal: Personal) -> Step:
    """The Step of one fact that changes one thing."""
    return Step((Change(before.version if before else 0, after),), (fact,), personal)
