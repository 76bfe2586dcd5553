"""Places checkpoints go to: each tried for itself, and a silent one told after five minutes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.diagnose.test_doctor import SOUND
from tests.evidence.made_log import SIGNER, START, MadeLog, make_log, story
from tidegate.base.errors import EvidenceBroken, TidegateError, WorldFailed
from tidegate.diagnose.doctor import examine
from tidegate.diagnose.examined import published
from tidegate.evidence import witnesses
from tidegate.evidence.checkpoint import (
    Checkpoint,
    check_extends,
    parse_checkpoint,
    sign_checkpoint,
)
from tidegate.evidence.merkle import consistency_proof
from tidegate.evidence.note import FileSigner
from tidegate.evidence.witness import (
    MOST_FORKED,
    keep_fork,
    read_directory,
    read_forked,
    remembered,
)
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
    """Places looked after since START; the directory is mounted."""
    if directory is not None:
        directory.mkdir(exist_ok=True)
    given = {
        "memory": Path("/nonexistent"),
        "contradicts": lambda kept: "",
        "started": START,
        "beats": {},
    } | more
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


FORKED = make_log([*story()[:8], *story()[9:]])  # parts from the log at its ninth event


def of_log(log: MadeLog) -> Callable[[str], str]:
    """How a kept checkpoint contradicts that log, as the store is asked."""

    def contradicts(kept: str) -> str:
        old, head = parse_checkpoint(kept), log.head()
        if old.size > head.size:
            return f"{old.size} were witnessed: it was cut"
        try:
            check_extends(old, head, consistency_proof(old.size, head.size, log.read()))
        except EvidenceBroken as fault:
            return fault.message
        return ""

    return contradicts


def test_older_log_that_grew_replaces_what_was_witnessed(tmp_path: Path) -> None:
    """A log that parted from the witnessed one is refused however long it is; both are kept."""
    before = make_log(story()[:12])
    places(tmp_path / "w").publish(before.checkpoint(), START)
    made = places(tmp_path / "w", contradicts=of_log(FORKED))
    made.check()
    assert "directory" in (made.forked() or "")
    for _ in range(2):
        with pytest.raises(EvidenceBroken) as caught:
            made.publish(FORKED.checkpoint(), START)
        assert caught.value.code == "forked"
    assert newest_in(tmp_path / "w") == before.checkpoint()
    assert read_directory(tmp_path / "w") == [before.checkpoint()]
    assert read_forked(tmp_path / "w") == [FORKED.checkpoint()]
    assert made.forked() is not None and made.seen()[0].size == 0


def test_log_that_was_cut_is_published(tmp_path: Path) -> None:
    """A log shorter than what was witnessed is refused too; its end is no second history."""
    for log in (SHORT, LONGER):
        places(tmp_path / "w").publish(log.checkpoint(), START)
    made = places(tmp_path / "w", contradicts=of_log(SHORT))
    with pytest.raises(EvidenceBroken):
        made.publish(SHORT.checkpoint(), START)
    assert made.forked() and read_forked(tmp_path / "w") == []
    healed = places(tmp_path / "w", contradicts=of_log(LONGER))
    healed.check()
    assert healed.forked() is None
    healed.publish(LONGER.checkpoint(), START)


def test_latest_removed_hides_what_was_witnessed(tmp_path: Path) -> None:
    """Without `latest` the largest checkpoint that is there is asked."""
    places(tmp_path / "w").publish(LONGER.checkpoint(), START)
    (tmp_path / "w" / "latest").unlink()
    made = places(tmp_path / "w", contradicts=of_log(SHORT))
    made.check()
    assert made.forked()


def test_fork_is_forgiven_by_another_fault(tmp_path: Path) -> None:
    """While a place cannot be asked, what it contradicted before stands."""
    places(tmp_path / "w").publish(LONGER.checkpoint(), START)
    answers = iter(("it was cut", WorldFailed("away", "the database is away", "wait")))

    def contradicts(kept: str) -> str:
        answer = next(answers)
        if isinstance(answer, WorldFailed):
            raise answer
        return answer

    made = places(tmp_path / "w", contradicts=contradicts)
    for kind in (EvidenceBroken, WorldFailed):
        with pytest.raises(kind):
            made.publish(SHORT.checkpoint(), START)
        assert made.forked()


def test_forks_fill_the_disk_of_the_witness(tmp_path: Path) -> None:
    """A log that goes on growing after its fork is kept MOST_FORKED times, and no more."""
    for size in range(1, MOST_FORKED + 4):
        head = Checkpoint(origin=SIGNER.name, size=size, root=bytes(32))
        keep_fork(tmp_path, sign_checkpoint(head, SIGNER))
    assert len(read_forked(tmp_path)) == MOST_FORKED


def test_address_forgets_what_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an address took is remembered here, also by the next process, and nothing that parts
    from it is sent there.
    """
    sent: list[str] = []
    monkeypatch.setattr(witnesses, "publish_over_http", lambda url, note: sent.append(note))
    first = places(None, NOWHERE, memory=tmp_path / "m", contradicts=of_log(LONGER))
    first.publish(SHORT.checkpoint(), START)
    first.publish(LONGER.checkpoint(), START)
    assert remembered(tmp_path / "m") == [LONGER.checkpoint()]
    made = places(None, NOWHERE, memory=tmp_path / "m", contradicts=of_log(FORKED))
    made.check()
    assert "url" in (made.forked() or "")
    with pytest.raises(EvidenceBroken):
        made.publish(FORKED.checkpoint(), START)
    assert sent == [SHORT.checkpoint(), LONGER.checkpoint()]
    assert read_forked(tmp_path / "m") == [FORKED.checkpoint()]


