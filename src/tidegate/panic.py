"""Panic: everything in a scope ends at once, and nothing opens there meanwhile.

Decides what a scope covers, in which order grants are ended, and how a panic stands, counted in
four words: gone, removed, still closing, unverified. Pure; the effects are in `flow/panicking.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from tidegate.base.errors import AskedWrongly
from tidegate.base.fact import SYSTEM, Data, Fact, Step, moved
from tidegate.base.personal import Personal
from tidegate.base.table import Table
from tidegate.base.when import Instant, parse_instant, show_duration, wire
from tidegate.grant import Cause, Grant, GrantState
from tidegate.request import Request

LONGEST_FREEZE = timedelta(days=7)  # longer is a rule (`forbid`), which has an author and a review
MOST_LISTED = 500  # grants named in one event: far below the longest leaf


class ScopeKind(StrEnum):
    """What a panic is about."""

    PRINCIPAL = "principal"
    TARGET = "target"
    ROLE = "role"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a panic covers. `name` is a principal's, target's or role's id; empty for `all`."""

    kind: ScopeKind
    name: str = ""

    def covers(self, principal: str, role: str) -> bool:
        """Whether access of `principal` to `role` is in it."""
        match self.kind:
            case ScopeKind.PRINCIPAL:
                return principal == self.name
            case ScopeKind.TARGET:
                return role.partition("/")[0] == self.name
            case ScopeKind.ROLE:
                return role == self.name
            case ScopeKind.ALL:
                return True

    def covers_request(self, request: Request) -> bool:
        """Whether any item of a request is in it."""
        terms = request.terms
        return any(self.covers(terms.principal, item.role) for item in terms.items)

    @property
    def text(self) -> str:
        """For people, and what they type to confirm: `target aws-prod`, `all`."""
        return f"{self.kind} {self.name}".rstrip()


class PanicState(StrEnum):
    """`called`: ends are being sealed. `swept`: the end of everything in scope is sealed."""

    CALLED = "called"
    SWEPT = "swept"


