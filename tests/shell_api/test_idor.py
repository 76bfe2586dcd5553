"""Ids of other people's things: refused as if they were nobody's, in every way to use them."""

from dataclasses import dataclass

import pytest

from tests.flow.test_finding import a_sighting
from tests.shell_api.conftest import Api, an_ask
from tests.support import START
from tidegate.base.ids import make_id
from tidegate.flow.finding import see

UNKNOWN_REQUEST = make_id("rq", START, b"0" * 10)
UNKNOWN_FINDING = make_id("fi", START, b"0" * 10)
UNKNOWN_GRANT = make_id("gr", START, b"0" * 10)
A_VOTE = {"choice": "approve", "digest": "sha256:" + "0" * 64}

A_TRIAL = {"outcome": "denied", "exit_code": 1, "call": "x", "tried_at": "2026-11-23T09:00:00Z"}

ROUTES = [
    ("GET", "/api/requests/{id}", None),
    ("PUT", "/api/requests/{id}", an_ask()),
    ("POST", "/api/requests/{id}/votes", A_VOTE),
    ("POST", "/api/requests/{id}/withdraw", None),
    ("GET", "/api/grants/{id}", None),
    ("POST", "/api/grants/{id}/credentials", None),
    ("POST", "/api/grants/{id}/end", {"comment": "mine now"}),
    ("POST", "/api/grants/{id}/sign-off", {"reason": "mine now"}),
    ("POST", "/api/grants/{id}/resume", {"reason": "mine now"}),
    ("POST", "/api/grants/{id}/trials", A_TRIAL),
    ("GET", "/api/trace/{id}", None),
    ("POST", "/api/verify/{id}", None),
    ("GET", "/api/evidence/pack/{id}", None),
]
# Who may see and lift a panic is tried in `tests/flow/test_panic.py`.
PANIC_ROUTES = [
    ("GET", "/api/panics/{id}", None),
    ("POST", "/api/panics/{id}/unfreeze", None),
]
TARGET_ROUTES = [("POST", "/api/targets/{id}/baseline", {"reason": "mine now"})]
FINDING_ROUTES = [
    ("GET", "/api/findings/{id}", None),
    ("POST", "/api/findings/{id}/assign", {"to": "eve"}),
    ("POST", "/api/findings/{id}/close", {"reason": "nothing to see"}),
]


@dataclass
class Ids:
    """Somebody's open grant and pending request."""

    request: str
    pending: str
    grant: str


@pytest.fixture
def ids(api: Api) -> Ids:
    """Of `ana`; `eve` may see none of it."""
    grant = api.world.granted()
    return Ids(request=grant.request, pending=api.ask()["id"], grant=grant.id)


def test_every_route_with_an_id_is_in_the_matrix(api: Api) -> None:
    """A route added later cannot be left out of this file."""
    document = api.get(None, "/api/openapi.json").json()
    with_id = {
        (method.upper(), path.replace("{some_id}", "{id}"))
        for path, methods in document["paths"].items()
        for method in methods
        if "{" in path
    }
    assert with_id == {
        (method, path)
        for method, path, _ in (*ROUTES, *FINDING_ROUTES, *TARGET_ROUTES, *PANIC_ROUTES)
    }


def test_baseline_of_somebody_elses_target(api: Api) -> None:
    """Targets are known to everybody; only an owner or operator calls what stands there known."""
    for login in ("eve", "audit"):
        refused = api.call(login, "POST", "/api/targets/prod/baseline", {"reason": "mine now"})
        assert refused.status_code == 403
    assert api.call("op", "POST", "/api/targets/nope/baseline", {"reason": "x"}).status_code == 404
    taken = api.call("op", "POST", "/api/targets/prod/baseline", {"reason": "looked at"}).json()
    assert [(one["role"], one["count"]) for one in taken["roles"]] == [("prod/admin", 0)]


def test_finding_of_somebody_elses_target(api: Api) -> None:
    """A finding one may not see is 404 to the byte as an unknown one, and nothing changes."""
    found = see(api.world.house, a_sighting(), api.world.clock())
    assert found is not None
    for method, path, body in FINDING_ROUTES:
        refused = api.call("eve", method, path.replace("{id}", found.id), body)
        absent = api.call("eve", method, path.replace("{id}", UNKNOWN_FINDING), body)
        assert refused.status_code == absent.status_code == 404, (path, refused.text)
        assert refused.content == absent.content
    assert api.world.house.store.finding(found.id) == found
    assert api.get("eve", "/api/findings").json() == {"findings": [], "next_before": None}


