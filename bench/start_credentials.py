"""How long `tidegate-credentials` takes to print cached keys, beside bare Python.

    python bench/start_credentials.py [RUNS]

Prints one JSON object, times in milliseconds: p50 and p95 of each command, run in turns so that the
box's noise falls on all alike, and the difference the aim is about (at most 60 ms over `python`).
No server is running: a cached answer needs none.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tidegate_credentials.cache import cache_path, instant, open_cache
from tidegate_credentials.keeping import write

RUNS = 30
AIM_MS = 60.0
SERVER = "http://127.0.0.1:8470"


def measure(runs: int = RUNS) -> dict[str, object]:
    """The table, from `runs` runs of each command."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PATH": os.environ["PATH"], "TIDEGATE_HOME": folder}
        environment["TIDEGATE_SERVER"] = SERVER
        _fill_cache(folder)
        helper = str(Path(sys.executable).parent / "tidegate-credentials")
        commands: Mapping[str, Sequence[str]] = {
            "python -I -S -c pass": [sys.executable, "-I", "-S", "-c", "pass"],
            "python -c pass": [sys.executable, "-c", "pass"],
            "tidegate-credentials, cached": [helper, "gr_bench"],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                taken[name].append(_run(command, environment))
    p50 = {name: _quantile(times, 0.50) for name, times in taken.items()}
    return {
        "runs": runs,
        "p50_ms": p50,
        "p95_ms": {name: _quantile(times, 0.95) for name, times in taken.items()},
        "over_python_ms": round(p50["tidegate-credentials, cached"] - p50["python -c pass"], 1),
        "aim_ms": AIM_MS,
    }


def _fill_cache(folder: str) -> None:
    later = instant(time.time() + 3600)
    entry = {
        "server": SERVER,
        "grant": "gr_bench",
        "role": "aws-prod/admin",
        "AccessKeyId": "ASIABENCH",
        "SecretAccessKey": "s" * 40,
        "SessionToken": "t" * 1_000,
        "ends_at": later,
        "expires_at": later,
        "refresh_at": later,
        "over": "",
    }
    write(cache_path(open_cache(folder), SERVER, "gr_bench"), entry)


def _run(command: Sequence[str], environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000


def _quantile(times: Sequence[float], part: float) -> float:
    return round(sorted(times)[min(len(times) - 1, int(len(times) * part))], 1)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS), indent=2))
