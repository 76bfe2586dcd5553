"""What a look finds before anything opens, and what can be said offline: settings and entries."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import tidegate_standin
from tests.connectors.identity_center_world import ACCOUNT, ANYTHING, MANAGEMENT, Center, running
from tidegate.base.errors import AskedWrongly, Refused
from tidegate.catalogue import Role, Target
from tidegate.connectors.aws_rights import Identity, Option
from tidegate.connectors.by_kind import ByKind
from tidegate.connectors.identity_center import IdentityCenterConnector
from tidegate.connectors.identity_center_settings import (
    AccountSettings,
    Deny,
    Handed,
    read_iso_duration,
)
from tidegate.connectors.port import Scope, Trouble
from tidegate.connectors.simulated import SimulatedConnector
from tidegate.main.clouds import Clouds, offline_connectors
from tidegate.main.config import load_catalogue, load_config
from tidegate.main.faults import SettingsBroken

ARN = "arn:aws:sso:::permissionSet/ssoins-7223000000000001/ps-1111111111111111"


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


@pytest.fixture
def center(cloud: tidegate_standin.Running) -> Center:
    """A fresh organisation, in which each identity has exactly the rights of the table."""
    return Center(cloud).narrow()


def found(
    center: Center, connector: IdentityCenterConnector | None = None
) -> Mapping[str, Trouble]:
    """The findings of one look, by code."""
    health = (connector or center.connector).health(center.target, center.now())
    assert health.reached
    return {one.code: one for one in health.findings}


def wide(center: Center) -> Center:
    """The same with identities that may do anything, for what the closer's rights would hide."""
    for identity in Identity:
        center.allow(identity, ANYTHING)
    return center


def test_sound_instance_has_no_finding(center: Center) -> None:
    """Reached, the clocks agree, both identities may do their part."""
    health = center.connector.health(center.target, center.now())
    assert health.findings == ()
    assert health.reached and health.cloud_at is not None
    assert "opener" in health.identity and "closer" in health.identity


def test_clocks_apart_are_found(center: Center) -> None:
    """Five minutes between our clock and AWS's shut the target."""
    now = center.now() - timedelta(minutes=5)
    health = center.connector.health(center.target, now)
    assert [one.code for one in health.findings] == ["clocks_apart"]


def test_session_above_an_hour_is_found(center: Center) -> None:
    """A permission set above PT1H shuts, and so does one that is not what its entry says."""
    center.admin.seed(permission_sets=[{"name": center.name, "session_duration": "PT2H"}])
    told = found(center)
    assert told["session_too_long"].shuts
    assert told["other_session"].shuts
    assert "PT2H" in told["other_session"].message


def test_right_missing_for_closing_is_found_by_name(center: Center) -> None:
    """The closer may not remove: named with the call, and shut."""
    refuse = {"Effect": "Deny", "Action": "sso:DeleteAccountAssignment", "Resource": "*"}
    allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": [allow, refuse]}
    center.admin.policies("closer", [document])
    missing = found(center)["missing_right"]
    assert "sso:DeleteAccountAssignment" in missing.message
    assert missing.shuts


def test_closing_is_read_where_it_cannot_be_simulated(center: Center) -> None:
    """Without the simulator a harmless read of each listing stands in: what it refuses shuts."""
    actions = ["iam:SimulatePrincipalPolicy", "sso:GetInlinePolicyForPermissionSet"]
    refuse = {"Effect": "Deny", "Action": actions, "Resource": "*"}
    allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    center.admin.policies("closer", [{"Version": "2012-10-17", "Statement": [allow, refuse]}])
    told = found(center)
    assert not told["rights_untold"].shuts
    assert told["access_denied"].shuts


def test_other_instance_or_store_is_found(center: Center) -> None:
    """Settings of another organisation shut before anything is asked of the wrong one."""
    other = "arn:aws:sso:::instance/ssoins-0000000000000000"
    connector = center.connect(center.made_settings(instance=other))
    assert found(center, connector)["other_instance"].shuts
    connector = center.connect(center.made_settings(identity_store="d-0000000000"))
    assert found(center, connector)["other_identity_store"].shuts


def test_schedule_that_cannot_work_is_found(center: Center) -> None:
    """No group or no role there: a deadline in the cloud would never be kept."""
    assert center.settings.schedule is not None
    schedule = replace(
        center.settings.schedule, group="nowhere", role=f"arn:aws:iam::{MANAGEMENT}:role/Nobody"
    )
    told = found(wide(center), center.connect(center.made_settings(schedule=schedule)))
    assert told["no_schedule_group"].shuts
    assert told["no_schedule_role"].shuts


def test_scp_that_binds_nobody_is_found(center: Center) -> None:
    """Tidegate's SCP is not attached to the account: the deny in it would cut nobody."""
    organizations = center.client("broker", "organizations")
    made = organizations.create_policy(
        Name=f"TidegateCut-{center.name}",
        Description="x",
        Type="SERVICE_CONTROL_POLICY",
        Content='{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:x",'
        '"Resource":"*"}]}',
    )["Policy"]["PolicySummary"]
    connector = center.connect(center.made_settings(deny=Deny.SCP, scp=made["Id"]))
    assert found(wide(center), connector)["scp_not_attached"].shuts
    organizations.attach_policy(PolicyId=made["Id"], TargetId=ACCOUNT)
    center.narrow(Option.SCHEDULE, Option.SCP, scp=made["Arn"])
    assert found(center, connector) == {}


