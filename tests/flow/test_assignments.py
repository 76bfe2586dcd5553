"""Role kinds whose sessions outlive the assignment: removed is not gone, and a cut is its own."""

from datetime import timedelta

import pytest

from tests.flow.assigned import KEY
from tests.support import World
from tidegate.base.errors import Refused
from tidegate.base.when import Instant
from tidegate.connectors.port import Answer, Hold, Receipt
from tidegate.connectors.simulated import SESSION_LIFE, Fault, FaultKind
from tidegate.evidence.journal import ClosingJournal
from tidegate.flow.asking import Asked, ask
from tidegate.flow.expiring import close_now
from tidegate.flow.mending import mend_cuts
from tidegate.flow.revoking import end_early
from tidegate.grant import Cause, Grant, GrantState, Outcome


@pytest.fixture
def world(assigned: World) -> World:
    """`prod/admin` is an assignment there."""
    return assigned


def settle(world: World, minutes: float = 3) -> None:
    """Let the worker have its tries for a while."""
    for _ in range(int(minutes * 12)):
        world.clock.forward(seconds=5)
        world.work()


def ended(world: World, grant: Grant, by: str = "bo") -> Grant:
    """An early end and the first look at it."""
    return close_now(world.house, end_early(world.house, world.who(by), grant.id))


def test_session_from_before_the_removal_goes_on(world: World) -> None:
    """A session taken a second before the end is dead once the grant is gone, cut and settled."""
    grant = world.granted()
    settle(world, 29)
    taken = world.cloud.sign_in(KEY, world.clock())
    settle(world, 5)
    after = world.grant(grant)
    assert (after.state, after.cut, after.proof) == (GrantState.GONE, True, "removed")
    assert world.cloud.use(taken, world.clock()) is Answer.DENIED


def test_uncut_session_called_gone(world: World) -> None:
    """Where sessions cannot be cut, gone comes only when the last of them has died by itself."""
    world.connector.cuts = False
    grant = world.granted()
    taken = world.cloud.sign_in(KEY, world.clock())
    ended(world, grant)
    settle(world, 1)
    after = world.grant(grant)
    assert (after.state, after.cut) == (GrantState.REMOVED, False)
    assert after.residual_until is not None and after.removed_at is not None
    assert after.residual_until >= after.removed_at + SESSION_LIFE - timedelta(seconds=5)
    assert world.cloud.use(taken, world.clock()) is Answer.ALLOWED
    settle(world, 30)
    assert world.grant(grant).state is GrantState.REMOVED
    settle(world, 32)
    assert world.cloud.use(taken, world.clock()) is Answer.DENIED
    settle(world, 3)
    assert world.grant(grant).state is GrantState.GONE


def test_uncut_session_called_gone_by_a_fast_clock(world: World) -> None:
    """An hour ahead for a moment, our clock does not say that sessions of an hour are over."""
    world.connector.cuts = False
    grant = world.granted()
    taken = world.cloud.sign_in(KEY, world.clock())
    ended(world, grant)
    settle(world, 1)
    at_cloud = world.clock()
    world.connector._clock = lambda: at_cloud
    world.clock.forward(hours=2)
    settle(world, 1)
    assert world.grant(grant).state is GrantState.REMOVED
    assert world.cloud.use(taken, at_cloud) is Answer.ALLOWED
    world.connector._clock = world.clock
    settle(world, 3)
    assert world.grant(grant).state is GrantState.GONE


def test_uncut_session_called_gone_after_a_slow_clock(world: World) -> None:
    """Removed while our clock was half an hour behind: what may act is counted by the cloud's."""
    world.connector.cuts = False
    grant = world.granted()
    behind = timedelta(minutes=30)
    world.connector._clock = lambda: world.clock() + behind
    ended(world, grant)
    settle(world, 1)
    after = world.grant(grant)
    assert after.residual_until is not None and after.removed_at is not None
    assert after.residual_until >= after.removed_at + behind + SESSION_LIFE - timedelta(seconds=5)


