"""The cloud's own deadline of open access: the latest end of those who hold it, and no later.

An assignment's row keeps the end of a holder that left, so what the cloud is to have is asked of
the holders. Who may not set it asks a process that opens to look for itself: no instant travels.
"""

from collections.abc import Iterable, Mapping

from tidegate.base.errors import TidegateError
from tidegate.base.when import Instant
from tidegate.catalogue import Assignment
from tidegate.flow.holding import closing_hold
from tidegate.flow.house import House
from tidegate.grant import Grant, GrantState

NOT_KEPT = "none"  # the cloud keeps no deadline beside what it was given


def latest_end(house: House, holders: Iterable[str]) -> Instant | None:
    """When the last of these grants ends; None without any."""
    ends = [house.store.grant(name).ends_at for name in holders]
    return max((end for end in ends if end is not None), default=None)


def held_until(house: House, held: Assignment | None) -> Instant | None:
    """Until when grants hold this, as the closing journal is to know; None: none does, or the
    access is not ours to take at any time.
    """
    if held is None:
        return None
    try:
        return held_to(held, house.store.grants_named(held.holders))
    except TidegateError:
        return held_to(held, {})


def held_to(held: Assignment, known: Mapping[str, Grant]) -> Instant | None:
    """`held_until`, by those of its holders that are `known`."""
    return None if held.stood_before else last_end(known, held.holders, held.deadline_at)


def holds_on(grant: Grant, held_until: Instant | None) -> bool:
    """Whether what held the access of `grant` when it was read back has it still, by the rows.

    That is other grants, until `held_until`, or standing access. Without either its holders have
    ended since, so it is owed: the next look of a server calls it back.
    """
    return bool(grant.still_held_by) and (held_until is not None or grant.held_by_standing)


def last_end(
    known: Mapping[str, Grant], holders: Iterable[str], deadline_at: Instant
) -> Instant | None:
    """When the last of these holders of an assignment ends; None without any.

    Of one whose end is not known that is the assignment's deadline, the latest it ever had: it may
    be too late, and the worker is not.
    """
    ends = [known[name].ends_at if name in known else None for name in holders]
    return max((end or deadline_at for end in ends), default=None)


def arm_again(house: House, assignment: str) -> Mapping[str, str]:
    """Set the deadline of an assignment that open grants hold, as the store has them now.

    Returns the receipt's detail: `deadline` is `there`, `made`, `moved`, or `none` where none is
    kept. Empty: nothing is to be set now, or somebody else has it in hand.

    Raises:
        WorldFailed: the cloud or the store did not answer.
    """
    known = house.store.assignment(assignment)
    if known is None:
        return {}
    with house.store.only_one(known.key.text()) as ours:
        fresh = house.store.assignment(assignment) if ours else None
        if fresh is None or not fresh.holders or fresh.stood_before:
            return {}
        grant = house.store.grant(fresh.holders[-1])
        until = latest_end(house, fresh.holders)
        if grant.state is not GrantState.OPEN or until is None or house.now() >= until:
            return {}
        hold = closing_hold(house, grant)
        receipt = house.connector(hold.target.connector).arm(hold, until, house.now())
    return {"deadline": NOT_KEPT} if receipt is None else receipt.detail
