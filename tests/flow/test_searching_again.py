"""Side doors of access that came back: the words of the search before never stand for it."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.flow.test_assignments import KEY, settle
from tests.flow.test_reconciling import assignments, gone, look
from tests.support import World, catalogue, laws
from tidegate.base.fact import Step
from tidegate.base.when import Instant, to_ms, wire
from tidegate.connectors.port import Hold, SideDoors
from tidegate.connectors.simulated import PROPAGATION, Fault, FaultKind
from tidegate.connectors.simulated_cloud import SIDE_DOOR_SORTS
from tidegate.diagnose.asked import Telling
from tidegate.diagnose.ended import _lines
from tidegate.diagnose.story import read_story
from tidegate.evidence.events import LATEST, Event
from tidegate.evidence.seal import read_event
from tidegate.evidence.side_doors import NOT_YET
from tidegate.expire import Search, searched
from tidegate.finding import FindingKind
from tidegate.flow import searching
from tidegate.flow.governing import put_in_force
from tidegate.flow.revoking import end_early
from tidegate.flow.searching import AT_ONCE, SEARCH_TRIES, search_some
from tidegate.grant import SEALED_AS, Grant, GrantState
from tidegate.store import SEARCH_AGAIN, compare


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Access by assignment, which others can add again."""
    made = World(tmp_path)
    put_in_force(made.house, laws(found=assignments(catalogue())))
    return made


def searches(world: World, grant: Grant) -> list[Event]:
    """Every `grant.searched` of a grant, in order."""
    events = [read_event(leaf) for _, leaf in world.house.store.events(grant.request)]
    return [event for event in events if event.name == "grant.searched"]


def back_by(world: World, what: str) -> None:
    """Somebody adds the access again, and its holder makes a key by it."""
    world.cloud.place(KEY, world.clock(), by="terraform")
    taken = world.cloud.sign_in(KEY, world.clock())
    world.cloud.make(taken, "access_key", what, world.clock())


def side_doors(world: World) -> list[str]:
    """What is found of them."""
    findings = world.house.store.findings()
    return [one.what for one in findings if one.kind is FindingKind.SIDE_DOOR]


def held_still(world: World) -> tuple[Grant, Grant]:
    """A grant that is removed while another holds its access, and that other one.

    In a cloud whose sessions end with what they were taken by: none acts after the removal.
    """
    world.connector.residual = lambda target, role, cut: timedelta(0)  # type: ignore[method-assign]
    first, other = world.granted(), world.granted()
    world.clock.forward(minutes=1)
    end_early(world.house, world.who("ana"), first.id)
    settle(world, 1)
    first = world.grant(first)
    assert (first.state, first.still_held_by) == (GrantState.REMOVED, other.id)
    return first, other


def key_then_end(world: World, other: Grant) -> None:
    """The holder makes a key by the access that is left; then the other grant ends too."""
    taken = world.cloud.sign_in(KEY, world.clock())
    world.cloud.make(taken, "access_key", "AKIA1", world.clock())
    end_early(world.house, world.who("ana"), other.id)
    settle(world, 3)


def test_called_back_and_still_called_searched(world: World) -> None:
    """What was removed, searched and called back is searched once more when it has really ended."""
    grant, other = held_still(world)
    assert search_some(world.house) == 1
    assert world.grant(grant).searched == "none_found"
    world.clock.forward(minutes=1)
    key_then_end(world, other)
    after = world.grant(grant)
    assert (after.state, after.searched) == (GrantState.GONE, "")
    assert search_some(world.house) == 2
    assert world.grant(grant).searched == "found"
    assert side_doors(world) == ["AKIA1"]
    assert [one.data["outcome"] for one in searches(world, grant)] == ["none_found", "found"]
    assert compare(world.house.store) == []


def test_search_told_for_an_end_it_did_not_look_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called back and removed again while it is searched: that search's words are dropped."""
    grant, other = held_still(world)
    looked = world.connector.side_doors

    def meanwhile(
        hold: Hold, keys: tuple[str, ...], since: Instant, until: Instant, now: Instant
    ) -> SideDoors:
        found = looked(hold, keys, since, until, now)
        monkeypatch.undo()
        world.clock.forward(minutes=1)
        key_then_end(world, other)
        return found

    monkeypatch.setattr(world.connector, "side_doors", meanwhile)
    search_some(world.house)
    assert searches(world, grant) == []
    world.clock.forward(minutes=1)
    search_some(world.house)
    assert world.grant(grant).searched == "found"


