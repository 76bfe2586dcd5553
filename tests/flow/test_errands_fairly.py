"""Errands of a target that does not answer keep the askers of no other target waiting."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from tests.support import World
from tidegate.base.duty import Duty
from tidegate.connectors.port import Scope
from tidegate.flow.erranding import ARM, ISSUE, LOOK, target_of
from tidegate.flow.holding import hold_of
from tidegate.flow.house import House
from tidegate.shell.worker import ERRAND_HANDS, ERRANDS_A_TARGET
from tidegate.store.errands import Errand


def errand(world: World, name: str, asked: object, kind: str = LOOK) -> Errand:
    """One that runs out in twenty seconds."""
    return Errand(
        id=name,
        kind=kind,
        duty=Duty.OPEN,
        asked_by="api",
        asked=msgspec.json.encode(asked).decode(),
        reader="00" * 32,
        until=world.house.store.now() + timedelta(seconds=20),
    )


def look_at(world: World, target: str) -> Mapping[str, object]:
    """What a health look asks."""
    found = world.house.laws.catalogue.target(target)
    return {"connector": "simulated", "verb": "health", "asked": {"target": found}}


def test_silent_target_takes_every_hand_for_errands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask of a target that hangs, who asks of another is answered meanwhile."""
    release, answered, hung = threading.Event(), threading.Event(), list[str]()

    def slowly(house: House, errand: Errand) -> None:
        if target_of(house, errand) == "dev":
            hung.append(errand.id)
            release.wait(30)
        else:
            answered.set()

    monkeypatch.setattr("tidegate.shell.worker.answer", slowly)
    for number in range(ERRAND_HANDS + 4):
        world.house.store.ask(errand(world, f"er_{number:03}", look_at(world, "dev")))
    world.house.store.ask(errand(world, "er_last", look_at(world, "prod")))
    try:
        for _ in range(2):
            world.worker._run_errands()
        assert answered.wait(30)
        assert len(world.worker._errands) <= ERRANDS_A_TARGET + 1
    finally:
        release.set()
    left = world.house.store.take_errands([Duty.OPEN], "other", world.house.store.now(), 99)
    assert len(left) == ERRAND_HANDS + 4 - ERRANDS_A_TARGET  # theirs who have a hand


def test_errand_of_an_unknown_target_has_a_share_of_its_own(world: World) -> None:
    """Every sort of errand says where it is to be done; what says nothing is one crowd."""
    grant = world.granted()
    hold = hold_of(world.house, grant)
    scope = Scope(target=hold.target, role=hold.role)
    look = {"connector": "simulated", "verb": "any"}
    for asked, kind in (
        (look_at(world, "prod"), LOOK),
        ({**look, "asked": {"scope": scope, "now": world.clock()}}, LOOK),
        ({**look, "asked": {"hold": hold, "now": world.clock()}}, LOOK),
        ({"grant": grant.id, "principal": grant.principal}, ISSUE),
        ({"assignment": grant.assignment}, ARM),
    ):
        assert target_of(world.house, errand(world, "er_1", asked, kind)) == "prod"
    for asked, kind in (
        ({"grant": "gr_nobody", "principal": "x"}, ISSUE),
        ({"assignment": "as_none"}, ARM),
        ({"asked": ["no"]}, LOOK),
        ({}, LOOK),
        ([], "other"),
    ):
        assert target_of(world.house, errand(world, "er_1", asked, kind)) == ""
    broken = replace(errand(world, "er_1", {}), asked="{")
    assert target_of(world.house, broken) == ""
