"""Whose the files of an installation are, when somebody else types a command of that night.

A service that may not read `closing.journal.panics` takes it for anything, and opens nothing
anywhere; one that may not read its journal closes nothing from it. So what such a command makes is
given to whoever the installation belongs to.
"""

import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tidegate.main.clouds import LOCKS
from tidegate.main.config import Config, database_path
from tidegate.main.left import FILE

Made = dict[Path, tuple[int, int]]  # which file is at a path: its number, and whose it is


@contextmanager
def given_to_owner(found: Config, tell: Callable[[str], None]) -> Iterator[None]:
    """What is made meanwhile belongs to the installation's owner afterwards, or that is told.

    Never raises, and keeps nothing from being done. It may be nested.
    """
    uid, gid = _owner(found)
    if os.geteuid() == uid:
        yield
        return
    before = _made(found)
    try:
        yield
    finally:
        ours = {path: one for path, one in _made(found).items() if one[1] == os.geteuid()}
        fresh = [path for path, one in ours.items() if before.get(path) != one]
        stuck = [path for path in fresh if not _give(path, uid, gid)]
        given = [path for path in fresh if path not in stuck]
        if given:
            tell(f"given to `{_name(uid)}`, whose the installation is: {_shown(given)}")
        if stuck:
            tell(
                f"{_shown(stuck)} cannot be given to `{_name(uid)}`, whose the installation is; "
                f"until it may read them nothing opens: `sudo chown {_name(uid)}` them, and type "
                f"such a command as `sudo -u {_name(uid)}`"
            )


def _owner(found: Config) -> tuple[int, int]:
    """Of the files its server made, or of where it makes them: the first that is not root's."""
    journal = found.path(found.evidence.journal)
    database = database_path(found)
    for path in (journal, *([database] if database else []), journal.parent, Path(found.home)):
        with suppress(OSError):
            seen = path.stat()
            if seen.st_uid:
                return seen.st_uid, seen.st_gid
    return os.geteuid(), os.getegid()


def _made(found: Config) -> Made:
    """What these commands make, as far as it is there."""
    journal = found.path(found.evidence.journal)
    names = [journal.with_name(f"{journal.name}{end}") for end in ("", ".panics")]
    paths = [*names, *(path.with_name(f"{path.name}.lock") for path in names)]
    locks = found.path(LOCKS)
    paths += [found.path(FILE), locks]
    with suppress(OSError):
        paths += [] if locks.is_symlink() else locks.iterdir()
    made: Made = {}
    for path in paths:
        with suppress(OSError):
            seen = path.lstat()
            made[path] = (seen.st_ino, seen.st_uid)
    return made


def _give(path: Path, uid: int, gid: int) -> bool:
    """Whether it is the owner's now. By what is opened, never by a name: whoever the directory
    belongs to could have put a link to a file of somebody else there.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        seen = os.fstat(fd)
        alone = stat.S_ISDIR(seen.st_mode) or (stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1)
        if not alone or seen.st_uid != os.geteuid():
            return False
        os.fchown(fd, uid, gid)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # as sudo takes a number


def _shown(paths: list[Path]) -> str:
    return ", ".join(f"`{path}`" for path in paths)
