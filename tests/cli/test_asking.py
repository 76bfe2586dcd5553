"""targets, request, requests, withdraw, whoami, login, logout."""

import json
import os
import stat

import pytest

from tests.cli.conftest import Shell
from tests.cli.fake import GR, RQ, TOKEN, FakeLocal, FakeServer, a_grant, a_request, problem

ASK = ("request", "aws-prod/admin", "--for", "1h30m", "--reason", "roll back")
TARGETS = {
    "targets": [
        {
            "id": "aws-prod",
            "roles": [
                {"id": "aws-prod/admin", "kind": "iam-role", "exposure_seconds": 3, "title": "A"},
                {
                    "id": "aws-prod/old",
                    "kind": "x",
                    "exposure_seconds": None,
                    "trouble": "no cloud",
                },
            ],
        }
    ]
}


def test_targets_show_every_role(tidegate: Shell, server: FakeServer) -> None:
    """Roles are listed aligned; one that cannot be opened says why."""
    server.on("GET", "/api/targets", TARGETS)
    lines = tidegate("targets").out.splitlines()
    assert lines[0].split() == ["ROLE", "KIND", "EXPOSURE", "WHAT"]
    assert lines[1].split() == ["aws-prod/admin", "iam-role", "3s", "A"]
    assert lines[2].endswith("cannot be opened: no cloud")
    assert lines[1].index("iam-role") == lines[0].index("KIND")
    assert tidegate("targets", "--json").json == TARGETS


def test_request_sends_what_was_typed(tidegate: Shell, server: FakeServer) -> None:
    """Roles, duration in seconds, reason and options are sent; the token goes as a bearer."""
    server.on("POST", "/api/requests", a_request())
    ran = tidegate(*ASK, "--ticket", "INC-4711", "--start", "2026-11-23T10:00:00Z", "--emergency")
    assert ran.code == 0
    assert server.sent("POST") == [
        {
            "roles": ["aws-prod/admin"],
            "duration_seconds": 5400,
            "reason": "roll back",
            "ticket": "INC-4711",
            "start": "2026-11-23T10:00:00.000Z",
            "emergency": True,
        }
    ]
    assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert f"{RQ}  pending  waits for 1 of group:leads" in ran.out
    assert "must approve     1 of group:leads" in ran.out
    assert tidegate(*ASK, "--json").json["id"] == RQ


def test_refused_request_is_code_3(tidegate: Shell, server: FakeServer) -> None:
    """A request the rules refuse is filed and shown, and is no success."""
    server.on("POST", "/api/requests", a_request(state="refused", says="refused: no rule"))
    ran = tidegate(*ASK)
    assert ran.code == 3
    assert "refused: no rule" in ran.out
    assert ran.err.startswith("error: refused: no rule\nnext: ")


NO_RULE = "`aws-prod/admin`: no rule permits this request as asked; add --ticket"


@pytest.mark.parametrize(
    ("code", "why", "told"),
    [
        ("no_rule", NO_RULE, f"error: {NO_RULE[:-14]}\nnext: add --ticket\n"),
        ("too_long", "at most 2h, got 9h", "error: at most 2h, got 9h\nnext: ask for no longer"),
        ("rule_error", "rule `a`: x; y", "error: rule `a`: x; y\nnext: tell who writes the rules"),
        ("forbidden", "rule `a` forbids it", "error: rule `a` forbids it\nnext: ask who looks"),
        ("later_code", "no", f"error: no\nnext: see `tidegate trace {RQ}`\n"),
    ],
)
def test_refusal_without_its_two_lines(
    tidegate: Shell, server: FakeServer, code: str, why: str, told: str
) -> None:
    """A refusal by the rules is an error with a next step on stderr, besides the sheet."""
    server.on("POST", "/api/requests", a_request(state="refused", code=code, why=why))
    for words in (ASK, (*ASK, "--wait")):
        ran = tidegate(*words)
        assert (ran.code, RQ in ran.out) == (3, True)
        assert ran.err.startswith(told)
    ran = tidegate(*ASK, "--json")
    problem_told = json.loads(ran.err)
    assert (ran.json["id"], problem_told["code"], problem_told["status"]) == (RQ, code, 403)


