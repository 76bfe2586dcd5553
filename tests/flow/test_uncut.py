"""Removed, with sessions not seen cut, and then the database goes: they are cut all the same."""

from datetime import timedelta

from tests.flow.assigned import KEY, settle, without_database
from tests.flow.test_lateness import late
from tests.flow.test_recalling import lines, recover
from tests.support import World
from tidegate.connectors.port import Answer, Credential
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow.expiring import close_now
from tidegate.flow.mending import mend_cuts
from tidegate.flow.recalling import Fate
from tidegate.flow.recovering import seal_journal
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant, GrantState


def uncut(world: World, minutes: int) -> Credential:
    """Somebody's session outlives the window: cuts fail for `minutes` after its end."""
    world.granted()
    settle(world, 29)
    taken = world.cloud.sign_in(KEY, world.clock())
    until = world.clock() + timedelta(minutes=1 + minutes)
    world.connector.script(Fault(kind=FaultKind.THROTTLE, verb="cut", count=99, until=until))
    world.clock.forward(minutes=1, seconds=1)
    return taken


def ended(world: World) -> Grant:
    """The only grant there is."""
    (grant,) = world.house.store.grants()
    return grant


def test_sessions_not_cut_live_on_when_the_database_goes(assigned: World) -> None:
    """Its removal is sealed, the cut was refused: the journal has it cut within minutes."""
    world = assigned
    taken = uncut(world, 1)
    world.worker.tick()
    assert (ended(world).state, ended(world).cut) == (GrantState.REMOVED, False)
    without_database(world, 6)
    assert world.use(taken) is Answer.DENIED


def test_cut_that_was_seen_is_made_again_without_the_database(assigned: World) -> None:
    """Cut at a later try: the journal hears of it, and that is no news to be sealed."""
    world = assigned
    taken = uncut(world, 1)
    for _ in range(120):  # five seconds each
        if ended(world).cut:
            break
        settle(world, 1 / 12)
    assert (ended(world).state, ended(world).cut) == (GrantState.REMOVED, True)
    assert world.use(taken) is Answer.DENIED
    assert [line.kind for line in lines(world)] == ["intended", "closing", "removed", "removed"]
    assert seal_journal(world.house) == 0
    calls = world.connector.calls["cut"]
    without_database(world, 6)
    assert world.connector.calls["cut"] == calls


def test_cut_that_mending_made_first_is_called_removed_by_somebody(assigned: World) -> None:
    """No cut of it was seen yet: that mending makes it is no news, and nobody is accused."""
    world = assigned
    grant = world.granted()
    settle(world, 1)
    taken = world.cloud.sign_in(KEY, world.clock())
    world.connector.script(Fault(kind=FaultKind.THROTTLE, verb="cut", count=2))
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    assert (ended(world).state, ended(world).cut) == (GrantState.REMOVED, False)
    world.clock.forward(seconds=10)
    assert mend_cuts(world.house) == []
    assert world.use(taken) is Answer.DENIED
    assert world.house.store.findings() == []


def test_sessions_that_may_act_past_the_bound_are_no_finding(assigned: World) -> None:
    """Removed in time, and the cut of what was taken before is refused for minutes."""
    world = assigned
    grant = world.granted()
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=100_000))
    settle(world, 31)
    assert world.grant(grant).state is GrantState.REMOVED and not late(world)
    settle(world, 4)
    assert late(world) == {grant.id}
    (told,) = world.house.store.findings()
    assert "its sessions are not seen cut" in told.says


def test_shared_access_is_called_uncut_by_the_journal(assigned: World) -> None:
    """Another grant's sessions go on by the same access: nothing of it is to be cut."""
    world = assigned
    world.granted()
    world.clock.forward(minutes=10)
    world.work()
    world.granted()
    settle(world, 22)
    (told,) = [line for line in lines(world) if line.kind == "removed"]
    assert told.data["held"] is True and not told.uncut


def test_recover_leaves_sessions_uncut(assigned: World) -> None:
    """Removed by the server, its cut refused: recover tries it, and again until it is seen."""
    world = assigned
    taken = uncut(world, 2)
    world.worker.tick()
    before = len(lines(world))
    (back,) = recover(world)
    assert (back.fate, back.uncut) == (Fate.REMOVED, False)
    assert world.use(taken) is Answer.DENIED
    assert [line.uncut for line in lines(world)[before:]] == [False]
    assert [one.fate for one in recover(world)] == [Fate.BEFORE]


def test_recover_says_all_is_well_with_sessions_uncut(assigned: World) -> None:
    """Patience runs out before the cut: it is told, one line says so, and the next run goes on."""
    world = assigned
    taken = uncut(world, 10)
    (back,) = recover(world, minutes=2)
    assert (back.fate, back.uncut, back.why) == (
        Fate.REMOVED,
        True,
        "its live sessions are not cut",
    )
    assert world.use(taken) is Answer.ALLOWED
    assert [line.uncut for line in lines(world)] == [False, False, True]
    (back,) = recover(world, minutes=30)
    assert not back.uncut and world.use(taken) is Answer.DENIED
