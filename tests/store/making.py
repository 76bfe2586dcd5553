"""Steps and things for the store's tests, made by the stages themselves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tidegate.base.fact import Change, Fact, Step
from tidegate.base.ids import ASSIGNMENT, FINDING, GRANT, PRINCIPAL, REQUEST, SESSION, make_id
from tidegate.base.personal import Personal
from tidegate.base.when import Instant, wire
from tidegate.catalogue import (
    Assignment,
    AssignmentKey,
    Membership,
    evolve_baseline,
    evolve_membership,
    evolve_principal,
    target_chain,
)
from tidegate.evidence.note import FileSigner
from tidegate.expire import EndReason, Proof, ReadBack, end, gone, removed
from tidegate.finding import ClosedHow, Finding, FindingKind, Sighting, closed
from tidegate.finding import opened as found_first
from tidegate.grant import Grant, Opening, intend, opened, ready
from tidegate.request import Item, Request, Terms, file
from tidegate.session import Session, issued
from tidegate.store import Store

ORIGIN = "log.example/tidegate"
NOW = datetime(2026, 11, 22, 7, 0, tzinfo=UTC)
DIGEST = "sha256:" + "ab" * 32
REASON = Personal(b"s" * 32, "roll back INC-4711")
SIGNER = FileSigner(ORIGIN, bytes(32))
ITEM = Item(
    role="aws-prod/admin",
    role_digest=DIGEST,
    carrier="prod-admin",
    requirement="none",
    rules=("prod-admin",),
)


class Clock:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> Instant:
        return self.now


def open_store(
    place: Path | str, *, create: bool = True, patience: float = 5.0, clock=None
) -> Store:
    """A store in a file, or at a URL, with the tests' key."""
    return Store.open(
        url_of(place),
        origin=ORIGIN,
        signer=SIGNER,
        clock=clock or Clock(),
        create=create,
        patience=timedelta(seconds=patience),
    )


def url_of(place: Path | str) -> str:
    """The URL of a file; any other place is one."""
    return f"sqlite:///{place}" if isinstance(place, Path) else place


def name(kind: str, number: int) -> str:
    """The same id for the same number."""
    return make_id(kind, NOW, number.to_bytes(10))


def filed(number: int = 1, *, reason: Personal = REASON, items: int = 1) -> tuple[Step, Request]:
    """A request just filed."""
    terms = Terms(
        principal=name(PRINCIPAL, 1),
        items=tuple(replace(ITEM, role=f"aws-prod/role-{i}") for i in range(items)),
        duration=timedelta(hours=1),
        start=None,
        reason=reason.commitment,
        ticket=None,
        emergency=False,
        rules_digest=DIGEST,
    )
    step = file(name(REQUEST, number), terms, NOW, reason)
    return step, only(step, Request)


def readied(number: int, request: Request) -> tuple[Step, Grant]:
    """A grant of the request's first item."""
    step = ready(name(GRANT, number), request, request.terms.items[0], NOW)
    return step, only(step, Grant)


def opening_of(grant: Grant, *, key: str = "") -> Opening:
    """What is decided before `grant` opens, on an assignment of its own unless `key` is shared."""
    return Opening(
        assignment_id=make_id(ASSIGNMENT, NOW, grant.id[-10:].encode()),
        key=AssignmentKey(
            connector="aws",
            account="111122223333",
            native_role="arn:aws:iam::111122223333:role/admin",
            native_principal=key or grant.id,
        ),
        stood_before=False,
        exposure=timedelta(seconds=30),
        unattended=timedelta(seconds=30),
        carrier="prod-admin",
        requirement="none",
        rules_digest=DIGEST,
    )


def intended(grant: Grant, held: Assignment | None = None, *, key: str = "") -> tuple[Step, Grant]:
    """The grant with its end fixed, on an assignment of its own unless `held`."""
    opening = opening_of(grant, key=key)
    step = intend(grant, held, opening, NOW)
    return step, only(step, Grant)


