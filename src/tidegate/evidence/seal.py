"""Facts become events, and events are read back: the only two ways through the leaf format.

`seal` gives a batch of facts their place in the log and in their chains; `read_event` accepts
nothing that `seal` could not have written. Pure: the commit writer brings index, instant and heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from tidegate.base.errors import EvidenceBroken
from tidegate.base.fact import Fact
from tidegate.base.when import Instant, wire
from tidegate.evidence.events import EVENTS, LONGEST_LEAF, Event, latest
from tidegate.evidence.fields import Fits, fits, is_count, is_hash, is_instant, misfit, plan
from tidegate.evidence.merkle import leaf_hash

LONGEST_SUBJECT = 200  # characters: ids and the names of the house's own chains

Head = tuple[int, str]  # (length of a chain, leaf hash of its last event in hex)
NEW_CHAIN: Head = (0, "")

_KEYS = frozenset({"v", "idx", "at", "name", "subject", "seq", "prev", "actor", "data"})
_dumps = partial(orjson.dumps, option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """An event as it is stored. `data` is the exact leaf, `hash` its leaf hash (32 bytes).

    The head of `subject`'s chain after it is `head`.
    """

    idx: int
    subject: str
    seq: int
    name: str
    at: Instant
    data: bytes
    hash: bytes

    @property
    def head(self) -> Head:
        """Length and last hash of its chain, counting this event."""
        return (self.seq + 1, self.hash.hex())


def seal(
    facts: Sequence[Fact], *, first_idx: int, at: Instant, heads: Mapping[str, Head]
) -> list[Sealed]:
    """The events of `facts`, in order, from index `first_idx` on, all sealed at `at`.

    `heads` holds the chain head of every subject among `facts`; a missing one starts a chain. Facts
    of one subject chain on each other within the batch.

    Raises:
        RuntimeError: a fact does not fit its event, or a head is impossible: our own bug.
    """
    sealed_at = wire(at)
    grown: dict[str, Head] = {}
    sealed: list[Sealed] = []
    for idx, fact in enumerate(facts, first_idx):
        subject = fact.subject
        seq, prev = grown.get(subject) or heads.get(subject, NEW_CHAIN)
        _check_fact(fact, seq, prev)
        try:
            leaf = _dumps(
                {
                    "v": latest(fact.name),
                    "idx": idx,
                    "at": sealed_at,
                    "name": fact.name,
                    "subject": subject,
                    "seq": seq,
                    "prev": prev,
                    "actor": fact.actor,
                    "data": fact.data,
                }
            )
        except orjson.JSONEncodeError as error:  # a lone surrogate: no UTF-8, so no leaf
            raise RuntimeError(f"fact {fact.name} of {subject}: {error}") from error
        if len(leaf) > LONGEST_LEAF:
            raise RuntimeError(f"leaf of {fact.name}: {len(leaf)} bytes, at most {LONGEST_LEAF}")
        made = Sealed(
            idx=idx,
            subject=subject,
            seq=seq,
            name=fact.name,
            at=at,
            data=leaf,
            hash=leaf_hash(leaf),
        )
        grown[subject] = made.head
        sealed.append(made)
    return sealed


def read_event(leaf: bytes) -> Event:
    """The event of `leaf`. Raises EvidenceBroken for anything `seal` could not have written."""
    return Event(**read_leaf(leaf))


def read_leaf(leaf: bytes) -> dict[str, Any]:
    """`read_event` without the dataclass, for those who read a whole log.

    Raises:
        EvidenceBroken: too long, not JSON, not canonical, not the keys of an event, an unknown name
            or version, or data that does not fit it.
    """
    if len(leaf) > LONGEST_LEAF:
        raise EvidenceBroken(
            "long_event", "event", f"at most {LONGEST_LEAF} bytes", f"{len(leaf)} bytes"
        )
    try:
        value = orjson.loads(leaf)
        canonical = _dumps(value)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise EvidenceBroken("not_json", "event", "canonical JSON", str(error)) from error
    if canonical != leaf:
        # Another spelling of the same value, such as a blank, an escape or a key written twice.
        raise EvidenceBroken(
            "not_canonical", "event", "canonical bytes (RFC 8785)", "another spelling"
        )
    if type(value) is not dict or value.keys() != _KEYS:
        raise EvidenceBroken("not_an_event", "event", "the nine keys of an event", _shape(value))
    _check_head(value)
    name = value["name"]
    fields = plan(value["v"], name) if name in EVENTS else None
    if fields is None:
        raise EvidenceBroken(
            "unknown_event",
            "event",
            "a known name in a known version",
            f"`{name[:80]}` of version {value['v']}",
        )
    if not fits(fields, value["data"]):
        raise EvidenceBroken("bad_data", *misfit(name, value["v"], value["data"]))
    return value


def _check_fact(fact: Fact, seq: int, prev: str) -> None:
    if fact.name not in EVENTS:
        raise RuntimeError(f"`{fact.name}` is not an event")
    fields = plan(latest(fact.name), fact.name)
    if fields is None or not fits(fields, fact.data):
        what, expected, got = misfit(fact.name, latest(fact.name), fact.data)
        raise RuntimeError(f"{what}: expected {expected}, got {got}")
    if not (_is_name(fact.subject) and _is_name(fact.actor)):
        raise RuntimeError(f"{fact.name} needs a subject and an actor of bounded length")
    if not (is_count(seq) and (is_hash(prev) if seq else prev == "")):
        raise RuntimeError(f"chain head of {fact.subject}: ({seq}, {prev!r})")


def _check_head(value: dict[str, Any]) -> None:
    """Everything about an event but its data."""
    seq, prev = value["seq"], value["prev"]
    if (
        is_count(value["v"])
        and is_count(value["idx"])
        and is_count(seq)
        and is_instant(value["at"])
        and type(value["name"]) is str
        and _is_name(value["subject"])
        and _is_name(value["actor"])
        and (is_hash(prev) if seq else prev == "")
    ):
        return
    raise _bad_head(value)


def _bad_head(value: dict[str, Any]) -> EvidenceBroken:
    """Names the first key that is not what an event has there."""
    checks: tuple[tuple[str, Fits, str], ...] = (
        ("v", is_count, "a version"),
        ("idx", is_count, "an index"),
        ("seq", is_count, "a place in a chain"),
        ("at", is_instant, "an instant in UTC with milliseconds"),
        ("name", lambda name: type(name) is str, "text"),
        ("subject", _is_name, "a name"),
        ("actor", _is_name, "a name"),
    )
    for key, check, expected in checks:
        if not check(value[key]):
            got = f"a {type(value[key]).__name__} that is none"
            return EvidenceBroken("bad_event", f"`{key}` of an event", expected, got)
    start = "the leaf hash before it" if value["seq"] else "nothing: it starts its chain"
    return EvidenceBroken("bad_event", "`prev` of an event", start, "something else")


def _is_name(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= LONGEST_SUBJECT


def _shape(value: Any) -> str:
    if type(value) is not dict:
        return f"a {type(value).__name__}"
    wrong = sorted(_KEYS ^ value.keys())
    return f"`{wrong[0][:40]}` {'too much' if wrong[0] in value else 'missing'}"
