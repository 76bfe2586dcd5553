"""Who administers a whole account, held against its baseline: whoever came afterwards is a finding.

A role's own look (`role_look.py`) sees who holds that role. This one sees who needs none, because a
policy of the account lets them do everything. It is slow on purpose and has a hand of its own: no
end and no look at a role waits for it. Nothing is removed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial

import orjson
import structlog

from tidegate.base.errors import TidegateError, WorldFailed, one_line
from tidegate.catalogue import Baseline, Target
from tidegate.connectors.partly_told import Certain, PartlyTold, certain_of
from tidegate.connectors.port import Administrator, Connector, Trouble, administrators
from tidegate.finding import ClosedHow, Finding, FindingKind, Sighting
from tidegate.flow.baseline import Place, account_of, known_at, pace_of_account
from tidegate.flow.buckets import Bucket, bucket_of
from tidegate.flow.finding import end, see
from tidegate.flow.house import House
from tidegate.store import STANDING

log = structlog.get_logger("tidegate.standing")

STANDING_EVERY = timedelta(seconds=5)  # between two looks at whose turn it is
# Between two looks at one account. Each reads everybody there is in it, in a few large answers, of
# a right whose limit AWS does not state; who came to stay is there ten minutes later.
LOOKED = ("", "", "")  # nothing is wrong with the last look
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
        before = house.unlooked.get(target.id, LOOKED)
        house.unlooked[target.id] = (fault.code, one_line(fault.message), one_line(fault.help))
        if before[0] != fault.code:
            how = "told in part" if isinstance(fault, PartlyTold) else "not told"
            log.warning(
                f"who administers the account is {how}",
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


def untold(house: House) -> dict[str, Trouble]:
    """By target, what keeps whoever comes to administer its account from being a finding.

    `no_baseline` until one was taken of this very account; else what the last look could not tell.
    Of looks it knows this process's own alone. Asks no cloud. Nothing of it shuts.

    Raises:
        WorldFailed: the store did not answer.
    """
    found: dict[str, Trouble] = {}
    for target, _ in _told(house):
        code, why, fix = house.unlooked.get(target.id, LOOKED)
        why = f"({code}) {why}" if code else "no look of this process took it yet"
        if _baseline_of(house, account_of(target)) is None:
            fix = fix or "if it stays, the log of the process that closes says why"
            fix += "; a look that reads every role kind of the account takes it by itself, ten "
            fix += "minutes after the last one"
            said = f"no baseline of who administers account `{target.account}`, so whoever comes "
            said += f"to is no finding: {why}"
            found[target.id] = Trouble(code="no_baseline", message=said, help=fix, shuts=False)
        elif code:
            said = "the last look of this process could not tell all who administer account "
            said += f"`{target.account}`: {why}"
            found[target.id] = Trouble(code=code, message=said, help=fix, shuts=False)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What one look showed, by name: also where a part of it failed, and then why."""

    told: Mapping[str, Administrator]
    certain: Certain
    fault: WorldFailed | None = None

    def stays(self, name: str) -> bool:
        """Whether it shows this name, or cannot say that it is gone."""
        return name in self.told or not self.certain(name)


def _hold_against(house: House, connector: Connector, target: Target) -> None:
    """Hold whom the account shows against whom we know: new ones are found, lost ones closed.

    Of a part that could not be looked at nobody is lost, and no first baseline is taken.

    Raises:
        WorldFailed: the cloud or the store did not answer; what was found before stays found.
    """
    place, now = account_of(target), house.now()
    shown = _read(connector, target, house)
    if shown.fault is not None and _baseline_of(house, place) is None:
        raise shown.fault
    # What a list lacks is asked for once more: it may be an old one.
    again = cache(partial(_read_again, connector, target, house))
    known = known_at(
        house,
        place,
        _names_of(house, place, shown),
        lambda: _names_of(house, place, again()),
        now,
    )
    live = house.store.live_of_role(target.id, place.name)
    fault: WorldFailed | None = None
    for name, one in sorted(shown.told.items()):
        if name in known:
            continue
        try:
            see(house, _sighting(target, place.name, one), house.now())
        except WorldFailed as other:  # a damaged row of one keeps no other from being told
            fault = fault or other
    for finding in live:
        if _is_gone(finding, shown) and _is_gone(finding, again()):
            end(house, finding, ClosedHow.FIXED, house.now())
    # Asked for again only where something is missing: whatever failed there is told, too.
    second = again().fault if again.cache_info().currsize else None
    if told := fault or shown.fault or second:
        raise told


def _read(connector: Connector, target: Target, house: House) -> _Shown:
    try:
        told, fault = administrators(connector, target, house.now()), None
        certain = certain_of(told)
    except PartlyTold as partly:
        told, certain, fault = partly.told, partly.certain, partly
    return _Shown(told={one.what: one for one in told}, certain=certain, fault=fault)


def _read_again(connector: Connector, target: Target, house: House) -> _Shown:
    """The second list; where there is none, nobody is gone, and who is new is told all the same."""
    try:
        return _read(connector, target, house)
    except WorldFailed as fault:
        return _Shown(told={}, certain=lambda name: False, fault=fault)


def _baseline_of(house: House, place: Place) -> Baseline | None:
    """Its baseline; None where none was taken of this very account, so that one is taken now."""
    for one in house.store.baselines(place.target):
        if one.role == place.name and one.native_role == place.native:
            return one
    return None


def _names_of(house: House, place: Place, shown: _Shown) -> frozenset[str]:
    """The names it shows, with those of the baseline that it cannot say are gone."""
    before = _baseline_of(house, place)
    data = house.store.document(before.document) if before else None
    names = orjson.loads(data)["principals"] if data else ()
    return frozenset(shown.told) | {name for name in names if shown.stays(name)}


def _is_gone(finding: Finding, shown: _Shown) -> bool:
    return finding.kind is FindingKind.STANDING and not shown.stays(finding.what)


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
