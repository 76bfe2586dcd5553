"""Reconcile: what others do in the cloud is seen, ours is closed again, nothing else is touched."""

from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.test_assignments import KEY, ended, settle
from tests.flow.test_errands import beside
from tests.flow.test_finding import names
from tests.support import World, catalogue, laws
from tidegate.base.duty import Duty
from tidegate.base.errors import NotAllowed
from tidegate.base.when import Instant
from tidegate.catalogue import Catalogue
from tidegate.connectors.port import Answer, Scope, Seen
from tidegate.connectors.simulated import Fault, FaultKind, SimulatedConnector
from tidegate.finding import Finding, FindingKind, FindingState
from tidegate.flow.baseline import take_baseline
from tidegate.flow.expiring import close_now
from tidegate.flow.finding import close
from tidegate.flow.governing import put_in_force
from tidegate.flow.house import House
from tidegate.flow.reconciling import PASS_EVERY, reconcile_some, reconcile_step
from tidegate.flow.revoking import end_early
from tidegate.flow.role_look import look_at
from tidegate.grant import Grant, GrantState
from tidegate.store import Wanted, compare

EVE = replace(KEY, native_principal="eve")


def assignments(found: Catalogue) -> Catalogue:
    """`prod/admin` is an assignment, and the leads own prod."""
    role = replace(found.roles["prod/admin"], kind="assignment", probe="")
    owned = replace(found.targets["prod"], owner="group:leads")
    return Catalogue({**found.targets, "prod": owned}, {**found.roles, "prod/admin": role})


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[World]:
    """A cloud whose assignments it would remove by itself at their end."""
    made = World(tmp_path, url=database)
    made.connector.deadlines = True
    put_in_force(made.house, laws(found=assignments(catalogue())))
    yield made
    made.down()


def look(world: World, times: int = 1) -> list[Finding]:
    """Whole looks at everything; the findings that are not closed after them."""
    for _ in range(times):
        world.clock.forward(seconds=PASS_EVERY.total_seconds())
        assert reconcile_some(world.house, 50)
    return live(world)


def live(world: World) -> list[Finding]:
    """Findings not closed."""
    return [one for one in world.house.store.findings() if one.live]


def every(world: World) -> list[tuple[str, str, int]]:
    """Kind, how closed, and times of every finding."""
    return [(one.kind.value, one.closed_how, one.times) for one in world.house.store.findings()]


def gone(world: World, login: str = "ana") -> Grant:
    """A grant that was opened, ended and is gone."""
    grant = world.granted(login)
    world.clock.forward(minutes=1)
    ended(world, grant)
    settle(world, 3)
    grant = world.grant(grant)
    assert grant.state is GrantState.GONE
    return grant


def test_quiet_cloud_has_no_findings(world: World) -> None:
    """An open grant, its end and everything between are nothing to find, whenever it is looked."""
    grant = world.granted()
    for _ in range(40):
        assert look(world) == []
        settle(world, 1)
    assert world.grant(grant).state is GrantState.GONE
    assert every(world) == []


def test_readded_after_gone_is_closed_again_at_once(world: World) -> None:
    """What another system adds again after the end is removed, its sessions cut, and counted."""
    grant = gone(world)
    look(world)
    for times in (1, 2, 3):
        world.cloud.place(KEY, world.clock(), by="terraform")
        taken = world.cloud.sign_in(KEY, world.clock())
        assert look(world) == []
        assert not world.cloud.assigned(KEY, world.clock())
        world.clock.forward(seconds=10)
        assert world.cloud.use(taken, world.clock()) is Answer.DENIED
        assert every(world) == [("readded", "healed", times)]
    (found,) = world.house.store.findings()
    assert (found.by, found.grant, found.owner) == ("terraform", grant.id, "group:leads")
    assert "terraform" in found.says
    assert world.names(grant.request)[-3:] == ["leftover.closed"] * 3
    assert world.grant(grant) == grant  # gone is an end
    assert compare(world.house.store) == []


