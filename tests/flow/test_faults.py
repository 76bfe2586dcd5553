"""The cloud, the clock, the disk misbehave: nothing opens that should not or stays open."""

import os
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.backups import backup, lose, put_back
from tests.support import ARN, World, catalogue, laws
from tidegate.base.errors import EvidenceClosed, NotAllowed, TidegateError, Unreachable, WorldFailed
from tidegate.connectors.port import Answer
from tidegate.connectors.simulated import PROPAGATION, Fault, FaultKind
from tidegate.diagnose.story import read_story
from tidegate.evidence.journal import JournalLine
from tidegate.evidence.journal_line import ALONE
from tidegate.evidence.lateness import Latency, measure
from tidegate.evidence.seal import read_event
from tidegate.flow import recovering
from tidegate.flow.brokering import issue
from tidegate.flow.buckets import Bucket
from tidegate.flow.expiring import close_now
from tidegate.flow.governing import put_in_force
from tidegate.flow.granting import open_once
from tidegate.flow.holding import closing_hold
from tidegate.flow.lateness import note_late
from tidegate.flow.mending import mend_cuts
from tidegate.flow.recovering import close_without_store
from tidegate.flow.revoking import end_early
from tidegate.grant import Cause, GrantState, Outcome


def settle(world: World, minutes: int = 60) -> None:
    """Let the worker have its tries for a while."""
    for _ in range(minutes * 4):
        world.clock.forward(seconds=15)
        world.work()


def only(world: World, request: str):  # type: ignore[no-untyped-def]
    """The one grant of a request."""
    (grant,) = world.house.store.grants(request=request)
    return grant


def test_lost_reply_of_an_opening_is_called_failed(world: World) -> None:
    """A lost reply is unknown: noted, read back, asked again; then it is simply open."""
    request = world.vote(world.ask())
    world.connector.script(Fault(kind=FaultKind.LOSE_REPLY, verb="grant"))
    world.work()
    assert only(world, request.id).state is GrantState.INTENDED
    assert only(world, request.id).outcome == Outcome.UNKNOWN
    settle(world, 1)
    assert only(world, request.id).state is GrantState.OPEN
    assert world.names(request.id).count("grant.noted") == 1


