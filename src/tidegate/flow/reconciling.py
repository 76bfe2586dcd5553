"""Reconciling: what a cloud shows, held against what we know, one role a step, for ever.

A *scope* is one role kind on one target. Its turn is taken by one process at a time and carries on
where the last one stopped, so a restart repeats at most one role. What is ours is closed again at
once; the rest is a finding: `role_look.py`.
"""

from dataclasses import replace
from datetime import timedelta

import structlog

from tidegate.base.errors import Stale, TidegateError, WorldFailed
from tidegate.catalogue import Target
from tidegate.flow.buckets import Bucket, bucket_of, pause_of
from tidegate.flow.finding import lapse_accepted
from tidegate.flow.house import House
from tidegate.flow.pace import LONGEST_PAUSE, pause
from tidegate.flow.role_look import Looked, look_at, tell
from tidegate.store import SCOPE, Turn

log = structlog.get_logger("tidegate.reconciling")

PASS_EVERY = timedelta(seconds=30)  # from the end of one look at a scope to the start of the next
# Between two roles of one scope: at most four lists a second and scope, a fifth of the 20 calls a
# second that Identity Center allows all its callers together.
STEP_PAUSE = timedelta(milliseconds=250)
PATIENT = 3  # tries before the roles after one that could not be looked at have their turn
DAMAGED = "row_unreadable"  # of a row no version of ours wrote: it will be so at the next try too
LEASE = timedelta(minutes=2)  # longer than the slowest list; another process goes on after it
# Looks of the first hand one after the other, each at another scope, so that a thousand roles in a
# hundred scopes have their turn within half a minute. What one account is asked is STEP_PAUSE's and
# its bucket's to bound, however many others there are.
LOOKED_AT_ONCE = 16
LONGEST_RUN = timedelta(seconds=1)  # of such looks: no more are begun then, since a stop waits
HELPED_AT_ONCE = 4  # looks a second of a hand that helps: others are only kept for a while
BESIDE_ENDS = 32  # of 256 asks: with an ask a half second or slower, a look in about four


def reconcile_step(house: House, hand: int = 0) -> Looked | None:
    """Look at the next role of the scope that is due the longest; None: nobody's turn, or no time.

    A cloud that does not answer makes only its own scope wait, longer each time, and keeps only the
    `hand` that asked it (`look_hands.py`). Turns go by the database's clock, as all who take them
    do: one of ours that is ahead would put them off.
    """
    named = {f"{SCOPE}{target.id}|{kind}": (target, kind) for target, kind in scopes(house)}
    now = house.store.now()
    for name in house.store.turns_to_take(tuple(named), now):
        target, kind = named[name]
        if not house.look_hands.may_take(hand, name, target.id):
            continue
        turn = house.store.take_turn(name, now, LEASE)
        if turn is not None:
            with house.look_hands.at(hand, target.id, house.now()):
                return _one_role(house, turn, target, kind)
    if hand == 0:
        lapse_accepted(house)
    return None


def scopes(house: House) -> list[tuple[Target, str]]:
    """Every role kind on every target of the catalogue in force."""
    catalogue = house.laws.catalogue
    found = {(role.target, role.kind) for role in catalogue.roles.values()}
    return [(catalogue.target(name), kind) for name, kind in sorted(found)]


def _one_role(house: House, turn: Turn, target: Target, kind: str) -> Looked | None:
    roles = sorted(
        (
            one
            for one in house.laws.catalogue.roles.values()
            if one.target == target.id and one.kind == kind
        ),
        key=lambda one: one.id,
    )
    waiting = [one for one in roles if one.id > turn.place]
    if not waiting:
        house.store.end_turn(replace(turn, place=""), house.store.now() + PASS_EVERY)
        return None
    role, last = waiting[0], len(waiting) == 1
    bucket = bucket_of(house.laws.catalogue, role.id)
    if bucket is not None and not _may_look(house, bucket):
        house.store.end_turn(turn, house.store.now() + pause_of(bucket))
        return None
    after = replace(turn, place="" if last else role.id)
    onward = PASS_EVERY if last else STEP_PAUSE
    try:
        looked = look_at(house, target, role)
    except Exception as fault:  # noqa: BLE001 - a rim: one role's trouble keeps no other from its look
        tell(fault, "a role could not be looked at", role)
        tried = turn.tries + 1
        silent = isinstance(fault, (WorldFailed, Stale)) and fault.code != DAMAGED
        if silent:
            house.look_hands.told(turn.name, answered=False)
            later = min(pause(tried, house.randomness(2)), LONGEST_PAUSE)
            onward = max(onward, later) if tried >= PATIENT else later
        # What only this role has would fail for ever, so the ones after it have their look first.
        moved_on = turn if silent and tried < PATIENT else after
        house.store.end_turn(replace(moved_on, tries=tried), house.store.now() + onward)
        return None
    house.look_hands.told(turn.name, answered=True)
    house.store.end_turn(replace(after, tries=0), house.store.now() + onward)
    return looked


def _may_look(house: House, bucket: Bucket) -> bool:
    """Whether the account may be asked for a list now.

    Ends come first, as before openings. Now and then a look goes beside them: in a long queue of
    ends, what came back after its own would stand for as long.
    """
    beside_ends = house.randomness(1)[0] < BESIDE_ENDS
    return house.buckets.may(bucket, not beside_ends, house.now())


def help_reconcile(house: House, hand: int) -> int:
    """Take on what hands before this one do not come to; returns how many roles were looked at."""
    if not house.look_hands.needed(hand, house.now()):
        return 0
    return reconcile_some(house, HELPED_AT_ONCE, hand)


def reconcile_some(house: House, most: int, hand: int = 0) -> int:
    """Up to `most` steps one after the other; returns how many roles were looked at.

    None begins after LONGEST_RUN. An error of one is told in the server's log, and ends the run.
    """
    looked, began = 0, house.now()
    for _ in range(most):
        if house.now() >= began + LONGEST_RUN:
            break
        try:
            if reconcile_step(house, hand) is None:
                break
        except TidegateError as fault:
            log.warning("reconciling waits", code=fault.code, why=fault.message)
            break
        looked += 1
    return looked