def test_readded_while_removed_goes_back_to_closing(world: World) -> None:
    """Before `gone`, the grant itself is called back and closed the way every grant is."""
    world.connector.cuts = False
    grant = world.granted()
    world.clock.forward(minutes=1)
    ended(world, grant)
    settle(world, 1)
    assert world.grant(grant).state is GrantState.REMOVED
    world.cloud.place(KEY, world.clock())
    (found,) = look(world)
    assert found.kind is FindingKind.READDED
    assert world.grant(grant).state is GrantState.CLOSING
    settle(world, 1)
    assert not world.cloud.assigned(KEY, world.clock())
    assert look(world, 2) == []
    assert "grant.contradicted" in world.names(grant.request)


def test_outage_while_closing_again(world: World) -> None:
    """A removal that fails leaves the finding open, and the next look removes it."""
    gone(world)
    look(world)
    world.cloud.place(KEY, world.clock())
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=2))
    (found,) = look(world)
    assert found.kind is FindingKind.READDED
    look(world, 2)
    assert not world.cloud.assigned(KEY, world.clock())
    assert live(world) == []


def test_cut_that_is_accepted_and_not_made_while_closing_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came back is not called closed while its sessions act: the cloud's yes is not enough."""
    gone(world)
    look(world)
    world.cloud.place(KEY, world.clock())
    taken = world.cloud.sign_in(KEY, world.clock())
    with monkeypatch.context() as patched:
        patched.setattr(world.connector, "cut", lambda hold, now: None)
        (found,) = look(world)
        assert found.kind is FindingKind.READDED
        assert not world.cloud.assigned(KEY, world.clock())
        assert world.cloud.use(taken, world.clock()) is Answer.ALLOWED
        assert live(world) == look(world)
    assert look(world, 2) == []
    world.clock.forward(seconds=10)
    assert world.cloud.use(taken, world.clock()) is Answer.DENIED
    assert every(world) == [("readded", "healed", 1)]


def test_what_cannot_be_cut_is_closed_again_when_its_sessions_have_ended(world: World) -> None:
    """Where there is no cutting, the finding stays until the longest session is over."""
    gone(world)
    look(world)
    world.connector.cuts = False
    world.cloud.place(KEY, world.clock())
    (found,) = look(world)
    world.clock.forward(minutes=50)
    assert [one.id for one in look(world)] == [found.id]
    world.clock.forward(minutes=15)
    assert look(world, 2) == []


def test_leftover_of_a_lost_reply(world: World) -> None:
    """An opening that failed for us and took effect in the cloud is closed, and told."""
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="grant"))
    request = world.vote(world.ask())
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.FAILED
    world.cloud.assign(KEY, world.clock())
    look(world)
    assert every(world) == [("leftover", "healed", 1)]
    assert not world.cloud.assigned(KEY, world.clock())


def failed(world: World, login: str = "ana") -> Grant:
    """A grant that the cloud refused plainly: nothing of it was ever there."""
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="grant"))
    request = world.vote(world.ask(login))
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.FAILED
    return grant


def test_access_by_hand_to_somebody_whose_grant_failed_is_removed(world: World) -> None:
    """Nothing of ours was ever there, so what somebody adds later is told and left alone (I5)."""
    failed(world)
    look(world)
    world.cloud.place(KEY, world.clock(), by="root")
    (found,) = look(world, 3)
    assert (found.kind, found.what, found.by) == (FindingKind.STANDING, KEY.text(), "root")
    assert world.cloud.assigned(KEY, world.clock())
    take_baseline(world.house, world.who("cy"), "prod", "CHG-8: root added ana")
    assert look(world, 2) == []
    assert world.cloud.assigned(KEY, world.clock())


def test_failed_grant_after_one_that_opened_forgets_what_was_ours(world: World) -> None:
    """An earlier grant's access that comes back is ours, whatever failed after it."""
    gone(world)
    failed(world)
    look(world)
    world.cloud.place(KEY, world.clock(), by="terraform")
    assert look(world, 2) == []
    assert every(world) == [("readded", "healed", 1)]
    assert not world.cloud.assigned(KEY, world.clock())


