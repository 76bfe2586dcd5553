"""What is owed, with no store at all: journals of several machines read as one, and what a copy of
the log says beside them.

A journal says what was opened, begun and read back; a copy may be older than any of it. So a copy
adds ends and never takes one back: what a journal calls begun is owed, until something newer says
that it was read back as removed. `recalling.py` closes it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from tidegate.base.errors import EvidenceBroken
from tidegate.base.when import LONGEST_DURATION, Instant
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.port import Hold
from tidegate.evidence.journal import JournalLine
from tidegate.evidence.journal_book import ends, read_back
from tidegate.evidence.journal_line import CLOCK_OFF
from tidegate.expire import EndReason
from tidegate.flow.believing import (
    Opening,
    all_before,
    as_one,
    begun_anew,
    begun_by,
    can_be,
    in_doubt,
    in_order,
    is_heard,
    is_over,
    opening_of,
)
from tidegate.flow.deadlines import holds_on
from tidegate.flow.holding import lines_by_grant
from tidegate.grant import Grant
from tidegate.panic import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEnd:
    """One grant something is known of. `source` says where from, `begun` that its end was begun.

    `ours`: this installation's own journal knows it; `anew` is the version of its row at which that
    began to take what had come back. `reason` is the end's, as its line says.
    `held`: read back, and something else gave the access: grants that end at `held_until`, and from
    then on it is owed; without that, what is not ours to take. `uncut_until`: until when sessions
    may act that were not seen cut when it was removed. `removed_at`: when, not by this run.
    `shared_until`: until when a grant of another machine gives the same access, as last heard.
    `shared`: some other grant gives it now, the last of those known here until `others_until`.
    `unnamed`: of whatever gives it until last no more is known than that it does.
    `called`: a panic, a copy or another journal says that its end was begun or is over, and no line
    of ours does yet. `version`: of its row, by a copy, whose last event was sealed at `told_at`; by
    a journal, the newest of those at which it says that its end was begun, 0 where it says of none.
    `begun_at` and `row`: when it was begun, as our line is to say it; now, by no version, if None.
    `unsealed`: a copy of later has no intent of it, or that its opening failed: it holds nothing.
    """

    hold: Hold
    source: str
    made_at: Instant
    lingers: timedelta = timedelta(0)
    begun: bool = False
    called: bool = False
    done: bool = False
    ours: bool = False
    anew: int | None = None
    shared: bool = False
    others_until: Instant | None = None
    unnamed: bool = False
    shared_until: Instant | None = None
    uncut_until: Instant | None = None
    removed_at: Instant | None = None
    held: bool = False
    held_until: Instant | None = None
    reason: str = EndReason.EXPIRED.value
    actor: str = "system"
    version: int = 0
    told_at: Instant | None = None
    begun_at: Instant | None = None
    row: int | None = None
    unsealed: bool = False

    def due(self, now: Instant) -> bool:
        """Whether its end has come: by the clock, or because it was begun before."""
        return self.begun or now >= self.hold.ends_at

    def settled(self, now: Instant) -> bool:
        """Whether nothing is left to do now: read back as removed, cut where that is apart, and not
        held by grants whose end has come. A clock of ours that is off leaves nothing uncut.
        """
        uncut = self.uncut_until is not None and now - self.uncut_until < CLOCK_OFF
        return self.removed(now) and not uncut

    def removed(self, now: Instant) -> bool:
        """Whether it was read back as removed, and nothing that held it has come to its end."""
        return self.done and (self.held_until is None or now < self.held_until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What is owed, from every journal together.

    `unusable` names grants of which the journals say too little to close them: a copy of the log
    may say more. Of those in `undated` they say what to close, and of when nothing that can be: a
    panic needs no more. `begun` has, of every journal, the last line that says that an end was
    begun and was by that journal not read back since.
    """

    owed: tuple[KnownEnd, ...]
    unusable: tuple[str, ...]
    known: frozenset[str]  # every grant a journal says enough of
    begun: Mapping[str, Sequence[JournalLine]] = field(default_factory=dict)
    undated: tuple[KnownEnd, ...] = ()