def test_key_of_a_session_that_outlived_the_removal_is_missed(world: World) -> None:
    """Uncut, a session acts on after the removal: the search is told when it can act no more."""
    world.connector.cuts = False
    grant = world.granted()
    taken = world.cloud.sign_in(KEY, world.clock())
    world.clock.forward(minutes=1)
    end_early(world.house, world.who("ana"), grant.id)
    settle(world, 1)
    assert world.grant(grant).state is GrantState.REMOVED
    assert search_some(world.house) == 0
    world.clock.forward(minutes=20)
    world.cloud.make(taken, "access_key", "AKIA1", world.clock())
    assert search_some(world.house) == 0
    for _ in range(6):
        world.clock.forward(minutes=15)
        world.work()
        search_some(world.house)
    after = world.grant(grant)
    assert (after.state, after.searched) == (GrantState.GONE, "found")
    assert side_doors(world) == ["AKIA1"]
    assert len(searches(world, grant)) == 1


def test_search_waits_for_sessions_that_were_cut_meanwhile(world: World) -> None:
    """Seen cut later, it is searched in a quarter of an hour, not after a session's life."""
    world.connector.cuts = False
    grant = world.granted()
    world.clock.forward(minutes=1)
    end_early(world.house, world.who("ana"), grant.id)
    settle(world, 1)
    assert search_some(world.house) == 0
    world.connector.cuts = True
    settle(world, 3)
    assert world.grant(grant).state is GrantState.GONE
    world.clock.forward(minutes=13)
    assert search_some(world.house) == 1
    assert world.grant(grant).searched == "none_found"


def test_leftover_closed_again_and_never_searched(world: World) -> None:
    """What its holder made while gone access was there again is found, days after the end too."""
    grant = gone(world)
    assert search_some(world.house) == 1
    look(world)
    world.clock.forward(days=3)
    back_by(world, "AKIA1")
    look(world)
    assert not world.cloud.assigned(KEY, world.clock())
    assert search_some(world.house) == 0  # its sessions may act for as long as a change takes
    world.clock.forward(seconds=PROPAGATION.total_seconds())
    assert search_some(world.house) == 1
    assert (world.grant(grant).searched, side_doors(world)) == ("found", ["AKIA1"])
    said = searches(world, grant)[-1].data
    assert grant.removed_at is not None and said["since"] == wire(grant.removed_at)
    assert world.house.store.turns_due(SEARCH_AGAIN, world.clock() + timedelta(days=9), 9) == []
    assert search_some(world.house) == 0
    assert compare(world.house.store) == []


def test_leftover_searched_takes_back_what_the_end_said(world: World) -> None:
    """A later search that finds nothing does not unsay what the end's own search found."""
    grant = world.granted()
    world.cloud.make(world.cloud.sign_in(KEY, world.clock()), "user", "arn:user/x", world.clock())
    world.clock.forward(minutes=1)
    end_early(world.house, world.who("ana"), grant.id)
    settle(world, 3)
    search_some(world.house)
    assert world.grant(grant).searched == "found"
    world.cloud.place(KEY, world.clock())
    look(world)
    world.clock.forward(minutes=1)
    assert search_some(world.house) == 1
    last = searches(world, grant)[-1].data
    assert (last["outcome"], world.grant(grant).searched) == ("none_found", "found")


def test_search_of_what_came_back_told_before_the_ends_own(world: World) -> None:
    """Access back before its end was searched at all: one search covers both windows."""
    grant = world.granted()
    world.cloud.make(world.cloud.sign_in(KEY, world.clock()), "user", "arn:user/x", world.clock())
    world.clock.forward(minutes=1)
    end_early(world.house, world.who("ana"), grant.id)
    settle(world, 3)
    name = f"search|{grant.id}"
    assert world.house.store.take_turn(name, world.clock(), timedelta(minutes=5))
    back_by(world, "AKIA1")
    look(world)
    world.clock.forward(seconds=PROPAGATION.total_seconds())
    assert search_some(world.house) == 1
    assert sorted(side_doors(world)) == ["AKIA1", "arn:user/x"]


def test_trace_calls_access_that_came_back_searched(world: World) -> None:
    """Until its own search is told, the line says that there was none."""
    grant = gone(world)
    search_some(world.house)
    world.cloud.place(KEY, world.clock())
    look(world)
    assert back_line(world, grant).endswith(NOT_YET)
    world.clock.forward(minutes=1)
    search_some(world.house)
    assert not back_line(world, grant).endswith(NOT_YET)


