"""Votes over HTTP: self-approval in every guise, wrong digests, two at once."""

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.shell_api.conftest import Api, an_ask
from tests.support import ARN, RULES, START, catalogue, laws
from tidegate.base.when import parse_instant, wire
from tidegate.catalogue import Catalogue
from tidegate.flow.governing import put_in_force
from tidegate.flow.people import LOCAL, record
from tidegate.flow.revoking import end_early
from tidegate.grant import GrantState

MS = timedelta(milliseconds=1)
GRACE = RULES.replace('@id("admin")', '@id("admin") @grace("5m")')


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


def graced(api: Api) -> None:
    """The rule that carries prod/admin gives a grace of five minutes."""
    put_in_force(api.world.house, laws(GRACE))


def shown(api: Api, request: str) -> dict[str, Any]:
    """The item of a request as its approver is shown it."""
    (item,) = api.get("bo", f"/api/requests/{request}").json()["items"]
    found: dict[str, Any] = item
    return found


def the_end(api: Api, request: str) -> str:
    """The end of its one grant, once it is open."""
    api.world.work()
    (grant,) = api.world.house.store.grants(request=request)
    assert grant.state is GrantState.OPEN and grant.ends_at is not None
    return wire(grant.ends_at)


def test_access_ends_later_than_what_was_approved(api: Api) -> None:
    """Without a start the latest end is shown, as such; voted on and opened as late as can be, it
    ends there to the millisecond, its grace in it.
    """
    graced(api)
    asked = api.ask()
    first = shown(api, asked["id"])
    assert first["ends_by"] == wire(START + timedelta(hours=8, minutes=30 + 30 + 5))
    assert first["ends"] == (
        "35m after it opens: 2026-11-23 09:35:00 UTC if that is now, "
        "2026-11-23 18:05:00 UTC at the latest; the last 5m are grace for running work"
    )
    api.world.clock.forward(hours=8)
    api.world.clock.at -= MS  # the last instant anybody may decide
    api.vote("bo", asked)
    ready = shown(api, asked["id"])
    assert ready["ends_by"] == wire(parse_instant(first["ends_by"]) - MS)
    api.world.clock.forward(minutes=30)
    api.world.clock.at -= MS  # the last instant it may open
    ended = the_end(api, asked["id"])
    assert ended == wire(parse_instant(first["ends_by"]) - 2 * MS)
    assert (shown(api, asked["id"])["ends_by"], shown(api, asked["id"])["ends"]) == (
        ended,
        "2026-11-23 18:04:59 UTC; the last 5m are grace for running work",
    )


def test_asked_window_ends_elsewhere_than_shown(api: Api) -> None:
    """With a start the end is one instant, shown before the vote; opened late it is the same."""
    graced(api)
    begins = START + timedelta(minutes=10)
    asked = api.ask(start=wire(begins))
    told = shown(api, asked["id"])
    assert told["ends_by"] == wire(begins + timedelta(minutes=35))
    assert told["ends"] == ("2026-11-23 09:45:00 UTC; the last 5m are grace for running work")
    api.vote("bo", asked)
    api.world.clock.forward(minutes=27)
    assert the_end(api, asked["id"]) == told["ends_by"] == shown(api, asked["id"])["ends_by"]


def test_extension_ends_elsewhere_than_shown(api: Api) -> None:
    """The later end an extension would make is shown with its grace, and is the one it makes."""
    graced(api)
    grant = api.world.granted()
    asked = api.post(
        "ana",
        "/api/requests",
        {
            "roles": ["prod/admin"],
            "duration_seconds": 600,
            "reason": "more",
            "extends": grant.id,
        },
    ).json()
    told = shown(api, asked["id"])
    assert told["ends_by"] == asked["extends_until"] == wire(START + timedelta(minutes=45))
    assert told["ends"].startswith("2026-11-23 09:45:00 UTC; the last 5m are grace")
    api.vote("bo", asked)
    api.world.work()
    assert api.world.grant(grant).ends_at == START + timedelta(minutes=45)
    assert shown(api, asked["id"])["ends_by"] is None


@pytest.mark.parametrize("how", ["deny", "done"])
def test_end_is_shown_of_what_never_opens(api: Api, how: str) -> None:
    """Of what was denied, or is ending already, no end is promised."""
    asked = api.ask()
    api.vote("bo", asked, "deny" if how == "deny" else "approve")
    if how == "done":
        the_end(api, asked["id"])
        (grant,) = api.world.house.store.grants(request=asked["id"])
        end_early(api.world.house, api.world.who("ana"), grant.id)
    told = shown(api, asked["id"])
    assert (told["ends_by"], told["ends"]) == (None, "")
