"""Ending: the decision to close, sealed. The calls that make it true are in `expiring.py`."""

from tidegate.base.personal import Personal
from tidegate.base.when import Instant
from tidegate.expire import EndReason, end
from tidegate.flow.house import House
from tidegate.grant import Cause, Grant, GrantState, failed


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