TABLE: Table[PanicState] = Table(
    "panic",
    {
        (None, "panic.called"): PanicState.CALLED,
        (PanicState.CALLED, "panic.listed"): PanicState.CALLED,
        (PanicState.CALLED, "panic.swept"): PanicState.SWEPT,
        (PanicState.CALLED, "panic.lifted"): PanicState.CALLED,
        (PanicState.SWEPT, "panic.listed"): PanicState.SWEPT,  # by another machine's journal
        (PanicState.SWEPT, "panic.lifted"): PanicState.SWEPT,
    },
    {
        "panic.called": "call it",
        "panic.listed": "name what it ends",
        "panic.swept": "call it swept",
        "panic.lifted": "lift its freeze",
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panic:
    """One panic. `via` says from where it was called: `api` or `machine`.

    `frozen_until`: nothing opens in its scope until then, unless `lifted_at` says otherwise; None
    when no freeze was asked for. `grants` and `requests` count what was named and refused so far.
    """

    id: str
    state: PanicState
    kind: ScopeKind
    name: str
    actor: str
    via: str
    reason: str
    called_at: Instant
    frozen_until: Instant | None
    lifted_at: Instant | None
    grants: int
    requests: int
    version: int

    @property
    def scope(self) -> Scope:
        """What it covers."""
        return Scope(self.kind, self.name)

    def frozen(self, now: Instant) -> bool:
        """Whether its freeze holds at `now`."""
        return self.frozen_until is not None and self.lifted_at is None and now < self.frozen_until

    def stops(self, now: Instant) -> bool:
        """Whether nothing may open in its scope now: it is being swept, or frozen."""
        return self.state is PanicState.CALLED or self.frozen(now)


def call(
    panic_id: str,
    scope: Scope,
    actor: str,
    via: str,
    freeze: timedelta | None,
    now: Instant,
    reason: Personal | None = None,
) -> Step:
    """A panic is called. Committed before anything is ended, so that nothing opens meanwhile.

    Raises:
        AskedWrongly: as `check_freeze`.
    """
    check_freeze(freeze)
    fact = Fact(
        name="panic.called",
        subject=panic_id,
        actor=actor,
        data={
            "panic": panic_id,
            "scope": scope.kind.value,
            "name": scope.name,
            "via": via,
            "reason": reason.commitment if reason else None,
            "frozen_until": wire(now + freeze) if freeze is not None else None,
            "at": wire(now),
        },
    )
    return moved(None, evolve(None, fact), fact, *([reason] if reason else []))


def check_freeze(freeze: timedelta | None) -> None:
    """Raises AskedWrongly: a freeze of no length, or of more than LONGEST_FREEZE."""
    if freeze is not None and not timedelta(0) < freeze <= LONGEST_FREEZE:
        raise AskedWrongly(
            "bad_freeze",
            f"expected a freeze of more than 0s and at most {show_duration(LONGEST_FREEZE)}, "
            f"got {show_duration(freeze)}",
            "what must stay shut for longer is a `forbid` in the rules",
        )


def listed(panic: Panic, grants: tuple[str, ...], now: Instant) -> Step:
    """Grants in its scope are named: those whose end is about to be sealed, or is already."""
    return _told(panic, "panic.listed", now, SYSTEM, {"grants": list(grants)})


def swept(panic: Panic, requests: int, now: Instant) -> Step:
    """The end of everything in its scope is sealed; how many grants, and requests refused."""
    more = {"grants": panic.grants, "requests": requests}
    return _told(panic, "panic.swept", now, SYSTEM, more)


def lift(panic: Panic, actor: str, now: Instant) -> Step:
    """Its freeze ends before its time.

    Raises:
        AskedWrongly: it has no freeze that holds.
    """
    if not panic.frozen(now):
        raise AskedWrongly(
            "not_frozen", f"expected a freeze that holds, `{panic.id}` has none", "nothing to do"
        )
    return _told(panic, "panic.lifted", now, actor, {})


def evolve(before: Panic | None, fact: Fact) -> Panic:
    """The panic after `fact`. The only function that makes or changes one."""
    data = fact.data
    state = TABLE.next(before.state if before else None, fact.name)
    at = parse_instant(str(data["at"]))
    if before is None:
        return Panic(
            id=str(data["panic"]),
            state=state,
            kind=ScopeKind(str(data["scope"])),
            name=str(data["name"]),
            actor=fact.actor,
            via=str(data["via"]),
            reason=str(data["reason"] or ""),
            called_at=at,
            frozen_until=parse_instant(data["frozen_until"]) if data["frozen_until"] else None,
            lifted_at=None,
            grants=0,
            requests=0,
            version=1,
        )
    after = replace(before, state=state, version=before.version + 1)
    match fact.name:
        case "panic.listed":
            return replace(after, grants=before.grants + len(data["grants"]))
        case "panic.swept":
            return replace(after, requests=int(data["requests"]))
        case "panic.lifted":
            return replace(after, lifted_at=at)
    raise RuntimeError(f"{fact.name} is in the table and has no meaning")


def by_risk(grants: Iterable[Grant]) -> list[Grant]:
    """Worst first: by the risk sealed with it, then by its exposure, then the latest end."""

    def risk(grant: Grant) -> tuple[int, bool, timedelta, timedelta, float, str]:
        return (
            -grant.risk,
            grant.unattended is not None,
            -(grant.unattended or timedelta(0)),
            -grant.exposure,
            -grant.ends_at.timestamp() if grant.ends_at else 0.0,
            grant.id,
        )

    return sorted(grants, key=risk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a panic counts and no row of its grants tells of: the grant, its role (empty where that
    is not known), and why it counts, in words.
    """

    id: str
    says: str
    role: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How everything a panic named stands. The four counts are all there is to say.

    `gone` includes what never opened. `removed` may act until `residual_until` (None: no longer
    than now). `closing` is not read back as removed, nor is `closing_beside`, of which the closing
    journal alone tells, or which came back after its end; `unverified` ended and somebody may still
    act, or nothing can be read of it (`unread`). `doubt` says why there may be more than is
    counted; empty where nothing says so.
    """

    gone: int = 0
    removed: int = 0
    residual_until: Instant | None = None
    closing: tuple[Grant, ...] = ()
    closing_beside: tuple[Beside, ...] = ()
    unverified: tuple[Grant, ...] = ()
    unread: tuple[Beside, ...] = ()
    doubt: str = ""

    @property
    def beside(self) -> tuple[Beside, ...]:
        """All that counts as closing or unverified and has no row."""
        return (*self.closing_beside, *self.unread)

    @property
    def still_closing(self) -> int:
        """How many are not read back as removed yet."""
        return len(self.closing) + len(self.closing_beside)

    @property
    def not_verified(self) -> int:
        """How many ended, or are said to, and may be used all the same."""
        return len(self.unverified) + len(self.unread)

    @property
    def settled(self) -> bool:
        """Whether no further look can change a word of it but *removed* to *gone*."""
        return not self.still_closing

    @property
    def safe(self) -> bool:
        """Whether everything is gone or removed: the only success there is."""
        return not (self.still_closing or self.not_verified or self.doubt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrowed:
    """Those of a panic's grants that no row tells of (`names`), counted by the closing journal.

    `newer`: whether any was opened after everything the database knows. Those removed may act until
    `residual_until`; `closing` and `unread` as in `Standing`. `why`: why the journal could not be
    asked.
    """

    names: frozenset[str] = frozenset()
    newer: bool = False
    removed: int = 0
    residual_until: Instant | None = None
    closing: tuple[Beside, ...] = ()
    unread: tuple[Beside, ...] = ()
    why: str = ""


def standing(
    grants: Iterable[Grant],
    unrowed: Unrowed,
    now: Instant,
    *,
    doubt: str = "",
) -> Standing:
    """Count `grants`, and what counts beside their rows.

    `doubt` as in `Standing`: with one, what never opened by its row may have been opened all the
    same, after that row was copied.
    """
    gone, removed, until = 0, unrowed.removed, unrowed.residual_until
    closing: list[Grant] = []
    unverified: list[Grant] = []
    for grant in grants:
        match grant.state:
            case GrantState.FAILED if doubt and grant.cause == Cause.ENDED_BEFORE:
                unverified.append(grant)
            case GrantState.GONE | GrantState.FAILED:
                gone += 1
            case GrantState.SIGNED_OFF:
                unverified.append(grant)
            case GrantState.REMOVED if grant.still_held_by or _outlived(grant, now):
                unverified.append(grant)
            case GrantState.REMOVED:
                removed += 1
                residual = grant.residual_until
                if residual is not None and residual > now:
                    until = max(until or residual, residual)
            case _:
                closing.append(grant)
    return Standing(
        gone=gone,
        removed=removed,
        residual_until=until,
        closing=tuple(by_risk(closing)),
        closing_beside=unrowed.closing,
        unverified=tuple(by_risk(unverified)),
        unread=unrowed.unread,
        doubt=doubt,
    )


def _outlived(grant: Grant, now: Instant) -> bool:
    """Whether a probe found a session of it acting, and no time bounds that any more."""
    return grant.acted and (grant.residual_until is None or grant.residual_until <= now)


def _told(panic: Panic, name: str, now: Instant, actor: str, more: Data) -> Step:
    fact = Fact(
        name=name,
        subject=panic.id,
        actor=actor,
        data={"panic": panic.id, "at": wire(now), **more},
    )
    return moved(panic, evolve(panic, fact), fact)
