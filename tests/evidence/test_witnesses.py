"""Places checkpoints go to: each tried for itself, and a silent one told after five minutes."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.diagnose.test_doctor import SOUND
from tests.evidence.made_log import SIGNER, START, make_log, story
from tidegate.base.errors import EvidenceBroken, TidegateError
from tidegate.diagnose.doctor import examine
from tidegate.diagnose.examined import published
from tidegate.evidence.checkpoint import sign_checkpoint
from tidegate.evidence.note import FileSigner
from tidegate.evidence.witness import read_directory
from tidegate.evidence.witnesses import (
    SILENT,
    PlaceSeen,
    Witnesses,
    newest_in,
    witness_trouble,
)

SECOND = timedelta(seconds=1)
LONGER = make_log()
SHORT = make_log(story()[:9])
NOWHERE = "http://127.0.0.1:9/"  # the discard port: nothing listens there


def places(directory: Path | None, url: str = "", **more: object) -> Witnesses:
    """Places looked after since START."""
    given = {"started": START, "beats": {}} | more
    return Witnesses(directory=directory, url=url, **given)  # type: ignore[arg-type]


SEEN = PlaceSeen(place="url", size=9, at=START, since=START)


@pytest.mark.parametrize(
    ("seen", "size", "after", "told"),
    [
        (SEEN, 10, SILENT, None),
        (SEEN, 10, SILENT + SECOND, "1 events behind"),
        (SEEN, 9, SILENT * 100, None),
        (PlaceSeen(place="url", size=0, at=None, since=START), 9, SILENT, None),
        (PlaceSeen(place="url", size=0, at=None, since=START), 9, SILENT + SECOND, "9 events"),
        (PlaceSeen(place="url", size=0, at=None, since=START, fault="x"), 9, SILENT * 2, ": x"),
    ],
    ids=["in time", "behind", "log does not grow", "just started", "never", "with its fault"],
)
def test_silent_witness_is_not_told(
    seen: PlaceSeen, size: int, after: timedelta, told: str | None
) -> None:
    """Over five minutes without what the log has grown by is trouble; before that nothing is."""
    said = witness_trouble((seen,), size, START + after)
    assert (said is None) is (told is None)
    assert told is None or told in (said or "")


def test_one_place_hides_the_silence_of_another(tmp_path: Path) -> None:
    """A place that fails keeps no other from being served, and is told by its own name."""
    made = places(tmp_path / "w", NOWHERE)
    for log in (SHORT, LONGER):
        with pytest.raises(TidegateError):
            made.publish(log.checkpoint(), START + SECOND)
    assert [len(read_directory(tmp_path / "w"))] == [2]
    directory, url = made.seen()
    assert (directory.size, directory.at, directory.fault) == (LONGER.tree.size, START + SECOND, "")
    assert (url.size, url.at) == (0, None) and "not reached" in url.fault
    said = made.trouble(LONGER.tree.size, START + SILENT + SECOND)
    assert said is not None and said.startswith("witness url ") and "not reached" in said


def test_last_success_is_forgotten_at_a_restart(tmp_path: Path) -> None:
    """The next process knows since when a place is silent, and brings it the newest anyway."""
    first = places(tmp_path / "w")
    first.publish(SHORT.checkpoint(), START)
    again = places(tmp_path / "w", started=START + SILENT, beats=first.beats())
    assert again.seen()[0].size == SHORT.tree.size
    assert again.trouble(LONGER.tree.size, START + SILENT + SECOND) is not None
    (tmp_path / "w" / "latest").unlink()
    again.publish(SHORT.checkpoint(), START + SILENT)
    assert newest_in(tmp_path / "w") == SHORT.checkpoint()
    assert again.trouble(LONGER.tree.size, START + SILENT + SECOND) is None


def test_witness_directory_refuses_a_new_key(tmp_path: Path) -> None:
    """A directory takes the checkpoints of the next key, and still refuses a fork under any key."""
    new = FileSigner(SIGNER.name, b"\7" * 32)
    made = places(tmp_path / "w")
    made.publish(SHORT.checkpoint(), START)
    made.publish(LONGER.checkpoint(new), START)
    assert newest_in(tmp_path / "w") == LONGER.checkpoint(new)
    forked = make_log([*story()[:8], *story()[9:]]).head()
    other = make_log([*story()[1:9], story()[0]]).head()
    made.publish(sign_checkpoint(forked, new), START)
    with pytest.raises(EvidenceBroken):
        made.publish(sign_checkpoint(other, new), START)


def test_no_place_is_no_silence(tmp_path: Path) -> None:
    """Without any place there is nothing to wait for: that is a finding of another kind."""
    none = places(None)
    none.publish(LONGER.checkpoint(), START)
    assert not none.configured and none.beats() == {} and none.latest() is None
    assert none.trouble(9, START + SILENT * 2) is None


def test_doctor_passes_over_a_silent_place() -> None:
    """`doctor` fails on a place silent for over five minutes, with what to do; not before."""
    size = SOUND.kept.head.size if SOUND.kept else 0
    seen = PlaceSeen(place="url", size=size - 1, at=SOUND.now - SILENT - SECOND, since=SOUND.now)
    for one, said in ((seen, "url has had no new checkpoint"), (replace(seen, size=size), "")):
        told = examine(replace(SOUND, witness=published((one,))))
        found = [check for check in told.findings if check.name == "witness" and not check.ok]
        assert bool(found) is bool(said)
        assert all(said in check.says and "[witness]" in check.fix for check in found)