@pytest.mark.parametrize("width", [30, 60, 80, 100, 200])
@pytest.mark.parametrize("view", [(), ("--waiting",)])
def test_list_of_requests_leaves_a_narrow_terminal(
    tidegate: Shell, server: FakeServer, width: int, view: tuple[str, ...]
) -> None:
    """No line is wider than COLUMNS, and who asks is the last thing voters go without."""
    tidegate.environment["COLUMNS"] = str(width)
    server.on("GET", "/api/requests", {"requests": [a_request(), a_request(state="withdrawn")]})
    lines = tidegate("requests", *view).out.splitlines()
    assert max(map(len, lines)) <= width
    if width >= 60:
        assert lines[1].startswith(f"{RQ}  pending")
        assert ("ana" in lines[1]) == (bool(view) or width >= 80)


@pytest.mark.parametrize(("allowed", "code"), [(True, 0), (False, 3)])
def test_preview_files_nothing(
    tidegate: Shell, server: FakeServer, allowed: bool, code: int
) -> None:
    """A preview asks the preview route only and exits by what the rules would say."""
    item = {"role": "aws-prod/admin", "allowed": allowed, "why": "too long", "max_seconds": 3600}
    answer = {"allowed": allowed, "why": "`aws-prod/admin`: too long", "items": [item]}
    server.on("POST", "/api/requests/preview", answer)
    ran = tidegate(*ASK, "--preview")
    assert ran.code == code
    assert "nothing was filed" in ran.out
    assert [path for _, path, _ in server.calls] == ["/api/requests/preview"]
    assert tidegate(*ASK, "--preview", "--json").json == answer


def test_edit_keeps_what_is_not_said(tidegate: Shell, server: FakeServer) -> None:
    """Only the duration is changed; roles, reason and ticket go back as they were."""
    server.on("GET", f"/api/requests/{RQ}", a_request())
    server.on("PUT", f"/api/requests/{RQ}", a_request())
    assert tidegate("request", "--edit", RQ, "--for", "30m").code == 0
    assert server.sent("PUT") == [
        {
            "roles": ["aws-prod/admin"],
            "duration_seconds": 1800,
            "reason": "roll back the gateway",
            "emergency": False,
            "ticket": "INC-4711",
        }
    ]


def test_wait_ends_when_access_is_open(tidegate: Shell, server: FakeServer) -> None:
    """It waits through pending and approved, says each once, and shows the open grant."""
    server.on("POST", "/api/requests", a_request())
    server.on(
        "GET",
        f"/api/requests/{RQ}",
        a_request(),
        a_request(),
        (503, problem("database_closed", "the database is closed", "world_failed")),
        a_request(state="approved", says="approved"),
    )
    opening = a_grant(state="intended", says="is being opened")
    server.on("GET", "/api/grants", {"grants": []}, {"grants": [opening]}, {"grants": [a_grant()]})
    ran = tidegate(*ASK, "--wait")
    assert ran.code == 0
    assert ran.err.splitlines() == [
        "waits for 1 of group:leads",
        "the database is closed; still trying",
        "approved",
        "is being opened",
        "open for another 44m",
    ]
    assert f"{GR}  open" in ran.out
    told = tidegate(*ASK, "--wait", "--json")
    assert (told.json["id"], told.json["access"][0]["id"], told.err) == (RQ, GR, "")


@pytest.mark.parametrize(
    ("state", "grant", "code"),
    [
        ("denied", None, 3),
        ("lapsed", None, 3),
        ("approved", {"state": "failed", "cause": "cloud_refused"}, 1),
        ("approved", {"state": "failed", "cause": "not_permitted"}, 3),
    ],
)
def test_wait_without_access_is_no_success(
    tidegate: Shell, server: FakeServer, state: str, grant: dict[str, str] | None, code: int
) -> None:
    """Every way not to get access ends the wait with its own code."""
    server.on("POST", "/api/requests", a_request())
    server.on("GET", f"/api/requests/{RQ}", a_request(state=state))
    server.on("GET", "/api/grants", {"grants": [a_grant(**(grant or {}))]})
    assert tidegate(*ASK, "--wait").code == code


def test_wait_gives_up_with_code_4_and_says_it_stays_filed(
    tidegate: Shell, server: FakeServer
) -> None:
    """Out of patience is "not yet": the request stays, and how to take it back is told."""
    server.on("POST", "/api/requests", a_request())
    server.on("GET", f"/api/requests/{RQ}", a_request())
    ran = tidegate(*ASK, "--wait", "--timeout", "1s")
    assert ran.code == 4
    assert f"{RQ} stays filed" in ran.err
    assert f"tidegate withdraw {RQ}" in ran.err