def test_unreached_instance_is_a_finding() -> None:
    """Nobody configured, or nobody answers: told, never raised."""
    target = Target(id="t", connector="aws", account=ACCOUNT)
    health = IdentityCenterConnector(None).health(target, tidegate_now())
    assert [one.code for one in health.findings] == ["no_settings"]


def tidegate_now() -> Any:
    """Some instant."""
    from tidegate.base.when import from_ms

    return from_ms(0)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("PT1H", timedelta(hours=1)),
        ("PT1H30M", timedelta(minutes=90)),
        ("PT45M", timedelta(minutes=45)),
        ("PT3600S", timedelta(hours=1)),
        ("PT", None),
        ("P1D", None),
        ("1h", None),
        ("", None),
    ],
)
def test_misread_session_duration_is_found(text: str, span: timedelta | None) -> None:
    """ISO 8601 as Identity Center writes it, and nothing else."""
    assert read_iso_duration(text) == span


def role(**native: str) -> Role:
    """A permission set's entry."""
    entry = {"arn": ARN, "session_seconds": "3600", **native}
    return Role(id="aws-prod/admin", kind="permission-set", native=entry)


@pytest.mark.parametrize(
    ("native", "word"),
    [
        ({"arn": "arn:aws:iam::123456789012:role/x"}, "permission set"),
        ({"arn": ARN.replace("7223", "9999", 1)}, "instance"),
        ({"session_seconds": "60"}, "15m to 12h"),
        ({"session_seconds": "86400"}, "15m to 12h"),
        ({"session_seconds": "7200"}, "at most 1h"),
    ],
)
def test_entry_that_would_fail_later_is_told_offline(
    center: Center, native: dict[str, str], word: str
) -> None:
    """A wrong ARN, another instance's, a session out of bounds or too long: one line each."""
    told = center.connector.check(center.target, role(**native), ())
    assert any(word in line for line in told)
    assert all(line.startswith("aws-prod/admin: ") for line in told)


def test_entry_without_a_deny_says_its_minutes(center: Center) -> None:
    """deny = none is said in minutes, and a sound entry is silent."""
    assert center.connector.check(center.target, role(), ()) == ()
    bare = center.connect(center.made_settings(deny=Deny.NONE))
    (told,) = bare.check(center.target, role(), ())
    assert "60 minutes" in told
    assert any(
        "identity_center" in line
        for line in IdentityCenterConnector(None).check(center.target, role(), ())
    )


def test_declared_side_door_lengthens_the_end(center: Center) -> None:
    """A role that says its holders may chain roles: an hour more, cut or not; unknown is told."""
    chained = replace(role(), allows=("sts:AssumeRole",))
    hour = timedelta(hours=1)
    connector, target = center.connector, center.target
    assert connector.residual(target, chained, cut=True) == hour
    assert connector.residual(target, chained, cut=False) == 2 * hour
    assert connector.exposure(target, chained).attended > hour
    unknown = replace(role(), allows=("s3:GetObject",))
    assert any("s3:GetObject" in line for line in connector.check(target, unknown, ()))


def test_unknown_kind_is_refused_by_the_dispatcher(center: Center) -> None:
    """Each verb goes to the role's kind; a kind nobody knows is named with those there are."""
    both = ByKind({"permission-set": center.connector, "iam-role": SimulatedConnector()})
    assert both.powers("permission-set").issues is False
    assert both.powers("iam-role").issues is True
    with pytest.raises(AskedWrongly) as asked:
        both.powers("gcp-role")
    assert asked.value.code == "unknown_kind"
    strange = Role(id="t/x", kind="gcp-role", native={"arn": "x"})
    assert "gcp-role" in both.check(center.target, strange, ())[0]
    with pytest.raises(Refused) as refused:
        both.key(center.target, strange, "gr_x", None)  # type: ignore[arg-type]
    assert refused.value.code == "unknown_kind"


def test_dispatcher_asks_only_the_kinds_a_target_has(center: Center) -> None:
    """Health of a target with permission sets does not ask about IAM roles there."""
    unset = IdentityCenterConnector(None)
    both = ByKind(
        {"permission-set": center.connector, "iam-role": unset},
        {center.target.id: frozenset({"permission-set"})},
    )
    assert both.health(center.target, center.now()).findings == ()
    everyone = ByKind({"permission-set": center.connector, "iam-role": unset})
    health = everyone.health(center.target, center.now())
    assert not health.reached
    assert [one.code for one in health.findings] == ["no_settings"]
    assert list(both.observe(Scope(target=center.target), center.now())) == []
    hold = center.hold()
    both.grant(hold, center.now())
    (seen,) = both.observe(Scope(target=center.target, hold=hold), center.now())
    assert seen.usable


