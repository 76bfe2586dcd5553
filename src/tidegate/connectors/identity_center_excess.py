"""What a holder could do at Identity Center past its part: calls that are power over access.

Not every spare right is one: reading widens nothing. Listed are the calls by which whoever makes
them, or whoever steals the keys, could give access that nobody approved, keep it past its end, or
take away what binds it. Each is asked on what is ours, and on something made up that is not: what
is allowed there is allowed on everything of its sort.

The sorts of things each call acts on are those of AWS's Service Authorization Reference.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass

from tidegate.connectors.aws_allowed import POWER, STRANGER, Holder, simulated
from tidegate.connectors.aws_ground import Ground, instance_of
from tidegate.connectors.aws_rights import RIGHTS, Identity, Option

USERS = ("iam:CreateAccessKey", "iam:CreateLoginProfile", "iam:CreateUser")
INSTANCE = ("sso:CreatePermissionSet",)
SETS = (
    "sso:AttachCustomerManagedPolicyReferenceToPermissionSet",
    "sso:AttachManagedPolicyToPermissionSet",
    "sso:CreateAccountAssignment",
    "sso:DeleteAccountAssignment",
    "sso:DeleteInlinePolicyFromPermissionSet",
    "sso:DeletePermissionsBoundaryFromPermissionSet",
    "sso:PutInlinePolicyToPermissionSet",
    "sso:UpdatePermissionSet",
)
ACCOUNTS = ("sso:CreateAccountAssignment", "sso:DeleteAccountAssignment")
GROUPS = ("identitystore:CreateGroupMembership",)
POLICIES = (
    "organizations:AttachPolicy",
    "organizations:DetachPolicy",
    "organizations:UpdatePolicy",
)
SCHEDULES = ("scheduler:CreateSchedule", "scheduler:DeleteSchedule", "scheduler:UpdateSchedule")
_GIVE = "iam:PassRole"
_TO = "iam:PassedToService"
# The condition keys of the table's own calls: without them AWS would refuse what needs them.
FULFILLED = {key: value for _, key, value in (one.condition for one in RIGHTS if one.condition)}
_ELSEWHERE = "lambda.amazonaws.com"  # some service that runs code as the role it is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Calls that are power over one thing; `words` say what it is."""

    arn: str
    words: str
    actions: tuple[str, ...]


def in_words(power: Power, may: Container[tuple[str, str]]) -> str:
    """Those of its calls that are among `may` (action, ARN); empty for none."""
    found = [f"`{action}`" for action in power.actions if (action, power.arn) in may]
    return f"{', '.join(found)} on {power.words}" if found else ""


def passed_elsewhere(holder: Holder, ground: Ground) -> str:
    """Whether the schedule's role may be given to more than schedules, in words.

    Raises:
        Refused, Unreachable, Unknown: the simulation itself was refused, or not answered.
    """
    role = ground.holder(Identity.SCHEDULE)
    verdicts = simulated(holder, (_GIVE,), (role,), {_TO: _ELSEWHERE})
    said = f"`{_GIVE}` of the schedule's role to other services"
    return said if any(one.allowed for one in verdicts) else ""


def powers_over(ground: Ground) -> Iterator[Power]:
    """What is asked of every holder. One permission set stands for all that are handed out."""
    part, account = ground.partition, ground.account
    ours = ground.sets[0]
    instance = instance_of(ours)
    stranger = f"{instance.replace(':instance/', ':permissionSet/')}/ps-{'0' * 16}"
    iam, sso = f"arn:{part}:iam::{account}", f"arn:{part}:sso:::account"
    policies = f"arn:{part}:organizations::{account}:policy/o-{'0' * 10}/service_control_policy"
    yield Power(arn=ours, words="permission sets that are handed out", actions=SETS)
    yield Power(arn=stranger, words="permission sets that are not handed out", actions=SETS)
    yield Power(arn=f"{sso}/{'0' * 12}", words="accounts that are no target", actions=ACCOUNTS)
    yield Power(arn=instance, words="the instance", actions=INSTANCE)
    yield Power(arn=f"arn:{part}:identitystore:::group/0", words="groups", actions=GROUPS)
    yield Power(arn=f"{iam}:role/{STRANGER}", words="roles", actions=POWER)
    yield Power(arn=f"{iam}:user/{STRANGER}", words="users", actions=USERS)
    yield Power(arn=f"{policies}/p-{'0' * 8}", words="other policies", actions=POLICIES)
    if Option.SCP in ground.options and "*" not in ground.scp:
        yield Power(arn=ground.scp, words="Tidegate's SCP", actions=POLICIES)
    if Option.SCHEDULE in ground.options:
        group = f"arn:{part}:scheduler:{ground.region}:{account}:schedule/{STRANGER}"
        yield Power(arn=f"{group}/0", words="other schedules", actions=SCHEDULES)
        yield Power(
            arn=ground.holder(Identity.SCHEDULE), words="the schedule's role", actions=POWER
        )
