"""What is known may be wrong: a lost lock, an older database, a clock that was set back."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.support import START, World
from tidegate.base.errors import WorldFailed
from tidegate.base.when import Instant
from tidegate.connectors.port import Answer, Trouble
from tidegate.flow import mending
from tidegate.flow.expiring import close_now
from tidegate.flow.holding import closing_hold
from tidegate.flow.house import LOG_FORKED, House
from tidegate.flow.mending import mend_cuts
from tidegate.flow.pace import LONGEST_PAUSE, JournalPace
from tidegate.flow.revoking import end_early
from tidegate.grant import GrantState


def test_lost_lock_connection_keeps_an_end_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database answers, only the connection that keeps keys is lost: the end goes on."""
    grant = world.granted()

    @contextmanager
    def only_one(key: str, *, unasked: bool = False) -> Iterator[bool]:
        yield unasked

    monkeypatch.setattr(world.house.store, "only_one", only_one)
    world.clock.forward(minutes=31)
    world.work()
    assert world.grant(grant).state in (GrantState.REMOVED, GrantState.GONE)


def test_forked_log_hands_out_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older database calls a grant open that ended since: no key of it is minted, none in use is
    let go by pruning, and once the log is whole again it goes on.
    """
    grant = world.granted()
    first = world.granted("eve")
    keys = world.keys(first, "eve")
    close_now(world.house, end_early(world.house, world.who("bo"), first.id))
    forked = Trouble(code=LOG_FORKED, message="an older database", help="compare them")
    monkeypatch.setattr(world.house, "outside", lambda now: (forked,))
    with pytest.raises(WorldFailed) as refused:
        world.keys(grant)
    assert refused.value.code == LOG_FORKED
    monkeypatch.setattr(mending, "_wanted", _only_what_is_open)
    monkeypatch.setattr(world.house.store, "cuts_in_force", lambda since: [])
    mend_cuts(world.house)
    assert world.cloud.use(keys, world.clock()) is Answer.DENIED
    monkeypatch.undo()
    assert world.keys(grant)


def _only_what_is_open(house: House, now: Instant) -> tuple[dict[Any, Any], set[str]]:
    """What an older database would say must stay cut: nothing of the role it looks after."""
    (grant,) = [g for g in house.store.grants() if g.state is GrantState.OPEN]
    hold = closing_hold(house, grant)
    return {(hold.key.connector, hold.key.account, hold.key.native_role): (hold, {})}, set()


def test_clock_that_was_set_back_keeps_the_journal_from_being_tried() -> None:
    """The last try was by a clock an hour ahead: the next is due at once, not in an hour."""
    pace = JournalPace()
    pace.later("gr_1", START + timedelta(hours=1), b"\xff\xff")
    assert pace.may("gr_1", START)
    pace.later("gr_1", START, b"\xff\xff")
    assert not pace.may("gr_1", START)
    assert pace.may("gr_1", START + LONGEST_PAUSE)
