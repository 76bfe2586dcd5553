"""A panic called of a server whose database is older than its journals."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.backups import backup, put_back
from tests.support import START, World
from tidegate.base.errors import NotFound
from tidegate.base.when import wire
from tidegate.catalogue import Assignment
from tidegate.connectors.port import Answer, Trouble
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.flow import panicking
from tidegate.flow.holding import hold_of_line
from tidegate.flow.house import LOG_FORKED, Wanted
from tidegate.flow.panic_names import named_by
from tidegate.flow.panic_standing import stand
from tidegate.flow.panic_unrowed import begin_of, begin_unrowed
from tidegate.flow.panicking import begin_panic, call_panic, scope_meant, sweep
from tidegate.grant import Grant, GrantState
from tidegate.panic import Panic, PanicState, Scope, ScopeKind
from tidegate.shell.api.words import panic_says
from tidegate.store import Store

ALL = Scope(ScopeKind.ALL)
NOBODY = Scope(ScopeKind.PRINCIPAL, "pr_nobody")


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


def is_all(world: World) -> bool:
    """Whether no other machine can have opened more: on PostgreSQL there may be some."""
    return not world.house.store.is_shared


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
    assert (told.removed, told.still_closing, told.safe) == (1, 0, is_all(world))
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
    assert (told.removed, told.safe) == (1, is_all(world))


def test_machine_that_did_not_sweep_leaves_open_what_its_journal_names(world: World) -> None:
    """Each look at a journal asks which panics were called since, whoever swept them."""
    grant = unrowed(world)
    ours = world.house.journal
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    assert panic(world).grants == 0  # of the machine that sweeps, which never heard of it
    world.house.journal = ours
    called = world.house.store.panics()[0]
    work(world)
    assert kinds(world, grant.id)[-2:] == ["closing", "removed"]
    assert named_by(world.house, called.id) == [grant.id]  # and so it is counted everywhere
    assert begin_unrowed(world.house) == []


@pytest.mark.parametrize(
    "scope", [Scope(ScopeKind.TARGET, "elsewhere"), Scope(ScopeKind.PRINCIPAL, "pr_other")]
)
def test_panic_ends_what_is_out_of_its_scope(world: World, scope: Scope) -> None:
    """What no row tells of has its end as the journal has it."""
    grant = unrowed(world)
    called = begin_panic(world.house, Wanted(scope=scope, by="pr_op", via="api"))
    assert sweep(world.house, called).grants == 0
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


def test_journal_nobody_can_read_keeps_a_panic_safe(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it names is not known, which is no success; a look names it once it can be read."""
    grant = unrowed(world)

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(world.house.journal, "book", broken)
        called = panic(world)
        told = stand(world.house, called.id, world.clock())
        assert (called.state, told.safe) == (PanicState.SWEPT, False)
        assert "cannot be read" in panic_says(called, told, world.clock())
    work(world)
    assert named_by(world.house, called.id) == [grant.id]
    assert stand(world.house, called.id, world.clock()).safe is is_all(world)


