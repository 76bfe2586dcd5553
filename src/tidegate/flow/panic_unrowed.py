"""What a panic ends that no row tells of: it was opened after the backup that was put back, or came
back after its end.

Only the closing journal of the machine that opened it, or closes it again, names it. So every
process that closes asks its own, when there are panics it has not asked about yet; whoever sweeps
asks the one of its machine at once. Either names in the panic what it begins.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from tidegate.base.duty import workers
from tidegate.base.errors import AskedWrongly, EvidenceBroken, TidegateError
from tidegate.base.when import Instant, parse_instant
from tidegate.connectors.port import Hold
from tidegate.evidence.journal import JournalLine
from tidegate.evidence.journal_book import JournalBook, ends, is_begun, read_back
from tidegate.evidence.journal_line import CLOCK_OFF
from tidegate.expire import EndReason
from tidegate.flow.confirming import is_held, tells
from tidegate.flow.holding import hold_of_line
from tidegate.flow.house import CLOCKS_APART, House
from tidegate.flow.panic_names import name_in, named_by
from tidegate.grant import Grant, GrantState
from tidegate.panic import Beside, Panic, PanicState, Unrowed
from tidegate.policy.rules import LONGEST_GRACE

log = structlog.get_logger("tidegate.panic_unrowed")

OLDER = (
    "the database is older than what was opened: what only the journals of other machines name is "
    "ended there, and counted here once it is named"
)
FORKED = (
    "the log does not extend what was witnessed: what was opened after this database, and no "
    "journal here names, is not counted"
)
UNREAD = (
    "a process that closes could not read its closing journal, and that may name more: "
    "`tidegate doctor` says which one"
)

NOTICED = timedelta(days=1)  # a backup is put back within that of what was opened last
UNKNOWN_HERE = "no row tells of it, nor does this machine's journal: look at the other machines"
NOT_BEGUN = (
    "no row tells of it, and this machine's closing journal took no word of its end: "
    "`tidegate revoke --local` here ends it"
)
BY_JOURNAL = "no row tells of it; it is being closed from the journal"
# Rows that may say nothing of what the journal opened. None: there is none.
UNTELLING = (None, GrantState.FAILED, GrantState.GONE, GrantState.SIGNED_OFF)


@dataclass(frozen=True, slots=True)
class Untold:
    """What a line opened, and no row tells of. `newer`: it was opened after what the row knows."""

    line: JournalLine
    newer: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """What is found while counting."""

    closing: list[Beside] = field(default_factory=list)
    unread: list[Beside] = field(default_factory=list)


def begin_unrowed(house: House) -> list[str]:
    """Begin in our journal, and name in the panic, what one means to end and no row tells of.

    Returns the grants, for a look at the journal that closes them. Asks nothing while no panic was
    called since it was all done, but anew every few minutes.

    Raises:
        OSError: the journal cannot be read or written. WorldFailed: the store did not answer.
    """
    count = house.store.panic_count()
    if count == house.asked.panics:
        return []
    book = house.journal.book()
    untold = _untold(house, tuple(book.waiting.values()), book)
    house.asked.older = any(one.newer and matters(house, one.line) for one in untold)
    owed = _left([one.line for one in untold], book)
    meant: dict[tuple[str, str], list[JournalLine]] = {}
    for line in owed:
        who, role = line.data.get("principal"), line.data.get("role")
        panic = house.store.panic_about(str(who), str(role), _opened_by(line))
        if panic is not None:
            meant.setdefault(panic, []).append(line)
    begun: list[str] = []
    for (panic_id, actor), some in meant.items():
        begun += _begin(house, some, book, actor)
        if not _is_named(house, panic_id, [line.grant for line in some]):
            count = -1  # the next look tries again
    house.asked.panics = count
    return begun


def begin_of(house: House, panic: Panic) -> list[str]:
    """Begin what `panic` means to end and no row tells of, as far as our journal names it.

    Returns what is to be named in it: also those whose end was begun before and is not read back,
    and those of which the journal says too little, or that cannot be begun now. Where the journal
    cannot be read there are none, and `doubt_of` says so.

    Raises:
        WorldFailed: the store did not answer.
    """
    try:
        book = house.journal.book()
        meant = _left([one for one in book.waiting.values() if _means(panic, one)], book)
        lines = [one.line for one in _untold(house, meant, book)]
    except OSError as fault:
        log.error("the closing journal cannot be read", panic=panic.id, errno=fault.errno)
        return []
    try:
        _begin(house, lines, book, panic.actor)
    except OSError as fault:  # each look at the journal tries again
        log.error("the closing journal cannot be written", panic=panic.id, errno=fault.errno)
    return [line.grant for line in lines]


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
        why = "this machine's closing journal cannot be read, and may name more"
        unread = tuple(Beside(id=name, says="no row tells of it") for name in sorted(missing))
        return Unrowed(names=missing, unread=unread, why=why)
    untold = {
        name: row
        for name, row in rows.items()
        if name in book.waiting and not tells(row, book.lines[name])
    }
    removed, counted = 0, Counted()
    until: Instant | None = None
    for name in sorted(missing | untold.keys()):
        lines = book.lines.get(name, ())
        last = read_back(lines)
        if name in damaged:
            counted.unread.append(_beside(name, lines, "its row cannot be read"))
        elif last is None and not is_begun(lines):
            says = NOT_BEGUN if name in book.waiting else UNKNOWN_HERE
            counted.unread.append(_beside(name, lines, says))
        elif last is None or last.held_until is not None or _acts_uncut(house, last, lines):
            counted.closing.append(_beside(name, lines, BY_JOURNAL))
        elif last.held:  # by what stood before, as far as that line knows
            counted.unread.append(_beside(name, lines, "removed, and what stood before gives it"))
        else:
            removed += 1
            acts = _may_act_until(house, last, lines)
            until = max(filter(None, (until, acts)), default=None)
    return Unrowed(
        names=missing | untold.keys(),
        newer=any(_is_newer(house, name, rows.get(name), book) for name in untold)
        or any(_is_newer(house, name, None, book) for name in missing - damaged),
        removed=removed,
        residual_until=until if until is not None and until > house.now() else None,
        closing=tuple(counted.closing),
        unread=tuple(counted.unread),
    )


def doubt_of(house: House, unrowed: Unrowed, now: Instant) -> str:
    """Why there may be more open than a panic counts; empty: nothing says that there is.

    That the database is older than what was opened every process tells the others by its beat, and
    that it cannot know: a process that was killed says so for as long as its beat is kept.
    """
    if unrowed.why:
        return unrowed.why
    if house.forked(now) is not None:
        return FORKED
    if not house.store.is_shared:
        return ""
    seen = workers(house.store.beats())
    if unrowed.newer or house.asked.older or any(one.ahead for one in seen):
        return OLDER
    return "" if all(one.reads for one in seen) else UNREAD


def _beside(name: str, lines: Sequence[JournalLine], says: str) -> Beside:
    role = next((one.data.get("role") for one in lines if one.kind == "intended"), "")
    return Beside(id=name, role=role if isinstance(role, str) else "", says=says)


def _is_before(row: Grant) -> bool:
    """Whether a row that does not tell is of before the opening. Else it is over, and it came back,
    or a late call made it.
    """
    return row.state in (GrantState.READY, GrantState.FAILED) and row.ends_at is None


def _is_newer(house: House, name: str, row: Grant | None, book: JournalBook) -> bool:
    """Whether it shows that the database is older than what may be open on other machines."""
    line = book.waiting.get(name)
    return (row is None or _is_before(row)) and (line is None or matters(house, line))


def matters(house: House, line: JournalLine) -> bool:
    """Whether what others opened beside this, before the backup was put back, may be open still.

    Where the cloud ends everything itself: for as long as any rule lets something be open, or this
    was to be, and NOTICED. Else a machine that is lost leaves it open, and nobody knows how long.
    Where there are no rules nobody knows what they let be open before.
    """
    rules = house.laws.rules.rules.values()
    if not rules or not _ends_itself(house, line):
        return True
    longest = max(rule.max for rule in rules)
    until = line.at
    with suppress(AskedWrongly):
        until = max(until, parse_instant(str(line.data.get("ends_at"))))
    try:
        return house.now() < max(until, line.at + longest + LONGEST_GRACE) + NOTICED
    except OverflowError:  # of no calendar: a line nobody of ours wrote
        return True


def _ends_itself(house: House, line: JournalLine) -> bool:
    """Whether the cloud itself refuses after its end whatever is handed out here, and was by this
    line: its role may be in the catalogue no more.
    """
    targets, roles = house.laws.catalogue.targets, house.laws.catalogue.roles.values()
    kinds = {(targets[role.target].connector, role.kind) for role in roles}
    kinds.add((str(line.data.get("connector")), str(line.data.get("kind"))))
    try:
        return bool(roles) and all(
            house.connector(connector).powers(kind).native_deadline for connector, kind in kinds
        )
    except TidegateError:
        return False


def _left(lines: Iterable[JournalLine], book: JournalBook) -> list[JournalLine]:
    """Those of which no line says that they were read back as removed, sessions and all, and that
    nothing else gives the access.
    """
    found = ((line, read_back(book.lines[line.grant])) for line in lines)
    return [line for line, last in found if last is None or last.uncut or last.held]


def _acts_uncut(house: House, last: JournalLine, lines: Sequence[JournalLine]) -> bool:
    """Whether its sessions were not seen cut, and may act still, also by a clock that is off."""
    if not last.uncut:
        return False
    until = _may_act_until(house, last, lines)
    return until is None or house.now() < until + CLOCK_OFF


def _opened_by(line: JournalLine) -> Instant:
    """When it was opened at the earliest, by whoever's clock."""
    try:
        return line.at - CLOCKS_APART
    except OverflowError:  # the first second of the calendar
        return line.at


