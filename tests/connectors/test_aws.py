"""What only AWS has, on the emulator: escapes, the shared deny, the end by the second."""

import json
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from tests.connectors.conftest import AwsWorld, real_now
from tidegate.base.errors import Refused
from tidegate.base.ids import make_id
from tidegate.base.when import from_ms
from tidegate.catalogue import Target
from tidegate.connectors import aws_recent
from tidegate.connectors.aws import AwsConnector
from tidegate.connectors.aws_cut import CutLists
from tidegate.connectors.aws_policy import CUT_POLICY, CutList, read_cut
from tidegate.connectors.aws_recent import Recent, parse_record, record
from tidegate.connectors.port import PRUNE_MARGIN, Answer, Credential, Cut, Hold, Scope, Staying
from tidegate.connectors.sandbox import Sandbox, account_trust

TEN_MINUTES = timedelta(minutes=10)


def issued(aws: AwsWorld, hold: Hold) -> Credential:
    """A credential of `hold`."""
    return aws.connector.issue(hold, aws.session(), aws.now())


def denied(act: Any) -> bool:
    """Whether AWS refuses `act` by policy."""
    try:
        act()
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException")
        return True
    return False


def cut_on(aws: AwsWorld) -> Any:
    """The deny as the account's owner sees it."""
    iam = aws.sandbox.client("iam")
    return iam.get_role_policy(RoleName=aws.name, PolicyName=CUT_POLICY)["PolicyDocument"]


def test_denied_within_a_second_of_the_end_and_not_before(aws: AwsWorld) -> None:
    """Polled across the end: allowed until its whole second, refused within a second of it."""
    hold = aws.hold(timedelta(seconds=2.5))
    client = aws.client("iam", issued(aws, hold))
    last_allowed = None
    while not denied(lambda: client.list_users(MaxItems=1)):
        last_allowed = aws.now()
        assert last_allowed < hold.ends_at + timedelta(seconds=1), "still allowed after the end"
        time.sleep(0.02)
    assert last_allowed is not None and last_allowed < hold.ends_at
    assert last_allowed > hold.ends_at - timedelta(seconds=1.3)
    assert aws.now() < hold.ends_at + timedelta(seconds=1)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda sts, arn: sts.assume_role(RoleArn=arn, RoleSessionName="chained"),
        lambda sts, arn: sts.get_session_token(),
        lambda sts, arn: sts.get_federation_token(Name="fed"),
    ],
    ids=["chain", "session_token", "federation_token"],
)
def test_holder_cannot_leave_the_session(aws: AwsWorld, attempt: Any) -> None:
    """A holder allowed everything can neither chain nor mint sessions that outlive the end."""
    other = aws.sandbox.create_role(f"{aws.name}-other")
    sts = aws.client("sts", issued(aws, aws.hold(TEN_MINUTES)))
    assert denied(lambda: attempt(sts, other))


def test_holder_cannot_mint_tokens(aws: AwsWorld) -> None:
    """A registry token lives twelve hours: refused by default."""
    ecr = aws.client("ecr", issued(aws, aws.hold(TEN_MINUTES)))
    assert denied(ecr.get_authorization_token)


def test_allowed_minting_call_is_open(sandbox: Sandbox) -> None:
    """A role whose entry names the call may make it."""
    aws = AwsWorld(sandbox, allows=("ecr:GetAuthorizationToken",))
    ecr = aws.client("ecr", issued(aws, aws.hold(TEN_MINUTES)))
    assert not denied(ecr.get_authorization_token)