def lifecycle(store: Store, number: int) -> Grant:
    """A request and its grant through every stage, committed; returns the grant, gone."""
    step, request = filed(number)
    store.commit(step)
    step, grant = readied(number, request)
    store.commit(step)
    step, grant = intended(grant)
    store.commit(step)
    held = only(step, Assignment)
    step = opened(grant, NOW, {"request_id": "1"}, NOW)
    store.commit(step)
    expires = NOW + timedelta(hours=1)
    step = issued(only(step, Grant), name(SESSION, number), f"ASIA{number}", expires, NOW)
    store.commit(step)
    session, grant = only(step, Session), only(step, Grant)
    step = end(grant, held, EndReason.DONE, grant.principal, NOW)
    store.commit(step)
    back = ReadBack(
        cloud_at=NOW,
        detail={},
        acted_at=NOW,
        changed_by=NOW,
        derived=timedelta(0),
        settling=timedelta(0),
        native_deadline=True,
    )
    step = removed(only(step, Grant), back, NOW)
    store.commit(step)
    step = gone(only(step, Grant), (session,), Proof.DENIED, {"call": "iam:ListUsers"}, NOW, NOW)
    store.commit(step)
    return only(step, Grant)


def person(number: int, subject: str) -> Step:
    """A principal seen for the first time."""
    fact = Fact(
        name="principal.recorded",
        subject=name(PRINCIPAL, number),
        actor="system",
        data={
            "principal": name(PRINCIPAL, number),
            "issuer": "local",
            "subject": subject,
            "kind": "person",
            "name": None,
            "mail": None,
            "enabled": True,
            "at": wire(NOW),
        },
    )
    return Step((Change(0, evolve_principal(None, fact)),), (fact,))


def joined(
    number: int, group: str, before: Membership | None = None, event: str = "joined"
) -> Step:
    """A principal in a group, or out of it."""
    principal = name(PRINCIPAL, number)
    fact = Fact(
        name=f"membership.{event}",
        subject=principal,
        actor="system",
        data={"principal": principal, "group": group, "source": "file", "at": wire(NOW)},
    )
    after = evolve_membership(before, fact)
    return Step((Change(before.version if before else 0, after),), (fact,))


def finding(number: int = 1) -> tuple[Step, Finding]:
    """Somebody's standing access, found."""
    seen = Sighting(
        kind=FindingKind.STANDING,
        target="aws-prod",
        what=f"arn:aws:iam::111122223333:user/eve-{number}",
        sort="assignment",
        says="access nobody asked for",
        role="aws-prod/admin",
        owner="group:cloud",
    )
    step = found_first(name(FINDING, number), seen, NOW)
    return step, only(step, Finding)


def accepted(found: Finding) -> Step:
    """Its owner signs it off for a while."""
    until = NOW + timedelta(days=30)
    return closed(found, ClosedHow.ACCEPTED, name(PRINCIPAL, 1), NOW, REASON, until)


def baseline() -> Step:
    """What stood on a role at the first look."""
    fact = Fact(
        name="baseline.taken",
        subject=target_chain("aws-prod"),
        actor="system",
        data={
            "target": "aws-prod",
            "role": "aws-prod/admin",
            "native_role": "arn:aws:iam::111122223333:role/admin",
            "count": 2,
            "document": DIGEST,
            "before": None,
            "reason": None,
            "at": wire(NOW),
        },
    )
    return Step((Change(0, evolve_baseline(None, fact)),), (fact,))


def said(text: str = "policy.cedar") -> Step:
    """A Step of facts only."""
    fact = Fact(
        name="command.refused",
        subject="system",
        actor="system",
        data={
            "principal": "pr_x",
            "command": text,
            "about": "",
            "code": "not_allowed",
            "at": wire(NOW),
        },
    )
    return Step((), (fact,))


def only(step: Step, kind):
    """The one thing of that kind a Step leaves."""
    (found,) = (change.after for change in step.changes if type(change.after) is kind)
    return found


@contextmanager
def one_batch(store: Store) -> Iterator[None]:
    """Everything submitted inside is one batch; when the block ends, its outcome is known."""
    entered, leave = threading.Event(), threading.Event()

    def wait(_) -> None:
        entered.set()
        leave.wait()

    blocked = threading.Thread(target=lambda: store._writer.run(wait))
    blocked.start()
    entered.wait()
    try:
        yield
    finally:
        leave.set()
        blocked.join()
    store._writer.run(lambda _: None)
