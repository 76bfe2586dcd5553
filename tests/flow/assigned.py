"""A world where `prod/admin` is an assignment, which lives apart from the sessions taken by it, and
what the tests of it do: let time pass, lose the database, act on another machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.backups import lose
from tests.support import ARN, World, catalogue, laws
from tidegate.catalogue import AssignmentKey
from tidegate.evidence.journal import ClosingJournal
from tidegate.flow.governing import put_in_force

KEY = AssignmentKey(
    connector="simulated",
    account="123456789012",
    native_role=f"{ARN}-prod",
    native_principal="ana",
)


def assign(world: World) -> World:
    """The same world, with `prod/admin` an assignment from now on."""
    found = catalogue()
    role = replace(found.roles["prod/admin"], kind="assignment", probe="")
    put_in_force(world.house, laws(found=replace(found, roles={**found.roles, role.id: role})))
    return world


def settle(world: World, minutes: float) -> None:
    """Let the worker have its tries for a while."""
    for _ in range(int(minutes * 12)):
        world.clock.forward(seconds=5)
        world.work()


def without_database(world: World, minutes: int) -> None:
    """The database is gone; the worker goes on."""
    lose(world)
    for _ in range(minutes):
        world.clock.forward(minutes=1)
        world.worker.tick()


@contextmanager
def elsewhere(world: World) -> Iterator[None]:
    """On another machine: the same database, and a journal of its own."""
    ours = world.house.journal
    world.house.journal = ClosingJournal(world.directory / "other.journal")
    try:
        yield
    finally:
        world.house.journal = ours
