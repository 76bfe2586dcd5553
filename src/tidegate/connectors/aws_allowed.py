"""What an identity may do on AWS, asked of AWS's own policy simulator: too little, or too much.

Too little is compared with the table in `aws_rights.py`. Too much is asked by a short list of calls
that are power over roles: whoever may make one that the table does not give could widen access past
what was approved. The simulator knows the identity's own policies, not the trust of a role nor (for
another account's organization) every SCP, so an "allowed" here is necessary, not sufficient.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.base.errors import WorldFailed
from tidegate.connectors.aws_calls import Aws
from tidegate.connectors.aws_ground import Ground, needed
from tidegate.connectors.aws_policy import RoleArn
from tidegate.connectors.aws_rights import SIMULATE, Identity, On
from tidegate.connectors.port import Trouble

MOST_ROLES = 50  # roles looked at in one health check: two pages of a large catalogue
MOST_NAMED = 3  # resources named of one missing right; the rest are counted
MOST_PAGES = 50  # of a simulation: IAM gives 100 verdicts a page, and 50 roles make 700
# A role nobody makes: what is allowed on it is allowed on roles that are not handed out.
STRANGER = "tidegate-hands-out-no-such-role"
# Calls on roles that are power over them (IAM User Guide, permissions that change access).
POWER = (
    "iam:AttachRolePolicy",
    "iam:CreateRole",
    "iam:DeleteRole",
    "iam:DeleteRolePermissionsBoundary",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
    "iam:PassRole",
    "iam:PutRolePermissionsBoundary",
    "iam:PutRolePolicy",
    "iam:UpdateAssumeRolePolicy",
    "sts:AssumeRole",
)
# Tried for each role by the same look, which tells more than a simulation of it.
_TRIED = frozenset({"iam:ListAttachedRolePolicies"})
_HELP = "compare with `tidegate onboard aws --emit json`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """An identity as it signs: its clients, its IAM ARN, and what it is meant to do."""

    aws: Aws
    arn: str
    does: tuple[Identity, ...]

    @property
    def name(self) -> str:
        """In words."""
        return f"Tidegate's {' and '.join(one.value for one in self.does)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the simulator says of one call on one resource."""

    action: str
    resource: str
    allowed: bool


def not_allowed(holder: Holder, roles: Sequence[RoleArn]) -> Iterator[Trouble]:
    """What `holder` lacks on `roles` of one account, then what it has beyond need.

    Only what closing needs shuts: a role's trust policy may let an opener of its own account in
    without any policy of the opener, and what cannot be used is at least not left open.

    Nothing is asked about the account's root: it may do all, and AWS does not simulate it.
    """
    if not roles or holder.arn.endswith(":root"):
        return
    some = tuple(roles[:MOST_ROLES])
    ground = Ground(account=some[0].account, roles=tuple(role.text for role in some))
    every = [right for identity in holder.does for right in needed(ground, identity)]
    rights = [one for one in every if one.on is On.ROLES and one.action not in _TRIED]
    closing = {right.action: right.closing for right in rights}
    for right in rights:
        closing[right.action] |= right.closing
    stranger = f"arn:{some[0].partition}:iam::{some[0].account}:role/{STRANGER}"
    account = f"arn:{some[0].partition}:iam::{some[0].account}"
    looking = {
        arn: {right.action: False for right in every if right.on is on}
        for on, arn in ((On.ANY, "*"), (On.PEOPLE, f"{account}:user/{STRANGER}"))
    }
    try:
        looks = tuple(
            verdict
            for arn, actions in looking.items()
            if actions
            for verdict in simulated(holder, sorted(actions), (arn,))
        )
        handed = tuple(simulated(holder, sorted({*closing, *POWER}), ground.roles))
        beyond = tuple(simulated(holder, POWER, (stranger,)))
    except WorldFailed as error:
        yield Trouble(
            code="rights_untold",
            message=f"it cannot be told what {holder.name} may do here: {error.message}",
            help=f"allow `{SIMULATE}` on itself, or look at the way to AWS",
            shuts=Identity.CLOSER in holder.does,
        )
        return
    yield from _missing(holder, handed, closing)
    yield from _missing(holder, looks, {name: False for one in looking.values() for name in one})
    yield from _excess(holder, [one for one in handed if one.action not in closing], "handed out")
    yield from _excess(holder, beyond, "not handed out")


