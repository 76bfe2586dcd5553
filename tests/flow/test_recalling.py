"""Closing with no store: what recover may never do, and what it must say."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support import World
from tidegate.base.errors import Unreachable
from tidegate.connectors.port import Answer, Hold, Receipt
from tidegate.connectors.simulated import PROPAGATION
from tidegate.evidence import journal
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.flow.expiring import close_now
from tidegate.flow.gathering import begin_all, gather
from tidegate.flow.recalling import Fate, Ground, Recalled, recall
from tidegate.flow.revoking import end_early
from tidegate.grant import GrantState
from tidegate.panic import Scope, ScopeKind

OWN = "own"


def lines(world: World) -> list[JournalLine]:
    """The journal as it is."""
    return world.house.journal.read()


def ground(world: World, said: list[str] | None = None) -> Ground:
    """Journal, clouds and clock of the world; resting lets its time pass."""
    return Ground(
        journal=world.house.journal,
        connectors=world.house.connectors,
        clock=world.house.now,
        randomness=world.randomness,
        rest=lambda seconds: world.clock.forward(seconds=seconds),
        tell=(said if said is not None else []).append,
    )


def recover(
    world: World, more: Sequence[JournalLine] = (), *, dry: bool = False, minutes: int = 10
) -> list[Recalled]:
    """Everything the journals owe, closed."""
    found = gather({OWN: lines(world), "other": list(more)}, OWN, world.house.now())
    return recall(ground(world), found, timedelta(minutes=minutes), dry=dry)


def test_overdue_access_stays_open_without_a_database(world: World) -> None:
    """The process and its database are gone: keys are refused and the journal says how."""
    grant = world.granted()
    keys = world.keys(grant)
    world.clock.forward(minutes=31)
    (back,) = recover(world)
    assert (back.fate, back.owed.hold.grant) == (Fate.REMOVED, grant.id)
    assert world.use(keys) is Answer.DENIED
    assert [line.kind for line in lines(world)] == ["intended", "closing", "removed"]


def test_fast_clock_says_that_nothing_acts_any_more(world: World) -> None:
    """Past the end by our clock and not by the cloud's: the deny just written needs its time."""
    world.granted()
    ahead = timedelta(minutes=40)
    world.clock.forward(minutes=40)
    world.connector._clock = lambda: world.clock() - ahead
    (back,) = recover(world)
    assert back.fate is Fate.REMOVED
    assert back.residual_until == world.clock() + PROPAGATION


def test_recover_ends_what_is_not_due(world: World) -> None:
    """A grant whose end lies ahead, and that nobody ended, goes on."""
    grant = world.granted()
    keys = world.keys(grant)
    (back,) = recover(world)
    assert back.fate is Fate.LATER and world.use(keys) is Answer.ALLOWED


def test_recover_that_is_run_twice_does_more(world: World) -> None:
    """The second run calls no cloud and writes no line."""
    world.granted()
    world.clock.forward(minutes=31)
    recover(world)
    before = lines(world)
    (back,) = recover(world)
    assert back.fate is Fate.BEFORE and lines(world) == before


def test_dry_run_closes_something(world: World) -> None:
    """It says what is due; nothing is called, nothing written."""
    grant = world.granted()
    keys = world.keys(grant)
    before = lines(world)
    end_early_in_journal(world, grant.id)
    (back,) = recover(world, dry=True)
    assert back.fate is Fate.DUE and world.use(keys) is Answer.ALLOWED
    assert len(lines(world)) == len(before) + 1


def end_early_in_journal(world: World, grant: str) -> None:
    """An end that was begun and not sealed."""
    line = JournalLine(kind="closing", grant=grant, at=world.clock(), data={"reason": "revoked"})
    world.house.journal.append(line)


def test_end_begun_on_another_machine_is_forgotten(world: World, tmp_path: Path) -> None:
    """Opened here, revoked there: the other journal's line counts."""
    grant = world.granted()
    keys = world.keys(grant)
    other = ClosingJournal(tmp_path / "other.journal")
    other.append(JournalLine(kind="closing", grant=grant.id, at=world.clock(), data={}))
    (back,) = recover(world, other.read())
    assert back.fate is Fate.REMOVED and world.use(keys) is Answer.DENIED


def test_grant_of_another_machine_is_lost_to_the_next_server(world: World, tmp_path: Path) -> None:
    """What only another journal knew is in ours afterwards, with its intent."""
    grant = world.granted()
    other = lines(world)
    (tmp_path / "closing.journal").unlink()
    world.clock.forward(minutes=31)
    (back,) = recover(world, other)
    assert back.fate is Fate.REMOVED
    assert [(line.kind, line.grant) for line in lines(world)] == [
        (kind, grant.id) for kind in ("intended", "closing", "removed")
    ]


def test_full_journal_hears_of_no_end_that_recover_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no opening, and what another machine opened is to be closed: both are written."""
    world.granted()
    theirs = [replace(one, grant="gr_other") for one in lines(world)]
    world.clock.forward(minutes=31)
    monkeypatch.setattr(journal, "LARGEST_JOURNAL", 10)
    recover(world, theirs)
    told = lines(world)
    assert [one.kind for one in told if one.grant == "gr_other"][:2] == ["intended", "closing"]
    assert {one.grant for one in told if one.kind == "closing"} == {told[0].grant, "gr_other"}


def test_recover_reopens_or_forgets_for_the_server_that_comes_back(world: World) -> None:
    """A later server seals what was done, and ends the grant as any other."""
    grant = world.granted()
    world.clock.forward(minutes=31)
    recover(world)
    world.restart()
    for _ in range(12):
        world.clock.forward(seconds=5)
        world.work()
    assert world.grant(grant).state is GrantState.GONE
    assert "journal.sealed" in world.names(grant.request)


def test_unreachable_cloud_is_called_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience runs out: still closing with its reason, and no line says removed."""

    def silent(hold: Hold, now: object) -> Receipt:
        raise Unreachable("cloud_down", "the cloud was not reached", "wait")

    monkeypatch.setattr(world.connector, "revoke", silent)
    world.granted()
    world.clock.forward(minutes=31)
    (back,) = recover(world, minutes=1)
    assert back.fate is Fate.CLOSING and "not reached" in back.why
    assert "removed" not in [line.kind for line in lines(world)]


