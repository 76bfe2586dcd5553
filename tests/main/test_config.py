"""Settings: secrets never show, every fault has its own line, and a missing file is not empty."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.main.conftest import TARGET, Home
from tidegate.base.duty import Duty
from tidegate.base.errors import AskedWrongly, TidegateError
from tidegate.main.config import database_path, load_config, load_rule_files, secret
from tidegate.main.faults import SettingsBroken
from tidegate.main.groups import load_groups, people
from tidegate.main.places import Places
from tidegate.main.wiring import read_signer, start

SECRETS = {
    "key as it is": '[evidence]\norigin = "a/b"\nkey = "hunter2"',
    "key in the wrong place": '[evidence]\norigin = "a/b"\nkey = "env:hunter2"',
    "database": '[database]\nurl = "postgres://u:hunter2@h/db"\n[evidence]\norigin = "a/b"',
    "database without scheme": '[database]\nurl = "hunter2"\n[evidence]\norigin = "a/b"',
    "witness": '[witness]\nurl = "https://u:hunter2@h/"\n[evidence]\norigin = "a/b"',
    "cloud": '[evidence]\norigin = "a/b"\n[[target]]\nid = "t"\nconnector = "aws"\naccount = "1"\n'
    '[target.aws]\naccess_key_id = "hunter2"\nsecret_access_key = "hunter2"',
    "wrong type": '[evidence]\norigin = "a/b"\nkey = ["hunter2"]',
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_secret_in_the_settings_is_shown(home: Home, text: str) -> None:
    """Whoever writes a secret where its name belongs is told so, without seeing it again."""
    home.write("tidegate.toml", text)
    told = home.told()
    assert any(one["level"] == "error" for one in told)
    assert "hunter2" not in str(told)
    try:
        read_signer(load_config(home.config))
    except TidegateError as fault:
        assert "hunter2" not in f"{fault.message} {fault.help}"


def test_unset_variable_is_not_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set is told by its name; one that is set, or a file, is read."""
    config = load_config(home.config)
    monkeypatch.delenv("TIDEGATE_NONE", raising=False)
    with pytest.raises(AskedWrongly, match="env:TIDEGATE_NONE"):
        secret(config, "env:TIDEGATE_NONE")
    monkeypatch.setenv("TIDEGATE_SOME", "x\n")
    assert secret(config, "env:TIDEGATE_SOME") == "x"
    home.write("empty", " \n")
    for name in ("empty", "nowhere", "a\0b"):
        with pytest.raises(AskedWrongly, match="secret file"):
            secret(config, f"file:{name}")


def test_missing_groups_file_empties_every_group(home: Home) -> None:
    """No groups file is a fault: taken for empty, it would lock every operator out."""
    config = load_config(home.config)
    (home.directory / "groups.toml").unlink()
    with pytest.raises(AskedWrongly) as told:
        load_groups(config)
    assert told.value.code == "config_missing"
    assert ("config_missing", "tidegate.toml", 19) in home.lines()


def test_missing_rules_directory_refuses_everything(home: Home) -> None:
    """No rules directory is a fault; an empty one is a rule set that permits nothing."""
    config = load_config(home.config)
    (home.directory / "policies" / "rules.cedar").unlink()
    assert load_rule_files(config) == {}
    (home.directory / "policies").rmdir()
    with pytest.raises(AskedWrongly) as told:
        load_rule_files(config)
    assert told.value.code == "config_missing"
    assert any(one["code"] == "config_missing" for one in home.told())


FAULTY = """\
home = "x"
[server]
listen = "0.0.0.0:8470"
nonsense = 1
[evidence]
origin = "a/b"
[[target]]
id = "Bad Name"
connector = "awz"
account = 12
time_zone = "Mars/Base"
labels = [
  "a=b",
  3,
]
[[target.role]]
nam = "x"
[[target]]
id = "two"
connector = "simulated"
account = "1"
[[target.role]]
name = "A"
[[target.role]]
name = "same"
[[target.role]]
name = "same"
[[target]]
id = "two"
connector = "simulated"
account = "1"
"""


def test_only_the_first_fault_is_told(home: Home) -> None:
    """Every fault of the settings is told at once, each with the line of its value."""
    home.write("tidegate.toml", FAULTY)
    assert [one["line"] for one in home.told()] == [
        1, 3, 4, 8, 9, 10, 11, 14, 16, 17, 23, 27, 29,
    ]  # fmt: skip
    with pytest.raises(SettingsBroken, match=r"^tidegate\.toml:1: .* \(and 12 more"):
        load_config(home.config)
    assert not any("tidegate.toml" in one["got"] for one in home.told())


