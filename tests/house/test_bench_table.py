"""Writing measured tables into the document keeps what was not measured again."""

from bench.table import BEGIN, DOC, END, written

RUNS = "### The runs\n\n| part | when |\n|---|---|\n"
PAGE = (
    f"before\n{BEGIN}\n\n### Lateness\n\nlong ago\n\n### Restart\n\n| engine | s |\n|---|---|\n"
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
