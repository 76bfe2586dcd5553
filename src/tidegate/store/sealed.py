"""The log of a database, for whoever checks it without the log's key: after it was lost, or with a
public key that came another way. Nothing is written, migrated, or gone on with.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from tidegate.base.errors import AskedWrongly
from tidegate.evidence.seal import read_event
from tidegate.store import log, schema
from tidegate.store.copied import reading_copy
from tidegate.store.engines import open_database
from tidegate.store.head import Head
from tidegate.store.rebuild import Rebuilt, rebuild
from tidegate.store.sqlite import is_there

TOLD_EVERY = 100_000  # events between two words of how far reading came: some seconds of it

Progress = Callable[[int, int], None]  # so many events read, of so many


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedState:
    """What a copy of the log says: its head, everything as the events leave it, and the kept
    catalogue entries by digest.
    """

    head: Head
    state: Rebuilt
    entries: Mapping[str, bytes]


@contextmanager
def sealed_log(
    url: str, password: str | None = None
) -> Iterator[tuple[Head, Iterator[bytes], Iterator[bytes]]]:
    """Head, every leaf and every stored leaf hash of the database at `url`, all of one moment.

    Raises:
        AskedWrongly: no database there.
        WorldFailed: it cannot be read.
    """
    with closing(open_database(url, password=password)) as database, database.reading() as db:
        yield log.head(db), (leaf for _, leaf in log.pages(db)), log.hashes(db)


def sealed_state(
    url: str, password: str | None = None, progress: Progress | None = None
) -> SealedState:
    """The state of the database at `url` by its events alone, whatever version wrote its rows.

    A long log takes minutes: `progress` hears of that.

    Raises:
        AskedWrongly: no database there. WorldFailed: it cannot be read.
        EvidenceBroken: an event cannot be read, or cannot follow those before it.
    """
    with closing(open_database(url, password=password)) as database, database.reading() as db:
        return _state(db, progress)


def state_of_copy(path: Path, progress: Progress | None = None) -> SealedState:
    """`sealed_state` of a SQLite file that is a copy: it and what lies beside it stay as they are.

    Raises as `sealed_state`.
    """
    if not is_there(path):
        raise AskedWrongly(
            "no_database", f"expected a database at `{path}`, got no such file", "check its path"
        )
    with reading_copy(path) as db:
        return _state(db, progress)


def _state(db: Connection, progress: Progress | None) -> SealedState:
    table = schema.documents
    rows = db.execute(select(table.c.digest, table.c.bytes).where(table.c.kind == "entry"))
    entries = {digest: bytes(data) for digest, data in rows}
    head = log.head(db)
    state = rebuild(read_event(leaf) for leaf in _told(db, head.size, progress))
    return SealedState(head=head, entries=entries, state=state)


def _told(db: Connection, size: int, progress: Progress | None) -> Iterator[bytes]:
    for index, leaf in log.pages(db):
        if progress is not None and size > TOLD_EVERY and index % TOLD_EVERY == 0:
            progress(index, size)
        yield leaf
