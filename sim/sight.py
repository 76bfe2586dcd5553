"""What the oracle sees for itself: who acts, whose right explains it, which rules were in force."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sim.book import HEARD, MENDED_WITHIN, NEVER, RECOVERY, SLACK, Life, Wish
from sim.town import BOOKS, Book
from tidegate.connectors.port import Answer


def open_lives(oracle: Any, life: Life) -> list[Life]:
    """The lives of its key that nobody called removed or failed yet, late ones too."""
    now = oracle.loop.now
    return [
        one
        for one in oracle.by_key.get(life.key, ())
        if one.intended_at <= now and one.removed_at == NEVER and one.failed_at == NEVER
    ]


def others(oracle: Any, life: Life) -> bool:
    """Whether somebody else's right explains it: another grant in its window, or no grant."""
    if life.place.own:
        return False
    key, now = life.key, oracle.loop.now
    if key in oracle.foreign:
        return True
    return any(
        other is not life and other.intended_at <= now < other.over_at() + 5_000
        for other in oracle.by_key.get(key, ())
    )


def troubled(oracle: Any, *bearable: str) -> int:
    """Until when something else than that is, or was, in the way."""
    return max(
        (until for kind, until in oracle.disturbed_by.items() if kind not in bearable),
        default=-NEVER,
    )


def unheard(oracle: Any, life: Life) -> bool:
    """Whether it was opened where nobody closes, and the database went before a closer heard of it.

    Nobody brings about its end then until the database is back, and that was seen.
    """
    if life.id in oracle.by_closers or oracle.loop.now > oracle.room_from + HEARD:
        return False
    return bool(oracle.away_since < max(life.opened_at, troubled(oracle, "store")) + HEARD)


def blind(oracle: Any, life: Life) -> bool:
    """Whether some journal may have the end it had before, and no store to ask."""
    return bool(oracle.last_disturbed > -NEVER and life.moved_at >= 0)


def right_until(oracle: Any, life: Life) -> int:
    """Until when anybody rightly held what `life` is about: of one key, the latest of all."""
    if life.place.own:
        return life.over_at()
    now = oracle.loop.now
    known = [one.over_at() for one in oracle.by_key[life.key] if one.intended_at <= now]
    return max(known, default=life.over_at())


def tampered(oracle: Any, life: Life) -> bool:
    """Whether its deny was taken away a moment ago, so that it may act until that is mended."""
    return life.tampered_at >= max(0, oracle.loop.now - MENDED_WITHIN)


def acts(oracle: Any, life: Life) -> bool:
    """Whether the cloud would do now what some session of it asks."""
    if tampered(oracle, life):
        return False
    return any(
        lets(oracle, credential) and not too_long(oracle, credential)
        for credential in oracle.held.get(life.id, ())
    )


def lets(oracle: Any, credential: Any) -> bool:
    """Whether the cloud does what a session asks; where changes lag, as it was a moment ago."""
    cloud, at, lag = oracle.world.cloud, oracle.world.cloud_now(), oracle.world.scene.lag
    if cloud.use(credential, at) is Answer.ALLOWED:
        return True
    before = at - timedelta(milliseconds=lag)
    return bool(
        lag and at < credential.expires_at and cloud.use(credential, before) is Answer.ALLOWED
    )


def too_long(oracle: Any, credential: Any) -> bool:
    """Whether a cloud whose clock was ahead, and went back, made a session live for too long."""
    return bool(oracle.ahead.get(credential.key_id, 0) > oracle.world.cloud_offset)


def may_start(oracle: Any, life: Life) -> bool:
    """Whether the cloud would let a new session of it start now."""
    cloud, at, key = oracle.world.cloud, oracle.world.cloud_now(), life.key
    if not life.place.own:
        late = [other for other in open_lives(oracle, life) if other is not life]
        return bool(cloud.assigned(key, at)) and not late and not others(oracle, life)
    if tampered(oracle, life):
        return False
    denied = cloud.denied(key.account, key.native_role, life.id, at)
    return not denied and oracle.loop.now + oracle.world.cloud_offset < life.end


def set_back_since(oracle: Any, life: Life) -> bool:
    """Whether the cloud's clock went back after the house last looked: the deadline that the cloud
    itself has for the access, and that had passed, lies ahead again.
    """
    looked = max(life.probed_at, life.read_at)
    return life.place.own and bool(oracle.world.cloud_set_back_at >= looked)


def late(oracle: Any, now: int, end: int, exposure: int) -> bool:
    """Whether `now` is later than every fault so far excuses."""
    disturbed = oracle.last_disturbed
    if disturbed >= end - SLACK:
        return bool(now > max(end, disturbed) + RECOVERY + exposure)
    return now > end + exposure + SLACK


def offsets_of(process: Any, since: int) -> list[int]:
    """How far its clock was off at some moment since then: it may be set while something is done,
    and which of two readings a decision is by cannot be told from outside.
    """
    history = process.offsets
    untils = [at for at, _ in history[1:]] + [NEVER]
    return [off for (_, off), until in zip(history, untils, strict=True) if until >= since]


