"""Named queries for things and what hangs on them. One line each says what it answers.

Every function takes an open view (`Database.reading`) and bounds what it returns.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from sqlalchemy import (
    Connection,
    Integer,
    RowMapping,
    Select,
    Table,
    and_,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy import text as words
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from tidegate.base.errors import NotFound, WorldFailed
from tidegate.base.personal import Personal
from tidegate.base.when import Instant, to_ms
from tidegate.catalogue import Assignment, AssignmentKey, Membership, Principal
from tidegate.grant import Grant, GrantState
from tidegate.panic import Panic, PanicState
from tidegate.request import Request, RequestState
from tidegate.session import Session
from tidegate.store import schema
from tidegate.store.rows import UNREADABLE, Codec, Row, codecs

log = structlog.get_logger("tidegate.store")

MOST_ROWS = 1_000  # of one list: what a screen, an API page or a worker's look can use
# A role session of any cloud lives 12 hours at most (AWS: MaxSessionDuration, SessionDuration).
LONGEST_LINGERING = timedelta(hours=12)
AT_ONCE = 500  # names in one query: below every engine's bound on parameters

T = TypeVar("T")


class items_of(FunctionElement[int]):  # noqa: N801 - a function of SQL
    """How many members a JSON list has that is kept as text."""

    type = Integer()
    inherit_cache = True


@compiles(items_of)
def _items(element: items_of, compiler: SQLCompiler, **more: Any) -> str:
    return f"json_array_length({compiler.process(element.clauses, **more)})"


@compiles(items_of, "postgresql")
def _items_as_json(element: items_of, compiler: SQLCompiler, **more: Any) -> str:
    return f"json_array_length(CAST({compiler.process(element.clauses, **more)} AS json))"


def one(db: Connection, kind: type[T], name: str) -> T:
    """The thing of that kind called `name`. Raises NotFound."""
    found = maybe(db, kind, name)
    if found is None:
        word = _codec(kind).word
        raise NotFound(
            "not_found",
            f"expected the id of a {word}, got `{name[:40]}`",
            "copy the id from a list",
        )
    return found


def maybe(db: Connection, kind: type[T], name: str) -> T | None:
    """The thing of that kind called `name`, if there is one."""
    codec = _codec(kind)
    return first_of(db, kind, select(codec.table).where(codec.table.c.id == name))


def requests(
    db: Connection,
    states: frozenset[RequestState] | None,
    principal: str | None,
    limit: int,
    before: str | None,
) -> list[Request]:
    """Requests, newest first; `before` is the last id of the page before."""
    table = schema.requests
    query = select(table)
    if states is not None:
        query = query.where(table.c.state.in_(sorted(states)))
    if principal is not None:
        query = query.where(table.c.principal == principal)
    return _page(db, Request, query, table, limit, before)


def grants(
    db: Connection,
    columns: Mapping[str, str | None],
    target: str | None,
    states: frozenset[GrantState] | None,
    limit: int,
    before: str | None,
) -> list[Grant]:
    """Grants whose `columns` have these values (None: any), newest first."""
    table = schema.grants
    query = select(table)
    for column, value in columns.items():
        if value is not None:
            query = query.where(table.c[column] == value)
    if target is not None:
        # `0` follows `/`: the range of every role id that starts with `target/`.
        query = query.where(and_(table.c.role > f"{target}/", table.c.role < f"{target}0"))
    if states is not None:
        query = query.where(table.c.state.in_(sorted(states)))
    return _page(db, Grant, query, table, limit, before)


def sessions(db: Connection, grant: str) -> list[Session]:
    """Every session of a grant, oldest first."""
    table = schema.sessions
    return all_of(db, Session, select(table).where(table.c.grant_id == grant).order_by(table.c.id))


def session_by_key(db: Connection, key_id: str) -> Session | None:
    """The newest session of a credential's public key id: joins the cloud's trail to us."""
    table = schema.sessions
    query = select(table).where(table.c.key_id == key_id).order_by(table.c.id.desc()).limit(1)
    return first_of(db, Session, query)


def assignment_by_key(db: Connection, key: AssignmentKey) -> Assignment | None:
    """The assignment of a natural key."""
    table = schema.assignments
    query = select(table).where(
        table.c.connector == key.connector,
        table.c.account == key.account,
        table.c.native_role == key.native_role,
        table.c.native_principal == key.native_principal,
    )
    return first_of(db, Assignment, query)


def principal_by(db: Connection, issuer: str, subject: str) -> Principal | None:
    """The principal of an identity provider's immutable pair."""
    table = schema.principals
    return first_of(
        db, Principal, select(table).where(table.c.issuer == issuer, table.c.subject == subject)
    )


def memberships(db: Connection, principal: str | None, with_left: bool) -> list[Membership]:
    """Who was seen in which group; without those over unless `with_left`."""
    table = schema.memberships
    query = select(table).order_by(table.c.id)
    if principal is not None:
        query = query.where(table.c.principal == principal)
    if not with_left:
        query = query.where(not_(table.c.has_left))
    return all_of(db, Membership, query)


def lapsed(db: Connection, now: Instant, limit: int) -> list[Request]:
    """Pending requests whose decide-by has passed, longest over first.

    A row that cannot be read is named in the server's log and left out.
    """
    table = schema.requests
    query = (
        select(table)
        .where(table.c.state == "pending", table.c.decide_by_ms <= to_ms(now))
        .order_by(table.c.decide_by_ms)
        .limit(bounded(limit))
    )
    return _readable(db, Request, query)


