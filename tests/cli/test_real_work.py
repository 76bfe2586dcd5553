"""What waits and what should not be, from the database to the terminal: the real API between."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import Ran, Shell
from tests.cli.fake import FakeLocal
from tests.cli.test_real_server import ASK, Town, served
from tests.flow.test_finding import a_sighting
from tests.flow.test_pace_of_accounts import paced
from tests.support import World, laws
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.finding import FindingKind, FindingState
from tidegate.flow.finding import see
from tidegate.flow.revoking import end_early
from tidegate.shell.identity import make_token


class Staffed(Town):
    """Everybody holds a token: hashing passwords is tried elsewhere."""

    def at(self, login: str, *words: str, typed: str | None = None) -> Ran:
        """What `login` types."""
        house, home = self.world.house, self.directory / login
        token, _ = make_token(house, self.world.who(login).id, "test", house.now())
        told = {"TIDEGATE_HOME": str(home), "HOME": str(home), "COLUMNS": "200"}
        told |= {"TIDEGATE_SERVER": self.url, "TIDEGATE_TOKEN": token}
        return Shell(FakeLocal(), home, told)(*words, typed=typed)


@pytest.fixture
def town(world: World, tmp_path: Path) -> Iterator[Town]:
    """The world behind a real port."""
    with served(world) as url:
        yield Staffed(world, url, tmp_path / "people")


def test_queue_is_kept_from_who_waits_in_it(town: Town) -> None:
    """`requests` and `grants` show how much is ahead, when it is usable, how late the end is."""
    world = town.world
    ending = world.granted("eve")
    world.house.laws = laws(found=paced(0.5))
    end_early(world.house, world.who("eve"), ending.id)
    asked = town.at("ana", *ASK, "--json").json
    assert town.at("bo", "approve", asked["id"], "--yes").code == 0
    world.clock.forward(seconds=20)
    says = "queue 1, usable in about 4s, last end about 20s late"
    plain = told_of_queue(town, asked["id"], says)
    assert plain == {
        "ahead": 1,
        "at_least": False,
        "usable_in_seconds": 4,
        "end_late_seconds": 20,
        "gate": [],
        "says": says,
    }
    for _ in range(12):
        world.clock.forward(seconds=5)
        world.work()
    assert "queue" not in town.at("ana", "requests", asked["id"]).out


def test_stuck_end_promises_a_moment(town: Town) -> None:
    """While a late end has openings wait, who waits reads that and no estimate."""
    world = town.world
    ending = world.granted("eve")
    world.house.laws = laws(found=paced(0.5))
    world.connector.script(Fault(kind=FaultKind.LOSE_REQUEST, verb="revoke", count=100_000))
    end_early(world.house, world.who("eve"), ending.id)
    asked = town.at("ana", *ASK, "--json").json
    assert town.at("bo", "approve", asked["id"], "--yes").code == 0
    world.clock.forward(seconds=130)
    world.work(ticks=1)
    says = "queue 1, last end about 2m late, openings wait until late ends are done"
    plain = told_of_queue(town, asked["id"], says)
    assert (plain["usable_in_seconds"], plain["end_late_seconds"]) == (None, 130)
    assert plain["gate"] == ["closing_fails", "closing_late"]


def told_of_queue(town: Town, request: str, says: str) -> dict[str, object]:
    """What the API tells of it, once a request and its grant both say it in these words."""
    for name in ("requests", "grants"):
        shown = town.at("ana", name, request)
        assert re.search(rf"^ +queue +{says}$", shown.out, re.M), shown.out
    queue = town.at("ana", "requests", request, "--json").json["queue"]
    assert isinstance(queue, dict)
    return queue


def found(world: World, **more: object) -> str:
    """The id of an open finding."""
    made = see(world.house, a_sighting(**more), world.clock())
    assert made is not None
    return made.id


def row(out: str, name: str) -> list[str]:
    """The cells of a finding in a list."""
    (line,) = [line for line in out.splitlines() if line.startswith(name)]
    return line.split()


def test_finding_is_lost_between_its_owners(town: Town) -> None:
    """Listed with who has it, handed on, closed with a reason, and gone from the list."""
    world = town.world
    name, other = found(world), found(world, what="other", kind=FindingKind.READDED)
    assert name not in town.at("eve", "findings", "list").out
    listed = town.at("op", "findings", "list")
    made = world.house.store.finding(name)
    cells = row(listed.out, name)
    assert cells[1:4] == [made.severity.value, made.kind.value, "open"] and listed.code == 0
    assert row(listed.out, other)[2] == "readded"
    narrowed = town.at("op", "findings", "list", "--kind", "readded", "--json").json
    assert [one["id"] for one in narrowed["findings"]] == [other]
    given = town.at("op", "findings", "assign", name, "cy")
    assert (given.code, given.out) == (0, f"{name}: cy works on it\n")
    assert row(town.at("cy", "findings", "list").out, name)[3:5] == ["assigned", "cy"]
    shut = town.at("cy", "findings", "close", name, "--reason", "key deleted")
    assert (shut.code, shut.out) == (
        0,
        f"{name}: closed; it opens again when it is seen again\n",
    )
    assert world.house.store.finding(name).state is FindingState.CLOSED
    assert name not in town.at("op", "findings", "list").out
    assert row(town.at("op", "findings", "list", "--closed").out, name)[3] == "closed"
    shown = town.at("op", "findings", "show", name).out
    assert "by cy: " in shown and '"key deleted"' in shown


def test_finding_is_accepted_for_ever(town: Town) -> None:
    """Signed off for a while it says until when; what is not one's own is refused, and stays."""
    world = town.world
    name = found(world)
    words = ("findings", "close", name, "--reason", "CHG-12", "--accept-for", "30d")
    refused = town.at("eve", *words)
    assert refused.code in (2, 3) and world.house.store.finding(name).state is FindingState.OPEN
    ran = town.at("op", *words)
    until = world.clock() + timedelta(days=30)
    assert (ran.code, ran.out) == (0, f"{name}: accepted until {until:%Y-%m-%dT%H:%M:%SZ}\n")
    assert town.at("eve", "findings", "assign", name, "bo").code in (2, 3)
