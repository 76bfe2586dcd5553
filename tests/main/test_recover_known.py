"""recover by a journal and a database or copy that can be read: what the log says of a grant that
the journal knows too.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.flow.assigned import KEY, assign, elsewhere, settle
from tests.flow.test_extending import extended
from tests.flow.test_recalling import OWN, ground, lines
from tests.support import World
from tidegate.base.when import wire
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.journal_line import JournalLine, removed_line
from tidegate.expire import EndReason
from tidegate.flow.expiring import close_now
from tidegate.flow.gathering import gather
from tidegate.flow.holding import hold_of
from tidegate.flow.house import Wanted
from tidegate.flow.panicking import begin_panic, sweep
from tidegate.flow.recalling import Fate, Recalled, recall
from tidegate.flow.recovering import settle_journal
from tidegate.flow.revoking import end_early
from tidegate.flow.signing_off import sign_off, take_up_again
from tidegate.grant import Grant, GrantState
from tidegate.main.copies import Copy, owed_with
from tidegate.panic import Scope, ScopeKind
from tidegate.store.sealed import sealed_state

SECOND = timedelta(seconds=1)


@pytest.fixture
def assigned(world: World) -> World:
    """`prod/admin` is an assignment there."""
    return assign(world)


def copy_of(world: World) -> Copy:
    """The log as it is now."""
    return Copy(where="a copy", state=sealed_state(world.url))


def by_both(world: World, copy: Copy | None = None) -> dict[str, Recalled]:
    """What is closed by our journal and the log, as it is now or was once."""
    gathered = gather({OWN: lines(world)}, OWN, world.clock())
    gathered, lost = owed_with(gathered, copy or copy_of(world), world.clock())
    assert not lost
    back = recall(ground(world), gathered, timedelta(minutes=5))
    return {one.owed.hold.grant: one for one in back}


def fates(back: dict[str, Recalled]) -> dict[str, Fate]:
    """What became of each."""
    return {name: one.fate for name, one in back.items()}


def gives(world: World) -> bool:
    """Whether the cloud has the assignment."""
    return world.cloud.assigned(KEY, world.clock())


def both(world: World) -> tuple[Grant, Grant]:
    """Ours, until the thirtieth and the fortieth minute."""
    first = world.granted()
    world.clock.forward(minutes=10)
    world.work()
    return first, world.granted()


def revoke(world: World, grant: Grant) -> Grant:
    """Sealed; no worker has tried the cloud yet."""
    return end_early(world.house, world.who("op"), grant.id)


def test_recover_calls_a_sealed_end_not_due(assigned: World) -> None:
    """Revoked, and everything dies before the first try: no line of the journal tells of it."""
    world = assigned
    grant = world.granted()
    settle(world, 1)
    revoke(world, grant)
    assert fates(by_both(world)) == {grant.id: Fate.REMOVED}
    assert not gives(world)
    told = [(line.kind, line.data.get("reason")) for line in lines(world)]
    assert told == [("intended", None), ("closing", "revoked"), ("removed", None)]


@pytest.mark.parametrize("is_swept", [True, False])
def test_recover_calls_what_a_panic_ended_not_due(assigned: World, is_swept: bool) -> None:
    """Swept or only called: what it covers is to end, and the rest goes on."""
    world = assigned
    grant, other = world.granted(), world.granted("eve")
    settle(world, 1)
    scope = Scope(ScopeKind.PRINCIPAL, grant.principal)
    panic = begin_panic(world.house, Wanted(scope=scope, by="system", via="machine"))
    if is_swept:
        sweep(world.house, panic)
    assert fates(by_both(world)) == {grant.id: Fate.REMOVED, other.id: Fate.LATER}
    assert not gives(world)
    assert EndReason.PANIC in [line.data.get("reason") for line in lines(world)]


def test_sealed_end_holds_the_access_of_another(assigned: World) -> None:
    """One is due by its end and the other is revoked: neither holds it for the other."""
    world = assigned
    first, second = both(world)
    world.clock.forward(minutes=21)
    revoke(world, second)
    assert fates(by_both(world)) == {first.id: Fate.REMOVED, second.id: Fate.REMOVED}
    assert not gives(world)


def test_end_that_another_machine_removed_holds_the_access(assigned: World) -> None:
    """The later was ended and read back elsewhere, of which our journal has not heard."""
    world = assigned
    first, second = both(world)
    settle(world, 1)
    with elsewhere(world):
        close_now(world.house, revoke(world, second))
        settle(world, 1)
    assert world.grant(second).state is GrantState.REMOVED
    world.clock.forward(minutes=20)
    world.cloud.place(KEY, world.clock(), by="sync")  # past the cloud's own deadline
    assert fates(by_both(world)) == {first.id: Fate.REMOVED, second.id: Fate.REMOVED}
    assert not gives(world)


def test_sealed_end_takes_what_another_grant_holds(assigned: World) -> None:
    """The first is revoked, the second goes on: the access stays until its end, and goes then."""
    world = assigned
    first, second = both(world)
    revoke(world, first)
    assert fates(by_both(world)) == {first.id: Fate.HELD, second.id: Fate.LATER}
    assert gives(world)
    world.clock.forward(minutes=31)
    assert fates(by_both(world)) == {first.id: Fate.REMOVED, second.id: Fate.REMOVED}
    assert not gives(world)


def test_old_copy_undoes_what_the_journal_says(assigned: World) -> None:
    """It calls open what was begun since, and closing what was read back since: the journal holds,
    and what somebody else has been given meanwhile is not taken.
    """
    world = assigned
    grant = world.granted()
    settle(world, 1)
    opened = copy_of(world)
    revoke(world, grant)
    closing = copy_of(world)
    begun = JournalLine(kind="closing", grant=grant.id, at=world.clock(), data={})
    world.house.journal.append(begun)
    assert fates(by_both(world, opened)) == {grant.id: Fate.REMOVED}
    assert not gives(world)
    world.clock.forward(minutes=1)
    world.cloud.place(KEY, world.clock(), by="sync")
    for copy in (opened, closing):
        assert fates(by_both(world, copy)) == {grant.id: Fate.BEFORE}
    assert gives(world)


def test_removal_in_an_old_copy_hides_what_was_begun_since(assigned: World) -> None:
    """Removed by the copy; the journal says that its end was begun anew by a later row."""
    world = assigned
    grant = world.granted()
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=1_000))
    with elsewhere(world):
        settle(world, 31)
    row = world.grant(grant)
    assert row.state is GrantState.REMOVED
    copy = copy_of(world)
    world.cloud.place(KEY, world.clock(), by="sync")
    begun = {"reason": "expired", "row": row.version}
    line = JournalLine(kind="closing", grant=grant.id, at=world.clock(), data=begun)
    world.house.journal.append(line)
    world.connector.calm()
    assert by_both(world, copy)[grant.id].fate is Fate.REMOVED
    assert not gives(world)


def test_end_that_was_moved_is_met_at_the_old_one(assigned: World) -> None:
    """Another machine sealed a later end, and our journal has not heard of it."""
    world = assigned
    grant = world.granted()
    settle(world, 1)
    with elsewhere(world):
        extended(world, grant)
    world.clock.forward(minutes=31)
    assert fates(by_both(world)) == {grant.id: Fate.LATER}
    assert gives(world)


def test_what_the_copy_says_oddly_keeps_the_rest_open(assigned: World) -> None:
    """One entry that nobody can read: the other is closed, and that one is told."""
    world = assigned
    first, second = world.granted(), world.granted("eve")
    world.clock.forward(minutes=31)
    state = sealed_state(world.url)
    odd = dict.fromkeys(state.entries, b"[1]")
    world.house.journal = ClosingJournal(world.directory / "new.journal")
    copy = Copy(where="a copy", state=replace(state, entries=odd))
    gathered, lost = owed_with(gather({}, OWN, world.clock()), copy, world.clock())
    assert (gathered.owed, {one.id for one, _ in lost}) == ((), {first.id, second.id})


@pytest.mark.parametrize("odd", [False, True])
def test_sealed_end_without_its_entry_is_called_not_due(assigned: World, odd: bool) -> None:
    """What the copy lacks to close it by, or has of an odd shape, the journal has: that it was
    ended counts.
    """
    world = assigned
    grant = world.granted()
    settle(world, 1)
    revoke(world, grant)
    state = sealed_state(world.url)
    entries = dict.fromkeys(state.entries, b"[1]") if odd else {}
    copy = Copy(where="a copy", state=replace(state, entries=entries))
    assert fates(by_both(world, copy)) == {grant.id: Fate.REMOVED}
    assert not gives(world)


@pytest.mark.parametrize("wrong", [{"native_principal": "nobody"}, {"stood_before": True}])
@pytest.mark.parametrize("entry", [True, False])
def test_line_of_a_journal_hides_the_access_that_is_sealed(
    assigned: World, wrong: dict[str, object], entry: bool
) -> None:
    """The only journal that names the grant points at another access, or at none of ours: what is
    closed is what was sealed.
    """
    world = assigned
    grant = world.granted()
    (opened,) = lines(world)
    world.house.journal = ClosingJournal(world.directory / "new.journal")
    world.house.journal.append(replace(opened, data={**opened.data, **wrong}))
    world.clock.forward(minutes=31)
    world.cloud.place(KEY, world.clock(), by="sync")
    state = sealed_state(world.url)
    copy = Copy(where="a copy", state=state if entry else replace(state, entries={}))
    assert fates(by_both(world, copy)) == {grant.id: Fate.REMOVED}
    assert not gives(world)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "iam-role"},
        {"native": {"arn": "arn:aws:iam::123456789012:role/other"}},
        {"target": "other"},
    ],
)
@pytest.mark.parametrize("ours", [True, False])
def test_right_key_in_a_journal_carries_a_wrong_role_into_a_sealed_end(
    assigned: World, wrong: dict[str, object], ours: bool
) -> None:
    """A connector closes by the role and the target too, and those are sealed as well."""
    world = assigned
    grant = world.granted()
    sealed = hold_of(world.house, grant)
    (opened,) = lines(world)
    world.house.journal = ClosingJournal(world.directory / "new.journal")
    later = wire(sealed.ends_at + SECOND)
    other = replace(opened, data={**opened.data, "ends_at": later, **wrong})
    world.clock.forward(minutes=31)
    world.cloud.place(KEY, world.clock(), by="sync")
    found = gather({OWN if ours else "other": [other]}, OWN, world.clock())
    found, lost = owed_with(found, copy_of(world), world.clock())
    (back,) = recall(ground(world), found, timedelta(minutes=5))
    assert (back.fate, lost, found.unusable) == (Fate.REMOVED, [], ())
    assert replace(back.owed.hold, ends_at=sealed.ends_at) == sealed
    assert not gives(world)


def test_two_accesses_in_other_journals_hide_the_one_that_is_sealed(assigned: World) -> None:
    """Ours does not know it: the copy says which of them is to be closed."""
    world = assigned
    grant = world.granted()
    assert grant.ends_at is not None
    (opened,) = lines(world)
    world.house.journal = ClosingJournal(world.directory / "new.journal")
    world.clock.forward(minutes=31)
    world.cloud.place(KEY, world.clock(), by="sync")
    wrong = replace(opened, data={**opened.data, "native_principal": "nobody"})
    wrong = replace(wrong, data={**wrong.data, "ends_at": wire(grant.ends_at + SECOND)})
    found = gather({"a": [wrong], "b": [opened]}, OWN, world.clock())
    found, lost = owed_with(found, copy_of(world), world.clock())
    (back,) = recall(ground(world), found, timedelta(minutes=5))
    assert (back.owed.hold.grant, back.fate, found.unusable, lost) == (
        grant.id,
        Fate.REMOVED,
        (),
        [],
    )
    assert not gives(world)


@pytest.mark.parametrize("signed_off", [True, False])
def test_removal_in_the_journal_hides_what_the_log_took_up_again(
    assigned: World, signed_off: bool
) -> None:
    """Removed and read back here; it came back, or a sign-off was taken back, and another machine
    that has lost its journal began to close it once more.
    """
    world = assigned
    grant = world.granted()
    if signed_off:
        world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=1_000))
    settle(world, 30)
    while world.grant(grant).state is not GrantState.REMOVED:
        settle(world, 1 / 12)
    world.cloud.place(KEY, world.clock(), by="sync")
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=1_000))
    with elsewhere(world):
        if signed_off:
            settle(world, 1 / 12)
            sign_off(world.house, world.who("op"), grant.id, "seen by hand")
            take_up_again(world.house, world.who("op"), grant.id, "it is there")
        else:
            settle(world, 1)
    assert world.grant(grant).state is GrantState.CLOSING
    world.connector.calm()
    assert fates(by_both(world)) == {grant.id: Fate.REMOVED}
    assert not gives(world)
    assert fates(by_both(world)) == {grant.id: Fate.BEFORE}


@pytest.mark.parametrize(("by_recover", "minutes"), [(False, 61), (True, 61), (False, 30)])
def test_removal_without_the_database_hides_what_the_log_took_up_since(
    assigned: World, by_recover: bool, minutes: int
) -> None:
    """No line of ours names a row: only by the clocks the copy, which is closing it in vain, is of
    later. Where they do not tell, whoever has the access was given it perhaps.
    """
    world = assigned
    grant = world.granted()
    if by_recover:
        end = JournalLine(kind="closing", grant=grant.id, at=world.clock(), data={})
        world.house.journal.append(end)
    world.clock.forward(minutes=31)
    removed = removed_line(grant.id, world.clock(), alone=True)
    world.house.journal.append(removed)
    world.cloud.place(KEY, world.clock(), by="sync")
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=10_000))
    with elsewhere(world):
        settle(world, 1)
        world.connector.calm()
        world.connector.script(Fault(kind=FaultKind.DOWN, verb="revoke", count=10_000))
        world.clock.forward(minutes=minutes - 1)
        world.work()
    copy = copy_of(world)
    assert world.grant(grant).state is GrantState.CLOSING
    world.connector.calm()
    taken = minutes > 60
    assert fates(by_both(world, copy)) == {grant.id: Fate.REMOVED if taken else Fate.BEFORE}
    assert gives(world) is not taken
    world.cloud.place(KEY, world.clock(), by="sync")
    assert fates(by_both(world, copy)) == {grant.id: Fate.BEFORE}
    assert gives(world)


def test_copy_from_before_a_removal_has_it_closed_once_more(assigned: World) -> None:
    """Another machine tried it for hours, and removed it after the copy was made: its row was
    already far beyond the last try of ours then, and whoever has the access now was given it.
    """
    world = assigned
    grant = world.granted()
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=10_000))
    settle(world, 31)
    begun = [line.row for line in lines(world) if line.row is not None][-1]
    with elsewhere(world):
        for kind in (FaultKind.DOWN, FaultKind.REFUSE):
            world.connector.calm()
            world.connector.script(Fault(kind=kind, verb="revoke", count=10_000))
            settle(world, 5)
        copy = copy_of(world)
        assert world.grant(grant).version > begun + 1
        world.connector.calm()
        world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=10_000))
        world.clock.forward(hours=2)
        world.work()
    assert world.grant(grant).state is GrantState.REMOVED
    settle_journal(world.house)
    world.cloud.place(KEY, world.clock(), by="sync")
    back = by_both(world, copy)[grant.id]
    assert back.fate is Fate.HELD and "removed before" in back.why
    assert gives(world)
