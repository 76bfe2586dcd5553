"""Stage 2, Approve: whether people whose word counts have said yes to exactly this.

Decides who may vote and when the votes suffice. A vote binds the digest its voter was shown (I9).
Who is in which group *now*, and which accounts are one person, is told by the caller: it is asked
again at every vote and once more at opening, so a removed approver stops counting.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tidegate.base.errors import AskedWrongly, NotAllowed, Stale
from tidegate.base.fact import Fact, Step, moved
from tidegate.base.personal import Personal
from tidegate.base.when import Instant, wire
from tidegate.policy.requirement import Need, missing, parse_requirement
from tidegate.request import TABLE, Item, Request, evolve

MOST_VOTES = 64  # far above any requirement; stops a request growing without end


class Choice(StrEnum):
    """What an approver says."""

    APPROVE = "approve"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """A voter as known now. `person` is one key for all accounts of one human being.

    `groups` is the full closure, empty for a disabled principal.
    """

    principal: str
    person: str
    groups: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """One vote as it arrives."""

    id: str
    choice: Choice
    digest: str
    comment: Personal | None = None


def vote(
    request: Request,
    ballot: Ballot,
    voter: Approver,
    others: Mapping[str, Approver],
    requester: str,
    now: Instant,
) -> Step:
    """Cast one vote; with it the request may be approved or denied, in the same Step.

    `others` holds every principal who voted before, as known now; `requester` is the person key of
    who asked.

    Raises:
        Stale: decided meanwhile, lapsed, or the digest is not the one in force.
        NotAllowed: one's own request, or in none of the groups the requirements name.
        AskedWrongly: voted already, or too many votes.
    """
    if not TABLE.allows(request.state, "request.voted"):
        TABLE.next(request.state, "request.voted")
    _check_clock(request, now)
    if voter.person == requester or voter.principal == request.terms.principal:
        raise NotAllowed(
            "self_approval",
            f"expected a vote by somebody else on `{request.id}`, got one by who asked",
            "ask another approver; nobody decides on their own request",
        )
    if ballot.digest != request.digest:
        raise Stale(
            "digest_changed",
            f"expected a vote on `{request.digest}`, got one on `{ballot.digest[:80]}`",
            "the request changed since you were shown it: look again, then vote",
        )
    groups = tuple(sorted(named_groups(request) & voter.groups))
    if not groups:
        raise NotAllowed(
            "not_an_approver",
            f"expected an approver of {_names(request)}, got somebody in none of these groups",
            "`tidegate requests --waiting` lists what waits for you",
        )
    persons = {others[old.voter].person for old in request.votes if old.voter in others}
    if voter.person in persons or any(old.voter == voter.principal for old in request.votes):
        raise AskedWrongly(
            "already_voted", f"you already voted on `{request.id}`", "one person has one vote"
        )
    if len(request.votes) >= MOST_VOTES:
        raise AskedWrongly("too_many_votes", f"expected at most {MOST_VOTES} votes", "deny it")
    return _cast(request, ballot, voter, groups, others, now)


def without_votes(request: Request, now: Instant) -> Step | None:
    """The approval of a request no item of which needs a vote, else None."""
    if still_missing(request, {}):
        return None
    return _approved(request, "system", now)


def still_missing(
    request: Request, voters: Mapping[str, Approver]
) -> Mapping[str, tuple[Need, ...]]:
    """Per role what its requirement still lacks; empty when every item is met.

    Votes count by what their voters are *now*: a voter missing from `voters` counts for nothing.
    """
    open_needs = {item.role: item_missing(request, item, voters) for item in request.terms.items}
    return {role: needs for role, needs in open_needs.items() if needs}


def item_missing(
    request: Request, item: Item, voters: Mapping[str, Approver], requirement: str | None = None
) -> tuple[Need, ...]:
    """What `item` lacks, under its own requirement or (at opening) the one in force."""
    persons: dict[str, frozenset[str]] = {}
    for cast in request.votes:
        voter = voters.get(cast.voter)
        if voter and cast.choice == Choice.APPROVE and cast.digest == request.digest:
            persons[voter.person] = persons.get(voter.person, frozenset()) | voter.groups
    wanted = item.requirement if requirement is None else requirement
    return missing(parse_requirement(wanted), persons)


def named_groups(request: Request) -> frozenset[str]:
    """Every group whose members' votes could count for some item."""
    return frozenset(
        need.group
        for item in request.terms.items
        if item.requirement
        for need in parse_requirement(item.requirement).needs
    )


def _cast(
    request: Request,
    ballot: Ballot,
    voter: Approver,
    groups: tuple[str, ...],
    others: Mapping[str, Approver],
    now: Instant,
) -> Step:
    fact = Fact(
        name="request.voted",
        subject=request.id,
        actor=voter.principal,
        data={
            "request": request.id,
            "vote": ballot.id,
            "voter": voter.principal,
            "choice": ballot.choice.value,
            "digest": ballot.digest,
            "groups": list(groups),
            "comment": ballot.comment.commitment if ballot.comment else None,
            "at": wire(now),
        },
    )
    texts = (ballot.comment,) if ballot.comment else ()
    step = moved(request, after := evolve(request, fact), fact, *texts)
    if ballot.choice is Choice.DENY:
        denied = Fact(
            name="request.denied",
            subject=request.id,
            actor=voter.principal,
            data={"request": request.id, "vote": ballot.id, "at": wire(now)},
        )
        return step.then(moved(after, evolve(after, denied), denied))
    if still_missing(after, {**others, voter.principal: voter}):
        return step
    return step.then(_approved(after, voter.principal, now))


def _approved(request: Request, actor: str, now: Instant) -> Step:
    fact = Fact(
        name="request.approved",
        subject=request.id,
        actor=actor,
        data={
            "request": request.id,
            "votes": [cast.id for cast in request.votes],
            "at": wire(now),
        },
    )
    return moved(request, evolve(request, fact), fact)


def _check_clock(request: Request, now: Instant) -> None:
    if now >= request.decide_by:
        raise Stale(
            "lapsed",
            f"request `{request.id}` had to be decided by {wire(request.decide_by)}",
            "its owner can file it again",
        )


def _names(request: Request) -> str:
    return ", ".join(f"`group:{name}`" for name in sorted(named_groups(request))) or "nobody"
