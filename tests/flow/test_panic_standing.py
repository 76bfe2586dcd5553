"""What a panic calls safe: not what came back after its end, not what acts on, and not what another
machine may have opened after the backup that was put back.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.backups import backup, put_back
from tests.flow.assigned import KEY, assign, elsewhere, settle
from tests.support import World, laws
from tidegate.catalogue import Catalogue
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.journal_line import removed_line
from tidegate.finding import FindingKind
from tidegate.flow.governing import put_in_force
from tidegate.flow.house import Asked
from tidegate.flow.panic_standing import _is_meant, stand
from tidegate.flow.panic_unrowed import matters
from tidegate.flow.panicking import call_panic, sweep
from tidegate.flow.reconciling import PASS_EVERY, reconcile_some
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant, GrantState
from tidegate.panic import Panic, Scope, ScopeKind, Standing, Unrowed, standing
from tidegate.policy.rules import load_rules
from tidegate.store import Store

ALL = Scope(ScopeKind.ALL)
EVE = Scope(ScopeKind.PRINCIPAL, "pr_eve")


def panic(world: World, scope: Scope = ALL) -> Panic:
    """Called and swept."""
    return sweep(world.house, call_panic(world.house, world.who("op"), scope, "stolen", None))


def stands(world: World, called: Panic) -> Standing:
    """How it stands now."""
    return stand(world.house, called.id, world.clock())


def look(world: World) -> None:
    """One whole look at everything."""
    world.clock.forward(seconds=PASS_EVERY.total_seconds())
    assert reconcile_some(world.house, 50)


def work_on(world: World) -> None:
    """Long enough for every chore to have had its turn."""
    for _ in range(4):
        world.clock.forward(seconds=5)
        world.work()


def back(world: World) -> Grant:
    """Gone, and there again: seen, and the cloud refuses to remove it for now."""
    grant = world.granted()
    world.clock.forward(minutes=1)
    end_early(world.house, world.who("op"), grant.id)
    settle(world, 2)
    assert world.grant(grant).state is GrantState.GONE
    world.cloud.place(KEY, world.clock(), by="terraform")
    world.connector.script(*[Fault(kind=FaultKind.DOWN, verb="revoke")] * 2)
    look(world)
    assert world.cloud.assigned(KEY, world.clock())
    return grant


@pytest.mark.parametrize("here", [True, False])
def test_panic_is_safe_while_access_that_came_back_is_there(assigned: World, here: bool) -> None:
    """Its row is over, and it is being closed again, by this machine or another: counted and named,
    and gone from the counts once it is removed.
    """
    world = assigned
    if here:
        grant = back(world)
    else:
        with elsewhere(world):
            grant = back(world)
    called = panic(world)
    told = stands(world, called)
    assert (told.still_closing, told.safe) == (1, False)
    assert [(one.id, one.role) for one in told.beside] == [(grant.id, "prod/admin")]
    assert called.grants == (1 if here else 0)
    others = call_panic(world.house, world.who("op"), EVE, "", None)
    assert stands(world, sweep(world.house, others)).safe
    for _ in range(4):
        look(world)
        settle(world, 1)
    assert not world.cloud.assigned(KEY, world.clock())
    assert stands(world, called).still_closing == 0
    assert stands(world, called).safe


@pytest.mark.parametrize("uncut", [False, True])
def test_access_our_journal_removed_counts_until_the_next_look(
    assigned: World, uncut: bool
) -> None:
    """What no look has seen since it was read back as removed is not there any more; its sessions
    are, where they were not seen cut.
    """
    world = assigned
    grant = back(world)
    called = panic(world)
    assert stands(world, called).still_closing == 1
    world.clock.forward(seconds=1)
    world.house.journal.append(removed_line(grant.id, world.clock(), alone=True, uncut=uncut))
    told = stands(world, called)
    assert (told.gone, told.still_closing, told.safe) == ((0, 1, False) if uncut else (1, 0, True))


@pytest.mark.parametrize(
    ("scope", "meant"),
    [
        (Scope(ScopeKind.ROLE, "prod/other"), True),  # by the grant that had it last
        (Scope(ScopeKind.ROLE, "prod/admin"), True),  # as it was first seen
        (Scope(ScopeKind.ROLE, "prod/none"), False),
        (Scope(ScopeKind.PRINCIPAL, "pr_last"), True),
    ],
)
def test_access_that_came_back_for_another_is_left_out(
    assigned: World, scope: Scope, meant: bool
) -> None:
    """A finding is of one access, whoever had it last and by whichever of two roles."""
    grant = back(assigned)
    (finding,) = assigned.house.store.live_of_kind(FindingKind.READDED)
    last = replace(assigned.grant(grant), principal="pr_last", role="prod/other")
    assert _is_meant(scope, finding, last) is meant


def test_access_of_a_role_nobody_hands_out_any_more_is_said_to_be_closed(assigned: World) -> None:
    """No look comes to it: it counts as unverified, with what to do."""
    with elsewhere(assigned):
        back(assigned)
    called = panic(assigned)
    put_in_force(assigned.house, laws(found=Catalogue({}, {})))
    (told,) = stands(assigned, called).unread
    assert "no look comes to it" in told.says and "tidegate findings close" in told.says


@pytest.mark.parametrize(
    "scope", ["role prod/admin", "role dev/admin", "target prod", "target dev"]
)
def test_panic_counts_what_came_back_out_of_its_scope(assigned: World, scope: str) -> None:
    """Of its target or role, and of no other."""
    world = assigned
    with elsewhere(world):
        back(world)
    kind, _, name = scope.partition(" ")
    told = stands(world, panic(world, Scope(ScopeKind(kind), name)))
    assert told.still_closing == ("prod" in scope)


def test_access_that_acts_after_its_end_is_called_removed(world: World) -> None:
    """A probe was allowed after the removal: once nothing bounds that any more, nobody knows."""
    now = world.clock()
    grant = replace(world.granted(), state=GrantState.REMOVED, residual_until=now)
    until = now + timedelta(minutes=1)
    acts = replace(grant, acted=True)
    for one, counts in (
        (grant, (1, 0)),
        (acts, (0, 1)),
        (replace(acts, residual_until=None), (0, 1)),
        (replace(acts, residual_until=until), (1, 0)),
    ):
        told = standing([one], Unrowed(), now)
        assert (told.removed, told.not_verified) == counts


def ready_in_the_backup(world: World) -> Grant:
    """Ready by the database that was put back, and opened by another machine since, whose journal
    is in `world.house` now; ours, empty, is at `closing.journal`.
    """
    request = world.vote(world.ask())
    kept = backup(world)
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.OPEN
    put_back(world, kept)
    world.house.journal = ClosingJournal(world.directory / "ours.journal")
    return grant


def test_panic_calls_gone_what_another_machine_opened_after_the_backup(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep fails its row as if it had never opened. As soon as that machine looks, which knows
    better, every process says that the database is older, and of that one that nobody knows.
    """
    monkeypatch.setattr(Store, "is_shared", True)
    grant = ready_in_the_backup(world)
    called = panic(world)
    assert world.grant(grant).state is GrantState.FAILED
    ours, world.house.journal = (
        world.house.journal,
        ClosingJournal(world.directory / "other.journal"),
    )
    for _ in range(12):
        world.clock.forward(seconds=5)
        world.work()
    world.house.journal, world.house.asked = ours, Asked()  # of a process that knows nothing of it
    told = stands(world, called)
    assert (told.gone, told.not_verified, told.safe) == (0, 1, False)
    assert "journals of other machines" in told.doubt


