"""Adopting: an end whose opening another machine wrote into its journal, written into ours.

Where the rows can be read and not written (a full disk, a newer release that moved the schema),
ends go on from the journal of each machine, and it names what that machine opened. Whoever else
opened a grant may be dead. And where some process opens and does not close, no journal it writes
need be one that a closer reads: each closer's names what is open anywhere, while the rows tell.
"""

from datetime import timedelta

import structlog

from tidegate.base.duty import Duty, workers
from tidegate.base.errors import TidegateError
from tidegate.evidence.journal_line import JournalLine
from tidegate.flow.granting import intended_line
from tidegate.flow.holding import closing_hold
from tidegate.flow.house import House
from tidegate.grant import Grant, GrantState

log = structlog.get_logger("tidegate.adopting")

# How long an end is left to whoever opened it: longer than it takes a living process to take up
# what a dead one had in hand, so that two do not ask a cloud for the same.
OVERDUE = timedelta(seconds=15)
AT_ONCE = 500  # grants a look; the rest comes with the next ones
READ_AT_ONCE = 20_000  # ids of open grants a look: some 20 ms of it


def adopt(house: House, grant: Grant) -> bool:
    """Have our journal know what must be known to close `grant`; whether it was new there.

    Raises:
        OSError: the journal cannot be written.
        TidegateError: nothing here says what to close, or how long its sessions live.
    """
    lines = house.journal.book().lines.get(grant.id, ())
    if grant.ends_at is None or any(line.kind == "intended" for line in lines):
        return False
    house.journal.append(_line(house, grant))
    return True


def adopt_open(house: House) -> int:
    """Adopt what is open and our journal does not name; how many grants were new there.

    Nothing where every process that opened something of late closes too: its own journal is enough.
    Where the log forks the rows are of an older database, and nothing they call open is believed.

    Raises:
        OSError: the journal cannot be written. WorldFailed: the store did not answer.
    """
    if not _opened_apart(house) or house.forked(house.now()):
        return 0
    names = house.store.open_after(house.adopted_to, READ_AT_ONCE)
    known = house.journal.book().lines
    new = [name for name in names if name not in known]
    some = new[:AT_ONCE]
    if len(new) > len(some):
        house.adopted_to = some[-1]
    else:
        house.adopted_to = names[-1] if len(names) == READ_AT_ONCE else ""
    lines: list[JournalLine] = []
    for _, grant in sorted(house.store.grants_named(some).items()):
        try:
            if grant.state is GrantState.OPEN:
                lines.append(_line(house, grant))
        except TidegateError as fault:  # one grant's trouble must not keep the others open
            log.warning("an end is not taken up", grant=grant.id, code=fault.code)
    house.journal.append_all(lines)
    return len(lines)


def _opened_apart(house: House) -> bool:
    seen = workers(house.store.beats())
    return any(Duty.OPEN in one.duties and Duty.CLOSE not in one.duties for one in seen)


def _line(house: House, grant: Grant) -> JournalLine:
    hold = closing_hold(house, grant)
    lingers = house.connector(hold.target.connector).lingers(hold.target, hold.role)
    made_at = grant.opened_at or house.now()
    return intended_line(hold, hold.stood_before, lingers, made_at)


def adopt_overdue(house: House) -> list[str]:
    """Adopt every end that the rows call overdue; which grants are new in our journal.

    Raises:
        OSError: the journal cannot be written. WorldFailed: the rows cannot be read.
    """
    store, now = house.store, house.now()
    overdue = store.unsealed_ends(now - OVERDUE, AT_ONCE)
    overdue += store.late(tuple(store.ending_targets()), now, OVERDUE, AT_ONCE)
    adopted: list[str] = []
    for grant in overdue:
        try:
            if adopt(house, grant):
                adopted.append(grant.id)
        except TidegateError as fault:  # one grant's trouble must not keep the others open
            log.warning("an end is not taken up", grant=grant.id, code=fault.code)
    if adopted:
        log.warning("ends that another machine left are closed from our journal", grants=adopted)
    return adopted
