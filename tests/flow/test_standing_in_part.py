"""An account of two role kinds, one of which cannot tell who administers: the other's look counts.

The production flow and the production joiner; what each kind tells is scripted.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support import START, World, catalogue, laws
from tidegate.base.errors import Refused, Unreachable, WorldFailed
from tidegate.base.when import Instant
from tidegate.catalogue import Catalogue, Target
from tidegate.connectors.by_kind import ByKind
from tidegate.connectors.partly_told import PartlyTold, Told
from tidegate.connectors.port import Administrator, Seen
from tidegate.connectors.role_kinds import IAM_ROLE, PERMISSION_SET
from tidegate.finding import Finding
from tidegate.flow.baseline import take_baseline
from tidegate.flow.governing import put_in_force
from tidegate.flow.standing import ACCOUNT_EVERY, look_at_standing, untold

ANA, EVE = (f"arn:aws:iam::123456789012:user/team|/{name}" for name in ("ana", "eve"))
SET = "arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/ps-1234567890abcde"
BO, CY = (f"aws|123456789012|{SET}{at}|id-{at}|user" for at in (0, 1))


class Kind:
    """What one kind tells; a fault in `answers` is raised, the last answer stays."""

    def __init__(self, paced: str, *names: str) -> None:
        self.paced = paced
        self.names = set(names)
        self.faults: list[WorldFailed | None] = []

    def paced_as(self, target: Target) -> str:
        """Its own kind."""
        return self.paced

    def administrators(self, target: Target, now: Instant) -> tuple[Administrator, ...]:
        """Those there are, or the next fault."""
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return tuple(told(name) for name in sorted(self.names))

    def observe(self, scope: object, now: Instant) -> Iterator[Seen]:
        """Nobody holds what is handed out."""
        return iter(())


def told(name: str) -> Administrator:
    """One administrator."""
    return Administrator(sort="user", what=name, says=name, remedy=f"rm {name}")


class Joined(World):
    """An installation on an account with both kinds."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        found = catalogue()
        only = Catalogue({"prod": found.targets["prod"]}, {"prod/admin": found.roles["prod/admin"]})
        put_in_force(self.house, laws(found=only))
        self.iam, self.sets = Kind(IAM_ROLE, ANA), Kind(PERMISSION_SET, BO)
        kinds: Any = {IAM_ROLE: self.iam, PERMISSION_SET: self.sets}
        self.both = ByKind(kinds)
        name = found.targets["prod"].connector
        self.house.connectors = {name: cast(Any, self.both)}

    def look(self, looked: int = 1) -> set[str]:
        """The next look; the names of the findings that are open after it."""
        self.clock.forward(seconds=ACCOUNT_EVERY.total_seconds())
        assert look_at_standing(self.house) == looked
        return {one.what for one in self.live()}

    def live(self) -> list[Finding]:
        """Findings that are open."""
        return [one for one in self.house.store.findings() if one.live]

    def count(self) -> int | None:
        """How many the account's baseline has; None: there is none."""
        found = self.house.store.baselines("prod")
        return next((one.count for one in found if one.role == "prod/*"), None)


@pytest.fixture
def world(tmp_path: Path) -> Joined:
    """`ana` administers by IAM, `bo` by a permission set, from the start."""
    return Joined(tmp_path)


def no(code: str = "access_denied") -> Refused:
    """A kind that may not look."""
    return Refused(code, "expected to be allowed `sso:ListAccountAssignments`, got no", "allow it")


@pytest.mark.parametrize("fault", [no(), no("too_many"), Unreachable("down", "expected an answer")])
def test_trouble_of_one_kind_hides_no_administrator_of_the_other(
    world: Joined, fault: WorldFailed
) -> None:
    """Who is new by IAM is told while permission sets cannot be read; it is said why they are not.

    Nobody of the kind that failed is called gone, and nobody of it has to be known anew.
    """
    assert world.look() == set() and world.count() == 2
    world.sets.names.add(CY)
    assert world.look() == {CY}
    world.sets.names.clear()
    world.sets.faults = [fault] * 9
    world.iam.names.add(EVE)
    assert world.look(looked=0) == {CY, EVE}
    assert fault.code in world.house.unlooked["prod"] and world.count() == 2
    world.iam.names.remove(EVE)
    assert world.look(looked=0) == {CY}  # the kind that answered twice says that one is gone
    world.iam.names.remove(ANA)
    assert world.look(looked=0) == {CY} and world.count() == 1
    world.sets.faults.clear()
    world.sets.names |= {BO, CY}
    world.iam.names.add(ANA)
    assert world.look() == {CY, ANA} and world.house.unlooked == {}


