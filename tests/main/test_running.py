"""What a running process keeps: laws that were in force, ways to clouds, checkpoints outside."""

import os
from collections.abc import Iterator
from functools import partial

import pytest

from tests.main.conftest import ORIGIN, TARGET, Home
from tests.support import World
from tidegate.base.errors import AskedWrongly, EvidenceBroken, EvidenceClosed
from tidegate.base.fact import Step
from tidegate.catalogue import Role, Target
from tidegate.connectors.port import Connector
from tidegate.evidence.checkpoint import parse_checkpoint, sign_checkpoint
from tidegate.evidence.note import FileSigner, parse_signer
from tidegate.evidence.witness import publish_to_directory
from tidegate.flow.house import House
from tidegate.flow.look_hands import LOOK_HANDS
from tidegate.flow.people import LOCAL, record
from tidegate.main import local
from tidegate.main.clouds import Clouds
from tidegate.main.config import load_config
from tidegate.main.wiring import (
    LawWatch,
    open_house,
    open_store,
    outside_of,
    publish,
    start,
    witnesses_of,
)
from tidegate.shell.metrics import Metrics

AWS = """
[[target]]
id = "{id}"
connector = "aws"
account = "123456789012"
[target.aws]
region = "{region}"
access_key_id = "env:TIDEGATE_TEST_ID"
secret_access_key = "env:TIDEGATE_TEST_KEY"
[[target.role]]
name = "admin"
arn = "arn:aws:iam::123456789012:role/admin"
"""


def aws(id: str = "prod", region: str = "us-east-1") -> str:
    """One AWS target."""
    return AWS.format(id=id, region=region)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The secrets of `aws` are there, until a test takes them away."""
    monkeypatch.setenv("TIDEGATE_TEST_ID", "x")
    monkeypatch.setenv("TIDEGATE_TEST_KEY", "y")
    return monkeypatch


def knows(connector: Connector, id: str) -> bool:
    """Whether a connector has settings for a target."""
    role = Role(id=f"{id}/admin", kind="iam-role", native={})
    target = Target(id=id, connector="aws", account="123456789012")
    return "expected settings" not in str(connector.check(target, role, ()))


def test_vanished_target_cannot_be_closed(home: Home, keys: pytest.MonkeyPatch) -> None:
    """A target that left the file stays reachable, also when its secrets left with it."""
    clouds = Clouds()
    clouds.connect(load_config(home.settings(aws("old") + aws("new"))))
    without = clouds.connect(load_config(home.settings(aws("new", "eu-central-1"))))
    assert knows(without["aws"], "old")
    keys.delenv("TIDEGATE_TEST_KEY")
    made = clouds.connect(load_config(home.settings(TARGET)))
    assert sorted(made) == ["aws", "simulated"]
    assert knows(made["aws"], "old")
    assert not knows(made["aws"], "never")


def test_connector_loses_its_memory_with_every_rule(home: Home, keys: pytest.MonkeyPatch) -> None:
    """Settings that did not change keep their connector; changed ones make it anew."""
    clouds = Clouds()
    first = clouds.connect(load_config(home.settings(aws() + TARGET.replace("prod", "sim"))))
    again = clouds.connect(load_config(home.config))
    assert (again["aws"], again["simulated"]) == (first["aws"], first["simulated"])
    moved = clouds.connect(load_config(home.settings(aws(region="eu-central-1"))))
    assert moved["aws"] is not first["aws"]
    assert moved["simulated"] is first["simulated"]


def test_broken_secret_takes_connectors_away(home: Home, keys: pytest.MonkeyPatch) -> None:
    """A secret that cannot be read changes nothing of what was reachable."""
    clouds = Clouds()
    first = clouds.connect(load_config(home.settings(aws())))
    keys.delenv("TIDEGATE_TEST_ID")
    with pytest.raises(AskedWrongly):
        clouds.connect(load_config(home.settings(aws() + aws("more"))))
    assert clouds.connect(load_config(home.settings(""))) == first


@pytest.fixture
def house(home: Home) -> Iterator[House]:
    """The house of the installation, without its worker."""
    made = open_house(load_config(home.config))
    yield made
    made.store.close()


@pytest.mark.parametrize("name", ["groups.toml", "policies"])
def test_lost_file_changes_what_is_in_force(home: Home, house: House, name: str) -> None:
    """While groups or rules are missing, what was in force stays, and it is told; then it heals."""
    clouds = Clouds()
    watch = LawWatch(home.config, load_config(home.config), clouds)
    before = house.laws
    (home.directory / name).rename(home.directory / "away")
    with pytest.raises(AskedWrongly, match="cannot read"):
        watch.look(house)
    assert watch.look(house) == []  # told once
    assert house.laws is before
    assert watch.fault is not None
    (home.directory / "away").rename(home.directory / name)
    watch.look(house)
    assert watch.fault is None


@pytest.mark.parametrize("between", ["", "no TOML ["], ids=["at once", "after a broken one"])
def test_groups_whose_rules_could_not_be_sealed_stay(
    home: Home, house: House, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    """New groups came into force and the rules beside them did not; then the old files are put
    back as they were: so are the groups.
    """
    watch = LawWatch(home.config, load_config(home.config), Clouds())
    groups, rules = home.directory / "groups.toml", home.directory / "policies" / "rules.cedar"
    old = {file: (file.read_text(), file.stat().st_mtime_ns) for file in (groups, rules)}
    groups.write_text(old[groups][0].replace("members = []", 'members = ["op"]', 1))
    rules.write_text(RULE)
    commit = house.store.commit

    def away(step: Step, *more: object, **others: object) -> object:
        if any(fact.name == "rules.activated" for fact in step.facts):
            raise EvidenceClosed("evidence_closed", "the connection was lost", "")
        return commit(step, *more, **others)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(house.store, "commit", away)
        with pytest.raises(EvidenceClosed):
            watch.look(house)
    assert "tidegate-auditors" in member_of(house)
    if between:
        groups.write_text(between)
        with pytest.raises(AskedWrongly):
            watch.look(house)
    for file, (text, at) in old.items():
        file.write_text(text)
        os.utime(file, ns=(at, at))
    watch.look(house)
    assert "tidegate-auditors" not in member_of(house)


RULE = """@id("a") @max("1h") @approve("1 of group:sre")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"prod");
"""


def member_of(house: House) -> set[str]:
    """The groups that anybody is in."""
    return {one.group for one in house.store.memberships()}


def witnessed(home: Home, house: House) -> None:
    """The newest checkpoint is in the witness directory."""
    directory = home.directory / "witness"
    directory.mkdir(exist_ok=True)
    publish_to_directory(directory, house.store.head().checkpoint_text)


def test_witness_directory_is_not_asked(home: Home) -> None:
    """The whole log is held against the witnessed checkpoint too, and the report says so."""
    config = load_config(home.config)
    assert local.verify_log(home.config, ()).as_json()["since"] == []
    made = open_house(config)
    witnessed(home, made)
    note = made.store.head().checkpoint_text
    size = made.store.head().size
    made.store.close()
    report = local.verify_log(home.config, (note,))
    assert report.ok
    assert report.as_json()["since"] == [
        {"from": "--since", "size": size},
        {"from": "witness/latest", "size": size},
    ]
    assert report.report.remembered == (size, size)


def test_rolled_back_log_holds_beside_its_witness(home: Home) -> None:
    """A log shorter than its own witness directory says is found without any `--since`."""
    signer = parse_signer((home.directory / "keys" / "log.key").read_text())
    (home.directory / "other").mkdir()
    longer = World(home.directory / "other", signer=signer)
    longer.granted()
    witnessed(home, longer.house)
    longer.down()
    assert not local.verify_log(home.config, ()).ok


def test_foreign_checkpoint_is_believed(home: Home) -> None:
    """A witness directory of another key is evidence that does not hold, not one to skip."""
    store = open_store(load_config(home.config))
    head = store.head()
    store.close()
    foreign = sign_checkpoint(parse_checkpoint(head.checkpoint_text), FileSigner(ORIGIN, b"z" * 32))
    home.write("witness/latest", foreign)
    with pytest.raises(EvidenceBroken):
        local.verify_log(home.config, ())


def forked_log(home: Home) -> House:
    """The installation's house, on a log that parted from the witnessed one and outgrew it."""
    config = load_config(home.config)
    database = home.directory / "tidegate.db"
    kept = database.read_bytes()
    house = open_house(config)
    record(house, LOCAL, "before", house.now())
    publish(house, witnesses_of(config, house))
    house.store.close()
    database.write_bytes(kept)
    house = open_house(config)
    for number in range(3):
        record(house, LOCAL, f"after-{number}", house.now())
    return house


