"""Between bytes and members: which operation a request is, its parameters, and its answer's bytes.

The shapes come from botocore's service models: JSON 1.1, REST-JSON and Query are served from them,
S3's one answer is written by hand. What AWS's own servers check of an input is checked here too:
required members, types, lengths and patterns.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

import botocore.session
from botocore.validate import ParamValidator

from tidegate_standin.errors import Refusal

Json = dict[str, Any]

_TARGETS = {
    "SWBExternalService": "sso-admin",
    "AWSIdentityStore": "identitystore",
    "AWSOrganizationsV20161128": "organizations",
}
_PORTAL = {
    ("GET", "/federation/credentials"): "GetRoleCredentials",
    ("GET", "/assignment/accounts"): "ListAccounts",
    ("GET", "/assignment/roles"): "ListAccountRoles",
}
_QUERY = {"iam", "sts"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response without its Date."""

    status: int
    headers: dict[str, str]
    body: bytes


class Models:
    """botocore's models, loaded once each."""

    def __init__(self) -> None:
        self._session = botocore.session.get_session()
        self._lock = threading.Lock()
        self._services: dict[str, Any] = {}

    def service(self, name: str) -> Any:
        """The model of a service."""
        with self._lock:
            if name not in self._services:
                self._services[name] = self._session.get_service_model(name)
            return self._services[name]

    def operation(self, service: str, name: str) -> Any:
        """The model of an operation."""
        return self.service(service).operation_model(name)


def recognise(
    models: Models, method: str, path: str, headers: dict[str, str], body: bytes, scope_service: str
) -> tuple[str, str, Json]:
    """(service, operation, parts of the path). Raises Refusal `UnknownOperationException`."""
    prefix, _, name = headers.get("x-amz-target", "").partition(".")
    if prefix in _TARGETS:
        return _TARGETS[prefix], name, {}
    if (method, path) in _PORTAL:
        return "sso", _PORTAL[method, path], {}
    if scope_service in _QUERY:
        return scope_service, dict(parse_qsl(body.decode())).get("Action", ""), {}
    if scope_service == "s3" and (method, path) == ("GET", "/"):
        return "s3", "ListBuckets", {}
    if scope_service == "scheduler":
        model = models.service("scheduler")
        for operation in model.operation_names:
            http = model.operation_model(operation).http
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", http["requestUri"].partition("?")[0])
            found = re.fullmatch(pattern, path) if http["method"] == method else None
            if found:
                return "scheduler", operation, {k: unquote(v) for k, v in found.groupdict().items()}
    raise Refusal(
        "UnknownOperationException", f"the stand-in does not serve {method} {path}", status=404
    )


def _query_value(shape: Any, pairs: dict[str, str], prefix: str) -> Any:
    if shape.type_name == "structure":
        found = {
            name: _query_value(member, pairs, f"{prefix}.{name}" if prefix else name)
            for name, member in shape.members.items()
        }
        return {k: v for k, v in found.items() if v is not None} or None
    if shape.type_name == "list":
        items: list[Any] = []
        while True:
            one = _query_value(shape.member, pairs, f"{prefix}.member.{len(items) + 1}")
            if one is None:
                return items or None
            items.append(one)
    return _scalar(shape, pairs.get(prefix))


def _scalar(shape: Any, text: str | None) -> Any:
    if text is None:
        return None
    if shape.type_name in ("integer", "long"):
        return int(text)
    if shape.type_name == "boolean":
        return text == "true"
    return text


def _rest(operation: Any, parts: Json, query: str, headers: dict[str, str], body: bytes) -> Json:
    found: Json = json.loads(body) if body else {}
    asked = dict(parse_qsl(query, keep_blank_values=True))
    for name, member in (operation.input_shape.members if operation.input_shape else {}).items():
        place = member.serialization.get("location")
        wire = member.serialization.get("name", name)
        source = {"uri": parts, "querystring": asked, "header": headers}.get(place, {})
        value = source.get(wire.lower() if place == "header" else wire)
        if place and value is not None:
            found[name] = _scalar(member, value)
    return found


def read_parameters(
    models: Models,
    service: str,
    name: str,
    parts: Json,
    query: str,
    headers: dict[str, str],
    body: bytes,
) -> Json:
    """The members of the input. Raises Refusal `ValidationException` for what the model forbids."""
    operation = models.operation(service, name)
    try:
        if service in _QUERY:
            pairs = dict(parse_qsl(body.decode(), keep_blank_values=True))
            shape = operation.input_shape
            found: Json = (_query_value(shape, pairs, "") if shape else None) or {}
        elif service in ("scheduler", "sso", "s3"):
            found = _rest(operation, parts, query, headers, body)
        else:
            found = json.loads(body) if body else {}
    except ValueError as error:
        raise Refusal("SerializationException", "the body could not be read") from error
    check_parameters(models, service, name, found)
    return found


def check_parameters(models: Models, service: str, name: str, found: Json) -> None:
    """Raises Refusal `ValidationException` (Organizations: `InvalidInputException`)."""
    operation = models.operation(service, name)
    if operation.input_shape is not None:
        report = ParamValidator().validate(found, operation.input_shape)
        wrong = (
            report.generate_report()
            if report.has_errors()
            else limits(operation.input_shape, found)
        )
        if wrong:
            raise Refusal(
                "InvalidInputException" if service == "organizations" else "ValidationException",
                wrong,
            )


