"""Reads what `doctor.examine` judges: database, files, and every target at once, all bounded.

The only file of this room that touches the world, and it changes nothing there: `Store.integrity`
tries a write that writes nothing.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain
from pathlib import Path

from tidegate.base.canonical import digest
from tidegate.base.errors import EvidenceBroken, NotFound, TidegateError, WorldFailed
from tidegate.base.when import Instant, parse_instant, show_duration
from tidegate.catalogue import Catalogue, Target, target_chain
from tidegate.connectors.port import Connector, Health
from tidegate.diagnose.examined import (
    Examined,
    JournalSeen,
    Kept,
    Published,
    Restored,
    RulesSeen,
    TargetSeen,
)
from tidegate.evidence.checkpoint import Keys, check_extends, open_checkpoint
from tidegate.evidence.events import Event
from tidegate.evidence.journal import LARGEST_JOURNAL, JournalLine, read_journal
from tidegate.evidence.seal import read_event
from tidegate.finding import FindingState
from tidegate.grant import Grant, GrantState
from tidegate.policy.lint import lint
from tidegate.policy.rules import RuleSet
from tidegate.store import Store, Wanted

PATIENCE = timedelta(seconds=10)  # for all targets together: somebody waits at a terminal
AT_ONCE = 16  # targets looked at in the same moment
A_DAY = timedelta(days=1)
PAGE = 1_000  # rows a query gives
MOST_PAGES = 20  # of grants looked through: beyond it the faults found are enough to begin with
MOST_UNSEALED = 200  # journal lines held against their rows
MOST_RESTORED = 500  # newest events of a target that are searched

GRANTED = frozenset({GrantState.INTENDED, GrantState.OPEN, GrantState.CLOSING})
_NOT_CLOSED = frozenset({FindingState.OPEN, FindingState.ASSIGNED})


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What this process goes by. `fault` says what is wrong with newer files on disk, if anything.

    `groups` is every group known, `empty` those that certainly have no member.
    """

    rules: RuleSet
    catalogue: Catalogue
    groups: frozenset[str]
    empty: frozenset[str] = frozenset()
    fault: TidegateError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things are kept; `witnessed` is the newest checkpoint read back from outside.

    `database` is None when it is on a server of its own.
    """

    database: Path | None
    journal: Path
    witnessed: str | None = None


def look(
    store: Store,
    connectors: Mapping[str, Connector],
    laws: InForce,
    *,
    keys: Keys,
    witness: Published,
    places: Places,
    clock: Callable[[], Instant],
    patience: timedelta = PATIENCE,
) -> Examined:
    """Read everything once. What cannot be read becomes a part of the answer, never an error.

    Args:
        store: the open database.
        connectors: by name, as targets name them.
        laws: rules and catalogue in force.
        keys: the log's own keys, as configured.
        witness: how publishing went in this process.
        places: where the files are.
        clock: read when each target is asked, so that waiting is not taken for skew.
        patience: for all targets together; those still silent are told as such.
    """
    targets = look_at_targets(laws.catalogue.targets.values(), connectors, clock, patience)
    now, fault, kept = clock(), None, None
    try:
        kept = _kept(store, laws.catalogue.targets, now)
        differs = mismatch(store, keys, places.witnessed)
    except WorldFailed as failed:
        fault, differs = failed, ""
    return Examined(
        now=now,
        kept=kept,
        fault=fault,
        free=_free(
            {
                **({"database": places.database} if places.database else {}),
                "journal": places.journal,
            }
        ),
        keys=keys,
        witness=replace(witness, mismatch=witness.mismatch or differs),
        journal=_journal(places.journal, store if kept else None),
        rules=_rules(laws),
        targets=targets,
    )


def look_at_targets(
    targets: Iterable[Target],
    connectors: Mapping[str, Connector],
    clock: Callable[[], Instant],
    patience: timedelta = PATIENCE,
) -> tuple[TargetSeen, ...]:
    """Ask every target for its health, AT_ONCE of them at a time, for at most `patience`."""
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="tidegate-doctor")
    try:
        asked = {
            target.id: pool.submit(_ask, target, connectors.get(target.connector), clock)
            for target in targets
        }
        wait(asked.values(), timeout=patience.total_seconds())
        return tuple(
            _answer(name, future, clock, patience) for name, future in sorted(asked.items())
        )
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ask(
    target: Target, connector: Connector | None, clock: Callable[[], Instant]
) -> tuple[Instant, Health | None]:
    asked_at = clock()
    return asked_at, connector.health(target, asked_at) if connector else None


def _answer(
    name: str,
    future: "Future[tuple[Instant, Health | None]]",
    clock: Callable[[], Instant],
    patience: timedelta,
) -> TargetSeen:
    if not future.done():
        said = f"no answer within {show_duration(patience)}"
        return TargetSeen(target=name, asked_at=clock(), health=None, fault=said)
    broken = future.exception()
    if broken is not None:  # `health` never raises: this is a bug of ours, told instead of hidden
        said = f"its health check failed with {type(broken).__name__}"
        return TargetSeen(target=name, asked_at=clock(), health=None, fault=said)
    asked_at, health = future.result()
    said = "" if health else "its connector is not installed or not configured"
    return TargetSeen(target=name, asked_at=asked_at, health=health, fault=said)


def _kept(store: Store, targets: Iterable[str], now: Instant) -> Kept:
    return Kept(
        problems=store.integrity(),
        head=store.head(),
        now=store.now(),
        beats=store.beats(),
        rules_sealed=_last_digest(store, "rules"),
        catalogue_sealed=_last_digest(store, "catalogue"),
        closing=_grants(store, GRANTED),
        removed=_grants(store, frozenset({GrantState.REMOVED})),
        ungranted=tuple(request.id for request in store.approved_without_grants(PAGE)),
        restored=_restored(store, targets, now - A_DAY),
        panics=tuple(one for one in store.panics(stopping_at=now, limit=PAGE) if one.stops(now)),
        findings=tuple(store.findings(Wanted(states=_NOT_CLOSED), PAGE)),
    )


def _grants(store: Store, states: frozenset[GrantState]) -> tuple[Grant, ...]:
    found: list[Grant] = []
    before: str | None = None
    for _ in range(MOST_PAGES):
        page = store.grants(states=states, limit=PAGE, before=before)
        found += page
        if len(page) < PAGE:
            break
        before = page[-1].id
    return tuple(found)


def _last_digest(store: Store, subject: str) -> str | None:
    events = _events(store, subject, 1)
    return str(events[-1].data["digest"]) if events else None


def _restored(store: Store, targets: Iterable[str], since: Instant) -> tuple[Restored, ...]:
    found = []
    chains = (_events(store, target_chain(target), MOST_RESTORED) for target in sorted(targets))
    for event in chain.from_iterable(chains):
        if event.name == "cut.restored" and parse_instant(event.at) >= since:
            grants = event.data["grants"]
            found.append(
                Restored(
                    target=str(event.data["target"]),
                    role=str(event.data["role"]),
                    grants=tuple(map(str, grants)) if isinstance(grants, list) else (),
                    at=event.at,
                )
            )
    return tuple(found)


def _events(store: Store, subject: str, newest: int) -> list[Event]:
    """The newest readable events of a subject; `evidence verify` is what finds unreadable ones."""
    events = []
    for _, leaf in store.events(subject)[-newest:]:
        try:
            events.append(read_event(leaf))
        except EvidenceBroken:
            continue
    return events


def mismatch(store: Store, keys: Keys, witnessed: str | None) -> str:
    """How a witnessed checkpoint contradicts the log as it is, or empty. Raises WorldFailed."""
    if witnessed is None:
        return ""
    try:
        head = open_checkpoint(store.head().checkpoint_text, keys)
        old = open_checkpoint(witnessed, keys)
        if old.size > head.size:
            return f"the log has {head.size} events, and {old.size} were witnessed: it was cut"
        check_extends(old, head, store.consistency(old.size, head.size))
    except TidegateError as fault:
        if isinstance(fault, WorldFailed):
            raise
        return f"the witnessed checkpoint does not fit the log: {fault.message}"
    return ""


def _rules(laws: InForce) -> RulesSeen:
    return RulesSeen(
        digest=laws.rules.digest,
        catalogue_digest=digest(laws.catalogue.document()),
        count=len(laws.rules.rules),
        warnings=lint(laws.rules, laws.catalogue, laws.groups, laws.empty),
        fault=laws.fault,
    )


def _free(files: Mapping[str, Path]) -> dict[str, int]:
    found = {}
    for name, path in files.items():
        try:
            found[name] = shutil.disk_usage(path.parent).free
        except OSError:
            continue  # the place is not there: the check of the file itself says so
    return found


def _journal(path: Path, store: Store | None) -> JournalSeen:
    """Read the journal, and open it for writing without writing."""
    try:
        if path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC))
            size, data = path.stat().st_size, path.read_bytes()
        else:
            size, data = 0, b""
    except OSError as fault:
        return JournalSeen(fault=f"`{path.name}` cannot be used: {fault.strerror}")
    if not size and not os.access(path.parent, os.W_OK):
        return JournalSeen(fault=f"`{path.name}` cannot be made: its directory is not writable")
    contents = read_journal(data)
    full = f"`{path.name}` has {size} bytes, expected at most {LARGEST_JOURNAL}"
    return JournalSeen(
        fault=full if size > LARGEST_JOURNAL else "",
        broken=contents.broken,
        unsealed=_unsealed(contents.lines, store),
    )


def _unsealed(lines: Iterable[JournalLine], store: Store | None) -> int:
    """How many grants were closed by a line that neither the journal nor the rows call sealed."""
    done: set[str] = set()
    for line in lines:
        if line.kind == "removed":
            done.add(line.grant)
        elif line.kind in ("noted", "sealed", "intended"):
            done.discard(line.grant)
    if store is None:
        return len(done)
    return sum(_not_sealed(store, name) for name in sorted(done)[:MOST_UNSEALED])


def _not_sealed(store: Store, grant: str) -> bool:
    try:
        return store.grant(grant).removed_at is None
    except NotFound:
        return True