def gather(journals: Mapping[str, Sequence[JournalLine]], own: str, now: Instant) -> Gathered:
    """Everything the journals say was opened and is not gone; `own` names this installation's.

    A line of any journal counts for the grant it names, whichever machine wrote it: what was
    opened on one may have been ended on another. What to close is our own journal's word, and what
    cannot be so is left out, whoever says it.
    """
    where: dict[str, str] = {}
    named = [line.grant for lines in journals.values() for line in lines]
    journals = {
        source: [line for line in lines if can_be(line, now)] for source, lines in journals.items()
    }
    for source, lines in journals.items():
        for line in lines:
            if line.kind == "intended":
                where.setdefault(line.grant, source)
    begun = begun_by(journals.values())
    ours = lines_by_grant(journals.get(own, ()))
    owed: list[KnownEnd] = []
    undated: list[KnownEnd] = []
    unusable: list[str] = []
    told = in_order(journals.values())
    for name in dict.fromkeys((*told, *named)):
        of_it, begun_of_it = told.get(name, []), begun.get(name, ())
        if name not in where:
            unusable += [] if is_over(of_it, begun_of_it, now) else [name]
            continue
        try:
            opening = _opening(of_it, ours.get(name, ()), now)
            one = _owed(opening, of_it, begun_of_it, ours.get(name, ()), where[name], now)
        except (EvidenceBroken, OverflowError, TypeError, ValueError):
            unusable.append(name)  # no line may keep the others open
            continue
        if one is not None and not (opening.sound or one.begun or one.done):
            undated.append(one)
            unusable.append(name)
        elif one is not None:
            owed.append(one)
    return Gathered(
        owed=as_shared(owed, now),
        unusable=tuple(unusable),
        known=frozenset(named).difference(unusable),
        begun=begun,
        undated=tuple(undated),
    )


def _opening(
    lines: Sequence[tuple[Instant, JournalLine]], ours: Sequence[JournalLine], now: Instant
) -> Opening:
    """`opening_of` what journals say of one grant; `ours` says it in our own."""
    own = [line for line in ours if line.kind == "intended"]
    opening = opening_of([line for _, line in lines if line.kind == "intended"], own, now)
    return replace(opening, anew=begun_anew(ours) if opening.ours else None)


def _owed(
    opening: Opening,
    lines: Sequence[tuple[Instant, JournalLine]],
    begun: Sequence[JournalLine],
    ours: Sequence[JournalLine],
    source: str,
    now: Instant,
) -> KnownEnd | None:
    """What is known of one grant that was opened, `ours` its lines in our journal; None: gone."""
    since = [at for at, line in lines if line.kind == "intended"][-1]
    after = [line for at, line in lines if at >= since]
    ended = read_back(after)
    if ended is not None and in_doubt(ended, begun, now):
        ended = None
    if ended is not None and ended.kind == "gone":
        return None
    # Nothing opens anew after an end but what is to be closed: a later opening undoes none.
    told = ends(after) or begun or ends([line for _, line in lines])
    data = told[0].data if told else {}
    uncut = ended is not None and ended.uncut
    panicked = any(line.data.get("reason") == EndReason.PANIC for line in told)
    heard = is_heard(ours, ended)
    begun_at, row = (None, None) if heard or ended or not begun else as_one(begun)
    return KnownEnd(
        hold=opening.hold,
        source=source,
        made_at=opening.made_at,
        lingers=opening.lingers,
        begun=bool(told),
        called=bool(told) and not heard,
        begun_at=begun_at,
        row=row,
        done=ended is not None,
        ours=opening.ours,
        anew=opening.anew,
        shared_until=None if ended is not None or panicked else opening.shared_until,
        uncut_until=ended.at + opening.lingers if ended is not None and uncut else None,
        removed_at=ended.at if ended is not None else None,
        held=ended is not None and ended.held,
        held_until=ended.held_until if ended is not None else None,
        reason=str(data.get("reason") or EndReason.EXPIRED.value),
        actor=str(data.get("actor") or "system"),
        version=max((line.row or 0 for _, line in lines if line.kind == "closing"), default=0),
    )


