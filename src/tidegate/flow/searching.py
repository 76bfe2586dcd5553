"""Searching: when a grant ends, what was made inside its window to come back by.

It runs beside the end and never holds it back. A search that fails is tried again a few times, then
says "not searched" and why: the end is told with it, never without. Nothing found is removed: each
is a finding with the command that removes it.
"""

from dataclasses import replace
from datetime import timedelta

import structlog

from tidegate.base.errors import Stale, TidegateError, WorldFailed
from tidegate.base.when import Instant
from tidegate.connectors.port import Hold, SideDoor, SideDoors
from tidegate.expire import Search, searched
from tidegate.finding import Finding, FindingKind, Sighting
from tidegate.flow.finding import owner_of, see
from tidegate.flow.holding import closing_hold
from tidegate.flow.house import House
from tidegate.flow.pace import pause
from tidegate.grant import Grant
from tidegate.store import Turn

log = structlog.get_logger("tidegate.searching")

SEARCH_TRIES = (
    5  # about half a minute of pauses: a cloud that is away longer is told, not waited for
)
SEARCH_WITHIN = timedelta(days=1)  # an end that nobody searched for so long was before this version
SEARCHES_AT_ONCE = 20  # grants a look
LEASE = timedelta(minutes=5)  # longer than listing a large account
MOST_FOUND = 100  # objects of one search in its event: more only say "everything"


def search_some(house: House) -> int:
    """Search for the grants that were removed and not searched yet; returns how many were told."""
    now = house.now()
    return sum(
        _search_one(house, grant)
        for grant in house.store.unsearched(now - SEARCH_WITHIN, SEARCHES_AT_ONCE)
    )


def _search_one(house: House, grant: Grant) -> bool:
    """One try; whether the search is over. Errors of one grant stop no other's."""
    turn = house.store.take_turn(f"search|{grant.id}", house.now(), LEASE)
    if turn is None:
        return False
    try:
        over = _try_once(house, grant, turn)
    except Stale:  # the grant moved on meanwhile: the next look takes it as it is
        house.store.end_turn(turn, house.now())
        return False
    except TidegateError as fault:
        log.warning("a search waits", grant=grant.id, code=fault.code, why=fault.message)
        return False
    if over:
        house.store.drop_turn(turn.name)
    return over


def _try_once(house: House, grant: Grant, turn: Turn) -> bool:
    tries = turn.tries + 1
    hold, since = closing_hold(house, grant), grant.opened_at
    until = grant.removed_at or house.now()
    if since is None:  # it never opened for certain, so there was no window
        since = grant.closing_at or until
    doors = _look(house, grant, hold, since, until)
    if doors.again and tries < SEARCH_TRIES:
        house.store.end_turn(
            replace(turn, tries=tries), house.now() + pause(tries, house.randomness(2))
        )
        return False
    found = [
        (door, see(house, _sighting(house, grant, hold, door), house.now()))
        for door in doors.found
        if not _ours(house, door)
    ]
    if doors.again_at is not None and house.now() < doors.again_at:
        house.store.end_turn(turn, doors.again_at)  # waiting for the cloud's records is no try
        return False
    search = Search(
        since=since,
        until=until,
        searched=doors.searched,
        found=tuple(_plain(door, finding) for door, finding in found)[:MOST_FOUND],
        why_not=doors.why_not,
        tries=tries,
    )
    house.store.commit(searched(house.store.grant(grant.id), search, house.now()))
    return True


def _look(house: House, grant: Grant, hold: Hold, since: Instant, until: Instant) -> SideDoors:
    """What the connector found; a cloud that fails is asked again, and told in the end."""
    keys = tuple(session.key_id for session in house.store.sessions(grant.id))
    connector = house.connector(hold.target.connector)
    try:
        return connector.side_doors(hold, keys, since, until, house.now())
    except WorldFailed as fault:
        return SideDoors(why_not=(f"{fault.code}: {fault.message}"[:400],), again=True)


def _ours(house: House, door: SideDoor) -> bool:
    """Whether it is access of ours, which has an end of its own."""
    row = house.store.assignment_by_key(door.key) if door.key else None
    return row is not None and not row.stood_before


def _sighting(house: House, grant: Grant, hold: Hold, door: SideDoor) -> Sighting:
    return Sighting(
        kind=FindingKind.SIDE_DOOR,
        target=hold.target.id,
        what=door.what,
        sort=door.sort,
        says=f"{door.says} of {grant.id} on {hold.role.id}",
        remedy=door.remedy,
        owner=owner_of(house, hold.target.id),
        role=hold.role.id,
        principal=grant.principal,
        grant=grant.id,
        by=door.by,
    )


def _plain(door: SideDoor, finding: Finding | None) -> dict[str, str]:
    return {
        "finding": finding.id if finding else "",
        "sort": door.sort,
        "what": door.what[:400],
        "remedy": door.remedy[:400],
    }
