"""Findings, baselines and turns: named reads, and the small writes no event makes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Text,
    and_,
    bindparam,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
)

from tidegate.base.errors import WorldFailed
from tidegate.base.when import Instant, to_ms
from tidegate.catalogue import Assignment, Baseline
from tidegate.finding import Finding, FindingKind, FindingState
from tidegate.grant import Grant, GrantState
from tidegate.store import schema
from tidegate.store.chores import named
from tidegate.store.database import Raw
from tidegate.store.look import Look, Looked, Looking
from tidegate.store.reads import all_of, bounded, first_seen, readable, rows_by, seen

# One role of one account: more people than that hold no role by hand.
MOST_ON_A_ROLE = 100_000
MOST_OF_A_KIND = 10_000

# A turn is taken when it is due and nobody else has it. A new one is due at once, and so is one
# whose due time, or lease, lies beyond what any clock that is right would write.
_FREE = """
WHERE (turns.due_at_ms <= ? OR turns.due_at_ms > ?)
  AND (turns.lease_until_ms IS NULL OR turns.lease_until_ms <= ? OR turns.lease_until_ms > ?)
"""
_TAKE = f"""
INSERT INTO turns (name, due_at_ms, lease_until_ms, place, tries) VALUES (?, ?, ?, '', 0)
ON CONFLICT (name) DO UPDATE SET lease_until_ms = excluded.lease_until_ms {_FREE}
RETURNING place, tries
"""  # noqa: S608 - our own words
_TAKE_OWED = f"""
UPDATE turns SET lease_until_ms = ? {_FREE} AND name = ? RETURNING place, tries
"""  # noqa: S608 - our own words
_OWE = """
INSERT INTO turns (name, due_at_ms, lease_until_ms, place, tries) VALUES (?, ?, NULL, ?, 0)
ON CONFLICT (name) DO NOTHING
"""

# How the turns of looks at a scope are called.
SCOPE = "scope|"
# How the turns of searches are called: of a grant that ended, and of access of it that came back.
SEARCH = "search|"
SEARCH_AGAIN = "again|"
# How the turns of looks at who administers an account are called.
STANDING = "standing|"
# No look at a scope waits or lasts more than two minutes; no search waits for more than the cloud's
# own records, which come within half an hour, nor a look at an account for more than ten minutes.
# What lies further ahead was written by a clock that was ahead, and whoever has that clock may be
# dead.
SCOPE_AHEAD = timedelta(minutes=5)
SEARCH_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Something one process at a time does: how far it came, and how often it was tried."""

    name: str
    place: str
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which findings a list asks for; None: any."""

    states: frozenset[FindingState] | None = None
    kind: FindingKind | None = None
    target: str | None = None
    grant: str | None = None
    principal: str | None = None


def finding_of(db: Looking, kind: FindingKind, target: str, what: str) -> Finding | None:
    """The finding of a natural key."""
    look = rows_by(schema.findings, "kind", "target", "what")
    return first_seen(Finding, look.rows(db, w_kind=kind.value, w_target=target, w_what=what))


def findings(db: Connection, wanted: Wanted, limit: int, before: str | None) -> list[Finding]:
    """Findings that fit everything asked for, newest first."""
    table = schema.findings
    query = select(table)
    if wanted.states is not None:
        query = query.where(table.c.state.in_(sorted(wanted.states)))
    named = {
        "kind": wanted.kind.value if wanted.kind else None,
        "target": wanted.target,
        "grant_id": wanted.grant,
        "principal": wanted.principal,
    }
    for column, value in named.items():
        if value is not None:
            query = query.where(table.c[column] == value)
    if before is not None:
        query = query.where(table.c.id < before)
    return all_of(db, Finding, query.order_by(table.c.id.desc()).limit(bounded(limit)))


def live_counts(db: Connection, target: str) -> dict[FindingKind, int]:
    """How many findings are not closed, by kind; with `target` only on that one."""
    table = schema.findings
    query = select(table.c.kind, func.count()).where(table.c.state != FindingState.CLOSED.value)
    if target:
        query = query.where(table.c.target == target)
    rows = db.execute(query.group_by(table.c.kind))
    return {FindingKind(kind): int(count) for kind, count in rows}


def oldest_live(db: Connection, target: str, limit: int) -> list[Finding]:
    """Findings that are not closed, those first seen longest ago first."""
    table = schema.findings
    query = select(table).where(table.c.state != FindingState.CLOSED.value)
    if target:
        query = query.where(table.c.target == target)
    return all_of(
        db, Finding, query.order_by(table.c.first_seen_ms, table.c.id).limit(bounded(limit))
    )


def live_of_role(db: Looking, target: str, role: str) -> list[Finding]:
    """Findings of a role that are not closed: what a look must see again, or they are mended.

    Without those that cannot be read: they stay as they are.
    """
    return readable(Finding, _live().rows(db, target=target, role=role))


@cache
def _live() -> Look:
    table = schema.findings
    query = select(table).where(
        table.c.target == bindparam("target"),
        table.c.role == bindparam("role"),
        table.c.state != FindingState.CLOSED.value,
    )
    return Look(query.order_by(table.c.id).limit(MOST_ON_A_ROLE))


def live_of_kind(db: Looking, kind: FindingKind) -> list[Finding]:
    """Findings of a kind that are not closed, the newest MOST_OF_A_KIND: for a panic, so no pool is
    waited for. Without those that cannot be read.
    """
    return readable(Finding, _live_kind().rows(db, kind=kind.value))


@cache
def _live_kind() -> Look:
    table = schema.findings
    # By name each: a `!=` would look through all that were ever closed.
    live = [table.c.state == one.value for one in FindingState if one is not FindingState.CLOSED]
    query = select(table).where(or_(*live), table.c.kind == bindparam("kind"))
    return Look(query.order_by(table.c.id.desc()).limit(MOST_OF_A_KIND))


def acceptances_over(db: Looking, now: Instant, limit: int) -> list[Finding]:
    """Accepted findings whose acceptance has run out, longest over first."""
    return seen(Finding, _over().rows(db, now=to_ms(now), most=bounded(limit)))


@cache
def _over() -> Look:
    table = schema.findings
    query = select(table).where(
        table.c.accepted_until_ms <= bindparam("now", type_=BigInteger),
        table.c.state == FindingState.CLOSED.value,
    )
    ordered = query.order_by(table.c.accepted_until_ms, table.c.id)
    return Look(ordered.limit(bindparam("most", type_=Integer)))


def seen_at(db: Raw, names: Iterable[str], now: Instant) -> None:
    """A look saw these findings unchanged."""
    for name in names:
        db.execute("UPDATE findings SET last_seen_ms = ? WHERE id = ?", (to_ms(now), name))


def assignments_on(db: Looking, connector: str, account: str, native_role: str) -> list[Assignment]:
    """Every assignment of one native role, held or not."""
    where = {"connector": connector, "account": account, "native_role": native_role}
    return seen(Assignment, _on_role().rows(db, **where))


def readable_on(
    db: Looking, connector: str, account: str, native_role: str
) -> tuple[list[Assignment], dict[str, WorldFailed]]:
    """As `assignments_on`; of rows that cannot be read, why, by native principal."""
    where = {"connector": connector, "account": account, "native_role": native_role}
    found: list[Assignment] = []
    unread: dict[str, WorldFailed] = {}
    for row in _on_role().rows(db, **where):
        try:
            found += seen(Assignment, (row,))
        except WorldFailed as fault:
            unread[str(row["native_principal"])] = fault
    return found, unread


@cache
def _on_role() -> Look:
    table = schema.assignments
    names = ("connector", "account", "native_role")
    query = select(table).where(*(table.c[name] == bindparam(name) for name in names))
    return Look(query.order_by(table.c.native_principal).limit(MOST_ON_A_ROLE))


def last_grant_on(db: Looking, assignment: str) -> Grant | None:
    """The grant that held an assignment last."""
    return first_seen(Grant, _last_on().rows(db, wanted=assignment))


@cache
def _last_on() -> Look:
    table = schema.grants
    query = select(table).where(table.c.assignment == bindparam("wanted"))
    return Look(query.order_by(table.c.id.desc()).limit(1))


def last_made_on(db: Looking, assignment: str) -> Grant | None:
    """The last grant on it that may have made something: one that `failed` made nothing."""
    return first_seen(Grant, _last_made_on().rows(db, wanted=assignment))


@cache
def _last_made_on() -> Look:
    table = schema.grants
    query = select(table).where(
        table.c.assignment == bindparam("wanted"), table.c.state != GrantState.FAILED.value
    )
    return Look(query.order_by(table.c.id.desc()).limit(1))


def unsearched(db: Looking, since: Instant, now: Instant, limit: int) -> list[Grant]:
    """Grants removed after `since` whose side doors were not looked for, longest waiting first.

    Without those whose turn is not due at `now`: what waits must not keep the rest waiting.
    """
    beyond = to_ms(now + SEARCH_AHEAD)
    asked = {"since": to_ms(since), "now": to_ms(now), "beyond": beyond, "most": bounded(limit)}
    return readable(Grant, _unsearched().rows(db, **asked))


@cache
def _unsearched() -> Look:
    table, turns = schema.grants, schema.turns
    waits = exists().where(
        turns.c.name == literal(SEARCH, Text).concat(table.c.id),
        or_(_lies_ahead(turns.c.due_at_ms), _lies_ahead(turns.c.lease_until_ms)),
    )
    query = select(table).where(
        table.c.removed_at_ms > bindparam("since", type_=BigInteger),
        table.c.searched == "",
        or_(table.c.state == "removed", table.c.state == "gone"),
        not_(waits),
    )
    ordered = query.order_by(table.c.removed_at_ms, table.c.id)
    return Look(ordered.limit(bindparam("most", type_=Integer)))


def turns_to_take(db: Looking, names: Sequence[str], now: Instant) -> list[str]:
    """Which of these turns could be had: what nobody ever took, then what is due the longest.

    In any other order those first in it, when each keeps its taker waiting, would be due again
    before the last is reached.
    """
    known = {row["name"]: row for row in named(db, _turns, names)}
    free = [name for name in names if name not in known or _is_free(known[name], now)]
    return sorted(free, key=lambda name: _due_from(known[name], now) if name in known else 0)


def _due_from(row: Looked, now: Instant) -> int:
    return min(int(row["due_at_ms"]), to_ms(now))


def owe_turn(db: Raw, name: str, place: str, due_at: Instant) -> None:
    """Have a turn there for somebody to take; one of that name stays as it is."""
    db.execute(_OWE, (name, to_ms(due_at), place))


def turns_due(db: Looking, begins: str, now: Instant, limit: int) -> list[str]:
    """The names of turns that begin so, are due at `now` and in nobody's hand, longest first."""
    beyond = to_ms(now + _ahead(begins))
    asked = {"begins": f"{begins}%", "now": to_ms(now), "beyond": beyond, "most": bounded(limit)}
    return [str(row["name"]) for row in _due().rows(db, **asked)]