def test_baseline_says_that_standing_access_is_gone(world: World) -> None:
    """Who is called known holds it still; who is not shown is no business of a baseline."""
    look(world)
    world.cloud.place(EVE, world.clock())
    look(world)
    mallory = replace(KEY, native_principal="mallory")
    world.cloud.place(mallory, world.clock())
    assert len(look(world)) == 2
    world.cloud.unassign(mallory, world.clock())
    take_baseline(world.house, world.who("cy"), "prod", "CHG-7: eve runs the backups")
    assert every(world) == [("standing", "", 1), ("standing", "baseline", 1)]
    assert look(world, 2) == []
    assert every(world) == [("standing", "fixed", 1), ("standing", "baseline", 1)]
    world.cloud.unassign(EVE, world.clock())
    look(world)
    world.cloud.place(EVE, world.clock())
    assert [one.what for one in look(world)] == [EVE.text()]


def test_standing_access_is_called_gone_when_its_role_is_mapped_elsewhere(world: World) -> None:
    """A look at another native role has not seen that the access to the old one ended."""
    look(world)
    world.cloud.place(EVE, world.clock())
    look(world)
    elsewhere = catalogue("arn:aws:iam::123456789012:role/other")
    put_in_force(world.house, laws(found=assignments(elsewhere)))
    assert [one.what for one in look(world, 4)] == [EVE.text()]
    assert world.cloud.assigned(EVE, world.clock())


def test_what_stood_at_the_first_look_is_the_baseline(world: World) -> None:
    """Standing access is sealed once; only who comes after it is a finding, and is left alone."""
    world.cloud.place(EVE, world.clock())
    assert look(world) == []
    (baseline,) = world.house.store.baselines("prod")
    assert baseline.count == 1
    mallory = replace(KEY, native_principal="mallory")
    world.cloud.place(mallory, world.clock())
    (found,) = look(world, 2)
    assert (found.kind, found.what) == (FindingKind.STANDING, mallory.text())
    assert "remove `mallory`" in found.remedy
    assert set(world.cloud.standing(world.clock())) == {EVE, mallory}  # I5
    world.cloud.unassign(mallory, world.clock())
    assert look(world, 2) == []
    assert every(world) == [("standing", "fixed", 1)]
    assert names(world).count("baseline.taken") == 1


def test_one_old_list_ends_no_finding(world: World) -> None:
    """A list from before somebody was added neither closes their finding nor opens it anew."""
    look(world)
    world.cloud.place(EVE, world.clock())
    (found,) = look(world)
    script = Fault(kind=FaultKind.LIST_STALE, verb="observe", delay=timedelta(minutes=10), count=2)
    world.connector.script(script)
    assert [one.id for one in look(world)] == [found.id]
    assert [one.id for one in look(world)] == [found.id]
    assert every(world) == [("standing", "", 1)]


def test_deadline_that_cannot_be_armed_hides_no_leftover(world: World) -> None:
    """One access's trouble keeps no other's from being looked at and closed again."""
    gone(world, "eve")
    grant = world.granted()
    look(world)
    world.cloud.place(EVE, world.clock())
    world.cloud.arm(KEY, None)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="arm", count=1))
    look(world)
    assert not world.cloud.assigned(EVE, world.clock())
    assert every(world) == [("readded", "healed", 1)]
    look(world, 2)
    assert world.cloud.deadline(KEY) == grant.ends_at


def test_first_admin_of_an_empty_role_is_no_baseline(world: World) -> None:
    """A role nobody held at the first look has an empty baseline, so the first holder is told."""
    assert look(world) == []
    world.cloud.place(EVE, world.clock())
    (found,) = look(world)
    assert found.kind is FindingKind.STANDING


def test_standing_access_that_went_and_came_back_is_new(world: World) -> None:
    """Being in the baseline once is no licence for ever."""
    world.cloud.place(EVE, world.clock())
    look(world)
    world.cloud.unassign(EVE, world.clock())
    assert look(world) == []
    world.cloud.place(EVE, world.clock())
    (found,) = look(world)
    assert found.kind is FindingKind.STANDING


