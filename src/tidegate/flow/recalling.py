"""Closing with no store at all: from journals, and from whatever copy of the log there is.

For the night on which the database is gone. Several machines' journals are read as one; what is
owed is closed and read back, and what was done is written to this installation's own journal, so
that a later server seals it. Nothing is opened or crossed out: doing it twice is as once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from tidegate.base.errors import TidegateError
from tidegate.base.text import many
from tidegate.base.when import LONGEST_DURATION, Instant, wire
from tidegate.connectors.port import Connector, Seen
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.evidence.journal_line import HELD_UNTIL, ROW, removed_line
from tidegate.expire import ReadBack, residual_until
from tidegate.flow.expiring import only_cut, take_away
from tidegate.flow.gathering import Gathered, KnownEnd, as_shared
from tidegate.flow.granting import intended_line
from tidegate.flow.pace import pause

HANDS = 16  # cloud calls at a time: below the rate limits of one account


class Fate(StrEnum):
    """What became of one grant."""

    REMOVED = "removed"  # read back now
    BEFORE = "removed before"  # a line says that it was read back as removed
    HELD = "still held"  # by another grant, or by access that is not ours to take
    CLOSING = "still closing"  # asked for, and not read back as removed
    LATER = "not due"  # its end lies ahead
    DUE = "due"  # it would be closed, with a dry run; or its end came as time ran out


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """How one grant stands. `why` explains a fate that is not an end, or an end that says little.

    `uncut`: removed, and sessions taken before were not seen cut.
    """

    owed: KnownEnd
    fate: Fate
    why: str = ""
    at: Instant | None = None
    residual_until: Instant | None = None
    uncut: bool = False

    @property
    def closed(self) -> bool:
        """Whether it was read back as removed."""
        return self.fate in (Fate.REMOVED, Fate.BEFORE)


@dataclass(slots=True, kw_only=True)
class Ground:
    """What recalling stands on: no store among it. `shut`: why a target cannot be asked."""

    journal: ClosingJournal
    connectors: Mapping[str, Connector]
    clock: Callable[[], Instant]
    randomness: Callable[[int], bytes]
    rest: Callable[[float], None]
    tell: Callable[[str], None] = field(default=lambda line: None)
    shut: Mapping[str, str] = field(default_factory=dict)


def recall(
    ground: Ground,
    gathered: Gathered,
    patience: timedelta,
    *,
    dry: bool = False,
    only: Collection[str] | None = None,
) -> list[Recalled]:
    """Close everything that is due, again and again until it is removed or `patience` is over.

    Returns how each grant stands, in the order given. With `dry` nothing is called or written.
    With `only`, no other grant than these is closed or waited for: the rest says who holds what.
    """
    now = ground.clock()
    found = {one.hold.grant: _as_it_is(one, now) for one in gathered.owed}
    if dry:
        return list(found.values())
    acting = found.keys() if only is None else found.keys() & only
    until, tries, told = now + patience, 0, dict[str, str]()
    waiting: list[str] = []
    new = [name for name, back in found.items() if back.fate is Fate.DUE and name in acting]
    while waiting or new:
        if new:
            _tell(ground, f"{many(len(new), 'end')} owed (the access, or sessions of it); closing")
            _write_begun(ground, [found[name].owed for name in new])
        tries += 1
        waiting = _try_all(ground, found, [*waiting, *new], told)
        new = _come_due(found, acting, ground.clock())
        if (waiting or new) and ground.clock() < until:  # no round without a rest: none may spin
            noise = ground.randomness(2)
            ground.rest(pause(tries if waiting else 1, noise).total_seconds())
            new += _come_due(found, acting, ground.clock())
        if ground.clock() >= until:
            break
    return list(found.values())


def _try_all(
    ground: Ground, found: dict[str, Recalled], names: Sequence[str], told: dict[str, str]
) -> list[str]:
    """One try at each; which of them are to be tried again. `told` is what was said of each."""
    with ThreadPoolExecutor(HANDS, thread_name_prefix="tidegate-recall") as pool:
        for back in pool.map(lambda name: _close(ground, found[name].owed), names):
            name = back.owed.hold.grant
            found[name] = back
            said = f"{name} {back.owed.hold.role.id}: {_say(back)}"
            if told.get(name) != said:
                told[name] = said
                _tell(ground, said)
    return [name for name in names if _goes_on(ground, found[name])]


def _come_due(found: dict[str, Recalled], acting: Collection[str], now: Instant) -> list[str]:
    """What of `acting` has come to its end since it was looked at, marked as due. What has come to
    its end holds nothing for others from now on, and neither does what was removed.
    """
    new: list[str] = []
    for owed in as_shared([back.owed for back in found.values()], now):
        if owed.hold.grant not in acting:
            continue
        back = found[owed.hold.grant]
        ahead = back.fate is Fate.LATER
        if back.fate is Fate.HELD and owed.held_until is not None:
            ahead = now >= owed.held_until
        if ahead and (seen := _as_it_is(owed, now)).fate is Fate.DUE:
            found[owed.hold.grant] = seen
            new.append(owed.hold.grant)
        elif back.fate is Fate.CLOSING:
            found[owed.hold.grant] = replace(back, owed=owed)
    return new


def _goes_on(ground: Ground, back: Recalled) -> bool:
    """Whether another try may do more: it is there, or its sessions are not cut, and there is a way
    to its cloud. The settings are read once, so where there is none no later try has one.
    """
    target = back.owed.hold.target
    if target.id in ground.shut or target.connector not in ground.connectors:
        return False
    return back.fate is Fate.CLOSING or back.uncut


def _as_it_is(owed: KnownEnd, now: Instant) -> Recalled:
    if owed.settled(now) and owed.held_until is not None:
        why = f"other grants hold the same access until {wire(owed.held_until)}"
        why = _unnamed(owed.held_until) if owed.unnamed else why
        return Recalled(owed=replace(owed, shared=True), fate=Fate.HELD, why=why)
    if owed.settled(now) and owed.held:
        why = "something else gave the same access when it ended, which is not ours to take"
        return Recalled(owed=owed, fate=Fate.HELD, why=why)
    if owed.settled(now):
        return Recalled(owed=owed, fate=Fate.BEFORE)
    return Recalled(owed=owed, fate=Fate.DUE if owed.due(now) else Fate.LATER)


def _write_begun(ground: Ground, owed: Sequence[KnownEnd]) -> None:
    """Lines of what is about to be closed, in our own journal.

    Closing never waits for what is written about it. Lines that cannot be written, as those of
    another version may be, keep no other grant's out.
    """
    now = ground.clock()
    told = [(one.hold.grant, _begun_lines(ground, one, now)) for one in owed]
    try:
        try:
            ground.journal.append_all(line for _, lines in told for line in lines)
        except RuntimeError:  # one of them is none, and nothing was written of any
            _write_apart(ground, told)
    except OSError as fault:
        _tell(ground, f"the journal cannot be written, closing goes on without it: {fault}")


def _write_apart(ground: Ground, told: Sequence[tuple[str, Sequence[JournalLine]]]) -> None:
    """The lines of each grant by themselves. Raises OSError."""
    for name, lines in told:
        try:
            ground.journal.append_all(lines)
        except RuntimeError as fault:
            _tell(
                ground,
                f"the lines of `{name}` cannot be written, its closing goes on without: {fault}",
            )


def _begun_lines(ground: Ground, one: KnownEnd, now: Instant) -> list[JournalLine]:
    """That its end is begun, with the intent our journal may lack.

    That says until when others give the access, as far as is known here: whoever goes on by our
    journal alone must not take it from them.
    """
    only_cut = one.removed_at is not None and one.removed(now)
    heard = one.others_until is None or one.others_until == one.shared_until
    opens = not one.ours or not (heard or only_cut)
    lines = [_opening(ground, one)] if opens else []
    if one.removed_at is not None and only_cut:
        copied = removed_line(one.hold.grant, one.removed_at, uncut=True, held=one.held)
        lines += [copied] if opens or one.called else []
    elif opens or not one.begun or one.called or one.held:  # else it says so, or `held`
        data: dict[str, str | int] = {"reason": one.reason, "actor": one.actor}
        data |= {ROW: one.row} if one.row is not None else {}  # the next run knows of it then
        at = min(one.begun_at or now, now)  # not later than it was: what ended it since is believed
        lines.append(JournalLine(kind="closing", grant=one.hold.grant, at=at, data=data))
    return lines


def _opening(ground: Ground, one: KnownEnd) -> JournalLine:
    """Of the instant it was opened at, as it was: a later one would be an opening anew."""
    line = intended_line(one.hold, one.hold.stood_before, _lingers(ground, one), one.made_at)
    if one.others_until is None:
        return line
    return replace(line, data={**line.data, HELD_UNTIL: wire(one.others_until)})


def _lingers(ground: Ground, one: KnownEnd) -> timedelta:
    """How long sessions may outlive its removal, at the most that is known here.

    A copy does not say it, and whoever goes on by our journal tries no cut for longer than that: so
    where nobody can say, it is as long as any session may live.
    """
    with suppress(Exception):  # a rim: a bug with one grant keeps no other's lines from being told
        connector = ground.connectors[one.hold.target.connector]
        return max(one.lingers, connector.lingers(one.hold.target, one.hold.role))
    return LONGEST_DURATION


def _close(ground: Ground, owed: KnownEnd) -> Recalled:
    """One try. Never raises: one grant's trouble must not keep the others open."""
    hold, now = owed.hold, ground.clock()
    if why := ground.shut.get(hold.target.id):
        return Recalled(owed=owed, fate=Fate.CLOSING, why=f"its cloud cannot be asked: {why}")
    connector = ground.connectors.get(hold.target.connector)
    if connector is None:
        why = f"no connector `{hold.target.connector}` in the settings"
        return Recalled(owed=owed, fate=Fate.CLOSING, why=why)
    try:
        seen = _end(connector, owed, now)
        powers = connector.powers(hold.role.kind)
        if powers.cuts_apart and now < owed.made_at + powers.stale_window:
            why = "what the cloud lists may be older than the grant"
            return Recalled(owed=owed, fate=Fate.CLOSING, why=why)
        if seen.usable:
            held = owed.shared and not owed.removed(now)
            return _held(ground, owed, seen, now) if held else _still_usable(owed, seen, now)
        until = _residual(connector, owed, seen, now, ground.clock())
        uncut = powers.cuts_apart and not seen.cut and not (owed.shared or hold.stood_before)
    except TidegateError as fault:
        return Recalled(owed=owed, fate=Fate.CLOSING, why=fault.message)
    except Exception as bug:  # noqa: BLE001 - a rim: a bug with one grant is told, the rest go on
        return Recalled(
            owed=owed, fate=Fate.CLOSING, why=f"a mistake of ours: {type(bug).__name__}"
        )
    why = "its live sessions are not cut" if uncut else ""
    if not uncut or owed.uncut_until is None or not owed.ours:  # else a line says just that
        why = _write_removed(ground, owed, seen, now, uncut=uncut) or why
    if uncut:
        if not owed.removed(now):
            owed = replace(owed, removed_at=None, held=False, held_until=None)
        owed = replace(owed, done=True, ours=True, uncut_until=until)
    return Recalled(
        owed=owed, fate=Fate.REMOVED, why=why, at=now, residual_until=until, uncut=uncut
    )


