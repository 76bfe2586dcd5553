"""Access that is gone before its end: a finding, and its holder is told, once each time.

It is never made again by itself: whoever took it away may have had a reason, and a person who still
needs it asks anew. Only where our own deadline in the cloud did it, since a later end never reached
it, does the grant end with it: nobody holds anything by it any more.
"""

from tidegate.base.errors import Stale
from tidegate.base.fact import SYSTEM, Change, Fact, Step
from tidegate.base.ids import NOTICE
from tidegate.base.when import Instant, wire
from tidegate.connectors.port import Connector, Hold, Scope
from tidegate.expire import EndReason
from tidegate.finding import Finding, FindingKind, Sighting
from tidegate.flow.ending import begin
from tidegate.flow.finding import looked_at, owner_of, sighted
from tidegate.flow.house import House
from tidegate.grant import Grant
from tidegate.notice import notice_of


def tell_early(house: House, grant: Grant, how: str, now: Instant) -> Finding | None:
    """The finding of it; opened (again) together with the notice to the holder, in one Step.

    None: somebody changed the finding in this very moment, and the next look sees.
    """
    target = grant.role.partition("/")[0]
    seen = Sighting(
        kind=FindingKind.GONE_EARLY,
        target=target,
        what=grant.id,
        sort="grant",
        says=f"the access of {grant.id} to {grant.role} was gone before its end: {how}",
        remedy=f"tidegate done {grant.id}, and ask again if it is still needed",
        owner=owner_of(house, target),
        role=grant.role,
        principal=grant.principal,
        grant=grant.id,
    )
    found = house.store.finding_of(seen.kind, seen.target, seen.what)
    step = sighted(house, found, seen, now)
    if step is None:
        return found and looked_at(house, found, now)
    if found is None or not found.live:
        step = step.then(_notice(house, grant, how, now))
    try:
        house.store.commit(step)
    except Stale:
        return None
    return house.store.finding_of(seen.kind, seen.target, seen.what)


def ended_by_our_deadline(
    house: House, connector: Connector, grant: Grant, hold: Hold, now: Instant
) -> bool:
    """Whether a deadline of before the extension took the access away; the grant then ends.

    For a caller that has the hold's key in hand and has just moved the deadline, so that what is
    there now stays until the new end.

    Raises:
        WorldFailed: the cloud or the store did not answer; nothing is decided.
    """
    powers = connector.powers(hold.role.kind)
    window, opened_at = grant.window_ends_at, grant.opened_at
    if powers.issues or window is None or opened_at is None:
        return False
    first_end = window - grant.extended
    settled = opened_at + powers.stale_window + powers.propagation
    if now < max(first_end, settled):
        return False
    if next(iter(connector.observe(Scope(target=hold.target, hold=hold), now))).usable:
        return False
    how = "the cloud ended it at its old end, since the new one had not reached it"
    if tell_early(house, grant, how, now) is not None:
        begin(house, house.store.grant(grant.id), EndReason.REVOKED, SYSTEM, house.ending_now())
    return True


def _notice(house: House, grant: Grant, how: str, now: Instant) -> Step:
    """What its holder is told, as a fact of the grant's chain. Moves no row of the grant."""
    if grant.ends_at is None:
        raise RuntimeError(f"{grant.id} is gone early without an end")
    fact = Fact(
        name="access.gone_early",
        subject=grant.request,
        actor=SYSTEM,
        data={
            "grant": grant.id,
            "request": grant.request,
            "at": wire(now),
            "principal": grant.principal,
            "role": grant.role,
            "notice": house.new_id(NOTICE, now),
            "how": how,
            "ends_at": wire(grant.ends_at),
        },
    )
    return Step((Change(0, notice_of(fact)),), (fact,))