def as_shared(owed: Sequence[KnownEnd], now: Instant) -> tuple[KnownEnd, ...]:
    """With those marked whose assignment another grant may still hold: they are only read (I5)."""
    holding: dict[AssignmentKey, Instant] = {}
    for one in owed:
        if not (one.due(now) or one.done or one.unsealed):
            until = holding.get(one.hold.key, one.hold.ends_at)
            holding[one.hold.key] = max(until, one.hold.ends_at)
    return tuple(_marked(one, holding.get(one.hold.key), now) for one in owed)


def _marked(one: KnownEnd, held_until: Instant | None, now: Instant) -> KnownEnd:
    until = [at for at in (held_until, one.shared_until) if at is not None and now < at]
    last = max(until, default=None) if one.due(now) else None
    heard = one.held_until if one.done else one.shared_until
    unnamed = heard is not None and (held_until is None or held_until < heard)
    return replace(one, shared=last is not None, others_until=last, unnamed=unnamed)


def with_copy(
    gathered: Gathered,
    more: Sequence[KnownEnd],
    now: Instant,
    over: Collection[str] = (),
    gone: Collection[str] = (),
    ended: Mapping[AssignmentKey, Collection[Instant]] | None = None,
) -> Gathered:
    """`gathered` with what a copy of the log says of grants that are not over (`more`): those it
    alone knows, or knows how to close, and what it knows beyond the journals of the others. It
    says of those in `over` that nothing is left of them, and of those in `gone` that this is
    proven; `ended` has when grants were to end that hold an assignment no more.

    What a journal says was begun is owed, unless the copy saw its removal after that. What it calls
    owed and is `gone` is left alone: somebody else may have been given the same access since.
    """
    told = {one.hold.grant: one for one in more}
    owed: list[KnownEnd] = []
    for one in gathered.owed:
        name = one.hold.grant
        if name in told:
            one = _both(one, told[name], gathered.begun.get(name, ()))
        if one.shared_until is not None and one.shared_until in (ended or {}).get(one.hold.key, ()):
            one = replace(one, shared_until=None)  # whoever that was heard of has ended
        owed.append(_proven(one) if name in gone else one)
    new: dict[str, KnownEnd] = {}
    for name, one in told.items():
        begun, back = gathered.begun.get(name, ()), one.removed_at
        if begun and not one.held and (back is None or not all_before(begun, one.version, back)):
            one = replace(one, begun=True, done=False)
        if name not in gathered.known:
            new[name] = one
    return replace(
        gathered,
        owed=as_shared((*owed, *new.values()), now),
        unusable=tuple(name for name in gathered.unusable if name not in new and name not in over),
        undated=tuple(one for one in gathered.undated if one.hold.grant not in {*new, *over}),
    )


def _both(one: KnownEnd, row: KnownEnd, begun: Sequence[JournalLine]) -> KnownEnd:
    """What a journal and a copy say of one grant together, whichever is the older.

    An end that was begun is never undone, and a fixed end only ever moves on: both are believed of
    either. That it was read back is believed of a copy that is newer than what was begun, and what
    is to be closed of a copy however old.
    """
    if one.done and not _taken_up(one, row):
        return one
    if one.done:
        one = replace(
            one, begun=True, called=True, done=False, removed_at=None, uncut_until=None,
            held=False, held_until=None, begun_at=None, row=row.version,
        )  # fmt: skip
    # What a row has as standing may be a return that was signed for, until we began to take it.
    taken = one.anew is not None and one.anew >= row.version and not one.hold.stood_before
    stood = row.hold.stood_before and not taken
    hold = replace(row.hold, ends_at=max(one.hold.ends_at, row.hold.ends_at), stood_before=stood)
    one = replace(one, hold=hold)
    if row.done and row.removed_at and all_before(begun, row.version, row.removed_at):
        return replace(
            one,
            begun=True,
            called=True,
            done=True,
            removed_at=row.removed_at,
            uncut_until=row.uncut_until,
            held=row.held,
            held_until=row.held_until,
            shared_until=None,
            reason=one.reason if one.begun else row.reason,
        )
    if row.begun and not one.begun:
        return replace(one, begun=True, called=True, reason=row.reason, actor=row.actor)
    return one


