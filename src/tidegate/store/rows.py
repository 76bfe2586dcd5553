"""Things to rows and back, one explicit pair of functions a table.

A row holds exactly the thing: what `encode` writes, `decode` reads back equal. Reading is strict:
an unknown state is a ValueError, never a guess. `rebuild.py` compares rows as they are stored, so
a row that cannot be read is still found and named.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Generic, Protocol, TypeVar

import orjson
from sqlalchemy import Table

from tidegate.base.canonical import canonical
from tidegate.base.fact import Thing
from tidegate.base.when import Instant, from_ms, parse_instant, to_ms, whole_seconds
from tidegate.catalogue import Assignment, Baseline, Membership, Principal, PrincipalKind
from tidegate.finding import Finding
from tidegate.grant import Grant, GrantState
from tidegate.notice import Notice
from tidegate.panic import Panic, PanicState, ScopeKind
from tidegate.request import Extension, Request, RequestState, Terms, Vote, item_of
from tidegate.session import Session, SessionKind, SessionState
from tidegate.store import schema
from tidegate.store.finding_rows import from_baseline, from_finding, to_baseline, to_finding

Value = None | bool | int | str
Natural = tuple[str, ...]  # the table's name and the values of its natural key

T = TypeVar("T", bound=Thing)

# Which line a grant waits in, the first served first: ends, then what is waiting to be called gone,
# then openings, then what needs nothing until its end.
ENDING, PROVING, OPENING, ASLEEP = range(4)
LANES = {
    GrantState.READY: OPENING,
    GrantState.INTENDED: OPENING,
    GrantState.OPEN: ASLEEP,
    GrantState.CLOSING: ENDING,
    GrantState.REMOVED: PROVING,
    GrantState.GONE: ASLEEP,
    GrantState.FAILED: ASLEEP,
    GrantState.SIGNED_OFF: ASLEEP,
}

# What `decode` raises for a row nobody of ours wrote.
UNREADABLE = (ValueError, TypeError, KeyError, OverflowError, AttributeError)


class Row(Protocol):
    """A stored row, or a part of one: values by column name."""

    def __getitem__(self, column: str, /) -> Any:
        """The value of a column."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec(Generic[T]):
    """How one kind of thing is stored. `word` is what people call it.

    `natural` names the columns two rows may not share, in the order of `natural_of`'s values;
    `fixed` the columns no later change touches (were one to, `rebuild.py` finds it); `own` gives
    the columns that are not the thing's but the worker's, reset by every change.
    """

    word: str
    table: Table
    encode: Callable[[T], dict[str, Value]]
    decode: Callable[[Row], T]
    natural: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    own: Callable[[T], dict[str, Value]] | None = None

    def row(self, thing: T) -> dict[str, Value]:
        """Every column of the thing's row."""
        row = self.encode(thing)
        if self.own is not None:
            row.update(self.own(thing))
        return row

    def natural_of(self, row: Mapping[str, Value]) -> Natural | None:
        """The natural key in `row`, None for a table without one."""
        if not self.natural:
            return None
        return (self.table.name, *(str(row[column]) for column in self.natural))


@cache
def codecs() -> Mapping[type, Codec[Any]]:
    """The codec of every kind of thing, by its class."""
    return {
        Request: Codec(
            word="request", table=schema.requests, encode=_from_request, decode=_to_request
        ),
        Grant: Codec(
            word="grant",
            table=schema.grants,
            encode=_from_grant,
            decode=_to_grant,
            fixed=(
                "request",
                "principal",
                "role",
                "role_digest",
                "duration_seconds",
                "start_ms",
                "target",
            ),
            own=_due,
        ),
        Session: Codec(
            word="session", table=schema.sessions, encode=_from_session, decode=_to_session
        ),
        Assignment: Codec(
            word="assignment",
            table=schema.assignments,
            encode=_from_assignment,
            decode=_to_assignment,
            natural=("connector", "account", "native_role", "native_principal"),
        ),
        Principal: Codec(
            word="principal",
            table=schema.principals,
            encode=_from_principal,
            decode=_to_principal,
            natural=("issuer", "subject"),
        ),
        Membership: Codec(
            word="membership",
            table=schema.memberships,
            encode=_from_membership,
            decode=_to_membership,
        ),
        Finding: Codec(
            word="finding",
            table=schema.findings,
            encode=from_finding,
            decode=to_finding,
            natural=("kind", "target", "what"),
            fixed=("kind", "target", "what", "sort", "owner", "role", "severity", "first_seen_ms"),
            own=lambda finding: {"last_seen_ms": to_ms(finding.last_seen_at)},
        ),
        Baseline: Codec(
            word="baseline",
            table=schema.baselines,
            encode=from_baseline,
            decode=to_baseline,
        ),
        Panic: Codec(word="panic", table=schema.panics, encode=_from_panic, decode=_to_panic),
        Notice: Codec(
            word="notice",
            table=schema.outbox,
            encode=_from_notice,
            decode=_to_notice,
            own=lambda _: {"delivered_at_ms": None},
        ),
    }