def _means(panic: Panic, line: JournalLine) -> bool:
    """Whether the panic is about what this line opened. Of a line that does not say whose it is, or
    of what, every panic is.
    """
    who, role = line.data.get("principal"), line.data.get("role")
    if not (isinstance(who, str) and isinstance(role, str)):
        return True
    return _opened_by(line) <= panic.called_at and panic.scope.covers(who, role)


def _untold(house: House, lines: Sequence[JournalLine], book: JournalBook) -> list[Untold]:
    """Those whose row does not tell how the access stands: it is of before the opening, or over,
    and the access came back. A row that is ready to be opened is the sweep's, which ends it: it may
    be opened at this moment, and not have failed before.
    """
    states = house.store.grant_states([line.grant for line in lines]) if lines else {}
    doubtful = [one for one in lines if states.get(one.grant) in UNTELLING]
    rows = house.store.grants_named([one.grant for one in doubtful]) if doubtful else {}
    found = ((one, rows.get(one.grant)) for one in doubtful)
    return [
        Untold(line=line, newer=row is None or _is_before(row))
        for line, row in found
        if row is None or not tells(row, book.lines[line.grant])
    ]


def _begin(house: House, lines: Sequence[JournalLine], book: JournalBook, actor: str) -> list[str]:
    """Write that the end of each is begun; which of them are to be closed.

    What another grant holds by the rows is left to that one's end (I5).

    Raises:
        OSError: the journal cannot be written. WorldFailed: the store did not answer.
    """
    now = house.due_now()
    told = [
        line.grant
        for line in lines
        if (hold := _hold(line)) is not None and not is_held(house.store, hold, book, now)
    ]
    data, at = {"reason": EndReason.PANIC.value, "actor": actor}, house.now()
    new = [name for name in told if not ends(book.lines[name])]
    house.journal.append_all(
        JournalLine(kind="closing", grant=name, at=at, data=data) for name in new
    )
    if new:
        log.error("a panic ends what this database does not know", grants=new)
    return told