def test_two_who_open_the_same_grant_both_call_the_cloud(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes second, with the row as it was, finds it open and calls nothing: a copy of such a
    call could make the access anew when its end is long read back.
    """
    request = world.vote(world.ask())
    world.connector.script(Fault(kind=FaultKind.LOSE_REPLY, verb="grant"))
    world.work()
    before = only(world, request.id)
    settle(world, 1)
    calls: list[object] = []
    monkeypatch.setattr(world.connector, "grant", lambda hold, now: calls.append(hold))
    assert (before.state, open_once(world.house, before).state) == (
        GrantState.INTENDED,
        GrantState.OPEN,
    )
    assert calls == []


def test_refusal_after_a_lost_reply_is_called_failed(world: World) -> None:
    """A plain no after an unknown does not make the first call undone: it is closed instead."""
    request = world.vote(world.ask())
    world.connector.script(
        Fault(kind=FaultKind.LOSE_REPLY, verb="grant"),
        Fault(kind=FaultKind.REFUSE, verb="grant", count=10_000),
    )
    settle(world, 90)
    assert only(world, request.id).state is GrantState.GONE


def test_plain_refusal_leaves_something_open(world: World) -> None:
    """A plain no means nothing was made: failed, with the cause."""
    request = world.vote(world.ask())
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="grant"))
    world.work()
    grant = only(world, request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.CLOUD_REFUSED)
    assignment = world.house.store.assignment(grant.assignment)
    assert assignment is not None
    assert assignment.holders == ()


def test_throttled_opening_is_called_failed(world: World) -> None:
    """Being told to slow down settles nothing: it is tried again and opens."""
    request = world.vote(world.ask())
    world.connector.script(Fault(kind=FaultKind.THROTTLE, verb="grant", count=2))
    world.work()
    assert only(world, request.id).state is GrantState.INTENDED
    settle(world, 1)
    assert only(world, request.id).state is GrantState.OPEN


def test_cloud_down_at_opening(world: World) -> None:
    """The gate stays shut until claim-by, and then it fails saying so; nothing was asked of it."""
    request = world.vote(world.ask())
    world.connector.script(Fault(kind=FaultKind.DOWN, until=world.clock() + timedelta(hours=1)))
    settle(world, 120)
    grant = only(world, request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.GATE_SHUT)
    assert world.connector.calls["grant"] == 0


def test_cloud_down_for_longer_than_the_grant(world: World) -> None:
    """Closing is tried for as long as it takes; the cloud's own end held meanwhile."""
    grant = world.granted()
    keys = world.keys(grant)
    world.connector.script(Fault(kind=FaultKind.DOWN, until=world.clock() + timedelta(hours=9)))
    world.clock.forward(minutes=30)
    assert world.use(keys) is Answer.DENIED
    settle(world, 8 * 60)
    assert world.grant(grant).state is GrantState.CLOSING
    assert world.grant(grant).outcome == Outcome.UNREACHABLE
    settle(world, 120)
    assert world.grant(grant).state is GrantState.GONE


@pytest.mark.parametrize(
    "kind",
    [FaultKind.THROTTLE, FaultKind.REFUSE, FaultKind.LOSE_REQUEST, FaultKind.LOSE_REPLY],
)
def test_revocation_that_fails_once_is_given_up(world: World, kind: FaultKind) -> None:
    """Whatever a revocation meets, it is tried again, and called done only when read back."""
    grant = world.granted()
    keys = world.keys(grant)
    world.connector.script(Fault(kind=kind, verb="revoke", count=5))
    ended = close_now(world.house, end_early(world.house, world.who("bo"), grant.id))
    assert ended.state is GrantState.CLOSING
    settle(world, 10)
    assert world.use(keys) is Answer.DENIED
    assert world.grant(grant).proof == "denied"


def test_stale_list_believed(world: World) -> None:
    """A read-back that still shows access keeps the grant closing."""
    grant = world.granted()
    world.clock.forward(minutes=1)
    world.connector.script(
        Fault(kind=FaultKind.LIST_STALE, verb="observe", count=3, delay=timedelta(seconds=30))
    )
    ended = close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    assert (ended.state, ended.outcome) == (GrantState.CLOSING, Outcome.STILL_USABLE)
    settle(world, 10)
    assert world.grant(grant).state is GrantState.GONE


def test_removal_that_applies_late_called_gone(world: World) -> None:
    """A deny that is accepted but not yet true is not called removed or gone before it is."""
    grant = world.granted()
    keys = world.keys(grant)
    world.connector.script(
        Fault(kind=FaultKind.APPLY_LATE, verb="revoke", count=2, delay=timedelta(seconds=20))
    )
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    for _ in range(240):
        if world.grant(grant).state is GrantState.GONE:
            assert world.use(keys) is Answer.DENIED
        world.clock.forward(seconds=1)
        world.work()
    assert world.grant(grant).state is GrantState.GONE


def test_unproven_end_claims_denied(world: World) -> None:
    """When the probe cannot be made, the end waits for its bound and says only `removed`."""
    grant = world.granted()
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="probe", count=10_000))
    ended = close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    assert ended.state is GrantState.REMOVED
    settle(world, 5)
    assert world.grant(grant).state is GrantState.GONE
    assert world.grant(grant).proof == "removed"


def test_end_nobody_could_try_is_called_gone_unseen(world: World) -> None:
    """Its deny was taken away while no worker was there: what was read then proves nothing now."""
    grant = world.granted()
    keys = world.keys(grant)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="probe", count=10_000))
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    world.cloud.tamper("123456789012", f"{ARN}-prod", grant.id, world.clock())
    world.clock.forward(minutes=5)
    world.connector.script(Fault(kind=FaultKind.THROTTLE, verb="mend", count=1))
    assert world.use(keys) is Answer.ALLOWED
    world.worker.tick()
    assert world.grant(grant).state is not GrantState.GONE
    settle(world, 5)
    assert world.grant(grant).state is GrantState.GONE
    assert world.use(keys) is Answer.DENIED


