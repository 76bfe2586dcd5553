"""The ways real systems let somebody keep access, each tried on role kind `iam-role` over HTTP.

The production flow, the production connector and unmodified AWS clients; the cloud is the emulator.
What it cannot show (an answer that changes nothing, a throttle) comes from a proxy in front of it.
"""

import html
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from chaos.proxy import FaultProxy, Rule

from tests.connectors.conftest import AwsWorld
from tests.kept_access.iam_role import AwsKept, RealClock, laws_of
from tidegate.connectors.port import Credential
from tidegate.flow.expiring import close_now
from tidegate.flow.mending import mend_cuts
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant, GrantState, Outcome

SECOND = timedelta(seconds=1)
SHORT = 3 * SECOND
CUT = b"Action=PutRolePolicy"


@pytest.fixture
def proxy(aws: AwsWorld) -> Iterator[FaultProxy]:
    """What Tidegate reaches the cloud through; people reach it directly."""
    with FaultProxy(aws.sandbox.port) as made:
        yield made


@pytest.fixture
def world(aws: AwsWorld, proxy: FaultProxy, tmp_path: Path) -> Iterator[AwsKept]:
    """An installation on a fresh role."""
    clock: Any = RealClock()
    made = AwsKept(tmp_path, clock=clock, laws=laws_of(aws), aws=aws, endpoint=proxy.url)
    yield made
    made.down()


def ended(world: AwsKept, grant: Grant) -> Grant:
    """Its early end, and the first look at it."""
    return close_now(world.house, end_early(world.house, world.who("bo"), grant.id))


@pytest.mark.parametrize("way", ["throttle", "reset", "lose_reply"])
def test_a_failed_removal_is_not_tried_again(world: AwsKept, proxy: FaultProxy, way: str) -> None:
    """A: the deny is turned away, cut off or its answer lost: tried until it is read back."""
    grant = world.granted()
    taken = world.keys(grant)
    rules = {
        "throttle": Rule(
            act="answer", containing=CUT, count=2, status=400, body=_error("Throttling")
        ),
        "reset": Rule(act="reset", containing=CUT, count=2),
        "lose_reply": Rule(act="lose_reply", containing=CUT, count=2),
    }
    proxy.add(rules[way])
    assert ended(world, grant).state is GrantState.CLOSING
    world.until(grant, GrantState.GONE)
    assert not world.acts(taken)


def test_c_success_is_shown_while_the_access_stands(world: AwsKept, proxy: FaultProxy) -> None:
    """C: the cloud answers 200 to the deny and does nothing: closing, and never called removed."""
    grant = world.granted()
    taken = world.keys(grant)
    proxy.add(Rule(act="answer", containing=CUT, count=2, status=200, body=_fine("PutRolePolicy")))
    after = ended(world, grant)
    assert (after.state, after.outcome) == (GrantState.CLOSING, Outcome.STILL_USABLE)
    assert world.acts(taken)
    world.until(grant, GrantState.GONE)
    assert not world.acts(taken)


def test_d_session_outlives_the_grant(world: AwsKept) -> None:
    """D: keys taken inside the window are refused from the end on, with no worker of ours awake."""
    grant = world.granted(duration=SHORT)
    taken = world.keys(grant)
    assert world.acts(taken) and grant.ends_at is not None
    world.wait(grant.ends_at)
    assert not world.acts(taken)
    assert world.until(grant, GrantState.GONE).proof == "denied"


def test_e_end_of_one_grant_takes_or_leaves_the_other(world: AwsKept) -> None:
    """E: two grants of one role: the deny of the one leaves the keys of the other alone."""
    one, other = world.granted(), world.granted(role="prod/same")
    first, second = world.keys(one), world.keys(other)
    ended(world, one)
    world.until(one, GrantState.GONE)
    assert not world.acts(first) and world.acts(second)
    ended(world, other)
    world.until(other, GrantState.GONE)
    assert not world.acts(second)


def test_f_other_system_takes_the_deny_away(world: AwsKept, aws: AwsWorld) -> None:
    """F: a deny that another system removed is put back, and that is sealed."""
    grant = world.granted()
    taken = world.keys(grant)
    ended(world, grant)
    after = world.until(grant, GrantState.GONE)
    aws.sandbox.client("iam").delete_role_policy(RoleName=aws.name, PolicyName="TidegateCut")
    assert world.acts(taken)
    assert mend_cuts(world.house) == [after.id]
    assert not world.acts(taken)
    assert "cut.restored" in world.names("target:prod")


