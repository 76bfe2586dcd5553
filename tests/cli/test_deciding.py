"""approve, deny: a vote on exactly what was shown."""

import pytest

from tests.cli.conftest import Shell
from tests.cli.fake import DIGEST, ESCAPE, RQ, FakeServer, a_request, problem
from tidegate.shell.cli import deciding

GET, VOTE = ("GET", f"/api/requests/{RQ}"), ("POST", f"/api/requests/{RQ}/votes")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits there."""
    monkeypatch.setattr(deciding, "at_terminal", lambda: True)


@pytest.mark.parametrize("choice", ["approve", "deny"])
def test_vote_returns_the_digest_that_was_shown(
    tidegate: Shell, server: FakeServer, choice: str
) -> None:
    """The request is shown, and exactly its digest goes back, with the choice and comment."""
    server.on(*GET, a_request())
    server.on(*VOTE, a_request(state="approved", says="approved; it opens by itself"))
    ran = tidegate(choice, RQ, "--yes", "--comment", "go on")
    assert ran.code == 0
    assert server.sent("POST") == [{"choice": choice, "digest": DIGEST, "comment": "go on"}]
    assert DIGEST in ran.err and "roll back the gateway" in ran.err
    assert ran.out == "approved; it opens by itself\n"
    told = tidegate(choice, RQ, "--yes", "--json")
    assert (told.json["state"], told.err) == ("approved", "")


@pytest.mark.parametrize("command", [("requests", RQ), ("approve", RQ, "--yes")])
def test_approver_sees_what_the_cloud_calls_it(
    tidegate: Shell, server: FakeServer, command: tuple[str, ...]
) -> None:
    """Native ids, cloud account and what outlives the end are shown; so is a change since."""
    item = a_request()["items"][0] | {
        "kind": "iam-role",
        "connector": "aws",
        "account": "123456789012",
        "native": {"arn": f"arn:aws:iam::123456789012:role/admin{ESCAPE}\ufe0f"},
        "allows": ["iam:CreateAccessKey", "ssm:StartSession"],
        "changed": "this role has changed since",
    }
    server.on(*GET, a_request(items=[item], principal={"id": "pr_1", "name": "bo", "login": "ana"}))
    server.on(*VOTE, a_request(state="approved"))
    ran = tidegate(*command)
    shown = ran.out + ran.err
    assert "aws 123456789012" in shown and "iam-role" in shown
    assert "arn:aws:iam::123456789012:role/admin\\x1b[31m\\ufe0f" in shown
    assert "iam:CreateAccessKey, ssm:StartSession: what these make outlives the end" in shown
    assert "this role has changed since" in shown
    assert "bo (ana)" in shown


@pytest.mark.parametrize("command", [("requests", RQ), ("approve", RQ, "--yes")])
def test_approver_is_told_a_span_and_no_end(
    tidegate: Shell, server: FakeServer, command: tuple[str, ...]
) -> None:
    """The instant it ends is shown with its grace; by an older server, the grace at least."""
    ends = "2026-11-23 09:45:00 UTC; the last 5m are grace for running work"
    item = a_request()["items"][0] | {"grace_seconds": 300, "ends": ends}
    server.on(*GET, a_request(items=[item]), a_request(items=[item | {"ends": ""}]))
    server.on(*VOTE, a_request(state="approved"))
    ran = tidegate(*command)
    assert ends in ran.out + ran.err and "after its window" not in ran.out + ran.err
    old = tidegate(*command)
    assert "5m: it ends that much after its window" in old.out + old.err


def test_vote_without_a_look_is_refused(tidegate: Shell, server: FakeServer) -> None:
    """Without a terminal and without `--yes` nothing is fetched and nothing is voted."""
    server.on(*GET, a_request())
    ran = tidegate("approve", RQ)
    assert (ran.code, server.calls) == (2, [])
    assert "--yes --digest" in ran.err


def test_vote_on_an_edited_request_is_not_sent(tidegate: Shell, server: FakeServer) -> None:
    """A pinned digest that is not the present one stops before the vote."""
    server.on(*GET, a_request())
    ran = tidegate("approve", RQ, "--yes", "--digest", "sha256:" + "0" * 64)
    assert ran.code == 2
    assert "it was edited" in ran.err
    assert server.sent("POST") == []
    server.on(*VOTE, a_request())
    assert tidegate("approve", RQ, "--yes", "--digest", DIGEST).code == 0


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("typed", "code", "votes"), [("y\n", 0, 1), ("n\n", 4, 0), ("\n", 4, 0), ("", 130, 0)]
)
def test_only_a_yes_is_a_vote(
    tidegate: Shell, server: FakeServer, typed: str, code: int, votes: int
) -> None:
    """No, silence and the end of input decide nothing."""
    server.on(*GET, a_request(reason=f"x{ESCAPE}"))
    server.on(*VOTE, a_request(state="approved"))
    ran = tidegate("approve", RQ, typed=typed)
    assert (ran.code, len(server.sent("POST"))) == (code, votes)
    assert "approve exactly this?" in ran.err
    assert "\x1b" not in ran.err


def test_own_request_is_refused_in_the_servers_words(tidegate: Shell, server: FakeServer) -> None:
    """Self-approval exits 3 with the server's sentence."""
    server.on(*GET, a_request())
    server.on(*VOTE, (403, problem("own_request", "nobody approves their own", "not_allowed")))
    ran = tidegate("approve", RQ, "--yes")
    assert ran.code == 3
    assert "error: nobody approves their own" in ran.err


def test_request_without_a_digest_is_not_voted_on(tidegate: Shell, server: FakeServer) -> None:
    """An answer without a digest cannot be voted on."""
    server.on(*GET, a_request(digest=None))
    assert tidegate("approve", RQ, "--yes").code == 1
    assert server.sent("POST") == []
