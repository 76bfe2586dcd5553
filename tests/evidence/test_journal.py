"""The closing journal: what survives a crash, and what is said of what did not."""

import errno
import fcntl
import gc
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evidence.made_log import START
from tidegate.base.canonical import canonical
from tidegate.base.errors import AskedWrongly, EvidenceClosed
from tidegate.base.when import wire
from tidegate.evidence import journal as journal_file
from tidegate.evidence.journal import ClosingJournal, JournalLine, open_grants, read_journal
from tidegate.evidence.journal_book import book_of

LATER = START + timedelta(days=1)  # when nothing that ended at START is needed any more


def line(kind: str, grant: str = "gr_one", **data: Any) -> JournalLine:
    """A journal line of the story."""
    return JournalLine(kind=kind, grant=grant, at=START, data=data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal of a test lies."""
    return tmp_path / "closing.journal"


INTENDED = line("intended", request="rq_one", native={"arn": "arn:a"}, allows=["ecr"])


def test_line_is_on_disk_and_reads_back(path: Path) -> None:
    """What was appended is read by whoever opens the file next, in a file only we can read."""
    ClosingJournal(path).append(INTENDED)
    ClosingJournal(path).append(line("closing"))
    assert ClosingJournal(path).read() == [INTENDED, line("closing")]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name("closing.journal.lock").stat().st_mode & 0o777 == 0o600


def test_missing_journal_is_empty(path: Path) -> None:
    """Before the first line there is nothing to close."""
    assert ClosingJournal(path).read() == []
    assert ClosingJournal(path).compact(LATER) == 0


def test_open_grants_are_those_not_gone() -> None:
    """Removed is not gone; a retry counts once; another grant's end is not this one's."""
    again = line("intended", request="rq_one", ends_at="later")
    lines = [INTENDED, line("intended", "gr_two"), line("removed"), line("gone", "gr_two"), again]
    assert open_grants(lines) == [again]
    assert open_grants([*lines, line("gone")]) == []


@pytest.mark.parametrize("lost", range(1, 60))
def test_torn_last_line_is_skipped_and_cut_off_by_the_next(path: Path, lost: int) -> None:
    """A crash in the middle of the last write loses that line only, and harms none after it."""
    journal = ClosingJournal(path)
    journal.append(INTENDED)
    journal.append(line("closing"))
    data = path.read_bytes()
    path.write_bytes(data[:-lost])
    fresh = ClosingJournal(path)
    assert fresh.inspect().torn and fresh.read() == [INTENDED]
    fresh.append(line("removed"))
    assert fresh.read() == [INTENDED, line("removed")]
    assert fresh.inspect().broken == ()


def test_last_line_of_zeros_is_torn_too(path: Path) -> None:
    """A crash may leave the length of a line and not its content."""
    journal = ClosingJournal(path)
    journal.append(INTENDED)
    with path.open("ab") as file:
        file.write(bytes(80) + b"\n")
    fresh = ClosingJournal(path)
    assert fresh.inspect().torn and fresh.read() == [INTENDED]
    fresh.append(line("gone"))
    assert fresh.inspect().torn is False and fresh.read() == [INTENDED, line("gone")]


def test_broken_line_in_the_middle_is_reported_and_the_rest_is_read(path: Path) -> None:
    """Damage elsewhere is named by its line, and is not compacted away."""
    journal = ClosingJournal(path)
    for kind in ("intended", "closing", "gone", "sealed"):
        journal.append(line(kind))
    rows = path.read_bytes().split(b"\n")
    rows[1] = rows[1].replace(b"closing", b"removed")
    path.write_bytes(b"\n".join(rows))
    contents = ClosingJournal(path).inspect()
    assert contents.broken == (2,) and not contents.torn
    assert [found.kind for found in contents.lines] == ["intended", "gone", "sealed"]
    assert journal.compact(LATER) == 0 and path.read_bytes() == b"\n".join(rows)


def test_compaction_forgets_an_end_that_may_be_needed(path: Path) -> None:
    """Gone and sealed, but its end or its last session lies ahead: a restored database needs it."""
    journal = ClosingJournal(path)
    ends = wire(START + timedelta(hours=2))
    whole = [line("intended", ends_at=ends, lingers_seconds=3600), line("closing")]
    whole += [line(kind) for kind in ("removed", "gone", "sealed")]
    for each in whole:
        journal.append(each)
    assert journal.compact(START + timedelta(hours=3, minutes=59)) == 0
    assert journal.compact(START + timedelta(hours=4)) == 5


def test_one_line_of_no_calendar_keeps_the_journal_from_ever_being_compacted(path: Path) -> None:
    """Its sessions are said to live for millions of years: it stays, and the others are dropped."""
    journal = ClosingJournal(path)
    for name, lingers in (("gr_one", 10**14), ("gr_two", 0)):
        ends = wire(START + timedelta(hours=2))
        journal.append(line("intended", name, ends_at=ends, lingers_seconds=lingers))
        journal.append_all(line(kind, name) for kind in ("gone", "sealed"))
    assert journal.compact(LATER) == 3
    assert {one.grant for one in journal.read()} == {"gr_one"}


def test_compaction_keeps_every_grant_that_is_not_gone_and_sealed(path: Path) -> None:
    """Only what is over twice, in the cloud and in the log, is dropped."""
    journal = ClosingJournal(path)
    done = [line(kind) for kind in ("intended", "closing", "removed", "gone", "sealed")]
    kept = [line("intended", "gr_two"), line("gone", "gr_two"), line("intended", "gr_three")]
    again = [line("intended", "gr_4"), line("gone", "gr_4"), line("sealed", "gr_4")]
    for each in (*done, *kept, *again, line("intended", "gr_4")):
        journal.append(each)
    assert journal.compact(LATER) == 5
    assert journal.read() == [*kept, *again, line("intended", "gr_4")]
    assert path.stat().st_mode & 0o777 == 0o600
    journal.append(line("closing", "gr_three"))
    assert len(journal.read()) == 8


def test_threads_do_not_mix_their_lines(path: Path) -> None:
    """Lines appended at once are all whole."""
    journal = ClosingJournal(path)

    def write(name: str) -> None:
        for number in range(20):
            journal.append(line("closing", name, number=number))

    threads = [Thread(target=write, args=(f"gr_{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journal.read()) == 80
    assert journal.inspect().broken == ()


def test_failed_write_is_raised_and_mended(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk raises, and the half line it left is cut off by the next append."""
    journal = ClosingJournal(path)
    journal.append(INTENDED)
    true_write = os.write

    def half(fd: int, data: bytes) -> int:
        true_write(fd, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="no space"):
            journal.append(line("closing"))
    journal.append(line("removed"))
    assert journal.read() == [INTENDED, line("removed")]


def test_full_journal_refuses_to_open_and_never_to_close(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its bound nothing new opens; what closes is still written, and what is to be closed."""
    journal = ClosingJournal(path)
    journal.append_opening(INTENDED)
    monkeypatch.setattr(journal_file, "LARGEST_JOURNAL", 10)
    with pytest.raises(EvidenceClosed):
        journal.append_opening(INTENDED)
    journal.append_all((INTENDED, line("removed")))
    assert len(journal.read()) == 3


def test_symbolic_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    """A link put in the journal's place does not make us write elsewhere."""
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        ClosingJournal(path).append(INTENDED)
    assert not (tmp_path / "elsewhere").exists()


def test_unknown_kind_and_long_line_are_our_own_bugs(path: Path) -> None:
    """What could not be read back is not written."""
    with pytest.raises(RuntimeError):
        ClosingJournal(path).append(line("opened"))
    with pytest.raises(RuntimeError):
        ClosingJournal(path).append(line("closing", why="x" * 20_000))
    assert not path.exists()


@given(st.binary(max_size=300))
def test_any_bytes_can_be_inspected(data: bytes) -> None:
    """Reading never fails: closing depends on it."""
    contents = read_journal(data)
    assert contents.lines == () and contents.whole <= len(data)


def started(path: Path, then: str, *args: str) -> subprocess.Popen[str]:
    """Another process with a journal on `path` and `line` in hand; `then` is what it does."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tidegate.base.when import from_ms\n"
        "from tidegate.evidence.journal import ClosingJournal, JournalLine\n"
        "journal = ClosingJournal(Path(sys.argv[1]))\n"
        "def line(kind, grant, **data):\n"
        f"    return JournalLine(kind=kind, grant=grant, at=from_ms({int(START.timestamp())}000),"
        " data=data)\n"
        "true_write = os.write\n"
        f"LATER = from_ms({int(LATER.timestamp())}000)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code + then, str(path), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


WRITER = """
os.write = lambda fd, data: true_write(fd, data[: len(data) // 2 + 1])  # lines come in pieces
sys.stdin.readline()
for number in range(60):
    journal.append(line("intended", f"{sys.argv[2]}_{number}"))
    if number % 2:
        journal.append(line("gone", f"{sys.argv[2]}_{number}"))
        journal.append(line("sealed", f"{sys.argv[2]}_{number}"))
    if number % 5 == 4:
        journal.compact(LATER)
"""


def test_processes_on_one_journal_lose_no_line(path: Path) -> None:
    """Appends and compactions of several processes at once: every acknowledged line is there."""
    writers = [started(path, WRITER, name) for name in ("a", "b", "c")]
    for writer in writers:
        print(file=writer.stdin, flush=True)  # all begin together
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    journal = ClosingJournal(path)
    assert journal.inspect().broken == () and not journal.inspect().torn
    journal.compact(LATER)
    expected = {f"{name}_{number}" for name in "abc" for number in range(0, 60, 2)}
    assert {found.grant for found in open_grants(journal.read())} == expected
    assert len(journal.read()) == len(expected)


DIES_IN_A_LINE = """
def half(fd, data):
    true_write(fd, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
os.write = half
journal.append(line("closing", "gr_theirs"))
"""


def test_line_torn_by_another_process_is_cut_off_by_our_next(path: Path) -> None:
    """That our own lines were whole says nothing of those others left since; nor do we hang."""
    journal = ClosingJournal(path)
    journal.append(INTENDED)
    assert started(path, DIES_IN_A_LINE).wait(60) == -signal.SIGKILL
    assert journal.inspect().torn
    journal.append(line("removed"))
    assert journal.read() == [INTENDED, line("removed")]
    assert journal.inspect().broken == ()


def test_lock_on_a_file_that_was_removed_is_not_taken_for_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever locked a side file that is not there any more locks the one that is."""
    side, true_flock, tries = path.with_name("closing.journal.lock"), fcntl.flock, []

    def removed_meanwhile(fd: int, how: int) -> None:
        tries.append(fd)
        if len(tries) == 1:
            side.unlink()
        true_flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    ClosingJournal(path).append(INTENDED)
    assert len(tries) == 2 and side.exists()


def test_lock_that_is_never_given_back_ends_in_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process stopped in the middle of a write cannot keep closing waiting for ever."""
    journal = ClosingJournal(path)
    over = [line(kind) for kind in ("intended", "gone", "sealed")]  # something to compact
    journal.append_all(over)
    monkeypatch.setattr(journal_file, "LOCK_TRIES", 3)
    with path.with_name("closing.journal.lock").open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for write in (lambda: journal.append(line("closing")), lambda: journal.compact(LATER)):
            with pytest.raises(OSError, match="has the lock"):
                write()
        assert journal.read() == over  # reading waits for nobody
    journal.append(line("closing"))
    assert len(journal.read()) == 4


HOLDER = """
journal.hold()
print("holding", flush=True)
sys.stdin.readline()
journal.release()
print("released", flush=True)
sys.stdin.readline()
"""


def refused(path: Path) -> AskedWrongly:
    """What a second server is told."""
    with pytest.raises(AskedWrongly) as caught:
        ClosingJournal(path).hold()
    return caught.value


def test_second_server_is_refused_until_the_first_is_dead(path: Path) -> None:
    """The refusal names the process; SIGKILL frees the journal, and nobody has to clean up."""
    first = started(path, HOLDER)
    assert first.stdout and first.stdout.readline() == "holding\n"
    told = refused(path)
    assert told.code == "already_running"
    assert told.message == "expected no other server on this installation, got one that is running"
    assert told.help == f"stop it first; it is found by its process id {first.pid}"
    ClosingJournal(path).append(INTENDED)  # who does not serve may write all the same
    first.kill()
    first.wait(60)
    journal = ClosingJournal(path)
    journal.hold()
    assert refused(path).help.endswith(f" {os.getpid()}")
    journal.release()
    assert path.with_name("closing.journal.held").stat().st_mode & 0o777 == 0o600


def test_released_journal_can_be_held_by_another_process(path: Path) -> None:
    """Letting go works while the process lives on; a second release does nothing."""
    journal = ClosingJournal(path)
    journal.hold()
    with pytest.raises(RuntimeError):
        journal.hold()
    journal.release()
    journal.release()
    other = started(path, HOLDER)
    assert other.stdout and other.stdout.readline() == "holding\n"
    refused(path)
    print(file=other.stdin, flush=True)
    assert other.stdout.readline() == "released\n"
    journal.hold()
    journal.release()
    other.communicate(timeout=60)


@pytest.mark.parametrize("said", [b"", b"no number", bytes(50), "²".encode()])
def test_holder_without_a_process_id_is_refused_all_the_same(path: Path, said: bytes) -> None:
    """The id is help for people; the lock alone decides."""
    holder = ClosingJournal(path)
    holder.hold()
    path.with_name("closing.journal.held").write_bytes(said)
    assert refused(path).help == "stop it first"
    holder.release()


def _unreadable(path: Path) -> None:
    path.write_bytes(b"")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads every file")


def _too_large(path: Path) -> None:
    path.touch()
    os.truncate(path, journal_file.LARGEST_READ + 1)


NO_FILES: dict[str, Callable[[Path], object]] = {
    "directory": Path.mkdir,
    "named pipe": os.mkfifo,
    "unreadable": _unreadable,
    "too large": _too_large,
    "link to nowhere": lambda path: path.symlink_to(path.with_name("nowhere")),
    "link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_no_journal_file_raises_oserror_and_nothing_else(path: Path, what: str) -> None:
    """Closing goes on after OSError: any other error, or waiting for a pipe, would end it."""
    NO_FILES[what](path)
    journal = ClosingJournal(path)
    for use in (
        journal.read,
        journal.inspect,
        lambda: journal.compact(LATER),
        lambda: journal.append(INTENDED),
    ):
        with pytest.raises(OSError):
            use()


def test_place_that_cannot_be_raises_oserror(path: Path) -> None:
    """A file where the directory should be, and no directory at all for a first line."""
    path.touch()
    with pytest.raises(OSError):
        ClosingJournal(path / "closing.journal").read()
    gone = ClosingJournal(path.with_name("nowhere") / "closing.journal")
    assert gone.read() == []
    for use in (gone.hold, lambda: gone.append(INTENDED)):
        with pytest.raises(OSError):
            use()


def row(value: Any, body: bytes = b"") -> bytes:
    """A line with a sum that fits, whatever it says."""
    body = body or orjson.dumps(value)
    return hashlib.sha256(body).hexdigest()[:16].encode() + b" " + body + b"\n"


def row_of(found: JournalLine) -> bytes:
    """The bytes `found` is kept as."""
    return row(
        None,
        canonical(
            {"at": wire(found.at), "data": found.data, "grant": found.grant, "kind": found.kind}
        ),
    )


LINES = [
    INTENDED,
    line("intended", "gr_two", ends_at="2026-11-22T07:03:36.000Z"),
    line("closing", reason="expired"),
    line("gone", "gr_two", proof="denied"),
    line("removed"),
]
WHOLE = b"".join(map(row_of, LINES))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal's place that many examples write anew."""
    return tmp_path_factory.mktemp("damaged") / "closing.journal"


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), max_size=4),
    st.integers(0, len(WHOLE)),
)
def test_no_damage_makes_reading_fail_or_tell_of_another_line(
    shared: Path, flips: list[tuple[int, int]], kept: int
) -> None:
    """Bytes flipped and the end cut anywhere: what is read is some of what was written."""
    damaged = bytearray(WHOLE)
    for place, flip in flips:
        damaged[place] ^= flip
    shared.write_bytes(damaged[:kept])
    lines = ClosingJournal(shared).read()
    assert all(found in LINES for found in lines)
    assert {found.grant for found in open_grants(lines)} <= {"gr_one", "gr_two"}
    whole = WHOLE[:kept].count(b"\n")
    assert len(lines) >= whole - 2 * len(flips)  # a flip in a line feed spoils two lines


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part, max_size=3),
    max_leaves=6,
)
NEARLY = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["intended", "gone", "sealed", "opened"]) | JSON,
        "grant": st.just("gr_one") | JSON,
        "at": st.just(wire(START)) | JSON,
        "data": st.just({}) | JSON,
    }
)


