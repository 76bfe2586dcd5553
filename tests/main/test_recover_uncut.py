"""recover by a copy of the log: sessions that were not seen cut, however often it is typed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.flow.assigned import KEY, assign, settle
from tests.flow.test_recalling import OWN, ground, lines
from tests.main.test_recover_known import copy_of
from tests.support import World
from tidegate.base.when import LONGEST_DURATION
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.connectors.simulated_cloud import SESSION_LIFE
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.journal_line import JournalLine, removed_line
from tidegate.flow.gathering import gather
from tidegate.flow.recalling import Fate, Ground, Recalled, recall
from tidegate.grant import GrantState
from tidegate.main.copies import Copy, owed_with

SHORT = timedelta(minutes=2)


@pytest.fixture
def assigned(world: World) -> World:
    """`prod/admin` is an assignment there."""
    return assign(world)


def refused(world: World, *verbs: str) -> None:
    """From now on, until it is calm again."""
    for verb in verbs:
        world.connector.script(Fault(kind=FaultKind.REFUSE, verb=verb, count=10_000))


def run(world: World, copy: Copy, on: Ground | None = None) -> Recalled:
    """What our journal and the copy owe: one end."""
    found, lost = owed_with(gather({OWN: lines(world)}, OWN, world.clock()), copy, world.clock())
    assert not lost
    (back,) = recall(on or ground(world), found, SHORT)
    return back


def ended(world: World, state: GrantState) -> Copy:
    """The log has a grant removed with its sessions uncut, or still closing; no journal has it."""
    grant = world.granted()
    refused(world, "cut", "revoke") if state is GrantState.CLOSING else refused(world, "cut")
    settle(world, 31)
    assert (world.grant(grant).state, world.grant(grant).cut) == (state, False)
    world.house.journal = ClosingJournal(world.directory / "new.journal")
    world.connector.calm()
    return copy_of(world)


@pytest.mark.parametrize("state", [GrantState.REMOVED, GrantState.CLOSING])
def test_run_that_cut_nothing_has_a_later_one_call_it_removed_before(
    assigned: World, state: GrantState
) -> None:
    """Only the copy knows the grant: how long its sessions live is in our journal afterwards."""
    world = assigned
    copy = ended(world, state)
    refused(world, "cut")
    assert run(world, copy).uncut
    world.clock.forward(seconds=SESSION_LIFE.total_seconds() * 1.2)
    back = run(world, copy)
    assert (back.fate, back.uncut) == (Fate.REMOVED, True)
    world.connector.calm()
    assert (run(world, copy).uncut, run(world, copy).fate) == (False, Fate.BEFORE)


@pytest.mark.parametrize("why", ["no keys", "not in the settings", "a shorter life by now"])
def test_run_that_reached_no_cloud_has_the_next_call_it_removed_before(
    assigned: World, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Its sessions are not cut, more than an hour after it was removed, and none can be asked."""
    world = assigned
    copy = ended(world, GrantState.REMOVED)
    world.clock.forward(seconds=SESSION_LIFE.total_seconds() * 1.2)
    on = replace(ground(world), shut={"prod": "no keys"})
    if why == "not in the settings":
        on = replace(ground(world), connectors={})
    elif why == "a shorter life by now":  # the row has what was sealed at its removal
        monkeypatch.setattr(world.connector, "lingers", lambda *_: timedelta(0))
    for _ in range(2):
        assert run(world, copy, on).fate is Fate.CLOSING
    back = run(world, copy)
    assert (back.fate, back.uncut) == (Fate.REMOVED, False)
    assert [line.uncut for line in lines(world) if line.kind == "removed"] == [True, False]


def test_sessions_of_a_cloud_nobody_can_ask_are_written_down_as_short(assigned: World) -> None:
    """How long they live is its connector's word: without one it is as long as any may."""
    world = assigned
    copy = ended(world, GrantState.CLOSING)
    run(world, copy, replace(ground(world), connectors={}))
    (opened,) = [line for line in lines(world) if line.kind == "intended"]
    assert opened.data["lingers_seconds"] == LONGEST_DURATION.total_seconds()
    refused(world, "cut")
    assert run(world, copy).uncut and not world.cloud.assigned(KEY, world.clock())


@pytest.mark.parametrize("slow", [False, True])
def test_cut_of_what_came_back_after_its_proof_is_owed_by_the_first_run_alone(
    assigned: World, slow: bool
) -> None:
    """The copy proved its end; it came back, our journal began to take it by a later row, and the
    database is lost. Its removal is not what the copy proved, also by a clock that is behind that.
    """
    world = assigned
    grant = world.granted()
    opened = lines(world)
    settle(world, 40)
    gone = world.grant(grant)
    assert gone.state is GrantState.GONE
    copy = copy_of(world)
    world.cloud.place(KEY, world.clock(), by="sync")
    world.house.journal = ClosingJournal(world.directory / "new.journal")
    begun = {"reason": "leftover", "row": gone.version}
    line = JournalLine(kind="closing", grant=grant.id, at=world.clock(), data=begun)
    world.house.journal.append_all([*opened, line])
    if slow:
        world.house._clock = lambda: world.clock() - timedelta(minutes=20)
    refused(world, "cut")
    for _ in range(2):
        back = run(world, copy)
        assert (back.fate, back.uncut) == (Fate.REMOVED, True)
    world.connector.calm()
    assert not run(world, copy).uncut
    assert run(world, copy).fate is Fate.BEFORE


@pytest.mark.parametrize("held", [True, False])
def test_removal_that_the_copy_proved_since_is_owed_its_cut(assigned: World, held: bool) -> None:
    """What our journal says was left then, its sessions or others' access, ended with the grant."""
    world = assigned
    grant = world.granted()
    refused(world, "cut")
    settle(world, 31)
    kept = lines(world)
    assert kept[-1].uncut
    world.connector.calm()
    settle(world, 10)
    assert world.grant(grant).state is GrantState.GONE
    world.house.journal = ClosingJournal(world.directory / "new.journal")
    kept[-1] = removed_line(grant.id, kept[-1].at, uncut=not held, held=held)
    world.house.journal.append_all(kept)
    assert run(world, copy_of(world)).fate is Fate.BEFORE
