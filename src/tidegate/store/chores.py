"""What workers ask at every look, prepared once: what is to be warned, moved, lapsed or mended.

A row that cannot be read is named in the server's log and left out, so that it keeps no other
waiting.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cache, partial
from typing import Any

import structlog
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    case,
    column,
    or_,
    select,
)
from sqlalchemy import text as words

from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.catalogue import Assignment
from tidegate.grant import UNREMOVED, Grant, GrantState
from tidegate.policy.rules import LONGEST_GRACE
from tidegate.request import Request
from tidegate.store import schema
from tidegate.store.look import Look, Looked, Looking
from tidegate.store.reads import AT_ONCE, bounded, had_to_end, readable
from tidegate.store.rows import UNREADABLE

log = structlog.get_logger("tidegate.store")

Columns = Mapping[str, ColumnElement[Any]]

WIDTHS = (1, 4, 20, 60, 200, AT_ONCE)  # of a list of names
_STATES = {state.value: state for state in GrantState}
_W = tuple(f"w_{place}" for place in range(AT_ONCE))  # what these are called in a query
# A role session of any cloud lives 12 hours at most (AWS: MaxSessionDuration, SessionDuration).
LONGEST_LINGERING = timedelta(hours=12)
ENDING = (  # a closing journal hears of
    GrantState.CLOSING,
    GrantState.REMOVED,
    GrantState.GONE,
    GrantState.FAILED,
)
# What a sealed instant may lie ahead of a process whose clock is right: the gate is shut for one
# that is a second from the database's clock.
AHEAD = timedelta(seconds=2)


def extensions_due(db: Looking, limit: int, after: str) -> list[Request]:
    """Approved extensions whose grant's end has not moved yet, oldest first."""
    return readable(Request, _extensions(db.words.name).rows(db, most=bounded(limit), after=after))


def arming(db: Looking, limit: int, after: str) -> list[Grant]:
    """Open grants whose end moved, and journal and cloud may not have it yet, oldest first."""
    return readable(Grant, _arming(db.words.name).rows(db, most=bounded(limit), after=after))


def unwarned(db: Looking, now: Instant, before: timedelta, limit: int) -> list[Grant]:
    """Open grants whose holder is to be warned of the end by now, the soonest end first.

    That is `before` the window's end, or half a window that is shorter (`extend.warn_at`).
    """
    rows = _unwarned(db.words.name).rows(
        db,
        now=to_ms(now),
        reach=to_ms(now + before + LONGEST_GRACE),
        ahead=int(before / timedelta(milliseconds=1)),
        most=bounded(limit),
    )
    return readable(Grant, rows)


def lapsed(db: Looking, now: Instant, limit: int) -> list[Request]:
    """Pending requests whose decide-by has passed, longest over first."""
    return readable(Request, _lapsed(db.words.name).rows(db, now=to_ms(now), most=bounded(limit)))


def cuts_in_force(db: Looking, since: Instant) -> list[Grant]:
    """Grants whose cut may have to stand after `since`.

    Those that began to close before an end that lies after `since`, and those whose sessions were
    cut with or after a removal less than LONGEST_LINGERING before it. Of a row that cannot be read
    the closing journal names the cut as well.
    """
    engine = db.words.name
    early = _cut_early(engine).rows(db, since=to_ms(since))
    late_ones = _cut_late(engine).rows(db, since=to_ms(since - LONGEST_LINGERING))
    found = {one.id: one for one in readable(Grant, (*early, *late_ones))}
    return sorted(found.values(), key=lambda one: (one.ends_at is None, one.ends_at, one.id))


def grants_named(db: Looking, names: Iterable[str]) -> dict[str, Grant]:
    """Grants by id; those not there, or that cannot be read, are left out."""
    rows = named(db, partial(_these, schema.grants), names)
    return {one.id: one for one in readable(Grant, rows)}


def assignments_named(db: Looking, names: Iterable[str]) -> dict[str, Assignment]:
    """Assignments by id, as `grants_named`."""
    rows = named(db, partial(_these, schema.assignments), names)
    return {one.id: one for one in readable(Assignment, rows)}


def states_named(db: Looking, names: Iterable[str]) -> dict[str, GrantState | None]:
    """The states of grants by id, None where it cannot be read; those not there are left out."""
    return {row["id"]: _state(row) for row in named(db, _states, names)}


def _state(row: Looked) -> GrantState | None:
    state = _STATES.get(row["state"])
    if state is None:
        log.error("the state of a grant cannot be read", grant=row["id"])
    return state


def ending_of(db: Looking, names: Iterable[str]) -> dict[str, GrantState]:
    """Those of these grants that are closing, removed, gone or failed, by id."""
    return {row["id"]: GrantState(row["state"]) for row in named(db, _ending, names)}


