"""`make bench`: every measurement in one run, as a table and as bench/out/bench.json.

Ratios count, not absolute figures: each run prints its own control (a fixed loop) and its own
fdatasync probe beside what is measured.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PARTS = ("commit", "verify", "lifecycles", "start_credentials", "ending")
OUT = Path(__file__).parent / "out" / "bench.json"


def main() -> None:
    """Run each part in a process of its own, one after the other."""
    found: dict[str, Any] = {}
    for part in PARTS:
        print(f"measuring {part} …", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"bench.{part}"], capture_output=True, text=True, check=True
        )
        found[part] = json.loads(done.stdout)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=2) + "\n")
    for part, values in found.items():
        print(f"\n{part}")
        for name, value in flat(values):
            print(f"  {name:<44} {value}")
    print(f"\nwritten to {OUT.relative_to(Path(__file__).parents[1])}")


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
    main()
