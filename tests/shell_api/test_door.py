"""Who gets in, and that every refusal is on record."""

from datetime import timedelta

import pytest

from tests.backups import locked
from tests.shell_api.conftest import Api, an_ask, serving
from tests.support import World
from tidegate.base.fact import SYSTEM
from tidegate.evidence.seal import read_event
from tidegate.shell.identity import add_account, disable, end_token, token_of

PASSWORD = "correct horse battery"


def failed_signins(api: Api) -> list[tuple[str, int]]:
    """(source, count) of every sealed summary, after the minute is over."""
    api.world.clock.forward(minutes=2)
    api.world.refusals.flush(api.world.house)
    events = [read_event(leaf) for _, leaf in api.world.house.store.events(SYSTEM)]
    return [
        (str(api.world.house.store.text(str(e.data["source"]))), int(str(e.data["count"])))
        for e in events
        if e.name == "signin.failed_many"
    ]


def test_route_open_by_mistake(api: Api) -> None:
    """Every route but three refuses a call without a token, and counts it."""
    document = api.get(None, "/api/openapi.json").json()
    open_routes = set()
    asked = 0
    for path, methods in document["paths"].items():
        for method in methods:
            answer = api.call(None, method.upper(), path.replace("{some_id}", "rq_x"))
            if answer.status_code == 401:
                assert answer.json()["code"] == "no_token"
                assert answer.headers["www-authenticate"].startswith("Bearer")
                asked += 1
            else:
                open_routes.add((method, path))
    assert open_routes == {("get", "/health"), ("post", "/api/signin")}
    assert failed_signins(api) == [("testclient", asked)]


def test_health_that_tells_more(still: Api) -> None:
    """Health says one word to everybody."""
    assert still.get(None, "/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": "token={token}"},
        {"Cookie": "Authorization=Bearer {token}; session={token}"},
        {"X-Forwarded-User": "ana", "X-Remote-User": "ana"},
        {"X_Forwarded_User": "ana", "X-Forwarded-For": "127.0.0.1"},
        {"Authorization": "Basic {token}"},
        {"Authorization": "{token}"},
        {"Authorization": "Bearer {token}x"},
        {"Authorization": "Bearer  "},
        {"Authorization": "Bearer " + "A" * 5000},
        {"Proxy-Authorization": "Bearer {token}"},
        {"X-Authorization": "Bearer {token}"},
    ],
)
def test_somebody_by_another_header(still: Api, headers: dict[str, str]) -> None:
    """Cookies, proxy headers and other spellings are nobody, also with a real token in them."""
    text = still.token("ana")
    sent = {name: value.replace("{token}", text) for name, value in headers.items()}
    answer = still.client.get("/api/me", headers=sent)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_two_tokens_in_one_call(still: Api) -> None:
    """With two Authorization headers, no one is chosen."""
    headers = [("Authorization", f"Bearer {still.token(login)}") for login in ("ana", "op")]
    assert still.client.get("/api/me", headers=headers).status_code == 401


def test_token_in_the_address(still: Api) -> None:
    """A token in a query string, where logs would keep it, opens nothing."""
    assert still.get(None, f"/api/me?access_token={still.token('ana')}").status_code == 401


def test_token_replayed_after_its_end(api: Api) -> None:
    """Signed out, expired, disabled: 401 each, and a summary of them is sealed."""
    assert api.get("ana", "/api/me").json()["login"] == "ana"
    assert api.post("ana", "/api/signout").status_code == 200
    assert api.get("ana", "/api/me").json()["code"] == "bad_token"
    kept = token_of(api.world.house, api.token("bo"))
    end_token(api.world.house, kept, api.world.house.now())
    assert api.get("bo", "/api/me").status_code == 401
    assert api.get("cy", "/api/me").status_code == 200
    api.world.clock.forward(hours=12)
    assert api.get("cy", "/api/me").json()["code"] == "token_expired"
    assert sum(count for _, count in failed_signins(api)) == 3


