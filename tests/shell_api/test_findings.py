"""Findings over the API: lists, history, hand-off, sign-off."""

import pytest

from tests.flow.test_finding import a_sighting
from tests.shell_api.conftest import Api
from tidegate.finding import FindingKind
from tidegate.flow.finding import MOST_NAMED, see


def found(api: Api, **more: object) -> str:
    """The id of an open finding."""
    made = see(api.world.house, a_sighting(**more), api.world.clock())
    assert made is not None
    return made.id


def test_life_of_a_finding(api: Api) -> None:
    """It is listed, handed on, signed off with a reason, and its history names everybody."""
    name = found(api)
    listed = api.get("op", "/api/findings").json()["findings"]
    assert [one["id"] for one in listed] == [name]
    given = api.call("op", "POST", f"/api/findings/{name}/assign", {"to": "cy"}).json()
    assert (given["state"], given["assigned_name"]) == ("assigned", "cy")
    body = {"reason": "break-glass", "accept_seconds": 3600}
    shut = api.call("cy", "POST", f"/api/findings/{name}/close", body).json()
    assert (shut["closed_how"], shut["closed_by"]["login"]) == ("accepted", "cy")
    assert shut["reason"] == "break-glass"
    assert api.get("op", "/api/findings").json()["findings"] == []
    assert len(api.get("op", "/api/findings?state=all").json()["findings"]) == 1
    story = api.get("audit", f"/api/findings/{name}").json()
    assert [(one["name"], one["by"] and one["by"]["login"]) for one in story["history"]] == [
        ("finding.opened", None),
        ("finding.assigned", "op"),
        ("finding.closed", "cy"),
    ]


def test_lists_are_narrowed_and_paged(api: Api) -> None:
    """Each filter leaves only what fits, and a page says where the next begins."""
    for number in range(3):
        found(api, what=f"one-{number}", kind=list(FindingKind)[number])
    assert len(api.get("op", "/api/findings?target=prod").json()["findings"]) == 3
    assert api.get("op", "/api/findings?target=vault").json()["findings"] == []
    kind = list(FindingKind)[1].value
    assert len(api.get("op", f"/api/findings?kind={kind}").json()["findings"]) == 1
    page = api.get("op", "/api/findings?limit=2").json()
    assert len(page["findings"]) == 2
    rest = api.get("op", f"/api/findings?limit=2&before={page['next_before']}").json()
    assert len(rest["findings"]) == 1


def test_sign_off_without_words_or_for_ever(api: Api) -> None:
    """A reason is needed, and nothing is accepted longer than a year."""
    name = found(api)
    for body in ({}, {"reason": " "}, {"reason": "x", "accept_seconds": 40_000_000}):
        assert api.call("op", "POST", f"/api/findings/{name}/close", body).status_code == 400
    assert api.get("op", f"/api/findings/{name}").json()["finding"]["state"] == "open"


def test_auditor_changes_nothing(api: Api) -> None:
    """Who may read everything may neither hand on nor sign off, and the try is sealed."""
    name = found(api)
    for path, body in (("assign", {"to": "cy"}), ("close", {"reason": "x"})):
        refused = api.call("audit", "POST", f"/api/findings/{name}/{path}", body)
        assert refused.status_code == 403
    assert "command.refused" in api.world.names(api.world.who("audit").id)


def test_filter_that_fits_nothing_looks_like_an_empty_list(api: Api) -> None:
    """A target nobody knows and ids of another kind are told, not answered with no findings."""
    for query, code in (
        ("target=nowhere", "unknown_target"),
        ("grant=nonsense", "bad_id"),
        ("before=x", "bad_id"),
    ):
        answer = api.get("op", f"/api/findings?{query}")
        assert answer.status_code in (400, 404) and answer.json()["code"] == code, query
    name = found(api, target="left")
    assert [one["id"] for one in api.get("op", "/api/findings?target=left").json()["findings"]] == [
        name
    ]


def test_history_names_who_it_was_handed_to(api: Api) -> None:
    """A person by name, a group as it is called; never a bare id."""
    name = found(api)
    api.call("op", "POST", f"/api/findings/{name}/assign", {"to": "cy"})
    api.call("op", "POST", f"/api/findings/{name}/assign", {"to": "group:leads"})
    story = api.get("op", f"/api/findings/{name}").json()["history"]
    assert [one["says"] for one in story[1:]] == ["cy", "group:leads"]


def test_report_and_health_hide_what_is_open(api: Api) -> None:
    """Both name it: counts by kind with the worst first, the oldest few, what to run next."""
    still = api.get("audit", "/api/health").json()
    assert (still["status"], still["findings"]["open"], still["findings"]["next"]) == ("ok", 0, "")
    shut = found(api, what="shut", kind=FindingKind.LATE)
    api.post("op", f"/api/findings/{shut}/close", {"reason": "mended"})
    names = []
    for number in range(MOST_NAMED + 1):
        names.append(found(api, what=f"late-{number}", kind=FindingKind.LATE))
        api.world.clock.forward(minutes=1)
    found(api, what="standing", kind=FindingKind.STANDING)
    api.post("op", f"/api/findings/{names[0]}/assign", {"to": "cy"})
    told = api.get("audit", "/api/health").json()
    assert told["status"] == "findings"
    assert list(told["findings"]["by_kind"].items()) == [("standing", 1), ("late", MOST_NAMED + 1)]
    assert [one["id"] for one in told["findings"]["oldest"]] == names[:MOST_NAMED]
    says = "7 findings are open, 1 of high severity: 1 standing, 6 late"
    assert (told["findings"]["says"], told["findings"]["next"]) == (says, "tidegate findings list")
    beside = api.get("audit", "/api/report/lateness?target=prod").json()["findings"]
    assert beside["next"] == "tidegate findings list --target prod"
    assert beside["by_kind"] == told["findings"]["by_kind"]
    assert api.get("audit", "/api/report/lateness?target=vault").json()["findings"]["open"] == 0
    assert api.get("ana", "/api/health").status_code == 403
    assert api.get(None, "/api/health").status_code == 401


@pytest.mark.parametrize("kind", list(FindingKind))
def test_next_step_is_the_same_for_every_kind(api: Api, kind: FindingKind) -> None:
    """What to do is said in words that fit the kind, with whole commands; when closed, how."""
    name = found(api, kind=kind, what=f"one-{kind}")
    told = api.get("op", f"/api/findings/{name}").json()["finding"]["next"]
    assert told and "{" not in told and told.count("`") % 2 == 0
    assert "closes this" in told or f"`tidegate findings close {name} --reason" in told
    shut = api.post("op", f"/api/findings/{name}/close", {"reason": "done"}).json()
    assert shut["next"].startswith("nothing to do: a person said that it is mended")


def test_closed_finding_is_closed_or_handed_on_again(api: Api) -> None:
    """Twice is refused with what is so and where to look; the first sign-off stands."""
    name = found(api)
    api.post("op", f"/api/findings/{name}/close", {"reason": "first"})
    for deed, body in (("close", {"reason": "second"}), ("assign", {"to": "cy"})):
        again = api.post("op", f"/api/findings/{name}/{deed}", body)
        assert (again.status_code, again.json()["code"]) == (409, "closed_already")
        assert f"tidegate findings show {name}" in again.json()["help"]
    assert api.get("op", f"/api/findings/{name}").json()["finding"]["reason"] == "first"