def _taken_up(one: KnownEnd, row: KnownEnd) -> bool:
    """Whether a copy says that the end was begun once more after a journal has it read back.

    A removal is the version next to that of its last `closing` line, so one beyond is of later; but
    others may have tried it since that line, whose journals are not here. So the copy must not be
    older than the read-back besides, as far as clocks can tell; and newer by any clock where no
    line names a version, as of what was closed without the database.
    """
    at = one.removed_at
    if not row.begun or row.done or at is None or row.told_at is None:
        return False
    if not one.version:
        return row.told_at - at > CLOCK_OFF
    return one.version < row.version - 1 and at - row.told_at <= CLOCK_OFF


def _proven(one: KnownEnd) -> KnownEnd:
    """As it is once nothing is left of it, whoever else has the access."""
    return replace(one, done=True, uncut_until=None, shared_until=None, held=False, held_until=None)


def begin_all(gathered: Gathered, scope: Scope, actor: str, now: Instant) -> Gathered:
    """As after a panic: the end of everything in `scope` has come, whatever was fixed.

    So has that of the grants of other machines which hold what one in scope held: who and where are
    theirs too. Only a role's other name may not be in scope; without the database nobody here can
    tell, and what a panic means to take is rather taken with it than left. So is what nobody can
    tell the fixed end of.
    """
    owed: list[KnownEnd] = []
    undated = {
        one.hold.grant: one
        for one in gathered.undated
        if scope.covers(one.hold.principal, one.hold.role.id)
    }
    for one in (*gathered.owed, *undated.values()):
        if not scope.covers(one.hold.principal, one.hold.role.id):
            owed.append(one)
            continue
        if not one.begun:
            one = replace(one, begun=True, called=True, reason=EndReason.PANIC.value, actor=actor)
        one = replace(one, shared_until=None)
        until = one.held_until
        owed.append(one if until is None else replace(one, held_until=min(until, now)))
    return replace(
        gathered,
        owed=as_shared(owed, now),
        unusable=tuple(name for name in gathered.unusable if name not in undated),
        undated=tuple(one for one in gathered.undated if one.hold.grant not in undated),
    )


def owed_of(
    grant: Grant, hold: Hold, source: str, held_until: Instant | None, told_at: Instant
) -> KnownEnd:
    """What a copy of the log says of a grant that is not over.

    `held_until` is until when others hold its access, as the copy has it; `told_at` when its last
    event was sealed.
    """
    held = holds_on(grant, held_until)
    uncut = None if grant.cut or grant.still_held_by else grant.residual_until
    lives = uncut - grant.removed_at if uncut and grant.removed_at else timedelta(0)
    return KnownEnd(
        hold=hold,
        source=source,
        made_at=grant.opened_at or grant.opens_at,
        lingers=min(lives, LONGEST_DURATION),
        begun=grant.closing_at is not None,
        done=grant.removed_at is not None and held is bool(grant.still_held_by),
        uncut_until=uncut,
        removed_at=grant.removed_at,
        held=held,
        held_until=held_until if held else None,
        reason=grant.end_reason or EndReason.EXPIRED.value,
        version=grant.version,
        told_at=told_at,
    )
