"""The whole path over HTTP, and what each answer says."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.shell_api.conftest import Api, an_ask
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow.searching import search_some
from tidegate.shell.api.searched import UNREADABLE, side_doors_of


def test_whole_path_over_http(api: Api) -> None:
    """Asked, approved, opened, used and ended: each answer says where it is."""
    asked = api.ask()
    assert asked["state"] == "pending"
    assert asked["items"][0]["missing"] == ["1 of group:leads"]
    assert asked["says"].startswith("waits for 1 of group:leads until 2026-11-23 17:00:00 UTC")
    assert asked["reason"] == "INC-4711 roll back"
    approved = api.vote("bo", asked).json()
    assert approved["state"] == "approved"
    assert [vote["voter"]["name"] for vote in approved["votes"]] == ["bo"]
    (grant_id,) = approved["grants"]
    api.world.work()
    grant = api.get("ana", f"/api/grants/{asked['id']}").json()
    assert (grant["id"], grant["state"], grant["remaining_seconds"]) == (grant_id, "open", 1800)
    keys = api.post("ana", f"/api/grants/{grant_id}/credentials")
    assert keys.status_code == 201
    assert keys.json()["ends_at"] == grant["ends_at"]
    ended = api.post("ana", f"/api/grants/{grant_id}/end", {"comment": "done early"}).json()
    assert ended["end_reason"] == "done"
    assert ended["state"] in ("closing", "removed", "gone")
    again = api.post("ana", f"/api/grants/{grant_id}/end").json()
    assert again["end_reason"] == "done"
    refused = api.post("ana", f"/api/grants/{grant_id}/credentials")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_open")
    assert api.refusals("ana")[-1] == ("issue_credentials", grant_id, "not_open")


@pytest.mark.parametrize(
    ("login", "body"),
    [
        ("ana", an_ask()),
        ("ana", an_ask("dev/admin")),
        ("ana", an_ask("vault/admin", duration_seconds=7200)),
        ("nobody", an_ask()),
    ],
)
def test_preview_that_promises_what_filing_refuses(
    api: Api, login: str, body: dict[str, Any]
) -> None:
    """A preview says what filing then decides, and files nothing itself."""
    shown = api.post(login, "/api/requests/preview", body)
    assert shown.status_code == 200
    assert api.get(login, "/api/requests").json()["requests"] == []
    filed = api.post(login, "/api/requests", body).json()
    told = shown.json()
    assert told["allowed"] == (filed["state"] != "refused")
    assert told["allowed"] or (told["code"], told["why"]) == (filed["code"], filed["why"])
    assert [i["requirement"] for i in told["items"]] == [i["requirement"] for i in filed["items"]]


def test_refusal_by_the_rules_without_an_id(api: Api) -> None:
    """What the rules refuse is filed and says why."""
    filed = api.ask("nobody")
    assert (filed["state"], filed["code"]) == ("refused", "no_rule")
    assert "no rule permits" in filed["says"]


def test_edit_that_keeps_votes(api: Api) -> None:
    """An edited request has another digest, and a vote on the old one is refused as stale."""
    asked = api.ask(role="vault/admin")
    assert api.vote("bo", asked).status_code == 201
    body = an_ask("vault/admin", reason="another reason")
    edited = api.call("ana", "PUT", f"/api/requests/{asked['id']}", body).json()
    assert (edited["votes"], edited["digest"] != asked["digest"]) == ([], True)
    stale = api.vote("cy", asked)
    assert (stale.status_code, stale.json()["code"]) == (409, "digest_changed")


def test_request_without_votes_that_waits(api: Api) -> None:
    """What needs nobody's vote is approved at once and says what comes."""
    filed = api.ask(role="dev/admin")
    assert filed["state"] == "approved"
    assert filed["grants"][0] in filed["says"]


def test_removed_called_gone_while_a_session_may_act(api: Api) -> None:
    """An early end says `removed; a session taken before may act until T`, and only later gone."""
    grant = api.world.granted()
    api.post("ana", f"/api/grants/{grant.id}/credentials")
    api.world.connector.script(Fault(kind=FaultKind.DOWN, verb="probe", count=50))
    ended = api.post("bo", f"/api/grants/{grant.id}/end").json()
    assert (ended["state"], ended["end_reason"]) == ("removed", "revoked")
    assert ended["residual_until"] > "2026-11-23T09:00:00.000Z"
    assert ended["says"].startswith("removed; a session taken before may act until 2026-11-23 09:0")
    api.world.connector.calm()
    api.world.clock.forward(minutes=5)
    api.world.work()
    later = api.get("bo", f"/api/grants/{grant.id}").json()
    assert (later["state"], later["remaining_seconds"]) == ("gone", 1500)


def test_end_that_waits_for_the_cloud(api: Api) -> None:
    """With the cloud down an early end is begun, sealed, and answered as closing."""
    grant = api.world.granted()
    api.world.connector.script(Fault(kind=FaultKind.DOWN, count=50))
    ended = api.post("ana", f"/api/grants/{grant.id}/end").json()
    assert (ended["state"], ended["outcome"]) == ("closing", "unreachable")
    assert "may still be usable until it is read back as removed" in ended["says"]


def test_targets_that_hide_their_exposure(api: Api) -> None:
    """Every role says what its end promises; one without a connector says that instead."""
    targets = api.get("nobody", "/api/targets").json()["targets"]
    assert [t["id"] for t in targets] == ["dev", "prod", "vault"]
    (role,) = targets[1]["roles"]
    assert (role["id"], role["native_deadline"], role["trouble"]) == ("prod/admin", True, None)
    assert role["exposure_seconds"] == 5
    api.world.house.connectors = {}
    (role,) = api.get("nobody", "/api/targets").json()["targets"][1]["roles"]
    assert role["exposure_seconds"] is None
    assert "no_connector" not in role["trouble"]
    assert "simulated" in role["trouble"]


