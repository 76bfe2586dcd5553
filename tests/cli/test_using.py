"""grants, exec, shell, credentials, profiles, done, revoke."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.cli.fake import ESCAPE, GR, RQ, FakeServer, a_grant, a_request, problem, some_credentials

CREDENTIALS = ("POST", f"/api/grants/{GR}/credentials")
LISTED = {"grants": [a_grant(), a_grant(state="closing", says="closing")]}
MANY = problem("many_grants", f"request `{RQ}` has several: `gr_1` (a/b, open)", help="name one")


@pytest.fixture(autouse=True)
def looked_at_first(server: FakeServer) -> None:
    """The grant and its request, which say what keys it gives."""
    server.on("GET", f"/api/grants/{GR}", a_grant())
    server.on("GET", f"/api/requests/{RQ}", a_request())


def child(code: str) -> tuple[str, ...]:
    """A command that runs Python."""
    return (sys.executable, "-c", code)


def test_grants_are_listed_and_shown(tidegate: Shell, server: FakeServer) -> None:
    """The list has what is left of each; one grant is found by either id."""
    server.on("GET", "/api/grants", {"grants": [a_grant(), a_grant(state="ready", ends_at=None)]})
    lines = tidegate("grants", "--state", "open", "--role", "aws-prod/admin").out.splitlines()
    assert lines[1].split()[:5] == [GR, "open", "aws-prod/admin", "2026-11-23T09:44:00Z", "44m"]
    assert server.calls[0][1].endswith("view=mine&state=open&role=aws-prod%2Fadmin")
    server.on("GET", f"/api/grants/{RQ}", a_grant())
    assert tidegate("grants", RQ, "--json").json["id"] == GR
    assert "open for another 44m" in tidegate("grants", RQ).out


def test_grant_shown_without_what_its_search_came_to(tidegate: Shell, server: FakeServer) -> None:
    """What was searched for side doors is a line of the grant, one each; nothing told is none."""
    said = ["not searched: access_denied: no", "found user arn:x (fd_1)"]
    server.on("GET", f"/api/grants/{GR}", a_grant(state="gone", side_doors=said))
    lines = [line.split() for line in tidegate("grants", GR).out.splitlines()]
    assert [" ".join(words[2:]) for words in lines if words[:2] == ["side", "doors"]] == said
    assert tidegate("grants", GR, "--json").json["side_doors"] == said
    for told in (None, []):
        server.on("GET", f"/api/grants/{GR}", a_grant(state="gone", side_doors=told))
        assert "side doors" not in tidegate("grants", GR).out


def test_time_is_left_of_what_is_over(tidegate: Shell, server: FakeServer) -> None:
    """A grant that is closing, removed or failed has no time left, whatever its end was."""
    for state in ("ready", "intended", "closing", "removed", "gone", "failed"):
        server.on("GET", "/api/grants", {"grants": [a_grant(state=state)]})
        assert tidegate("grants").out.splitlines()[1].split()[4] == "-"


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (120, "GRANT STATE ROLE ENDS LEFT SAYS"),
        (85, "GRANT STATE ROLE ENDS LEFT"),
        (72, "GRANT STATE ROLE ENDS LEFT"),
        (60, "GRANT STATE ROLE LEFT"),
        (52, "GRANT STATE ROLE"),
        (30, "GRANT …"),
    ],
)
def test_list_of_grants_leaves_a_narrow_terminal(
    tidegate: Shell, server: FakeServer, width: int, heads: str
) -> None:
    """No line is wider than COLUMNS; words go first, then the date, then the end."""
    tidegate.environment["COLUMNS"] = str(width)
    server.on("GET", "/api/grants", LISTED)
    lines = tidegate("grants").out.splitlines()
    assert max(map(len, lines)) <= width
    assert all(line.startswith(GR) for line in lines[1:])
    assert lines[0].split() == heads.split()
    assert ("2026-11-23" in lines[1], "09:44:00Z" in lines[1]) == (width >= 85, width >= 72)


@pytest.mark.parametrize(
    "words", [("exec", GR, "--", "true"), ("shell", RQ), ("credentials", GR), ("credentials", RQ)]
)
def test_session_minted_for_keys_nobody_can_use(
    tidegate: Shell, server: FakeServer, words: tuple[str, ...]
) -> None:
    """A role of another connector is refused before the server is asked to mint anything."""
    items = [{"role": "other/role", "connector": "aws"}]
    items += [{"role": "aws-prod/admin", "connector": "simulated"}]
    server.on("GET", f"/api/grants/{RQ}", a_grant())
    server.on("GET", f"/api/requests/{RQ}", a_request(items=items))
    server.on(*CREDENTIALS, (201, some_credentials(kind="simulated")))
    ran = tidegate(*words)
    assert (ran.code, server.sent("POST")) == (3, [])
    assert "got `aws-prod/admin` of connector `simulated`" in ran.err
    assert "nothing was issued" in ran.err


def test_cached_keys_need_no_server(tidegate: Shell, server: FakeServer) -> None:
    """Keys at hand are printed without asking what kind they are."""
    server.on(*CREDENTIALS, (201, some_credentials()))
    tidegate("credentials", GR)
    before = len(server.calls)
    assert tidegate("credentials", GR).code == 0
    assert len(server.calls) == before


@pytest.mark.parametrize("words", [("grants", RQ), ("exec", RQ, "--", "true"), ("shell", RQ)])
def test_ambiguous_request_lists_its_grants(
    tidegate: Shell, server: FakeServer, words: tuple[str, ...]
) -> None:
    """A request id with several grants is refused with their names."""
    server.on("GET", f"/api/grants/{RQ}", (400, MANY))
    ran = tidegate(*words)
    assert ran.code == 2
    assert "`gr_1` (a/b, open)" in ran.err


def test_exec_gives_keys_and_the_exit_code(
    tidegate: Shell, server: FakeServer, tmp_path: Path
) -> None:
    """The command finds an endpoint, reads keys from it, and its exit code becomes ours."""
    server.on(*CREDENTIALS, (201, some_credentials()))
    out = tmp_path / "keys"
    code = (
        "import os, sys, urllib.request as u\n"
        "e = os.environ\n"
        "ask = u.Request(e['AWS_CONTAINER_CREDENTIALS_FULL_URI'],"
        " headers={'Authorization': e['AWS_CONTAINER_AUTHORIZATION_TOKEN']})\n"
        f"open({str(out)!r}, 'wb').write(u.urlopen(ask).read())\n"
        "assert 'AWS_SECRET_ACCESS_KEY' not in e\n"
        "sys.exit(7)"
    )
    ran = tidegate("exec", GR, "--", *child(code))
    assert ran.code == 7
    assert json.loads(out.read_text())["SecretAccessKey"] == "very secret"
    assert len(server.sent("POST")) == 1
    assert "very secret" not in ran.out + ran.err


def test_exec_passes_options_to_the_command(tidegate: Shell, server: FakeServer) -> None:
    """What follows the grant is the command's, also what looks like an option of ours."""
    server.on(*CREDENTIALS, (201, some_credentials()))
    code = "import sys; sys.exit(0 if sys.argv[1:] == ['--json', '--help', '--env'] else 9)"
    assert tidegate("exec", GR, *child(code), "--json", "--help", "--env").code == 0
    assert tidegate("exec", GR, "--", *child(code), "--json", "--help", "--env").code == 0
    dashes = "import sys; sys.exit(sys.argv[1:] != ['a', '--', 'b'])"
    assert tidegate("exec", GR, *child(dashes), "a", "--", "b").code == 0
    assert tidegate("exec", GR, "--", *child(dashes), "a", "--", "b").code == 0


