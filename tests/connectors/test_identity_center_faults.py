"""What Identity Center does to a caller: lost answers, slow changes, late failures, no room."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

import tidegate_standin
from tests.connectors.identity_center_world import ACCOUNT, FAST, MANAGEMENT, Center, running
from tidegate.base.errors import Refused, Unknown, Unreachable, WorldFailed
from tidegate.catalogue import Role, Target
from tidegate.connectors.identity_center import IdentityCenterConnector
from tidegate.connectors.identity_center_assignments import MOST_OUTSTANDING, Assignments
from tidegate.connectors.identity_center_calls import Pace
from tidegate.connectors.port import Hold, Scope


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


@pytest.fixture
def center(cloud: tidegate_standin.Running) -> Center:
    """A fresh organisation."""
    return Center(cloud)


def code_of(failed: pytest.ExceptionInfo[WorldFailed]) -> str:
    """The code of what was raised."""
    return failed.value.code


def made_by(center: Center) -> int:
    """How many creations AWS was asked for."""
    return center.admin.calls().get("sso-admin:CreateAccountAssignment", 0)


def test_lost_reply_to_a_creation_is_unknown_and_not_made_twice(center: Center) -> None:
    """Made, and the answer lost: Unknown. The next try finds it and asks for nothing."""
    hold = center.hold()
    center.admin.fault("CreateAccountAssignment", "lost_reply", count=1)
    with pytest.raises(Unknown):
        center.connector.grant(hold, center.now())
    center.pass_time(timedelta(seconds=2))
    asked = made_by(center)
    assert center.see(hold).usable
    receipt = center.connector.grant(hold, center.now())
    assert receipt.detail["assignment"] == "there"
    assert made_by(center) == asked


def test_lost_reply_to_a_removal_is_unknown_then_absent(center: Center) -> None:
    """Removed, and the answer lost: Unknown; again, it is found gone and can be cut."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    center.admin.fault("DeleteAccountAssignment", "lost_reply", count=1)
    with pytest.raises(Unknown):
        center.connector.revoke(hold, center.now())
    center.pass_time(timedelta(seconds=2))
    assert center.connector.revoke(hold, center.now()).detail["assignment"] == "absent"
    center.connector.cut(hold, center.now())
    assert center.see(hold).cut


def test_lost_request_changes_nothing(center: Center) -> None:
    """Sent and never served: Unknown, because nobody can tell; the cloud shows that it is not."""
    hold = center.hold()
    center.admin.fault("CreateAccountAssignment", "lost_request", count=1)
    with pytest.raises(Unknown):
        center.connector.grant(hold, center.now())
    assert not center.see(hold).usable


def test_slow_creation_is_followed_to_its_end(center: Center) -> None:
    """IN_PROGRESS a few times over: one request, followed until it succeeded."""
    hold = center.hold()
    center.admin.fault("CreateAccountAssignment", "in_progress", count=1, describes=4, seconds=60)
    receipt = center.connector.grant(hold, center.now())
    assert receipt.detail == {"assignment": "made", "read_back": "yes"}
    assert made_by(center) == 1


def test_creation_slower_than_our_patience_is_unknown_and_resumed(center: Center) -> None:
    """Not over within the bound: Unknown; the next try follows the same request."""
    hold = center.hold()
    center.admin.fault("CreateAccountAssignment", "in_progress", count=1, describes=99, seconds=60)
    with pytest.raises(Unknown) as failed:
        center.connector.grant(hold, center.now())
    assert code_of(failed) == "in_progress"
    with pytest.raises(Unknown) as failed:
        center.connector.revoke(hold, center.now())
    assert code_of(failed) == "in_progress", "a creation that ends later would undo the removal"
    center.pass_time(timedelta(minutes=2))
    assert center.connector.grant(hold, center.now()).detail["read_back"] == "yes"
    assert made_by(center) == 1
    assert center.connector.revoke(hold, center.now()).detail["assignment"] == "removed"
    assert not center.assigned()


