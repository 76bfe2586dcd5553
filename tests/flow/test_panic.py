"""Panic: everything in a scope ends, and nothing is called done before it is."""

import threading
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.backups import locked
from tests.support import World, misshape
from tidegate.base.errors import EvidenceClosed, NotAllowed, Refused, WorldFailed
from tidegate.base.fact import Fact, Step
from tidegate.base.when import Instant
from tidegate.connectors.port import Answer, Hold, Receipt
from tidegate.diagnose.doctor import _panics
from tidegate.diagnose.looking import _kept
from tidegate.evidence.panic_file import PanicFile
from tidegate.evidence.seal import read_event
from tidegate.flow.asking import Asked, ask
from tidegate.flow.extending import apply_once
from tidegate.flow.granting import open_once
from tidegate.flow.house import Wanted
from tidegate.flow.panic_standing import stand
from tidegate.flow.panicking import (
    call_panic,
    close_named,
    panic_unsealed,
    resume,
    scope_meant,
    sweep,
    unfreeze,
)
from tidegate.grant import Grant, GrantState, Outcome
from tidegate.panic import Panic, PanicState, Scope, ScopeKind, Unrowed, by_risk, standing, swept
from tidegate.request import Request, RequestState
from tidegate.shell.metrics import Metrics
from tidegate.store import compare
from tidegate.store.writer import MOST_WAITING

ALL = Scope(ScopeKind.ALL)


def panic(world: World, scope: Scope = ALL, login: str = "op", **more: object) -> Panic:
    """A panic, swept."""
    freeze = more.get("freeze")
    assert freeze is None or isinstance(freeze, timedelta)
    called = call_panic(world.house, world.who(login), scope, "laptop stolen", freeze)
    return sweep(world.house, called)


def test_panic_says_done_while_one_is_still_closing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloud that refuses one removal: counted as still closing, and nothing calls it safe."""
    grant, other = world.granted(), world.granted("eve")
    revoke = world.connector.revoke

    def refuse(hold: Hold, now: Instant) -> Receipt:
        if hold.grant == grant.id:
            raise Refused("access_denied", "not allowed", "allow it")
        return revoke(hold, now)

    monkeypatch.setattr(world.connector, "revoke", refuse)
    called = panic(world)
    world.clock.forward(seconds=30)
    world.work()
    told = stand(world.house, called.id, world.clock())
    assert [one.id for one in told.closing] == [grant.id]
    assert not told.safe and not told.settled
    assert world.grant(other).state in (GrantState.REMOVED, GrantState.GONE)


def test_keys_work_after_a_panic(world: World) -> None:
    """Every holder's keys are refused, each end says panic, and who called it."""
    grants = [world.granted(), world.granted("eve")]
    keys = [world.keys(grants[0]), world.keys(grants[1], "eve")]
    called = panic(world)
    world.clock.forward(seconds=30)
    world.work()
    assert [world.use(one) for one in keys] == [Answer.DENIED, Answer.DENIED]
    assert {world.grant(one).end_reason for one in grants} == {"panic"}
    told = stand(world.house, called.id, world.clock())
    assert told.safe and told.gone + told.removed == 2
    assert not compare(world.house.store)


def test_scope_takes_what_is_not_in_it(world: World) -> None:
    """A principal's panic leaves everybody else's access alone."""
    mine, other = world.granted(), world.granted("eve")
    panic(world, Scope(ScopeKind.PRINCIPAL, mine.principal))
    assert world.grant(mine).state is GrantState.CLOSING
    assert world.grant(other).state is GrantState.OPEN


def test_access_opens_from_an_approval_before_the_panic(world: World) -> None:
    """What waits for votes is refused, what is ready never opens, whatever the worker does."""
    pending = world.ask()
    later = world.vote(world.ask("eve", start=world.clock() + timedelta(minutes=5)))
    called = panic(world)
    world.clock.forward(minutes=6)
    world.work()
    (ready,) = world.house.store.grants(request=later.id)
    assert (ready.state, ready.cause) == (GrantState.FAILED, "ended_before")
    asked = world.house.store.request(pending.id)
    assert (asked.state, asked.code) == (RequestState.REFUSED, "panic")
    assert called.requests == 1


