"""The ways real systems let somebody keep access, each tried on role kinds `iam-role` and
`assignment` of the simulated cloud.

The production flow and the cloud's own word: what its holder took inside the window is used again.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.backups import backup, lose, put_back
from tests.kept_access.simulated import (
    MANY,
    MINUTE,
    SECOND_NAME,
    KindWorld,
    Liar,
    catalogue_of,
    laws_of,
)
from tests.support import ARN, GROUPS
from tidegate.base.errors import NotAllowed, Refused, Stale
from tidegate.connectors.port import Hold, Probed
from tidegate.connectors.role_kinds import IAM_ROLE
from tidegate.connectors.simulated import ASSIGNMENT, Fault, FaultKind
from tidegate.evidence.side_doors import search_says
from tidegate.expire import Proof
from tidegate.finding import FindingKind
from tidegate.flow.expiring import close_once
from tidegate.flow.governing import put_in_force
from tidegate.flow.mending import mend_cuts
from tidegate.flow.recovering import close_forgotten, close_without_store
from tidegate.flow.searching import SEARCH_TRIES, search_some
from tidegate.grant import Cause, GrantState, Outcome, Searched, noted

BOTH = pytest.mark.parametrize("kind", [IAM_ROLE, ASSIGNMENT])


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def world(kind: str, tmp_path: Path, database: str) -> Iterator[KindWorld]:
    """An installation whose roles are of that kind."""
    made = KindWorld(tmp_path, laws=laws_of(kind), kind=kind, url=database)
    yield made
    made.down()


@BOTH
@pytest.mark.parametrize("fault", ["throttle", "refuse", "lose_request", "lose_reply", "down"])
def test_a_failed_removal_is_not_tried_again(world: KindWorld, fault: str) -> None:
    """A: whatever the removal meets, and a dozen times over, it is tried until it is read back."""
    grant = world.granted()
    taken = world.take(grant)
    world.settle(1)
    for verb in ("revoke", "cut"):
        world.connector.script(Fault(kind=FaultKind(fault), verb=verb, count=12))
    assert world.ended(grant).state is GrantState.CLOSING
    world.until(grant, GrantState.GONE, step=20)
    world.nothing_left(taken)


@BOTH
def test_b_accepted_removal_that_fails_later_is_believed(world: KindWorld) -> None:
    """B: accepted, four minutes under way, then failed: nothing is called removed before it is, and
    it is asked again after the failure.
    """
    grant = world.granted()
    taken = world.take(grant)
    world.settle(1)
    for verb in ("revoke", "cut"):
        world.connector.script(Fault(kind=FaultKind.FAIL_LATE, verb=verb, delay=4 * MINUTE))
    fails_at = world.clock() + 4 * MINUTE
    # What looks after denies would cut the session by a call of its own.
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="mend", until=fails_at))
    world.ended(grant)
    while world.clock() < fails_at:
        after = world.grant(grant)
        assert (after.state, after.outcome) == (GrantState.CLOSING, Outcome.STILL_USABLE)
        assert world.acts(taken)
        world.clock.forward(seconds=5)
        world.work()
    after = world.until(grant, GrantState.GONE)
    assert after.removed_at is not None and after.removed_at >= fails_at
    assert "grant.noted" in world.names(grant.request)
    world.nothing_left(taken)


@BOTH
def test_c_success_is_shown_while_the_access_stands(world: KindWorld) -> None:
    """C: a cloud that says yes for hours and does nothing: closing, asked on, never removed."""
    grant = world.granted(duration=timedelta(hours=2))
    taken = world.take(grant)
    world.settle(1)
    cloud = Liar(world)
    world.ended(grant)
    world.settle(50, step=60)
    assert world.acts(taken)
    assert world.grant(grant).state is GrantState.CLOSING
    assert "grant.removed" not in world.names(grant.request)
    assert cloud.told > 25, "it stopped asking"
    cloud.mends()
    world.until(grant, GrantState.GONE)
    world.nothing_left(taken)


@BOTH
def test_d_session_outlives_the_grant(world: KindWorld) -> None:
    """D: a session taken a second before the end is dead once the grant is gone, and stays so."""
    grant = world.granted()
    world.clock.forward(minutes=30, seconds=-1)
    taken = world.take(grant)
    assert world.acts(taken)
    world.clock.forward(seconds=1)
    # The cloud itself ends the one; the other lives for an hour there unless it is cut.
    assert world.acts(taken) is (world.kind == ASSIGNMENT)
    world.until(grant, GrantState.GONE)
    assert not world.acts(taken)
    world.settle(70, step=60)
    world.nothing_left(taken)


@BOTH
@pytest.mark.parametrize("first_ends_first", [True, False])
def test_e_end_of_one_grant_takes_or_leaves_the_other(
    world: KindWorld, first_ends_first: bool
) -> None:
    """E: two grants of one native role: each ends at its own end, whichever comes first."""
    one, other = world.granted(), world.granted(role=SECOND_NAME)
    world.settle(1)
    early, late = (one, other) if first_ends_first else (other, one)
    kept = world.take(late)
    world.ended(early)
    world.settle(1)
    assert world.acts(kept)
    if world.kind == ASSIGNMENT:
        assert world.grant(early).still_held_by == late.id
    else:
        assert world.grant(early).state is GrantState.GONE
    world.ended(late)
    world.until(early, GrantState.GONE)
    world.until(late, GrantState.GONE)
    world.nothing_left(kept)


@BOTH
def test_f_other_system_gives_it_again(world: KindWorld) -> None:
    """F: what another system puts back is taken again, and that it came back is in the evidence."""
    grant = world.granted()
    taken = world.take(grant)
    world.settle(1)
    if world.kind == ASSIGNMENT:
        world.connector.cuts = False
        assert world.ended(grant).state is GrantState.REMOVED
        world.cloud.assign(world.key(grant), world.clock())
        world.connector.cuts = True
    else:
        world.ended(grant)
        world.cloud.tamper("123456789012", f"{ARN}-prod", grant.id, world.clock())
        assert world.acts(taken)
    world.settle(2)
    world.until(grant, GrantState.GONE)
    world.nothing_left(taken)
    told = world.names(grant.request) + world.names("target:prod")
    assert ("grant.contradicted" in told) or ("cut.restored" in told)


@BOTH
def test_g_lost_database_leaves_it_for_ever(world: KindWorld) -> None:
    """G: without any database the worker closes what is due from the journal."""
    grant = world.granted()
    taken = world.take(grant)
    lose(world)
    world.clock.forward(minutes=30)
    for _ in range(6):
        world.clock.forward(seconds=10)
        world.worker.tick()
    world.nothing_left(taken)


@BOTH
@pytest.mark.parametrize("begun", [True, False])
def test_g_log_that_takes_no_more_leaves_it_for_ever(world: KindWorld, begun: bool) -> None:
    """G: the database answers, but no event can be sealed: what is due, and what has failed to be
    removed before, is closed from the journal, and sealed once the log is mended.
    """
    grant = world.granted()
    taken = world.take(grant)
    world.settle(1)
    if begun:
        world.connector.script(Fault(kind=FaultKind.DOWN, count=9))
        assert world.ended(grant).state is GrantState.CLOSING
        world.connector.calm()
    with world.house.store._database.writing() as db:
        ((root,),) = db.execute("SELECT root FROM log_head").fetchall()
        db.execute("UPDATE log_head SET root = tree")
    world.clock.forward(minutes=30)
    for _ in range(6):
        world.clock.forward(seconds=10)
        world.worker.tick()
    world.nothing_left(taken)
    with world.house.store._database.writing() as db:
        db.execute("UPDATE log_head SET root = ?", (root,))
    world.until(grant, GrantState.GONE)


@BOTH
@pytest.mark.parametrize("before", ["request", "opening", "end"])
def test_g_restored_database_reopens_or_forgets(world: KindWorld, before: str) -> None:
    """G: an older database is put back: nothing opens again, and every end comes all the same."""
    kept = backup(world) if before == "request" else None
    request = world.vote(world.ask())
    kept = backup(world) if before == "opening" else kept
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    taken = world.take(grant)
    world.settle(1)
    kept = backup(world) if before == "end" else kept
    assert kept is not None
    world.ended(grant)
    world.settle(1)
    put_back(world, kept)
    close_forgotten(world.house)
    opened = world.connector.calls["grant"]
    world.settle(40, step=10)
    assert world.connector.calls["grant"] == opened, "it was opened a second time"
    world.nothing_left(taken)


@BOTH
def test_g_renamed_catalogue_entry_strands_its_grants(world: KindWorld) -> None:
    """G: its role is renamed and then taken out of the catalogue: it ends by the sealed entry."""
    grant = world.granted()
    taken = world.take(grant)
    found = catalogue_of(world.kind)
    left = {name: role for name, role in found.roles.items() if not name.startswith("prod/")}
    targets = {name: target for name, target in found.targets.items() if name != "prod"}
    emptied = replace(found, roles=left, targets=targets)
    put_in_force(world.house, replace(laws_of(world.kind), catalogue=emptied))
    world.restart()
    put_in_force(world.house, replace(laws_of(world.kind), catalogue=emptied))
    world.until(grant, GrantState.GONE, step=30)
    world.nothing_left(taken)


@BOTH
def test_h_key_made_in_the_window_is_not_found(world: KindWorld) -> None:
    """H: a key that the holder's session made stands after the end: the end names it, and a
    finding the command that removes it; whose session made it only where we issued that.
    """
    grant = world.granted()
    taken = world.take(grant)
    world.clock.forward(minutes=29)
    world.cloud.make(taken, "access_key", "AKIA1", world.clock())
    after = world.until(grant, GrantState.GONE)
    assert after.proof == ("removed" if world.kind == ASSIGNMENT else "denied")
    world.nothing_left(taken)
    assert world.grant(grant).searched == "", "the end waited for the search"
    search_some(world.house)
    assert world.grant(grant).searched == Searched.FOUND
    (found,) = [one for one in world.house.store.findings() if one.grant == grant.id]
    assert (found.kind, found.sort, found.what) == (FindingKind.SIDE_DOOR, "access_key", "AKIA1")
    assert found.remedy == "cloud delete access_key AKIA1"
    assert found.by == (grant.id if world.kind == IAM_ROLE else "")
    assert "found access_key AKIA1" in search_says(world.last(grant, "grant.searched"))


@BOTH
def test_h_search_that_was_refused_is_called_searched(world: KindWorld) -> None:
    """H: a cloud that lets nobody look: the end comes, and says what was not searched."""
    grant = world.granted()
    world.cloud.make(world.take(grant), "access_key", "AKIA1", world.clock())
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="side_doors", count=SEARCH_TRIES))
    world.clock.forward(minutes=30)
    world.until(grant, GrantState.GONE)
    for _ in range(SEARCH_TRIES):
        search_some(world.house)
        world.clock.forward(minutes=2)
    assert world.grant(grant).searched == Searched.NOT_SEARCHED
    assert search_says(world.last(grant, "grant.searched")).startswith(
        "not searched: access_denied"
    )


@BOTH
def test_i_role_deleted_first_is_never_closed(world: KindWorld) -> None:
    """I: the role itself is deleted inside the window: the grant ends all the same."""
    grant = world.granted()
    taken = world.take(grant)
    world.settle(1)
    world.cloud.delete_role("123456789012", f"{ARN}-prod")
    assert not world.acts(taken)
    world.until(grant, GrantState.GONE, step=30)


@BOTH
def test_i_access_removed_by_hand_is_never_closed(world: KindWorld) -> None:
    """I: somebody was faster: what is not there any more is no reason to try for ever."""
    grant = world.granted()
    taken = world.take(grant)
    world.settle(1)
    if world.kind == ASSIGNMENT:
        world.cloud.unassign(world.key(grant), world.clock())
    else:
        world.cloud.close(taken)
    world.until(grant, GrantState.GONE, step=30)
    world.nothing_left(taken)


@BOTH
def test_j_window_starts_at_its_first_use(world: KindWorld) -> None:
    """J: keys taken a minute before the end live a minute: the clock runs from the opening."""
    grant = world.granted()
    assert grant.opened_at is not None and grant.ends_at == grant.opened_at + 30 * MINUTE
    world.clock.forward(minutes=29)
    taken = world.take(grant)
    world.clock.forward(minutes=1)
    world.work()
    assert not world.acts(taken)
    with pytest.raises((NotAllowed, Refused)):
        world.take(grant)


@BOTH
def test_j_late_opening_moves_the_end(world: KindWorld) -> None:
    """J: with a start that was asked for, opening late shortens the window and moves no end."""
    start = world.clock() + 10 * MINUTE
    request = world.vote(world.ask(start=start))
    world.clock.forward(minutes=18)
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.ends_at == start + 30 * MINUTE
    world.clock.forward(minutes=22)
    taken = world.take(grant) if world.kind == ASSIGNMENT else None
    world.until(grant, GrantState.GONE, minutes=5)
    world.nothing_left(*([taken] if taken else []))


@BOTH
def test_j_long_limit_of_another_rule_leaks(world: KindWorld) -> None:
    """J: eight hours allowed on dev are not eight hours on prod, whoever may do both."""
    refused = world.ask(duration=timedelta(hours=8))
    assert refused.state.value == "refused"
    fine = world.ask(role="dev/admin", duration=timedelta(hours=8))
    assert fine.state.value == "approved"


@BOTH
def test_j_last_millisecond_is_given_or_taken(world: KindWorld) -> None:
    """J: one millisecond before its end a grant is open, at its end it is closing."""
    grant = world.granted(duration=timedelta(seconds=1))
    world.clock.forward(milliseconds=999)
    assert close_once(world.house, world.grant(grant)).state is GrantState.OPEN
    world.clock.forward(milliseconds=1)
    assert close_once(world.house, world.grant(grant)).state is not GrantState.OPEN


@BOTH
def test_k_mass_expiry_loses_some(world: KindWorld) -> None:
    """K: forty grants due at one instant, a cloud that turns most calls away: all are closed."""
    for number in range(MANY):
        world.ask("eve", role=f"dev/many-{number}")
    world.work()
    grants = [one for one in world.house.store.grants() if one.state is GrantState.OPEN]
    assert len(grants) == MANY
    taken = [world.take(one, "eve") for one in grants[::10]]
    world.connector.script(Fault(kind=FaultKind.THROTTLE, verb="revoke", count=60))
    world.connector.script(Fault(kind=FaultKind.THROTTLE, verb="observe", count=30))
    world.clock.forward(minutes=30)
    for _ in range(20):
        world.clock.forward(seconds=60)
        world.work()
    left = [one for one in grants if world.grant(one).state is not GrantState.GONE]
    assert left == []
    world.nothing_left(*taken)


@BOTH
@pytest.mark.parametrize("after", [True, False])
def test_l_access_made_before_its_end_is_on_record(world: KindWorld, after: bool) -> None:
    """L: killed around the opening call: the end was on record before it, and it comes."""
    real = world.connector.grant

    def last(hold, now):  # type: ignore[no-untyped-def]
        names = world.names(hold.request)
        assert "grant.intended" in names, "the cloud was asked before the end was sealed"
        if after:
            real(hold, now)
        raise Killed

    world.connector.grant = last  # type: ignore[method-assign]
    request = world.vote(world.ask())
    with pytest.raises(Killed):
        world.work()
    world.restart()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.INTENDED and grant.ends_at is not None
    world.clock.forward(minutes=30)
    world.until(grant, GrantState.GONE)
    world.nothing_left()


@BOTH
def test_m_leaver_gets_what_was_approved(world: KindWorld) -> None:
    """M: out of the group between the approval and a start in the future: it never opens."""
    request = world.vote(world.ask(start=world.clock() + timedelta(hours=2)))
    left = {**GROUPS.members, "sre": ("eve", "late")}
    put_in_force(world.house, laws_of(world.kind, groups=replace(GROUPS, members=left)))
    world.settle(150, step=60)
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.NOT_PERMITTED)
    assert world.connector.calls["grant"] == 0
    world.nothing_left()


@BOTH
def test_m_vote_of_a_leaver_counts(world: KindWorld) -> None:
    """M: its only approver left the approving group before the start: it never opens."""
    request = world.vote(world.ask(start=world.clock() + timedelta(hours=2)))
    left = {**GROUPS.members, "leads": ("cy", "ana")}
    put_in_force(world.house, laws_of(world.kind, groups=replace(GROUPS, members=left)))
    world.settle(150, step=60)
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.NOT_PERMITTED)
    world.nothing_left()


@BOTH
def test_list_ten_minutes_old_is_believed(world: KindWorld) -> None:
    """A cloud that lists what was ten minutes ago: nothing is called removed by such a list."""
    world.settle(15, step=60)
    grant = world.granted()
    taken = world.take(grant)
    world.settle(1)
    stale = Fault(
        kind=FaultKind.LIST_STALE,
        verb="observe",
        until=world.clock() + 10 * MINUTE,
        delay=10 * MINUTE,
    )
    world.connector.script(stale)
    world.ended(grant)
    for _ in range(60):
        world.clock.forward(seconds=10)
        world.work()
        if world.grant(grant).state in (GrantState.REMOVED, GrantState.GONE):
            assert not world.acts(taken)
    world.until(grant, GrantState.GONE)
    world.nothing_left(taken)


@BOTH
@pytest.mark.only("sqlite")  # seconds of real waiting, none of it for a database
def test_connector_that_hangs_holds_the_others(world: KindWorld) -> None:
    """A cloud that never answers keeps its own grant closing; nobody else's end waits for it."""
    import threading

    stuck, asked = world.granted(), world.ask("eve", role="dev/admin")
    world.work()
    (other,) = world.house.store.grants(request=asked.id)
    taken, release, real = world.take(other, "eve"), threading.Event(), world.connector.revoke

    def hanging(hold, now):  # type: ignore[no-untyped-def]
        if hold.target.id == "prod":
            release.wait(30)
        return real(hold, now)

    world.connector.revoke = hanging  # type: ignore[method-assign]
    world.clock.forward(minutes=31)
    try:
        world.worker.tick()
        world.clock.forward(minutes=3)  # its lease has run out: nobody takes it up beside the first
        for _ in range(6):
            world.clock.forward(seconds=5)
            world.worker.tick()
        assert world.grant(other).state is GrantState.GONE
        assert not world.acts(taken)
        assert world.grant(stuck).state is GrantState.CLOSING
    finally:
        release.set()
    world.until(stuck, GrantState.GONE)
    world.nothing_left()


