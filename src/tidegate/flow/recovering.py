"""Closing without the database, from the journal alone; sealing afterwards what was done (I6)."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import structlog

from tidegate.base.errors import (
    EvidenceBroken,
    EvidenceClosed,
    NotFound,
    TidegateError,
    WorldFailed,
)
from tidegate.base.fact import SYSTEM, Fact, Step
from tidegate.base.when import Instant, wire
from tidegate.connectors.port import Connector, Hold, Seen
from tidegate.evidence.journal import JournalLine
from tidegate.evidence.journal_book import JournalBook, ends, read_back
from tidegate.evidence.journal_line import CLOCK_OFF, removed_line
from tidegate.evidence.seal import read_event
from tidegate.expire import EndReason
from tidegate.flow.buckets import Buckets, bucket_of
from tidegate.flow.confirming import UNENDED, begun_since, confirms, is_unopened
from tidegate.flow.ending import begin
from tidegate.flow.expiring import LONGEST_IN_HAND, only_cut, take_away
from tidegate.flow.following import follow, follow_open
from tidegate.flow.granting import never_made
from tidegate.flow.holding import hold_of_line
from tidegate.flow.house import BareHouse, House
from tidegate.grant import Grant, GrantState
from tidegate.store import Store

log = structlog.get_logger("tidegate.recovering")

MOST_FORGOTTEN = 1_000  # grants a compacted journal no longer names, before they are let go of
READ_AT_ONCE = 1024 * 1024  # bytes of journal: two thousand lines, and a tenth of a second
# An end that the database does not owe: it is asked once more by then, and should it go away
# meanwhile the journal's word waits for no longer.
ASKED_AGAIN = timedelta(seconds=5)


def look_back(house: House) -> None:
    """Before anybody can use what the journal says has ended: `close_forgotten`.

    A long journal takes seconds to read, which ends do not wait for, nor does serving: it is the
    worker's first look then, and until that is over nothing opens and no credential is made. So it
    is with one that cannot be read: what has rows ends by them meanwhile.
    """
    house.looked_back = house.journal.size() <= READ_AT_ONCE
    if house.looked_back:
        try:
            close_forgotten(house)
        except OSError as fault:
            log.error("the closing journal cannot be read: nothing opens", errno=fault.errno)
            house.looked_back = False


def close_forgotten(house: House) -> list[str]:
    """Begin to close what the journal says was ended and this database calls open, or to be opened.

    So it is after an older database was restored, and after an end that could not be sealed.
    Returns the grants whose end is sealed now.
    """
    lines = house.journal.book().lines
    asked = _unasked(house, house.asked.forgotten, lines)
    states = house.store.grant_states(asked)
    doubtful = [
        name
        for name, state in states.items()
        if state in UNENDED and (state is GrantState.READY or ends(lines[name]))
    ]
    house.asked.forgotten.update(
        (name, lines[name][-1]) for name, state in states.items() if state is not None
    )
    for name in doubtful:
        del house.asked.forgotten[name]  # until its end is sealed
    begun: list[str] = []
    found = house.store.grants_named(doubtful)
    for name, grant in sorted(found.items()):
        reason, actor = _ended_as(lines[name])
        try:
            begin(house, grant, reason, actor, house.ending_now())
            begun.append(name)
        except EvidenceClosed:
            raise  # nor can any other be sealed now: closing goes on from the journal
        except TidegateError as fault:  # one grant's trouble must not keep the others open
            log.warning("an end of the journal is not sealed", grant=name, code=fault.code)
    return begun


def _unasked(
    house: House, asked: dict[str, JournalLine], names: Mapping[str, Sequence[JournalLine]]
) -> list[str]:
    """Which of these grants must be asked about: those with a line that came since.

    For a grant never goes back to what it was before, while the log only grows.
    """
    house.asked.anew(house.store.head().size, house.now())
    if len(asked) > 2 * len(names) + MOST_FORGOTTEN:
        for name in asked.keys() - names.keys():
            del asked[name]
    return [name for name, lines in names.items() if asked.get(name) is not lines[-1]]


def _ended_as(lines: Sequence[JournalLine]) -> tuple[EndReason, str]:
    """Why and by whom, as the journal's first line of an end says.

    Where it says no reason, it was closed without the database: because its end had come, or else
    because it was revoked.
    """
    told = ends(lines)
    first = told[0] if told else None
    data = first.data if first else {}
    known = {reason.value: reason for reason in EndReason}
    reason = known.get(str(data.get("reason")))
    if reason is None:
        # The end as it was known then: an extension may have been heard of since.
        before = lines[: lines.index(first)] if first else ()
        intended = [line for line in before if line.kind == "intended"]
        came = first is not None and bool(intended) and _is_due(intended[-1], wire(first.at))
        reason = EndReason.EXPIRED if came else EndReason.REVOKED
    return reason, str(data.get("actor", SYSTEM))


def find_unknown(house: House) -> frozenset[str]:
    """What is due by the journal, and this database does not know to have been opened.

    That is so after an older database was restored. What else happened in between cannot be known,
    but that somebody was given the same access since, which is asked as each is closed.
    """
    book, now = house.journal.book(), wire(house.due_now())
    due = {
        name: book.lines[name]
        for name, intended in book.waiting.items()
        if _is_due(intended, now) or any(line.kind == "closing" for line in book.lines[name])
    }
    asked = _unasked(house, house.asked.unknown, due)
    found = house.store.grants_named(asked)  # a row that cannot be read: the journal's word holds
    known = {name for name, grant in found.items() if not is_unopened(grant, due[name])}
    house.asked.unknown.update((name, due[name][-1]) for name in known)
    return frozenset(asked) - known


def _is_due(intended: JournalLine, now: str) -> bool:
    """Whether the end may have come; one that cannot be read may have. `now` as it is written."""
    end = intended.data.get("ends_at")
    return not isinstance(end, str) or end <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """An end that is owed by the journal, as it stood at one look (`book`).

    With `still_wanted` the access stood before or another grant holds it, of the journal or, as it
    was last heard, of another machine (until `shared_until`): it is only read (I5). `uncut`: it was
    read back as removed, and its sessions were not seen cut.
    """

    hold: Hold
    still_wanted: bool
    made_at: Instant
    due_at: Instant
    uncut: bool
    book: JournalBook
    shared_until: Instant | None = None


def owed_now(house: BareHouse, only: frozenset[str] | None = None) -> list[Owed]:
    """Every end the journal owes, of `only` if given, that may be tried now.

    Whatever has waited for the longest is first, since its end came or its last try failed: no one
    grant that cannot be closed keeps others of its target from ever being tried.

    Raises:
        OSError: the journal cannot be read.
    """
    now = house.due_now()
    book = house.journal.book()
    lines = [line for told in book.lines.values() for line in told]
    last = {name: read_back(told) for name, told in book.lines.items()}
    acted = {name for name, line in last.items() if line and not line.owed_again(now)}
    # Once closing was decided the end has come, whatever the end that was fixed at opening.
    begun = {line.grant: line.at for line in lines if line.kind == "closing"}
    stood = {line.grant for line in lines if line.data.get("stood_before") is True}
    # A panic's scope takes in who else has this access, wherever that was opened.
    panicked = {line.grant for line in lines if line.data.get("reason") == EndReason.PANIC}
    waiting = _holds(tuple(book.waiting.values()))
    # What was read back as removed has ended too, early perhaps: it holds nothing for others.
    due = {
        name
        for name, hold in waiting.items()
        if name in begun or last[name] is not None or now >= hold.ends_at
    }
    wanted = {waiting[other].key for other in waiting.keys() - due}
    made = {line.grant: line.at for line in lines if line.kind == "intended"}
    uncut = _uncut(house, book, waiting, now)
    found: list[tuple[Instant, str, Owed]] = []
    for name in due - acted | due & uncut:
        if (only is not None and name not in only) or not house.journal_pace.may(name, now):
            continue
        hold = waiting[name]
        held_until = line.held_until if (line := last[name]) else None
        due_at = held_until or min(hold.ends_at, begun.get(name, hold.ends_at))
        own = last[name] is not None or name in panicked
        shared = None if own else book.waiting[name].shared_until
        shared = shared if shared is not None and now < shared else None
        owed = Owed(
            hold=hold,
            still_wanted=name in stood or hold.key in wanted or shared is not None,
            shared_until=shared,
            made_at=made[name],
            due_at=due_at,
            uncut=name in acted & uncut,
            book=book,
        )
        found.append((house.journal_pace.since(name) or due_at, name, owed))
    return [owed for _, _, owed in sorted(found, key=lambda one: one[:2])]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Grants of the journal that a database which answers knows nothing of."""

    names: frozenset[str]
    store: Store