def _end(connector: Connector, owed: KnownEnd, now: Instant) -> Seen:
    """Remove it and cut its sessions; only the latter where it was read back as removed: a machine
    whose journal is not here may have opened a newer grant of the same access. Raises WorldFailed.
    """
    hold, wanted = owed.hold, owed.shared or owed.hold.stood_before
    if wanted or not owed.removed(now):
        return take_away(connector, hold, wanted, now)
    return only_cut(connector, replace(hold, removed_elsewhere=owed.removed_at), now)


def _held(ground: Ground, owed: KnownEnd, seen: Seen, now: Instant) -> Recalled:
    """It has ended, and another grant holds the access on: until then nothing is left to do."""
    back = _still_usable(owed, seen, now)
    until = owed.others_until
    why = _write_removed(ground, owed, seen, now, held=True, held_until=until)
    held = replace(
        owed, begun=True, called=False, done=True, ours=True, held=True, held_until=until,
        uncut_until=None, begun_at=None,
    )  # fmt: skip
    return replace(back, owed=held, why=f"{back.why}; {why}" if why else back.why)


def _still_usable(owed: KnownEnd, seen: Seen, now: Instant) -> Recalled:
    if owed.shared:
        why = "another grant holds the same access until its own end"
        if owed.unnamed and owed.others_until is not None:
            why = _unnamed(owed.others_until)
        return Recalled(owed=owed, fate=Fate.HELD, why=why)
    if owed.hold.stood_before or seen.inherited:
        by = f" by {seen.inherited}" if seen.inherited else ""
        why = f"standing access{by}, which is not ours to take"
        # Whoever held it may have ended since; what gives it now has no end that is waited for.
        stands = replace(owed, done=True, held=True, held_until=None)
        return Recalled(owed=stands, fate=Fate.HELD, why=why)
    if owed.removed(now):
        why = "removed before, and given again since, by whom is not known here"
        return Recalled(owed=owed, fate=Fate.HELD, why=why, uncut=not seen.cut)
    return Recalled(owed=owed, fate=Fate.CLOSING, why="read back, it is still usable")


