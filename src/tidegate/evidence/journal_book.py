"""A closing journal kept folded while it grows: what its lines say of each grant.

A server looks at its journal every few seconds for as long as it runs. Reading a file of many
megabytes each time to find the three lines that are new would cost more than all its other looks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tidegate.evidence.journal_line import JournalLine

ACTED = ("removed", "gone")  # lines that say that the cloud was read and does not let it in


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalBook:
    """One moment of a journal. Nothing here changes any more.

    `lines` are those of each grant, oldest first. `waiting` has the `intended` line of every grant
    that no line says is gone (a second one, of a retry, takes the place of the first), oldest
    first. `unsealed` are the `removed` lines of grants that nothing says were sealed; one that was
    done without the database is not sealed by the grant's end, only by a line that notes it.
    """

    lines: Mapping[str, tuple[JournalLine, ...]]
    waiting: Mapping[str, JournalLine]
    unsealed: Mapping[str, tuple[JournalLine, ...]]


@dataclass(slots=True)
class Folding:
    """A book being written. Not safe to share between threads."""

    lines: dict[str, tuple[JournalLine, ...]] = field(default_factory=dict)
    waiting: dict[str, JournalLine] = field(default_factory=dict)
    unsealed: dict[str, tuple[JournalLine, ...]] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    _book: JournalBook | None = None  # of this very moment, when somebody asked

    def add(self, lines: Iterable[JournalLine]) -> None:
        """Take up the lines that came after those there are."""
        for line in lines:
            self._book = None
            grant = line.grant
            self.lines[grant] = (*self.lines.get(grant, ()), line)
            if line.kind == "intended":
                self.waiting[grant] = line
            elif line.kind == "gone":
                self.waiting.pop(grant, None)
            elif line.kind in ("noted", "sealed"):
                self.settled.add(grant)
                told = self.unsealed.pop(grant, ())
                if line.kind == "sealed" and (left := tuple(one for one in told if one.alone)):
                    self.unsealed[grant] = left
            elif line.kind == "removed" and (line.alone or grant not in self.settled):
                self.unsealed[grant] = (*self.unsealed.get(grant, ()), line)

    def book(self) -> JournalBook:
        """How it stands now."""
        if self._book is None:
            self._book = JournalBook(
                lines=dict(self.lines), waiting=dict(self.waiting), unsealed=dict(self.unsealed)
            )
        return self._book


def read_back(lines: Sequence[JournalLine]) -> JournalLine | None:
    """The line that says that the end of a grant was read back; None: it is still owed.

    `lines` are the grant's, oldest first. What was read back before the last time it was opened, or
    its end began once more (it was there again), says nothing of now.
    """
    found: JournalLine | None = None
    for line in lines:
        if line.kind in ACTED:
            found = line
        elif line.kind in ("intended", "closing"):
            found = None
    return found


def ends(lines: Sequence[JournalLine]) -> list[JournalLine]:
    """Those that tell of an end: that it was begun, or was read back."""
    return [line for line in lines if line.kind in ("closing", *ACTED)]


def is_begun(lines: Sequence[JournalLine]) -> bool:
    """Whether its end was begun, and not read back since. `lines` as for `read_back`."""
    told = ends(lines)
    return bool(told) and told[-1].kind == "closing"


def book_of(lines: Iterable[JournalLine]) -> JournalBook:
    """The book of all these lines."""
    folding = Folding()
    folding.add(lines)
    return folding.book()
