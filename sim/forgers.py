"""Somebody who can write to the database, and nothing else, asks processes for credentials."""

import json
from datetime import timedelta
from random import Random
from typing import Any

from sim.book import Life
from tidegate.base.duty import Duty
from tidegate.base.sealed_box import SECRET_BYTES, public_of
from tidegate.store.errands import Errand


class Forgers:
    """What they do in one world, `scene.forgers` of the times they could."""

    def __init__(self, people: Any) -> None:
        self.world = people.world
        self.people = people
        self.rng = Random(f"{self.world.seed} forgers")

    def opening(self, life: Life) -> None:
        """A grant is about to open: an errand that nobody of the house asks is left for it."""
        if self.rng.random() < self.world.scene.forgers:
            at = self.world.loop.now + self.rng.randrange(2_000, 20_000)
            self.world.loop.at(at, lambda: self._forges(life))

    def _forges(self, life: Life) -> None:
        world, real = self.world, self.world.real
        principal = self.people.principals.get(life.wish.login)
        if world.away("store") or principal is None:
            return
        secret = self.rng.randbytes(SECRET_BYTES)
        errand = Errand(
            id=f"er_forged{self.rng.randrange(10**12)}",
            kind="issue",
            duty=Duty.OPEN,
            asked_by="three-1",
            asked=json.dumps({"grant": life.id, "principal": principal}),
            reader=public_of(secret).hex(),
            until=world.database_now() + timedelta(seconds=20),
            proof=self.rng.randbytes(32).hex(),
        )
        real.ask(errand)
        world.chores_due()
        world.loop.after(4_000, lambda: self._reads(errand, life))

    def _reads(self, errand: Errand, life: Life) -> None:
        answered = self.world.real.reply_to(errand.id) is not None
        self.world.oracle.judge("forged", life=life, found=answered)


__all__ = ["Forgers"]