def test_one_broken_entry_keeps_the_rest_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug with one grant, or a line that says too little, stops no other."""
    broken = JournalLine(kind="intended", grant="gr_broken", at=world.clock(), data={"role": "x"})
    bad, good = world.granted(), world.granted("eve")
    revoke = world.connector.revoke

    def buggy(hold: Hold, now: object) -> Receipt:
        if hold.grant == bad.id:
            raise ValueError("a bug")
        return revoke(hold, now)  # type: ignore[arg-type]

    monkeypatch.setattr(world.connector, "revoke", buggy)
    world.clock.forward(minutes=31)
    fates = {one.owed.hold.grant: one.fate for one in recover(world, [broken], minutes=1)}
    assert fates == {bad.id: Fate.CLOSING, good.id: Fate.REMOVED}


def test_access_another_grant_still_holds_is_taken(assigned: World) -> None:
    """Two grants of one assignment: the first end only reads, and says who holds it; so it is where
    a panic ends something else.
    """
    world = assigned
    world.granted()
    world.granted(duration=timedelta(hours=1))
    world.clock.forward(minutes=31)
    found = gather({OWN: lines(world)}, OWN, world.clock())
    found = begin_all(found, Scope(ScopeKind.ROLE, "none"), "x", world.clock())
    assert [one.shared for one in found.owed] == [True, False]
    before = dict(world.connector.calls)
    first, second = recall(ground(world), found, timedelta(minutes=1))
    assert (first.fate, second.fate) == (Fate.HELD, Fate.LATER)
    assert first.why == "another grant holds the same access until its own end"
    called = {verb for verb, count in world.connector.calls.items() if count != before.get(verb)}
    assert called == {"observe"}


def test_panic_without_a_database_leaves_something(world: World) -> None:
    """Everything in scope is begun, whatever its end; the rest is left alone."""
    mine, other = world.granted(), world.granted("eve")
    keys = [world.keys(mine), world.keys(other, "eve")]
    found = gather({OWN: lines(world)}, OWN, world.house.now())
    begun = begin_all(
        found, Scope(ScopeKind.PRINCIPAL, mine.principal), "system", world.house.now()
    )
    fates = [one.fate for one in recall(ground(world), begun, timedelta(minutes=1))]
    assert sorted(fates) == [Fate.LATER, Fate.REMOVED]
    assert [world.use(one) for one in keys] == [Answer.DENIED, Answer.ALLOWED]
    told = [(line.kind, line.data.get("reason")) for line in lines(world) if line.grant == mine.id]
    assert told[1:] == [("closing", "panic"), ("removed", None)]


def test_ended_grant_is_owed_again(world: World) -> None:
    """What is gone by the journal is not looked at."""
    grant = world.granted()
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    for _ in range(12):
        world.clock.forward(seconds=5)
        world.work()
    assert world.grant(grant).state is GrantState.GONE
    assert gather({OWN: lines(world)}, OWN, world.house.now()).owed == ()


def told(world: World, grant: str, kind: str, minutes: int, **data: object) -> JournalLine:
    """A line of `grant`, by a clock that many minutes from ours."""
    at = world.clock() + timedelta(minutes=minutes)
    return JournalLine(kind=kind, grant=grant, at=at, data=data)


def test_clock_that_was_set_back_hides_what_came_back(world: World) -> None:
    """Removed by a clock an hour ahead, and its end begun once more by a right one: it is owed."""
    grant = world.granted()
    keys = world.keys(grant)
    for kind in ("closing", "removed"):
        world.house.journal.append(told(world, grant.id, kind, 60))
    world.clock.forward(minutes=10)
    end_early_in_journal(world, grant.id)
    (back,) = recover(world)
    assert back.fate is Fate.REMOVED and world.use(keys) is Answer.DENIED


def test_fast_clock_of_another_machine_hides_what_came_back(world: World) -> None:
    """Which was first cannot be told of two journals within an hour: it is closed."""
    grant = world.granted()
    keys = world.keys(grant)
    others = [told(world, grant.id, kind, 60) for kind in ("closing", "removed", "gone")]
    world.clock.forward(minutes=10)
    end_early_in_journal(world, grant.id)
    (back,) = recover(world, others)
    assert back.fate is Fate.REMOVED and world.use(keys) is Answer.DENIED


@pytest.mark.parametrize(("minutes", "data"), [(61, {}), (5, {"held": True})])
def test_first_try_of_one_machine_takes_what_another_removed(
    world: World, minutes: int, data: dict[str, object]
) -> None:
    """Long after it, or read back as held: whoever has the access now holds it by right."""
    grant = world.granted()
    end_early_in_journal(world, grant.id)
    others = [told(world, grant.id, kind, minutes, **data) for kind in ("closing", "removed")]
    world.clock.forward(minutes=minutes)
    calls = world.connector.calls["revoke"]
    (back,) = recover(world, others)
    assert back.fate is (Fate.HELD if data else Fate.BEFORE)
    assert world.connector.calls["revoke"] == calls
