"""The one error table: every fault leaves as RFC 9457 `application/problem+json` of one shape.

    {"type", "title", "status", "detail", "code", "family", "help", "reference"}

`code` and `family` are what clients branch on; `detail` and `help` are what people read. A bug of
ours shows a reference and nothing else: what happened is in the server's log under that reference.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from traceback import format_exception
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec

from tidegate.base.errors import (
    AskedWrongly,
    NotFound,
    NotSignedIn,
    TidegateError,
    WorldFailed,
    one_line,
)

log = structlog.get_logger("tidegate.api")

PROBLEM = "application/problem+json"
REFERENCE_BYTES = 6
LONGEST_DETAIL = 1_000  # characters of a validation message: it may repeat what was sent
RETRY_SECONDS = 5  # told with every 503: longer than a moment's lock, shorter than patience

# Where HTTP has a finer word than the family's.
STATUS_OF_CODE = {"too_many_tries": 429, "not_json": 415}
# One code for "no such thing" and "not yours to see": the two are never told apart.
UNSEEN = frozenset({"not_found", "unknown_id"})
UNKNOWN_ID = "unknown_id"

# Names of our own arguments, as the client knows them.
_NAMES = {"data": "body", "some_id": "id", "in_state": "state", "of_request": "request"}
_WORDS: Mapping[int, tuple[str, str, str]] = {
    400: ("bad_input", "the call could not be read", "see /api/openapi.json for what is expected"),
    404: ("no_such_path", "nothing is served at this path", "see /api/openapi.json"),
    405: ("no_such_method", "this path has no such method", "see /api/openapi.json"),
    413: ("body_too_large", "expected a body of at most 64 KiB, got more", "send less"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A fault as told to a client (RFC 9457). `reference` is empty unless the fault is our bug."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    family: str
    help: str
    reference: str = ""


# What OpenAPI tells of every operation.
FAULTS: dict[int, ResponseSpec] = {
    status: ResponseSpec(
        data_container=Problem,
        media_type=PROBLEM,
        description=words,
        generate_examples=False,
    )
    for status, words in (
        (400, "Asked wrongly"),
        (401, "Nobody is known to be asking"),
        (403, "Understood and refused"),
        (404, "No such thing, or not yours to see"),
        (409, "It changed since it was read"),
        (503, "Something outside failed, or evidence cannot be written"),
    )
}


def problem_of(fault: TidegateError) -> Problem:
    """A member of the error tree, as told to a client."""
    status = STATUS_OF_CODE.get(fault.code, fault.status)
    if isinstance(fault, NotFound) and fault.code in UNSEEN:
        # The store and the rules for seeing have each their own words; a caller who could tell
        # them apart could try ids out.
        return _problem(
            status,
            "nothing you may see has this id",
            UNKNOWN_ID,
            fault.family,
            "list what is yours, and copy the id",
        )
    return _problem(status, fault.message, fault.code, fault.family, fault.help)


def problem_of_http(fault: HTTPException) -> Problem:
    """What the web framework refuses before any of our code runs."""
    status = fault.status_code
    code, detail, help_ = _WORDS.get(
        status, (f"http_{status}", _phrase(status).lower(), "see /api/openapi.json")
    )
    if status == HTTPStatus.BAD_REQUEST:
        detail = _told(fault) or detail
    return _problem(status, detail, code, AskedWrongly.family, help_)


def respond(problem: Problem) -> Response[dict[str, Any]]:
    """`problem` on the wire."""
    headers = {}
    if problem.status == NotSignedIn.status:
        headers["WWW-Authenticate"] = 'Bearer realm="tidegate"'  # RFC 6750, section 3
    if problem.status == WorldFailed.status:
        headers["Retry-After"] = str(RETRY_SECONDS)
    body = asdict(problem)
    if not problem.reference:
        del body["reference"]
    return Response(body, status_code=problem.status, media_type=PROBLEM, headers=headers)


Handler = Callable[[Request[Any, Any, Any], Any], Response[dict[str, Any]]]


def fault_handlers(randomness: Callable[[int], bytes]) -> dict[int | type[Exception], Handler]:
    """The handlers of everything that can be raised, most telling first."""

    def known(request: Request[Any, Any, Any], fault: TidegateError) -> Response[dict[str, Any]]:
        request.scope["state"]["fault"] = fault  # the door seals refusals before they are answered
        return respond(problem_of(fault))

    def web(request: Request[Any, Any, Any], fault: HTTPException) -> Response[dict[str, Any]]:
        if fault.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return bug(request, fault)
        problem = problem_of_http(fault)
        # For the door, like `known`: a command the framework refuses is refused all the same.
        request.scope["state"]["fault"] = AskedWrongly(problem.code, problem.detail, problem.help)
        response = respond(problem)
        if allowed := (fault.headers or {}).get("Allow"):
            response.set_header("Allow", allowed)
        return response

    def bug(request: Request[Any, Any, Any], fault: Exception) -> Response[dict[str, Any]]:
        reference = randomness(REFERENCE_BYTES).hex()
        log.error(
            "unhandled fault",
            reference=reference,
            method=request.method,
            # NB. the route's path, not the caller's: people paste tokens where an id belongs.
            path=request.scope.get("path_template", ""),
            # NB. not `exc_info`: a renderer may show the locals of every frame, tokens among them.
            trace="".join(format_exception(fault)),
        )
        return respond(
            Problem(
                type="about:blank",
                title=_phrase(HTTPStatus.INTERNAL_SERVER_ERROR),
                status=HTTPStatus.INTERNAL_SERVER_ERROR,
                detail="something in Tidegate itself went wrong",
                code="internal",
                family=WorldFailed.family,
                help="give the reference to an operator: it finds the fault in the server's log",
                reference=reference,
            )
        )

    return {TidegateError: known, HTTPException: web, Exception: bug}


def _problem(status: int, detail: str, code: str, family: str, help_: str) -> Problem:
    return Problem(
        type="about:blank",
        title=_phrase(status),
        status=status,
        detail=detail,
        code=code,
        family=family,
        help=help_,
    )


def _told(fault: HTTPException) -> str:
    """The framework's words on what is wrong with a body or a parameter, in our form."""
    if isinstance(fault, ValidationException) and isinstance(fault.extra, list) and fault.extra:
        first = fault.extra[0]
        name = str(first.get("key") or first.get("source") or "data")
        message = str(first.get("message", ""))
        if name == "data" and message == "'data'":
            message = "expected one, got none"
        return f"{_NAMES.get(name, name)}: {_plain(message)}"
    return _plain(str(fault.detail))


def _plain(text: str) -> str:
    text = one_line(text)[:LONGEST_DETAIL].rstrip(". ")
    return text[:1].lower() + text[1:]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