def test_slow_removal_is_unknown_then_busy_then_over(center: Center) -> None:
    """A removal beyond the bound is Unknown; asked again meanwhile, AWS says busy; then it is."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    center.admin.fault("DeleteAccountAssignment", "in_progress", count=1, describes=99, seconds=60)
    with pytest.raises(Unknown) as failed:
        center.connector.revoke(hold, center.now())
    assert code_of(failed) == "in_progress"
    with pytest.raises(Refused) as refused:
        center.connector.revoke(hold, center.now())
    assert code_of(refused) == "busy"
    center.pass_time(timedelta(minutes=2))
    assert center.connector.revoke(hold, center.now()).detail["read_back"] == "yes"


def test_creation_that_fails_later_is_refused_with_the_reason(center: Center) -> None:
    """FAILED, and the list does not show it: refused, in AWS's words, in one line."""
    hold = center.hold()
    reason = "the account\nis suspended"
    center.admin.fault("CreateAccountAssignment", "async_failed", count=1, reason=reason)
    with pytest.raises(Refused) as refused:
        center.connector.grant(hold, center.now())
    assert code_of(refused) == "async_failed"
    assert "the account is suspended" in refused.value.message
    assert not center.assigned()


def test_creation_that_fails_although_it_is_there_is_made(center: Center) -> None:
    """FAILED, and the list shows it (somebody made it meanwhile): there is nothing to refuse."""
    hold = center.hold()
    center.admin.fault("CreateAccountAssignment", "async_failed", count=1, describes=2)
    pace = Pace(
        every=FAST.every,
        most=FAST.most,
        wait=lambda seconds: center.admin.add_assignment(center.name, ACCOUNT, user="ana"),
    )
    connector = IdentityCenterConnector(center.settings, pace=pace)
    center.admin.options(describes=1)
    assert connector.grant(hold, center.now()).detail["read_back"] == "yes"


def test_removal_that_fails_later_is_refused(center: Center) -> None:
    """FAILED, and it is still there: refused with the reason, to be tried again."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    center.admin.fault("DeleteAccountAssignment", "async_failed", count=1, reason="try later")
    with pytest.raises(Refused) as refused:
        center.connector.revoke(hold, center.now())
    assert code_of(refused) == "async_failed"
    assert "try later" in refused.value.message
    assert center.connector.revoke(hold, center.now()).detail["assignment"] == "removed"


@pytest.mark.parametrize("how", ["raise", "fail"])
def test_removal_of_what_is_gone_is_done(center: Center, how: str) -> None:
    """Somebody else removed it: AWS says so at once or later, and both mean done."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    center.admin.options(delete_of_missing=how)
    center.admin.remove_assignment(center.name, ACCOUNT, user="ana")
    for _ in range(2):
        receipt = center.connector.revoke(hold, center.now())
        assert receipt.detail == {"assignment": "absent", "read_back": "yes"}


@pytest.mark.parametrize(
    ("kind", "code"), [("conflict", "busy"), ("throttle", "throttled"), ("refuse", "access_denied")]
)
@pytest.mark.parametrize("verb", ["grant", "revoke"])
def test_turned_away_changes_nothing(center: Center, verb: str, kind: str, code: str) -> None:
    """Another change, too many, or not allowed: refused under a code of its own, nothing done."""
    hold = center.hold()
    if verb == "revoke":
        center.connector.grant(hold, center.now())
    operation = "CreateAccountAssignment" if verb == "grant" else "DeleteAccountAssignment"
    center.admin.fault(operation, kind, count=1)
    act = center.connector.grant if verb == "grant" else center.connector.revoke
    with pytest.raises(Refused) as refused:
        act(hold, center.now())
    assert code_of(refused) == code
    assert center.assigned() is (verb == "revoke")
    act(hold, center.now())
    assert center.assigned() is (verb == "grant")


def test_broken_service_is_unknown(center: Center) -> None:
    """An internal error may have taken effect: never taken for a refusal."""
    hold = center.hold()
    center.admin.fault("CreateAccountAssignment", "error", count=1)
    with pytest.raises(Unknown):
        center.connector.grant(hold, center.now())


