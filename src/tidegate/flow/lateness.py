"""An end past its bound is a finding: found while it is late, and when it was late.

The bound is `[lateness] bound`, else what the role kind promises (the exposure sealed with the
grant), at least LEAST_BOUND. A finding of a late end does not go away by itself when the end comes:
somebody says why it was late.
"""

from datetime import timedelta
from itertools import chain

import structlog

from tidegate.base.errors import TidegateError
from tidegate.base.when import Instant, show_duration, wire
from tidegate.finding import FindingKind, Sighting
from tidegate.flow.finding import see
from tidegate.flow.house import House
from tidegate.grant import Grant

log = structlog.get_logger("tidegate.lateness")

LEAST_BOUND = timedelta(minutes=2)  # an end that takes longer is late, whatever was promised
# Closing grants a look, shared by the targets they are on: beyond it the findings there are enough
# to begin with, as long as they are those of the ends that wait longest.
AT_ONCE = 200
MOST_UNJUDGED = 10_000  # a journal that cannot be read for days: the rest is judged by the rows


def bound_of(house: House, grant: Grant) -> timedelta:
    """How long after its end a grant may take to be read back as removed."""
    return house.late_after or max(LEAST_BOUND, grant.exposure)


def find_late(house: House) -> list[str]:
    """Open a finding for each grant that is closing past its bound; returns their ids.

    Of each target those that wait longest: no target's backlog hides a late end on another.
    """
    targets = house.store.ending_targets()
    share = max(1, AT_ONCE // max(1, len(targets)))
    now, at_once = house.now(), timedelta(0)
    closing = (one for name in targets for one in house.store.late((name,), now, at_once, share))
    waiting: dict[str, Grant] = {}
    if house.looked_back and house.unjudged:
        unjudged, house.unjudged = house.unjudged, set()
        waiting = house.store.grants_named(unjudged)
    these = chain(waiting.values(), closing)
    return [grant.id for grant in these if note_late(house, grant, house.now())]


def note_removed(house: House, grant: Grant) -> None:
    """`note_late` of a grant that was just removed.

    Whether one was removed in time without the database the journal says; until that is read after
    a start, `find_late` judges it later: no other end waits for the reading.
    """
    if house.looked_back or len(house.unjudged) >= MOST_UNJUDGED:
        note_late(house, grant, house.now())
    else:
        house.unjudged.add(grant.id)


def note_late(house: House, grant: Grant, now: Instant) -> bool:
    """A finding if `grant` is past its bound at `now`; whether it is. Never raises TidegateError.

    Asked of every grant at its removal, and of those that are not removed.
    """
    due, now = grant.had_to_end_at, grant.removed_at or now
    if due is None or now - due <= bound_of(house, grant) or _in_time(house, grant, due, now):
        return False
    if grant.removed_at is not None:
        state = f"was read back as removed {show_duration(now - due)} late"
    else:
        state = "had to end, and is not read back as removed"
    _tell(house, grant, due, state, now)
    return True


def note_acting(house: House, grant: Grant, now: Instant) -> bool:
    """A finding if sessions of `grant` may act past its bound, though it was read back as removed:
    one was seen to, or they are not seen cut. Whether it is. Never raises TidegateError.
    """
    due, bound = grant.had_to_end_at, bound_of(house, grant)
    if not grant.acted:  # as long as was promised they may act, whatever is called late
        bound = max(bound, grant.exposure)
    if due is None or now - due <= bound:
        return False
    sessions = "a session of it still acts" if grant.acted else "its sessions are not seen cut"
    _tell(house, grant, due, f"was read back as removed, and {sessions}", now)
    return True


def _tell(house: House, grant: Grant, due: Instant, state: str, now: Instant) -> None:
    target = grant.role.partition("/")[0]
    known = house.laws.catalogue.targets.get(target)
    bound = show_duration(bound_of(house, grant))
    sighting = Sighting(
        kind=FindingKind.LATE,
        target=target,
        what=grant.id,
        sort="grant",
        says=f"`{grant.role}`: the end of {wire(due)} {state}; its bound is {bound}",
        remedy=f"tidegate trace {grant.id}",
        owner=known.owner if known else "",
        role=grant.role,
        principal=grant.principal,
        grant=grant.id,
    )
    try:
        see(house, sighting, now)
    except TidegateError as fault:  # the end itself does not wait for what is said about it
        log.warning("a late end has no finding yet", grant=grant.id, code=fault.code)


def _in_time(house: House, grant: Grant, due: Instant, now: Instant) -> bool:
    """Whether it was read back as removed within its bound while the database was away.

    Only the journal says so until that is sealed. When it did not hold, closing goes on past its
    bound by the database too, and that is late.
    """
    bound = bound_of(house, grant)
    if grant.closing_at is None or now - grant.closing_at > bound:
        return False
    try:
        lines = house.journal.book().lines.get(grant.id, ())
    except OSError:
        return False
    return any(line.ends_alone and line.at - due <= bound for line in lines)