def _is_named(house: House, panic_id: str, names: Sequence[str]) -> bool:
    """Have the panic name these; whether it does. Closing them does not wait for it, and a sweep
    that goes on is not disturbed: its next step would be refused as stale.
    """
    try:
        known = set(named_by(house, panic_id))
        if new := [name for name in names if name not in known]:
            panic = house.store.panic(panic_id)
            if panic.state is PanicState.CALLED:
                return False
            name_in(house, panic, new)
    except TidegateError as fault:
        log.warning("what a panic ends is not named in it yet", panic=panic_id, code=fault.code)
        return False
    return True


def _hold(line: JournalLine) -> Hold | None:
    try:
        return hold_of_line(line)
    except EvidenceBroken:
        return None  # too little to close it: it is named, and a person has to look


def _may_act_until(
    house: House, removed: JournalLine, lines: Sequence[JournalLine]
) -> Instant | None:
    """Until when a session taken before the removal may act; what nobody here knows is long."""
    opening = [line for line in lines if line.kind == "intended"]
    hold = _hold(opening[-1]) if opening else None
    if hold is None:
        return None
    try:
        try:
            connector = house.connector(hold.target.connector)
            lives = connector.residual(hold.target, hold.role, removed.cut_before is not None)
        except TidegateError:
            lingers = opening[-1].data.get("lingers_seconds")
            lives = timedelta(seconds=lingers if isinstance(lingers, int) else 0)
        return removed.at + lives
    except OverflowError:  # of no calendar: a line nobody of ours wrote
        return None
