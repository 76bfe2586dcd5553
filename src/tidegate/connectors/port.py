"""What Tidegate asks of a cloud, and what a cloud must say about itself.

The contract, for every connector and tried on each by the same tests:

- Every verb is idempotent on the hold's natural key: twice is as once.
- Verbs raise only `Refused` (certainly nothing changed), `Unreachable` (certainly not reached) or
  `Unknown` (sent, no answer: read it back). A time-out after sending is Unknown, never failure.
- No verb decides. Whether to open, close or believe is for `flow/` and the stages.
- No verb retries: pace and patience belong to the worker, inside the cloud's quota.
- Instants are read from the cloud's own clock where the cloud gives one (`cloud_at`).
- Whether a deny is still needed is asked of the cloud's clock, never of ours: `ends_by_itself`,
  `worth_restoring` and `may_prune` are the rule, the same for every connector.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable

from tidegate.base.when import Instant
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.expire import Proof as Proof

# A deny written now is true everywhere in a cloud no sooner than this (3 to 4 s were measured on
# AWS, whose Date has whole seconds). Nearer to its end a grant ends as fast by its own deadline.
DEADLINE_SOON = timedelta(seconds=5)
# A cut outlives its end by this much of the cloud's time: the machines of one cloud differ too, and
# a deny kept too long costs only its room.
PRUNE_MARGIN = timedelta(minutes=1)
# Callers name a cut until ten minutes after its end by our clock. With our clock further ahead of
# the cloud's than this, what they no longer name may still have its end before it.
LONGEST_AHEAD = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One grant as a connector sees it: who holds what, by which key, until when.

    `ends_at` is absolute and committed before any verb is called with it. `stood_before` says that
    the native thing was there before any intent of ours: it is never made, nor removed, for this.
    `cut_before` is sealed of its end: the instant of issue up to which its sessions were read back
    as refused. None: no such cut is sealed. A process that did not cut it itself knows by this what
    to look for. `removed_elsewhere` is when a removal was sealed that another process may have
    made: what this one knows of a cut may be of an earlier end, and counts no longer.
    """

    grant: str
    request: str
    principal: str
    target: Target
    role: Role
    key: AssignmentKey
    ends_at: Instant
    stood_before: bool = False
    cut_before: Instant | None = None
    removed_elsewhere: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """What a role kind can promise, declared once; flow, screens and the gate read it.

    Attributes:
        native_deadline: the cloud itself refuses after the end, with nobody of ours alive.
        deadline_precision: how far from the exact end that refusal may fall.
        floor: the shortest window the cloud can honour.
        proof: the best proof an end can reach.
        issues: whether `issue` gives credentials (else the person signs in at the cloud).
        cuts_apart: removing an assignment leaves its live sessions alone, so that ending them is a
            change of its own that may succeed or fail by itself.
        propagation: how long a change may take to be true everywhere.
        stale_window: how long after a change a read-back may still show the old state.
        shared_document: removal edits one document that several grants share: one writer at a time.
        earliest_close: the soonest after opening that the cloud accepts a close.
    """

    native_deadline: bool
    deadline_precision: timedelta
    floor: timedelta
    proof: Proof
    issues: bool
    cuts_apart: bool
    propagation: timedelta
    stale_window: timedelta
    shared_document: bool
    earliest_close: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """How long somebody may act after the end, at the worst; shown before anybody approves.

    `attended` is from "we decide to close" to "nobody can act", with Tidegate at work. `unattended`
    is from the end on, with every Tidegate process dead; None: until a person ends it by hand.
    """

    attended: timedelta
    unattended: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who a grant is for, as a cloud may know them: the login and mail as known now, or empty."""

    principal: str
    login: str = ""
    mail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A deny that must stand: of which grant, until when, and whose sessions.

    `before` is the instant before which a session must have been issued to be refused; None for
    kinds whose deny names the grant itself.
    """

    until: Instant
    native_principal: str = ""
    before: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Staying:
    """What must stay of a role's cuts, beside those `mend` was called with.

    `cut` must stay refused. `going_on` are not over by their row, and may have been ended by a
    process that has only its journal: a deny that names no grant may be all that refuses them.
    They are never refused anew for it.
    """

    cut: frozenset[str] = frozenset()
    going_on: frozenset[str] = frozenset()