def simulated(
    holder: Holder,
    actions: Sequence[str],
    arns: Sequence[str],
    context: Mapping[str, str] | None = None,
) -> Iterator[Verdict]:
    """The simulator's verdict on each of `actions` on each of `arns`.

    Args:
        holder: whose policies are asked, and who asks.
        actions: IAM actions; no wildcards.
        arns: whole ARNs, or `*` alone.
        context: condition keys as the call itself would carry them; without, a statement with a
            condition on them allows nothing.

    Raises:
        Refused, Unreachable, Unknown: the simulation itself was refused, or not answered.
    """
    told = [
        {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for key, value in sorted((context or {}).items())
    ]
    asked: dict[str, Any] = {
        "PolicySourceArn": holder.arn,
        "ActionNames": list(actions),
        "ResourceArns": list(arns),
        **({"ContextEntries": told} if told else {}),
    }
    for _ in range(MOST_PAGES):
        reply = holder.aws.call("iam", _simulation(asked), SIMULATE)
        for result in reply.body.get("EvaluationResults", ()):
            yield from _verdicts(result)
        marker = str(reply.body.get("Marker", ""))
        if not reply.body.get("IsTruncated") or not marker:
            return
        asked |= {"Marker": marker}


def _simulation(asked: Mapping[str, Any]) -> Callable[[Any], Mapping[str, Any]]:
    once = dict(asked)
    return lambda iam: iam.simulate_principal_policy(**once)


def _verdicts(result: Mapping[str, Any]) -> Iterator[Verdict]:
    """IAM answers once an action, with each resource in a list within; an older form and emulators
    answer once an action and resource.
    """
    action = str(result.get("EvalActionName"))
    apart = result.get("ResourceSpecificResults") or ()
    for one in apart:
        yield Verdict(
            action=action,
            resource=str(one.get("EvalResourceName")),
            allowed=one.get("EvalResourceDecision") == "allowed",
        )
    if not apart:
        yield Verdict(
            action=action,
            resource=str(result.get("EvalResourceName")),
            allowed=result.get("EvalDecision") == "allowed",
        )


def _missing(
    holder: Holder, verdicts: Sequence[Verdict], closing: Mapping[str, bool]
) -> Iterator[Trouble]:
    lacking: dict[str, list[str]] = {}
    for one in verdicts:
        if one.action in closing and not one.allowed:
            lacking.setdefault(one.action, []).append(one.resource)
    for action, arns in lacking.items():
        yield missing_right(holder, action, arns, closing[action], f"allow it: {_HELP}")


def missing_right(
    holder: Holder, action: str, arns: Sequence[str], shuts: bool, help: str
) -> Trouble:
    """That `holder` may not make one call, and on what: one trouble an action, however many."""
    named = ", ".join(f"`{arn}`" for arn in arns[:MOST_NAMED])
    more = f" and {len(arns) - MOST_NAMED} more" if len(arns) > MOST_NAMED else ""
    return Trouble(
        code="missing_right",
        message=f"{holder.name} may not call `{action}` on {named}{more}",
        help=help,
        shuts=shuts,
    )


def _excess(holder: Holder, verdicts: Sequence[Verdict], which: str) -> Iterator[Trouble]:
    found = sorted({one.action for one in verdicts if one.allowed})
    if found:
        named = ", ".join(f"`{action}`" for action in found)
        yield Trouble(
            code="excess_right",
            message=f"{holder.name} may call {named} on roles that are {which}, and need not",
            help=f"take it away: {_HELP}",
            shuts=False,
        )
