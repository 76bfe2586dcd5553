"""The log of a database, for whoever checks it without the log's key: after it was lost, or with a
public key that came another way. Nothing is written, migrated, or gone on with.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tidegate.store import log
from tidegate.store.engines import open_database
from tidegate.store.head import Head


@contextmanager
def sealed_log(
    url: str, password: str | None = None
) -> Iterator[tuple[Head, Iterator[bytes], Iterator[bytes]]]:
    """Head, every leaf and every stored leaf hash of the database at `url`, all of one moment.

    Raises:
        AskedWrongly: no database there.
        WorldFailed: it cannot be read.
    """
    database = open_database(url, password=password)
    try:
        with database.reading() as db:
            yield log.head(db), (leaf for _, leaf in log.pages(db)), log.hashes(db)
    finally:
        database.close()