def test_grant_opens_between_panic_and_sweep(world: World) -> None:
    """The panic is sealed and not swept yet: nothing in its scope opens, nor gives keys."""
    held = world.granted("eve")
    approved = world.vote(world.ask())
    called = call_panic(world.house, world.who("op"), ALL, "", None)
    world.work()
    (grant,) = world.house.store.grants(request=approved.id)
    assert (grant.state, grant.outcome) == (GrantState.READY, Outcome.FROZEN)
    with pytest.raises(NotAllowed, match="under way"):
        world.keys(held, "eve")
    sweep(world.house, called)
    assert world.grant(grant).state is GrantState.FAILED


def test_opening_that_was_faster_than_the_sweep_stays_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant that opens while the sweep reads: its Step is stale, and the next pass ends it."""
    approved = world.vote(world.ask())
    called = call_panic(world.house, world.who("op"), ALL, "", None)
    submit = world.house.store.submit
    raced: list[str] = []

    def slow(step: Step, *, urgent: bool = False) -> "Future[object]":
        if step.facts[0].name == "grant.failed" and not raced:
            raced.append("once")
            with monkeypatch.context() as patched:
                patched.setattr("tidegate.flow.granting.stopped", lambda *_: None)
                world.work()
        return submit(step, urgent=urgent)  # type: ignore[return-value]

    monkeypatch.setattr(world.house.store, "submit", slow)
    sweep(world.house, called)
    (grant,) = world.house.store.grants(request=approved.id)
    assert raced and grant.state is GrantState.CLOSING
    assert grant.id in {one.id for one in stand(world.house, called.id, world.clock()).closing}


def test_freeze_lets_something_open(world: World) -> None:
    """Until it is over or lifted nothing is filed or opened there, no emergency either."""
    called = panic(world, freeze=timedelta(hours=1))
    asked = world.ask(emergency=True)
    assert asked.state is RequestState.REFUSED and asked.code in ("frozen", "no_rule")
    plain = world.ask("eve")
    assert (plain.state, plain.code) == (RequestState.REFUSED, "frozen")
    assert called.id in plain.why
    unfreeze(world.house, world.who("op"), called.id)
    assert world.ask("eve").state is RequestState.PENDING


def test_freeze_outlives_its_end(world: World) -> None:
    """A freeze that is over keeps nothing shut."""
    panic(world, freeze=timedelta(hours=1))
    world.clock.forward(hours=1)
    assert world.granted().state is GrantState.OPEN


def test_panic_without_freeze_keeps_everything_shut(world: World) -> None:
    """Once swept, a new need is asked for and opened as ever."""
    panic(world)
    assert world.granted().state is GrantState.OPEN


@pytest.mark.parametrize("login", ["ana", "bo", "audit"])
@pytest.mark.parametrize("scope", [ALL, Scope(ScopeKind.TARGET, "prod")], ids=lambda s: s.text)
def test_anybody_can_panic_for_everybody(world: World, login: str, scope: Scope) -> None:
    """Only operators, and a target's owners for their target, end what others hold."""
    with pytest.raises(NotAllowed):
        call_panic(world.house, world.who(login), scope, "", None)


def test_owner_cannot_panic_for_the_target(world: World) -> None:
    """A target's owners end everything on it, and nothing on another."""
    found = world.house.laws.catalogue
    owned = replace(found.targets["prod"], owner="group:leads")
    world.house.laws = replace(
        world.house.laws, catalogue=replace(found, targets={**found.targets, "prod": owned})
    )
    grant = world.granted()
    panic(world, Scope(ScopeKind.TARGET, "prod"), "bo")
    assert world.grant(grant).state is GrantState.CLOSING
    with pytest.raises(NotAllowed):
        panic(world, Scope(ScopeKind.TARGET, "dev"), "bo")


