"""A grant that failed: what the journal says of it when nobody told it so, and an older database.

Nothing of a refused opening is ours to take; what was opened before an older database failed it is.
"""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.backups import backup, put_back
from tests.flow.assigned import KEY
from tests.support import World, catalogue, laws
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal import JournalLine
from tidegate.flow.confirming import confirms
from tidegate.flow.governing import put_in_force
from tidegate.flow.panic_unrowed import begin_unrowed
from tidegate.flow.recovering import find_unknown, settle_journal
from tidegate.grant import Grant, GrantState


def settle(world: World, seconds: int = 60) -> None:
    """Let the worker have its tries for a while."""
    for _ in range(seconds // 5):
        world.clock.forward(seconds=5)
        world.work()


def assignments(world: World) -> None:
    """`prod/admin` is an assignment from now on."""
    found = catalogue()
    role = replace(found.roles["prod/admin"], kind="assignment", probe="")
    world.laws = laws(found=replace(found, roles={**found.roles, role.id: role}))
    put_in_force(world.house, world.laws)


def refused_and_untold(world: World, monkeypatch: pytest.MonkeyPatch) -> Grant:
    """The cloud refused its opening, and the journal could not be told that nothing was made."""
    assignments(world)
    append = world.house.journal.append_all

    def full(lines: Iterable[JournalLine]) -> None:
        for line in lines:
            if line.kind == "gone":
                raise OSError(28, "No space left on device")
            append([line])

    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="grant"))
    with monkeypatch.context() as patched:
        patched.setattr(world.house.journal, "append_all", full)
        request = world.vote(world.ask())
        world.worker.tick()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.FAILED and grant.id in world.house.journal.book().waiting
    return grant


def test_failed_grant_takes_what_somebody_gave_by_hand(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours was ever there: at its end nothing is taken, and the journal hears of it."""
    grant = refused_and_untold(world, monkeypatch)
    world.cloud.place(KEY, world.clock(), by="root")
    world.clock.forward(minutes=31)
    assert find_unknown(world.house) == frozenset()
    store, book = world.house.store, world.house.journal.book()
    assert not confirms(store, grant.id, book, world.clock())
    settle(world)
    assert world.cloud.assigned(KEY, world.clock())
    assert grant.id not in world.house.journal.book().waiting


def test_what_came_of_a_failed_grant_after_all_is_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its late opening is being closed again: the journal owes that until it is read back."""
    grant = refused_and_untold(world, monkeypatch)
    line = JournalLine(
        kind="closing", grant=grant.id, at=world.clock(), data={"reason": "leftover"}
    )
    world.house.journal.append(line)
    assert settle_journal(world.house) == []
    assert find_unknown(world.house) == {grant.id}
    world.house.asked.panics = -1
    begin_unrowed(world.house)
    assert not world.house.asked.older  # its row knows of the opening


def test_grant_that_failed_for_an_older_database_stays_open(world: World) -> None:
    """Put back from before its opening, which never comes there: it is closed when it is due."""
    assignments(world)
    world.vote(world.ask())
    kept = backup(world)
    world.work()
    assert world.cloud.assigned(KEY, world.clock())
    put_back(world, kept)
    settle(world)
    (grant,) = world.house.store.grants()
    assert grant.state is GrantState.FAILED and world.cloud.assigned(KEY, world.clock())
    assert world.house.asked.older
    world.clock.forward(minutes=31)
    settle(world)
    assert not world.cloud.assigned(KEY, world.clock())
