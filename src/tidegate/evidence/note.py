"""Signed notes and verifier keys (C2SP signed-note), Ed25519 only.

A note is text followed by signature lines. Its text means nothing until a signature by a key that
was trusted beforehand has been verified: `open_note` is the only way to it.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tidegate.base.errors import AskedWrongly, EvidenceBroken

ED25519 = 0x01  # signature type identifier byte of the C2SP registry
KEY_BYTES = 32
SIGNATURE_BYTES = 64
KEY_ID_BYTES = 4
MOST_SIGNATURES = 32  # the specification asks verifiers to take at least 16
LONGEST_NOTE = 65_536  # bytes

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")  # but for the line break
_KEY_NAME = re.compile(r"[^\s+]{1,200}")
_SIGNATURE_LINE = re.compile(r"— ([^\s+]{1,200}) ([A-Za-z0-9+/]+={0,2})")
_VKEY = re.compile(r"([^\s+]{1,200})\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")
_SKEY = re.compile(r"PRIVATE\+KEY\+([^\s+]{1,200})\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")


class Signer(Protocol):
    """Whatever can sign for the log: a key in a file, later one in a KMS."""

    @property
    def name(self) -> str:
        """The key name; for a log's own key, its origin."""
        ...

    @property
    def key_id(self) -> bytes:
        """The four bytes that stand before its signatures."""
        ...

    @property
    def public(self) -> bytes:
        """The 32-byte Ed25519 public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of `message`. Raises WorldFailed if it cannot."""
        ...


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key and the name it signs under."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        """Refuse what could not be written as a verifier key."""
        if not _KEY_NAME.fullmatch(self.name) or len(self.public) != KEY_BYTES:
            raise RuntimeError(f"verifier key `{self.name}` of {len(self.public)} bytes")

    @property
    def key_id(self) -> bytes:
        """SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)[:4]."""
        named = self.name.encode() + b"\n" + bytes([ED25519]) + self.public
        return hashlib.sha256(named).digest()[:KEY_ID_BYTES]

    def text(self) -> str:
        """`name+hash+base64(0x01 ‖ public key)`, as in a key file."""
        encoded = base64.b64encode(bytes([ED25519]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def parse_key(text: str) -> VerifierKey:
    """Read `VerifierKey.text` back. Raises AskedWrongly."""
    match = _VKEY.fullmatch(text)
    data = decode(match[3]) if match else None
    if match and data and len(data) == 1 + KEY_BYTES and data[0] == ED25519:
        key = VerifierKey(match[1], data[1:])
        if key.key_id.hex() == match[2]:
            return key
    raise AskedWrongly(
        "bad_key",
        f"expected an Ed25519 verifier key like `origin+hash+base64`, got `{text[:60]}`",
        "take it from `tidegate evidence key` of the server you trust",
    )


@dataclass(frozen=True, slots=True)
class FileSigner:
    """A signer whose 32-byte Ed25519 seed was read from a file."""

    name: str
    seed: bytes = field(repr=False)
    _key: Ed25519PrivateKey = field(init=False, repr=False, compare=False)
    _public: bytes = field(init=False, repr=False, compare=False)
    _key_id: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a seed of another length, and a name no note can carry."""
        if not _KEY_NAME.fullmatch(self.name) or len(self.seed) != KEY_BYTES:
            raise RuntimeError(f"signing key `{self.name}` of {len(self.seed)} bytes")
        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        object.__setattr__(self, "_key", key)  # made once: it signs every batch
        object.__setattr__(self, "_public", key.public_key().public_bytes_raw())
        object.__setattr__(self, "_key_id", self.verifier().key_id)

    @property
    def public(self) -> bytes:
        """The 32-byte public key."""
        return self._public

    @property
    def key_id(self) -> bytes:
        """As `VerifierKey.key_id`."""
        return self._key_id

    def verifier(self) -> VerifierKey:
        """The key others check its signatures with."""
        return VerifierKey(self.name, self.public)

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature of `message` (deterministic, RFC 8032)."""
        return self._key.sign(message)

    def text(self) -> str:
        """`PRIVATE+KEY+name+hash+base64`: a secret, for a file of mode 0600."""
        encoded = base64.b64encode(bytes([ED25519]) + self.seed).decode()
        return f"PRIVATE+KEY+{self.name}+{self.key_id.hex()}+{encoded}"


def parse_signer(text: str) -> FileSigner:
    """Read `FileSigner.text` back. Raises AskedWrongly, and never shows what it read."""
    match = _SKEY.fullmatch(text.strip())
    data = decode(match[3]) if match else None
    if match and data and len(data) == 1 + KEY_BYTES and data[0] == ED25519:
        signer = FileSigner(match[1], data[1:])
        if signer.key_id.hex() == match[2]:
            return signer
    raise AskedWrongly(
        "bad_signing_key",
        "expected an Ed25519 signing key like `PRIVATE+KEY+origin+hash+base64`, got something else",
        "restore the key file that `tidegate init` wrote",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature line, not verified."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """As it stands in a note, with its line break."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note taken apart, not verified. `text` ends with a line break."""

    text: str
    signatures: tuple[Signature, ...]

    def write(self) -> str:
        """The note as it travels; `parse_note` reads it back."""
        return self.text + "\n" + "".join(signature.line() for signature in self.signatures)


