"""Runs worlds: one, or many on several cores, with or without a seeded bug."""

import gc
import hashlib
import itertools
import logging
import multiprocessing
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import structlog

from sim.aims import AIMED
from sim.book import BUG
from sim.loop import START
from sim.mutants import MUTANTS
from sim.mutate import Mutant, mutated
from sim.oracle import Broken, Violation
from sim.points import LONG, is_long, planned
from sim.scene import CROWDED, DIVIDED, SCENES, WHOLE, Scene
from sim.world import World, installed
from tidegate.base.errors import TidegateError

HUNTED = 50  # wishes of a world in which a mutant is hunted
AIMED_TRIES = 6  # numbers of the aimed scene, from the one named on: code that changes shifts luck
AHEAD = 3  # worlds a process may be ahead of the one whose turn it is: the order decides the end
WORLDS_A_PROCESS = 16  # then a fresh one takes its place, with none of its memory


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one world went. `head` is the root of its log; `checks` how often each checker was
    asked; `told` its last steps; `cpu` the seconds of one core that it took.
    """

    number: int
    head: str
    lives: int
    uses: int
    hits: Counter[str]
    checks: Counter[str]
    violations: tuple[Violation, ...]
    told: tuple[str, ...]
    cpu: float


def scene_of(number: int) -> Scene:
    """What world `number` of a seed is like."""
    if not is_long(number):
        return CROWDED
    return DIVIDED if number % (2 * LONG) == LONG - 1 else WHOLE


def run_world(
    seed: str, number: int, wishes: int | None = None, stop_at_once: bool = False
) -> Outcome:
    """World `number` of a seed: always the same. `wishes` are people's; None: as its scene has."""
    name, scene = f"{seed}/{number}", scene_of(number)
    wishes = wishes or scene.lives
    world = World(name, wishes, planned(Random(name), number, wishes), scene)
    return _run(world, number, stop_at_once)


def _run(world: World, number: int, stop_at_once: bool) -> Outcome:
    before = structlog.get_config()  # put back: whoever reads the log after a world wants it
    structlog.configure(wrapper_class=_telling(world))
    began = time.process_time()
    world.stop_at_once = stop_at_once
    searched = gc.isenabled()
    gc.disable()  # what a world is made of lives as long as it does; it is let go of at the end
    try:
        with suppress(Broken), installed(world.loop):
            world.run()
    finally:
        structlog.configure(**before)
        if searched:
            gc.enable()
    told = tuple(f"{at / 1000:>10.3f} s  {words}" for at, words in world.told_until_broken)
    gc.collect()
    return Outcome(
        number=number,
        head=world.head,
        lives=len(world.oracle.lives),
        uses=sum(world.oracle.uses.values()),
        hits=world.plan.hits,
        checks=world.oracle.ran,
        violations=tuple(world.oracle.violations),
        told=told,
        cpu=time.process_time() - began,
    )


def _telling(world: World) -> type:
    """A logger that says nothing, and tells the world of what a rim of the production code took: a
    mistake there, or in the world's own ports, would show nowhere else. A fault of the world itself
    (a disk, a database) is none.
    """
    quiet: Any = structlog.make_filtering_bound_logger(logging.CRITICAL)

    def exception(_: object, event: str, *args: object, **more: object) -> None:
        bug = sys.exception()
        if bug is not None and not isinstance(bug, OSError | TidegateError):
            world.loop.bugs.append((event, bug))

    return type("Telling", (quiet,), {"exception": exception})


def run_many(
    seed: str, lifecycles: int, jobs: int, done: Sequence[Outcome] = ()
) -> Iterator[Outcome]:
    """Worlds in order, after those that are `done`, until there were as many lifecycles.

    On `jobs` processes. How many worlds there are depends on the seed alone, not on which process
    was faster.
    """
    lives = sum(outcome.lives for outcome in done)
    if lives >= lifecycles:
        return
    with multiprocessing.get_context("fork").Pool(
        jobs, _deaf, maxtasksperchild=WORLDS_A_PROCESS
    ) as pool:
        waiting: deque[Any] = deque()
        for number in itertools.count(len(done)):
            waiting.append(pool.apply_async(run_world, (seed, number)))
            if len(waiting) < jobs * AHEAD:
                continue
            outcome: Outcome = waiting.popleft().get()
            lives += outcome.lives
            yield outcome
            if lives >= lifecycles:
                pool.terminate()
                return


