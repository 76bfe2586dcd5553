"""Baselines: what stood on a role when it was first looked at, so that only changes are findings.

So too who administered an account when that was first looked at. One list a role, and one an
account, sealed in the target's chain and kept as a document. It never grows by itself: whatever is
new is a finding until an operator or the owner takes a new baseline, with a reason. It shrinks by
itself, so that access that was taken away and comes back is new.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import orjson
import structlog

from tidegate.base.canonical import canonical
from tidegate.base.errors import Refused, Stale
from tidegate.base.fact import SYSTEM, Change, Fact, Step
from tidegate.base.personal import Personal
from tidegate.base.text import LONGEST_REASON, clean_text
from tidegate.base.when import Instant, wire
from tidegate.catalogue import Assignment, Baseline, Role, Target, evolve_baseline, target_chain
from tidegate.connectors.partly_told import PartlyTold
from tidegate.connectors.port import Connector, Scope, Seen, administrators, paced_as
from tidegate.finding import ClosedHow, Finding, FindingKind, Sighting, closed
from tidegate.flow.allowing import allow_target
from tidegate.flow.house import Actor, House
from tidegate.grant import Grant

log = structlog.get_logger("tidegate.baseline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a baseline is of. `name` is the role's id, or TARGET/* for all of an account; `native`
    what that is in the cloud, in one line: another one is another place."""

    target: str
    name: str
    native: str


def place_of(target: Target, role: Role) -> Place:
    """A role."""
    return Place(target=target.id, name=role.id, native=native_name(role))


def account_of(target: Target) -> Place:
    """The whole of an account."""
    return Place(target=target.id, name=f"{target.id}/*", native=target.account)


def pace_of_account(house: House, connector: Connector, target: Target) -> str:
    """The role kind at whose pace administrators are told there (`paced_as`); empty: they are not.

    Nor are they where somebody called a role `*`: its baseline would be the account's.
    """
    if account_of(target).name in house.laws.catalogue.roles:
        return ""
    return paced_as(connector, target)


def known_before(
    house: House,
    connector: Connector,
    target: Target,
    role: Role,
    standing: Mapping[str, Seen],
    now: Instant,
) -> frozenset[str]:
    """The native principals of the role's baseline: `known_at`."""

    def again() -> Collection[str]:
        scope = Scope(target=target, role=role)
        return {one.key.native_principal for one in connector.observe(scope, now) if one.usable}

    return known_at(house, place_of(target, role), standing.keys(), again, now)


def known_at(
    house: House,
    place: Place,
    standing: Collection[str],
    again: Callable[[], Collection[str]],
    now: Instant,
) -> frozenset[str]:
    """The names in the baseline of a place; taken now if there is none.

    Also taken anew, by the system, when the catalogue points at another native one, and made
    smaller by what is gone from the list that showed `standing` and from a second one, `again`.
    """
    before = _of(house, place)
    if before is None or before.native_role != place.native:
        _take(house, place, standing, before, SYSTEM, now)
        return frozenset(standing)
    names = _names(house, before)
    if (missing := names - set(standing)) and (left := missing - set(again())):
        _take(house, place, names - left, before, SYSTEM, now)
        return names - left
    return names


def take_baseline(house: House, actor: Actor, target_id: str, reason: str) -> list[Baseline]:
    """Call everything that stands on a target now known, with a reason; its findings are closed.

    A finding of access that is not shown stays open: only looks say that it is gone.

    Raises:
        NotFound: no such target. NotAllowed: neither its owner nor an operator.
        WorldFailed: the cloud did not answer; roles taken before that stay taken.
    """
    target = house.laws.catalogue.target(target_id)
    allow_target(house, actor, target.id)
    words = clean_text("reason", reason, LONGEST_REASON)
    connector = house.connector(target.connector)
    for role in sorted(house.laws.catalogue.roles.values(), key=lambda one: one.id):
        if role.target != target.id:
            continue
        now = house.now()
        showing = tuple(connector.observe(Scope(target=target, role=role), now))
        standing = {
            seen.key.native_principal
            for seen in showing
            if seen.usable and not _is_ours(house, seen)
        }
        shown = {seen.key.text() for seen in showing if seen.usable}
        _call_known(house, place_of(target, role), standing, shown, actor, words)
    _call_administrators_known(house, connector, target, actor, words)
    return house.store.baselines(target.id)