@settings(deadline=None)
@given(st.lists(JSON.map(row) | NEARLY.map(row) | st.binary(max_size=40), max_size=5))
def test_line_of_another_version_never_makes_reading_fail(shared: Path, rows: list[bytes]) -> None:
    """A sum that fits proves no shape: what is not a line of ours is broken, and is kept."""
    shared.write_bytes(b"".join(rows))
    journal = ClosingJournal(shared)
    contents = journal.inspect()
    open_grants(contents.lines)
    journal.compact(LATER)
    if contents.broken:
        assert shared.read_bytes() == b"".join(rows)


def test_last_line_of_another_version_is_broken_and_never_cut_off(path: Path) -> None:
    """It was written whole and acknowledged by whoever wrote it: the next append spares it."""
    strange = row({"v": 2})
    path.write_bytes(row_of(INTENDED) + strange)
    journal = ClosingJournal(path)
    assert journal.inspect().broken == (2,) and not journal.inspect().torn
    journal.append(line("removed"))
    assert path.read_bytes() == row_of(INTENDED) + strange + row_of(line("removed"))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["intended", "closing", "removed", "gone", "noted", "sealed", "torn",
                             "broken", "compact", "look"]),
            st.sampled_from(["gr_a", "gr_b", "gr_c"]),
        ),
        max_size=40,
    )
)  # fmt: skip
def test_book_that_missed_a_line(tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    """However a journal was written, also by others, its book is that of all its lines."""
    path = tmp_path_factory.mktemp("book") / "journal"
    ours, other = ClosingJournal(path), ClosingJournal(path)
    for number, (kind, grant) in enumerate(steps):
        if kind == "compact":
            other.compact(LATER)
        elif kind == "look":
            ours.book()
        elif kind in ("torn", "broken"):
            with path.open("ab") as file:
                file.write(b"0123" if kind == "torn" else b"0123 {}\n")
        else:
            (ours if number % 2 else other).append(line(kind, grant))
    assert ours.book() == book_of(ours.read())


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.sampled_from([20, 90, 300]), max_size=6),
    rest=st.lists(st.sampled_from([b"0123", b"\n", b"x" * 150, bytes(70), b"0123 {}"]), max_size=5),
)
def test_end_of_a_long_journal_is_mended_unlike_a_short_one(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], rest: list[bytes]
) -> None:
    """What is cut off is what reading the whole file says is torn, however little is read."""
    path = tmp_path_factory.mktemp("torn") / "journal"
    journal = ClosingJournal(path)
    for size in rows:
        journal.append(line("intended", native="n" * size))
    data = (path.read_bytes() if rows else b"") + b"".join(rest)
    path.write_bytes(data)
    whole = read_journal(data).whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_file, "TAIL", 128)
        ClosingJournal(path).append(line("closing"))
    assert path.read_bytes() == data[:whole] + row_of(line("closing"))


