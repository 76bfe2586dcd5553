"""Baselines: what stood on a role when it was first looked at, so that only changes are findings.

One list a role, sealed in the target's chain and kept as a document. It never grows by itself:
whatever is new is a finding until an operator or the owner takes a new baseline, with a reason. It
shrinks by itself, so that access that was taken away and comes back is new.
"""

from collections.abc import Collection, Mapping

import orjson
import structlog

from tidegate.base.canonical import canonical
from tidegate.base.errors import Stale
from tidegate.base.fact import SYSTEM, Change, Fact, Step
from tidegate.base.personal import Personal
from tidegate.base.text import LONGEST_REASON, clean_text
from tidegate.base.when import Instant, wire
from tidegate.catalogue import Assignment, Baseline, Role, Target, evolve_baseline, target_chain
from tidegate.connectors.port import Connector, Scope, Seen
from tidegate.finding import ClosedHow, Finding, FindingKind, Sighting, closed
from tidegate.flow.allowing import allow_target
from tidegate.flow.house import Actor, House
from tidegate.grant import Grant

log = structlog.get_logger("tidegate.baseline")


def known_before(
    house: House,
    connector: Connector,
    target: Target,
    role: Role,
    standing: Mapping[str, Seen],
    now: Instant,
) -> frozenset[str]:
    """The native principals of the role's baseline; taken now if there is none.

    Also taken anew, by the system, when the catalogue points the role at another native one, and
    made smaller by what is gone from a list and from a second one.
    """
    before = _of_role(house, target, role)
    if before is None or before.native_role != native_name(role):
        _take(house, target, role, standing, before, SYSTEM, now)
        return frozenset(standing)
    names = _names(house, before)
    if missing := names - standing.keys():
        scope = Scope(target=target, role=role)
        again = {one.key.native_principal for one in connector.observe(scope, now) if one.usable}
        if left := missing - again:
            _take(house, target, role, names - left, before, SYSTEM, now)
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
        before = _of_role(house, target, role)
        _take(house, target, role, standing, before, actor.id, now, house.personal(words))
        for finding in house.store.live_of_role(target.id, role.id):
            if finding.kind is FindingKind.STANDING and finding.what in shown:
                step = closed(finding, ClosedHow.BASELINE, actor.id, now, house.personal(words))
                house.store.commit(step)
    return house.store.baselines(target.id)


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


def _of_role(house: House, target: Target, role: Role) -> Baseline | None:
    return next((one for one in house.store.baselines(target.id) if one.role == role.id), None)


def _names(house: House, baseline: Baseline) -> frozenset[str]:
    data = house.store.document(baseline.document)
    return frozenset(orjson.loads(data)["principals"]) if data else frozenset()


def _take(
    house: House,
    target: Target,
    role: Role,
    names: Collection[str],
    before: Baseline | None,
    actor: str,
    now: Instant,
    reason: Personal | None = None,
) -> None:
    document = canonical({"role": role.id, "principals": sorted(names)})
    fact = Fact(
        name="baseline.taken",
        subject=target_chain(target.id),
        actor=actor,
        data={
            "target": target.id,
            "role": role.id,
            "native_role": native_name(role),
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
        log.info("another process took the baseline", role=role.id)
