"""Signing off: a named operator answers for an end that cannot be proven, and the tries stop (I2).

It is no proof, and no screen calls it gone: it says who answers for it, and why. Whoever finds the
access there again closes it as ever (`reconciling.py`); an operator may take the sign-off back.
"""

from tidegate.base.errors import NotAllowed, Stale
from tidegate.base.fact import Step
from tidegate.base.personal import Personal
from tidegate.base.text import LONGEST_REASON, clean_text
from tidegate.base.when import Instant
from tidegate.expire import resumed, signed_off
from tidegate.finding import ClosedHow, FindingKind, closed
from tidegate.flow.allowing import Verb
from tidegate.flow.house import Actor, House
from tidegate.flow.reading import find_grant
from tidegate.grant import Grant, GrantState

# An end that was only just decided is not one that cannot be proven.
UNPROVEN = frozenset({GrantState.CLOSING, GrantState.REMOVED})


def sign_off(house: House, actor: Actor, some_id: str, reason: str) -> Grant:
    """Stop trying to prove the end of a grant, on the actor's word.

    Raises:
        NotFound, NotAllowed, AskedWrongly: as `reading.find_grant`; no reason.
        NotAllowed: `not_unproven`: it is open, over, or was never tried.
        Stale: it moved on in this moment.
    """
    grant = find_grant(house, actor, some_id, Verb.SIGN_OFF)
    words = clean_text("reason", reason, LONGEST_REASON)
    tried = grant.outcome or grant.still_held_by
    if grant.state not in UNPROVEN or not tried:
        state = grant.state if grant.state not in UNPROVEN else f"{grant.state}, and going well"
        raise NotAllowed(
            "not_unproven",
            f"expected an end that was tried and is not proven, `{grant.id}` is `{state}`",
            f"see `tidegate trace {grant.id}`; end it first: `tidegate revoke {grant.id}`",
        )
    house.store.commit(_step(house, grant, actor, house.personal(words), house.now()))
    house.tries.forget(grant.id)
    return house.store.grant(grant.id)


def _step(house: House, grant: Grant, actor: Actor, reason: Personal, now: Instant) -> Step:
    """The sign-off, and with it the end of the finding that this end was late."""
    step = signed_off(grant, actor.id, reason, now)
    late = house.store.finding_of(FindingKind.LATE, grant.role.partition("/")[0], grant.id)
    if late is not None and late.live:
        step = step.then(closed(late, ClosedHow.RESOLVED, actor.id, now, reason))
    return step


def take_up_again(house: House, actor: Actor, some_id: str, reason: str) -> Grant:
    """Take a sign-off back: the end is tried again until it is known.

    Raises:
        NotFound, NotAllowed, AskedWrongly: as `sign_off`.
        Stale: `not_signed_off`: there is nothing to take back.
    """
    grant = find_grant(house, actor, some_id, Verb.SIGN_OFF)
    words = clean_text("reason", reason, LONGEST_REASON)
    if grant.state is not GrantState.SIGNED_OFF:
        raise Stale(
            "not_signed_off",
            f"expected a grant that was signed off, `{grant.id}` is `{grant.state}`",
            f"see `tidegate trace {grant.id}`",
        )
    house.store.commit(resumed(grant, actor.id, house.personal(words), house.now()))
    return house.store.grant(grant.id)
