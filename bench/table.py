"""The tables of docs/benchmarks.md, rendered from bench/out/bench.json to paste there.

`--write` puts them into the file itself, between its two marks.
"""

import json
import sys
from pathlib import Path
from typing import Any

from bench.run import OUT

DOC = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
LATENCIES = (
    ("denies", "**end → the cloud denies** (measured)"),
    ("declared", "end → the cloud denies (declared)"),
    ("sent", "end → revoke call sent"),
    ("removed", "end → read back removed"),
    ("gone", "end → gone"),
)


def main(asked: list[str]) -> None:
    """Print the tables, or write them into the document."""
    text = rendered(json.loads(OUT.read_text()))
    if "--write" not in asked:
        print(text)
        return
    whole = DOC.read_text()
    before, after = whole.partition(BEGIN)[0], whole.partition(END)[2]
    DOC.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def rendered(found: dict[str, Any]) -> str:
    """Everything that was measured, as markdown."""
    parts = (("lateness", _lateness), ("ending", _ending), ("restart", _restart))
    more = (("dispatch", _dispatch), ("workers", _workers))
    made = ["\n".join(draw(found[name])) for name, draw in (*parts, *more) if name in found]
    commits = [found[name] for name in ("commit", "commit-postgresql") if name in found]
    if commits:
        made.append("\n".join(_commits(commits)))
    made.append("\n".join(_runs(found)))
    return "\n\n".join(made)


def _lateness(part: dict[str, Any]) -> list[str]:
    rows = ["### Lateness", ""]
    rounds = [(f"`{kind}`, unthrottled", one) for kind, one in part["unthrottled"].items()]
    rounds += [(f"`assignment`, {pace} looks/s", one) for pace, one in part["paced"].items()]
    for said, one in rounds:
        rows += [
            f"**{said}**: {one['ends']:,} ends in one instant, clock {one['clock']},"
            f" {one['not_gone']} not gone at the end of the run",
            "",
            "| | n | p50 | p99 | max |",
            "|---|---|---|---|---|",
        ]
        for name, words in LATENCIES:
            spans = one[name]
            if spans["n"]:
                cells = (_span(spans[at]) for at in ("p50", "p99", "max"))
                rows.append(f"| {words} | {spans['n']:,} | {' | '.join(cells)} |")
        rows.append("")
    return rows[:-1]


def _ending(part: dict[str, Any]) -> list[str]:
    rows = [
        "### Ends due at one instant, our side",
        "",
        "| engine | ends | seconds (median, least–most) | our CPU an end |",
        "|---|---|---|---|",
    ]
    for engine in ("sqlite", "postgresql"):
        if bulk := part.get(engine, {}).get("bulk"):
            cpu = bulk["cpu_us_per_end"]["median"]
            rows.append(f"| {engine} | {bulk['ended']:,} | {_few(bulk['seconds'])} | {cpu} µs |")
    rows += [
        "",
        "### One look that claims 64 due grants",
        "",
        "| engine | grants alive | p50 ms | p99 ms | p50 to the smallest |",
        "|---|---|---|---|---|",
    ]
    for engine in ("sqlite", "postgresql"):
        claims = part.get(engine, {}).get("claim_ms", {})
        for live, one in claims.items():
            least = next(iter(claims.values()))
            ratio = one["p50"]["median"] / least["p50"]["median"]
            cells = f"{_few(one['p50'])} | {_few(one['p99'])} | {ratio:.2f}×"
            rows.append(f"| {engine} | {int(live):,} | {cells} |")
    return rows


def _restart(part: dict[str, Any]) -> list[str]:
    rows = [
        "### Restart",
        "",
        "| engine | grants alive | journal | to serve, s | first, last due end called after, s"
        " | longest that an end of after the start waited, s | journal read, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for engine in ("sqlite", "postgresql"):
        if one := part.get(engine):
            journal = f"{one['journal_lines']:,} lines, {one['journal_mb']} MB"
            calls = f"{_few(one['first_call_s'])}, {_few(one['last_call_s'])}"
            serves, late, read = (
                _few(one[name]) for name in ("to_serve_s", "late_most_s", "journal_read_s")
            )
            cells = f"{serves} | {calls} | {late} | {read}"
            rows.append(f"| {engine} | {one['live']:,} | {journal} | {cells} |")
    return rows


def _dispatch(part: dict[str, Any]) -> list[str]:
    rows = [
        "### Due to dispatch",
        "",
        "| | ends | p50 ms | p99 ms |",
        "|---|---|---|---|",
    ]
    for name, words in (("alone", "nothing else due"), ("backlog", "behind a backlog")):
        if one := part.get(name):
            before = f" of {one['before']:,}" if "before" in one else ""
            rows.append(f"| {words}{before} | {one['ends']} | {one['p50_ms']} | {one['p99_ms']} |")
    return rows


def _workers(part: dict[str, Any]) -> list[str]:
    return [
        f"### Two workers on one PostgreSQL, cloud calls of {part['call_ms']} ms",
        "",
        "| workers | ends | seconds until all were gone | ends a second |",
        "|---|---|---|---|",
        *(
            f"| {n} | {part['ends']:,} | {_few(part[n]['seconds'])}"
            f" | {part['ends'] / part[n]['seconds']['median']:.0f} |"
            for n in ("1", "2")
        ),
    ]


def _commits(parts: list[dict[str, Any]]) -> list[str]:
    rows = [
        "### Durable transitions",
        "",
        "| engine | callers | a second | p50 ms | p99 ms | CPU each |",
        "|---|---|---|---|---|---|",
    ]
    for part in parts:
        for name, words in (
            ("callers_1", "1"),
            ("callers_16", "16"),
            ("in_flight_500", "500 in flight"),
        ):
            one = part[name]
            cells = f"{one['per_second']:,} | {one['p50_ms']} | {one['p99_ms']}"
            rows.append(f"| {part['engine']} | {words} | {cells} | {one['cpu_us']} µs |")
    return rows


def _runs(found: dict[str, Any]) -> list[str]:
    rows = [
        "### The runs",
        "",
        "| part | when | vCPU | Python | kernel | load before, after | fdatasync p50, p99"
        " | control |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, part in found.items():
        on, probe, control = part["on"], part.get("fdatasync_us"), part.get("control_us")
        disk = f"{probe['p50']:.0f}, {probe['p99']:.0f} µs" if probe else "–"
        loop = f"{control['p50']:.0f} µs" if isinstance(control, dict) else "–"
        load = (
            f"{part['load']:.1f}, {on['load_after']}"
            if "load" in part
            else f"–, {on['load_after']}"
        )
        box = f"{on.get('cpus')} | {on.get('python')} | {on.get('kernel')}"
        rows.append(f"| {name} | {on.get('at')} | {box} | {load} | {disk} | {loop} |")
    return rows


def _few(values: dict[str, Any]) -> str:
    return f"{values['median']:g} ({values['min']:g}–{values['max']:g})"


def _span(ms: int) -> str:
    if ms < 10_000:
        return f"{ms} ms"
    if ms < 600_000:
        return f"{ms / 1000:.1f} s"
    if ms < 7_200_000:
        return f"{ms / 60_000:.1f} min"
    return f"{ms / 3_600_000:.2f} h"


if __name__ == "__main__":
    main(sys.argv[1:])