def test_exec_env_gives_static_keys_with_a_warning(tidegate: Shell, server: FakeServer) -> None:
    """`--env` puts keys in the environment and warns about what that means."""
    server.on(*CREDENTIALS, (201, some_credentials()))
    code = "import os, sys; sys.exit(os.environ['AWS_SECRET_ACCESS_KEY'] != 'very secret')"
    for words in (("exec", "--env", GR), ("exec", GR, "--env")):
        ran = tidegate(*words, "--", *child(code))
        assert ran.code == 0
        assert "warning: static keys" in ran.err


def test_exec_by_request_id_uses_its_grant(tidegate: Shell, server: FakeServer) -> None:
    """A request id stands for its one grant."""
    server.on("GET", f"/api/grants/{RQ}", a_grant())
    server.on(*CREDENTIALS, (201, some_credentials()))
    assert tidegate("exec", RQ, "--", *child("")).code == 0


def test_exec_after_the_end_starts_nothing(
    tidegate: Shell, server: FakeServer, tmp_path: Path
) -> None:
    """A refused credential ends it before the command is started."""
    refusal = problem("ended", "access ended", "not_allowed", "ask again")
    server.on(*CREDENTIALS, (403, refusal))
    ran = tidegate("exec", GR, "--", "touch", str(tmp_path / "started"))
    assert ran.code == 3
    assert ran.err == "error: access ended\nnext: ask again\n"
    assert not (tmp_path / "started").exists()


