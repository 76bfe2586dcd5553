"""Searching: when a grant ends, what was made inside its window to come back by.

It runs beside the end and never holds it back. A search that fails is tried again a few times, then
says "not searched" and why: the end is told with it, never without. Nothing found is removed: each
is a finding with the command that removes it.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from tidegate.base.errors import Stale, TidegateError, WorldFailed
from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.connectors.port import Hold, SideDoor, SideDoors
from tidegate.expire import Search, searched
from tidegate.finding import Finding, FindingKind, Sighting
from tidegate.flow.finding import owner_of, see
from tidegate.flow.holding import closing_hold
from tidegate.flow.house import House
from tidegate.flow.pace import pause
from tidegate.grant import Grant
from tidegate.store import SEARCH, SEARCH_AGAIN, Turn

log = structlog.get_logger("tidegate.searching")

SEARCH_TRIES = (
    5  # about half a minute of pauses: a cloud that is away longer is told, not waited for
)
SEARCH_WITHIN = timedelta(days=1)  # an end that nobody searched for so long was before this version
AT_ONCE = 20  # searches of each sort a look
LOOKS_AGAIN = timedelta(minutes=15)  # at a search that waits: the delay of a cloud's records
MOVED_ON = timedelta(
    seconds=30
)  # until a grant that moved on while it was searched has ended again
LEASE = timedelta(minutes=5)  # longer than listing a large account
MOST_FOUND = 100  # objects of one search in its event: more only say "everything"


def search_some(house: House) -> int:
    """Search where access was removed, and where it came back and was closed again.

    Returns how many searches were told.
    """
    now, store = house.store.now(), house.store  # the clock that all who take turns share
    names = [
        *(f"{SEARCH}{one.id}" for one in store.unsearched(now - SEARCH_WITHIN, now, AT_ONCE)),
        *store.turns_due(SEARCH_AGAIN, now, AT_ONCE),
    ]
    return sum(_search_one(house, name) for name in names)


def owe_search(house: House, grant: Grant, since: Instant, until: Instant) -> None:
    """Have side doors searched for that were made between these, by access that came back.

    Its end does not wait for a database that cannot note it.
    """
    name = f"{SEARCH_AGAIN}{grant.id}|{to_ms(until)}"
    try:
        house.store.owe_turn(name, str(to_ms(since)), until)
    except WorldFailed as fault:
        log.warning("a search is not noted", grant=grant.id, code=fault.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One search: of whose end, over which window. `grant` is as it was when it began."""

    grant: Grant
    since: Instant
    until: Instant


def _task(house: House, turn: Turn) -> _Task | None:
    """What the turn is for: a window that was noted, or all of a grant's.

    None: nothing, for its search was told meanwhile, or it does not say which window.
    """
    again = turn.name.startswith(SEARCH_AGAIN)
    name = turn.name.split("|")[1]
    grant = house.store.grant(name)
    if again:
        try:
            until, since = from_ms(int(turn.name.rpartition("|")[2])), from_ms(int(turn.place))
        except (ValueError, OverflowError):
            log.warning("a search without a window is dropped", turn=turn.name)
            return None
        if not grant.searched:  # its own search is not told yet: this one is told for both
            since = min(since, grant.opened_at or since)
        return _Task(grant=grant, since=since, until=until)
    if grant.searched:
        return None
    until = _acts_until(grant) or house.now()
    # It never opened for certain: so there was no window.
    return _Task(grant=grant, since=grant.opened_at or grant.closing_at or until, until=until)


def _acts_until(grant: Grant) -> Instant | None:
    """Until when something may have been made by it: a session outlives the removal by a while."""
    if grant.removed_at is None or grant.residual_until is None:
        return grant.removed_at
    until = max(grant.removed_at, grant.residual_until)
    return min(until, grant.gone_at) if grant.gone_at else until


def _search_one(house: House, name: str) -> bool:
    """One try; whether the search was told. Errors of one grant stop no other's."""
    turn = house.store.take_turn(name, house.store.now(), LEASE)
    if turn is None:
        return False
    try:
        task = _task(house, turn)
        told = task is not None and _try_once(house, turn, task)
    except Stale:  # the grant moved on meanwhile: a later look takes it as it is
        house.store.end_turn(turn, house.store.now() + MOVED_ON)
        return False
    except TidegateError as fault:
        log.warning("a search waits", turn=name, code=fault.code, why=fault.message)
        return False
    except Exception:  # the rim: one search's bug must not stop the others
        log.exception("a search waits", turn=name)
        return False
    if told or task is None:
        house.store.drop_turn(turn.name)
    return told


def _try_once(house: House, turn: Turn, task: _Task) -> bool:
    tries = turn.tries + 1
    grant = task.grant
    hold, doors = _look(house, task)
    if doors.again and tries < SEARCH_TRIES:
        house.store.end_turn(
            replace(turn, tries=tries), house.store.now() + pause(tries, house.randomness(2))
        )
        return False
    found = [
        (door, see(house, _sighting(house, grant, hold, door), house.now()))
        for door in doors.found
        if hold is not None and not _ours(house, door)
    ]
    told_at = max(task.until, doors.again_at or task.until)
    now = house.ending_now()  # one of ours that is ahead would tell it while its sessions act
    if now < told_at:
        # Waiting for its sessions to end, or for the cloud's records, is no try. A cut may end them
        # sooner than was told.
        house.store.end_turn(turn, house.store.now() + min(told_at - now, LOOKS_AGAIN))
        return False
    search = Search(
        since=task.since,
        until=task.until,
        searched=doors.searched,
        found=tuple(_plain(door, finding) for door, finding in found)[:MOST_FOUND],
        why_not=doors.why_not,
        tries=tries,
    )
    now_is = house.store.grant(grant.id)
    if (now_is.removed_at, now_is.searched) != (grant.removed_at, grant.searched):
        # Called back meanwhile: this is not its end's search. Or another of it was told.
        raise Stale("moved_on", f"`{grant.id}` moved on while it was searched", "wait")
    house.store.commit(searched(now_is, search, house.now()))
    return True


def _look(house: House, task: _Task) -> tuple[Hold | None, SideDoors]:
    """What the connector found. Whatever fails is tried again, and told in the end: also a
    connector that is no longer in the settings, or a mistake of ours.
    """
    hold = None
    try:
        hold = closing_hold(house, task.grant)
        keys = tuple(session.key_id for session in house.store.sessions(task.grant.id))
        connector = house.connector(hold.target.connector)
        found = connector.side_doors(hold, keys, task.since, task.until, house.ending_now())
    except TidegateError as fault:
        why = f"{fault.code}: {fault.message}"[:400]
    except Exception as bug:  # noqa: BLE001 - a rim: a bug with one search is told, others go on
        log.error("a search met a mistake of ours", grant=task.grant.id, sort=type(bug).__name__)
        why = f"a mistake of ours: {type(bug).__name__}"
    else:
        return hold, found
    return hold, SideDoors(why_not=(why,), again=True)


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