def test_database_is_no_older_once_our_own_share_is_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What our journal named is over, and proves as before that others may have opened more."""
    monkeypatch.setattr(Store, "is_shared", True)
    kept = backup(world)
    world.granted()
    world.clock.forward(seconds=30)
    put_back(world, kept)
    panics = []
    for _ in range(2):
        called = panic(world)
        panics.append(called)
        for _ in range(24):
            world.clock.forward(seconds=10)
            world.work()
        told = stands(world, called)
        assert (told.still_closing, told.not_verified, told.safe) == (0, 0, False)
        assert "journals of other machines" in told.doubt
    world.clock.forward(days=1, hours=13)  # the longest window of any rule, and a day
    for _ in range(3):
        world.clock.forward(seconds=60)
        world.work()
    assert [stands(world, one).safe for one in panics] == [True, True]


def test_database_is_no_older_where_a_lost_machine_leaves_access_open(
    assigned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No deadline of the cloud's own ends an assignment: nobody knows for how long it stays."""
    world = assigned
    monkeypatch.setattr(Store, "is_shared", True)
    kept = backup(world)
    world.granted()
    put_back(world, kept)
    assign(world)
    world.clock.forward(days=400)
    called = panic(world)
    for _ in range(6):
        world.clock.forward(seconds=60)
        world.work()
    assert "journals of other machines" in stands(world, called).doubt


def test_database_is_no_older_once_its_role_is_retired(assigned: World) -> None:
    """What was opened says itself which kind it is: no deadline of the cloud's own ends that one,
    whatever is handed out by now.
    """
    world = assigned
    world.granted()
    (line,) = world.house.journal.book().waiting.values()
    catalogue = world.house.laws.catalogue
    others = {name: replace(one, kind="iam-role") for name, one in catalogue.roles.items()}
    put_in_force(world.house, replace(world.house.laws, catalogue=replace(catalogue, roles=others)))
    world.clock.forward(days=400)
    assert matters(world.house, line)


def test_database_is_no_older_where_the_rules_are_lost(world: World) -> None:
    """Nobody knows how long they let anything be open."""
    world.granted()
    (line,) = world.house.journal.book().waiting.values()
    world.clock.forward(days=3)
    assert not matters(world.house, line)
    world.house.laws = replace(world.house.laws, rules=load_rules({}))
    assert matters(world.house, line)


def test_panic_is_safe_while_a_machine_cannot_read_its_journal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is broken as it starts, or later: what it alone names nobody knows. It says so by
    its beat, until it could be read, and no longer.
    """
    monkeypatch.setattr(Store, "is_shared", True)
    called = panic(world)
    work_on(world)
    assert stands(world, called).safe

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(world.house.journal, "book", broken)
        work_on(world)
        theirs = world.house.journal
        world.house.journal = ClosingJournal(world.directory / "ours.journal")
        told = stands(world, called)
        assert not told.safe and "could not read its closing journal" in told.doubt
        world.house.journal = theirs
    work_on(world)
    assert stands(world, called).safe
    world.house.looked_back = False  # as a start where it cannot be read, or is long
    world.worker._beat()
    assert "could not read its closing journal" in stands(world, called).doubt


def test_first_panic_is_called_before_anybody_knows_that_the_database_is_older(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is looked for at the first look already, with no panic on record."""
    monkeypatch.setattr(Store, "is_shared", True)
    kept = backup(world)
    world.granted()
    put_back(world, kept)
    world.house.asked = Asked()
    world.clock.forward(seconds=30)
    world.work()
    assert world.house.store.panic_count() == 0 and world.house.asked.older
