"""Requests in every state there is, made by the stages themselves and really sealed."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tests.stages.make import (
    NOW,
    OPENING,
    REASON,
    TERMS,
    a_ballot,
    a_requirement,
    an_approver,
)
from tidegate.approve import Choice, vote, without_votes
from tidegate.base.fact import Step
from tidegate.base.ids import make_id
from tidegate.base.personal import Personal
from tidegate.catalogue import Assignment
from tidegate.diagnose.trace import Trace, trace
from tidegate.evidence.events import Event
from tidegate.evidence.seal import read_event, seal
from tidegate.expire import EndReason, Proof, ReadBack, contradicted, end, gone, removed, signed_off
from tidegate.grant import Cause, Grant, Outcome, failed, intend, noted, opened, ready
from tidegate.request import Request, Terms, file, lapse, refuse, withdraw
from tidegate.session import Session, SessionState, issued

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
END = NOW + TERMS.duration
NAMES = {"pr_ana": "ana", "pr_bo": "bo", "pr_cy": "cy"}


@dataclass
class Tale:
    """A chain that grows with each Step, and the rows as the store would hold them."""

    events: list[Event] = field(default_factory=list)
    request: Request | None = None
    grants: dict[str, Grant] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    assignment: Assignment | None = None
    beat: datetime | None = None
    head: str = ""

    def run(self, step: Step, at: datetime) -> None:
        """Seal the facts of `step` and take its things as rows."""
        heads = {}
        if self.events:
            heads = {self.events[-1].subject: (len(self.events), self.head)}
        sealed = seal(step.facts, first_idx=7 + 2 * len(self.events), at=at, heads=heads)
        self.events += [read_event(one.data) for one in sealed]
        self.head = sealed[-1].hash.hex()
        for change in step.changes:
            match change.after:
                case Request():
                    self.request = change.after
                case Grant():
                    self.grants[change.after.id] = change.after
                case Session():
                    self.sessions[change.after.id] = change.after
                case Assignment():
                    self.assignment = change.after

    @property
    def asked(self) -> Request:
        """The request's row."""
        assert self.request is not None
        return self.request

    @property
    def grant(self) -> Grant:
        """The one grant's row."""
        (only,) = self.grants.values()
        return only

    def trace(self, now: datetime, names: Callable[[str], str] = NAMES.__getitem__) -> Trace:
        """As the evidence tells it at `now`."""
        beats = {"worker": (self.beat or now, "")}
        texts = {REASON.commitment: REASON.text}
        return trace(
            self.events,
            self.asked,
            list(self.grants.values()),
            now=now,
            names=names,
            texts=texts.get,
            beats=beats,
        )


def filed(terms: Terms = TERMS) -> Tale:
    """Pending."""
    tale = Tale()
    tale.run(file(make_id("rq", NOW, bytes(10)), terms, NOW, REASON), NOW)
    return tale


def voted(tale: Tale, *names: str, choice: Choice = Choice.APPROVE) -> Tale:
    """Votes of leads, one after the other."""
    leads = {f"pr_{name}": an_approver(name, "sre-leads") for name in ("bo", "cy")}
    for number, name in enumerate(names):
        ballot = a_ballot(tale.asked, number, choice)
        voter = leads[f"pr_{name}"]
        tale.run(vote(tale.asked, ballot, voter, leads, "principal:pr_ana", NOW), NOW)
    return tale


def readied(terms: Terms = TERMS) -> Tale:
    """Approved, with its grant ready."""
    tale = filed(terms)
    if terms.items[0].requirement == "none":
        step = without_votes(tale.asked, NOW)
        assert step is not None
        tale.run(step, NOW)
    else:
        voted(tale, "bo", "cy")
    tale.run(ready(make_id("gr", NOW, b"g" * 10), tale.asked, terms.items[0], NOW), NOW)
    return tale


def intended(*, stood_before: bool = False) -> Tale:
    """Intent and end are sealed."""
    tale = readied()
    opening = replace(OPENING, stood_before=stood_before)
    tale.run(intend(tale.grant, None, opening, NOW), NOW)
    return tale


def is_open() -> Tale:
    """The cloud said yes; one session was issued."""
    tale = intended()
    tale.run(opened(tale.grant, NOW, {"role": "arn:x"}, NOW), NOW)
    tale.run(issued(tale.grant, "se_1", "AKIA1", END + MINUTE, NOW + MINUTE), NOW + MINUTE)
    return tale


def closing(reason: EndReason = EndReason.EXPIRED, at: datetime = END) -> Tale:
    """It is being closed."""
    tale = is_open()
    actor = "system" if reason is EndReason.EXPIRED else "pr_bo"
    tale.run(end(tale.grant, tale.assignment, reason, actor, at), at)
    return tale