def test_retries_fill_the_log(world: World) -> None:
    """Retries are sealed as first, change and about hourly, not one by one (I7)."""
    grant = world.granted()
    world.connector.script(Fault(kind=FaultKind.DOWN, until=world.clock() + timedelta(days=2)))
    world.clock.forward(minutes=31)
    settle(world, 6 * 60)
    assert 3 <= world.names(grant.request).count("grant.noted") <= 12


@pytest.mark.parametrize("minutes", [10, -10])
def test_clocks_apart(world: World, minutes: int) -> None:
    """A cloud whose clock is ten minutes off opens nothing, and the evidence says why."""
    request = world.vote(world.ask())
    world.connector._clock = lambda: world.clock() + timedelta(minutes=minutes)
    world.work()
    assert only(world, request.id).outcome == Outcome.CLOCK_APART
    settle(world, 40)
    assert only(world, request.id).state is GrantState.FAILED
    assert world.connector.calls["grant"] == 0


def test_database_clock_apart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a second between our clock and the database's shuts the gate."""
    monkeypatch.setattr(world.house.store, "now", lambda: world.clock() - timedelta(seconds=2))
    request = world.vote(world.ask())
    world.work()
    assert only(world, request.id).state is GrantState.READY
    assert world.connector.calls["grant"] == 0


def test_journal_that_cannot_be_written(world: World) -> None:
    """Without the closing journal nothing opens; what is open still closes."""
    before = world.granted()
    journal = world.directory / "closing.journal"
    journal.unlink()
    journal.mkdir()
    request = world.vote(world.ask("eve"))
    world.work()
    assert only(world, request.id).cause == Cause.JOURNAL_CLOSED
    close_now(world.house, end_early(world.house, world.who("ana"), before.id))
    assert world.grant(before).state is GrantState.GONE


def test_credential_handed_out_unsealed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the session cannot be sealed, nobody gets the keys (I6)."""
    grant = world.granted()

    def closed(_step: object) -> None:
        raise EvidenceClosed("evidence_closed", "the log cannot be written", "")

    monkeypatch.setattr(world.house.store, "commit", closed)
    with pytest.raises(EvidenceClosed):
        issue(world.house, world.who("ana"), grant.id)
    monkeypatch.undo()
    assert world.house.store.sessions(grant.id) == []


def test_credential_of_a_grant_revoked_while_minting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation between minting and sealing wins: the keys are dropped."""
    grant = world.granted()
    real = world.connector.issue

    def slow(hold, session, now):  # type: ignore[no-untyped-def]
        made = real(hold, session, now)
        end_early(world.house, world.who("bo"), grant.id)
        return made

    monkeypatch.setattr(world.connector, "issue", slow)
    with pytest.raises(NotAllowed):
        world.keys(grant)
    assert world.house.store.sessions(grant.id) == []


def test_database_deleted_mid_window(world: World) -> None:
    """Without the database the worker closes from the journal, and nothing new opens."""
    grant = world.granted()
    keys = world.keys(grant)
    lose(world)
    with pytest.raises(TidegateError):
        world.ask("eve")
    world.clock.forward(minutes=31)
    world.worker.tick()
    lines = [(line.kind, line.grant) for line in world.house.journal.read()]
    assert ("removed", grant.id) in lines
    assert world.use(keys) is Answer.DENIED


def test_silent_store_is_asked_for_the_pace_of_an_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing from the journal keeps to its own share of an account's pace and asks no store."""

    def asked(*_: object) -> int:
        raise AssertionError("the store was asked")

    grant = world.granted()
    monkeypatch.setattr(recovering, "bucket_of", lambda *_: Bucket("a", 2.0))
    monkeypatch.setattr(world.house.store, "take_tokens", asked)
    world.clock.forward(minutes=30)
    assert close_without_store(world.house) == []  # the share fills with time
    world.clock.forward(seconds=1)
    assert close_without_store(world.house) == [grant.id]


