"""Paths names every way in, the cause that matters first, and never calls a silent cloud empty."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.flow.test_finding import a_sighting
from tests.support import ARN, START, World, catalogue, laws
from tidegate.base.errors import AskedWrongly, NotFound, Refused
from tidegate.catalogue import AssignmentKey, Catalogue, Target
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.diagnose.paths import Looked, find_paths
from tidegate.diagnose.paths_looking import Asked, look_for_ways
from tidegate.diagnose.paths_told import MEANS, SIDE_DOORS, Cause, Ways, render_text
from tidegate.flow.expiring import close_now
from tidegate.flow.finding import close, see
from tidegate.flow.governing import put_in_force
from tidegate.flow.holding import hold_of, person_of
from tidegate.flow.meaning import person_meant
from tidegate.flow.people import LOCAL, record, shown_name
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant, GrantState
from tidegate.main.insight import findings_of

ACCOUNT = "123456789012"


def as_kind(kind: str, **more: object) -> Catalogue:
    """The catalogue of tests with `prod/admin` of a kind."""
    found = catalogue()
    role = replace(found.roles["prod/admin"], kind=kind, probe="", **more)  # type: ignore[arg-type]
    return replace(found, roles={**found.roles, "prod/admin": role})


@pytest.fixture
def center(world: World) -> World:
    """`prod/admin` is an assignment: its sessions outlive it."""
    put_in_force(world.house, laws(found=as_kind("assignment")))
    return world


def key_of(login: str) -> AssignmentKey:
    """The assignment of somebody."""
    return AssignmentKey(
        connector="simulated",
        account=ACCOUNT,
        native_role=f"{ARN}-prod",
        native_principal=login,
    )


def ways(world: World, named: str = "ana", asker: str = "op", target: str = "prod") -> Ways:
    """What `tidegate paths` answers."""
    house = world.house
    where = house.laws.catalogue.target(target)
    person = person_meant(house, world.who(asker), named, where)
    return look_for_ways(
        house.store,
        Asked(
            principal=person.id,
            person=person_of(house, person.id),
            target=where,
            roles=tuple(r for r in house.laws.catalogue.roles.values() if r.target == where.id),
            connector=lambda: house.connector(where.connector),
            hold_of=lambda grant: hold_of(house, grant),
            names=lambda name: shown_name(house, name),
            now=house.now(),
        ),
    )


def ended(world: World, grant: Grant, by: str = "bo") -> Grant:
    """An early end and the first look at it."""
    return close_now(world.house, end_early(world.house, world.who(by), grant.id))


def settle(world: World, minutes: float = 1) -> None:
    """Let the worker have its tries for a while."""
    for _ in range(int(minutes * 12)):
        world.clock.forward(seconds=5)
        world.work()


# The eight situations of an access that should not be there, or is there for another reason.


def removal_refused(world: World) -> None:
    """The cloud refuses the removal of two people's grants."""
    ana, eve = world.granted(), world.granted("eve")
    settle(world)
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=10_000))
    ended(world, ana)
    ended(world, eve)


def session_alive(world: World) -> None:
    """Removed, and the sessions taken before cannot be cut."""
    world.connector.cuts = False
    ended(world, _settled(world))
    settle(world)


def overlapping(world: World) -> None:
    """The first of two grants of one assignment has ended."""
    first = _settled(world)
    world.granted()
    ended(world, first)
    settle(world)


def by_group(world: World) -> None:
    """A group gives the same access to two people who asked for it too."""
    for login in ("ana", "eve"):
        grant = world.granted(login)
        world.cloud.give_by_group(key_of(login), "admins")
        world.clock.forward(seconds=10)
        ended(world, grant)
    settle(world)


def made_again(world: World) -> None:
    """Another system makes the assignment again after our removal, and one more beside it."""
    ended(world, _settled(world))
    settle(world, 2)
    world.cloud.place(key_of("ana"), world.clock())
    world.cloud.place(key_of("mallory"), world.clock())


def chained(world: World) -> None:
    """The role may assume others, and its grant has ended under a live session."""
    put_in_force(world.house, laws(found=as_kind("iam-role", allows=("sts:AssumeRole",))))
    real = world.connector.residual
    world.connector.residual = (  # type: ignore[method-assign]
        lambda target, role, cut: timedelta(hours=1) if role.allows else real(target, role, cut)
    )
    grant = _settled(world)
    world.keys(grant)
    ended(world, grant)
    settle(world)


