"""The closing journal: what must be closed, kept where no database is needed to read it (I6).

A local file of lines, each fsynced before `append` returns. It is not evidence: it lets closing go
on while the log cannot be written, and says afterwards what there is to seal. One process writes
one journal; any number of its threads may.

A line is 16 hex digits (the start of the SHA-256 of the rest), a blank, the canonical JSON of
`{"at", "data", "grant", "kind"}`, a line feed. A crash can leave the last line torn: it was never
acknowledged, so it is skipped, and cut off by the next append. Any other broken line is reported.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import orjson

from tidegate.base.canonical import canonical
from tidegate.base.errors import AskedWrongly, EvidenceClosed
from tidegate.base.when import Instant, parse_instant, wire

# `intended`: before the cloud is called to open. `closing`, `removed`, `gone`: what was done then.
# `noted`: the lines of this grant so far were sealed after an outage. `sealed`: its end is sealed.
KINDS = frozenset({"intended", "closing", "removed", "gone", "noted", "sealed"})
LONGEST_LINE = 16_384  # bytes: an `intended` line with all native ids is about one kilobyte
LARGEST_JOURNAL = 64 * 1024 * 1024  # bytes; beyond it nothing opens until `compact` makes room
MODE = 0o600

_SUM = 16  # hex digits: 64 bits tell a torn line, and nobody is defended against here


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """One line. `at` is when it was written; `data` a small map in the canonical subset."""

    kind: str
    grant: str
    at: Instant
    data: Mapping[str, Any]


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
        self._lock = Lock()
        self._mended = False  # whether a torn end was looked for since the last doubt

    def append(self, line: JournalLine) -> None:
        """Write `line` and return once it is on disk.

        Raises:
            OSError: it could not be written. Nothing may open then; closing goes on regardless.
            EvidenceClosed: an `intended` line, and the journal is at its bound. Lines that close
                are never refused for room.
            RuntimeError: an unknown kind, or a line longer than LONGEST_LINE: our own bug.
        """
        data = _write_line(line)
        with self._lock:
            if not self._mended:
                self._mend()
            try:
                made = not self._path.exists()
                with closing(_Appending(self._path)) as file:
                    if line.kind == "intended" and file.size > LARGEST_JOURNAL:
                        raise EvidenceClosed(
                            "journal_full",
                            f"closing journal: expected at most {LARGEST_JOURNAL} bytes,"
                            f" got {file.size}",
                            "find out why grants are not closing, then compact the journal",
                        )
                    file.write(data)
                if made:
                    _sync_directory(self._path.parent)
            except OSError:
                self._mended = False  # part of the line may be there
                raise

    def read(self) -> list[JournalLine]:
        """Every sound line, oldest first; none when there is no file yet. Raises OSError."""
        return list(self.inspect().lines)

    def inspect(self) -> JournalContents:
        """The lines, and what is damaged: for `doctor`. Raises OSError."""
        with self._lock:
            return self._inspect()

    def compact(self) -> int:
        """Drop the lines of grants that are gone and sealed; returns how many went.

        The file is replaced in one step. Nothing goes while a line is broken: a person must look at
        it first.
        """
        with self._lock:
            contents = self._inspect()
            finished = _finished(contents.lines)
            kept = [line for line in contents.lines if line.grant not in finished]
            dropped = len(contents.lines) - len(kept)
            if dropped and not contents.broken:
                _replace(self._path, b"".join(_write_line(line) for line in kept))
                self._mended = True
                return dropped
            return 0

    def _inspect(self) -> JournalContents:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            data = b""
        return read_journal(data)

    def _mend(self) -> None:
        """Cut off a torn last line, so that the next one starts a line of its own."""
        contents = self._inspect()
        if contents.torn:
            with self._path.open("r+b") as file:
                file.truncate(contents.whole)
                os.fsync(file.fileno())
        self._mended = True


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
    if not torn and bad and bad[-1] == len(rows):
        # Blocks reach the disk in any order: a crash can leave the line feed and not what precedes.
        bad.pop()
        torn, whole = True, whole - len(rows[-1]) - 1
    return JournalContents(lines=tuple(lines), broken=tuple(bad), torn=torn, whole=whole)


def open_grants(lines: Iterable[JournalLine]) -> list[JournalLine]:
    """The `intended` line of every grant that no line says is gone, oldest first.

    A second `intended` of a grant (a retry) takes the place of the first.
    """
    found: dict[str, JournalLine] = {}
    for line in lines:
        if line.kind == "intended":
            found[line.grant] = line
        elif line.kind == "gone":
            found.pop(line.grant, None)
    return list(found.values())


def _finished(lines: Sequence[JournalLine]) -> set[str]:
    """Grants whose last `intended` is followed by both `gone` and `sealed`."""
    seen: dict[str, set[str]] = {}
    for line in lines:
        if line.kind == "intended":
            seen[line.grant] = set()
        else:
            seen.setdefault(line.grant, set()).add(line.kind)
    return {grant for grant, kinds in seen.items() if {"gone", "sealed"} <= kinds}


def _write_line(line: JournalLine) -> bytes:
    if line.kind not in KINDS:
        raise RuntimeError(f"`{line.kind}` is not a kind of journal line")
    body = canonical(
        {"at": wire(line.at), "data": line.data, "grant": line.grant, "kind": line.kind}
    )
    data = _sum(body) + b" " + body + b"\n"
    if len(data) > LONGEST_LINE:
        raise RuntimeError(f"journal line of {len(data)} bytes, at most {LONGEST_LINE}")
    return data


def _read_line(row: bytes) -> JournalLine | None:
    told, blank, body = row.partition(b" ")
    if not blank or len(row) > LONGEST_LINE or told != _sum(body):
        return None
    try:
        value = orjson.loads(body)
        return JournalLine(
            kind=value["kind"],
            grant=value["grant"],
            at=parse_instant(value["at"]),
            data=value["data"],
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AskedWrongly):
        return None  # the sum fits and the line does not: another version's, or made by hand


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:_SUM].encode()


class _Appending:
    """The file open for one append. Symbolic links are refused: the path is ours alone."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, MODE)
        self.size = os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def _replace(path: Path, data: bytes) -> None:
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
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Make a new name in `directory` outlive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
