"""The fault points: every place where something can go wrong, by name, and how often it did.

A name is `port.verb.where`. A plan says how likely each point is in one world; a point counts as
hit only when the fault really took place. `make sim` fails when one was never hit.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

CRASHES = ("crash_before", "crash_after")
CHANGE = (
    *CRASHES, "lost_request", "lost_reply", "duplicate", "late", "throttle", "refuse", "down",
    "nothing", "slow",
)  # fmt: skip
CLOUD: Mapping[str, tuple[str, ...]] = {
    "grant": CHANGE,
    "arm": CHANGE,
    "disarm": CHANGE,
    "revoke": CHANGE,
    "cut": CHANGE,
    "issue": (*CRASHES, "lost_request", "lost_reply", "throttle", "refuse", "down", "slow"),
    "observe": (*CRASHES, "lost_reply", "throttle", "refuse", "down", "stale", "slow"),
    "probe": (*CRASHES, "lost_reply", "throttle", "down", "slow"),
    "mend": (*CRASHES, "lost_request", "lost_reply", "throttle", "down", "nothing", "slow"),
    "health": ("down", "refuse"),
}
STORE: Mapping[str, tuple[str, ...]] = {
    "commit": ("crash_before", "full", "lost_reply", "crash_after", "slow"),
    "claim": ("crash_before", "full", "crash_after"),
    "end_due": ("crash_before", "full", "crash_after"),
    "snooze": ("crash_before", "full", "crash_after"),
    "read": ("down", "slow"),
}
JOURNAL: Mapping[str, tuple[str, ...]] = {
    "append": ("crash_before", "torn", "full", "crash_after", "slow"),
    "read": ("down",),
    "compact": ("crash_before", "crash_after"),
}
SELDOM = ("cloud.disarm.", "cloud.mend.", "cloud.issue.")  # called so seldom: struck more often
# What befalls the whole world, for a while or at one instant.
WORLD: Mapping[str, tuple[str, ...]] = {
    "cloud": ("outage", "clock_ahead", "clock_behind"),
    "store": ("outage", "full"),
    "database": ("clock_ahead", "clock_behind"),
    "journal": ("outage",),
    "process": ("killed", "stopped", "clock_ahead", "clock_behind", "beside"),
    "others": ("stood_before", "re_added", "tampered"),
    "laws": ("changed", "raced"),
    "end": ("raced",),
}


def names() -> list[str]:
    """Every fault point."""
    found = []
    for port, verbs in (("cloud", CLOUD), ("store", STORE), ("journal", JOURNAL), ("", WORLD)):
        for verb, wheres in verbs.items():
            found += [f"{port}.{verb}.{where}" if port else f"world.{verb}.{where}"
                      for where in wheres]  # fmt: skip
    return sorted(found)


@dataclass
class Plan:
    """Which points may strike in one world, and how likely each is at each passing."""

    rng: Random
    chances: Mapping[str, float]
    hits: Counter[str] = field(default_factory=Counter)
    calm: bool = False
    _by_verb: dict[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Grouped by port and verb: one draw a call."""
        grouped: dict[str, list[tuple[str, float]]] = {}
        for name, chance in sorted(self.chances.items()):
            verb, _, where = name.rpartition(".")
            grouped.setdefault(verb, []).append((where, chance))
        self._by_verb = {verb: tuple(some) for verb, some in grouped.items()}

    def strikes(self, verb: str) -> str | None:
        """Where the call `port.verb` is struck; None for most."""
        wheres = self._by_verb.get(verb)
        if wheres is None or self.calm:
            return None
        drawn = self.rng.random()
        for where, chance in wheres:
            drawn -= chance
            if drawn < 0:
                return where
        return None

    def wants(self, name: str) -> bool:
        """Whether something that befalls the whole world is planned."""
        return name in self.chances

    def hit(self, name: str) -> None:
        """It took place."""
        self.hits[name] += 1


def planned(
    rng: Random, number: int, featured: Iterable[str] = (), most: int = 5
) -> dict[str, float]:
    """The chances of world `number`: every fourth is calm, the others feature some points.

    The featured points walk through the list with the world's number, so that a run of any length
    beyond a hundred worlds has tried each of them many times; a faint chance of every other one
    makes the pairs.
    """
    every = names()
    chosen = list(featured)
    if not chosen:
        if number % 4 == 0:
            return {}
        first = (number * 3) % len(every)
        chosen = [every[(first + step * 37) % len(every)] for step in range(rng.randint(1, most))]
        if rng.random() < 0.5:
            chosen.append(rng.choice(("world.cloud.outage", "world.process.killed")))
    chances = {name: _chance(rng, name) for name in chosen}
    if rng.random() < 0.3:
        for name in every:
            if not name.startswith("world."):
                chances.setdefault(name, 0.002)
    return chances


def _chance(rng: Random, name: str) -> float:
    if name.startswith("world."):
        return 1.0
    often = 0.04 if name.startswith("store.") else 0.25
    if name.startswith(SELDOM):
        often = 0.5
    elif "crash" in name or name == "journal.append.torn":
        often = min(often, 0.06)
    return rng.choice((0.2, 0.5, 1.0)) * often