def test_nobody_listening_is_unreachable(center: Center) -> None:
    """Nothing was sent: certainly nothing changed."""
    settings = center.made_settings()
    gone = type(settings.closer)(
        region="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        access_key_id="x",
        secret_access_key="y",
    )
    connector = center.connect(center.made_settings(opener=gone, closer=gone))
    with pytest.raises(Unreachable):
        connector.grant(center.hold(), center.now())
    assert not connector.health(center.target, center.now()).reached


def test_eleventh_change_at_once_is_turned_away(center: Center) -> None:
    """Ten are under way: the next is refused without being sent, and fits once one is over."""
    started, go = threading.Semaphore(0), threading.Event()

    def wait(seconds: float) -> None:
        started.release()
        go.wait(10)

    assignments = Assignments(Pace(every=timedelta(milliseconds=1), most=6, wait=wait))
    center.admin.options(describes=2, settle_seconds=60.0)
    closer = center.connector._closer(center.target)
    names = [f"p{number}" for number in range(MOST_OUTSTANDING + 1)]
    center.ids |= center.admin.seed(users=[{"user_name": name} for name in names])
    keys = [center.hold(name).key for name in names]
    with ThreadPoolExecutor(MOST_OUTSTANDING) as pool:
        under_way = [pool.submit(assignments.ensure, closer, key) for key in keys[:-1]]
        for _ in under_way:
            assert started.acquire(timeout=10)
        with pytest.raises(Refused) as refused:
            assignments.ensure(closer, keys[-1])
        assert code_of(refused) == "throttled"
        go.set()
        assert {one.result().how for one in under_way} == {"made"}
    assert assignments.ensure(closer, keys[-1]).how == "made"


class Shared:
    """One hand a key among processes, as the database gives it; `away`: it cannot be asked."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.away = False

    @contextmanager
    def __call__(self, key: str) -> Iterator[bool]:
        """Whether `key` is ours until the end."""
        if self.away or key in self.taken:
            yield False
            return
        self.taken.add(key)
        try:
            yield True
        finally:
            self.taken.discard(key)


def test_two_processes_have_more_than_ten_changes_under_way(center: Center) -> None:
    """All together have ten: an opening over it waits, unsent; a removal waits for nobody."""
    shared, closer = Shared(), center.connector._closer(center.target)
    other = Assignments(FAST, between=shared)
    mine = Assignments(FAST, between=shared)
    key = center.hold().key
    with ExitStack() as busy:
        for number in range(MOST_OUTSTANDING - 1):
            busy.enter_context(
                other._one_of_few(closer, replace(key, native_principal=f"p{number}"), must=True)
            )
        assert mine.ensure(closer, key).how == "made"
        assert len(shared.taken) == MOST_OUTSTANDING - 1  # given back when it is over
        busy.enter_context(other._one_of_few(closer, key, must=True))
        sent = made_by(center)
        with pytest.raises(Refused) as refused:
            mine.ensure(closer, center.hold("bo").key)
        assert (code_of(refused), made_by(center)) == ("throttled", sent)
        assert mine.remove(closer, key).how == "removed"
    assert shared.taken == set()
    assert mine.ensure(closer, center.hold("bo").key).how == "made"


def test_removal_waits_for_a_database_that_is_away(center: Center) -> None:
    """Nobody can count then: nothing is made, and what is there is taken away all the same."""
    shared, closer = Shared(), center.connector._closer(center.target)
    assignments, key = Assignments(FAST, between=shared), center.hold().key
    assert assignments.ensure(closer, key).how == "made"
    shared.away = True
    with pytest.raises(Refused):
        assignments.ensure(closer, center.hold("bo").key)
    assert assignments.remove(closer, key).how == "removed"


def test_eleventh_change_refused_by_the_cloud_is_throttled(center: Center) -> None:
    """Other systems use up the ten of AWS: the same answer."""
    center.admin.options(outstanding_limit=0)
    with pytest.raises(Refused) as refused:
        center.connector.grant(center.hold(), center.now())
    assert code_of(refused) == "throttled"


def test_stale_list_is_not_taken_for_removed(center: Center) -> None:
    """A list that lags behind a removal says so: not yet read back, and usable until it is."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    center.pass_time(timedelta(seconds=60))
    center.admin.options(stale_seconds=30.0)
    receipt = center.connector.revoke(hold, center.now())
    assert receipt.detail == {"assignment": "removed", "read_back": "not_yet"}
    assert center.see(hold).usable
    assert center.connector.cut(hold, center.now()).detail["deny"] == "held_back"
    center.pass_time(timedelta(seconds=31))
    assert not center.see(hold).usable
    center.connector.revoke(hold, center.now())
    assert center.connector.cut(hold, center.now()).detail["deny"] == "person"