def test_cut_that_fails_first_is_given_up(world: World) -> None:
    """A cut that is refused leaves `removed` with the long residual; a later one shortens it."""
    grant = world.granted()
    world.clock.forward(minutes=1)
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=3))
    after = ended(world, grant)
    assert (after.state, after.cut) == (GrantState.REMOVED, False)
    settle(world, 2)
    after = world.grant(grant)
    assert (after.state, after.cut) == (GrantState.GONE, True)
    assert "grant.cut" in world.names(grant.request)


def test_removal_that_is_refused_leaves_sessions_uncut(world: World) -> None:
    """Sessions are cut though the assignment cannot be removed: the one lock does not need both."""
    grant = world.granted()
    taken = world.cloud.sign_in(KEY, world.clock())
    world.clock.forward(seconds=10)
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=10_000))
    after = ended(world, grant)
    assert after.state is GrantState.CLOSING
    assert world.cloud.use(taken, world.clock()) is Answer.DENIED
    settle(world, 5)
    assert world.grant(grant).outcome == Outcome.REFUSED
    world.connector.calm()
    settle(world, 5)
    assert world.grant(grant).state is GrantState.GONE


def test_access_by_a_group_called_gone(world: World) -> None:
    """A group that also gives the access: ended, still held, never gone until the group lets go."""
    grant = world.granted()
    world.cloud.give_by_group(KEY, "admins")
    settle(world, 40)
    after = world.grant(grant)
    assert after.state is GrantState.REMOVED
    assert after.still_held_by == "standing access by group admins"
    world.cloud.give_by_group(KEY, "")
    settle(world, 8)
    assert world.grant(grant).state is GrantState.GONE


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_overlapping_grant_loses_its_access(world: World, first_ends_first: bool) -> None:
    """Two grants on one assignment, ended in either order: it stands until the last has ended."""
    one = world.granted()
    settle(world, 1)
    two = world.granted()
    early, late = (one, two) if first_ends_first else (two, one)
    ended(world, early)
    settle(world, 1)
    assert world.grant(early).state is GrantState.REMOVED
    assert world.grant(early).still_held_by == late.id
    assert world.cloud.assigned(KEY, world.clock())
    ended(world, world.grant(late))
    settle(world, 5)
    assert {world.grant(one).state, world.grant(two).state} == {GrantState.GONE}
    assert not world.cloud.assigned(KEY, world.clock())


def test_new_grant_beside_one_that_is_still_closing(world: World) -> None:
    """What an earlier grant has not removed yet is not taken for standing access: it waits."""
    grant = world.granted()
    world.connector.script(Fault(kind=FaultKind.LOSE_REQUEST, verb="revoke", count=4))
    ended(world, grant)
    request = world.vote(world.ask())
    world.work()
    (waiting,) = world.house.store.grants(request=request.id)
    assert (waiting.state, waiting.outcome) == (GrantState.READY, Outcome.STILL_CLOSING)
    settle(world, 3)
    assert world.grant(grant).state is GrantState.GONE
    opened = world.grant(waiting)
    assert opened.state is GrantState.OPEN
    assignment = world.house.store.assignment(opened.assignment)
    assert assignment is not None and not assignment.stood_before


def test_deadline_missing_when_everything_of_ours_dies(world: World) -> None:
    """With a deadline of the cloud's own, the assignment goes at its end with nobody alive."""
    world.connector.deadlines = True
    grant = world.granted()
    world.clock.forward(minutes=29)
    assert world.cloud.assigned(KEY, world.clock())
    world.clock.forward(minutes=2)
    assert not world.cloud.assigned(KEY, world.clock())
    settle(world, 5)
    assert world.grant(grant).state is GrantState.GONE
    assert world.cloud.deadline(KEY) is None


