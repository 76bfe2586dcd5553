"""Named queries for things and what hangs on them. One line each says what it answers.

Every function takes an open view (`Database.reading`) and bounds what it returns.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, TypeVar

import structlog
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    RowMapping,
    Select,
    Table,
    bindparam,
    case,
    column,
    false,
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
from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.catalogue import Assignment, AssignmentKey, Membership, Principal
from tidegate.grant import Grant, GrantState
from tidegate.notice import Notice
from tidegate.request import Request, RequestState
from tidegate.session import Session
from tidegate.store import schema
from tidegate.store.look import Columns, Look, Looked, Looking
from tidegate.store.rows import UNREADABLE, Codec, Row, codecs

log = structlog.get_logger("tidegate.store")

MOST_COUNTED = 10_000  # of what waits: beyond it the number no longer matters to who waits
MOST_ROWS = 1_000  # of one list: what a screen, an API page or a worker's look can use
_KEY = ("connector", "account", "native_role", "native_principal")
OVER = frozenset({GrantState.GONE, GrantState.FAILED, GrantState.SIGNED_OFF})
MOST_KNOWN = 4_096  # rows kept as what they were read as, a kilobyte or two each
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


def one(db: Looking, kind: type[T], name: str) -> T:
    """The thing of that kind called `name`. Raises NotFound."""
    found = maybe(db, kind, name)
    if found is None:
        raise _not_found(kind, name)
    return found


def _not_found(kind: type, name: str) -> NotFound:
    return NotFound(
        "not_found",
        f"expected the id of a {codecs()[kind].word}, got `{name[:40]}`",
        "copy the id from a list",
    )


def maybe(db: Looking, kind: type[T], name: str) -> T | None:
    """The thing of that kind called `name`, if there is one."""
    return first_seen(kind, _by_id(_codec(kind).table).rows(db, wanted=name))


def requests(
    db: Looking,
    states: frozenset[RequestState] | None,
    principal: str | None,
    limit: int,
    before: str | None,
) -> list[Request]:
    """Requests, newest first; `before` is the last id of the page before."""
    table = schema.requests
    wanted = {"principal": principal}
    return _looked_page(db, Request, table, wanted, None, states, limit, before)


def notices(
    db: Connection, audience: str | None, waiting: bool, limit: int, before: str | None
) -> list[tuple[Notice, Instant | None]]:
    """Notices, newest first, with when each was delivered; `waiting`: only those that were not."""
    table = schema.outbox
    query = select(table)
    if audience is not None:
        query = query.where(table.c.audience == audience)
    if waiting:
        query = query.where(table.c.delivered_at_ms.is_(None))
    if before is not None:
        query = query.where(table.c.id < before)
    codec = _codec(Notice)
    rows = db.execute(query.order_by(table.c.id.desc()).limit(bounded(limit))).mappings()
    return [
        (
            codec.decode(row),
            None if row["delivered_at_ms"] is None else from_ms(row["delivered_at_ms"]),
        )
        for row in rows
    ]


def grants(
    db: Looking,
    columns: Mapping[str, str | None],
    target: str | None,
    states: frozenset[GrantState] | None,
    limit: int,
    before: str | None,
) -> list[Grant]:
    """Grants whose `columns` have these values (None: any), newest first."""
    return _looked_page(db, Grant, schema.grants, columns, target, states, limit, before)


def sessions(db: Looking, grant: str) -> list[Session]:
    """Every session of a grant, oldest first."""
    return seen(Session, _sessions().rows(db, wanted=grant))


def session_by_key(db: Connection, key_id: str) -> Session | None:
    """The newest session of a credential's public key id: joins the cloud's trail to us."""
    table = schema.sessions
    query = select(table).where(table.c.key_id == key_id).order_by(table.c.id.desc()).limit(1)
    return first_of(db, Session, query)


def assignment_by_key(db: Looking, key: AssignmentKey) -> Assignment | None:
    """The assignment of a natural key."""
    wanted = {
        "w_connector": key.connector,
        "w_account": key.account,
        "w_native_role": key.native_role,
        "w_native_principal": key.native_principal,
    }
    return first_seen(Assignment, rows_by(schema.assignments, *_KEY).rows(db, **wanted))


def principal_by(db: Looking, issuer: str, subject: str) -> Principal | None:
    """The principal of an identity provider's immutable pair."""
    look = rows_by(schema.principals, "issuer", "subject")
    return first_seen(Principal, look.rows(db, w_issuer=issuer, w_subject=subject))