def test_thief_of_a_token_lifts_the_freeze(world: World) -> None:
    """Everybody may end what they hold and keep it shut; only an operator opens it again."""
    grant = world.granted()
    scope = scope_meant(world.house, world.who("ana"), ScopeKind.PRINCIPAL, "me")
    called = panic(world, scope, "ana", freeze=timedelta(hours=2))
    assert world.grant(grant).state is GrantState.CLOSING
    with pytest.raises(NotAllowed, match="not yours to open again"):
        unfreeze(world.house, world.who("ana"), called.id)


def test_names_can_be_tried_out_by_a_panic(world: World) -> None:
    """Who may not end others' access learns nothing of whether a login exists."""
    told = []
    for name in ("bo", "nosuch"):
        with pytest.raises(NotAllowed) as caught:
            scope_meant(world.house, world.who("ana"), ScopeKind.PRINCIPAL, name)
        told.append(caught.value.message.replace(name, "X"))
    assert told[0] == told[1]


def test_panic_waits_for_a_database_that_cannot_be_written(world: World) -> None:
    """Ends go on from the journal at once, and the panic and its ends are sealed afterwards."""
    grant = world.granted()
    keys = world.keys(grant)
    wanted = Wanted(scope=ALL, by=world.who("op").id, via="api", reason="now")
    with locked(world):
        with pytest.raises(EvidenceClosed):
            call_panic(world.house, world.who("op"), ALL, "now", None)
        told = close_named(world.house, panic_unsealed(world.house, wanted))
        assert told.named == told.removed == (grant.id,)
        assert world.use(keys) is Answer.DENIED
    for _ in range(12):
        world.clock.forward(seconds=5)
        world.work()
    assert (world.grant(grant).state, world.grant(grant).end_reason) == (GrantState.GONE, "panic")
    (sealed,) = world.house.store.panics()
    assert sealed.state is PanicState.SWEPT and not world.house.wanted


def test_sweep_dies_with_its_process(world: World) -> None:
    """A panic of a process that died is taken up by the next one."""
    grant = world.granted()
    called = call_panic(world.house, world.who("op"), ALL, "", None)
    world.restart()
    world.clock.forward(seconds=20)
    resume(world.house)
    assert world.grant(grant).state is GrantState.CLOSING
    assert world.house.store.panic(called.id).state is PanicState.SWEPT


def test_panic_nobody_can_read_keeps_those_behind_it_from_ending(world: World) -> None:
    """A sweep is taken up though the panic before it is damaged; opening waits for a person."""
    grant = world.granted()
    broken = call_panic(world.house, world.who("op"), Scope(ScopeKind.TARGET, "dev"), "", None)
    call_panic(world.house, world.who("op"), ALL, "", None)
    world.restart()
    misshape(world, broken.id, "called_at_ms", "panics")
    world.clock.forward(seconds=20)
    resume(world.house)
    assert world.grant(grant).state is GrantState.CLOSING
    with pytest.raises(WorldFailed):
        world.house.store.stopping(world.who("eve").id, "dev/admin", world.clock())


def test_two_holders_of_one_assignment_stop_each_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends of one batch let go of the same assignment one after another, in one pass."""
    key = world.connector.key

    def shared(target: object, role: object, grant: str, person: object) -> object:
        return replace(key(target, role, grant, person), native_principal="shared")  # type: ignore[arg-type]

    monkeypatch.setattr(world.connector, "key", shared)
    grants = [world.granted(), world.granted("eve")]
    panic(world)
    assert {world.grant(one).state for one in grants} == {GrantState.CLOSING}
    held = world.house.store.assignment(world.grant(grants[0]).assignment)
    assert held is not None and held.holders == ()


def test_panic_waits_behind_everything_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the queue of the writer full, others are refused and the panic is sealed next."""
    store, going, order = world.house.store, threading.Event(), list[str]()
    started = threading.Event()

    def hold(_: object) -> None:
        started.set()
        going.wait(10)

    monkeypatch.setattr("tidegate.store.writer.MOST_WAITING", 3)
    threading.Thread(target=lambda: store._writer.run(hold), daemon=True).start()
    assert started.wait(10)
    fact = Fact(
        name="token.ended",
        subject="pr_x",
        actor="system",
        data={"principal": "pr_x", "token": "t", "at": "2026-11-23T09:00:00.000Z"},
    )
    waiting = [store.submit(Step((), (fact,))) for _ in range(3)]
    with pytest.raises(EvidenceClosed, match="waiting already"):
        store.submit(Step((), (fact,)))
    urgent = store.submit(Step((), (replace(fact, subject="pr_y"),)), urgent=True)
    going.set()
    first = urgent.result(10).first_idx
    assert all(one.result(10).first_idx > first for one in waiting)
    assert MOST_WAITING > 3 and order == []