def approved_without_grants(db: Connection, limit: int) -> list[Request]:
    """Approved requests with fewer grants than items. Walks all approved ones: not for a loop."""
    table, made = schema.requests, schema.grants
    count = (
        select(func.count()).select_from(made).where(made.c.request == table.c.id).scalar_subquery()
    )
    query = (
        select(table)
        .where(table.c.state == "approved", count < items_of(table.c["items"]))
        .order_by(table.c.id)
        .limit(bounded(limit))
    )
    return all_of(db, Request, query)


def cuts_in_force(db: Connection, since: Instant) -> list[Grant]:
    """Grants whose cut may have to stand after `since`.

    Those that began to close before an end that lies after `since`, and those whose sessions were
    cut with or after a removal less than LONGEST_LINGERING before it. A row that cannot be read is
    named in the server's log and left out: the closing journal names its cut as well.
    """
    table = schema.grants
    early = and_(table.c.ends_at_ms > to_ms(since), table.c.closing_at_ms < table.c.ends_at_ms)
    late = and_(table.c.removed_at_ms > to_ms(since - LONGEST_LINGERING), table.c.cut)
    query = select(table).where(or_(early, late)).order_by(table.c.ends_at_ms, table.c.id)
    return _readable(db, Grant, query)


def closing_on(db: Connection, assignment: str) -> list[Grant]:
    """Grants of an assignment whose removal is not read back yet."""
    table = schema.grants
    query = select(table).where(table.c.assignment == assignment, table.c.state == "closing")
    return all_of(db, Grant, query.order_by(table.c.id))


def named(db: Connection, kind: type[T], names: Iterable[str]) -> dict[str, T]:
    """The things of that kind by id; those not there, or that cannot be read, are left out."""
    table, wanted = _codec(kind).table, sorted(set(names))
    found: dict[str, T] = {}
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        for thing in _readable(db, kind, select(table).where(table.c.id.in_(some))):
            found[thing.id] = thing  # type: ignore[attr-defined]  # every thing has one
    return found


def panics(db: Connection, stopping_at: Instant | None, limit: int) -> list[Panic]:
    """Panics, newest first; with `stopping_at` those by which something may not open then."""
    table = schema.panics
    query = select(table)
    if stopping_at is not None:
        frozen = and_(table.c.frozen_until_ms > to_ms(stopping_at), table.c.lifted_at_ms.is_(None))
        query = query.where(or_(table.c.state == PanicState.CALLED.value, frozen))
    return _page(db, Panic, query, table, limit, None)


def any_ending(db: Connection, now: Instant) -> bool:
    """Whether an end has come that nobody has sealed."""
    table = schema.grants
    # Written out: a bound parameter would keep PostgreSQL from the partial index.
    waiting = words("state IN ('open', 'intended')")
    query = select(table.c.id).where(waiting, table.c.ends_at_ms <= to_ms(now)).limit(1)
    return db.execute(query).first() is not None


def asleep_for_ever(db: Connection) -> int:
    """How many grants are not over and yet will never be looked at: always 0, or I2 is broken."""
    table = schema.grants
    over = (GrantState.GONE.value, GrantState.FAILED.value)
    query = select(func.count()).where(table.c.due_at_ms.is_(None), table.c.state.not_in(over))
    return int(db.execute(query).scalar_one())


def document(db: Connection, digest: str) -> bytes | None:
    """A kept document by its digest."""
    table = schema.documents
    return db.execute(select(table.c.bytes).where(table.c.digest == digest)).scalar()


def disclosures(db: Connection, commitments: Iterable[str]) -> dict[str, Personal]:
    """The texts behind commitments; erased and unknown ones are left out."""
    table, wanted = schema.disclosures, sorted(set(commitments))
    found: dict[str, Personal] = {}
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        query = select(table.c.commitment, table.c.salt, table.c.text).where(
            table.c.commitment.in_(some), table.c.text.is_not(None)
        )
        for commitment, salt, text in db.execute(query):
            found[commitment] = Personal(salt, text)
    return found


def stored_rows(db: Connection, table: Table) -> Iterator[Row]:
    """Every row of a table as it is stored, by id."""
    query = select(table).order_by(table.c.id).execution_options(yield_per=MOST_ROWS)
    yield from db.execute(query).mappings()


def bounded(limit: int) -> int:
    """`limit` within what one list may hold."""
    return max(0, min(limit, MOST_ROWS))


def _codec(kind: type[T]) -> Codec[Any]:
    return codecs()[kind]


def _page(
    db: Connection,
    kind: type[T],
    query: Select[Any],
    table: Table,
    limit: int,
    before: str | None,
) -> list[T]:
    if before is not None:
        query = query.where(table.c.id < before)
    return all_of(db, kind, query.order_by(table.c.id.desc()).limit(bounded(limit)))


def all_of(db: Connection, kind: type[T], query: Select[Any]) -> list[T]:
    """Every thing of that kind the query finds."""
    return [_decoded(kind, row) for row in db.execute(query).mappings()]


def _readable(db: Connection, kind: type[T], query: Select[Any]) -> list[T]:
    """`_all` but for the rows that cannot be read: one must not keep the others waiting."""
    found: list[T] = []
    for row in db.execute(query).mappings():
        try:
            found.append(_decoded(kind, row))
        except WorldFailed as fault:
            log.error("a row is left out", code=fault.code, why=fault.message)
    return found


def first_of(db: Connection, kind: type[T], query: Select[Any]) -> T | None:
    """The first thing of that kind the query finds."""
    row = db.execute(query).mappings().first()
    return None if row is None else _decoded(kind, row)


def _decoded(kind: type[T], row: RowMapping) -> T:
    codec = _codec(kind)
    try:
        thing: T = codec.decode(row)
    except UNREADABLE as fault:
        raise WorldFailed(
            "row_unreadable",
            f"the row of {codec.word} `{row['id']}` holds what no version of ours wrote",
            "compare it with its evidence: `tidegate evidence rebuild --check`",
        ) from fault
    return thing
