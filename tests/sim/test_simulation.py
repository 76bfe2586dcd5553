"""The simulation: production code under faults, seeded bugs found, every run the same again."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from sim.aims import AIMED
from sim.mutants import MUTANTS
from sim.mutate import Mutant, StaleMutant, mutated
from sim.points import CALLS, FAINT, is_long, names, planned
from sim.ports import Ports, SimJournal
from sim.run import Outcome, head_of, hunt, rotating, run_many, run_scene, run_world
from sim.scene import CROWDED, WHOLE
from sim.world import START, World

from tidegate.base.when import wire
from tidegate.evidence.journal import JournalLine
from tidegate.grant import end_of

ROOT = Path(__file__).parents[2]
FIXED = (0, 1, 2, 3)  # one of them calm
SEEDS = 60  # lifecycles of a world here
FEW = 2  # the same where only the log counts
DEFAULT_LIVES = 20_000  # of `make sim`


def commit() -> str:
    """What is being tested, so that each commit tries other worlds and other mutants."""
    told = os.environ.get("TIDEGATE_SIM_TURN")
    if told:
        return told
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "no commit"


@pytest.mark.parametrize("number", FIXED)
def test_production_code_breaks_a_rule_under_faults(number: int) -> None:
    """Worlds of a fixed seed: no rule is broken, whatever fails."""
    outcome = run_world("fixed", number, SEEDS)
    assert outcome.violations == (), outcome.told
    assert outcome.lives
    assert outcome.uses > outcome.lives


@pytest.mark.parametrize("number", [1, 2])
def test_production_code_breaks_a_rule_in_worlds_never_seen(number: int) -> None:
    """Worlds no earlier commit has run."""
    outcome = run_world(commit(), number, SEEDS)
    assert outcome.violations == (), (commit(), number, outcome.told)


TURN = rotating(commit(), 20, among=sorted(AIMED))


@pytest.mark.parametrize("mutant", TURN, ids=lambda one: one.name)
def test_seeded_bug_survives(mutant: Mutant) -> None:
    """Twenty of the mutants, others at each commit: each is found, in the world aimed at it."""
    assert hunt("1", mutant, worlds=0).world is not None, mutant.sentence


@pytest.mark.parametrize("scene", sorted({AIMED[one.name] for one in TURN}), ids=str)
def test_world_aimed_at_a_bug_is_broken_without_it(scene: tuple[str, int]) -> None:
    """Otherwise finding the bug there would say nothing."""
    outcome = run_scene(*scene)
    assert outcome.violations == (), outcome.told


def test_replay_is_another_run() -> None:
    """One seed is one run: the same log in two processes with other hash seeds."""
    heads = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "sim", "--seed", "again", "--world", "1", "--wishes", "40",
             "--json"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        heads.add(json.loads(done.stdout)["head"])
    assert len(heads) == 1


def tiny(seed: str, number: int) -> Outcome:
    """A world in which next to nobody asks."""
    return run_world(seed, number, FEW)


def test_number_of_processes_changes_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tiny worlds have the same logs on one process and on two."""
    monkeypatch.setattr("sim.run.run_world", tiny)
    ran = [list(islice(run_many("jobs", DEFAULT_LIVES, jobs), 2)) for jobs in (1, 2)]
    assert [[one.number for one in outcomes] for outcomes in ran] == [[0, 1]] * 2
    assert len({head_of(outcomes) for outcomes in ran}) == 1
    assert all(one.head for one in ran[0])


def test_mutant_stays_in_the_code() -> None:
    """After a hunt the production code is as before."""
    before = end_of.__code__
    with mutated(MUTANTS[0]):
        assert end_of.__code__ is not before
    assert end_of.__code__ is before


def test_mutant_that_fits_nothing_passes_for_killed() -> None:
    """Every mutant still finds its words, and one that does not says so."""
    for mutant in MUTANTS:
        with mutated(mutant):
            pass
    gone = Mutant("gone", "gone", "grant:end_of", "no such words", "")
    with pytest.raises(StaleMutant), mutated(gone):
        pass


def test_mutants_are_named_alike() -> None:
    """A name is one mutant's."""
    assert len({one.name for one in MUTANTS}) == len(MUTANTS)


def featured(number: int) -> set[str]:
    """The points that may strike several times in world `number`; what may once is not meant."""
    chances = planned(Random(f"1/{number}"), number)
    return {
        name
        for name, chance in chances.items()
        if name.startswith("world.") or chance * CALLS[name.rpartition(".")[0]] > 1.1 * max(FAINT)
    }


def test_fault_point_is_featured_in_no_world_of_a_default_run() -> None:
    """The fewest worlds that `make sim` can have are enough, and long ones are not counted: of what
    happens in them the share of each verb is another.
    """
    fewest = range(DEFAULT_LIVES // CROWDED.lives)
    found = set().union(*(featured(number) for number in fewest if not is_long(number)))
    assert found == set(names())


def test_fault_point_strikes_every_call() -> None:
    """Of nothing that is called may so much fail that nothing opens, or never ends."""
    for number in range(DEFAULT_LIVES // CROWDED.lives):
        chances = planned(Random(f"1/{number}"), number)
        for verb in CALLS:
            whole = sum(chances.get(name, 0) for name in names() if name.startswith(f"{verb}."))
            assert whole < 1, (number, verb)


def test_calm_world_has_faults() -> None:
    """In every fourth nothing at all is planned: there the oracle forgives nothing."""
    assert [planned(Random("1"), number) for number in range(0, 40, 4)] == [{}] * 10


def test_journal_of_a_world_is_never_compacted() -> None:
    """Its port follows the production journal: what nobody needs any more is dropped, as there."""
    world = World("compact/0", 1, {}, WHOLE)
    try:
        journal = SimJournal(Ports(world, world.rise("one")), world.disk)
        at = START + timedelta(hours=1)
        data = {"ends_at": wire(at), "lingers_seconds": 0}
        for kind in ("intended", "removed", "gone", "sealed"):
            line = JournalLine(kind=kind, grant="gr_1", at=at, data=data)
            journal.disk.lines.append(line)
        assert journal.compact(at) == 0
        assert journal.compact(at + timedelta(hours=3)) == 4
        assert journal.disk.lines == []
    finally:
        world.close()


def test_mistake_that_a_rim_takes_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chore that fails by a bug of ours, at every start: the worker goes on, the world tells."""

    def mistaken(*_: object) -> int:
        raise AttributeError("a name that moved")

    monkeypatch.setattr(SimJournal, "compact", mistaken)
    outcome = run_world("fixed", 0, SEEDS)
    assert {one.rule for one in outcome.violations} == {"bug"}