def test_riskiest_comes_last(world: World) -> None:
    """What never ends by itself comes first, then the longest exposure."""
    grant = world.granted()
    never = replace(grant, id="gr_never", unattended=None)
    long = replace(grant, id="gr_long", unattended=timedelta(hours=12))
    assert [one.id for one in by_risk([grant, long, never])] == ["gr_never", "gr_long", grant.id]


def test_standing_access_is_called_removed(world: World) -> None:
    """Ended and still held by something not ours: unverified, never a success."""
    grant = replace(world.granted(), state=GrantState.REMOVED, still_held_by="standing access")
    told = standing([grant], Unrowed(), world.clock())
    assert (told.removed, len(told.unverified), told.safe) == (0, 1, False)


def test_grant_whose_row_cannot_be_read_is_left_out_of_the_counts(world: World) -> None:
    """It was named and cannot be read: counted as unverified."""
    world.granted()
    called = panic(world)
    world.clock.forward(seconds=30)
    world.work()
    with world.house.store._database.writing() as db:
        db.execute("UPDATE grants SET state = 'opne'")
    told = stand(world.house, called.id, world.clock())
    assert len(told.unread) == 1 and not told.safe


def test_reason_of_a_panic_is_kept_in_the_clear(world: World) -> None:
    """Only a commitment is sealed; the text can be read, and every end names the same one."""
    grant = world.granted()
    called = panic(world)
    leaves = [leaf for _, leaf in world.house.store.events(called.id)]
    assert b"laptop" not in b"".join(leaves)
    assert world.house.store.text(called.reason) == "laptop stolen"
    ends = [read_event(leaf) for _, leaf in world.house.store.events(grant.request)]
    (closing,) = [event for event in ends if event.name == "grant.closing"]
    assert closing.data["comment"] == called.reason


def test_freeze_that_doctor_does_not_know(world: World) -> None:
    """Whoever wonders why nothing opens is told by doctor, with the way to open again."""
    called = panic(world, freeze=timedelta(hours=1))
    assert [one.id for one in _kept(world.house.store, ("prod",), world.clock()).panics] == [
        called.id
    ]


