"""init, serve, check, demo, account: what the machine is asked for."""

from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.cli.fake import ESCAPE, FakeLocal
from tidegate.shell.cli.local import Account


@pytest.fixture
def config(tmp_path: Path) -> str:
    """An installation's settings."""
    path = tmp_path / "tidegate.toml"
    path.write_text("")
    return str(path)


def test_init_makes_the_first_operator(tidegate: Shell, local: FakeLocal) -> None:
    """Directory, origin and account are handed over; what to do next is printed, no password."""
    words = ("init", "/srv/t", "--origin", "t.example/log", "--operator", "ana", "--mail", "a@x.y")
    ran = tidegate(*words, "--password-file", "-", typed="a long password\n")
    account = Account(login="ana", password="a long password", mail="a@x.y")
    assert local.asked == [("init", Path("/srv/t"), "t.example/log", [account], "")]
    assert ran.code == 0
    assert "tidegate serve --config c.toml" in ran.out and "log+00+AA" in ran.out
    assert "a long password" not in ran.out + ran.err + repr(local.asked)
    assert tidegate("init", ".", "--origin", "o", "--json").json["config"] == "c.toml"
    assert tidegate("init", ".", "--origin", "o", "--mail", "a@x.y").code == 2
    assert tidegate("init", ".").code == 2


def test_serve_hands_over_and_exits_alike(tidegate: Shell, local: FakeLocal, config: str) -> None:
    """Address and port are optional; the exit code is the server's."""
    local.code = 1
    assert tidegate("serve", "--config", config, "--host", "::1", "--port", "1").code == 1
    assert local.asked == [("serve", Path(config), "::1", 1, "")]


@pytest.mark.parametrize(
    "words", [("serve",), ("check",), ("account", "list"), ("evidence", "rebuild", "--check")]
)
def test_missing_settings_are_told(tidegate: Shell, words: tuple[str, ...]) -> None:
    """Away from an installation, how to name or make one is said."""
    ran = tidegate(*words, "--config", "/no/such.toml")
    assert ran.code == 2
    assert "`/no/such.toml`" in ran.err and "tidegate init" in ran.err


def test_check_exits_2_on_an_error_only(tidegate: Shell, local: FakeLocal, config: str) -> None:
    """File, line, expected, got, what to do; warnings do not fail."""
    assert "nothing is wrong" in tidegate("check", "--config", config).out
    odd = {
        "level": "warning", "file": "a.cedar", "line": 3, "expected": "x", "got": f"y{ESCAPE}",
        "help": "mend",
    }  # fmt: skip
    local.findings = [odd]
    ran = tidegate("check", "--config", config)
    assert ran.code == 0
    assert "a.cedar:3: warning: expected x, got y\\x1b[31m" in ran.out and "next: mend" in ran.out
    local.findings = [odd, {"level": "error", "file": "t.toml", "line": 0, "got": "it is broken"}]
    ran = tidegate("check", "--config", config)
    assert ran.code == 2
    assert "t.toml: error: it is broken" in ran.out and "1 wrong, 1 odd" in ran.out
    told = tidegate("check", "--config", config, "--json").json
    assert (told["ok"], len(told["findings"])) == (False, 2)


def test_demo_is_played_as_asked(tidegate: Shell, local: FakeLocal) -> None:
    """`--json`, `--keep` and `--break` reach the demo, and its exit code is ours."""
    local.code = 1
    assert tidegate("demo", "--json", "--keep").code == 1
    assert tidegate("demo", "--break").code == 1
    assert tidegate("demo", "--database", "postgresql").code == 1
    assert local.asked == [
        ("demo", True, True, False, "sqlite"),
        ("demo", False, False, True, "sqlite"),
        ("demo", False, False, False, "postgresql"),
    ]


def test_accounts_are_managed(tidegate: Shell, local: FakeLocal, config: str) -> None:
    """add, list, disable, enable and passwd each ask the machine for just that."""
    at = ("--config", config)
    pipe = ("--password-file", "-")
    assert tidegate("account", "add", "cy", *at, *pipe, typed="long enough 1\n").code == 0
    assert tidegate("account", "passwd", "cy", *at, *pipe, typed="long enough 2\n").code == 0
    assert tidegate("account", "disable", "cy", *at).code == 0
    assert tidegate("account", "enable", "cy", *at).code == 0
    assert local.asked == [
        ("add", Account(login="cy", password="long enough 1")),
        ("passwd", "cy", "long enough 2"),
        ("enable", "cy", False),
        ("enable", "cy", True),
    ]
    lines = tidegate("account", "list", *at).out.splitlines()
    assert lines[1].split() == ["ana", "yes", "Ana", "sre"]
    assert lines[2].split() == ["bo", "no", "Bo\\x1b[31m", "-"]
    assert tidegate("account", "add", "cy", *at).code == 2


def test_worker_takes_both_duties_when_asked_for_one(
    tidegate: Shell, local: FakeLocal, config: str
) -> None:
    """Each flag alone names one duty; none, or both, names both."""
    for flags, duties in (
        ((), "all"),
        (("--open",), "open"),
        (("--close",), "close"),
        (("--open", "--close"), "all"),
    ):
        assert tidegate("worker", "--config", config, *flags).code == 0
        assert local.asked.pop() == ("work", Path(config), duties)
    assert "PostgreSQL" in tidegate("worker", "--help").out
    assert tidegate("serve", "--config", config, "--worker", "some").code == 2
