"""Our block in a person's AWS configuration: what is theirs stays theirs."""

import os
import stat
from pathlib import Path

import pytest
from botocore.configloader import load_config
from hypothesis import given
from hypothesis import strategies as st

from tidegate.base.errors import AskedWrongly, Stale
from tidegate.broker import profiles as room
from tidegate.broker.profiles import BEGIN, END, Profile, merge, write_profiles

ADMIN = Profile(role="aws-prod/admin", region="eu-central-1")
READ = Profile(role="aws-prod/read", endpoint_url="http://127.0.0.1:4566", expiration="sts")
OWN = "# mine\r\n[default]\nregion=us-east-1\n\n[profile x]\noutput = json"

lines_of_a_file = st.lists(
    st.one_of(
        st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20),
        st.sampled_from(["[profile a]", "[default]", "region = x", "# note", "", BEGIN + "x"]),
    ),
    max_size=12,
).map("\n".join)


def test_block_is_what_aws_clients_read(tmp_path: Path) -> None:
    """botocore reads our profiles and the person's from the merged file."""
    path = tmp_path / "config"
    path.write_text(merge(OWN.replace("\r", ""), [ADMIN, READ]))
    assert load_config(str(path))["profiles"] == {
        "default": {"region": "us-east-1"},
        "x": {"output": "json"},
        "tidegate-aws-prod-admin": {
            "credential_process": "tidegate-credentials aws-prod/admin",
            "region": "eu-central-1",
        },
        "tidegate-aws-prod-read": {
            "credential_process": "tidegate-credentials aws-prod/read --expiration sts",
            "endpoint_url": "http://127.0.0.1:4566",
        },
    }


@given(lines_of_a_file, lines_of_a_file)
def test_everything_outside_stays_byte_for_byte(before: str, after: str) -> None:
    """Writing twice is as once; other profiles replace ours; taking ours out gives theirs back."""
    if before and not before.endswith(("\n", "\r")):
        before += "\n"
    text = merge(before, [ADMIN]) + after
    assert text.startswith(before) and text.endswith(after)
    assert merge(text, [ADMIN]) == text
    assert merge(merge(text, [READ]), [ADMIN]) == text
    assert merge(text, []) == before + after


def test_file_without_final_line_break_gets_one() -> None:
    """Our marker never joins the person's last line."""
    assert merge(OWN, [ADMIN]).startswith(OWN + "\r\n" + BEGIN)
    assert merge("", [ADMIN]).startswith(BEGIN)
    assert merge("", []) == ""


@pytest.mark.parametrize(
    "section",
    [
        "[profile tidegate-aws-prod-admin]",
        "  [profile   tidegate-aws-prod-admin]",
        '[profile "tidegate-aws-prod-admin"]',
        "[profile 'tidegate-aws-prod-admin'] # mine",
        "[\tprofile tidegate-aws-prod-admin ]",
    ],
)
def test_profile_of_the_person_is_never_replaced(section: str) -> None:
    """The same name outside the block is refused, however it is written."""
    with pytest.raises(AskedWrongly, match="tidegate-aws-prod-admin"):
        merge(f"{section}\nregion = x\n", [ADMIN])
    assert merge(f"{section}\nregion = x\n", [READ])


def test_keys_of_the_same_name_are_refused() -> None:
    """Static keys in the credentials file would win over the helper without a word."""
    with pytest.raises(AskedWrongly, match="tidegate-aws-prod-admin"):
        merge("", [ADMIN], "[tidegate-aws-prod-admin]\naws_access_key_id = AKIA\n")


@pytest.mark.parametrize(
    "text",
    [BEGIN, END, f"{END}\n{BEGIN}\n", f"{BEGIN}\n{BEGIN}\n{END}\n", f"{BEGIN}\n{END}\n{END}\n"],
)
def test_damaged_block_is_not_guessed_at(text: str) -> None:
    """With a marker missing, what is ours cannot be told from what is theirs."""
    with pytest.raises(AskedWrongly, match="marker"):
        merge(text, [ADMIN])


def test_two_roles_of_one_name_are_refused() -> None:
    """`a-b/c` and `a/b-c` would make one profile; so would a role given twice."""
    with pytest.raises(AskedWrongly, match="`a-b/c` and `a/b-c`"):
        merge("", [Profile(role="a-b/c"), Profile(role="a/b-c")])
    with pytest.raises(AskedWrongly):
        merge("", [ADMIN, ADMIN])


@pytest.mark.parametrize(
    "profile",
    [
        Profile(role="aws-prod"),
        Profile(role="aws-prod/admin\n[default]"),
        Profile(role="aws-prod/ADMIN"),
        Profile(role="a/b", region="x\ncredential_process = evil"),
        Profile(role="a/b", endpoint_url="http://x y"),
        Profile(role="a/b", endpoint_url="file:///etc/passwd"),
        Profile(role="a/b", expiration="never"),
        Profile(role="a/b", helper="x\ny"),
    ],
)
def test_value_that_would_leave_its_line_is_refused(profile: Profile) -> None:
    """Nothing from a server or a flag can write another line into the file."""
    with pytest.raises(AskedWrongly):
        merge("", [profile])


def test_helper_with_blanks_in_its_path_is_quoted() -> None:
    """AWS clients split the command like a shell."""
    text = merge("", [Profile(role="a/b", helper="/opt/my tools/tidegate-credentials")])
    assert "credential_process = '/opt/my tools/tidegate-credentials' a/b\n" in text


def test_write_keeps_mode_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file keeps its mode, a new one is 0600 in a 0700 folder, an unchanged one is untouched."""
    path = tmp_path / "old"
    path.write_text(OWN)
    path.chmod(0o644)
    write_profiles(str(path), [ADMIN])
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    inode = path.stat().st_ino
    write_profiles(str(path), [ADMIN])
    assert path.stat().st_ino == inode
    new = tmp_path / "new" / "config"
    write_profiles(str(new), [ADMIN])
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    assert stat.S_IMODE(new.parent.stat().st_mode) == 0o700
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]
    assert os.listdir(new.parent) == ["config"]


def test_linked_configuration_stays_a_link(tmp_path: Path) -> None:
    """People keep this file in a repository and link to it."""
    real, link = tmp_path / "dotfiles", tmp_path / "config"
    real.write_text("")
    link.symlink_to(real)
    write_profiles(str(link), [ADMIN])
    assert link.is_symlink() and BEGIN in real.read_text()


def test_file_changed_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor that saves between our reading and writing wins."""
    path = tmp_path / "config"
    path.write_text("")
    merged = room.merge

    def slow_merge(text: str, profiles: list[Profile], keys: str = "") -> str:
        path.write_text("[default]\n")
        return merged(text, profiles, keys)

    monkeypatch.setattr(room, "merge", slow_merge)
    with pytest.raises(Stale):
        write_profiles(str(path), [ADMIN])
    assert path.read_text() == "[default]\n"
    assert os.listdir(tmp_path) == ["config"]


def test_unreadable_configuration_is_told(tmp_path: Path) -> None:
    """Bytes that are no text, or a folder in its place: one sentence, nothing written."""
    path = tmp_path / "config"
    path.write_bytes(b"\xff\xfe[default]")
    with pytest.raises(AskedWrongly, match="UTF-8"):
        write_profiles(str(path), [ADMIN])
    with pytest.raises(AskedWrongly):
        write_profiles(str(tmp_path), [ADMIN])
    assert path.read_bytes() == b"\xff\xfe[default]"
