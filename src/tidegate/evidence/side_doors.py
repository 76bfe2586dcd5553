"""What searches for side doors came to, in words: the same in a trace, a grant's view and a pack.

From sealed events alone. A word here is part of every report that tells it (`report.py`): another
word for it is a new version of the report.
"""

from collections.abc import Iterable, Mapping

from tidegate.base.text import short
from tidegate.evidence.events import Event

NOT_YET = "what was made meanwhile to come back by is not searched yet"
NONE_SEALED = "no search is sealed"


def search_says(event: Event) -> str:
    """What the search that `grant.searched` tells came to, with the finding of each object."""
    data = event.data
    found = data["found"] if isinstance(data["found"], list) else []
    named = ", ".join(_named(one) for one in found if isinstance(one, Mapping))
    untold = data["why_not"] if isinstance(data["why_not"], list) else []
    why = "; ".join(short(str(one)) for one in untold)
    if named:
        return f"found {named}" + (f"; not searched: {why}" if why else "")
    return f"not searched: {why}" if why else "searched, none found"


def side_doors_say(own: Iterable[Event]) -> tuple[str, ...]:
    """What is told of the side doors of a grant's end, by the events of that grant alone.

    Each search since it was removed, oldest first, and what is not searched yet; nothing while it
    is not removed. What was told of an end that was called back counts no longer.
    """
    ended, owed = False, False
    said: list[str] = []
    for event in own:
        match event.name:
            case "grant.contradicted" | "grant.resumed":
                ended, owed = False, False
                said.clear()
            case "grant.removed":
                ended = True
            case "grant.searched":
                owed = False
                said.append(search_says(event))
            case "leftover.closed":
                owed = True
    if owed:
        said.append(NOT_YET)
    return tuple(said) or ((NONE_SEALED,) if ended else ())


def _named(one: Mapping[str, object]) -> str:
    sort, what = short(str(one.get("sort"))), short(str(one.get("what", "")))
    return f"{sort} {what} ({short(str(one.get('finding')))})"
