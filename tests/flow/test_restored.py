"""An older database is put back, or none can be written: what ended stays ended."""

from dataclasses import replace

import pytest
import structlog

from tests.backups import backup, locked, put_back
from tests.support import World, catalogue, laws, misshape
from tidegate.base.errors import EvidenceClosed, WorldFailed
from tidegate.connectors.port import Answer
from tidegate.evidence.journal import ClosingJournal
from tidegate.flow import recovering, revoking
from tidegate.flow.expiring import close_now
from tidegate.flow.governing import put_in_force
from tidegate.flow.mending import mend_cuts
from tidegate.flow.recovering import close_forgotten, close_without_store, look_back
from tidegate.flow.revoking import end_early
from tidegate.grant import GrantState


def settle(world: World, seconds: int = 60) -> None:
    """Let the worker have its tries for a while."""
    for _ in range(seconds // 5):
        world.clock.forward(seconds=5)
        world.work()


def test_revoked_keys_live_again_after_a_restore(world: World) -> None:
    """What the journal says was ended is ended again, and no credential is issued meanwhile."""
    grant = world.granted()
    keys = world.keys(grant)
    kept = backup(world)
    world.clock.forward(seconds=30)
    close_now(world.house, end_early(world.house, world.who("bo"), grant.id))
    put_back(world, kept)
    assert world.grant(grant).state is GrantState.OPEN
    assert close_forgotten(world.house) == [grant.id]
    assert world.grant(grant).state is GrantState.CLOSING
    settle(world)
    assert world.grant(grant).state is GrantState.GONE
    assert world.use(keys) is Answer.DENIED


def test_deny_pruned_for_a_grant_a_restored_database_never_knew(world: World) -> None:
    """A backup from before the request: its deny stands, whoever else is revoked afterwards."""
    kept = backup(world)
    grant = world.granted()
    keys = world.keys(grant)
    close_now(world.house, end_early(world.house, world.who("bo"), grant.id))
    put_back(world, kept)
    other = world.granted("eve")
    close_now(world.house, end_early(world.house, world.who("bo"), other.id))
    for _ in range(24):
        world.clock.forward(minutes=1)
        world.work()
        mend_cuts(world.house)
        assert world.use(keys) is Answer.DENIED
    for _ in range(12):
        world.clock.forward(minutes=1)
        mend_cuts(world.house)
    assert world.cloud.denies("123456789012", world.clock()) == ()


def test_grant_opened_twice_after_a_restore(world: World) -> None:
    """A backup from before the opening: what the journal says was opened never opens again."""
    request = world.vote(world.ask())
    kept = backup(world)
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.OPEN
    put_back(world, kept)
    assert world.grant(grant).state is GrantState.READY
    close_forgotten(world.house)
    world.work()
    assert world.grant(grant).state is GrantState.FAILED


def test_nobody_can_revoke_while_the_database_is_locked(world: World) -> None:
    """It is ended from the journal at once, that is told as such, and sealed later as revoked."""
    grant = world.granted()
    keys = world.keys(grant)
    with locked(world):
        with pytest.raises(WorldFailed) as told:
            end_early(world.house, world.who("bo"), grant.id)
        assert told.value.code == "ended_unsealed" and "was removed" in told.value.message
        assert world.use(keys) is Answer.DENIED
    settle(world)
    after = world.grant(grant)
    assert (after.state, after.end_reason) == (GrantState.GONE, "revoked")
    assert "journal.sealed" in world.names(grant.request)


def test_end_that_nobody_here_can_bring_about_is_promised(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No evidence, a journal that never heard of it, and nothing that says how to close it."""
    grant = world.granted()
    world.house.journal = ClosingJournal(world.directory / "other.journal")

    def lost(*_: object) -> bool:
        raise WorldFailed("entry_lost", "the entry is lost", "look for it")

    monkeypatch.setattr(revoking, "adopt", lost)
    with locked(world), pytest.raises(WorldFailed) as told:
        end_early(world.house, world.who("bo"), grant.id)
    assert told.value.code == "ended_unsealed"
    assert "cannot be closed from here" in told.value.message
    assert "is being closed" not in told.value.message


def test_revocation_with_nothing_writable_looks_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither evidence nor journal: an error that says to end it by hand, never a success."""
    grant = world.granted()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def closed(*_: object) -> None:
        raise EvidenceClosed("full", "no room", "make room")

    monkeypatch.setattr(world.house.journal, "append", full)
    monkeypatch.setattr(world.house.store, "commit", closed)
    with pytest.raises(EvidenceClosed) as told:
        end_early(world.house, world.who("bo"), grant.id)
    assert told.value.code == "nothing_writable" and "by hand" in told.value.help


def test_lost_catalogue_entry_stops_closing_and_mending(world: World) -> None:
    """One grant's entry is lost: it is closed by the journal's word, and the others' cuts stand."""
    lost, other = world.granted(), world.granted("eve")
    keys = world.keys(other, "eve")
    close_now(world.house, end_early(world.house, world.who("bo"), other.id))
    found = catalogue()
    renamed = replace(found.roles["prod/admin"], title="other", allows=("sts:AssumeRole",))
    put_in_force(
        world.house, laws(found=replace(found, roles={**found.roles, "prod/admin": renamed}))
    )
    world.house.store._writer.run(
        lambda db: db.execute("DELETE FROM documents WHERE digest = ?", (lost.role_digest,))
    )
    world.cloud.tamper("123456789012", _arn(), other.id, world.clock())
    world.clock.forward(seconds=5)
    assert mend_cuts(world.house) == [other.id]
    assert world.use(keys) is Answer.DENIED
    world.clock.forward(minutes=31)
    settle(world, 30)
    assert world.grant(lost).state is GrantState.GONE


@pytest.mark.parametrize("column", ["state", "opened_at_ms"])
@pytest.mark.parametrize("ended", [True, False])
def test_row_nobody_can_read_stops_the_mending_of_others(
    world: World, ended: bool, column: str
) -> None:
    """Another grant's cut is put back, and what the unreadable one's deny refuses stays refused."""
    broken, other = world.granted(), world.granted("eve")
    theirs, keys = world.keys(broken), world.keys(other, "eve")
    for one in (broken, other) if ended else (other,):
        close_now(world.house, end_early(world.house, world.who("bo"), one.id))
    world.cloud.deny("123456789012", _arn(), broken.id, world.clock())  # by another's journal
    misshape(world, broken.id, column)
    world.cloud.tamper("123456789012", _arn(), other.id, world.clock())
    world.clock.forward(seconds=5)
    assert mend_cuts(world.house) == [other.id]
    assert world.use(keys) is Answer.DENIED
    assert world.use(theirs) is Answer.DENIED


@pytest.mark.parametrize("column", ["state", "opened_at_ms"])
def test_cut_whose_row_nobody_can_read_is_let_go(world: World, column: str) -> None:
    """The journal says that it ended early: its deny is put back, as any other."""
    broken = world.granted()
    keys = world.keys(broken)
    close_now(world.house, end_early(world.house, world.who("bo"), broken.id))
    misshape(world, broken.id, column)
    world.cloud.tamper("123456789012", _arn(), broken.id, world.clock())
    world.clock.forward(seconds=5)
    mend_cuts(world.house)
    assert world.use(keys) is Answer.DENIED


def _arn() -> str:
    from tests.support import ARN

    return f"{ARN}-prod"


def test_one_broken_line_of_the_journal_stops_the_rest(world: World) -> None:
    """Without the database, a line that lacks a field is passed over and the others are closed."""
    from tidegate.evidence.journal import JournalLine

    grant = world.granted()
    broken = JournalLine(kind="intended", grant="gr_broken", at=world.clock(), data={"role": "x"})
    world.house.journal.append(broken)
    world.clock.forward(minutes=31)
    assert close_without_store(world.house) == [grant.id]


def test_restored_cut_that_could_not_be_sealed_is_forgotten(world: World) -> None:
    """Put back while the evidence cannot be written: sealed at the next look."""
    grant = world.granted()
    world.clock.forward(seconds=30)
    close_now(world.house, end_early(world.house, world.who("bo"), grant.id))
    world.cloud.tamper("123456789012", _arn(), grant.id, world.clock())
    with locked(world), pytest.raises(EvidenceClosed):
        mend_cuts(world.house)
    world.clock.forward(seconds=30)
    mend_cuts(world.house)
    assert "cut.restored" in world.names("target:prod")


def test_counts_lost_while_the_evidence_was_away(world: World) -> None:
    """A count goes only when it is sealed."""
    world.refusals.failed_signin(world.house, "192.0.2.7")
    world.clock.forward(minutes=2)
    with locked(world), pytest.raises(EvidenceClosed):
        world.refusals.flush(world.house)
    assert world.refusals.flush(world.house) == 1
    assert world.refusals.flush(world.house) == 0


def test_long_journal_keeps_serving_waiting_or_lets_a_dead_grant_be_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal too long to read at once is read by the worker: until then no credential is made of
    what it may say has ended, and nothing opens.
    """
    grant = world.granted()
    kept = backup(world)
    close_now(world.house, end_early(world.house, world.who("bo"), grant.id))
    put_back(world, kept)
    monkeypatch.setattr(recovering, "READ_AT_ONCE", 10)
    look_back(world.house)
    assert world.grant(grant).state is GrantState.OPEN  # serving did not wait for it
    with pytest.raises(WorldFailed, match="still reading"):
        world.keys(grant)
    asked = world.ask("eve", role="dev/admin")
    world.worker._look()  # a look before the chore that reads it
    (ready,) = world.house.store.grants(request=asked.id)
    assert ready.state is GrantState.READY
    world.work()
    assert world.grant(grant).state is not GrantState.OPEN
    assert world.grant(ready).state is GrantState.OPEN


def test_journal_nobody_can_read_keeps_a_start_from_ending_anything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is broken, and the database is well: what has rows ends by them, nothing opens and
    no credential is made; once it can be read all goes on. The log says why, without a traceback.
    """
    grant, other = world.granted(), world.granted("eve")
    kept = backup(world)
    close_now(world.house, end_early(world.house, world.who("bo"), other.id))
    put_back(world, kept)

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as said:
        patch.setattr(world.house.journal, "book", broken)
        look_back(world.house)
        assert not world.house.looked_back
        with pytest.raises(WorldFailed, match="or cannot"):
            world.keys(grant)
        asked = world.ask("ana", role="dev/admin")
        world.clock.forward(minutes=30)
        for _ in range(4):
            world.clock.forward(seconds=10)
            world.work()
        assert world.grant(grant).state in (GrantState.REMOVED, GrantState.GONE)
        (ready,) = world.house.store.grants(request=asked.id)
        assert ready.state is not GrantState.OPEN
    assert {"a look at the journal failed"} <= {one["event"] for one in said}
    assert not [one for one in said if "exc_info" in one]
    for _ in range(4):
        world.clock.forward(seconds=10)
        world.work()
    assert world.house.looked_back


def test_short_journal_is_read_before_anything_is_served(world: World) -> None:
    """What a short journal says has ended is sealed before the first request is answered."""
    grant = world.granted()
    kept = backup(world)
    close_now(world.house, end_early(world.house, world.who("bo"), grant.id))
    put_back(world, kept)
    look_back(world.house)
    assert world.house.looked_back
    assert world.grant(grant).state is GrantState.CLOSING
