"""Notes, keys, checkpoints and proofs as text: round trips, and everything that must not pass."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evidence.made_log import KEYS, ORIGIN, SIGNER, STRANGER, make_log
from tidegate.base.errors import AskedWrongly, EvidenceBroken
from tidegate.evidence.checkpoint import (
    Checkpoint,
    TrustedKey,
    check_extends,
    open_checkpoint,
    parse_checkpoint,
    parse_keys,
    sign_checkpoint,
)
from tidegate.evidence.merkle import HASH_BYTES, LARGEST_TREE, consistency_proof, root_at
from tidegate.evidence.note import (
    FileSigner,
    open_note,
    parse_key,
    parse_note,
    parse_signer,
    sign_note,
)
from tidegate.evidence.proof import Proof, parse_proof, verify_proof

HEAD = Checkpoint(origin=ORIGIN, size=25, root=bytes(32))
SIGNED = sign_checkpoint(HEAD, SIGNER)
roots = st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)


def test_example_of_the_specification_verifies() -> None:
    """The key hash and signature in C2SP's own sumdb example are computed the same way."""
    key = parse_key("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
    assert (key.name, key.key_id.hex()) == ("sum.golang.org", "033de0ae")


@given(st.integers(0, LARGEST_TREE), roots)
def test_checkpoint_round_trips(size: int, root: bytes) -> None:
    """What is signed is what is opened."""
    head = Checkpoint(origin=ORIGIN, size=size, root=root)
    assert open_checkpoint(sign_checkpoint(head, SIGNER), KEYS) == head


def test_keys_round_trip() -> None:
    """Public, private and ranged keys read back as written."""
    assert parse_key(SIGNER.verifier().text()) == SIGNER.verifier()
    assert parse_signer(SIGNER.text() + "\n") == SIGNER
    ranged = TrustedKey(key=SIGNER.verifier(), first=7, until=9)
    open_end = TrustedKey(key=STRANGER.verifier(), first=10)
    text = f"# the log\n\n{ranged.line()}\n{open_end.line()}\n{KEYS[0].line()}\n"
    assert parse_keys(text) == (ranged, open_end, KEYS[0])


def test_signing_key_is_not_shown() -> None:
    """Neither a repr nor an error ever holds the seed."""
    secret = base64.b64encode(SIGNER.seed).decode()[:20]
    assert secret not in repr(SIGNER) and "seed" not in repr(SIGNER)
    with pytest.raises(AskedWrongly) as caught:
        parse_signer(SIGNER.text()[:-4])
    assert secret not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment",
        "nonsense",
        SIGNER.verifier().text()[:-4],
        SIGNER.verifier().text().replace("+", "+0", 1),
        SIGNER.verifier().text().replace(ORIGIN, "other.example"),
        SIGNER.verifier().text() + " 5",
        SIGNER.verifier().text() + " 1-2 3",
    ],
)
def test_bad_key_file_is_refused(text: str) -> None:
    """A key file without a sound key is never an empty set of keys."""
    with pytest.raises(AskedWrongly):
        parse_keys(text)


def test_signature_of_a_stranger_is_ignored_and_never_enough() -> None:
    """Unknown signatures (witnesses) do not disturb, and do not count."""
    both = sign_note(HEAD.text(), (STRANGER, SIGNER))
    assert open_checkpoint(both, KEYS) == HEAD
    assert parse_note(both).write() == both
    with pytest.raises(EvidenceBroken) as caught:
        open_checkpoint(sign_checkpoint(HEAD, STRANGER), KEYS)
    assert caught.value.code == "unknown_signer"


def test_known_key_with_a_bad_signature_condemns_the_note() -> None:
    """One valid signature does not excuse an invalid one by a trusted key."""
    text = sign_note("hello\n", (SIGNER,))
    false = sign_note("other\n", (SIGNER,)).split("\n\n")[1]
    with pytest.raises(EvidenceBroken) as caught:
        open_note(text + false, [SIGNER.verifier()])
    assert caught.value.code == "bad_signature"