def close_without_store(house: BareHouse, only: frozenset[str] | None = None) -> list[str]:
    """Close from the journal every grant whose end has passed; returns those now seen removed.

    For when the database cannot be used, or (`only`) cannot be written. One after the other, in the
    thread that calls: where others wait too it is `JournalHands` that close.

    Raises:
        OSError: the journal cannot be read.
    """
    # A store that cannot be used is not asked for the pace either: it may say nothing at all.
    buckets = house.alone if only is None else house.buckets
    return [one.hold.grant for one in owed_now(house, only) if close_owed(house, one, buckets)]


def close_owed(house: BareHouse, owed: Owed, buckets: Buckets, store: Store | None = None) -> bool:
    """One try at one end; whether it is seen removed now.

    It is left to the next look when its account bears no more, when somebody in this process has
    the assignment in hand, or when the journal says more than it did: what was decided by it may
    not hold any more. With a `store`, which answers and knows nothing of the grant, also when
    somebody in another process has it in hand, or another grant holds it by the rows (I5).
    """
    hold = owed.hold
    confirmed = house.confirms if store is None else partial(confirms, store)
    with _in_hand(house, hold.key.text(), store) as ours:
        now = house.due_now()
        # Nobody keeps an end waiting by holding on to a key: see `close_once`.
        if not ours and now - owed.due_at <= LONGEST_IN_HAND:
            return False
        if not _stands(house, owed) or not house.journal_pace.may(hold.grant, now):
            return False
        if not confirmed(hold.grant, owed.book, now):
            house.journal_pace.look_again(hold.grant, now + ASKED_AGAIN)
            return False
        bucket = bucket_of(house.laws.catalogue, hold.role.id)
        if bucket is not None and not buckets.may(bucket, False, now):
            return False
        if _close(house, owed, now):
            return True
        house.journal_pace.later(hold.grant, now, house.randomness(2))
        return False