def test_journal_nobody_can_write_keeps_what_it_names_out_of_a_panic(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: it is named and not safe, and begun once there is room."""
    grant = unrowed(world)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(world.house.journal, "append_all", full)
        called = panic(world)
        told = stand(world.house, called.id, world.clock())
    assert named_by(world.house, called.id) == [grant.id]
    assert (told.not_verified, told.safe) == (1, False)
    assert ["`tidegate revoke --local` here" in one.says for one in told.beside] == [True]
    work(world)
    assert kinds(world, grant.id)[-2:] == ["closing", "removed"]


def test_line_that_says_too_little_is_called_removed(world: World) -> None:
    """Neither row nor line says what to close: a person has to look, and it is not safe."""
    line = JournalLine(kind="intended", grant="gr_1", at=world.clock(), data={})
    world.house.journal.append(line)
    called = panic(world)
    work(world, 30)
    told = stand(world.house, called.id, world.clock())
    assert (told.not_verified, told.still_closing, told.safe) == (1, 0, False)
    assert kinds(world, "gr_1") == ["intended"]


def test_sweep_that_died_after_it_began_them_names_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun in the journal, and the process died before it said so: named by whoever goes on."""
    grant = unrowed(world)
    called = call_panic(world.house, world.who("op"), ALL, "", None)
    with monkeypatch.context() as patch:
        patch.setattr(panicking, "name_in", lambda house, panic, names: panic)
        assert sweep(world.house, called).grants == 0
    assert kinds(world, grant.id)[-1] == "closing"
    assert begin_unrowed(world.house) == [grant.id]
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


@pytest.mark.parametrize(
    ("more", "counts"), [({"cut": False}, (1, 0, 0)), ({"held": True}, (0, 1, 0)), ({}, (0, 0, 0))]
)
def test_panic_leaves_out_what_its_journal_had_removed_in_part(
    world: World, more: dict[str, object], counts: tuple[int, int, int]
) -> None:
    """Removed before the panic, and its sessions were not seen cut, or something else gives the
    access: named and counted. Once no session can act any more it is removed.
    """
    grant = unrowed(world)
    data = {"alone": True} | more
    line = JournalLine(kind="removed", grant=grant.id, at=world.clock(), data=data)
    world.house.journal.append(line)
    called = panic(world)
    assert called.grants == bool(more)
    told = stand(world.house, called.id, world.clock())
    assert (told.still_closing, told.not_verified, told.removed) == counts
    world.clock.forward(hours=14)  # beyond the longest session, and a clock that is off
    told = stand(world.house, called.id, world.clock())
    assert (told.still_closing, told.removed) == (0, int("cut" in more))


@pytest.mark.parametrize("how", ["shared", "forked", "neither"])
def test_panic_is_safe_with_a_database_older_than_other_machines_know(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What our journal names proves it, or the witness does: others' journals may name more."""
    unrowed(world)
    monkeypatch.setattr(Store, "is_shared", how == "shared")
    if how == "forked":
        world.house.outside = lambda now: (Trouble(code=LOG_FORKED, message="it forks", help=""),)
    called = panic(world)
    work(world)
    told = stand(world.house, called.id, world.clock())
    assert (told.removed, told.settled) == (1, True)
    assert told.safe is (how == "neither")
    words = {"shared": "journals of other machines", "forked": "witnessed", "neither": "removed"}
    assert words[how] in panic_says(called, told, world.clock())


def test_damaged_panic_keeps_what_the_journal_alone_names_open(world: World) -> None:
    """Its row cannot be read; what it means to end ends, and so does what is due by the journal."""
    grant = unrowed(world)
    panic(world)
    world.house.journal = ClosingJournal(world.house.journal._path)  # another process
    with world.house.store._database.writing() as db:
        db.execute("UPDATE panics SET state = 'swetp'")
    work(world, 30)
    assert kinds(world, grant.id)[-1] == "removed"


def test_many_panics_hide_the_one_that_ends_it(world: World) -> None:
    """Everybody may call them for themselves, as often as they like, between two looks."""
    grant = unrowed(world)
    ours = world.house.journal
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    panic(world)
    for _ in range(120):
        begin_panic(world.house, Wanted(scope=NOBODY, by="pr_other", via="api"))
    world.house.journal = ours
    assert begin_unrowed(world.house) == [grant.id]


def test_panic_takes_what_another_grant_holds_by_the_rows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened since, upon the very same access: it goes with that one's end (I5)."""
    grant = unrowed(world)
    key = hold_of_line(world.house.journal.book().waiting[grant.id]).key
    row = Assignment(
        id="as_1",
        **asdict(key),
        holders=("gr_2",),
        deadline_at=world.clock() + timedelta(hours=1),
        stood_before=False,
        version=1,
    )
    monkeypatch.setattr(
        Store, "assignment_by_key", lambda self, asked: row if asked == key else None
    )
    called = panic(world)
    assert kinds(world, grant.id) == ["intended"]
    told = stand(world.house, called.id, world.clock())
    assert (told.not_verified, told.safe) == (1, False)


def test_person_an_older_database_lacks_cannot_be_panicked_for(world: World) -> None:
    """Whom only the journal names: their id is enough."""
    unrowed(world)
    line = replace_principal(world, "pr_01m83t4cm0msnh3qjhbzn6j079")
    scope = scope_meant(world.house, world.who("op"), ScopeKind.PRINCIPAL, str(line))
    assert scope == Scope(ScopeKind.PRINCIPAL, str(line))
    with pytest.raises(NotFound):
        scope_meant(world.house, world.who("op"), ScopeKind.PRINCIPAL, f"{line[:-1]}8")


def replace_principal(world: World, principal: str) -> str:
    """The journal names something of theirs too."""
    (line,) = world.house.journal.book().waiting.values()
    data = {**line.data, "principal": principal}
    world.house.journal.append(replace(line, grant="gr_2", data=data))
    return principal


@pytest.mark.parametrize("known", [True, False])
def test_what_was_removed_from_the_journal_acts_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """A session taken before may: until when is told, by the connector or else by the line."""
    grant = unrowed(world)
    (line,) = world.house.journal.book().waiting.values()
    data = {**line.data, "lingers_seconds": 3600} | ({} if known else {"connector": "elsewhere"})
    world.house.journal.append(replace(line, data=data))
    hour = timedelta(hours=1)
    monkeypatch.setattr(world.connector, "residual", lambda *_: hour)
    called = panic(world)
    gone = JournalLine(kind="removed", grant=grant.id, at=world.clock(), data={"alone": True})
    world.house.journal.append(gone)
    told = stand(world.house, called.id, world.clock())
    assert (told.removed, told.residual_until) == (1, world.clock() + hour)
    world.clock.forward(hours=2)
    assert stand(world.house, called.id, world.clock()).residual_until is None


def test_look_disturbs_a_sweep_that_goes_on(world: World) -> None:
    """The panic names nothing by it while it is swept: the sweep's next step would be stale."""
    grant = unrowed(world)
    called = call_panic(world.house, world.who("op"), ALL, "", None)
    assert begin_unrowed(world.house) == [grant.id]
    assert named_by(world.house, called.id) == []
    assert sweep(world.house, called).grants == 1


def test_odd_line_keeps_what_the_others_name_open(world: World) -> None:
    """Of the first second of the calendar, and of sessions that live for ever."""
    grant = unrowed(world)
    (line,) = world.house.journal.book().waiting.values()
    first = datetime.min.replace(tzinfo=UTC)
    world.house.journal.append(replace(line, grant="gr_2", at=first))
    odd = {**line.data, "connector": "elsewhere", "lingers_seconds": 10**15}
    world.house.journal.append(replace(line, grant="gr_3", data=odd))
    gone = JournalLine(kind="removed", grant="gr_3", at=world.clock(), data={"alone": True})
    called = panic(world)
    world.house.journal.append(gone)
    assert begin_unrowed(world.house) != []
    work(world)
    assert kinds(world, grant.id)[-1] == "removed"
    assert stand(world.house, called.id, world.clock()).removed == 3
