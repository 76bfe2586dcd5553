"""The story a request's chain tells, as far as it holds.

Folds the events through the stages' own `evolve` functions and stops at the first that cannot be
joined to what went before. Rows are only ever compared with it: what a trace says comes from here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from tidegate.base.canonical import canonical
from tidegate.base.errors import EvidenceBroken, TidegateError, one_line
from tidegate.evidence.events import Event
from tidegate.evidence.merkle import leaf_hash
from tidegate.evidence.seal import read_event
from tidegate.grant import Grant
from tidegate.request import Request, RequestState
from tidegate.session import Session
from tidegate.store import Rebuilt, Store
from tidegate.store.rebuild import fold

TRIES = 5  # to read rows and chain as of one moment, while the worker goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What `events`, the sound beginning of a chain, leave behind. `gap` says why it ends there."""

    events: tuple[Event, ...]
    request: Request | None
    grants: Mapping[str, Grant]
    sessions: Mapping[str, tuple[Session, ...]]
    gap: str

    def of(self, grant: str) -> tuple[Event, ...]:
        """The events of one grant, in order."""
        return tuple(event for event in self.events if event.data.get("grant") == grant)

    def last(self, grant: str, name: str) -> Event | None:
        """The last event of that name of one grant."""
        own = (event for event in reversed(self.events) if event.data.get("grant") == grant)
        return next((event for event in own if event.name == name), None)


def read_story(events: Sequence[Event], request: str) -> Story:
    """Fold the chain of `request`. Never raises for what the events say: that is a gap."""
    rebuilt = Rebuilt()
    sound: list[Event] = []
    gap = "" if events else "the chain of this request is empty"
    for event in events:
        gap = _unjoined(sound, event, request) or _impossible(rebuilt, event, request)
        if gap:
            break
        sound.append(event)
    sessions: dict[str, tuple[Session, ...]] = {}
    for event in sound:
        if event.name == "session.issued":
            session: Session = rebuilt.get(Session, str(event.data["session"]))
            sessions[session.grant] = (*sessions.get(session.grant, ()), session)
    grants = rebuilt.things[Grant].items()
    return Story(
        events=tuple(sound),
        request=rebuilt.get(Request, request),
        grants={name: thing for name, thing in grants if isinstance(thing, Grant)},
        sessions=sessions,
        gap=gap,
    )


def disagreement(told: Grant | Request | None, row: Grant | Request | None) -> str:
    """Where a row is not what the events say, in one sentence; empty when they agree.

    Names the field and the evidence's value only: a word like a state is never shown on the word of
    a row alone.
    """
    if told is None and row is None:
        return ""
    if told is None or row is None:
        there, absent = ("table", "evidence") if told is None else ("evidence", "table")
        return f"the {there} knows it and the {absent} does not"
    for field in fields(told):
        expected = getattr(told, field.name)
        if getattr(row, field.name) != expected:
            shown = one_line(str(expected))[:80]
            return f"the evidence says {field.name} `{shown}`, the table says otherwise"
    return ""


def gather(store: Store, request: str) -> tuple[list[Event], Request, list[Grant]]:
    """The chain of `request`, its row, and the rows of all its grants, as of one moment.

    An event that cannot be read ends the chain: the rows then know more than it does, and the trace
    stops there. Reads again while rows change in between; after TRIES a busy request may show a
    difference that is none, and the next look settles it.

    Raises:
        NotFound: no such request.
        WorldFailed: the database cannot be read.
    """
    for _ in range(TRIES):
        row, rows = store.request(request), store.grants(request=request)
        events = _readable(leaf for _, leaf in store.events(request))
        if (store.request(request), store.grants(request=request)) == (row, rows):
            break
    return events, row, sorted(rows, key=lambda grant: grant.id)


def _readable(leaves: Iterable[bytes]) -> list[Event]:
    events: list[Event] = []
    for leaf in leaves:
        try:
            events.append(read_event(leaf))
        except EvidenceBroken:
            break
    return events


def _unjoined(sound: Sequence[Event], event: Event, request: str) -> str:
    """Why `event` does not follow the last sound one in the chain of `request`."""
    place = len(sound)
    if event.subject != request:
        return f"event {place} of this chain is of another subject"
    if event.seq != place:
        what = "missing" if event.seq > place else "out of place"
        return f"event {place} of this chain is {what}: event {event.seq} `{event.name}` is there"
    if not sound:
        return "" if event.prev == "" else "the first event of this chain follows another"
    before = sound[-1]
    if event.prev != _link(before):
        return (
            f"event {place} `{event.name}` names another event before it"
            f" than `{before.name}` as it is stored: one of the two was changed"
        )
    return "" if event.idx > before.idx else f"event {place} stands before the one it follows"


def _impossible(rebuilt: Rebuilt, event: Event, request: str) -> str:
    asked = rebuilt.get(Request, request)
    if event.name == "grant.readied" and not (asked and asked.state is RequestState.APPROVED):
        return f"event {event.seq} `{event.name}` makes a grant of a request nobody approved"
    try:
        fold(rebuilt, event.fact)
    except (TidegateError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError):
        # Broad on purpose: each field is of its kind, and inside a list anything can still stand.
        return f"event {event.seq} `{event.name}` cannot follow what is sealed before it"
    return ""


def _link(event: Event) -> str:
    """The leaf hash of an event, from its own canonical bytes."""
    return leaf_hash(
        canonical(
            {
                "v": event.v,
                "idx": event.idx,
                "at": event.at,
                "name": event.name,
                "subject": event.subject,
                "seq": event.seq,
                "prev": event.prev,
                "actor": event.actor,
                "data": event.data,
            }
        )
    ).hex()
