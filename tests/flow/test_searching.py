"""Side doors: searched for when a grant ends, told with the end, and never holding it back."""

from datetime import timedelta

import pytest

from tests.support import World, misshape
from tidegate.connectors.port import Answer
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.diagnose.trace import gather, render_text, trace
from tidegate.evidence.seal import read_event
from tidegate.finding import FindingKind
from tidegate.flow.revoking import end_early
from tidegate.flow.searching import SEARCH_TRIES, SEARCH_WITHIN, search_some
from tidegate.grant import Grant, GrantState
from tidegate.store import compare


def end(world: World, grant: Grant) -> Grant:
    """Ended early, and worked on until nothing is due."""
    world.clock.forward(minutes=5)
    end_early(world.house, world.who("ana"), grant.id)
    for _ in range(5):
        world.work()
        world.clock.forward(seconds=5)
    return world.grant(grant)


def told(world: World, grant: Grant) -> dict[str, object]:
    """What `grant.searched` says."""
    events = [read_event(leaf) for _, leaf in world.house.store.events(grant.request)]
    (event,) = [event for event in events if event.name == "grant.searched"]
    return dict(event.data)


def traced(world: World, grant: Grant) -> str:
    """What the trace of it says."""
    events, request, grants = gather(world.house.store, grant.request)
    walked = trace(
        events, request, grants, now=world.clock(), names=str, texts=lambda _: None, beats={}
    )
    return render_text(walked, 200)


def test_nothing_made_is_said_to_be_searched(world: World) -> None:
    """A clean window ends with "none found" and with what was looked through."""
    grant = end(world, world.granted())
    assert grant.state is GrantState.GONE
    assert search_some(world.house) == 1
    assert world.grant(grant).searched == "none_found"
    said = told(world, grant)
    assert (said["found"], said["why_not"]) == ([], [])
    assert "access_key" in said["searched"]  # type: ignore[operator]
    assert search_some(world.house) == 0
    assert compare(world.house.store) == []


def test_key_made_inside_the_window_is_a_finding(world: World) -> None:
    """What the holder made is named with the command that removes it, and is not removed by us."""
    grant = world.granted()
    keys = world.keys(grant)
    world.cloud.make(keys, "access_key", "AKIA1", world.clock())
    world.cloud.make(keys, "role", "arn:role/back", world.clock())
    grant = end(world, grant)
    assert world.use(keys) is Answer.DENIED
    search_some(world.house)
    assert world.grant(grant).searched == "found"
    found = world.house.store.findings()
    assert {(one.kind, one.sort, one.what) for one in found} == {
        (FindingKind.SIDE_DOOR, "access_key", "AKIA1"),
        (FindingKind.SIDE_DOOR, "role", "arn:role/back"),
    }
    assert all(one.grant == grant.id and one.remedy for one in found)
    assert {one["what"] for one in told(world, grant)["found"]} == {"AKIA1", "arn:role/back"}
    assert len(world.cloud.made_between("123456789012", grant.opens_at, world.clock())) == 2


def test_row_nobody_can_read_keeps_the_others_unsearched(world: World) -> None:
    """One ended grant is damaged; what the other's holder made is looked for all the same."""
    broken, other = world.granted(), world.granted("eve")
    end_early(world.house, world.who("eve"), other.id)
    end(world, broken)
    misshape(world, broken.id, "opened_at_ms")
    search_some(world.house)
    assert world.grant(other).searched == "none_found"


def test_made_before_the_window_is_not_its_doing(world: World) -> None:
    """An object of an earlier grant is not told again by a later one."""
    first = world.granted()
    world.cloud.make(world.keys(first), "user", "arn:user/x", world.clock())
    end(world, first)
    search_some(world.house)
    world.clock.forward(minutes=1)
    world.work()
    second = end(world, world.granted())
    search_some(world.house)
    assert world.grant(second).searched == "none_found"
    (found,) = world.house.store.findings()
    assert found.grant == first.id


@pytest.mark.parametrize("kind", [FaultKind.DOWN, FaultKind.REFUSE, FaultKind.LOSE_REPLY])
def test_search_that_fails_never_holds_back_gone(world: World, kind: FaultKind) -> None:
    """A cloud that cannot be searched leaves the end as it is, and says so after a few tries."""
    grant = world.granted()
    world.connector.script(Fault(kind=kind, verb="side_doors", count=100))
    grant = end(world, grant)
    for _ in range(SEARCH_TRIES * 2):
        assert world.grant(grant).state is GrantState.GONE
        search_some(world.house)
        world.clock.forward(minutes=2)
        world.work()
    assert world.connector.calls["side_doors"] == SEARCH_TRIES
    assert world.grant(grant).searched == "not_searched"
    said = told(world, grant)
    assert (said["outcome"], said["tries"]) == ("not_searched", SEARCH_TRIES)
    assert said["why_not"]


def test_search_that_recovers_is_told_as_searched(world: World) -> None:
    """A cloud that comes back in time is searched, and how often it took is on record."""
    grant = world.granted()
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="side_doors", count=2))
    grant = end(world, grant)
    for _ in range(4):
        search_some(world.house)
        world.clock.forward(seconds=10)
    assert (world.grant(grant).searched, told(world, grant)["tries"]) == ("none_found", 3)


def test_restart_in_the_middle_of_a_search(world: World) -> None:
    """A process that dies while searching leaves a lease; another one searches after it."""
    grant = end(world, world.granted())
    now = world.clock()
    assert world.house.store.take_turn(f"search|{grant.id}", now, timedelta(minutes=5))
    world.restart()
    assert search_some(world.house) == 0
    world.clock.forward(minutes=5)
    assert search_some(world.house) == 1


def test_ends_from_long_ago_are_not_searched_as_if_they_were_new(world: World) -> None:
    """After a day the window is not searched any more: what would be found is of others too."""
    grant = end(world, world.granted())
    world.clock.forward(seconds=SEARCH_WITHIN.total_seconds() + 1)
    assert search_some(world.house) == 0
    assert world.grant(grant).searched == ""


def test_grant_that_never_opened_is_not_searched(world: World) -> None:
    """No window, no search."""
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="grant"))
    world.vote(world.ask())
    world.work()
    assert search_some(world.house) == 0


def test_trace_tells_what_the_search_came_to(world: World) -> None:
    """Whoever reads the trace of an ended grant reads whether it was searched, and what stands."""
    grant = world.granted()
    world.cloud.make(world.keys(grant), "user", "arn:user/x", world.clock())
    grant = end(world, grant)
    search_some(world.house)
    (found,) = world.house.store.findings()
    assert f"side doors: found user arn:user/x ({found.id})" in traced(world, grant)
