"""Panics, and operators who answer for an end that does not come. Drawn apart."""

from datetime import timedelta
from random import Random
from typing import Any

from sim.book import Alarm, Life, Word
from sim.town import ASKERS, OPERATORS, PLACES
from tidegate.base.errors import EvidenceClosed, TidegateError
from tidegate.flow.panicking import (
    call_panic,
    close_named,
    panic_unsealed,
    sweep,
    unfreeze,
)
from tidegate.flow.panics_kept import Wanted
from tidegate.flow.signing_off import sign_off, take_up_again
from tidegate.panic import Scope, ScopeKind

MINUTE = 60_000
FREEZES = (None, 20_000, MINUTE, 3 * MINUTE)


class Alarms:
    """What is called and signed in one world: `scene.panics`, `scene.signs`."""

    def __init__(self, people: Any) -> None:
        self.people = people
        self.world = people.world
        self.rng = Random(f"{self.world.seed} alarms")

    def begin(self) -> None:
        """Plan when somebody panics."""
        scene = self.world.scene
        for _ in range(scene.panics):
            at = self.rng.randrange(scene.asks_from, scene.busy + MINUTE)
            self.world.loop.at(at, self._panics)

    def opening(self, life: Life) -> None:
        """Its end may be long in coming: operators try to answer for it, and its holder too."""
        rng = self.rng
        if rng.random() >= self.world.scene.signs:
            return
        votes = self.world.oracle.ballots.get(life.wish.request, ())
        for who in (*OPERATORS, life.wish.login, *(one.login for one in votes[:1])):
            at = max(life.end, self.world.loop.now) + rng.choice((500, 8_000, 30_000, 90_000))
            self.world.loop.at(at, lambda login=who: self._signs(life, login))

    def _panics(self) -> None:
        rng, scene = self.rng, self.world.scene
        kind = rng.choice(scene.panics_about)
        role = rng.choice(scene.roles)
        name = {
            "principal": rng.choice(scene.askers),
            "target": PLACES[role].target,
            "role": role,
            "all": "",
        }[kind]
        by = "op" if rng.random() < 0.8 else rng.choice(sorted(ASKERS & set(scene.askers)))
        alarm = Alarm(by, kind, name, rng.choice(FREEZES))

        def go(process: Any) -> None:
            house = process.house
            meant = self.people._actor(process, name).id if kind == "principal" else name
            scope = Scope(ScopeKind(kind), meant)
            actor = self.people._actor(process, by)
            freeze = None if alarm.freeze is None else timedelta(milliseconds=alarm.freeze)
            try:
                panic = call_panic(house, actor, scope, "something is wrong", freeze)
            except EvidenceClosed:
                self._unsealed(house, alarm, Wanted(scope=scope, by=actor.id, via="api",
                                                    reason="", freeze=freeze))  # fmt: skip
                return
            if freeze is not None and rng.random() < 0.3:
                after = rng.randrange(5_000, MINUTE)
                self.world.loop.after(after, lambda: self._lifts(panic.id))
            sweep(house, panic)

        self.people._do("panics", alarm, go, tries=3)

    def _unsealed(self, house: Any, alarm: Alarm, wanted: Wanted) -> None:
        """The evidence cannot be written: the journal is begun with, and it is sealed later."""
        if alarm not in self.world.oracle.alarms:
            self.world.oracle.alarms.append(alarm)
        alarm.waited = True
        close_named(house, panic_unsealed(house, wanted))

    def _lifts(self, panic: str) -> None:
        self.people._do(
            "lifts a freeze",
            None,
            lambda process: unfreeze(process.house, self.people._actor(process, "op"), panic),
        )

    def _signs(self, life: Life, login: str) -> None:
        def go(process: Any) -> None:
            actor = self.people._actor(process, login)
            sign_off(process.house, actor, life.id, "I looked myself")
            if self.rng.random() < 0.5:
                self.world.loop.after(self.rng.randrange(2 * MINUTE), lambda: self._resumes(life))

        self.people._do("answers for an end", Word(login, life.id), go)

    def _resumes(self, life: Life) -> None:
        def go(process: Any) -> None:
            try:
                take_up_again(process.house, self.people._actor(process, "op"), life.id, "again")
            except TidegateError:
                return

        self.people._do("takes an end up again", None, go)


__all__ = ["Alarms"]
