"""Adopting: an end whose opening another machine wrote into its journal, written into ours.

Where the rows can be read and not written (a full disk, a newer release that moved the schema),
ends go on from the journal of each machine, and it names what that machine opened. Whoever else
opened a grant may be dead. And where some process opens and does not close, no journal it writes
need be one that a closer reads: each closer's names what is open anywhere, while the rows tell.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import islice

import structlog

from tidegate.base.duty import Duty, workers
from tidegate.base.errors import TidegateError, WorldFailed
from tidegate.base.when import Instant, wire
from tidegate.catalogue import Assignment
from tidegate.connectors.port import Hold
from tidegate.evidence.journal_line import HELD_UNTIL, ROW, JournalLine
from tidegate.flow.deadlines import held_until
from tidegate.flow.granting import intended_line
from tidegate.flow.holding import closing_hold, hold_of
from tidegate.flow.house import House
from tidegate.grant import UNREMOVED, Grant, GrantState

log = structlog.get_logger("tidegate.adopting")

# How long an end is left to whoever opened it: longer than it takes a living process to take up
# what a dead one had in hand, so that two do not ask a cloud for the same.
OVERDUE = timedelta(seconds=15)
AT_ONCE = 500  # grants in one breath: half a megabyte of journal
MOST = 5_000  # grants a look, some seconds of it; the rest comes with the next ones
READ_AT_ONCE = 20_000  # ids of grants in one question: some 20 ms of it
PAGES = 10  # questions a look
AGAIN = timedelta(minutes=1)  # until a grant whose row did not say what to close is tried again


def adopt(house: House, grant: Grant, read_at: Instant) -> bool:
    """Have our journal know what must be known to close `grant`; whether it was new there.

    `read_at`: from before its row was read, by no clock that is ahead (`reading_at`).

    Raises:
        OSError: the journal cannot be written.
        TidegateError: nothing here says what to close, or how long its sessions live.
    """
    if grant.ends_at is None or _has_opening(house.journal.book().lines.get(grant.id, ())):
        return False
    assignment = house.store.assignment(grant.assignment) if grant.assignment else None
    hold = closing_hold(house, grant, assignment)
    house.journal.append_all(_lines(house, grant, hold, assignment, read_at))
    return True


def reading_at(house: House) -> Instant:
    """Now, by no clock that is ahead: whoever ends what is read from here on does so later."""
    return min(house.now(), house.store.now())


def adopt_open(house: House) -> int:
    """Adopt what may be there and our journal does not name; how many grants were new in it.

    What is open, what may be since a reply was lost, and what is being closed. Nothing where every
    process that opened something of late closes too: its own journal is enough. Where the log forks
    the rows are of an older database, and nothing they call open is believed.

    Raises:
        OSError: the journal cannot be written. WorldFailed: the store did not answer.
    """
    if not _opened_apart(house) or house.forked(house.now()):
        return 0
    new = 0
    for _ in range(PAGES):
        names = house.store.unremoved_after(house.adopted_to, READ_AT_ONCE)
        while (some := _unnamed(house, names)) and new < MOST:
            new += len(_adopt(house, some, house.journal.append_adopted))
        if some:
            log.warning("more is open than the journal took up at once: it goes on", new=new)
            break  # at the same page, the next time
        house.adopted_to = names[-1] if len(names) == READ_AT_ONCE else ""
        if not house.adopted_to:
            break
    return new


def adopt_overdue(house: House) -> list[str]:
    """Adopt every end that the rows call overdue; which grants are new in our journal.

    Raises:
        OSError: the journal cannot be written. WorldFailed: the rows cannot be read.
    """
    overdue = house.store.overdue(house.now(), OVERDUE, READ_AT_ONCE)
    adopted = _adopt(house, _unnamed(house, overdue), house.journal.append_all)
    if adopted:
        log.warning("ends that another machine left are closed from our journal", grants=adopted)
    return adopted


def lacking_line(
    house: House, grant: Grant, hold: Hold, assignment: Assignment | None
) -> JournalLine | None:
    """What our journal lacks to go on with an end that is taken up here, without the database.

    None: it names the opening, or has not been read yet; no end waits for a journal to be read.
    """
    known = house.journal.known(grant.id)
    if known is None or _has_opening(known):
        return None
    try:
        return _lines(house, grant, hold, assignment, house.now())[0]
    except TidegateError as fault:  # the end goes on by the rows all the same
        log.warning("an end is not taken up in the journal", grant=grant.id, code=fault.code)
        return None


def _unnamed(house: House, names: Iterable[str]) -> list[str]:
    """The first of these whose opening our journal does not have, and not tried in vain just now.

    Else rows that do not say what to close would stand before the others for ever.
    """
    lines, since = house.journal.book().lines, house.now() - AGAIN
    before = dict(house.unadopted)  # another thread may adopt too
    tried = house.unadopted = {name: at for name, at in before.items() if at > since}
    new = (n for n in names if n not in tried and not _has_opening(lines.get(n, ())))
    return list(islice(new, AT_ONCE))


def _has_opening(lines: Iterable[JournalLine]) -> bool:
    return any(line.kind == "intended" for line in lines)


def _adopt(
    house: House, names: list[str], append: Callable[[Iterable[JournalLine]], None]
) -> list[str]:
    read_at = reading_at(house)
    found = house.store.grants_named(names)
    assignments = house.store.assignments_named(one.assignment for one in found.values())
    lines: list[JournalLine] = []
    try:
        for name in names:
            told = _lines_of_row(house, found.get(name), assignments, read_at)
            if not told:
                house.unadopted[name] = house.now()
            lines += told
    finally:  # the store may go in the middle, and those before are known
        had = house.journal.book().lines  # a hand may have taken one up meanwhile
        new = [line for line in lines if not _has_opening(had.get(line.grant, ()))]
        append(new)
    return [line.grant for line in new if line.kind == "intended"]


def _lines_of_row(
    house: House, grant: Grant | None, assignments: Mapping[str, Assignment], read_at: Instant
) -> Sequence[JournalLine]:
    """What the journal is to know of this grant; nothing: its row does not say what to close.

    Raises:
        WorldFailed: the store does not answer, which is no fault of this row.
    """
    if grant is None or grant.state not in UNREMOVED or grant.ends_at is None:
        return ()
    assignment = assignments.get(grant.assignment)
    if assignment is None:
        return ()
    try:
        return _lines(house, grant, hold_of(house, grant, assignment), assignment, read_at)
    except WorldFailed:
        raise
    except TidegateError as fault:  # one grant's trouble must not keep the others open
        log.warning("an end is not taken up", grant=grant.id, code=fault.code)
    except Exception:  # the rim: nor must a row of a shape that nobody here foresaw
        log.exception("an end is not taken up", grant=grant.id)
    return ()


def _opened_apart(house: House) -> bool:
    """Whether something may be open that no process which closes has opened.

    Who only closes opened nothing itself. Any other has seen one that only opens beat, of late or
    before: one that stopped since left what it opened.
    """
    if Duty.OPEN in house.duties and not house.opened_apart:
        seen = workers(house.store.beats())
        house.opened_apart = any(
            Duty.OPEN in one.duties and Duty.CLOSE not in one.duties for one in seen
        )
    return Duty.OPEN not in house.duties or house.opened_apart


def _lines(
    house: House, grant: Grant, hold: Hold, assignment: Assignment | None, read_at: Instant
) -> list[JournalLine]:
    """What was opened, and until when others give the same; and that its end was begun."""
    lingers = house.connector(hold.target.connector).lingers(hold.target, hold.role)
    # Never later than what others wrote of its end since: by that it would be an opening anew.
    made_at = grant.opened_at or grant.closing_at or read_at
    opening = intended_line(hold, hold.stood_before, lingers, made_at)
    others = tuple(one for one in (assignment.holders if assignment else ()) if one != grant.id)
    until = (
        held_until(house, replace(assignment, holders=others)) if assignment and others else None
    )
    if until is not None:
        opening = replace(opening, data={**opening.data, HELD_UNTIL: wire(until)})
    if grant.state is not GrantState.CLOSING:
        return [opening]
    data = {"reason": grant.end_reason, ROW: grant.version}
    return [opening, JournalLine(kind="closing", grant=grant.id, at=house.now(), data=data)]
