"""The oracle: what should be so, by its own book-keeping, and whether it was.

It never reads our rows. It knows what people asked and how they voted because it saw them do it;
it counts deadlines itself, from the opener's clock and the span that was asked; it asks the cloud
who can act. From our side it hears only that a fact of a name became durable, about which ids.
Each broken rule is a `Violation` naming its invariant.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sim.loop import START
from sim.town import BOOKS, PLACES, Place, person
from tidegate.base.errors import Refused
from tidegate.base.when import parse_instant, to_ms
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.port import Answer, Credential
from tidegate.evidence.journal import JournalLine
from tidegate.evidence.seal import read_event
from tidegate.evidence.verify import verify_log
from tidegate.store import compare

START_MS = to_ms(START)
MINUTE = 60_000
SLACK = 4_000  # looks every 200 ms, calls of up to 40 ms, sixteen at a time
RECOVERY = 6 * MINUTE  # the longest pause between tries, a dead worker's lease, and two tries
CLAIM_WITHIN = 30 * MINUTE
CLOSING_LATE = 2 * MINUTE
MENDED_WITHIN = 40_000  # denies are looked after every thirty seconds
TICKS = 6_000  # at a native end the cloud's whole seconds may still hide that it has passed
NEVER = 1 << 60


class Broken(BaseException):
    """Enough is known: the world need not go on."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that was broken: which, when, and what happened in plain words."""

    rule: str
    at: int
    words: str


@dataclass(slots=True)
class Wish:
    """What somebody asked, as they asked it. `edits` counts the versions sealed."""

    login: str
    role: str
    span: int
    start: int | None
    emergency: bool
    request: str = ""
    edits: int = 0
    filed_at: int = 0  # the version that is voted on: which rules carry it is fixed then (I8)
    approved_at: int = NEVER
    ended: str = ""


@dataclass(slots=True)
class Ballot:
    """A vote somebody tried to cast, on the version they were shown."""

    login: str
    request: str
    approve: bool
    version: int


@dataclass(slots=True)
class Alias:
    """An account that turned out to be a second one of `person`."""

    login: str
    person: str


@dataclass(slots=True)
class Life:
    """One grant as the oracle follows it. Instants in ms of true time, but `end`: on a clock."""

    id: str
    wish: Wish
    place: Place
    native: str
    readied_at: int
    intended_at: int = NEVER
    end: int = NEVER
    closing_at: int = NEVER
    removed_at: int = NEVER
    gone_at: int = NEVER
    failed_at: int = NEVER
    opened: bool = False
    still_held: bool = False
    stood: bool = False
    tampered_at: int = -1
    answered: bool = False  # some opening call came back with a yes
    probed_at: int = -1  # when a probe was last tried, and the access last read
    read_at: int = -1
    looked_at: int = -1  # when the cloud last answered anything about it
    called: bool = False
    tried_at: int = -1
    counts: Counter[str] = field(default_factory=Counter)

    def over_at(self) -> int:
        """When it ends by what the oracle knows: at its end, or earlier when somebody ended it."""
        return min(self.end, self.closing_at, self.failed_at)

    @property
    def key(self) -> AssignmentKey:
        return AssignmentKey(
            connector=self.place.connector,
            account=f"account-{self.place.target}",
            native_role=self.native,
            native_principal=self.wish.login if self.place.kind == "assignment" else self.id,
        )


