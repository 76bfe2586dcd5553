"""How late an end was, from sealed events alone: five latencies that are never mixed.

All count from the *end*: for a grant that expired the end that was approved, for one that ended
early the instant that was decided, whichever comes first. Never from when we got round to it.
Everything is in milliseconds. What was not measured is told as such: a promise is no measurement.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tidegate.base.canonical import Json
from tidegate.base.when import Instant, parse_instant, to_ms
from tidegate.evidence.events import Event

EXPIRED, EARLY = "expired", "early"
ENDS = ("grant.intended", "grant.extended")  # what fixes or moves the approved end
TRIED = frozenset({"revoke", "read_back"})  # steps of a `grant.noted` that followed a call


class Latency(StrEnum):
    """From the end to what."""

    SENT = "sent"  # the first call that takes it away was sent
    REMOVED = "removed"  # read back: no new session can start
    GONE = "gone"  # nobody can act under it any more
    DENIES = (
        "denies"  # measured: tried as that access and refused, so at this instant at the latest
    )
    DECLARED = "declared"  # the cloud or the role kind promises to refuse from then on


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """One ended grant. `spans` holds what is sealed of it, in milliseconds from `end`, at least 0.

    `violations` counts credentials issued after the end, or good for longer than the approved one:
    always 0, or the broker's lock failed.
    """

    grant: str
    request: str
    role: str
    role_digest: str
    connector: str
    reason: str
    ended: str
    end: Instant
    spans: Mapping[Latency, int]
    violations: int

    @property
    def removed(self) -> bool:
        """Whether it was read back as removed."""
        return Latency.REMOVED in self.spans


def measure(events: Sequence[Event], grant: str) -> Lateness | None:
    """What is sealed of `grant` in its request's chain `events`; None when it has no end yet."""
    own = [event for event in events if event.data.get("grant") == grant]
    closing = _last(own, "grant.closing")
    intended = _last(own, "grant.intended")
    readied = _last(own, "grant.readied")
    if closing is None or intended is None or readied is None:
        return None
    approved = parse_instant(str(_last(own, *ENDS).data["ends_at"]))  # type: ignore[union-attr]
    reason = str(closing.data["reason"])
    sealed_later = [_at(one, "acted_at") for one in own if one.name == "journal.sealed"]
    decided = min([_at(closing), *sealed_later])
    end = approved if reason == EXPIRED else min(approved, decided)
    return Lateness(
        grant=grant,
        request=closing.subject,
        role=str(readied.data["role"]),
        role_digest=str(readied.data["role_digest"]),
        connector=str(intended.data["connector"]),
        reason=reason,
        ended=EXPIRED if reason == EXPIRED else EARLY,
        end=end,
        spans={
            name: max(0, to_ms(at) - to_ms(end))
            for name, at in _instants(own, closing, sealed_later).items()
        },
        violations=_violations(own, end, approved),
    )


def _instants(
    own: Sequence[Event], closing: Event, sealed_later: Sequence[Instant]
) -> dict[Latency, Instant]:
    """When each thing was first true, as far as that is sealed."""
    found: dict[Latency, Instant] = {}
    after = [event for event in own if event.seq > closing.seq]
    sent = [
        *(_at(one, "sent_at") for one in after if one.name == "end.sent"),
        *(_at(one) for one in after if one.name == "grant.noted" and one.data["step"] in TRIED),
        *(_at(one, "acted_at") for one in after if one.name == "grant.removed"),
        *sealed_later,
    ]
    if sent:
        found[Latency.SENT] = min(sent)
    removed, contradicted = _last(after, "grant.removed"), _last(after, "grant.contradicted")
    if removed and contradicted and contradicted.seq > removed.seq:
        removed = None
    if removed is None:
        return found
    # What the journal read back counts from then, unless it turned out not to hold.
    early = sealed_later if contradicted is None else ()
    found[Latency.REMOVED] = min([_at(removed), *early])
    gone = _last(after, "grant.gone")
    denied = _denied(gone)
    if gone:
        found[Latency.GONE] = _at(gone)
    if denied:
        found[Latency.DENIES] = denied
    cuts = [one for one in after if one.name == "grant.cut" and one.seq > removed.seq]
    found[Latency.DECLARED] = _at((cuts or [removed])[-1], "residual_until")
    return found


def _denied(gone: Event | None) -> Instant | None:
    """When the cloud was seen to refuse, tried as that access; a simulation or a list is no try."""
    how = gone.data.get("how") if gone else None
    if gone is None or gone.data["proof"] != "denied" or not isinstance(how, dict):
        return None
    return _at(gone, "acted_at")


def _violations(own: Sequence[Event], end: Instant, approved: Instant) -> int:
    issued = [event for event in own if event.name == "session.issued"]
    return sum(_at(one) > end or _at(one, "bound_until") > approved for one in issued)


def _at(event: Event, field: str = "at") -> Instant:
    return parse_instant(str(event.data[field]))


def _last(events: Sequence[Event], *names: str) -> Event | None:
    return next((event for event in reversed(events) if event.name in names), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is told of one latency of a group: milliseconds, by nearest rank (no interpolation)."""

    n: int
    p50: int
    p95: int
    p99: int
    most: int

    def as_json(self) -> dict[str, Json]:
        """Ready for JSON."""
        return {"n": self.n, "p50": self.p50, "p95": self.p95, "p99": self.p99, "max": self.most}


def figures(spans: Iterable[int]) -> Figures | None:
    """The figures of `spans`; None of none: an empty group has no percentile."""
    ranked = sorted(spans)
    if not ranked:
        return None

    def rank(percent: int) -> int:
        return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]

    return Figures(n=len(ranked), p50=rank(50), p95=rank(95), p99=rank(99), most=ranked[-1])