def test_forked_log_starts_with_an_open_gate(home: Home) -> None:
    """A process that starts on an older database that grew knows before anything opens; the figures
    say so, and closing is not asked.
    """
    config = load_config(home.config)
    house = forked_log(home)
    witness = witnesses_of(config, house)
    witness.check()
    house.outside = partial(outside_of, house, witness)
    (trouble,) = house.outside(house.now())
    assert (trouble.code, trouble.shuts) == ("log_forked", True)
    assert b"tidegate_log_forked 1.0" in Metrics(house).render("")[0]
    with pytest.raises(EvidenceBroken):
        publish(house, witness)
    house.store.close()
    assert not local.verify_log(home.config, ()).ok


def test_fork_is_hidden_behind_a_newer_latest(home: Home) -> None:
    """Where an older release let the longer history take `latest`, the files by size show it."""
    config = load_config(home.config)
    house = forked_log(home)
    directory = home.directory / "witness"
    (directory / "latest").write_text(house.store.head().checkpoint_text)
    assert witnesses_of(config, house).forked() is None
    house.store.close()
    told = local.verify_log(home.config, ())
    assert not told.ok
    assert {"from": "1 more of the witnesses", "size": told.report.remembered[0]} in told.as_json()[
        "since"
    ]


def test_sound_log_is_called_forked(home: Home) -> None:
    """A log that only grew is published, and holds against every checkpoint of it."""
    config = load_config(home.config)
    house = open_house(config)
    for number in range(3):
        record(house, LOCAL, f"new-{number}", house.now())
        made = witnesses_of(config, house)
        made.check()
        publish(house, made)
        assert made.forked() is None
    assert b"tidegate_log_forked 0.0" in Metrics(house).render("")[0]
    house.store.close()
    told = local.verify_log(home.config, ())
    assert told.ok and len(told.report.remembered) == 3


def test_process_that_closes_looks_with_one_hand(home: Home) -> None:
    """Every hand that `LookHands` counts on is a chore aside, so one silent cloud keeps one."""
    running = start(home.config)
    try:
        asides = [one.name for one in running.worker._chores if one.aside]
    finally:
        running.close()
    looking = [name for name in asides if name.startswith("reconcile")]
    assert looking == ["reconcile", *(f"reconcile {hand}" for hand in range(1, LOOK_HANDS))]