def test_new_baseline_needs_the_owner_and_a_reason(world: World) -> None:
    """Only the target's owner or an operator calls what stands known, and it is on record."""
    look(world)
    world.cloud.place(EVE, world.clock())
    look(world)
    with pytest.raises(NotAllowed):
        take_baseline(world.house, world.who("audit"), "prod", "looks fine")
    take_baseline(world.house, world.who("cy"), "prod", "CHG-7: eve runs the backups")
    assert look(world) == []
    assert compare(world.house.store) == []


def test_holder_standing_beside_a_grant_is_not_touched(world: World) -> None:
    """Access that stood before the grant stays, is told when the grant ended, and is not ours."""
    world.cloud.place(KEY, world.clock())
    look(world)
    grant = world.granted()
    world.clock.forward(minutes=1)
    ended(world, grant)
    settle(world, 2)
    (found,) = look(world)
    assert (found.kind, found.what) == (FindingKind.HELD_STILL, grant.id)
    assert world.cloud.assigned(KEY, world.clock())


def test_access_taken_away_early_is_told_to_the_holder(world: World) -> None:
    """Somebody else removes the access of an open grant: a finding the holder may see, no more."""
    grant = world.granted()
    look(world)
    world.cloud.unassign(KEY, world.clock())
    (found,) = look(world, 2)
    assert (found.kind, found.grant) == (FindingKind.GONE_EARLY, grant.id)
    assert found.principal == world.who("ana").id
    assert not world.cloud.assigned(KEY, world.clock())
    assert world.grant(grant).state is GrantState.OPEN
    ended(world, grant)
    settle(world, 3)
    assert look(world, 2) == []


@pytest.mark.parametrize("minutes", [None, 600])
def test_deadline_stripped_or_moved_is_set_again(world: World, minutes: int | None) -> None:
    """The cloud's own deadline is what is left when we are dead, so it is put back at once."""
    grant = world.granted()
    look(world)
    until = None if minutes is None else world.clock() + timedelta(minutes=minutes)
    world.cloud.arm(KEY, until)
    look(world)
    assert world.cloud.deadline(KEY) == grant.ends_at
    assert every(world) == [("deadline", "healed", 1)]


def shared(world: World) -> tuple[Grant, Grant]:
    """Two grants of one access, the second ending ten minutes after the first."""
    first = world.granted()
    settle(world, 10)
    return first, world.granted()


def test_deadline_of_a_holder_that_left_is_put_back(world: World) -> None:
    """Once the later of two has ended early, the cloud's deadline stays at the other's end."""
    first, second = shared(world)
    ended(world, second)
    assert world.cloud.deadline(KEY) == first.ends_at
    assert look(world, 3) == []
    assert world.cloud.deadline(KEY) == first.ends_at
    assert every(world) == []


def test_opening_by_a_wrong_clock_moves_the_deadline_of_who_holds_it(world: World) -> None:
    """Ours is ten minutes ahead of the cloud's: nothing opens, and the first end stays as it is."""
    first = world.granted()
    settle(world, 1)
    world.connector._clock = lambda: world.clock() - timedelta(minutes=10)
    world.vote(world.ask())
    world.work()
    assert world.cloud.deadline(KEY) == first.ends_at


@pytest.fixture
def closer(world: World, monkeypatch: pytest.MonkeyPatch) -> House:
    """A process that only closes, beside an opener that looks for errands as one waits."""
    made = beside(world, frozenset({Duty.CLOSE}))
    world.house.errand_key = made.errand_key

    def waited(longest: timedelta) -> None:
        world.worker._run_errands()
        wait(world.worker._errands)
        world.clock.forward(seconds=1)

    monkeypatch.setattr(world.house.store, "wait_for_news", waited)
    return made


def looked(world: World, house: House) -> list[Finding]:
    """A whole look at everything by `house`."""
    world.clock.forward(seconds=PASS_EVERY.total_seconds())
    assert reconcile_some(house, 50)
    return live(world)


