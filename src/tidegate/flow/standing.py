"""Who administers a whole account, held against its baseline: whoever came afterwards is a finding.

A role's own look (`role_look.py`) sees who holds that role. This one sees who needs none, because a
policy of the account lets them do everything. It is slow on purpose and has a hand of its own: no
end and no look at a role waits for it. Nothing is removed.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import cache, partial

import structlog

from tidegate.base.errors import TidegateError, WorldFailed
from tidegate.catalogue import Target
from tidegate.connectors.port import Administrator, Connector, administrators
from tidegate.finding import ClosedHow, Finding, FindingKind, Sighting
from tidegate.flow.baseline import account_of, known_at, pace_of_account
from tidegate.flow.buckets import Bucket, bucket_of
from tidegate.flow.finding import end, see
from tidegate.flow.house import House
from tidegate.store import STANDING

log = structlog.get_logger("tidegate.standing")

STANDING_EVERY = timedelta(seconds=5)  # between two looks at whose turn it is
# Between two looks at one account. Each reads everybody there is in it, in a few large answers, of
# a right whose limit AWS does not state; who came to stay is there ten minutes later.
ACCOUNT_EVERY = timedelta(minutes=10)
LEASE = timedelta(minutes=5)  # longer than listing a large account
LONGEST_RUN = timedelta(seconds=1)  # of looks: no more are begun then, since a stop waits


def look_at_standing(house: House) -> int:
    """Look at the accounts that are due, one after the other; returns how many were looked at.

    Where no connector tells administrators, neither a cloud nor the database is asked anything.
    """
    named = {f"{STANDING}{one.id}": (one, bucket) for one, bucket in _told(house)}
    if not named:
        return 0
    looked, began, store = 0, house.now(), house.store
    for name in store.turns_to_take(tuple(named), store.now()):
        target, bucket = named[name]
        now = house.now()
        if now >= began + LONGEST_RUN:
            break
        # Like an opening: half of what an account saves up is kept for its ends.
        if bucket is not None and not house.buckets.may(bucket, True, now):
            continue
        turn = store.take_turn(name, store.now(), LEASE)
        if turn is None:
            continue
        try:
            looked += _look(house, target)
        finally:
            store.end_turn(turn, store.now() + ACCOUNT_EVERY)
    return looked


def _told(house: House) -> list[tuple[Target, Bucket | None]]:
    """The targets whose administrators are told, and what paces a look there."""
    catalogue = house.laws.catalogue
    kinds = {(role.target, role.kind): name for name, role in catalogue.roles.items()}
    found: list[tuple[Target, Bucket | None]] = []
    for (name, kind), role in sorted(kinds.items()):
        target = catalogue.target(name)
        connector = house.connectors.get(target.connector)
        if connector is not None and pace_of_account(house, connector, target) == kind:
            found.append((target, bucket_of(catalogue, role)))
    return found


def _look(house: House, target: Target) -> bool:
    """One account; whether it was looked at. Why it was not is told once, until that changes."""
    try:
        _hold_against(house, house.connector(target.connector), target)
    except TidegateError as fault:
        if house.unlooked.get(target.id) != fault.code:
            house.unlooked[target.id] = fault.code
            log.warning(
                "who administers the account is not told",
                target=target.id,
                code=fault.code,
                why=fault.message,
            )
        return False
    except Exception:  # the rim: one account's bug keeps no other from its look
        log.exception("who administers the account is not told", target=target.id)
        return False
    if house.unlooked.pop(target.id, None):
        log.info("who administers the account is told again", target=target.id)
    return True


def _hold_against(house: House, connector: Connector, target: Target) -> None:
    """Hold whom the account shows against whom we know: new ones are found, lost ones closed.

    Raises:
        WorldFailed: the cloud or the store did not answer; what was found before stays found.
    """
    place, now = account_of(target), house.now()
    read = partial(_read, connector, target, house)
    shown = read()
    # What a list lacks is asked for once more: it may be an old one.
    again = cache(read)
    known = known_at(house, place, shown.keys(), lambda: again().keys(), now)
    live = house.store.live_of_role(target.id, place.name)
    fault: WorldFailed | None = None
    for name, one in sorted(shown.items()):
        if name in known:
            continue
        try:
            see(house, _sighting(target, place.name, one), house.now())
        except WorldFailed as other:  # a damaged row of one keeps no other from being told
            fault = fault or other
    for finding in live:
        if _is_gone(finding, shown) and _is_gone(finding, again()):
            end(house, finding, ClosedHow.FIXED, house.now())
    if fault is not None:
        raise fault


def _read(connector: Connector, target: Target, house: House) -> Mapping[str, Administrator]:
    return {one.what: one for one in administrators(connector, target, house.now())}


def _is_gone(finding: Finding, shown: Mapping[str, Administrator]) -> bool:
    return finding.kind is FindingKind.STANDING and finding.what not in shown


def _sighting(target: Target, place: str, one: Administrator) -> Sighting:
    return Sighting(
        kind=FindingKind.STANDING,
        target=target.id,
        what=one.what,
        sort=one.sort,
        says=f"{one.says}, and nobody asked for it here",
        remedy=one.remedy,
        owner=target.owner,
        role=place,
    )
