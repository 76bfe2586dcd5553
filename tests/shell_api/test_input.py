"""Bodies and parameters that are wrong, too much, or try to say more than was asked."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.shell_api.conftest import Api, an_ask
from tidegate.base.errors import AskedWrongly
from tidegate.shell.api.app import LARGEST_BODY
from tidegate.shell.api.bodies import parse_json


def send(api: Api, body: bytes, path: str = "/api/requests", kind: str = "application/json") -> Any:
    """A POST of exactly these bytes as `ana`."""
    headers = {"Authorization": f"Bearer {api.token('ana')}", "Content-Type": kind}
    return api.client.post(path, content=body, headers=headers)


@pytest.mark.parametrize(
    "more",
    [
        {"state": "approved"},
        {"principal": "pr_x"},
        {"digest": "sha256:" + "0" * 64},
        {"votes": [{"choice": "approve"}]},
        {"requirement": "none"},
        {"id": "rq_x"},
        {"role": "prod/admin"},
    ],
)
def test_field_nobody_may_set(api: Api, more: dict[str, Any]) -> None:
    """A field that is not asked for is refused by name, and nothing is filed or changed."""
    asked = api.ask()
    for method, path in (
        ("POST", "/api/requests"),
        ("POST", "/api/requests/preview"),
        ("PUT", f"/api/requests/{asked['id']}"),
    ):
        answer = api.call("ana", method, path, {**an_ask(), **more})
        assert answer.status_code == 400
        assert f"unknown field `{next(iter(more))}`" in answer.json()["detail"]
    ballot = {"choice": "approve", "digest": asked["digest"], **more}
    if "digest" not in more:
        assert api.post("bo", f"/api/requests/{asked['id']}/votes", ballot).status_code == 400
    assert [r["state"] for r in api.get("ana", "/api/requests").json()["requests"]] == ["pending"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("roles", []),
        ("roles", "prod/admin"),
        ("roles", ["prod/admin", "prod/admin"]),
        ("roles", ["prod/admin"] * 21),
        ("roles", ["x" * 300]),
        ("roles", [None]),
        ("duration_seconds", 0),
        ("duration_seconds", -1),
        ("duration_seconds", 1.5),
        ("duration_seconds", "1800"),
        ("duration_seconds", True),
        ("duration_seconds", 10**20),
        ("duration_seconds", None),
        ("reason", ""),
        ("reason", " \n "),
        ("reason", "a\x1b[31mb"),
        ("reason", "a\r\nb"),
        ("reason", "a‮b"),
        ("reason", "a\x00b"),
        ("reason", "x" * 2001),
        ("reason", "x" * 9000),
        ("reason", 7),
        ("ticket", "INC-1; DROP TABLE requests"),
        ("ticket", ""),
        ("start", "tomorrow"),
        ("start", "2026-11-23T09:00:00+01:00"),
        ("start", "2027-11-23T09:00:00Z"),
        ("start", 1),
        ("emergency", "yes"),
        ("emergency", "true"),
        ("emergency", 1),
    ],
)
def test_value_out_of_bounds(still: Api, field: str, value: Any) -> None:
    """A value of the wrong kind, size or content is a 400 that names the field, or what it is."""
    answer = still.post("ana", "/api/requests", {**an_ask(), field: value})
    assert answer.status_code == 400, answer.text
    problem = answer.json()
    assert problem["family"] == "asked_wrongly"
    assert problem["help"]
    assert still.get("ana", "/api/requests").json()["requests"] == []


def test_format_string_in_a_reason(api: Api) -> None:
    """Template and format syntax in a reason comes back as it was typed."""
    reason = "{0.__class__} %s {{7*7}} ${jndi:x} <script>alert(1)</script> ' OR 1=1 --"
    asked = api.ask(reason=reason)
    assert asked["reason"] == reason
    assert api.get("bo", f"/api/requests/{asked['id']}").json()["reason"] == reason


def test_login_with_sql_in_it(api: Api) -> None:
    """A login is only ever compared."""
    body = {"login": "ana' OR '1'='1", "password": "x"}
    assert api.post(None, "/api/signin", body).json()["code"] == "bad_credentials"
    assert api.get("ana", "/api/grants?role=' OR 1=1 --").json()["grants"] == []


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/signin", {"login": "ana\0", "password": "x"}),
        ("POST", "/api/panics", {"scope": "principal", "name": "ana\0", "reason": "r"}),
        ("POST", "/api/requests", {**an_ask(), "roles": ["prod/admin\0"]}),
        ("GET", "/api/panics/pn%00", None),
        ("GET", "/api/grants?role=%00", None),
    ],
)
def test_nul_character_is_called_a_fault_of_the_database(
    api: Api, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """PostgreSQL takes none in a text: it is asked wrongly, on either engine, and seen at once."""
    answer = api.call("op", method, path, body)
    assert (answer.status_code, answer.json()["family"]) == (400, "asked_wrongly")
    assert "NUL" in answer.json()["detail"]


@pytest.mark.parametrize("size", [LARGEST_BODY + 1, 1_000_000])
def test_body_of_a_megabyte(still: Api, size: int) -> None:
    """A body beyond 64 KiB is 413, whether its length is said or not."""
    body = b'{"reason":"' + b"x" * size + b'"}'
    assert send(still, body).status_code == 413
    headers = {"Authorization": f"Bearer {still.token('ana')}", "Content-Type": "application/json"}
    parts = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
    streamed = still.client.post("/api/requests", content=parts, headers=headers)
    assert (streamed.status_code, streamed.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 30_000,
        b'{"roles":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"x":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"roles":["a"],"roles":["prod/admin"],"duration_seconds":60,"reason":"x"}',
        b'{"roles":["prod/admin"],"duration_seconds":60,"reason":"\\ud800"}',
        b'{"duration_seconds":' + b"9" * 20_000 + b"}",
        b'{"duration_seconds":1e999}',
        b'{"duration_seconds":NaN}',
        b'{"a":1}{"a":1}',
    ],
    ids=range(14),
)
def test_json_with_two_readings(still: Api, body: bytes) -> None:
    """Broken, too deep, ambiguous or huge JSON is a 400 of the usual shape."""
    answer = send(still, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input"), answer.text


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_break_the_reading(body: bytes) -> None:
    """Any bytes are read as JSON reads them, or refused; nothing else happens."""
    try:
        value = parse_json(body)
    except AskedWrongly as refused:
        assert refused.code == "bad_input"
    else:
        assert value == json.loads(body)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/msgpack"]
)
def test_form_that_is_taken_for_json(still: Api, kind: str) -> None:
    """A body that does not say it is JSON is 415: what a web page can send without asking."""
    body = json.dumps(an_ask()).encode()
    answer = send(still, body, kind=kind)
    assert (answer.status_code, answer.json()["code"]) == (415, "not_json")


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("view=theirs", "view"),
        ("state=aproved", "state"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=many", "limit"),
        ("before=" + "x" * 300, "before"),
    ],
)
def test_parameter_out_of_bounds(still: Api, query: str, named: str) -> None:
    """A parameter out of bounds is a 400 that names it as the caller wrote it."""
    answer = still.get("ana", f"/api/requests?{query}")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(f"{named}:")


def test_edit_after_it_was_decided(api: Api) -> None:
    """What is decided, withdrawn or lapsed takes no edit and no vote: 409."""
    asked = api.ask()
    assert api.post("ana", f"/api/requests/{asked['id']}/withdraw").json()["state"] == "withdrawn"
    assert api.vote("bo", asked).status_code == 409
    assert api.call("ana", "PUT", f"/api/requests/{asked['id']}", an_ask()).status_code == 409
    assert api.post("ana", f"/api/requests/{asked['id']}/withdraw").status_code == 409
    late = api.ask()
    api.world.clock.forward(hours=8)
    assert api.vote("bo", late).json()["code"] == "lapsed"
