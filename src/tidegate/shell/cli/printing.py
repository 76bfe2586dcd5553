"""Text for a terminal: nothing a server sent can move the cursor, and columns line up.

One renderer for terminals and pipes alike, so that what a script sees is what a person sees; only
colour and the width of the last column differ.
"""

import unicodedata
from collections.abc import Iterable, Sequence

from tidegate.base.text import is_hidden

GAP = "  "
LEAST_COLUMN = 12  # a column cut shorter than this says nothing

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
    heads: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None
) -> list[str]:
    """Aligned lines, cells cleaned; with a `width` the last column is cut to fit it."""
    cells = [list(heads), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(cells_of(row[at]) for row in cells) for at in range(len(heads) - 1)]
    room = None
    if width is not None:
        room = max(LEAST_COLUMN, width - sum(widths) - len(GAP) * len(widths))
    lines = []
    for row in cells:
        last = cut(row[-1], room) if room else row[-1]
        padded = [
            cell + " " * (size - cells_of(cell)) for cell, size in zip(row, widths, strict=False)
        ]
        lines.append(GAP.join([*padded, last]).rstrip())
    return lines


def fields(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Lines `name  value`, cleaned and aligned; pairs without a value are left out."""
    kept = [(name, clean(value)) for name, value in pairs if value]
    size = max((len(name) for name, _ in kept), default=0)
    return [f"  {name:<{size}}  {value}" for name, value in kept]


def cells_of(text: str) -> int:
    """How many terminal cells `text` takes: wide East Asian characters two, marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(ch) else 2 if unicodedata.east_asian_width(ch) in "WF" else 1
        for ch in text
    )


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


def span(seconds: int) -> str:
    """A number of seconds like `44m` or `1h30m`: seconds are told only below ten minutes."""
    minutes, rest = divmod(max(0, seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    shown = [(days, "d"), (hours, "h"), (minutes, "m")]
    if seconds < 600:
        shown.append((rest, "s"))
    return "".join(f"{count}{unit}" for count, unit in shown if count) or "0s"
