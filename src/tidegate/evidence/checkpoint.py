"""Checkpoints (C2SP tlog-checkpoint): the signed word of a log on its size and root.

Also which keys are trusted for which part of a log: a key is changed at an index, never erased.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.base.errors import AskedWrongly, EvidenceBroken
from tidegate.evidence.merkle import HASH_BYTES, LARGEST_TREE, verify_consistency
from tidegate.evidence.note import (
    Signer,
    VerifierKey,
    decode,
    open_note,
    parse_key,
    parse_note,
    sign_note,
)

MOST_KEYS = 100  # a key a month for eight years

_ORIGIN = re.compile(r"[^\s+]{1,200}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_RANGE = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log said of itself: `size` events under `root` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note text: three lines."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A key, and the sizes of the log whose checkpoints it may sign (`until` is included)."""

    key: VerifierKey
    first: int = 0
    until: int = LARGEST_TREE

    def line(self) -> str:
        """As in a key file; `parse_keys` reads it back."""
        if (self.first, self.until) == (0, LARGEST_TREE):
            return self.key.text()
        until = "" if self.until == LARGEST_TREE else str(self.until)
        return f"{self.key.text()} {self.first}-{until}"


Keys = Sequence[TrustedKey]


def parse_keys(text: str) -> tuple[TrustedKey, ...]:
    """Read a key file: a verifier key a line, with `first-until` sizes after it where it changed.

    Empty lines and lines starting with `#` are skipped. Raises AskedWrongly, also for a file
    without any key: nothing can be verified without one.
    """
    keys: list[TrustedKey] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        sizes = _RANGE.fullmatch(words[1]) if len(words) == 2 else None
        if len(words) > 2 or (len(words) == 2 and not sizes) or len(keys) == MOST_KEYS:
            raise AskedWrongly(
                "bad_key",
                f"expected at most {MOST_KEYS} lines `key` or `key first-until`, got `{line[:80]}`",
                "take the file from `tidegate evidence key` of the server you trust",
            )
        first = int(sizes[1]) if sizes else 0
        until = int(sizes[2]) if sizes and sizes[2] else LARGEST_TREE
        keys.append(TrustedKey(key=parse_key(words[0]), first=first, until=until))
    require_keys(keys)
    return tuple(keys)


def require_keys(keys: Keys) -> None:
    """Raise AskedWrongly when there is no key: what brings its own key proves nothing."""
    if not keys:
        raise AskedWrongly(
            "no_key",
            "expected the public key of the log, got none",
            "pass `--key FILE` with a key that came from the server, not from the evidence",
        )


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> str:
    """The signed note of `checkpoint`. The key's name is the log's origin, or it is our own bug."""
    if signer.name != checkpoint.origin:
        raise RuntimeError(f"key {signer.name} signs for {checkpoint.origin}")
    return sign_note(checkpoint.text(), (signer,))


def parse_checkpoint(note: str) -> Checkpoint:
    """What a checkpoint claims, its signatures not verified. Raises EvidenceBroken.

    NB. extension lines are refused: this log writes none, and nothing that audits it reads them.
    """
    return _parse_text(parse_note(note).text)


def open_checkpoint(note: str, keys: Keys) -> Checkpoint:
    """The checkpoint in `note`, once a key trusted for its size has been seen to sign it.

    Raises:
        EvidenceBroken: malformed, not signed by a key trusted at that size, or another log's.
        AskedWrongly: no key was given.
    """
    require_keys(keys)
    claimed = parse_checkpoint(note)
    trusted = [held.key for held in keys if held.first <= claimed.size <= held.until]
    if not trusted:
        raise EvidenceBroken(
            "unknown_signer",
            f"checkpoint {claimed.size}",
            "a key trusted at that size",
            "only keys for other sizes",
        )
    checkpoint = _parse_text(open_note(note, trusted))
    if checkpoint.origin not in {key.name for key in trusted}:
        names = ", ".join(sorted({key.name for key in trusted}))
        raise EvidenceBroken("other_log", "origin", names, checkpoint.origin)
    return checkpoint


def check_extends(old: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """Raise EvidenceBroken unless `proof` shows that `new` is `old` with events added.

    What a client asks of a server it has met before. `old` and `new` were opened by the caller.
    """
    if old.origin != new.origin:
        raise EvidenceBroken("other_log", "origin", old.origin, new.origin)
    verify_consistency(old.size, old.root, new.size, new.root, proof)


def _parse_text(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise _bad("three lines: origin, size, root", f"{len(lines) - 1} lines")
    origin, size, root = lines[:3]
    data = decode(root)
    if not _ORIGIN.fullmatch(origin):
        raise _bad("an origin without blanks or `+`", f"`{origin[:60]}`")
    if not _SIZE.fullmatch(size) or int(size) > LARGEST_TREE:
        raise _bad("a size in decimal", f"`{size[:60]}`")
    if data is None or len(data) != HASH_BYTES:
        raise _bad("a root of 32 bytes in base64", f"`{root[:60]}`")
    return Checkpoint(origin=origin, size=int(size), root=data)


def _bad(expected: str, got: str) -> EvidenceBroken:
    return EvidenceBroken("bad_checkpoint", "checkpoint", expected, got)
