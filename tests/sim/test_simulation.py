"""The simulation: production code under faults, seeded bugs found, every run the same again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sim.mutants import MUTANTS
from sim.mutate import Mutant, StaleMutant, mutated
from sim.points import names, planned
from sim.run import hunt, rotating, run_world

from tidegate.grant import end_of

ROOT = Path(__file__).parents[2]
# Found within the first worlds; the others want more than a test has time for.
QUICK = (
    "end-a-minute-late",
    "end-a-second-late",
    "end-counts-from-claim-by",
    "opens-before-start",
    "late-opening-shifts-window",
    "cloud-before-intent",
    "stop-after-six-tries",
    "stop-after-one-try",
    "removed-as-gone",
    "residual-forgotten",
    "residual-without-derived",
    "cut-believed",
    "removal-skipped",
    "closing-waits-for-gate",
    "bulk-ends-early",
    "bound-to-session-life",
    "no-disarm-check",
)
FIXED = (0, 1, 2, 3)  # one of them calm
SEEDS = 60  # lifecycles of a world here


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


@pytest.mark.parametrize("mutant", rotating(commit(), 8, among=QUICK), ids=lambda one: one.name)
def test_seeded_bug_survives(mutant: Mutant) -> None:
    """Some of the mutants, others at each commit: each is found."""
    assert hunt("1", mutant, worlds=4).world is not None, mutant.sentence


def test_replay_is_another_run() -> None:
    """One seed is one run: the same log in two processes with other hash seeds."""
    heads = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "sim", "--seed", "again", "--lifecycles", "30", "--json",
             "--jobs", "1"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        heads.add(json.loads(done.stdout)["head"])
    assert len(heads) == 1


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


def test_fault_point_is_never_planned() -> None:
    """Within a hundred and fifty worlds every fault point is featured somewhere."""
    from random import Random

    featured = set()
    for number in range(150):
        chances = planned(Random(f"1/{number}"), number)
        featured |= {name for name, chance in chances.items() if chance > 0.002}
    assert featured == set(names())
