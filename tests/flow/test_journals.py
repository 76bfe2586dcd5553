"""Several journals: one machine opens, another closes, and each journal stays right."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.test_adopting import no_room
from tests.support import World
from tidegate.base.errors import EvidenceBroken
from tidegate.evidence.journal import ClosingJournal, open_grants
from tidegate.flow.recovering import close_without_store, find_unknown, seal_journal, settle_journal
from tidegate.grant import Grant, GrantState


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


def test_journal_that_cannot_be_written_is_sealed_over_and_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never says that its line is sealed: the evidence is asked, also by the next process."""
    grant, other = world.granted(), world.granted("eve")
    world.clock.forward(minutes=30)
    assert len(close_without_store(world.house)) == 2
    with monkeypatch.context() as patch:
        patch.setattr(world.house.journal, "append", no_room)
        assert seal_journal(world.house) == 2
        world.house.asked.unsealed.clear()
        assert seal_journal(world.house) == 0
    for one in (grant, other):
        assert world.names(one.request).count("journal.sealed") == 1
    world.house.asked.unsealed.clear()
    assert seal_journal(world.house) == 0
    assert world.house.journal.book().unsealed == {}


def test_event_nobody_can_read_keeps_what_the_journal_owes_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its grant's line is sealed all the same, and one that cannot be sealed stops no other."""
    grant, late = world.granted(), world.granted("eve", duration=timedelta(minutes=50))
    world.clock.forward(minutes=30)
    assert close_without_store(world.house) == [grant.id]
    real = world.house.store.events
    with monkeypatch.context() as patch:
        patch.setattr(
            world.house.store, "events", lambda name: [*real(name), (10**6, b"no event at all")]
        )
        assert seal_journal(world.house) == 1
    world.house.asked.unsealed.clear()
    world.clock.forward(minutes=30)
    assert close_without_store(world.house) == [late.id]

    def odd(name: str) -> Grant:
        raise EvidenceBroken("odd_row", name, "a grant", "another shape")

    with monkeypatch.context() as patch:
        patch.setattr(world.house.store, "grant", odd)
        assert seal_journal(world.house) == 0
    assert "journal.sealed" in world.names(grant.request)
    assert "journal.sealed" not in world.names(late.request)