def _from_request(request: Request) -> dict[str, Value]:
    terms = request.terms
    return {
        "id": request.id,
        "state": request.state.value,
        "principal": terms.principal,
        "items": canonical([item.plain() for item in terms.items]).decode(),
        "duration_seconds": whole_seconds(terms.duration),
        "start_ms": _ms(terms.start),
        "reason": terms.reason,
        "ticket": terms.ticket,
        "emergency": terms.emergency,
        "rules_digest": terms.rules_digest,
        "digest": request.digest,
        "filed_at_ms": to_ms(request.filed_at),
        "decide_by_ms": to_ms(request.decide_by),
        "decided_at_ms": _ms(request.decided_at),
        "votes": canonical([vote.plain() for vote in request.votes]).decode(),
        "code": request.code,
        "why": request.why,
        "extends": terms.extends.grant if terms.extends else None,
        "extends_from_ms": to_ms(terms.extends.ends_at) if terms.extends else None,
        "extends_until_ms": to_ms(terms.extends.until) if terms.extends else None,
        "applied_at_ms": _ms(request.applied_at),
        "version": request.version,
    }


def _to_request(row: Row) -> Request:
    return Request(
        id=row["id"],
        state=RequestState(row["state"]),
        terms=Terms(
            principal=row["principal"],
            items=tuple(item_of(item) for item in orjson.loads(row["items"])),
            duration=timedelta(seconds=row["duration_seconds"]),
            start=_at(row["start_ms"]),
            reason=row["reason"],
            ticket=row["ticket"],
            emergency=bool(row["emergency"]),
            rules_digest=row["rules_digest"],
            extends=_to_extension(row),
        ),
        digest=row["digest"],
        filed_at=from_ms(row["filed_at_ms"]),
        decide_by=from_ms(row["decide_by_ms"]),
        decided_at=_at(row["decided_at_ms"]),
        votes=tuple(_to_vote(vote) for vote in orjson.loads(row["votes"])),
        code=row["code"],
        why=row["why"],
        applied_at=_at(row["applied_at_ms"]),
        version=row["version"],
    )


def _to_extension(row: Row) -> Extension | None:
    ends = row["extends_from_ms"], row["extends_until_ms"]
    if None in ends:
        return None
    return Extension(grant=row["extends"], ends_at=from_ms(ends[0]), until=from_ms(ends[1]))


def _to_vote(plain: Row) -> Vote:
    return Vote(
        id=plain["id"],
        voter=plain["voter"],
        choice=plain["choice"],
        digest=plain["digest"],
        groups=tuple(plain["groups"]),
        comment=plain["comment"],
        at=parse_instant(plain["at"]),
    )


