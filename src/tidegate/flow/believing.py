"""What is believed of the lines of several machines' journals, of each and of all together.

A line with a right sum may still be another version's, of a clock that was wrong, or made by hand.
None of them may stop an end: what cannot be so is left out, and where lines contradict each other
about what to close, this installation's own word counts. `gathering.py` makes of it what is owed.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

import orjson

from tidegate.base.errors import EvidenceBroken
from tidegate.base.when import LONGEST_DURATION, Instant
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.port import Hold
from tidegate.evidence.journal import JournalLine
from tidegate.evidence.journal_book import ACTED, ends, is_begun, read_back
from tidegate.evidence.journal_line import CLOCK_OFF
from tidegate.flow.holding import hold_of_line, lines_by_grant
from tidegate.grant import LIVE, Grant, GrantState
from tidegate.policy.rules import LONGEST_GRACE

# From its opening no grant ends later, its extensions and its grace in it.
LONGEST = LONGEST_DURATION + LONGEST_GRACE + CLOCK_OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the lines of one opening say together.

    `lingers` is how long its sessions may outlive its removal, `made_at` when it was opened, and
    `shared_until` until when a grant of another machine gives the same access, as last heard.
    Unless it is `sound` it says what to close and not when: no line has what can be of that.
    `ours`: the last opening in our own journal is, and a server that has no other journal goes by
    that line alone. `anew`: that one came after an end, as of access that came back, and this is
    the version of its row when it was begun to be taken again (`closing_again.py`).
    """

    hold: Hold
    lingers: timedelta
    made_at: Instant
    shared_until: Instant | None
    sound: bool
    ours: bool
    anew: int | None = None


# All by which a connector closes: the key, the target, and the kind and native ids of the role.
_Access = tuple[AssignmentKey, str, str, bytes]


@dataclass(frozen=True, slots=True)
class _Said:
    """One `intended` line that says what to close. `sound`: all that it says can be."""

    line: JournalLine
    hold: Hold
    access: _Access
    lingers: timedelta
    sound: bool


def opening_of(
    intended: Sequence[JournalLine], own: Sequence[JournalLine], now: Instant
) -> Opening:
    """What the `intended` lines of one grant say together, oldest first; `own` are those of this
    installation's journal.

    What to close never changes, so it is our own journal's word where that has one: a line of
    another journal that names another access is not of this grant, nor is one that names the same
    by another role or target. Of the end the latest is taken: a journal that did not hear of a
    later one has the old one, perhaps by a later clock; an earlier end is no such line but a
    `closing` one. A line that says too little hides none that says more.

    Raises:
        EvidenceBroken: none of them says enough, or others' name several accesses.
    """
    said, ours = _usable(intended, now), _sound(_usable(own, now))
    named = {one.access for one in ours[-1:] or _sound(said)}
    if len(named) != 1:
        raise EvidenceBroken(
            "journal_line",
            f"the journals' lines of `{intended[-1].grant}`",
            "one access to close",
            f"{len(named)}" if named else "none that can be used",
        )
    same = _sound([one for one in said if one.access in named])
    ends_at = max(one.hold.ends_at for one in same)
    last = [one for one in same if one.hold.ends_at == ends_at][-1]
    base = ours[-1] if ours and ours[-1].sound else last
    return Opening(
        hold=replace(base.hold, ends_at=ends_at),
        lingers=base.lingers,
        made_at=min(now, max(one.line.at for one in same)),
        shared_until=last.line.shared_until if last.sound else None,
        sound=last.sound,
        ours=any(one.sound for one in _usable(own[-1:], now)),
    )


def _usable(intended: Iterable[JournalLine], now: Instant) -> list[_Said]:
    found: list[_Said] = []
    for line in intended:
        with suppress(EvidenceBroken):
            found.append(_said(line, now))
    return found


def _sound(said: list[_Said]) -> list[_Said]:
    """Those that are sound; all of them where none is."""
    return [one for one in said if one.sound] or said


def _said(line: JournalLine, now: Instant) -> _Said:
    """What a line says. Raises EvidenceBroken: too little to close anything by."""
    hold, seconds = hold_of_line(line), line.data.get("lingers_seconds", 0)
    until = line.shared_until
    lives = type(seconds) is int and 0 <= seconds <= LONGEST_DURATION.total_seconds()
    fixed = hold.ends_at - min(line.at, now) <= LONGEST
    # What others hold was heard of before now, however long after the opening.
    held = until is None or until - now <= LONGEST
    lingers = timedelta(seconds=seconds) if lives else LONGEST_DURATION
    return _Said(line, hold, _access(hold), lingers, sound=lives and fixed and held)


def _access(hold: Hold) -> _Access:
    """What a hold is closed by. Raises EvidenceBroken: by what no native ids can be."""
    try:  # not as canonical bytes: another version's names may have none, and are to be closed
        native = orjson.dumps(dict(hold.role.native), option=orjson.OPT_SORT_KEYS)
    except TypeError as fault:
        raise EvidenceBroken(
            "journal_line",
            f"the journal's line of `{hold.grant}`",
            "the native ids of a role",
            "names that are no text, or lists in lists without end",
        ) from fault
    return hold.key, hold.target.id, hold.role.kind, native


