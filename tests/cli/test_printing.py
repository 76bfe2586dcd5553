"""Text for terminals."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.base.text import cells_of, is_hidden
from tidegate.shell.cli.printing import clean, cut, fields, shortest, span, table


@given(st.text())
def test_unprintable_character_is_written_out(text: str) -> None:
    """Whatever comes in, only text that is seen comes out, and such text is left alone."""
    assert clean(text).isprintable()
    assert not any(is_hidden(ch) for ch in clean(text))
    seen = text.isprintable() and not any(is_hidden(ch) for ch in text)
    assert not seen or clean(text) == text


def test_unseen_marks_are_written_out() -> None:
    """Variation selectors and fillers, printable by their category, are shown as codes."""
    assert clean("a\ufe0fb\u3164\u034f é") == "a\\ufe0fb\\u3164\\u034f é"


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=5), st.integers(0, 60))
def test_table_cannot_be_broken_by_a_cell(rows: list[tuple[str, str, str]], width: int) -> None:
    """One line a row, each printable, its columns aligned in cells."""
    lines = table(("A", "B", "C"), rows, width)
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() for line in lines)
    start = max(cells_of(clean(row[0])) for row in [("A", "", ""), *rows]) + 2
    assert all(cells_of(line) <= max(1, width) for line in lines)
    for line, row in zip(lines[1:], rows, strict=True):
        if clean(row[1]).strip():
            before = line[: len(clean(row[0]))]
            assert cells_of(before) <= start


@given(st.text(), st.integers(1, 20))
def test_cut_text_fits(text: str, room: int) -> None:
    """A cut text is never wider than its room and says that it was cut."""
    short = cut(clean(text), room)
    assert cells_of(short) <= room
    assert short == clean(text) or short.endswith("…")


@given(st.integers(1, 80))
def test_table_wider_than_asked(width: int) -> None:
    """Savings are made in their order, only as far as needed, and no line is wider."""
    savings = (("C", None), ("A", shortest), ("B", None))
    rows = [("a" * 30, "b" * 20, "c" * 10)]
    lines = table(("A", "B", "C"), rows, width, savings)
    assert all(cells_of(line) <= width for line in lines)
    assert ("C" in lines[0]) == (width >= 64)
    assert ("a" * 30 in lines[1]) == (width >= 44)
    assert table(("A", "B", "C"), rows, None, savings) == table(("A", "B", "C"), rows)


def test_wide_characters_keep_columns_aligned() -> None:
    """East Asian characters take two cells."""
    lines = table(("A", "B"), [("日本", "x"), ("abcd", "y")])
    assert lines[1] == "日本  x" and lines[2] == "abcd  y"


def test_empty_fields_are_left_out() -> None:
    """Only what is known is shown, aligned."""
    assert fields([("a", "1"), ("bbb", ""), ("cc", "2")]) == ["  a   1", "  cc  2"]


def test_spans_are_short() -> None:
    """Seconds are told only while they matter."""
    assert [span(n) for n in (0, 59, 60, 599, 600, 2640, 5400, 90061, -5)] == [
        "0s", "59s", "1m", "9m59s", "10m", "44m", "1h30m", "1d1h1m", "0s",
    ]  # fmt: skip
