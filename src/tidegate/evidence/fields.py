"""Whether the data of an event fits its schema: one check for each kind of field.

The same checks run when an event is sealed (a misfit is our own bug) and when one is read back (a
misfit is broken evidence), so they answer with a bool and leave the words to `misfit`. They are the
hot path of the commit writer: plain functions, compiled once per event name into a `Plan`.
"""

import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from tidegate.base.canonical import SAFE_INTEGER
from tidegate.evidence.events import DEEPEST, LONGEST_FACT_TEXT, fields_of

Fits = Callable[[Any], bool]
Plan = tuple[tuple[str, Fits], ...]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII).fullmatch
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII).fullmatch
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII).fullmatch
_KEY = re.compile(r"[a-z][a-z0-9_]*", re.ASCII).fullmatch


@lru_cache(maxsize=1024)  # versions are read from evidence that may be forged
def plan(v: int, name: str) -> Plan | None:
    """The fields of version `v` of event `name` with their checks; None when there is no such."""
    fields = fields_of(name, v)
    if fields is None:
        return None
    return tuple((field, _fits(kind)) for field, kind in fields.items())


def fits(fields: Plan, data: Any) -> bool:
    """Whether `data` is a map of exactly these fields, each of its kind."""
    if type(data) is not dict or len(data) != len(fields):
        return False
    for field, check in fields:  # noqa: SIM110 - twice as fast as a generator
        if field not in data or not check(data[field]):
            return False
    return True


def misfit(name: str, v: int, data: Any) -> tuple[str, str, str]:
    """What is wrong with `data` that `fits` refused: (what, expected, got).

    Never shows a value of a field: what was put there by mistake may be a secret.
    """
    if type(data) is not dict:
        return f"data of `{name}`", "a map", type(data).__name__
    schema = fields_of(name, v) or {}
    wrong = sorted(str(field) for field in schema.keys() ^ data.keys())
    if wrong:
        field = wrong[0]
        there = field in data
        return (
            f"field `{field[:80]}` of `{name}`",
            "none" if there else schema[field],
            ("one" if there else "none"),
        )
    for field, kind in schema.items():
        if not _fits(kind)(data[field]):
            got = f"a {type(data[field]).__name__} that is not one"
            return f"field `{field}` of `{name}`", f"kind `{kind}`", got
    raise RuntimeError(f"data of {name} fits its schema")


def is_instant(value: Any) -> bool:
    """RFC 3339 in UTC with exactly three decimals, and a real date."""
    return type(value) is str and _is_real_instant(value)


@lru_cache(maxsize=4_096)  # the instants of one event, and of its neighbours, are mostly the same
def _is_real_instant(value: str) -> bool:
    if not _INSTANT(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def is_digest(value: Any) -> bool:
    """`sha256:` and 64 lower-case hex digits."""
    return type(value) is str and _DIGEST(value) is not None


def is_hash(value: Any) -> bool:
    """64 lower-case hex digits."""
    return type(value) is str and _HASH(value) is not None


def is_count(value: Any) -> bool:
    """A whole number from 0 up that JSON carries in one reading. True and False are none."""
    return type(value) is int and 0 <= value <= SAFE_INTEGER


def is_text(value: Any) -> bool:
    """Text of bounded length. Line breaks and controls are allowed: JSON escapes them."""
    return type(value) is str and len(value) <= LONGEST_FACT_TEXT


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_list(value: Any) -> bool:
    return type(value) is list and _is_plain(value, DEEPEST)


def _is_map(value: Any) -> bool:
    return type(value) is dict and _is_plain(value, DEEPEST)


def _is_plain(value: Any, depth: int) -> bool:
    """Inside the canonical subset of `base.canonical`, at most `depth` levels deep."""
    kind = type(value)
    if kind is str:
        return len(value) <= LONGEST_FACT_TEXT
    if kind is int:
        return bool(-SAFE_INTEGER <= value <= SAFE_INTEGER)
    if value is None or kind is bool:
        return True
    if depth == 0:
        return False
    if kind is list:
        return all(_is_plain(part, depth - 1) for part in value)
    if kind is not dict:
        return False
    return all(
        type(key) is str and _KEY(key) is not None and _is_plain(part, depth - 1)
        for key, part in value.items()
    )


def _fits(kind: str) -> Fits:
    """The check of a kind as EVENTS writes it."""
    checks: dict[str, Fits] = {
        "text": is_text,
        "int": is_count,
        "flag": _is_flag,
        "instant": is_instant,
        "digest": is_digest,
        "personal": is_digest,
        "list": _is_list,
        "map": _is_map,
    }
    check = checks[kind.removesuffix("?")]
    if not kind.endswith("?"):
        return check

    def fits_or_null(value: Any) -> bool:
        return value is None or check(value)

    return fits_or_null
