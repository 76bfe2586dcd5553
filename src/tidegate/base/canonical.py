"""Canonical bytes: one spelling for one value, so that a hash names it.

RFC 8785 (JCS) restricted to what has no two readings: text, whole numbers a JavaScript number can
hold, booleans, null, lists, and maps with ASCII snake_case keys. Within that, sorted `orjson` and
RFC 8785 give the same bytes (a test holds them together). Floats, dates and enums are refused: they
are where canonical forms drift.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

import orjson

SAFE_INTEGER = 2**53 - 1
_KEY = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_KNOWN_KEYS: dict[str, bool] = {}

Json = None | bool | int | str | Sequence["Json"] | Mapping[str, "Json"]


def canonical(value: Json) -> bytes:
    """The canonical bytes of `value`. Raises RuntimeError for a value outside the subset."""
    check(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest(value: Json) -> str:
    """`sha256:` and the hex SHA-256 of the canonical bytes of `value`."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def digest_bytes(data: bytes) -> str:
    """`sha256:` and the hex SHA-256 of `data` itself."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def check(value: Json) -> None:
    """Raise RuntimeError unless every part of `value` is inside the subset."""
    kind = type(value)
    if kind is str:
        if not value.isascii():  # type: ignore[union-attr]
            value.encode()  # type: ignore[union-attr]  # a lone surrogate has no UTF-8
    elif kind is int:
        if not -SAFE_INTEGER <= value <= SAFE_INTEGER:  # type: ignore[operator]
            raise RuntimeError("integer outside the safe range in canonical bytes")
    elif kind is dict:
        for key, part in value.items():  # type: ignore[union-attr]
            if not _is_key(key):
                raise RuntimeError(f"key {key!r} is not ASCII snake_case in canonical bytes")
            check(part)
    elif kind is list or kind is tuple:
        for part in value:  # type: ignore[union-attr]
            check(part)
    elif value is not None and kind is not bool:
        raise RuntimeError(f"{kind.__name__} has no canonical bytes")


def _is_key(key: object) -> bool:
    known = _KNOWN_KEYS.get(key) if type(key) is str else False
    if known is None:
        known = bool(_KEY.fullmatch(key))  # type: ignore[call-overload]
        if known and len(_KNOWN_KEYS) < 4096:  # bounded: keys of events are a closed set
            _KNOWN_KEYS[key] = known  # type: ignore[index]
    return known
