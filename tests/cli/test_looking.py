"""verify --here and paths: one's own command with one's own keys, and every way in."""

import json
import shlex
import sys
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.conftest import Shell
from tests.cli.fake import ESCAPE, GR, FakeServer, a_grant
from tidegate.shell.cli import here
from tidegate.shell.cli.here import HIDDEN, Ended, masked, run_here, told_call

TRIALS = f"/api/grants/{GR}/trials"
REFUSALS = [
    "An error occurred (AccessDenied) when calling the ListUsers operation: User: arn:aws:sts::…",
    "An error occurred (AccessDeniedException) when calling the ListFunctions operation",
    "An error occurred (UnauthorizedOperation) when calling the DescribeInstances operation",
    "An error occurred (ExpiredToken) when calling the ListBuckets operation",
    "An error occurred (ForbiddenException) when calling the GetRoleCredentials operation: No",
    "User: x is not authorized to perform: iam:ListUsers with an explicit deny",
    "(AuthorizationFailed) The client 'x' does not have authorization to perform action 'y'",
    "ERROR: (gcloud.projects.list) PERMISSION_DENIED: The caller does not have permission",
    "Error from server (Forbidden): pods is forbidden: User x cannot list resource",
]
NO_REFUSALS = [
    "",
    "Could not connect to the endpoint URL",
    "The SSO session associated with this profile has expired",
    "An error occurred (Throttling) when calling the ListUsers operation",
    "Unable to locate credentials",
    "PERMISSION_DENIEDISH",
]


def python(code: str) -> list[str]:
    """A command that runs everywhere."""
    return [sys.executable, "-c", code]


def said(server: FakeServer, **changed: Any) -> None:
    """Let the server know the grant and take a trial."""
    server.on("GET", f"/api/grants/{GR}", a_grant())
    plain = {"grant": GR, "says": "tried during: allowed", "as_it_should": True} | changed
    server.on("POST", TRIALS, (201, plain))


def test_command_runs_with_keys_of_ours(tidegate: Shell, server: FakeServer) -> None:
    """It runs in the environment as it is, its output is shown, and the outcome is sent."""
    said(server)
    code = "import os,sys; print('TIDEGATE_GRANT' in os.environ, os.environ['HOME']);"
    code += "print('words', file=sys.stderr)"
    ran = tidegate("verify", "--here", GR, "--", *python(code))
    assert ran.code == 0, ran.err
    assert f"False {tidegate.environment['HOME']}" in ran.out
    assert "words" in ran.err
    assert f"{GR}  tried during: allowed" in ran.out
    (sent,) = server.sent("POST")
    assert sent == {
        "outcome": "allowed",
        "exit_code": 0,
        "call": shlex.join(python(code)),
        "tried_at": "2026-11-23T09:00:00.000Z",
    }
    assert "the evidence keeps this call: " in ran.err


@pytest.mark.parametrize(
    ("code", "outcome", "exit_code"),
    [
        (f"import sys; print({REFUSALS[0]!r}, file=sys.stderr); sys.exit(254)", "denied", 254),
        (f"print({REFUSALS[0]!r})", "allowed", 0),
        ("import sys; sys.exit(3)", "untold", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "untold", 137),
    ],
)
def test_failure_is_taken_for_a_denial(
    tidegate: Shell, server: FakeServer, code: str, outcome: str, exit_code: int
) -> None:
    """Only exit 0 is allowed, and only a refusal the cloud is known by is denied."""
    said(server, as_it_should=False, says="it should be otherwise")
    ran = tidegate("verify", "--here", GR, "--", *python(code))
    assert ran.code == 1
    (sent,) = server.sent("POST")
    assert (sent["outcome"], sent["exit_code"]) == (outcome, exit_code)
    assert "it should be otherwise" in ran.out
    assert f"next: `tidegate verify {GR}`" in ran.err


def test_command_that_hangs(tidegate: Shell, server: FakeServer) -> None:
    """After its time it is stopped, and nothing is told of the access."""
    said(server, as_it_should=False)
    ran = tidegate(
        "verify", "--here", "--timeout", "1s", GR, "--", *python("import time; time.sleep(60)")
    )
    assert ran.code == 1
    (sent,) = server.sent("POST")
    assert (sent["outcome"], sent["exit_code"]) == ("untold", None)
    assert "stopped after 1s" in ran.err


def test_output_breaks_the_one_json_object(tidegate: Shell, server: FakeServer) -> None:
    """With --json what the command prints goes to stderr, and stdout is the answer."""
    said(server)
    ran = tidegate("verify", "--here", "--json", GR, "--", *python("print('hello')"))
    assert ran.json["as_it_should"] is True and ran.json["exit_code"] == 0
    assert "hello" in ran.err