class Oracle:
    """Watches one world."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.loop = world.loop
        self.violations: list[Violation] = []
        self.story: list[tuple[int, str]] = []
        self.lives: dict[str, Life] = {}
        self.wishes: dict[str, Wish] = {}
        self.logins: dict[str, str] = {}
        self.ballots: dict[str, list[Ballot]] = {}
        self.by_key: dict[AssignmentKey, list[Life]] = {}
        self.held: dict[str, list[Credential]] = {}
        self.foreign: dict[AssignmentKey, int] = {}
        self.stood: set[AssignmentKey] = set()
        self.aliases: dict[str, tuple[int, str]] = {}  # second accounts found out during the run
        self.journal: set[str] = set()
        self.uses: Counter[str] = Counter()
        self.sealed_names: Counter[str] = Counter()
        self.sealed_count = 0
        self._disturbed = -NEVER
        self.founded_size = 0

    # What it is told.

    def known(self, login: str, principal: str) -> None:
        """An account was made."""
        self.logins[principal] = login

    def founded(self, size: int) -> None:
        """The log has so many events before anything happens."""
        self.founded_size = size

    def disturbed(self, what: str, span: int = 0) -> None:
        """Something failed now, and may go on failing for `span`."""
        self._disturbed = max(self._disturbed, self.loop.now + span)
        self.loop.tell(what)

    def broke(self, rule: str, words: str) -> None:
        """A rule is broken."""
        self.loop.tell(f"VIOLATION {rule}: {words}")
        if not self.violations:
            self.story = list(self.loop.told)
        if len(self.violations) < 50:
            self.violations.append(Violation(rule, self.loop.now, words))
        if self.world.stop_at_once:
            raise Broken

    def journalled(self, line: JournalLine) -> None:
        """A line of the closing journal is on disk."""
        if line.kind == "intended":
            self.journal.add(line.grant)

    def sealed(self, process: Any, facts: Iterable[Any], entered: int | None = None) -> None:
        """Facts became durable: names and ids are taken, ends are checked, nothing is believed."""
        for fact in facts:
            self.sealed_names[fact.name] += 1
            if "grant" in fact.data or "request" in fact.data:
                name = fact.data.get("grant") or fact.data.get("request")
                self.loop.tell(f"{process.name} seals {fact.name} of {name}{_more(fact)}")
            handle = _HANDLERS.get(fact.name)
            if handle is not None:
                handle(self, process, fact, self.loop.now if entered is None else entered)

    def _filed(self, process: Any, fact: Any, entered: int) -> None:
        name = fact.data["request"]
        wish = self.loop.task.memo if self.loop.task else None
        if fact.name == "request.edited":
            old = self.wishes[name]
            old.edits += 1
            old.filed_at = self.loop.task.started if self.loop.task else self.loop.now
            self.ballots[name] = []
            if isinstance(wish, Wish):
                old.span = wish.span
            return
        if not isinstance(wish, Wish) or wish.request not in ("", name):
            self.broke("I7", f"{name} was filed though nobody asked")
            return
        wish.request = name
        wish.filed_at = self.loop.task.started if self.loop.task else self.loop.now
        self.wishes[name] = wish
        self.ballots[name] = []

    def _voted(self, process: Any, fact: Any, entered: int) -> None:
        name, login = fact.data["request"], self.logins[fact.data["voter"]]
        ballot = self.loop.task.memo if self.loop.task else None
        wish = self.wishes[name]
        if not isinstance(ballot, Ballot) or ballot.login != login or ballot.request != name:
            self.broke("I9", f"a vote of {login} on {name} was sealed that they did not cast")
            return
        since = self.loop.task.started if self.loop.task else self.loop.now
        who = self._person(login, since)
        if who == self._person(wish.login, since):
            self.broke("I9", f"{login} voted on {name}, asked by themselves ({wish.login})")
        if ballot.version != wish.edits:
            self.broke("I9", f"{login} voted on version {ballot.version} of {name}, not the last")
        if any(self._person(old.login, since) == who for old in self.ballots[name]):
            self.broke("I9", f"{login} voted twice on {name}")
        if wish.ended:
            self.broke("I9", f"{login} voted on {name}, which was {wish.ended}")
        in_force = self._laws_since(process, wish.filed_at - 4_000)
        wanted = {group for book in in_force for _, group in book.needs(wish)}
        if not any(wanted & book.groups(login) for book in in_force):
            self.broke("I9", f"{login} voted on {name}, and is in no group that it needs")
        self.ballots[name].append(ballot)

    def _turned_out(self, process: Any, fact: Any, entered: int) -> None:
        alias = self.loop.task.memo if self.loop.task else None
        if isinstance(alias, Alias):
            self.aliases[alias.login] = (self.loop.now, alias.person)

    def _person(self, login: str, at: int) -> str:
        """The human being behind a login, as everybody could know it at `at`."""
        since, found = self.aliases.get(login, (NEVER, ""))
        return found if since <= at else person(login)

    def _decided(self, process: Any, fact: Any, entered: int) -> None:
        name = fact.data["request"]
        wish = self.wishes.get(name)
        if wish is None:
            self.broke("I7", f"{fact.name} of {name}, which nobody asked")
            return
        if wish.ended or wish.approved_at != NEVER:
            self.broke("I9", f"{fact.name} of {name}, decided already")
        if fact.name == "request.approved":
            wish.approved_at = self.loop.now
            if any(not ballot.approve for ballot in self.ballots[name]):
                self.broke("I9", f"{name} was approved over a deny")
            self._check_permitted(process, wish, "approved")
            self.world.people.approved(wish)
        else:
            wish.ended = fact.name.partition(".")[2]

    def _readied(self, process: Any, fact: Any, entered: int) -> None:
        name, request = fact.data["grant"], fact.data["request"]
        wish = self.wishes.get(request)
        if wish is None or wish.approved_at == NEVER:
            # The approval is a fact of the same Step, sealed before it.
            self.broke("I9", f"{name} is ready though {request} was never approved")
            return
        if any(life.wish is wish for life in self.lives.values() if life.id != name):
            self.broke("I9", f"{request} has two grants for one role")
        place = PLACES[wish.role]
        self.lives[name] = Life(name, wish, place, "", self.loop.now)
        self.lives[name].counts["grant.readied"] += 1

    def _intended(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is None:
            return
        wish = life.wish
        life.intended_at = self.loop.now
        clock = max(entered + process.offset, self._database_clock(process, entered))
        life.end = (clock if wish.start is None else wish.start) + wish.span
        said = to_ms(parse_instant(fact.data["ends_at"])) - START_MS
        if said != life.end:
            self.broke("I1", f"the end of {life.id} is {said - life.end} ms off what was approved")
        if clock >= max(life.readied_at, wish.start or 0) + CLAIM_WITHIN + SLACK:
            self.broke("I1", f"{life.id} opens after its claim-by")
        if wish.start is not None and clock < wish.start:
            self.broke("I1", f"{life.id} opens before its start")
        native = self._check_permitted(
            process, wish, "opened", self._laws_here(process, life.looked_at)
        )
        life.native = native
        self.by_key.setdefault(life.key, []).append(life)
        life.stood = life.key in self.foreign
        self._check_gate(process, life)
        self.world.people.opening(life)

    def _database_clock(self, process: Any, entered: int) -> int:
        world = self.world
        return entered + (world.database_offset if world.own_database_clock else process.offset)

    def _opened(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is not None:
            life.opened = True
            if not life.answered:
                self.broke("I1", f"{life.id} is called open and no cloud said yes")
            if life.intended_at == NEVER:
                self.broke("I1", f"{life.id} is open and was never intended")

    def _failed(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is None:
            return
        life.failed_at = self.loop.now
        if life.intended_at != NEVER and self._acts(life) and not self._others(life):
            self.broke("I1", f"{life.id} is called failed and can act")

    def _closing(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is None:
            return
        life.closing_at = min(life.closing_at, self.loop.now)
        if fact.data["reason"] == "expired" and life.intended_at != NEVER:
            clock = max(entered + process.offset, self._database_clock(process, entered))
            early = clock < life.end and clock < life.readied_at + CLAIM_WITHIN - SLACK
            if early and (life.wish.start is None):
                self.broke("I2", f"{life.id} expired {life.end - clock} ms before its end")

    def _removed(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is None:
            return
        life.removed_at = self.loop.now
        life.still_held = bool(fact.data["still_held_by"])
        if not life.still_held and self._may_start(life):
            self.broke("I2", f"{life.id} is called removed while a new session could start")

    def _contradicted(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is not None:
            life.removed_at = NEVER

    def _gone(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is None:
            return
        life.gone_at = self.loop.now
        if life.removed_at == NEVER:
            self.broke("I2", f"{life.id} is called gone and was never removed")
        self._check_last_look(life)
        if self._may_start(life):
            self.broke("I2", f"{life.id} is called gone while a new session could start")
        if self._acts(life) and not self._others(life):
            self.broke("I2", f"{life.id} is called gone while a session of it acts")

    def _check_last_look(self, life: Life) -> None:
        """What the house was shown last must not say that access is there again."""
        cloud, at, key = self.world.cloud, self.world.cloud_now(), life.key
        if life.place.own:
            denied = cloud.denied(key.account, key.native_role, life.id, at)
            before_end = self.loop.now + self.world.cloud_offset < life.end
            if -1 < life.tampered_at < life.probed_at and not denied and before_end:
                self.broke("I2", f"{life.id} is called gone over a probe that was allowed")
            return
        added = self.foreign.get(key, NEVER)
        others = any(one is not life and one.gone_at == NEVER for one in self.by_key.get(key, ()))
        if life.removed_at < added < life.read_at and cloud.assigned(key, at) and not others:
            self.broke("I2", f"{life.id} is called gone over a list that shows it again")

    def _issued(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        asked_at = self.loop.task.started if self.loop.task else entered
        if life is not None and asked_at + process.offset >= life.end:
            self.broke("I3", f"a credential of {life.id}, asked for after its end, was sealed")
        elif life is not None and life.closing_at <= self.loop.now:
            self.broke("I3", f"a credential of {life.id} was sealed after it began to close")

    def _life(self, fact: Any) -> Life | None:
        name = fact.data["grant"]
        life = self.lives.get(name)
        if life is None:
            self.broke("I7", f"{fact.name} of {name}, which was never made ready")
            return None
        life.counts[fact.name] += 1
        if fact.name in _ONCE and life.counts[fact.name] > 1:
            self.broke("I7", f"{fact.name} of {name} was sealed twice")
        return life

    # What calls to a cloud must have behind them.

    def opening_call(self, process: Any, hold: Any) -> None:
        """The house asks a cloud to open: intent, end and journal line are durable by now."""
        life = self.lives.get(hold.grant)
        if life is None or life.intended_at == NEVER:
            self.broke("I1", f"the cloud is asked to open {hold.grant} before its intent is sealed")
            return
        if life.called:  # another try is judged as the first was, by the rules in force by then
            since = self.loop.task.started if self.loop.task else self.loop.now
            books = self._laws_here(process, since)
            self._check_permitted(process, life.wish, "asked for again", books)
        life.called = True
        if hold.grant not in self.journal:
            self.broke("I6", f"the cloud is asked to open {hold.grant}, not in the closing journal")
        if life.stood is False and hold.stood_before:
            self.broke("I5", f"{hold.grant} is said to have stood before")

    def closing_call(self, process: Any, hold: Any) -> None:
        """The house asks a cloud to close."""
        life = self.lives.get(hold.grant)
        if life is None:
            self.broke("I5", f"the cloud is asked to close {hold.grant}, which nobody opened")
            return
        life.tried_at = self.loop.now

    # Uses.

    def holds(self, life: Life, credential: Credential) -> None:
        """Somebody got a session of `life`, and keeps it whatever happens."""
        self.held.setdefault(life.id, []).append(credential)

    def use(self, life: Life, credential: Credential) -> None:
        """Somebody uses a session now: judged."""
        self.world.people.used += 1
        answer = self.world.cloud.use(credential, self.world.cloud_now())
        allowed = answer is Answer.ALLOWED
        self.uses["allowed" if allowed else "denied"] += 1
        if allowed:
            self._judge_allowed(life)
        else:
            self._judge_denied(life, credential)

    def sign_in(self, life: Life) -> tuple[Life, Credential] | None:
        """Its holder, or a thief, tries to start a new session at the cloud: judged.

        Returns the session and the life it belongs to: of one key, the one that is in its window.
        """
        try:
            credential: Credential = self.world.cloud.sign_in(
                life.key, self.world.cloud_now(), life.id
            )
        except Refused:
            return None
        self.uses["signed in"] += 1
        now = self.loop.now
        still_open = self._open(life)
        if life.key not in self.foreign and not self._others(life) and now >= life.over_at():
            if not still_open:
                self.broke("I2", f"a new session of {life.id} started after it was called removed")
            elif self._late(now, self._right_until(life), 5_000):
                self.broke("I3", f"a new session of {life.id} started {_ago(now, life)}")
        right = [one for one in still_open if now < one.over_at()] or still_open
        owner = life if not right or life in right else right[0]
        return owner, credential

    def _judge_allowed(self, life: Life) -> None:
        now, place = self.loop.now, life.place
        if place.own and now + self.world.cloud_offset >= life.end:
            self.broke("I3", f"{life.id} was used {_ago(now, life)}, past the cloud's own deadline")
            return
        if now < life.over_at():
            return
        if life.gone_at > now and self._others(life):
            return
        if life.failed_at <= now:
            self.broke("I1", f"{life.id} was used and had failed")
        if life.tampered_at >= max(0, life.over_at() - MENDED_WITHIN):
            if self._late(now, life.tampered_at, MENDED_WITHIN):
                self.broke("I2", f"the deny of {life.id} was taken away and is not put back")
            return
        if life.key in self.foreign:
            return
        if life.gone_at <= now:
            self.broke("I2", f"{life.id} was used {now - life.gone_at} ms after it was called gone")
        elif self._late(now, self._right_until(life), place.exposure):
            self.broke("I3", f"{life.id} was used {_ago(now, life)}")

    def _judge_denied(self, life: Life, credential: Credential) -> None:
        """In a world where nothing fails, nobody loses access before the end."""
        now = self.loop.now
        if self._disturbed > -NEVER or now >= life.over_at() or life.tampered_at >= 0:
            return
        issued_at = to_ms(credential.issued_at) - START_MS
        if issued_at < life.intended_at or life.stood:
            return
        if to_ms(credential.expires_at) - START_MS > now:
            self.broke("I5", f"{life.id} was cut {life.end - now} ms before its end")

    def _open(self, life: Life) -> list[Life]:
        """The lives of its key that nobody called removed or failed yet, late ones too."""
        now = self.loop.now
        return [
            one
            for one in self.by_key.get(life.key, ())
            if one.intended_at <= now and one.removed_at == NEVER and one.failed_at == NEVER
        ]

    def _others(self, life: Life) -> bool:
        """Whether somebody else's right explains it: another grant in its window, or no grant."""
        if life.place.own:
            return False
        key, now = life.key, self.loop.now
        if key in self.foreign:
            return True
        return any(
            other is not life and other.intended_at <= now < other.over_at() + 5_000
            for other in self.by_key.get(key, ())
        )

    def _right_until(self, life: Life) -> int:
        """Until when anybody rightly held what `life` is about: of one key, the latest of all."""
        if life.place.own:
            return life.over_at()
        now = self.loop.now
        known = [one.over_at() for one in self.by_key[life.key] if one.intended_at <= now]
        return max(known, default=life.over_at())

    def _acts(self, life: Life) -> bool:
        cloud, at = self.world.cloud, self.world.cloud_now()
        if life.tampered_at >= self.loop.now - MENDED_WITHIN and life.tampered_at >= 0:
            return False
        return any(
            cloud.use(credential, at) is Answer.ALLOWED for credential in self.held.get(life.id, ())
        )

    def _may_start(self, life: Life) -> bool:
        """Whether the cloud would let a new session of it start now."""
        cloud, at, key = self.world.cloud, self.world.cloud_now(), life.key
        if not life.place.own:
            late = [other for other in self._open(life) if other is not life]
            return bool(cloud.assigned(key, at)) and not late and not self._others(life)
        if life.tampered_at >= self.loop.now - MENDED_WITHIN and life.tampered_at >= 0:
            return False
        denied = cloud.denied(key.account, key.native_role, life.id, at)
        return not denied and self.loop.now + self.world.cloud_offset < life.end

    def _late(self, now: int, end: int, exposure: int) -> bool:
        """Whether `now` is later than every fault so far excuses."""
        disturbed = self._disturbed
        if disturbed >= end - SLACK:
            return now > max(end, disturbed) + RECOVERY + exposure
        return now > end + exposure + SLACK

    # Rules and the gate.

    def _check_permitted(
        self, process: Any, wish: Wish, what: str, books: Iterable[Any] = ()
    ) -> str:
        """Whether some laws in force while this was decided permit it with these votes (I8, I9).

        With `books` the rules must be of one of those; who was in which group stays as lenient.
        """
        task = self.loop.task
        since = (task.started if task else self.loop.now) - 4_000
        if what == "approved":  # judged once more at the opening, by the rules in force then
            since = min(since, wish.filed_at - 4_000)
        in_force = self._laws_since(process, since)
        for book in books or in_force:
            needs = book.requirement(wish.login, wish.role, wish.span, wish.emergency)
            if needs is None:
                continue
            for groups in in_force:
                voters = {
                    self._person(ballot.login, since): groups.groups(ballot.login)
                    for ballot in self.ballots.get(wish.request, ())
                    if ballot.approve
                    and self._person(ballot.login, since) != self._person(wish.login, since)
                }
                if book.suffices(needs, voters):
                    return book.native(wish.role)
        names = ", ".join(book.name for book in books or in_force)
        self.broke("I8", f"{wish.request} ({wish.role} of {wish.login}) {what} against `{names}`")
        return PLACES[wish.role].native

    def _laws_here(self, process: Any, since: int) -> list[Any]:
        """The laws this process had in force at some moment since then, and no others."""
        left = [name for at, name in process.laws_left if at >= since]
        return [BOOKS[name] for name in dict.fromkeys((process.laws, *left))]

    def _laws_since(self, process: Any, since: int) -> list[Any]:
        """Every state of the laws some part of the house may rightly have known since then."""
        found = {process.laws: None} if hasattr(process, "laws") else {}
        for other in self.world.processes:
            found[other.laws] = None
        history = self.world.laws_since
        for place, (_, name) in enumerate(history):
            until = history[place + 1][0] if place + 1 < len(history) else NEVER
            if until >= since:
                found[name] = None
        return [BOOKS[name] for name in found]

    def _check_gate(self, process: Any, life: Life) -> None:
        """Nothing opens on a target where an end is long overdue (I4)."""
        if life.wish.emergency or process.offset:
            return
        for other in self.lives.values():
            if (
                other is not life
                and other.place.target == life.place.target
                and other.closing_at < self.loop.now - CLOSING_LATE - SLACK - 30_000
                and other.removed_at == NEVER
                and other.intended_at != NEVER
            ):
                self.broke("I4", f"{life.id} opened while {other.id} was late to close")
                return

    # The end.

    def judge_end(self) -> None:
        """All is quiet: nothing open, orphaned, missing or doubled, nothing of others taken."""
        world, at = self.world, self.world.cloud_now()
        for life in self.lives.values():
            if life.intended_at == NEVER:
                if life.failed_at == NEVER:
                    self.broke("I2", f"{life.id} is neither open nor failed at the end")
                continue
            standing = life.key in self.foreign
            if not standing and life.gone_at == NEVER and life.failed_at == NEVER:
                self.broke("I2", f"{life.id} is not gone at the end")
            if self._acts(life) and not standing:
                self.broke("I3", f"a session of {life.id} acts at the end")
        for key in world.cloud.standing(at):
            if key not in self.foreign:
                self.broke("I2", f"{key.text()} is left over in the cloud")
        standing_now = set(world.cloud.standing(at))
        for key in self.stood - standing_now:
            self.broke("I5", f"{key.text()} stood before, was not ours, and is removed")
        for wish in self.wishes.values():
            if wish.approved_at != NEVER and not any(x.wish is wish for x in self.lives.values()):
                self.broke("I6", f"{wish.request} was approved and has no grant")
        self._judge_log()
        for name, bug in self.loop.bugs:
            self.broke("bug", f"{name}: {type(bug).__name__}: {bug}")

    def _judge_log(self) -> None:
        real = self.world.real
        with real.whole_log() as (head, leaves, hashes):
            report = verify_log(leaves, head.checkpoint_text, [self.world.trusted], hashes=hashes)
        for finding in report.findings[:3]:
            self.broke("I7", f"the log: {finding}")
        counted = Counter(read_event(leaf).name for _, leaf in real.all_events(self.founded_size))
        for name in sorted(set(counted) | set(self.sealed_names)):
            if counted[name] != self.sealed_names[name]:
                self.broke(
                    "I7", f"{self.sealed_names[name]} times {name} was sealed, {counted[name]} kept"
                )
        for difference in compare(real)[:3]:
            self.broke("I7", difference.text())