def _deaf() -> None:
    """Ctrl-C is for the process that gathers: it stops the others, by SIGTERM at once: a handler in
    Python would not run in one that waits for work.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def run_scene(scene: str, number: int, stop_at_once: bool = False) -> Outcome:
    """World `number` of a small scene: always the same."""
    aimed = SCENES[scene]
    name = f"{scene}/{number}"
    return _run(World(name, aimed.lives, dict(aimed.faults), aimed), number, stop_at_once)


@dataclass(frozen=True, slots=True)
class Killed:
    """How a mutant fared: found in which world by which rule and what had struck; or not."""

    mutant: str
    sentence: str
    world: str | None
    rule: str
    words: str
    faults: tuple[str, ...]
    seconds: float


def hunt(seed: str, mutant: Mutant, worlds: int, lifecycles: int = HUNTED) -> Killed:
    """Run worlds with the bug in until one is found wrong: first the one that is aimed at it.

    That the product refuses to go on counts, as `crash`. Any other exception, also one that a rim
    took, is a mutant that does not fit any more, and so one that is not killed.
    """
    began = time.perf_counter()
    tries: list[tuple[str, Callable[[], Outcome]]] = []
    if mutant.name in AIMED:
        scene, first = AIMED[mutant.name]
        for number in range(first, first + AIMED_TRIES):
            tries.append((f"{scene}/{number}", partial(run_scene, scene, number, True)))
    for number in range(worlds):
        tries.append((f"{seed}/{number}", partial(run_world, seed, number, lifecycles, True)))
    with mutated(mutant):
        for name, run in tries:
            try:
                outcome = run()
            except TidegateError as bug:
                return _killed(mutant, name, "crash", f"{type(bug).__name__}: {bug}", (), began)
            except Exception as bug:  # noqa: BLE001 - whatever the changed words bring about
                return _killed(mutant, None, "", f"{type(bug).__name__}: {bug}", (), began)
            if outcome.violations:
                first = min(outcome.violations, key=lambda one: one.rule == BUG)
                found = None if first.rule == BUG else name
                faults = tuple(name for name, _ in outcome.hits.most_common(4))
                return _killed(mutant, found, first.rule, first.words, faults, began)
    return _killed(mutant, None, "", "", (), began)


def hunt_many(
    seed: str, mutants: Iterable[Mutant], worlds: int, lifecycles: int, jobs: int
) -> Iterator[Killed]:
    """Every mutant, on `jobs` processes, as they end."""
    work = [(seed, mutant, worlds, lifecycles) for mutant in mutants]
    if jobs <= 1:
        yield from map(_hunt, work)
        return
    with multiprocessing.get_context("fork").Pool(jobs, _deaf) as pool:
        yield from pool.imap_unordered(_hunt, work)


def rotating(turn: str, count: int, among: Sequence[str] = ()) -> tuple[Mutant, ...]:
    """`count` mutants, which ones is told by `turn` (a commit): all of them in time."""
    known = [one for one in MUTANTS if not among or one.name in among]
    first = int(hashlib.sha256(turn.encode()).hexdigest()[:8], 16) % len(known)
    return tuple(known[(first + step) % len(known)] for step in range(min(count, len(known))))


def head_of(outcomes: Iterable[Outcome]) -> str:
    """One digest of every world's log: what a replay must come to."""
    whole = hashlib.sha256()
    for outcome in sorted(outcomes, key=lambda one: one.number):
        whole.update(f"{outcome.number} {outcome.head}\n".encode())
    return whole.hexdigest()


def _hunt(work: tuple[str, Mutant, int, int]) -> Killed:
    return hunt(*work)


def _killed(
    mutant: Mutant, world: str | None, rule: str, words: str, faults: Any, began: float
) -> Killed:
    return Killed(
        mutant=mutant.name,
        sentence=mutant.sentence,
        world=world,
        rule=rule,
        words=words,
        faults=faults,
        seconds=time.perf_counter() - began,
    )


__all__ = ["START", "Killed", "Outcome", "head_of", "hunt", "run_many", "run_world"]
