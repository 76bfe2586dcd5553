"""A log whose key was changed: who may sign what, and every forged change named."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evidence.made_log import (
    KEYS,
    ORIGIN,
    SIGNER,
    START,
    STRANGER,
    MadeLog,
    make_log,
    story,
)
from tidegate.base.errors import AskedWrongly, EvidenceBroken
from tidegate.base.fact import Fact
from tidegate.evidence.checkpoint import (
    MOST_KEYS,
    Checkpoint,
    Keys,
    TrustedKey,
    changes_in,
    follow,
    open_checkpoint,
    parse_keys,
    sign_checkpoint,
    write_keys,
)
from tidegate.evidence.keychange import KeyChange, read_change, sign_change
from tidegate.evidence.merkle import root_at
from tidegate.evidence.note import FileSigner
from tidegate.evidence.pack import verify_pack
from tidegate.evidence.verify import LogReport, verify_log

NEW = FileSigner(ORIGIN, b"\7" * 32)
THIRD = FileSigner(ORIGIN, b"\x09" * 32)
AT, AGAIN = 12, 20  # where the key is changed, and changed again
STORY = story()


def changed(change: KeyChange, **other: Any) -> Fact:
    """The fact of a change, with some of its data altered."""
    data = {**change.data(START), **other}
    return Fact(name="log.key_changed", subject="system", actor="system", data=data)


def log_with(facts: Mapping[int, Fact], most: int = len(STORY)) -> MadeLog:
    """The story with facts put in at their indexes."""
    told = list(STORY[:most])
    for idx in sorted(facts):
        told.insert(idx, facts[idx])
    return make_log(told)


FIRST = sign_change(AT, SIGNER, NEW)
SECOND = sign_change(AGAIN, NEW, THIRD)
ONCE = log_with({AT: changed(FIRST)})
TWICE = log_with({AT: changed(FIRST), AGAIN: changed(SECOND)})


def head_at(log: MadeLog, size: int) -> Checkpoint:
    """The checkpoint of the first `size` events."""
    return Checkpoint(origin=ORIGIN, size=size, root=root_at(size, log.read()))


def check(
    log: MadeLog, signer: FileSigner, keys: Keys = KEYS, since: Sequence[Checkpoint | str] = ()
) -> LogReport:
    """The report on a log whose checkpoint `signer` signed."""
    return verify_log(log.leaves, log.checkpoint(signer), keys, since=since, hashes=log.hashes)


def codes(report: LogReport) -> list[tuple[str, int | None]]:
    """What was found, and where."""
    return [(found.code, found.idx) for found in report.findings]


def test_first_key_alone_does_not_reach_the_newest() -> None:
    """Whoever has only the first key follows every sealed change to the key that signs now."""
    assert check(ONCE, NEW).ok
    assert check(TWICE, THIRD).ok


@pytest.mark.parametrize("signer", [SIGNER, NEW, THIRD], ids=["first", "second", "third"])
def test_any_one_key_vouches_for_the_others(signer: FileSigner) -> None:
    """Each change is signed by both keys, so any key of the log leads to the others."""
    assert check(TWICE, THIRD, [TrustedKey(key=signer.verifier())]).ok


def test_old_key_goes_on_signing() -> None:
    """A checkpoint behind the change that the old key signed is refused, and so is a later one."""
    report = check(ONCE, SIGNER)
    assert ("wrong_key", None) in codes(report)
    for size, signer, fits in (
        (AT, SIGNER, True),
        (AT + 1, SIGNER, False),
        (AT, NEW, False),
        (AT + 1, NEW, True),
        (AGAIN, NEW, True),
        (AGAIN + 1, NEW, False),
        (AGAIN, THIRD, False),
        (AGAIN + 1, THIRD, True),
    ):
        note = sign_checkpoint(head_at(TWICE, size), signer)
        report = check(TWICE, THIRD, since=[note])
        assert report.ok is fits, (size, signer.key_id.hex())
        assert fits or codes(report) == [("wrong_key", None)]


def test_remembered_checkpoint_is_lost_in_the_change() -> None:
    """Checkpoints witnessed before and after the change hold against the log; a fork does not."""
    notes = [sign_checkpoint(head_at(ONCE, 5), SIGNER), sign_checkpoint(head_at(ONCE, 20), NEW)]
    report = check(ONCE, NEW, since=notes)
    assert report.ok and report.remembered == (5, 20)
    forked = replace(head_at(ONCE, 5), root=b"f" * 32)
    assert codes(check(ONCE, NEW, since=[sign_checkpoint(forked, SIGNER)])) == [("rewritten", None)]


OTHER = FileSigner(ORIGIN, b"\x0b" * 32)
FORGED: dict[str, tuple[Fact, str]] = {
    "only the new key signed": (
        changed(
            FIRST, before_signature=sign_change(AT, OTHER, NEW).data(START)["before_signature"]
        ),
        "key_change_forged",
    ),
    "only the old key signed": (
        changed(
            FIRST, after_signature=sign_change(AT, SIGNER, OTHER).data(START)["after_signature"]
        ),
        "key_change_forged",
    ),
    "signed for another place": (changed(sign_change(AT + 1, SIGNER, NEW)), "key_change_forged"),
    "no signature": (changed(FIRST, before_signature=""), "key_change_forged"),
    "no key": (changed(FIRST, after="x"), "key_change_forged"),
    "of strangers": (changed(sign_change(AT, STRANGER, OTHER)), "strange_key_change"),
}


@pytest.mark.parametrize("how", FORGED)
def test_forged_change_brings_a_key(how: str) -> None:
    """A change that lacks a signature or its place is named, and its key stays a stranger's."""
    fact, code = FORGED[how]
    log = log_with({AT: fact})
    found = codes(check(log, NEW))
    assert found[0] == (code, AT)
    assert ("unknown_signer", None) in found
    assert codes(check(log, SIGNER)) == [(code, AT)]