def test_close_from_the_journal_is_never_sealed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was closed without the database is sealed when it is back, with both instants (I6)."""
    grant = world.granted()
    world.clock.forward(minutes=30)
    acted = world.clock()
    assert close_without_store(world.house) == [grant.id]
    assert close_without_store(world.house) == []
    world.clock.forward(minutes=10)
    world.restart()
    world.work()
    names = world.names(grant.request)
    assert names.index("journal.sealed") < names.index("grant.closing")
    sealed = next(
        leaf for _, leaf in world.house.store.events(grant.request) if b'"journal.sealed"' in leaf
    )
    assert acted.strftime("%H:%M:%S").encode() in sealed
    assert world.grant(grant).state is GrantState.GONE
    world.restart()
    world.work()
    assert world.names(grant.request) == names


def test_look_before_the_journal_hides_when_it_was_closed(world: World) -> None:
    """The worker ends what is due before it reads its journal: what the journal did is sealed all
    the same, in a chain without a gap, and how late the end was counts from then.
    """
    grant = world.granted()
    world.clock.forward(minutes=30)
    assert close_without_store(world.house) == [grant.id]
    world.clock.forward(minutes=10)
    world.restart()
    for _ in range(5):
        world.worker._look()
    assert world.grant(grant).state is GrantState.GONE
    world.work()
    assert world.names(grant.request).count("journal.sealed") == 1
    chain = [read_event(leaf) for _, leaf in world.house.store.events(grant.request)]
    told = measure(chain, grant.id)
    assert told is not None and told.spans[Latency.REMOVED] == 0
    assert read_story(chain, grant.request).gap == ""
    assert world.house.store.findings() == []
    world.restart()
    world.work()
    assert world.names(grant.request).count("journal.sealed") == 1


def test_late_end_is_excused_by_the_journal(world: World) -> None:
    """What the journal closed too late is a finding, and so is what it closed and did not hold."""
    late, back = world.granted(), world.granted("eve")
    world.clock.forward(minutes=40)
    assert close_without_store(world.house, frozenset({late.id})) == [late.id]
    world.work()
    assert late.id in {one.grant for one in world.house.store.findings()}
    line = JournalLine(
        kind="removed", grant=back.id, at=back.ends_at or world.clock(), data={ALONE: True}
    )
    world.house.journal.append(line)
    closing = replace(back, closing_at=world.clock(), end_reason="expired")
    assert not note_late(world.house, closing, world.clock())
    world.clock.forward(minutes=3)
    assert note_late(world.house, closing, world.clock())


@pytest.mark.only("sqlite")  # what its file may be
@pytest.mark.skipif(os.geteuid() == 0, reason="root writes read-only files")
def test_read_only_database_opens_something(world: World) -> None:
    """A database that became read-only opens nothing."""
    (world.directory / "tidegate.db").chmod(0o400)
    with pytest.raises(WorldFailed):
        world.ask()


def test_native_end_believed_before_the_cloud_clock_reaches_it(world: World) -> None:
    """A cloud whose clock is a little behind still allows at our end: that is not removed yet."""
    grant = world.granted()
    keys = world.keys(grant)
    world.connector._clock = lambda: world.clock() - timedelta(seconds=3)
    world.clock.forward(minutes=30)
    world.work()
    assert world.cloud.use(keys, world.clock() - timedelta(seconds=3)) is Answer.ALLOWED
    assert world.grant(grant).state is GrantState.CLOSING
    settle(world, 1)
    assert world.grant(grant).state is GrantState.GONE
    assert "grant.noted" not in world.names(grant.request)


def test_gone_by_a_clock_of_ours_that_is_ahead(world: World) -> None:
    """Our clock is past the end and the cloud's is not: nothing ended by itself there, and the deny
    that was just written is not everywhere yet. Untried, it is gone only after that time.
    """
    put_in_force(world.house, laws(found=catalogue(probe="")))
    grant = world.granted()
    ahead = timedelta(minutes=40)
    world.clock.forward(minutes=40)
    world.connector._clock = lambda: world.clock() - ahead
    world.work()
    after = world.grant(grant)
    assert after.state is GrantState.REMOVED
    assert after.residual_until == world.clock() + PROPAGATION
    world.clock.forward(seconds=PROPAGATION.total_seconds())
    world.work()
    assert world.grant(grant).state is GrantState.GONE


def test_removal_undone_by_somebody_called_gone(world: World) -> None:
    """A removed grant that acts again once its bound has passed goes back to closing."""
    grant = world.granted()
    keys = world.keys(grant)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="probe", count=1))
    ended = close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    assert ended.state is GrantState.REMOVED
    hold = world.house.store.assignment(grant.assignment)
    assert hold is not None
    world.cloud.tamper(hold.account, hold.native_role, grant.id, world.clock())
    assert world.use(keys) is Answer.ALLOWED
    world.clock.forward(seconds=30)
    world.worker._chores = ()  # before the cuts are looked after again
    world.work()
    assert "grant.contradicted" in world.names(grant.request)
    settle(world, 2)
    assert world.use(keys) is Answer.DENIED
    assert world.grant(grant).state is GrantState.GONE


def test_standing_access_taken_by_closing_from_the_journal(world: World) -> None:
    """Without the database too, access that stood before is only read, never removed (I5)."""
    from dataclasses import replace

    from tests.support import ARN, catalogue, laws
    from tidegate.catalogue import AssignmentKey
    from tidegate.flow.governing import put_in_force

    found = catalogue()
    standing = replace(found.roles["prod/admin"], kind="assignment", probe="")
    put_in_force(
        world.house, laws(found=replace(found, roles={**found.roles, "prod/admin": standing}))
    )
    key = AssignmentKey(
        connector="simulated",
        account="123456789012",
        native_role=f"{ARN}-prod",
        native_principal="ana",
    )
    world.cloud.place(key, world.clock())
    world.granted()
    world.clock.forward(hours=2)
    assert close_without_store(world.house) == []
    assert world.cloud.standing(world.clock()) == (key,)


def test_first_of_two_holders_never_gone(world: World) -> None:
    """Two grants on one assignment: the first stays removed until the second has ended too."""
    from dataclasses import replace

    from tests.support import catalogue, laws
    from tidegate.flow.governing import put_in_force

    found = catalogue()
    shared = replace(found.roles["prod/admin"], kind="assignment", probe="")
    put_in_force(
        world.house, laws(found=replace(found, roles={**found.roles, "prod/admin": shared}))
    )
    first = world.granted()
    world.clock.forward(minutes=10)
    world.work()
    second = world.granted()
    world.clock.forward(minutes=21)
    settle(world, 1)
    assert world.grant(first).state is GrantState.REMOVED
    assert world.grant(first).still_held_by == second.id
    assert world.cloud.standing(world.clock()) != ()
    settle(world, 180)
    assert world.cloud.standing(world.clock()) == ()
    assert {world.grant(g).state for g in (first, second)} == {GrantState.GONE}


def test_intent_opened_without_being_judged_again(world: World) -> None:
    """An intent that is retried is judged before every call: a new forbid closes it (I9)."""
    from tests.support import laws
    from tidegate.flow.governing import put_in_force

    request = world.vote(world.ask())
    world.connector.script(Fault(kind=FaultKind.LOSE_REQUEST, verb="grant", count=3))
    world.work()
    assert only(world, request.id).state is GrantState.INTENDED
    put_in_force(world.house, laws(rules=""))
    calls = world.connector.calls["grant"]
    settle(world, 5)
    assert world.connector.calls["grant"] == calls
    grant = only(world, request.id)
    assert (grant.state, grant.end_reason) == (GrantState.GONE, "revoked")


def test_early_end_forgotten_when_the_database_goes(world: World) -> None:
    """A revocation that was decided is carried out from the journal, long before the fixed end."""
    grant = world.granted()
    keys = world.keys(grant)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="revoke", count=1))
    close_now(world.house, end_early(world.house, world.who("bo"), grant.id))
    assert world.use(keys) is Answer.ALLOWED
    lose(world)
    world.clock.forward(seconds=10)
    world.worker.tick()
    assert world.use(keys) is Answer.DENIED


def test_journal_line_nobody_knows_stops_the_worker(world: World) -> None:
    """A journal that says more than a restored database is a finding; everything else goes on."""
    from tidegate.evidence.journal import JournalLine

    lost = JournalLine(
        kind="removed", grant="gr_01m83t4cm03c42pazdrpwq7tzz", at=world.clock(), data={}
    )
    world.house.journal.append(lost)
    world.restart()
    grant = world.granted()
    world.clock.forward(minutes=31)
    world.work()
    assert world.grant(grant).state is GrantState.GONE


def test_late_opening_call_undoes_a_removal(world: World) -> None:
    """A revocation waits for the opening call that is on its way, and removes what it made."""
    import threading
    from dataclasses import replace

    from tests.support import catalogue, laws
    from tidegate.flow.governing import put_in_force

    found = catalogue()
    made = replace(found.roles["prod/admin"], kind="assignment", probe="")
    put_in_force(world.house, laws(found=replace(found, roles={**found.roles, "prod/admin": made})))
    started, release, real = threading.Event(), threading.Event(), world.connector.grant

    def slow(hold, now):  # type: ignore[no-untyped-def]
        started.set()
        release.wait(10)
        return real(hold, now)

    world.connector.grant = slow  # type: ignore[method-assign]
    request = world.vote(world.ask())
    opening = threading.Thread(target=world.worker.tick)
    opening.start()
    assert started.wait(10)
    grant = only(world, request.id)
    ended = close_now(world.house, end_early(world.house, world.who("bo"), grant.id))
    assert ended.state is GrantState.CLOSING
    release.set()
    opening.join()
    settle(world, 90)
    assert world.cloud.standing(world.clock()) == ()
    assert world.grant(grant).state is GrantState.GONE


def test_silent_cloud_keeps_everybody_waiting(world: World) -> None:
    """One target that hangs does not hold up the end of another grant."""
    import threading

    release, real = threading.Event(), world.connector.revoke
    first, second = world.granted("ana"), world.granted("eve")

    def hanging(hold, now):  # type: ignore[no-untyped-def]
        if hold.grant == first.id:
            release.wait(20)
        return real(hold, now)

    world.connector.revoke = hanging  # type: ignore[method-assign]
    world.clock.forward(minutes=31)
    world.worker.tick()
    assert world.grant(second).state is GrantState.GONE
    assert world.grant(first).state is GrantState.CLOSING
    release.set()


def test_restored_database_forgets_an_open_grant(world: World) -> None:
    """A grant the restored database never heard of is closed from the journal when it is due."""
    kept = backup(world)
    grant = world.granted()
    keys = world.keys(grant)
    put_back(world, kept)
    world.clock.forward(minutes=31)
    world.work()
    assert world.use(keys) is Answer.DENIED
    assert ("removed", grant.id) in [(x.kind, x.grant) for x in world.house.journal.read()]
    assert world.granted("eve").state is GrantState.OPEN


def test_closing_from_the_journal_hammers_the_cloud(world: World) -> None:
    """A cloud that is down is asked at a pace, without the database too."""
    world.granted()
    world.connector.script(Fault(kind=FaultKind.DOWN, until=world.clock() + timedelta(hours=3)))
    world.clock.forward(minutes=31)
    before = sum(world.connector.calls.values())
    for _ in range(300):
        close_without_store(world.house)
        world.clock.forward(milliseconds=200)
    assert sum(world.connector.calls.values()) - before <= 12


def test_unknown_connector_of_one_grant_stops_the_others(world: World) -> None:
    """A grant whose connector is no longer there does not keep another's end waiting."""
    lost, other = world.granted("ana"), world.granted("eve")
    keys = world.keys(other, "eve")
    world.clock.forward(minutes=31)
    kept = dict(world.house.connectors)
    world.house.connectors = {}
    assert close_without_store(world.house) == []
    world.work(ticks=3)
    world.house.connectors = kept
    settle(world, 5)
    assert world.use(keys) is Answer.DENIED
    assert {world.grant(g).state for g in (lost, other)} == {GrantState.GONE}


