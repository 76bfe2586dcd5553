"""Adopting: an end whose opening another machine wrote into its journal, written into ours.

Where the rows can be read and not written (a full disk, a newer release that moved the schema),
ends go on from the journal of each machine, and it names what that machine opened. Whoever else
opened a grant may be dead.
"""

from datetime import timedelta

import structlog

from tidegate.base.errors import TidegateError
from tidegate.flow.granting import intended_line
from tidegate.flow.holding import closing_hold
from tidegate.flow.house import House
from tidegate.grant import Grant

log = structlog.get_logger("tidegate.adopting")

# How long an end is left to whoever opened it: longer than it takes a living process to take up
# what a dead one had in hand, so that two do not ask a cloud for the same.
OVERDUE = timedelta(seconds=15)
AT_ONCE = 500  # grants a look; the rest comes with the next ones


def adopt(house: House, grant: Grant) -> bool:
    """Have our journal know what must be known to close `grant`; whether it was new there.

    Raises:
        OSError: the journal cannot be written.
        TidegateError: nothing here says what to close, or how long its sessions live.
    """
    lines = house.journal.book().lines.get(grant.id, ())
    if grant.ends_at is None or any(line.kind == "intended" for line in lines):
        return False
    hold = closing_hold(house, grant)
    lingers = house.connector(hold.target.connector).lingers(hold.target, hold.role)
    made_at = grant.opened_at or house.now()
    house.journal.append(intended_line(hold, hold.stood_before, lingers, made_at))
    return True


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
