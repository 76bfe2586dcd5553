"""recover by a journal and a newer copy of the log: grants that are over by the copy, and that
nobody proved gone. An operator signed their end off, or their opening failed.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.assigned import KEY, assign, elsewhere
from tests.flow.test_recalling import OWN, lines
from tests.main.test_emergency import config, run
from tests.main.test_recover_known import both, by_both, copy_of, fates, gives, revoke
from tests.support import World
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.journal_line import JournalLine, removed_line
from tidegate.flow.expiring import close_now
from tidegate.flow.gathering import gather
from tidegate.flow.recalling import Fate
from tidegate.flow.signing_off import sign_off
from tidegate.grant import Grant, GrantState
from tidegate.main.copies import Copy, owed_with
from tidegate.main.unknown import signed_off

__all__ = ["config"]


@pytest.fixture
def assigned(world: World) -> World:
    """`prod/admin` is an assignment there."""
    return assign(world)


def signed(world: World, grant: Grant) -> Grant:
    """Ended on another machine, which cannot prove it; an operator answers for that."""
    for verb in ("revoke", "cut", "observe"):
        world.connector.script(Fault(kind=FaultKind.DOWN, verb=verb, count=1))
    with elsewhere(world):
        close_now(world.house, revoke(world, grant))
    world.connector.calm()
    sign_off(world.house, world.who("op"), grant.id, "account closed, INC-4711")
    after = world.grant(grant)
    assert after.state is GrantState.SIGNED_OFF
    return after


def test_signed_off_grant_holds_what_is_due(assigned: World) -> None:
    """Our journal calls it open: what is due is taken, and the other is not tried."""
    world = assigned
    first, second = both(world)
    signed(world, second)
    world.clock.forward(minutes=21)
    world.cloud.place(KEY, world.clock(), by="sync")
    assert fates(by_both(world)) == {first.id: Fate.REMOVED}
    assert not gives(world)


def test_access_that_was_left_to_a_signed_off_grant_stays_until_its_end(assigned: World) -> None:
    """Our journal has the first read back as held by the second until then."""
    world = assigned
    first, second = both(world)
    assert second.ends_at is not None
    world.clock.forward(minutes=21)
    begun = JournalLine(kind="closing", grant=first.id, at=world.clock(), data={})
    held = removed_line(first.id, world.clock(), held=True, held_until=second.ends_at, alone=True)
    world.house.journal.append_all([begun, held])
    signed(world, second)
    world.cloud.place(KEY, world.clock(), by="sync")
    assert fates(by_both(world)) == {first.id: Fate.REMOVED}
    assert not gives(world)


@pytest.mark.parametrize("how", ["not due", "due", "begun"])
def test_signed_off_end_is_tried_by_recover(assigned: World, how: str) -> None:
    """As by a server: who has the access by now may have been given it."""
    world = assigned
    grant = world.granted()
    if how == "begun":
        begun = {"row": world.grant(grant).version}
        line = JournalLine(kind="closing", grant=grant.id, at=world.clock(), data=begun)
        world.house.journal.append(line)
    signed(world, grant)
    world.clock.forward(minutes=31 if how == "due" else 1)
    world.cloud.place(KEY, world.clock(), by="sync")
    before = lines(world)
    assert by_both(world) == {}
    assert gives(world) and lines(world) == before


def test_signed_off_end_hides_what_came_back_since(assigned: World) -> None:
    """Our journal began to take it upon the row that was signed off: so do we, and its sessions."""
    world = assigned
    grant = world.granted()
    row = signed(world, grant)
    world.cloud.place(KEY, world.clock(), by="sync")
    begun = {"reason": "leftover", "row": row.version}
    line = JournalLine(kind="closing", grant=grant.id, at=world.clock(), data=begun)
    world.house.journal.append(line)
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=10_000))
    for _ in range(2):
        back = by_both(world)[grant.id]
        assert (back.fate, back.uncut, gives(world)) == (Fate.REMOVED, True, False)


def test_signed_off_end_is_not_told(
    assigned: World, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No journal names it: that a person answers for it is said, and what to type; no fault."""
    world = assigned
    grant = signed(world, world.granted())
    copy = copy_of(world)
    monkeypatch.setattr("tidegate.main.emergency.read_copy", lambda *_: copy)
    told = run(config)
    assert (told["ok"], told["grants"], told["lost"]) == (True, [], 0)
    (said,) = [one for one in told["unknown"] if grant.id in one]  # type: ignore[attr-defined]
    assert "signed off" in said and "nobody proved" in said and "--undo" in said


def test_signed_off_end_that_is_tried_is_told_as_left(assigned: World) -> None:
    """What came back is closed, and is not among those that nobody tries."""
    world = assigned
    grant = world.granted()
    row = signed(world, grant)
    line = JournalLine(kind="closing", grant=grant.id, at=world.clock(), data={"row": row.version})
    world.house.journal.append(line)
    found = gather({OWN: lines(world)}, OWN, world.clock())
    found, _ = owed_with(found, copy_of(world), world.clock())
    assert signed_off(found, copy_of(world)) == []


def failed(world: World) -> Grant:
    """The second opening was refused by the cloud, and our journal has not heard of that."""
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="grant", count=1))
    request = world.vote(world.ask(duration=timedelta(minutes=60)))
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.ends_at is not None) == (GrantState.FAILED, True)
    kept = [one for one in lines(world) if one.grant != grant.id or one.kind == "intended"]
    world.house.journal = ClosingJournal(world.directory / "new.journal")
    world.house.journal.append_all(kept)
    return grant


@pytest.mark.parametrize("is_known", [True, False])
def test_opening_that_failed_holds_what_is_due(assigned: World, is_known: bool) -> None:
    """Nothing was made by it. A row that failed before its intent is another database's word, from
    before our journal's opening: what that holds is left.
    """
    world = assigned
    first = world.granted()
    second = failed(world)
    copy = copy_of(world) if is_known else never_intended(copy_of(world), second)
    world.clock.forward(minutes=31)
    world.cloud.place(KEY, world.clock(), by="sync")
    assert fates(by_both(world, copy)) == {
        first.id: Fate.REMOVED if is_known else Fate.HELD,
        second.id: Fate.LATER,
    }
    assert gives(world) is not is_known


def never_intended(copy: Copy, grant: Grant) -> Copy:
    """The copy as it is if the grant was called off before its intent."""
    assert copy.state is not None
    things = copy.state.state.things
    things[Grant][grant.id] = replace(grant, ends_at=None, assignment="")
    return copy
