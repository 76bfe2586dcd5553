"""Whose the files of an installation are, when somebody else types a command of that night.

A service that may not read `closing.journal.panics` takes it for anything, and opens nothing
anywhere; one that may not read its journal closes nothing from it. So what such a command makes is
given to whoever the installation belongs to.

That owner may mean ill, and the one who gives is root. So a directory is opened once and never
named again, a file is opened by its name in that and looked at and given by what was opened: no
link and no other name that is put there meanwhile leads to a file of somebody else.
"""

import os
import pwd
import re
import signal
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.main.clouds import LOCKS
from tidegate.main.config import Config, database_path
from tidegate.main.left import FILE

Tell = Callable[[str], None]
File = tuple[int, int]  # its device and its number
LOCK = re.compile(r"[0-9a-f]{32}\.lock")  # as `connectors/one_writer.py` names its own
MOST_HELD = 100  # files; root has few where somebody else serves, and closing needs what is open
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
ENDING = (signal.SIGHUP, signal.SIGTERM)  # a session that is dropped, somebody who is impatient


class Giving:
    """What is made belongs to the owner as soon as `now` is called; `said` is what was told of it.

    Never raises, and keeps nothing from being done. Where the owner types it, it does nothing.
    """

    def __init__(self, found: Config, tell: Tell) -> None:
        self.said: list[str] = []
        self._tell = tell
        self._journal = found.path(found.evidence.journal)
        self._home, self._locks = Path(found.home), found.path(LOCKS)
        self._owner = _owner(found)
        self._open = ExitStack()
        self._alone = threading.Lock()
        self._before: set[File] = set()
        self._given: list[Path] = []
        self._stuck: list[Path] = []
        self._fds: dict[Path, int] = {}
        self.needed = os.geteuid() != self._owner[0]
        if self.needed:
            self._look()

    def now(self) -> None:
        """Give what was made since it began, and was not given yet. Told at the end."""
        if not self.needed:
            return
        with self._alone:
            self._stuck = []
            self._open_locks()
            for directory, names in self._named():
                for name in names:
                    self._give(directory, name)

    def journal(self) -> ClosingJournal:
        """The installation's own journal; one that is made is given with its first lines."""
        return _GivenJournal(self._journal, self.now if self.needed else None)

    def end(self) -> None:
        """Give what is left to give, and tell what was given and what cannot be."""
        if not self.needed:
            return
        with self._open:
            self.now()
        who = _name(self._owner[0])
        if self._given:
            self._say(f"given to `{who}`, whose the installation is: {_shown(self._given)}")
        if self._stuck:
            self._say(
                f"{_shown(self._stuck)} cannot be given to `{who}`, whose the installation is; "
                f"until it may read them nothing opens: `sudo chown {who}` them, and type "
                f"such a command as `sudo -u {who}`"
            )

    def _say(self, line: str) -> None:
        self.said.append(line)
        self._tell(line)

    def _look(self) -> None:
        """Open the directories, and remember everything of ours that is in them before anything is
        made: a file that was there, under whatever name, is never given. What is another's now can
        become ours only by our making it.

        The journal's may be reached by links, as the settings have it. What that leads to is
        decided here, and only what is made in it from now on is given.
        """
        for directory in dict.fromkeys((self._journal.parent, self._home)):
            with suppress(OSError):
                self._keep(directory, os.open(directory, DIRECTORY))
        self._open_locks()
        for fd in self._fds.values():
            for name in _listed(fd):
                with suppress(OSError):
                    seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if seen.st_uid == os.geteuid():
                        self._before.add(_file(seen))
                        self._hold(fd, name)

    def _hold(self, within: int, name: str) -> None:
        """While it is open its number is no other file's: one that is made would not be given."""
        if len(self._before) <= MOST_HELD:
            held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
            self._open.callback(os.close, held)

    def _open_locks(self) -> None:
        """The place for locks, which may be made only now; a link in its stead leads nowhere."""
        home = self._fds.get(self._home)
        if home is not None and self._locks not in self._fds:
            with suppress(OSError):
                fd = os.open(self._locks.name, DIRECTORY | os.O_NOFOLLOW, dir_fd=home)
                self._keep(self._locks, fd)

    def _keep(self, directory: Path, fd: int) -> None:
        self._open.callback(os.close, fd)
        self._fds[directory] = fd

    def _named(self) -> Iterator[tuple[Path, list[str]]]:
        """What these commands make, by directory: nothing under another name is theirs."""
        journal = self._journal.name
        kept = [journal, f"{journal}.panics"]
        yield self._journal.parent, [*kept, *(f"{name}.lock" for name in kept)]
        yield self._home, [FILE, LOCKS]
        locks = self._fds.get(self._locks)
        if locks is not None:
            yield self._locks, [name for name in _listed(locks) if LOCK.fullmatch(name)]

    def _give(self, directory: Path, name: str) -> None:
        """Look at it without following it, and give it if it is ours and was made since. One of
        such a name that was there before is told of: the service cannot read that either.
        """
        path, within = directory / name, self._fds.get(directory)
        if within is None:
            return
        try:
            seen = os.stat(name, dir_fd=within, follow_symlinks=False)
        except OSError:
            return
        if seen.st_uid != os.geteuid():
            return
        if _file(seen) not in self._before and self._handed_over(within, name):
            self._given += [] if path in self._given else [path]
        else:
            self._stuck.append(path)

    def _handed_over(self, within: int, name: str) -> bool:
        """Whether it is the owner's now. Everything is asked anew of what was opened, since the
        name may have been put to another file after it was looked at.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(name, flags, dir_fd=within)
        except OSError:
            return False
        try:
            seen = os.fstat(fd)
            fresh = seen.st_uid == os.geteuid() and _file(seen) not in self._before
            if not fresh or not _is_such(name, seen):
                return False
            os.fchown(fd, *self._owner)
            return True
        except OSError:
            return False
        finally:
            os.close(fd)


class _GivenJournal(ClosingJournal):
    """A journal of which the file, if the first append makes it, changes hands at once: a cloud may
    take minutes then, and whoever typed this may be cut off.
    """

    def __init__(self, path: Path, give: Callable[[], None] | None) -> None:
        super().__init__(path)
        self._give = give

    def append_all(self, lines: Iterable[JournalLine]) -> None:
        """As of every journal."""
        try:
            super().append_all(lines)
        finally:  # what could not be written may have made the file, or its lock
            give, self._give = self._give, None
            if give is not None:
                give()


@contextmanager
def given_to_owner(found: Config, tell: Tell) -> Iterator[Giving]:
    """What is made meanwhile belongs to the installation's owner afterwards, or that is told.

    Never raises of itself, and keeps nothing from being done. While something may have to be given,
    a signal that ends a session is a Ctrl-C, so that what was made is given then too.
    """
    giving = Giving(found, tell)
    if not giving.needed:
        yield giving
        return
    with _interrupted_by_signals():
        try:
            yield giving
        finally:
            _let_be()
            giving.end()


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Nothing in another thread than the main one, nor for signals that are ignored (`nohup`)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    heard = [one for one in ENDING if signal.getsignal(one) not in (signal.SIG_IGN, None)]
    before = {one: signal.signal(one, interrupt) for one in heard}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _let_be() -> None:
    """The last step is short, and a second signal must not break it off."""
    if threading.current_thread() is threading.main_thread():
        for one in ENDING:
            signal.signal(one, signal.SIG_IGN)


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


def _is_such(name: str, seen: os.stat_result) -> bool:
    """Whether what bears the name is what these commands make: one file with no other name, and
    nothing in it where it is a lock; or the place for locks.
    """
    if name == LOCKS:
        return stat.S_ISDIR(seen.st_mode)
    is_lock = name.endswith(".lock")
    alone = stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1
    return alone and not (is_lock and seen.st_size)


def _file(seen: os.stat_result) -> File:
    return seen.st_dev, seen.st_ino


def _listed(fd: int) -> list[str]:
    """The names in a directory that is open; none where it cannot be listed."""
    try:
        return os.listdir(fd)
    except OSError:
        return []


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # as sudo takes a number


def _shown(paths: list[Path]) -> str:
    return ", ".join(f"`{path}`" for path in paths)