def _in_hand(house: BareHouse, key: str, store: Store | None) -> AbstractContextManager[bool]:
    """The assignment `key` in hand: among all processes where the database answers."""
    return house.only_one_here(key) if store is None else store.only_one(key, unasked=True)


def _stands(house: BareHouse, owed: Owed) -> bool:
    """Whether nothing was written since that bears on this end: of its grant, or of one that was
    opened on the same assignment.
    """
    name, then = owed.hold.grant, owed.book
    try:
        book = house.journal.book()
    except OSError as fault:
        log.error("the closing journal cannot be read", grant=name, errno=fault.errno)
        return False
    if book.lines.get(name) != then.lines.get(name):
        return False
    opened = [line for other, line in book.waiting.items() if then.waiting.get(other) != line]
    return all(hold.key != owed.hold.key for hold in _holds(opened).values())


def _uncut(
    house: BareHouse, book: JournalBook, waiting: Mapping[str, Hold], now: Instant
) -> frozenset[str]:
    """Grants read back as removed whose sessions were not seen cut and may act still, also by a
    clock of ours that is off.
    """
    found = set()
    for name, hold in waiting.items():
        last = read_back(book.lines[name])
        if last is None or not last.uncut:
            continue
        try:
            lives = house.connector(hold.target.connector).residual(
                hold.target, hold.role, cut=False
            )
        except TidegateError:
            continue  # nobody here could cut it either
        if now < last.at + lives + CLOCK_OFF:
            found.add(name)
    return frozenset(found)