def limits(shape: Any, value: Any, at: str = "") -> str:
    """The first breach of a length or a pattern, in a sentence; empty when there is none."""
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, member in shape.members.items():
            if name in value and (wrong := limits(member, value[name], f"{at}.{name}".lstrip("."))):
                return wrong
    if shape.type_name == "list":
        return next((w for one in value if (w := limits(shape.member, one, at))), "")
    if shape.type_name == "string" and isinstance(value, str):
        return _string_limits(shape, value, at)
    if shape.type_name == "integer" and value > shape.metadata.get("max", value):
        return f"`{at}` must be at most {shape.metadata['max']}"
    return ""


def _string_limits(shape: Any, value: str, at: str) -> str:
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max", len(value))
    if not least <= len(value) <= most:
        return f"`{at}` must have a length of {least} to {most}, got {len(value)}"
    if shape.enum and value not in shape.enum:
        return f"`{at}` must be one of {', '.join(shape.enum)}"
    pattern = shape.metadata.get("pattern", "")
    # Python's re knows no \p classes; the few members that use them are names for display.
    if pattern and "\\p" not in pattern and not re.fullmatch(pattern, value):
        return f"`{at}` must match {pattern}"
    return ""


def _for_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _for_json(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_for_json(v) for v in value]
    return value


def _xml(shape: Any, name: str, value: Any) -> str:
    if shape.type_name == "structure":
        inner = "".join(_xml(m, k, value[k]) for k, m in shape.members.items() if k in value)
    elif shape.type_name == "list":
        inner = "".join(_xml(shape.member, "member", one) for one in value)
    elif shape.type_name == "timestamp":
        inner = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    elif shape.type_name == "boolean":
        inner = str(value).lower()
    else:
        inner = escape(str(value))
    return f"<{name}>{inner}</{name}>"


def write_answer(models: Models, service: str, name: str, result: Json, request_id: str) -> Answer:
    """The bytes of a success. Instants in `result` are seconds since the epoch."""
    headers = {"x-amzn-RequestId": request_id}
    if service in _QUERY:
        operation = models.operation(service, name)
        space = models.service(service).metadata["xmlNamespace"]
        inner = (
            _xml(operation.output_shape, f"{name}Result", result) if operation.output_shape else ""
        )
        text = (
            f'<{name}Response xmlns="{space}">{inner}<ResponseMetadata><RequestId>{request_id}'
            f"</RequestId></ResponseMetadata></{name}Response>"
        )
        return Answer(
            status=200, headers={**headers, "Content-Type": "text/xml"}, body=text.encode()
        )
    if service == "s3":
        text = (
            '<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            "<Owner><ID>standin</ID></Owner><Buckets></Buckets></ListAllMyBucketsResult>"
        )
        return Answer(
            status=200, headers={**headers, "Content-Type": "application/xml"}, body=text.encode()
        )
    kind = "application/json" if service in ("scheduler", "sso") else "application/x-amz-json-1.1"
    body = json.dumps(_for_json(result)).encode()
    return Answer(status=200, headers={**headers, "Content-Type": kind}, body=body)


# How the XML services name what the JSON services call by the longer name.
_XML_CODES = {
    "AccessDeniedException": "AccessDenied",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ExpiredTokenException": "ExpiredToken",
    "ValidationException": "ValidationError",
}
_FORBIDDEN = {
    "AccessDeniedException",
    "InvalidSignatureException",
    "UnrecognizedClientException",
    "ExpiredTokenException",
}


def _modelled(models: Models, service: str, name: str, code: str) -> tuple[int, str]:
    """(status, name of the message's member) for an error of an operation."""
    known = name in models.service(service).operation_names
    shapes = models.operation(service, name).error_shapes if known else []
    for shape in shapes:
        if code in (shape.name, shape.error_code):
            member = next((m for m in shape.members if m.lower() == "message"), "message")
            return int(shape.metadata.get("error", {}).get("httpStatusCode", 400)), member
    return 400, "message"


def write_refusal(
    models: Models, service: str, name: str, refusal: Refusal, request_id: str
) -> Answer:
    """The bytes of an error, as the service's protocol writes it."""
    status, member = _modelled(models, service, name, refusal.code)
    status = refusal.status or status
    if service in _QUERY or service == "s3":
        code = _XML_CODES.get(refusal.code, refusal.code)
        if service == "s3" and code == "InvalidClientTokenId":
            code = "InvalidAccessKeyId"
        if refusal.code in _FORBIDDEN and refusal.status is None:
            status = 403
        message = f"<Message>{escape(refusal.message)}</Message>"
        inner = f"<Error><Type>Sender</Type><Code>{code}</Code>{message}</Error>"
        text = (
            inner
            if service == "s3"
            else f"<ErrorResponse>{inner}<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        headers = {"Content-Type": "text/xml", "x-amzn-RequestId": request_id}
        return Answer(status=status, headers=headers, body=text.encode())
    if service in ("scheduler", "sso") and refusal.code in _FORBIDDEN and refusal.status is None:
        status = 403
    kind = "application/json" if service in ("scheduler", "sso") else "application/x-amz-json-1.1"
    headers = {
        "Content-Type": kind,
        "x-amzn-ErrorType": refusal.code,
        "x-amzn-RequestId": request_id,
    }
    body = json.dumps({"__type": refusal.code, member: refusal.message, **refusal.extra}).encode()
    return Answer(status=status, headers=headers, body=body)
