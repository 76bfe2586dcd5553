"""The one place that says who may do what. Every other use case asks here first.

Voting is not here: who may vote follows from the requirement and is decided in `approve.py`.
Something one may not see is "not found", so that ids cannot be tried out.
"""

from enum import StrEnum

from tidegate.approve import Approver, named_groups
from tidegate.base.errors import NotAllowed, NotFound
from tidegate.finding import Finding, FindingKind
from tidegate.flow.house import Actor, House
from tidegate.flow.people import person_named
from tidegate.grant import Grant
from tidegate.panic import Panic, Scope, ScopeKind
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
    ASSIGN = "assign"  # hand a finding to somebody
    CLOSE = "close"  # sign a finding off
    SIGN_OFF = "sign_off"  # answer for an end that is not known


_TOLD_TO_HOLDER = frozenset({FindingKind.GONE_EARLY, FindingKind.DEADLINE})
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
    Verb.SIGN_OFF: ("sign off", "an operator who is not its holder can"),
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
    # NB. never by whoever holds it, operator or not: nobody answers for their own access.
    if (
        verb is Verb.SIGN_OFF
        and is_operator(house, actor)
        and not _same_person(house, actor, request.terms.principal)
    ):
        return
    deed, who = _NOT_YOURS.get(verb, (verb.replace("_", " "), "ask its owner"))
    raise NotAllowed(f"not_yours_to_{verb}", f"`{thing}` is not yours to {deed}", who)


def _same_person(house: House, actor: Actor, principal: str) -> bool:
    """Whether the actor is that principal, also through another account of theirs."""
    if actor.id == principal:
        return True
    return person_named(house, principal) == actor.person


def allow_finding(house: House, actor: Actor, verb: Verb, finding: Finding) -> None:
    """Refuse unless the actor may do `verb` to this finding.

    Its owner and operators may do everything, whoever it was handed to may hand it on; whom it is
    about may not sign it off, whatever else they are.

    Raises:
        NotFound: the actor may not even see it.
        NotAllowed: it may be seen, and no more.
    """
    if not may_see_finding(house, actor, finding):
        raise NotFound("unknown_id", f"nothing of yours is called `{finding.id}`", "list yours")
    owner = is_operator(house, actor) or _in(actor, finding.owner)
    if verb is Verb.SEE or (verb is Verb.ASSIGN and (owner or _in(actor, finding.assigned_to))):
        return
    if verb is Verb.CLOSE and owner:
        if finding.principal and _same_person(house, actor, finding.principal):
            raise NotAllowed(
                "own_finding",
                f"`{finding.id}` is about you, so somebody else has to sign it off",
                "ask another owner of the target or an operator",
            )
        return
    raise NotAllowed(
        f"not_yours_to_{verb}",
        f"`{finding.id}` is not yours to {verb.value}",
        "the target's owner or an operator can",
    )


def may_see_finding(house: House, actor: Actor, finding: Finding) -> bool:
    """Whether the actor may see it: auditors, its owner, who works on it, and whose access left.

    Not the holder of a grant whose side doors it names: they would be told what was found.
    """
    theirs = finding.kind in _TOLD_TO_HOLDER and finding.principal == actor.id
    return (
        theirs
        or is_auditor(house, actor)
        or _in(actor, finding.owner)
        or _in(actor, finding.assigned_to)
    )


def allow_target(house: House, actor: Actor, target: str) -> None:
    """Refuse unless the actor owns the target or is an operator. Raises NotAllowed."""
    if not (is_operator(house, actor) or _owns_target(house, actor, target)):
        raise NotAllowed(
            "not_your_target",
            f"expected an owner of `{target[:80]}` or an operator, got neither",
            "ask the target's owner or an operator",
        )


def _in(actor: Actor, named: str) -> bool:
    """Whether `named` (`group:NAME`, a bare group name, or a principal id) means the actor."""
    return bool(named) and (named == actor.id or named.removeprefix("group:") in actor.groups)


def allow_panic(house: House, actor: Actor, scope: Scope, *, lifting: bool = False) -> None:
    """Refuse unless the actor may end everything in `scope`, or (`lifting`) open it again.

    Operators may anything, a target's owner what is on the target. Everybody may end what they
    hold themselves, and may not lift that again: whoever has their token could.

    Raises:
        NotAllowed: it is not theirs to call, or to lift.
    """
    own = scope.kind is ScopeKind.PRINCIPAL and scope.name == actor.id and not lifting
    on_target = scope.kind in (ScopeKind.TARGET, ScopeKind.ROLE)
    if is_operator(house, actor) or own or (on_target and _owns_target(house, actor, scope.name)):
        return
    deed = "open again" if lifting else "end"
    owner = "the target's owner or an operator" if on_target else "an operator"
    raise NotAllowed(
        f"not_yours_to_{'lift' if lifting else 'panic'}",
        f"`{scope.text}` is not yours to {deed} all at once",
        f"ask {owner} of this installation",
    )


def may_see_panic(house: House, actor: Actor, panic: Panic) -> bool:
    """Whether the actor may watch it: whoever called it, auditors, the target's owners."""
    on_target = panic.kind in (ScopeKind.TARGET, ScopeKind.ROLE)
    owns = on_target and _owns_target(house, actor, panic.name)
    return panic.actor == actor.id or is_auditor(house, actor) or owns


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