# Asked by `mend` once it has read the cloud, about the grants of a role whose cuts stand there and
# that its caller did not name, and whether a deny by no name stands there as well: what of the role
# must stay, as is known by now. An end is durable before its cut is written, so a cut that was read
# and is not needed by what was asked later is needed no more. None: that cannot be known now.
MustStay = Callable[[Collection[str], bool], Staying | None]


def nothing_more(unnamed: Collection[str], nameless: bool) -> Staying | None:
    """For callers that nobody closes beside: what they did not name need not stay."""
    return Staying()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The cloud's answer to a change, for the evidence. `detail` never holds a secret."""

    cloud_at: Instant
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One native thing as the cloud shows it at `cloud_at`.

    `usable`: by what was read, a new session could start or act. `cut`: a deny of ours names it.
    `foreign`: it is there but, as far as the cloud can tell, not by us. `inherited` names the group
    or parent by which it is usable though the native thing itself is not there (empty: none).
    `cut_before` is the instant before which a session must have been issued to be refused by it.
    """

    key: AssignmentKey
    usable: bool
    cut: bool
    cloud_at: Instant
    deadline_at: Instant | None = None
    foreign: bool = False
    inherited: str = ""
    cut_before: Instant | None = None
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where to look: a whole target, one role there, one native principal there, or one hold."""

    target: Target
    role: Role | None = None
    principal: str = ""
    hold: Hold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One issued session. The only object that holds secret material; never stored, never logged.

    `material` maps the field names of the kind (`aws`: access_key_id, secret_access_key,
    session_token). `expires_at` is the cloud's own expiry, `bound_until` the instant after which
    the cloud denies whatever it signs. `key_id` is the public join key to the cloud's audit trail.
    """

    kind: str
    material: Mapping[str, str]
    key_id: str
    issued_at: Instant
    expires_at: Instant
    bound_until: Instant

    def __repr__(self) -> str:
        """Without the material: a repr ends in logs."""
        return f"Credential({self.kind}, key_id={self.key_id}, bound_until={self.bound_until})"


class Method(StrEnum):
    """How something is known of a cloud, strongest first."""

    ACTED = "acted"  # tried as that access
    SIMULATED = "simulated"  # the cloud's own policy simulator was asked
    LISTED = "listed"  # read back from what the cloud lists


class Answer(StrEnum):
    """What a probe got."""

    ALLOWED = "allowed"
    DENIED = "denied"
    UNTOLD = "untold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """An end tried as that access.

    `answer` is what a fresh credential of the same hold got for the role's harmless call; `control`
    is what the same call got in the same moment from a credential of the role that is not cut. A
    denial proves the cut only when the control was allowed.
    """

    answer: Answer
    control: Answer
    call: str
    cloud_at: Instant
    method: Method = Method.ACTED
    detail: Mapping[str, str] = field(default_factory=dict)

    @property
    def proves_denied(self) -> bool:
        """Whether this shows that the cut, and nothing else, refuses. A simulation does not."""
        tried = self.method is Method.ACTED
        return tried and self.answer is Answer.DENIED and self.control is Answer.ALLOWED


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something wrong, or not as it should be: what, and what to do.

    `shuts`: nothing may open while it is so, because what opens might not be closed (I4).
    """

    code: str
    message: str
    help: str
    shuts: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What a look at a target found. `findings` is empty when nothing is wrong.

    `cloud_at` is the cloud's clock (None when not reached) and `round_trip` what reading it took.
    """

    reached: bool
    cloud_at: Instant | None
    round_trip: timedelta
    identity: str
    findings: tuple[Trouble, ...] = ()
    certificate_until: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something `discover` met that could be a role of the catalogue."""

    kind: str
    native: Mapping[str, str]
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SideDoor:
    """An object by which somebody could come back: `sort` (`access_key`, `role`…), the cloud's own
    id, when it was made or changed, by whom if the cloud says so, the command that removes it.

    `key` is of access that may be a grant's own: what is known here is no side door."""

    sort: str
    what: str
    at: Instant | None
    says: str
    remedy: str
    by: str = ""
    key: AssignmentKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideDoors:
    """What a search came to: which sorts were looked through, what was found, and for which sorts
    it could not be told, with why.

    With `again` it may be worth asking once more; `again_at` is when the cloud's own records of the
    window are complete: until then more may be found."""

    searched: tuple[str, ...] = ()
    found: tuple[SideDoor, ...] = ()
    why_not: tuple[str, ...] = ()
    again: bool = False
    again_at: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """Who may do everything in an account, for as long as nobody takes that away.

    `what` is the cloud's own id of it, `sort` what it is (`user`, `role`, `group`), `says` by what
    it may, in one sentence, `remedy` the command that takes that away."""

    sort: str
    what: str
    says: str
    remedy: str


