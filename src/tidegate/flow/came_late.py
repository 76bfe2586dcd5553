"""An opening call that took effect after its grant was over: taken away at once, and told.

It happens when whoever opens hangs in the cloud's call for longer than any call takes: a closer
then acts beside it, and proves an end that the call, landing later, undoes. The one who made the
call knows it first, so it does not wait for the next look at what stands in the cloud.
"""

import structlog

from tidegate.base.errors import NotFound, WorldFailed
from tidegate.connectors.port import Scope
from tidegate.finding import FindingKind, Sighting
from tidegate.flow.closing_again import close_again
from tidegate.flow.finding import see
from tidegate.flow.holding import closing_hold
from tidegate.flow.house import House
from tidegate.grant import Grant, GrantState

log = structlog.get_logger("tidegate.came_late")

# Until then a closer reads it back before it says anything: what came late is seen by itself.
SEEN_BY_ITSELF = frozenset(
    {GrantState.READY, GrantState.INTENDED, GrantState.OPEN, GrantState.CLOSING}
)


def take_back(house: House, grant: Grant) -> bool:
    """Whether an opening of `grant`, which moved on meanwhile, was found in the cloud.

    What is found is taken away, read back and sealed; what does not succeed stays an open finding
    that every later look tries again. Access that another grant holds, or that stood before, stays.
    """
    try:
        now_is = house.store.grant(grant.id)
        if now_is.state in SEEN_BY_ITSELF or now_is.ends_at is None:
            return False
        row = house.store.assignment(now_is.assignment)
        if row is None or row.holders or row.stood_before:
            return False
        hold = closing_hold(house, now_is)
        connector = house.connector(hold.target.connector)
        with house.store.only_one(row.key.text(), unasked=True):
            # NB. also when the key is not ours: nobody opens under it, and twice is as once.
            seen = next(iter(connector.observe(Scope(target=hold.target, hold=hold), house.now())))
            if not seen.usable or seen.inherited:
                return False
            found = see(house, _sighting(house, now_is, row.key.text()), house.now())
            if found is not None:
                close_again(house, connector, now_is, hold, found)
            return True
    except (NotFound, WorldFailed) as fault:
        log.warning("a late opening is not looked for yet", grant=grant.id, code=fault.code)
        return False


def _sighting(house: House, grant: Grant, what: str) -> Sighting:
    target = grant.role.partition("/")[0]
    known = house.laws.catalogue.targets.get(target)
    return Sighting(
        kind=FindingKind.LEFTOVER,
        target=target,
        what=what,
        sort="assignment",
        says=f"`{grant.role}`: our own call to open it took effect after it had ended",
        remedy=f"tidegate trace {grant.id}",
        owner=known.owner if known else "",
        role=grant.role,
        principal=grant.principal,
        grant=grant.id,
    )
