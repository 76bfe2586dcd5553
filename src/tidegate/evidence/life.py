"""The life of one grant, read from its request's chain: what an auditor is told of it.

Reads events only, never rows, and says no more than they do: `gone` and every proof word come from
an event that carries them. Used by packs, their verifier and the report.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidegate.base.errors import EvidenceBroken
from tidegate.evidence.events import Event, fields_of

# What a grant is after an event of its own; the others leave it as it is.
STATES: Mapping[str, str] = {
    "grant.readied": "ready",
    "grant.intended": "intended",
    "grant.opened": "open",
    "grant.failed": "failed",
    "grant.closing": "closing",
    "grant.removed": "removed",
    "grant.contradicted": "closing",
    "grant.gone": "gone",
    "grant.signed_off": "signed_off",
    "grant.resumed": "closing",
}
ENDS = frozenset({"gone", "failed", "signed_off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One grant's events, sorted. A single event is None when it has not happened.

    `terms` is the filing or the last edit before the decision; `votes` are all votes of the
    request; `own` is everything about this grant, in order. `removed` is None again after a
    contradiction.
    """

    grant: str
    request: str
    state: str
    terms: Event
    votes: tuple[Event, ...]
    decided: Event | None
    readied: Event
    intended: Event | None
    opened: Event | None
    failed: Event | None
    closing: Event | None
    removed: Event | None
    gone: Event | None
    own: tuple[Event, ...]

    @property
    def over(self) -> bool:
        """Whether an event says that nothing more will happen to it."""
        return self.state in ENDS

    @property
    def proof(self) -> str:
        """How its end is known, as sealed; empty while there is no such event."""
        return str(self.gone.data["proof"]) if self.gone else ""

    @property
    def residual_until(self) -> str:
        """Until when a session taken before the end may act, as sealed last; empty: not sealed."""
        if self.removed is None:
            return ""
        cuts = [event for event in self.own if event.name == "grant.cut"]
        last = cuts[-1] if cuts and cuts[-1].idx > self.removed.idx else self.removed
        return str(last.data["residual_until"])

    @property
    def documents(self) -> tuple[str, ...]:
        """Digests of what decided: the rule sets at filing and at opening, the catalogue entry."""
        named = [str(self.terms.data["rules_digest"])]
        if self.intended:
            named.append(str(self.intended.data["rules_digest"]))
        named.append(str(self.readied.data["role_digest"]))
        return tuple(dict.fromkeys(named))


def read_life(events: Sequence[Event], grant: str) -> Life:
    """The life of `grant` in its request's chain `events`.

    Raises:
        EvidenceBroken: the chain does not begin with a filing, or holds no such grant.
    """
    own = tuple(event for event in events if event.data.get("grant") == grant)
    terms = _last(events, "request.filed", "request.edited")
    readied = _last(own, "grant.readied")
    if terms is None or events[0].name != "request.filed":
        raise EvidenceBroken(
            "not_a_chain", "first event", "`request.filed`", events[0].name if events else "none"
        )
    if readied is None:
        known = sorted(str(e.data["grant"]) for e in events if e.name == "grant.readied")
        raise EvidenceBroken(
            "unknown_grant", "grant", ", ".join(known[:5]) or "one that was made", f"`{grant[:40]}`"
        )
    states = [STATES[event.name] for event in own if event.name in STATES]
    contradicted = _last(own, "grant.contradicted")
    removed = _last(own, "grant.removed")
    if removed and contradicted and contradicted.seq > removed.seq:
        removed = None
    return Life(
        grant=grant,
        request=readied.subject,
        state=states[-1],
        terms=terms,
        votes=tuple(event for event in events if event.name == "request.voted"),
        decided=_last(events, "request.approved"),
        readied=readied,
        intended=_last(own, "grant.intended"),
        opened=_last(own, "grant.opened"),
        failed=_last(own, "grant.failed"),
        closing=_last(own, "grant.closing"),
        removed=removed,
        gone=_last(own, "grant.gone"),
        own=own,
    )


def as_of(life: Life, size: int) -> str:
    """Empty when the grant is over; else until when its story is told: an open end is said."""
    return "" if life.over else f"{life.state} as of checkpoint {size}"


def commitments(event: Event) -> Iterator[tuple[str, str]]:
    """Each (field, commitment) to a personal text in `event`."""
    for field, kind in (fields_of(event.name, event.v) or {}).items():
        value = event.data[field]
        if kind.startswith("personal") and isinstance(value, str):
            yield field, value


def digests_named(events: Iterable[Event]) -> set[str]:
    """Digests of every document any of `events` names."""
    named: set[str] = set()
    for event in events:
        named.update(
            str(event.data[key]) for key in ("rules_digest", "role_digest") if key in event.data
        )
        items = event.data.get("items")
        if isinstance(items, list):
            named.update(str(item.get("role_digest")) for item in items if isinstance(item, dict))
    return named


def _last(events: Sequence[Event], *names: str) -> Event | None:
    return next((event for event in reversed(events) if event.name in names), None)
