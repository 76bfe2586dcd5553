"""One line of a closing journal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.base.when import Instant

# In the data of a `removed` line: it was done without the database, so nothing else tells of it.
ALONE = "alone"
HELD = "held"  # there too: read back, and usable by another grant or by what stood before
CUT = "cut"  # there too, when it is False: sessions that outlive the removal were not seen cut


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """One line. `at` is when it was written; `data` a small map in the canonical subset."""

    kind: str
    grant: str
    at: Instant
    data: Mapping[str, Any]

    @property
    def alone(self) -> bool:
        """Whether it tells of something done without the database."""
        return self.data.get(ALONE) is True

    @property
    def uncut(self) -> bool:
        """Whether it tells of a removal whose sessions were not seen cut."""
        return self.kind == "removed" and self.data.get(CUT) is False

    @property
    def ends_alone(self) -> bool:
        """Whether it tells of an end, sessions and all, that came without the database."""
        return self.kind == "removed" and self.alone and not self.uncut
