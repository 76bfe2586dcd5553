"""Approve: whose vote counts, on what, and when it is enough."""

from datetime import timedelta

import pytest

from tests.stages.make import NOW, a_ballot, a_request, a_requirement, an_approver, thing
from tidegate.approve import Ballot, Choice, still_missing, vote, without_votes
from tidegate.base.errors import AskedWrongly, NotAllowed, Stale, TidegateError
from tidegate.request import Request, RequestState

ANA = "principal:pr_ana"
BO, CY = an_approver("bo", "sre-leads"), an_approver("cy", "sre-leads")


def voted(request: Request, who, number: int, choice=Choice.APPROVE, others=None) -> Request:  # type: ignore[no-untyped-def]
    """The request after one more vote."""
    step = vote(request, a_ballot(request, number, choice), who, others or {}, ANA, NOW)
    after = thing(step, Request)
    assert isinstance(after, Request)
    return after


def refused(request: Request, who, others=None, ballot: Ballot | None = None) -> TidegateError:  # type: ignore[no-untyped-def]
    """The error a vote meets."""
    with pytest.raises(TidegateError) as caught:
        vote(request, ballot or a_ballot(request), who, others or {}, ANA, NOW)
    return caught.value


def test_one_vote_of_two_opens() -> None:
    """Two are needed: one leaves it pending, the second approves it in the same Step."""
    request = voted(a_request(), BO, 1)
    assert request.state is RequestState.PENDING
    assert voted(request, CY, 2, others={"pr_bo": BO}).state is RequestState.APPROVED


def test_one_deny_is_outvoted() -> None:
    """One deny ends it, whatever was voted before."""
    request = voted(a_request(), BO, 1)
    assert voted(request, CY, 2, Choice.DENY, {"pr_bo": BO}).state is RequestState.DENIED


@pytest.mark.parametrize(
    "who",
    [
        an_approver("ana", "sre-leads"),
        an_approver("ana2", "sre-leads", person=ANA),
    ],
)
def test_self_approval_by_account_or_alias(who) -> None:  # type: ignore[no-untyped-def]
    """Nobody approves their own request, directly or through a second account (I9)."""
    fault = refused(a_request(), who)
    assert isinstance(fault, NotAllowed)
    assert fault.code == "self_approval"


def test_vote_on_another_digest() -> None:
    """A vote on terms that changed since they were shown is stale."""
    request = a_request()
    ballot = Ballot(id="vt_1", choice=Choice.APPROVE, digest="sha256:" + "0" * 64)
    fault = refused(request, BO, ballot=ballot)
    assert isinstance(fault, Stale)
    assert fault.code == "digest_changed"


def test_vote_by_somebody_in_no_named_group() -> None:
    """Only members of a group the requirement names may vote."""
    assert refused(a_request(), an_approver("dee", "sre")).code == "not_an_approver"


def test_one_person_fills_two_seats() -> None:
    """Two accounts of one human being are one voter."""
    first = an_approver("bo", "sre-leads", person="mail:bo@x")
    second = an_approver("bo2", "sre-leads", person="mail:bo@x")
    request = voted(a_request(), first, 1)
    fault = refused(request, second, {"pr_bo": first})
    assert isinstance(fault, AskedWrongly)
    assert fault.code == "already_voted"


def test_member_of_two_groups_fills_both_seats() -> None:
    """One person fills one seat of a requirement, however many groups they are in."""
    request = a_request(a_requirement("1 of group:sre-leads and 1 of group:owners"))
    both = an_approver("bo", "sre-leads", "owners")
    after = voted(request, both, 1)
    assert after.state is RequestState.PENDING
    assert still_missing(after, {"pr_bo": both})


def test_vote_of_a_removed_approver_still_counts() -> None:
    """Votes count by the groups their voters are in now, not when they voted."""
    request = voted(a_request(), BO, 1)
    gone = an_approver("bo")
    assert voted(request, CY, 2, others={"pr_bo": gone}).state is RequestState.PENDING


@pytest.mark.parametrize("milliseconds", [0, 1])
def test_vote_at_decide_by(milliseconds: int) -> None:
    """The instant of decide-by is too late; one millisecond before it is in time."""
    request = a_request()
    late = request.decide_by + timedelta(milliseconds=milliseconds)
    with pytest.raises(Stale):
        vote(request, a_ballot(request), BO, {}, ANA, late)
    vote(request, a_ballot(request), BO, {}, ANA, request.decide_by - timedelta(milliseconds=1))


@pytest.mark.parametrize("state", [s for s in RequestState if s is not RequestState.PENDING])
def test_vote_on_a_decided_request(state: RequestState) -> None:
    """An ended request takes no vote."""
    from dataclasses import replace

    assert isinstance(refused(replace(a_request(), state=state), BO), Stale)


def test_no_vote_needed_waits_for_one() -> None:
    """A requirement of none approves at once; any other does not."""
    assert without_votes(a_request(), NOW) is None
    step = without_votes(a_request(a_requirement("none")), NOW)
    assert step is not None
    after = thing(step, Request)
    assert isinstance(after, Request)
    assert after.state is RequestState.APPROVED