def test_deadline_of_the_first_ends_the_second(world: World) -> None:
    """An overlap moves the cloud's deadline to the later end before its intent, and back."""
    world.connector.deadlines = True
    one = world.granted()
    settle(world, 10)
    two = world.granted()
    assert world.cloud.deadline(KEY) == two.ends_at
    ended(world, two)
    assert world.cloud.deadline(KEY) == one.ends_at


def test_overlap_is_sealed_before_the_deadline_is_moved(world: World) -> None:
    """A deadline that cannot be moved to the later end keeps the overlap from being intended."""
    world.connector.deadlines = True
    one = world.granted()
    world.clock.forward(minutes=1)
    world.work()
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="arm", count=10_000))
    request = world.vote(world.ask())
    world.work()
    (two,) = world.house.store.grants(request=request.id)
    assert (two.state, two.outcome) == (GrantState.READY, Outcome.REFUSED)
    assert world.cloud.deadline(KEY) == one.ends_at
    world.connector.calm()
    settle(world, 3)
    assert world.grant(two).state is GrantState.OPEN
    assert world.cloud.deadline(KEY) == world.grant(two).ends_at


def test_deadline_that_cannot_be_set_opens_without_one(world: World) -> None:
    """No deadline, no assignment: a refusal fails the grant and nothing was made."""
    world.connector.deadlines = True
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="arm"))
    request = world.vote(world.ask())
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.CLOUD_REFUSED)
    assert not world.cloud.assigned(KEY, world.clock())


def test_standing_access_gets_a_deadline(world: World) -> None:
    """What stood before is not ours: no deadline of ours may remove it (I5)."""
    world.connector.deadlines = True
    world.cloud.place(KEY, world.clock())
    world.granted()
    assert world.cloud.deadline(KEY) is None
    world.clock.forward(hours=3)
    assert world.cloud.assigned(KEY, world.clock())


def test_cut_taken_away_stays_away(world: World) -> None:
    """For as long as a session may live, a cut that somebody removes is put back and reported."""
    grant = world.granted()
    settle(world, 32)
    assert world.grant(grant).state is GrantState.GONE
    world.cloud._cuts.clear()
    assert mend_cuts(world.house) == [grant.id]
    assert mend_cuts(world.house) == []
    world.cloud._cuts.clear()
    settle(world, 80)
    world.cloud._cuts.clear()
    assert mend_cuts(world.house) == []


def test_later_grant_taken_for_access_that_came_back(world: World) -> None:
    """While the first's sessions are not cut, a new grant of the same access is not its doing."""
    world.connector.cuts = False
    first = world.granted()
    world.clock.forward(minutes=1)
    ended(world, first)
    world.work()
    second = world.granted()
    settle(world, 3)
    assert world.grant(first).state is GrantState.REMOVED
    assert world.grant(second).state is GrantState.OPEN
    assert world.cloud.assigned(KEY, world.clock())
    assert "grant.contradicted" not in world.names(first.request)


def test_access_made_again_by_another_system_called_gone(world: World) -> None:
    """Seen usable again while removed, it is closed again instead of called gone."""
    world.connector.cuts = False
    grant = world.granted()
    world.clock.forward(minutes=1)
    ended(world, grant)
    assert world.grant(grant).state is GrantState.REMOVED
    world.cloud.assign(KEY, world.clock())
    settle(world, 4)
    assert "grant.contradicted" in world.names(grant.request)
    assert not world.cloud.assigned(KEY, world.clock())
    assert world.grant(grant).state is GrantState.REMOVED