@pytest.mark.parametrize(
    "attack",
    [
        lambda iam, name: iam.delete_role_policy(RoleName=name, PolicyName=CUT_POLICY),
        lambda iam, name: iam.put_role_policy(
            RoleName=name, PolicyName=CUT_POLICY, PolicyDocument="{}"
        ),
        lambda iam, name: iam.update_assume_role_policy(
            RoleName=name, PolicyDocument=json.dumps(account_trust())
        ),
        lambda iam, name: iam.attach_role_policy(
            RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"
        ),
        lambda iam, name: iam.tag_role(RoleName=name, Tags=[{"Key": "a", "Value": "b"}]),
        lambda iam, name: iam.update_role(RoleName=name, MaxSessionDuration=43200),
        lambda iam, name: iam.delete_role(RoleName=name),
    ],
    ids=["delete_deny", "replace_deny", "trust", "attach", "tag", "lengthen", "delete_role"],
)
def test_holder_cannot_change_what_binds_the_role(aws: AwsWorld, attack: Any) -> None:
    """A holder with `iam:*` may not touch the deny, the trust or the policies of a handed role."""
    credential = issued(aws, aws.hold(TEN_MINUTES))
    aws.connector.revoke(aws.hold(TEN_MINUTES), aws.now())
    iam = aws.client("iam", credential)
    assert denied(lambda: attack(iam, aws.name))
    assert iam.get_role(RoleName=aws.name)["Role"]["RoleName"] == aws.name


def test_holder_cannot_make_keys_but_may_do_iam(aws: AwsWorld) -> None:
    """Making a user is the role's business; a key for it would outlive the session."""
    iam = aws.client("iam", issued(aws, aws.hold(TEN_MINUTES)))
    iam.create_user(UserName=f"u-{aws.name}")
    assert denied(lambda: iam.create_access_key(UserName=f"u-{aws.name}"))


@pytest.mark.parametrize(
    "attempt",
    [
        lambda iam, user, key: iam.update_login_profile(UserName=user, Password="N3w-passw0rd!"),
        lambda iam, user, key: iam.update_access_key(
            UserName=user, AccessKeyId=key, Status="Active"
        ),
        lambda iam, user, key: iam.upload_ssh_public_key(
            UserName=user, SSHPublicKeyBody="ssh-rsa A"
        ),
    ],
    ids=["password", "key", "ssh_key"],
)
def test_holder_cannot_take_over_a_standing_user(aws: AwsWorld, attempt: Any) -> None:
    """A new password or a key switched on again would let the holder back in after the end."""
    owner, user = aws.sandbox.client("iam"), f"standing-{aws.name}"
    owner.create_user(UserName=user)
    owner.create_login_profile(UserName=user, Password="0ld-passw0rd!")
    key = owner.create_access_key(UserName=user)["AccessKey"]["AccessKeyId"]
    iam = aws.client("iam", issued(aws, aws.hold(TEN_MINUTES)))
    assert denied(lambda: attempt(iam, user, key))


def test_holder_may_look_at_keys_and_take_them_away(aws: AwsWorld) -> None:
    """Answering an incident needs just that: reading and deleting stay open."""
    owner, user = aws.sandbox.client("iam"), f"leaked-{aws.name}"
    owner.create_user(UserName=user)
    owner.create_login_profile(UserName=user, Password="0ld-passw0rd!")
    key = owner.create_access_key(UserName=user)["AccessKey"]["AccessKeyId"]
    iam = aws.client("iam", issued(aws, aws.hold(TEN_MINUTES)))
    assert len(iam.list_access_keys(UserName=user)["AccessKeyMetadata"]) == 1
    assert not denied(lambda: iam.get_login_profile(UserName=user))
    assert not denied(lambda: iam.delete_access_key(UserName=user, AccessKeyId=key))
    assert not denied(lambda: iam.delete_login_profile(UserName=user))


def test_concurrent_revokes_lose_none(aws: AwsWorld) -> None:
    """Sixty revokes from sixteen threads: every grant is named in the deny."""
    holds = [aws.hold(TEN_MINUTES) for _ in range(60)]
    with ThreadPoolExecutor(16) as pool:
        receipts = list(pool.map(lambda hold: aws.connector.revoke(hold, aws.now()), holds))
    assert read_cut(cut_on(aws)).grants == {hold.grant for hold in holds}
    assert {receipt.detail["read_back"] for receipt in receipts} == {"yes"}


