"""The shared deny in the cloud: several writers, other people's edits, no room, an SCP as home."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import tidegate_standin
from tests.connectors.identity_center_world import (
    ACCOUNT,
    FAST,
    HOUR,
    MANAGEMENT,
    PROPAGATION,
    Center,
    running,
)
from tidegate.base.errors import Refused, Unknown
from tidegate.base.when import from_ms, parse_instant
from tidegate.catalogue import Target
from tidegate.connectors.identity_center_cut import DenyDocuments, Place
from tidegate.connectors.identity_center_deny import LONGEST_INLINE, parse, size
from tidegate.connectors.identity_center_ended import Ended, EndedGrants, parse_record, record
from tidegate.connectors.identity_center_settings import AccountSettings, Deny, Handed
from tidegate.connectors.port import Cut, Hold

OWN = {"Sid": "Own", "Effect": "Deny", "Action": "s3:DeleteBucket", "Resource": ["*"]}
THOUSAND = 1_000


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


@pytest.fixture
def center(cloud: tidegate_standin.Running) -> Center:
    """A fresh organisation."""
    return Center(cloud)


def ended(center: Center, user: str = "ana") -> Hold:
    """A grant that was opened, and removed and cut."""
    hold = center.hold(user)
    center.connector.grant(hold, center.now())
    center.connector.revoke(hold, center.now())
    center.connector.cut(hold, center.now())
    return hold


def cut_of(center: Center, hold: Hold) -> dict[str, Cut]:
    """What must stand of it, as whoever keeps the grants names it."""
    now = center.now()
    cut = Cut(
        until=now + PROPAGATION + HOUR,
        native_principal=hold.key.native_principal,
        before=now + PROPAGATION - timedelta(seconds=1),
    )
    return {hold.grant: cut}


def mend(center: Center, cuts: dict[str, Cut]) -> tuple[str, ...]:
    """One round of mending."""
    return center.connector.mend(center.target, center.role, cuts, center.now())


def test_thousand_revocations_by_two_writers_lose_nobody(center: Center, tmp_path: Path) -> None:
    """Two processes' writers on one document: every person is refused, never above the limit."""
    users = [f"90677{n:05d}-00000000-0000-4000-8000-{n:012d}" for n in range(THOUSAND)]
    writers = [DenyDocuments(center.settings, FAST, tmp_path) for _ in range(2)]
    closers = [center.connect()._closer(center.target) for _ in range(2)]
    for closer in closers:
        closer.user_is_there(users[0])
        closer.sso("describe_permission_set", PermissionSetArn=center.arn)
    place = Place(arn=center.arn, account=ACCOUNT)
    gone_at = center.now()
    sizes: set[int] = set()

    def cut(number: int) -> None:
        at = gone_at + timedelta(seconds=number % 90)
        done = writers[number % 2].cut(closers[number % 2], place, users[number], at, frozenset)
        if number % 50 == 0:
            sizes.add(size(center.policy()))
        assert done.before >= at + PROPAGATION

    center.put_policy(json.dumps({"Version": "2012-10-17", "Statement": [OWN]}))
    with ThreadPoolExecutor(96) as pool:
        list(pool.map(cut, range(THOUSAND)))
    document = parse(center.policy())
    assert document.own == (OWN,)
    assert max(sizes | {size(center.policy())}) <= LONGEST_INLINE
    read = writers[0].read(closers[0], place)
    for number, user in enumerate(users):
        until = document.denies.cut_until(read.whose(place, user))
        assert until is not None
        assert until >= gone_at + timedelta(seconds=number % 90) + PROPAGATION


def test_policy_of_the_owner_is_kept(center: Center) -> None:
    """What stood in the permission set stays as it was, before, while and after ours is there."""
    center.put_policy(json.dumps({"Version": "2012-10-17", "Id": "x", "Statement": OWN}))
    ended(center)
    document = json.loads(center.policy())
    assert document["Id"] == "x"
    assert document["Statement"][0] == OWN
    center.pass_time(2 * HOUR)
    assert mend(center, {}) == ()
    assert json.loads(center.policy())["Statement"] == [OWN]


def test_last_deny_takes_the_policy_with_it(center: Center) -> None:
    """Nobody else's statements and nothing of ours left: no empty policy stays behind."""
    ended(center)
    assert "TidegateCut" in center.policy()
    center.pass_time(HOUR)
    mend(center, {})
    assert "TidegateCut" in center.policy(), "kept for the session's life, and a margin"
    center.pass_time(timedelta(minutes=2))
    mend(center, {})
    assert center.policy() == ""