SETTINGS = f"""
[evidence]
origin = "a/b"

[identity_center]
instance = "arn:aws:sso:::instance/ssoins-7223000000000001"
identity_store = "d-9067000001"
region = "eu-central-1"
opener_access_key_id = "env:OPENER_ID"
opener_secret_access_key = "env:OPENER_SECRET"
closer_access_key_id = "env:CLOSER_ID"
closer_secret_access_key = "env:CLOSER_SECRET"
propagation = "30s"

[identity_center.users]
ana = "9067700001-00000000-0000-4000-8000-000000000001"

[identity_center.schedule]
role = "arn:aws:iam::999999999999:role/TidegateSchedule"
dead_letter = "arn:aws:sqs:eu-central-1:999999999999:tidegate"

[[target]]
id = "aws-prod"
connector = "aws"
account = "111111111111"

[target.aws]
schedule = false

[[target.role]]
name = "admin"
kind = "permission-set"
arn = "{ARN}"
session = "45m"

[[target.role]]
name = "reader"
arn = "arn:aws:iam::111111111111:role/reader"
"""


def written(directory: Path, text: str = SETTINGS) -> Path:
    """The settings as a file."""
    path = directory / "tidegate.toml"
    path.write_text(text)
    return path


def test_settings_become_a_connector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key of the part arrives where it belongs, and both kinds are served."""
    for name in ("OPENER_ID", "OPENER_SECRET", "CLOSER_ID", "CLOSER_SECRET"):
        monkeypatch.setenv(name, name.lower())
    config = load_config(written(tmp_path))
    entry = load_catalogue(config).roles["aws-prod/admin"]
    assert entry.native == {"arn": ARN, "session_seconds": "2700"}
    clouds = Clouds()
    connector = clouds.connect(config)["aws"]
    assert clouds.connect(config)["aws"] is connector, "as before stays the same object"
    target = load_catalogue(config).targets["aws-prod"]
    exposure = connector.exposure(target, entry)
    assert exposure.unattended is None, "schedules are off for this target"
    assert connector.powers("permission-set").propagation == timedelta(seconds=30)
    assert connector.powers("iam-role").issues
    offline = offline_connectors(config)["aws"]
    assert offline.check(target, entry, ()) == ()


@pytest.mark.parametrize(
    ("before", "after", "line", "word"),
    [
        ("ssoins-7223000000000001", "x", 6, "instance/ssoins"),
        ("d-9067000001", "9067", 7, "d-1234567890"),
        ('"30s"', '"2h"', 13, "up to 30m"),
        ('"30s"', '"30s"\ndeny = "some"', 14, "permission-set"),
        ('"30s"', '"30s"\nmatch = "guess"', 14, "user_name"),
        ('"30s"', '"30s"\ndeny = "scp"', 6, "p-1a2b3c4d"),
        ("9067700001-00000000", "x", 16, "9067700001"),
        ("role/TidegateSchedule", "user/x", 19, "role/NAME"),
        ("arn:aws:sqs", "arn:aws:sns", 20, "arn:aws:sqs"),
        ('opener_secret_access_key = "env:OPENER_SECRET"\n', "", 9, "both"),
        ('"45m"', '"5m"', 34, "15m to 12h"),
        ('name = "reader"', 'name = "reader"\nsession = "1h"', 38, "permission set only"),
        ("schedule = false", 'schedule = "no"', 28, "true or false"),
    ],
)
def test_wrong_setting_is_told_with_its_line(
    tmp_path: Path, before: str, after: str, line: int, word: str
) -> None:
    """Each mistake names the file, the line, what was expected and what was got."""
    assert before in SETTINGS
    with pytest.raises(SettingsBroken) as broken:
        load_config(written(tmp_path, SETTINGS.replace(before, after, 1)))
    (fault,) = broken.value.faults
    assert word in fault.message
    assert fault.file == "tidegate.toml"
    assert abs(fault.line - line) <= 1, f"{fault.line}: {fault.message}"


def test_missing_part_is_said_for_each_entry(tmp_path: Path) -> None:
    """A permission set without `[identity_center]` is told offline."""
    text = (
        SETTINGS[: SETTINGS.index("[identity_center]")] + SETTINGS[SETTINGS.index("[[target]]") :]
    )
    config = load_config(written(tmp_path, text))
    catalogue = load_catalogue(config)
    entry = catalogue.roles["aws-prod/admin"]
    told = offline_connectors(config)["aws"].check(catalogue.targets["aws-prod"], entry, ())
    assert any("`[identity_center]`" in line for line in told)


def test_account_that_left_the_settings_is_still_closed(center: Center) -> None:
    """A target nobody configures any more: no schedule is promised, and its grants are closed."""
    settings = center.made_settings(targets={})
    connector = center.connect(settings)
    hold = center.hold()
    center.connector.grant(hold, center.now())
    connector.revoke(hold, center.now())
    connector.cut(hold, center.now())
    assert center.see(hold, connector).cut
    assert settings.account(center.target) == AccountSettings(schedule=False)
    assert (
        Handed(role="x", arn=ARN, session=timedelta(hours=1))
        not in settings.account(center.target).handed
    )