def just_ended(world: World) -> None:
    """Removed and cut two seconds ago."""
    ended(world, _settled(world))
    world.clock.forward(seconds=2)


def never_asked(world: World) -> None:
    """Somebody put two people in by hand; neither ever asked."""
    for login in ("ana", "mallory"):
        world.cloud.place(key_of(login), world.clock())


def _settled(world: World) -> Grant:
    grant = world.granted()
    settle(world)
    return grant


SITUATIONS: dict[Cause, tuple[Callable[[World], None], str, tuple[str, ...]]] = {
    # cause: (how it comes about, words of the fix, who else is hit)
    Cause.UNCLOSED: (removal_refused, "tidegate doctor", ("eve",)),
    Cause.SESSION: (session_alive, "allow Tidegate the cut", ()),
    Cause.OVERLAP: (overlapping, "tidegate revoke gr_", ()),
    Cause.STANDING: (by_group, "whoever owns group admins", ("eve",)),
    Cause.READDED: (made_again, "stop that system", ("mallory",)),
    Cause.CHAINED: (chained, "take the call out", ()),
    Cause.PROPAGATION: (just_ended, "wait until", ()),
    Cause.UNASKED: (never_asked, "whoever owns the target", ("mallory",)),
}


@pytest.mark.parametrize("cause", SITUATIONS)
def test_wrong_cause_comes_first(center: World, cause: Cause) -> None:
    """Each situation is told by its cause first, with evidence, fix and who else is hit."""
    make, fix, others = SITUATIONS[cause]
    make(center)
    told = ways(center)
    first = told.paths[0]
    assert first.cause is cause, told.as_json()
    assert fix in first.fix
    assert first.hit == others
    assert first.evidence
    assert first.evidence[-1].what == "read back" or first.evidence[-1].index is not None
    assert told.sound is (cause is Cause.OVERLAP)
    assert told.complete
    assert told.says == first.says
    drawn = render_text(told.as_json(), 80)
    assert f"1. {cause}: " in drawn and "not looked at: side doors" in drawn
    assert all(len(line) <= 80 for line in drawn.splitlines())


@pytest.mark.parametrize("cause", SITUATIONS)
def test_event_named_as_evidence_is_another(center: World, cause: Cause) -> None:
    """Every index is the one of an event of that name in the log."""
    SITUATIONS[cause][0](center)
    from tidegate.evidence.seal import read_event

    log = {event.idx: event for _, leaf in center.house.store.all_events()
           if (event := read_event(leaf))}  # fmt: skip
    told = [one for path in ways(center).paths for one in path.evidence if one.index is not None]
    assert told or cause is Cause.UNASKED
    for one in told:
        assert one.index is not None and log[one.index].name == one.what


@pytest.mark.parametrize(
    ("cause", "until"),
    [
        (Cause.SESSION, timedelta(hours=1)),
        (Cause.CHAINED, timedelta(hours=1)),
        (Cause.PROPAGATION, timedelta(seconds=5)),
    ],
)
def test_way_that_outlives_its_time(center: World, cause: Cause, until: timedelta) -> None:
    """What ends by itself is no way any more after that, and its instant was told."""
    SITUATIONS[cause][0](center)
    first = ways(center).paths[0]
    assert first.until
    center.clock.forward(seconds=until.total_seconds() + 60)
    assert ways(center).paths == ()


def test_cut_that_was_taken_away_is_believed(center: World) -> None:
    """A sealed cut that is not seen any more: a session taken before is a way again."""
    grant = _settled(center)
    center.cloud.sign_in(key_of("ana"), center.clock())
    ended(center, grant)
    settle(center)
    assert ways(center).paths == ()
    center.cloud._cuts.clear()
    (path,) = ways(center).paths
    assert path.cause is Cause.SESSION and "is not seen" in path.says


def test_cut_of_a_role_taken_away(world: World) -> None:
    """Of a role whose sessions carry the grant: our deny is not there, so it can act again."""
    grant = world.granted()
    world.keys(grant)
    ended(world, grant)
    settle(world)
    assert world.grant(grant).state is GrantState.GONE and ways(world).paths == ()
    world.cloud.tamper(ACCOUNT, f"{ARN}-prod", grant.id, world.clock())
    assert ways(world).paths[0].cause is Cause.READDED


