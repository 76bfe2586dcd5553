"""Checkers that look closer: what may be said of an end when, and what goes on without a database.

As in `checks.py`, each yields what breaks its invariant. Some hold only where clocks are right, or
while nothing but the named fault strikes; they say so and are silent elsewhere, also
after an older database was put back.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sim.book import NEVER, SLACK, Life, Seen
from sim.sight import late, others, since_of, troubled, unheard

Checker = Callable[[Any, Seen], Iterator[str]]

SETTLES = 5_000  # how long the town's clouds may take until a change is true everywhere
STALE = 5_000  # how old a list of assignments may be
APART = 1_000  # two clocks further apart open nothing
BY_JOURNAL = 30_000  # without the database an end is due as soon, but looked at more seldom
MENDED = 60_000


def words_in_time(oracle: Any, seen: Seen) -> Iterator[str]:
    """I2: `removed` and `gone` wait for what a cloud declares about lists and changes."""
    life, now = seen.life, oracle.loop.now
    if life is None or oracle.restored_at >= 0:
        return
    if seen.what == "allowed":
        if seen.found == "tampered" and now > MENDED + max(
            life.tampered_at, life.closing_at, troubled(oracle, "tampered")
        ):
            yield f"the deny of {life.id} was taken away {now - life.tampered_at} ms ago"
        return
    if life.place.own or life.still_held or life.key in oracle.given or not _right(oracle):
        return
    match seen.what:
        case "removed":
            if life.opened_at != NEVER and now < life.opened_at + STALE - 1_000:
                yield f"{life.id} is called removed by a list that may be older than its opening"
        case "gone":
            if life.looked_at < since_of(oracle):
                yield f"{life.id} is called gone and nobody looked once more"
            if life.place.connector != "bare" and now < life.changed_at + SETTLES:
                yield f"{life.id} is called gone {now - life.changed_at} ms after it was changed"


def _right(oracle: Any) -> bool:
    """Whether every clock is right, and no commit hangs between a decision and its moment."""
    wants = oracle.world.plan.wants
    return not any(
        wants(name)
        for name in (
            "world.process.clock_ahead", "world.process.clock_behind", "store.commit.slow",
        )
    )  # fmt: skip


def closes_without_the_store(oracle: Any, seen: Seen) -> Iterator[str]:
    """I6: without the database what is due is closed from the journal, and no more than that.

    What the journal says has ended is sealed as soon as the evidence can be written.
    """
    life, now = seen.life, oracle.loop.now
    if life is None or oracle.restored_at >= 0:
        return
    if seen.what == "closing":
        since = max(life.told_at, oracle.room_from)
        if life.told_at < now and late(oracle, now, since, 30_000):
            yield f"the end of {life.id} in the journal was sealed {now - life.told_at} ms later"
        return
    if life.place.own or life.stood or life.id not in oracle.journal:
        return
    if seen.what == "turned away":
        held = life.opened_at < now - 5_000 and now < life.over_at()
        if held and life.id not in oracle.asked_to_end and troubled(oracle, "store") == -NEVER:
            yield f"{life.id} gave no new session {life.over_at() - now} ms before its end"
        return
    since = max(life.over_at(), oracle.away_since, troubled(oracle, "store"))
    wrong = seen.what == "signed in" or seen.found == "after"
    # NB. a process that comes up while the database is away waits for it, and closes nothing.
    up = all(one.alive and one.ready for one in oracle.world.processes)
    if not oracle.world.away("store") or not wrong or not up or others(oracle, life):
        return
    if unheard(oracle, life):
        return
    if now > since + BY_JOURNAL + life.place.exposure * (seen.what == "allowed"):
        yield f"{life.id} was used {now - life.over_at()} ms after its end, without the database"


def opens_by_clocks_that_agree(oracle: Any, seen: Seen) -> Iterator[str]:
    """I4: nothing opens while our clock and the database's are far apart."""
    life = seen.life
    if life is None or seen.process is None:
        return
    world = oracle.world
    if world.own_database_clock and world.database_since < since_of(oracle):
        apart = abs(world.database_offset - seen.process.offset)
        if apart > APART and _right(oracle):
            yield f"{life.id} opened while two clocks were {apart} ms apart"


def deadline_of_all(oracle: Any, seen: Seen) -> Iterator[str]:
    """I5: the cloud's deadline of shared access is not before the end of one who holds it."""
    life = seen.life
    if life is None or oracle.restored_at >= 0:
        return
    since = since_of(oracle)
    for other in oracle.by_key.get(life.key, ()):
        if _holds(oracle, other, since) and seen.data < min(other.end, other.old_end):
            yield f"the cloud is told to end {other.id} {other.end - seen.data} ms before its end"


def _holds(oracle: Any, life: Life, since: int) -> bool:
    now = oracle.loop.now
    held = life.opened_at < since - SLACK and now < life.over_at()
    return held and life.id not in oracle.asked_to_end


CLOSER: Mapping[str, tuple[tuple[Checker, tuple[str, ...]], ...]] = {
    "I2": ((words_in_time, ("removed", "gone", "allowed")),),
    "I4": ((opens_by_clocks_that_agree, ("intended",)),),
    "I5": ((deadline_of_all, ("arming call",)),),
    "I6": ((closes_without_the_store, ("closing", "turned away", "signed in", "allowed")),),
}

__all__ = ["CLOSER"]
