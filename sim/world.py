"""One world: processes on one store and one cloud, people, faults, and an oracle that watches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any

from sim.loop import START, Hands, Killed, Loop, wait_for
from sim.oracle import Oracle
from sim.people import People
from sim.points import Plan
from sim.ports import Disk, Ports, SimConnector, SimJournal, SimStore
from sim.restoring import BACK, Restoring
from sim.scene import WHOLE, Scene
from sim.town import ALIASES, LOGINS, laws_of
from tidegate.base import duty
from tidegate.base.duty import Duty
from tidegate.base.errors import TidegateError
from tidegate.base.when import to_ms
from tidegate.connectors.divided import Divided
from tidegate.connectors.simulated import SimulatedCloud, SimulatedConnector
from tidegate.evidence.checkpoint import TrustedKey
from tidegate.evidence.note import FileSigner
from tidegate.flow.erranding import Errands
from tidegate.flow.governing import put_in_force, start_log
from tidegate.flow.house import House
from tidegate.flow.people import LOCAL, record
from tidegate.flow.reconciling import reconcile_step
from tidegate.flow.recovering import look_back
from tidegate.flow.refusing import Refusals
from tidegate.shell import worker as worker_room
from tidegate.shell.worker import RECONCILE_EVERY, Chore, Worker
from tidegate.store import Account, Store
from tidegate.store.queue import LINES

ORIGIN = "sim.tidegate.invalid/log"
MINUTE = 60_000
HOUR = 60 * MINUTE
TICK = 200  # how often a worker looks: the production TICK
CHORES = 15_000  # how often a worker with nothing due looks after its chores; silent after 30 s
# Ends are sealed in bulk whoever has the grant in hand. Each part is a step or two of one index.
_LINE = """
SELECT min(due_at_ms) AS at FROM grants INDEXED BY grants_due
WHERE lane = {line} AND due_at_ms IS NOT NULL AND due_at_ms > :now
UNION ALL SELECT min(max(due_at_ms, coalesce(lease_until_ms, 0))) FROM grants INDEXED BY grants_due
WHERE lane = {line} AND due_at_ms IS NOT NULL AND due_at_ms <= :now
"""
NEXT_DUE = " UNION ALL ".join(
    (
        *(_LINE.format(line=line) for line in LINES),
        "SELECT min(ends_at_ms) FROM grants INDEXED BY grants_ending"
        " WHERE state IN ('open', 'intended')",
    )
)
START_MS = to_ms(START)


class Process:
    """One Tidegate process: its clock, its memory, its worker. Dead for good once killed."""

    def __init__(self, world: "World", name: str, offset: int) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.ready = False
        self.stopped_until = 0
        self.offsets = [(world.loop.now, offset)]  # how far its clock was off, from which moment on
        self.ticking = False
        self.chores_at = 0
        self.looked_at = 0  # when its worker looked last, and looks next
        self.looks_at = 0
        self.duties = world.scene.duties.get(name, duty.ALL)
        ports = Ports(world, self)
        self.store = SimStore(ports, world.real)
        self.journal = SimJournal(ports, world.disk_of(name))
        errands = Errands()
        self.connectors = {
            name: _divided(
                SimConnector(
                    ports,
                    SimulatedConnector(
                        world.cloud,
                        world.cloud_now,
                        cuts=name != "bare",
                        deadlines=name == "armed" or world.scene.armed,
                    ),
                ),
                self.duties,
                errands,
            )
            for name in ("plain", "bare", "armed")
        }
        self.house = House(
            store=self.store,  # type: ignore[arg-type]
            journal=self.journal,  # type: ignore[arg-type]
            connectors=self.connectors,  # type: ignore[arg-type]
            laws=laws_of(world.laws),
            clock=self.clock,
            randomness=world.rng.randbytes,
            process=world.process_of(name, self.duties),
        )
        errands.house = self.house
        self.laws = world.laws
        self.laws_left: list[tuple[int, str]] = []  # until when others were in force here
        chores = (
            Chore("compact", timedelta(minutes=10), self._compact),
            Chore("reconcile", RECONCILE_EVERY, lambda: reconcile_step(self.house), aside=True),
        )[: 2 if Duty.CLOSE in self.duties else 1]
        self.worker = Worker(self.house, Refusals(), chores)
        for chore in self.worker._chores:
            if chore.name == "mend" and not world.plan.wants("world.others.tampered"):
                chore.every = timedelta(minutes=4)  # every look reads every cut there is
            others = ("world.others.re_added", "world.others.stood_before")
            if chore.name == "reconcile" and not any(map(world.plan.wants, others)):
                chore.every = timedelta(seconds=2)
            if chore.name == "compact" and world.plan.wants("journal.compact"):
                chore.every = timedelta(minutes=2)  # else a crowded world has three in all
        self.worker._hands.shutdown(wait=False)
        self.worker._asides.shutdown(wait=False)
        self.worker._from_journal.executor.shutdown(wait=False)
        self.worker._from_journal.executor = Hands(world.loop, self)
        self.worker._hands = Hands(world.loop, self)  # type: ignore[assignment]
        self.worker._asides = Hands(world.loop, self)  # type: ignore[assignment]
        self.worker._errand_hands = Hands(world.loop, self)  # type: ignore[assignment]

    @property
    def offset(self) -> int:
        """How far its clock is off now, in milliseconds."""
        return self.offsets[-1][1]

    @offset.setter
    def offset(self, span: int) -> None:
        self.offsets.append((self.world.loop.now, span))

    def clock(self) -> datetime:
        """What its clock shows."""
        return START + timedelta(milliseconds=self.world.loop.now + self.offset)

    @property
    def clock_ms(self) -> int:
        """The same, in milliseconds since START."""
        return self.world.loop.now + self.offset

    def up(self) -> None:
        """What a server does before it serves; tried again until it is done."""
        alone = not any(other.alive and other is not self for other in self.world.processes)
        while True:
            try:
                if alone:
                    self.store.free_leases()
                self.govern(self.world.laws)
                if Duty.CLOSE in self.duties:
                    look_back(self.house)
                break
            except (TidegateError, OSError):
                self.world.loop.pause(2_000)
        self.ready = True
        if self.laws != self.world.laws:  # they changed while it came up
            self.world.loop.spawn(self, f"{self.name} reads the laws", _reading_laws(self))

    def govern(self, name: str) -> None:
        """These laws come into force here. When that fails their groups may be in force without
        them: those are kept first, in the store, and so are everybody's.
        """
        try:
            put_in_force(self.house, laws_of(name))
        except BaseException:
            self.world.groups_half.append(name)
            raise
        self.world.groups_left += [(self.world.loop.now, half) for half in self.world.groups_half]
        self.world.groups_half.clear()
        self.laws_left.append((self.world.loop.now, self.laws))
        self.laws = name

    def _compact(self) -> None:
        self.house.journal.compact(self.house.now())


class World:
    """One run. `lifecycles` people's wishes become grants, or not, and all of it must end."""

    def __init__(
        self, seed: str, lifecycles: int, chances: dict[str, float], scene: Scene = WHOLE
    ) -> None:
        self.rng = Random(seed)
        self.scene = scene
        self.seed = seed
        self.stop_at_once = False  # at the first broken rule: for hunting mutants
        self.loop = Loop()
        self.head = ""
        self.origin = ORIGIN
        self.plan = Plan(Random(f"{seed} faults"), chances)
        self.cloud = SimulatedCloud()
        self.cloud_offset = 0
        self.cloud_set_back_at = -2  # when its clock last went back
        self.database_offset = 0
        self.database_clock = [(0, 0)]  # how far it was off, from which moment on
        self.database_since = 0  # when its clock changed last
        self.own_database_clock = self.rng.random() < 0.5
        self.disk = Disk()
        self._disks: dict[str, Disk] = {}
        self._risen = 0
        self.laws = scene.first_laws
        self.laws_since: list[tuple[int, str]] = [(0, self.laws)]
        self.laws_gone: list[tuple[int, str]] = []  # until when a process that died had which
        self.groups_half: list[str] = []  # of which laws the groups may be in force, and no more
        self.groups_left: list[tuple[int, str]] = []  # until when they were
        gathers = Random(f"{seed} gathers").random() < 0.3
        self.gathers = gathers if scene.gathers is None else scene.gathers
        self.oracle = Oracle(self)
        self.processes: list[Process] = []
        self._away: dict[str, int] = {}
        self._full: dict[str, int] = {}
        self._due: int | None = None
        self.signer = FileSigner(ORIGIN, b"s" * 32)
        self.trusted = TrustedKey(key=self.signer.verifier())
        self.real = Store.memory(origin=ORIGIN, signer=self.signer, clock=self.database_now)
        self._settle()
        self.people = People(self, lifecycles)

    # What the ports ask.

    def cloud_now(self) -> datetime:
        """The cloud's clock."""
        return START + timedelta(milliseconds=self.loop.now + self.cloud_offset)

    def database_now(self) -> datetime:
        """The database's clock."""
        return START + timedelta(milliseconds=self.loop.now + self.database_offset)

    def away(self, what: str) -> bool:
        """Whether all of `cloud`, `store` or `journal` cannot be reached now."""
        return self.loop.now < self._away.get(what, 0)

    def disk_of(self, name: str) -> Disk:
        """Where its closing journal lies: one for all, or its own where duties are divided."""
        return self._disks.setdefault(name, Disk()) if self.scene.duties else self.disk

    def process_of(self, name: str, duties: frozenset[Duty]) -> duty.Process:
        """What it is called by the others: each start has a name of its own, as a server's has."""
        self._risen += 1
        key = b"k" * 32 if self.scene.duties else b""  # errands are only where duties are divided
        return duty.Process(id=f"{name}-{self._risen}", duties=duties, key=key)

    def full(self, what: str) -> bool:
        """Whether the disk of it is full now."""
        return self.loop.now < self._full.get(what, 0)

    def due_changed(self) -> None:
        """Something was committed, claimed or put to sleep: what is due next must be asked anew."""
        self._due = None
        for process in self.processes:
            pace = self._pace()
            soonest = self.loop.now + pace - (self.loop.now - process.looked_at) % pace
            if process.looks_at > soonest:
                self._look_at(process, soonest)

    def chores_due(self) -> None:
        """Every worker looks after its chores at its next look."""
        for process in self.processes:
            process.chores_at = self.loop.now
        self.due_changed()

    def kill(self, process: Process) -> None:
        """The process dies now; another comes up on what is there."""
        if not process.alive:
            return
        process.alive = False
        self.laws_gone += [*process.laws_left, (self.loop.now, process.laws)]
        self.loop.tell(f"{process.name} dies")
        self.oracle.disturbed(f"{process.name} dies")
        down = self.plan.rng.choice(self.scene.downs)
        if self.plan.calm:
            down = 500
        self.oracle.disturbed("a process is down", down)
        self.loop.after(down, lambda: self.rise(process.name, process.offset))

    def rise(self, name: str, offset: int = 0) -> Process:
        """A new process comes up."""
        process = Process(self, name, offset)
        self.processes = [one for one in self.processes if one.alive]
        self.processes.append(process)
        self.loop.tell(f"{name} comes up")
        self.loop.spawn(process, f"{name} coming up", process.up)
        process.looked_at = self.loop.now
        self._look_at(process, self.loop.now + TICK)
        return process

    def some_process(self) -> Process | None:
        """One that serves; None when all are down."""
        ready = [one for one in self.processes if one.alive and one.ready]
        return self.rng.choice(ready) if ready else None

    # Running.

    def run(self) -> None:
        """The whole world, to its quiet end, judged."""
        self.rise("one")
        beside = self.rng.random() < 0.5
        if (
            self.scene.beside
            if self.scene.beside is not None
            else (beside or self.plan.wants("world.process.beside"))
        ):
            self.plan.hit("world.process.beside")
            self.rise("two")
        for name in self.scene.duties:
            if name not in ("one", "two"):
                self.rise(name)
        self._befall()
        self.people.begin()
        try:
            self.loop.run(self.scene.faults_end)
            self._calm()
            self.loop.run(self.scene.faults_end + self.scene.quiet + self._ahead())
            self.oracle.judge_end()
            self.head = self.real.head().root.hex()
        finally:
            self.close()

    def _ahead(self) -> int:
        """How much longer it takes until all is gone: an instant that was fixed while a clock was
        ahead is waited for.
        """
        ahead = ("world.cloud.clock_ahead", "world.process.clock_ahead")
        return HOUR * sum(self.plan.hits[name] > 0 for name in ahead)

    @property
    def told_until_broken(self) -> list[tuple[int, str]]:
        """The last steps before the first rule was broken; at the end when none was."""
        return self.oracle.story or list(self.loop.told)

    def close(self) -> None:
        """Nothing is left of it."""
        for process in self.processes:
            process.alive = False
        self.loop.end()
        self.real.close()

    def _settle(self) -> None:
        """Accounts and laws, before anything can fail: a log that has begun."""
        founder = House(
            store=self.real,
            journal=SimJournal(Ports(self, _Founder(self)), self.disk),  # type: ignore[arg-type]
            connectors={},
            laws=laws_of(self.laws),
            clock=self.database_now,
            randomness=self.rng.randbytes,
        )
        start_log(founder, ORIGIN, self.signer.verifier().text())
        for login in (*LOGINS, *(one for one in self.scene.askers if one not in LOGINS)):
            mail = f"{ALIASES.get(login, login)}@x.invalid"
            made = record(founder, LOCAL, login, founder.now(), name=login, mail=mail)
            self.oracle.known(login, made.id)
            self.real.put_account(
                Account(login=login, principal=made.id, password_hash="none fits")
            )
        put_in_force(founder, laws_of(self.laws))
        self.oracle.founded(self.real.head().size)

    def _look_at(self, process: Process, when: int) -> None:
        """Have its worker look then, and not at what was planned before."""
        process.looks_at = when
        self.loop.at(when, lambda: self._look(process, when))

    def _lively(self) -> bool:
        return self.loop.now < self.scene.faults_end + self.scene.lively

    def _pace(self) -> int:
        return TICK if self._lively() else 2_000

    def _chores_pace(self) -> int:
        """How long chores are left alone. What no row tells of is seen by the journal's alone."""
        if not self._lively():
            return 5 * MINUTE
        return CHORES if self.oracle.restored_at < 0 else 2_000

    def _look(self, process: Process, planned: int) -> None:
        """What the worker's thread does every TICK; looks that would find nothing are left out."""
        if not process.alive or planned != process.looks_at:
            return
        now = self.loop.now
        process.looked_at = now
        if now < process.stopped_until:
            self._look_at(process, process.stopped_until)
            return
        pace, due = self._pace(), self.next_due()
        if process.ready and not process.ticking and (
            now >= process.chores_at or due <= process.clock_ms
        ):  # fmt: skip
            process.ticking = True
            if now >= process.chores_at:
                process.chores_at = now + self._chores_pace()
            process.looks_at = now + pace

            def tick() -> None:
                try:
                    process.worker.tick()
                finally:
                    process.ticking = False

            self.loop.spawn(process, f"worker of {process.name}", tick)
        self._look_at(process, now + self._spared(process, pace))

    def _spared(self, process: Process, pace: int) -> int:
        """How long nothing can be due for it, in whole looks. What changes that asks anew."""
        now, due = self.loop.now, self._due
        if due is None or process.ticking or not process.ready or self.away("store"):
            return pace
        waits = min(process.chores_at, due - process.offset) - now
        if self._lively():  # the pace changes then
            waits = min(waits, self.scene.faults_end + self.scene.lively - now)
        return max(1, -(-waits // pace)) * pace

    def next_due(self) -> int:
        """When the next grant is due, in ms since START; only to spare looks that find nothing."""
        if self.away("store"):
            return self.loop.now - HOUR
        if self._due is None:
            found = self.real._database.look(NEXT_DUE, {"now": self.loop.now + START_MS})
            due = min((at for (at,) in found if at is not None), default=None)
            self._due = 1 << 60 if due is None else due - START_MS
        return self._due

    def _calm(self) -> None:
        """From here nothing fails: clocks are right, everything is reached."""
        self.plan.calm = True
        self._away.clear()
        self._full.clear()
        self._set_database_clock(0)
        self._set_cloud_clock(0)
        for process in self.processes:
            process.offset = 0
            process.stopped_until = 0
        self.due_changed()
        self.oracle.disturbed("the last fault is over")
        self.loop.tell("nothing fails from here on")

    # What befalls the whole world.

    def _befall(self) -> None:
        rng = self.plan.rng
        wants = self.plan.wants

        def when() -> int:
            if self.scene.befalls:
                return rng.randrange(*self.scene.befalls)
            return rng.randrange(self.scene.busy // 20, self.scene.faults_end * 6 // 7)

        for _ in range(self.scene.restores):
            self.loop.at(rng.randrange(self.scene.busy // 4, self.scene.busy), self._restore)
        for what in ("cloud", "store", "journal"):
            if wants(f"world.{what}.outage"):
                self.loop.at(when(), lambda what=what: self._outage(what, self._away, "outage"))
        if wants("world.store.full"):
            self.loop.at(when(), lambda: self._outage("store", self._full, "full"))
        for where, sign in (("clock_ahead", 1), ("clock_behind", -1)):
            span = rng.choice(self.scene.skews) * sign
            if wants(f"world.process.{where}"):
                self.loop.at(when(), lambda s=span, w=where: self._skew_process(s, w))
            if wants(f"world.cloud.{where}"):
                self.loop.at(when(), lambda s=span, w=where: self._skew_cloud(s, w))
            if wants(f"world.database.{where}"):
                self.own_database_clock = True
                for jump in (sign * 700, sign * 5_000):
                    self.loop.at(when() // 3, lambda s=jump, w=where: self._skew_database(s, w))
        for _ in range(3):
            if wants("world.process.killed"):
                self.loop.at(when(), self._kill_some)
            if wants("world.process.stopped"):
                self.loop.at(when(), self._stop_some)
        if wants("world.laws.changed") or wants("world.laws.raced"):
            for _ in range(3):
                self.loop.at(when() // 2, self._change_laws)

    def _restore(self) -> None:
        """A copy is made, and put back some time later."""
        restoring = Restoring(self)
        self.loop.after(self.plan.rng.choice(BACK), restoring.put_back)

    def _outage(self, what: str, table: dict[str, int], where: str) -> None:
        span = self.plan.rng.choice(self.scene.outages)
        until = min(self.loop.now + span, self.scene.faults_end)
        table[what] = until
        self.due_changed()
        self.plan.hit(f"world.{what}.{where}")
        # The database alone excuses no end: closing goes on from the journal.
        alone = what == "store" and not any(
            name.split(".")[0] in ("cloud", "journal", "store") or "cloud" in name
            for name in self.plan.chances
        )
        self.oracle.disturbed(f"{what} is away", 0 if alone else until - self.loop.now, what)
        if what == "store":
            self.oracle.room_from = until
        if (what, where) == ("store", "outage"):
            self.oracle.away_since = self.loop.now
        self.loop.tell(f"{what} is away ({where}) for {span // 1000} s")

    def _skew_process(self, span: int, where: str) -> None:
        found = self.some_process()
        if found is None:
            return
        self._skewed(found.name, span, f"world.process.{where}")
        found.offset = span
        self.due_changed()
        until = self.plan.rng.choice((20_000, 5 * MINUTE))
        self.oracle.disturbed("a clock is wrong", until)

        def back() -> None:
            for process in self.processes:
                if process.name == found.name:
                    process.offset = 0
            self.due_changed()

        self.loop.after(until, back)

    def _skew_cloud(self, span: int, where: str) -> None:
        self._skewed("the cloud", span, f"world.cloud.{where}")
        self._set_cloud_clock(span)
        until = self.plan.rng.choice((20_000, 5 * MINUTE))
        self.oracle.disturbed("the cloud's clock is wrong", until)

        self.loop.after(until, lambda: self._set_cloud_clock(0))

    def _skew_database(self, span: int, where: str) -> None:
        self._skewed("the database", span, f"world.database.{where}")
        self.oracle.disturbed("the database's clock is wrong", 60_000)
        self._set_database_clock(span)
        self.loop.after(60_000, lambda: self._set_database_clock(0))

    def _set_database_clock(self, offset: int) -> None:
        self.database_offset, self.database_since = offset, self.loop.now
        self.database_clock.append((self.loop.now, offset))
        self.due_changed()

    def _set_cloud_clock(self, offset: int) -> None:
        """Set back, a clock undoes nothing that the cloud has done."""
        before, self.cloud_offset = self.cloud_offset, offset
        if offset < before:
            self.cloud_set_back_at = self.loop.now
            self.cloud.set_back(self.cloud_now())

    def _skewed(self, whose: str, span: int, point: str) -> None:
        self.plan.hit(point)
        self.loop.tell(f"the clock of {whose} jumps by {span / 1000:g} s")

    def _kill_some(self) -> None:
        found = self.some_process()
        if found is not None and not self.plan.calm:
            self.plan.hit("world.process.killed")
            self.kill(found)

    def _stop_some(self) -> None:
        """Stopped as a whole, and going on later with what it knew then."""
        found = self.some_process()
        if found is None or self.plan.calm:
            return
        span = self.plan.rng.choice((10_000, 3 * MINUTE, 12 * MINUTE))
        until = min(self.loop.now + span, self.scene.faults_end)
        found.stopped_until = max(found.stopped_until, until)  # its threads go on together
        self.due_changed()
        self.plan.hit("world.process.stopped")
        self.oracle.disturbed(f"{found.name} is stopped", span)
        self.loop.tell(f"{found.name} is stopped for {span // 1000} s")

    def _change_laws(self) -> None:
        name = self.plan.rng.choice([name for name in self.scene.laws if name != self.laws])
        self.laws = name
        self.laws_since.append((self.loop.now, name))
        self.plan.hit("world.laws.changed")
        self.loop.tell(f"the laws become `{name}`")
        for process in list(self.processes):
            if process.alive and process.ready:
                self.loop.spawn(process, f"{process.name} reads the laws", _reading_laws(process))


def _divided(own: SimConnector, duties: frozenset[Duty], errands: Errands) -> Any:
    """As the house has it where duties are divided."""
    return own if duties == duty.ALL else Divided(own, duties, errands.look)  # type: ignore[arg-type]


def _reading_laws(process: Process) -> Callable[[], None]:
    def reading() -> None:
        world = process.world
        world.loop.pause(world.rng.randrange(2_000))  # each looks every two seconds
        while process.laws != world.laws:
            try:
                process.govern(world.laws)
            except TidegateError:
                world.loop.pause(2_000)

    return reading


class _Founder:
    """The process that sets the world up: nothing strikes it."""

    def __init__(self, world: World) -> None:
        self.alive = True
        self.name = "founder"
        self.world = world


@contextmanager
def installed(loop: Loop) -> Iterator[None]:
    """The worker waits for its hands in virtual time, while this lasts."""

    class Outcome:
        def __init__(self, done: Any) -> None:
            self.done = done

    def wait(futures: Any, timeout: float) -> Outcome:
        return Outcome(wait_for(loop, futures, timeout))

    before = worker_room.wait  # type: ignore[attr-defined]
    worker_room.wait = wait  # type: ignore[attr-defined]
    try:
        yield
    finally:
        worker_room.wait = before  # type: ignore[attr-defined]


__all__ = ["Killed", "Process", "World", "installed"]
