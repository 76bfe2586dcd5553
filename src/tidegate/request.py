"""Stage 1, Request: a principal asks for roles, for a reason and a while.

Decides what a request is, what its digest names, and which moves it may make. Does not decide
whether a rule permits it (`policy/`) or whether the votes suffice (`approve.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from tidegate.base.canonical import Json, digest
from tidegate.base.errors import AskedWrongly, Stale
from tidegate.base.fact import Data, Fact, Step, moved
from tidegate.base.personal import Personal
from tidegate.base.table import Table
from tidegate.base.when import Instant, parse_instant, show_duration, whole_seconds, wire

DIGEST_FORMAT = "tidegate-request-v1"
DIGEST_FORMAT_2 = "tidegate-request-v2"  # of what version 1 cannot say: an extension, a grace
MOST_ITEMS = 20  # one screen an approver can read in one go
DECIDE_WITHIN = timedelta(hours=8)  # a working day: an older need is a new need
CLAIM_WITHIN = timedelta(minutes=30)
FURTHEST_START = timedelta(days=30)
LATE_START = timedelta(minutes=1)  # a start this far past is "now": clocks and typing take time


class RequestState(StrEnum):
    """Where a request is; all but `pending` are ends."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"


TABLE: Table[RequestState] = Table(
    "request",
    {
        (None, "request.filed"): RequestState.PENDING,
        (RequestState.PENDING, "request.edited"): RequestState.PENDING,
        (RequestState.PENDING, "request.voted"): RequestState.PENDING,
        (RequestState.PENDING, "request.approved"): RequestState.APPROVED,
        (RequestState.PENDING, "request.denied"): RequestState.DENIED,
        (RequestState.PENDING, "request.refused"): RequestState.REFUSED,
        (RequestState.PENDING, "request.withdrawn"): RequestState.WITHDRAWN,
        (RequestState.PENDING, "request.lapsed"): RequestState.LAPSED,
        # Of an extension alone: it makes no grant, so what became of it is told here.
        (RequestState.APPROVED, "request.applied"): RequestState.APPROVED,
        (RequestState.APPROVED, "request.refused"): RequestState.REFUSED,
    },
    {
        "request.filed": "file it",
        "request.edited": "change it",
        "request.voted": "vote on it",
        "request.approved": "approve it",
        "request.denied": "deny it",
        "request.refused": "refuse it",
        "request.withdrawn": "withdraw it",
        "request.lapsed": "let it lapse",
        "request.applied": "call it applied",
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One role asked for, with the rule that carries it as fixed at filing.

    `rules` are all determining rule ids. A refused item has an empty `carrier` and `requirement`.
    `grace` is how long after the window its carrier lets running work finish.
    """

    role: str
    role_digest: str
    carrier: str
    requirement: str
    rules: tuple[str, ...]
    grace: timedelta = timedelta(0)

    def plain(self) -> dict[str, Json]:
        """As sealed in events and kept in rows. No grace is not told, as before there was one."""
        told: dict[str, Json] = {
            "role": self.role,
            "role_digest": self.role_digest,
            "carrier": self.carrier,
            "requirement": self.requirement,
            "rules": list(self.rules),
        }
        return {**told, "grace_seconds": whole_seconds(self.grace)} if self.grace else told


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One approver's choice on the exact digest they were shown."""

    id: str
    voter: str
    choice: str
    digest: str
    groups: tuple[str, ...]
    comment: str
    at: Instant

    def plain(self) -> dict[str, Json]:
        """As kept in rows."""
        return {
            "id": self.id,
            "voter": self.voter,
            "choice": self.choice,
            "digest": self.digest,
            "groups": list(self.groups),
            "comment": self.comment,
            "at": wire(self.at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """Which grant is to end later: its sealed end as it was when asked, and as it would be."""

    grant: str
    ends_at: Instant
    until: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is asked for: everything a vote binds itself to, but for the request's id.

    `reason` is the commitment to the reason text, so that erasing the text leaves the digest
    checkable. `duration` is whole seconds; of an extension, by how much the window gets longer.
    """

    principal: str
    items: tuple[Item, ...]
    duration: timedelta
    start: Instant | None
    reason: str
    ticket: str | None
    emergency: bool
    rules_digest: str
    extends: Extension | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it is now. `applied_at` is when an approved extension moved its grant's end."""

    id: str
    state: RequestState
    terms: Terms
    digest: str
    filed_at: Instant
    decide_by: Instant
    decided_at: Instant | None
    votes: tuple[Vote, ...]
    code: str
    why: str
    version: int
    applied_at: Instant | None = None


def request_digest(request_id: str, terms: Terms) -> str:
    """The digest a vote names (I9). Changing anything an approver is shown changes it.

    Version 1 as long as it says everything, so that digests already voted on stay checkable.
    """
    items: list[Json] = [
        {
            "role": item.role,
            "role_digest": item.role_digest,
            "carrier": item.carrier,
            "requirement": item.requirement,
        }
        for item in terms.items
    ]
    named: dict[str, Json] = {
        "format": DIGEST_FORMAT,
        "request": request_id,
        "principal": terms.principal,
        "items": items,
        "duration_seconds": whole_seconds(terms.duration),
        "start": wire(terms.start) if terms.start else None,
        "reason": terms.reason,
        "ticket": terms.ticket,
        "emergency": terms.emergency,
        "rules_digest": terms.rules_digest,
    }
    if terms.extends or any(item.grace for item in terms.items):
        named |= {
            "format": DIGEST_FORMAT_2,
            "graces": [whole_seconds(item.grace) for item in terms.items],
            **_extension_plain(terms.extends),
        }
    return digest(named)


def check_terms(
    roles: Sequence[str], duration: timedelta, start: Instant | None, now: Instant
) -> None:
    """Refuse what no rule could make right, before any rule is asked. Raises AskedWrongly."""
    if not 1 <= len(roles) <= MOST_ITEMS:
        raise AskedWrongly(
            "bad_items",
            f"expected 1 to {MOST_ITEMS} roles in one request, got {len(roles)}",
            "split it into several requests",
        )
    if len(set(roles)) != len(roles):
        raise AskedWrongly("bad_items", "a role was named twice in one request", "name it once")
    if duration < timedelta(seconds=1) or duration % timedelta(seconds=1):
        raise AskedWrongly(
            "bad_duration",
            f"expected a duration of whole seconds above zero, got `{duration.total_seconds():g}s`",
            "ask for example for `45m`",
        )
    if start and not now - LATE_START <= start <= now + FURTHEST_START:
        raise AskedWrongly(
            "bad_start",
            f"expected a start in the next {show_duration(FURTHEST_START)}, got `{wire(start)}`",
            "leave `--start` out to begin on approval",
        )


def file(request_id: str, terms: Terms, now: Instant, *personal: Personal) -> Step:
    """The request is there, pending. `personal` holds the reason text behind `terms.reason`."""
    fact = _terms_fact("request.filed", request_id, terms, now)
    return moved(None, evolve(None, fact), fact, *personal)


def edit(request: Request, terms: Terms, now: Instant, *personal: Personal) -> Step:
    """New terms, a new digest; every vote cast so far is void."""
    _still_decidable(request, now)
    fact = _terms_fact("request.edited", request.id, terms, now)
    return moved(request, evolve(request, fact), fact, *personal)


def refuse(request: Request, code: str, why: str, now: Instant, actor: str) -> Step:
    """No rule permits it, or a forbid or the gate stops it.

    Once approved, an extension alone: a plain request has its grants by then, which fail.
    """
    if request.state is RequestState.APPROVED and (not request.terms.extends or request.applied_at):
        raise RuntimeError(f"refusal of {request.id}, which is approved")
    return _told(request, "request.refused", now, actor, {"code": code, "why": why})


def withdraw(request: Request, now: Instant) -> Step:
    """Its owner takes it back."""
    return _told(request, "request.withdrawn", now, request.terms.principal, {})


def lapse(request: Request, now: Instant) -> Step:
    """Nobody decided in time. Misuse before `decide_by` is our own bug."""
    if now < request.decide_by:
        raise RuntimeError(f"lapse of {request.id} before decide-by")
    return _told(request, "request.lapsed", now, "system", {})


def apply(request: Request, grant_chain: str, now: Instant) -> Step:
    """The grant's end moved as approved, in the same Step. `grant_chain` is where that is told."""
    if request.terms.extends is None:
        raise RuntimeError(f"{request.id} extends nothing")
    more: dict[str, Json] = {"grant": request.terms.extends.grant, "chain": grant_chain}
    return _told(request, "request.applied", now, "system", more)


def evolve(before: Request | None, fact: Fact) -> Request:
    """The request after `fact`. The only function that makes or changes one."""
    data = fact.data
    state = TABLE.next(before.state if before else None, fact.name)
    at = parse_instant(str(data["at"]))
    if fact.name in ("request.filed", "request.edited"):
        return Request(
            id=str(data["request"]),
            state=state,
            terms=_terms_of(data),
            digest=str(data["digest"]),
            filed_at=before.filed_at if before else at,
            decide_by=parse_instant(str(data["decide_by"])),
            decided_at=None,
            votes=(),
            code="",
            why="",
            version=(before.version if before else 0) + 1,
        )
    if before is None:
        raise RuntimeError(f"{fact.name} on a request that is not there")
    if fact.name == "request.voted":
        return replace(before, votes=(*before.votes, _vote_of(data)), version=before.version + 1)
    if fact.name == "request.applied":
        return replace(before, applied_at=at, version=before.version + 1)
    return replace(
        before,
        state=state,
        decided_at=at,
        code=str(data.get("code", "")),
        why=str(data.get("why", "")),
        version=before.version + 1,
    )


def item_of(plain: Data) -> Item:
    """An item from its plain form."""
    return Item(
        role=plain["role"],
        role_digest=plain["role_digest"],
        carrier=plain["carrier"],
        requirement=plain["requirement"],
        rules=tuple(plain["rules"]),
        grace=timedelta(seconds=plain.get("grace_seconds", 0)),
    )


def _still_decidable(request: Request, now: Instant) -> None:
    if now >= request.decide_by:
        raise Stale(
            "lapsed",
            f"request `{request.id}` had to be decided by {wire(request.decide_by)}",
            "file it again",
        )


def _told(request: Request, name: str, now: Instant, actor: str, more: dict[str, Json]) -> Step:
    fact = Fact(
        name=name,
        subject=request.id,
        actor=actor,
        data={"request": request.id, "at": wire(now), **more},
    )
    return moved(request, evolve(request, fact), fact)


def _terms_fact(name: str, request_id: str, terms: Terms, now: Instant) -> Fact:
    return Fact(
        name=name,
        subject=request_id,
        actor=terms.principal,
        data={
            "request": request_id,
            "principal": terms.principal,
            "items": [item.plain() for item in terms.items],
            "duration_seconds": whole_seconds(terms.duration),
            "start": wire(terms.start) if terms.start else None,
            "reason": terms.reason,
            "ticket": terms.ticket,
            "emergency": terms.emergency,
            "rules_digest": terms.rules_digest,
            **_extension_plain(terms.extends),
            "digest": request_digest(request_id, terms),
            "decide_by": wire(_decide_by(terms, now)),
            "at": wire(now),
        },
    )


def _decide_by(terms: Terms, now: Instant) -> Instant:
    """A request for a fixed start is pointless once that start can no longer be claimed.

    An extension is, once the window it would make longer is over.
    """
    usual = now + DECIDE_WITHIN
    if terms.extends:
        # What was shown: the new end is the old window, the extension and the grace after both.
        graced = max(item.grace for item in terms.items)
        return min(usual, terms.extends.until - terms.duration - graced)
    return min(usual, max(terms.start, now) + CLAIM_WITHIN) if terms.start else usual


def _terms_of(data: Data) -> Terms:
    return Terms(
        principal=str(data["principal"]),
        items=tuple(item_of(item) for item in data["items"]),
        duration=timedelta(seconds=int(data["duration_seconds"])),
        start=parse_instant(str(data["start"])) if data["start"] else None,
        reason=str(data["reason"]),
        ticket=str(data["ticket"]) if data["ticket"] is not None else None,
        emergency=bool(data["emergency"]),
        rules_digest=str(data["rules_digest"]),
        extends=_extension_of(data),
    )


def _extension_plain(extends: Extension | None) -> dict[str, Json]:
    return {
        "extends": extends.grant if extends else None,
        "extends_from": wire(extends.ends_at) if extends else None,
        "extends_until": wire(extends.until) if extends else None,
    }


def _extension_of(data: Data) -> Extension | None:
    """Before version 2 nothing could be extended."""
    if not data.get("extends"):
        return None
    return Extension(
        grant=str(data["extends"]),
        ends_at=parse_instant(str(data["extends_from"])),
        until=parse_instant(str(data["extends_until"])),
    )


def _vote_of(data: Data) -> Vote:
    return Vote(
        id=str(data["vote"]),
        voter=str(data["voter"]),
        choice=str(data["choice"]),
        digest=str(data["digest"]),
        groups=tuple(data["groups"]),
        comment=str(data["comment"] or ""),
        at=parse_instant(str(data["at"])),
    )
