"""Files that people name: read within a bound, written whole or not at all."""

import os
from pathlib import Path

from tidegate.base.errors import AskedWrongly

LARGEST_SMALL_FILE = 1_048_576  # bytes of a key file or a checkpoint


def read_file(path: Path) -> bytes:
    """A pack file. Raises AskedWrongly when it cannot be read or cannot be a pack."""
    from tidegate.evidence.archive import LARGEST_PACK

    return _read(str(path), LARGEST_PACK)


def read_small(name: str) -> str:
    """A key file or checkpoint. Raises AskedWrongly."""
    try:
        return _read(name, LARGEST_SMALL_FILE).decode()
    except UnicodeDecodeError:
        raise AskedWrongly(
            "bad_file", f"expected a text in `{name}`, got other bytes", "check which file it is"
        ) from None


def write_file(path: Path, data: bytes) -> None:
    """Write `data` at `path`, whole or not at all. Raises AskedWrongly."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError as fault:
        fresh.unlink(missing_ok=True)
        raise AskedWrongly(
            "cannot_write", f"`{path}` cannot be written: {fault.strerror}", "name another file"
        ) from fault


def _read(name: str, most: int) -> bytes:
    try:
        with Path(name).open("rb") as file:
            data = file.read(most + 1)
    except OSError as fault:
        raise AskedWrongly(
            "cannot_read", f"`{name}` cannot be read: {fault.strerror}", "check the file's name"
        ) from fault
    if len(data) > most:
        raise AskedWrongly(
            "large_file", f"expected at most {most} bytes in `{name}`, got more", "check the file"
        )
    return data
