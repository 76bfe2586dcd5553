"""A simulation of hours: what it says when it is stopped, and that it goes on where it was."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sim.__main__ as command
from sim.ledger import world_files
from sim.oracle import Violation
from sim.points import names
from sim.run import Outcome

LIVES = 10
WORLDS = 5


def outcome_of(number: int) -> Outcome:
    """How a world of no run went."""
    broken = (Violation("I2", 7, "it acts"),) if number == 1 else ()
    return Outcome(
        number=number,
        head=f"head-{number}",
        lives=LIVES,
        uses=3,
        hits=Counter(names()),
        checks=Counter({"I2": 4}),
        violations=broken,
        told=("a step",) if broken else (),
        cpu=0.25,
    )


class Runner:
    """Stands in for the worlds: tells which were run, and may be stopped after some."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.stop_after = WORLDS

    def __call__(
        self, seed: str, lifecycles: int, jobs: int, done: Sequence[Outcome] = ()
    ) -> Iterator[Outcome]:
        for number in range(len(done), lifecycles // LIVES):
            if len(self.ran) == self.stop_after:
                raise KeyboardInterrupt
            self.ran.append(number)
            yield outcome_of(number)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    """The command runs these worlds."""
    found = Runner()
    monkeypatch.setattr(command, "run_many", found)
    return found


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """`python -m sim WORDS`."""
    every = ["--seed", "7", "--lifecycles", str(WORLDS * LIVES), "--json", *words]
    monkeypatch.setattr("sys.argv", ["sim", *every])
    return command.main()


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The object it printed."""
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_stopped_run_begins_at_its_first_world_again(
    runner: Runner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two worlds before it was stopped, three after: together what one run says."""
    ledger = str(tmp_path / "out" / "7.jsonl")
    assert run(monkeypatch) == 1  # world 1 is broken
    whole = told(capsys)
    runner.ran.clear()
    runner.stop_after = 2
    assert run(monkeypatch, "--ledger", ledger) == command.STOPPED
    part = told(capsys)
    assert part["stopped"]
    assert part["worlds"] == 2
    runner.ran.clear()
    runner.stop_after = WORLDS
    assert run(monkeypatch, "--ledger", ledger, "--resume") == 1
    rest = told(capsys)
    assert runner.ran == [2, 3, 4]
    assert rest["worlds_from_before"] == 2
    for name in ("head", "lifecycles", "uses_judged", "violations", "checks", "fault_points"):
        assert rest[name] == whole[name]


def test_world_whose_line_was_torn_counts(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is run again, and every world after it."""
    ledger = tmp_path / "7.jsonl"
    run(monkeypatch, "--ledger", str(ledger))
    ledger.write_bytes(ledger.read_bytes()[:-20])
    runner.ran.clear()
    run(monkeypatch, "--ledger", str(ledger), "--resume")
    assert runner.ran == [WORLDS - 1]


@pytest.mark.parametrize("change", ["seed", "code", "other"])
def test_worlds_of_another_run_count(
    change: str, runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another seed, of code that has changed since, or no ledger at all: refused."""
    ledger = tmp_path / "7.jsonl"
    run(monkeypatch, "--ledger", str(ledger))
    head, *rest = ledger.read_text().splitlines()
    first = {**json.loads(head), change: "another"} if change != "other" else ["a list"]
    ledger.write_text("\n".join([json.dumps(first), *rest]))
    kept = ledger.read_bytes()
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, "--ledger", str(ledger), "--resume")
    assert "expected a ledger of" in str(refused.value)
    assert ledger.read_bytes() == kept


def test_run_without_resume_takes_old_worlds_for_new_ones(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay runs everything again: otherwise the same head would say nothing."""
    ledger = str(tmp_path / "7.jsonl")
    run(monkeypatch, "--ledger", ledger)
    runner.ran.clear()
    run(monkeypatch, "--ledger", ledger)
    assert runner.ran == list(range(WORLDS))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--mutants", "no-such-bug"), "expected a bug of sim/mutants.py"),
        (("--lifecycles", "-1"), "expected --lifecycles 0 or more"),
        (("--resume",), "expected --ledger FILE with --resume"),
    ],
)
def test_bad_words_begin_a_run(
    words: tuple[str, ...],
    why: str,
    runner: Runner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What nobody can mean is refused before any world runs, and never called a success."""
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, *words)
    assert refused.value.code == 2
    assert why in capsys.readouterr().err
    assert runner.ran == []


def test_broken_world_is_told_only_at_the_end(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever waits for hours learns of it at once."""
    runner.stop_after = 2
    run(monkeypatch)
    assert "world 7/1 is broken: I2 it acts" in capsys.readouterr().err


def test_code_of_a_run_is_less_than_what_a_world_imports() -> None:
    """A change to it would go by unseen; one to what no world comes to voids no run."""
    names = "[m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in ('sim', 'tidegate')]"
    told = subprocess.run(
        [sys.executable, "-c", f"import json, sim.run, sys; print(json.dumps({names}))"],
        check=True,
        capture_output=True,
    )
    hashed = world_files()
    assert set(json.loads(told.stdout)) <= {str(path) for path in hashed.values()}
    assert {"tidegate.flow.expiring", "sim.oracle", "tidegate.store.migrations.env"} <= set(hashed)
    assert not [name for name in hashed if ".cli." in name or ".api." in name or "aws" in name]
