"""The one place that says who may do what. Every other use case asks here first.

Voting is not here: who may vote follows from the requirement and is decided in `approve.py`.
Something one may not see is "not found", so that ids cannot be tried out.
"""

from enum import StrEnum

from tidegate.approve import Approver, named_groups
from tidegate.base.errors import NotAllowed, NotFound
from tidegate.flow.house import Actor, House
from tidegate.grant import Grant
from tidegate.request import Request


class Verb(StrEnum):
    """What somebody wants to do."""

    SEE = "see"
    EDIT = "edit"
    WITHDRAW = "withdraw"
    USE = "use"
    DONE = "done"
    REVOKE = "revoke"
    LOOK_AFTER = "look_after"  # health, findings, reloading the rules
    AUDIT = "audit"  # read everything


_OWNER_ONLY = frozenset({Verb.EDIT, Verb.WITHDRAW, Verb.USE, Verb.DONE})
_NOT_YOURS = {  # what is refused, and who may
    Verb.EDIT: ("change", "only its owner can change it; ask for your own: `tidegate request`"),
    Verb.WITHDRAW: ("withdraw", "only its owner can withdraw it; an approver can deny it"),
    Verb.USE: ("use", "only its owner can use it; ask for your own: `tidegate request`"),
    Verb.DONE: ("give back", "only its owner can give it back; others revoke: `tidegate revoke`"),
    Verb.REVOKE: (
        "revoke",
        "its owner, an approver who voted on it, the target's owner or an operator can revoke it",
    ),
}


def is_operator(house: House, actor: Actor) -> bool:
    """Whether the actor looks after this installation."""
    return house.laws.operators in actor.groups


def is_auditor(house: House, actor: Actor) -> bool:
    """Whether the actor may read everything."""
    return house.laws.auditors in actor.groups or is_operator(house, actor)


def allow_house(house: House, actor: Actor, verb: Verb) -> None:
    """Refuse unless the actor may do `verb` to the installation. Raises NotAllowed."""
    wanted = house.laws.operators if verb is Verb.LOOK_AFTER else house.laws.auditors
    allowed = is_operator(house, actor) if verb is Verb.LOOK_AFTER else is_auditor(house, actor)
    if not allowed:
        raise NotAllowed(
            f"not_for_{verb}",
            f"expected somebody in `group:{wanted}`, got somebody who is not",
            "ask an operator of this installation",
        )


def allow(
    house: House, actor: Actor, verb: Verb, request: Request, grant: Grant | None = None
) -> None:
    """Refuse unless the actor may do `verb` to this request or one of its grants.

    Raises:
        NotFound: the actor may not even see it.
        NotAllowed: it may be seen, and no more.
    """
    thing = grant.id if grant else request.id
    owner = actor.id == request.terms.principal
    if not (owner or _may_see(house, actor, request)):
        raise NotFound("unknown_id", f"nothing of yours is called `{thing}`", "list what is yours")
    if verb is Verb.SEE or (verb in _OWNER_ONLY and owner):
        return
    if verb is Verb.REVOKE and (owner or _may_revoke(house, actor, request, grant)):
        return
    deed, who = _NOT_YOURS.get(verb, (verb.replace("_", " "), "ask its owner"))
    raise NotAllowed(f"not_yours_to_{verb}", f"`{thing}` is not yours to {deed}", who)


def may_vote(request: Request, approver: Approver) -> bool:
    """Whether the approver's vote could count: for lists, and for seeing."""
    theirs = named_groups(request) & approver.groups
    return bool(theirs) and approver.principal != request.terms.principal


def _may_see(house: House, actor: Actor, request: Request) -> bool:
    approver = Approver(principal=actor.id, person=actor.person, groups=actor.groups)
    return (
        is_auditor(house, actor)
        or may_vote(request, approver)
        or any(vote.voter == actor.id for vote in request.votes)
        or any(_owns_target(house, actor, item.role) for item in request.terms.items)
    )


def _may_revoke(house: House, actor: Actor, request: Request, grant: Grant | None) -> bool:
    roles = [grant.role] if grant else [item.role for item in request.terms.items]
    return (
        is_operator(house, actor)
        or any(vote.voter == actor.id for vote in request.votes)
        or all(_owns_target(house, actor, role) for role in roles)
    )


def _owns_target(house: House, actor: Actor, role_id: str) -> bool:
    target = house.laws.catalogue.targets.get(role_id.partition("/")[0])
    return bool(target and target.owner.removeprefix("group:") in actor.groups)
