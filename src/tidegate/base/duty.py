"""Who does what: opening and closing are duties of their own, and processes say which they have.

A worker says that it is alive by a beat named `worker:ID`, whose text is its duties, its version
and the digest of the rules it judges by.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from tidegate.base.when import Instant


class Duty(StrEnum):
    """What a process may do in a cloud. Each is an identity of its own there."""

    OPEN = "open"
    CLOSE = "close"


ALL: frozenset[Duty] = frozenset(Duty)
NONE: frozenset[Duty] = frozenset()

WORKER = "worker"  # before the colon of a worker's beat; alone, that of an earlier release
SILENT = timedelta(seconds=30)  # a worker beats every two seconds
UNKEPT = "unkept"  # beside the duties in a beat; who knows no such word passes over it
AHEAD = "ahead"  # the same: its journal names what was opened after all the database knows
UNREAD = "unread"  # the same: its journal cannot be read, or not yet
FORGOTTEN = timedelta(days=1)  # beats of the dead are kept for a look on the day after


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of an installation: its name among the others, and what it may do in clouds.

    `key` is what all of them share and the database does not hold (`sealed_box.shared_key`);
    without it a process neither asks errands nor does any.
    """

    id: str = WORKER
    duties: frozenset[Duty] = ALL
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSeen:
    """A worker as its last beat told of it.

    `keeps`: its closing journal takes what others open, so that it closes that without a database.
    `ahead`: that journal names what was opened after everything the database knows. `reads`: it was
    read, so that this is known.
    """

    id: str
    at: Instant
    duties: frozenset[Duty]
    version: str
    rules: str = ""
    keeps: bool = True
    ahead: bool = False
    reads: bool = True

    def silent(self, now: Instant) -> bool:
        """Whether it has not been heard of for SILENT."""
        return now - self.at > SILENT


def duties_of(words: str) -> frozenset[Duty]:
    """The duties a setting names: `all`, `open`, `close` or `none`. Raises ValueError."""
    named = {"all": ALL, "none": NONE}
    return named[words] if words in named else frozenset({Duty(words)})


def told(
    duties: Iterable[Duty],
    version: str,
    rules: str = "",
    *,
    keeps: bool = True,
    ahead: bool = False,
    reads: bool = True,
) -> str:
    """The text of a beat."""
    beside = ((UNKEPT, not keeps), (AHEAD, ahead), (UNREAD, not reads))
    words = [*sorted(duties), *(word for word, so in beside if so)]
    return f"{'+'.join(words) or 'none'} {version} {rules}".rstrip()


def workers(beats: Mapping[str, tuple[Instant, str]]) -> list[WorkerSeen]:
    """Every worker that ever beat and is not forgotten, the one heard last first."""
    found = []
    for name, (at, text) in beats.items():
        kind, _, own = name.partition(":")
        if kind != WORKER:
            continue
        words, _, rest = text.partition(" ")
        version, _, rules = rest.partition(" ")
        said = frozenset(words.split("+"))
        known = frozenset(one for one in Duty if one in said)
        found.append(
            WorkerSeen(
                id=own or WORKER,
                at=at,
                duties=known if own else ALL,
                version=version,
                rules=rules,
                keeps=UNKEPT not in said,
                ahead=AHEAD in said,
                reads=UNREAD not in said,
            )
        )
    return sorted(found, key=lambda one: one.at, reverse=True)


def last_heard(
    beats: Mapping[str, tuple[Instant, str]], duty: Duty | None = None
) -> Instant | None:
    """When a worker with that duty (None: any duty) was last heard; None: never."""
    return next(
        (one.at for one in workers(beats) if (duty in one.duties if duty else one.duties)), None
    )
