"""A change of the log's key: one statement, signed by the key that goes and by the one that comes.

The old key says who follows it, so whoever trusts it needs no other word for the new one; the new
key says that it was there. The statement names the index it is sealed at and stands nowhere else.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.base.canonical import Json
from tidegate.base.errors import AskedWrongly, EvidenceBroken
from tidegate.base.when import Instant, wire
from tidegate.evidence.note import SIGNATURE_BYTES, Signer, VerifierKey, decode, parse_key

EVENT = "log.key_changed"

_TITLE = "tidegate.key-change.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """`before` signs checkpoints up to size `index`, `after` those from `index + 1` on.

    `index` is the place of the event in the log. Both signatures are over `message`; whoever makes
    one out of what was read calls `check`, which `read_change` and `seal_of` do.
    """

    index: int
    before: VerifierKey
    after: VerifierKey
    before_signature: bytes
    after_signature: bytes

    @property
    def message(self) -> bytes:
        """What is signed: five lines. No checkpoint, which has three, can be taken for it."""
        return _message(self.index, self.before, self.after)

    def check(self) -> None:
        """Raise EvidenceBroken unless both keys are of one log, differ, and signed."""
        if self.before.name != self.after.name:
            raise EvidenceBroken("other_log", "key change", self.before.name, self.after.name)
        if self.before == self.after:
            raise _forged("another key than before", f"key {self.before.key_id.hex()} again")
        for which, key, signature in (
            ("old", self.before, self.before_signature),
            ("new", self.after, self.after_signature),
        ):
            if not key.verifies(self.message, signature):
                raise _forged(
                    f"a signature of the {which} key {key.key_id.hex()} for event {self.index}",
                    "one that does not verify",
                )

    def data(self, at: Instant) -> dict[str, Json]:
        """The fields of the event `log.key_changed`."""
        return {
            "before": self.before.text(),
            "after": self.after.text(),
            "before_signature": base64.b64encode(self.before_signature).decode(),
            "after_signature": base64.b64encode(self.after_signature).decode(),
            "at": wire(at),
        }

    def seal(self) -> str:
        """Both signatures in one word, the old key's first, for a line of a key file."""
        return base64.b64encode(self.before_signature + self.after_signature).decode()


def sign_change(index: int, before: Signer, after: Signer) -> KeyChange:
    """The change from `before` to `after` at event `index`. Raises what a signer raises."""
    old = VerifierKey(before.name, before.public)
    new = VerifierKey(after.name, after.public)
    if old.name != new.name or old == new:
        raise RuntimeError(f"key {new.text()} cannot follow {old.text()}")
    message = _message(index, old, new)
    return KeyChange(
        index=index,
        before=old,
        after=new,
        before_signature=before.sign(message),
        after_signature=after.sign(message),
    )


def read_change(index: int, data: Mapping[str, Json]) -> KeyChange:
    """The change that the data of the event at `index` states, both signatures verified.

    Raises:
        EvidenceBroken: no keys or signatures there, one that does not verify, or a change that was
            signed for another place of the log.
    """
    try:
        before, after = parse_key(str(data["before"])), parse_key(str(data["after"]))
    except AskedWrongly as error:
        raise _forged("two verifier keys", error.message) from error
    change = KeyChange(
        index=index,
        before=before,
        after=after,
        before_signature=_signature(str(data["before_signature"])),
        after_signature=_signature(str(data["after_signature"])),
    )
    change.check()
    return change


def seal_of(index: int, before: VerifierKey, after: VerifierKey, seal: str) -> KeyChange:
    """Read `KeyChange.seal` back, both signatures verified. Raises EvidenceBroken."""
    data = decode(seal) or b""
    if len(data) != 2 * SIGNATURE_BYTES:
        raise _forged(f"{2 * SIGNATURE_BYTES} bytes of signatures in base64", f"`{seal[:40]}`")
    change = KeyChange(
        index=index,
        before=before,
        after=after,
        before_signature=data[:SIGNATURE_BYTES],
        after_signature=data[SIGNATURE_BYTES:],
    )
    change.check()
    return change


def _message(index: int, before: VerifierKey, after: VerifierKey) -> bytes:
    return f"{_TITLE}\n{before.name}\n{index}\n{before.text()}\n{after.text()}\n".encode()


def _signature(text: str) -> bytes:
    data = decode(text)
    if data is None or len(data) != SIGNATURE_BYTES:
        raise _forged(f"a signature of {SIGNATURE_BYTES} bytes in base64", "something else")
    return data


def _forged(expected: str, got: str) -> EvidenceBroken:
    return EvidenceBroken("key_change_forged", "key change", expected, got)
