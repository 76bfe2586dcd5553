"""Stage 4, Run: one use of a grant.

Decides when a credential may be issued and what it is bound to. The session is sealed *before* the
material leaves Tidegate, so no one can hold a credential the evidence does not know.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from tidegate.base.errors import NotAllowed
from tidegate.base.fact import SYSTEM, Change, Fact, Step, moved
from tidegate.base.table import Table
from tidegate.base.when import Instant, parse_instant, wire
from tidegate.grant import Grant, GrantState
from tidegate.grant import evolve as evolve_grant

# Re-issuing hourly, night and day, stays below it for a week; a client that mints without a cache
# does not. All sessions of all items of one request must fit in one evidence pack.
MOST_SESSIONS = 200


class SessionState(StrEnum):
    """Whether it may still act."""

    LIVE = "live"
    ENDED = "ended"


class SessionKind(StrEnum):
    """How a grant is used: keys issued, calls proxied, or the cloud's own portal."""

    ISSUED = "issued"
    PROXIED = "proxied"
    PORTAL = "portal"


class Why(StrEnum):
    """How a session came to its end."""

    EXPIRED = "expired"  # the end its credential carries passed
    CUT = "cut"  # denied before that end


TABLE: Table[SessionState] = Table(
    "session",
    {
        (None, "session.issued"): SessionState.LIVE,
        (SessionState.LIVE, "session.ended"): SessionState.ENDED,
    },
    {"session.issued": "issue it", "session.ended": "end it"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One use. `key_id` joins it to the cloud's audit trail; it is not a secret.

    `expires_at` is the credential's own expiry in the cloud, `bound_until` the instant from which
    the cloud denies what it signs.
    """

    id: str
    grant: str
    request: str
    kind: SessionKind
    state: SessionState
    key_id: str
    issued_at: Instant
    expires_at: Instant
    bound_until: Instant
    ended_at: Instant | None
    why: str
    version: int


def may_issue(grant: Grant, principal: str, now: Instant) -> None:
    """Refuse a credential unless `principal` holds `grant` open at `now` (I3c).

    Raises:
        NotAllowed: somebody else's grant, not open, past its end, or too many sessions.
    """
    if principal != grant.principal:
        raise NotAllowed("not_yours", f"`{grant.id}` is somebody else's grant", "request your own")
    window = grant.window_ends_at
    if window is not None and now >= window:
        raise NotAllowed(
            "ended", f"access under `{grant.id}` ended at {wire(window)}", _next(grant)
        )
    if grant.state is not GrantState.OPEN:
        raise NotAllowed(
            "not_open", f"expected an open grant, `{grant.id}` is `{grant.state}`", _next(grant)
        )
    if grant.sessions >= MOST_SESSIONS:
        raise NotAllowed(
            "too_many_sessions",
            f"expected at most {MOST_SESSIONS} sessions in one grant",
            "use the session you have, or request again",
        )


def issued(
    grant: Grant,
    session_id: str,
    key_id: str,
    expires_at: Instant,
    now: Instant,
    kind: SessionKind = SessionKind.ISSUED,
    bound_until: Instant | None = None,
) -> Step:
    """A credential was minted for the grant's holder; guarded by the grant still being open.

    `bound_until` is the end it was minted with, when the grant's may have moved meanwhile.
    """
    if grant.ends_at is None:
        raise RuntimeError(f"session of {grant.id} without an end")
    bound_until = min(bound_until or grant.ends_at, grant.ends_at)
    fact = Fact(
        name="session.issued",
        subject=grant.request,
        actor=grant.principal,
        data={
            "grant": grant.id,
            "request": grant.request,
            "at": wire(now),
            "session": session_id,
            "kind": kind.value,
            "key_id": key_id,
            "expires_at": wire(expires_at),
            "bound_until": wire(bound_until),
        },
    )
    made = Change(0, evolve(None, fact))
    return Step((Change(grant.version, evolve_grant(grant, fact)), made), (fact,))


def ended(session: Session, why: Why, now: Instant) -> Step:
    """It can no longer act."""
    fact = Fact(
        name="session.ended",
        subject=session.request,
        actor=SYSTEM,
        data={
            "grant": session.grant,
            "request": session.request,
            "at": wire(now),
            "session": session.id,
            "why": why.value,
        },
    )
    return moved(session, evolve(session, fact), fact)


def evolve(before: Session | None, fact: Fact) -> Session:
    """The session after `fact`. The only function that makes or changes one."""
    data = fact.data
    state = TABLE.next(before.state if before else None, fact.name)
    at = parse_instant(data["at"])
    if before is not None:
        return replace(
            before, state=state, ended_at=at, why=data["why"], version=before.version + 1
        )
    return Session(
        id=data["session"],
        grant=data["grant"],
        request=data["request"],
        kind=SessionKind(data["kind"]),
        state=state,
        key_id=data["key_id"],
        issued_at=at,
        expires_at=parse_instant(data["expires_at"]),
        bound_until=parse_instant(data["bound_until"]),
        ended_at=None,
        why="",
        version=1,
    )


def _next(grant: Grant) -> str:
    if grant.state is GrantState.READY:
        return f"it opens at {wire(grant.opens_at)}; wait, or look with `tidegate trace {grant.id}`"
    if grant.state is GrantState.INTENDED:
        return "it is being opened; try again in a moment"
    return f"ask again: `tidegate request {grant.role} --for … --reason …`"