def test_list_from_before_it_was_made_believed(world: World) -> None:
    """Just after opening, a list may be from before: that it shows nothing is no removal."""
    from dataclasses import replace

    from tests.support import catalogue, laws
    from tidegate.flow.governing import put_in_force

    found = catalogue()
    made = replace(found.roles["prod/admin"], kind="assignment", probe="")
    put_in_force(world.house, laws(found=replace(found, roles={**found.roles, "prod/admin": made})))
    world.clock.forward(minutes=5)
    grant = world.granted()
    for verb in ("revoke", "cut"):  # answered well, and nothing happens for a while
        late = Fault(kind=FaultKind.APPLY_LATE, verb=verb, delay=timedelta(seconds=3))
        world.connector.script(late)
    before = Fault(kind=FaultKind.LIST_STALE, verb="observe", count=1, delay=timedelta(minutes=1))
    world.connector.script(before)
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    assert world.grant(grant).state is GrantState.CLOSING
    settle(world, 90)
    assert world.grant(grant).state is GrantState.GONE


def test_approval_by_a_fast_clock_opens_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Approved by a server an hour ahead, a grant is ready at once by the database's clock."""
    request = world.ask("ana")
    ahead = timedelta(hours=1)
    right = world.clock()
    monkeypatch.setattr(world.house.store, "now", lambda: right)
    world.clock.forward(seconds=ahead.total_seconds())
    world.vote(request)
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.opens_at == right


