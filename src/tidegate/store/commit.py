"""One batch in one transaction, in the driver's own words: the hot path.

Reads what the Steps touch with one query a table, lets `batch.py` decide, writes the survivors in
bulk, and moves the log's head last.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Table

from tidegate.base.fact import Step
from tidegate.base.when import Instant, to_ms
from tidegate.evidence.note import Signer
from tidegate.evidence.seal import Head, Sealed
from tidegate.evidence.tiles import grow
from tidegate.grant import Grant
from tidegate.store import schema
from tidegate.store.batch import Batch, Known
from tidegate.store.database import Raw, Words
from tidegate.store.head import LogHead, signed, write
from tidegate.store.rows import Codec, Value

_TILE = "INSERT INTO tiles (level, idx, hashes) VALUES (?, ?, ?)"
# A text that was erased stays erased, also when a later Step brings it along once more.
_TEXT = (
    "INSERT INTO disclosures (commitment, subject, salt, text) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (commitment) DO NOTHING"
)
# Rows a statement. Each statement lets go of Python's lock once and takes it again, which with
# busy callers costs more than the row: 50 rows at once let SQLite use the second core.
AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Bulk:
    """One statement for one row and for AT_ONCE rows, values in the same order."""

    single: str
    many: str

    def run(self, db: Raw, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run it for every row; returns how many rows it touched."""
        if len(rows) == 1:
            return db.execute(self.single, rows[0]).rowcount
        whole = len(rows) - len(rows) % AT_ONCE
        touched = 0
        for start in range(0, whole, AT_ONCE):
            some = rows[start : start + AT_ONCE]
            touched += db.execute(self.many, tuple(chain.from_iterable(some))).rowcount
        if whole < len(rows):
            touched += db.executemany(self.single, rows[whole:]).rowcount
        return touched


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingSql:
    """The SQL for one kind of thing. `owner` is empty for a table without a natural key.

    `made` and `moved` give the values of `insert` and `update` out of a row.
    """

    versions: str
    owner: str
    insert: Bulk
    update: Bulk
    made: Callable[[Mapping[str, Value]], tuple[Value, ...]]
    moved: Callable[[Mapping[str, Value]], tuple[Value, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """All SQL of the commit path, written out from the schema once."""

    things: Mapping[type, ThingSql]
    words: Words
    heads: str
    events: Bulk
    leaves: Bulk
    chains: Bulk
    holders: Bulk  # of assignments: id, holders, version


def statements(codecs: Mapping[type, Codec[Any]], words: Words) -> Statements:
    """The SQL for every kind of thing and for the log."""
    return Statements(
        things={kind: _thing_sql(codec, words) for kind, codec in codecs.items()},
        words=words,
        heads=f"SELECT subject, size, head FROM chain_heads WHERE subject IN {words.among}",  # noqa: S608
        events=_insert(schema.events),
        leaves=_insert(schema.event_bytes),
        chains=_insert(
            schema.chain_heads,
            " ON CONFLICT (subject) DO UPDATE SET size = excluded.size, head = excluded.head",
        ),
        holders=_update(schema.assignments, ("id", "holders", "version"), words),
    )


def gather(
    db: Raw,
    steps: Iterable[Step],
    codecs: Mapping[type, Codec[Any]],
    sql: Statements,
) -> Known:
    """What the database says of everything the Steps touch."""
    known = Known()
    touched: dict[type, list[Any]] = defaultdict(list)
    subjects: set[str] = set()
    for step in steps:
        for fact in step.facts:
            subjects.add(fact.subject)
        for change in step.changes:
            touched[type(change.after)].append(change.after)
    for kind, things in touched.items():
        ids = orjson.dumps([thing.id for thing in things]).decode()
        known.versions[kind] = dict(db.execute(sql.things[kind].versions, (ids,)).fetchall())
        if codecs[kind].natural:
            _gather_owners(db, codecs[kind], sql.things[kind], things, known)
    known.heads.update(chain_heads(db, sql, subjects))
    return known


def chain_heads(db: Raw, sql: Statements, subjects: Iterable[str]) -> dict[str, Head]:
    """Where each subject's chain stands; one that has none yet is left out."""
    wanted = list(subjects)
    if not wanted:
        return {}
    names = orjson.dumps(wanted).decode()
    return {subject: (size, head) for subject, size, head in db.execute(sql.heads, (names,))}


def due_now(batch: Batch) -> bool:
    """Whether the batch leaves a grant that a worker should look at without waiting."""
    now = to_ms(batch.at)
    for rows in (batch.made.get(Grant), batch.moved.get(Grant)):
        for row in (rows or {}).values():
            due = row["due_at_ms"]
            if isinstance(due, int) and due <= now:
                return True
    return False


def store(
    db: Raw,
    batch: Batch,
    before: LogHead,
    signer: Signer,
    sql: Statements,
) -> LogHead:
    """Write all a batch holds and move the head on; returns the new one.

    Raises:
        RuntimeError: a fact does not fit its event.
        EvidenceClosed: the head is not where it was.
        WorldFailed: the signer could not sign.
    """
    sealed = batch.seal()
    for kind, made in batch.made.items():
        thing = sql.things[kind]
        thing.insert.run(db, [thing.made(row) for _, row in sorted(made.items())])
    for kind, moved in batch.moved.items():
        thing = sql.things[kind]
        touched = thing.update.run(db, [thing.moved(row) for _, row in sorted(moved.items())])
        if touched != len(moved):
            raise RuntimeError(f"{touched} of {len(moved)} rows of {kind.__name__} moved on")
    if batch.texts:
        db.executemany(
            _TEXT,
            [(text.commitment, subject, text.salt, text.text) for subject, text in batch.texts],
        )
    return write_log(db, sealed, before, batch.at, signer, sql, tell=due_now(batch))


def write_log(
    db: Raw,
    sealed: Sequence[Sealed],
    before: LogHead,
    at: Instant,
    signer: Signer,
    sql: Statements,
    *,
    tell: bool,
) -> LogHead:
    """Write events sealed `at` and move the head on; returns the new one. Raises as `store`.

    `tell`: other processes should look what is due.
    """
    at_ms = to_ms(at)
    sql.events.run(
        db, [(one.idx, one.subject, one.seq, one.name, at_ms, one.hash) for one in sealed]
    )
    sql.leaves.run(db, [(one.idx, one.data) for one in sealed])
    heads = {one.subject: one.head for one in sealed}
    sql.chains.run(db, [(subject, *head) for subject, head in sorted(heads.items())])
    tree, tiles = grow(before.tree, [one.hash for one in sealed])
    if tiles:
        db.executemany(_TILE, [(tile.level, tile.index, tile.hashes) for tile in tiles])
    after = signed(before.origin, tree, signer, at)
    write(db, before, after)
    if sql.words.notify and tell:
        db.execute(sql.words.notify)
    return after


def _gather_owners(
    db: Raw, codec: Codec[Any], sql: ThingSql, things: Sequence[Any], known: Known
) -> None:
    keys = {key for thing in things if (key := codec.natural_of(codec.encode(thing)))}
    wanted = orjson.dumps([key[1:] for key in keys]).decode()
    for name, *values in db.execute(sql.owner, (wanted,)):
        known.owners[(codec.table.name, *values)] = name


def _thing_sql(codec: Codec[Any], words: Words) -> ThingSql:
    table = codec.table
    columns = [column.name for column in table.columns]
    moving = ["id", *(name for name in columns if name != "id" and name not in codec.fixed)]
    return ThingSql(
        versions=(
            f"SELECT id, version FROM {table.name}"  # noqa: S608 - our own table's name
            f" WHERE id IN {words.among}"
        ),
        owner=_owner(table, codec.natural, words) if codec.natural else "",
        insert=_insert(table),
        update=_update(table, moving, words),
        made=itemgetter(*columns),
        moved=itemgetter(*moving),
    )


def _insert(table: Table, conflict: str = "") -> Bulk:
    columns = [column.name for column in table.columns]
    start = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608
    row = _marks(len(columns))
    return Bulk(start + row + conflict, start + ", ".join([row] * AT_ONCE) + conflict)


def _update(table: Table, columns: Sequence[str], words: Words) -> Bulk:
    """`columns` begins with the id."""
    row = _marks(len(columns))
    changes = ", ".join(
        f"{name} = new.column{place}" for place, name in enumerate(columns, 1) if name != "id"
    )

    typed = f"({', '.join(words.typed(table.c[name]) for name in columns)})"

    def write(rows: int) -> str:
        values = ", ".join([typed, *[row] * (rows - 1)])
        return (
            f"UPDATE {table.name} SET {changes} FROM (VALUES {values}) AS new"  # noqa: S608
            f" WHERE {table.name}.id = new.column1"
        )

    return Bulk(write(1), write(AT_ONCE))


def _marks(count: int) -> str:
    return f"({', '.join('?' * count)})"


def _owner(table: Table, natural: Sequence[str], words: Words) -> str:
    matches = " AND ".join(
        f"{table.name}.{column} = {words.item.format(place=place)}"
        for place, column in enumerate(natural)
    )
    columns = ", ".join(f"{table.name}.{column}" for column in ("id", *natural))
    return f"SELECT {columns} FROM {words.listed} AS wanted JOIN {table.name} ON {matches}"  # noqa: S608