def _unnamed(until: Instant) -> str:
    """One line told of it, and nothing here says whose it is: a person may know better."""
    return (
        "another grant, which no journal or copy here names, holds the same access until "
        f"{wire(until)}"
    )


def _residual(
    connector: Connector, owed: KnownEnd, seen: Seen, acted_at: Instant, changed_by: Instant
) -> Instant:
    """Until when a session taken before may act, by the one rule there is for it."""
    hold = owed.hold
    powers = connector.powers(hold.role.kind)
    back = ReadBack(
        cloud_at=seen.cloud_at,
        detail=seen.detail,
        acted_at=acted_at,
        changed_by=changed_by,
        derived=connector.residual(hold.target, hold.role, seen.cut),
        settling=powers.propagation,
        native_deadline=powers.native_deadline,
        cut=seen.cut,
        cut_before=seen.cut_before,
    )
    return residual_until(hold.ends_at, back)


def _write_removed(
    ground: Ground,
    owed: KnownEnd,
    seen: Seen,
    now: Instant,
    *,
    uncut: bool = False,
    held: bool = False,
    held_until: Instant | None = None,
) -> str:
    """Write down that its end was read back; why not, if it could not be."""
    line = removed_line(
        owed.hold.grant,
        now,
        cloud_at=seen.cloud_at,
        cut_before=seen.cut_before,
        uncut=uncut,
        held=held,
        held_until=held_until,
        alone=True,
    )
    try:
        ground.journal.append(line)
    except (OSError, RuntimeError, TidegateError):
        return "the journal could not be written: a later server will look at it again"
    return ""


def _tell(ground: Ground, line: str) -> None:
    """Say it to whoever listens. That nobody does any more (a pipe that was closed, a terminal that
    is gone) keeps nothing open.
    """
    with suppress(OSError, ValueError):
        ground.tell(line)


def _say(back: Recalled) -> str:
    until = back.residual_until
    if back.fate is Fate.REMOVED and until is not None and back.at is not None and until > back.at:
        why = f"{back.why}; " if back.uncut else ""
        return f"removed, read back; {why}a session taken before may act until {wire(until)}"
    if back.fate is Fate.REMOVED:
        return "removed, read back"
    return f"{back.fate}: {back.why}" if back.why else back.fate.value