def test_two_processes_share_the_lock_directory(aws: AwsWorld, tmp_path: Path) -> None:
    """Two connectors without common memory, one lock directory: no entry is lost."""
    pair = two_processes(aws, tmp_path)
    holds = [aws.hold(TEN_MINUTES) for _ in range(20)]
    with ThreadPoolExecutor(8) as pool:
        numbered = list(enumerate(holds))
        list(pool.map(lambda one: pair[one[0] % 2].revoke(one[1], aws.now()), numbered))
    assert read_cut(cut_on(aws)).grants == {hold.grant for hold in holds}


def test_entries_of_others_are_kept(aws: AwsWorld) -> None:
    """An id this process never saw stays in the list when another is added."""
    foreign, mine = aws.hold(TEN_MINUTES), aws.hold(TEN_MINUTES)
    AwsConnector({"aws-prod": aws.settings}).revoke(foreign, aws.now())
    aws.connector.revoke(mine, aws.now())
    assert read_cut(cut_on(aws)).grants == {foreign.grant, mine.grant}


def test_stale_read_cannot_drop_a_fresh_cut(aws: AwsWorld) -> None:
    """A read that lacks what this process just wrote is merged with it, not believed."""
    first, second = aws.hold(TEN_MINUTES), aws.hold(TEN_MINUTES)
    aws.connector.revoke(first, aws.now())
    aws.tamper(first)  # what a lagging replica would show
    aws.connector.revoke(second, aws.now())
    assert read_cut(cut_on(aws)).grants == {first.grant, second.grant}