def test_place_that_is_away_is_made_anew(tmp_path: Path) -> None:
    """A directory that is not there is a mount that is away: no other is made, and it is told."""
    made = places(tmp_path / "w")
    (tmp_path / "w").rmdir()
    with pytest.raises(WorldFailed) as told:
        made.publish(SHORT.checkpoint(), START)
    assert str(tmp_path / "w") in told.value.message and "mount it" in told.value.help
    assert not (tmp_path / "w").exists()
    size = parse_checkpoint(SHORT.checkpoint()).size
    assert made.trouble(size, START + SILENT + SECOND)


def test_fork_is_forgiven_by_a_place_that_is_away(tmp_path: Path) -> None:
    """What a place contradicted stands while it cannot be asked because its disk is away."""
    places(tmp_path / "w").publish(LONGER.checkpoint(), START)
    made = places(tmp_path / "w", contradicts=of_log(SHORT))
    made.check()
    assert made.forked()
    (tmp_path / "w").rename(tmp_path / "unmounted")
    made.check()
    assert made.forked()


def test_memory_of_an_address_makes_the_disk_of_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an address took is kept beside the journal: with its disk away nothing is sent, and
    nothing is made in the place of that disk.
    """
    sent: list[str] = []
    monkeypatch.setattr(witnesses, "publish_over_http", lambda url, note: sent.append(note))
    made = places(None, NOWHERE, memory=tmp_path / "disk" / "witnessed")
    made.check()
    with pytest.raises(WorldFailed, match="No such directory"):
        made.publish(SHORT.checkpoint(), START)
    assert not sent and not (tmp_path / "disk").exists()


def test_doctor_sends_to_the_way_when_the_log_forked() -> None:
    """A place that refuses a fork is told as that alone: mending the way to it mends nothing."""
    size = SOUND.kept.head.size if SOUND.kept else 0
    seen = PlaceSeen(
        place="directory", size=size - 1, at=SOUND.now - SILENT * 2, since=SOUND.now,
        fault="it was cut", forked="it was cut",
    )  # fmt: skip
    told = examine(replace(SOUND, witness=published((seen,))))
    (check,) = [one for one in told.findings if one.name == "witness"]
    assert check.ok is False and "begin a new log" in check.fix
