"""The leaf format: what can be sealed, what can be read back, and that it never changes."""

from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from tests.evidence.made_log import START, fact, make_log
from tidegate.base.canonical import SAFE_INTEGER, canonical
from tidegate.base.errors import EvidenceBroken
from tidegate.base.fact import Fact
from tidegate.evidence.events import DEEPEST, EVENTS, LONGEST_FACT_TEXT
from tidegate.evidence.merkle import leaf_hash
from tidegate.evidence.seal import NEW_CHAIN, read_event, seal

GOLDEN = Path(__file__).parent / "golden_events.jsonl"
EARLIER = tuple(  # from before an event changed
    Path(__file__).parent / f"golden_events_{number}.jsonl" for number in (1, 2, 3, 4)
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-SAFE_INTEGER, SAFE_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), inner, max_size=4)
    ),
    max_leaves=12,
)


def golden_leaves() -> list[bytes]:
    """One event of every name, each field filled, all in one batch."""
    facts = [fact(name, f"chain_{name.partition('.')[0]}", "pr_ana") for name in EVENTS]
    return [event.data for event in seal(facts, first_idx=0, at=START, heads={})]


def test_changed_bytes_of_any_event_break_the_format() -> None:
    """Every event name still seals to exactly the bytes that were checked in.

    A difference here means that logs already written can no longer be verified: make a new version
    of the event instead.
    """
    assert golden_leaves() == GOLDEN.read_bytes().splitlines()


@pytest.mark.parametrize("golden", [GOLDEN, *EARLIER], ids=lambda path: path.stem)
def test_every_golden_event_reads_back(golden: Path) -> None:
    """Old leaves stay readable, in every version there was, and give back what they sealed."""
    for leaf in golden.read_bytes().splitlines():
        event = read_event(leaf)
        fields = {field: getattr(event, field) for field in type(event).__dataclass_fields__}
        assert canonical(fields) == leaf


@given(values)
def test_canonical_bytes_agree_with_rfc_8785(value: Any) -> None:
    """An independent implementation of RFC 8785 gives the same bytes for the whole subset."""
    assert canonical(value) == rfc8785.dumps(value)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), values, max_size=4))
def test_sealed_maps_read_back_or_are_refused(how: dict[str, Any]) -> None:
    """Whatever is in an open map, the leaf reads back as sealed, or sealing refuses it."""
    made = fact("grant.gone", how=how)
    try:
        (event,) = seal([made], first_idx=7, at=START, heads={})
    except RuntimeError:
        return
    assert read_event(event.data).fact == made


def test_chains_grow_within_a_batch_and_across_batches() -> None:
    """Each event names the one before it in its own chain, whatever else is sealed between."""
    log = make_log()
    heads: dict[str, tuple[int, str]] = {}
    for event in map(read_event, log.leaves):
        assert (event.seq, event.prev) == heads.get(event.subject, NEW_CHAIN)
        heads[event.subject] = (event.seq + 1, log.hashes[event.idx].hex())
    assert [event.hash for event in log.sealed] == [leaf_hash(leaf) for leaf in log.leaves]


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    return [deep(levels - 1)] if levels else []


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("grant.gone", {"proof": None}),
        ("grant.gone", {"acted_at": "2026-11-22T07:03:36Z"}),
        ("grant.gone", {"acted_at": "2026-13-22T07:03:36.000Z"}),
        ("grant.gone", {"how": {"Key": 1}}),
        ("grant.gone", {"how": {"key": 1.5}}),
        ("grant.gone", {"how": {"key": SAFE_INTEGER + 1}}),
        ("grant.gone", {"proof": "x" * (LONGEST_FACT_TEXT + 1)}),
        ("grant.gone", {"proof": "\ud800"}),
        ("request.filed", {"items": deep(DEEPEST + 1)}),
        ("request.filed", {"reason": "the reason itself"}),
        ("request.filed", {"rules_digest": "sha256:" + "A" * 64}),
        ("request.filed", {"emergency": 0}),
        ("request.filed", {"duration_seconds": -1}),
        ("request.filed", {"duration_seconds": True}),
        ("request.filed", {"items": ["x" * 4_000] * 20}),
    ],
)
def test_misfit_fact_is_our_own_bug(name: str, wrong: dict[str, Any]) -> None:
    """A fact that does not fit its event is never sealed."""
    good = fact(name)
    with pytest.raises(RuntimeError):
        bad = Fact(name=name, subject=good.subject, actor=good.actor, data={**good.data, **wrong})
        seal([bad], first_idx=0, at=START, heads={})


