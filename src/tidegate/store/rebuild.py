"""State from events alone (I7): fold every event again and compare with the rows.

Uses the same `evolve` functions that made the rows, on nothing but sealed events. Compared are the
columns as they are stored, so that a row nobody could read back is found as well.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from tidegate.base.errors import EvidenceBroken, Stale
from tidegate.base.fact import Fact, Thing
from tidegate.catalogue import (
    Assignment,
    Baseline,
    Membership,
    Principal,
    evolve_baseline,
    evolve_membership,
    evolve_principal,
    hold,
    let_go,
    membership_id,
    prolong,
)
from tidegate.evidence.events import Event
from tidegate.evidence.seal import read_event
from tidegate.finding import Finding
from tidegate.finding import evolve as evolve_finding
from tidegate.grant import Grant
from tidegate.grant import evolve as evolve_grant
from tidegate.notice import notice_of
from tidegate.panic import Panic
from tidegate.panic import evolve as evolve_panic
from tidegate.request import Request
from tidegate.request import evolve as evolve_request
from tidegate.session import Session
from tidegate.session import evolve as evolve_session
from tidegate.store.log import Readable, pages
from tidegate.store.reads import stored_rows
from tidegate.store.rows import Codec, Value, codecs

MOST_DIFFERENCES = 1_000  # a screen shows a few; more only say "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One column that is not what the events say.

    A row without events, or events without a row, differ in the field `row`: `present`, `absent`.
    """

    table: str
    id: str
    field: str
    expected: Value
    got: Value

    def text(self) -> str:
        """One sentence."""
        told = f"{self.field}: the events say `{self.expected}`, the row `{self.got}`"
        return f"{self.table} `{self.id}`: {told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """Every thing as the events leave it, by class and id."""

    things: dict[type, dict[str, Thing]] = field(
        default_factory=lambda: {kind: {} for kind in codecs()}
    )

    def get(self, kind: type, name: str) -> Any:
        """The thing of that kind and id, or None."""
        return self.things[kind].get(name)

    def put(self, thing: Thing) -> None:
        """Keep the newest state of a thing."""
        self.things[type(thing)][thing.id] = thing


def rebuild(events: Iterable[Event]) -> Rebuilt:
    """Fold all `events`, in order, into the state they leave.

    Raises:
        EvidenceBroken: an event that cannot happen in the state before it.
    """
    rebuilt = Rebuilt()
    for event in events:
        try:
            fold(rebuilt, event.fact)
        except (Stale, RuntimeError, KeyError) as error:
            raise EvidenceBroken(
                "impossible_event",
                f"event {event.idx}",
                "one that can follow those before it",
                f"`{event.name}` ({error})",
            ) from error
    return rebuilt


def fold(rebuilt: Rebuilt, fact: Fact) -> None:
    """Let one fact change the things it is about. Facts that change no row are passed over."""
    data = fact.data
    match fact.name.partition(".")[0]:
        case "request":
            before = rebuilt.get(Request, data["request"])
            rebuilt.put(evolve_request(before, fact))
        case "grant":
            _fold_grant(rebuilt, fact)
        case "access" if fact.name == "access.gone_early":
            rebuilt.put(notice_of(fact))
        case "session":
            _fold_session(rebuilt, fact)
        case "principal":
            rebuilt.put(evolve_principal(rebuilt.get(Principal, data["principal"]), fact))
        case "membership":
            name = membership_id(data["principal"], data["group"], data["source"])
            rebuilt.put(evolve_membership(rebuilt.get(Membership, name), fact))
        case "finding":
            rebuilt.put(evolve_finding(rebuilt.get(Finding, data["finding"]), fact))
        case "baseline":
            rebuilt.put(evolve_baseline(rebuilt.get(Baseline, data["role"]), fact))
        case "panic":
            rebuilt.put(evolve_panic(rebuilt.get(Panic, data["panic"]), fact))


def compare(store: Readable) -> list[Difference]:
    """Rebuild everything from the events and compare it with every row, in one view.

    Returns:
        What differs, table by table; at most MOST_DIFFERENCES.

    Raises:
        EvidenceBroken: an event cannot be read, or cannot follow those before it.
    """
    found: list[Difference] = []
    with store.reading() as db:
        rebuilt = rebuild(read_event(leaf) for _, leaf in pages(db))
        for kind, codec in codecs().items():
            for difference in _compare_table(db, codec, rebuilt.things[kind]):
                found.append(difference)
                if len(found) == MOST_DIFFERENCES:
                    return found
    return found


def _fold_grant(rebuilt: Rebuilt, fact: Fact) -> None:
    grant: Grant = evolve_grant(rebuilt.get(Grant, fact.data["grant"]), fact)
    rebuilt.put(grant)
    if fact.name == "grant.intended":
        rebuilt.put(hold(rebuilt.get(Assignment, grant.assignment), fact))
    elif fact.name in ("grant.closing", "grant.failed"):
        held: Assignment | None = rebuilt.get(Assignment, grant.assignment)
        if held is not None and grant.id in held.holders:
            rebuilt.put(let_go(held, fact))
    elif fact.name == "grant.extended":
        rebuilt.put(prolong(rebuilt.get(Assignment, grant.assignment), fact))
    elif fact.name == "grant.warned":
        rebuilt.put(notice_of(fact))


def _fold_session(rebuilt: Rebuilt, fact: Fact) -> None:
    session = evolve_session(rebuilt.get(Session, fact.data["session"]), fact)
    rebuilt.put(session)
    if fact.name == "session.issued":
        rebuilt.put(evolve_grant(rebuilt.get(Grant, session.grant), fact))


def _compare_table(
    db: Connection, codec: Codec[Any], expected: Mapping[str, Thing]
) -> Iterator[Difference]:
    encode: Callable[[Any], dict[str, Value]] = codec.encode
    table = codec.table.name
    seen: set[str] = set()
    for row in stored_rows(db, codec.table):
        name = str(row["id"])
        seen.add(name)
        thing = expected.get(name)
        if thing is None:
            yield _whole(table, name, expected="absent", got="present")
            continue
        for column, value in encode(thing).items():
            if row[column] != value:
                yield Difference(
                    table=table, id=name, field=column, expected=value, got=row[column]
                )
    for name in sorted(expected.keys() - seen):
        yield _whole(table, name, expected="present", got="absent")


def _whole(table: str, name: str, *, expected: str, got: str) -> Difference:
    return Difference(table=table, id=name, field="row", expected=expected, got=got)
