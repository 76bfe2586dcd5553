"""The tables of docs/benchmarks.md, rendered from bench/out/bench.json to paste there.

`--write` puts them into the file itself, between its two marks. What was not measured again stays:
a part's section, an engine's row, a part's line among the runs.
"""

import json
import sys
from pathlib import Path
from typing import Any

from bench.run import OUT

DOC = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEAD = "### "
ORDER = (
    "Lateness on SQLite",
    "Lateness on PostgreSQL",
    "Ends due at one instant",
    "One look that claims 64 due grants",
    "Restart",
    "Due to dispatch",
    "Two workers on one PostgreSQL",
    "Reconciling",
    "Durable transitions",
    "The runs",
)
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
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
    DOC.write_text(written(DOC.read_text(), text))


def written(whole: str, text: str) -> str:
    """The document with the tables in `text`, and those it had of what is not in there."""
    before, _, rest = whole.partition(BEGIN)
    old, _, after = rest.partition(END)
    kept, new = _sections(old), _sections(text)
    both = {
        name: _with_rows(kept[name], new[name]) if name in kept and name in new else lines
        for name, lines in {**kept, **new}.items()
    }
    order = [name for name in ORDER if name in both]
    order += [name for name in both if name not in ORDER]
    merged = "\n\n".join("\n".join(both[name]) for name in order)
    return f"{before}{BEGIN}\n\n{merged}\n\n{END}{after}"


def _sections(text: str) -> dict[str, list[str]]:
    """The sections by the name in their head: what stands before a comma."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.strip().split("\n"):
        if line.startswith(HEAD):
            name = line.removeprefix(HEAD).partition(",")[0]
        if name:
            found.setdefault(name, []).append(line)
    return {name: "\n".join(lines).strip().split("\n") for name, lines in found.items()}


def _with_rows(kept: list[str], new: list[str]) -> list[str]:
    """`new` with the rows of `kept` whose first cell it lacks; unless they are different tables."""
    if _columns(kept) != _columns(new) or len(_columns(new)) != 1:
        return new
    there = {_first(line) for line in new if line.startswith("|")}
    return [*new, *(one for one in kept if one.startswith("|") and _first(one) not in there)]


def _columns(lines: list[str]) -> list[str]:
    """The heads of the tables in a section."""
    rules = [at for at, line in enumerate(lines) if line.startswith("|---")]
    return [lines[at - 1] for at in rules]


def _first(row: str) -> str:
    return row.split("|")[1].strip()


def rendered(found: dict[str, Any]) -> str:
    """Everything that was measured, as markdown."""
    parts = (("lateness", _lateness), ("ending", _ending), ("restart", _restart))
    more = (("dispatch", _dispatch), ("workers", _workers), ("reconcile", _reconcile))
    made = ["\n".join(draw(found[name])) for name, draw in (*parts, *more) if name in found]
    commits = [found[name] for name in ("commit", "commit-postgresql") if name in found]
    if commits:
        made.append("\n".join(_commits(commits)))
    made.append("\n".join(_runs(found)))
    return "\n\n".join(made)


def _lateness(part: dict[str, Any]) -> list[str]:
    rows: list[str] = []
    for engine, words in ENGINES.items():
        if engine in part:
            rows += [f"### Lateness on {words}", "", *_rounds(part[engine]), ""]
    return rows[:-1]


def _rounds(part: dict[str, Any]) -> list[str]:
    rows: list[str] = []
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
    for engine in ENGINES:
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
    for engine in ENGINES:
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
    for engine in ENGINES:
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
        "| engine | | ends | p50 ms | p99 ms |",
        "|---|---|---|---|---|",
    ]
    for engine in ENGINES:
        for one in part.get(engine, {}).values():
            before = (
                f"behind a backlog of {one['before']:,}" if one["before"] else "nothing else due"
            )
            cells = f"{before} | {one['ends']} | {one['p50_ms']} | {one['p99_ms']}"
            rows.append(f"| {engine} | {cells} |")
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


def _reconcile(part: dict[str, Any]) -> list[str]:
    rows = [
        "### Reconciling, until every access of a cloud was looked at once",
        "",
        "| engine | accesses | scopes, roles | seconds | the first time, s | our CPU, s"
        " | of it looking, s | rows read | bare lists, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for engine in ENGINES:
        for one in part.get(engine, {}).values():
            looked, there = one["looked_at"], one["assignments"]
            shown = f"{there:,}" if looked == there else f"{looked:,} of {there:,}"
            cells = [f"{one['scopes']:,}, {one['roles']:,}", _few(one["seconds"])]
            cells += [f"{one['first_s']:g}", _few(one["cpu_s"]), _few(one["looks_cpu_s"])]
            cells += [f"{one['rows']['median']:,.0f}", _few(one["bare_s"])]
            rows.append(f"| {engine} | {shown} | {' | '.join(cells)} |")
    return rows


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


MACHINE = ("commit", "cpus", "python", "kernel")


def _runs(found: dict[str, Any]) -> list[str]:
    rows = [
        "### The runs",
        "",
        "| part | when | commit | vCPU | Python | kernel | load before, after"
        " | fdatasync p50, p99 | control |",
        "|---|---|---|---|---|---|---|---|---|",
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
        box = " | ".join(str(on.get(name) or "–") for name in MACHINE)
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
