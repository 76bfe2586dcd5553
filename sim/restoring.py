"""A database put back as it was some time ago, while clouds and closing journals go on from now.

Every process dies with it. What was sealed since is in no log and no row any more; the oracle
forgets with them what was said, and nothing of what was done.
"""

import sqlite3
from collections import Counter
from copy import copy
from dataclasses import fields
from typing import Any

from sim.book import NEVER, Life, Wish
from tidegate.store import Store

MINUTE = 60_000
BACK = (5_000, 30_000, 2 * MINUTE)  # how old the copy is
# What was said of a grant, and is said again or never. When it began to close stays: it has ended.
SAID = ("removed_at", "gone_at", "failed_at", "signed_at", "still_held")


class Restoring:
    """A copy of one world's database, and everything the oracle had heard when it was made."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.at = world.loop.now
        self.copy = sqlite3.connect(":memory:", check_same_thread=False)
        world.real._database._writing.backup(self.copy)
        oracle = world.oracle
        self.sealed: Counter[str] = Counter(oracle.sealed_names)
        self.wishes = {name: (wish, copy(wish)) for name, wish in oracle.wishes.items()}
        self.ballots = {name: list(some) for name, some in oracle.ballots.items()}
        self.lives = {name: copy(life) for name, life in oracle.lives.items()}
        self.alarms = {one.id for one in oracle.alarms}
        self.counts = {name: Counter(life.counts) for name, life in oracle.lives.items()}

    def put_back(self) -> None:
        """The processes die, the copy takes the place of the database, and they come up on it."""
        world = self.world
        world.oracle.disturbed(f"a database of {world.loop.now - self.at} ms ago is put back")
        for process in world.processes:
            if process.alive:
                process.alive = False
                name, offset = process.name, process.offset
                world.loop.after(1_000, lambda n=name, o=offset: world.rise(n, o))
        self.copy.backup(world.real._database._writing)
        world.real = Store.memory(
            origin=world.origin, signer=world.signer, clock=world.database_now, again=world.real
        )
        self._forget()
        world.due_changed()

    def _forget(self) -> None:
        oracle = self.world.oracle
        oracle.restored_at = self.world.loop.now
        oracle.sealed_names = self.sealed
        oracle.ballots = self.ballots
        oracle.wishes = {name: wish for name, (wish, _) in self.wishes.items()}
        for wish, before in self.wishes.values():
            for one in fields(Wish):
                setattr(wish, one.name, getattr(before, one.name))
        for alarm in oracle.alarms:
            if alarm.id not in self.alarms:
                alarm.until = -1  # nobody knows of its freeze any more
        for name, life in oracle.lives.items():
            self._said_no_more(life, self.lives.get(name), self.counts.get(name))

    def _said_no_more(self, life: Life, before: Life | None, counts: Any) -> None:
        """A grant that was not there, or not opened yet, is known to journals and clouds alone."""
        closing = self.world.oracle.closing.get(life.place.target, {})
        closing.pop(life.id, None)
        unopened = before is None or before.intended_at == NEVER != life.intended_at
        life.forgotten = unopened or before.forgotten  # type: ignore[union-attr]
        if life.told_at == NEVER:
            life.panicked_at = NEVER  # the panic is lost too, before a journal had begun the end
        if before is None:
            life.counts = Counter({"grant.readied": 1})
            return
        life.counts = counts
        for name in SAID:
            setattr(life, name, getattr(before, name))
        if before.intended_at != NEVER and before.closing_at != NEVER == before.removed_at:
            closing[life.id] = life


__all__ = ["BACK", "Restoring"]