def is_removed(
    *, residual: timedelta = timedelta(0), held_by: str = "", read: str = "list"
) -> Tale:
    """Read back."""
    tale = closing()
    back = ReadBack(
        cloud_at=END + SECOND,
        detail={"deny": read},
        acted_at=END + SECOND,
        changed_by=END + SECOND,
        derived=residual,
        settling=timedelta(0),
        native_deadline=True,
        still_held_by=held_by,
    )
    tale.run(removed(tale.grant, back, END + SECOND), END + SECOND)
    return tale


def is_gone(proof: Proof = Proof.DENIED) -> Tale:
    """Over, with a proof. A probe was refused in any case; only a control makes that one."""
    tale = is_removed()
    how = {
        "answer": "denied",
        "control": "allowed" if proof is Proof.DENIED else "denied",
        "call": "iam:ListUsers",
        "cloud_at": "2026-11-22T07:45:02.000Z",
    }
    at = END + 2 * SECOND
    tale.run(gone(tale.grant, tuple(tale.sessions.values()), proof, how, at, at), at)
    assert all(session.state is SessionState.ENDED for session in tale.sessions.values())
    return tale


def with_note(tale: Tale, step: str, outcome: Outcome, code: str, at: datetime) -> Tale:
    """One call settled nothing."""
    tale.run(noted(tale.grant, step, outcome, code, 1, at), at)
    return tale


def is_failed(cause: Cause) -> Tale:
    """It never opened."""
    after_intent = cause in (Cause.CLOUD_REFUSED, Cause.JOURNAL_CLOSED)
    tale = intended() if after_intent else readied()
    tale.run(failed(tale.grant, tale.assignment, cause, "the rule says no", NOW), NOW)
    return tale


def is_signed_off() -> Tale:
    """An operator answers for an end that the cloud refuses."""
    tale = with_note(closing(), "revoke", Outcome.REFUSED, "access_denied", END)
    at = END + MINUTE
    tale.run(signed_off(tale.grant, "pr_bo", Personal(b"s" * 32, "account closed"), at), at)
    return tale


def was_contradicted() -> Tale:
    """Called removed, and then it acted."""
    tale = is_removed()
    how = {"answer": "allowed", "control": "allowed"}
    at = END + 3 * SECOND
    tale.run(contradicted(tale.grant, "a probe was allowed after the end", how, at), at)
    return tale


def with_votes_denied() -> Tale:
    """An approver said no."""
    return voted(filed(), "bo", choice=Choice.DENY)


def with_step(make: Callable[[Request], Step], at: datetime = NOW) -> Tale:
    """A pending request after one more move."""
    tale = filed()
    tale.run(make(tale.asked), at)
    return tale


@dataclass(frozen=True)
class Case:
    """One state: the tale, when it is looked at, where it stops, and what the headline says."""

    tale: Callable[[], Tale]
    now: datetime
    stops_at: str | None
    here: str
    says: str


def _noted(
    tale: Callable[[], Tale], step: str, outcome: Outcome, at: datetime
) -> Callable[[], Tale]:
    code = {
        Outcome.UNREACHABLE: "cloud_unreachable",
        Outcome.REFUSED: "throttled",
        Outcome.NOT_PROVEN: "probe_untold",
    }.get(outcome, outcome.value)
    return lambda: with_note(tale(), step, outcome, code, at)


