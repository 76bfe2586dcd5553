"""Ways and trials over HTTP: who may ask, one answer for strangers, and strict bodies."""

from typing import Any

import pytest

from tests.shell_api.conftest import Api
from tidegate.base.when import wire
from tidegate.evidence.seal import read_event


def a_trial(api: Api, **changed: Any) -> dict[str, Any]:
    """What the command line sends."""
    return {
        "outcome": "allowed",
        "exit_code": 0,
        "call": "aws s3 ls",
        "tried_at": wire(api.world.clock()),
    } | changed


def test_trial_is_answered_without_its_phase(api: Api) -> None:
    """The holder's word is sealed and answered with what it should have been."""
    grant = api.world.granted()
    path = f"/api/grants/{grant.id}/trials"
    told = api.post("ana", path, a_trial(api))
    assert told.status_code == 201
    assert told.json() == {
        "grant": grant.id,
        "request": grant.request,
        "phase": "during",
        "outcome": "allowed",
        "expected": "allowed",
        "as_it_should": True,
        "tried_at": "2026-11-23T09:00:00.000Z",
        "own_clock": True,
        "residual_until": None,
        "says": "tried during: allowed; while it is open it should be allowed",
    }
    api.world.clock.forward(hours=1)
    told = api.post("ana", path, a_trial(api, tried_at="2020-01-01T00:00:00Z")).json()
    assert (told["phase"], told["as_it_should"], told["own_clock"]) == ("after", False, False)
    assert "your clock could not be believed" in told["says"]


@pytest.mark.parametrize(
    "changed",
    [
        {"outcome": "gone"},
        {"outcome": None},
        {"exit_code": -1},
        {"exit_code": "0"},
        {"tried_at": "yesterday"},
        {"call": "a\u0007b"},
        {"call": "x" * 9_000},
        {"by": "pr_somebody"},
        {"phase": "after"},
    ],
)
def test_strange_trial_is_sealed(api: Api, changed: dict[str, Any]) -> None:
    """Unknown fields, words, negative codes and controls are refused, and nothing is sealed."""
    grant = api.world.granted()
    told = api.post("ana", f"/api/grants/{grant.id}/trials", a_trial(api, **changed))
    assert told.status_code == 400, told.text
    names = [read_event(leaf).name for _, leaf in api.world.house.store.events(grant.request)]
    assert "access.tried" not in names


def test_trial_of_somebody_else_is_sealed(api: Api) -> None:
    """Who may see a grant and does not hold it is refused, and that is on record."""
    grant = api.world.granted()
    told = api.post("bo", f"/api/grants/{grant.id}/trials", a_trial(api))
    assert (told.status_code, told.json()["code"]) == (403, "not_yours_to_try")
    assert api.refusals("bo") == [("tell_of_trial", grant.id, "not_yours_to_try")]


def test_paths_goes_to_the_one_who_decides(api: Api) -> None:
    """Person and target reach the house as they were sent; both must be given, and be bounded."""
    told = api.get("ana", "/api/paths?person=ana%40x.invalid&target=prod")
    assert told.status_code == 200
    assert api.seen.calls[-1][2:] == ("ana@x.invalid", "prod")
    for query in ("", "?person=ana", "?target=prod", "?person=&target=prod",
                  f"?person={'x' * 201}&target=prod"):  # fmt: skip
        assert api.get("ana", f"/api/paths{query}").status_code == 400
    assert api.get(None, "/api/paths?person=ana&target=prod").status_code == 401
