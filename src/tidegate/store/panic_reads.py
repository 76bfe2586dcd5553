"""Which panics there are, and which keep something shut."""

from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Integer, and_, bindparam, case, func, or_, select

from tidegate.base.when import Instant, to_ms
from tidegate.panic import Panic, PanicState, ScopeKind
from tidegate.store import schema
from tidegate.store.look import Look, Looking
from tidegate.store.reads import MOST_COUNTED, bounded, first_seen, readable, seen


def panics(db: Looking, stopping_at: Instant | None, limit: int) -> list[Panic]:
    """Panics, newest first; with `stopping_at` those by which something may not open then.

    Of these, what people called for themselves comes last: everybody may, as often as they like.
    """
    stopping = {} if stopping_at is None else {"at": to_ms(stopping_at)}
    rows = _panics(stopping_at is not None).rows(db, most=bounded(limit), **stopping)
    return seen(Panic, rows)


def stopping(db: Looking, principal: str, role: str, now: Instant) -> Panic | None:
    """A panic by which access of `principal` to `role` may not open at `now`: some, of several.

    Asked by what it is about, never among the newest: nobody's panics hide those of others.
    """
    asked = {"principal": principal, "role": role, "target": role.partition("/")[0]}
    return first_seen(Panic, _stopping().rows(db, at=to_ms(now), **asked))


def about(db: Looking, principal: str, role: str, since: Instant) -> tuple[str, str] | None:
    """The last panic about this access that was called since then: its id and who called it."""
    asked = {"principal": principal, "role": role, "target": role.partition("/")[0]}
    rows = _last_about().rows(db, since=to_ms(since), **asked)
    return (str(rows[0]["id"]), str(rows[0]["actor"])) if rows else None


def count(db: Looking) -> int:
    """How many panics there are, whether or not their rows can be read."""
    return int(_count().rows(db)[0]["count"])


def called(db: Looking, limit: int) -> list[Panic]:
    """Panics that are not swept, oldest first."""
    return readable(Panic, _called().rows(db, most=bounded(limit)))


def stopping_count(db: Looking, now: Instant) -> int:
    """How many panics keep something shut; MOST_COUNTED at most."""
    return len(_stopping_ids().rows(db, at=to_ms(now), most=MOST_COUNTED))


@cache
def _panics(stopping: bool) -> Look:
    table = schema.panics
    query = select(table)
    order: list[ColumnElement[Any]] = [table.c.id.desc()]
    if stopping:
        own = and_(table.c.scope == ScopeKind.PRINCIPAL.value, table.c.actor == table.c.name)
        query = query.where(_stops())
        order.insert(0, case((own, 1), else_=0))
    return Look(query.order_by(*order).limit(bindparam("most", type_=Integer)))


def _stops() -> ColumnElement[bool]:
    table = schema.panics.c
    frozen = and_(table.frozen_until_ms > bindparam("at"), table.lifted_at_ms.is_(None))
    return or_(table.state == PanicState.CALLED.value, frozen)


@cache
def _stopping() -> Look:
    return Look(select(schema.panics).where(_is_about(), _stops()).limit(1))


@cache
def _last_about() -> Look:
    table = schema.panics.c
    query = select(table.id, table.actor).where(
        _is_about(), table.called_at_ms >= bindparam("since")
    )
    return Look(query.order_by(table.called_at_ms.desc()).limit(1))


@cache
def _count() -> Look:
    return Look(select(func.count().label("count")).select_from(schema.panics))


def _is_about() -> ColumnElement[bool]:
    table = schema.panics.c
    named = [
        and_(table.scope == kind, table.name == bindparam(kind))
        for kind in ("principal", "target", "role")
    ]
    return or_(table.scope == "all", *named)


@cache
def _stopping_ids() -> Look:
    query = select(schema.panics.c.id).where(_stops())
    return Look(query.limit(bindparam("most", type_=Integer)))


@cache
def _called() -> Look:
    table = schema.panics
    query = select(table).where(table.c.state == PanicState.CALLED.value)
    return Look(query.order_by(table.c.id).limit(bindparam("most", type_=Integer)))
