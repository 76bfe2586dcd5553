"""report lateness: each latency apart, and nothing declared told as measured."""

from tests.cli.conftest import Shell
from tests.cli.fake import FakeServer

FIGURES = {"n": 3, "p50": 40, "p95": 1200, "p99": 1200, "max": 1200}
REPORT = {
    "at": "2026-11-23T09:00:00.000Z",
    "since": "2026-10-24T09:00:00.000Z",
    "by": "kind",
    "groups": [
        {
            "group": "iam-role",
            "ended": "expired",
            "n": 4,
            "violations": 0,
            "not_removed": 1,
            "oldest_not_removed": 61_000,
            "denies": FIGURES,
            "declared": None,
            "sent": FIGURES,
            "removed": FIGURES,
            "gone": FIGURES,
        }
    ],
    "notes": ["`declared` is a promise"],
}
PATH = "/api/report/lateness"


def test_report_leaves_out_what_never_ended(tidegate: Shell, server: FakeServer) -> None:
    """Measured first, what was not measured not at all, and those still open beside it."""
    server.on("GET", PATH, REPORT)
    ran = tidegate("report", "lateness", "--by", "kind", "--since", "7d")
    assert ran.code == 0 and "cloud denies (measured" in ran.out
    assert "(declared" not in ran.out and "1.200" in ran.out
    assert ran.out.index("cloud denies (measured") < ran.out.index("revoke call sent")
    assert "not removed yet: 1, the oldest for 61 s" in ran.out
    assert server.calls[0][1] == f"{PATH}?since=7d&by=kind"


def test_violation_is_told_in_small_print(tidegate: Shell, server: FakeServer) -> None:
    """A credential after the end is a line in capitals."""
    group = {**REPORT["groups"][0], "violations": 2}  # type: ignore[index]
    server.on("GET", PATH, {**REPORT, "groups": [group]})
    assert "CREDENTIALS AFTER THE END" in tidegate("report", "lateness").out


def test_nothing_ended_looks_like_no_lateness(tidegate: Shell, server: FakeServer) -> None:
    """An empty report says that nothing ended."""
    server.on("GET", PATH, {**REPORT, "groups": []})
    assert "no grant ended" in tidegate("report", "lateness").out


def test_span_nobody_can_read_is_asked_of_the_server(tidegate: Shell, server: FakeServer) -> None:
    """A slip in `--since` is the asker's, whether or not a server answers."""
    told = tidegate("report", "lateness", "--since", "banana")
    assert told.code == 2 and "banana" in told.err and not server.calls


def test_csv_has_other_columns_than_its_head(tidegate: Shell, server: FakeServer) -> None:
    """Every line has as many cells as the head; what was not measured is empty."""
    server.on("GET", PATH, REPORT)
    head, *lines = tidegate("report", "lateness", "--csv").out.splitlines()
    assert {line.count(",") for line in lines} == {head.count(",")} and len(lines) == 5
    assert '"iam-role",expired,declared,,,,,,0,1' in lines


OPEN = {
    "open": 6,
    "says": "6 findings are open: 6 late",
    "next": "tidegate findings list",
    "oldest": [
        {
            "id": "fi_01",
            "kind": "late",
            "first_seen_at": "2026-11-20T09:00:00.000Z",
            "says": "an end is late",
        }
    ],
}


def test_open_findings_are_left_out_of_the_figures(tidegate: Shell, server: FakeServer) -> None:
    """They are told after them, the oldest by name, and what to run; lines for a script stay so."""
    server.on("GET", PATH, {**REPORT, "findings": OPEN})
    out = tidegate("report", "lateness").out
    assert "6 findings are open: 6 late\nthe 1 oldest:\n" in out
    assert "fi_01" in out and "2026-11-20T09:00:00Z" in out
    assert out.endswith("next: `tidegate findings list`\n")
    ran = tidegate("report", "lateness", "--csv")
    assert "fi_01" in ran.err and "fi_01" not in ran.out
    server.on("GET", PATH, {**REPORT, "findings": {**OPEN, "open": 0, "oldest": []}})
    assert "finding" not in tidegate("report", "lateness").out