def test_unknown_command_is_told(tidegate: Shell, server: FakeServer) -> None:
    """A command that is not there is the caller's mistake."""
    server.on(*CREDENTIALS, (201, some_credentials()))
    ran = tidegate("exec", GR, "--", "/no/such/command")
    assert ran.code == 2
    assert "/no/such/command" in ran.err


def test_shell_runs_the_persons_shell(tidegate: Shell, server: FakeServer, tmp_path: Path) -> None:
    """SHELL is started with the keys, and how to end access is said."""
    mine = tmp_path / "sh"
    mine.write_text('#!/bin/sh\ntest -n "$AWS_CONTAINER_CREDENTIALS_FULL_URI" && exit 5\n')
    os.chmod(mine, 0o700)
    tidegate.environment["SHELL"] = str(mine)
    server.on(*CREDENTIALS, (201, some_credentials()))
    ran = tidegate("shell", GR)
    assert ran.code == 5
    assert "tidegate done" in ran.err


def test_credentials_show_no_secret_unless_asked(tidegate: Shell, server: FakeServer) -> None:
    """Plain text has no secret; `--env-export` and `--json` have, from one session."""
    server.on(*CREDENTIALS, (201, some_credentials()))
    plain = tidegate("credentials", GR)
    assert plain.code == 0, plain.err
    assert "very secret" not in plain.out and "ASIAFAKE" in plain.out
    export = tidegate("credentials", GR, "--env-export")
    assert "export AWS_SECRET_ACCESS_KEY='very secret'" in export.out.splitlines()
    assert """export AWS_SESSION_TOKEN='token'"'"'with quote'""" in export.out.splitlines()
    assert "warning" in export.err
    told = tidegate("credentials", GR, "--json").json
    assert told["SecretAccessKey"] == "very secret"
    assert told["Expiration"] == "2026-11-23T09:44:00.000Z"
    assert len(server.sent("POST")) == 1


def test_credentials_refused_are_no_keys(tidegate: Shell, server: FakeServer) -> None:
    """A refusal exits 3 with one line that says what to do."""
    server.on(*CREDENTIALS, (403, problem("ended", f"over{ESCAPE}", "not_allowed", "ask again")))
    ran = tidegate("credentials", GR)
    assert ran.code == 3
    assert "next: ask again" in ran.err and "\x1b" not in ran.err
    assert tidegate("credentials", "x y").code == 2


