"""Writing measured tables into the document keeps what was not measured again."""

from bench.table import BEGIN, DOC, END, rendered, written

ON = {"at": "Friday", "cpus": 2, "python": "3", "kernel": "6", "load_after": 1}

RUNS = "### The runs\n\n| part | when |\n|---|---|\n"
PAGE = (
    f"before\n{BEGIN}\n\n### Lateness on SQLite\n\nlong ago\n\n"
    "### Restart\n\n| engine | s |\n|---|---|\n"
    f"| sqlite | 1 |\n| postgresql | 2 |\n\n{RUNS}| lateness | Monday |\n| restart | Monday |\n\n"
    f"{END}\nafter\n"
)


def test_parts_that_were_not_run_again_are_dropped() -> None:
    """A section, an engine's row and a part's line stay where only one part was measured."""
    made = written(
        PAGE,
        f"### Restart\n\n| engine | s |\n|---|---|\n| sqlite | 3 |\n\n{RUNS}| restart | Friday |",
    )
    assert made == PAGE.replace("sqlite | 1", "sqlite | 3").replace(
        "| lateness | Monday |\n| restart | Monday |", "| restart | Friday |\n| lateness | Monday |"
    )


def test_document_is_changed_by_what_it_says_already() -> None:
    """The page as it is, written into itself, is the page as it is."""
    whole = DOC.read_text()
    assert written(whole, whole.partition(BEGIN)[2].partition(END)[0].strip()) == whole


def test_one_engine_measured_again_takes_the_other_ones_lateness_away() -> None:
    """Each engine has a section of lateness and rows of dispatch; the other one's stay."""
    spans = {name: {"n": 0} for name in ("denies", "declared", "sent", "removed", "gone")}
    one = {"ends": 9, "clock": "real", "not_gone": 7, **spans}
    late = {"unthrottled": {"iam-role": one}, "paced": {}}
    found = {"ends": 5, "p50_ms": 1.0, "p99_ms": 2.0, "before": 0}
    page = f"{BEGIN}\n\n{_rendered('sqlite', late, found)}\n\n{END}"
    both = written(page, _rendered("postgresql", late, found))
    assert both.index("### Lateness on SQLite") < both.index("### Lateness on PostgreSQL")
    assert both.count("7 not gone") == 2
    for engine in ("sqlite", "postgresql"):
        assert f"| {engine} | nothing else due | 5 | 1.0 | 2.0 |" in both


def _rendered(engine: str, late: dict[str, object], found: dict[str, object]) -> str:
    parts = {"lateness": {engine: late}, "dispatch": {engine: {"alone": found}}}
    return rendered({name: {**part, "on": ON} for name, part in parts.items()})
