"""The closing journal: what survives a crash, and what is said of what did not."""

import errno
import os
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evidence.made_log import START
from tidegate.base.errors import EvidenceClosed
from tidegate.evidence import journal as journal_file
from tidegate.evidence.journal import ClosingJournal, JournalLine, open_grants, read_journal


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


def test_missing_journal_is_empty(path: Path) -> None:
    """Before the first line there is nothing to close."""
    assert ClosingJournal(path).read() == []
    assert ClosingJournal(path).compact() == 0


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
    assert journal.compact() == 0 and path.read_bytes() == b"\n".join(rows)


def test_compaction_keeps_every_grant_that_is_not_gone_and_sealed(path: Path) -> None:
    """Only what is over twice, in the cloud and in the log, is dropped."""
    journal = ClosingJournal(path)
    done = [line(kind) for kind in ("intended", "closing", "removed", "gone", "sealed")]
    kept = [line("intended", "gr_two"), line("gone", "gr_two"), line("intended", "gr_three")]
    again = [line("intended", "gr_4"), line("gone", "gr_4"), line("sealed", "gr_4")]
    for each in (*done, *kept, *again, line("intended", "gr_4")):
        journal.append(each)
    assert journal.compact() == 5
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
    """At its bound nothing new opens; lines that close are still written."""
    journal = ClosingJournal(path)
    journal.append(INTENDED)
    monkeypatch.setattr(journal_file, "LARGEST_JOURNAL", 10)
    with pytest.raises(EvidenceClosed):
        journal.append(INTENDED)
    journal.append(line("removed"))
    assert len(journal.read()) == 2


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