def test_ctrl_c_while_waiting_leaves_the_request_filed(
    tidegate: Shell, server: FakeServer, local: FakeLocal
) -> None:
    """Ctrl-C ends the wait only; nothing is withdrawn."""
    local.interrupt_after = 2
    server.on("POST", "/api/requests", a_request())
    server.on("GET", f"/api/requests/{RQ}", a_request())
    ran = tidegate(*ASK, "--wait")
    assert ran.code == 130
    assert f"{RQ} stays filed" in ran.err
    assert [method for method, _, _ in server.calls].count("POST") == 1


def test_lost_server_while_waiting_is_given_up(
    tidegate: Shell, server: FakeServer, local: FakeLocal
) -> None:
    """A server that stays away ends the wait after a bounded number of tries."""
    server.on("POST", "/api/requests", a_request())
    server.on("GET", f"/api/requests/{RQ}", (502, b"<html>"))
    assert tidegate(*ASK, "--wait").code == 1
    assert local.pauses < 100


def test_requests_ask_for_their_view(tidegate: Shell, server: FakeServer) -> None:
    """Mine, waiting and all are views of the server; filters travel as they are."""
    server.on("GET", "/api/requests", {"requests": [a_request()], "next_before": "rq_x"})
    ran = tidegate("requests")
    assert ran.out.splitlines()[1].split()[:4] == [RQ, "pending", "ana", "aws-prod/admin"]
    assert "--before rq_x" in ran.err
    tidegate("requests", "--waiting")
    tidegate("requests", "--all", "--state", "denied", "--limit", "5", "--before", "rq_y")
    assert [path.partition("?")[2] for _, path, _ in server.calls] == [
        "view=mine",
        "view=waiting",
        "view=all&state=denied&limit=5&before=rq_y",
    ]
    assert tidegate("requests", "--json").json["requests"][0]["id"] == RQ


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("requests",), "you have no requests"),
        (("requests", "--waiting"), "no requests wait for you"),
        (("grants",), "you have no grants"),
        (("grants", "--all"), "no grants to see"),
        (("targets",), "no role can be asked for yet"),
    ],
)
def test_empty_list_is_said_in_words(
    tidegate: Shell, server: FakeServer, words: tuple[str, ...], said: str
) -> None:
    """Nothing to list is a sentence, not a bare heading."""
    server.on("GET", f"/api/{words[0]}", {words[0]: [], "next_before": None})
    ran = tidegate(*words)
    assert (ran.code, len(ran.out.splitlines())) == (0, 1)
    assert said in ran.out


def test_erased_reason_is_told(tidegate: Shell, server: FakeServer) -> None:
    """A reason that was erased is said to be, not left out."""
    server.on("GET", f"/api/requests/{RQ}", a_request(reason=None))
    assert "(erased)" in tidegate("requests", RQ).out


def test_withdraw_shows_what_became_of_it(tidegate: Shell, server: FakeServer) -> None:
    """Withdrawing posts and shows the request as it is now."""
    server.on("POST", f"/api/requests/{RQ}/withdraw", a_request(state="withdrawn"))
    assert "withdrawn" in tidegate("withdraw", RQ).out
    server.on("POST", f"/api/requests/{RQ}/withdraw", (409, problem("wrong_state", "too late")))
    assert tidegate("withdraw", RQ).code == 2


def test_whoami_shows_groups(tidegate: Shell, server: FakeServer) -> None:
    """Name, login, groups and the powers one has here."""
    me = {"id": "pr_1", "name": "Ana", "login": "ana", "groups": ["sre"], "operator": True}
    server.on("GET", "/api/me", me)
    ran = tidegate("whoami")
    assert {"Ana", "ana", "pr_1", "sre", "operator"} <= set(ran.out.split())
    assert tidegate("whoami", "--json").json == me


