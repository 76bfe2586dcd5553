"""Votes over HTTP: self-approval in every guise, wrong digests, two at once."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from tests.shell_api.conftest import Api, an_ask
from tests.support import ARN, catalogue
from tidegate.catalogue import Catalogue
from tidegate.flow.people import LOCAL, record


def test_self_approval(api: Api) -> None:
    """Who asked cannot vote, though in the approvers' group, nor deny; both are sealed."""
    asked = api.ask("ana")
    for choice in ("approve", "deny"):
        refused = api.vote("ana", asked, choice)
        assert (refused.status_code, refused.json()["code"]) == (403, "self_approval")
    assert [code for _, _, code in api.refusals("ana")] == ["self_approval"] * 2


@pytest.mark.parametrize(
    "mail",
    [
        "ana@x.invalid",
        "ANA@X.invalid",
        "ana+2@x.invalid",
        "ａna@x.invalid",
        "ana@x.invalid.",
        "an\ufe0fa@x.invalid",
        "ana\u034f@x.invalid",
        '"ana"@x.invalid',
        "ana@x。invalid",
    ],
)
def test_self_approval_by_a_second_account(api: Api, mail: str) -> None:
    """A second account of the same human being is the same person, however its address is spelt."""
    house = api.world.house
    record(house, LOCAL, "bo", house.now(), name="bo", mail=mail)
    asked = api.ask("ana")
    assert api.vote("bo", asked).json()["code"] == "self_approval"
    assert api.get("bo", "/api/requests?view=waiting").json()["requests"] == []
    assert api.vote("cy", asked).json()["state"] == "approved"


def test_one_person_in_two_seats(api: Api) -> None:
    """Two accounts of one approver fill one seat."""
    house = api.world.house
    record(house, LOCAL, "cy", house.now(), name="cy", mail="bo@x.invalid")
    asked = api.ask(role="vault/admin")
    voted = api.vote("bo", asked).json()
    assert voted["items"][0]["missing"] == ["1 of group:leads"]
    assert api.vote("bo", asked).json()["code"] == "already_voted"
    assert api.vote("cy", asked).json()["code"] == "already_voted"
    assert api.get("ana", f"/api/requests/{asked['id']}").json()["state"] == "pending"


def test_vote_on_another_digest(api: Api) -> None:
    """A vote on anything but the digest in force is 409, and is no vote."""
    asked = api.ask()
    for digest in ("", "sha256:" + "0" * 64, "SHA256:", "sha256:\x1b[31m", "x" * 200):
        answer = api.vote("bo", {**asked, "digest": digest})
        assert (answer.status_code, answer.json()["code"]) == (409, "digest_changed")
        assert "\x1b" not in answer.text
    assert api.get("ana", f"/api/requests/{asked['id']}").json()["votes"] == []


def test_choice_that_is_guessed(api: Api) -> None:
    """A vote is `approve` or `deny`, nothing near it."""
    asked = api.ask()
    for choice in ("Approve", "yes", "", None, ["approve"], True):
        body = {"choice": choice, "digest": asked["digest"]}
        assert api.post("bo", f"/api/requests/{asked['id']}/votes", body).status_code == 400


def test_vote_by_looking(api: Api) -> None:
    """No GET changes anything: a link that is prefetched approves nothing."""
    asked = api.ask()
    for path in ("votes", "withdraw", f"votes?choice=approve&digest={asked['digest']}"):
        assert api.get("bo", f"/api/requests/{asked['id']}/{path}").status_code == 405
    assert api.get("bo", f"/api/requests/{asked['id']}").json()["votes"] == []


