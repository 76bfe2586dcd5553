"""Ending: the decision to close, sealed. The calls that make it true are in `expiring.py`."""

from tidegate.base.errors import Stale
from tidegate.base.personal import Personal
from tidegate.base.text import LONGEST_REASON, clean_text
from tidegate.base.when import Instant
from tidegate.expire import EndReason, end
from tidegate.flow.allowing import Verb
from tidegate.flow.asking import TRIES
from tidegate.flow.house import Actor, House
from tidegate.flow.reading import find_grant
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


def end_early(house: House, actor: Actor, some_id: str, comment: str = "") -> Grant:
    """End a grant before its time: `done` by its owner, `revoked` by anybody else allowed to.

    Idempotent: a grant that is closing or over is returned as it is.

    Raises:
        NotFound, NotAllowed, AskedWrongly: as `reading.find_grant` tells.
    """
    words = clean_text("comment", comment, LONGEST_REASON) if comment.strip() else ""
    grant = find_grant(house, actor, some_id, Verb.REVOKE)
    reason = EndReason.DONE if grant.principal == actor.id else EndReason.REVOKED
    for tried in range(1, TRIES + 1):
        grant = house.store.grant(grant.id)
        if grant.over or grant.state in (GrantState.CLOSING, GrantState.REMOVED):
            return grant
        sealed = house.personal(words) if words else None
        try:
            return begin(house, grant, reason, actor.id, house.now(), sealed)
        except Stale:
            if tried == TRIES:
                raise
    return grant