def test_late_end_is_nobodys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its bound and not removed: a finding with an owner, that stays when the end comes."""
    revoke = world.connector.revoke

    def silent(hold: Hold, now: Instant) -> Receipt:
        raise Refused("access_denied", "not allowed", "allow it")

    monkeypatch.setattr(world.connector, "revoke", silent)
    grant = world.granted()
    world.clock.forward(minutes=31)
    world.work()
    assert not world.house.store.findings(limit=10)
    for _ in range(6):
        world.clock.forward(minutes=1)
        world.work()
    (found,) = world.house.store.findings(limit=10)
    assert (found.kind, found.grant) == ("late", grant.id)
    monkeypatch.setattr(world.connector, "revoke", revoke)
    for _ in range(6):
        world.clock.forward(minutes=1)
        world.work()
    assert world.grant(grant).state is GrantState.GONE
    assert world.house.store.findings(limit=10)[0].state == "open"


def off(world: World, **span: float) -> None:
    """From now on the server's clock is that far from everybody else's."""
    world.house._clock = lambda: world.clock() + timedelta(**span)


def test_panic_on_a_slow_server_spares_what_is_open(world: World) -> None:
    """An hour slow, every id is from its future: all of it ends, and stays shut for as long."""
    world.clock.forward(hours=2)
    grant, pending = world.granted(), world.ask("eve")
    later = world.vote(world.ask("eve", start=world.clock() + timedelta(minutes=5)))
    world.clock.forward(minutes=1)
    off(world, hours=-1)
    called = panic(world, freeze=timedelta(minutes=30))
    assert (called.grants, called.requests) == (2, 1)
    assert world.grant(grant).state is GrantState.CLOSING
    (ready,) = world.house.store.grants(request=later.id)
    assert ready.state is GrantState.FAILED
    assert world.house.store.request(pending.id).state is RequestState.REFUSED
    assert called.frozen_until == world.clock() + timedelta(minutes=30)


def test_request_filed_on_a_fast_server_outlives_a_panic(world: World) -> None:
    """Its id says that it came an hour after the panic; the log knows better."""
    off(world, hours=1)
    voted, pending, late = world.ask(), world.ask("eve"), world.ask()
    off(world)
    world.vote(voted)
    world.work()
    world.vote(late)
    (grant,) = world.house.store.grants(request=voted.id)
    assert grant.state is GrantState.OPEN
    panic(world)
    world.work()
    assert world.grant(grant).state is not GrantState.OPEN
    (ready,) = world.house.store.grants(request=late.id)
    assert ready.cause == "ended_before"
    assert world.house.store.request(pending.id).state is RequestState.REFUSED
    assert world.ask("eve").state is RequestState.PENDING


def test_vote_between_two_readings_of_a_sweep(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request is approved while the sweep reads: it is met as pending or as its grant."""
    asked = world.ask()
    requests, raced = world.house.store.requests, []

    def slow(**wanted: object) -> list[Request]:
        if wanted.get("states") == frozenset({RequestState.PENDING}) and not raced:
            raced.append("once")
            world.vote(asked)
        return requests(**wanted)  # type: ignore[arg-type]

    called = call_panic(world.house, world.who("op"), ALL, "", None)
    monkeypatch.setattr(world.house.store, "requests", slow)
    sweep(world.house, called)
    monkeypatch.undo()
    world.work()
    (grant,) = world.house.store.grants(request=asked.id)
    assert raced and grant.state is GrantState.FAILED


def unsealed(world: World, scope: Scope = ALL, **more: object) -> None:
    """A panic that is called while the database cannot be written."""
    freeze = more.get("freeze")
    assert freeze is None or isinstance(freeze, timedelta)
    by = world.who("op").id
    wanted = Wanted(scope=scope, by=by, via="api", reason="laptop stolen", freeze=freeze)
    close_named(world.house, panic_unsealed(world.house, wanted))


def test_unsealed_panic_dies_with_its_process(world: World) -> None:
    """Killed before it could seal: the next process keeps its scope shut, seals it and its freeze,
    and the words leave the disk.
    """
    grant = world.granted()
    unsealed(world, freeze=timedelta(hours=1))
    kept = world.directory / "closing.journal.panics"
    assert kept.stat().st_mode & 0o777 == 0o600
    world.restart()
    assert world.ask("eve").code == "frozen"
    resume(world.house)
    (sealed,) = world.house.store.panics()
    assert (sealed.state, sealed.frozen_until) == (
        PanicState.SWEPT,
        world.clock() + timedelta(hours=1),
    )
    assert world.house.store.text(sealed.reason) == "laptop stolen"
    assert world.grant(grant).end_reason == "panic"
    assert world.ask("eve").code == "frozen"
    assert not kept.exists() and not world.house.wanted


