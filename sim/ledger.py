"""A file with how each world of a run went, so that a run of hours that was stopped can go on.

One JSON object a line: first what the run is of (the seed and the code), then the worlds in order.
A world is the same whenever it runs, so one of the same seed and the same code need not run twice.
"""

import ast
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

import tidegate
from sim.oracle import Violation
from sim.run import Outcome

SCHEMA = "tidegate.store.migrations"  # whose steps are found by their place


@cache
def code_digest() -> str:
    """Of every source a world runs, ours and the simulation's, and of the Python it runs on.

    What no world comes to (the command line, the pages, the connectors of real clouds) may change
    beside a run of days.
    """
    whole = hashlib.sha256(sys.version.encode())
    for name, path in sorted(world_files().items()):
        whole.update(f"\n{name}\n".encode())
        whole.update(path.read_bytes())
    return whole.hexdigest()


def world_files() -> dict[str, Path]:
    """By name, the file of each module that a world imports, and the steps of its schema."""
    ours = {
        ".".join((root.name, *path.relative_to(root).with_suffix("").parts)): path
        for root in (Path(tidegate.__file__).parent, Path(__file__).parent)
        for path in root.rglob("*.py")
    }
    waiting = {"sim.run", *(name for name in ours if name.startswith(SCHEMA))}
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        for whole in (name, f"{name}.__init__"):
            if whole in ours and whole not in found:
                found[whole] = ours[whole]
                waiting |= _named(ours[whole])
        waiting |= {name.rpartition(".")[0]} - {""}
    return found


def _named(path: Path) -> set[str]:
    """What a file imports, wherever in it, and what of that may be modules as well."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
    return names


def worlds_of(path: Path, seed: str) -> list[Outcome]:
    """The worlds of this seed and this code that stand in the file, from number 0 without a gap.

    A last line that was torn is left out. None when there is no such file.

    Raises:
        ValueError: the file is of another seed or of other code, or no ledger.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    if not lines:
        return []
    _same_run(path, lines[0], seed)
    found: list[Outcome] = []
    for line in lines[1:]:
        try:
            outcome = _of_line(line)
        except (ValueError, KeyError, TypeError):
            break
        if outcome.number != len(found):
            break
        found.append(outcome)
    return found


@contextmanager
def ledger(path: Path, seed: str, done: list[Outcome]) -> Iterator[IO[str]]:
    """The file, begun anew with the worlds that are `done`, to `note` others in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as lines:
        lines.write(json.dumps({"seed": seed, "code": code_digest()}) + "\n")
        for outcome in done:
            note(lines, outcome)
        beside.replace(path)
        yield lines


def note(lines: IO[str], outcome: Outcome) -> None:
    """Write down how a world went."""
    lines.write(
        json.dumps(
            {
                "world": outcome.number,
                "head": outcome.head,
                "lives": outcome.lives,
                "uses": outcome.uses,
                "hits": outcome.hits,
                "checks": outcome.checks,
                "violations": [(one.rule, one.at, one.words) for one in outcome.violations],
                "told": outcome.told if outcome.violations else (),
                "cpu": round(outcome.cpu, 3),
            }
        )
        + "\n"
    )
    lines.flush()


def _same_run(path: Path, line: str, seed: str) -> None:
    try:
        run = json.loads(line)
        of = (run["seed"], run["code"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"expected a ledger of the simulation, got another file: {path}") from None
    if of[0] != seed:
        raise ValueError(f"expected a ledger of seed {seed}, got one of seed {of[0]}: {path}")
    if of[1] != code_digest():
        raise ValueError(f"expected a ledger of this code, got one of other code: {path}")


def _of_line(line: str) -> Outcome:
    data = json.loads(line)
    return Outcome(
        number=data["world"],
        head=data["head"],
        lives=data["lives"],
        uses=data["uses"],
        hits=Counter(data["hits"]),
        checks=Counter(data["checks"]),
        violations=tuple(Violation(*one) for one in data["violations"]),
        told=tuple(data["told"]),
        cpu=data["cpu"],
    )
