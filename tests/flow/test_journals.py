"""Several journals: one machine opens, another closes, and each journal stays right."""

from datetime import timedelta
from pathlib import Path

from tests.support import World
from tidegate.evidence.journal import ClosingJournal, open_grants
from tidegate.flow.recovering import find_unknown, seal_journal, settle_journal
from tidegate.grant import GrantState


def test_end_by_another_machine_is_closed_again(tmp_path: Path) -> None:
    """A journal hears of an end that another machine brought about, once, and is then compacted."""
    world = World(tmp_path)
    try:
        grant = world.granted()
        ours = world.house.journal
        world.house.journal = ClosingJournal(tmp_path / "other.journal")
        world.clock.forward(minutes=31)
        world.work()
        assert world.grant(grant).state is GrantState.GONE
        world.house.journal = ours
        assert [line.grant for line in open_grants(ours.read())] == [grant.id]
        size = world.house.store.head().size
        assert settle_journal(world.house) == [grant.id]
        assert settle_journal(world.house) == []
        assert (seal_journal(world.house), find_unknown(world.house)) == (0, frozenset())
        assert world.house.store.head().size == size
        assert open_grants(ours.read()) == []
        world.clock.forward(hours=3)
        assert ours.compact(world.clock() + timedelta(0)) > 0 and ours.read() == []
    finally:
        world.down()