def _call_administrators_known(
    house: House, connector: Connector, target: Target, actor: Actor, words: str
) -> None:
    """Those of the whole account, where they are told.

    Who may not look there, and never did, takes the baseline of the roles all the same. Any other
    trouble is raised: else whoever asks would take the account for known.
    """
    if not pace_of_account(house, connector, target):
        return
    place = account_of(target)
    try:
        shown = {one.what for one in administrators(connector, target, house.now())}
    except Refused as no:
        trouble = isinstance(no, PartlyTold) and no.code != "access_denied"
        if trouble or _of(house, place) is not None:
            raise
        log.warning("who administers the account is not told", target=target.id, code=no.code)
        return
    _call_known(house, place, shown, shown, actor, words)


def _call_known(
    house: House,
    place: Place,
    standing: Collection[str],
    shown: Collection[str],
    actor: Actor,
    words: str,
) -> None:
    """Take the baseline of a place, and close the findings of what it shows."""
    now = house.now()
    _take(house, place, standing, _of(house, place), actor.id, now, house.personal(words))
    for finding in house.store.live_of_role(place.target, place.name):
        if finding.kind is FindingKind.STANDING and finding.what in shown:
            step = closed(finding, ClosedHow.BASELINE, actor.id, now, house.personal(words))
            house.store.commit(step)


def standing_of(target: Target, role: Role, seen: Seen) -> Sighting:
    """Access to a role that nobody asked us for, as a look shows it."""
    key = seen.key
    how = f"by {seen.inherited}" if seen.inherited else "directly"
    who = f"`{key.native_principal}` of `{key.native_role}` in `{key.account}`"
    return Sighting(
        kind=FindingKind.STANDING,
        target=target.id,
        what=key.text(),
        sort="group assignment" if seen.inherited else "assignment",
        says=f"{key.native_principal} holds {role.id} {how}, and nobody asked for it here",
        remedy=seen.detail.get("remedy") or f"remove {who}",
        owner=target.owner,
        role=role.id,
        by=seen.detail.get("by", ""),
    )


def native_name(role: Role) -> str:
    """What a role is in the cloud, in one line: another one is another role."""
    return canonical(dict(role.native)).decode()


def maker_of(house: House, row: Assignment, seen: Seen) -> Grant | None:
    """The grant that made the access shown; None: somebody else did.

    A grant that failed made nothing, so it makes nothing ours either: only where the cloud itself
    says that we made it, was it that one.
    """
    if seen.inherited:
        return None
    if row.stood_before:
        return _returned(house, row)
    if not seen.foreign:
        return house.store.last_grant_on(row.id)
    return house.store.last_made_on(row.id)


def _returned(house: House, row: Assignment) -> Grant | None:
    """The grant whose return is on record, of access that another one opened upon as it stood.

    Nothing opens upon a return before it is closed, unless somebody signed for it. It stood before
    for the grant that opened then, and stays ours: it goes when the sign-off is over.
    """
    last = house.store.last_grant_on(row.id)
    found = last and returned(house, last.role.partition("/")[0], row)
    return house.store.grant(found[0].grant) if found else None


def returned(house: House, target: str, row: Assignment) -> tuple[Finding, ...]:
    """The findings, open or closed, that access of ours was there again."""
    kinds = (FindingKind.READDED, FindingKind.LEFTOVER)
    known = (house.store.finding_of(kind, target, row.key.text()) for kind in kinds)
    return tuple(one for one in known if one is not None)


def _is_ours(house: House, seen: Seen) -> bool:
    row = house.store.assignment_by_key(seen.key)
    return row is not None and maker_of(house, row, seen) is not None


def _of(house: House, place: Place) -> Baseline | None:
    return next(
        (one for one in house.store.baselines(place.target) if one.role == place.name), None
    )


def _names(house: House, baseline: Baseline) -> frozenset[str]:
    data = house.store.document(baseline.document)
    return frozenset(orjson.loads(data)["principals"]) if data else frozenset()


def _take(
    house: House,
    place: Place,
    names: Collection[str],
    before: Baseline | None,
    actor: str,
    now: Instant,
    reason: Personal | None = None,
) -> None:
    document = canonical({"role": place.name, "principals": sorted(names)})
    fact = Fact(
        name="baseline.taken",
        subject=target_chain(place.target),
        actor=actor,
        data={
            "target": place.target,
            "role": place.name,
            "native_role": place.native,
            "count": len(names),
            "document": house.store.keep_document("baseline", document),
            "before": before.document if before else None,
            "reason": reason.commitment if reason else None,
            "at": wire(now),
        },
    )
    after = evolve_baseline(before, fact)
    change = Change(before.version if before else 0, after)
    try:
        house.store.commit(Step((change,), (fact,), (reason,) if reason else ()))
    except Stale:
        log.info("another process took the baseline", role=place.name)