def test_call_is_sent_though_kept_back(tidegate: Shell, server: FakeServer) -> None:
    """With --no-call only the outcome leaves the machine."""
    said(server)
    assert tidegate("verify", "--here", "--no-call", GR, "--", *python("pass")).code == 0
    assert server.sent("POST")[0]["call"] == ""


@pytest.mark.parametrize(
    "words",
    [
        ("--here", GR, "--", "CMD", "--json", "-x"),
        ("--here", GR, "CMD", "--json", "-x"),
        (GR, "--here", "CMD", "--json", "-x"),
        ("--timeout", "5s", "--here", GR, "--no-call", "CMD", "--json", "-x"),
        ("--timeout=5s", "--here", GR, "--no-call", "--", "CMD", "--json", "-x"),
    ],
)
def test_option_of_the_command_is_taken_for_ours(
    tidegate: Shell, server: FakeServer, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything from the command on is the command's own, with `--` and without."""
    said(server)
    seen: list[list[str]] = []

    def run(command: Any, *_: object, **__: object) -> Ended:
        seen.append(list(command))
        return Ended(code=0, stderr="")

    monkeypatch.setattr(here, "run_here", run)
    ran = tidegate("verify", *words)
    assert ran.code == 0, ran.err
    assert seen == [["CMD", "--json", "-x"]]
    assert not ran.out.startswith("{")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--here", GR), "expected a command to try"),
        (("--here", GR, "--timeout", "6m", "x"), "`--timeout` of at most 5m"),
        (("--here", GR, "--timeout", "x", "x"), "expected a duration"),
        ((GR, "x"), "expected `--here`"),
    ],
)
def test_wrong_use_asks_a_server(
    tidegate: Shell, server: FakeServer, words: tuple[str, ...], told: str
) -> None:
    """What is typed wrongly is told before anything runs or is asked."""
    ran = tidegate("verify", *words)
    assert (ran.code, server.calls) == (2, [])
    assert told in ran.err


def test_command_that_is_not_there(tidegate: Shell, server: FakeServer) -> None:
    """What cannot be started is told, and nothing is sealed."""
    said(server)
    ran = tidegate("verify", "--here", GR, "--", "/nowhere/no-such-program")
    assert ran.code == 2 and "cannot run" in ran.err
    assert server.sent("POST") == []


def test_grant_of_nobody_runs_the_command(tidegate: Shell, server: FakeServer) -> None:
    """A grant that is not there is told before the command is run."""
    ran = tidegate("verify", "--here", GR, "--", *python("print('ran')"))
    assert ran.code == 2 and "ran" not in ran.out
    assert server.sent("POST") == []


@pytest.mark.parametrize("text", REFUSALS)
def test_refusal_of_a_cloud_is_missed(text: str) -> None:
    """Each cloud's own words for no are known, anywhere in what was printed."""
    assert Ended(code=1, stderr=f"noise\n{text}\nmore").outcome == "denied"
    assert Ended(code=0, stderr=text).outcome == "allowed"


@pytest.mark.parametrize("text", NO_REFUSALS)
def test_other_failure_is_taken_for_a_refusal(text: str) -> None:
    """A network fault or a missing sign-in says nothing of the access."""
    assert Ended(code=1, stderr=text).outcome == "untold"


def test_refusal_at_the_end_of_much_output(capfd: pytest.CaptureFixture[str]) -> None:
    """Only the end of stderr is kept, where the refusal stands; all of it is shown."""
    code = "import sys; sys.stderr.write('x' * 200_000 + '\\nAccessDenied\\n'); sys.exit(1)"
    ended = run_here(python(code), {}, timedelta(seconds=20), quiet=False)
    assert ended.outcome == "denied"
    assert len(ended.stderr) <= here.KEPT
    assert len(capfd.readouterr().err) > 200_000


