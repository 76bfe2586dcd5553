"""A log tampered with in every way there is: found, and the first bad event named."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evidence.made_log import KEYS, ORIGIN, SIGNER, STRANGER, fact, make_log, story
from tidegate.base.canonical import canonical
from tidegate.base.errors import AskedWrongly
from tidegate.evidence.checkpoint import Checkpoint, sign_checkpoint
from tidegate.evidence.merkle import Frontier, leaf_hash, root_at
from tidegate.evidence.verify import LogReport, verify_log

LOG = make_log()
SIZE = len(LOG.leaves)
MIDDLE = 8  # grant.readied of the first request: its chain goes on after it
FORGED = make_log([*story()[:MIDDLE], fact("grant.noted"), *story()[MIDDLE:]]).leaves[MIDDLE]


def edit(leaf: bytes, **changes: object) -> bytes:
    """`leaf` with some keys changed, spelt canonically."""
    return canonical({**orjson.loads(leaf), **changes})


def check(leaves: Sequence[bytes], with_hashes: bool = True) -> LogReport:
    """The report on `leaves` against the true checkpoint."""
    hashes = LOG.hashes if with_hashes else None
    return verify_log(leaves, LOG.checkpoint(), KEYS, hashes=hashes)


def without(idx: int) -> list[bytes]:
    """The leaves but for one."""
    return [*LOG.leaves[:idx], *LOG.leaves[idx + 1 :]]


def exchanged(one: int, two: int) -> list[bytes]:
    """The leaves with two of them exchanged."""
    leaves = list(LOG.leaves)
    leaves[one], leaves[two] = leaves[two], leaves[one]
    return leaves


def edited(idx: int, **changes: object) -> list[bytes]:
    """The leaves with one of them changed."""
    leaves = list(LOG.leaves)
    leaves[idx] = edit(leaves[idx], **changes)
    return leaves


def test_true_log_holds() -> None:
    """Nothing is found in a log nobody touched, and all of it was read."""
    report = check(LOG.leaves)
    assert (report.ok, report.findings, report.events, report.size) == (True, (), SIZE, SIZE)
    assert orjson.loads(orjson.dumps(report.as_json()))["root"] == LOG.tree.root().hex()


TAMPERED: dict[str, Callable[[], list[bytes]]] = {
    "edited": lambda: edited(MIDDLE, actor="pr_eve"),
    "edited link": lambda: edited(MIDDLE, prev="0" * 64),
    "edited and misspelt": lambda: [
        *LOG.leaves[:MIDDLE], LOG.leaves[MIDDLE] + b" ", *LOG.leaves[MIDDLE + 1 :]
    ],
    "dropped": lambda: without(MIDDLE),
    "swapped": lambda: exchanged(MIDDLE, 19),
    "reordered neighbours": lambda: exchanged(MIDDLE, MIDDLE + 1),
    "moved to the end": lambda: [*without(MIDDLE), LOG.leaves[MIDDLE]],
    "inserted": lambda: [*LOG.leaves[:MIDDLE], FORGED, *LOG.leaves[MIDDLE:]],
    "repeated": lambda: [*LOG.leaves[: MIDDLE + 1], *LOG.leaves[MIDDLE:]],
}  # fmt: skip


@pytest.mark.parametrize("with_hashes", [True, False], ids=["with hashes", "chains alone"])
@pytest.mark.parametrize("how", TAMPERED)
def test_tampered_event_is_named_first(how: str, with_hashes: bool) -> None:
    """Whatever was done to an event in the middle, it is the first one named."""
    report = check(TAMPERED[how](), with_hashes)
    named = MIDDLE + 1 if how == "repeated" and with_hashes else MIDDLE
    assert not report.ok
    assert report.findings[0].idx == named, report.findings


@pytest.mark.parametrize("idx", range(SIZE))
def test_edit_of_any_event_is_named_exactly(idx: int) -> None:
    """With the stored hashes the edited event is named, also when nothing follows in its chain."""
    report = check(edited(idx, actor="pr_eve"))
    assert (report.findings[0].code, report.findings[0].idx) == ("edited", idx)


def test_edit_without_hashes_or_successor_names_the_range() -> None:
    """The last event of a chain has no witness but the root: the report says how far it reaches."""
    old = Checkpoint(origin=ORIGIN, size=9, root=root_at(9, LOG.read()))
    report = verify_log(edited(SIZE - 1, actor="pr_eve"), LOG.checkpoint(), KEYS, since=[old])
    assert [f.code for f in report.findings] == ["not_signed"]
    assert f"events 9 to {SIZE - 1}" in report.findings[0].what


def test_two_edits_in_one_chain_name_the_earlier() -> None:
    """An edited event does not hide the one before it."""
    leaves = edited(MIDDLE, actor="pr_eve")
    leaves[MIDDLE + 2] = edit(leaves[MIDDLE + 2], actor="pr_eve")
    assert check(leaves, with_hashes=False).findings[0].idx == MIDDLE


@pytest.mark.parametrize("kept", [0, 1, SIZE - 1])
def test_truncated_events_are_counted(kept: int) -> None:
    """Events cut off the end are missed against the signed size, from the first missing one on."""
    report = check(LOG.leaves[:kept])
    assert "truncated" in [f.code for f in report.findings]
    assert report.findings[0].idx == kept


def test_event_nobody_signed_is_named() -> None:
    """An event beyond the checkpoint is no evidence."""
    longer = make_log([*story(), fact("signin.failed_many", "system")])
    report = check(longer.leaves)
    assert (report.findings[0].code, report.findings[0].idx) == ("not_signed", SIZE)


def test_clock_set_back_is_named() -> None:
    """Events sealed earlier than those before them are told even when all hashes agree."""
    leaves = edited(SIZE - 1, at="2020-01-01T00:00:00.000Z")
    forged = Frontier().extend(map(leaf_hash, leaves))
    head = Checkpoint(origin=ORIGIN, size=SIZE, root=forged.root())
    report = verify_log(leaves, sign_checkpoint(head, SIGNER), KEYS)
    assert [(f.code, f.idx) for f in report.findings] == [("clock_back", SIZE - 1)]


def rewritten(facts: int) -> tuple[list[bytes], str]:
    """The log rewritten from scratch with one fact changed, and signed with the real key."""
    told = story()
    told[5] = replace(told[5], actor="pr_eve")
    forged = make_log(told[:facts])
    return forged.leaves, forged.checkpoint()


def test_resigning_with_the_real_key_is_found_against_a_remembered_checkpoint() -> None:
    """A log rewritten in full looks sound by itself; what was remembered contradicts it."""
    leaves, signed = rewritten(SIZE)
    alone = verify_log(leaves, signed, KEYS)
    assert alone.ok
    assert "no remembered or witnessed checkpoint" in alone.cannot_exclude[0]
    old = Checkpoint(origin=ORIGIN, size=9, root=root_at(9, LOG.read()))
    report = verify_log(leaves, signed, KEYS, since=[old])
    assert [f.code for f in report.findings] == ["rewritten"]
    assert "events 0 to 8" in report.findings[0].what


def test_rewriting_after_what_is_remembered_is_said_to_be_possible() -> None:
    """A remembered checkpoint speaks for what it covers; the report says where that ends."""
    old = Checkpoint(origin=ORIGIN, size=9, root=root_at(9, LOG.read()))
    report = verify_log(LOG.leaves, LOG.checkpoint(), KEYS, since=[old])
    assert report.ok and "covers 9 of 25" in report.cannot_exclude[0]
    newest = verify_log(LOG.leaves, LOG.checkpoint(), KEYS, since=[old, LOG.head()])
    assert newest.ok and newest.cannot_exclude == ()


def test_rollback_is_found_against_a_remembered_checkpoint() -> None:
    """An older state with its own true checkpoint is caught by anyone who saw a newer one."""
    older = make_log(story()[:12])
    assert verify_log(older.leaves, older.checkpoint(), KEYS).ok
    report = verify_log(older.leaves, older.checkpoint(), KEYS, since=[LOG.head()])
    assert [(f.code, f.idx) for f in report.findings] == [("rolled_back", 12)]


def test_checkpoint_of_another_log_or_key_is_found() -> None:
    """A log signed by a stranger, or remembered under another origin, does not pass."""
    report = verify_log(LOG.leaves, LOG.checkpoint(STRANGER), KEYS)
    assert [f.code for f in report.findings] == ["unknown_signer"]
    other = Checkpoint(origin="other.example", size=1, root=bytes(32))
    report = verify_log(LOG.leaves, LOG.checkpoint(), KEYS, since=[other])
    assert [f.code for f in report.findings] == ["other_log"]
    with pytest.raises(AskedWrongly):
        verify_log(LOG.leaves, LOG.checkpoint(), ())


def test_changed_stored_hashes_are_told_apart_from_changed_events() -> None:
    """When the hash table was edited too, the report does not trust it to name an event."""
    hashes = list(LOG.hashes)
    hashes[3] = bytes(32)
    report = verify_log(LOG.leaves, LOG.checkpoint(), KEYS, hashes=hashes)
    assert "hashes_changed" in [f.code for f in report.findings]


@given(st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=SIZE + 2))
def test_no_other_sequence_of_true_events_passes(order: list[int]) -> None:
    """Any choice and order of events other than the true one is refused."""
    leaves = [LOG.leaves[idx] for idx in order]
    assert check(leaves, with_hashes=False).ok == (order == list(range(SIZE)))