def test_disabled_account_with_a_live_token(api: Api) -> None:
    """Who is disabled is out at the next call."""
    add_account(api.world.house, "late", PASSWORD)
    assert api.get("late", "/api/me").status_code == 200
    disable(api.world.house, "late")
    assert api.get("late", "/api/me").status_code == 401


def test_sign_in_over_http(api: Api) -> None:
    """A password gives a token once; a wrong one is counted; guessing ends in 429."""
    add_account(api.world.house, "new", PASSWORD)
    body = {"login": "new", "password": PASSWORD, "label": "laptop"}
    answer = api.post(None, "/api/signin", body)
    assert answer.status_code == 201
    made = answer.json()
    headers = {"Authorization": f"bearer {made['token']}"}
    me = api.client.get("/api/me", headers=headers).json()
    assert (me["token_id"], me["token_until"]) == (made["token_id"], made["until"])
    statuses = [
        api.post(None, "/api/signin", {"login": "nobody.here", "password": "x"}).status_code
        for _ in range(11)
    ]
    assert statuses == [401] * 10 + [429]
    assert failed_signins(api) == [("testclient", 11)]


def test_refusal_answered_and_not_sealed(api: Api) -> None:
    """What is refused to somebody is sealed in their chain before they are answered."""
    asked = api.ask()
    assert api.get("eve", f"/api/requests/{asked['id']}").status_code == 404
    assert api.vote("ana", asked).status_code == 403
    assert api.get("eve", "/api/requests?view=all").status_code == 403
    assert api.post("eve", "/api/requests", an_ask("prod/none")).status_code == 404
    assert api.refusals("eve") == [
        ("read_request", asked["id"], "unknown_id"),
        ("list_of_requests", "/api/requests", "not_for_audit"),
        ("file_request", "/api/requests", "unknown_role"),
    ]
    assert api.refusals("ana") == [("vote_on_request", asked["id"], "self_approval")]


def test_refused_command_that_leaves_no_trace(api: Api) -> None:
    """A vote too late, one on an old digest, fields nobody asked for: each is on record."""
    asked = api.ask()
    path = f"/api/requests/{asked['id']}"
    old = {**asked, "digest": "sha256:" + "0" * 64}
    assert api.vote("bo", old).status_code == 409
    assert api.vote("bo", asked).status_code == 201
    assert api.vote("bo", asked).status_code == 409
    assert api.post("ana", f"{path}/withdraw").status_code == 409
    assert api.post("ana", "/api/requests", an_ask(state="approved")).status_code == 400
    assert api.post("ana", "/api/requests", an_ask() | {"roles": []}).status_code == 400
    headers = {"Authorization": f"Bearer {api.token('ana')}", "Content-Type": "text/plain"}
    assert api.client.post("/api/requests", headers=headers, content="{}").status_code == 415
    about = [(command, code) for command, _, code in api.refusals("bo")]
    assert about == [("vote_on_request", "digest_changed"), ("vote_on_request", "wrong_state")]
    codes = [code for _, _, code in api.refusals("ana")]
    assert codes == ["wrong_state", "bad_input", "bad_items", "not_json"]


def test_wrong_reading_that_fills_the_log(api: Api) -> None:
    """Reading with a wrong parameter changes nothing and is nobody's refusal."""
    assert api.get("ana", "/api/requests?limit=many").status_code == 400
    assert api.refusals("ana") == []


def test_everybody_behind_a_proxy_as_one_source(world: World) -> None:
    """Behind a proxy on this machine, calls come from where the proxy says, and from one hop."""
    told = "6.6.6.6, 203.0.113.9"
    with serving(world, behind_proxy=True, peer="127.0.0.1") as api:
        api.client.get("/api/me", headers={"X-Forwarded-For": told})
        assert failed_signins(api) == [("203.0.113.9", 1)]


