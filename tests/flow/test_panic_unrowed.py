"""A panic called of a server whose database is older than its journals."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.backups import backup, put_back
from tests.support import START, World
from tidegate.base.when import wire
from tidegate.connectors.port import Answer, Trouble
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.flow.house import LOG_FORKED
from tidegate.flow.panic_unrowed import begin_of, begin_unrowed
from tidegate.flow.panicking import call_panic, named_by, resume, stand, sweep
from tidegate.grant import Grant, GrantState
from tidegate.panic import Panic, PanicState, Scope, ScopeKind
from tidegate.shell.api.words import panic_says
from tidegate.store import Store

ALL = Scope(ScopeKind.ALL)


def panic(world: World, scope: Scope = ALL) -> Panic:
    """Called and swept."""
    return sweep(world.house, call_panic(world.house, world.who("op"), scope, "stolen", None))


def work(world: World, seconds: int = 60) -> None:
    """Let the worker have its looks."""
    for _ in range(seconds // 5):
        world.clock.forward(seconds=5)
        world.work()


def unrowed(world: World) -> Grant:
    """A grant that the journal names, and the database that was put back does not."""
    kept = backup(world)
    grant = world.granted()
    world.clock.forward(seconds=30)
    put_back(world, kept)
    assert not world.house.store.grants()
    return grant


def kinds(world: World, grant: str) -> list[str]:
    """The journal's lines of a grant."""
    return [line.kind for line in world.house.journal.read() if line.grant == grant]


def test_panic_of_a_server_is_safe_while_its_journal_alone_names_a_grant(world: World) -> None:
    """It is named, counted as closing, closed at the next look, and only then called removed."""
    grant = unrowed(world)
    called = panic(world)
    assert (called.state, called.grants) == (PanicState.SWEPT, 1)
    assert named_by(world.house, called.id) == [grant.id]
    told = stand(world.house, called.id, world.clock())
    assert (told.still_closing, told.safe, told.settled) == (1, False, False)
    work(world)
    assert kinds(world, grant.id)[-2:] == ["closing", "removed"]
    told = stand(world.house, called.id, world.clock())
    assert (told.removed, told.still_closing, told.safe) == (1, 0, True)
    again = panic(world)  # called anew, it has nothing left to name
    assert again.grants == 0


def test_grant_opened_after_the_backup_outlives_a_panic(world: World) -> None:
    """Its keys are refused within a look, long before its end."""
    kept = backup(world)
    grant = world.granted()
    keys = world.keys(grant)
    world.clock.forward(seconds=30)
    put_back(world, kept)
    panic(world)
    work(world, 30)
    assert world.use(keys) is Answer.DENIED


def test_panic_misses_what_was_ready_in_the_backup(world: World) -> None:
    """Its row is failed by the sweep as if it had never opened, and the journal knows better."""
    request = world.vote(world.ask())
    kept = backup(world)
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    put_back(world, kept)
    called = panic(world)
    assert (called.grants, world.grant(grant).state) == (1, GrantState.FAILED)
    told = stand(world.house, called.id, world.clock())
    assert (told.gone, told.still_closing, told.safe) == (0, 1, False)
    work(world)
    told = stand(world.house, called.id, world.clock())
    assert (told.removed, told.safe) == (1, True)


def test_machine_that_did_not_sweep_leaves_open_what_its_journal_names(world: World) -> None:
    """Each look at a journal asks which panics were called since, whoever swept them."""
    grant = unrowed(world)
    ours = world.house.journal
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    assert panic(world).grants == 0  # of the machine that sweeps, which never heard of it
    world.house.journal = ours
    work(world)
    assert kinds(world, grant.id)[-2:] == ["closing", "removed"]
    assert begin_unrowed(world.house) == []


@pytest.mark.parametrize(
    "scope", [Scope(ScopeKind.TARGET, "elsewhere"), Scope(ScopeKind.PRINCIPAL, "pr_other")]
)
def test_panic_ends_what_is_out_of_its_scope(world: World, scope: Scope) -> None:
    """What no row tells of has its end as the journal has it."""
    grant = unrowed(world)
    step = call_panic(world.house, world.who("op"), ALL, "", None)
    before = replace(step, kind=scope.kind, name=scope.name)
    world.house.store.panics = lambda **_: [before]  # type: ignore[method-assign]
    assert begin_unrowed(world.house) == []
    assert kinds(world, grant.id) == ["intended"]


