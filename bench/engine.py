"""A fresh store of either engine for one measurement, and how measurements are repeated."""

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.commit import ORIGIN
from tidegate.evidence.note import FileSigner
from tidegate.main.postgres import PostgresServer
from tidegate.store import Store

ENGINES = tuple(os.environ.get("ENGINES", "sqlite,postgresql").split(","))
TIMES = int(os.environ.get("TIMES", "3"))  # repetitions of what takes seconds


@contextmanager
def database(engine: str) -> Iterator[str]:
    """The URL of an empty database on the disk that temporary files are on, with fsync on."""
    with tempfile.TemporaryDirectory() as folder:
        if engine == "sqlite":
            yield f"sqlite:///{folder}/bench.db"
            return
        os.chmod(folder, 0o755)  # the server may run as another user
        server = PostgresServer(
            Path(folder) / "server", {"shared_buffers": "256MB", "max_wal_size": "4GB"}
        )
        server.folder.mkdir()
        server.start()
        try:
            yield server.url()
        finally:
            server.stop()


def opened(url: str) -> Store:
    """The store at `url`, made if it is not there."""
    return Store.open(
        url,
        origin=ORIGIN,
        signer=FileSigner(ORIGIN, bytes(32)),
        clock=lambda: datetime.now(UTC),
        create=True,
    )


def spread(values: Sequence[float], digits: int = 3) -> dict[str, Any]:
    """Median, least and most of a few repetitions."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
        "times": len(values),
    }
