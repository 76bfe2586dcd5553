"""The words of a diagnosis: checks with their fixes, as values, as JSON, and as text.

Light on purpose, like `walk.py`: the command line reads a diagnosis back from a server's answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.base.canonical import Json
from tidegate.base.errors import WorldFailed, one_line
from tidegate.base.text import cells_of
from tidegate.diagnose.drawing import LEAST_WIDTH, wrap

MOST_CHECKS = 10_000  # as read from a server: a handful a target
_MARKS = {True: "✓", False: "✗", None: "!"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at. `ok`: True sound, False a fault, None a warning or not to be told.

    `says` is what was seen, in one sentence; `fix` the smallest safe thing to do, empty when sound.
    """

    name: str
    ok: bool | None
    says: str
    fix: str = ""

    def __post_init__(self) -> None:
        """Printable lines only: what is said quotes clouds, files and people."""
        for name in ("name", "says", "fix"):
            object.__setattr__(self, name, one_line(getattr(self, name)))

    def as_json(self) -> dict[str, Json]:
        """As the API answers it."""
        return {"name": self.name, "ok": self.ok, "says": self.says, "fix": self.fix}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything looked at, in the order things depend on each other. `at` is when."""

    at: str
    findings: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check found a fault. Warnings are no faults."""
        return all(check.ok is not False for check in self.findings)

    @property
    def first(self) -> Check | None:
        """The fault to mend first: the others may follow from it. None when there is none."""
        return next((check for check in self.findings if check.ok is False), None)

    def as_json(self) -> dict[str, Json]:
        """As the API answers it; `parse_diagnosis` reads it back."""
        return {
            "ok": self.ok,
            "at": self.at,
            "findings": [check.as_json() for check in self.findings],
        }


def render_text(diagnosis: Diagnosis, width: int) -> str:
    """One line a check, its fix below it, in lines of at most `width` cells."""
    room = max(width, LEAST_WIDTH)
    size = min(max((cells_of(check.name) for check in diagnosis.findings), default=0), room // 3)
    lines: list[str] = []
    for check in diagnosis.findings:
        name, *more = wrap(check.name, size)
        first, *rest = wrap(check.says, room - size - 4)
        lines.append(f"{_MARKS[check.ok]} {name}{' ' * (size - cells_of(name))}  {first}")
        lines += [f"  {part}" for part in more]
        told = [*rest, *wrap(f"fix: {check.fix}", room - size - 4)] if check.fix else rest
        lines += [" " * (size + 4) + line for line in told]
    faults = sum(check.ok is False for check in diagnosis.findings)
    warnings = sum(check.ok is None for check in diagnosis.findings)
    lines += ["", f"{_count(faults, 'fault')}, {_count(warnings, 'warning')}."]
    return "\n".join(lines) + "\n"


def parse_diagnosis(plain: Mapping[str, Any]) -> Diagnosis:
    """Read what `Diagnosis.as_json` wrote. Raises WorldFailed for another shape."""
    findings, at = plain.get("findings"), plain.get("at")
    if not isinstance(findings, list) or len(findings) > MOST_CHECKS or not isinstance(at, str):
        raise _strange("findings")
    checks = []
    for part in findings:
        if not isinstance(part, dict):
            raise _strange("check")
        name, ok, says, fix = (part.get(key, 0) for key in ("name", "ok", "says", "fix"))
        if not (isinstance(name, str) and isinstance(says, str) and isinstance(fix, str)):
            raise _strange("check")
        if not (ok is None or isinstance(ok, bool)):
            raise _strange("ok")
        checks.append(Check(name=name, ok=ok, says=says, fix=fix))
    return Diagnosis(at=one_line(at), findings=tuple(checks))


def _count(number: int, word: str) -> str:
    return f"1 {word}" if number == 1 else f"{number or 'no'} {word}s"


def _strange(name: str) -> WorldFailed:
    return WorldFailed(
        "strange_answer",
        f"expected a diagnosis, got one without a sound `{name}`",
        "check that client and server have the same version",
    )
