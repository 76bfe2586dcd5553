"""One AWS account Tidegate works in, and the policies its identities need there.

Pure: made from the table in `aws_rights.py` and the ARNs of what is handed out. Called by the
templates of `tidegate onboard aws` and by the health check.

Resource forms are those of AWS's Service Authorization Reference. Not confirmed there: which
account an identity store's ARN carries, so that part stays open and the store's id binds the right.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tidegate.base.errors import AskedWrongly
from tidegate.connectors.aws_rights import (
    RIGHTS,
    Identity,
    On,
    Option,
    Right,
)
from tidegate.connectors.role_kinds import IAM_ROLE, PERMISSION_SET

ROLE_NAMES: Mapping[Identity, str] = {
    Identity.OPENER: "TidegateOpener",
    Identity.CLOSER: "TidegateCloser",
    Identity.SCHEDULE: "TidegateSchedule",
}
SCHEDULE_GROUP = "tidegate"
SCHEDULE_PREFIX = "tidegate-"
DEAD_LETTERS = "tidegate-schedule-dead-letters"
# Characters all inline policies of a role may have together (IAM quotas).
LONGEST_INLINE = 10_240

_PERMISSION_SET = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):sso:::permissionSet/((?:sso)?ins-[a-zA-Z0-9.-]{16})"
    r"/ps-[a-zA-Z0-9./-]{16}",
    re.ASCII,
)
_SCP = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):organizations::\d{12}:policy/o-[a-z0-9]{10,32}"
    r"/service_control_policy/p-[0-9a-zA-Z_]{8,128}",
    re.ASCII,
)

_SCP_ID = re.compile(r"p-[0-9a-zA-Z_]{8,128}", re.ASCII)

PolicyJson = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """One AWS account, and what Tidegate does in it.

    Attributes:
        account: its twelve digits.
        partition: `aws`, `aws-cn` or `aws-us-gov`.
        region: of Identity Center and its schedules; only with `sets`.
        roles: ARNs of the IAM roles handed out there.
        sets: ARNs of the permission sets assigned from there.
        assigned: the accounts in which they are assigned.
        store: the identity store's id; empty for any.
        options: what is in use.
        scp: ARN of Tidegate's own SCP; only with `Option.SCP`.
        group: the schedule group.
        dead_letters: the name of the schedules' dead-letter queue.
        holders: ARNs of the IAM principals that are the identities there; without an entry it is
            the role of that name in `ROLE_NAMES`.
    """

    account: str
    partition: str = "aws"
    region: str = ""
    roles: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    assigned: tuple[str, ...] = ()
    store: str = ""
    options: frozenset[Option] = frozenset()
    scp: str = ""
    group: str = SCHEDULE_GROUP
    dead_letters: str = DEAD_LETTERS
    holders: Mapping[Identity, str] = field(default_factory=dict)

    def holder(self, identity: Identity) -> str:
        """The ARN of the IAM principal that `identity` is in this account."""
        if identity in self.holders:
            return self.holders[identity]
        return f"arn:{self.partition}:iam::{self.account}:role/{ROLE_NAMES[identity]}"

    def kinds(self) -> frozenset[str]:
        """The role kinds handed out from here."""
        found = {IAM_ROLE} if self.roles else set()
        return frozenset(found | ({PERMISSION_SET} if self.sets else set()))


def needed(ground: Ground, identity: Identity) -> tuple[Right, ...]:
    """The rights of `identity` in the account of `ground`, as the table lists them."""
    kinds = ground.kinds()
    return tuple(
        right
        for right in RIGHTS
        if right.identity is identity
        and right.kind in kinds
        and (right.option is None or right.option in ground.options)
    )


def resources(right: Right, ground: Ground) -> tuple[str, ...]:
    """The ARNs `right` is needed on in the account of `ground`, sorted."""
    return tuple(sorted(set(_arns(right, ground))))


def policy(ground: Ground, identity: Identity) -> PolicyJson | None:
    """The IAM policy of `identity` in that account, or None when it needs nothing there.

    Rights with the same resources and condition share a statement; actions are sorted.

    Raises:
        AskedWrongly: `rights_too_long` for more than a role's inline policies may hold.
    """
    grouped: dict[tuple[tuple[str, ...], tuple[str, str, str] | None], list[Right]] = {}
    for right in needed(ground, identity):
        grouped.setdefault((resources(right, ground), right.condition), []).append(right)
    if not grouped:
        return None
    statements: list[PolicyJson] = []
    for (arns, condition), rights in grouped.items():
        statement: PolicyJson = {
            "Sid": _sid(rights[0].on),
            "Effect": "Allow",
            "Action": sorted({right.action for right in rights}),
            "Resource": list(arns),
        }
        if condition is not None:
            operator, key, value = condition
            statement["Condition"] = {operator: {key: value}}
        statements.append(statement)
    _measure(statements, ground, identity)
    return {"Version": "2012-10-17", "Statement": statements}


def instance_of(permission_set: str) -> str:
    """The ARN of the Identity Center instance a permission set belongs to.

    Raises:
        AskedWrongly: `bad_permission_set` for what is no permission set's ARN.
    """
    match = _PERMISSION_SET.fullmatch(permission_set)
    if match is None:
        raise AskedWrongly(
            "bad_permission_set",
            "expected a permission set ARN like "
            "`arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/ps-1234567890abcdef`, "
            f"got `{permission_set[:120] or 'nothing'}`",
            "copy it from the permission set's page in IAM Identity Center",
        )
    partition, name = match.groups()
    return f"arn:{partition}:sso:::instance/{name}"


def scp_arn(text: str, partition: str) -> str:
    """The ARN of a service control policy, or a pattern of it when only its id is known.

    Raises:
        AskedWrongly: `bad_scp` for what is neither.
    """
    if _SCP_ID.fullmatch(text):
        return f"arn:{partition}:organizations::*:policy/o-*/service_control_policy/{text}"
    if _SCP.fullmatch(text):
        return text
    raise AskedWrongly(
        "bad_scp",
        "expected a service control policy's id like `p-1a2b3c4d`, or its ARN, "
        f"got `{text[:120] or 'nothing'}`",
        "copy it from the policy's page in AWS Organizations",
    )


def trust_of_roles(ground: Ground) -> PolicyJson:
    """The trust policy of each role handed out: the opener alone, and only with our tags."""
    named = ["gr_*", "control-gr_*"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "TidegateOpens",
                "Effect": "Allow",
                "Principal": {"AWS": ground.holder(Identity.OPENER)},
                "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"],
                "Condition": {
                    "StringLike": {
                        "aws:RequestTag/tidegate-grant": named,
                        "sts:SourceIdentity": named,
                    }
                },
            }
        ],
    }


def _sid(on: On) -> str:
    words = "".join(ch if ch.isalnum() else " " for ch in on.value).title()
    return f"Tidegate{words.replace(' ', '')}"


def _measure(statements: Iterable[object], ground: Ground, identity: Identity) -> None:
    length = len(json.dumps(list(statements), separators=(",", ":"))) + 44
    if length > LONGEST_INLINE:
        raise AskedWrongly(
            "rights_too_long",
            f"the rights of the {identity} in account `{ground.account}` may have at most "
            f"{LONGEST_INLINE} characters, got {length}",
            "hand out fewer roles there, or give their names to fewer targets",
        )


def _arns(right: Right, ground: Ground) -> Iterable[str]:
    part, account = ground.partition, ground.account
    where = f"{ground.region}:{account}"
    instances = {instance_of(one) for one in ground.sets}
    accounts = [f"arn:{part}:sso:::account/{one}" for one in ground.assigned]
    every = [
        *instances,
        *(f"{one.replace(':instance/', ':permissionSet/')}/*" for one in instances),
    ]
    store = f"arn:{part}:identitystore::*:identitystore/{ground.store or '*'}"
    users = [store, f"arn:{part}:identitystore:::user/*"]
    named: Mapping[On, Iterable[str]] = {
        On.ROLES: ground.roles,
        On.SELF: [ground.holder(right.identity)],
        On.ASSIGNMENT: [*instances, *ground.sets, *accounts],
        On.SETS: [*instances, *ground.sets],
        On.ACCOUNTS: [*instances, *accounts],
        On.EVERY_SET: every,
        On.EVERY_ASSIGNMENT: [*every, *accounts],
        On.INSTANCE: instances,
        On.USERS: users,
        On.MEMBERS: [*users, f"arn:{part}:identitystore:::membership/*"],
        On.SCHEDULES: [f"arn:{part}:scheduler:{where}:schedule/{ground.group}/{SCHEDULE_PREFIX}*"],
        On.GROUP: [f"arn:{part}:scheduler:{where}:schedule-group/{ground.group}"],
        On.PEOPLE: [f"arn:{part}:iam::{account}:user/*"],
        On.ANY: ["*"],  # AWS's reference names no resource type for these
        On.SCHEDULE_ROLE: [ground.holder(Identity.SCHEDULE)],
        On.SCP: [ground.scp],
        On.DEAD_LETTERS: [f"arn:{part}:sqs:{where}:{ground.dead_letters}"],
    }
    return named[right.on]