def test_broken_syntax_has_no_line(home: Home) -> None:
    """What is no TOML is told with its line, also when the file ends too soon."""
    home.write("tidegate.toml", "a = 1\nb = = 2\n")
    assert home.lines() == {("config_syntax", "tidegate.toml", 2)}
    home.write("tidegate.toml", 'a = 1\nb = "x')
    assert home.lines() == {("config_syntax", "tidegate.toml", 2)}


def test_fault_of_another_file_is_put_on_the_settings(home: Home) -> None:
    """A fault of the groups or of a rule file names that file, and its line."""
    home.write(
        "groups.toml",
        '[group.ops]\nmembers = [\n  "ana",\n  "Bo",\n]\n[group."A B"]\n[group.x]\nmember = []\n',
    )
    (home.directory / "policies" / "bad.cedar").write_bytes(b"// \xff\n")
    told = home.lines()
    assert {one for one in told if one[1] == "groups.toml"} == {
        ("bad_login", "groups.toml", 4),
        ("bad_group", "groups.toml", 6),
        ("groups_value", "groups.toml", 8),
    }
    assert ("config_syntax", "bad.cedar", 0) in told


def test_member_of_an_inner_group_is_not_counted(home: Home) -> None:
    """Who is in a group is in every group that one is within, also through a circle."""
    home.write(
        "groups.toml",
        '[group.a]\nmembers = ["ana"]\nwithin = ["b"]\n[group.b]\nwithin = ["c", "a"]\n',
    )
    held = people(load_groups(load_config(home.config)))
    assert held == {name: frozenset({"ana"}) for name in ("a", "b", "c")}


KEYS = st.sampled_from(["a", "b-c", '"q.r"', "'l'", "d.e"])
VALUES = st.sampled_from(
    [
        "1.5",
        "[\n 1, # ]\n [2,\n'x'],\n]",
        '"""\n]\n"""',
        "{a = 1, 'b' = [2]}",
        "'''\n''''",
        "1979-05-27 07:32:00",
        '"\\" # ["',
        "''",
        "[]",
        "{}",
        "+inf",
    ]
)


@given(st.lists(st.tuples(KEYS, VALUES, st.sampled_from(["", "# [x]\n", "\n"])), max_size=6))
def test_line_of_a_value_drifts(parts: list[tuple[str, str, str]]) -> None:
    """Whatever stands before a value, in whatever spelling, its line is its own."""
    text = "".join(
        f"{before}[[t]]\n{key} = {value} # done\nmark = [0,\n {number}]\n"
        for number, (key, value, before) in enumerate(parts)
    )
    places, lines = Places(text), text.split("\n")
    for number in range(len(parts)):
        assert lines[places.line(("t", number, "mark", 1)) - 1] == f" {number}]"
        assert lines[places.line(("t", number)) - 1] == "[[t]]"


def test_sound_settings_are_refused(home: Home, tmp_path: Path) -> None:
    """What `init` writes, with a target, loads; paths start from the file."""
    with home.config.open("a") as file:
        file.write(TARGET)
    config = load_config(home.config)
    assert config.path("x") == home.directory.resolve() / "x"
    assert [one.id for one in config.target] == ["prod"]


def test_password_in_the_database_url_is_shown(home: Home) -> None:
    """A URL with a password is refused without showing it, and so is a worker nobody knows."""
    home.settings('[database]\nurl = "postgresql://tg:geheim@db/tg"\n[server]\nworker = "some"\n')
    with pytest.raises(SettingsBroken) as broken:
        load_config(home.config)
    assert {one.code for one in broken.value.faults} == {"bad_database", "bad_worker"}
    assert "geheim" not in str(broken.value.faults)
    home.settings('[database]\nurl = "postgresql://tg@db/tg"\npassword = "env:TIDEGATE_TEST_DB"\n')
    assert database_path(load_config(home.config)) is None


def test_second_process_on_sqlite_is_started(home: Home) -> None:
    """On SQLite one process does everything; anything less is refused with the way to more."""
    home.settings("")
    with pytest.raises(AskedWrongly) as refused:
        start(home.config, frozenset({Duty.CLOSE}))
    assert refused.value.code == "one_process" and "PostgreSQL" in refused.value.help
