"""report: how late ends were, as figures that can be published."""

from collections.abc import Iterator

import click

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import parse_duration
from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.command import Desk, Room, tool
from tidegate.shell.cli.printing import moment, table

LATENCIES = ("denies", "declared", "sent", "removed", "gone")  # the headline first
FIGURES = ("n", "p50", "p95", "p99", "max")
BY = ("all", "target", "kind", "reason")
_SAYS = {
    "denies": "cloud denies (measured, at the latest)",
    "declared": "cloud denies (declared, not measured)",
    "sent": "revoke call sent",
    "removed": "read back removed",
    "gone": "gone",
}


@tool(
    "lateness",
    ("tidegate report lateness --since 30d", "how late ends were, each latency apart"),
    ("tidegate report lateness --since 7d --by kind", "by role kind, target or end reason"),
    ("tidegate report lateness --target aws-prod --csv", "one line a latency, for a spreadsheet"),
)
@click.option("--since", metavar="SPAN", default="30d", help="How far back to look. [30d]")
@click.option("--target", metavar="TARGET", default="", help="Only of this target.")
@click.option("--by", type=click.Choice(BY), default="all", help="Grouped by what.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated lines, in milliseconds.")
def lateness(desk: Desk, since: str, target: str, by: str, as_csv: bool) -> None:
    """Show how late ends were: from the end to the cloud's refusal, and what lies between.

    And which findings are open: with `--csv` that goes to stderr.

    Computed from the sealed log. Early ends (done, revoked, panic) count from the decision, expired
    ones from the end that was approved. What was not measured is told as such.
    """
    if as_csv and desk.as_json:
        raise AskedWrongly("two_forms", "expected one of `--csv` and `--json`, got both", "choose")
    parse_duration(since)  # a slip is told before a server is asked
    query = {"since": since, "by": by, "target": target}
    report = desk.server().get("api", "report", "lateness", query=query)
    groups = report.parts("groups")
    if as_csv:
        desk.answer(report.plain, _csv(groups))
        for line in _findings(desk, report.part("findings")):
            desk.tell(line)
        return
    lines = list(_lines(desk, report, groups))
    desk.answer(report.plain, [*lines, *_findings(desk, report.part("findings"))])


def make_room() -> Room:
    """`tidegate report …`."""
    room = Room(
        "report",
        "Figures from the log, for auditors.",
        ("tidegate report lateness --since 30d", "how late ends were"),
    )
    room.add_command(lateness)
    return room


def _lines(desk: Desk, report: Answer, groups: list[Answer]) -> Iterator[str]:
    yield f"ends from {moment(report.text('since'))} to {moment(report.text('at'))}, in seconds"
    if not groups:
        yield "no grant ended in that time"
        return
    for group in groups:
        yield ""
        name = "" if report.text("by") == "all" else f"{group.text('group')}: "
        yield f"{name}{group.number('n') or 0} {group.text('ended')}"
        rows = []
        for latency in LATENCIES:
            told = group.part(latency)
            if told.number("n"):
                rows.append((_SAYS[latency], *(_cell(told, figure) for figure in FIGURES)))
        rows.append(("no credential after", str(group.number("n") or 0), *("0.000",) * 4))
        if group.number("violations"):
            rows[-1] = ("CREDENTIALS AFTER THE END", str(group.number("violations")), *("-",) * 4)
        yield from table(("LATENCY", "N", "P50", "P95", "P99", "MAX"), rows, desk.width())
        if group.number("not_removed"):
            oldest = (group.number("oldest_not_removed") or 0) / 1000
            yield f"not removed yet: {group.number('not_removed')}, the oldest for {oldest:.0f} s"
    yield ""
    for note in report.texts("notes"):
        yield f"note: {note}"


def _findings(desk: Desk, found: Answer) -> Iterator[str]:
    """What is open now beside the figures, the oldest first, and what to run next."""
    if not found.number("open"):
        return
    yield ""
    yield found.text("says")
    rows = [
        (one.text("id"), one.text("kind"), moment(one.text("first_seen_at")), one.text("says"))
        for one in found.some("oldest")
    ]
    if (found.number("open") or 0) > len(rows):
        yield f"the {len(rows)} oldest:"
    yield from table(("FINDING", "KIND", "SINCE", "SAYS"), rows, desk.width())
    yield f"next: `{found.text('next')}`"


def _cell(told: Answer, figure: str) -> str:
    value = told.number(figure)
    if value is None:
        return "-"
    return str(value) if figure == "n" else f"{value / 1000:.3f}"


def _csv(groups: list[Answer]) -> list[str]:
    lines = ["group,ended,latency,n,p50_ms,p95_ms,p99_ms,max_ms,violations,not_removed"]
    for group in groups:
        name = group.text("group").replace('"', '""')
        ending = f"{group.number('violations') or 0},{group.number('not_removed') or 0}"
        for latency in LATENCIES:
            told = group.part(latency)
            cells = ",".join(
                "" if told.number(figure) is None else str(told.number(figure))
                for figure in FIGURES
            )
            lines.append(f'"{name}",{group.text("ended")},{latency},{cells},{ending}')
    return lines