@pytest.mark.parametrize("theirs", ["gr_other", "gr_one", "compact"])
def test_end_waits_for_a_compaction_or_is_lost_by_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    """What is written while a compaction reads waits for nothing and is there afterwards; where it
    is of a grant that was to go, or the file is another by then, nothing goes this time.
    """
    journal, other = ClosingJournal(path), ClosingJournal(path)
    for kind in ("intended", "closing", "removed", "gone", "sealed"):
        journal.append(line(kind))
    judge = journal_file.needed_until

    def meanwhile(lines: Any) -> Any:
        monkeypatch.setattr(journal_file, "needed_until", judge)
        if theirs == "compact":
            other.compact(LATER)
        else:
            other.append(line("closing", theirs))
        return judge(lines)

    monkeypatch.setattr(journal_file, "needed_until", meanwhile)
    dropped = journal.compact(LATER)
    left = [(one.kind, one.grant) for one in journal.read()]
    assert dropped == (5 if theirs == "gr_other" else 0)
    assert left[-1:] == ([] if theirs == "compact" else [("closing", theirs)])
    assert len(left) == {"gr_other": 1, "gr_one": 6, "compact": 0}[theirs]


def test_reading_a_long_journal_leaves_cycles_uncollected(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for cycles rests while a long journal is read, and goes on afterwards."""
    monkeypatch.setattr(journal_file, "LONG", 1)
    seen: list[bool] = []
    read = journal_file.read_journal
    monkeypatch.setattr(
        journal_file, "read_journal", lambda data: (seen.append(gc.isenabled()), read(data))[1]
    )
    journal = ClosingJournal(path)
    journal.append(INTENDED)
    seen.clear()
    assert list(journal.book().lines) == ["gr_one"]
    assert seen == [False]
    assert gc.isenabled()
