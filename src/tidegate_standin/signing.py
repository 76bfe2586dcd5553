"""Signature Version 4, verified.

From the IAM User Guide, "Create a signed AWS API request". The age of a signature is not checked:
the stand-in's clock may be moved, the callers' cannot.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from tidegate_standin.errors import Refusal

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The parts of an Authorization header."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request as it came: `headers` with lower-case names, `query` still encoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


def read_scope(header: str) -> Scope | None:
    """The scope in an Authorization header, None when there is no SigV4 in it."""
    found = _AUTHORIZATION.fullmatch(header.strip())
    if found is None:
        return None
    key, date, region, service, signed, signature = found.groups()
    return Scope(
        access_key_id=key,
        date=date,
        region=region,
        service=service,
        signed=tuple(signed.split(";")),
        signature=signature,
    )


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _normal(path: str) -> str:
    """The path without `.`, `..` and empty segments, as RFC 3986 section 6 has it."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")


def _canonical(request: HttpRequest, scope: Scope) -> str:
    # Every service but S3 encodes the already encoded path once more.
    path = request.path if scope.service == "s3" else quote(_normal(request.path), safe="/~")
    pairs = sorted(
        (quote(name, safe="~"), quote(value, safe="~"))
        for name, value in parse_qsl(request.query, keep_blank_values=True)
    )
    names = {name: " ".join(request.headers.get(name, "").split()) for name in scope.signed}
    declared = request.headers.get("x-amz-content-sha256", "")
    actual = hashlib.sha256(request.body).hexdigest()
    return "\n".join(
        [
            request.method,
            path or "/",
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{value}" for name, value in names.items()),
            "",
            ";".join(scope.signed),
            "UNSIGNED-PAYLOAD" if declared == "UNSIGNED-PAYLOAD" else actual,
        ]
    )


def signature_of(request: HttpRequest, scope: Scope, secret: str) -> str:
    """The signature this request should carry."""
    area = f"{scope.date}/{scope.region}/{scope.service}/aws4_request"
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            request.headers.get("x-amz-date", ""),
            area,
            hashlib.sha256(_canonical(request, scope).encode()).hexdigest(),
        ]
    )
    key = _hmac(f"AWS4{secret}".encode(), scope.date)
    for part in (scope.region, scope.service, "aws4_request"):
        key = _hmac(key, part)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def verify(request: HttpRequest, scope: Scope, secret: str) -> None:
    """Raises Refusal `InvalidSignatureException` when the signature is not this request's.

    `host` and `x-amz-date` must be among the signed headers.
    """
    if not {"host", "x-amz-date"} <= set(scope.signed):
        raise Refusal(
            "IncompleteSignatureException", "expected host and x-amz-date to be signed", status=403
        )
    if not hmac.compare_digest(signature_of(request, scope, secret), scope.signature):
        raise Refusal(
            "InvalidSignatureException",
            "the request signature calculated here does not match the signature provided",
            status=403,
        )


def decoded(path: str) -> str:
    """A path with its percent-encoding undone."""
    return unquote(path)