@pytest.mark.parametrize("kind", ["request", "pending", "grant"])
def test_id_of_somebody_else(api: Api, ids: Ids, kind: str) -> None:
    """Another person's id is 404 to the byte as an unknown one, is sealed, and changes nothing."""
    theirs = getattr(ids, kind)
    unknown = UNKNOWN_GRANT if kind == "grant" else UNKNOWN_REQUEST
    before = api.get("ana", f"/api/grants/{ids.grant}").json()
    for method, path, body in ROUTES:
        refused = api.call("eve", method, path.replace("{id}", theirs), body)
        absent = api.call("eve", method, path.replace("{id}", unknown), body)
        assert refused.status_code == absent.status_code == 404, (path, refused.text)
        assert refused.content == absent.content
        assert theirs not in refused.text
        assert [about for _, about, _ in api.refusals("eve")[-2:]] == [theirs, unknown]
        api.world.clock.forward(seconds=61)  # a new minute: refusals are sealed one by one again
    after = api.get("ana", f"/api/grants/{ids.grant}").json()
    assert (after["state"], after["sessions"]) == (before["state"], before["sessions"])
    assert api.seen.calls == []


def test_list_that_filters_its_way_to_others(api: Api, ids: Ids) -> None:
    """No filter of a list shows what is not one's own; `all` is for auditors."""
    for query in ("", f"?request={ids.request}", "?role=prod/admin", "?state=open", "?view=mine"):
        assert api.get("eve", f"/api/grants{query}").json()["grants"] == []
    for query in ("", "?view=waiting", "?state=pending", f"?before={ids.pending}z"):
        assert api.get("eve", f"/api/requests{query}").json()["requests"] == []
    for path in ("/api/grants?view=all", "/api/requests?view=all", "/api/grants?view=waiting"):
        assert api.get("eve", path).status_code == 403
    assert len(api.get("audit", "/api/grants?view=all").json()["grants"]) == 1
    assert len(api.get("audit", "/api/requests?view=all").json()["requests"]) == 2


def test_auditor_who_changes_things(api: Api, ids: Ids) -> None:
    """An auditor reads everything and changes nothing: 403, or 409 for a digest not shown."""
    for method, path, body in (
        ("PUT", f"/api/requests/{ids.pending}", an_ask()),
        ("POST", f"/api/requests/{ids.pending}/votes", A_VOTE),
        ("POST", f"/api/requests/{ids.pending}/withdraw", None),
        ("POST", f"/api/grants/{ids.grant}/credentials", None),
        ("POST", f"/api/grants/{ids.grant}/end", None),
    ):
        answer = api.call("audit", method, path, body)
        assert answer.status_code == (409 if path.endswith("votes") else 403)
    assert api.get("audit", f"/api/grants/{ids.grant}").json()["state"] == "open"
    assert api.get("audit", f"/api/trace/{ids.grant}").status_code == 200


def test_operator_who_takes_somebody_elses_keys(api: Api, ids: Ids) -> None:
    """An operator may end a grant and never use it; an approver neither uses nor edits."""
    for login in ("op", "bo"):
        path = f"/api/grants/{ids.grant}/credentials"
        assert api.post(login, path).json()["code"] == "not_yours_to_use"
    assert api.post("op", f"/api/grants/{ids.grant}/end").json()["end_reason"] == "revoked"


def test_path_that_is_read_twice(api: Api, ids: Ids) -> None:
    """Dots, encoded slashes and doubled slashes reach no other route and no other id."""
    for path in (
        f"/api/requests/x%2f..%2f{ids.pending}",
        f"/api/grants/..%2frequests%2f{ids.pending}",
        f"/api/requests/{ids.pending}%00",
        f"/api/requests/{ids.pending}.json",
        f"/api/requests/{ids.pending.upper()}",
        f"/api/requests/%20{ids.pending}",
        f"/api//requests/{ids.pending}",
        f"/API/requests/{ids.pending}",
    ):
        answer = api.get("eve", path)
        assert answer.status_code in (400, 404), path
        assert ids.pending not in answer.text