def test_deny_somebody_removed_is_put_back(center: Center) -> None:
    """Edited and provisioned by somebody else, the session acts again; mended, it does not."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    session = center.sign_in()
    center.connector.revoke(hold, center.now())
    cuts = cut_of(center, hold)
    center.connector.cut(hold, center.now())
    assert mend(center, cuts) == ()
    center.put_policy("")
    assert center.acts(session), "without the deny it acts, or this test proves nothing"
    assert not center.see(hold).cut
    assert mend(center, cuts) == (hold.grant,)
    assert not center.acts(session)
    assert center.see(hold).cut
    assert mend(center, cuts) == ()


def test_provisioned_in_between_is_provisioned_again(center: Center) -> None:
    """The document was written and its way into the account broke off: not cut, then mended."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    session = center.sign_in()
    center.connector.revoke(hold, center.now())
    cuts = cut_of(center, hold)  # of before the cut, however long that takes
    center.admin.fault("ProvisionPermissionSet", "conflict", count=1)
    with pytest.raises(Refused) as refused:
        center.connector.cut(hold, center.now())
    assert refused.value.code == "busy"
    assert center.acts(session)
    assert not center.see(hold).cut
    assert mend(center, cuts) == ()
    assert not center.acts(session)
    center.connector.cut(hold, center.now())
    assert center.see(hold).cut


def test_slow_provisioning_is_not_called_cut(center: Center) -> None:
    """Still under way within our patience: Unknown, and not seen cut until it is there."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    session = center.sign_in()
    center.connector.revoke(hold, center.now())
    center.admin.fault("ProvisionPermissionSet", "in_progress", count=1, describes=99, seconds=60)
    with pytest.raises(Unknown):
        center.connector.cut(hold, center.now())
    assert not center.see(hold).cut
    assert center.acts(session)
    center.pass_time(timedelta(minutes=2))
    center.connector.cut(hold, center.now())
    assert center.see(hold).cut
    assert not center.acts(session)


@pytest.mark.parametrize("operation", ["PutInlinePolicyToPermissionSet", "ProvisionPermissionSet"])
def test_lost_reply_in_a_cut_is_repeated(center: Center, operation: str) -> None:
    """Written, the answer lost: Unknown; again, it is found and brought to its end."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    session = center.sign_in()
    center.connector.revoke(hold, center.now())
    center.admin.fault(operation, "lost_reply", count=1)
    with pytest.raises(Unknown):
        center.connector.cut(hold, center.now())
    center.pass_time(timedelta(seconds=3))
    center.connector.cut(hold, center.now())
    assert center.see(hold).cut
    assert not center.acts(session)


def test_unreadable_policy_is_never_overwritten(center: Center) -> None:
    """What cannot be written back whole stays: refused by name, for a person to mend."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    center.connector.revoke(hold, center.now())
    twice = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Effect":"Deny",'
    twice += '"Action":"s3:*","Resource":"*"}]}'
    center.put_policy(twice)
    with pytest.raises(Refused) as refused:
        center.connector.cut(hold, center.now())
    assert refused.value.code == "bad_policy"
    assert center.policy() == twice


def test_cut_is_remembered_by_the_next_process(center: Center, tmp_path: Path) -> None:
    """Another process on the lock directory knows the cut; one without it goes by what is sealed,
    and claims nothing where nothing is."""
    connector = center.connect(lock_dir=tmp_path)
    hold = center.hold()
    connector.grant(hold, center.now())
    connector.revoke(hold, center.now())
    connector.cut(hold, center.now())
    assert center.see(hold, center.connect(lock_dir=tmp_path)).cut
    stranger = center.connect()
    assert not center.see(hold, stranger).cut
    sealed = center.see(hold, connector).cut_before
    assert sealed is not None
    assert center.see(replace(hold, cut_before=sealed), stranger).cut
    assert not center.see(replace(hold, cut_before=sealed + timedelta(minutes=1)), stranger).cut
    center.pass_time(timedelta(seconds=2))  # the cloud tells whole seconds
    stranger.revoke(hold, center.now())
    assert not center.see(replace(hold, cut_before=sealed), stranger).cut, (
        "its own removal came later than that cut reaches"
    )
    stranger.cut(hold, center.now())
    assert center.see(hold, stranger).cut


def test_earlier_cut_of_the_same_person_is_no_cut_of_this_grant(center: Center) -> None:
    """Made before the earlier cut ran out and opened after it: that entry proves nothing here."""
    first = center.hold()
    second = center.hold()
    center.connector.grant(first, center.now())
    center.connector.revoke(first, center.now())
    center.connector.cut(first, center.now())
    center.pass_time(PROPAGATION + timedelta(seconds=1))
    center.connector.grant(second, center.now())
    center.connector.revoke(second, center.now())
    assert center.see(first).cut
    assert not center.see(second).cut


def test_older_policy_put_back_by_its_owner_is_no_cut(center: Center) -> None:
    """The owner rolls back to a text that names the person up to an earlier instant: not cut."""
    ended(center)
    older = center.policy()
    center.pass_time(PROPAGATION + timedelta(minutes=1))
    hold = center.hold()
    center.connector.grant(hold, center.now())
    session = center.sign_in()
    center.connector.revoke(hold, center.now())
    center.connector.cut(hold, center.now())
    assert center.see(hold).cut
    center.put_policy(older)
    assert center.acts(session)
    assert not center.see(hold).cut
    assert mend(center, cut_of(center, hold)) == (hold.grant,)
    assert not center.acts(session)


def test_mending_leaves_the_next_grant_alone(center: Center) -> None:
    """A mended cut of the first grant does not end sessions of the one after it."""
    first = ended(center)
    cuts = cut_of(center, first)
    center.pass_time(timedelta(minutes=5))
    center.connector.grant(center.hold(), center.now())
    session = center.sign_in()
    center.put_policy("")
    assert mend(center, cuts) == (first.grant,)
    assert center.acts(session)


def test_grant_whose_removal_is_not_read_back_is_not_mended(center: Center) -> None:
    """Its instant is not known yet: mending would refuse it ever anew, and call it cut."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    now = center.now()
    cut = Cut(
        until=now + HOUR, native_principal=hold.key.native_principal, before=now + PROPAGATION
    )
    assert center.connector.mend(center.target, center.role, {hold.grant: cut}, now) == ()
    assert center.policy() == ""


