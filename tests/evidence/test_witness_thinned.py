"""A witness directory is bounded, and what is dropped was seen to be proven by what stays."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.evidence.made_log import SIGNER, START
from tidegate.base.errors import WorldFailed
from tidegate.evidence import witness
from tidegate.evidence.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from tidegate.evidence.witness import keep_fork, publish_to_directory, read_directory, thin
from tidegate.evidence.witnesses import Witnesses

MOST = 20


def note(size: int) -> str:
    """A signed checkpoint of a log of `size` events."""
    root = size.to_bytes(32)
    return sign_checkpoint(Checkpoint(origin=SIGNER.name, size=size, root=root), SIGNER)


def kept(directory: Path) -> list[int]:
    """The sizes that are there, smallest first."""
    return [parse_checkpoint(text).size for text in read_directory(directory)]


def fits(text: str) -> str:
    """A log that extends everything."""
    return ""


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Forty checkpoints: twenty close together, then twenty far apart."""
    for size in (*range(1, 21), *range(100, 2_100, 100)):
        publish_to_directory(tmp_path, note(size))
    return tmp_path


def test_directory_grows_for_ever(full: Path) -> None:
    """At most so many stay; the newest half whole, the first too, the rest spread out."""
    for _ in range(10):
        thin(full, fits, MOST)
    left = kept(full)
    assert len(left) <= MOST
    assert left[-MOST // 2 :] == list(range(1_100, 2_100, 100)) and left[0] == 1
    assert len([size for size in left if size <= 20]) < 8 < len([s for s in left if s > 1_000])
    assert thin(full, fits, MOST) == 0
    assert parse_checkpoint((full / "latest").read_text()).size == 2_000


def test_few_are_dropped_at_once(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call ends soon, however many are too many."""
    monkeypatch.setattr(witness, "DROPPED_AT_ONCE", 3)
    assert thin(full, fits, MOST) == 3
    assert len(kept(full)) == 37


def test_checkpoint_that_contradicts_the_log_is_dropped(full: Path) -> None:
    """It is the evidence of a rewritten log, and so is one that was refused."""
    keep_fork(full, note(99))
    for _ in range(10):
        thin(full, lambda text: "another root" if parse_checkpoint(text).size == 7 else "", MOST)
    assert 7 in kept(full)
    assert list(full.glob("forked-*"))


def test_directory_is_thinned_beside_a_database_that_is_away(full: Path) -> None:
    """What cannot be held against the log stays, and nothing is raised."""

    def away(text: str) -> str:
        raise WorldFailed("database_unreadable", "the database cannot be read", "")

    assert thin(full, away, MOST) == 0
    assert thin(full / "missing", fits, MOST) == 0
    assert len(kept(full)) == 40


def test_publishing_never_thins(full: Path) -> None:
    """The first checkpoint a process brings to a directory makes room in it."""
    places = Witnesses(
        directory=full,
        url="",
        memory=full / "nowhere",
        contradicts=fits,
        started=START,
        beats={},
        most=MOST,
    )
    places.publish(note(2_100), START + timedelta(seconds=1))
    assert len(kept(full)) < 40 and kept(full)[-1] == 2_100
