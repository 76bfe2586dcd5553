"""Administrators of an account: known at the first look, afterwards a finding until they go."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.assigned import assign
from tests.support import World, catalogue, laws, misshape
from tidegate.base.errors import Refused
from tidegate.catalogue import Catalogue
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.finding import Finding, FindingKind
from tidegate.flow import standing
from tidegate.flow.baseline import take_baseline
from tidegate.flow.finding import close
from tidegate.flow.governing import put_in_force
from tidegate.flow.standing import ACCOUNT_EVERY, look_at_standing
from tidegate.store import compare

ACCOUNT = "123456789012"


def only_prod(found: Catalogue) -> Catalogue:
    """One target, which the leads own."""
    owned = replace(found.targets["prod"], owner="group:leads")
    return Catalogue({"prod": owned}, {"prod/admin": found.roles["prod/admin"]})


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A cloud that tells who administers an account: `root-like` does from the start."""
    made = World(tmp_path)
    made.connector.tells_administrators = True
    made.cloud.administer(ACCOUNT, "root-like", "role")
    put_in_force(made.house, laws(found=only_prod(catalogue())))
    return made


def look(world: World) -> list[Finding]:
    """The next look at the account; the findings that are not closed after it."""
    world.clock.forward(seconds=ACCOUNT_EVERY.total_seconds())
    assert look_at_standing(world.house) == 1
    return [one for one in world.house.store.findings() if one.live]


def count(world: World) -> int:
    """How often the cloud was asked who administers an account."""
    return world.connector.calls["administrators"]


def test_only_who_came_after_the_first_look_is_a_finding(world: World) -> None:
    """What stood is the baseline; who comes is told to the owner with the remedy, and closes."""
    assert look(world) == [] and look(world) == []
    world.cloud.administer(ACCOUNT, "eve")
    (found,) = look(world)
    assert (found.kind, found.what, found.sort) == (FindingKind.STANDING, "eve", "user")
    assert (found.target, found.owner, found.role) == ("prod", "group:leads", "prod/*")
    assert found.remedy == "rm eve" and "nobody asked for it here" in found.says
    assert [one.id for one in look(world)] == [found.id]
    assert world.house.store.finding(found.id).times == 1
    world.cloud.demote(ACCOUNT, "eve")
    assert look(world) == []
    assert world.house.store.finding(found.id).closed_how == "fixed"
    assert compare(world.house.store) == []


def test_who_went_from_the_baseline_and_comes_back_is_a_finding(world: World) -> None:
    """The baseline shrinks by itself, and by a second list only; it never grows by itself."""
    look(world)
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="administrators"))
    world.cloud.demote(ACCOUNT, "root-like")
    world.clock.forward(seconds=ACCOUNT_EVERY.total_seconds())
    assert look_at_standing(world.house) == 0
    before = count(world)
    assert look(world) == [] and count(world) == before + 2
    world.cloud.administer(ACCOUNT, "root-like", "role")
    (found,) = look(world)
    assert found.what == "root-like"


def test_one_old_list_closes_no_finding_and_forgets_nobody(world: World) -> None:
    """What one list lacks and the next one shows is still there."""
    look(world)
    world.cloud.administer(ACCOUNT, "eve")
    (found,) = look(world)
    real, lists = world.cloud.administrators, iter([()])
    world.cloud.administrators = lambda account: next(lists, real(account))  # type: ignore
    assert [one.id for one in look(world)] == [found.id]
    assert look(world) == [world.house.store.finding(found.id)]


def test_new_baseline_calls_administrators_known(world: World) -> None:
    """It closes their findings as `baseline`, and they are none afterwards."""
    look(world)
    world.cloud.administer(ACCOUNT, "eve")
    (found,) = look(world)
    taken = take_baseline(world.house, world.who("bo"), "prod", "CHG-7")
    assert {one.role: one.count for one in taken} == {"prod/admin": 0, "prod/*": 2}
    assert world.house.store.finding(found.id).closed_how == "baseline"
    assert look(world) == []
    assert compare(world.house.store) == []


def test_accepted_administrator_is_told_again_only_after_its_time(world: World) -> None:
    """Signed off for a while it is no open finding; resolved while it stands, it opens again."""
    look(world)
    world.cloud.administer(ACCOUNT, "eve")
    (found,) = look(world)
    close(world.house, world.who("bo"), found.id, "break-glass", timedelta(days=1))
    assert look(world) == []
    world.cloud.administer(ACCOUNT, "mal")
    (other,) = look(world)
    close(world.house, world.who("bo"), other.id, "should be gone")
    (again,) = look(world)
    assert (again.id, again.times) == (other.id, 2)