@pytest.mark.parametrize(
    "changed",
    [
        SIGNED.replace("\n25\n", "\n26\n"),
        SIGNED.replace("\n25\n", "\n025\n"),
        SIGNED.replace("\n25\n", "\n-5\n"),
        SIGNED.replace("AAAA", "AAAB", 1),
        SIGNED.replace(ORIGIN, "evil.example", 1),
        SIGNED.replace("\n\n", "\nextension\n\n"),
        SIGNED.replace("\n\n", "\n"),
        SIGNED.removesuffix("\n"),
        SIGNED.replace("— ", "- "),
        SIGNED.replace("\n25", "\r\n25"),
        SIGNED + "— more\n",
        SIGNED + SIGNED.split("\n\n")[1] * 40,
        SIGNED.split("\n\n")[0] + "\n\n",
        "",
        "\n\n",
        "x" * 70_000,
    ],
)
def test_changed_checkpoint_is_refused(changed: str) -> None:
    """No byte of a checkpoint can change and still open."""
    with pytest.raises(EvidenceBroken):
        open_checkpoint(changed, KEYS)


def test_missing_key_is_an_error_and_not_a_pass() -> None:
    """Without a key there is nothing to verify with."""
    with pytest.raises(AskedWrongly) as caught:
        open_checkpoint(SIGNED, ())
    assert caught.value.code == "no_key"


def test_key_signs_only_for_its_sizes() -> None:
    """A retired key cannot sign for what came after it."""
    old = TrustedKey(key=SIGNER.verifier(), until=24)
    with pytest.raises(EvidenceBroken, match="trusted at that size"):
        open_checkpoint(SIGNED, [old])
    new = FileSigner(ORIGIN, b"\7" * 32)
    changed = [old, TrustedKey(key=new.verifier(), first=25)]
    assert open_checkpoint(sign_checkpoint(HEAD, new), changed) == HEAD
    with pytest.raises(EvidenceBroken):
        open_checkpoint(SIGNED, changed)


def test_key_of_another_log_is_refused() -> None:
    """A trusted key signs only for the log it is named after."""
    other = FileSigner("other.example", b"\7" * 32)
    note = sign_note(HEAD.text(), (other,))
    with pytest.raises(EvidenceBroken) as caught:
        open_checkpoint(note, [TrustedKey(key=other.verifier())])
    assert caught.value.code == "other_log"
    with pytest.raises(RuntimeError):
        sign_checkpoint(HEAD, other)


def test_extension_is_checked_from_remembered_to_new() -> None:
    """A client that met the server before accepts growth, and nothing else."""
    log = make_log()
    old = Checkpoint(origin=ORIGIN, size=9, root=root_at(9, log.read()))
    proof = consistency_proof(9, 25, log.read())
    check_extends(old, log.head(), proof)
    for wrong in (
        Checkpoint(origin=ORIGIN, size=9, root=bytes(32)),
        Checkpoint(origin="other.example", size=9, root=old.root),
        Checkpoint(origin=ORIGIN, size=26, root=old.root),
    ):
        with pytest.raises(EvidenceBroken):
            check_extends(wrong, log.head(), proof)


def test_proof_round_trips_and_verifies() -> None:
    """A tlog-proof proves its own event against the key, and no other event."""
    log = make_log()
    proof = log.proof(3)
    assert parse_proof(proof.write()) == proof
    assert verify_proof(proof, log.leaves[3], KEYS) == log.head()
    with pytest.raises(EvidenceBroken):
        verify_proof(proof, log.leaves[4], KEYS)
    extra = Proof(index=3, hashes=(), checkpoint=proof.checkpoint, extra=b"\0x")
    assert parse_proof(extra.write()) == extra


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
        ("index 3", "index 03"),
        ("index 3", "index -3"),
        ("index 3", "3"),
        ("index 3\n", "extra !\nindex 3\n"),
        ("index 3\n", "index 3\nshort\n"),
        ("index 3\n", "index 3\n" + "A" * 43 + "=\n" * 1),
        ("\n\n", "\n"),
    ],
)
def test_malformed_proof_is_refused(old: str, new: str) -> None:
    """Every line of a tlog-proof has one spelling."""
    log = make_log()
    text = log.proof(3).write().replace(old, new)
    with pytest.raises(EvidenceBroken):
        verify_proof(parse_proof(text), log.leaves[3], KEYS)


@given(st.text(max_size=300))
def test_garbage_notes_are_refused_in_words(text: str) -> None:
    """Any text gives EvidenceBroken, never another error."""
    for parse in (parse_checkpoint, parse_proof):
        with pytest.raises(EvidenceBroken):
            parse(text)
