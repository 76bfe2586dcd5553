"""What `recover` cannot know where it is typed, in sentences for whoever has to look elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tidegate.base.errors import TidegateError
from tidegate.base.when import Instant, wire
from tidegate.evidence.checkpoint import TrustedKey, open_checkpoint, parse_checkpoint
from tidegate.evidence.journal import JournalLine
from tidegate.evidence.journal_line import CLOCK_OFF
from tidegate.evidence.mounted import check_mounted
from tidegate.evidence.witness import largest_kept, recall
from tidegate.evidence.witnesses import newest_in
from tidegate.finding import Finding, FindingKind
from tidegate.flow.gathering import Gathered
from tidegate.flow.recalling import Fate, Recalled
from tidegate.grant import Grant, GrantState
from tidegate.main.config import Config
from tidegate.main.copies import Copy
from tidegate.main.wiring import read_signer, witness_memory

MOST_NAMED = 10  # ids in one sentence
REST = "requests, votes, tokens ended and accounts disabled"
THERE_AGAIN = frozenset({FindingKind.READDED, FindingKind.LEFTOVER})

Reader = Callable[[Path], str | None]
Lines = Mapping[str, Sequence[JournalLine]]  # of journals, by their paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """How many events the log had by the witnesses (0: none says), and what is doubtful of them.

    `unread`: not all that one of them has could be read, so it may have more.
    """

    size: int
    doubts: tuple[str, ...]
    unread: bool = False


def _largest(place: Path) -> str | None:
    check_mounted(place)
    return largest_kept(place)


# `latest` is the smaller of the two where it was put back with a backup.
LATEST_TWO: tuple[Reader, ...] = (_largest, newest_in)


def witnessed(found: Config, named: Sequence[str]) -> Witnessed:
    """By every directory that was named, and the installation's own places: of an address what it
    took last from this machine.
    """
    places = [Path(name) for name in named]
    if found.witness.directory:
        places.append(found.path(found.witness.directory))
    each = [_witnessed(found, place, LATEST_TWO) for place in dict.fromkeys(places)]
    if found.witness.url:
        took = (partial(_taken, found.witness.url),)
        each.append(_witnessed(found, witness_memory(found), took))
    return Witnessed(
        size=max((one.size for one in each), default=0),
        doubts=tuple(doubt for one in each for doubt in one.doubts),
        unread=any(one.unread for one in each),
    )


def nothing_newer(copy: Copy, seen: Witnessed, journals: Lines) -> str:
    """Why nobody knows what is open: no journal has a line, and there is no copy but one that may
    be older than what was opened. Empty: something is known.
    """
    if any(journals.values()):
        return ""
    if copy.state is None:
        return "what is open: no journal here has a line, and there is no copy"
    if vouches(copy, seen):
        return ""
    more = ", and a witness that may have more cannot be read" if seen.unread else ""
    return (
        f"what is open: no journal here has a line, and the copy `{copy.where}` lacks what was "
        f"opened after {wire(copy.state.head.at)}{more}"
    )


def vouches(copy: Copy, seen: Witnessed) -> bool:
    """Whether the copy knows what was opened: it is the installation's own, and no witness says
    that it lacks anything, or may say so and cannot be read.
    """
    if copy.state is None or copy.elsewhere or seen.unread:
        return False
    return seen.size <= copy.state.head.size


def clock_behind(copy: Copy, journals: Lines, now: Instant) -> list[str]:
    """What was written later than `now`, further than a clock may be off: of each journal its
    latest line, and the last event of the copy. What is overdue may then look as if it lay ahead.
    """
    latest = {
        f"the line `{line.kind}` of `{line.grant}` in `{name}`": line.at
        for name, lines in journals.items()
        if lines and (line := max(lines, key=lambda one: one.at))
    }
    if copy.state is not None:
        latest[f"the last event in `{copy.where}`"] = copy.state.head.at
    return [
        f"what is due: {what} is of {wire(at)}, and this machine's clock says {wire(now)}; with a "
        "clock that is behind, what is overdue is called not due"
        for what, at in latest.items()
        if at - now > CLOCK_OFF
    ]


def lost_events(copy: Copy, seen: Witnessed) -> list[str]:
    """What the log held beyond the copy: by the witnesses, or that nobody says."""
    told = list(seen.doubts)
    if copy.state is None:
        told.append(
            f"there is no copy of the log to read ({copy.fault}), so nothing is known of its {REST}"
        )
        if seen.size:
            told.append(f"the log had {seen.size} events when it was last witnessed")
        return told
    size, at = copy.state.head.size, wire(copy.state.head.at)
    rest = f"grants that no journal here names, {REST}"
    if seen.size > size:
        told.append(
            f"{seen.size - size} events are missing: the copy has {size}, the last at {at}, and "
            f"{seen.size} were witnessed; {rest} since then cannot be known"
        )
    elif not seen.size:
        told.append(
            f"no witness was read, so nobody says whether the log went on after {at} "
            f"({size} events); {rest} since then cannot be known"
        )
    else:
        told.append(
            f"the copy holds all {seen.size} events that were witnessed; what came after {at} "
            "and was not witnessed cannot be known"
        )
    return told


def _taken(url: str, memory: Path) -> str | None:
    """What the address took last. Raises OSError: where that is kept is away."""
    check_mounted(memory.parent)
    return recall(memory, url)


def _witnessed(found: Config, place: Path, readers: Sequence[Reader]) -> Witnessed:
    """The size of the largest checkpoint that `readers` find at `place`, and what is doubtful."""
    size, note, doubt = 0, None, ""
    for read in readers:
        try:
            kept = read(place)
            if kept is not None and (parse_checkpoint(kept).size > size or note is None):
                size, note = parse_checkpoint(kept).size, kept
        except (OSError, TidegateError) as fault:
            why = fault.message if isinstance(fault, TidegateError) else fault.strerror
            doubt = f"witness `{place}`: {why}"
    unread, doubts = bool(doubt), [doubt] if doubt else []
    if note is None:
        none = f"`{place}` holds no checkpoint"
        return Witnessed(size=0, doubts=tuple(doubts or [none]), unread=unread)
    try:
        open_checkpoint(note, (TrustedKey(key=read_signer(found).verifier()),))
    except TidegateError as fault:
        doubts.append(f"the checkpoint at `{place}` is not certain: {fault.message}")
    return Witnessed(size=size, doubts=tuple(doubts), unread=unread)


def lost_grants(
    gathered: Gathered, copy: Copy, journals: Lines, lost: Sequence[tuple[Grant, str]]
) -> list[str]:
    """Which grants one side knows and the other does not, and which nobody can close from here."""
    told = [
        f"`{grant.id}` ({grant.role}) is in the copy without its entry: end {where} by hand"
        for grant, where in lost
    ]
    names = ", ".join(f"`{name}`" for name, lines in journals.items() if lines)
    since = f" after {wire(copy.state.head.at)}" if copy.state is not None else ""
    told.append(
        f"grants opened{since} by a process whose journal is not among these cannot be known: "
        f"{names}"
        if names
        else "no journal was read that has a line, so no "
        + (f"grant opened{since} can be known" if since else "process's grants can be known")
    )
    if copy.state is None:
        return told
    things = copy.state.state.things[Grant]
    elsewhere = [one.hold.grant for one in gathered.owed if one.source == copy.where]
    after = [one.hold.grant for one in gathered.owed if one.hold.grant not in things]
    if elsewhere:
        told.append(
            f"{_named(elsewhere)} in the copy and in no journal here: opened on a machine whose "
            "journal is missing; what else that machine opened since cannot be known"
        )
    if after:
        told.append(f"{_named(after)} in a journal and not in the copy: opened after it")
    return told


def signed_off(gathered: Gathered, copy: Copy) -> list[str]:
    """Whose end a person answers for by the copy, and nobody proved: nothing of them is tried."""
    if copy.state is None:
        return []
    tried = {*(one.hold.grant for one in gathered.owed), *gathered.unusable}
    names = [
        one.id
        for one in copy.state.state.things[Grant].values()
        if isinstance(one, Grant) and one.state is GrantState.SIGNED_OFF and one.id not in tried
    ]
    if not names:
        return []
    return [
        f"{_named(sorted(names, reverse=True))} signed off in the copy: an operator answers for "
        "that, and nobody proved an end; nothing of it is tried from here (a server tries again "
        "after `tidegate sign-off ID --undo`)"
    ]


def came_back(copy: Copy, done: Sequence[Recalled]) -> list[str]:
    """What was there after its end, or was left, when an open finding of the copy was last seen,
    and of which nothing here says that it was removed since.
    """
    if copy.state is None:
        return []
    ended: dict[str, Instant] = {}
    for one in done:
        at = one.at or one.owed.removed_at
        if one.closed and at is not None:
            ended[one.owed.hold.grant] = at
    return [
        f"whether the access of `{found.grant or found.what}` on `{found.target}` is there again: "
        f"finding `{found.id}` said so at {wire(found.last_seen_at)}; look in its cloud, and once "
        f"a server is up: `tidegate findings show {found.id}`"
        for found in copy.state.state.things.get(Finding, {}).values()
        if isinstance(found, Finding)
        and found.live
        and found.kind in THERE_AGAIN
        and not (found.grant in ended and found.last_seen_at < ended[found.grant])
    ]


def held_by_nobody_named(done: Sequence[Recalled]) -> list[str]:
    """Which ended access is left to another grant on the word of one line alone."""
    return [
        f"whether the access of `{one.owed.hold.grant}` ({one.owed.hold.role.id}) is anybody's: "
        f"{one.why}; look in its cloud if you know of none"
        for one in done
        if one.fate is Fate.HELD and one.owed.unnamed
    ]


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"