def test_trouble_of_iam_hides_no_holder_of_a_permission_set(world: Joined) -> None:
    """The other way round, also where it fails at the second list alone."""
    assert world.look() == set()
    world.iam.faults = [no()]
    world.sets.names.add(CY)
    assert world.look(looked=0) == {CY} and world.count() == 2
    world.sets.names.remove(CY)
    world.iam.names.clear()
    world.iam.faults = [None, no()]
    assert world.look(looked=0) == set() and world.count() == 2
    assert world.look() == set() and world.count() == 1


def test_second_list_that_fails_hides_nobody_who_is_new(world: Joined) -> None:
    """It closes nothing and forgets nobody, and the look counts as none."""
    assert world.look() == set()
    world.iam.names = {EVE}
    world.sets.names.clear()
    world.iam.faults, world.sets.faults = [None, no()], [None, no()]
    assert world.look(looked=0) == {EVE} and world.count() == 2


def test_part_is_never_taken_for_a_baseline(world: Joined) -> None:
    """Else the first whole look would call the rest new; nor by an operator."""
    world.sets.faults = [no(), no(), None, None, no()]
    assert world.look(looked=0) == set() and world.count() is None
    take_baseline(world.house, world.who("op"), "prod", "CHG-1")
    assert world.count() is None
    assert world.look() == set() and world.count() == 2
    world.iam.names.add(EVE)
    assert world.look() == {EVE}
    with pytest.raises(Refused):
        take_baseline(world.house, world.who("op"), "prod", "CHG-2")
    assert {one.what for one in world.live()} == {EVE} and world.count() == 2


@pytest.mark.parametrize("fault", [no(), no("too_many"), Unreachable("down", "expected an answer")])
def test_kind_that_never_answers_keeps_nobody_told_and_nothing_says_why(
    world: Joined, fault: WorldFailed
) -> None:
    """Without a baseline there is no finding of either kind: which kind it waits for is told."""
    (before,) = untold(world.house).values()
    assert before.code == "no_baseline" and "no look of this process took it yet" in before.message
    world.sets.faults = [fault] * 9
    assert world.look(looked=0) == set() and world.count() is None
    told = untold(world.house)
    assert told["prod"].code == "no_baseline" and not told["prod"].shuts
    assert f"({fault.code}) of kind `permission-set`: {fault.message}" in told["prod"].message
    assert told["prod"].help.startswith(fault.help)
    world.sets.faults.clear()
    assert world.look() == set() and untold(world.house) == {}


def test_look_that_fails_after_the_baseline_is_told_in_the_log_alone(world: Joined) -> None:
    """What it could not read is unseen until it is mended: an operator hears what that is."""
    assert world.look() == set()
    world.sets.faults = [no("too_many")] * 9
    assert world.look(looked=0) == set()
    told = untold(world.house)["prod"]
    assert (told.code, told.help, told.shuts) == ("too_many", "allow it", False)
    assert "of kind `permission-set`" in told.message
    world.sets.faults.clear()
    assert world.look() == set() and untold(world.house) == {}


def test_all_kinds_in_trouble_is_the_trouble_of_the_first(world: Joined) -> None:
    """Then nothing is told, as where there is one kind only."""
    world.iam.faults, world.sets.faults = [no("first")], [no("second")]
    with pytest.raises(Refused) as failed:
        world.both.administrators(cast(Any, Target(id="prod", connector="x", account="1")), START)
    assert failed.value.code == "first" and not isinstance(failed.value, PartlyTold)


def test_what_a_kind_is_not_certain_of_is_not_gone(world: Joined) -> None:
    """Its own word counts, of a part and of the whole; a name of no known form is nobody's."""
    target = cast(Any, Target(id="prod", connector="x", account="1"))
    world.sets.faults = [PartlyTold(("not_yet", "", ""), (told(BO),), lambda name: name != CY)]
    with pytest.raises(PartlyTold) as part:
        world.both.administrators(target, START)
    assert [one.what for one in part.value.told] == [ANA, BO]
    assert part.value.certain(BO) and part.value.certain(EVE) and not part.value.certain(CY)
    world.sets.faults = [no()]
    with pytest.raises(PartlyTold) as part:
        world.both.administrators(target, START)
    assert part.value.certain(EVE) and not part.value.certain(BO) and not part.value.certain("eve")
    whole = world.both.administrators(target, START)
    assert isinstance(whole, Told) and whole.certain(BO)


def test_baseline_that_leaves_out_the_account_is_told_as_taken(
    world: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is taken while a kind does not answer: that of the roles, and the rest is said."""
    monkeypatch.setattr(world.both, "observe", lambda scope, now: iter(()))
    world.sets.faults = [Unreachable("down", "expected an answer")] * 9
    with pytest.raises(WorldFailed, match="expected an answer"):
        take_baseline(world.house, world.who("op"), "prod", "known")
    assert [one.role for one in world.house.store.baselines("prod")] == ["prod/admin"]
    world.sets.faults.clear()
    take_baseline(world.house, world.who("op"), "prod", "known")
    assert world.count() == 2