def test_erased_reason_that_breaks_the_answer(api: Api) -> None:
    """A request whose reason text is not there any more is shown without it."""
    asked = api.ask()
    with api.world.house.store._database.writing() as db:
        db.execute("UPDATE disclosures SET salt = NULL, text = NULL")
    shown = api.get("ana", f"/api/requests/{asked['id']}").json()
    assert shown["reason"] is None
    assert shown["principal"]["name"] == "ana"


def test_later_end_over_http(api: Api) -> None:
    """Both ends are shown to who votes, the grant moves, and its holder finds the warning."""
    asked = api.ask()
    api.vote("bo", asked)
    api.world.work()
    grant = api.get("ana", f"/api/grants/{asked['id']}").json()
    more = {"extends": grant["id"], "duration_seconds": 1200, "reason": "slow"}
    told = api.post("ana", "/api/requests/preview", more).json()
    assert told["allowed"]
    longer = api.post("ana", "/api/requests", more).json()
    assert (longer["state"], longer["extends"]) == ("pending", grant["id"])
    assert longer["extends_from"] == grant["ends_at"]
    seen = api.get("bo", f"/api/requests/{longer['id']}").json()
    assert seen["extends_until"].startswith("2026-11-23T09:50:00")
    assert api.vote("bo", longer).json()["says"].endswith("the end is being moved")
    api.world.work()
    assert api.get("ana", f"/api/requests/{longer['id']}").json()["applied_at"]
    after = api.get("ana", f"/api/grants/{grant['id']}").json()
    assert after["ends_at"] == longer["extends_until"]
    assert after["extended_seconds"] == 1200
    api.world.clock.forward(minutes=41)
    api.world.work()
    (notice,) = api.get("ana", "/api/notices").json()["notices"]
    assert (notice["subject"], notice["delivered_at"]) == (grant["id"], None)
    assert api.get("eve", "/api/notices").json()["notices"] == []
    assert api.get("ana", "/api/notices?view=all").status_code == 403
    again = api.post("ana", "/api/requests", an_ask()).json()
    assert (again["state"], again["code"]) == ("refused", "already_held")


def test_what_somebody_holds_is_left_out_of_who_they_are(api: Api) -> None:
    """The caller's open grants, and when their end is told: as the server has it set."""
    api.world.house.warn_before = timedelta(minutes=12)
    asked = api.ask()
    (grant,) = api.vote("bo", asked).json()["grants"]
    api.world.work()
    (held,) = api.get("ana", "/api/me").json()["holds"]
    assert (held["grant"], held["role"], held["warned"]) == (grant, "prod/admin", False)
    assert (held["window_ends_at"][11:16], held["warn_at"][11:16]) == ("09:30", "09:18")
    assert api.get("ana", f"/api/grants/{grant}").json()["warn_at"] == held["warn_at"]
    assert api.get("bo", "/api/me").json()["holds"] == []
    api.post("ana", f"/api/grants/{grant}/end")
    assert api.get("ana", "/api/me").json()["holds"] == []


def test_grant_that_hides_what_its_search_came_to(api: Api) -> None:
    """By its id an ended grant says what its searches came to, as the trace does; lists do not."""
    grant = api.world.granted()
    path = f"/api/grants/{grant.id}"
    assert api.get("op", path).json()["side_doors"] is None
    api.world.cloud.make(api.world.keys(grant), "user", "arn:user/x", api.world.clock())
    api.world.clock.forward(minutes=1)
    api.post("bo", f"{path}/end")
    api.world.work()
    assert api.get("bo", path).json()["side_doors"] == ["no search is sealed"]
    search_some(api.world.house)
    (found,) = api.world.house.store.findings()
    told = [f"found user arn:user/x ({found.id})"]
    assert api.get("op", path).json()["side_doors"] == told
    assert api.get("bo", f"/api/grants/{grant.request}").json()["side_doors"] == told
    (listed,) = api.get("audit", "/api/grants?view=all").json()["grants"]
    assert listed["side_doors"] is None


def test_holder_told_what_was_found_of_their_side_doors(api: Api) -> None:
    """Who made a way back in is not told that it was found, nor by their other account."""
    grant = api.world.granted()
    api.world.cloud.make(api.world.keys(grant), "user", "arn:user/x", api.world.clock())
    api.post("bo", f"/api/grants/{grant.id}/end")
    api.world.work()
    search_some(api.world.house)
    assert api.get("ana", f"/api/grants/{grant.id}").json()["side_doors"] is None
    other = replace(api.world.who("op"), person=api.world.who("ana").person)
    assert side_doors_of(api.world.house, other, api.world.grant(grant)) is None
    assert side_doors_of(api.world.house, api.world.who("op"), api.world.grant(grant))


def test_grant_with_damaged_evidence_cannot_be_looked_at(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event nobody can read takes the word of the search away, not the whole answer."""
    grant = api.world.granted()
    api.post("bo", f"/api/grants/{grant.id}/end")
    api.world.work()
    monkeypatch.setattr(api.world.house.store, "events", lambda subject: [(0, b"{")])
    answered = api.get("op", f"/api/grants/{grant.id}")
    assert answered.status_code == 200
    assert answered.json()["side_doors"] == [UNREADABLE.format(grant=grant.id)]