def test_two_approvers_at_the_same_instant(api: Api) -> None:
    """Two votes sent at once are both counted, and the second one needed approves."""
    for _ in range(5):
        asked = api.ask(role="vault/admin")
        ready = threading.Barrier(2)
        statuses: list[int] = []
        for login in ("bo", "cy"):
            api.token(login)

        def vote(login: str, asked: dict[str, Any] = asked, ready: Any = ready) -> None:
            ready.wait(5)
            statuses.append(api.vote(login, asked).status_code)  # noqa: B023 - joined below

        threads = [threading.Thread(target=vote, args=(login,)) for login in ("bo", "cy")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        after = api.get("ana", f"/api/requests/{asked['id']}").json()
        assert statuses == [201, 201]
        assert (after["state"], len(after["votes"]), len(after["grants"])) == ("approved", 2, 1)


def test_waiting_list_that_shows_what_cannot_be_voted_on(api: Api) -> None:
    """What waits for somebody: pending, theirs to decide, not theirs, not voted on, in time."""
    mine = api.ask("ana")
    api.world.clock.forward(seconds=1)  # ids sort by time
    first = api.ask("eve")
    api.world.clock.forward(seconds=1)
    second = api.ask("eve", role="vault/admin")
    api.ask("eve", role="dev/admin")
    waiting = "/api/requests?view=waiting"

    def listed(login: str) -> list[str]:
        return [r["id"] for r in api.get(login, waiting).json()["requests"]]

    assert listed("ana") == [second["id"], first["id"]]
    assert listed("bo") == [second["id"], first["id"], mine["id"]]
    assert listed("eve") == listed("op") == []
    api.vote("bo", second)
    assert listed("bo") == [first["id"], mine["id"]]
    page = api.get("bo", f"{waiting}&limit=1").json()
    assert [r["id"] for r in page["requests"]] == [first["id"]]
    rest = api.get("bo", f"{waiting}&limit=1&before={page['next_before']}").json()
    assert [r["id"] for r in rest["requests"]] == [mine["id"]]
    api.world.clock.forward(hours=8)
    assert listed("bo") == []


def test_pages_that_lose_or_repeat(api: Api) -> None:
    """Paging by `next_before` shows everything once, newest first, and then ends."""
    made = [api.post("ana", "/api/requests", an_ask()).json()["id"] for _ in range(5)]
    seen: list[str] = []
    before = ""
    for _ in range(4):
        page = api.get("ana", f"/api/requests?limit=2{before}").json()
        seen += [r["id"] for r in page["requests"]]
        if page["next_before"] is None:
            break
        before = f"&before={page['next_before']}"
    assert seen == sorted(made, reverse=True)


def test_role_that_changed_behind_the_approvers_back(api: Api) -> None:
    """An approver is shown the entry the digest names, whatever the catalogue says since."""
    world = api.world
    world.house.laws = replace(world.laws, catalogue=catalogue(title="Administrator"))
    asked = api.ask("ana")
    (filed,) = asked["items"]
    assert filed["native"] == {"arn": f"{ARN}-prod"}
    assert (filed["connector"], filed["account"]) == ("simulated", "123456789012")
    assert (filed["kind"], filed["title"]) == ("iam-role", "Administrator")
    assert (filed["allows"], filed["changed"]) == ([], "")

    other = catalogue(arn=f"{ARN}-other", allows=("iam:CreateAccessKey",), title="Read only")
    world.house.laws = replace(world.laws, catalogue=other)
    (seen,) = api.get("bo", f"/api/requests/{asked['id']}").json()["items"]
    assert "has changed since" in seen["changed"]
    assert (seen["native"], seen["allows"]) == (filed["native"], [])
    assert seen["role_digest"] == filed["role_digest"]
    assert seen["title"] == ""  # no digest covers it

    world.house.laws = replace(world.laws, catalogue=Catalogue(other.targets, {}))
    (gone,) = api.get("bo", f"/api/requests/{asked['id']}").json()["items"]
    assert "has left the catalogue" in gone["changed"]
    assert gone["native"] == filed["native"]


def test_calls_that_outlive_the_end_left_out(api: Api) -> None:
    """What a role's sessions may mint beyond the end is shown before the vote."""
    laws = api.world.laws
    api.world.house.laws = replace(laws, catalogue=catalogue(allows=("ssm:StartSession",)))
    (item,) = api.ask("ana")["items"]
    assert item["allows"] == ["ssm:StartSession"]


def test_two_people_of_one_name(api: Api) -> None:
    """A name is free text: the login stands beside it."""
    house = api.world.house
    record(house, LOCAL, "eve", house.now(), name="ana", mail="eve@x.invalid")
    assert api.ask("eve")["principal"]["name"] == api.ask("ana")["principal"]["name"] == "ana"
    assert api.ask("eve")["principal"]["login"] == "eve"
