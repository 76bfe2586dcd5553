"""People who want to keep access for longer: a later end, that others vote on. Drawn apart."""

from datetime import timedelta
from random import Random
from typing import Any

from sim.book import Ballot, Life, Wish
from sim.town import LEADS, SECURITY, person
from tidegate.base.errors import TidegateError
from tidegate.flow.asking import Asked, ask

MINUTE = 60_000
# When they ask, before the end of the window: in time, and when it is as good as over, in ms.
BEFORE = (90_000, 30_000, 15_000, 5_000, 900, 50, -20, -1_500)


class Longer:
    """What they do in one world, `scene.longer` of the times they could."""

    def __init__(self, people: Any) -> None:
        self.people = people
        self.world = people.world
        self.rng = Random(f"{self.world.seed} longer")

    def opening(self, life: Life) -> None:
        """A grant is about to open: its holder may ask for more, once or twice."""
        rng, now, loop = self.rng, self.world.loop.now, self.world.loop
        if rng.random() >= self.world.scene.longer:
            return
        for _ in range(rng.choice((1, 1, 2))):
            loop.at(max(life.window - rng.choice(BEFORE), now + 2_000), lambda: self._asks(life))

    def extended(self, life: Life) -> None:
        """Its end moved: it is tried up to the new one and beyond, and maybe moved once more."""
        rng, now, loop, people = self.rng, self.world.loop.now, self.world.loop, self.people
        for at in (
            now + 700,
            life.old_end - 20,
            life.old_end + 1_500,
            life.old_end + 6_000,
            life.window - 20,
        ):
            loop.at(max(at, now), lambda: people._take(life))
        for span in (0, 300, 7_000, MINUTE):
            loop.at(max(life.end + span, now), lambda: people._take(life))
            loop.at(max(life.end + span, now), lambda: people._use_all(life))
        if rng.random() < 0.2:
            self.opening(life)

    def _asks(self, life: Life) -> None:
        rng = self.rng
        span = rng.choice(self.world.scene.longer_by)
        old = life.wish
        wish = Wish(old.login, old.role, span, None, old.emergency, extends=life)
        asked = Asked(
            roles=(),
            duration=timedelta(milliseconds=span),
            reason="not done yet",
            extends=life.id,
        )

        def go(process: Any) -> None:
            wish.base = life.window - life.since
            request = ask(process.house, self.people._actor(process, wish.login), asked)
            self.world.loop.tell(f"{wish.login} asked {span // 1000} s more of {life.id}")
            if request.state.value == "pending":
                self._voters(wish)

        self.people._do("asks for longer", wish, go)

    def _voters(self, wish: Wish) -> None:
        """Those it needs, or only one, or none; sometimes whoever asks it, by either account."""
        rng = self.rng
        voters = [*rng.sample(LEADS, 2), rng.choice(SECURITY)][: rng.choice((0, 1, 3, 3, 3))]
        if rng.random() < 0.3:
            voters += [wish.login, "x1" if person(wish.login) == "r1" else "r0"]
        for voter in voters:
            span = rng.choice((200, 1_000, 4_000, 12_000))
            self.world.loop.after(span, lambda who=voter: self._vote(wish, who))

    def _vote(self, wish: Wish, voter: str) -> None:
        if not wish.request or self.world.some_process() is None:
            return
        try:
            shown = self.world.real.request(wish.request).digest
        except TidegateError:
            return
        approve = self.rng.random() > 0.04
        self.people._vote(Ballot(voter, wish.request, approve, wish.edits), shown)


__all__ = ["Longer"]