class Connector(Protocol):
    """The verbs. `now` is ours; connectors hold no clock of their own."""

    def powers(self, kind: str) -> Powers:
        """What role kind `kind` promises. Raises AskedWrongly for a kind this cloud lacks."""
        ...

    def exposure(self, target: Target, role: Role) -> Exposure:
        """How long an end may take at the worst, for this role on this target."""
        ...

    def residual(self, target: Target, role: Role, cut: bool) -> timedelta:
        """How long sessions and what they derive (tokens, chains) outlive the end.

        `cut` says that a deny of ours was read back. Zero: nothing outlives it.
        """
        ...

    def lingers(self, target: Target, role: Role) -> timedelta:
        """How long after removal a cut must stand, beside until the grant's own end."""
        ...

    def key(self, target: Target, role: Role, grant: str, person: Person) -> AssignmentKey:
        """The natural key of what `grant` would make for `person`; may ask the cloud who that is.

        Raises:
            Refused: `no_such_person`: the cloud does not know them, or not for certain.
        """
        ...

    def check(self, target: Target, role: Role, others: tuple[Role, ...]) -> tuple[str, ...]:
        """What would fail later about this entry, found offline. Empty: nothing."""
        ...

    def health(self, target: Target, now: Instant) -> Health:
        """Reach, clock and identity. Never raises: an unreachable target is a finding."""
        ...

    def discover(self, target: Target) -> Iterator[Found]:
        """What could be asked for there."""
        ...

    def observe(self, scope: Scope, now: Instant) -> Iterator[Seen]:
        """What is there, by scope, never one big set. With a hold: exactly one Seen for it."""
        ...

    def drift(self, target: Target, role: Role, now: Instant) -> tuple[str, ...]:
        """What is not as it should be of the role itself: gone, or trusting others. One sentence
        each, the same every time. Empty: nothing, or it cannot be looked at here."""
        ...

    def side_doors(
        self, hold: Hold, keys: tuple[str, ...], since: Instant, until: Instant, now: Instant
    ) -> SideDoors:
        """What was made on the hold's target between `since` and `until` by which its holder could
        come back after the end.

        `keys` are the public key ids of its sessions. Made inside the window is not made by the
        holder: an object says `by` only where the cloud itself says who made it. What cannot be
        looked through is told in `why_not`, never left out. Changes nothing.
        """
        ...

    def grant(self, hold: Hold, now: Instant) -> Receipt:
        """Make the hold usable until its end, the end carried in it wherever the cloud can.

        What stood before the hold is never made, nor made anew: no end of ours would remove it.

        Raises:
            Refused: `not_standing`: what stood before is there no more.
        """
        ...

    def issue(self, hold: Hold, session: str, now: Instant) -> Credential:
        """A credential of this hold, denied by the cloud from `hold.ends_at` on."""
        ...

    def arm(self, hold: Hold, until: Instant, now: Instant) -> Receipt | None:
        """Have the cloud itself remove the assignment at `until`, whoever is alive then.

        One deadline a natural key: an earlier or later one is moved. None: no such thing here. The
        receipt's `deadline` says what it took: `there` (nothing), `made` or `moved`.
        """
        ...

    def disarm(self, hold: Hold, now: Instant) -> Receipt | None:
        """Take that deadline away: what it would remove is gone, or is not ours any more."""
        ...

    def revoke(self, hold: Hold, now: Instant) -> Receipt:
        """Stop new sessions. Accepted is not removed.

        The end is early unless `ends_by_itself` by the cloud's clock, read in this call.
        """
        ...

    def cut(self, hold: Hold, now: Instant) -> Receipt:
        """Stop live sessions of this hold and of no other."""
        ...

    def probe(self, hold: Hold, now: Instant) -> Probed:
        """Try, as this access, a call it could make before. UNTOLD when that cannot be tried."""
        ...

    def mend(
        self,
        target: Target,
        role: Role,
        cuts: Mapping[str, Cut],
        now: Instant,
        must_stay: MustStay = nothing_more,
    ) -> tuple[str, ...]:
        """Put back cuts somebody removed and prune those that can no longer matter.

        `cuts` maps every grant id that must stay refused to its cut; name each for ten minutes
        longer by our clock. `may_prune` decides what goes, by the cloud's clock read in this call
        and ours: the end has passed by both. What it does not name goes only as `must_stay` says.
        Returns the grant ids whose cut was missing and is there again.
        """
        ...


