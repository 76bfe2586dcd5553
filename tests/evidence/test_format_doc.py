"""The published format is the one in the code."""

from pathlib import Path

from tidegate.evidence.archive import FORMAT
from tidegate.evidence.events import DEEPEST, EVENTS, LONGEST_FACT_TEXT, LONGEST_LEAF
from tidegate.evidence.fields import _fits
from tidegate.evidence.life import STATES
from tidegate.evidence.proof import FIRST_LINE

DOC = Path(__file__).parents[2] / "docs" / "evidence-format.md"


def names_table() -> str:
    """The table of names and fields, as the document must show it."""
    rows = ["| Name | Fields |", "|---|---|"]
    for name, fields in EVENTS.items():
        listed = ", ".join(f"`{field}` {kind}" for field, kind in fields.items())
        rows.append(f"| `{name}` | {listed} |")
    return "\n".join(rows)


def test_document_lists_every_event_with_its_fields() -> None:
    """Whoever adds an event or a field tells outsiders. To mend: paste `names_table()`."""
    text = DOC.read_text()
    inside = text.partition("names: begin")[2].partition("-->\n")[2].partition("\n<!--")[0]
    assert inside == names_table()


def test_document_names_the_bounds_and_words_of_the_code() -> None:
    """Bounds, formats and states in the text are those that are enforced."""
    text = DOC.read_text()
    bounds = (f"{LONGEST_LEAF:,} bytes", f"{LONGEST_FACT_TEXT:,} characters")
    for said in (*bounds, FORMAT, FIRST_LINE):
        assert said in text, said
    assert DEEPEST == 8 and "at most eight lists and maps" in text
    table = text.partition("| Event | State |")[2]
    for name, state in STATES.items():
        row = next(row for row in table.splitlines() if f"`{name}`" in row)
        assert row.endswith(f"| {state} |")


def test_every_kind_in_the_schemas_has_a_check() -> None:
    """No field is of a kind that nothing checks."""
    for fields in EVENTS.values():
        for kind in fields.values():
            assert callable(_fits(kind))
