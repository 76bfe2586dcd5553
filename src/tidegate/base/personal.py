"""Personal texts: names, e-mail, reasons. Sealed as a commitment, kept apart, erasable.

The log holds only SHA-256(salt ‖ text) with 32 random bytes of salt. Salt and text live in a side
table and travel in evidence packs; erasing them leaves a log that still verifies and a text that
can no longer be guessed.
"""

import hashlib
from dataclasses import dataclass

SALT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Personal:
    """A text with the salt of its commitment. `salt` is exactly SALT_BYTES random bytes."""

    salt: bytes
    text: str

    def __post_init__(self) -> None:
        """Refuse a short salt: it would make the text guessable from the log."""
        if len(self.salt) != SALT_BYTES:
            raise RuntimeError(f"salt of {len(self.salt)} bytes, expected {SALT_BYTES}")

    @property
    def commitment(self) -> str:
        """What the log holds instead of the text: `sha256:` and 64 hex digits."""
        return "sha256:" + hashlib.sha256(self.salt + self.text.encode()).hexdigest()

    def __repr__(self) -> str:
        """Without the text: a repr ends in logs."""
        return f"Personal({self.commitment})"
