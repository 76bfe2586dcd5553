"""Which rules, catalogue and groups are in force: what the log says is what the server does."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import GROUPS, RULES, World, laws
from tidegate.base.duty import ALL, Process, told
from tidegate.base.errors import EvidenceClosed, NotAllowed
from tidegate.base.fact import Step
from tidegate.diagnose.doctor import _workers
from tidegate.diagnose.looking import _kept
from tidegate.evidence.seal import read_event
from tidegate.flow import governing
from tidegate.flow.asking import MOST_PENDING
from tidegate.flow.governing import last_digest, put_in_force
from tidegate.flow.house import House
from tidegate.main.insight import verified
from tidegate.main.wiring import outside_of
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


def machine(world: World, rules: str) -> House:
    """Another machine of the installation, with rules of its own, that has just started."""
    made = House(
        store=world.house.store,
        journal=world.house.journal,
        connectors=world.house.connectors,
        laws=laws(rules),
        clock=world.clock,
        randomness=world.randomness,
        process=Process(id="second"),
    )
    put_in_force(made, made.laws, starting=True)
    return made


def replaced(world: World) -> None:
    """The first machine's rules were changed, and it lives and says by which it judges."""
    put_in_force(world.house, laws(FORBID))
    world.worker._beat()


def test_two_machines_seal_their_rules_over_each_other(world: World) -> None:
    """A machine that starts with rules that were replaced, while another judges by the newer ones,
    seals nothing, opens nothing, and says which; however often it starts.
    """
    replaced(world)
    sealed = len(world.house.store.events("rules"))
    for _ in range(3):
        second = machine(world, RULES)
        assert "`worker` judges by those" in second.apart
    assert len(world.house.store.events("rules")) == sealed
    assert last_digest(world.house, "rules") == laws(FORBID).rules.digest
    witness: Any = SimpleNamespace(forked=lambda: None, trouble=lambda size, now: None)
    (trouble,) = outside_of(second, witness, world.clock())
    assert (trouble.code, trouble.shuts) == ("rules_apart", True)
    put_in_force(second, laws(FORBID), starting=True)  # its files were made the same
    assert not second.apart and not outside_of(second, witness, world.clock())


def test_rules_stay_apart_for_ever(world: World) -> None:
    """When the other machine is gone, or the file here is changed by hand, these rules count."""
    replaced(world)
    second = machine(world, RULES)
    put_in_force(second, laws(RULES))  # a file that was just written
    assert not second.apart and last_digest(second, "rules") == laws(RULES).rules.digest
    replaced(world)
    second = machine(world, RULES)
    world.clock.forward(seconds=31)
    put_in_force(second, second.laws, starting=True)
    assert not second.apart and last_digest(second, "rules") == laws(RULES).rules.digest


def test_new_rules_wait_for_other_machines(world: World) -> None:
    """Rules that were never in force are sealed at once, whoever lives: that is how they change."""
    replaced(world)
    new = RULES.replace('@max("2h")', '@max("1h")')
    second = machine(world, new)
    assert not second.apart and last_digest(second, "rules") == laws(new).rules.digest


def test_different_rules_are_told_by_nobody(world: World) -> None:
    """`doctor` names living processes that judge differently; those that are silent are not."""
    world.house.store.beat("worker:old", world.clock(), told(ALL, "1", "sha256:aa"))
    world.clock.forward(seconds=31)
    world.house.store.beat("worker:a", world.clock(), told(ALL, "1", "sha256:aa"))
    now = world.clock()
    assert not any(one.name == "rules" for one in _workers(now, _kept(world.house.store, (), now)))
    world.house.store.beat("worker:b", world.clock(), told(ALL, "1", "sha256:bb"))
    found = [one for one in _workers(now, _kept(world.house.store, (), now)) if one.name == "rules"]
    assert [one.ok for one in found] == [None]
    assert "`a` by sha256:aa" in found[0].says and "`b` by sha256:bb" in found[0].says
