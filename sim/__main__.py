"""`make sim`: lifecycles under faults, every mutant hunted, every fault point counted.

python -m sim --seed 1 --lifecycles 20000 --mutants all
python -m sim --seed 1 --world 17              one world again, with its story
python -m sim --scene held --world 0            a small world that is aimed at some bug
python -m sim --seed 1 --mutants self-approval one mutant alone
python -m sim --ledger FILE --resume           goes on with a long run that was stopped
"""

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.checks import CHECKERS
from sim.ledger import ledger, note, worlds_of
from sim.mutants import MUTANTS
from sim.points import names
from sim.quiet import QUIET
from sim.run import HUNTED, Outcome, head_of, hunt_many, run_many, run_scene, run_world
from sim.scene import SCENES

MUTANT_WORLDS = 60  # worlds a mutant is hunted in before it is called a survivor
TELL_EVERY = 5.0  # seconds between two lines of progress
STOPPED = 130  # by Ctrl-C, as shells say it


def main() -> int:
    """Run what was asked; 0 when nothing was broken, no mutant survived, every point was hit."""
    asked = _asked()
    # In the background a shell has Ctrl-C ignored: being told to stop is then the way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if asked.world is not None:
        return _again(asked)
    ran = _lifecycles(asked)
    outcomes = ran.outcomes
    hits: Counter[str] = Counter()
    checks: Counter[str] = Counter()
    for outcome in outcomes:
        hits.update(outcome.hits)
        checks.update(outcome.checks)
    missed = [name for name in names() if not hits[name]]
    broken = [one for one in outcomes if one.violations]
    mutants = [] if ran.stopped else _mutants(asked)
    survivors = [one.mutant for one in mutants if one.world is None]
    lives = sum(one.lives for one in outcomes)
    told: dict[str, Any] = {
        "seed": asked.seed,
        "lifecycles": lives,
        "uses_judged": sum(one.uses for one in outcomes),
        "worlds": len(outcomes),
        "worlds_from_before": ran.before,
        "stopped": ran.stopped,
        "seconds": round(ran.seconds, 1),
        "lifecycles_a_second": round(ran.pace, 1),
        "lifecycles_a_cpu_second": _pace(lives, sum(one.cpu for one in outcomes)),
        "violations": [
            {"world": one.number, "rule": v.rule, "at_ms": v.at, "words": v.words}
            for one in broken
            for v in one.violations[:3]
        ],
        "checks": {name: checks[name] for name in (*CHECKERS, *QUIET)},
        "fault_points": {"all": len(names()), "hit": len(names()) - len(missed), "missed": missed},
        "mutants": {
            "all": len(mutants),
            "killed": len(mutants) - len(survivors),
            "survivors": survivors,
        },
        "head": head_of(outcomes),
    }
    if asked.json:
        print(json.dumps(told, indent=2))
    else:
        _tell(told, broken, asked)
    full = not asked.points or not missed
    if ran.stopped:
        return STOPPED
    return 0 if not broken and not survivors and full else 1


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", default="1", help="any text; the same one is the same run")
    parser.add_argument("--lifecycles", type=int, default=4_000, help="grants that open and end")
    parser.add_argument("--wishes", type=int, help="with --world: how often somebody asks there")
    parser.add_argument("--mutants", default="none", help="`all`, `none`, a count, or a name")
    parser.add_argument("--mutant-worlds", type=int, default=MUTANT_WORLDS)
    parser.add_argument("--world", type=int, help="only this world, with its last steps")
    parser.add_argument("--scene", choices=sorted(SCENES), help="with --world: of this scene")
    parser.add_argument("--jobs", type=int, default=2, help="processes: one a core")
    parser.add_argument("--points", action="store_true", help="fail when a fault point is missed")
    parser.add_argument("--ledger", type=Path, help="write down there how each world went")
    parser.add_argument("--resume", action="store_true", help="do not run again what stands there")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    asked = parser.parse_args()
    if asked.lifecycles < 0:
        parser.error(f"expected --lifecycles 0 or more, got {asked.lifecycles}")
    if asked.resume and asked.ledger is None:
        parser.error("expected --ledger FILE with --resume, got none")
    known = {one.name for one in MUTANTS}
    if asked.mutants not in ("all", "none") and not asked.mutants.isdigit():
        for name in asked.mutants.split(","):
            if name not in known:
                parser.error(f"expected a bug of sim/mutants.py, got `{name}`")
    return asked


@dataclass(slots=True)
class _Ran:
    """The worlds of a run; of how many the ledger told, and how fast the others were."""

    outcomes: list[Outcome]
    before: int
    seconds: float = 0.0
    stopped: bool = False

    @property
    def pace(self) -> float:
        """Lives a second of wall time, of the worlds that ran now."""
        lives = sum(outcome.lives for outcome in self.outcomes[self.before :])
        return _pace(lives, self.seconds)


def _pace(lives: int, seconds: float) -> float:
    return round(lives / seconds, 1) if seconds else 0.0