def memberships(db: Looking, principal: str | None, with_left: bool) -> list[Membership]:
    """Who was seen in which group; without those over unless `with_left`."""
    wanted = {} if principal is None else {"wanted": principal}
    return seen(Membership, _memberships(principal is not None, with_left).rows(db, **wanted))


@dataclass(frozen=True, slots=True, kw_only=True)
class Someone:
    """Who somebody is, as one question answers it.

    `groups` are those they were seen in, each with whether they left it; `mail` is None where there
    is no address, or none any more.
    """

    principal: Principal
    groups: tuple[tuple[str, bool], ...]
    mail: str | None = field(repr=False)


def someone(db: Looking, name: str) -> Someone:
    """The principal called `name`, with groups and mail address. Raises NotFound."""
    rows = _someone().rows(db, wanted=name)
    if not rows:
        raise _not_found(Principal, name)
    first = rows[0]
    # NB. without the address: what a row was read as is kept, and a text may be erased.
    alone = Looked(_of_principal(), first.values[: len(schema.principals.c)])
    return Someone(
        principal=_decoded(Principal, alone),
        groups=tuple(
            (row["group_name"], bool(row["has_left"])) for row in rows if row["group_name"]
        ),
        mail=first["mail_text"],
    )


@cache
def _of_principal() -> Columns:
    return Columns(column.name for column in schema.principals.c)


@cache
def _someone() -> Look:
    who, seen_in, texts = schema.principals, schema.memberships, schema.disclosures
    query = (
        select(who, seen_in.c.group_name, seen_in.c.has_left, texts.c.text.label("mail_text"))
        .select_from(
            who.outerjoin(seen_in, seen_in.c.principal == who.c.id).outerjoin(
                texts, texts.c.commitment == who.c.mail
            )
        )
        .where(who.c.id == bindparam("wanted"))
    )
    return Look(query.order_by(seen_in.c.id))


def approved_without_grants(db: Connection, limit: int) -> list[Request]:
    """Approved requests with fewer grants than items. Walks all approved ones: not for a loop."""
    table, made = schema.requests, schema.grants
    count = (
        select(func.count()).select_from(made).where(made.c.request == table.c.id).scalar_subquery()
    )
    query = (
        select(table)
        .where(table.c.state == "approved", table.c.extends.is_(None))
        .where(count < items_of(table.c["items"]))
        .order_by(table.c.id)
        .limit(bounded(limit))
    )
    return all_of(db, Request, query)