def test_stale_list_after_a_creation_still_lets_it_be_removed(center: Center) -> None:
    """The list does not show it yet: the removal is asked for all the same."""
    hold = center.hold()
    center.admin.options(stale_seconds=30.0)
    assert center.connector.grant(hold, center.now()).detail["read_back"] == "not_yet"
    assert center.connector.revoke(hold, center.now()).detail["assignment"] == "removed"
    assert not center.assigned()


def test_stale_window_is_declared(center: Center) -> None:
    """How long a list may lag is a power, so that nothing is called removed before it passed."""
    assert IdentityCenterConnector(center.settings).powers("permission-set").stale_window > (
        timedelta(0)
    )


def test_listing_by_person_that_is_refused_is_done_by_account(center: Center) -> None:
    """That listing is documented for the management account: without it, groups are seen too."""
    hold = center.hold()
    center.connector.grant(hold, center.now())
    center.admin.fault("ListAccountAssignmentsForPrincipal", "refuse")
    assert center.see(hold).usable
    center.admin.seed(groups=[{"name": "ops", "members": ["ana"]}])
    center.admin.add_assignment(center.name, ACCOUNT, group="ops")
    center.connector.revoke(hold, center.now())
    assert center.see(hold).inherited == f"group {center.ids['groups']['ops']}"


def test_delegated_administrator_is_refused_on_the_management_account(center: Center) -> None:
    """AWS refuses it there: told as such by the verb, and shut by the look before."""
    center.ids |= center.admin.seed(
        delegated_administrator=ACCOUNT,
        identities=[
            {
                "name": "delegate",
                "account": ACCOUNT,
                "policies": [
                    {
                        "Version": "2012-10-17",
                        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
                    }
                ],
            }
        ],
    )
    target = Target(id="aws-root", connector="aws", account=MANAGEMENT)
    keys = center.keys("delegate")
    settings = center.made_settings(opener=keys, closer=keys)
    account = settings.targets[center.target.id]
    there = type(account)(management=True, handed=account.handed)
    connector = center.connect(
        type(settings)(
            instance=settings.instance,
            identity_store=settings.identity_store,
            opener=keys,
            closer=keys,
            targets={target.id: there},
        )
    )
    hold = center.hold(target=target)
    with pytest.raises(Refused) as refused:
        connector.grant(hold, center.now())
    assert code_of(refused) == "access_denied"
    assert "delegated" in refused.value.help
    found = {one.code: one for one in connector.health(target, center.now()).findings}
    assert found["delegated_administrator"].shuts


@pytest.mark.parametrize("verb", ["key", "grant", "revoke", "cut", "observe", "mend"])
def test_instance_nobody_configured_is_said(center: Center, verb: str) -> None:
    """A permission set without `[identity_center]`: each verb says so, nothing is sent."""
    connector = IdentityCenterConnector(None)
    hold, now = center.hold(), center.now()
    with pytest.raises(Refused) as refused:
        _try(connector, verb, hold, now)
    assert code_of(refused) == "no_settings"


def _try(connector: IdentityCenterConnector, verb: str, hold: Hold, now: object) -> None:
    role: Role = hold.role
    match verb:
        case "key":
            from tidegate.connectors.port import Person

            connector.key(hold.target, role, hold.grant, Person(principal="pr_1"))
        case "observe":
            list(connector.observe(Scope(target=hold.target, hold=hold), hold.ends_at))
        case "mend":
            connector.mend(hold.target, role, {}, hold.ends_at)
        case "grant":
            connector.grant(hold, hold.ends_at)
        case "revoke":
            connector.revoke(hold, hold.ends_at)
        case _:
            connector.cut(hold, hold.ends_at)