def sign_note(text: str, signers: Sequence[Signer]) -> str:
    """The note of `text` (ending in a line break) signed by each of `signers`, in order."""
    if not text.endswith("\n") or _CONTROL.search(text):
        raise RuntimeError("a note ends with a line break and holds no other control character")
    message = text.encode()
    made = (
        Signature(name=signer.name, key_id=signer.key_id, signature=signer.sign(message))
        for signer in signers
    )
    return Note(text, tuple(made)).write()


def parse_note(note: str) -> Note:
    """Take a note apart without trusting it. Raises EvidenceBroken."""
    if len(note) > LONGEST_NOTE or _CONTROL.search(note):
        raise _bad_note("a bounded text without control characters")
    # The last empty line divides: the text itself may hold others.
    text, blank, tail = note.rpartition("\n\n")
    lines = tail.removesuffix("\n").split("\n")
    if not blank or not tail.endswith("\n") or not 0 < len(lines) <= MOST_SIGNATURES:
        raise _bad_note(f"a text, an empty line and 1 to {MOST_SIGNATURES} signature lines")
    return Note(text + "\n", tuple(_parse_signature(line) for line in lines))


def open_note(note: str, keys: Sequence[VerifierKey]) -> str:
    """The text of `note`, once a signature by one of `keys` holds.

    Signatures of unknown keys are ignored, as the specification asks (witnesses, rotated keys); one
    of a known key that does not hold condemns the note.

    Raises:
        EvidenceBroken: not a note, no signature by any of `keys`, or one that does not verify.
    """
    parsed = parse_note(note)
    known = {(key.name, key.key_id): key for key in keys}
    message = parsed.text.encode()
    trusted = 0
    for signature in parsed.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if not key.verifies(message, signature.signature):
            raise EvidenceBroken(
                "bad_signature",
                f"signature of `{key.name}`",
                f"one by its key {key.key_id.hex()}",
                "one that does not verify",
            )
        trusted += 1
    if not trusted:
        signed = ", ".join(f"{s.name} {s.key_id.hex()}" for s in parsed.signatures[:3])
        wanted = ", ".join(f"{key.name} {key.key_id.hex()}" for key in keys) or "a key you trust"
        raise EvidenceBroken(
            "unknown_signer", "signature", f"one by {wanted}", f"only those by {signed}"
        )
    return parsed.text


def decode(text: str) -> bytes | None:
    """The bytes of standard base64, or None for anything but their one spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


def _parse_signature(line: str) -> Signature:
    match = _SIGNATURE_LINE.fullmatch(line)
    data = decode(match[2]) if match else None
    if not match or not data or len(data) <= KEY_ID_BYTES:
        raise _bad_note("signature lines `— name base64`")
    return Signature(name=match[1], key_id=data[:KEY_ID_BYTES], signature=data[KEY_ID_BYTES:])


def _bad_note(expected: str) -> EvidenceBroken:
    return EvidenceBroken("bad_note", "signed note", expected, "something else")