@cache
def _due() -> Look:
    """NB. it walks the table: it holds a line a scope and one a search that waits."""
    turns = schema.turns
    query = select(turns.c.name).where(
        turns.c.name.like(bindparam("begins", type_=Text)),
        not_(_lies_ahead(turns.c.due_at_ms)),
        or_(turns.c.lease_until_ms.is_(None), not_(_lies_ahead(turns.c.lease_until_ms))),
    )
    ordered = query.order_by(turns.c.due_at_ms, turns.c.name)
    return Look(ordered.limit(bindparam("most", type_=Integer)))


def may_take_turn(db: Looking, name: str, now: Instant) -> bool:
    """Whether a turn could be had: spares a look that is not due the write."""
    for row in _turn().rows(db, wanted=name):
        return _is_free(row, now)
    return not name.startswith(SEARCH_AGAIN)


def _is_free(row: Looked, now: Instant) -> bool:
    beyond = to_ms(now + _ahead(row["name"]))
    times = (row["due_at_ms"], row["lease_until_ms"])
    return not any(one is not None and to_ms(now) < one <= beyond for one in times)


def _lies_ahead(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """After `now`, and not so far that only a wrong clock can have written it."""
    beyond = bindparam("beyond", type_=BigInteger)
    return and_(column > bindparam("now", type_=BigInteger), column <= beyond)


def _ahead(name: str) -> timedelta:
    """How far ahead a turn so called, or that begins so, may be put off or leased."""
    return SCOPE_AHEAD if name.startswith(SCOPE) else SEARCH_AHEAD


@cache
def _turns(width: int) -> Look:
    wanted: list[Any] = [bindparam(f"w_{place}") for place in range(width)]
    return Look(select(schema.turns).where(schema.turns.c.name.in_(wanted)))


@cache
def _turn() -> Look:
    return Look(select(schema.turns).where(schema.turns.c.name == bindparam("wanted")))


def take_turn(db: Raw, name: str, now: Instant, lease: timedelta) -> Turn | None:
    """Take the turn `name` until `now + lease`; None: it is not due, or another has it.

    One that must have been owed, since what it is for is in its place, is never made here.
    """
    at, until, beyond = to_ms(now), to_ms(now + lease), to_ms(now + _ahead(name))
    free = (at, beyond, at, beyond)
    if name.startswith(SEARCH_AGAIN):
        row = db.execute(_TAKE_OWED, (until, *free, name)).fetchone()
    else:
        row = db.execute(_TAKE, (name, at, until, *free)).fetchone()
    return None if row is None else Turn(name=name, place=str(row[0]), tries=int(row[1]))


def end_turn(db: Raw, turn: Turn, due_at: Instant) -> None:
    """Give a turn back: where it is to go on, how often it was tried, and when it is due again."""
    db.execute(
        "UPDATE turns SET lease_until_ms = NULL, due_at_ms = ?, place = ?, tries = ?"
        " WHERE name = ?",
        (to_ms(due_at), turn.place, turn.tries, turn.name),
    )


def drop_turn(db: Raw, name: str) -> None:
    """Forget a turn that is over."""
    db.execute("DELETE FROM turns WHERE name = ?", (name,))


def baselines(db: Looking, target: str) -> list[Baseline]:
    """Every baseline of a target."""
    found = seen(Baseline, rows_by(schema.baselines, "target").rows(db, w_target=target))
    return sorted(found, key=lambda one: one.id)
