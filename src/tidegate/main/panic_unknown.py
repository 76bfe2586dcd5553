"""What a panic with a database does of grants that this database never heard of.

That is so after an older one was put back: this machine's journal names what was opened since. The
log has no grant to seal their ends of, so the journal alone tells of them.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tidegate.base.errors import TidegateError
from tidegate.base.fact import SYSTEM
from tidegate.base.text import many
from tidegate.base.when import wire
from tidegate.evidence.journal_book import book_of
from tidegate.evidence.journal_line import JournalLine
from tidegate.evidence.mounted import check_mounted
from tidegate.flow.confirming import is_held, tells
from tidegate.flow.gathering import begin_all, gather
from tidegate.flow.holding import lines_by_grant
from tidegate.flow.house import House
from tidegate.flow.panic_unrowed import matters
from tidegate.flow.recalling import Fate, Recalled, recall
from tidegate.main.config import Config
from tidegate.main.emergency import Journals, Tell, ground_of, read_journals
from tidegate.main.only_server import said
from tidegate.main.owner import Giving
from tidegate.main.unknown import MOST_NAMED, Witnessed, witnessed
from tidegate.main.wiring import clock
from tidegate.panic import Panic

# For these alone: what is left then is begun in the journal, and closed by whoever closes on this
# machine.
PATIENCE = timedelta(seconds=30)


BY_OTHERS = (
    "the database is older than what was opened: what other machines opened since, only their own "
    "journals name; type the same on every machine that closes"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """What came of them. `unread`: why nobody can say which there are, here or elsewhere."""

    done: tuple[Recalled, ...] = ()
    unusable: tuple[str, ...] = ()
    unread: str = ""

    @property
    def left(self) -> tuple[Recalled, ...]:
        """Those that were not seen removed, or whose sessions were not seen cut."""
        return tuple(one for one in self.done if not one.closed or one.uncut)

    def added_to(self, told: Mapping[str, Any], named: Collection[str]) -> dict[str, Any]:
        """The answer, with these told in it; the same where there are none. Those in `named` are
        the panic's, and counted in it already.
        """
        if not (self.done or self.unusable or self.unread):
            return dict(told)
        new = [one for one in self.done if one.owed.hold.grant not in named]
        fates = Counter(one.fate for one in new)
        closed = sum(one.closed for one in new)
        unusable = sum(name not in named for name in self.unusable)
        more = [
            {"id": one.owed.hold.grant, "role": one.owed.hold.role.id, "says": one.why}
            for one in self.left
        ]
        ids = {one["id"] for one in more}  # what the sweep named too: what was tried says more
        return {
            **told,
            "safe": bool(told["safe"]) and not (self.left or self.unusable or self.unread),
            "says": "; ".join([str(told["says"]), *self._words()]),
            "grants": told["grants"] + len(new) + unusable,
            "removed": told["removed"] + closed,
            "residual_until": _latest(told["residual_until"], self.done),
            "closing": told["closing"] + len(new) - closed - fates[Fate.HELD],
            "unverified": told["unverified"] + fates[Fate.HELD] + unusable,
            "still": [*(one for one in told["still"] if one["id"] not in ids), *more][:MOST_NAMED],
        }

    def _words(self) -> list[str]:
        words = [self.unread] if self.unread else []
        if self.done or self.unusable:
            closed = sum(one.closed for one in self.done)
            count = len(self.done) + len(self.unusable)
            words.insert(
                0,
                f"{count} that this machine's journal names and the database does not: "
                f"{closed} removed",
            )
        return words


def _latest(told: str | None, done: Sequence[Recalled]) -> str | None:
    """Until when a session may act, of what was told and what was closed here."""
    now = clock()
    untils = (one.residual_until for one in done if one.at is not None)
    more = (wire(until) for until in untils if until is not None and until > now)
    return max(filter(None, (told, *more)), default=None)


def close_unknown(
    found: Config,
    house: House,
    panic: Panic,
    size: int,
    patience: timedelta,
    tell: Tell,
    giving: Giving,
) -> Unknown:
    """Close what this machine's journal has open in the scope of `panic` and no row of the database
    tells of. `size` is how many events the log had before the panic, whose own make it longer.

    What the journal or the database is like is told, and no success; whatever else is wrong raises.
    """
    scope, own = panic.scope, str(found.path(found.evidence.journal))
    try:
        check_mounted(Path(own).parent)
        seen = witnessed(found, ())
        journals = read_journals(found, ())
        if not journals.lines.get(own):
            return Unknown(unread=_no_line(journals, seen, size))
        gathered = begin_all(gather(journals.lines, own, clock()), scope, SYSTEM, clock())
        left = [one for one in gathered.owed if one.held or not one.settled(clock())]
        names = {*(one.hold.grant for one in left), *gathered.unusable}
        told = lines_by_grant(journals.lines[own])
        rows = house.store.grants_named(names)
        told_of = {one.hold.grant for one in gathered.owed}
        rowless = told_of - house.store.grant_states(told_of).keys()
        older = house.store.is_shared and (
            seen.size > size or any(_matters(house, told.get(name, ())) for name in rowless)
        )
    except (TidegateError, OSError) as fault:
        why = fault.message if isinstance(fault, TidegateError) else said(fault)
        unread = f"whether this machine's journal names more is not known: {why}"
        tell(unread)
        return Unknown(unread=unread)
    known = {name for name, row in rows.items() if tells(row, told.get(name, ()))}
    covered = {one.hold.grant for one in left if scope.covers(one.hold.principal, one.hold.role.id)}
    unknown = covered - known
    unusable = tuple(name for name in gathered.unusable if name not in known)
    unread = "; ".join(
        [*(journals.broken if journals.unread else ()), *([BY_OTHERS] if older else ())]
    )
    for name in unusable:
        tell(f"the journal says too little of `{name}` to close it, nor does the database: look")
    book = book_of(journals.lines[own])
    held = tuple(
        Recalled(
            owed=one, fate=Fate.HELD, why="another grant of the database holds the same access"
        )
        for one in gathered.owed
        if one.hold.grant in unknown and is_held(house.store, one.hold, book, clock())
    )
    unknown -= {one.owed.hold.grant for one in held}
    if not unknown:
        return Unknown(done=held, unusable=unusable, unread=unread)
    tell(f"closing {many(len(unknown), 'grant')} of this machine's journal, not in the database")
    every = recall(ground_of(found, tell, giving), gathered, min(patience, PATIENCE), only=unknown)
    done = (one for one in every if one.owed.hold.grant in unknown)
    return Unknown(done=(*done, *held), unusable=unusable, unread=unread)


def _matters(house: House, lines: Sequence[JournalLine]) -> bool:
    """Whether what others opened beside this may be open still: it may where ours has no line."""
    opened = [line for line in lines if line.kind == "intended"]
    return not opened or matters(house, opened[-1])


def _no_line(journals: Journals, seen: Witnessed, size: int) -> str:
    """Why nobody knows what else is open, where our journal has no line. Empty: it is as if nothing
    had ever been opened here, and no witness has, or may have, more than the database.
    """
    if journals.unread:
        return "; ".join(journals.broken)
    if seen.size <= size and not seen.unread:
        return ""
    why = "older than what was witnessed" if seen.size > size else "perhaps older than the witness"
    said = f" ({'; '.join(seen.doubts)})" if seen.unread else ""
    return (
        f"the database is {why}{said}, and this machine's journal is not there or has no line: "
        "what was opened since is not known"
    )
