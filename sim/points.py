"""The fault points: every place where something can go wrong, by name, and how often it did.

A name is `port.verb.where`. A plan says how likely each point is in one world; a point counts as
hit only when the fault really took place. `make sim` fails when one was never hit.
"""

from collections import Counter
from collections.abc import Mapping
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
# How often a crowded world calls each verb before its last fault is over, as counted; of those in
# PACED the time decides, of the others how many people ask.
CALLS: Mapping[str, int] = {
    "cloud.grant": 600, "cloud.arm": 800, "cloud.disarm": 500, "cloud.revoke": 600,
    "cloud.cut": 1_000, "cloud.issue": 600, "cloud.observe": 2_300, "cloud.probe": 1_300,
    "cloud.mend": 40, "cloud.health": 100,
    "store.commit": 5_000, "store.claim": 1_000, "store.end_due": 500, "store.snooze": 900,
    "store.read": 70_000,
    "journal.append": 3_000, "journal.read": 800, "journal.compact": 20,
}  # fmt: skip
PACED = ("cloud.mend", "cloud.health", "journal.compact", "store.claim", "store.end_due")
CROWD = 800  # people's wishes in the world in which they were counted
STRIKES = 8  # how often a featured point strikes in a crowded world, about
DEATHS = 5  # the same where the process dies: it is down for a while then, and nobody is served
FAINT = (2.0, 0.2)  # the same, where every point may strike: in general, and where it dies
# The highest chance at each call: nothing would open where every commit fails.
SHARE = 0.25
STORE_SHARE = 0.04
READ_SHARE = 0.01  # one wish is some hundred readings
DEATH_SHARE = 0.06
SELDOM_SHARE = 0.5  # of what is called so seldom that it has no other chance
SELDOM = 30  # calls
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
        """Whether a point, or one of the verb `port.verb`, is planned."""
        return name in self.chances or name in self._by_verb

    def hit(self, name: str) -> None:
        """It took place."""
        self.hits[name] += 1


CALM = 4  # every so many worlds nothing fails
LONG = 8  # every so many is a long one of few people; in the others many ask at once
WALKED = 11  # points a crowded world features: each in two of thirty-three worlds
BEFALLING = 2  # the same, of what befalls the whole world
OFTEN = 5  # how many of the former strike again and again, at the most
FEW = 5  # points a long world features at the most, all of them again and again


def is_long(number: int) -> bool:
    """Whether world `number` is one of few people."""
    return number % LONG == LONG - 1


def turn_of(number: int) -> int:
    """How many worlds before world `number` are crowded and not calm: how far the walk is."""
    return sum(1 for one in range(number) if one % CALM and not is_long(one))


def planned(rng: Random, number: int, wishes: int = CROWD) -> dict[str, float]:
    """The chances of world `number`, in which people have so many wishes.

    Every fourth is calm. The crowded ones walk through the list, so that a run of any length has
    tried each point about as often as any other; long ones have few calls, and draw theirs.
    """
    if number % CALM == 0:
        return {}
    every = names()
    calls = [name for name in every if not name.startswith("world.")]
    if is_long(number):
        drawn = rng.sample(every, rng.randint(1, FEW))
        chances = {name: _often(rng, name, wishes) for name in drawn}
    else:
        turn = turn_of(number)
        chances = {name: _seldom(name, wishes) for name in _walk(calls, turn, WALKED)}
        for name in rng.sample(sorted(chances), rng.randint(0, OFTEN)):
            chances[name] = _often(rng, name, wishes)
        befalls = [name for name in every if name.startswith("world.")]
        chances |= dict.fromkeys(_walk(befalls, turn, BEFALLING), 1.0)
    if rng.random() < 0.3:
        for name in calls:
            chances.setdefault(name, min(_most(name), FAINT[_deadly(name)] / _called(name, wishes)))
    return chances


def _walk(among: list[str], turn: int, count: int) -> list[str]:
    """The next `count`; each round in another order, so that none is always in the same company."""
    found = []
    for step in range(turn * count, (turn + 1) * count):
        round_, at = divmod(step, len(among))
        found.append(Random(f"round {round_}").sample(among, len(among))[at])
    return found


def _deadly(name: str) -> bool:
    return "crash" in name or name == "journal.append.torn"


def _called(name: str, wishes: int) -> float:
    """How often its verb is called in a world of so many wishes."""
    verb = name.rpartition(".")[0]
    return CALLS[verb] if verb in PACED else CALLS[verb] * wishes / CROWD


def _most(name: str) -> float:
    verb = name.rpartition(".")[0]
    if CALLS[verb] < SELDOM:
        return SELDOM_SHARE
    if verb == "store.read":
        return READ_SHARE
    share = STORE_SHARE if verb.startswith("store.") else SHARE
    return min(share, DEATH_SHARE) if _deadly(name) else share


def _seldom(name: str, wishes: int) -> float:
    return min(_most(name), (DEATHS if _deadly(name) else STRIKES) / _called(name, wishes))


def _often(rng: Random, name: str, wishes: int) -> float:
    if name.startswith("world."):
        return 1.0
    share = rng.choice((0.2, 0.5, 1.0)) * _most(name)
    seldom = _seldom(name, wishes)
    return min(share, seldom) if _deadly(name) else max(share, seldom)