def closing_on(db: Looking, assignment: str) -> list[Grant]:
    """Grants of an assignment whose removal is not read back yet."""
    return seen(Grant, _closing_on().rows(db, wanted=assignment))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits: ends that are not removed, and openings that are due; MOST_COUNTED at most.

    `oldest` is since when the longest of the ends is closing; None without one.
    """

    ends: int
    openings: int
    oldest: Instant | None


def waiting(db: Connection, targets: tuple[str, ...], now: Instant) -> Waiting:
    """What waits on these targets."""
    table = schema.grants
    here = table.c.target.in_(targets)
    ends = select(table.c.id).where(words("lane = 0 AND due_at_ms IS NOT NULL"), here)
    openings = select(table.c.id).where(
        words("lane = 2 AND due_at_ms IS NOT NULL"), here, table.c.opens_at_ms <= to_ms(now)
    )
    ends_count, openings_count = (
        int(
            db.execute(
                select(func.count()).select_from(some.limit(MOST_COUNTED).subquery())
            ).scalar_one()
        )
        for some in (ends, openings)
    )
    since_when = had_to_end(table.c.closing_at_ms, table.c.ends_at_ms)
    oldest = select(func.min(since_when)).where(
        table.c.id.in_(ends.order_by(table.c.due_at_ms).limit(MOST_ROWS))
    )
    since = db.execute(oldest).scalar()
    return Waiting(
        ends=ends_count, openings=openings_count, oldest=None if since is None else from_ms(since)
    )


def had_to_end(closing: ColumnElement[Any], ends: ColumnElement[Any]) -> ColumnElement[Any]:
    """`Grant.had_to_end_at` of a grant that is closing."""
    return case((ends < closing, ends), else_=closing)


def any_ending(db: Looking, now: Instant) -> bool:
    """Whether an end has come that nobody has sealed."""
    return bool(_ending(db.words.name).rows(db, now=to_ms(now)))


@cache
def _ending(engine: str) -> Look:
    # Left alone, SQLite takes the index by state and walks every open grant.
    hint = " INDEXED BY grants_ending" if engine == "sqlite" else ""
    # Written out: a bound parameter would keep PostgreSQL from the partial index.
    waiting = words("state IN ('open', 'intended')")
    over = column("ends_at_ms", BigInteger) <= bindparam("now", type_=BigInteger)
    query: Select[Any] = (
        select(column("id")).select_from(words(f"grants{hint}")).where(waiting, over)
    )
    return Look(query.limit(1))


def ended_since(db: Connection, since: Instant, target: str, limit: int) -> list[tuple[str, str]]:
    """(grant, request) of grants removed since then, or closing: at most `limit`, by id."""
    table = schema.grants
    closing = table.c.state == GrantState.CLOSING.value
    query = select(table.c.id, table.c.request).where(
        or_(table.c.removed_at_ms >= to_ms(since), closing)
    )
    if target:
        query = query.where(table.c.target == target)
    return [(row.id, row.request) for row in db.execute(query.order_by(table.c.id).limit(limit))]


def counts_of_live(db: Connection, now: Instant) -> tuple[dict[str, int], int | None]:
    """How many grants are in each state that is not over, and the earliest end that is overdue:
    passed, and not read back as removed. None: there is none.
    """
    table = schema.grants
    live = [state.value for state in GrantState if state not in OVER]
    query = select(table.c.state, func.count()).where(table.c.state.in_(live))
    counts = {state: int(count) for state, count in db.execute(query.group_by(table.c.state))}
    holding = (GrantState.OPEN.value, GrantState.INTENDED.value, GrantState.CLOSING.value)
    oldest = select(func.min(table.c.ends_at_ms)).where(
        table.c.state.in_(holding), table.c.ends_at_ms <= to_ms(now)
    )
    return counts, db.execute(oldest).scalar()


def asleep_for_ever(db: Connection) -> int:
    """How many grants are not over and yet will never be looked at: always 0, or I2 is broken."""
    table = schema.grants
    over = [state.value for state in OVER]
    query = select(func.count()).where(table.c.due_at_ms.is_(None), table.c.state.not_in(over))
    return int(db.execute(query).scalar_one())


def document(db: Looking, digest: str) -> bytes | None:
    """A kept document by its digest."""
    rows = rows_by(schema.documents, "digest").rows(db, w_digest=digest)
    return rows[0]["bytes"] if rows else None


def disclosures(db: Looking, commitments: Iterable[str]) -> dict[str, Personal]:
    """The texts behind commitments; erased and unknown ones are left out."""
    wanted = sorted(set(commitments))
    found: dict[str, Personal] = {}
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        # A few widths, so that a few texts serve them all; the last name fills up.
        width = next(width for width in (1, 4, 20, AT_ONCE) if width >= len(some))
        names = some + some[-1:] * (width - len(some))
        rows = _disclosures(width).rows(db, **{f"w_{n}": one for n, one in enumerate(names)})
        for row in rows:
            found[row["commitment"]] = Personal(row["salt"], row["text"])
    return found


@cache
def _by_id(table: Table) -> Look:
    return Look(select(table).where(table.c.id == bindparam("wanted")))


@cache
def rows_by(table: Table, *columns: str) -> Look:
    """Rows by the values of columns, `w_COLUMN` each."""
    wheres = [table.c[column] == bindparam(f"w_{column}") for column in columns]
    return Look(select(table).where(*wheres))


@cache
def _sessions() -> Look:
    table = schema.sessions
    return Look(select(table).where(table.c.grant_id == bindparam("wanted")).order_by(table.c.id))


@cache
def _closing_on() -> Look:
    table = schema.grants
    query = select(table).where(
        table.c.assignment == bindparam("wanted"), table.c.state == "closing"
    )
    return Look(query.order_by(table.c.id))


@cache
def _memberships(of_one: bool, with_left: bool) -> Look:
    table = schema.memberships
    query = select(table).order_by(table.c.id)
    if of_one:
        query = query.where(table.c.principal == bindparam("wanted"))
    return Look(query if with_left else query.where(not_(table.c.has_left)))


@cache
def _disclosures(width: int) -> Look:
    table = schema.disclosures
    names: list[Any] = [bindparam(f"w_{number}") for number in range(width)]
    return Look(
        select(table.c.commitment, table.c.salt, table.c.text).where(
            or_(*(table.c.commitment == name for name in names))
            if width == 1
            else table.c.commitment.in_(names),
            table.c.text.is_not(None),
        )
    )


@cache
def _list(
    table: Table, columns: tuple[str, ...], in_target: bool, states: int, after: bool
) -> Look:
    """One page of a table, newest first."""
    query = select(table).where(*(table.c[name] == bindparam(f"w_{name}") for name in columns))
    if in_target:
        role = table.c.role
        query = query.where(role > bindparam("over"), role < bindparam("under"))
    if states >= 0:
        names: list[Any] = [bindparam(f"s_{number}") for number in range(states)]
        query = query.where(table.c.state.in_(names) if names else false())
    if after:
        query = query.where(table.c.id < bindparam("before"))
    return Look(query.order_by(table.c.id.desc()).limit(bindparam("most", type_=Integer)))


def _looked_page(
    db: Looking,
    kind: type[T],
    table: Table,
    columns: Mapping[str, str | None],
    target: str | None,
    states: frozenset[Any] | None,
    limit: int,
    before: str | None,
) -> list[T]:
    wanted = {name: value for name, value in columns.items() if value is not None}
    asked: dict[str, Any] = {f"w_{name}": value for name, value in wanted.items()}
    asked["most"] = bounded(limit)
    if target is not None:
        # `0` follows `/`: the range of every role id that starts with `target/`.
        asked.update(over=f"{target}/", under=f"{target}0")
    if before is not None:
        asked["before"] = before
    for number, state in enumerate(sorted(states or ())):
        asked[f"s_{number}"] = state.value
    look = _list(
        table,
        tuple(wanted),
        target is not None,
        -1 if states is None else len(states),
        before is not None,
    )
    return seen(kind, look.rows(db, **asked))


def seen(kind: type[T], rows: Iterable[Row]) -> list[T]:
    """Every thing of that kind in rows of its table. Raises WorldFailed: one cannot be read."""
    return [_decoded(kind, row) for row in rows]


def first_seen(kind: type[T], rows: Sequence[Row]) -> T | None:
    """The first thing of that kind in rows of its table, if there is one."""
    return _decoded(kind, rows[0]) if rows else None


def stored_rows(db: Connection, table: Table) -> Iterator[Row]:
    """Every row of a table as it is stored, by id."""
    query = select(table).order_by(table.c.id).execution_options(yield_per=MOST_ROWS)
    yield from db.execute(query).mappings()


def bounded(limit: int) -> int:
    """`limit` within what one list may hold."""
    return max(0, min(limit, MOST_ROWS))


def _codec(kind: type[T]) -> Codec[Any]:
    return codecs()[kind]


def all_of(db: Connection, kind: type[T], query: Select[Any]) -> list[T]:
    """Every thing of that kind the query finds."""
    return [_decoded(kind, row) for row in db.execute(query).mappings()]


def readable(kind: type[T], rows: Iterable[Row]) -> list[T]:
    """`seen` but for the rows that cannot be read: one must not keep the others waiting."""
    found: list[T] = []
    for row in rows:
        try:
            found.append(_decoded(kind, row))
        except WorldFailed as fault:
            log.error("a row is left out", code=fault.code, why=fault.message)
    return found


def first_of(db: Connection, kind: type[T], query: Select[Any]) -> T | None:
    """The first thing of that kind the query finds."""
    row = db.execute(query).mappings().first()
    return None if row is None else _decoded(kind, row)


def _decoded(kind: type[T], row: Row | RowMapping) -> T:
    codec = _codec(kind)
    try:
        thing: T
        if isinstance(row, Looked):
            thing = _known(codec.decode, row.columns, row.values)
        else:
            thing = codec.decode(row)
    except UNREADABLE as fault:
        raise WorldFailed(
            "row_unreadable",
            f"the row of {codec.word} `{row['id']}` holds what no version of ours wrote",
            "compare it with its evidence: `tidegate evidence rebuild --check`",
        ) from fault
    return thing


@lru_cache(maxsize=MOST_KNOWN)
def _known(decode: Callable[[Row], T], columns: Columns, values: tuple[Any, ...]) -> T:
    """What a row was read as before: the same values, every one of them, are the same thing.

    Things never change, so it may be handed out again; a worker reads each some dozen times.
    """
    return decode(dict(zip(columns.place, values, strict=True)))
