"""People who try what nobody may: drawn apart, so that a world without them stays as it was."""

from random import Random
from typing import Any

from sim.oracle import Alias, Ballot, Life, Wish
from sim.town import ALIASES, LEADS, person
from tidegate.base.errors import TidegateError
from tidegate.flow.brokering import issue
from tidegate.flow.people import LOCAL, record

MINUTE = 60_000


class Imps:
    """What they do in one world, `scene.imps` of the times they could."""

    def __init__(self, people: Any) -> None:
        self.people = people
        self.world = people.world
        self.rng = Random(f"{self.world.seed} imps")

    def asked(self, wish: Wish) -> None:
        """Somebody asked: they vote on it, so does their other account, and one of no group."""
        if not self._now():
            return
        others = [login for login, human in ALIASES.items() if human == person(wish.login)]
        for voter in (wish.login, *others, "op"):
            span = self.rng.randrange(300, 60_000)
            self.world.loop.after(span, lambda v=voter: self._vote(wish, v))

    def voted(self, ballot: Ballot, shown: str, wait: int) -> None:
        """Somebody votes: the same once more, in the same moment or a little later."""
        if self._now():
            again = Ballot(ballot.login, ballot.request, ballot.approve, ballot.version)
            span = wait + self.rng.choice((0, 0, 1, 3_000))
            self.world.loop.after(span, lambda: self.people._vote(again, shown))

    def approved(self, wish: Wish) -> None:
        """Somebody whose vote counted turns out to be whoever asked: one address, two accounts."""
        oracle, scene = self.world.oracle, self.world.scene
        if self.rng.random() >= scene.aliased:
            return
        voters = {one.login for one in oracle.ballots[wish.request]} & set(LEADS)
        if voters:
            alias = Alias(self.rng.choice(sorted(voters)), person(wish.login))
            self.world.loop.after(self.rng.randrange(2_000), lambda: self._turns_out(alias))

    def opening(self, life: Life) -> None:
        """A credential of somebody else's grant, and of one's own after its end."""
        if not life.place.own or not self._now():
            return
        now, end, rng = self.world.loop.now, life.end, self.rng
        voters = [one.login for one in self.world.oracle.ballots.get(life.wish.request, ())]
        for login in ("op", *voters[:1], rng.choice(LEADS)):
            at = rng.randrange(now + 500, max(end, now + 501))
            self.world.loop.at(at, lambda who=login: self._steal(life, who))
        for span in (0, 100, 3_000, 20_000):
            self.world.loop.at(max(end + span, now), lambda: self.people._take(life))

    def ends(self, life: Life, at: int) -> None:
        """It is ended early at `at`: its holder asks for a credential all the same."""
        if self._now():
            for span in (0, 30, 300, 3_000):
                self.world.loop.at(at + span, lambda: self.people._take(life))

    def _now(self) -> bool:
        return self.rng.random() < self.world.scene.imps

    def _vote(self, wish: Wish, voter: str) -> None:
        if not wish.request or self.world.some_process() is None:
            return
        try:
            shown = self.world.real.request(wish.request).digest
        except TidegateError:
            return
        self.people._vote(Ballot(voter, wish.request, True, wish.edits), shown)

    def _turns_out(self, alias: Alias) -> None:
        def found(process: Any) -> None:
            mail = f"{alias.person}@x.invalid"
            house = process.house
            record(house, LOCAL, alias.login, house.now(), name=alias.login, mail=mail)

        self.world.loop.tell(f"{alias.login} turns out to be {alias.person}")
        self.people._do("has another address", alias, found)

    def _steal(self, life: Life, login: str) -> None:
        if login == life.wish.login:
            return

        def steal(process: Any) -> None:
            issue(process.house, self.people._actor(process, login), life.id)
            words = f"a credential of {life.id} ({life.wish.login}) was handed to {login}"
            self.world.oracle.broke("I3", words)

        self.people._do("asks for somebody else's credential", life, steal)


__all__ = ["Imps"]
