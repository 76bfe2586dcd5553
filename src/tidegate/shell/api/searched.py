"""What was found of the side doors of a grant's end, for whoever may be told.

Reads only. Whether a grant may be seen at all was asked before.
"""

from tidegate.base.errors import EvidenceBroken
from tidegate.evidence.seal import read_event
from tidegate.evidence.side_doors import side_doors_say
from tidegate.flow.house import Actor, House
from tidegate.flow.people import person_named
from tidegate.grant import Grant

UNREADABLE = "not known: the evidence cannot be read, `tidegate trace {grant}` says where"


def side_doors_of(house: House, actor: Actor, grant: Grant) -> list[str] | None:
    """What each search came to; None before the end is read back, and for its holder.

    The holder is not told, by any account of theirs: they would be told what was found.
    """
    if grant.removed_at is None or _holds(house, actor, grant):
        return None
    try:
        events = [read_event(leaf) for _, leaf in house.store.events(grant.request)]
    except EvidenceBroken:
        return [UNREADABLE.format(grant=grant.id)]
    return list(side_doors_say(event for event in events if event.data.get("grant") == grant.id))


def _holds(house: House, actor: Actor, grant: Grant) -> bool:
    return actor.id == grant.principal or person_named(house, grant.principal) == actor.person
