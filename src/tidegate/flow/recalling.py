"""Closing with no store at all: from journals, and from whatever copy of the log there is.

For the night on which the database is gone. Several machines' journals are read as one; what is
owed is closed and read back, and what was done is written to this installation's own journal, so
that a later server seals it. Nothing is opened or crossed out: doing it twice is as once.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from tidegate.base.errors import EvidenceBroken, TidegateError
from tidegate.base.when import Instant, wire
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.port import Connector, Hold, Seen
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.evidence.journal_book import ends, is_begun, read_back
from tidegate.evidence.journal_line import CLOCK_OFF, removed_line
from tidegate.expire import EndReason, ReadBack, residual_until
from tidegate.flow.deadlines import holds_on
from tidegate.flow.expiring import only_cut, take_away
from tidegate.flow.granting import intended_line
from tidegate.flow.holding import hold_of_line, lines_by_grant
from tidegate.flow.pace import pause
from tidegate.grant import LIVE, Grant, GrantState
from tidegate.panic import Scope

HANDS = 16  # cloud calls at a time: below the rate limits of one account


class Fate(StrEnum):
    """What became of one grant."""

    REMOVED = "removed"  # read back now
    BEFORE = "removed before"  # a line says that it was read back as removed
    HELD = "still held"  # by another grant, or by access that is not ours to take
    CLOSING = "still closing"  # asked for, and not read back as removed
    LATER = "not due"  # its end lies ahead
    DUE = "due"  # with a dry run: it would be closed


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEnd:
    """One grant something is known of. `source` says where from, `begun` that its end was begun.

    `ours`: this installation's own journal knows it. `reason` is the end's, as its line says.
    `held`: read back, and something else gave the access: grants that end at `held_until`, and from
    then on it is owed; without that, what is not ours to take. `uncut_until`: until when sessions
    may act that were not seen cut when it was removed. `removed_at`: when, not by this run.
    `shared_until`: until when a grant of another machine gives the same access, as last heard.
    `called`: a panic began it, and no line says so yet. `version`: of its row, by a copy.
    """

    hold: Hold
    source: str
    made_at: Instant
    lingers: timedelta = timedelta(0)
    begun: bool = False
    called: bool = False
    done: bool = False
    ours: bool = False
    shared: bool = False
    shared_until: Instant | None = None
    uncut_until: Instant | None = None
    removed_at: Instant | None = None
    held: bool = False
    held_until: Instant | None = None
    reason: str = EndReason.EXPIRED.value
    actor: str = "system"
    version: int = 0

    def due(self, now: Instant) -> bool:
        """Whether its end has come: by the clock, or because it was begun before."""
        return self.begun or now >= self.hold.ends_at

    def settled(self, now: Instant) -> bool:
        """Whether nothing is left to do now: read back as removed, cut where that is apart, and not
        held by grants whose end has come. A clock of ours that is off leaves nothing uncut.
        """
        uncut = self.uncut_until is not None and now < self.uncut_until + CLOCK_OFF
        return self.removed(now) and not uncut

    def removed(self, now: Instant) -> bool:
        """Whether it was read back as removed, and nothing that held it has come to its end."""
        return self.done and (self.held_until is None or now < self.held_until)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What is owed, from every journal together.

    `unusable` names grants of which the journals say too little to close them: a copy of the log
    may say more. `begun` has, of every journal, the last line that says that an end was begun and
    was by that journal not read back since.
    """

    owed: tuple[KnownEnd, ...]
    unusable: tuple[str, ...]
    known: frozenset[str]  # every grant a journal says enough of
    begun: Mapping[str, Sequence[JournalLine]] = field(default_factory=dict)


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


def gather(journals: Mapping[str, Sequence[JournalLine]], own: str, now: Instant) -> Gathered:
    """Everything the journals say was opened and is not gone; `own` names this installation's.

    A line of any journal counts for the grant it names, whichever machine wrote it: what was
    opened on one may have been ended on another.
    """
    where: dict[str, str] = {}
    for source, lines in journals.items():
        for line in lines:
            if line.kind == "intended":
                where.setdefault(line.grant, source)
    begun = _begun(journals.values())
    ours = {line.grant for line in journals.get(own, ()) if line.kind == "intended"}
    owed: list[KnownEnd] = []
    unusable: list[str] = []
    told = _in_order(journals.values())
    for name, of_it in told.items():
        if name not in where:
            unusable += [] if _is_over(of_it, begun.get(name, ())) else [name]
            continue
        try:
            one = _owed(of_it, begun.get(name, ()), where[name], ours=name in ours)
        except EvidenceBroken:
            unusable.append(name)
            continue
        if one is not None:
            owed.append(one)
    return Gathered(
        owed=_shared(owed, now),
        unusable=tuple(unusable),
        known=frozenset(told).difference(unusable),
        begun=begun,
    )