def test_profiles_are_shown_then_written(
    tidegate: Shell, server: FakeServer, tmp_path: Path
) -> None:
    """Without `--write` nothing is touched; with it every IAM role has a profile."""
    roles = [{"id": "aws-prod/admin", "kind": "iam-role"}, {"id": "k8s/view", "kind": "cluster"}]
    server.on("GET", "/api/targets", {"targets": [{"id": "x", "roles": roles}]})
    config = tmp_path / "aws" / "config"
    tidegate.environment["AWS_CONFIG_FILE"] = str(config)
    tidegate.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(tmp_path / "none")
    shown = tidegate("profiles")
    assert "[profile tidegate-aws-prod-admin]" in shown.out and "k8s" not in shown.out
    assert not config.exists()
    written = tidegate("profiles", "--write", "--region", "eu-central-1", "--json").json
    assert written["profiles"] == [{"name": "tidegate-aws-prod-admin", "role": "aws-prod/admin"}]
    assert "region = eu-central-1" in config.read_text()
    server.on("GET", "/api/targets", {"targets": []})
    assert "no role gives AWS keys" in tidegate("profiles").out


def test_done_and_revoke_end_and_forget_keys(tidegate: Shell, server: FakeServer) -> None:
    """Ending posts the comment, shows how far it came, and drops cached keys of that grant."""
    server.on(*CREDENTIALS, (201, some_credentials()))
    assert tidegate("credentials", GR).code == 0
    cached = [p for p in (tidegate.home / "cache").iterdir() if not p.name.startswith("lock")]
    assert len(cached) == 1
    over = a_grant(state="removed", says="removed; a session may act until 09:50")
    server.on("POST", f"/api/grants/{GR}/end", over)
    ran = tidegate("done", GR)
    assert ran.code == 0 and "a session may act until" in ran.out
    assert not cached[0].exists()
    assert tidegate("revoke", GR, "--comment", "wrong account", "--json").json == over
    assert server.sent("POST")[1:] == [{}, {"comment": "wrong account"}]
    assert tidegate("revoke", GR).code == 2


def test_exec_starts_what_cannot_finish(
    tidegate: Shell, server: FakeServer, tmp_path: Path
) -> None:
    """`--needs` starts nothing with less time left, and says how to get more."""
    server.on("GET", f"/api/grants/{GR}", a_grant(remaining_seconds=420))
    server.on(*CREDENTIALS, (201, some_credentials()))
    ran = tidegate("exec", "--needs", "20m", GR, "--", "touch", str(tmp_path / "started"))
    assert ran.code == 3
    assert f"expected 20m left of `{GR}`, got 7m" in ran.err
    assert f"tidegate extend {GR} --for 13m" in ran.err
    assert not (tmp_path / "started").exists()
    assert tidegate("exec", GR, "--needs", "7m", "--", *child("")).code == 0


def test_exec_asks_for_the_missing_time_first(tidegate: Shell, server: FakeServer) -> None:
    """With `--extend` the missing time is asked for, and the command starts once it is there."""
    server.on("GET", f"/api/grants/{GR}", a_grant(remaining_seconds=400))
    server.on(*CREDENTIALS, (201, some_credentials()))
    at = "2026-11-23T09:01:00.000Z"
    filed = a_request(state="approved", extends=GR, applied_at=None)
    server.on("POST", "/api/requests", (201, filed))
    server.on("GET", f"/api/requests/{RQ}", {**filed, "applied_at": at})
    words = ("exec", "--needs", "20m", "--extend", "--reason", "migration", GR)
    assert tidegate(*words, "--", *child("")).code == 0
    body = {"extends": GR, "duration_seconds": 840, "reason": "migration"}
    assert server.sent("POST")[0] == body
    denied = {**filed, "state": "denied", "says": "denied by an approver"}
    server.on("POST", "/api/requests", (201, denied))
    assert tidegate(*words, "--", *child("")).code == 3
