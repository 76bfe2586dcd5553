"""The oracle's book: what people did, how each grant went, and the spans it judges by."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sim.loop import START
from sim.town import Place
from tidegate.base.when import to_ms
from tidegate.catalogue import AssignmentKey

START_MS = to_ms(START)
MINUTE = 60_000
SLACK = 4_000  # looks every 200 ms, calls of up to 40 ms, sixteen at a time
RECOVERY = 6 * MINUTE  # the longest pause between tries, a dead worker's lease, and two tries
CLAIM_WITHIN = 30 * MINUTE
CLOSING_LATE = 2 * MINUTE
WENT_WITHIN = 60_000  # a commit may take half of it from what it was decided by
HEARD = 30_000  # closers hear every ten seconds of what processes that only open opened
MENDED_WITHIN = 40_000  # denies are looked after every thirty seconds
TICKS = 6_000  # at a native end the cloud's whole seconds may still hide that it has passed
JOURNAL_LOOKS = 10_000  # how often what no row tells of is looked for in the closing journal
NEVER = 1 << 60


class Broken(BaseException):
    """Enough is known: the world need not go on."""


BUG = "bug"  # the rule a mistake breaks that shows in nothing else


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
    sealed_at: int = NEVER  # when its first version was
    filed_at: int = 0  # the version that is voted on: which rules carry it is fixed then (I8)
    approved_at: int = NEVER
    ended: str = ""
    grant: str = ""
    graces: frozenset[int] = frozenset()  # what the rules gave after the window when it was filed
    extends: "Life | None" = None  # then `span` is how much later its window ends
    base: int = 0  # of an extension: how long that window was before
    applied: bool = False

    @property
    def length(self) -> int:
        """How long access is had with it, all in all: what a rule's longest window is held to."""
        return self.base + self.span


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
class Alarm:
    """A panic somebody called, as they meant it: `scope` is a kind, `name` a login, target, role.

    `freeze` is how long nothing may open there; `until` is the same on a clock, once it is sealed.
    """

    by: str
    scope: str
    name: str
    freeze: int | None
    id: str = ""
    called_at: int = NEVER
    until: int = -1
    waited: bool = False  # it could not be sealed at once; two processes may keep it

    def covers(self, wish: Wish) -> bool:
        """Whether what was wished is in it."""
        target = wish.role.partition("/")[0]
        named = {"principal": wish.login, "target": target, "role": wish.role, "all": ""}
        return named[self.scope] == self.name


@dataclass(slots=True)
class Word:
    """An operator's word for an end that cannot be proven."""

    login: str
    grant: str


@dataclass(slots=True)
class Life:
    """One grant as the oracle follows it. Instants in ms of true time, but `end`: on a clock."""

    id: str
    wish: Wish
    place: Place
    native: str
    readied_at: int
    claim_from: int  # the same on the slowest clock that says so: it may be claimed from then on
    intended_at: int = NEVER
    end: int = NEVER  # the window's end and the grace after it
    window: int = NEVER
    since: int = 0  # where the window begins, on a clock
    moved_at: int = -1  # when its end moved last, and from where
    old_end: int = NEVER
    unheard_end: int = NEVER  # the first end that moved so late that some journal may have met it
    closing_at: int = NEVER
    ending_since: int = NEVER  # the same, or when what was called removed was found to be there
    removed_at: int = NEVER
    gone_at: int = NEVER
    failed_at: int = NEVER
    signed_at: int = NEVER  # somebody answers for its end
    opened_at: int = NEVER
    still_held: bool = False
    seen_cut: bool = False  # it was sealed that its sessions were read back as cut
    stood: bool = False
    may_stand: bool = False  # when that was decided it may have stood, or did for another grant
    said_stood: bool = False  # the cloud was asked to open it as what stood before
    tampered_at: int = -1
    answered: bool = False  # some opening call came back with a yes
    probed_at: int = -1  # when a probe was last tried, and the access last read
    read_at: int = -1
    looked_at: int = -1  # when the cloud last answered anything about it
    called: bool = False
    forgotten: bool = False  # opened, and the database that was put back does not know
    panicked_at: int = NEVER  # a panic was called about it then, while it was forgotten
    tried_at: int = -1
    changed_at: int = -1  # when a change that closes it was last sent to the cloud
    met_at: int = NEVER  # by the clock of whoever wrote first that its end began, or was read back
    told_at: int = NEVER  # since when the journal says that its end began
    counts: Counter[str] = field(default_factory=Counter)

    def over_at(self) -> int:
        """When it ends by what the oracle knows: at its end, or earlier when somebody ended it."""
        return min(self.end, self.closing_at, self.failed_at, self.panicked_at)

    @property
    def key(self) -> AssignmentKey:
        """The thing in the cloud that it is about."""
        return AssignmentKey(
            connector=self.place.connector,
            account=f"account-{self.place.target}",
            native_role=self.native,
            native_principal=self.wish.login if self.place.kind == "assignment" else self.id,
        )


@dataclass(slots=True)
class Seen:
    """One thing the oracle saw, for the checkers: `what` happened to whom, by which process.

    `entered` is when the process set out to commit it. `found` is what was looked up for all
    checkers at once; what it is depends on `what`.
    """

    what: str
    process: Any = None
    life: Life | None = None
    wish: Wish | None = None
    data: Any = None
    entered: int = 0
    found: Any = None