@BOTH
def test_journal_closes_what_a_lying_cloud_kept(world: KindWorld) -> None:
    """Without the database too, a yes that changed nothing is not written down as removed."""
    grant = world.granted()
    world.take(grant)
    cloud = Liar(world)
    world.clock.forward(minutes=30)
    done = close_without_store(world.house)
    if world.kind == ASSIGNMENT:
        assert done == []
        cloud.mends()
        world.clock.forward(seconds=10)
        assert close_without_store(world.house) == [grant.id]
    mend_cuts(world.house)
    world.until(grant, GrantState.GONE)


@pytest.mark.parametrize("kind", [ASSIGNMENT])
def test_journal_forgets_the_session_it_could_not_cut(world: KindWorld) -> None:
    """Without the database too, a removal is not the end while a session taken before may act."""
    grant = world.granted()
    taken = world.take(grant)
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="cut", count=2))
    world.clock.forward(minutes=30)
    for _ in range(2):
        assert close_without_store(world.house) == []
        assert world.acts(taken)
        world.clock.forward(seconds=10)
    assert close_without_store(world.house) == [grant.id]
    assert not world.acts(taken)
    world.clock.forward(seconds=10)
    assert close_without_store(world.house) == []
    told = [line.data.get("cut") for line in world.house.journal.read() if line.kind == "removed"]
    assert told == [False, None]
    world.until(grant, GrantState.GONE)