def can_be(line: JournalLine, now: Instant) -> bool:
    """Whether a line may be so. One of a read-back that is dated after now, further than a clock
    may be off, is none; nor is one that is held until when no grant can last.
    """
    if line.kind not in ACTED:
        return True
    until = line.held_until
    return line.at - now <= CLOCK_OFF and (until is None or until - now <= LONGEST)


def in_doubt(ended: JournalLine, begun: Sequence[JournalLine], now: Instant) -> bool:
    """Whether an end that one journal calls begun may have been begun after it was read back in
    another: their clocks do not tell. Then it is closed once more. What is held is another's.
    """
    if ended.held or not begun:
        return False
    return ended.at > now or any(ended.at - line.at <= CLOCK_OFF for line in begun)


def begun_anew(own: Sequence[JournalLine]) -> int | None:
    """The version of a grant's row at which its end was begun after it was opened anew; None: it
    was not, or no line names one. `own` are its lines in our journal.
    """
    opened = [place for place, line in enumerate(own) if line.kind == "intended"]
    if not opened or not ends(own[: opened[-1]]):
        return None
    since = [line for line in own[opened[-1] :] if line.kind == "closing"]
    return max((line.row for line in since if line.row is not None), default=None)


def is_heard(own: Sequence[JournalLine], ended: JournalLine | None) -> bool:
    """Whether our journal alone has owed what all of them have: an end that was begun, or (`ended`)
    the cut of sessions that a removal left. `own` are a grant's lines in it.
    """
    last = read_back(own)
    if ended is not None:
        return last is not None and last.uncut
    return last is None and bool(ends(own))


def as_one(begun: Sequence[JournalLine]) -> tuple[Instant, int | None]:
    """When the end was begun that these lines tell of, at the latest, and at which version of its
    row: None where one of them names none, for then clocks alone tell what came after it.
    """
    rows = [line.row for line in begun if line.row is not None]
    return max(line.at for line in begun), max(rows) if len(rows) == len(begun) else None


def is_over(
    lines: Sequence[tuple[Instant, JournalLine]], begun: Sequence[JournalLine], now: Instant
) -> bool:
    """Whether journals that do not name an opening say that nothing is left of it."""
    if {"gone", "sealed"} <= {line.kind for _, line in lines}:
        told = (line for _, line in lines if line.kind == "closing" and line not in begun)
        newest = max((line.row for line in told if line.row is not None), default=-1)
        if all(line.row is not None and line.row <= newest for line in begun):
            return True
    ended = read_back([line for _, line in lines])
    if ended is None or in_doubt(ended, begun, now):
        return any(line.kind == "sealed" for _, line in lines) and not begun
    return ended.kind == "gone" or not (ended.uncut or ended.held)


def in_order(
    journals: Iterable[Sequence[JournalLine]],
) -> dict[str, list[tuple[Instant, JournalLine]]]:
    """The lines of each grant as one, oldest first, each with the instant it is placed at.

    A clock that was set back turns no two lines of a journal around: the later one is placed with
    the earlier.
    """
    placed: list[tuple[Instant, JournalLine]] = []
    for lines in journals:
        latest: dict[str, Instant] = {}
        for line in lines:
            latest[line.grant] = max(line.at, latest.get(line.grant, line.at))
            placed.append((latest[line.grant], line))
    found: dict[str, list[tuple[Instant, JournalLine]]] = {}
    for at, line in sorted(placed, key=lambda one: one[0]):
        found.setdefault(line.grant, []).append((at, line))
    return found


def begun_by(journals: Iterable[Sequence[JournalLine]]) -> dict[str, list[JournalLine]]:
    """The ends that a journal says were begun, and by its own lines were not read back since."""
    found: dict[str, list[JournalLine]] = {}
    for lines in journals:
        for name, told in lines_by_grant(lines).items():
            if is_begun(told):
                last = [line for line in told if line.kind == "closing"][-1]
                found.setdefault(name, []).append(last)
    return found


def is_settled(grant: Grant, begun: Sequence[JournalLine]) -> bool:
    """Whether a copy of the log says that nothing is left of a grant, after every line of a journal
    that says that its end was begun.
    """
    at = grant.gone_at or grant.removed_at or grant.closing_at
    if grant.state in LIVE or grant.state is GrantState.READY or at is None:
        return False
    return all_before(begun, grant.version, at)


def all_before(begun: Sequence[JournalLine], version: int, at: Instant) -> bool:
    """Whether all that was begun was before the row was of this version; where a line names no
    row, before that instant, however far apart the clocks of two machines are.
    """
    return all(
        at - line.at > CLOCK_OFF if line.row is None else line.row < version for line in begun
    )
