"""What this process remembers of errands: which it answered, and how many were nobody's of ours.

The database remembers the answered ones too (`Store.use_errand`); whoever can write there can also
delete there, and this memory then still stands.
"""

import threading
from datetime import timedelta

from tidegate.base.when import Instant

TOLD_EVERY = timedelta(minutes=1)  # of forged errands: whoever writes rows does not write our log


class ErrandsDone:
    """Thread-safe: many hands answer at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, Instant] = {}  # until when each could be asked again
        self._forged = 0
        self._told_at: Instant | None = None

    def first(self, errand: str, until: Instant, now: Instant) -> bool:
        """Whether it was not answered here before; from now on it was."""
        with self._lock:
            for name in [name for name, over in self._until.items() if over < now]:
                del self._until[name]
            if errand in self._until:
                return False
            self._until[errand] = until
            return True

    def forged(self, now: Instant) -> int:
        """Count one that no process of ours asked; how many to tell of now (0: it was told lately).

        A clock that was set back tells at once.
        """
        with self._lock:
            self._forged += 1
            told = self._told_at
            if told is not None and told <= now < told + TOLD_EVERY:
                return 0
            count, self._forged, self._told_at = self._forged, 0, now
            return count
