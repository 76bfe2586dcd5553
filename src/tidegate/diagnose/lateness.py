"""`tidegate report lateness`: how late ends were, from the log, with what it does not know.

Grants that are due and not removed have no latency yet. They are counted beside the figures, with
the age of the oldest: without them the figures would be of those that went well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from tidegate.base.canonical import Json
from tidegate.base.errors import EvidenceBroken
from tidegate.base.when import Instant, to_ms, wire
from tidegate.evidence.lateness import EARLY, EXPIRED, Latency, Lateness, figures, measure
from tidegate.evidence.seal import read_event
from tidegate.store import Store

LONGEST_SINCE = timedelta(days=366)
MOST_GRANTS = 200_000  # of one report: some seconds of reading
CHUNK = 500  # chains read together
BY = ("target", "kind", "reason", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Every ended grant of a report with its role kind; `unread` chains could not be read."""

    found: tuple[tuple[Lateness, str], ...]
    unread: int
    cut_short: bool


def lateness_report(
    store: Store, now: Instant, since: timedelta, *, by: str = "all", target: str = ""
) -> dict[str, Json]:
    """The report, ready for JSON. `since` counts back from `now`; ends before it are left out."""
    start = now - since
    measured = measure_since(store, start, target)
    groups: dict[tuple[str, str], list[Lateness]] = {}
    for one, kind in measured.found:
        groups.setdefault((_group(one, kind, by), one.ended), []).append(one)
    return {
        "at": wire(now),
        "since": wire(start),
        "by": by,
        "target": target,
        "unit": "ms",
        "grants": len(measured.found),
        "unread": measured.unread,
        "cut_short": measured.cut_short,
        "groups": [
            _told(name, ended, members, now)
            for (name, ended), members in sorted(
                groups.items(), key=lambda item: (item[0][0], item[0][1] == EARLY)
            )
        ],
        "notes": list(_notes(measured)),
    }


def measure_since(store: Store, start: Instant, target: str = "") -> Measured:
    """Every grant whose removal, or whose due end, came after `start`, measured from its chain."""
    wanted = store.ended_since(start, target, MOST_GRANTS + 1)
    cut_short = len(wanted) > MOST_GRANTS
    kinds: dict[str, str] = {}
    found: list[tuple[Lateness, str]] = []
    unread = 0
    for first in range(0, min(len(wanted), MOST_GRANTS), CHUNK):
        some = wanted[first : first + CHUNK]
        chains = store.chains(request for _, request in some)
        for grant, request in some:
            try:
                events = [read_event(leaf) for leaf in chains.get(request, ())]
                one = measure(events, grant)
            except (EvidenceBroken, KeyError, ValueError):
                unread += 1
                continue
            if one is not None and one.end >= start:
                found.append((one, _kind(store, one.role_digest, kinds)))
    return Measured(found=tuple(found), unread=unread, cut_short=cut_short)


def _kind(store: Store, digest: str, known: dict[str, str]) -> str:
    """The role kind of a kept catalogue entry."""
    if digest not in known:
        data = store.document(digest)
        entry: Mapping[str, Any] = orjson.loads(data) if data else {}
        known[digest] = str(entry.get("kind", "unknown"))
    return known[digest]


def _group(one: Lateness, kind: str, by: str) -> str:
    words = {"target": one.role.partition("/")[0], "kind": kind, "reason": one.reason}
    return words.get(by, "all")


def _told(name: str, ended: str, members: Sequence[Lateness], now: Instant) -> dict[str, Json]:
    told = {
        latency.value: figure.as_json() if figure else None
        for latency in Latency
        for figure in [figures(one.spans[latency] for one in members if latency in one.spans)]
    }
    waiting = [to_ms(now) - to_ms(one.end) for one in members if not one.removed]
    return {
        "group": name,
        "ended": ended,
        "n": len(members),
        "violations": sum(one.violations for one in members),
        "not_removed": len(waiting),
        "oldest_not_removed": max(waiting, default=None),
        **told,
    }


def _notes(measured: Measured) -> Iterator[str]:
    yield (
        "no credential after the end: 0 by construction; `violations` counts sessions sealed after "
        "the end, or good for longer than the approved one"
    )
    yield (
        "`denies` is measured: tried as that access and refused, so at that instant at the latest; "
        "`declared` is what the cloud (a native deadline) or the role kind promises, no measurement"
    )
    untried = sum(Latency.DENIES not in one.spans for one, _ in measured.found)
    if untried:
        yield f"{untried} of {len(measured.found)} ends were not tried: only `declared` is known"
    if any(not one.removed for one, _ in measured.found):
        yield "what is not removed yet has no latency: see `not_removed` and its oldest"
    if measured.unread:
        yield f"{measured.unread} grants could not be read: `tidegate evidence verify`"
    if measured.cut_short:
        yield f"only the first {MOST_GRANTS} grants were measured: ask for less"
    if any(one.ended == EXPIRED and one.violations for one, _ in measured.found):
        yield "a violation is a fault of the broker's lock: keep the log and look at that grant"
