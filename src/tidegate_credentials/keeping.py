"""Writing to the cache folder: whole files, one minter at a time, nothing kept past its use."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tidegate_credentials.asking import NoAnswer
from tidegate_credentials.cache import (
    Entry,
    Stop,
    cache_path,
    instant,
    is_instant,
    read_json,
)

LOCK_SECONDS = 30.0  # longer than one whole exchange with the server, so one holder is outlived
LOCK_POLL_SECONDS = 0.02
LARGEST_SWEEP = 1_000  # files looked at when tidying, so that minting stays quick


def write(path: str, entry: Entry) -> None:
    """Replace the file at `path` by `entry`, mode 0600, whole or not at all. Raises Stop."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o600), "w", encoding="ascii") as file:
            json.dump(entry, file)
        os.replace(temporary, path)
    except OSError as fault:
        with suppress(OSError):
            os.unlink(temporary)
        # Without a cache every AWS call would mint a session, so this is told, not passed over.
        raise Stop(f"cannot write the cache `{os.path.dirname(path)}`: {fault.strerror}") from fault


def forget(folder: str, server: str, name: str) -> None:
    """Remove what is cached for grant or role `name`, as after `tidegate done`."""
    with suppress(FileNotFoundError):
        os.unlink(cache_path(folder, server, name))


def sweep(folder: str, now: float) -> None:
    """Remove what has no more use: expired keys of other grants, leftovers of a killed helper."""
    for name in sorted(os.listdir(folder))[:LARGEST_SWEEP]:
        path = os.path.join(folder, name)
        # A file another helper replaces or removes meanwhile is that helper's to keep; a damaged
        # one is replaced when its own key is asked for.
        with suppress(OSError, Stop):
            if name.endswith(".tmp"):
                if now - os.lstat(path).st_mtime > LOCK_SECONDS:
                    os.unlink(path)
            elif not name.startswith("lock-"):
                expires_at = (read_json(path) or {}).get("expires_at")
                if is_instant(expires_at) and str(expires_at) <= instant(now):
                    os.unlink(path)


@contextmanager
def locked(folder: str, path: str) -> Iterator[None]:
    """Alone among the helpers that renew the entry at `path`.

    Sixteen lock files serve all entries, so that none is ever removed: removing one that another
    process waits on would let two in.

    Raises:
        NoAnswer: another helper held it for LOCK_SECONDS.
        Stop: the folder cannot be written.
    """
    lock = os.path.join(folder, f"lock-{os.path.basename(path)[0]}")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise Stop(f"cannot write the cache `{folder}`: {fault.strerror}") from fault
    try:
        until = time.monotonic() + LOCK_SECONDS
        while not _taken(handle):
            if time.monotonic() >= until:
                raise NoAnswer("another helper has been asking the server for too long")
            time.sleep(LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
