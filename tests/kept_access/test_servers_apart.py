"""Servers whose clocks differ, and two releases on one database: nobody keeps access by either."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from tests.kept_access.simulated import MINUTE, SECOND_NAME, KindWorld, laws_of
from tidegate.base.errors import TidegateError
from tidegate.base.when import to_ms
from tidegate.connectors.role_kinds import IAM_ROLE
from tidegate.connectors.simulated import ASSIGNMENT, Fault, FaultKind
from tidegate.evidence.journal import ClosingJournal
from tidegate.flow.asking import Asked, ask
from tidegate.flow.revoking import end_early
from tidegate.grant import GrantState
from tidegate.store import Share

BOTH = pytest.mark.parametrize("kind", [IAM_ROLE, ASSIGNMENT])


@pytest.fixture
def world(kind: str, tmp_path: Path, database: str) -> Iterator[KindWorld]:
    """An installation whose roles are of that kind."""
    made = KindWorld(tmp_path, laws=laws_of(kind), kind=kind, url=database)
    yield made
    made.down()


def apart(world: KindWorld, span: timedelta) -> None:
    """From now on the server's own clock is `span` ahead of the database's and the cloud's."""
    world.house._clock = lambda: world.clock() + span


@BOTH
@pytest.mark.parametrize("minutes", [-10, 10])
def test_server_whose_clock_is_off_opens(world: KindWorld, minutes: int) -> None:
    """More than a second from the database's clock, either way: it opens nothing."""
    apart(world, minutes * MINUTE)
    request = world.vote(world.ask())
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.READY
    assert world.connector.calls["grant"] == 0


@BOTH
def test_server_whose_clock_is_slow_ends_late(world: KindWorld) -> None:
    """Ten minutes slow and alone: the end comes by the database's clock, not by its own."""
    grant = world.granted()
    taken = world.take(grant)
    apart(world, -10 * MINUTE)
    world.clock.forward(minutes=29, seconds=59)
    world.work()
    assert world.grant(grant).state is GrantState.OPEN
    world.clock.forward(seconds=1)
    world.work()
    assert not world.acts(taken)
    assert world.grant(grant).state is not GrantState.OPEN
    world.until(grant, GrantState.GONE)
    world.nothing_left(taken)


@BOTH
def test_server_whose_clock_is_fast_never_ends(world: KindWorld) -> None:
    """Ten minutes fast: it ends early rather than late, and is gone at last."""
    grant = world.granted()
    taken = world.take(grant)
    apart(world, 10 * MINUTE)
    world.clock.forward(minutes=21)
    world.work()
    assert world.grant(grant).state is not GrantState.OPEN
    world.until(grant, GrantState.GONE)
    world.nothing_left(taken)


@BOTH
def test_worker_that_dies_an_hour_ahead_leaves_an_end_asleep(world: KindWorld) -> None:
    """It tried once, put the end to sleep by its own clock, and is gone: others go on at once."""
    grant = world.granted()
    taken = world.take(grant)
    apart(world, 60 * MINUTE)
    world.connector.script(Fault(kind=FaultKind.REFUSE, count=1_000))
    world.work()
    assert world.grant(grant).state is GrantState.CLOSING
    world.connector.calm()
    world.restart()
    for _ in range(4):
        world.clock.forward(seconds=10)
        world.work()
    assert world.grant(grant).state in (GrantState.REMOVED, GrantState.GONE)
    assert not world.acts(taken)


@BOTH
def test_lease_of_a_dead_worker_keeps_an_end_waiting(world: KindWorld) -> None:
    """What it had in hand is taken on ten seconds after its last beat, not when its lease ends."""
    grant = world.granted()
    taken = world.take(grant)
    world.clock.forward(minutes=30)
    store = world.house.store
    store.end_due(world.clock())
    store.beat("worker:dead", world.clock(), "")
    share = Share(a_target=9, by="worker:dead")
    assert store.claim_due(world.clock(), 1, timedelta(minutes=2), share)
    world.work()
    assert world.grant(grant).state is GrantState.CLOSING
    world.clock.forward(seconds=16)
    world.work()
    world.clock.forward(seconds=10)
    world.work()
    assert world.grant(grant).state is not GrantState.CLOSING
    assert not world.acts(taken)


def migrated_further(world: KindWorld) -> None:
    """A newer release migrates the database, and this process runs on."""
    world.house.store._writer.run(
        lambda db: db.execute("UPDATE alembic_version SET version_num = '9999'")
    )


