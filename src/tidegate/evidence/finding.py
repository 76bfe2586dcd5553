"""What a verifier says is wrong, in a form for people and for machines."""

from collections.abc import Iterable
from dataclasses import dataclass

from tidegate.base.canonical import Json
from tidegate.base.errors import EvidenceBroken

MOST_FINDINGS = 20  # one broken event breaks many after it; the first is what matters


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not hold. `idx` is the event it is about; None: no single one."""

    code: str
    idx: int | None
    what: str
    expected: str
    got: str

    def text(self) -> str:
        """One sentence."""
        where = "" if self.idx is None else f"event {self.idx}: "
        return f"{where}{self.what}: expected {self.expected}, got {self.got}"

    def plain(self) -> dict[str, Json]:
        """For JSON."""
        return {
            "code": self.code,
            "idx": self.idx,
            "what": self.what,
            "expected": self.expected,
            "got": self.got,
        }


def finding_of(error: EvidenceBroken, idx: int | None) -> Finding:
    """The finding of an error met while reading the event at `idx`."""
    return Finding(
        code=error.code, idx=idx, what=error.what, expected=error.expected, got=error.got
    )


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Earliest event first, those about no single event last; at most MOST_FINDINGS."""
    by_idx = sorted(findings, key=lambda found: (found.idx is None, found.idx or 0))
    return tuple(by_idx[:MOST_FINDINGS])
