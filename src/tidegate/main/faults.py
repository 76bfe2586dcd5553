"""What is wrong, or odd, with a file of settings: which file, which line, what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.base.errors import AskedWrongly, one_line

MOST_FAULTS = 100  # in one report: whoever has more mends the first hundred first


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing to mend. `line` counts from 1; 0 is the whole file. No secret is ever in it."""

    file: str
    line: int
    code: str
    message: str
    help: str
    level: str = "error"

    @property
    def where(self) -> str:
        """`tidegate.toml:3`, as editors open it."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def as_json(self) -> dict[str, object]:
        """A finding of `tidegate check`."""
        return {
            "level": self.level,
            "file": self.file,
            "line": self.line,
            "expected": "",
            "got": one_line(self.message),
            "help": one_line(self.help),
            "code": self.code,
        }


class SettingsBroken(AskedWrongly):
    """A file of settings cannot be used as it is. `faults` has all that is wrong, in line order."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda one: (one.file, one.line)))[:MOST_FAULTS]
        first, more = self.faults[0], len(self.faults) - 1
        rest = f" (and {more} more: `tidegate check` lists them)" if more else ""
        super().__init__(first.code, f"{first.where}: {first.message}{rest}", first.help)