def open_ends(db: Looking, names: Iterable[str]) -> dict[str, tuple[Instant, str]]:
    """When those of these grants that are open end, and the assignment of each.

    Those whose end cannot be read are left out, and named in the log.
    """
    found: dict[str, tuple[Instant, str]] = {}
    for row in named(db, _open, names):
        if row["ends_at_ms"] is None:
            continue
        try:
            found[row["id"]] = (from_ms(row["ends_at_ms"]), str(row["assignment"]))
        except UNREADABLE as fault:
            why = type(fault).__name__
            log.error("the end of a grant cannot be read", grant=row["id"], why=why)
    return found


def unremoved_after(db: Looking, after: str, limit: int) -> list[str]:
    """Grants whose access may be there, and whose id comes after that, in order."""
    found: list[str] = []
    for state in UNREMOVED:  # each in the order of its index: together they would be sorted
        rows = _state_after().rows(db, state=state.value, after=after, most=limit)
        found += [str(row["id"]) for row in rows]
    return sorted(found)[:limit]


def shared(db: Looking, names: Iterable[str]) -> dict[str, Assignment]:
    """Those of these assignments that more than one grant holds."""
    found = readable(Assignment, named(db, _shared, names))
    return {one.id: one for one in found if len(one.holders) > 1}


def late(
    db: Looking, targets: tuple[str, ...], now: Instant, longer: timedelta, limit: int
) -> list[Grant]:
    """Grants on these targets that had to end more than `longer` before `now`, those first.

    And those whose end a clock ahead of `now` sealed before it was due.
    """
    found: list[Grant] = []
    for target in targets:
        rows = _late(db.words.name).rows(
            db,
            target=target,
            before=to_ms(now - longer),
            ahead=to_ms(now + AHEAD),
            most=bounded(limit),
        )
        found += readable(Grant, rows)
    since = {one.id: to_ms(one.had_to_end_at) for one in found if one.had_to_end_at}
    return sorted(found, key=lambda one: (since[one.id], one.id))[: bounded(limit)]


def overdue(db: Looking, now: Instant, longer: timedelta, limit: int) -> list[str]:
    """Grants whose end came more than `longer` ago, first those where it is not sealed, the
    earliest first; and those of which `late` tells besides.

    Names alone: there may be many more of them than anybody can take up at a time.
    """
    before = to_ms(now - longer)
    found = [*_unsealed_ends(db.words.name).rows(db, before=before, most=limit)]
    ahead = to_ms(now + AHEAD)
    found += _late_names(db.words.name).rows(db, before=before, ahead=ahead, most=limit)
    return [str(row["id"]) for row in found]


def ending_targets(db: Looking) -> list[str]:
    """Every target with an end that is due or under way, in the settings or not any more."""
    return [str(row["target"]) for row in _ending_targets(db.words.name).rows(db)]


def named(db: Looking, look: Callable[[int], Look], names: Iterable[str]) -> Iterator[Looked]:
    """What a look at a list of names, `w_0` and so on, finds of all of these, some at a time."""
    wanted = sorted(set(names))
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        # A few widths, so that a few texts serve every call; the last name fills up.
        width = next(width for width in WIDTHS if width >= len(some))
        some += some[-1:] * (width - len(some))
        yield from look(width).rows(db, **dict(zip(_W, some, strict=False)))


def _most(query: Select[Any]) -> Look:
    return Look(query.limit(bindparam("most", type_=Integer)))


def _ms(name: str) -> ColumnElement[int]:
    return bindparam(name, type_=BigInteger)


@cache
def _these(table: Table, width: int) -> Look:
    return Look(select(table).where(table.c.id.in_(_names(width))))


@cache
def _states(width: int) -> Look:
    table = schema.grants
    return Look(select(table.c.id, table.c.state).where(table.c.id.in_(_names(width))))


@cache
def _ending(width: int) -> Look:
    table = schema.grants
    ending = or_(*(table.c.state == state.value for state in ENDING))
    return Look(select(table.c.id, table.c.state).where(table.c.id.in_(_names(width)), ending))


@cache
def _open(width: int) -> Look:
    table = schema.grants
    is_open = table.c.state == GrantState.OPEN.value
    asked = select(table.c.id, table.c.ends_at_ms, table.c.assignment)
    return Look(asked.where(table.c.id.in_(_names(width)), is_open))


@cache
def _state_after() -> Look:
    grants = schema.grants.c
    state = bindparam("state", type_=Text)
    which = (grants.state == state, grants.id > bindparam("after", type_=Text))
    return _most(select(grants.id).where(*which).order_by(grants.id))


