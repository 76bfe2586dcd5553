"""Ending: the decision to close, sealed, and the journal's lines about what is done then.

The calls that make it true are in `expiring.py`.
"""

import structlog

from tidegate.base.personal import Personal
from tidegate.base.when import Instant
from tidegate.evidence.journal_line import JournalLine
from tidegate.expire import EndReason, end
from tidegate.flow.house import House
from tidegate.grant import Cause, Grant, GrantState, failed

log = structlog.get_logger("tidegate.ending")


def begin(
    house: House,
    grant: Grant,
    reason: EndReason,
    actor: str,
    now: Instant,
    comment: Personal | None = None,
) -> Grant:
    """Seal that `grant` is closing; a grant not yet intended simply never opens.

    Raises:
        Stale: it is closing or over already, or moved on in this moment.
    """
    assignment = house.store.assignment(grant.assignment) if grant.assignment else None
    if grant.state is GrantState.READY:
        why = f"ended before it opened ({reason})"
        house.store.commit(failed(grant, None, Cause.ENDED_BEFORE, why, now, actor))
    else:
        house.store.commit(end(grant, assignment, reason, actor, now, comment))
    return house.store.grant(grant.id)


def write_down(house: House, *lines: JournalLine) -> None:
    """Lines around a closing call. A journal that cannot be written never stops closing."""
    try:
        house.journal.append_all(lines)
    except OSError as fault:
        log.error("closing journal cannot be written", grant=lines[0].grant, errno=fault.errno)