def _from_grant(grant: Grant) -> dict[str, Value]:
    return {
        "id": grant.id,
        "request": grant.request,
        "principal": grant.principal,
        "role": grant.role,
        "role_digest": grant.role_digest,
        "state": grant.state.value,
        "opens_at_ms": to_ms(grant.opens_at),
        "claim_by_ms": to_ms(grant.claim_by),
        "duration_seconds": whole_seconds(grant.duration),
        "start_ms": _ms(grant.start),
        "ends_at_ms": _ms(grant.ends_at),
        "assignment": grant.assignment,
        "exposure_seconds": whole_seconds(grant.exposure),
        "opened_at_ms": _ms(grant.opened_at),
        "closing_at_ms": _ms(grant.closing_at),
        "end_reason": grant.end_reason,
        "removed_at_ms": _ms(grant.removed_at),
        "residual_until_ms": _ms(grant.residual_until),
        "gone_at_ms": _ms(grant.gone_at),
        "proof": grant.proof,
        "cause": grant.cause,
        "outcome": grant.outcome,
        "tries": grant.tries,
        "sessions": grant.sessions,
        "still_held_by": grant.still_held_by,
        "unattended_seconds": (
            None if grant.unattended is None else whole_seconds(grant.unattended)
        ),
        "cut": grant.cut,
        "cut_before_ms": _ms(grant.cut_before),
        "searched": grant.searched,
        "grace_seconds": whole_seconds(grant.grace),
        "held_since_ms": _ms(grant.held_since),
        "extended_seconds": whole_seconds(grant.extended),
        "arming": grant.arming,
        "warned": grant.warned,
        "acted": grant.acted,
        "version": grant.version,
        "risk": grant.risk,
    }


def _due(grant: Grant) -> dict[str, Value]:
    return {
        "due_at_ms": _ms(grant.wake_at),
        "lease_until_ms": None,
        "lease_by": None,
        "target": grant.role.partition("/")[0],
        "lane": LANES[grant.state],
    }


def _to_grant(row: Row) -> Grant:
    return Grant(
        id=row["id"],
        request=row["request"],
        principal=row["principal"],
        role=row["role"],
        role_digest=row["role_digest"],
        state=GrantState(row["state"]),
        opens_at=from_ms(row["opens_at_ms"]),
        claim_by=from_ms(row["claim_by_ms"]),
        duration=timedelta(seconds=row["duration_seconds"]),
        start=_at(row["start_ms"]),
        ends_at=_at(row["ends_at_ms"]),
        assignment=row["assignment"],
        exposure=timedelta(seconds=row["exposure_seconds"]),
        opened_at=_at(row["opened_at_ms"]),
        closing_at=_at(row["closing_at_ms"]),
        end_reason=row["end_reason"],
        removed_at=_at(row["removed_at_ms"]),
        residual_until=_at(row["residual_until_ms"]),
        gone_at=_at(row["gone_at_ms"]),
        proof=row["proof"],
        cause=row["cause"],
        outcome=row["outcome"],
        tries=row["tries"],
        sessions=row["sessions"],
        still_held_by=row["still_held_by"],
        unattended=(
            None
            if row["unattended_seconds"] is None
            else timedelta(seconds=row["unattended_seconds"])
        ),
        cut=bool(row["cut"]),
        cut_before=_at(row["cut_before_ms"]),
        searched=row["searched"],
        grace=timedelta(seconds=row["grace_seconds"]),
        held_since=_at(row["held_since_ms"]),
        extended=timedelta(seconds=row["extended_seconds"]),
        arming=bool(row["arming"]),
        warned=bool(row["warned"]),
        acted=bool(row["acted"]),
        version=row["version"],
        risk=row["risk"],
    )


def _from_session(session: Session) -> dict[str, Value]:
    return {
        "id": session.id,
        "grant_id": session.grant,
        "request": session.request,
        "kind": session.kind.value,
        "state": session.state.value,
        "key_id": session.key_id,
        "issued_at_ms": to_ms(session.issued_at),
        "expires_at_ms": to_ms(session.expires_at),
        "bound_until_ms": to_ms(session.bound_until),
        "ended_at_ms": _ms(session.ended_at),
        "why": session.why,
        "version": session.version,
    }


def _to_session(row: Row) -> Session:
    return Session(
        id=row["id"],
        grant=row["grant_id"],
        request=row["request"],
        kind=SessionKind(row["kind"]),
        state=SessionState(row["state"]),
        key_id=row["key_id"],
        issued_at=from_ms(row["issued_at_ms"]),
        expires_at=from_ms(row["expires_at_ms"]),
        bound_until=from_ms(row["bound_until_ms"]),
        ended_at=_at(row["ended_at_ms"]),
        why=row["why"],
        version=row["version"],
    )