def test_h_grantee_makes_a_side_door(world: AwsKept, aws: AwsWorld) -> None:
    """H: the keys cannot make keys or passwords that outlive them, nor undo what ends them."""
    grant = world.granted()
    taken = world.keys(grant)
    iam = aws.sandbox.client("iam")
    iam.create_user(UserName=f"u-{aws.name}")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    side_doors: list[tuple[str, str, dict[str, Any]]] = [
        ("iam", "create_access_key", {"UserName": f"u-{aws.name}"}),
        ("iam", "create_login_profile", {"UserName": f"u-{aws.name}", "Password": "long enough"}),
        (
            "iam",
            "update_assume_role_policy",
            {"RoleName": aws.name, "PolicyDocument": trust},
        ),
        ("iam", "delete_role_policy", {"RoleName": aws.name, "PolicyName": "TidegateCut"}),
        ("sts", "assume_role", {"RoleArn": aws.arn, "RoleSessionName": "chained"}),
    ]
    assert world.acts(taken)
    went_through = [
        call
        for service, call, values in side_doors
        if not world.tries(service, taken, call, **values)
    ]
    assert went_through == []


def test_i_role_deleted_first_is_never_closed(world: AwsKept, aws: AwsWorld) -> None:
    """I: the role is deleted inside the window: its keys are dead, and the grant ends."""
    grant = world.granted()
    taken = world.keys(grant)
    aws.delete_role()
    assert not world.acts(taken)
    ended(world, grant)
    world.until(grant, GrantState.REMOVED)
    world.clock.ahead = timedelta(minutes=2)  # type: ignore[attr-defined] # its bound has passed
    assert world.until(grant, GrantState.GONE).proof == "removed"


def test_j_window_starts_at_its_first_use(world: AwsKept) -> None:
    """J: keys taken two seconds before the end live two seconds, to the second."""
    grant = world.granted(duration=SHORT)
    assert grant.ends_at is not None
    world.wait(grant.ends_at - 2 * SECOND)
    taken = world.keys(grant)
    assert world.acts(taken)
    world.wait(grant.ends_at)
    assert not world.acts(taken)


def test_k_mass_expiry_loses_some(world: AwsKept, proxy: FaultProxy) -> None:
    """K: twelve early ends on one role's document, with throttles: every one is in it at last."""
    grants = [world.granted(duration=timedelta(minutes=5)) for _ in range(12)]
    taken = [world.keys(one) for one in grants]
    proxy.add(Rule(act="answer", containing=CUT, count=8, status=400, body=_error("Throttling")))
    for one in grants:
        end_early(world.house, world.who("bo"), one.id)
    world.work()
    for one in grants:
        world.until(one, GrantState.GONE)
    assert not any(world.acts(keys) for keys in taken)


def test_l_access_made_before_its_end_is_on_record(world: AwsKept, proxy: FaultProxy) -> None:
    """L: the answer to AssumeRole is lost: no session is on record, and whoever reads the keys off
    the wire can use them until the end and no longer.
    """
    from tidegate.base.errors import Unknown

    grant = world.granted(duration=SHORT)
    proxy.add(Rule(act="lose_reply", containing=b"Action=AssumeRole", count=1))
    with pytest.raises(Unknown):
        world.keys(grant)
    assert world.house.store.sessions(grant.id) == []
    taken = _read_off(proxy.lost, grant)
    assert world.acts(taken) and grant.ends_at is not None
    world.wait(grant.ends_at)
    assert not world.acts(taken)
    world.until(grant, GrantState.GONE)


def _read_off(lost: list[bytes], grant: Grant) -> Credential:
    """The keys in the one answer that was lost."""
    (reply,) = lost
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
    found = [re.search(f"<{name}>([^<]+)</{name}>", reply.decode()) for name in names]
    key, secret, token = (html.unescape(one[1]) for one in found if one)
    assert grant.ends_at is not None
    return Credential(
        kind="aws",
        material={"access_key_id": key, "secret_access_key": secret, "session_token": token},
        key_id=key,
        issued_at=grant.ends_at,
        expires_at=grant.ends_at,
        bound_until=grant.ends_at,
    )


def _error(code: str) -> bytes:
    return (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
        f"<Message>Rate exceeded</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    ).encode()


def _fine(call: str) -> bytes:
    return (
        f'<{call}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
        f"<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{call}Response>"
    ).encode()