def test_change_is_used_twice() -> None:
    """A change copied to another place, or out of turn, or back to an old key, is named there."""
    again = log_with({AT: changed(FIRST), AGAIN: changed(FIRST)})
    assert codes(check(again, NEW)) == [("key_change_forged", AGAIN)]
    turned = log_with({AT: changed(FIRST), AGAIN: changed(sign_change(AGAIN, SIGNER, THIRD))})
    assert codes(check(turned, NEW)) == [("key_change_out_of_turn", AGAIN)]
    back = log_with({AT: changed(FIRST), AGAIN: changed(sign_change(AGAIN, NEW, SIGNER))})
    assert codes(check(back, NEW)) == [("key_reused", AGAIN)]


def test_change_in_another_chain_is_taken() -> None:
    """Only the log's own chain changes its key."""
    fact = replace(changed(FIRST), subject="rq_one")
    assert codes(check(log_with({AT: fact}), SIGNER)) == [("key_change_forged", AT)]


def test_key_file_contradicts_the_log() -> None:
    """A change at another place than the trusted key file says, or missing from the log, is named.

    So a thief of the old key cannot change it earlier for those who have the new key file.
    """
    trusted = follow(KEYS, [FIRST])
    assert check(ONCE, NEW, trusted).ok
    early = log_with({5: changed(sign_change(5, SIGNER, OTHER))})
    report = check(early, OTHER, trusted)
    assert ("key_change_moved", 5) in codes(report)
    assert ("unknown_signer", None) in codes(report)
    assert codes(check(log_with({}), NEW, trusted)) == [("no_key_change", AT)]


def test_endless_changes_are_read() -> None:
    """More changes than a log can have are named, not followed without end."""
    made = [FileSigner(ORIGIN, number.to_bytes(32)) for number in range(2, MOST_KEYS + 5)]
    facts = {i: changed(sign_change(i, made[i - 1], made[i])) for i in range(1, len(made))}
    log = log_with(facts)
    assert ("many_keys", MOST_KEYS + 1) in codes(
        check(log, made[-1], [TrustedKey(key=made[0].verifier())])
    )


