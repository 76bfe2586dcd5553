"""What holds for every command: examples, JSON, refusals, unreachable servers, garbage."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.cli.conftest import Shell
from tests.cli.fake import ESCAPE, FI, GR, PN, RQ, FakeLocal, FakeServer, a_request, problem
from tidegate.shell.cli.commands import make_program

ASKING = [  # every command that asks a server, as somebody would type it
    ("targets",),
    ("request", "aws-prod/admin", "--for", "45m", "--reason", "r"),
    ("request", "aws-prod/admin", "--for", "45m", "--reason", "r", "--preview"),
    ("request", "--edit", RQ, "--for", "45m"),
    ("request", "aws-prod/admin", "--for", "45m", "--reason", "r", "--wait"),
    ("requests",),
    ("requests", "--waiting"),
    ("requests", RQ),
    ("withdraw", RQ),
    ("approve", RQ, "--yes"),
    ("deny", RQ, "--yes"),
    ("grants",),
    ("grants", GR),
    ("exec", GR, "--", "true"),
    ("shell", GR),
    ("credentials", RQ),
    ("profiles",),
    ("done", GR),
    ("revoke", GR, "--comment", "c"),
    ("revoke", "--all", "--yes"),
    ("sign-off", GR, "--reason", "r"),
    ("revoke", "--status", PN),
    ("unfreeze", PN),
    ("trace", GR),
    ("verify", GR),
    ("verify", "--here", GR, "--", "true"),
    ("paths", "ana", "aws-prod"),
    ("doctor",),
    ("findings", "list"),
    ("findings", "show", FI),
    ("findings", "assign", FI, "bo"),
    ("findings", "close", FI, "--reason", "r"),
    ("findings", "baseline", "aws-prod", "--reason", "r"),
    ("report", "lateness"),
    ("whoami",),
    ("evidence", "list", GR),
    ("evidence", "key"),
    ("evidence", "checkpoint"),
    ("evidence", "verify"),
]
GARBAGE = [
    (200, b"\xff\xfe not json"),
    (200, b"[]"),
    (200, b"null"),
    (200, b'{"requests": 7, "grants": {"a": 1}, "targets": [3], "checks": "x", "id": []}'),
    (200, b"[" * 50_000),
    (500, b"<html>oops</html>"),
    (302, b""),
    (200, b""),
]


def every_command(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands and groups, with what one types to reach them."""
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from every_command(inner, (*path, name))


ALL = dict(every_command(make_program(FakeLocal())))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_without_examples_is_found(tidegate: Shell, path: tuple[str, ...]) -> None:
    """Every command and group shows examples in its help, and each starts with what one types."""
    ran = tidegate(*path, "--help")
    assert ran.code == 0
    examples = ran.out.partition("\nExamples:\n")[2]
    assert " ".join(("tidegate", *path)) in examples
    assert ran.out.partition("\n\n")[2].strip()


@pytest.mark.parametrize("path", [p for p, c in ALL.items() if not isinstance(c, click.Group)])
def test_command_without_json_is_found(path: tuple[str, ...]) -> None:
    """Every command takes `--json`."""
    assert any("--json" in param.opts for param in ALL[path].params), path


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_unreachable_server_is_two_lines(tidegate: Shell, words: tuple[str, ...]) -> None:
    """A dead port is told in two lines that say what to do, with nothing on stdout."""
    tidegate.environment["TIDEGATE_SERVER"] = "http://127.0.0.1:9"
    ran = tidegate(*words)
    assert ran.code == 1
    assert ran.out == ""
    error, following = ran.err.strip().splitlines()[-2:]
    assert error.startswith("error: `http://127.0.0.1:9` cannot be reached")
    assert following.startswith("next: ")


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_unreachable_server_is_a_json_problem(tidegate: Shell, words: tuple[str, ...]) -> None:
    """With `--json` the same is one problem on stderr."""
    tidegate.environment["TIDEGATE_SERVER"] = "http://127.0.0.1:9"
    ran = (
        tidegate(words[0], *words[1:2], "--json", *words[2:])
        if words[0] in ("evidence", "findings", "report")
        else (tidegate(words[0], "--json", *words[1:]))
    )
    told = json.loads(ran.err)
    assert (ran.code, ran.out) == (1, "")
    assert told["code"] == "server_unreachable"
    assert told.keys() >= {"title", "status", "detail", "code", "family", "help"}


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_garbage_answer_is_no_traceback(
    tidegate: Shell, server: FakeServer, words: tuple[str, ...]
) -> None:
    """Whatever a server answers, a command ends with an error of ours or an empty view."""
    for garbage in GARBAGE:
        server.replies = _Always(garbage)  # type: ignore[assignment]
        ran = tidegate(*words)
        assert ran.code != 70, (garbage, ran.err)
        assert "Traceback" not in ran.err
        if ran.code:
            assert "error: " in ran.err, garbage


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_refusal_is_code_3_in_the_servers_words(
    tidegate: Shell, server: FakeServer, words: tuple[str, ...]
) -> None:
    """A refusal is shown as the server said it, with its help, and exits 3."""
    refusal = problem("not_yours", "`x` is not yours", "not_allowed", "ask its owner")
    server.replies = _Always((403, json.dumps(refusal).encode()))  # type: ignore[assignment]
    ran = tidegate(*words)
    assert ran.code == 3
    assert ran.err.strip().splitlines()[-2:] == ["error: `x` is not yours", "next: ask its owner"]


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_nobody_signed_in_is_told_without_asking(
    tidegate: Shell, server: FakeServer, words: tuple[str, ...]
) -> None:
    """Without a token no call is made; the command to sign in is shown."""
    del tidegate.environment["TIDEGATE_TOKEN"]
    ran = tidegate(*words)
    assert (ran.code, server.calls) == (3, [])
    assert f"tidegate login {server.url}" in ran.err