def test_secret_has_no_field_to_hide_in() -> None:
    """A field the schema does not list is refused, and its value is not shown."""
    good = fact("session.issued")
    bad = Fact(
        name=good.name, subject="rq", actor="pr", data={**good.data, "secret_key": "hunter2"}
    )
    with pytest.raises(RuntimeError, match="secret_key") as caught:
        seal([bad], first_idx=0, at=START, heads={})
    assert "hunter2" not in str(caught.value)


def test_unknown_event_and_impossible_head_are_refused() -> None:
    """Names outside the closed set, and a head with a length but no hash, are our own bugs."""
    with pytest.raises(RuntimeError, match="not an event"):
        seal(
            [Fact(name="grant.forgiven", subject="rq", actor="pr", data={})],
            first_idx=0,
            at=START,
            heads={},
        )
    with pytest.raises(RuntimeError, match="chain head"):
        seal([fact("grant.gone")], first_idx=0, at=START, heads={"rq_one": (3, "")})


LEAF = make_log().leaves[2]


@pytest.mark.parametrize(
    ("leaf", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"[" * 30_000, "not_json"),
        (b"[" * 500 + b"]" * 500, "not_json"),
        (b"[]", "not_an_event"),
        (b"{}", "not_an_event"),
        (LEAF + b"\n", "not_canonical"),
        (LEAF.replace(b'"seq":0', b'"seq": 0'), "not_canonical"),
        (LEAF.replace(b'"seq":0', b'"seq":0,"seq":0'), "not_canonical"),
        (LEAF.replace(b"pr_ana", b"pr_\\u0061na"), "not_canonical"),
        (LEAF.replace(b'"seq":0', b'"seq":1e3'), "not_canonical"),
        (LEAF.replace(b'"seq":0', b'"seq":-1'), "bad_event"),
        (LEAF.replace(b'"seq":0', b'"seq":false'), "bad_event"),
        (LEAF.replace(b'"seq":0', b'"seq":1'), "bad_event"),
        (LEAF.replace(b'"v":2', b'"v":3'), "unknown_event"),
        (LEAF.replace(b'"v":2', b'"v":true'), "bad_event"),
        (LEAF.replace(b"request.filed", b"request.faked"), "unknown_event"),
        (LEAF.replace(b'"emergency":false', b'"emergency":0'), "bad_data"),
        (LEAF.replace(b'"emergency":false,', b""), "bad_data"),
        (b" " * 70_000, "long_event"),
    ],
)
def test_other_spelling_or_shape_is_not_an_event(leaf: bytes, code: str) -> None:
    """Nothing reads as an event that sealing could not have written."""
    with pytest.raises(EvidenceBroken) as caught:
        read_event(leaf)
    assert caught.value.code == code


@given(st.binary(max_size=200) | st.integers(0, len(LEAF) - 1).map(lambda n: LEAF[:n]))
def test_garbage_is_refused_in_words(leaf: bytes) -> None:
    """Any bytes give an event or EvidenceBroken, never another error."""
    with pytest.raises(EvidenceBroken):
        read_event(leaf)


def test_older_version_becomes_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that moved on to version 2 seals version 2, and version 1 still reads as it was."""
    from tidegate.evidence import events, fields

    old = next(leaf for leaf in GOLDEN.read_bytes().splitlines() if b'"request.denied"' in leaf)
    newer = {**events.EVENTS["request.denied"], "more": "text"}
    monkeypatch.setattr(events, "EVENTS", {**events.EVENTS, "request.denied": newer})
    earlier = {("request.denied", 1): {"request": "text", "vote": "text", "at": "instant"}}
    monkeypatch.setattr(events, "EARLIER", earlier)
    monkeypatch.setattr(events, "LATEST", {"request.denied": 2})
    fields.plan.cache_clear()
    try:
        data = {"request": "rq", "vote": "vt", "at": "2026-11-22T07:00:00.000Z", "more": "x"}
        made = Fact(name="request.denied", subject="rq", actor="pr", data=data)
        (sealed,) = seal([made], first_idx=0, at=START, heads={})
        assert (read_event(sealed.data).v, read_event(sealed.data).fact.v) == (2, 2)
        assert (read_event(old).v, read_event(old).fact.v) == (1, 1)
        with pytest.raises(EvidenceBroken):
            read_event(sealed.data.replace(b'"v":2', b'"v":3'))
    finally:
        fields.plan.cache_clear()