@pytest.mark.parametrize("known", [True, False])
def test_cut_made_while_others_are_looked_after_is_pruned(
    world: World, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """A call on its way names no grant that ended since: its deny stands all the same, at every
    moment, and when nobody can say what must stay.
    """
    first, second = world.granted("ana"), world.granted("eve")
    keys = world.keys(second, "eve")
    close_now(world.house, end_early(world.house, world.who("bo"), first.id))
    inner, ended = world.connector.mend, []

    def slow(target, role, cuts, now, must_stay):  # type: ignore[no-untyped-def]
        if not ended:
            ended.append(close_now(world.house, end_early(world.house, world.who("bo"), second.id)))
        if not known:
            monkeypatch.setattr(world.house.store, "grant_states", _unreadable)
        back = inner(target, role, cuts, now, must_stay)
        assert world.cloud.use(keys, world.clock()) is Answer.DENIED
        return back

    monkeypatch.setattr(world.connector, "mend", slow)
    assert mend_cuts(world.house) == []  # nobody took one away
    assert ended
    assert world.cloud.use(keys, world.clock()) is Answer.DENIED


def _unreadable(ids: object) -> object:
    raise Unreachable("database_away", "expected the database, got nothing", "wait")


@pytest.mark.parametrize("state", ["open", "closing"])
def test_cut_of_a_machine_that_has_no_database_is_pruned_by_one_that_has(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """By its own journal it ended what is open here: that deny is no leftover."""
    first, second = world.granted("ana"), world.granted("eve")
    keys = world.keys(second, "eve")
    close_now(world.house, end_early(world.house, world.who("bo"), first.id))
    if state == "closing":
        end_early(world.house, world.who("bo"), second.id)
    name = closing_hold(world.house, world.grant(second)).role.native["arn"]
    world.cloud.deny("123456789012", name, second.id, world.clock())
    mend_cuts(world.house)
    assert world.cloud.use(keys, world.clock()) is Answer.DENIED


def test_deny_without_a_name_is_pruned_while_what_it_refuses_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes on in a role is told with such a deny: another machine may have ended it by its
    journal. What is over, or of another role, is not.
    """
    first, second = world.granted("ana"), world.granted("eve")
    close_now(world.house, end_early(world.house, world.who("bo"), first.id))
    told = []

    def asking(target, role, cuts, now, must_stay):  # type: ignore[no-untyped-def]
        told.extend(must_stay((), nameless) for nameless in (True, False))
        return ()

    monkeypatch.setattr(world.connector, "mend", asking)
    mend_cuts(world.house)
    assert [one.going_on for one in told] == [{second.id}, frozenset()]
    assert all(one.cut == {first.id} for one in told)
