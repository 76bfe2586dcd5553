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


def test_cloud_that_was_not_looked_at_whole_is_told_as_if_it_were() -> None:
    """A run that was stopped says how much of the cloud it came to."""
    times = {"median": 2.5, "min": 2, "max": 3}
    shape: dict[str, object] = {
        "assignments": 1200,
        "looked_at": 1000,
        "scopes": 10,
        "roles": 60,
        "first_s": 9.0,
    }
    shape |= dict.fromkeys(("seconds", "cpu_s", "looks_cpu_s", "rows", "bare_s"), times)
    text = rendered({"reconcile": {"postgresql": {"10x6x20": shape}, "on": ON}})
    assert "| postgresql | 1,000 of 1,200 | 10, 60 | 2.5 (2–3) | 9 | " in text


def _rendered(engine: str, late: dict[str, object], found: dict[str, object]) -> str:
    parts = {"lateness": {engine: late}, "dispatch": {engine: {"alone": found}}}
    return rendered({name: {**part, "on": ON} for name, part in parts.items()})
