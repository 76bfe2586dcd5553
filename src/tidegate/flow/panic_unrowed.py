"""What a panic ends that no row tells of: it was opened after the backup that was put back.

Only the closing journal of the machine that opened it names it. So every process that closes asks
its own, at each look at it, what was called since; whoever sweeps asks the one of its machine.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from tidegate.base.errors import EvidenceBroken
from tidegate.evidence.journal import JournalLine
from tidegate.evidence.journal_book import JournalBook, ends, is_begun, read_back
from tidegate.expire import EndReason
from tidegate.flow.confirming import is_unopened, tells
from tidegate.flow.holding import hold_of_line
from tidegate.flow.house import CLOCKS_APART, House
from tidegate.grant import Grant, GrantState
from tidegate.panic import Panic, Unrowed

log = structlog.get_logger("tidegate.panic_unrowed")

# Of which the journal may tell more than a row does; None: there is none, or it cannot be read.
DOUBTFUL = (None, GrantState.FAILED, GrantState.GONE, GrantState.SIGNED_OFF)
NEWEST = 100  # panics looked at: one that this many came after has been looked at before


def begin_unrowed(house: House) -> list[str]:
    """Begin in our journal what panics mean to end and this database does not know to be open.

    Returns the grants of it, whose lines a look at the journal closes by from then on.

    Raises:
        OSError: the journal cannot be read or written. WorldFailed: the store did not answer.
    """
    first = next((line.at for line in house.journal.book().waiting.values()), None)
    if first is None:
        return []
    since = first - CLOCKS_APART
    panics = [one for one in house.store.panics(limit=NEWEST) if one.called_at >= since]
    return [name for panic in panics for name in _begin(house, panic, _not_begun)]


def begin_of(house: House, panic: Panic) -> list[str]:
    """The same of one panic, with those whose end was begun before and is not read back, and those
    whose line says too little to close them.

    Raises:
        OSError, WorldFailed: as `begin_unrowed`.
    """
    return _begin(house, panic, lambda lines: read_back(lines) is None)


def _begin(
    house: House, panic: Panic, is_left: Callable[[Sequence[JournalLine]], bool]
) -> list[str]:
    book = house.journal.book()
    meant = [
        line.grant
        for line in book.waiting.values()
        if is_left(book.lines[line.grant]) and _means(panic, line)
    ]
    unrowed = _without_row(house, meant, book)
    data = {"reason": EndReason.PANIC.value, "actor": panic.actor}
    now = house.now()
    house.journal.append_all(
        JournalLine(kind="closing", grant=name, at=now, data=data)
        for name in unrowed
        if _not_begun(book.lines[name]) and _is_usable(book.waiting[name])
    )
    said = {name: f"{panic.id} {name}" for name in unrowed}
    if new := [name for name in unrowed if said[name] not in house.strange]:
        house.strange.update(said[name] for name in new)
        log.error("a panic ends what this database does not know", panic=panic.id, grants=new)
    return unrowed


def _not_begun(lines: Sequence[JournalLine]) -> bool:
    return not ends(lines)


def count_unrowed(house: House, names: Iterable[str], rows: Mapping[str, Grant]) -> Unrowed:
    """How those of `names` stand, by our journal, that no row of `rows` tells of.

    Where this machine's journal has nothing of one, another's may: nothing can be read of it. Nor
    can be of what has a row that is damaged.
    """
    missing = frozenset(names) - rows.keys()
    damaged = house.store.grant_states(missing).keys() if missing else frozenset()
    try:
        book = house.journal.book()
    except OSError as fault:
        log.error("the closing journal cannot be read", errno=fault.errno)
        return Unrowed(names=missing, unread=len(missing))
    forgotten = {
        name
        for name, row in rows.items()
        if name in book.waiting and not tells(row, book.lines[name])
    }
    removed, closing, unread = 0, 0, 0
    for name in missing | forgotten:
        lines = book.lines.get(name, ())
        last = read_back(lines)
        if name in damaged or (last is None and not is_begun(lines)):
            unread += 1
        elif last is None or last.uncut or last.held_until is not None:
            closing += 1
        elif last.held:
            unread += 1  # by what stood before, as far as that line knows
        else:
            removed += 1
    return Unrowed(
        names=missing | forgotten,
        newer=bool(missing - damaged)
        or any(is_unopened(rows[name], book.lines[name]) for name in forgotten),
        removed=removed,
        closing=closing,
        unread=unread,
    )


def _means(panic: Panic, line: JournalLine) -> bool:
    """Whether the panic is about what this line opened. Of a line that does not say whose it is, or
    of what, every panic is.
    """
    who, role = line.data.get("principal"), line.data.get("role")
    if not (isinstance(who, str) and isinstance(role, str)):
        return True
    return line.at <= panic.called_at + CLOCKS_APART and panic.scope.covers(who, role)


def _without_row(house: House, names: Sequence[str], book: JournalBook) -> list[str]:
    """Those of which no row says how they stand. A row that is ready to be opened is the sweep's,
    which ends it: it may be opened at this moment, and not have failed before.
    """
    states = house.store.grant_states(names) if names else {}
    doubtful = [name for name in names if states.get(name) in DOUBTFUL]
    rows = house.store.grants_named(doubtful) if doubtful else {}
    return [
        name
        for name in doubtful
        if (row := rows.get(name)) is None or not tells(row, book.lines[name])
    ]


def _is_usable(line: JournalLine) -> bool:
    try:
        hold_of_line(line)
    except EvidenceBroken as fault:
        log.error("a line of the journal cannot be used", grant=line.grant, why=fault.message)
        return False
    return True
