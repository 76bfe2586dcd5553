"""`check` finds what `serve` would refuse, and what loads but leads nowhere."""

import pytest

from tests.main.conftest import TARGET, Home
from tidegate.base.errors import AskedWrongly
from tidegate.main import local

REFUSED = {
    "listen": ('[server]\nlisten = "0.0.0.0:8470"', "not_loopback"),
    "port": ('[server]\nlisten = "127.0.0.1:70000"', "bad_listen"),
    "no port": ('[server]\nlisten = "127.0.0.1"', "bad_listen"),
    "database": ('[database]\nurl = "mysql://h/x"', "bad_database"),
    "witness": ('[witness]\nurl = "http://elsewhere.invalid/"', "bad_witness"),
    "key": ("", "secret_missing"),
    "connector": ('[[target]]\nid="a"\nconnector="x"\naccount="1"', "no_connector"),
}


@pytest.mark.parametrize(("text", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_serve_refuses_passes_check(home: Home, text: str, code: str) -> None:
    """The same fault ends a start and is an error of `check`."""
    home.settings(text)
    (home.directory / "keys" / "log.key").unlink()
    assert code in {one["code"] for one in home.told() if one["level"] == "error"}
    with pytest.raises(Exception) as told:
        local.serve(home.config, "", 0)
    assert getattr(told.value, "code", "") == code


@pytest.mark.parametrize("key", ["file:keys/log.key", "env:TIDEGATE_TEST_NO_KEY"])
def test_missing_key_is_to_be_made_anew(home: Home, key: str) -> None:
    """A log has the key it was made with: it is to be put back, and a new one is another log's."""
    settings = home.config.read_text().replace("file:keys/log.key", key)
    home.config.write_text(settings)
    (home.directory / "keys" / "log.key").unlink()
    with pytest.raises(AskedWrongly) as told:
        local.serve(home.config, "", 0)
    assert told.value.code == "secret_missing" and key.partition(":")[2] in told.value.message
    assert told.value.help.startswith("put the log's key back") and "`init`" in told.value.help


def test_address_behind_a_proxy_is_an_error(home: Home) -> None:
    """Beyond loopback is fine once a proxy that ends TLS is said to be there."""
    home.settings('[server]\nlisten = "[::]:443"\nbehind_tls_proxy = true')
    assert not [one for one in home.told() if one["level"] == "error"]


def test_first_installation_is_faulty(home: Home) -> None:
    """What `init` makes has no error; that nothing can be asked for yet is told."""
    assert [(one["code"], one["level"]) for one in home.told()] == [
        ("no_targets", "warning"),
        ("no_rules", "warning"),
    ]


def test_settings_that_lead_nowhere_are_not_told(home: Home) -> None:
    """Odd names, labels, owners and a missing `own` load, and are warnings with their lines."""
    home.settings(
        '[identity]\noperators = "ops"\nauditors = "none-such"\n[[target]]\nid = "a"\n'
        'connector = "aws"\naccount = "1"\nowner = "ana"\nlabels = ["env=prod", "prod"]\n'
        "[target.aws]"
    )
    home.write("groups.toml", '[group.ops]\nmembers = []\nwithin = ["nowhere"]\n')
    assert home.lines() >= {
        ("no_operators", "tidegate.toml", 2),
        ("unknown_group", "tidegate.toml", 3),
        ("unknown_owner", "tidegate.toml", 8),
        ("odd_label", "tidegate.toml", 9),
        ("own_not_named", "tidegate.toml", 10),
        ("unknown_group", "groups.toml", 3),
    }


def test_login_without_account_is_not_told(home: Home) -> None:
    """A login nobody made is named; without a database nobody can tell, and nothing is said."""
    home.write(
        "groups.toml",
        '[group.tidegate-operators]\nmembers = ["op", "typo"]\n[group.tidegate-auditors]\n',
    )
    told = [one for one in home.told() if one["code"] == "unknown_login"]
    assert [(one["line"], one["level"]) for one in told] == [(2, "warning")]
    (home.directory / "tidegate.db").unlink()
    codes = {one["code"] for one in home.told()}
    assert "unknown_login" not in codes
    assert "no_database" in codes


def test_requirement_nobody_can_meet_is_not_told(home: Home) -> None:
    """Asking two people of a group of one is told; members of inner groups count."""
    home.write("policies/rules.cedar", RULE)
    home.write("groups.toml", GROUPS)
    told = [one for one in home.told() if one["code"] in ("too_few", "empty_group")]
    assert [(one["file"], one["line"]) for one in told] == [("rules.cedar", 1)]
    home.write("groups.toml", GROUPS + '[group.more]\nmembers = ["ana"]\nwithin = ["leads"]\n')
    assert not [one for one in home.told() if one["code"] in ("too_few", "empty_group")]


RULE = """@id("x") @max("1h") @approve("2 of group:leads")
permit (principal, action == Action::"request", resource);
"""
GROUPS = '[group.tidegate-operators]\nmembers = ["op"]\n[group.leads]\nmembers = ["op"]\n'


def test_role_a_cloud_could_not_take_is_on_line_zero(home: Home) -> None:
    """What a connector objects to stands on the line of the value; a missing `arn` on its role."""
    home.settings(TARGET.replace('"admin"', '"admin"\nkind = "iam-rule"'))
    assert {one["line"] for one in home.told() if one["code"] == "bad_role"} == {9}
    home.settings(TARGET.replace('arn = "some text"', "").replace("simulated", "aws"))
    assert {one["line"] for one in home.told() if one["code"] == "bad_role"} == {7}
    home.settings(TARGET.replace("simulated", "aws"))
    assert {one["line"] for one in home.told() if one["code"] == "bad_role"} == {9}


def test_check_writes(home: Home) -> None:
    """A check leaves every file as it was, and makes none."""
    home.settings(TARGET.replace("simulated", "aws"))

    def seen() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in sorted(home.directory.rglob("*"))
            if path.is_file()
        }

    before = seen()
    home.told()
    assert seen() == before
    assert not (home.directory / "locks").exists()