def first_clock(oracle: Any, process: Any, entered: int) -> int:
    """As `clock_of`, by the clock that showed least while it was done. On SQLite there is no other,
    and it is not the one it was set to meanwhile.
    """
    least = min(offsets_of(process, min(entered, since_of(oracle))))
    if not oracle.world.own_database_clock:
        return entered + least
    return max(entered + least, database_clock(oracle, process, entered))


def last_clock(oracle: Any, process: Any, entered: int) -> int:
    """As `clock_of`, by the clock that showed most while it was done."""
    most = max(offsets_of(process, min(entered, since_of(oracle))))
    return max(entered + most, database_clock(oracle, process, entered))


def clock_of(oracle: Any, process: Any, entered: int) -> int:
    """The later of the process's clock and the database's, when it set out to commit."""
    return max(entered + process.offset, database_clock(oracle, process, entered))


def database_clock(oracle: Any, process: Any, entered: int) -> int:
    """What the database's clock showed; on SQLite it is the process's."""
    world = oracle.world
    if not world.own_database_clock:
        return int(entered + process.offset)
    return entered + next(off for since, off in reversed(world.database_clock) if since <= entered)


def last_read(oracle: Any, life: Life, entered: int) -> int:
    """The most that the database's clock showed while it was to be opened, until it was set anew;
    else -NEVER.
    """
    if not oracle.world.own_database_clock:
        return -NEVER
    clock = oracle.world.database_clock
    ends = [since for since, _ in clock[1:]]
    read = [
        end + off
        for (_, off), end in zip(clock, ends, strict=False)
        if life.readied_at <= end <= entered
    ]
    return max(read, default=-NEVER)


def use_of(oracle: Any, life: Life) -> str:
    """What an allowed use of a session of it is: `rightly`, `excused`, or what may be wrong."""
    now = oracle.loop.now
    if life.place.own and now + oracle.world.cloud_offset >= life.end:
        return "past the cloud's deadline"
    if now < life.over_at():
        return "rightly"
    if life.gone_at > now and others(oracle, life):
        return "excused"
    if life.tampered_at >= max(0, life.over_at() - MENDED_WITHIN):
        return "tampered"
    if life.signed_at != NEVER or any(
        one.signed_at != NEVER for one in oracle.by_key.get(life.key, ())
    ):
        return "answered for"
    if life.key in oracle.foreign:
        return "standing"
    if life.key in oracle.given:  # nobody of ours may have looked while it was there
        return "closed again" if oracle.closed_again.get(life.key, NEVER) <= now else "excused"
    if life.gone_at > now:
        return "after"
    return "excused" if set_back_since(oracle, life) else "gone"


# Rules.


def carrying(
    oracle: Any, process: Any, wish: Wish, what: str, books: Iterable[Book] = ()
) -> Book | None:
    """Some laws in force while this was decided that permit it with these votes (I8, I9).

    With `books` the rules must be of one of those; who was in which group stays as lenient.
    """
    since = since_of(oracle) - 4_000
    if what == "approved":  # judged once more at the opening, by the rules in force then
        since = min(since, wish.filed_at - 4_000)
    in_force = laws_since(oracle, process, since)
    own = oracle.person(wish.login, since)
    for book in books or in_force:
        needs = book.requirement(wish.login, wish.role, wish.length, wish.emergency)
        if needs is None:
            continue
        for groups in (*in_force, *groups_alone(oracle, since)):
            voters: dict[str, frozenset[str]] = {}
            for ballot in oracle.ballots.get(wish.request, ()):
                who = oracle.person(ballot.login, since)
                if ballot.approve and who != own:  # of two logins of one, the vote of either counts
                    voters[who] = voters.get(who, frozenset()) | groups.groups(ballot.login)
            if book.suffices(needs, voters):
                return book
    return None


def graces(oracle: Any, process: Any, wish: Wish) -> frozenset[int]:
    """What some rules this process may have decided by give after a window; emergencies none."""
    books = laws_here(process, since_of(oracle) - 4_000)
    return frozenset(0 if wish.emergency else book.grace for book in books)


def laws_here(process: Any, since: int) -> list[Book]:
    """The laws this process had in force at some moment since then, and no others."""
    left = [name for at, name in process.laws_left if at >= since]
    return [BOOKS[name] for name in dict.fromkeys((process.laws, *left))]


def laws_since(oracle: Any, process: Any, since: int) -> list[Book]:
    """Every state of the laws some part of the house may rightly have known since then."""
    found = {process.laws: None} if hasattr(process, "laws") else {}
    for other in oracle.world.processes:
        found[other.laws] = None
        found.update((name, None) for at, name in other.laws_left if at >= since)
    found.update((name, None) for at, name in oracle.world.laws_gone if at >= since)
    history = oracle.world.laws_since
    for place, (_, name) in enumerate(history):
        until = history[place + 1][0] if place + 1 < len(history) else NEVER
        if until >= since:
            found[name] = None
    return [BOOKS[name] for name in found]


def groups_alone(oracle: Any, since: int) -> list[Book]:
    """The laws whose groups may have been in force since then without them."""
    left = [name for at, name in oracle.world.groups_left if at >= since]
    return [BOOKS[name] for name in dict.fromkeys((*oracle.world.groups_half, *left))]


def since_of(oracle: Any) -> int:
    """When the task that runs began: what it decided on is of then or later."""
    task = oracle.loop.task
    return int(task.started if task else oracle.loop.now)
