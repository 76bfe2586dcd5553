"""Reading the log: its head, its events, and proofs from its tiles."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Protocol

from sqlalchemy import Connection, RowMapping, bindparam, func, select

from tidegate.base.errors import AskedWrongly, EvidenceBroken, NotFound
from tidegate.base.when import from_ms
from tidegate.evidence.merkle import consistency_proof, inclusion_proof
from tidegate.evidence.tiles import TileReader, Tree
from tidegate.store import schema
from tidegate.store.head import Head
from tidegate.store.look import Look, Looked, Looking

AT_ONCE = 500  # chains in one query: below every engine's bound on parameters
PAGE = 1_000  # events a query when a whole log is read: bounds memory, not the log


class Readable(Protocol):
    """Whatever opens one consistent view after another."""

    def reading(self) -> AbstractContextManager[Connection]:
        """One view of the database."""
        ...


def head(db: Connection) -> Head:
    """The log's head, of the view that `db` is."""
    return _as_head(db.execute(select(schema.log_head)).mappings().one())


def head_now(db: Looking) -> Head:
    """The log's head, of no view in particular."""
    (row,) = _head().rows(db)
    return _as_head(row)


def _as_head(row: Looked | RowMapping) -> Head:
    return Head(
        origin=row["origin"],
        size=row["size"],
        root=row["root"],
        checkpoint_text=row["checkpoint"],
        at=from_ms(row["at_ms"]),
    )


@cache
def _head() -> Look:
    return Look(select(schema.log_head))


def chain(db: Looking, subject: str) -> list[tuple[int, bytes]]:
    """Every event of one subject: (index in the log, leaf), in order.

    A look, since a panic is told from its chain: a view is not to be had while others hold them.
    """
    return [(row["idx"], bytes(row["bytes"])) for row in _chain().rows(db, wanted=subject)]


@cache
def _chain() -> Look:
    events, leaves = schema.events, schema.event_bytes
    query = (
        select(events.c.idx, leaves.c.bytes)
        .join(leaves, leaves.c.idx == events.c.idx)
        .where(events.c.subject == bindparam("wanted"))
        .order_by(events.c.seq)
    )
    return Look(query)


def chains(db: Connection, subjects: Iterable[str]) -> dict[str, list[bytes]]:
    """Every event of each of `subjects`: leaves by subject, each chain in order."""
    events, leaves = schema.events, schema.event_bytes
    wanted, found = sorted(set(subjects)), dict[str, list[bytes]]()
    for start in range(0, len(wanted), AT_ONCE):
        query = (
            select(events.c.subject, leaves.c.bytes)
            .join(leaves, leaves.c.idx == events.c.idx)
            .where(events.c.subject.in_(wanted[start : start + AT_ONCE]))
            .order_by(events.c.subject, events.c.seq)
        )
        for row in db.execute(query):
            found.setdefault(row.subject, []).append(_raw(row.bytes))
    return found


def page(db: Connection, first: int, limit: int) -> list[tuple[int, bytes]]:
    """At most `limit` events from index `first` on: (index, leaf)."""
    leaves = schema.event_bytes
    query = (
        select(leaves.c.idx, leaves.c.bytes)
        .where(leaves.c.idx >= first)
        .order_by(leaves.c.idx)
        .limit(limit)
    )
    return [(row.idx, _raw(row.bytes)) for row in db.execute(query)]


def pages(db: Connection, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """Every event from index `first` on, all from one view."""
    while found := page(db, first, PAGE):
        yield from found
        first = found[-1][0] + 1


def hashes(db: Connection) -> Iterator[bytes]:
    """The stored leaf hash of every event, in order, all from one view."""
    table, first = schema.events, 0
    while True:
        query = (
            select(table.c.idx, table.c.hash)
            .where(table.c.idx >= first)
            .order_by(table.c.idx)
            .limit(PAGE)
        )
        found = db.execute(query).all()
        if not found:
            return
        yield from (_raw(row.hash) for row in found)
        first = found[-1].idx + 1


def _raw(value: object) -> bytes:
    """Stored bytes. A value somebody else wrote as text is still read, so that it can be judged."""
    return value if isinstance(value, bytes) else str(value).encode()


def walk(source: Readable, first: int) -> Iterator[tuple[int, bytes]]:
    """Every event from index `first` on, a view a page, so that nothing is held open meanwhile."""
    while True:
        with source.reading() as db:
            found = page(db, first, PAGE)
        if not found:
            return
        yield from found
        first = found[-1][0] + 1


def inclusion(db: Connection, idx: int, size: int | None) -> list[bytes]:
    """The RFC 6962 inclusion proof of event `idx` in the tree of `size` (None: as it is now).

    Raises:
        NotFound: the log has no such event, or never had that size.
    """
    reader, now = _reader(db)
    wanted = now if size is None else size
    if not 0 <= idx < wanted <= now:
        raise NotFound(
            "no_event",
            f"expected an event below {min(wanted, now)}, got {idx} in a tree of {wanted}",
            "look at the head of the log again",
        )
    return list(inclusion_proof(idx, wanted, reader))


def consistency(db: Connection, old_size: int, size: int | None) -> list[bytes]:
    """The RFC 6962 proof that the tree of `size` (None: as it is now) extends that of `old_size`.

    Raises:
        AskedWrongly: the log never had one of these sizes.
    """
    reader, now = _reader(db)
    wanted = now if size is None else size
    if not 0 <= old_size <= wanted <= now:
        raise AskedWrongly(
            "bad_size",
            f"expected sizes up to {now}, the smaller first, got {old_size} and {wanted}",
            "a checkpoint ahead of the log means that the log was cut: keep that checkpoint",
        )
    return list(consistency_proof(old_size, wanted, reader))


def counted(db: Connection) -> tuple[int, int]:
    """How many events there are, and the index that should follow the last one."""
    table = schema.events
    count, last = db.execute(select(func.count(), func.max(table.c.idx))).one()
    return int(count), 0 if last is None else int(last) + 1


def _reader(db: Connection) -> tuple[TileReader, int]:
    table = schema.log_head
    row = db.execute(select(table.c.size, table.c.tree)).one()

    def tile(level: int, index: int) -> bytes:
        tiles = schema.tiles
        query = select(tiles.c.hashes).where(tiles.c.level == level, tiles.c.idx == index)
        hashes = db.execute(query).scalar()
        if hashes is None:
            raise EvidenceBroken("no_tile", f"tile {index} of level {level}", "one", "none")
        return bytes(hashes)

    return TileReader(Tree.from_bytes(row.size, row.tree), tile), int(row.size)
