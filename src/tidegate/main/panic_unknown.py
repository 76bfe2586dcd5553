"""What a panic with a database does of grants that this database never heard of.

That is so after an older one was put back: this machine's journal names what was opened since. The
log has no grant to seal their ends of, so the journal alone tells of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tidegate.base.errors import TidegateError
from tidegate.base.fact import SYSTEM
from tidegate.base.text import many
from tidegate.evidence.journal import JournalLine
from tidegate.flow.confirming import is_unopened
from tidegate.flow.gathering import begin_all, gather
from tidegate.flow.holding import lines_by_grant
from tidegate.flow.house import House
from tidegate.flow.recalling import Recalled, recall
from tidegate.main.config import Config
from tidegate.main.emergency import Tell, ground_of, read_journals
from tidegate.main.owner import Giving
from tidegate.main.unknown import MOST_NAMED
from tidegate.main.wiring import clock
from tidegate.panic import Scope

# For these alone, before the others are watched: what is left then is begun in the journal, and
# closed by whoever closes on this machine.
PATIENCE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """What came of them. `unread`: why nobody can say which there are."""

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
        closed = sum(one.closed for one in self.done)
        words = [str(told["says"])]
        if self.done or self.unusable:
            words.append(
                f"{len(self.done) + len(self.unusable)} that this machine's journal names and the "
                f"database does not: {closed} removed"
            )
        more_done = [one for one in self.done if one.owed.hold.grant not in named]
        more_closed = sum(one.closed for one in more_done)
        more_unusable = sum(name not in named for name in self.unusable)
        more = [
            {"id": one.owed.hold.grant, "role": one.owed.hold.role.id, "says": one.why}
            for one in self.left
        ]
        return {
            **told,
            "safe": bool(told["safe"]) and not (self.left or self.unusable or self.unread),
            "says": "; ".join([*words, *([self.unread] if self.unread else [])]),
            "grants": told["grants"] + len(more_done) + more_unusable,
            "removed": told["removed"] + more_closed,
            "closing": told["closing"] + len(more_done) - more_closed,
            "unverified": told["unverified"] + more_unusable,
            "still": [*told["still"], *more][:MOST_NAMED],
        }


def close_unknown(
    found: Config, house: House, scope: Scope, patience: timedelta, tell: Tell, giving: Giving
) -> Unknown:
    """Close what this machine's journal has open in the scope and no row of the database names.

    Never raises for what the journal or the database is like: that is told, and no success.
    """
    own = str(found.path(found.evidence.journal))
    try:
        journals = read_journals(found, ())
        if not journals.lines.get(own):
            return Unknown(unread="; ".join(journals.broken) if journals.unread else "")
        gathered = begin_all(gather(journals.lines, own, clock()), scope, SYSTEM, clock())
        covered = {
            one.hold.grant
            for one in gathered.owed
            if scope.covers(one.hold.principal, one.hold.role.id)
            and (one.held or not one.settled(clock()))
        }
        known = _known(house, journals.lines[own], {*covered, *gathered.unusable})
    except (TidegateError, OSError) as fault:
        why = fault.message if isinstance(fault, TidegateError) else str(fault.strerror)
        unread = f"whether this machine's journal names more is not known: {why}"
        tell(unread)
        return Unknown(unread=unread)
    unread = "; ".join(journals.broken) if journals.unread else ""
    unknown = covered - known
    unusable = tuple(name for name in gathered.unusable if name not in known)
    for name in unusable:
        tell(f"the journal says too little of `{name}` to close it, nor does the database: look")
    if not unknown:
        return Unknown(unusable=unusable, unread=unread)
    tell(f"closing {many(len(unknown), 'grant')} of this machine's journal, not in the database")
    every = recall(ground_of(found, tell, giving), gathered, min(patience, PATIENCE), only=unknown)
    done = tuple(one for one in every if one.owed.hold.grant in unknown)
    return Unknown(done=done, unusable=unusable, unread=unread)


def _known(house: House, lines: Sequence[JournalLine], names: Collection[str]) -> set[str]:
    """Those of which a row says what became of their opening. One that cannot be read says nothing,
    nor does one of before it: as for a server, the journal's word holds then.
    """
    told = lines_by_grant(lines)
    rows = house.store.grants_named(names)
    return {name for name, grant in rows.items() if not is_unopened(grant, told.get(name, ()))}