def _is_over(lines: Sequence[tuple[Instant, JournalLine]], begun: Sequence[JournalLine]) -> bool:
    """Whether journals that do not name an opening say that nothing is left of it."""
    if {"gone", "sealed"} <= {line.kind for _, line in lines}:
        told = (line for _, line in lines if line.kind == "closing" and line not in begun)
        newest = max((line.row for line in told if line.row is not None), default=-1)
        if all(line.row is not None and line.row <= newest for line in begun):
            return True
    ended = read_back([line for _, line in lines])
    if ended is None or _in_doubt(ended, begun):
        return any(line.kind == "sealed" for _, line in lines) and not begun
    return ended.kind == "gone" or not (ended.uncut or ended.held)


def _in_order(
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


def _begun(journals: Iterable[Sequence[JournalLine]]) -> dict[str, list[JournalLine]]:
    """The ends that a journal says were begun, and by its own lines were not read back since."""
    found: dict[str, list[JournalLine]] = {}
    for lines in journals:
        for name, told in lines_by_grant(lines).items():
            if is_begun(told):
                last = [line for line in told if line.kind == "closing"][-1]
                found.setdefault(name, []).append(last)
    return found


def _owed(
    lines: Sequence[tuple[Instant, JournalLine]],
    begun: Sequence[JournalLine],
    source: str,
    *,
    ours: bool,
) -> KnownEnd | None:
    """What is known of one grant that was opened; None: it is gone.

    Raises:
        EvidenceBroken: its line says too little to close it.
    """
    since, intended = [(at, line) for at, line in lines if line.kind == "intended"][-1]
    after = [line for at, line in lines if at >= since]
    ended = read_back(after)
    if ended is not None and _in_doubt(ended, begun):
        ended = None
    if ended is not None and ended.kind == "gone":
        return None
    told = ends(after) or begun
    data = told[0].data if told else {}
    seconds = intended.data.get("lingers_seconds")
    lingers = timedelta(seconds=seconds if isinstance(seconds, int) else 0)
    uncut = ended is not None and ended.uncut
    panicked = any(line.data.get("reason") == EndReason.PANIC for line in told)
    return KnownEnd(
        hold=hold_of_line(intended),
        source=source,
        made_at=intended.at,
        lingers=lingers,
        begun=bool(told),
        done=ended is not None,
        ours=ours,
        shared_until=None if ended is not None or panicked else intended.shared_until,
        uncut_until=ended.at + lingers if ended is not None and uncut else None,
        removed_at=ended.at if ended is not None else None,
        held=ended is not None and ended.held,
        held_until=ended.held_until if ended is not None else None,
        reason=str(data.get("reason") or EndReason.EXPIRED.value),
        actor=str(data.get("actor") or "system"),
    )


def _in_doubt(ended: JournalLine, begun: Sequence[JournalLine]) -> bool:
    """Whether an end that one journal calls begun may have been begun after it was read back in
    another: their clocks do not tell. Then it is closed once more. What is held is another's.
    """
    return not ended.held and any(ended.at - line.at <= CLOCK_OFF for line in begun)


def _shared(owed: Sequence[KnownEnd], now: Instant) -> tuple[KnownEnd, ...]:
    """With those marked whose assignment another grant may still hold: they are only read (I5)."""
    holding = {one.hold.key for one in owed if not one.due(now) and not one.done}
    return tuple(replace(one, shared=_is_shared(one, holding, now)) for one in owed)


def _is_shared(one: KnownEnd, holding: Collection[AssignmentKey], now: Instant) -> bool:
    elsewhere = one.shared_until is not None and now < one.shared_until
    return one.due(now) and (one.hold.key in holding or elsewhere)


def with_copy(
    gathered: Gathered,
    more: Sequence[KnownEnd],
    now: Instant,
    over: Collection[str] = (),
    gone: Collection[str] = (),
) -> Gathered:
    """`gathered` with grants that only a copy of the log knows, or knows how to close; the copy
    says of those in `over` that nothing is left of them, and of those in `gone` that this is
    proven.

    What a journal says was begun is owed, unless the copy saw its removal after that. What it calls
    owed and is `gone` is left alone: somebody else may have been given the same access since.
    """
    new: dict[str, KnownEnd] = {}
    for one in more:
        name = one.hold.grant
        begun, back = gathered.begun.get(name, ()), one.removed_at
        if begun and not one.held and (back is None or not _all_before(begun, one.version, back)):
            one = replace(one, begun=True, done=False)
        if name not in gathered.known:
            new[name] = one
    known = (_proven(one) if one.hold.grant in gone else one for one in gathered.owed)
    return replace(
        gathered,
        owed=_shared((*known, *new.values()), now),
        unusable=tuple(name for name in gathered.unusable if name not in new and name not in over),
    )


def _proven(one: KnownEnd) -> KnownEnd:
    """As it is once nothing is left of it, whoever else has the access."""
    return replace(one, done=True, uncut_until=None, shared_until=None, held=False, held_until=None)


def begin_all(gathered: Gathered, scope: Scope, actor: str, now: Instant) -> Gathered:
    """As after a panic: the end of everything in `scope` has come, whatever was fixed.

    So has that of the grants of other machines which hold what one in scope held: who and where are
    theirs too. Only a role's other name may not be in scope; without the database nobody here can
    tell, and what a panic means to take is rather taken with it than left.
    """
    owed: list[KnownEnd] = []
    for one in gathered.owed:
        if not scope.covers(one.hold.principal, one.hold.role.id):
            owed.append(one)
            continue
        if not one.begun:
            one = replace(one, begun=True, called=True, reason=EndReason.PANIC.value, actor=actor)
        one = replace(one, shared_until=None)
        until = one.held_until
        owed.append(one if until is None else replace(one, held_until=min(until, now)))
    return replace(gathered, owed=_shared(owed, now))


def recall(
    ground: Ground, gathered: Gathered, patience: timedelta, *, dry: bool = False
) -> list[Recalled]:
    """Close everything that is due, again and again until it is removed or `patience` is over.

    Returns how each grant stands, in the order given. With `dry` nothing is called or written.
    """
    now = ground.clock()
    found = {one.hold.grant: _as_it_is(one, now) for one in gathered.owed}
    waiting = [one for one in gathered.owed if found[one.hold.grant].fate is Fate.DUE]
    if dry or not waiting:
        return list(found.values())
    ground.tell(f"{len(waiting)} ends are owed (the access, or sessions of it); closing them")
    _write_begun(ground, waiting)
    until, tries, told = now + patience, 0, dict[str, str]()
    while waiting:
        tries += 1
        with ThreadPoolExecutor(HANDS, thread_name_prefix="tidegate-recall") as pool:
            for back in pool.map(lambda one: _close(ground, one), waiting):
                name = back.owed.hold.grant
                found[name] = back
                said = f"{name} {back.owed.hold.role.id}: {_say(back)}"
                if told.get(name) != said:
                    told[name] = said
                    ground.tell(said)
        waiting = [
            found[one.hold.grant].owed
            for one in waiting
            if _goes_on(found[one.hold.grant]) and one.hold.target.id not in ground.shut
        ]
        if not waiting or ground.clock() >= until:
            break
        ground.rest(pause(tries, ground.randomness(2)).total_seconds())
    return list(found.values())


def _goes_on(back: Recalled) -> bool:
    """Whether another try may do more: it is there, or its sessions are not cut."""
    return back.fate is Fate.CLOSING or back.uncut


def owed_of(grant: Grant, hold: Hold, source: str, held_until: Instant | None) -> KnownEnd:
    """What a copy of the log says of a grant that is not over.

    `held_until` is until when others hold its access, as the copy has it.
    """
    held = holds_on(grant, held_until)
    return KnownEnd(
        hold=hold,
        source=source,
        made_at=grant.opened_at or grant.opens_at,
        begun=grant.closing_at is not None,
        done=grant.removed_at is not None and held is bool(grant.still_held_by),
        uncut_until=None if grant.cut or grant.still_held_by else grant.residual_until,
        removed_at=grant.removed_at,
        held=held,
        held_until=held_until if held else None,
        reason=grant.end_reason or EndReason.EXPIRED.value,
        version=grant.version,
    )


def is_settled(grant: Grant, begun: Sequence[JournalLine]) -> bool:
    """Whether a copy of the log says that nothing is left of a grant, after every line of a journal
    that says that its end was begun.
    """
    at = grant.gone_at or grant.removed_at or grant.closing_at
    if grant.state in LIVE or grant.state is GrantState.READY or at is None:
        return False
    return _all_before(begun, grant.version, at)


def _all_before(begun: Sequence[JournalLine], version: int, at: Instant) -> bool:
    """Whether all that was begun was before the row was of this version; where a line names no
    row, before that instant, however far apart the clocks of two machines are.
    """
    return all(
        at - line.at > CLOCK_OFF if line.row is None else line.row < version for line in begun
    )


def _as_it_is(owed: KnownEnd, now: Instant) -> Recalled:
    if owed.settled(now) and owed.held_until is not None:
        why = f"other grants hold the same access until {wire(owed.held_until)}"
        return Recalled(owed=replace(owed, shared=True), fate=Fate.HELD, why=why)
    if owed.settled(now) and owed.held:
        why = "something else gave the same access when it ended, which is not ours to take"
        return Recalled(owed=owed, fate=Fate.HELD, why=why)
    if owed.settled(now):
        return Recalled(owed=owed, fate=Fate.BEFORE)
    return Recalled(owed=owed, fate=Fate.DUE if owed.due(now) else Fate.LATER)


def _write_begun(ground: Ground, owed: Sequence[KnownEnd]) -> None:
    """Lines of what is about to be closed, in our own journal, with the intent it may lack."""
    now = ground.clock()
    lines: list[JournalLine] = []
    for one in owed:
        if not one.ours:
            hold = one.hold
            lines.append(intended_line(hold, hold.stood_before, one.lingers, one.made_at))
        if one.removed_at is not None and one.removed(now):  # only its cut is owed
            copied = removed_line(one.hold.grant, one.removed_at, uncut=True, held=one.held)
            lines += [] if one.ours else [copied]
        elif not one.begun or one.called or not one.ours or one.held:  # else it says so, or `held`
            data = {"reason": one.reason, "actor": one.actor}
            lines.append(JournalLine(kind="closing", grant=one.hold.grant, at=now, data=data))
    try:
        ground.journal.append_all(lines)
    except OSError as fault:  # closing never waits for what is written about it
        ground.tell(f"the journal cannot be written, closing goes on without it: {fault}")


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
            return _still_usable(owed, seen, now)
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
        why = _write_removed(ground, owed, seen, now, uncut) or why
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


def _still_usable(owed: KnownEnd, seen: Seen, now: Instant) -> Recalled:
    if owed.shared:
        why = "another grant holds the same access until its own end"
        return Recalled(owed=owed, fate=Fate.HELD, why=why)
    if owed.hold.stood_before or seen.inherited:
        by = f" by {seen.inherited}" if seen.inherited else ""
        why = f"standing access{by}, which is not ours to take"
        return Recalled(owed=owed, fate=Fate.HELD, why=why)
    if owed.removed(now):
        why = "removed before, and given again since, by whom is not known here"
        return Recalled(owed=owed, fate=Fate.HELD, why=why, uncut=not seen.cut)
    return Recalled(owed=owed, fate=Fate.CLOSING, why="read back, it is still usable")


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


def _write_removed(ground: Ground, owed: KnownEnd, seen: Seen, now: Instant, uncut: bool) -> str:
    line = removed_line(
        owed.hold.grant,
        now,
        cloud_at=seen.cloud_at,
        cut_before=seen.cut_before,
        uncut=uncut,
        alone=True,
    )
    try:
        ground.journal.append(line)
    except (OSError, TidegateError):
        return "the journal could not be written: a later server will look at it again"
    return ""


def _say(back: Recalled) -> str:
    until = back.residual_until
    if back.fate is Fate.REMOVED and until is not None and back.at is not None and until > back.at:
        why = f"{back.why}; " if back.uncut else ""
        return f"removed, read back; {why}a session taken before may act until {wire(until)}"
    if back.fate is Fate.REMOVED:
        return "removed, read back"
    return f"{back.fate}: {back.why}" if back.why else back.fate.value