@pytest.mark.parametrize(
    ("behind_proxy", "peer", "told"),
    [
        (False, "127.0.0.1", "203.0.113.9"),  # nobody said there is a proxy
        (True, "198.51.100.7", "203.0.113.9"),  # not the proxy
        (True, "127.0.0.1", "203.0.113.9, me"),
        (True, "127.0.0.1", "1," * 600 + "203.0.113.9"),
    ],
)
def test_source_somebody_made_up(world: World, behind_proxy: bool, peer: str, told: str) -> None:
    """Without a proxy, or from elsewhere, the header is not believed: the peer is the source."""
    with serving(world, behind_proxy=behind_proxy, peer=peer) as api:
        api.client.get("/api/me", headers={"X-Forwarded-For": told})
        assert failed_signins(api) == [(peer, 1)]


def test_refusals_that_fill_the_log(api: Api) -> None:
    """Ten a minute are sealed one by one, the rest as one count."""
    for _ in range(25):
        assert api.get("eve", "/api/doctor").status_code == 403
    assert len(api.refusals("eve")) == 10
    api.world.clock.forward(minutes=2)
    api.world.refusals.flush(api.world.house)
    last = read_event(api.events("eve")[-1][1])
    assert (last.name, last.data["count"]) == ("command.refused_many", 15)


def test_refusal_that_becomes_an_error_when_evidence_is_closed(api: Api) -> None:
    """A refusal that cannot be sealed is still the refusal; what would open is 503."""
    token = api.token("eve"), api.token("ana")
    assert all(token)
    with locked(api.world):
        refused = api.get("eve", "/api/doctor")
        assert (refused.status_code, refused.json()["code"]) == (403, "not_for_audit")
        closed = api.post("ana", "/api/requests", an_ask())
        assert closed.status_code == 503
        assert closed.json()["family"] == "world_failed"
        assert closed.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    "typed",
    [
        "rq_%0d%0aadmin%1b[31m",
        "tdg_" + "s" * 43,
        "AKIAIOSFODNN7EXAMPLE",
        "ana@x.invalid",
        "rq_01J00000000000000000000001",  # an id has one spelling
        "zz_01j00000000000000000000001",
    ],
)
def test_secret_typed_for_an_id_that_is_sealed(api: Api, typed: str) -> None:
    """Only words of ours are sealed about a refused call, never what somebody typed."""
    answer = api.get("eve", f"/api/requests/{typed}")
    assert answer.status_code == 404
    assert api.refusals("eve") == [("read_request", "other", "unknown_id")]
    assert "admin" not in answer.text
    sealed = b"".join(leaf for _, leaf in api.events("eve"))
    assert typed.partition("%")[0][3:].encode() not in sealed or typed.startswith("rq_%")


def test_id_of_nothing_that_is_not_sealed(api: Api) -> None:
    """A well-formed id is sealed, also one that is nobody's; a name of the catalogue too."""
    made_up = "rq_01j00000000000000000000001"
    assert api.get("eve", f"/api/requests/{made_up}").status_code == 404
    assert api.get("eve", "/api/requests/prod").status_code == 404
    assert [about for _, about, _ in api.refusals("eve")] == [made_up, "prod"]


def test_answer_that_is_kept_or_framed(still: Api) -> None:
    """Every answer, refusals and unknown paths too, forbids keeping, guessing and framing."""
    for answer in (
        still.get(None, "/health"),
        still.get("ana", "/api/me"),
        still.get(None, "/api/me"),
        still.get(None, "/nowhere"),
        still.get(None, "/api/openstill.json"),
    ):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


def test_window_of_a_token_that_moves(api: Api) -> None:
    """Using a token does not make it live longer."""
    until = api.get("ana", "/api/me").json()["token_until"]
    api.world.clock.at += timedelta(hours=6)
    assert api.get("ana", "/api/me").json()["token_until"] == until