def _lifecycles(asked: argparse.Namespace) -> _Ran:
    try:
        done = worlds_of(asked.ledger, asked.seed) if asked.resume else []
    except ValueError as fault:
        sys.exit(f"{fault}\nstart anew: leave --resume out")
    ran = _Ran(done, before=len(done))
    if not asked.lifecycles:
        return ran
    if done:
        _say(f"goes on after {len(done)} worlds of {asked.ledger}")
    began = time.perf_counter()
    try:
        with ExitStack() as stack:
            lines = None
            if asked.ledger is not None:
                lines = stack.enter_context(ledger(asked.ledger, asked.seed, done))
            for outcome in _told(asked, ran, began):
                ran.outcomes.append(outcome)
                if lines is not None:
                    note(lines, outcome)
    except KeyboardInterrupt:
        ran.stopped = True
    ran.seconds = time.perf_counter() - began
    return ran


def _told(asked: argparse.Namespace, ran: _Ran, began: float) -> Iterator[Outcome]:
    """The worlds that are left, as they end, with a line of progress now and then."""
    lives = before = sum(outcome.lives for outcome in ran.outcomes)
    broken = sum(bool(outcome.violations) for outcome in ran.outcomes)
    told_at = began
    for outcome in run_many(asked.seed, asked.lifecycles, asked.jobs, ran.outcomes):
        yield outcome
        lives, broken = lives + outcome.lives, broken + bool(outcome.violations)
        if outcome.violations:
            first = outcome.violations[0]
            _say(f"world {asked.seed}/{outcome.number} is broken: {first.rule} {first.words}")
        now = time.perf_counter()
        if now - told_at >= TELL_EVERY:
            told_at, pace = now, (lives - before) / (now - began)
            _say(
                f"{outcome.number + 1} worlds, {lives} of {asked.lifecycles} lifecycles,"
                f" {pace:.0f} a second, {broken} broken,"
                f" {max(0, asked.lifecycles - lives) / pace / 60 if pace else 0:.0f} min to go"
            )


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _mutants(asked: argparse.Namespace) -> list[Any]:
    if asked.mutants == "none":
        return []
    chosen = MUTANTS
    if asked.mutants.isdigit():
        chosen = MUTANTS[: int(asked.mutants)]
    elif asked.mutants != "all":
        chosen = tuple(one for one in MUTANTS if one.name in asked.mutants.split(","))
    found = []
    for one in hunt_many(asked.seed, chosen, asked.mutant_worlds, HUNTED, asked.jobs):
        found.append(one)
        how = (
            f"killed in world {one.world} by {one.rule}: {one.words[:90]}"
            f" [{', '.join(one.faults) or 'no fault'}]"
            if one.world is not None
            else f"SURVIVED: {one.sentence} {one.words[:90]}".rstrip()
        )
        _say(f"{one.mutant:<28} {how}")
    return found


def _tell(told: dict[str, Any], broken: list[Outcome], asked: argparse.Namespace) -> None:
    for one in broken[:5]:
        print(f"\nworld {asked.seed}/{one.number} is broken:")
        for violation in one.violations[:5]:
            print(f"  {violation.rule} at {violation.at / 1000:.3f} s: {violation.words}")
        print("  the last steps:")
        for line in one.told[-15:]:
            print(f"    {line}")
        print(f"  again: python -m sim --seed {asked.seed} --world {one.number}")
    points, mutants = told["fault_points"], told["mutants"]
    if told["stopped"]:
        again = f"the same command with --resume goes on after {told['worlds']} worlds"
        print("\nstopped: " + (again if asked.ledger else "with --ledger FILE it could go on"))
    print(
        f"\n{told['lifecycles']} lifecycles, {told['uses_judged']} uses judged,"
        f" {len(told['violations'])} violations ({told['lifecycles_a_second']} a second,"
        f" {told['lifecycles_a_cpu_second']} a second of one core)"
        f"\n{mutants['killed']} of {mutants['all']} mutants killed"
        f"\n{points['hit']} of {points['all']} fault points hit"
        f"\nhead {told['head']}"
    )
    print("checks " + ", ".join(f"{name} {count:,}" for name, count in told["checks"].items()))
    for name in mutants["survivors"]:
        print(f"survivor: {name}")
    if points["missed"]:
        print("not hit: " + ", ".join(points["missed"]))


def _again(asked: argparse.Namespace) -> int:
    if asked.scene:
        outcome = run_scene(asked.scene, asked.world)
    else:
        outcome = run_world(asked.seed, asked.world, asked.wishes)
    if asked.json:
        print(json.dumps({"head": outcome.head, "lifecycles": outcome.lives}))
        return 1 if outcome.violations else 0
    for line in outcome.told:
        print(line)
    for violation in outcome.violations:
        print(f"{violation.rule} at {violation.at / 1000:.3f} s: {violation.words}")
    print(f"{outcome.lives} lifecycles, {len(outcome.violations)} violations, head {outcome.head}")
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
