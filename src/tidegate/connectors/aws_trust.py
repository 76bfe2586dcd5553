"""Whom the trust policy of an IAM role lets in. Pure."""

import json
from urllib.parse import unquote


def trusted_by(document: object) -> frozenset[str]:
    """Every principal that an `Allow` of the trust policy names, whatever its conditions.

    A policy that cannot be read trusts `anybody`: what is not understood is told, never passed by.
    """
    if isinstance(document, str):
        try:
            document = json.loads(unquote(document))
        except ValueError:
            return frozenset({"anybody"})
    if not isinstance(document, dict):
        return frozenset({"anybody"})
    found: set[str] = set()
    for statement in _many(document.get("Statement")):
        if not isinstance(statement, dict) or statement.get("Effect") != "Allow":
            continue
        principal = statement.get("Principal")
        if not isinstance(principal, dict):
            found.add("anybody")  # "*", or NotPrincipal
            continue
        for names in principal.values():
            found |= {"anybody" if name == "*" else str(name) for name in _many(names)}
    return frozenset(found)


def _many(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