def test_mend_with_an_old_list_keeps_a_fresh_cut(
    aws: AwsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that was read before a revoke does not prune that revoke."""
    hold = aws.hold(TEN_MINUTES)
    aws.connector.revoke(hold, aws.now())
    assert aws.connector.mend(aws.target, aws.role, {}, aws.now()) == ()
    assert hold.grant in read_cut(cut_on(aws)).grants
    monkeypatch.setattr(aws_recent, "FRESH", timedelta(seconds=-1))
    aws.connector.mend(aws.target, aws.role, {}, aws.now())
    with pytest.raises(ClientError):
        cut_on(aws)


def test_mend_keeps_what_another_process_cut_lately(aws: AwsWorld, tmp_path: Path) -> None:
    """One lock directory: a list read before the other process's revoke prunes none of it."""
    mine, other = two_processes(aws, tmp_path)
    early, late = aws.hold(TEN_MINUTES), aws.hold(TEN_MINUTES)
    mine.revoke(early, aws.now())
    old_list = {early.grant: Cut(until=early.ends_at)}
    other.revoke(late, aws.now())
    assert mine.mend(aws.target, aws.role, old_list, aws.now()) == ()
    assert read_cut(cut_on(aws)).grants == {early.grant, late.grant}


def test_cut_by_issue_time_of_another_process_survives_an_old_list(
    aws: AwsWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room came back in the list: the wide deny goes only once it names whom it covered."""
    mine, other = two_processes(aws, tmp_path)
    for connector in (mine, other):
        monkeypatch.setattr(connector, "_cuts", CutLists(tmp_path, longest=170 + 32))
    listed, late = aws.hold(TEN_MINUTES), aws.hold(TEN_MINUTES)
    keys = issued(aws, late)
    mine.revoke(listed, aws.now())
    old_list = {listed.grant: Cut(until=aws.now() - PRUNE_MARGIN - timedelta(seconds=2))}
    assert other.revoke(late, aws.now()).detail["deny"] == "issue_time"
    mine.mend(aws.target, aws.role, old_list, aws.now())
    assert read_cut(cut_on(aws)) == CutList(grants=frozenset({late.grant}))
    assert aws.use(keys) is Answer.DENIED


def test_deny_of_a_machine_that_has_no_database_goes_when_there_is_room(
    aws: AwsWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own journal it ended, on a full list, what goes on here: the deny without a name stays
    as long as it may be all that refuses it, and what goes on is not refused by name for that.
    """
    mine, other = (
        AwsConnector({"aws-prod": aws.settings}, lock_dir=tmp_path / name) for name in ("a", "b")
    )
    for name, connector in (("a", mine), ("b", other)):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(connector, "_cuts", CutLists(tmp_path / name, longest=170 + 32))
    listed, late = aws.hold(TEN_MINUTES), aws.hold(TEN_MINUTES)
    keys = issued(aws, late)
    mine.revoke(listed, aws.now())
    assert other.revoke(late, aws.now()).detail["deny"] == "issue_time"
    named = {listed.grant: Cut(until=aws.now() - PRUNE_MARGIN - timedelta(seconds=2))}
    young = make_id("gr", aws.now() + timedelta(minutes=1), bytes(10))
    asked = []

    def looked(going_on: str) -> None:
        def must_stay(unnamed: Collection[str], nameless: bool) -> Staying:
            asked.append((tuple(unnamed), nameless))
            return Staying(going_on=frozenset({going_on}))

        mine.mend(aws.target, aws.role, named, aws.now(), must_stay)

    looked(late.grant)
    assert asked == [((), True)]
    after = read_cut(cut_on(aws))
    assert (after.grants, after.before is None) == (frozenset(), False)
    assert aws.use(keys) is Answer.DENIED
    looked(young)
    with pytest.raises(ClientError):
        cut_on(aws)


def test_unreadable_record_prunes_nothing_unnamed(aws: AwsWorld, tmp_path: Path) -> None:
    """Not knowing what others cut lately, a mend keeps it all; the next cut heals the record."""
    mine, other = two_processes(aws, tmp_path)
    first, second = aws.hold(TEN_MINUTES), aws.hold(TEN_MINUTES)
    other.revoke(first, aws.now())
    (path,) = tmp_path.glob("*.recent")
    path.write_text('{"gr": [1')
    mine.mend(aws.target, aws.role, {}, aws.now())
    assert read_cut(cut_on(aws)).grants == {first.grant}
    mine.revoke(second, aws.now())
    assert second.grant in parse_record(path.read_text())


def test_closing_goes_on_without_the_lock_directory(aws: AwsWorld, tmp_path: Path) -> None:
    """A broken directory never stops a revoke; looking after the list waits for it."""
    connector = AwsConnector({"aws-prod": aws.settings}, lock_dir=tmp_path / "gone")
    hold = aws.hold(TEN_MINUTES)
    assert connector.revoke(hold, aws.now()).detail["deny"] == "list"
    assert read_cut(cut_on(aws)).grants == {hold.grant}
    with pytest.raises(Refused) as refused:
        connector.mend(aws.target, aws.role, {}, aws.now())
    assert refused.value.code == "no_role_lock"
    assert str(tmp_path) not in str(refused.value) + refused.value.help


@given(
    st.dictionaries(
        st.text(max_size=30),
        st.builds(
            lambda second, named: Recent(written_at=from_ms(second * 1_000), named=named),
            st.integers(0, 4_000_000_000),
            st.booleans(),
        ),
        max_size=5,
    )
)
def test_record_round_trips(cuts: dict[str, Recent]) -> None:
    """What one process wrote another reads the same."""
    assert parse_record(record(cuts)) == cuts


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
        max_leaves=6,
    )
)
def test_foreign_record_is_refused_or_read(found: object) -> None:
    """Whatever stands in the file, reading it gives a record or a ValueError."""
    try:
        read = parse_record(json.dumps(found))
    except ValueError:
        return
    assert all(isinstance(one, Recent) for one in read.values())


def two_processes(aws: AwsWorld, lock_dir: Path) -> list[AwsConnector]:
    """Two connectors without common memory, one lock directory."""
    return [AwsConnector({"aws-prod": aws.settings}, lock_dir=lock_dir) for _ in range(2)]


def full_after(aws: AwsWorld, monkeypatch: pytest.MonkeyPatch, ids: int) -> None:
    """Give the connector a list with room for about `ids`."""
    monkeypatch.setattr(aws.connector, "_cuts", CutLists(longest=170 + 32 * ids))


