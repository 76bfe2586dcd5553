"""Text for a terminal: nothing a server sent can move the cursor, and columns line up.

One renderer for terminals and pipes alike, so that what a script sees is what a person sees; only
colour and what fits the width differ.
"""

from collections.abc import Callable, Iterable, Sequence

from tidegate.base.text import cells_of, is_hidden

GAP = "  "
LEAST_COLUMN = 12  # a column cut shorter than this says nothing

# How a table may shrink: a heading with what becomes of its cells; None drops the column.
Saving = tuple[str, Callable[[str], str] | None]

COLOURS = {
    "open": "green",
    "approved": "green",
    "ready": "cyan",
    "intended": "cyan",
    "pending": "cyan",
    "closing": "yellow",
    "removed": "yellow",
    "refused": "red",
    "denied": "red",
    "failed": "red",
}


def clean(text: str) -> str:
    """`text` with everything that is not printable or not seen written out, like `\\x1b`.

    Shown instead of dropped: whoever put an escape sequence in a reason should be seen to.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        ch.encode("unicode_escape").decode("ascii") if is_hidden(ch) or not ch.isprintable() else ch
        for ch in text
    )


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    width: int | None = None,
    savings: Sequence[Saving] = (),
) -> list[str]:
    """Aligned lines, cells cleaned; with a `width` none is wider.

    What does not fit is saved in the order of `savings`, as far as needed. The last column is cut
    to the room left, which counts as enough from LEAST_COLUMN on.
    """
    cells = [list(heads), *([clean(cell) for cell in row] for row in rows)]
    if width is None:
        return [_line(row, _widths(cells)) for row in cells]
    for head, shorter in savings:
        if _least(cells) <= width:
            break
        at = cells[0].index(head)
        cells = [
            row[:at] + ([] if shorter is None else [shorter(row[at])]) + row[at + 1 :]
            for row in cells
        ]
    sizes = _widths(cells)
    room = max(1, width - sum(sizes[:-1]) - len(GAP) * (len(sizes) - 1))
    shown = ([*row[:-1], cut(row[-1], room)] for row in cells)
    return [cut(_line(row, sizes), max(1, width)) for row in shown]


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(cells_of(row[at]) for row in cells) for at in range(len(cells[0]))]


def _least(cells: Sequence[Sequence[str]]) -> int:
    """The least width at which no cell but the last of a row is cut, and that one tolerably."""
    *sizes, last = _widths(cells)
    return sum(sizes) + len(GAP) * len(sizes) + min(last, LEAST_COLUMN)


def _line(row: Sequence[str], sizes: Sequence[int]) -> str:
    padded = [cell + " " * (size - cells_of(cell)) for cell, size in zip(row, sizes, strict=True)]
    return GAP.join(padded).rstrip()


def shortest(text: str) -> str:
    """`text` in the least a column may be cut to."""
    return cut(text, LEAST_COLUMN)


def fields(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Lines `name  value`, cleaned and aligned; pairs without a value are left out."""
    kept = [(name, clean(value)) for name, value in pairs if value]
    size = max((len(name) for name, _ in kept), default=0)
    return [f"  {name:<{size}}  {value}" for name, value in kept]


def cut(text: str, room: int) -> str:
    """`text` in at most `room` cells, with `…` where something was left out."""
    if cells_of(text) <= room:
        return text
    kept = ""
    for ch in text:
        if cells_of(kept + ch) > room - 1:
            break
        kept += ch
    return kept + "…"


def moment(text: str) -> str:
    """An instant of the wire to the second, for reading; other texts as they are."""
    whole, dot, _ = text.partition(".")
    return f"{whole}Z" if dot and text.endswith("Z") else text


def time_of_day(text: str) -> str:
    """An instant of the wire without its date; other texts as they are."""
    return text.partition("T")[2] or text


def span(seconds: int) -> str:
    """A number of seconds like `44m` or `1h30m`: seconds are told only below ten minutes."""
    minutes, rest = divmod(max(0, seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    shown = [(days, "d"), (hours, "h"), (minutes, "m")]
    if seconds < 600:
        shown.append((rest, "s"))
    return "".join(f"{count}{unit}" for count, unit in shown if count) or "0s"
