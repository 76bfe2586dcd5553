"""Which rules, catalogue and groups are in force: what the log says is what the server does."""

from dataclasses import replace

import pytest

from tests.support import GROUPS, RULES, World, laws
from tidegate.base.errors import EvidenceClosed, NotAllowed
from tidegate.base.fact import Step
from tidegate.evidence.seal import read_event
from tidegate.flow import governing
from tidegate.flow.asking import MOST_PENDING
from tidegate.flow.governing import last_digest, put_in_force
from tidegate.main.insight import verified
from tidegate.store.batch import Committed

FORBID = f'{RULES}\n@id("stop") forbid (principal, action, resource);'
MOVED = replace(GROUPS, members={**GROUPS.members, "leads": ("bo",), "sre": ("ana", "cy")})


def test_rules_sealed_as_in_force_that_nobody_decides_by(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the groups cannot be brought in line, nothing is sealed as in force that is not."""
    before = last_digest(world.house, "rules")

    def closed(*_: object) -> int:
        raise EvidenceClosed("evidence_closed", "the disk is full", "wait")

    monkeypatch.setattr(governing, "join_groups", closed)
    with pytest.raises(EvidenceClosed):
        put_in_force(world.house, laws(FORBID, MOVED))
    assert last_digest(world.house, "rules") == before
    assert world.house.laws is world.laws


def test_rules_sealed_without_the_catalogue_they_came_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules and catalogue that change together are sealed in one commit."""
    commit, facts = world.house.store.commit, []

    def noted(step: Step) -> Committed:
        facts.append([fact.name for fact in step.facts])
        return commit(step)

    monkeypatch.setattr(world.house.store, "commit", noted)
    found = world.laws.catalogue
    roles = {name: role for name, role in found.roles.items() if name != "dev/admin"}
    changed = put_in_force(world.house, laws(FORBID, found=replace(found, roles=roles)))
    assert changed == ["rules", "catalogue"]
    assert facts == [["rules.activated", "catalogue.activated"]]


def test_somebody_moved_is_in_both_groups_for_a_moment(world: World) -> None:
    """Who goes from one group to another leaves before joining."""
    put_in_force(world.house, laws(groups=MOVED))
    chain = [read_event(leaf) for _, leaf in world.house.store.events(world.who("cy").id)]
    moves = [(e.name, e.data["group"]) for e in chain if e.name.startswith("membership.")]
    assert moves[-2:] == [("membership.left", "leads"), ("membership.joined", "sre")]


def test_filing_without_end(world: World) -> None:
    """One person's undecided requests are bounded; taking one back makes room, others are free."""
    filed = [world.ask() for _ in range(MOST_PENDING)]
    with pytest.raises(NotAllowed) as refused:
        world.ask()
    assert refused.value.code == "too_many_pending"
    assert world.ask("eve")
    world.vote(filed[0])
    assert world.ask()


def test_ended_grant_of_a_target_that_left_cannot_be_looked_at(world: World) -> None:
    """What was opened is verified by the entry it was opened under, also when that is gone."""
    grant = world.granted()
    world.clock.forward(minutes=31)
    world.work()
    found = world.laws.catalogue
    roles = {name: role for name, role in found.roles.items() if not name.startswith("prod/")}
    targets = {name: target for name, target in found.targets.items() if name != "prod"}
    put_in_force(world.house, laws(found=replace(found, targets=targets, roles=roles)))

    class Running:
        house = world.house

    assert verified(Running(), world.who("ana"), grant.id).as_json()  # type: ignore[arg-type]