def test_running_grant_is_a_fault(world: World) -> None:
    """A grant inside its window is told, as it should be, and so is nobody else's."""
    grant = world.granted()
    told = ways(world)
    assert [path.cause for path in told.paths] == [Cause.GRANTED]
    assert told.sound and told.paths[0].grant == grant.id
    assert ways(world, "eve").paths == ()


def test_nothing_found_is_told_as_nothing_there(world: World) -> None:
    """No way found says where was looked and where was not; side doors never are."""
    told = ways(world)
    assert told.says.startswith("no way found: looked at 0 grants and their evidence")
    assert SIDE_DOORS[1] in told.says
    world.granted()
    assert "1 grant and its evidence" in ways(world).looked
    assert told.unlooked == (SIDE_DOORS,)
    assert "no way found" in render_text(told.as_json(), 80)


@pytest.mark.parametrize("kind", [FaultKind.DOWN, FaultKind.REFUSE, FaultKind.LOSE_REPLY])
def test_silent_cloud_is_taken_for_no_access(center: World, kind: FaultKind) -> None:
    """A cloud that does not answer is told as not looked at; by the evidence the grant runs."""
    center.granted()
    center.connector.script(Fault(kind=kind, verb="observe", count=100))
    told = ways(center)
    assert not told.complete
    assert [path.cause for path in told.paths] == [Cause.GRANTED]
    assert any("in the cloud" in what for what, _ in told.unlooked)


def test_silent_cloud_hides_a_grant_past_its_end(center: World) -> None:
    """Past the end with nothing sealed and no answer, it must be assumed to be there."""
    center.granted()
    center.clock.forward(minutes=40)
    center.connector.script(Fault(kind=FaultKind.DOWN, verb="observe", count=100))
    (path,) = ways(center).paths
    assert path.cause is Cause.UNCLOSED and "by its evidence" in path.says


def test_person_the_cloud_does_not_know(center: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom the cloud does not know is told, not passed over."""

    def nobody(*_: object) -> AssignmentKey:
        raise Refused("no_such_person", "expected one user for `ana`, got none")

    monkeypatch.setattr(center.connector, "key", nobody)
    told = ways(center)
    assert (
        "`prod/admin` in the cloud, for this person",
        "expected one user for `ana`, got none",
    ) in (told.unlooked)


def test_target_without_connector_is_empty(world: World) -> None:
    """A target nobody is connected to is told as not looked at."""
    found = catalogue()
    lost = Target(id="lost", connector="nowhere", account=ACCOUNT)
    put_in_force(world.house, laws(found=replace(found, targets={**found.targets, "lost": lost})))
    told = ways(world, target="lost")
    assert not told.complete
    assert told.unlooked[0][0] == "the cloud behind `lost`"
    assert "nowhere" in told.unlooked[0][1]


def test_gap_in_the_evidence_is_passed_over(center: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain with a hole is told beside what its rows still say."""
    grant = _settled(center)
    real = center.house.store.events
    monkeypatch.setattr(
        center.house.store, "events", lambda subject: real(subject)[:3] + real(subject)[4:]
    )
    told = ways(center)
    assert [path.grant for path in told.paths] == [grant.id]
    assert any("the whole evidence" in what for what, _ in told.unlooked)


# Who is meant, and who may ask.


def test_person_is_known_by_one_name_only(world: World) -> None:
    """Login, e-mail, ids, key and session ARNs of one person all find them."""
    grant = world.granted()
    keys = world.keys(grant)
    (session,) = world.house.store.sessions(grant.id)
    ana = world.who("ana").id
    for named in (
        "ana",
        "Ana@X.invalid",
        ana,
        grant.id,
        grant.request,
        keys.key_id,
        f"arn:aws:sts::{ACCOUNT}:assumed-role/admin/{session.id}",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/ana",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/ana@x.invalid",
    ):
        target = world.house.laws.catalogue.target("prod")
        assert person_meant(world.house, world.who("audit"), named, target).id == ana, named


@pytest.mark.parametrize(
    "named",
    [
        "nemo",
        "nemo@x.invalid",
        "ASIA0000000000000000",
        "gr_" + "0" * 26,
        "se_" + "0" * 26,
        "arn:aws:sts::999999999999:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/ana",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/admin/ana",
        f"arn:aws:iam::{ACCOUNT}:user/ana",
        "",
    ],
)
def test_unknown_person_is_somebody(world: World, named: str) -> None:
    """What names nobody is told so to who may ask, and is no difference to who may not."""
    with pytest.raises(NotFound) as told:
        ways(world, named)
    assert told.value.code == "unknown_person"
    with pytest.raises(NotFound) as unknown:
        ways(world, named, asker="eve")
    with pytest.raises(NotFound) as refused:
        ways(world, "ana", asker="eve")
    assert (unknown.value.code, unknown.value.message, unknown.value.help) == (
        refused.value.code,
        refused.value.message,
        refused.value.help,
    )


def test_ambiguous_mail_picks_one(world: World) -> None:
    """An e-mail of two people is asked back, and says nothing to who may not ask about them."""
    record(world.house, LOCAL, "ana2", world.clock(), name="ana2", mail="ana@x.invalid")
    other = world.house.store.principal_by(LOCAL, "ana2")
    assert other is not None
    from tidegate.store import Account

    world.house.store.put_account(Account(login="ana2", principal=other.id, password_hash="none"))
    with pytest.raises(AskedWrongly) as told:
        ways(world, "ana@x.invalid")
    assert told.value.code == "ambiguous_person" and other.id in told.value.message
    with pytest.raises(NotFound):
        ways(world, "ana@x.invalid", asker="eve")


def test_stranger_may_ask_about_others(world: World) -> None:
    """Oneself, auditors, operators and the target's owners: nobody else, and only their targets."""
    found = catalogue()
    owned = replace(found.targets["prod"], owner="group:leads")
    put_in_force(world.house, laws(found=replace(found, targets={**found.targets, "prod": owned})))
    for asker in ("ana", "audit", "op", "bo"):
        assert ways(world, "ana", asker=asker).paths == ()
    for asker, target in (("eve", "prod"), ("nobody", "prod"), ("bo", "dev")):
        with pytest.raises(NotFound):
            ways(world, "ana", asker=asker, target=target)


def test_every_cause_has_its_sentence() -> None:
    """One word and one sentence each."""
    assert set(MEANS) == set(Cause)
    assert all(" " not in cause for cause in Cause)
    assert find_paths(Looked(now=START)) == ()


def test_others_access_is_told_without_a_cause_of_its_own(center: World) -> None:
    """Whose removal is under way, or whose grant runs, is not hit by a stranger's assignment."""
    never_asked(center)
    center.granted("eve")
    assert ways(center).paths[0].hit == ("mallory",)
    center.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=100))
    center.clock.forward(minutes=31)
    center.work()
    assert ways(center).paths[0].hit == ("mallory",)


