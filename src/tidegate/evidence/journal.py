"""The closing journal: what must be closed, kept where no database is needed to read it (I6).

A local file of lines, each fsynced before `append` returns. It is not evidence: it lets closing go
on while the log cannot be written, and says afterwards what there is to seal. Any number of threads
and processes may write it: writing takes an exclusive lock on a side file (`<journal>.lock`), which
is never removed and whose content means nothing. Reading takes no lock. One server at a time may
`hold` the journal (`<journal>.held`). Both are `flock(2)`: they end with the process that has them,
however it dies, and hold back nobody on another machine, so the journal belongs on a local disk.

A line is 16 hex digits (the start of the SHA-256 of the rest), a blank, the canonical JSON of
`{"at", "data", "grant", "kind"}`, a line feed. A crash can leave the last line torn: it was never
acknowledged, so it is skipped, and cut off by the next append. Any other broken line is reported.
"""

import errno
import fcntl
import gc
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import sleep

import orjson

from tidegate.base.canonical import canonical
from tidegate.base.errors import AskedWrongly, EvidenceClosed
from tidegate.base.when import Instant, parse_instant, wire
from tidegate.evidence.journal_book import Folding, JournalBook, book_of
from tidegate.evidence.journal_line import JournalLine as JournalLine  # where callers look for it
from tidegate.evidence.journal_needed import needed_until

# `intended`: before the cloud is called to open. `closing`, `removed`, `gone`: what was done then.
# `noted`: the lines of this grant so far were sealed after an outage. `sealed`: its end is sealed.
KINDS = frozenset({"intended", "closing", "removed", "gone", "noted", "sealed"})
LONGEST_LINE = 16_384  # bytes: an `intended` line with all native ids is about one kilobyte
LONG = 4 * 1024 * 1024  # bytes: ten thousand lines
TAIL = 4 * LONGEST_LINE  # bytes at the end that are looked at for a torn line
LARGEST_JOURNAL = 64 * 1024 * 1024  # bytes; beyond it nothing opens until `compact` makes room
LARGEST_READ = 16 * LARGEST_JOURNAL  # bytes; a longer one is read no more: not our file
LARGEST_ADOPTED = (
    LARGEST_READ // 2
)  # bytes; beyond it nothing is taken over, so that ends have room
JOURNAL_FULL = "journal_full"  # the code of a refusal for that reason
MODE = 0o600

# Ten seconds: longer than writing the largest journal anew. A process stopped while it has the lock
# must not hold back closing for ever, so the wait ends in OSError, which closing goes on after.
LOCK_TRIES = 5_000
LOCK_PAUSE = 0.002  # seconds between tries
HOLD_TRIES = 3  # a server that runs does not let go; one that starts is writing its process id

# What is written to see whether a line could be: a disk that packs things makes room for zeros.
_ROOM = hashlib.shake_256(b"room").digest(LONGEST_LINE)
_SUM = 16  # hex digits: 64 bits tell a torn line, and nobody is defended against here


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContents:
    """A journal as read. `broken` are the numbers (from 1) of damaged lines that are not the last.

    `torn` says that the last line was cut by a crash. `whole` is how many bytes come before it.
    """

    lines: tuple[JournalLine, ...]
    broken: tuple[int, ...]
    torn: bool
    whole: int


