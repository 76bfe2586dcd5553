"""onboard aws: what is asked of the machine, and where the document goes."""

from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.cli.fake import FakeLocal
from tidegate.shell.cli.local import AwsAsked

ROLE = "arn:aws:iam::111122223333:role/admin"


@pytest.fixture
def config(tmp_path: Path) -> str:
    """An installation's settings."""
    path = tmp_path / "tidegate.toml"
    path.write_text("")
    return str(path)


def test_document_is_printed_as_it_is(tidegate: Shell, local: FakeLocal, config: str) -> None:
    """The document alone is on stdout, for pipes; the installation's settings are named."""
    ran = tidegate("onboard", "aws", "--emit", "terraform", "--config", config)
    assert (ran.code, ran.out, ran.err) == (0, '{"format": "fake"}\n', "")
    assert local.asked == [("onboard", Path(config), "terraform", AwsAsked())]


def test_roles_by_name_need_no_installation(tidegate: Shell, local: FakeLocal) -> None:
    """Every option reaches the machine, and no settings are read."""
    words = ("--role-arn", ROLE, "--permission-set", "ps", "--account", "1", "--account", "2")
    more = ("--hub", "3", "--region", "r", "--instance", "i", "--identity-store", "d")
    last = ("--deny", "scp", "--scp", "p", "--no-schedules")
    assert tidegate("onboard", "aws", "--emit", "json", *words, *more, *last).code == 0
    asked = AwsAsked(
        roles=(ROLE,), sets=("ps",), accounts=("1", "2"), hub="3", region="r", instance="i",
        store="d", deny="scp", scp="p", schedules=False,
    )  # fmt: skip
    assert local.asked == [("onboard", None, "json", asked)]


def test_json_is_the_form_json(tidegate: Shell, local: FakeLocal) -> None:
    """`--json` is `--emit json`; both in agreement are fine, and at odds are told."""
    assert tidegate("onboard", "aws", "--json", "--role-arn", ROLE).json == {"format": "fake"}
    assert tidegate("onboard", "aws", "--json", "--emit", "json", "--role-arn", ROLE).code == 0
    assert [form for _, _, form, _ in local.asked] == ["json", "json"]
    ran = tidegate("onboard", "aws", "--json", "--emit", "terraform", "--role-arn", ROLE)
    assert (ran.code, ran.out) == (2, "")
    assert '"usage"' in ran.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--role-arn", ROLE), "expected `--emit`"),
        (("--emit", "pulumi", "--role-arn", ROLE), "pulumi"),
        (("--emit", "json", "--config", "x", "--role-arn", ROLE), "got both"),
        (("--emit", "json", "--config", "x", "--account", "1"), "got both"),
        (("--emit", "json", "--config", "/no/such.toml"), "/no/such.toml"),
        (("--emit", "json", "--deny", "all", "--role-arn", ROLE), "all"),
    ],
)
def test_wrong_options_are_told(
    tidegate: Shell, local: FakeLocal, words: tuple[str, ...], told: str
) -> None:
    """What does not fit is an error of ours, and nothing is made."""
    ran = tidegate("onboard", "aws", *words)
    assert (ran.code, ran.out) == (2, "")
    error, following = ran.err.strip().splitlines()
    assert told in error and following.startswith("next: ")
    assert not local.asked


def test_document_goes_to_a_file(tidegate: Shell, tmp_path: Path) -> None:
    """`-o FILE` writes it, again too; a place that cannot be written is told."""
    file = tmp_path / "rights.json"
    words = ("onboard", "aws", "--emit", "json", "--role-arn", ROLE, "-o")
    assert "written to" in tidegate(*words, str(file)).out
    assert tidegate(*words, str(file)).code == 0
    assert file.read_text() == '{"format": "fake"}\n'
    ran = tidegate(*words, str(tmp_path / "no" / "rights.json"))
    assert ran.code == 2 and "cannot write" in ran.err and ran.out == ""
    told = tidegate("onboard", "aws", "--json", "--role-arn", ROLE, "-o", str(file)).json
    assert told == {"written": str(file), "form": "json"}