def scp_world(center: Center, management: bool = False) -> Target:
    """Tidegate's own SCP on the account as the home of the deny."""
    organizations = center.client("broker", "organizations")
    made = organizations.create_policy(
        Name=f"TidegateCut-{center.name}",
        Description="x",
        Type="SERVICE_CONTROL_POLICY",
        Content=json.dumps({"Version": "2012-10-17", "Statement": [OWN]}),
    )["Policy"]["PolicySummary"]
    organizations.attach_policy(PolicyId=made["Id"], TargetId=ACCOUNT)
    account = MANAGEMENT if management else ACCOUNT
    target = Target(id="aws-scp", connector="aws", account=account)
    handed = (Handed(role="aws-scp/admin", arn=center.arn, session=HOUR),)
    center.settings = center.made_settings(
        deny=Deny.SCP,
        scp=made["Id"],
        targets={target.id: AccountSettings(management=management, handed=handed)},
    )
    center.connector = center.connect()
    return target


def test_scp_ends_the_session_of_that_permission_set_only(center: Center) -> None:
    """The deny in an SCP: the session is dead, one of another permission set goes on."""
    target = scp_world(center)
    other = f"{center.name}Beside"
    center.ids |= center.admin.seed(permission_sets=[{"name": other}])
    hold = center.hold(target=target)
    center.connector.grant(hold, center.now())
    center.admin.add_assignment(other, ACCOUNT, user="ana")
    session, beside = center.sign_in(), center.sign_in(role=other)
    center.connector.revoke(hold, center.now())
    center.connector.cut(hold, center.now())
    assert not center.acts(session)
    assert center.acts(beside)
    assert center.see(hold).cut
    center.pass_time(timedelta(minutes=5))
    center.connector.grant(center.hold(target=target), center.now())
    assert center.acts(center.sign_in())
    assert not center.acts(session)
    center.pass_time(timedelta(hours=2))
    assert center.connector.mend(target, center.role, {}, center.now()) == ()


def test_scp_does_not_bind_the_management_account(center: Center) -> None:
    """There an SCP would cut nobody, so nothing is claimed and the residual is the session."""
    target = scp_world(center, management=True)
    hold = center.hold(target=target)
    center.connector.grant(hold, center.now())
    center.connector.revoke(hold, center.now())
    assert center.connector.cut(hold, center.now()).detail == {"deny": "none"}
    assert not center.see(hold).cut
    (told,) = center.connector.check(target, center.role, ())
    assert "60 minutes" in told


def test_record_reads_back_what_it_wrote(tmp_path: Path) -> None:
    """Instants, and which are not known, survive the file; anything else in it is no record."""
    known = {
        "gr_a": Ended(tried_at=from_ms(1), gone_at=from_ms(2), before=from_ms(3), spread=True),
        "gr_b": Ended(tried_at=from_ms(4)),
    }
    assert parse_record(record(known)) == known
    for text in ("[]", '{"gr_a": 1}', '{"gr_a": [null, 1, 1, true]}', '{"gr_a": [true,1,1,true]}'):
        with pytest.raises(ValueError, match=r"expected"):
            parse_record(text)
    at = parse_instant("2026-11-22T07:03:36Z")
    ours, theirs = EndedGrants(tmp_path), EndedGrants(tmp_path)
    ours.note("gr_a", at, lambda one: one)
    theirs.note("gr_b", at, lambda one: Ended(tried_at=at, gone_at=at))
    assert ours.of("gr_b") == Ended(tried_at=at, gone_at=at)
    ours.note("gr_c", at + timedelta(days=2), lambda one: one)
    assert EndedGrants(tmp_path).of("gr_b") is None, "older than any session"
    blind = EndedGrants(tmp_path / "nowhere")
    blind.note("gr_a", at, lambda one: one)
    assert blind.of("gr_a") is not None, "closing never waits for a disk"