@pytest.mark.parametrize("kind", [IAM_ROLE])
@pytest.mark.parametrize("restarts", [False, True])
def test_c_access_that_acted_is_called_gone_when_nobody_answers(
    world: KindWorld, restarts: bool
) -> None:
    """C: the deny was taken away and a try was allowed; then no try is answered, for hours and
    after a restart: never gone. Once it is refused, gone, and by that proof alone.
    """
    grant = world.granted()
    taken = world.take(grant)
    world.settle(1)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="probe"))
    assert world.ended(grant).state is GrantState.REMOVED
    world.cloud.tamper("123456789012", f"{ARN}-prod", grant.id, world.clock())
    assert world.acts(taken)
    world.clock.forward(seconds=2)
    world.work()
    assert world.grant(grant).outcome == Outcome.STILL_ACTS
    if restarts:
        world.restart()
    silent = world.clock() + timedelta(hours=3)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="probe", until=silent))
    world.settle(170, step=60)
    after = world.grant(grant)
    assert (after.state, after.acted) == (GrantState.REMOVED, True)
    late = [one for one in world.house.store.findings() if one.kind is FindingKind.LATE]
    assert ["still acts" in one.says for one in late] == [True]
    world.clock.forward(minutes=10)
    after = world.until(grant, GrantState.GONE)
    assert after.proof == Proof.DENIED
    world.nothing_left(taken)


@pytest.mark.parametrize("kind", [IAM_ROLE])
def test_c_allowed_try_is_lost_to_a_row_that_moved(world: KindWorld) -> None:
    """C: while the try was under way, something else was sealed of the grant: that it was allowed
    is sealed all the same, and a process that starts after it knows.
    """
    grant = world.granted()
    world.take(grant)
    world.settle(1)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="probe"))
    world.ended(grant)
    world.cloud.tamper("123456789012", f"{ARN}-prod", grant.id, world.clock())
    real = world.connector.probe

    def probe(hold: Hold, now: datetime) -> Probed:
        probed = real(hold, now)
        found = world.grant(grant)
        step = noted(found, "cut", Outcome.UNREACHABLE, "unreachable", 1, now)
        world.house.store.commit(step)
        return probed

    world.connector.probe = probe  # type: ignore[method-assign]
    with suppress(Stale):
        close_once(world.house, world.grant(grant))
    world.restart()
    assert world.grant(grant).acted