@cache
def _shared(width: int) -> Look:
    table = schema.assignments
    several = table.c.holders.like("%,%")  # a list of ids as JSON: with a comma it has two
    return Look(select(table).where(table.c.id.in_(_names(width)), several))


def _names(width: int) -> list[Any]:
    return [bindparam(f"w_{place}") for place in range(width)]


def _by_index(table: Table, index: str, engine: str) -> tuple[Select[Any], Columns]:
    """Every column of a table, by that index.

    Left alone, SQLite takes the index by state: of a million open grants that is a walk of them
    all. Conditions on partial indexes are written out: a bound parameter would hide that they fit.
    """
    columns: dict[str, ColumnElement[Any]] = {
        one.name: column(one.name, one.type) for one in table.columns
    }
    hint = f" INDEXED BY {index}" if engine == "sqlite" else ""
    return select(*columns.values()).select_from(words(table.name + hint)), columns


@cache
def _extensions(engine: str) -> Look:
    query, columns = _by_index(schema.requests, "requests_moving", engine)
    moving = words("extends IS NOT NULL AND state = 'approved' AND applied_at_ms IS NULL")
    later = columns["id"] > bindparam("after", type_=Text)
    return _most(query.where(moving, later).order_by(columns["id"]))


@cache
def _arming(engine: str) -> Look:
    query, columns = _by_index(schema.grants, "grants_arming", engine)
    later = columns["id"] > bindparam("after", type_=Text)
    query = query.where(words("state = 'open' AND arming = true"), later)
    return _most(query.order_by(columns["id"]))


@cache
def _unwarned(engine: str) -> Look:
    query, columns = _by_index(schema.grants, "grants_unwarned", engine)
    ahead, ends = _ms("ahead"), columns["ends_at_ms"]
    half = (columns["duration_seconds"] + columns["extended_seconds"]) * 500
    lead = case((half < ahead, half), else_=ahead)
    query = query.where(
        words("state = 'open' AND warned = false"),
        ends <= _ms("reach"),
        ends - columns["grace_seconds"] * 1000 - lead <= _ms("now"),
    )
    return _most(query.order_by(ends))


@cache
def _lapsed(engine: str) -> Look:
    query, columns = _by_index(schema.requests, "requests_undecided", engine)
    by = columns["decide_by_ms"]
    return _most(query.where(words("state = 'pending'"), by <= _ms("now")).order_by(by))


@cache
def _cut_early(engine: str) -> Look:
    query, columns = _by_index(schema.grants, "grants_cut_early", engine)
    early = words("closing_at_ms < ends_at_ms")
    return Look(query.where(early, columns["ends_at_ms"] > _ms("since")))


@cache
def _cut_late(engine: str) -> Look:
    query, columns = _by_index(schema.grants, "grants_removed", engine)
    return Look(query.where(columns["removed_at_ms"] > _ms("since"), columns["cut"]))


@cache
def _ending_targets(engine: str) -> Look:
    hint = " INDEXED BY grants_turn" if engine == "sqlite" else ""
    target = column("target", Text)
    query = select(target).distinct().select_from(words(f"grants{hint}"))
    return Look(
        query.where(words("lane = 0 AND due_at_ms IS NOT NULL AND lane < 3")).order_by(target)
    )


@cache
def _unsealed_ends(engine: str) -> Look:
    query, columns = _by_index(schema.grants, "grants_ending", engine)
    ends = columns["ends_at_ms"]
    open_still = words("state IN ('open', 'intended')")
    query = query.with_only_columns(columns["id"], maintain_column_froms=True)
    return _most(query.where(open_still, ends < _ms("before")).order_by(ends))


@cache
def _late_names(engine: str) -> Look:
    query, columns = _by_index(schema.grants, "grants_due", engine)
    due = had_to_end(columns["closing_at_ms"], columns["ends_at_ms"])
    ending = words("lane = 0 AND due_at_ms IS NOT NULL")
    query = query.with_only_columns(columns["id"], maintain_column_froms=True)
    which = or_(due < _ms("before"), due > _ms("ahead"))
    return _most(query.where(ending, which).order_by(due, columns["id"]))


@cache
def _late(engine: str) -> Look:
    query, columns = _by_index(schema.grants, "grants_due", engine)
    due = had_to_end(columns["closing_at_ms"], columns["ends_at_ms"])
    query = query.where(
        words("lane = 0 AND due_at_ms IS NOT NULL"),
        columns["target"] == bindparam("target"),
        or_(due < _ms("before"), due > _ms("ahead")),
    )
    return _most(query.order_by(due, columns["id"]))
