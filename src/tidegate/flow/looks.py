"""The last look at each target, for the health gate."""

import threading
from datetime import timedelta

from tidegate.base.when import Instant
from tidegate.catalogue import Target
from tidegate.connectors.port import Connector, Health

FRESH = timedelta(seconds=30)  # a look at a target that may open something is no older


class Looks:
    """The last look at each target, remembered while the process lives. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: dict[str, tuple[Instant, Health]] = {}

    def look(self, connector: Connector, target: Target, now: Instant) -> Health:
        """The health of `target`, asked anew when the last look is older than FRESH."""
        known = self.last(target.id, now, FRESH)
        if known is not None:
            return known
        health = connector.health(target, now)
        self.note(target.id, health, now)
        return health

    def note(self, target: str, health: Health, now: Instant) -> None:
        """Keep a look somebody else took."""
        with self._lock:
            self._looks[target] = (now, health)

    def last(self, target: str, now: Instant, oldest: timedelta) -> Health | None:
        """The last look at `target` when it is no older than `oldest`."""
        with self._lock:
            found = self._looks.get(target)
        return found[1] if found and abs(now - found[0]) <= oldest else None

    def forget(self) -> None:
        """The ways to the clouds changed: look again."""
        with self._lock:
            self._looks.clear()
