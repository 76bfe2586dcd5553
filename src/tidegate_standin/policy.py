"""Whether a call is allowed: IAM's JSON policies, read and decided.

From the IAM User Guide, "IAM JSON policy elements" and "Policy evaluation logic": an explicit deny
beats every allow, and without an allow the answer is no. Served: Effect, Action and NotAction,
Resource and NotResource, and the condition operators below with their `…IfExists` forms. An
operator or element that is not served raises `Unserved` when the document is taken in: a policy
that would be decided wrongly is never stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tidegate_standin.clock import read_iso

Json = dict[str, Any]

ALLOWED = "allowed"
EXPLICIT_DENY = "explicitDeny"
IMPLICIT_DENY = "implicitDeny"


class Unserved(ValueError):
    """The document is not JSON of a policy, or uses what this evaluator cannot decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One action on one resource, with the context keys (any case) the caller brings."""

    action: str
    resource: str
    context: Mapping[str, str]


@lru_cache(maxsize=4096)
def _pattern(text: str, *, fold: bool) -> re.Pattern[str]:
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in text)
    return re.compile("".join(parts), re.DOTALL | (re.IGNORECASE if fold else 0))


def like(pattern: str, value: str, *, fold: bool = False) -> bool:
    """Whether `value` matches a pattern with `*` and `?`, whole."""
    return _pattern(pattern, fold=fold).fullmatch(value) is not None


def _dates(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    return lambda have, want: compare(read_iso(have), read_iso(want))


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda have, want: have == want,
    "StringEqualsIgnoreCase": lambda have, want: have.lower() == want.lower(),
    "StringLike": lambda have, want: like(want, have),
    "ArnEquals": lambda have, want: like(want, have),
    "ArnLike": lambda have, want: like(want, have),
    "Bool": lambda have, want: have.lower() == want.lower(),
    "DateEquals": _dates(lambda have, want: have == want),
    "DateLessThan": _dates(lambda have, want: have < want),
    "DateLessThanEquals": _dates(lambda have, want: have <= want),
    "DateGreaterThan": _dates(lambda have, want: have > want),
    "DateGreaterThanEquals": _dates(lambda have, want: have >= want),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "DateNotEquals": "DateEquals",
}
_ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}


def _listed(value: object) -> list[str]:
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, list):
        return [item for one in value for item in _listed(one)]
    return [str(value)]


def _base(operator: str) -> str:
    return operator.removesuffix("IfExists")


def _holds(operator: str, key: str, wanted: object, context: Mapping[str, str]) -> bool:
    have = context.get(key.lower())
    base, values = _base(operator), _listed(wanted)
    if base == "Null":
        return (have is None) == (values[0] == "true")
    if have is None:
        # IAM User Guide, "Condition operators": a missing key fails a plain operator and passes
        # a negated one; IfExists passes.
        return base in _NEGATED or operator.endswith("IfExists")
    if base in _NEGATED:
        test = _TESTS[_NEGATED[base]]
        return not any(test(have, want) for want in values)
    return any(_TESTS[base](have, want) for want in values)


def _applies(statement: Json, question: Question, context: Mapping[str, str]) -> bool:
    action, resource = question.action, question.resource
    if "Action" in statement:
        hit = any(like(p, action, fold=True) for p in _listed(statement["Action"]))
    else:
        hit = not any(like(p, action, fold=True) for p in _listed(statement["NotAction"]))
    if not hit:
        return False
    if "NotResource" in statement:
        hit = not any(like(p, resource) for p in _listed(statement["NotResource"]))
    else:
        hit = any(like(p, resource) for p in _listed(statement.get("Resource", "*")))
    return hit and all(
        _holds(operator, key, wanted, context)
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def decide(documents: Iterable[Json], question: Question) -> str:
    """`allowed`, `explicitDeny` or `implicitDeny` for all these documents together."""
    context = {key.lower(): value for key, value in question.context.items()}
    answer = IMPLICIT_DENY
    for document in documents:
        statements = document.get("Statement", [])
        for statement in statements if isinstance(statements, list) else [statements]:
            if _applies(statement, question, context):
                if statement["Effect"] == "Deny":
                    return EXPLICIT_DENY
                answer = ALLOWED
    return answer


def _check_statement(statement: object) -> None:
    if not isinstance(statement, dict):
        raise Unserved("expected each statement to be an object")
    strange = set(statement) - _ELEMENTS
    if strange:
        raise Unserved(f"expected elements of {sorted(_ELEMENTS)}, got `{sorted(strange)[0]}`")
    if statement.get("Effect") not in ("Allow", "Deny"):
        raise Unserved(f"expected Effect Allow or Deny, got `{statement.get('Effect')}`")
    if ("Action" in statement) == ("NotAction" in statement):
        raise Unserved("expected exactly one of Action and NotAction")
    for operator, keys in statement.get("Condition", {}).items():
        base = _base(operator)
        if base != "Null" and base not in _TESTS and base not in _NEGATED:
            raise Unserved(f"the stand-in does not evaluate the condition operator `{operator}`")
        for wanted in keys.values():
            for value in _listed(wanted):
                if "${" in value:
                    raise Unserved("the stand-in does not evaluate policy variables")
                if base.startswith("Date"):
                    read_iso(value)


def read_document(text: str | Json) -> Json:
    """A policy document, checked. Raises `Unserved`."""
    try:
        document = json.loads(text) if isinstance(text, str) else text
    except json.JSONDecodeError as error:
        raise Unserved("expected a JSON policy document") from error
    if not isinstance(document, dict) or "Statement" not in document:
        raise Unserved("expected a policy document with a Statement")
    statements = document["Statement"]
    try:
        for statement in statements if isinstance(statements, list) else [statements]:
            _check_statement(statement)
    except (TypeError, AttributeError) as error:
        raise Unserved("expected Condition to be an object of objects") from error
    except ValueError as error:
        raise Unserved(str(error)) from error
    return document