def test_account_is_asked_no_more_than_every_ten_minutes(world: World) -> None:
    """However often the chore runs, in whichever process, and also when it was refused."""
    look(world)
    asked = count(world)
    for _ in range(9):
        world.clock.forward(minutes=1)
        assert look_at_standing(world.house) == 0
    assert count(world) == asked
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="administrators"))
    for _ in range(3):
        world.clock.forward(minutes=1)
        look_at_standing(world.house)
    assert count(world) == asked + 1


def test_look_takes_a_token_of_its_account(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one the account is left alone, and looked at as soon as there is one."""
    found = only_prod(catalogue())
    paced = replace(found.targets["prod"], pace=1.0)
    put_in_force(world.house, laws(found=Catalogue({"prod": paced}, dict(found.roles))))
    asked: list[bool] = []

    def may(bucket: object, opening: bool, now: object) -> bool:
        asked.append(opening)
        return len(asked) > 1

    monkeypatch.setattr(world.house.buckets, "may", may)
    assert look_at_standing(world.house) == 0 and count(world) == 0
    assert look_at_standing(world.house) == 1
    assert asked == [True, True]  # as an opening: ends have half to themselves


class Told:
    """What is logged; tests beside may have set up logging their own way."""

    def __init__(self) -> None:
        self.codes: list[object] = []

    def warning(self, event: str, **data: object) -> None:
        """One warning."""
        self.codes.append(data.get("code"))

    info = error = exception = warning


def test_refused_look_is_told_once_and_leaves_everything_as_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not being allowed is no exception and shuts nothing; what was found stays found."""
    look(world)
    world.cloud.administer(ACCOUNT, "eve")
    (found,) = look(world)
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="administrators", count=3))
    told = Told()
    monkeypatch.setattr(standing, "log", told)
    for _ in range(3):
        world.clock.forward(seconds=ACCOUNT_EVERY.total_seconds())
        assert look_at_standing(world.house) == 0
    assert told.codes == ["access_denied"]
    assert [one.id for one in look(world)] == [found.id]
    assert world.granted().opened_at is not None


def test_who_may_not_look_takes_the_baseline_of_roles_all_the_same(world: World) -> None:
    """Never looked at, there is nothing to call known; looked at before, it says so."""
    fault = Fault(kind=FaultKind.REFUSE, verb="administrators")
    world.connector.script(fault)
    taken = take_baseline(world.house, world.who("op"), "prod", "first")
    assert [one.role for one in taken] == ["prod/admin"]
    look(world)
    world.connector.script(fault)
    with pytest.raises(Refused):
        take_baseline(world.house, world.who("op"), "prod", "second")


@pytest.mark.parametrize("fault", ["no answer", "a bug of ours"])
def test_account_that_fails_keeps_no_other_from_its_look(world: World, fault: str) -> None:
    """Each has its own turn: the one that failed and the ones that did not."""
    found, real = catalogue(), world.cloud.administrators
    put_in_force(world.house, laws(found=found))
    if fault == "no answer":
        world.connector.script(Fault(kind=FaultKind.DOWN, verb="administrators"))
    else:
        tries = iter([None])
        world.cloud.administrators = lambda account: next(tries, real(account))  # type: ignore
    assert look_at_standing(world.house) == len(found.targets) - 1
    assert count(world) == len(found.targets)


def test_one_damaged_finding_hides_no_other_administrator(world: World) -> None:
    """A row that cannot be read is told; who came beside it is found all the same."""
    look(world)
    world.cloud.administer(ACCOUNT, "eve")
    (found,) = look(world)
    misshape(world, found.id, table="findings")
    world.cloud.administer(ACCOUNT, "mal")
    world.clock.forward(seconds=ACCOUNT_EVERY.total_seconds())
    assert look_at_standing(world.house) == 0
    assert world.house.store.finding_of(FindingKind.STANDING, "prod", "mal") is not None


@pytest.mark.parametrize("mute", ["the connector", "the kind", "a role called *"])
def test_nothing_is_asked_where_nobody_tells(world: World, mute: str) -> None:
    """Neither the cloud nor the database is asked a thing."""
    if mute == "the connector":
        world.connector.tells_administrators = False
    elif mute == "the kind":
        assign(world)
        found = world.house.laws.catalogue
        assigned = {"prod/admin": found.roles["prod/admin"]}
        put_in_force(world.house, laws(found=Catalogue({"prod": found.targets["prod"]}, assigned)))
    else:
        found = only_prod(catalogue())
        role = replace(found.roles["prod/admin"], id="prod/*")
        put_in_force(world.house, laws(found=Catalogue(found.targets, {role.id: role})))
    store = world.house.store
    world.house.store = None  # type: ignore[assignment]
    try:
        assert look_at_standing(world.house) == 0
    finally:
        world.house.store = store
    assert count(world) == 0
