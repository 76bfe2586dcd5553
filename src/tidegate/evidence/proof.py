"""Inclusion proofs as files (C2SP tlog-proof@v1): one event, its place, the way to the root, the
checkpoint. Self-contained but for the key, which the verifier brings."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.base.errors import EvidenceBroken
from tidegate.evidence.checkpoint import Checkpoint, Keys, open_checkpoint
from tidegate.evidence.merkle import HASH_BYTES, MOST_PROOF_HASHES, leaf_hash, verify_inclusion
from tidegate.evidence.note import LONGEST_NOTE, decode

FIRST_LINE = "c2sp.org/tlog-proof@v1"
LONGEST_PROOF = LONGEST_NOTE + 16_384  # characters: the checkpoint, 64 hashes, and extra data

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That the leaf at `index` is in the tree of `checkpoint` (a signed note, verbatim).

    `hashes` go from the leaf's sibling to the root's child (RFC 6962 section 2.1.1). `extra` is not
    authenticated by anything; we write none.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes = b""

    def write(self) -> str:
        """The proof as text; `parse_proof` reads it back."""
        lines = [FIRST_LINE]
        if self.extra:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines.extend(base64.b64encode(part).decode() for part in self.hashes)
        return "\n".join(lines) + "\n\n" + self.checkpoint


def parse_proof(text: str) -> Proof:
    """Read `Proof.write` back; nothing of it is verified yet. Raises EvidenceBroken."""
    if len(text) > LONGEST_PROOF:
        raise _bad(f"at most {LONGEST_PROOF} characters", f"{len(text)} characters")
    head, blank, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != FIRST_LINE:
        raise _bad(f"`{FIRST_LINE}`, then an empty line before the checkpoint", "something else")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = decode(lines.pop(0).removeprefix("extra ")) or b""
        if not extra:
            raise _bad("extra data in base64", "something else")
    index = _INDEX.fullmatch(lines[0]) if lines else None
    if index is None:
        raise _bad("a line `index N`", "none")
    return Proof(index=int(index[1]), hashes=_hashes(lines[1:]), checkpoint=checkpoint, extra=extra)


def verify_proof(proof: Proof, leaf: bytes, keys: Keys) -> Checkpoint:
    """The checkpoint that covers `leaf`, the event's bytes. Raises as `open_checkpoint` does."""
    checkpoint = open_checkpoint(proof.checkpoint, keys)
    verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint


def _hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    if len(lines) > MOST_PROOF_HASHES:
        raise _bad(f"at most {MOST_PROOF_HASHES} hashes", f"{len(lines)} lines")
    hashes = []
    for line in lines:
        data = decode(line)
        if data is None or len(data) != HASH_BYTES:
            raise _bad("32-byte hashes in base64", f"`{line[:60]}`")
        hashes.append(data)
    return tuple(hashes)


def _bad(expected: str, got: str) -> EvidenceBroken:
    return EvidenceBroken("bad_proof", "tlog-proof", expected, got)