@pytest.mark.parametrize(
    "words",
    [
        ["tool", "--token", "SECRET"],
        ["tool", "--token", "-SECRET"],
        ["tool", "--with-token", "--password", "SECRET"],
        ["tool", "--token=SECRET"],
        ["tool", "--db-password", "SECRET", "x"],
        ["tool", "-u", "me:SECRET"],
        ["mysql", "-pSECRET"],
        ["env", "AWS_SECRET_ACCESS_KEY=SECRET", "aws"],
        ["sh", "-c", "X_TOKEN=SECRET aws s3 ls"],
        ["curl", "-H", "Authorization: Bearer SECRET"],
        ["curl", "https://me:SECRET@x.invalid/"],
        ["aws", "x", "--cli-input-json", '{"Name": "a", "Password": "SECRET"}'],
        ["aws", "x", "--parameters", "Name=a,DbSecret=SECRET"],
        ["tool", "eyJhbGciOiJFZERTQSJ9.SECRET.sig"],
        ["tool", "tdg_SECRETSECRET"],
        ["tool", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYSECRETKEY1"],
    ],
)
def test_secret_of_a_call_leaves_the_machine(words: list[str]) -> None:
    """Values named like a secret, or shaped like one, are not in what is kept."""
    assert "SECRET" not in told_call(words).replace("AWS_SECRET_ACCESS_KEY", "").replace(
        "DbSecret", ""
    )
    assert HIDDEN in told_call(words)


@pytest.mark.parametrize(
    "words",
    [
        ["aws", "iam", "list-users", "--profile", "prod", "--region=eu-west-1"],
        ["kubectl", "get", "pods", "-n", "payments"],
        ["aws", "s3", "ls", "s3://bucket/2026/11/23/"],
    ],
)
def test_plain_call_is_mutilated(words: list[str]) -> None:
    """A call without secrets is kept word for word."""
    assert told_call(words) == shlex.join(words)


@given(st.lists(st.text(), max_size=6))
def test_call_that_cannot_be_sealed(words: list[str]) -> None:
    """Whatever was typed becomes one bounded line, a word for each word."""
    from tidegate.base.text import is_hidden

    line = told_call(words)
    assert len(line) <= here.LONGEST_CALL and not any(is_hidden(ch) for ch in line)
    assert len(masked(words)) == len(words)


# paths


def a_way(**changed: Any) -> dict[str, Any]:
    """One way as the API answers it."""
    return {
        "cause": "session",
        "means": "the assignment is not there",
        "role": "aws-prod/admin",
        "says": f"one taken before may act until later{ESCAPE}",
        "until": None,
        "grant": GR,
        "request": "",
        "evidence": [{"index": 7, "what": "grant.removed", "at": "x", "says": "event 7 `x`"}],
        "fix": "wait",
        "hit": ["eve"],
        "more": 2,
    } | changed


def an_answer(*ways: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """What the API answers."""
    return {
        "person": "ana",
        "target": "aws-prod",
        "at": "2026-11-23T09:00:00.000Z",
        "sound": not ways,
        "complete": True,
        "says": "no way found: looked at 3 grants; not looked at side doors",
        "paths": list(ways),
        "looked_at": ["3 grants and their evidence"],
        "not_looked_at": [{"what": "side doors", "why": "not searched yet"}],
    } | changed


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (an_answer(), 0),
        (an_answer(a_way()), 1),
        (an_answer(complete=False), 4),
        (an_answer(a_way(cause="granted"), sound=True), 0),
    ],
)
def test_paths_exits_by_what_was_found(
    tidegate: Shell, server: FakeServer, answer: dict[str, Any], code: int
) -> None:
    """0: none, or as granted; 1: one that should not be; 4: not everything was looked at."""
    server.on("GET", "/api/paths", answer)
    ran = tidegate("paths", "ana@x.invalid", "aws-prod")
    assert ran.code == code
    assert server.calls[-1][1] == "/api/paths?person=ana%40x.invalid&target=aws-prod"
    assert tidegate("paths", "ana", "aws-prod", "--json").json == answer


def test_way_is_drawn_without_its_fix(tidegate: Shell, server: FakeServer) -> None:
    """Each way with why, evidence, fix and who else; nothing of it moves the cursor."""
    server.on("GET", "/api/paths", an_answer(a_way()))
    ran = tidegate("paths", "ana", "aws-prod")
    for words in ("1. session: one taken", "why: ", "by: event 7", "fix: wait", "eve and 2 more"):
        assert words in ran.out
    assert "not looked at: side doors" in ran.out
    assert "\x1b" not in ran.out


def test_nothing_found_is_silent(tidegate: Shell, server: FakeServer) -> None:
    """No way is said in words, with where was looked and where not."""
    server.on("GET", "/api/paths", an_answer())
    assert "no way found: looked at 3 grants" in tidegate("paths", "ana", "aws-prod").out


@pytest.mark.parametrize("damage", [{"paths": 7}, {"paths": [3]}, {"person": None}, {"says": 1}])
def test_strange_answer_is_drawn(
    tidegate: Shell, server: FakeServer, damage: dict[str, Any]
) -> None:
    """An answer of another shape is told as such."""
    server.on("GET", "/api/paths", json.loads(json.dumps(an_answer() | damage)))
    ran = tidegate("paths", "ana", "aws-prod")
    assert ran.code == 1 and "strange" not in ran.out
    assert "Traceback" not in ran.err