class ClosingJournal:
    """The journal in the file `path`, which is made (mode 0600) by the first append."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._side = path.with_name(f"{path.name}.lock")
        self._holding = path.with_name(f"{path.name}.held")
        self._lock = Lock()
        self._reading = Lock()
        self._left: _State | None = None  # the file as we last left it, known to end in a line
        self._held: int | None = None
        self._folding = Folding()
        self._folded: _State | None = None  # the file that was folded last, as it was then
        self._folded_to = 0  # bytes of it
        self._last_row = b""  # the line that ends there
        self._whole = False  # the folding has the whole file, as it was then

    def append(self, line: JournalLine) -> None:
        """Write `line` and return once it is on disk.

        Raises:
            OSError: it could not be written, or another process kept the lock for ten seconds.
                Nothing may open then; closing goes on regardless.
            RuntimeError: an unknown kind, or a line longer than LONGEST_LINE: our own bug.
        """
        self.append_all((line,))

    def append_opening(self, line: JournalLine) -> None:
        """`append` what is about to open, or to end later: what closes is never refused for room.

        Raises:
            OSError, RuntimeError: as `append`.
            EvidenceClosed: the journal is at its bound.
        """
        size = self.size()
        if size > LARGEST_JOURNAL:
            raise EvidenceClosed(
                JOURNAL_FULL,
                f"closing journal: expected at most {LARGEST_JOURNAL} bytes, got {size}",
                "find out why grants are not closing, then compact the journal",
            )
        self.append(line)

    def append_all(self, lines: Iterable[JournalLine]) -> None:
        """`append` several together: one wait for the disk, and after a crash a part of them.

        Raises:
            OSError, RuntimeError: as `append`; then any of them may be there.
        """
        data = b"".join(_write_line(line) for line in lines)
        if not data:
            return
        with self._alone(), closing(_Appending(self._path)) as file:
            if self._left != file.state():
                file.mend()  # another process may have died in the middle of a line
                self._left = file.state()
            if not self._left.size:
                sync_directory(self._path.parent)  # before the line: a lost name loses it
            self._left = None  # until it is written, part of the line may be there
            file.write(data)
            self._left = file.state()

    def append_adopted(self, lines: Iterable[JournalLine]) -> None:
        """`append_all` what is open by other machines' doing and not over.

        Raises:
            OSError: as `append`, or the journal has LARGEST_ADOPTED bytes. One that grows for ever
                could at last be read no more, and nothing would close from it.
            RuntimeError: as `append`.
        """
        if (size := self.size()) > LARGEST_ADOPTED:
            words = (
                f"the closing journal has {size} bytes, at most {LARGEST_ADOPTED} may be added to"
            )
            raise OSError(errno.EFBIG, words)
        self.append_all(lines)

    def check_room(self) -> None:
        """Nothing, where a line could be written now: as much is written beside it, and removed.

        Raises:
            OSError: it could not be, or the journal has LARGEST_ADOPTED bytes.
        """
        if self.size() > LARGEST_ADOPTED:
            raise OSError(errno.EFBIG, "the closing journal is too long to be added to")
        beside = self._path.with_name(f"{self._path.name}.room")
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, MODE)
        try:
            data = _ROOM
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)
            with suppress(OSError):
                beside.unlink()

    def size(self) -> int:
        """How many bytes it has; 0 when it is not there or cannot be looked at."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def read(self) -> list[JournalLine]:
        """Every sound line, oldest first; none when there is no file yet.

        Raises:
            OSError: it cannot be read, or is no regular file. Damage in it never raises.
        """
        return list(self.inspect().lines)

    def book(self) -> JournalBook:
        """Every sound line, folded. Only what was written since the last call is read.

        Raises:
            OSError: as `read`.
        """
        with self._reading:
            try:
                fd = _open(self._path, os.O_RDONLY)
            except FileNotFoundError:
                self._fold_anew()
                self._whole = True
                return self._folding.book()
            try:
                state = _state_of(fd)
                if state != self._folded:
                    self._fold(fd)
                    self._folded = state
            finally:
                os.close(fd)
            return self._folding.book()

    def known(self, grant: str) -> tuple[JournalLine, ...] | None:
        """The lines of a grant as last folded: nothing is read. None: nothing is folded yet."""
        folding = self._folding  # before it is asked whether that is whole: it may begin anew
        return folding.lines.get(grant, ()) if self._whole else None

    def _fold(self, fd: int) -> None:
        """Take up what was written since; everything, when the file is another or was rewritten.

        Lines are only ever added, and a compaction writes the rest anew: where the last line that
        was folded still stands in its place, so does everything before it.
        """
        known = self._last_row
        data = _content(fd, self._folded_to - len(known))
        if known and not data.startswith(known):
            self._fold_anew()
            data, known = _content(fd), b""
        with _uncollected(len(data)):
            contents = read_journal(data[len(known) :])
            self._folding.add(contents.lines)
        self._folded_to += contents.whole
        sound = data[: len(known) + contents.whole]
        self._last_row = sound[sound.rfind(b"\n", 0, -1) + 1 :]
        self._whole = True

    def _fold_anew(self) -> None:
        self._whole = False
        self._folding, self._folded, self._folded_to, self._last_row = Folding(), None, 0, b""

    def inspect(self) -> JournalContents:
        """The lines, and what is damaged: for `doctor`.

        No lock is taken, so a line just being written may show as `torn`.

        Raises:
            OSError: as `read`.
        """
        return read_journal(read_file(self._path))

    def compact(self, now: Instant) -> int:
        """Drop the lines of grants that are gone and sealed; returns how many went.

        Those whose end, or whose last session's, lies less than KEPT_BEYOND before `now` stay: an
        older database that is restored knows nothing of their end, and the journal must.

        The file is replaced in one step. Nothing goes while a line is broken: a person must look at
        it first.

        Raises:
            OSError: it could not be read or replaced, or another process kept the lock.
        """
        try:
            fd = _open(self._path, os.O_RDONLY)  # kept: no other file is taken for this one then
        except FileNotFoundError:
            return 0
        try:
            return self._compact(fd, now)
        finally:
            os.close(fd)

    def _compact(self, fd: int, now: Instant) -> int:
        """Without the lock as far as it goes: it takes seconds, and ends are written meanwhile."""
        data = _content(fd)
        with _uncollected(len(data)):
            contents = read_journal(data)
        if contents.broken:
            return 0
        finished = {grant for grant, until in needed_until(contents.lines).items() if until <= now}
        rows = data[: contents.whole].split(b"\n")[:-1]
        kept = [
            row + b"\n"
            for row, line in zip(rows, contents.lines, strict=True)
            if line.grant not in finished
        ]
        dropped = len(rows) - len(kept)
        if not dropped:
            return 0
        with self._alone():
            since = _content(fd, contents.whole)
            later = read_journal(since)
            again = any(line.grant in finished for line in later.lines)
            if later.broken or again or not _is_at(fd, self._path):
                return 0  # another process did it, or there is news: the next time
            put_in_place(self._path, b"".join(kept) + since[: later.whole])
            return dropped

    def hold(self) -> None:
        """Be the one server on this journal until `release`, or until this process ends.

        Children made by a bare `fork` share the hold; those that execute a program do not.

        Raises:
            AskedWrongly: `already_running`: another holds it. The help names its process.
            OSError: the side file cannot be made or locked.
            RuntimeError: this object holds it already: our own bug.
        """
        if self._held is not None:
            raise RuntimeError("this closing journal is held already")
        try:
            held = take_lock(self._holding, HOLD_TRIES)
        except BlockingIOError as error:
            pid = _pid_in(self._holding)
            raise AskedWrongly(
                "already_running",
                "expected no other server on this installation, got one that is running",
                "stop it first" + (f"; it is found by its process id {pid}" if pid else ""),
            ) from error
        self._held = held
        with suppress(OSError):  # the id only helps a person: a full disk must not stop closing
            os.ftruncate(held, 0)
            os.pwrite(held, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another server hold the journal. Nothing happens when this object does not."""
        held, self._held = self._held, None
        if held is not None:
            with suppress(OSError):
                os.ftruncate(held, 0)
            os.close(held)  # the file stays: a removed one could be locked twice

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep every other writer out, in this process and in others."""
        with self._lock:
            taken = take_lock(self._side, LOCK_TRIES)
            try:
                yield
            finally:
                os.close(taken)


@contextmanager
def _uncollected(size: int) -> Iterator[None]:
    """Read `size` bytes of lines without Python's search for cycles.

    A long journal is a million objects and no cycle: looking for some in them stops every thread
    for tenths of a second, again and again, and an end that comes meanwhile is called late.
    """
    if size < LONG or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # what is there now is not looked through again; it still goes when unused
        gc.enable()


def read_journal(data: bytes) -> JournalContents:
    """Read the bytes of a journal. Never fails: what cannot be read is named in the answer."""
    lines: list[JournalLine] = []
    bad: list[int] = []
    rows = data.split(b"\n")
    unfinished = rows.pop()  # empty when the file ends with a line feed
    for number, row in enumerate(rows, 1):
        line = _read_line(row)
        if line is None:
            bad.append(number)
        else:
            lines.append(line)
    whole = len(data) - len(unfinished)
    torn = bool(unfinished)
    if not torn and bad and bad[-1] == len(rows) and not is_whole(rows[-1]):
        # Blocks reach the disk in any order: a crash can leave the line feed and not what precedes.
        bad.pop()
        torn, whole = True, whole - len(rows[-1]) - 1
    return JournalContents(lines=tuple(lines), broken=tuple(bad), torn=torn, whole=whole)


def open_grants(lines: Iterable[JournalLine]) -> list[JournalLine]:
    """The `intended` line of every grant that no line says is gone: see `JournalBook.waiting`."""
    return list(book_of(lines).waiting.values())


def _write_line(line: JournalLine) -> bytes:
    if line.kind not in KINDS:
        raise RuntimeError(f"`{line.kind}` is not a kind of journal line")
    body = canonical(
        {"at": wire(line.at), "data": line.data, "grant": line.grant, "kind": line.kind}
    )
    data = sum_of(body) + b" " + body + b"\n"
    if len(data) > LONGEST_LINE:
        raise RuntimeError(f"journal line of {len(data)} bytes, at most {LONGEST_LINE}")
    return data


def _read_line(row: bytes) -> JournalLine | None:
    if len(row) > LONGEST_LINE or not is_whole(row):
        return None
    try:
        value = orjson.loads(row.partition(b" ")[2])
        line = JournalLine(
            kind=value["kind"],
            grant=value["grant"],
            at=parse_instant(value["at"]),
            data=value["data"],
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AskedWrongly):
        return None  # the sum fits and the line does not: another version's, or made by hand
    known = isinstance(line.kind, str) and line.kind in KINDS
    return line if known and isinstance(line.grant, str) and isinstance(line.data, dict) else None


def is_whole(row: bytes) -> bool:
    """Whether all of `row` was written, whatever it says."""
    told, blank, body = row.partition(b" ")
    return bool(blank) and told == sum_of(body)


def sum_of(body: bytes) -> bytes:
    """What a line begins with."""
    return hashlib.sha256(body).hexdigest()[:_SUM].encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What tells a file apart from itself after somebody else wrote it or took its place."""

    device: int
    inode: int
    size: int
    changed_ns: int


class _Appending:
    """The file open for one append. For whoever has the lock: then no other can take its place."""

    def __init__(self, path: Path) -> None:
        self._fd = _open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)

    def state(self) -> _State:
        """How the file stands now."""
        return _state_of(self._fd)

    def mend(self) -> None:
        """Cut off a torn last line, so that the next one starts a line of its own.

        Only the end is read: an end that is due waits for this after every start.
        """
        first = max(0, os.fstat(self._fd).st_size - TAIL)
        data = _content(self._fd, first)
        if first:
            start = data.find(b"\n") + 1
            if 0 < start < len(data):
                first, data = first + start, data[start:]
            else:  # not a line of ours: what is torn may begin anywhere
                first, data = 0, _content(self._fd)
        contents = read_journal(data)
        if contents.torn:
            os.ftruncate(self._fd, first + contents.whole)
            os.fsync(self._fd)

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def _open(path: Path, flags: int) -> int:
    """A descriptor of the regular file `path`. Anything else is refused: the path is ours alone.

    Symbolic links are not followed, and a named pipe is not waited for.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def read_file(path: Path) -> bytes:
    """The bytes of the file that is at `path` now; empty when there is none."""
    try:
        fd = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return _content(fd)
    finally:
        os.close(fd)


def _content(fd: int, first: int = 0) -> bytes:
    """The bytes from `first` on."""
    size = os.fstat(fd).st_size
    if size > LARGEST_READ:
        raise OSError(errno.EFBIG, f"expected at most {LARGEST_READ} bytes, got {size}")
    data, wanted = bytearray(), max(0, size - first)
    while len(data) < wanted and (part := os.pread(fd, wanted - len(data), first + len(data))):
        data += part
    return bytes(data)


def _state_of(fd: int) -> _State:
    seen = os.fstat(fd)
    return _State(
        device=seen.st_dev, inode=seen.st_ino, size=seen.st_size, changed_ns=seen.st_mtime_ns
    )


def take_lock(path: Path, tries: int) -> int:
    """Lock the side file `path`, made when missing, until the descriptor returned is closed.

    Raises BlockingIOError when somebody else still has it at the last of `tries`.
    """
    for _ in range(tries):
        fd, taken = _open(path, os.O_RDWR | os.O_CREAT), False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = _is_at(fd, path)  # a lock on a file that was removed meanwhile keeps nobody out
        except BlockingIOError:
            sleep(LOCK_PAUSE)
        finally:
            if not taken:
                os.close(fd)
        if taken:
            return fd
    raise BlockingIOError(errno.EAGAIN, "another process has the lock", str(path))


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _pid_in(path: Path) -> str:
    """The process id the holder wrote; empty when it has not, or could not."""
    try:
        told = read_file(path)[:20].strip()
    except OSError:
        return ""
    return told.decode() if told.isdigit() else ""


def put_in_place(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path` so that a crash leaves the old file or the new one."""
    fd, name = tempfile.mkstemp(prefix=".journal-", dir=path.parent)  # mode 0600
    fresh = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make a new name in `directory` outlive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
