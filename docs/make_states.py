"""Draws docs/states.md out of the transition tables. Run it after changing one:

python docs/make_states.py
"""

from enum import EnumMeta, StrEnum
from pathlib import Path

from tidegate.base.table import Table
from tidegate.expire import EndReason, Proof
from tidegate.finding import TABLE as FINDING
from tidegate.finding import ClosedHow, FindingKind, Severity
from tidegate.grant import TABLE as GRANT
from tidegate.grant import Cause, Outcome, Searched
from tidegate.panic import TABLE as PANIC
from tidegate.request import TABLE as REQUEST
from tidegate.session import TABLE as SESSION
from tidegate.session import Why

INTRO = """# States

Drawn from the transition tables in `request.py`, `grant.py`, `session.py`, `finding.py` and
`panic.py` by
`docs/make_states.py`; a test fails when this page and the tables differ. A move that is not here
cannot happen: it is absent from the table. Every move is one sealed event of that name.
"""

AFTER_GRANT = """
A grant is `removed` when it was read back that no new session can start, and `gone` only when live
sessions were cut and seen cut, or `residual_until` has passed. A grant whose access also stands by
other means is never `gone`: it stays `removed`, naming what still holds it.
"""


def page() -> str:
    """The whole page."""
    return "\n".join(
        (
            INTRO,
            drawn("Request", REQUEST),
            drawn("Grant", GRANT),
            AFTER_GRANT,
            listed("Why a grant failed to open", Cause),
            listed("Why a grant ends", EndReason),
            listed("How an end is known, weakest first", Proof),
            listed("What a call that settled nothing came back with", Outcome),
            drawn("Session", SESSION),
            listed("How a session came to its end", Why),
            listed("What a search for side doors came to", Searched),
            drawn("Finding", FINDING),
            listed("What a finding is about", FindingKind),
            listed("How soon somebody must look", Severity),
            listed("How a finding was closed", ClosedHow),
            drawn("Panic", PANIC),
        )
    )


def drawn(title: str, table: Table[StrEnum]) -> str:
    """One table as a diagram and as rows."""
    moves = list(table.moves.items())
    sources = {before for (before, _), _ in moves}
    ends = sorted({after for _, after in moves if after not in sources})
    lines = [f"## {title}", "", "```mermaid", "stateDiagram-v2"]
    for (before, event), after in moves:
        lines.append(f"    {before.value if before else '[*]'} --> {after.value}: {event}")
    lines.extend(f"    {end.value} --> [*]" for end in ends)
    lines.extend(("```", "", "| from | event | to |", "|---|---|---|"))
    for (before, event), after in moves:
        lines.append(f"| {f'`{before.value}`' if before else '·'} | `{event}` | `{after.value}` |")
    return "\n".join((*lines, ""))


def listed(title: str, words: EnumMeta) -> str:
    """An enumeration as one line."""
    return f"{title}: " + ", ".join(f"`{word.value}`" for word in words) + ".\n"


if __name__ == "__main__":
    (Path(__file__).parent / "states.md").write_text(page())