@runtime_checkable
class TellsAdministrators(Protocol):
    """A connector that can tell who administers a whole account. Without it nobody looks there."""

    def paced_as(self, target: Target) -> str:
        """The role kind whose pace such a look takes; empty: it is told nothing of that target.

        Asks nothing of the cloud.
        """
        ...

    def administrators(self, target: Target, now: Instant) -> tuple[Administrator, ...]:
        """Everybody there is, but those that are Tidegate's own, handed out, or the cloud's own.

        Raises:
            Refused: it may not look, or not all can be told; never a part for the whole.
            Unreachable, Unknown: as verbs do.
        """
        ...


def paced_as(connector: Connector, target: Target) -> str:
    """As `TellsAdministrators` has it, of any connector."""
    return connector.paced_as(target) if isinstance(connector, TellsAdministrators) else ""


def administrators(connector: Connector, target: Target, now: Instant) -> tuple[Administrator, ...]:
    """As `TellsAdministrators` has it, of any connector; nobody where it is told nothing."""
    if not isinstance(connector, TellsAdministrators):
        return ()
    return connector.administrators(target, now)


def ends_by_itself(ends_at: Instant, now: Instant, cloud_at: Instant) -> bool:
    """Whether an end needs no deny, because the cloud's own deadline refuses as soon.

    So when our clock says the end has come and the cloud's is at most DEADLINE_SOON short of it.
    With our clock further ahead, the end is an early one in the cloud. Only for kinds with a native
    deadline, and never a reason to believe the end: that takes a read past it by `cloud_at`.
    """
    return now >= ends_at and cloud_at >= ends_at - DEADLINE_SOON


def worth_restoring(until: Instant, cloud_at: Instant) -> bool:
    """Whether a missing cut must be put back: its end is more than DEADLINE_SOON ahead there."""
    return cloud_at < until - DEADLINE_SOON


def may_prune(until: Instant | None, now: Instant, cloud_at: Instant) -> bool:
    """Whether a cut can no longer matter; `until` is None when the caller did not name it."""
    if until is None:
        return now - cloud_at <= LONGEST_AHEAD
    # By both clocks: dropped while the cloud's ran ahead, it would be missing once that is right.
    return cloud_at > until + PRUNE_MARGIN and now >= until
