"""Checkpoints (C2SP tlog-checkpoint): the signed word of a log on its size and root.

Also which keys are trusted for which part of a log: a key is changed at an index, never erased.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tidegate.base.errors import AskedWrongly, EvidenceBroken
from tidegate.evidence.keychange import KeyChange, seal_of
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
    """A key, and the sizes of the log whose checkpoints it may sign (`until` is included).

    `change` is the sealed change that brought it; None for a log's first key, and for one that is
    trusted on somebody's word alone.
    """

    key: VerifierKey
    first: int = 0
    until: int = LARGEST_TREE
    change: KeyChange | None = None

    def line(self) -> str:
        """As in a key file; `parse_keys` reads it back."""
        if (self.first, self.until) == (0, LARGEST_TREE):
            return self.key.text()
        until = "" if self.until == LARGEST_TREE else str(self.until)
        seal = f" {self.change.seal()}" if self.change else ""
        return f"{self.key.text()} {self.first}-{until}{seal}"


Keys = Sequence[TrustedKey]

_FROM = "take the file from `tidegate evidence key` of the server you trust"


def parse_keys(text: str) -> tuple[TrustedKey, ...]:
    """Read a key file: a verifier key a line, with `first-until` sizes after it where it changed.

    A third word on a line is the seal of the change to its key, from the key of the line before; it
    is verified. Empty lines and lines starting with `#` are skipped. Raises AskedWrongly, also for
    a file without any key: nothing can be verified without one.
    """
    keys: list[TrustedKey] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(keys) == MOST_KEYS:
            raise _bad_keys(line)
        keys.append(_parse_trusted(words, keys[-1] if keys else None, line))
    require_keys(keys)
    return tuple(keys)


def write_keys(keys: Keys) -> str:
    """A key file of `keys`, the first one first; `parse_keys` reads it back."""
    return "".join(f"{held.line()}\n" for held in keys)


def changes_in(keys: Keys) -> tuple[KeyChange, ...]:
    """The sealed changes among `keys`, in order."""
    return tuple(held.change for held in keys if held.change)


def follow(keys: Keys, changes: Iterable[KeyChange]) -> tuple[TrustedKey, ...]:
    """`keys`, and those that sealed `changes` (in the order of the log) join to them.

    A key that is trusted with an open end vouches for the one that follows it. One that is trusted
    from 0 on vouches for the one before it: it has signed that the other was the log's until then.
    Changes that touch no trusted key, bring a known key back, or contradict the sizes of `keys` are
    passed over. Nobody gains by that what the trusted keys could not have signed themselves.
    """
    told = list(changes)
    found = list(keys)
    for change in reversed(told):
        for place, held in enumerate(found):
            if held.key == change.after and held.first == 0 and held.until > change.index:
                found[place] = replace(held, first=change.index + 1, change=change)
                found.insert(place, TrustedKey(key=change.before, until=change.index))
                break
    for change in told:
        known = {held.key for held in found}
        for place, held in enumerate(found):
            open_end = held.until in (LARGEST_TREE, change.index)
            if held.key == change.before and open_end and held.first <= change.index:
                found[place] = replace(held, until=change.index)
                if change.after not in known:
                    first = change.index + 1
                    found.append(TrustedKey(key=change.after, first=first, change=change))
                break
    return tuple(found)


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
    _refuse_wrong_size(note, claimed.size, keys, trusted)
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


def _refuse_wrong_size(note: str, size: int, keys: Keys, trusted: Sequence[VerifierKey]) -> None:
    """Raise EvidenceBroken when only keys put aside, or not in use yet, signed `note`."""
    signed = {(one.name, one.key_id) for one in parse_note(note).signatures}
    if any((key.name, key.key_id) in signed for key in trusted):
        return
    for held in keys:
        if (held.key.name, held.key.key_id) in signed:
            until = "" if held.until == LARGEST_TREE else str(held.until)
            raise EvidenceBroken(
                "wrong_key",
                f"checkpoint {size}",
                "the signature of a key trusted at that size",
                f"one by key {held.key.key_id.hex()}, which signs sizes {held.first}-{until} only",
            )


def _parse_trusted(words: Sequence[str], before: TrustedKey | None, line: str) -> TrustedKey:
    sizes = _RANGE.fullmatch(words[1]) if len(words) > 1 else None
    if len(words) > 3 or (len(words) > 1 and not sizes):
        raise _bad_keys(line)
    key = parse_key(words[0])
    first = int(sizes[1]) if sizes else 0
    until = int(sizes[2]) if sizes and sizes[2] else LARGEST_TREE
    if len(words) < 3:
        return TrustedKey(key=key, first=first, until=until)
    if before is None or before.until != first - 1:
        raise _bad_keys(line)
    try:
        change = seal_of(before.until, before.key, key, words[2])
    except EvidenceBroken as error:
        raise AskedWrongly("bad_key", error.message, _FROM) from error
    return TrustedKey(key=key, first=first, until=until, change=change)


def _bad_keys(line: str) -> AskedWrongly:
    said = f"expected at most {MOST_KEYS} lines `key` or `key first-until [seal]`"
    return AskedWrongly("bad_key", f"{said}, got `{line[:80]}`", _FROM)


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
