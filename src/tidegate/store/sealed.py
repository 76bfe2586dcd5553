"""The log of a database, for whoever checks it without the log's key: after it was lost, or with a
public key that came another way. Nothing is written, migrated, or gone on with.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tidegate.base.errors import AskedWrongly
from tidegate.store import log
from tidegate.store.head import Head
from tidegate.store.sqlite import PATIENCE, Database, is_there, path_of


@contextmanager
def sealed_log(url: str) -> Iterator[tuple[Head, Iterator[bytes], Iterator[bytes]]]:
    """Head, every leaf and every stored leaf hash of the database at `url`, all of one moment.

    Raises:
        AskedWrongly: no database there.
        WorldFailed: it cannot be read.
    """
    path = path_of(url)
    if not is_there(path):
        raise AskedWrongly(
            "no_database",
            f"expected a database at `{path}`, got no such file",
            "name the settings of an installation: `--config FILE`",
        )
    database = Database(path, PATIENCE)
    try:
        with database.reading() as db:
            yield log.head(db), (leaf for _, leaf in log.pages(db)), log.hashes(db)
    finally:
        database.close()