@BOTH
def test_older_release_on_a_newer_schema_keeps_access(world: KindWorld) -> None:
    """A newer release migrated the database under a running one: what is due ends all the same,
    and no key is given meanwhile.
    """
    grant = world.granted()
    taken = world.take(grant)
    migrated_further(world)
    with suppress(TidegateError):
        world.ask("eve")
    if world.kind == IAM_ROLE:
        with pytest.raises(TidegateError) as refused:
            world.take(grant)
        assert refused.value.code == "schema_moved"
    world.clock.forward(minutes=30)
    for _ in range(30):
        world.clock.forward(seconds=5)
        world.worker.tick()
    world.nothing_left(taken)
    with pytest.raises(TidegateError) as told:
        world.restart()
    assert told.value.code == "newer_schema"


@BOTH
def test_overlapping_grants_wait_for_each_other_in_an_older_release(world: KindWorld) -> None:
    """Both are due and the rows, which it may not write, have both as holders: both end."""
    one, other = world.granted(), world.granted(role=SECOND_NAME)
    world.settle(1)
    taken = [world.take(one), world.take(other)]
    migrated_further(world)
    world.clock.forward(minutes=31)
    for _ in range(30):
        world.clock.forward(seconds=5)
        world.worker.tick()
    for held in taken:
        world.nothing_left(held)


@BOTH
def test_older_release_takes_what_a_newer_holds_on(world: KindWorld) -> None:
    """What a newer release opened on the same access, or moved on, is not taken by an end of the
    older one's journal: the rows say who holds it, and until when.
    """
    one, other = world.granted(), world.granted(role=SECOND_NAME)
    world.settle(1)
    kept = world.take(other)
    later = to_ms(world.clock() + 60 * MINUTE)
    world.house.store._writer.run(
        lambda db: db.execute("UPDATE grants SET ends_at_ms = ? WHERE id = ?", (later, other.id))
    )
    migrated_further(world)
    world.clock.forward(minutes=31)
    for _ in range(10):
        world.clock.forward(seconds=5)
        world.worker.tick()
    if world.kind == ASSIGNMENT:  # keys of a role end by what they carry: only the removal is ours
        assert world.acts(kept)
    closed = [line.grant for line in world.house.journal.read() if line.kind == "removed"]
    assert closed == [] if world.kind == ASSIGNMENT else [one.id]


@BOTH
def test_older_release_hurries_after_an_extension(world: KindWorld) -> None:
    """It cannot make an end later that the newer release approved: it tries that once, and not
    with every look, which would fill its journal and keep the newer one from the assignment.
    """
    grant = world.granted()
    asked = Asked(roles=(), duration=20 * MINUTE, reason="not done yet", extends=grant.id)
    world.vote(ask(world.house, world.who("ana"), asked))
    migrated_further(world)
    before = len(world.house.journal.read())
    for _ in range(20):
        world.clock.forward(seconds=1)
        world.worker.tick()
    assert len(world.house.journal.read()) <= before + 1


def another_machine(world: KindWorld) -> None:
    """From now on the journal is one that never heard of what was opened."""
    world.house.journal = ClosingJournal(world.directory / "other.journal")


@BOTH
def test_end_that_a_dead_newer_release_left_waits_for_it(world: KindWorld) -> None:
    """What another machine opened, and leaves open beyond its end, is closed by an older release
    too: it can read the rows, though its journal never heard of the grant.
    """
    grant = world.granted()
    taken = world.take(grant)
    migrated_further(world)
    another_machine(world)
    world.clock.forward(minutes=30)
    world.settle(1)
    world.nothing_left(taken)
    closed = [line.grant for line in world.house.journal.read() if line.kind == "removed"]
    assert closed == [grant.id]


@BOTH
def test_early_end_asked_of_another_machine_is_promised(world: KindWorld) -> None:
    """The evidence cannot be written and another machine opened it: it is ended all the same."""
    grant = world.granted()
    world.settle(1)
    taken = world.take(grant)
    migrated_further(world)
    another_machine(world)
    with pytest.raises(TidegateError) as told:
        end_early(world.house, world.who("bo"), grant.id)
    assert told.value.code == "ended_unsealed"
    world.settle(1)
    world.nothing_left(taken)


@BOTH
@pytest.mark.parametrize("minutes", [1, 4])
def test_end_asked_of_a_server_that_is_fast_waits(world: KindWorld, minutes: int) -> None:
    """An early end is due at once for every worker, whatever the clock of the server it came by."""
    grant = world.granted()
    apart(world, minutes * MINUTE)
    end_early(world.house, world.who("ana"), grant.id)
    apart(world, 0 * MINUTE)
    before = world.connector.calls["revoke"]
    world.work()
    assert world.connector.calls["revoke"] > before