def test_no_server_known_is_told(tidegate: Shell) -> None:
    """On a fresh machine the first command says how to begin."""
    del tidegate.environment["TIDEGATE_SERVER"]
    ran = tidegate("requests")
    assert ran.code == 2
    assert ran.err.endswith("\nnext: run: tidegate login ADDRESS\n")


def test_escape_sequence_of_a_server_is_neutralised(tidegate: Shell, server: FakeServer) -> None:
    """No text of a server reaches the terminal unescaped: names, reasons, states, errors, JSON."""
    evil = a_request(
        says=ESCAPE, reason=f"x{ESCAPE}\r\n\u202ey", state=ESCAPE, principal={"name": ESCAPE}
    )
    server.on("GET", f"/api/requests/{RQ}", evil)
    server.on("GET", "/api/requests", {"requests": [evil], "next_before": ESCAPE})
    server.on("POST", f"/api/requests/{RQ}/withdraw", (409, problem("x", ESCAPE, help=ESCAPE)))
    for words in (("requests",), ("requests", RQ), ("requests", "--json"), ("withdraw", RQ)):
        ran = tidegate(*words)
        assert not {"\x1b", "\r", "\u202e"} & set(ran.out + ran.err), words
        assert "x1b" in ran.out + ran.err or "u001b" in ran.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing",), "no such command"),
        (("requests", "--nothing"), "no such option"),
        (("withdraw",), "missing argument"),
        (("requests", "--state", "x"), "invalid value"),
        (("requests", "--waiting", "--all"), "expected `--waiting` or `--all`"),
        (("request", "--for", "45m", "--reason", "r"), "at least one role"),
        (("request", "a/b", "--reason", "r"), "expected `--for DURATION`"),
        (("request", "a/b", "--for", "45m"), "expected `--reason TEXT`"),
        (("request", "a/b", "--for", "0m", "--reason", "r"), "expected a duration above zero"),
        (("request", "a/b", "--for", "-5m", "--reason", "r"), "expected a duration above zero"),
        (("request", "a/b", "--for", "5m", "--reason", "r", "--start", "x"), "expected an instant"),
        (("request", "a/b", "--timeout", "5m"), "expected `--wait`"),
        (("exec", GR), "expected a command, got none"),
    ],
)  # fmt: skip
def test_wrong_use_is_code_2_without_a_call(
    tidegate: Shell, server: FakeServer, words: tuple[str, ...], said: str
) -> None:
    """What is typed wrongly is told in two lines before any server is asked."""
    ran = tidegate(*words)
    assert (ran.code, ran.out, server.calls) == (2, "", [])
    error, following = ran.err.strip().splitlines()
    assert said in error
    assert following.startswith("next: ")
    told = json.loads(tidegate(words[0], "--json", *words[1:]).err)
    assert told["family"] == "asked_wrongly"


def test_tidegate_alone_prints_its_help(tidegate: Shell) -> None:
    """Nothing typed is no mistake: the help is shown."""
    ran = tidegate()
    assert ran.code == 0
    assert "Run a server:" in ran.out
    assert tidegate("evidence").code == 0


def test_bug_of_ours_is_told_without_a_traceback_or_secret(
    tidegate: Shell, local: FakeLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug exits 70 and names its place; the message, which may hold anything, is not shown."""

    def broken(*_: object) -> int:
        raise KeyError("the secret")

    monkeypatch.setattr(local, "demo", broken)
    ran = tidegate("demo")
    assert ran.code == 70
    assert "KeyError at test_every_command.py" in ran.err
    assert "Traceback" not in ran.err and "the secret" not in ran.err


def test_interrupt_is_130(
    tidegate: Shell, local: FakeLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends any command with 130 and no traceback."""

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "demo", interrupted)
    ran = tidegate("demo")
    assert (ran.code, ran.out) == (130, "")


def test_closed_pipe_is_quiet(server: FakeServer, tmp_path: Path) -> None:
    """`tidegate --help | head -0` says nothing on stderr."""
    code = "from tidegate.shell.cli import program; program(None)"
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    assert reader.stdin is not None
    reader.wait()
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        stdout=reader.stdin,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.stderr == b""


def test_heavy_import_at_start_is_found() -> None:
    """Help and errors load nothing that is only needed later: start time is paid every time."""
    code = (
        "import sys; from tidegate.shell.cli.commands import make_program;"
        "make_program(None)\n"
        "heavy = {'http.client', 'ssl', 'cryptography', 'sqlalchemy', 'rich', 'litestar', 'json',"
        " 'msgspec', 'orjson', 'asyncio', 'boto3', 'subprocess', 'zipfile'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class _Always(dict[object, object]):
    """Answers everything alike."""

    def __init__(self, reply: tuple[int, bytes]) -> None:
        super().__init__()
        self._reply = reply

    def get(self, *_: object) -> tuple[int, bytes]:
        """The one reply."""
        return self._reply