def test_full_list_becomes_a_deny_by_issue_time(
    aws: AwsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room: every session issued so far is refused, and the receipt says so."""
    full_after(aws, monkeypatch, 1)
    listed, late, bystander = (aws.hold(TEN_MINUTES) for _ in range(3))
    late_keys, bystander_keys = issued(aws, late), issued(aws, bystander)
    assert aws.connector.revoke(listed, aws.now()).detail["deny"] == "list"
    receipt = aws.connector.revoke(late, aws.now())
    assert receipt.detail["list_full"] == "issue_time"
    assert aws.use(late_keys) is Answer.DENIED
    assert aws.use(bystander_keys) is Answer.DENIED
    seen = next(iter(aws.connector.observe(Scope(target=aws.target, hold=late), aws.now())))
    assert seen.cut and seen.detail["cut_by"] == "issue_time"
    assert listed.grant in read_cut(cut_on(aws)).grants
    aws.wait(aws.now() + timedelta(seconds=1.1))
    anew = issued(aws, bystander)
    assert aws.use(anew) is Answer.ALLOWED
    assert aws.connector.revoke(late, aws.now()).detail["list_full"] == "issue_time"
    assert aws.use(anew) is Answer.ALLOWED, "a repeated revoke hit a session issued since"


def test_probe_made_after_a_deny_by_issue_time_tells_of_those_before(
    aws: AwsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session made for the probe is younger than that deny: allowed, it would prove nothing."""
    full_after(aws, monkeypatch, 1)
    listed, late = aws.hold(TEN_MINUTES), aws.hold(timedelta(seconds=4))
    aws.connector.revoke(listed, aws.now())
    assert aws.connector.revoke(late, aws.now()).detail["deny"] == "issue_time"
    aws.wait(aws.now() + timedelta(seconds=1.1))
    probed = aws.connector.probe(late, aws.now())
    assert (probed.answer, probed.control) == (Answer.UNTOLD, Answer.UNTOLD)
    assert aws.connector.probe(listed, aws.now()).proves_denied
    aws.wait(late.ends_at + timedelta(seconds=1.1))
    assert aws.connector.probe(late, aws.now()).proves_denied, "its own end is proof enough"


def test_mend_leaves_the_issue_time_deny_when_there_is_room(
    aws: AwsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the list has room again every grant is refused by name and the wide deny goes."""
    full_after(aws, monkeypatch, 1)
    listed, late = aws.hold(TEN_MINUTES), aws.hold(TEN_MINUTES)
    for hold in (listed, late):
        aws.connector.revoke(hold, aws.now())
    both = {hold.grant: Cut(until=hold.ends_at) for hold in (listed, late)}
    assert aws.connector.mend(aws.target, aws.role, both, aws.now()) == ()
    assert read_cut(cut_on(aws)).before is not None, "still full: nothing to change"
    past = aws.now() - PRUNE_MARGIN - timedelta(seconds=2)
    cuts = {listed.grant: Cut(until=past), late.grant: Cut(until=late.ends_at)}
    assert aws.connector.mend(aws.target, aws.role, cuts, aws.now()) == ()
    after = read_cut(cut_on(aws))
    assert after == CutList(grants=frozenset({late.grant}))


def test_role_recreated_under_its_name_is_told(aws: AwsWorld) -> None:
    """The receipt names the role's own id, which differs for a later role of that name."""
    hold = aws.hold(TEN_MINUTES)
    first = aws.connector.grant(hold, aws.now()).detail["role_id"]
    aws.delete_role()
    aws.sandbox.create_role(aws.name)
    assert aws.connector.grant(hold, aws.now()).detail["role_id"] != first


def test_role_of_another_account_is_refused(aws: AwsWorld) -> None:
    """A role remapped to another account is refused by every verb, not tried."""
    elsewhere = Target(id="aws-prod", connector="aws", account="999999999999")
    hold = aws.hold(TEN_MINUTES)
    moved = replace(hold, target=elsewhere)
    for verb in (aws.connector.grant, aws.connector.revoke, aws.connector.probe):
        with pytest.raises(Refused) as refused:
            verb(moved, aws.now())
        assert refused.value.code == "other_account"


def test_role_that_does_not_trust_us_is_untold(aws: AwsWorld) -> None:
    """A probe that cannot be minted says so instead of passing for a denial."""
    trust = dict(account_trust())
    trust["Statement"] = [{**trust["Statement"][0], "Action": "sts:AssumeRole"}]  # type: ignore[index]
    aws.sandbox.client("iam").update_assume_role_policy(
        RoleName=aws.name, PolicyDocument=json.dumps(trust)
    )
    hold = aws.hold(TEN_MINUTES)
    with pytest.raises(Refused) as refused:
        issued(aws, hold)
    assert refused.value.code == "access_denied"
    probed = aws.connector.probe(hold, aws.now())
    assert (probed.answer, probed.control) == (Answer.UNTOLD, Answer.UNTOLD)
    assert not probed.proves_denied


def test_probe_of_a_role_without_the_right_proves_nothing(sandbox: Sandbox) -> None:
    """Denied, but the control is denied too: the cut is not what refuses."""
    aws = AwsWorld(sandbox)
    nothing = {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    sandbox.client("iam").put_role_policy(
        RoleName=aws.name, PolicyName="role", PolicyDocument=json.dumps(nothing)
    )
    probed = aws.connector.probe(aws.hold(TEN_MINUTES), aws.now())
    assert (probed.answer, probed.control) == (Answer.DENIED, Answer.DENIED)
    assert not probed.proves_denied


def test_target_scope_lists_the_denies_of_every_role(sandbox: Sandbox) -> None:
    """Without a hold, each role handed out is read and each named grant is seen."""
    one, two = AwsWorld(sandbox), AwsWorld(sandbox)
    connector = AwsConnector({"aws-prod": sandbox.settings(one.arn, two.arn)})
    holds = [one.hold(TEN_MINUTES), two.hold(TEN_MINUTES)]
    for hold in holds:
        connector.revoke(hold, real_now())
    seen = list(connector.observe(Scope(target=one.target), real_now()))
    assert [one.key for one in seen] == [hold.key for hold in holds]


def test_discover_lists_roles(aws: AwsWorld) -> None:
    """The account's roles are offered with their ARNs."""
    assert aws.arn in {found.native["arn"] for found in aws.connector.discover(aws.target)}


def test_clocks_ten_minutes_apart_are_a_finding(aws: AwsWorld) -> None:
    """A skewed clock is told with how far and what to do."""
    health = aws.connector.health(aws.target, aws.now() + TEN_MINUTES)
    assert health.reached
    assert any("apart" in one.message and "NTP" in one.help for one in health.findings)


def test_health_tells_an_identity_that_may_not_close(aws: AwsWorld) -> None:
    """An identity that lacks iam:PutRolePolicy is found before anything opens."""
    iam = aws.sandbox.client("iam")
    user = f"weak-{aws.name}"
    iam.create_user(UserName=user)
    allowed = ["iam:Get*", "iam:List*", "iam:SimulatePrincipalPolicy", "sts:AssumeRole"]
    policy = {"Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}]}
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    settings = replace(
        aws.settings,
        access_key_id=key["AccessKeyId"],
        secret_access_key=key["SecretAccessKey"],
    )
    health = AwsConnector({"aws-prod": settings}).health(aws.target, aws.now())
    assert health.reached
    missing = [one for one in health.findings if one.code == "missing_right" and one.shuts]
    assert any("`iam:PutRolePolicy`" in one.message for one in missing)
    assert not any("`iam:GetRole`" in one.message for one in missing)


def test_health_tells_an_unprotected_policy(aws: AwsWorld) -> None:
    """A customer managed policy on a handed role that holders could rewrite is found."""
    iam = aws.sandbox.client("iam")
    document = json.dumps({"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
    made = iam.create_policy(PolicyName=f"p-{aws.name}", PolicyDocument=document)
    iam.attach_role_policy(RoleName=aws.name, PolicyArn=made["Policy"]["Arn"])
    health = aws.connector.health(aws.target, aws.now())
    assert any("not protected" in one.message for one in health.findings)
