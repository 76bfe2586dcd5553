"""Values for stage tests: the smallest request and grant that are complete."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tidegate.approve import Approver, Ballot, Choice
from tidegate.base.fact import Step
from tidegate.base.ids import make_id
from tidegate.base.personal import Personal
from tidegate.catalogue import Assignment, AssignmentKey
from tidegate.grant import Grant, Opening, intend, opened, ready
from tidegate.request import Item, Request, Terms, file

NOW = datetime(2026, 11, 22, 7, 0, tzinfo=UTC)
REASON = Personal(b"s" * 32, "roll back")
TERMS = Terms(
    principal="pr_ana",
    items=(
        Item(
            role="aws-prod/admin",
            role_digest="sha256:" + "a" * 64,
            carrier="prod-admin",
            requirement="2 of group:sre-leads",
            rules=("prod-admin",),
        ),
    ),
    duration=timedelta(minutes=45),
    start=None,
    reason=REASON.commitment,
    ticket="INC-4711",
    emergency=False,
    rules_digest="sha256:" + "b" * 64,
)
KEY = AssignmentKey(
    connector="aws",
    account="123456789012",
    native_role="arn:aws:iam::123456789012:role/admin",
    native_principal="gr",
)
OPENING = Opening(
    assignment_id="as_1",
    key=KEY,
    stood_before=False,
    exposure=timedelta(minutes=1),
    unattended=timedelta(minutes=1),
    carrier="prod-admin",
    requirement="2 of group:sre-leads",
    rules_digest="sha256:" + "b" * 64,
)


def thing(step: Step, kind: type) -> object:
    """The one thing of `kind` a Step leaves behind."""
    (found,) = [change.after for change in step.changes if isinstance(change.after, kind)]
    return found


def a_request(terms: Terms = TERMS, number: int = 0) -> Request:
    """A pending request filed at NOW."""
    made = make_id("rq", NOW, number.to_bytes(10))
    request = thing(file(made, terms, NOW, REASON), Request)
    assert isinstance(request, Request)
    return request


def a_requirement(text: str) -> Terms:
    """TERMS with another requirement on its one item."""
    return replace(TERMS, items=(replace(TERMS.items[0], requirement=text),))


def an_approver(name: str, *groups: str, person: str = "") -> Approver:
    """A voter; by default each account is a person of its own."""
    return Approver(
        principal=f"pr_{name}", person=person or f"principal:pr_{name}", groups=frozenset(groups)
    )


def a_ballot(request: Request, number: int = 0, choice: Choice = Choice.APPROVE) -> Ballot:
    """A vote on exactly this request."""
    return Ballot(id=f"vt_{number}", choice=choice, digest=request.digest)


def a_grant(state: str = "ready", now: datetime = NOW) -> tuple[Grant, Assignment | None]:
    """A grant in `state` (ready, intended or open), with its assignment."""
    request = a_request()
    grant = thing(ready(make_id("gr", NOW, b"g" * 10), request, TERMS.items[0], now), Grant)
    assert isinstance(grant, Grant)
    if state == "ready":
        return grant, None
    step = intend(grant, None, OPENING, now)
    grant, held = thing(step, Grant), thing(step, Assignment)
    assert isinstance(grant, Grant)
    assert isinstance(held, Assignment)
    if state == "open":
        opened_grant = thing(opened(grant, now, {}, now), Grant)
        assert isinstance(opened_grant, Grant)
        grant = opened_grant
    return grant, held