def _holds(intents: Sequence[JournalLine]) -> dict[str, Hold]:
    holds: dict[str, Hold] = {}
    for line in intents:
        try:
            holds[line.grant] = hold_of_line(line)
        except EvidenceBroken as fault:
            log.error("a line of the journal cannot be used", grant=line.grant, why=fault.message)
    return holds


def _close(house: BareHouse, owed: Owed, now: Instant) -> bool:
    """One try; whether nothing is left to do: seen removed, and cut where that is apart.

    A list that may be from before the opening is not believed. A removal whose sessions are not
    seen cut is written down as such, once, and the cut is tried again.
    """
    hold = owed.hold
    try:
        connector = house.connector(hold.target.connector)
        seen = _end(house, connector, owed, now)
        powers = connector.powers(hold.role.kind)
        old = powers.cuts_apart and now < owed.made_at + powers.stale_window
        if old or (seen.usable and not seen.inherited):
            return False
        uncut = powers.cuts_apart and not seen.cut and not owed.still_wanted
        if uncut and owed.uncut:
            return False
        line = removed_line(
            hold.grant,
            now,
            cloud_at=seen.cloud_at,
            cut_before=seen.cut_before,
            uncut=uncut,
            held=seen.usable,
            held_until=owed.shared_until,
            alone=True,
        )
        if not ends(owed.book.lines[hold.grant]):  # it came: by the rows it may have moved since
            line = replace(line, data={**line.data, "reason": EndReason.EXPIRED.value})
        house.journal.append(line)
        if not owed.uncut:
            house.tries.removed(hold.grant, now)
        if uncut:
            return False
    except TidegateError as fault:  # one grant's trouble must not keep the others open
        log.warning("closing from the journal failed", grant=hold.grant, code=fault.code)
        return False
    except OSError as fault:
        log.error("closing journal cannot be written", grant=hold.grant, errno=fault.errno)
        return False
    except Exception:  # a rim: one grant's bug must not stop the others' end
        log.exception("closing from the journal failed", grant=hold.grant)
        return False
    return True


def _end(house: BareHouse, connector: Connector, owed: Owed, now: Instant) -> Seen:
    """Remove it and cut its sessions; only the latter where it was read back as removed: another
    machine may have opened a newer grant of the same access since. Raises WorldFailed.
    """
    hold = owed.hold
    removed = read_back(owed.book.lines[hold.grant])
    if not owed.uncut or owed.still_wanted or removed is None:
        return take_away(connector, hold, owed.still_wanted, now)
    elsewhere = house.tries.removed_elsewhere(hold.grant, removed.at)
    return only_cut(connector, replace(hold, removed_elsewhere=elsewhere), now)


def seal_journal(house: House) -> int:
    """Seal what the journal did while the database was away, with both instants; returns how many.

    The grants themselves are then closed and read back as usual: a line of ours is not a proof.
    """
    unsealed = house.journal.book().unsealed
    asked = _unasked(house, house.asked.unsealed, unsealed)
    found = house.store.grants_named(asked)  # most are told already: one question for all of them
    done = 0
    for name in asked:
        grant = found.get(name)
        try:
            if grant is None or not all(_is_sealed(grant, line) for line in unsealed[name]):
                done += sum([_seal(house, line) for line in unsealed[name]])
        except WorldFailed:
            raise
        except TidegateError as fault:  # one grant's trouble must not keep the others open
            log.error("a line of the journal is not sealed", grant=name, code=fault.code)
        house.asked.unsealed[name] = unsealed[name][-1]
    return done