def test_whoami_hides_an_end_that_is_near(tidegate: Shell, server: FakeServer) -> None:
    """What one holds, by how much it was extended, and when its end is told or how to move it."""
    hold = {
        "grant": "gr_1",
        "role": "prod/admin",
        "window_ends_at": "2026-11-23T10:00:00.000Z",
        "ends_at": "2026-11-23T10:05:00.000Z",
        "extended_seconds": 1800,
        "warn_at": "2026-11-23T09:50:00.000Z",
        "warned": False,
        "remaining_seconds": 2700,
    }
    near = {**hold, "grant": "gr_2", "extended_seconds": 0, "warned": True}
    server.on("GET", "/api/me", {"id": "pr_1", "name": "Ana", "holds": [hold, near]})
    first, second = (line for line in tidegate("whoami").out.splitlines() if "holds" in line)
    assert "45m left, extended by 30m; warned at 2026-11-23T09:50:00Z" in first
    assert "ends soon, more time: tidegate extend gr_2 --for 30m" in second
    assert "extended" not in second


def test_login_keeps_the_token_privately(tidegate: Shell, server: FakeServer) -> None:
    """The token lands in client.json with mode 0600 in a folder of 0700, and is not printed."""
    del tidegate.environment["TIDEGATE_SERVER"], tidegate.environment["TIDEGATE_TOKEN"]
    answer = {"token": TOKEN, "until": "2026-11-23T21:00:00.000Z", "principal": {"name": "Ana"}}
    server.on("POST", "/api/signin", (201, answer))
    words = ("login", server.url + "/", "--login", "ana", "--password-file", "-")
    ran = tidegate(*words, typed="pass word\n")
    assert (ran.code, ran.err) == (0, "")
    assert "as Ana until 2026-11-23T21:00:00Z" in ran.out
    assert TOKEN not in ran.out
    assert server.sent("POST")[0]["password"] == "pass word"
    assert "Authorization" not in server.headers[0]
    kept = tidegate.home / "client.json"
    assert json.loads(kept.read_text()) == {"server": server.url, "token": TOKEN}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(tidegate.home.stat().st_mode) == 0o700
    assert TOKEN not in tidegate(*words, "--json", typed="pass word\n").out
    server.on("GET", "/api/requests", {"requests": []})
    assert tidegate("requests").code == 0


def test_wrong_password_keeps_nothing(tidegate: Shell, server: FakeServer) -> None:
    """A refused sign-in exits 3 and writes no file."""
    refusal = problem("bad_credentials", "expected a login with its password", "not_allowed")
    server.on("POST", "/api/signin", (401, refusal))
    ran = tidegate("login", server.url, "--login", "ana", "--password-file", "-", typed="x\n")
    assert (ran.code, (tidegate.home / "client.json").exists()) == (3, False)


def test_password_is_never_an_argument_and_never_guessed(
    tidegate: Shell, server: FakeServer
) -> None:
    """Without a terminal a password comes from a file or not at all."""
    ran = tidegate("login", server.url, "--login", "ana")
    assert (ran.code, server.calls) == (2, [])
    assert "--password-file" in ran.err
    assert tidegate("login", server.url, "--login", "ana", "--password", "x").code == 2
    assert tidegate("login", server.url, "--login", "ana", "--password-file", "/no/such").code == 2
    assert tidegate("login", server.url, "--login", "a", "--password-file", "-", typed="").code == 2


def test_logout_ends_the_token_and_wipes_keys(tidegate: Shell, server: FakeServer) -> None:
    """The server is told, the token and cached keys are gone; the server is remembered."""
    name = server.url
    tidegate.home.mkdir(mode=0o700)
    (tidegate.home / "cache").mkdir(mode=0o700)
    (tidegate.home / "cache" / "keys").write_text("secret")
    kept = tidegate.home / "client.json"
    kept.write_text(json.dumps({"server": name, "token": TOKEN}))
    os.chmod(kept, 0o600)
    server.on("POST", "/api/signout", {"status": "signed_out"})
    ran = tidegate("logout")
    assert ran.code == 0 and "1 cached" in ran.out
    assert json.loads(kept.read_text()) == {"server": name, "token": ""}
    assert not (tidegate.home / "cache" / "keys").exists()


def test_logout_of_another_server_keeps_this_one(tidegate: Shell, server: FakeServer) -> None:
    """TIDEGATE_SERVER names one server, the file another: only the first is signed out of."""
    tidegate.home.mkdir(mode=0o700)
    kept = tidegate.home / "client.json"
    kept.write_text(json.dumps({"server": "https://other.example", "token": TOKEN}))
    os.chmod(kept, 0o600)
    server.on("POST", "/api/signout", {"status": "signed_out"})
    assert tidegate("logout").code == 0
    assert json.loads(kept.read_text())["token"] == TOKEN
