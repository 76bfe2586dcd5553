"""What waits and what should not be, from the database to the terminal: the real API between."""

import re
from datetime import timedelta

import pytest

from tests.cli.test_real_server import ASK, PASSWORD, Town
from tests.cli.test_real_server import town as _town
from tests.flow.test_finding import a_sighting
from tests.flow.test_pace_of_accounts import paced
from tests.support import World, laws
from tidegate.finding import FindingKind, FindingState
from tidegate.flow.finding import see
from tidegate.flow.revoking import end_early
from tidegate.shell.identity import set_password

town = _town


@pytest.fixture
def staffed(town: Town) -> Town:
    """An operator, an owner, and eve whom no finding concerns, can sign in as well."""
    for login in ("op", "cy", "eve"):
        set_password(town.world.house, login, PASSWORD)
    return town


def test_queue_is_kept_from_who_waits_in_it(town: Town) -> None:
    """`requests` and `grants` show how much is ahead, when it is usable, how late the end is."""
    world = town.world
    ending = world.granted("eve")
    world.house.laws = laws(found=paced(0.5))
    end_early(world.house, world.who("eve"), ending.id)
    asked = town.at("ana", *ASK, "--json").json
    assert town.at("bo", "approve", asked["id"], "--yes").code == 0
    world.clock.forward(seconds=130)
    says = "queue 1, usable in about 4s, last end about 2m late"
    shown = town.at("ana", "requests", asked["id"])
    assert re.search(rf"^ +queue +{says}$", shown.out, re.M), shown.out
    plain = town.at("ana", "requests", asked["id"], "--json").json["queue"]
    assert plain == {"ahead": 1, "usable_in_seconds": 4, "end_late_seconds": 130, "says": says}
    grant = town.at("ana", "grants", asked["id"])
    assert re.search(rf"^ +queue +{says}$", grant.out, re.M), grant.out
    for _ in range(12):
        world.clock.forward(seconds=5)
        world.work()
    assert "queue" not in town.at("ana", "requests", asked["id"]).out


def found(world: World, **more: object) -> str:
    """The id of an open finding."""
    made = see(world.house, a_sighting(**more), world.clock())
    assert made is not None
    return made.id


def row(out: str, name: str) -> list[str]:
    """The cells of a finding in a list."""
    (line,) = [line for line in out.splitlines() if line.startswith(name)]
    return re.split(r" {2,}", line)


def test_finding_is_lost_between_its_owners(staffed: Town) -> None:
    """Listed with who has it, handed on, closed with a reason, and gone from the list."""
    world = staffed.world
    name, other = found(world), found(world, what="other", kind=FindingKind.READDED)
    assert name not in staffed.at("eve", "findings", "list").out
    listed = staffed.at("op", "findings", "list")
    made = world.house.store.finding(name)
    cells = row(listed.out, name)
    assert cells[1:4] == [made.severity.value, made.kind.value, "open"] and listed.code == 0
    assert row(listed.out, other)[2] == "readded"
    narrowed = staffed.at("op", "findings", "list", "--kind", "readded", "--json").json
    assert [one["id"] for one in narrowed["findings"]] == [other]
    given = staffed.at("op", "findings", "assign", name, "cy")
    assert (given.code, given.out) == (0, f"{name}: cy works on it\n")
    assert row(staffed.at("cy", "findings", "list").out, name)[3:5] == ["assigned", "cy"]
    shut = staffed.at("cy", "findings", "close", name, "--reason", "key deleted")
    assert (shut.code, shut.out) == (
        0,
        f"{name}: closed; it opens again when it is seen again\n",
    )
    assert world.house.store.finding(name).state is FindingState.CLOSED
    assert name not in staffed.at("op", "findings", "list").out
    assert row(staffed.at("op", "findings", "list", "--closed").out, name)[3] == "closed"
    shown = staffed.at("op", "findings", "show", name).out
    assert "by cy: " in shown and '"key deleted"' in shown


def test_finding_is_accepted_for_ever(staffed: Town) -> None:
    """Signed off for a while it says until when; what is not one's own is refused, and stays."""
    world = staffed.world
    name = found(world)
    words = ("findings", "close", name, "--reason", "CHG-12", "--accept-for", "30d")
    refused = staffed.at("eve", *words)
    assert refused.code in (2, 3) and world.house.store.finding(name).state is FindingState.OPEN
    ran = staffed.at("op", *words)
    until = world.clock() + timedelta(days=30)
    assert (ran.code, ran.out) == (0, f"{name}: accepted until {until:%Y-%m-%dT%H:%M:%SZ}\n")
    assert staffed.at("eve", "findings", "assign", name, "bo").code in (2, 3)