def test_unsealed_panic_is_sealed_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the seal and forgetting that it waited: it is not called a second time, and
    what was opened since is left alone.
    """
    unsealed(world)
    with monkeypatch.context() as patched:
        patched.setattr(world.house.wanted, "drop", lambda id: None)
        resume(world.house)
    world.restart()
    assert world.house.wanted
    resume(world.house)
    assert len(world.house.store.panics()) == 1
    grant = world.granted()
    resume(world.house)
    assert world.grant(grant).state is GrantState.OPEN


def test_same_panic_waits_twice(world: World) -> None:
    """Called again because nobody answered: it waits once."""
    for _ in range(3):
        unsealed(world)
        world.clock.forward(seconds=5)
    assert len(world.house.wanted.all()) == 1


def test_damaged_file_of_panics_opens_everything(world: World) -> None:
    """What it kept shut is not known: nothing opens anywhere, ends go on."""
    grant = world.granted()
    (world.directory / "closing.journal.panics").write_text("0123456789abcdef {}\n")
    world.restart()
    assert world.ask("eve").code == "frozen"
    with pytest.raises(NotAllowed, match="cannot be read"):
        world.keys(grant)
    resume(world.house)
    world.clock.forward(minutes=31)
    world.work()
    assert world.grant(grant).state is GrantState.GONE


def test_login_in_an_unsealed_panic_means_nobody(world: World) -> None:
    """Called by a login on a machine without a database: whom it means is looked up when it is
    sealed, and until then nothing opens for anybody.
    """
    grant, other = world.granted(), world.granted("eve")
    by = Wanted(scope=Scope(ScopeKind.PRINCIPAL, "ana"), by="system", via="machine")
    world.house.wanted.keep(by, "pn_1", world.clock())
    assert world.ask("eve", role="dev/admin").code == "frozen"
    resume(world.house)
    assert world.grant(grant).end_reason == "panic"
    assert world.grant(other).state is GrantState.OPEN
    assert world.ask("eve", role="dev/admin").state is RequestState.APPROVED
    nobody = replace(by, scope=Scope(ScopeKind.PRINCIPAL, "nosuch"))
    world.house.wanted.keep(nobody, "pn_2", world.clock())
    resume(world.house)
    assert not world.house.wanted and len(world.house.store.panics()) == 1


def test_full_disk_forgets_a_panic(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file cannot be written, the process itself keeps it until it is sealed."""

    def full(self: PanicFile, work: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PanicFile, "change", full)
    unsealed(world)
    assert world.ask("eve").code == "frozen"
    resume(world.house)
    assert len(world.house.store.panics()) == 1 and not world.house.wanted


@pytest.mark.parametrize("how", ["called", "frozen", "unsealed"])
def test_panic_lets_one_way_in(world: World, how: str) -> None:
    """Filing, opening, keys, asking for a later end and moving one: all of them stop, while it is
    under way, while it is frozen, and while it could not be sealed yet.
    """
    held, moving = world.granted(), world.granted("eve")
    approved = world.vote(world.ask("eve", role="prod/admin"))
    later = world.vote(ask_longer(world, moving, "eve"))
    if how == "unsealed":
        wanted = Wanted(scope=ALL, by="system", via="machine")
        world.house.wanted.keep(wanted, "pn_1", world.clock())
    else:
        freeze = timedelta(hours=1) if how == "frozen" else None
        called = call_panic(world.house, world.who("op"), ALL, "", freeze)
        if how == "frozen":  # what it missed, as after an older database was restored
            world.house.store.commit(swept(called, 0, world.clock()))
    for _ in range(5):
        for grant in world.house.store.grants(request=approved.id):
            open_once(world.house, grant)
        apply_once(world.house, later)
        world.clock.forward(seconds=5)
    assert {one.state for one in world.house.store.grants(request=approved.id)} <= {
        GrantState.READY
    }
    assert world.house.store.request(later.id).applied_at is None
    assert world.grant(moving).ends_at == moving.ends_at
    assert ask_longer(world, held, "ana").code == "frozen"
    assert world.ask().code == "frozen"
    with pytest.raises(NotAllowed):
        world.keys(held)


def ask_longer(world: World, grant: Grant, login: str) -> Request:
    """An extension asked for."""
    asked = Asked(roles=(), duration=timedelta(minutes=10), reason="not done yet", extends=grant.id)
    return ask(world.house, world.who(login), asked)


def test_panic_that_waits_is_told_by_nobody(world: World) -> None:
    """`doctor` and the figures say that something is shut by a panic nobody could seal."""
    world.house.wanted.keep(Wanted(scope=ALL, by="system", via="machine"), "pn_1", world.clock())
    kept = _kept(world.house.store, ("prod",), world.clock())
    waiting = tuple(one.as_panic() for one in world.house.wanted.all())
    (check,) = _panics(replace(kept, panics=waiting))
    assert check.ok is False and "waits to be sealed" in check.says
    assert b"tidegate_panics 1.0" in Metrics(world.house).render("")[0]
