"""What one transaction will hold: decided in memory, Step by Step. No I/O.

A Step passes whole or not at all, and one that does not pass leaves no trace for its neighbours.
Steps of one batch see each other: the second may build on what the first made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate.base.errors import Stale
from tidegate.base.fact import Change, Fact, Step
from tidegate.base.personal import Personal
from tidegate.base.when import Instant
from tidegate.evidence.seal import Head, Sealed, seal
from tidegate.store.rows import Codec, Natural, Value

Versions = dict[type, dict[str, int]]  # by kind and id


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """Where a Step's facts are: its first index, and the log's size when they were durable."""

    first_idx: int
    size: int
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the database said about everything the Steps touch. Absent: it has no row.

    `versions` has every kind of thing among the Steps; `owners` is who has a natural key, `heads`
    where each subject's chain stands.
    """

    versions: Versions = field(default_factory=dict)
    owners: dict[Natural, str] = field(default_factory=dict)
    heads: dict[str, Head] = field(default_factory=dict)


class Batch:
    """Takes Steps one by one, then holds everything to be written.

    `made` and `moved` hold the last state of each row after the batch, by kind and id: rows the
    batch makes, and rows that were there. `size` is how many events the log will hold.
    """

    def __init__(
        self, codecs: Mapping[type, Codec[Any]], known: Known, size: int, at: Instant
    ) -> None:
        self.at = at
        self.made: dict[type, dict[str, Mapping[str, Value]]] = {}
        self.moved: dict[type, dict[str, Mapping[str, Value]]] = {}
        self.facts: list[Fact] = []
        self.texts: list[tuple[str, Personal]] = []  # (subject, text)
        self._codecs = codecs
        self._known = known
        self._before = size

    @property
    def size(self) -> int:
        """How many events the log will hold."""
        return self._before + len(self.facts)

    def admit(self, step: Step) -> int:
        """Take one Step in; returns the index of its first fact.

        Raises:
            Stale: a row moved on, or is another's by its natural key; the batch is as before.
            RuntimeError: the Step could never be stored: our own bug; the batch is as before.
        """
        rows = self._guarded(step)
        texts = [(_subject_of(text, step), text) for text in step.personal]
        # Nothing below can fail: a Step is in whole, or it is not in.
        first = self.size
        self.facts.extend(step.facts)
        self.texts.extend(texts)
        for change, row, natural in rows:
            self._place(change, row, natural)
        return first

    def seal(self) -> list[Sealed]:
        """The events of every Step taken in, all sealed at `at`.

        Raises:
            RuntimeError: some fact does not fit its event. The writer then tries each Step alone,
                so that only the one at fault fails.
        """
        return seal(self.facts, first_idx=self._before, at=self.at, heads=self._known.heads)

    def _guarded(self, step: Step) -> list[tuple[Change, Mapping[str, Value], Natural | None]]:
        """The rows of a Step, once every one of its guards has been met."""
        versions: dict[tuple[type, str], int] = {}
        owners: dict[Natural, str] = {}
        rows: list[tuple[Change, Mapping[str, Value], Natural | None]] = []
        for change in step.changes:
            kind, name = type(change.after), change.after.id
            codec = self._codecs[kind]
            stored = versions.get((kind, name)) or self._known.versions[kind].get(name, 0)
            if stored != change.expected:
                raise _moved_on(codec.word, name, change.expected, stored)
            if change.after.version <= stored:
                raise RuntimeError(f"{codec.word} {name} after version {stored} goes back")
            versions[(kind, name)] = change.after.version
            row = codec.row(change.after)
            natural = codec.natural_of(row)
            if natural is not None:
                owner = owners.get(natural, self._known.owners.get(natural, name))
                if owner != name:
                    raise _taken(codec.word, owner)
                owners[natural] = name
            rows.append((change, row, natural))
        return rows

    def _place(self, change: Change, row: Mapping[str, Value], natural: Natural | None) -> None:
        kind, name = type(change.after), change.after.id
        made = self.made.setdefault(kind, {})
        if change.expected == 0 or name in made:
            made[name] = row
        else:
            self.moved.setdefault(kind, {})[name] = row
        self._known.versions[kind][name] = change.after.version
        if natural is not None:
            self._known.owners[natural] = name


def check_step(step: Step, codecs: Mapping[type, Codec[Any]]) -> None:
    """Raise RuntimeError for a Step that no database could take: our own bug."""
    if not step.facts:
        raise RuntimeError("a Step without facts: nothing changes unsealed")
    for change in step.changes:
        if type(change.after) not in codecs:
            raise RuntimeError(f"no table for a {type(change.after).__name__}")


def _subject_of(text: Personal, step: Step) -> str:
    """The subject of the fact that commits to `text`: erasing goes by subject."""
    for fact in step.facts:
        if text.commitment in fact.data.values():
            return fact.subject
    raise RuntimeError(f"no fact of the Step names {text.commitment}")


def _moved_on(word: str, name: str, expected: int, stored: int) -> Stale:
    if expected == 0:
        told = f"{word} `{name}` is there already, at version {stored}"
    elif stored == 0:
        told = f"expected {word} `{name}` at version {expected}, got none"
    else:
        told = f"expected {word} `{name}` at version {expected}, got version {stored}"
    return Stale("moved_on", told, "it changed since you read it: look again, then decide")


def _taken(word: str, owner: str) -> Stale:
    return Stale(
        "moved_on",
        f"this {word} is there already, as `{owner}`",
        "it was made since you looked: look again, then decide",
    )