def test_key_file_round_trips_with_its_seals() -> None:
    """A key file keeps keys, sizes and seals; a seal that does not hold is refused when read."""
    keys = follow(KEYS, [FIRST, SECOND])
    text = write_keys(keys)
    assert parse_keys(f"# of the log\n\n{text}") == keys
    assert changes_in(keys) == (FIRST, SECOND)
    lines = text.splitlines()
    for bad in (
        text.replace(FIRST.seal(), SECOND.seal()),
        text.replace(FIRST.seal(), "AAAA"),
        text.replace(f"{AT + 1}-", f"{AT + 2}-"),
        lines[1],
        f"{lines[0]}\n{lines[1]} more",
    ):
        with pytest.raises(AskedWrongly):
            parse_keys(bad)


@given(st.integers(0, 2**53 - 2), st.binary(min_size=32, max_size=32))
def test_change_round_trips(index: int, seed: bytes) -> None:
    """Whatever is signed reads back the same, and at no other index."""
    after = FileSigner(ORIGIN, seed)
    if after.public == SIGNER.public:
        return
    change = sign_change(index, SIGNER, after)
    assert read_change(index, change.data(START)) == change
    with pytest.raises(EvidenceBroken):
        read_change(index + 1, change.data(START))


def test_key_follows_itself_or_another_log() -> None:
    """A key cannot be changed to itself, nor into another log's."""
    for after in (SIGNER, FileSigner("other.example", b"\7" * 32)):
        with pytest.raises(RuntimeError):
            sign_change(AT, SIGNER, after)


def test_following_gives_a_strangers_change_no_trust() -> None:
    """A key that is put aside in the trusted file brings no other, nor do strangers."""
    put_aside = [TrustedKey(key=SIGNER.verifier(), until=5)]
    assert follow(put_aside, [FIRST]) == tuple(put_aside)
    assert follow(KEYS, [sign_change(AT, STRANGER, OTHER)]) == KEYS
    with pytest.raises(EvidenceBroken) as caught:
        open_checkpoint(sign_checkpoint(head_at(ONCE, 20), SIGNER), follow(KEYS, [FIRST]))
    assert caught.value.code == "wrong_key"


def proofs(log: MadeLog, signer: FileSigner) -> list[Any]:
    """Proofs of the request's chain under a checkpoint that `signer` signed."""
    chain = [event for event in log.sealed if event.subject == "rq_one"]
    return [replace(log.proof(event.idx), checkpoint=log.checkpoint(signer)) for event in chain]


def test_pack_made_before_the_change_stops_verifying() -> None:
    """A pack of the old key verifies with the old key file and with the new one."""
    old = make_log(STORY[:AT])
    data = old.pack()
    assert verify_pack(data, KEYS).ok
    assert verify_pack(data, follow(KEYS, [FIRST])).ok


def test_pack_made_after_the_change_needs_a_new_key_file() -> None:
    """A pack that brings the sealed changes verifies with the first key alone; without, it says
    that its signer is unknown. The old key cannot sign for it.
    """
    full = follow(KEYS, [FIRST])
    given = {"checkpoint": ONCE.checkpoint(NEW), "proofs": proofs(ONCE, NEW)}
    sealed = ONCE.pack(keys=full, **given)
    for keys in (KEYS, full, [TrustedKey(key=NEW.verifier())]):
        assert verify_pack(sealed, keys).ok
    bare = ONCE.pack(keys=[NEW.verifier()], **given)
    assert verify_pack(bare, full).ok
    assert [found.code for found in verify_pack(bare, KEYS).findings] == ["unknown_signer"]
    stolen = ONCE.pack(keys=full)  # signed by the old key, behind the change
    assert [found.code for found in verify_pack(stolen, full).findings] == ["wrong_key"]
    assert [found.code for found in verify_pack(stolen, KEYS).findings] == ["wrong_key"]
