"""What people do: ask, vote, use, end early, and worse. All drawn from the world's one seed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sim.alarms import Alarms
from sim.forgers import Forgers
from sim.imps import Imps
from sim.longer import Longer
from sim.loop import START, Killed
from sim.oracle import Ballot, Life, Wish
from sim.town import LEADS, LOGINS, PLACES, REQUESTERS, SECURITY
from tidegate.approve import Choice
from tidegate.base.errors import TidegateError
from tidegate.base.when import to_ms
from tidegate.catalogue import AssignmentKey
from tidegate.flow.approving import cast
from tidegate.flow.asking import Asked, ask, change, take_back
from tidegate.flow.brokering import issue
from tidegate.flow.expiring import close_now
from tidegate.flow.people import actor
from tidegate.flow.revoking import end_early

MINUTE = 60_000
# Uses are aimed at what should end them: a little before, at, and a little after, in ms.
AIMS = (-500, -1, 0, 1, 250, 500, 2_000, 6_000, 12_000, 45_000)
LATER = (3 * MINUTE, 11 * MINUTE, 40 * MINUTE, 66 * MINUTE)


class People:
    """Everybody in one world."""

    def __init__(self, world: Any, lifecycles: int) -> None:
        self.world = world
        self.loop = world.loop
        self.rng = world.rng
        self.lifecycles = lifecycles
        self.used = 0
        self.principals = {}
        self.imps = Imps(self)
        self.longer = Longer(self)
        self.alarms = Alarms(self)
        self.forgers = Forgers(self)

    def begin(self) -> None:
        """Plan who asks when."""
        world, scene = self.world, self.world.scene
        self.alarms.begin()
        if world.plan.wants("world.others.stood_before"):
            for login in self.rng.sample(scene.askers if scene.departs else REQUESTERS, 2):
                key = self._place(login, "desk/admin", before=True)
                if scene.departs and self.rng.random() < 0.5:
                    at = self.rng.randrange(scene.busy // 4, scene.busy)
                    self.loop.at(at, lambda key=key: self._takes_away(key))
        for _ in range(self.lifecycles):
            self.loop.at(self.rng.randrange(scene.asks_from, scene.busy), self._somebody_asks)

    # Asking and voting.

    def _somebody_asks(self) -> None:
        rng = self.rng
        scene = self.world.scene
        role = rng.choice(scene.roles)
        login = rng.choice(scene.askers) if rng.random() < 0.97 else "nobody"
        emergency = role == "prod/admin" and rng.random() < 0.1
        start = None
        if rng.random() < scene.later:
            start = (self.loop.now + rng.randrange(10_000, 5 * MINUTE)) // 1000 * 1000
        wish = Wish(login, role, rng.choice(scene.spans), start, emergency)
        self._do("asks", wish, lambda process: self._ask(process, wish))

    def _ask(self, process: Any, wish: Wish) -> None:
        request = ask(process.house, self._actor(process, wish.login), self._asked(wish))
        self.loop.tell(f"{wish.login} asked {wish.role} for {wish.span // 1000} s: {request.id}")
        if request.state.value != "pending":
            return
        self.imps.asked(wish)
        rng, scene = self.rng, self.world.scene
        if rng.random() < scene.edits:
            self._later(rng.randrange(60_000), lambda: self._edit(wish))
        if rng.random() < 0.03:
            self._later(rng.randrange(60_000), lambda: self._withdraw(wish))
        needed = [*rng.sample(LEADS, 2), rng.choice(SECURITY)]
        if rng.random() < 0.4:  # others try as well: twice, themselves, by another account
            needed += [rng.choice((wish.login, "x1", "r0", needed[0], *LOGINS))]
        if rng.random() < 0.1:
            needed = needed[:1]
        for voter in needed:
            self._later(rng.randrange(500, 90_000), lambda v=voter: self._look(wish, v))

    def _asked(self, wish: Wish) -> Asked:
        start = None if wish.start is None else START + timedelta(milliseconds=wish.start)
        return Asked(
            roles=(wish.role,),
            duration=timedelta(milliseconds=wish.span),
            reason="roll back",
            start=start,
            emergency=wish.emergency,
        )

    def _edit(self, wish: Wish) -> None:
        other = Wish(
            wish.login,
            wish.role,
            self.rng.choice(self.world.scene.spans),
            wish.start,
            wish.emergency,
        )
        other.request = wish.request

        def edit(process: Any) -> None:
            who = self._actor(process, wish.login)
            change(process.house, who, wish.request, self._asked(other))
            for voter in (*self.rng.sample(LEADS, 2), self.rng.choice(SECURITY)):
                self._later(self.rng.randrange(500, 60_000), lambda v=voter: self._look(wish, v))

        self._do("edits", other, edit)

    def _withdraw(self, wish: Wish) -> None:
        self._do(
            "withdraws",
            None,
            lambda process: take_back(
                process.house, self._actor(process, wish.login), wish.request
            ),
        )

    def _look(self, wish: Wish, voter: str) -> None:
        """Somebody is shown the request, and votes a moment or a while later on what they saw."""
        process = self.world.some_process()
        if process is None or not wish.request:
            return
        try:
            shown = self.world.real.request(wish.request).digest
        except TidegateError:
            return
        approve = self.rng.random() > 0.04
        ballot = Ballot(voter, wish.request, approve, wish.edits)
        wait = self.rng.choice((0, 200, 5_000, 30_000))
        self._later(wait, lambda: self._vote(ballot, shown))
        self.imps.voted(ballot, shown, wait)

    def _vote(self, ballot: Ballot, shown: str) -> None:
        choice = Choice.APPROVE if ballot.approve else Choice.DENY

        def vote(process: Any) -> None:
            who = self._actor(process, ballot.login)
            cast(process.house, who, ballot.request, choice, shown)

        self._do("votes", ballot, vote)

    def approved(self, wish: Wish) -> None:
        """A request was approved: sometimes the laws change in the same moment."""
        self.imps.approved(wish)
        if wish.extends is not None:
            self.world.chores_due()
        plan = self.world.plan
        if plan.wants("world.laws.raced") and self.rng.random() < 0.2 and not plan.calm:
            plan.hit("world.laws.raced")
            self._later(self.rng.randrange(400), self.world._change_laws)

    # Holding, using, ending.

    def opening(self, life: Life) -> None:
        """A grant is about to open: everything that will be tried with it is planned now."""
        rng, now = self.rng, self.loop.now
        end = life.end
        self.imps.opening(life)
        self.longer.opening(life)
        self.alarms.opening(life)
        self.forgers.opening(life)
        takes = [now + 1_500, rng.randrange(now, end) if end > now else now, end - 300, end - 20]
        for at in takes[: rng.randint(1, 4)]:
            self.loop.at(max(at, now), lambda: self._take(life))
        for at in (end + rng.choice(AIMS[2:]), end + rng.choice(LATER)):
            self.loop.at(max(at, now), lambda: self._take(life))
        if rng.random() < self.world.scene.early_ends:
            self._plan_early_end(life)
        again = self.world.plan.wants("world.others.re_added") and not life.place.own
        if again and rng.random() < self.world.scene.re_adds:
            span = rng.choice((-2_000, 3_000, MINUTE))
            self.loop.at(end + span, lambda: self._re_add(life))
        if self.world.plan.wants("world.others.tampered") and life.place.own:
            for span in (2_000, 20_000, 5 * MINUTE):
                self.loop.at(now + rng.randrange(1_000, 10 * MINUTE) + span,
                             lambda: self._tamper(life))  # fmt: skip

    def extended(self, life: Life) -> None:
        """Its end moved: it is used up to the new one, at it, and after it."""
        self.longer.extended(life)

    def _plan_early_end(self, life: Life) -> None:
        rng, now, end = self.rng, self.loop.now, life.end
        raced = self.world.plan.wants("world.end.raced") or rng.random() < 0.1
        if raced:
            self.world.plan.hit("world.end.raced")
            at = end + rng.choice((-1_000, -200, -50, -10, 0, 10))
        else:
            at = rng.randrange(now, end) if end > now else now
        by = life.wish.login if rng.random() < 0.5 else "op"
        self.loop.at(max(at, now), lambda: self._end(life, by))
        self.imps.ends(life, max(at, now))
        if self.world.plan.wants("world.others.tampered") and life.place.own:
            for span in (1_000, 4_000):
                self.loop.at(max(at, now) + span, lambda: self._tamper(life))
        for span in (100, 2_000, 7_000, 20_000, 5 * MINUTE):
            self.loop.at(max(at, now) + span, lambda: self._use_all(life))

    def _end(self, life: Life, by: str) -> None:
        def end(process: Any) -> None:
            self.world.oracle.asked_to_end.add(life.id)
            ended = end_early(process.house, self._actor(process, by), life.id)
            self.loop.tell(f"{by} ended {life.id}: {ended.state}")
            if not ended.over:
                close_now(process.house, ended)

        self._do("ends", None, end, tries=4)

    def _take(self, life: Life) -> None:
        """Try to get a session now, and plan what is tried with it."""
        if life.place.own:
            self._do("takes a credential", life, lambda process: self._issue(process, life))
        else:
            started = self.world.oracle.sign_in(life)
            if started is not None:
                self._kept(*started)

    def _issue(self, process: Any, life: Life) -> None:
        clock, end = process.clock_ms, life.window
        credential = issue(process.house, self._actor(process, life.wish.login), life.id)[2]
        if min(clock, process.clock_ms) >= end:  # asked for after it: one of before is harmless
            self.world.oracle.broke("I3", f"a credential of {life.id} was issued after its end")
        self._kept(life, credential)

    def _kept(self, life: Life, credential: Any) -> None:
        rng, now, end = self.rng, self.loop.now, life.end
        self.world.oracle.holds(life, credential)
        times = [end + aim for aim in rng.sample(AIMS, 4)]
        times += [end + rng.choice(LATER), now + 10, rng.randrange(now, max(end, now + 1))]
        if not life.place.own:
            times += [end + life.place.exposure + aim for aim in (500, 6_000)]
        for at in times:
            if at >= now:
                self.loop.at(at, lambda: self.world.oracle.use(life, credential))

    def _use_all(self, life: Life) -> None:
        for credential in self.world.oracle.held.get(life.id, ())[:4]:
            self.world.oracle.use(life, credential)
        if not life.place.own:
            started = self.world.oracle.sign_in(life)
            if started is not None:
                self._kept(*started)

    # Others.

    def _place(self, login: str, role: str, before: bool) -> AssignmentKey:
        place = PLACES[role]
        key = AssignmentKey(
            connector=place.connector,
            account=f"account-{place.target}",
            native_role=place.native,
            native_principal=login,
        )
        oracle = self.world.oracle
        self.world.cloud.place(key, self.world.cloud_now())
        oracle.foreign[key] = self.loop.now
        if before:
            oracle.stood.add(key)
            self.world.plan.hit("world.others.stood_before")
        return key

    def _takes_away(self, key: AssignmentKey) -> None:
        """Who gave what stood before takes it away: what is there from then on is ours."""
        oracle, cloud = self.world.oracle, self.world.cloud
        if not cloud.assigned(key, self.world.cloud_now()):
            oracle.broke("I5", f"{key.text()} stood before, was not ours, and is removed")
        cloud.unassign(key, self.world.cloud_now())
        oracle.stood.discard(key)
        oracle.foreign.pop(key, None)
        oracle.went[key] = self.loop.now
        oracle.disturbed("what stood before is taken away")

    def _re_add(self, life: Life) -> None:
        """Another system gives the same access again."""
        oracle, cloud, at = self.world.oracle, self.world.cloud, self.world.cloud_now()
        if life.key in oracle.foreign or cloud.assigned(life.key, at):
            return
        cloud.place(life.key, at)
        oracle.foreign[life.key] = self.loop.now
        oracle.given.add(life.key)
        oracle.closed_again.pop(life.key, None)
        self.world.plan.hit("world.others.re_added")
        self.loop.tell(f"another system gives {life.key.text()} again")
        oracle.disturbed("another system gives access")

        def away() -> None:
            cloud.unassign(life.key, self.world.cloud_now())
            oracle.foreign.pop(life.key, None)
            oracle.went[life.key] = self.loop.now
            oracle.disturbed("another system takes it away")

        self.loop.after(self.rng.choice((30_000, 5 * MINUTE)), away)

    def _tamper(self, life: Life) -> None:
        """Somebody removes our deny."""
        cloud, at, key = self.world.cloud, self.world.cloud_now(), life.key
        if self.world.plan.calm or not cloud.denied(key.account, key.native_role, life.id, at):
            return
        cloud.tamper(key.account, key.native_role, life.id, at)
        life.tampered_at = self.loop.now
        self.world.plan.hit("world.others.tampered")
        self.world.oracle.disturbed(f"the deny of {life.id} is taken away", kind="tampered")
        for span in (10, 20_000, 50_000, 8 * MINUTE, 13 * MINUTE):
            self.loop.after(span, lambda: self._use_all(life))

    # How anything is done.

    def _later(self, span: int, run: Callable[[], None]) -> None:
        self.loop.after(span, run)

    def _actor(self, process: Any, login: str) -> Any:
        principal = self.principals.get(login)
        if principal is None:
            principal = self.principals[login] = self.world.real.account(login).principal
        return actor(process.house, principal)

    def _do(self, what: str, memo: Any, run: Callable[[Any], None], tries: int = 1) -> None:
        """Call the house from some process; a person whose call fails may call once more."""
        process = self.world.some_process()
        if process is None:
            if tries > 0:
                self._later(3_000, lambda: self._do(what, memo, run, tries - 1))
            return

        def go() -> None:
            try:
                run(process)
            except Killed:
                raise
            except TidegateError as fault:
                if fault.code in ("evidence_closed", "database_unreadable") and tries > 1:
                    self._later(3_000, lambda: self._do(what, memo, run, tries - 1))
            except OSError:
                pass

        self.loop.spawn(process, what, go, memo)


__all__ = ["People", "to_ms"]
