"""Approving: one vote on exactly what was shown; with the last one needed, grants become ready."""

from tidegate.approve import Approver, Ballot, Choice, vote
from tidegate.base.ids import VOTE
from tidegate.base.text import LONGEST_REASON, clean_text
from tidegate.flow.allowing import Verb, allow
from tidegate.flow.asking import decided_anew, ready_grants, request_after
from tidegate.flow.house import Actor, House
from tidegate.flow.people import approvers, person_named
from tidegate.request import Request, RequestState


def cast(
    house: House, actor: Actor, request_id: str, choice: Choice, shown: str, comment: str = ""
) -> Request:
    """Cast the actor's vote on the digest `shown` to them.

    Raises:
        NotFound, NotAllowed, Stale, AskedWrongly: as `approve.vote` and `allowing.allow` tell.
    """
    words = clean_text("comment", comment, LONGEST_REASON) if comment.strip() else ""

    def once() -> Request:
        now = house.now()
        request = house.store.request(request_id)
        allow(house, actor, Verb.SEE, request)
        ballot = Ballot(
            id=house.new_id(VOTE, now),
            choice=choice,
            digest=shown,
            comment=house.personal(words) if words else None,
        )
        step = vote(
            request,
            ballot,
            Approver(principal=actor.id, person=actor.person, groups=actor.groups),
            approvers(house, (old.voter for old in request.votes)),
            person_named(house, request.terms.principal),
            now,
        )
        if request_after(step).state is RequestState.APPROVED:
            step = ready_grants(house, step, min(now, house.ending_now()))
        house.store.commit(step)
        return request_after(step)

    return decided_anew(once)
