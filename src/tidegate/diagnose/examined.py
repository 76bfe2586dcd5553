"""What `doctor` judges, as values: read by `looking.py`, judged by `doctor.py`, made by tests."""

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.base.errors import TidegateError
from tidegate.base.when import Instant
from tidegate.connectors.port import Health, Trouble
from tidegate.evidence.checkpoint import Keys
from tidegate.evidence.witnesses import PlaceSeen
from tidegate.finding import Finding
from tidegate.grant import Grant
from tidegate.panic import Panic
from tidegate.policy.finding import RuleFinding
from tidegate.store import Head


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """One `cut.restored` of the last day: a deny of ours that somebody removed."""

    target: str
    role: str
    grants: tuple[str, ...]
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the database answered.

    Attributes:
        problems: what `Store.integrity` found.
        now: the database's clock, read at the same moment as `Examined.now`.
        rules_sealed, catalogue_sealed: digests last sealed as in force, None before the first.
        closing: grants that are intended, open or closing.
        removed: grants that are removed and not over.
        ungranted: approved requests for which grants are missing.
        panics: those by which something is kept shut now.
        findings: those that are not closed, newest first, as far as one page goes.
    """

    problems: tuple[str, ...]
    head: Head
    now: Instant
    beats: Mapping[str, tuple[Instant, str]]
    rules_sealed: str | None
    catalogue_sealed: str | None
    closing: tuple[Grant, ...]
    removed: tuple[Grant, ...]
    ungranted: tuple[str, ...]
    restored: tuple[Restored, ...]
    panics: tuple[Panic, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How publishing checkpoints went. `fault` is the last failure, empty when it went well.

    `mismatch` says how the newest checkpoint kept outside contradicts the log; empty when not.
    `published_size` and `published_at` are those of the place that has least; `places` holds each.
    """

    configured: bool
    published_size: int
    published_at: Instant | None
    fault: str = ""
    mismatch: str = ""
    places: tuple[PlaceSeen, ...] = ()


def published(places: tuple[PlaceSeen, ...], unread: str = "") -> Published:
    """How publishing went at all of `places` together. `unread`: why none could be read back."""
    least = min(places, key=lambda seen: seen.size, default=None)
    faults = [seen.fault for seen in places if seen.fault]
    return Published(
        configured=bool(places),
        published_size=least.size if least else 0,
        published_at=least.at if least else None,
        fault=faults[0] if faults else unread,
        mismatch=next((f"witness {one.place}: {one.forked}" for one in places if one.forked), ""),
        places=places,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSeen:
    """The closing journal. `fault` says why it cannot be read or written; empty when it can.

    `broken` are numbers of damaged lines; `unsealed` counts closings done and not sealed yet.
    """

    fault: str = ""
    broken: tuple[int, ...] = ()
    unsealed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesSeen:
    """Rules and catalogue in force in this process, and what is wrong with the files on disk."""

    digest: str
    catalogue_digest: str
    count: int
    warnings: tuple[RuleFinding, ...] = ()
    fault: TidegateError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSeen:
    """One look at a target, begun at `asked_at`. `health` is None when none came: `fault` why.

    `gate` is why nothing opens there (empty: it is open), None when that was not asked.
    `administrators` is what keeps whoever comes to administer its account from being told.
    """

    target: str
    asked_at: Instant
    health: Health | None
    fault: str = ""
    gate: tuple[Trouble, ...] | None = None
    administrators: Trouble | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """Everything `examine` judges, read already. `kept` is None when `fault` kept it from us.

    `free` is the free room in bytes by what is kept there (`database`, `journal`).
    """

    now: Instant
    kept: Kept | None
    fault: TidegateError | None
    free: Mapping[str, int]
    keys: Keys
    witness: Published
    journal: JournalSeen
    rules: RulesSeen
    targets: tuple[TargetSeen, ...]