def test_cloud_keeps_the_old_deadline_of_a_later_end(world: World) -> None:
    """The new end is sealed first; the cloud's own deadline follows, through an outage."""
    world.connector.deadlines = True
    grant = world.granted()
    old = grant.ends_at
    more = Asked(roles=(), duration=timedelta(minutes=30), reason="more", extends=grant.id)
    world.vote(ask(world.house, world.who("ana"), more))
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="arm"))
    world.work()
    moved = world.grant(grant)
    assert old is not None and moved.ends_at == old + timedelta(minutes=30)
    assert moved.arming and world.cloud.deadline(KEY) == old  # early without us, never late
    settle(world, 1)
    assert not world.grant(grant).arming
    assert world.cloud.deadline(KEY) == moved.ends_at
    settle(world, 30)
    assert world.cloud.assigned(KEY, world.clock())
    settle(world, 35)
    assert world.grant(grant).state is GrantState.GONE
    assert world.cloud.deadline(KEY) is None


def test_opening_that_lands_after_its_end_stands(world: World, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A call that hangs until its grant was gone is taken back at once by whoever made it."""
    request = world.vote(world.ask())
    (grant,) = world.house.store.grants(request=request.id)
    really = world.connector.grant

    def late(hold, now):  # type: ignore[no-untyped-def]
        monkeypatch.setattr(world.connector, "grant", really)
        end_early(world.house, world.who("ana"), grant.id)
        settle(world, 5)  # longer than a key may be in hand: a closer acts beside the call
        assert world.grant(grant).state is GrantState.GONE
        return really(hold, world.clock())

    monkeypatch.setattr(world.connector, "grant", late)
    world.worker._handle(world.house.store.claim_due(world.clock(), 1, timedelta(minutes=2))[0])
    assert world.cloud.standing(world.clock()) == ()
    assert "leftover.closed" in world.names(request.id)


def test_look_at_denies_cuts_who_has_standing_access(world: World) -> None:
    """The grant ended beside access that is not ours: nothing was cut, and nothing is put back."""
    world.cloud.place(KEY, world.clock(), by="terraform")
    world.clock.forward(minutes=1)
    grant = world.granted(duration=timedelta(minutes=10))
    settle(world, 9)
    standing = world.cloud.sign_in(KEY, world.clock())
    settle(world, 3)
    assert world.grant(grant).state is GrantState.REMOVED
    assert mend_cuts(world.house) == []
    assert world.cloud.use(standing, world.clock()) is Answer.ALLOWED


def test_look_at_denies_cuts_a_grant_that_another_machine_opened(world: World) -> None:
    """Its opening is in that machine's journal alone: here the database says who holds access."""
    one = world.house.journal
    first = world.granted(duration=timedelta(minutes=10))
    settle(world, 1)
    world.house.journal = ClosingJournal(world.directory / "two.journal")
    second = world.granted(duration=timedelta(minutes=60))
    world.house.journal = one
    settle(world, 7)
    taken = world.cloud.sign_in(KEY, world.clock())
    settle(world, 4)
    assert world.grant(first).still_held_by == second.id
    assert mend_cuts(world.house) == []
    assert world.cloud.use(taken, world.clock()) is Answer.ALLOWED


def test_cut_of_a_removal_made_elsewhere_is_taken_for_an_earlier_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever did not make the removal that is sealed cuts anew until it has; then, and after a
    removal of its own, what it knows counts.
    """
    grant = world.granted()
    inner, asked = world.connector.cut, []

    def fails(hold: Hold, now: Instant) -> Receipt:
        asked.append(hold.removed_elsewhere is not None)
        if len(asked) in (1, 2, 3):
            raise Refused("throttled", "expected room, got none", "wait")
        if len(asked) == 4:
            return Receipt(cloud_at=now, detail={})  # taken, and not seen yet
        return inner(hold, now)

    monkeypatch.setattr(world.connector, "cut", fails)
    settle(world, 1)
    assert ended(world, grant).state is GrantState.REMOVED  # and one more cut
    world.house.tries.forget(grant.id)  # as a process that did not remove it
    for _ in range(3):
        close_now(world.house, world.grant(grant))
    assert world.grant(grant).cut
    assert asked == [False, False, True, True, False]
