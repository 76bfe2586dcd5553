"""Following: what the rows say of ends that are not over, kept in this machine's closing journal.

Any process may have moved an end, or brought it about, and written so into its own journal. Without
the database each machine has only what its own says: until when a grant goes on, whether the access
was removed, whether its sessions were cut, who holds it on until when, and whether it came back.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import structlog

from tidegate.base.errors import TidegateError
from tidegate.base.when import wire
from tidegate.evidence.journal_book import ACTED, JournalBook, ends, is_begun, read_back
from tidegate.evidence.journal_line import HELD_UNTIL, ROW, JournalLine, removed_line
from tidegate.flow.deadlines import held_until, holds_on
from tidegate.flow.holding import hold_of_line
from tidegate.flow.house import House
from tidegate.grant import Grant, GrantState

log = structlog.get_logger("tidegate.following")

FOLLOWED_AT_ONCE = 2_000  # open grants a look: some 20 ms of it


def follow(house: House, book: JournalBook, states: Mapping[str, GrantState]) -> None:
    """Write what is new. `states` are those of grants the book waits for, read after the book.

    Raises:
        OSError: the journal cannot be written. WorldFailed: the store did not answer.
    """
    now = wire(house.now())
    asked = [name for name, state in states.items() if _may_be_new(book, name, state, now)]
    found = house.store.grants_named(asked)
    lines: list[JournalLine] = []
    for name in sorted(found):
        try:
            lines += _news(house, book, found[name])
        except TidegateError as fault:  # one grant's trouble must not keep the others open
            log.warning("the journal hears nothing of an end", grant=name, code=fault.code)
    house.journal.append_all(lines)


def follow_open(house: House, book: JournalBook) -> None:
    """Write which open grants' ends another machine moved, and until when others give the access.

    Not of what our journal has ended: its row is open until that is sealed, and it is over. A slice
    of those the journal waits for at a time, in turn: there may be tens of thousands.

    Raises:
        OSError: the journal cannot be written. WorldFailed: the store did not answer.
    """
    names = [name for name in book.waiting if not _is_ended(book.lines[name])]
    start = house.followed if house.followed < len(names) else 0
    house.followed = start + FOLLOWED_AT_ONCE
    open_ends = house.store.open_ends(names[start : house.followed])
    shared = house.store.shared(assignment for _, assignment in open_ends.values())
    lines: list[JournalLine] = []
    for name, (ends_at, assignment) in sorted(open_ends.items()):
        last, others = book.waiting[name], None
        if (held := shared.get(assignment)) and not held.stood_before:
            rest = tuple(other for other in held.holders if other != name)
            others = held_until(house, replace(held, holders=rest))
        data = {**last.data, "ends_at": wire(ends_at)}
        data.pop(HELD_UNTIL, None)
        if others is not None and others > ends_at:
            data[HELD_UNTIL] = wire(others)
        if data != last.data:
            # Of the instant of the opening, as it was: by it a list is told to be too old.
            lines.append(replace(last, data=data))
    house.journal.append_all(lines)


def _is_ended(lines: Sequence[JournalLine]) -> bool:
    """Whether its end was begun, or was read back."""
    return is_begun(lines) or read_back(lines) is not None


def _may_be_new(book: JournalBook, name: str, state: GrantState, now: str) -> bool:
    last = read_back(book.lines[name])
    if state is GrantState.CLOSING:
        return (last is not None and not last.alone) or _is_early(book, name, now)
    if state is GrantState.REMOVED:
        return last is None or last.alone or last.held or last.uncut
    return False


def _is_early(book: JournalBook, name: str, now: str) -> bool:
    """Whether an end that is sealed came before the one the journal knows, and is no line of it.

    It waits for its first try perhaps, and would not come at all without the database.
    """
    ends_at = book.waiting[name].data.get("ends_at")
    return isinstance(ends_at, str) and now < ends_at and not ends(book.lines[name])


def _news(house: House, book: JournalBook, grant: Grant) -> Iterator[JournalLine]:
    """The line the journal lacks, if it does.

    A `removed` line that is not of ours alone is written after it is sealed: a row that is closing
    after it was called back. The other way round a row tells nothing new that was removed before
    the last line: somebody who saw more (the access there again, a panic) wrote that since.
    """
    lines = [one for one in book.lines[grant.id] if one.kind in ("intended", "closing", *ACTED)]
    last = read_back(lines)
    if grant.state is GrantState.CLOSING and (last is None or not last.alone):
        data = {"reason": grant.end_reason, ROW: grant.version}
        yield JournalLine(kind="closing", grant=grant.id, at=house.now(), data=data)
    elif grant.state is GrantState.REMOVED and grant.removed_at is not None:
        new = _removed(house, book.waiting[grant.id], grant)
        known = last is not None and not last.alone and _same(last, new)
        if new is not None and not known and lines[-1].before(grant.version, new.at):
            yield new


def _same(last: JournalLine, new: JournalLine | None) -> bool:
    return new is not None and (last.held, last.held_until, last.uncut) == (
        new.held,
        new.held_until,
        new.uncut,
    )


def _removed(house: House, intended: JournalLine, grant: Grant) -> JournalLine | None:
    """What the row says, as a line of the instant that was sealed; None where it cannot be told."""
    until, apart = None, False
    if grant.still_held_by:
        until = held_until(house, house.store.assignment(grant.assignment))
        if not holds_on(grant, until):
            return None
    elif not grant.cut:
        try:
            hold = hold_of_line(intended)
            apart = house.connector(hold.target.connector).powers(hold.role.kind).cuts_apart
        except TidegateError:
            return None
    if grant.removed_at is None:
        return None
    return removed_line(
        grant.id,
        grant.removed_at,
        cut_before=grant.cut_before,
        uncut=apart,
        held=bool(grant.still_held_by),
        held_until=until,
    )
