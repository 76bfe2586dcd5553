"""A trace as text for a terminal: five columns where there is room, else one stage below another.

Everything drawn is cleaned first: a name or a reason cannot move the cursor.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from tidegate.base.errors import one_line
from tidegate.base.text import cells_of
from tidegate.diagnose.walk import StageState, StageView, Trace, Walk

WIDE = 120  # cells: below it five columns are too narrow for an instant
LEAST_WIDTH = 40  # narrower terminals get this, and wrap by themselves
ARROW = " → "
MARKS = {
    StageState.DONE: "✓",
    StageState.NOW: "●",
    StageState.STOPPED: "✗",
    StageState.WAITING: "○",
    StageState.NOT_REACHED: "·",
}
_LABEL = 14  # cells of a label and its gap when stacked


def render_text(trace: Trace, width: int) -> str:
    """The trace in lines of at most `width` cells, each ended by a line feed."""
    room = max(width, LEAST_WIDTH)
    lines: list[str] = []
    for walk in trace.walks:
        lines += wrap(one_line(f"{walk.grant or trace.request}  {walk.role}"), room)
        lines.append("")
        lines += _columns(walk.views, room) if room >= WIDE else _stacked(walk.views, room)
        lines += ["", *_verdict(walk, room), ""]
    return "\n".join(line.rstrip() for line in lines[:-1]) + "\n"


def wrap(text: str, room: int) -> list[str]:
    """`text` in lines of at most `room` cells, broken at blanks; a longer word is cut in two."""
    lines: list[str] = []
    line = ""
    for word in _words(one_line(text), room):
        if line and cells_of(line) + 1 + cells_of(word) <= room:
            line += f" {word}"
            continue
        if line:
            lines.append(line)
        *full, line = _pieces(word, room)
        lines += full
    return [*lines, line] if line or not lines else lines


def _words(text: str, room: int) -> Iterator[str]:
    """Words; a command in backticks is one, so that it can be copied, unless it does not fit."""
    for found in re.finditer(r"`[^`]*`\S*|\S+", text):
        yield from [found[0]] if cells_of(found[0]) <= room else found[0].split()


def _pieces(word: str, room: int) -> list[str]:
    pieces, piece = [], ""
    for ch in word:
        if piece and cells_of(piece + ch) > room:
            pieces.append(piece)
            piece = ""
        piece += ch
    return [*pieces, piece]


def _columns(views: Sequence[StageView], room: int) -> Iterator[str]:
    size = (room - len(ARROW) * (len(views) - 1)) // len(views)
    yield ARROW.join(_padded(_title(view), size) for view in views)
    gap = " " * len(ARROW)
    for cells in zip_longest(*(_cell(view, size) for view in views), fillvalue=""):
        yield gap.join(_padded(cell, size) for cell in cells)
    told = [(when, view, what) for view in views for when, what in view.lines]
    told.sort(key=lambda line: line[0].rstrip("Z"))  # whole seconds carry no decimals
    if told:
        yield ""
    for when, view, what in told:
        head = f"{one_line(when):<24}  {view.stage.heading:<7}  "
        first, *rest = wrap(what, room - len(head))
        yield head + first
        yield from (" " * len(head) + line for line in rest)


def _cell(view: StageView, size: int) -> Iterator[str]:
    yield from wrap(view.headline, size)
    for label, value in view.fields():
        yield from wrap(f"{label}: {value}", size)


def _stacked(views: Sequence[StageView], room: int) -> Iterator[str]:
    for place, view in enumerate(views):
        first, *rest = wrap(view.headline, room - _LABEL)
        arrow = "→ " if place else "  "
        yield _padded(arrow + _title(view), _LABEL) + first
        yield from (" " * _LABEL + line for line in rest)
        for label, value in view.fields():
            first, *rest = wrap(value, room - _LABEL - 4)
            yield f"    {label:<{_LABEL}}" + first
            yield from (" " * (_LABEL + 4) + line for line in rest)
        for when, what in view.lines:
            yield from (f"    {line}" for line in wrap(f"{when} {what}", room - 4))


def _verdict(walk: Walk, room: int) -> Iterator[str]:
    here = walk.here
    if walk.stops_at:
        word = "stops" if here.state is StageState.STOPPED else "waits"
        yield from wrap(f"The evidence {word} at {here.stage.heading}: {here.headline}", room)
    elif here.state is StageState.NOW:
        yield from wrap(f"Now at {here.stage.heading}: {here.headline}", room)
    else:
        yield "The evidence is complete."
    if here.next_step:
        yield from wrap(f"Next: {here.next_step}", room)


def _title(view: StageView) -> str:
    return f"{MARKS[view.state]} {view.stage.heading}"


def _padded(text: str, size: int) -> str:
    return text + " " * (size - cells_of(text))
