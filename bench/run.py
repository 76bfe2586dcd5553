"""`make bench`: every measurement in one run, as a table and as bench/out/bench.json.

    python -m bench.run [--json] [PART …]

Parts that are not run keep what an earlier run found, so that heavy ones can be run by themselves;
each part says when it was measured, and on what. Ratios count, not absolute figures: each part has
its own control (a fixed loop) and its own fdatasync probe beside what is measured.
"""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PARTS = (
    "commit",
    "commit-postgresql",
    "verify",
    "lifecycles",
    "start_credentials",
    "ending",
    "restart",
    "dispatch",
    "workers",
    "lateness",
    "reconcile",
)
OUT = Path(__file__).parent / "out" / "bench.json"


def main(asked: list[str]) -> int:
    """Run each part in a process of its own, one after the other; 2 for a part there is not."""
    as_json = "--json" in asked
    parts = [part for part in asked if part != "--json"] or list(PARTS)
    if wrong := [part for part in parts if part not in PARTS]:
        print(f"expected parts of {', '.join(PARTS)}, got {', '.join(wrong)}", file=sys.stderr)
        return 2
    found: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    OUT.parent.mkdir(exist_ok=True)
    failed = 0
    for part in parts:
        print(f"measuring {part} …", file=sys.stderr, flush=True)
        module, _, engine = part.partition("-")
        done = subprocess.run(
            [sys.executable, "-m", f"bench.{module}", *([engine] if engine else [])],
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            print(f"{part} failed; what was measured before is kept", file=sys.stderr)
            failed = 1
            continue
        found[part] = json.loads(done.stdout) | {"on": machine()}
        OUT.write_text(json.dumps(found, indent=2) + "\n")
    if as_json:
        print(json.dumps(found, indent=2))
        return failed
    for part in parts:
        print(f"\n{part}")
        for name, value in flat(found.get(part, {})):
            print(f"  {name:<44} {value}")
    print(f"\nin {OUT.relative_to(Path(__file__).parents[1])}; as a table: python -m bench.table")
    return failed


def machine() -> dict[str, Any]:
    """What a part was measured on, and when."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "commit": _commit(),
        "load_after": round(os.getloadavg()[0], 2),
    }


def _commit() -> str:
    """Of the code that was measured; `+` after it where files differ; empty outside a checkout."""
    words = ["git", "describe", "--always", "--dirty=+", "--exclude", "*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def flat(values: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Nested measurements as (dotted name, value) rows."""
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows.extend(flat(value, f"{before}{name}."))
        else:
            rows.append((f"{before}{name}", value))
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
