"""Ids: a two-letter prefix, `_`, and 26 characters that sort by time.

The body is a ULID's (48 bits of milliseconds, 80 random bits) in lower-case Crockford base 32.
Lower case so that one id has one spelling everywhere: URLs, cloud tags, shells. Clock and
randomness are the caller's: a port in `flow/` makes ids, the stages only carry them.
"""

import re

from tidegate.base.when import Instant, from_ms, to_ms

REQUEST, GRANT, SESSION, ASSIGNMENT, PRINCIPAL, VOTE = "rq", "gr", "se", "as", "pr", "vt"
NOTICE = "nt"
TOKEN = "tk"  # noqa: S105 - a prefix of ids, no secret
FINDING = "fi"
PANIC = "pn"
ERRAND = "er"
KINDS = frozenset(
    {REQUEST, GRANT, SESSION, ASSIGNMENT, PRINCIPAL, VOTE, TOKEN, FINDING} | {PANIC, NOTICE, ERRAND}
)
RANDOM_BYTES = 10

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(r"([a-z]{2})_[0-7][0-9a-hjkmnp-tv-z]{25}", re.ASCII)


def make_id(kind: str, at: Instant, randomness: bytes) -> str:
    """An id of `kind` made at `at`. `randomness` is exactly RANDOM_BYTES from a secure source."""
    if kind not in KINDS or len(randomness) != RANDOM_BYTES:
        raise RuntimeError(f"id of kind {kind!r} from {len(randomness)} random bytes")
    number = to_ms(at) << 80 | int.from_bytes(randomness)
    return f"{kind}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def id_kind(text: str) -> str | None:
    """The prefix of a well-formed id, else None."""
    match = _ID.fullmatch(text)
    return match[1] if match and match[1] in KINDS else None


def id_made_at(text: str) -> Instant | None:
    """The instant a well-formed id was made, else None."""
    if id_kind(text) is None:
        return None
    number = 0
    for ch in text[3:]:
        number = number << 5 | _ALPHABET.index(ch)
    return from_ms(number >> 80)
