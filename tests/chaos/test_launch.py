"""The bomb goes off where it was told to, once: else a case kills nobody, or the wrong one."""

import os
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chaos.launch import Bomb
from chaos.life import Verdict
from chaos.run import Batch, Case

from tidegate.evidence.journal import ClosingJournal, _Appending
from tidegate.evidence.journal_line import JournalLine


def test_two_processes_count_apart_or_both_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes with one file of hits, the one that passes the point as the n-th dies."""
    died: list[str] = []
    monkeypatch.setattr(os, "kill", lambda *_: died.append("killed"))
    armed = tmp_path / "armed"
    told = {
        "TIDEGATE_CHAOS_POINT": "cloud.revoke.before",
        "TIDEGATE_CHAOS_NTH": "2",
        "TIDEGATE_CHAOS_ARMED": str(armed),
        "TIDEGATE_CHAOS_HITS": str(tmp_path / "hits"),
    }
    one, two = Bomb(told), Bomb(told)
    one.at("cloud.revoke.before")  # not armed: it does not count
    armed.touch()
    one.at("cloud.revoke.before")
    two.at("cloud.revoke.after")
    assert died == []
    two.at("cloud.revoke.before")
    assert died == ["killed"]
    one.at("cloud.revoke.before")
    assert died == ["killed"]


class Passed(Bomb):
    """Keeps what it passes, each with how much there is at that moment."""

    def __init__(self, seen: Path) -> None:
        super().__init__({})
        self.seen, self.passed = seen, list[tuple[str, int]]()

    def at(self, point: str) -> None:
        """Here."""
        self.passed.append((point, self.seen.stat().st_size if self.seen.exists() else 0))


def test_torn_line_is_whole_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before there is nothing, torn is half of it, after is all; its kind names the point."""
    path = tmp_path / "journal"
    bomb = Passed(path)
    monkeypatch.setattr(ClosingJournal, "append_all", bomb.around_lines(ClosingJournal.append_all))
    monkeypatch.setattr(_Appending, "write", bomb.within_lines(_Appending.write))
    line = JournalLine(kind="closing", grant="gr_1", at=datetime(2026, 1, 1, tzinfo=UTC), data={})
    ClosingJournal(path).append_all(one for one in (line,))
    size = path.stat().st_size
    kinds = ("journal.closing.before", "journal.closing.torn", "journal.closing.after")
    assert bomb.passed == list(zip(kinds, (0, size // 2, size), strict=True))
    ClosingJournal(path).append_all(())
    assert len(bomb.passed) == 3
    assert ClosingJournal(path).read() == [line]


def test_caller_learns_of_a_step_before_the_kill(tmp_path: Path) -> None:
    """`after` of a Step that is not waited for is once it is durable, and its future not done."""
    bomb = Passed(tmp_path)
    durable: Future[str] = Future()
    submit = bomb.around_future(lambda *_, **__: durable)
    told: Future[Any] = submit(None, None, urgent=True)
    assert [point for point, _ in bomb.passed] == ["store.urgent.before"]
    durable.set_result("kept")
    assert [point for point, _ in bomb.passed] == ["store.urgent.before", "store.urgent.after"]
    assert told.result(0) == "kept"
    failed: Future[str] = Future()
    failed.set_exception(ValueError("not kept"))
    refused = bomb.around_future(lambda *_, **__: failed)(None, None)
    with pytest.raises(ValueError, match="not kept"):
        refused.result(0)
    assert [point for point, _ in bomb.passed][2:] == ["store.submit.before"]


def test_ends_sealed_together_and_one_by_one_are_one_point(tmp_path: Path) -> None:
    """The log's SQL is a point of its own where many ends are sealed at once."""
    bomb = Passed(tmp_path)
    write_log = bomb.around_log(lambda: None)

    def _end_many() -> None:
        write_log()

    _end_many()
    write_log()
    assert [point for point, _ in bomb.passed] == [
        "mass.write_log.before",
        "mass.write_log.after",
        "sql.write_log.before",
        "sql.write_log.after",
    ]


@pytest.mark.parametrize(
    ("kills", "lives", "ok"), [([1], 1, True), ([0, 1], 2, True), ([], 2, False)]
)
def test_point_that_is_never_reached_passes(
    kills: list[int], lives: int, ok: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A case that kills nobody lives once more, and then it has failed."""
    batch = Batch("iam-role", tmp_path, lambda _: None)
    left = list(kills)

    def lived(case: Case, *_: object, **__: object) -> None:
        batch.verdicts.append(Verdict(str(case), killed=left.pop(0) if left else 0))

    monkeypatch.setattr(batch, "_live", lived)
    monkeypatch.setattr(batch.town, "restart", lambda *_, **__: None)
    batch._kill(Case("iam-role", "cloud.revoke.before", 9))
    assert len(batch.verdicts) == lives
    assert all(one.ok for one in batch.verdicts) == ok
    assert [one.kept for one in batch.verdicts] == [[]] * lives