def test_closer_alone_leaves_a_deadline_too_late(world: World, closer: House) -> None:
    """It may not set one: a process that opens is asked, and looks for itself how it is to be."""
    first, second = shared(world)
    close_now(closer, end_early(closer, world.who("ana"), second.id))
    assert world.cloud.deadline(KEY) == second.ends_at
    assert looked(world, closer) == []
    assert world.cloud.deadline(KEY) == first.ends_at
    assert every(world) == []


def test_deadline_stripped_where_nobody_opens_hides_the_role(
    world: World, closer: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an opener it is a finding until one is there; everything else is looked at."""
    gone(world, "eve")
    grant = world.granted()
    looked(world, closer)
    world.cloud.arm(KEY, None)
    world.cloud.place(EVE, world.clock())
    run = world.worker._run_errands
    monkeypatch.setattr(world.worker, "_run_errands", lambda: None)
    (found,) = looked(world, closer)
    assert (found.kind, found.grant) == (FindingKind.DEADLINE, grant.id)
    assert "no process that opens" in found.says
    assert not world.cloud.assigned(EVE, world.clock())
    monkeypatch.setattr(world.worker, "_run_errands", run)
    for _ in range(3):
        looked(world, closer)
    assert world.cloud.deadline(KEY) == grant.ends_at
    assert live(world) == []


def test_list_from_before_the_removal_is_not_believed(world: World) -> None:
    """A list that still shows access we have just removed makes no finding and no call."""
    grant = world.granted()
    look(world)
    world.clock.forward(minutes=1)
    ended(world, grant)
    settle(world, 0.5)
    before = world.connector.calls["revoke"]
    world.cloud.assign(KEY, world.clock())  # shown, as by an old list
    world.clock.forward(seconds=1)
    role = world.house.laws.catalogue.roles["prod/admin"]
    removed_at = world.grant(grant).removed_at
    assert removed_at is not None
    world.clock.at = removed_at
    look_at(world.house, world.house.laws.catalogue.target("prod"), role)
    assert (world.connector.calls["revoke"], every(world)) == (before, [])


class Meanwhile(SimulatedConnector):
    """Something happens between the list and what is done about it."""

    def __init__(self, inner: SimulatedConnector, then: Callable[[], object]) -> None:
        super().__init__(inner.cloud, inner._clock, deadlines=True)
        self.then: Callable[[], object] | None = then

    def observe(self, scope: Scope, now: Instant) -> Iterator[Seen]:
        """The list; then, once, what happens meanwhile."""
        seen = list(super().observe(scope, now))
        of_prod = scope.role is not None and scope.role.id == "prod/admin"
        if of_prod and self.then is not None:
            then, self.then = self.then, None
            then()
        return iter(seen)


def test_grant_opened_between_the_list_and_the_act(world: World) -> None:
    """A worker that opens a second grant of the same access meanwhile does not lose it to us."""
    gone(world)
    look(world)
    world.cloud.assign(KEY, world.clock())
    opened: list[Grant] = []

    def open_it() -> None:
        world.work()
        opened.append(world.granted())

    slow = Meanwhile(world.connector, open_it)
    world.house.connectors["simulated"] = slow  # type: ignore[index]
    look(world)
    (grant,) = opened
    assert world.grant(grant).state is GrantState.OPEN
    assert world.cloud.assigned(KEY, world.clock())
    assert not any(one.kind is FindingKind.READDED for one in world.house.store.findings())


def test_grant_closed_between_the_list_and_the_act(world: World) -> None:
    """A worker that closes meanwhile is not told of as a leftover, nor as gone early."""
    grant = world.granted()
    look(world)

    def close_it() -> None:
        ended(world, grant)
        settle(world, 1)

    world.house.connectors["simulated"] = Meanwhile(  # type: ignore[index]
        world.connector, close_it
    )
    look(world)
    assert every(world) == []


def test_access_somebody_has_in_hand_is_left_to_them(world: World) -> None:
    """While another hand is on the same access, nothing is done to it; the next look does."""
    gone(world)
    look(world)
    world.cloud.place(KEY, world.clock())
    with world.house.store.only_one(KEY.text()) as ours:
        assert ours
        look(world)
        assert world.cloud.assigned(KEY, world.clock())
    look(world)
    assert not world.cloud.assigned(KEY, world.clock())


def test_accepted_return_is_left_in_place(world: World) -> None:
    """What an owner signed off is not fought over until the acceptance is over."""
    gone(world)
    look(world)
    world.cloud.place(KEY, world.clock())
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke"))
    (found,) = look(world)
    close(world.house, world.who("cy"), found.id, "permanent now, CHG-9", timedelta(hours=1))
    look(world, 2)
    assert world.cloud.assigned(KEY, world.clock())
    world.clock.forward(hours=1)
    look(world, 3)
    assert not world.cloud.assigned(KEY, world.clock())


def test_role_that_trusts_somebody_else_or_is_gone(world: World) -> None:
    """A changed trust, and a role that is no more, are told while they are so."""
    arn = world.house.laws.catalogue.roles["dev/admin"].native["arn"]
    world.cloud.trust("123456789012", arn, "arn:aws:iam::666:root")
    (found,) = look(world)
    assert (found.kind, found.role) == (FindingKind.ROLE_CHANGED, "dev/admin")
    assert "666" in found.says
    world.cloud.trust("123456789012", arn)
    assert look(world) == []
    world.cloud.delete_role("123456789012", arn)
    assert [one.says for one in look(world)] == ["the role is gone"]


def test_deny_written_by_somebody_else_ends_a_grant_early(world: World) -> None:
    """A deny that names an open grant and is none of ours is told."""
    request = world.ask(role="dev/admin")
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    arn = world.house.laws.catalogue.roles["dev/admin"].native["arn"]
    world.cloud.deny("123456789012", arn, grant.id, world.clock())
    (found,) = look(world)
    assert (found.kind, found.grant) == (FindingKind.GONE_EARLY, grant.id)


def test_look_goes_on_where_another_process_stopped(world: World) -> None:
    """The cursor is in the database: a new process does not start a scope again."""
    found = assignments(catalogue())
    more = {
        f"prod/r{n}": replace(found.roles["prod/admin"], id=f"prod/r{n}", native={"arn": f"r{n}"})
        for n in range(3)
    }
    changed = Catalogue(found.targets, {**found.roles, **more})
    world.laws = laws(found=changed)
    put_in_force(world.house, world.laws)
    seen = []
    for _ in range(8):
        world.clock.forward(seconds=1)
        looked = reconcile_step(world.house)
        if looked:
            seen.append(looked.role)
        world.restart()
    assert [one for one in seen if one.startswith("prod/")] == [
        "prod/admin",
        "prod/r0",
        "prod/r1",
        "prod/r2",
    ]


def test_two_processes_take_turns(world: World) -> None:
    """While one process looks at a scope, no other is given it, until its lease is over."""
    now = world.clock()
    first = world.house.store.take_turn("scope|prod|assignment", now, PASS_EVERY)
    assert first is not None
    assert world.house.store.take_turn("scope|prod|assignment", now, PASS_EVERY) is None
    later = now + PASS_EVERY
    assert world.house.store.take_turn("scope|prod|assignment", later, PASS_EVERY) is not None


def test_findings_of_a_grant_are_listed_by_it(world: World) -> None:
    """What is known of a grant is found by its id."""
    grant = gone(world)
    look(world)
    world.cloud.place(KEY, world.clock())
    look(world)
    (found,) = world.house.store.findings(Wanted(grant=grant.id))
    assert found.state is FindingState.CLOSED


def test_grant_opened_after_our_rows_were_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What we knew a moment ago is read again before anything is taken away."""
    gone(world)
    look(world)
    world.cloud.assign(KEY, world.clock())
    store, opened = world.house.store, []
    before = store.last_grant_on

    def meanwhile(assignment: str) -> Grant | None:
        last = before(assignment)
        if not opened:
            world.work()
            opened.append(world.granted())
        return last

    monkeypatch.setattr(store, "last_grant_on", meanwhile)
    look(world)
    (grant,) = opened
    assert world.grant(grant).state is GrantState.OPEN
    assert world.cloud.assigned(KEY, world.clock())