def back_line(world: World, grant: Grant) -> str:
    """What the trace says of access that was there again."""
    events = [read_event(leaf) for _, leaf in world.house.store.events(grant.request)]
    telling = Telling(
        story=read_story(events, grant.request),
        request=world.house.store.request(grant.request),
        grant=grant,
        now=world.clock(),
        names=str,
        texts=lambda commitment: None,
        beats={},
    )
    (said,) = [line for _, line in _lines(telling, grant) if line.startswith("it was there again")]
    return said


@pytest.mark.parametrize("how", ["no_connector", "bug"])
def test_search_that_cannot_be_made_goes_on_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A connector that is gone, or a mistake of ours, is told as "not searched" like any fault."""
    grant = gone(world)
    if how == "bug":

        def broken(*asked: object) -> SideDoors:
            raise KeyError("a mistake")

        monkeypatch.setattr(world.connector, "side_doors", broken)
    else:
        monkeypatch.setattr(world.house, "connectors", {})
    for _ in range(SEARCH_TRIES * 2):
        search_some(world.house)
        world.clock.forward(minutes=2)
    assert world.grant(grant).searched == "not_searched"
    (said,) = searches(world, grant)
    why = {"bug": "a mistake of ours: KeyError", "no_connector": "no_connector: "}[how]
    assert str(list_of(said)[0]).startswith(why)
    assert said.data["tries"] == SEARCH_TRIES


def list_of(said: Event) -> Sequence[object]:
    """Why it was not searched."""
    why = said.data["why_not"]
    assert isinstance(why, list)
    return why


def test_searches_that_wait_keep_others_waiting(world: World) -> None:
    """As many as one look takes wait for the cloud's records: the next end is searched now."""
    grants = []
    for _ in range(AT_ONCE + 1):
        request = world.ask(role="dev/admin", duration=timedelta(minutes=5))
        world.work()
        grants += world.house.store.grants(request=request.id)
    settle(world, 6)
    waiting = set[str]()

    def later(
        hold: Hold, keys: tuple[str, ...], since: Instant, until: Instant, now: Instant
    ) -> SideDoors:
        if len(waiting) < AT_ONCE:
            waiting.add(hold.grant)
        again = now + timedelta(minutes=15) if hold.grant in waiting else None
        return SideDoors(searched=SIDE_DOOR_SORTS, again_at=again)

    world.connector.side_doors = later  # type: ignore[method-assign]
    assert search_some(world.house) == 0
    assert search_some(world.house) == 1
    told = {one.id for one in grants if world.grant(one).searched}
    assert len(told) == 1 and not told & waiting


def test_outage_while_what_came_back_is_searched(world: World) -> None:
    """A cloud that is away is asked again, and then it is told."""
    grant = gone(world)
    search_some(world.house)
    back_by(world, "AKIA1")
    look(world)
    world.clock.forward(minutes=1)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="side_doors", count=2))
    for _ in range(3):
        search_some(world.house)
        world.clock.forward(seconds=10)
    assert side_doors(world) == ["AKIA1"]
    assert searches(world, grant)[-1].data["tries"] == 3