def _from_assignment(assignment: Assignment) -> dict[str, Value]:
    return {
        "id": assignment.id,
        "connector": assignment.connector,
        "account": assignment.account,
        "native_role": assignment.native_role,
        "native_principal": assignment.native_principal,
        "holders": canonical(assignment.holders).decode(),
        "deadline_at_ms": to_ms(assignment.deadline_at),
        "stood_before": assignment.stood_before,
        "version": assignment.version,
    }


def _to_assignment(row: Row) -> Assignment:
    return Assignment(
        id=row["id"],
        connector=row["connector"],
        account=row["account"],
        native_role=row["native_role"],
        native_principal=row["native_principal"],
        holders=tuple(orjson.loads(row["holders"])),
        deadline_at=from_ms(row["deadline_at_ms"]),
        stood_before=bool(row["stood_before"]),
        version=row["version"],
    )


def _from_principal(principal: Principal) -> dict[str, Value]:
    return {
        "id": principal.id,
        "issuer": principal.issuer,
        "subject": principal.subject,
        "kind": principal.kind.value,
        "name": principal.name,
        "mail": principal.mail,
        "enabled": principal.enabled,
        "seen_at_ms": to_ms(principal.seen_at),
        "version": principal.version,
    }


def _to_principal(row: Row) -> Principal:
    return Principal(
        id=row["id"],
        issuer=row["issuer"],
        subject=row["subject"],
        kind=PrincipalKind(row["kind"]),
        name=row["name"],
        mail=row["mail"],
        enabled=bool(row["enabled"]),
        seen_at=from_ms(row["seen_at_ms"]),
        version=row["version"],
    )


def _from_membership(membership: Membership) -> dict[str, Value]:
    return {
        "id": membership.id,
        "principal": membership.principal,
        "group_name": membership.group,
        "source": membership.source,
        "first_seen_at_ms": to_ms(membership.first_seen_at),
        "last_seen_at_ms": to_ms(membership.last_seen_at),
        "has_left": membership.left,
        "version": membership.version,
    }


def _to_membership(row: Row) -> Membership:
    return Membership(
        id=row["id"],
        principal=row["principal"],
        group=row["group_name"],
        source=row["source"],
        first_seen_at=from_ms(row["first_seen_at_ms"]),
        last_seen_at=from_ms(row["last_seen_at_ms"]),
        left=bool(row["has_left"]),
        version=row["version"],
    )


def _from_panic(panic: Panic) -> dict[str, Value]:
    return {
        "id": panic.id,
        "state": panic.state.value,
        "scope": panic.kind.value,
        "name": panic.name,
        "actor": panic.actor,
        "via": panic.via,
        "reason": panic.reason,
        "called_at_ms": to_ms(panic.called_at),
        "frozen_until_ms": _ms(panic.frozen_until),
        "lifted_at_ms": _ms(panic.lifted_at),
        "grants": panic.grants,
        "requests": panic.requests,
        "version": panic.version,
    }


def _to_panic(row: Row) -> Panic:
    return Panic(
        id=row["id"],
        state=PanicState(row["state"]),
        kind=ScopeKind(row["scope"]),
        name=row["name"],
        actor=row["actor"],
        via=row["via"],
        reason=row["reason"],
        called_at=from_ms(row["called_at_ms"]),
        frozen_until=_at(row["frozen_until_ms"]),
        lifted_at=_at(row["lifted_at_ms"]),
        grants=row["grants"],
        requests=row["requests"],
        version=row["version"],
    )


def _from_notice(notice: Notice) -> dict[str, Value]:
    return {
        "id": notice.id,
        "kind": notice.kind,
        "subject": notice.subject,
        "audience": notice.audience,
        "made_at_ms": to_ms(notice.made_at),
        "payload": canonical(dict(notice.payload)).decode(),
        "version": notice.version,
    }


def _to_notice(row: Row) -> Notice:
    return Notice(
        id=row["id"],
        kind=row["kind"],
        subject=row["subject"],
        audience=row["audience"],
        made_at=from_ms(row["made_at_ms"]),
        payload=orjson.loads(row["payload"]),
        version=row["version"],
    )


def _ms(at: Instant | None) -> int | None:
    return None if at is None else to_ms(at)


def _at(ms: int | None) -> Instant | None:
    return None if ms is None else from_ms(ms)
