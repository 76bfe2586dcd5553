"""One shape for every fault, and nothing of ours in it when it is our bug."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.backups import lose
from tests.shell_api.conftest import Api, an_ask
from tidegate.base import errors
from tidegate.base.errors import (
    AskedWrongly,
    EvidenceBroken,
    EvidenceClosed,
    NotAllowed,
    NotFound,
    NotSignedIn,
    Refused,
    Stale,
    TidegateError,
    Unknown,
    Unreachable,
    WorldFailed,
)
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow.house import Actor
from tidegate.shell.api.faults import problem_of

SHAPE = {"type", "title", "status", "detail", "code", "family", "help"}


def test_fault_of_another_shape(api: Api) -> None:
    """Unknown path, wrong method, bad body, no token, not allowed, stale: one shape, one type."""
    asked = api.ask()
    stale = {"choice": "approve", "digest": "sha256:0"}
    for answer, status in (
        (api.get("ana", "/nowhere"), 404),
        (api.get(None, "/api/nowhere"), 404),
        (api.get("ana", "/api/openapi.json/x"), 404),
        (api.call("ana", "DELETE", "/api/me"), 405),
        (api.post("ana", "/api/requests", {}), 400),
        (api.get("ana", "/api/requests?limit=x"), 400),
        (api.get(None, "/api/me"), 401),
        (api.get("ana", "/api/doctor"), 403),
        (api.get("ana", "/api/requests/rq_x"), 404),
        (api.post("bo", f"/api/requests/{asked['id']}/votes", stale), 409),
        (api.post("ana", "/api/requests", an_ask(reason="x" * 70_000)), 413),
    ):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem.keys() == SHAPE
        assert problem["status"] == status
        assert problem["type"] == "about:blank"
        assert problem["family"] in ("asked_wrongly", "not_allowed", "world_failed")
        assert problem["detail"]
        assert not problem["detail"].endswith(".")


def every_fault() -> list[TidegateError]:
    """One of each class of the tree."""
    made: list[TidegateError] = [
        kind("code", "message", "help")
        for kind in (
            AskedWrongly, NotFound, Stale, NotAllowed, NotSignedIn, WorldFailed, Refused,
            Unreachable, Unknown, EvidenceClosed,
        )
    ]  # fmt: skip
    return [*made, EvidenceBroken("code", "part", "this", "that")]


def test_class_of_the_tree_without_an_answer() -> None:
    """Every class of the error tree has its status and family in the table."""
    known = {type(fault) for fault in every_fault()}
    tree = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, TidegateError) and kind is not TidegateError
    }
    assert known == tree
    told = {type(fault).__name__: problem_of(fault).status for fault in every_fault()}
    assert told == {
        "AskedWrongly": 400, "NotFound": 404, "Stale": 409, "EvidenceBroken": 422,
        "NotAllowed": 403, "NotSignedIn": 401, "WorldFailed": 503, "Refused": 502,
        "Unreachable": 503, "Unknown": 503, "EvidenceClosed": 503,
    }  # fmt: skip


@pytest.mark.parametrize("fault", [RuntimeError, KeyError, AssertionError, RecursionError, OSError])
def test_bug_that_tells_about_itself(still: Api, fault: type[Exception]) -> None:
    """A bug answers 500 with a reference, which finds it in the log; no word of it leaves."""
    secret = "sk-in-the-message"

    def broken(actor: Actor) -> dict[str, Any]:
        raise fault(secret)

    object.__setattr__(api_insight(still), "doctor", broken)
    with capture_logs() as logs:
        answer = still.get("op", "/api/doctor")
    assert answer.status_code == 500
    problem = answer.json()
    assert problem.keys() == SHAPE | {"reference"}
    assert (problem["code"], problem["family"]) == ("internal", "world_failed")
    for word in (secret, fault.__name__, "Traceback", ".py", "doctor"):
        assert word not in answer.text
    (entry,) = [line for line in logs if line["event"] == "unhandled fault"]
    assert entry["reference"] == problem["reference"]
    assert fault.__name__ in entry["trace"]
    assert still.token("op") not in str(logs)


def test_cloud_fault_in_our_words(api: Api) -> None:
    """What the outside did wrong is 502 or 503 with what to do, never 500."""
    grant = api.world.granted()
    for kind, status in (
        (FaultKind.DOWN, 503),
        (FaultKind.REFUSE, 502),
        (FaultKind.LOSE_REPLY, 503),
    ):
        api.world.connector.script(Fault(kind=kind, verb="issue"))
        answer = api.post("ana", f"/api/grants/{grant.id}/credentials")
        assert (answer.status_code, answer.json()["family"]) == (status, "world_failed")


def test_credential_that_leaves_with_the_evidence_closed(api: Api) -> None:
    """No credential is answered when its session cannot be sealed."""
    grant = api.world.granted()
    token = api.token("ana")
    lose(api.world)
    answer = api.post("ana", f"/api/grants/{grant.id}/credentials")
    assert (answer.status_code, answer.json()["family"]) == (503, "world_failed")
    assert "secret" not in answer.text
    assert token not in answer.text


def api_insight(api: Api) -> Any:
    """The insight the app was made with."""
    return api.client.app.dependencies["insight"].dependency()


def test_pack_name_that_writes_headers(api: Api) -> None:
    """A pack's file name goes into its header as letters, digits, dots and dashes."""
    asked = api.ask()
    answer = api.get("ana", f"/api/evidence/pack/{asked['id']}")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="{asked["id"]}_.zip__X__y"'
    )
    assert "x" not in answer.headers


def test_insight_route_that_answers_another_kind(api: Api) -> None:
    """The evidence routes answer what is wired behind them, and ask for their parameters."""
    asked = api.ask()
    assert api.get("ana", f"/api/trace/{asked['id']}").json()["request"] == asked["id"]
    assert api.post("ana", f"/api/verify/{asked['id']}").json() == {"holds": True}
    assert api.get("op", "/api/doctor").json() == {"checks": []}
    assert api.get("audit", "/api/doctor").status_code == 200
    assert api.get("ana", "/api/evidence/checkpoint").text.startswith("origin\n")
    keys = api.get("ana", "/api/evidence/keys")
    assert keys.headers["content-type"].startswith("text/plain")
    assert api.get("ana", "/api/evidence/consistency?old=3").json()["old"] == 3
    for wrong in ("", "?old=-1", "?old=x", "?old=99999999999999999999"):
        assert api.get("ana", f"/api/evidence/consistency{wrong}").status_code == 400
