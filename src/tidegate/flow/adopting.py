"""Adopting: an end whose opening another machine wrote into its journal, written into ours.

Where the rows can be read and not written (a full disk, a newer release that moved the schema),
ends go on from the journal of each machine, and it names what that machine opened. Whoever else
opened a grant may be dead. And where some process opens and does not close, no journal it writes
need be one that a closer reads: each closer's names what is open anywhere, while the rows tell.
"""

from collections.abc import Iterable
from datetime import timedelta
from itertools import islice

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
READ_AT_ONCE = 20_000  # ids of grants a look: some 20 ms of it
UNREMOVED = (GrantState.INTENDED, GrantState.OPEN, GrantState.CLOSING)
AGAIN = timedelta(minutes=1)  # until a grant whose row did not say what to close is tried again


def adopt(house: House, grant: Grant) -> bool:
    """Have our journal know what must be known to close `grant`; whether it was new there.

    Raises:
        OSError: the journal cannot be written.
        TidegateError: nothing here says what to close, or how long its sessions live.
    """
    if grant.ends_at is None or _has_opening(house.journal.book().lines.get(grant.id, ())):
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
    some = _unnamed(house, names)
    if len(some) == AT_ONCE:
        house.adopted_to = some[-1]
    else:
        house.adopted_to = names[-1] if len(names) == READ_AT_ONCE else ""
    return len(_adopt(house, some))


def adopt_overdue(house: House) -> list[str]:
    """Adopt every end that the rows call overdue; which grants are new in our journal.

    Raises:
        OSError: the journal cannot be written. WorldFailed: the rows cannot be read.
    """
    overdue = house.store.overdue(house.now(), OVERDUE, READ_AT_ONCE)
    adopted = _adopt(house, _unnamed(house, overdue))
    if adopted:
        log.warning("ends that another machine left are closed from our journal", grants=adopted)
    return adopted


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


def _adopt(house: House, names: list[str]) -> list[str]:
    found = house.store.grants_named(names)
    lines: list[JournalLine] = []
    for name in names:
        grant = found.get(name)
        try:
            if grant is not None and grant.state in UNREMOVED and grant.ends_at is not None:
                lines.append(_line(house, grant))
                continue
        except TidegateError as fault:  # one grant's trouble must not keep the others open
            log.warning("an end is not taken up", grant=name, code=fault.code)
        house.unadopted[name] = house.now()
    house.journal.append_all(lines)
    return [line.grant for line in lines]


def _opened_apart(house: House) -> bool:
    seen = workers(house.store.beats())
    return any(Duty.OPEN in one.duties and Duty.CLOSE not in one.duties for one in seen)


def _line(house: House, grant: Grant) -> JournalLine:
    hold = closing_hold(house, grant)
    lingers = house.connector(hold.target.connector).lingers(hold.target, hold.role)
    made_at = grant.opened_at or house.now()
    return intended_line(hold, hold.stood_before, lingers, made_at)