@pytest.mark.parametrize(("after", "begun"), [(1_000, True), (1_001, False)])
def test_panic_ends_what_opened_after_it(world: World, after: int, begun: bool) -> None:
    """Opened when the panic was over, and lost with a database: it goes on to its end. As far as
    two clocks may be apart it may have been before.
    """
    called = panic(world, Scope(ScopeKind.TARGET, "prod"))
    for name, minutes in (("gr_1", -1), ("gr_2", 0)):  # of another target, and of this one
        at = called.called_at + timedelta(minutes=minutes, milliseconds=after)
        data = {"principal": "pr_1", "role": "prod/admin" if minutes == 0 else "dev/admin"}
        world.house.journal.append(JournalLine(kind="intended", grant=name, at=at, data=data))
    named = begin_of(world.house, called)
    assert named == (["gr_2"] if begun else [])


def test_panic_takes_part_in_an_opening(world: World) -> None:
    """Ready by its row and opened by the journal: the sweep decides whether it is the panic's."""
    request = world.vote(world.ask())
    kept = backup(world)
    world.work()
    put_back(world, kept)
    assert world.house.store.grants(request=request.id)[0].state is GrantState.READY
    called = call_panic(world.house, world.who("op"), ALL, "", None)
    assert begin_unrowed(world.house) == []
    assert sweep(world.house, called).grants == 1


def test_panic_begins_in_the_journal_what_has_a_row(world: World) -> None:
    """Such ends are sealed by the sweep and closed by the row: the journal adds nothing to them."""
    grant = world.granted()
    call_panic(world.house, world.who("op"), ALL, "", None)
    assert begin_unrowed(world.house) == []
    assert kinds(world, grant.id) == ["intended"]


def test_panic_is_swept_by_a_journal_nobody_can_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it names is not known, which is no success; the sweep is taken up again."""
    grant = unrowed(world)

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(world.house.journal, "book", broken)
        called = panic(world)
        assert called.state is PanicState.CALLED
    world.clock.forward(seconds=30)
    resume(world.house)
    assert world.house.store.panic(called.id).state is PanicState.SWEPT
    assert named_by(world.house, called.id) == [grant.id]


def test_line_that_says_too_little_is_called_removed(world: World) -> None:
    """Neither row nor line says what to close: a person has to look, and it is not safe."""
    line = JournalLine(kind="intended", grant="gr_1", at=world.clock(), data={})
    world.house.journal.append(line)
    called = panic(world)
    work(world, 30)
    told = stand(world.house, called.id, world.clock())
    assert (told.not_verified, told.still_closing, told.safe) == (1, 0, False)
    assert kinds(world, "gr_1") == ["intended"]


def test_sweep_that_died_after_it_began_them_names_none(world: World) -> None:
    """Begun in the journal, and the process died before it said so: named by whoever goes on."""
    grant = unrowed(world)
    called = call_panic(world.house, world.who("op"), ALL, "", None)
    begin_unrowed(world.house)
    assert sweep(world.house, called).grants == 1
    assert named_by(world.house, called.id) == [grant.id]


@pytest.mark.parametrize(
    ("more", "counts"),
    [
        ({"held": True}, (0, 1)),  # by what stood before: nothing says until when
        ({"held": True, "held_until": wire(START + timedelta(hours=1))}, (1, 0)),
        ({"cut": False}, (1, 0)),
    ],
)
def test_panic_calls_removed_what_may_be_used_still(
    world: World, more: dict[str, object], counts: tuple[int, int]
) -> None:
    """Read back, and something else gives the access, or its sessions were not seen cut."""
    grant = unrowed(world)
    called = panic(world)
    data = {"alone": True} | more
    line = JournalLine(kind="removed", grant=grant.id, at=world.clock(), data=data)
    world.house.journal.append(line)
    told = stand(world.house, called.id, world.clock())
    assert (told.still_closing, told.not_verified) == counts
    assert (told.removed, told.safe) == (0, False)


@pytest.mark.parametrize("how", ["shared", "forked", "neither"])
def test_panic_is_safe_with_a_database_older_than_other_machines_know(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What our journal names proves it, or the witness does: others' journals may name more."""
    unrowed(world)
    monkeypatch.setattr(Store, "shared", how == "shared")
    if how == "forked":
        world.house.outside = lambda now: (Trouble(code=LOG_FORKED, message="it forks", help=""),)
    called = panic(world)
    work(world)
    told = stand(world.house, called.id, world.clock())
    assert (told.removed, told.settled) == (1, True)
    assert told.safe is (how == "neither")
    assert ("journals of other machines" in panic_says(called, told, world.clock())) is (
        not told.safe
    )
