"""What is wrong, or odd, with a rule: where, expected, got, what to do."""

from dataclasses import dataclass
from enum import StrEnum

from tidegate.base.errors import AskedWrongly, one_line

MOST_FINDINGS = 100  # in one report: whoever has more fixes the first hundred first
_LONGEST_PART = 300  # characters of `expected` or `got`: a finding is a line, not a file


class Level(StrEnum):
    """`error`: the rule set is refused. `warning`: it loads, and likely does not mean that."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFinding:
    """One thing to mend. `line` counts from 1; 0 is the whole file, an empty `file` the whole set.

    `expected`, `got` and `help` are each one short line of printable text; `code` is stable.
    """

    file: str
    line: int
    expected: str
    got: str
    help: str
    code: str
    level: Level = Level.ERROR

    def __post_init__(self) -> None:
        """Cut to one line: parts quote files that people, and not only ours, have written."""
        for name in ("expected", "got", "help"):
            object.__setattr__(self, name, one_line(getattr(self, name))[:_LONGEST_PART])

    @property
    def where(self) -> str:
        """`prod.cedar:3`, as editors open it."""
        return (f"{self.file}:{self.line}" if self.line else self.file) or "the rule set"

    @property
    def message(self) -> str:
        """One sentence: expected and got."""
        return f"expected {self.expected}, got {self.got}"


class RulesBroken(AskedWrongly):
    """These files are no rule set; nothing was loaded. `findings` has them all, in file order."""

    def __init__(self, findings: tuple[RuleFinding, ...]) -> None:
        first, more = findings[0], len(findings) - 1
        rest = f" (and {more} more)" if more else ""
        super().__init__("rules_broken", f"{first.where}: {first.message}{rest}", first.help)
        self.findings = findings