def test_end_that_credentials_carry_is_told_to_spread(world: World) -> None:
    """At the end its credentials carry nothing needs to become true anywhere: no way is left."""
    grant = world.granted()
    world.keys(grant)
    world.clock.forward(minutes=30, seconds=1)
    assert ways(world).paths == ()


def test_end_of_a_role_nobody_used_is_told_to_spread(world: World) -> None:
    """A cut a second ago is told until it is true everywhere, of who had a session at all."""
    used, idle = world.granted(), world.granted("eve")
    world.keys(used)
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="probe", count=100))
    world.clock.forward(minutes=1)
    for grant in (used, idle):
        ended(world, grant)
    world.clock.forward(seconds=1)
    assert [path.cause for path in ways(world).paths] == [Cause.PROPAGATION]
    assert ways(world, "eve").paths == ()
    world.clock.forward(seconds=5)
    assert ways(world).paths == ()


def test_open_finding_about_a_person_is_left_out(world: World) -> None:
    """Beside the ways stands what is open about them there, for whoever may see it; no other's."""
    about = {"target": "prod", "role": "prod/admin"}
    one = a_sighting(what="one", principal=world.who("ana").id, **about)
    other = a_sighting(what="two", principal=world.who("bo").id, **about)
    shut = a_sighting(what="three", principal=world.who("ana").id, **about)
    seen = [see(world.house, each, world.clock()) for each in (one, other, shut)]
    first, _, last = [each for each in seen if each is not None]
    close(world.house, world.who("op"), last.id, "gone by hand")
    ana = world.who("ana").id
    named = findings_of(world.house, world.who("op"), ana, "prod")
    assert [name for name, _ in named] == [first.id]
    assert findings_of(world.house, world.who("nobody"), ana, "prod") == ()
    told = replace(ways(world), findings=named)
    assert f"open finding: {first.id}: {one.says}" in render_text(told.as_json(), 200)
    older = {name: value for name, value in told.as_json().items() if name != "findings"}
    assert "open finding" not in render_text(older, 200)
