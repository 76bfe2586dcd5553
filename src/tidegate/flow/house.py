"""What every use case is handed: the ports, and the rules and catalogue in force.

Made once in `main.py`; nothing here reads a configuration or the time by itself.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta

from tidegate.base.duty import Process
from tidegate.base.errors import AskedWrongly, EvidenceClosed, TidegateError, WorldFailed
from tidegate.base.fact import Fact
from tidegate.base.ids import RANDOM_BYTES, make_id
from tidegate.base.personal import SALT_BYTES, Personal
from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.catalogue import Assignment, Catalogue, Principal, Role, Target
from tidegate.connectors.port import Connector, Hold, Trouble
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.evidence.journal_book import JournalBook
from tidegate.flow.buckets import BURST, Bucket, Buckets
from tidegate.flow.errands_done import ErrandsDone
from tidegate.flow.look_hands import LookHands
from tidegate.flow.looks import Looks
from tidegate.flow.pace import JournalPace, Tries
from tidegate.flow.panics_kept import PanicsKept
from tidegate.flow.panics_kept import Wanted as Wanted
from tidegate.grant import Grant
from tidegate.policy.rules import RuleSet
from tidegate.store import KeysInHand, Pace, Store

WARN_BEFORE = timedelta(minutes=10)  # time to ask for an extension, and for somebody to vote
PROCESS = Process()  # the one there is, where nothing else was said
CLOCKS_APART = timedelta(seconds=1)  # between us and the database; more shuts the gate

ASKED_ANEW = timedelta(minutes=2)  # a row that was damaged meanwhile is noticed by then


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Groups as configured: `members` by login, `within` the groups each one is part of."""

    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    within: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """Every group named, with or without members."""
        return frozenset(self.members) | frozenset(self.within)

    def closure(self, direct: frozenset[str]) -> frozenset[str]:
        """`direct` and every group they are within, however deep. Circles are harmless."""
        seen: set[str] = set()
        waiting = list(direct)
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting.extend(self.within.get(name, ()))
        return frozenset(seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Laws:
    """What is in force: swapped as a whole, never edited."""

    rules: RuleSet
    catalogue: Catalogue
    groups: Groups
    operators: str = "tidegate-operators"
    auditors: str = "tidegate-auditors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who is asking, as known now: `groups` is the full closure, `person` one key a human being."""

    principal: Principal
    groups: frozenset[str]
    person: str

    @property
    def id(self) -> str:
        """The principal's id: what evidence names."""
        return self.principal.id


@dataclass(slots=True)
class Asked:
    """What the database was asked about the closing journal's grants, and knew: by grant, up to
    which of its lines. `size` is how long the log was then, `since` when everything was asked.
    `panics` is how many there were when it was asked of them last (-1: not yet), and `older` that
    the database did not know then what the journal says was opened, over or not: other machines may
    have more.
    """

    forgotten: dict[str, JournalLine] = field(default_factory=dict)
    unknown: dict[str, JournalLine] = field(default_factory=dict)
    unsealed: dict[str, JournalLine] = field(default_factory=dict)
    size: int = 0
    since: Instant | None = None
    panics: int = -1
    older: bool = False

    def anew(self, size: int, now: Instant) -> None:
        """Ask everything again after a while, and when the log is shorter than it was: then an
        older database was restored.
        """
        if self.since is None or size < self.size or not now - ASKED_ANEW < self.since <= now:
            self.forgotten.clear()
            self.unknown.clear()
            self.unsealed.clear()
            self.panics = -1
            self.since = now
        self.size = size


def _nobody(bucket: Bucket, want: int, opening: bool, now: Instant) -> int:
    raise EvidenceClosed("no_store", "expected a database, got none yet", "")


# (grant, the journal that owes its end, now): whether a database that can be read owes it too
Confirms = Callable[[str, JournalBook, Instant], bool]


def take_its_word(grant: str, book: JournalBook, now: Instant) -> bool:
    """Whatever the journal owes is owed: there is no database that could say otherwise."""
    return True


class BareHouse:
    """As much of a house as closing from the journal stands on: no store among it.

    Its pace a cloud account is this process's own share (`alone`): nobody can be asked for more.
    """

    def __init__(
        self,
        *,
        journal: ClosingJournal,
        connectors: Mapping[str, Connector],
        laws: Laws,
        clock: Callable[[], Instant],
        randomness: Callable[[int], bytes],
    ) -> None:
        self.journal = journal
        self.connectors = connectors
        self.laws = laws
        self.randomness = randomness
        self.buckets = self.alone = Buckets(_nobody)
        self.journal_pace = JournalPace()
        self.tries = Tries()
        self.confirms: Confirms = take_its_word
        self.behind = timedelta(0)  # our clock, to the database's when that was read last
        self._clock = clock
        self._keys = KeysInHand()

    def now(self) -> Instant:
        """One reading of the clock, cut to whole milliseconds. Read once a command."""
        return from_ms(to_ms(self._clock()))

    def due_now(self) -> Instant:
        """Our clock, with what it was behind the database's when that was read last: no end waits
        for a slow one because the database is away. Asks no store. A clock that is mended while
        the database is away has ends come early by as much, until it is back.
        """
        return self.now() + self.behind

    def only_one_here(self, key: str) -> AbstractContextManager[bool]:
        """Have the assignment `key` in hand among the threads of this process; asks no store."""
        return self._keys.only_one(key)

    def connector(self, name: str) -> Connector:
        """The connector called `name`. Raises AskedWrongly."""
        found = self.connectors.get(name)
        if found is None:
            known = ", ".join(sorted(self.connectors)) or "none"
            raise AskedWrongly(
                "no_connector",
                f"expected one of the configured connectors ({known}), got `{name[:40]}`",
                "install its extra and name it in tidegate.toml",
            )
        return found


LOG_FORKED = "log_forked"  # the trouble of that name, as witnesses tell it


class House(BareHouse):
    """The ports and the laws in force. Safe to share between threads.

    `outside` names troubles of what lies outside the store and the clouds (the witness), for the
    health gate. `process` is which of the processes this is: `duties`, and `me`, its name.
    """

    def __init__(
        self,
        *,
        store: Store,
        journal: ClosingJournal,
        connectors: Mapping[str, Connector],
        laws: Laws,
        clock: Callable[[], Instant],
        randomness: Callable[[int], bytes],
        warn_before: timedelta = WARN_BEFORE,
        process: Process = PROCESS,
    ) -> None:
        super().__init__(
            journal=journal, connectors=connectors, laws=laws, clock=clock, randomness=randomness
        )
        self.store = store
        self.buckets = Buckets(self._take_tokens)
        self.pace = JournalPace()  # of extensions and of ends that moved
        self.warn_before = warn_before
        self.looks = Looks()
        self.look_hands = LookHands()
        self.moving_from: dict[str, str] = {}  # after which id the next look at moving ends begins
        self.outside: Callable[[Instant], tuple[Trouble, ...]] = lambda now: ()
        self.duties = process.duties
        self.me = process.id
        self.errand_key = process.key
        self.errands_done = ErrandsDone()
        self.asked = Asked()
        self.unarmed: set[tuple[str, str]] = set()  # targets and kinds whose cloud has no deadline
        self.entries: dict[str, tuple[Target, Role]] = {}  # by digest: what `entry_of` was read as
        # What the last look at cuts read: by grant, the row or line it was read from and its hold.
        self.cut_holds: dict[str, tuple[Grant, Assignment | None, Hold]] = {}
        self.line_holds: dict[str, tuple[JournalLine, Hold]] = {}
        self.followed = 0  # how many of the journal's open grants this round of looks has asked of
        self.adopted_to = ""  # after which open grant the next look at what others opened begins
        self.opened_apart = False  # some process that only opens was heard of
        self.unadopted: dict[str, Instant] = {}  # grants whose rows did not say what to close: when
        self.strange: set[str] = set()  # grants of the journal that were told of as unknown once
        self.unsealed: list[Fact] = []  # of the worker's chores: sealed as soon as that is possible
        self.unseen: dict[str, Instant] = {}  # open findings a list lacked, since when
        # Why the last look at a target's administrators failed: its code, why, what to do.
        self.unlooked: dict[str, tuple[str, str, str]] = {}
        # Findings closed again but for sessions: how often seen by then, and since when.
        self.uncut: dict[str, tuple[int, Instant]] = {}
        self.looked_back = True  # no end of the journal is waiting to be found: see `look_back`
        # Removed before that, and so not judged yet whether in time: see `note_removed`.
        self.unjudged: set[str] = set()
        self.sweeping: set[str] = set()  # panics some thread of this process works at
        self.late_after: timedelta | None = None  # `[lateness] bound`, when it is set
        self.apart = (
            ""  # how our rules differ from those in force elsewhere; then nothing opens here
        )
        self.wanted = PanicsKept()  # panics that could not be sealed yet

    def only_one_here(self, key: str) -> AbstractContextManager[bool]:
        """The same, also among those who ask the store for it (`Store.only_one`)."""
        return self.store.only_one_here(key)

    def forked(self, now: Instant) -> Trouble | None:
        """That the log does not extend what was witnessed: this database is an older one, or was
        rewritten. What it says of ends that came since is then not known.
        """
        return next((one for one in self.outside(now) if one.code == LOG_FORKED), None)

    def _take_tokens(self, bucket: Bucket, want: int, opening: bool, now: Instant) -> int:
        most = max(1, round(bucket.per_second * BURST.total_seconds()))
        pace = Pace(
            name=bucket.name,
            per_second=bucket.per_second,
            most=most,
            kept=most // 2 if opening else 0,
        )
        return self.store.take_tokens(pace, want, now)

    def new_id(self, kind: str, now: Instant) -> str:
        """A fresh id of `kind`."""
        return make_id(kind, now, self.randomness(RANDOM_BYTES))

    def personal(self, text: str) -> Personal:
        """`text` with a fresh salt."""
        return Personal(self.randomness(SALT_BYTES), text)

    def closing_now(self) -> Instant:
        """The later of our clock and the database's: no end waits for the slower of the two.

        When the database cannot say, what it said last counts: see `due_now`.
        """
        try:
            theirs = self.store.now()
        except TidegateError:
            return self.due_now()
        ours = self.now()  # read later, so that a slow answer is not taken for a slow clock
        self.behind = max(theirs - ours, timedelta(0))
        return max(ours, theirs)

    def ending_now(self) -> Instant:
        """The earlier of our clock and the database's, for an end somebody asks for, or an opening
        somebody approves: it is due at once for every worker, also when our clock is ahead of
        theirs.

        Ours alone when the database cannot say.
        """
        ours = self.now()
        try:
            return min(ours, self.store.now())
        except TidegateError:
            return ours

    def opening_now(self) -> Instant:
        """The later of our clock and the database's: opening never gains from a slow clock.

        Raises:
            WorldFailed: the two are more than CLOCKS_APART from each other.
        """
        ours, theirs = self.now(), self.store.now()
        if abs(ours - theirs) > CLOCKS_APART:
            raise WorldFailed(
                "clocks_apart",
                f"expected our clock and the database's within {CLOCKS_APART.total_seconds():g}s, "
                f"got {abs((ours - theirs).total_seconds()):.1f}s apart",
                "mend the clock (NTP) on both; nothing opens until then",
            )
        return max(ours, theirs)
