"""The house's ports with faults at every step: store, closing journal, clouds.

Each wraps the production object, or (the journal) the production format on bytes in memory. Before
and after a call the plan may strike: the process dies, the call is lost, its answer is, it happens
twice or late, it is refused, it hangs. The oracle is told what became durable, and nothing else.
"""

import errno
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sim.gather import Gatherer
from sim.loop import Killed
from tidegate.base.duty import Duty
from tidegate.base.errors import (
    EvidenceClosed,
    Refused,
    TidegateError,
    Unknown,
    Unreachable,
    WorldFailed,
)
from tidegate.base.when import Instant
from tidegate.connectors.port import Receipt
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence import journal as journal_room
from tidegate.evidence.journal import JournalLine, read_journal
from tidegate.evidence.journal_book import Folding, JournalBook
from tidegate.evidence.journal_needed import needed_until
from tidegate.evidence.seal import read_event
from tidegate.store import KeysInHand

LATE_MS = 5_000  # how late a change or a copy of it may still arrive: the declared propagation
SLOW_MS = (300, 3_000, 30_000)  # how long a call that hangs takes
ALWAYS_MS = (0, 0, 0, 0, 5, 40)  # what a call takes otherwise
STALE = timedelta(minutes=10)  # how old a list may be where the role kind declares it
READS = (
    "document", "text", "disclosures", "request", "requests", "grant", "grants", "cuts_in_force",
    "closing_on", "sessions", "session_by_key", "assignment", "assignment_by_key", "principal",
    "principal_by", "someone", "memberships", "account", "accounts", "login_of", "lapsed", "beats",
    "head", "events",
)  # fmt: skip


class Ports:
    """What all ports of one process share: is it alive, what is the plan, who runs."""

    def __init__(self, world: Any, process: Any) -> None:
        self.world = world
        self.process = process
        self.loop = world.loop
        self.plan = world.plan
        self.rng = world.rng

    def enter(self) -> None:
        """Raise Killed in whatever of a dead process still runs."""
        if not self.process.alive:
            raise Killed

    def strike(self, verb: str) -> str | None:
        """Where this call is struck. A hit is noted by who makes it take place."""
        if not self.process.alive:
            raise Killed
        return self.plan.strikes(verb)

    def hit(self, verb: str, where: str) -> None:
        """It takes place."""
        self.plan.hit(f"{verb}.{where}")
        self.world.oracle.disturbed(f"{verb}.{where} in {self.process.name}")

    def die(self, verb: str, where: str) -> None:
        """The process dies here."""
        self.hit(verb, where)
        self.world.kill(self.process)
        raise Killed

    def slow(self, verb: str) -> None:
        """The call hangs for a while."""
        self.hit(verb, "slow")
        span = self.rng.choice(SLOW_MS)
        self.world.oracle.disturbed(f"{verb} hangs", span)
        self.loop.pause(span)
        self.enter()

    def breathe(self) -> None:
        """Every call takes a moment, in which others may go on."""
        span = self.rng.choice(ALWAYS_MS)
        if span:
            self.loop.pause(span)
            self.enter()


