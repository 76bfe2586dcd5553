"""Clouds that do not answer: each keeps one hand, and everybody else's access is looked at."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import World, laws
from tidegate.base.errors import Unreachable
from tidegate.base.when import Instant
from tidegate.catalogue import Catalogue, Role, Target
from tidegate.connectors.port import Scope, Seen
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow.governing import put_in_force
from tidegate.flow.look_hands import FOR_SILENT, LOOK_HANDS
from tidegate.flow.reconciling import (
    LONGEST_RUN,
    LOOKED_AT_ONCE,
    help_reconcile,
    reconcile_some,
    reconcile_step,
)
from tidegate.main.wiring import _looks

Observe = Callable[[Scope, Instant], Iterable[Seen]]


def world_of(directory: Path, *names: str, kinds: int = 1) -> World:
    """A world with those targets, and roles of so many kinds on each."""
    made = World(directory)
    targets = {name: Target(id=name, connector="simulated", account=name) for name in names}
    roles = {
        f"{name}/{kind}": Role(id=f"{name}/{kind}", kind=kind, native={"arn": f"{name}-{kind}"})
        for name in names
        for kind in ("assignment", "iam-role")[:kinds]
    }
    put_in_force(made.house, laws(found=Catalogue(targets, roles)))
    return made


@contextmanager
def hanging(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], int]]:
    """Targets called `…-dead` hang until the end. Given is what sends a hand to look.

    It returns how many roles were looked at; zero also when the hand hangs by now.
    """
    release, real = threading.Event(), world.connector.observe
    hangs = threading.Semaphore(0)
    sent: list[threading.Thread] = []

    def observe(scope: Scope, now: Instant) -> Iterable[Seen]:
        if not scope.target.id.endswith("-dead"):
            return real(scope, now)
        hangs.release()
        release.wait(30)
        raise Unreachable("cloud_unreachable", "no answer")

    def send(hand: int) -> int:
        looked: list[int] = []
        ended = threading.Semaphore(0)

        def look() -> None:
            some = (
                reconcile_some(world.house, 50) if hand == 0 else help_reconcile(world.house, hand)
            )
            looked.append(some)
            ended.release()
            hangs.release()

        thread = threading.Thread(target=look)
        sent.append(thread)
        thread.start()
        assert hangs.acquire(timeout=30)
        return looked[0] if looked else 0

    monkeypatch.setattr(world.connector, "observe", observe)
    try:
        yield send
    finally:
        release.set()
        for thread in sent:
            thread.join(30)


def test_silent_cloud_keeps_the_looks_at_all_others_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While three targets hang, the fourth is looked at by the hand that is left."""
    world = world_of(tmp_path, "a-dead", "b-dead", "c-dead", "z-live")
    with hanging(world, monkeypatch) as send:
        assert send(0) == 0
        assert send(1) == 0  # not needed yet: the first hand may come back
        for hand in (1, 2):
            world.clock.forward(seconds=3)
            assert send(hand) == 0
        for _ in range(3):
            world.clock.forward(seconds=31)
            assert send(3) == 1


def test_scopes_wait_for_each_other_a_look_a_run(tmp_path: Path) -> None:
    """One run looks at many scopes, and at one role of each; or a large cloud takes minutes."""
    world = world_of(tmp_path, *(f"t{number:02}" for number in range(LOOKED_AT_ONCE + 1)))
    looks = next(_looks(world.house))
    looks.run()
    assert world.connector.calls["observe"] == LOOKED_AT_ONCE
    looks.run()
    assert world.connector.calls["observe"] == LOOKED_AT_ONCE + 1


def test_stop_waits_for_a_whole_run_of_slow_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one look takes as long as a run may, it is the only one of its run."""
    world = world_of(tmp_path, "a", "b", "c")
    observe = world.connector.observe

    def slow(scope: Scope, now: Instant) -> Iterator[Seen]:
        world.clock.forward(seconds=LONGEST_RUN.total_seconds())
        return observe(scope, now)

    monkeypatch.setattr(world.connector, "observe", slow)
    assert [reconcile_some(world.house, 50) for _ in range(3)] == [1, 1, 1]


def test_scopes_of_one_silent_target_take_a_hand_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that hangs has one hand, whatever it has scopes."""
    world = world_of(tmp_path, "a-dead", "z-live", kinds=2)
    with hanging(world, monkeypatch) as send:
        assert send(0) == 0
        world.clock.forward(seconds=3)
        assert send(1) == 2
        world.clock.forward(seconds=31)
        assert send(1) == 2


def test_many_silent_targets_take_every_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What did not answer the last time is for half of the hands; the others are for the rest."""
    dead = [f"a{number:02}-dead" for number in range(LOOK_HANDS + 2)]
    world = world_of(tmp_path, *dead, "z-live")
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="observe", count=len(dead)))
    for _ in dead:
        assert reconcile_step(world.house) is None
    world.clock.forward(minutes=3)
    with hanging(world, monkeypatch) as send:
        for hand in range(FOR_SILENT):
            assert send(hand) == 0
            world.clock.forward(seconds=31)
        assert send(FOR_SILENT) == 1


def test_target_that_answers_again_stays_with_the_hands_for_silent_ones(tmp_path: Path) -> None:
    """One answer is enough: from then on any hand may look at it."""
    world = world_of(tmp_path, "z-live")
    hands = world.house.look_hands
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="observe", count=1))
    assert reconcile_step(world.house) is None
    assert not hands.may_take(FOR_SILENT, "scope|z-live|assignment", "z-live")
    world.clock.forward(minutes=3)
    assert reconcile_step(world.house) is not None
    assert hands.may_take(FOR_SILENT, "scope|z-live|assignment", "z-live")