@pytest.mark.parametrize("how", ["called_back", "searched_twice"])
def test_log_of_the_version_before_is_accused(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What older events made of a row is what they make of it today: the row is not called wrong,
    and what is sealed from now on goes on from there.
    """
    changed = ("grant.contradicted", "grant.searched", "grant.resumed")
    with monkeypatch.context() as before:
        for name in changed:
            before.delitem(LATEST, name)  # type: ignore[arg-type]
            before.delitem(SEALED_AS, name)  # type: ignore[arg-type]
        grant, other = held_still(world)
        assert search_some(world.house) == 1
        if how == "called_back":
            world.clock.forward(minutes=1)
            key_then_end(world, other)
            assert world.grant(grant).searched == "none_found"  # as it was then
        else:
            for found in (True, False):
                world.house.store.commit(_searched(world, grant, found))
            assert world.grant(grant).searched == "none_found"
    assert compare(world.house.store) == []
    for found in (True, False):
        world.house.store.commit(_searched(world, grant, found))
    assert world.grant(grant).searched == "found"
    assert [one.v for one in searches(world, grant)][-2:] == [2, 2]
    assert compare(world.house.store) == []


def _searched(world: World, grant: Grant, found: bool) -> Step:
    """A search of the grant, and whether it found anything."""
    now = world.clock()
    key = {"finding": "fi_1", "sort": "access_key", "what": "AKIA1", "remedy": ""}
    search = Search(
        since=now, until=now, searched=(), found=(key,) if found else (), why_not=(), tries=1
    )
    return searched(world.grant(grant), search, now)


def test_search_is_told_by_a_clock_ahead_while_a_session_acts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our clock alone says that its sessions are over: the search waits for the database's."""
    world.connector.cuts = False
    grant = world.granted()
    taken = world.cloud.sign_in(KEY, world.clock())
    world.clock.forward(minutes=1)
    end_early(world.house, world.who("ana"), grant.id)
    settle(world, 1)
    asked, side_doors_of = [], world.connector.side_doors

    def noting(*what: Any) -> SideDoors:
        asked.append(what[-1])
        return side_doors_of(*what)

    monkeypatch.setattr(world.connector, "side_doors", noting)
    ahead = timedelta(hours=2)
    monkeypatch.setattr(world.house, "_clock", lambda: world.clock() + ahead)
    for _ in range(5):
        assert search_some(world.house) == 0
        world.clock.forward(seconds=10)
    assert asked and max(asked) < world.clock()
    world.cloud.make(taken, "access_key", "AKIA1", world.clock())
    for _ in range(6):
        world.clock.forward(minutes=15)
        world.work()
        search_some(world.house)
    assert (world.grant(grant).searched, side_doors(world)) == ("found", ["AKIA1"])
    assert len(searches(world, grant)) == 1


def test_search_of_a_slow_clock_is_asked_at_every_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Due by the database's clock and not by ours: it waits as long as ours still has to go."""
    grant = gone(world)
    until = world.grant(grant).removed_at
    assert until is not None
    behind = world.clock() - until + timedelta(minutes=5)
    monkeypatch.setattr(world.house, "_clock", lambda: world.clock() - behind)
    for _ in range(5):
        assert search_some(world.house) == 0
        world.clock.forward(seconds=10)
    assert world.connector.calls["side_doors"] == 1
    world.clock.forward(minutes=5)
    assert search_some(world.house) == 1


@pytest.mark.parametrize("again", [False, True])
def test_search_that_another_told_meanwhile_is_told_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Told between our look at what is due and our taking it: there is nothing left to take."""
    grant = gone(world)
    if again:
        search_some(world.house)
        back_by(world, "AKIA1")
        look(world)
        world.clock.forward(seconds=PROPAGATION.total_seconds())
    which = "turns_due" if again else "unsearched"
    due = getattr(world.house.store, which)

    def meanwhile(*asked: Any) -> Any:
        found = due(*asked)
        monkeypatch.undo()
        assert search_some(world.house) == 1
        return found

    monkeypatch.setattr(world.house.store, which, meanwhile)
    assert search_some(world.house) == 0
    assert len(searches(world, grant)) == 1 + again
    for begins in ("search|", SEARCH_AGAIN):
        assert world.house.store.turns_due(begins, world.clock() + timedelta(minutes=6), 9) == []


@pytest.mark.parametrize("name", ["again|{}|{}", "again|{}|x"])
def test_search_without_a_window_keeps_the_others_waiting(world: World, name: str) -> None:
    """One that says not which window, as an older release could leave it, is dropped."""
    grant = gone(world)
    search_some(world.house)
    ms = to_ms(world.clock())
    world.house.store.owe_turn(name.format(grant.id, ms), "", world.clock() - timedelta(hours=1))
    back_by(world, "AKIA1")
    look(world)
    world.clock.forward(seconds=PROPAGATION.total_seconds())
    assert search_some(world.house) == 1
    assert side_doors(world) == ["AKIA1"]
    assert world.house.store.turns_due(SEARCH_AGAIN, world.clock() + timedelta(days=9), 9) == []


def test_mistake_in_one_search_keeps_the_others_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again when its lease is over; the rest of that look goes on."""
    first, second = gone(world), gone(world, "eve")
    searched = searching.searched

    def broken(grant: Grant, *more: Any) -> Step:
        if grant.id == first.id:
            raise KeyError("a mistake")
        return searched(grant, *more)

    monkeypatch.setattr(searching, "searched", broken)
    assert search_some(world.house) == 1
    assert world.grant(second).searched
    monkeypatch.undo()
    world.clock.forward(minutes=5)
    assert search_some(world.house) == 1
    assert world.grant(first).searched
