"""Attacks on grants that others fell to, where no other room's tests have them by name.

The whole list with the test of each: docs/kept-access.md.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.backups import backup, put_back
from tests.kept_access.simulated import KindWorld, laws_of
from tests.shell_api.conftest import an_ask, serving
from tests.support import ARN, RULES
from tidegate.base.errors import AskedWrongly, EvidenceBroken, TidegateError
from tidegate.catalogue import target_chain
from tidegate.connectors.role_kinds import IAM_ROLE
from tidegate.connectors.simulated import ASSIGNMENT, Fault, FaultKind
from tidegate.diagnose.looking import mismatch
from tidegate.evidence.checkpoint import TrustedKey
from tidegate.evidence.witness import read_forked
from tidegate.evidence.witnesses import Witnesses
from tidegate.finding import FindingKind, FindingState
from tidegate.flow.governing import put_in_force
from tidegate.flow.people import LOCAL, record
from tidegate.flow.recovering import close_forgotten
from tidegate.flow.revoking import end_early
from tidegate.grant import GrantState
from tidegate.main.wiring import outside_of, publish

PATTERNS = (
    "prod/*", "*", "*/admin", "prod/../vault/admin", "prod%2Fadmin", "prod//admin", "PROD/admin",
    "prod/admin ", "prod/ad\u200bmin", "prod", "", "/admin", "prod/admin/more",
)  # fmt: skip
BOTH = pytest.mark.parametrize("kind", [IAM_ROLE, ASSIGNMENT])


@pytest.fixture
def world(kind: str, tmp_path: Path, database: str) -> Iterator[KindWorld]:
    """An installation whose roles are of that kind."""
    made = KindWorld(tmp_path, laws=laws_of(kind), kind=kind, url=database)
    yield made
    made.down()


@BOTH
def test_b10_grant_on_one_target_acts_on_another(world: KindWorld) -> None:
    """B10: what is taken on dev is bound to dev's native role; ending it leaves prod's alone."""
    asked = world.ask("ana", role="dev/admin")
    world.work()
    (dev,) = world.house.store.grants(request=asked.id)
    prod = world.granted()
    kept, other = world.take(prod), world.take(dev)
    names = {world.cloud._sessions[one.key_id].key.native_role for one in (kept, other)}
    assert names == {f"{ARN}-prod", f"{ARN}-dev"}
    world.settle(1)
    world.ended(dev, "ana")
    world.until(dev, GrantState.GONE)
    assert world.acts(kept) and not world.acts(other)


@BOTH
def test_b10_end_goes_where_the_role_points_now(world: KindWorld) -> None:
    """B10: the role is mapped to another native role while open: its end strikes the old one."""
    grant = world.granted()
    taken = world.take(grant)
    moved = laws_of(world.kind)
    roles = dict(moved.catalogue.roles)
    roles["prod/admin"] = replace(roles["prod/admin"], native={"arn": "arn:aws:iam::1:role/other"})
    put_in_force(world.house, replace(moved, catalogue=replace(moved.catalogue, roles=roles)))
    world.settle(1)
    world.ended(grant)
    world.until(grant, GrantState.GONE)
    world.nothing_left(taken)


@pytest.mark.parametrize("kind", [IAM_ROLE])
@pytest.mark.parametrize(
    "role",
    PATTERNS,
)
def test_b11_role_by_pattern_or_path(world: KindWorld, role: str) -> None:
    """B11, B12: a role is named by its exact id; nothing that only resembles one is filed."""
    with pytest.raises(AskedWrongly):
        world.ask(role=role)
    assert world.house.store.grants() == []


@pytest.mark.parametrize("kind", [IAM_ROLE])
def test_b11_refusal_leaves_no_trace(world: KindWorld) -> None:
    """B11: each try to widen a scope, by a new ask or an edit, is refused and sealed, with nothing
    of what was typed in the evidence.
    """
    with serving(world) as api:
        asked = api.ask()
        for role in PATTERNS:
            world.clock.forward(minutes=1)  # beyond ten a minute they are only counted
            before = len(api.refusals("ana"))
            filed = api.post("ana", "/api/requests", an_ask(role))
            edited = api.call("ana", "PUT", f"/api/requests/{asked['id']}", an_ask(role))
            assert {filed.status_code, edited.status_code} <= {400, 404}, (role, filed.text)
            assert api.refusals("ana")[before:] == [
                ("file_request", "/api/requests", filed.json()["code"]),
                ("edit_request", asked["id"], edited.json()["code"]),
            ]
        (listed,) = api.get("ana", "/api/requests").json()["requests"]
    assert [item["role"] for item in listed["items"]] == ["prod/admin"]


@BOTH
def test_b15_lost_reply_leaves_an_orphan(world: KindWorld) -> None:
    """B15: made, answer lost, and every later call refused: on record, so it ends all the same."""
    request = world.vote(world.ask())
    world.connector.script(
        Fault(kind=FaultKind.LOSE_REPLY, verb="grant"),
        Fault(kind=FaultKind.REFUSE, verb="grant", count=10_000),
    )
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.INTENDED
    world.settle(31, step=30)
    world.until(grant, GrantState.GONE)
    world.nothing_left()


@BOTH
def test_b16_opening_retried_after_the_revocation(world: KindWorld) -> None:
    """B16: an opening whose answer was lost is revoked: no late retry makes it again."""
    request = world.vote(world.ask())
    world.connector.script(Fault(kind=FaultKind.LOSE_REPLY, verb="grant", count=2))
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.INTENDED
    world.ended(grant)
    calls = world.connector.calls["grant"]
    world.settle(45, step=15)
    assert world.connector.calls["grant"] == calls
    assert world.grant(grant).state is GrantState.GONE
    world.nothing_left()


@BOTH
def test_b17_outage_keeps_the_broker_issuing(world: KindWorld) -> None:
    """B17: the cloud is away as the grant ends: nothing more is issued, and it is an alarm; the
    refused call, the tries and the alarm are sealed.
    """
    grant = world.granted()
    world.connector.script(Fault(kind=FaultKind.DOWN, until=world.clock() + timedelta(hours=2)))
    end_early(world.house, world.who("bo"), grant.id)
    world.settle(4, step=20)
    with serving(world) as api:
        assert api.post("ana", f"/api/grants/{grant.id}/credentials").status_code == 403
        assert api.refusals("ana") == [("issue_credentials", grant.id, "not_open")]
    overdue = world.house.store.grants(states=frozenset({GrantState.CLOSING}))
    assert [one.id for one in overdue] == [grant.id]
    assert "grant.noted" in world.names(grant.request)
    (alarm,) = world.house.store.findings()
    assert (alarm.kind, alarm.grant, alarm.state) == (
        FindingKind.LATE, grant.id, FindingState.OPEN,
    )  # fmt: skip
    assert "finding.opened" in world.names(target_chain("prod"))
    world.settle(130, step=60)
    world.until(grant, GrantState.GONE)


@BOTH
def test_b17_somebody_elses_keys_after_the_end(world: KindWorld) -> None:
    """B17: past the end nobody gets a credential, whoever asks, though no worker has run; each try
    is sealed with who made it.
    """
    grant = world.granted()
    world.clock.forward(minutes=30)
    with serving(world) as api:
        for login in ("ana", "bo", "op", "eve"):
            answer = api.post(login, f"/api/grants/{grant.id}/credentials")
            assert answer.status_code in (403, 404) and "material" not in answer.text
            sealed = ("issue_credentials", grant.id, answer.json()["code"])
            assert api.refusals(login) == [sealed]
    assert "session.issued" not in world.names(grant.request)


@pytest.mark.parametrize("kind", [IAM_ROLE])
def test_restored_rules_widen_what_was_asked(world: KindWorld) -> None:
    """B11: a wider rule that comes later does not stretch a window that was approved before."""
    grant = world.granted()
    wider = RULES.replace('@max("2h")', '@max("8h")')
    put_in_force(world.house, laws_of(world.kind, rules=wider))
    assert world.grant(grant).ends_at == grant.ends_at
    world.clock.forward(minutes=30)
    with pytest.raises(TidegateError):
        world.keys(grant)


@BOTH
def test_g39_restored_database_outgrows_its_witness(world: KindWorld) -> None:
    """G39: an older database that grew past what was witnessed opens nothing and forgets nothing:
    what was open is closed all the same, it is said, and the witness keeps both histories.
    """
    kept = backup(world)
    _witnessed(world)
    grant = world.granted()
    taken = world.take(grant)
    publish(world.house, _witnessed(world))
    before = world.house.store.head()
    put_back(world, kept)
    witness = _witnessed(world)
    assert "it was cut" in (witness.forked() or "")
    for number in range(before.size):  # it grows past it
        record(world.house, LOCAL, f"new-{number}", world.clock())
    with pytest.raises(EvidenceBroken):
        publish(world.house, witness)
    assert witness.latest() == before.checkpoint_text
    assert read_forked(world.directory / "witness") == [world.house.store.head().checkpoint_text]
    asked = world.ask()
    assert asked.code == "gate_shut"
    (trouble,) = world.house.outside(world.clock())
    assert (trouble.code, trouble.shuts) == ("log_forked", True)
    again = _witnessed(world)  # a restart forgets nothing of it
    assert again.forked()
    world.clock.forward(minutes=40)
    close_forgotten(world.house)
    world.settle(40, step=10)
    assert not world.house.store.grants(request=asked.id)
    world.nothing_left(taken)


def _witnessed(world: KindWorld) -> Witnesses:
    """The witness of a process that starts now, as the health gate asks it."""
    (world.directory / "witness").mkdir(exist_ok=True)
    store = world.house.store
    made = Witnesses(
        directory=world.directory / "witness",
        url="",
        memory=world.directory / "witnessed",
        contradicts=partial(mismatch, store, (TrustedKey(key=world.signer.verifier()),)),
        started=world.clock(),
        beats=store.beats(),
    )
    made.check()
    world.house.outside = partial(outside_of, world.house, made)
    return made