class SimStore:
    """The production store of a world, as one process reaches it."""

    def __init__(self, ports: Ports, real: Any) -> None:
        self._ports = ports
        self.real = real
        self._here = KeysInHand()
        self._gathering = (
            Gatherer(ports.loop, real, self._became_durable) if ports.world.gathers else None
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def only_one_here(self, key: str) -> Any:
        """Among the tasks of this process."""
        return self._here.only_one(key)

    @contextmanager
    def only_one(self, key: str, *, unasked: bool = False) -> Iterator[bool]:
        """Among those first, then among all processes."""
        with self._here.only_one(key) as free:
            if not free:
                yield False
                return
            with self.real.only_one(key, unasked=unasked) as ours:
                yield ours

    def now(self) -> Instant:
        """The database's clock: its own, or (as on SQLite) the process's."""
        world = self._ports.world
        return world.database_now() if world.own_database_clock else self._ports.process.clock()

    def submit(self, step: Any, *, urgent: bool = False) -> Any:
        """An urgent one is struck as `commit` is, the others (warnings) are not."""
        done: Future[Any] = Future()
        try:
            if urgent:
                done.set_result(self.commit(step))
            else:
                self._ports.enter()
                done.set_result(self.real.commit(step))
                self._ports.world.oracle.sealed(self._ports.process, step.facts)
        except TidegateError as fault:
            done.set_exception(fault)
        return done

    def commit(self, step: Any) -> Any:
        """A Step, struck."""
        ports = self._ports
        ports.enter()
        entered = ports.loop.now
        ports.breathe()
        where = self._before("store.commit")
        if self._gathering is None:
            done = self.real.commit(step)
            self._became_durable(step, entered)
        else:
            done = self._gathering.commit(step, entered)
        if where == "crash_after":
            ports.die("store.commit", where)
        if where == "lost_reply":
            ports.hit("store.commit", where)
            raise EvidenceClosed(
                "evidence_closed", "evidence cannot be written: the connection was lost", "again"
            )
        return done

    def _became_durable(self, step: Any, entered: int) -> None:
        self._ports.world.due_changed()
        self._ports.world.oracle.sealed(self._ports.process, step.facts, entered)

    def claim_due(self, *args: Any, **kwargs: Any) -> Any:
        """What is due, struck."""
        ports = self._ports
        where = self._before("store.claim")
        found = self.real.claim_due(*args, **kwargs)
        ports.world.due_changed()
        if where == "crash_after" and found:
            ports.die("store.claim", where)
        return found

    def end_due(self, *args: Any, **kwargs: Any) -> Any:
        """Ends sealed in bulk, struck: what became durable is read off the log."""
        ports, entered = self._ports, self._ports.loop.now
        where = self._before("store.end_due")
        size = self.real.head().size
        found = self.real.end_due(*args, **kwargs)
        if found:
            ports.world.due_changed()
            facts = [read_event(leaf).fact for _, leaf in self.real.all_events(size)]
            ports.world.oracle.sealed(ports.process, facts, entered)
        if where == "crash_after" and found:
            ports.die("store.end_due", where)
        return found

    def ask(self, errand: Any) -> bool:
        """Whoever has the duty looks at once, as it does when it hears the news."""
        self._before("store.errand")
        left = bool(self.real.ask(errand))
        self._ports.world.chores_due()
        return left

    def wait_for_news(self, span: timedelta) -> None:
        """A nap."""
        self._ports.loop.pause(max(1, int(span.total_seconds() * 1000)))
        self._ports.enter()

    def snooze(self, *args: Any, **kwargs: Any) -> Any:
        """A later look, struck."""
        ports = self._ports
        ports.breathe()
        where = self._before("store.snooze")
        found = self.real.snooze(*args, **kwargs)
        ports.world.due_changed()
        if where == "crash_after":
            ports.die("store.snooze", where)
        return found

    def keep_document(self, kind: str, data: bytes) -> str:
        """Refused while the database is away."""
        self._before("store.document")
        return str(self.real.keep_document(kind, data))

    def beat(self, *args: Any) -> None:
        """Refused while the database is away."""
        self._before("store.beat")
        self.real.beat(*args)

    def read(self, name: str, args: Any, kwargs: Any) -> Any:
        """Any reading."""
        ports = self._ports
        if not ports.process.alive:
            raise Killed
        where = ports.plan.strikes("store.read")
        if where == "slow":
            ports.slow("store.read")
        if where == "down" or ports.world.away("store"):
            if where:
                ports.hit("store.read", where)
            raise WorldFailed("database_unreadable", "the database cannot be read", "wait")
        return getattr(self.real, name)(*args, **kwargs)

    def _before(self, verb: str) -> str | None:
        """What comes before a write; the rest of the strike, if any, is for after it."""
        ports = self._ports
        where = ports.strike(verb)
        if where == "slow":
            ports.slow(verb)
        if where == "crash_before":
            ports.die(verb, where)
        if where == "full" or ports.world.away("store") or ports.world.full("store"):
            if where == "full":
                ports.hit(verb, where)
            raise EvidenceClosed(
                "evidence_closed", "evidence cannot be written: the disk is full", "make room"
            )
        return where


def _reading(name: str) -> Callable[..., Any]:
    def reading(self: SimStore, *args: Any, **kwargs: Any) -> Any:
        return self.read(name, args, kwargs)

    return reading


for _name in READS:
    setattr(SimStore, _name, _reading(_name))


class Disk:
    """What of a journal survives its process: the bytes that were synced."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lines: list[JournalLine] = []
        self.torn = False
        self.folding = Folding()
        self.folded = 0


class SimJournal:
    """The closing journal in its own format, on a disk in memory that keeps what was synced."""

    def __init__(self, ports: Ports, disk: Disk) -> None:
        self._ports = ports
        self.disk = disk

    def append(self, line: JournalLine) -> None:
        """A line, struck: also torn, or refused for room."""
        ports, disk = self._ports, self.disk
        ports.breathe()
        where = ports.strike("journal.append")
        if where == "slow":
            ports.slow("journal.append")
        if where == "crash_before":
            ports.die("journal.append", where)
        if where == "full" or ports.world.away("journal"):
            if where:
                ports.hit("journal.append", where)
            raise OSError(errno.ENOSPC, "No space left on device")
        data = journal_room._write_line(line)
        if disk.torn:  # as the production append does: a torn last line is cut off
            contents = read_journal(bytes(disk.data))
            del disk.data[contents.whole :]
            disk.torn = False
        if where == "torn":
            disk.data += data[: ports.rng.randrange(1, len(data) - 1)]
            disk.torn = True
            ports.die("journal.append", where)
        disk.data += data
        kept = journal_room._read_line(data[:-1])
        assert kept is not None, line
        disk.lines.append(kept)
        ports.world.oracle.journalled(ports.process, kept)
        if where == "crash_after":
            ports.die("journal.append", where)

    def append_opening(self, line: JournalLine) -> None:
        """As `append`: no journal here comes to its bound."""
        self.append(line)

    def append_adopted(self, lines: Iterable[JournalLine]) -> None:
        """As `append_all`: no journal here comes to a bound."""
        self.append_all(lines)

    def check_room(self) -> None:
        """Whether its disk is away."""
        if self._ports.world.away("journal"):
            raise OSError(errno.ENOSPC, "No space left on device")

    def append_all(self, lines: Iterable[JournalLine]) -> None:
        """Several lines, each struck as one is."""
        for line in lines:
            self.append(line)

    def read(self) -> list[JournalLine]:
        """Every sound line."""
        self._readable()
        return list(self.disk.lines)

    def size(self) -> int:
        """How many bytes it has."""
        return len(self.disk.data)

    def book(self) -> JournalBook:
        """The same, folded by the production code."""
        self._readable()
        disk = self.disk
        disk.folding.add(disk.lines[disk.folded :])
        disk.folded = len(disk.lines)
        return disk.folding.book()

    def known(self, grant: str) -> tuple[JournalLine, ...] | None:
        """As last folded: nothing is read."""
        return self.disk.folding.lines.get(grant, ())

    def _readable(self) -> None:
        ports = self._ports
        if ports.strike("journal.read") == "down" or ports.world.away("journal"):
            if not ports.world.away("journal"):
                ports.hit("journal.read", "down")
            raise OSError(errno.EIO, "Input/output error")

    def compact(self, now: Instant) -> int:
        """As the production one decides, struck before and after the replacement."""
        ports = self._ports
        where = ports.strike("journal.compact")
        if where == "crash_before":
            ports.die("journal.compact", where)
        if ports.world.away("journal"):
            raise OSError(errno.ENOSPC, "No space left on device")
        ended = needed_until(self.disk.lines)
        finished = {grant for grant, until in ended.items() if until <= now}
        kept = [line for line in self.disk.lines if line.grant not in finished]
        dropped = len(self.disk.lines) - len(kept)
        if dropped:
            self.disk.lines = kept
            self.disk.folding, self.disk.folded = Folding(), len(kept)
            self.disk.folding.add(kept)
            self.disk.data = bytearray(b"".join(journal_room._write_line(line) for line in kept))
            self.disk.torn = False
        if where == "crash_after":
            ports.die("journal.compact", where)
        return dropped


class SimConnector:
    """A production connector on the simulated cloud, struck at every verb."""

    def __init__(self, ports: Ports, inner: Any) -> None:
        self._ports = ports
        self.inner = inner
        for quiet in ("powers", "exposure", "residual", "lingers", "key", "check", "discover",
                      "drift", "side_doors"):  # fmt: skip
            setattr(self, quiet, getattr(inner, quiet))

    def health(self, target: Any, now: Instant) -> Any:
        """Through the production connector's own script, so that its words are used."""
        where = self._ports.strike("cloud.health")
        if where is None and self._ports.world.away("cloud"):
            where = "down"
        elif where:
            self._ports.hit("cloud.health", where)
        if where:
            kind = FaultKind.DOWN if where == "down" else FaultKind.REFUSE
            self.inner.script(Fault(kind=kind, verb="health"))
        try:
            return self.inner.health(target, now)
        finally:
            self.inner.calm()

    def observe(self, scope: Any, now: Instant) -> Iterator[Any]:
        """A look, that may be an old one where the role kind says so."""
        where, verb = self._begin("observe"), "cloud.observe"
        if where == "stale":
            kind = scope.role.kind if scope.role else scope.hold.role.kind if scope.hold else ""
            window = self.inner.powers(kind).stale_window if kind else timedelta(0)
            delay = min(window, STALE) * self._ports.rng.random()
            self._ports.hit(verb, where)
            self.inner.script(Fault(kind=FaultKind.LIST_STALE, verb="observe", delay=delay))
        try:
            seen = list(self.inner.observe(scope, now))
        finally:
            self.inner.calm()
        life = self._ports.world.oracle.lives.get(scope.hold.grant) if scope.hold else None
        if life is not None and where is None:
            life.read_at = self._ports.loop.now
        self._end(verb, where)
        if life is not None:
            life.looked_at = self._ports.loop.now
        return iter(seen)

    def grant(self, hold: Any, now: Instant) -> Any:
        """Make it usable."""
        self._acts("grant", Duty.OPEN, hold)
        self._ports.world.oracle.opening_call(self._ports.process, hold)
        receipt = self._change("grant", lambda: self.inner.grant(hold, now), hold)
        self._ports.world.oracle.lives[hold.grant].answered = True
        return receipt

    def arm(self, hold: Any, until: Instant, now: Instant) -> Any:
        """The cloud's own deadline."""
        self._acts("arm", Duty.OPEN, hold)
        self._ports.world.oracle.arming_call(self._ports.process, hold, until)
        return self._change("arm", lambda: self.inner.arm(hold, until, now), hold)

    def disarm(self, hold: Any, now: Instant) -> Any:
        """Take it away."""
        return self._change("disarm", lambda: self.inner.disarm(hold, now), hold)

    def revoke(self, hold: Any, now: Instant) -> Any:
        """No new sessions."""
        self._acts("revoke", Duty.CLOSE, hold)
        self._ports.world.oracle.closing_call(self._ports.process, hold)
        self._sent(hold)
        return self._change("revoke", lambda: self.inner.revoke(hold, now), hold)

    def cut(self, hold: Any, now: Instant) -> Any:
        """No live sessions."""
        self._acts("cut", Duty.CLOSE, hold)
        self._sent(hold)
        return self._change("cut", lambda: self.inner.cut(hold, now), hold)

    def issue(self, hold: Any, session: str, now: Instant) -> Any:
        """A credential; one whose answer is lost is in nobody's hands."""
        self._acts("issue", Duty.OPEN, hold)
        where = self._begin("issue")
        credential = self.inner.issue(hold, session, now)
        self._end("cloud.issue", where)
        return credential

    def probe(self, hold: Any, now: Instant) -> Any:
        """Tried as that access."""
        life = self._ports.world.oracle.lives.get(hold.grant)
        if life is not None:
            life.probed_at = -1  # one that is not answered says nothing
        where = self._begin("probe")
        probed = self.inner.probe(hold, now)
        if life is not None:
            life.probed_at = self._ports.loop.now
        self._end("cloud.probe", where)
        return probed

    def mend(self, target: Any, role: Any, cuts: Any, now: Instant, must_stay: Any) -> Any:
        """Denies looked after."""
        where = self._begin("mend")
        if where == "nothing":
            self._ports.hit("cloud.mend", where)
            return ()
        back = self.inner.mend(target, role, cuts, now, must_stay)
        self._end("cloud.mend", where)
        return back

    def _sent(self, hold: Any) -> None:
        """A change that closes it is on its way; not what a second hand repeats when the first has
        read back that all was done.
        """
        loop, life = self._ports.loop, self._ports.world.oracle.lives.get(hold.grant)
        if life is not None and not (life.removed_at <= loop.now and life.seen_cut):
            life.changed_at = loop.now

    def _acts(self, verb: str, duty: Duty, hold: Any) -> None:
        self._ports.world.oracle.acts(self._ports.process, verb, duty, hold)

    def _change(self, name: str, act: Callable[[], Any], hold: Any) -> Any:
        """A change of the cloud: struck before, instead, after, twice or late."""
        ports, verb = self._ports, f"cloud.{name}"
        where = self._begin(name)
        if where == "nothing":
            ports.hit(verb, where)
            return Receipt(cloud_at=ports.world.cloud_now(), detail={"accepted": "yes"})
        if where == "late":
            ports.hit(verb, where)
            self.inner.script(
                Fault(
                    kind=FaultKind.APPLY_LATE,
                    verb=name,
                    delay=timedelta(milliseconds=ports.rng.randrange(LATE_MS)),
                )
            )
        try:
            done = act()
        finally:
            self.inner.calm()
        if where == "duplicate":
            ports.hit(verb, where)
            ports.loop.after(ports.rng.randrange(1, LATE_MS), lambda: _again(act))
        self._end(verb, where)
        return done

    def _begin(self, name: str) -> str | None:
        """What comes before the cloud is reached, and instead of it."""
        ports, verb = self._ports, f"cloud.{name}"
        ports.breathe()
        where = ports.strike(verb)
        if where == "slow":
            ports.slow(verb)
        if where == "crash_before":
            ports.die(verb, where)
        if ports.world.away("cloud"):
            raise Unreachable("cloud_unreachable", f"expected `{name}` to arrive, it did not")
        if where in ("down", "throttle", "refuse", "lost_request"):
            ports.hit(verb, where)
            if where == "down":
                raise Unreachable("cloud_unreachable", f"expected `{name}` to arrive, it did not")
            if where == "throttle":
                raise Refused("throttled", f"`{name}` was turned away", "it is tried again")
            if where == "refuse":
                raise Refused("access_denied", f"`{name}` was refused", "allow it in the cloud")
            raise Unknown("no_answer", f"expected an answer to `{name}`, got none")
        return where

    def _end(self, verb: str, where: str | None) -> None:
        ports = self._ports
        if where == "crash_after":
            ports.die(verb, where)
        if where == "lost_reply":
            ports.hit(verb, where)
            raise Unknown("no_answer", "expected an answer, got none")


def _again(act: Callable[[], Any]) -> None:
    """A copy of a request arrives; nobody hears the answer."""
    try:
        act()
    except (Refused, Unreachable, Unknown):
        return