def _more(fact: Any) -> str:
    """What else a reader of the story wants to know of a fact."""
    data = fact.data
    kept = ("reason", "outcome", "step", "cause", "why", "residual_until", "still_held_by", "proof")
    return "".join(f" {key}={data[key]}" for key in kept if data.get(key))


def _ago(now: int, life: Life) -> str:
    over = life.over_at()
    how = "its end" if over == life.end else "it was ended"
    return f"{now - over} ms after {how}"


_HANDLERS: Mapping[str, Any] = {
    "principal.recorded": Oracle._turned_out,
    "request.filed": Oracle._filed,
    "request.edited": Oracle._filed,
    "request.voted": Oracle._voted,
    "request.approved": Oracle._decided,
    "request.denied": Oracle._decided,
    "request.refused": Oracle._decided,
    "request.withdrawn": Oracle._decided,
    "request.lapsed": Oracle._decided,
    "grant.readied": Oracle._readied,
    "grant.intended": Oracle._intended,
    "grant.opened": Oracle._opened,
    "grant.failed": Oracle._failed,
    "grant.closing": Oracle._closing,
    "grant.removed": Oracle._removed,
    "grant.contradicted": Oracle._contradicted,
    "grant.gone": Oracle._gone,
    "session.issued": Oracle._issued,
}
_ONCE = frozenset(
    {
        "grant.readied",
        "grant.intended",
        "grant.opened",
        "grant.failed",
        "grant.closing",
        "grant.gone",
    }
)
