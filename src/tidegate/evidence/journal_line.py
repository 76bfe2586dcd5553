"""One line of a closing journal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.base.when import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """One line. `at` is when it was written; `data` a small map in the canonical subset."""

    kind: str
    grant: str
    at: Instant
    data: Mapping[str, Any]