DAY = timedelta(days=1)
CASES: dict[str, Case] = {
    "pending": Case(
        lambda: voted(filed(), "bo"),
        NOW,
        "approve",
        "approve",
        "waits for 1 of group:sre-leads until 2026-11-22T15:00:00Z",
    ),
    "undecided": Case(filed, NOW + DAY, "approve", "approve", "had to be decided by"),
    "refused": Case(
        lambda: with_step(lambda r: refuse(r, "no_rule", "no rule permits it", NOW, "system")),
        NOW,
        "request",
        "request",
        "refused: no rule permits it (`no_rule`)",
    ),
    "turned down": Case(with_votes_denied, NOW, "approve", "approve", "denied by bo at"),
    "withdrawn": Case(
        lambda: with_step(lambda r: withdraw(r, NOW)), NOW, "approve", "approve", "withdrawn by"
    ),
    "lapsed": Case(
        lambda: with_step(lambda r: lapse(r, NOW + DAY), NOW + DAY),
        NOW + DAY,
        "approve",
        "approve",
        "lapsed: nobody decided by 2026-11-22T15:00:00Z",
    ),
    "approved without a grant": Case(
        lambda: voted(filed(), "bo", "cy"),
        NOW,
        "grant",
        "grant",
        "approved, and that a grant was made of it is not sealed",
    ),
    "ready": Case(readied, NOW, None, "grant", "ready; it opens by itself"),
    "ready without votes": Case(
        lambda: readied(a_requirement("none")), NOW, None, "grant", "ready; it opens by itself"
    ),
    "ready for later": Case(
        lambda: readied(replace(TERMS, start=NOW + MINUTE)),
        NOW,
        "grant",
        "grant",
        "opens at 2026-11-22T07:01:00Z",
    ),
    "ready and forgotten": Case(
        readied, NOW + MINUTE, "grant", "grant", "could open since 2026-11-22T07:00:00Z"
    ),
    "ready and unclaimed": Case(readied, NOW + DAY, "grant", "grant", "had to open by"),
    **{
        f"ready, {outcome}": Case(
            _noted(readied, "observe", outcome, NOW), NOW, "grant", "grant", "not opened: "
        )
        for outcome in Outcome
    },
    "intended": Case(intended, NOW, None, "grant", "intent and end (2026-11-22T07:45:00Z)"),
    "intended and forgotten": Case(
        intended, NOW + MINUTE, "grant", "grant", "the cloud is being asked; the worker last beat"
    ),
    "intended past its end": Case(
        intended, END + MINUTE, "grant", "grant", "it had to end at 2026-11-22T07:45:00Z, and no"
    ),
    **{
        f"intended, {outcome}": Case(
            _noted(intended, "grant", outcome, NOW), NOW, "grant", "grant", "not known to be open"
        )
        for outcome in Outcome
    },
    **{
        f"failed, {cause}": Case(lambda c=cause: is_failed(c), NOW, "grant", "grant", "failed: ")  # type: ignore[misc]
        for cause in Cause
    },
    "open": Case(is_open, NOW + MINUTE, None, "run", "open until 2026-11-22T07:45:00Z; 1 session"),
    "open at its end": Case(is_open, END, None, "expire", "its end at 2026-11-22T07:45:00Z has"),
    "open past its end": Case(
        is_open, END + MINUTE, "expire", "expire", "no closing is sealed; the worker last beat at"
    ),
    **{
        f"closing, {reason}": Case(
            lambda r=reason: closing(r),
            END,
            None,
            "expire",
            "closing since 2026-11-22T07:45:00Z",  # type: ignore[misc]
        )
        for reason in EndReason
    },
    "signed off": Case(
        is_signed_off, END + DAY, "expire", "expire", "signed off, not proven: bo answers for it"
    ),
    "closing and forgotten": Case(
        closing, END + MINUTE, "expire", "expire", "and no outcome is sealed; the worker last beat"
    ),
    **{
        f"closing, {outcome}": Case(
            _noted(closing, "revoke", outcome, END), END, "expire", "expire", "it is tried again"
        )
        for outcome in Outcome
    },
    "closing inside a stale window": Case(
        lambda: with_note(closing(), "read_back", Outcome.STILL_USABLE, "inside_stale_window", END),
        END,
        "expire",
        "expire",
        "may be stale",
    ),
    "contradicted": Case(
        was_contradicted, END + MINUTE, "expire", "expire", "it was called removed and then acted"
    ),
    "removed": Case(
        is_removed, END + 2 * SECOND, None, "expire", "removed; it is looked at once more"
    ),
    "removed for a while": Case(
        lambda: is_removed(residual=MINUTE),
        END + SECOND,
        "expire",
        "expire",
        "removed; a session taken before may act until 2026-11-22T07:46:00Z",
    ),
    "removed and forgotten": Case(
        is_removed, END + MINUTE, "expire", "expire", "removed, and not proven since"
    ),
    "removed from a role that is not there": Case(
        lambda: is_removed(read="gone"),
        END + 2 * SECOND,
        None,
        "expire",
        "removed; it is looked at",
    ),
    **{
        f"removed, {outcome}": Case(
            _noted(is_removed, "probe", outcome, END + SECOND),
            END + SECOND,
            "expire",
            "expire",
            "removed, and not proven: ",
        )
        for outcome in Outcome
    },
    **{
        f"removed, a probe was {answer}": Case(
            lambda a=answer: with_note(  # type: ignore[misc]
                is_removed(), "probe", Outcome.NOT_PROVEN, f"probe_{a}", END + SECOND
            ),
            END + SECOND,
            "expire",
            "expire",
            "removed, and not proven: ",
        )
        for answer in ("allowed", "denied", "untold")
    },
    "held by standing access": Case(
        lambda: is_removed(held_by="standing access"),
        END + DAY,
        "expire",
        "expire",
        "ended, still held by standing access",
    ),
    **{
        f"over, {proof}": Case(lambda p=proof: is_gone(p), END + DAY, None, "expire", "gone: ")  # type: ignore[misc]
        for proof in Proof
    },
}