def _seal(house: House, line: JournalLine) -> bool:
    """Seal one line; whether it was. A line the database knows nothing of is left for a person.

    That happens when an older database was restored: `doctor` shows the line as not sealed.
    """
    now = house.now()
    try:
        grant = house.store.grant(line.grant)
    except NotFound:
        if line.grant not in house.strange:
            house.strange.add(line.grant)
            log.error("the journal closed a grant this database does not know", grant=line.grant)
        return False
    if _is_sealed(grant, line):
        return False
    if _was_sealed(house, grant, line):
        _note(house, line)
        return False
    fact = Fact(
        name="journal.sealed",
        subject=grant.request,
        actor=SYSTEM,
        data={
            "grant": line.grant,
            "request": grant.request,
            "step": line.kind,
            "acted_at": wire(line.at),
            "at": wire(now),
        },
    )
    house.store.commit(Step((), (fact,)))
    _note(house, line)
    return True


def _note(house: House, line: JournalLine) -> None:
    try:
        house.journal.append(JournalLine(kind="noted", grant=line.grant, at=house.now(), data={}))
    except OSError as fault:  # the evidence has it, which is asked the next time
        log.error("the closing journal cannot be written", grant=line.grant, errno=fault.errno)


def _was_sealed(house: House, grant: Grant, line: JournalLine) -> bool:
    """Whether the evidence has it already: a journal that cannot be written never says so.

    An event that cannot be read says nothing: sealed twice is better than never.
    """
    ours = (line.grant, line.kind, wire(line.at))
    for _, leaf in house.store.events(grant.request):
        with suppress(EvidenceBroken, KeyError):
            event = read_event(leaf)
            if event.name == "journal.sealed":
                data = event.data
                if (data["grant"], data["step"], data["acted_at"]) == ours:
                    return True
    return False


def _is_sealed(grant: Grant, line: JournalLine) -> bool:
    """Whether it is the line beside a removal that is sealed."""
    return not line.alone and grant.removed_at is not None and grant.removed_at >= line.at


def settle_journal(house: House) -> list[str]:
    """Write into this journal what other processes did; returns the grants that are over by them.

    Ends they moved, or that are not over yet, as `following` tells them; here those that are. Their
    lines are in other journals, and this one would call its grants open for ever: nothing would be
    compacted, and without the database they would be closed once more. The instants are those that
    were sealed, so nothing here is news. What came back after it was gone, and is being closed
    again, is owed by its own lines (`closing_again`): that end is not the one sealed. So is what a
    late call made of a grant that failed; of any other that failed nothing was ever there.
    """
    told: list[str] = []
    book = house.journal.book()
    waiting, states = book.waiting, house.store.grants_ending(book.waiting)
    follow(house, book, states)
    gone = [name for name, state in states.items() if state is GrantState.GONE]
    for name, grant in sorted(house.store.grants_named(gone).items()):
        if grant.removed_at is None or grant.gone_at is None or waiting[name].at > grant.gone_at:
            continue
        if begun_since(book.lines[name], grant):
            continue
        proof = {"proof": str(grant.proof)}
        for line in (
            removed_line(name, grant.removed_at, cut_before=grant.cut_before),
            JournalLine(kind="gone", grant=name, at=grant.gone_at, data=proof),
            JournalLine(kind="sealed", grant=name, at=house.now(), data={}),
        ):
            house.journal.append(line)
        told.append(name)
    failed = [name for name, state in states.items() if state is GrantState.FAILED]
    for name, grant in sorted(house.store.grants_named(failed).items()):
        if not is_unopened(grant, book.lines[name]):
            never_made(house, grant, house.now())
            told.append(name)
    follow_open(house, book)
    return told
