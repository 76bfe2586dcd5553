"""Every right Tidegate needs on AWS: for whom, to call what, on which resource, where, and why.

One table (`RIGHTS`), from which policies, templates, the health check and the document are made, so
that none of them can ask for more or less than another. Pure; `aws_ground.py` turns it into
policies. `serve` needs no identity on AWS and therefore has no line here.

Actions, and the resource types each one needs, are those of AWS's Service Authorization Reference
(pages IAM, STS, IAM Identity Center, Identity Store, EventBridge Scheduler, Organizations, SQS).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tidegate.base.duty import Duty
from tidegate.connectors.aws_policy import CUT_POLICY
from tidegate.connectors.role_kinds import IAM_ROLE, PERMISSION_SET


class Identity(StrEnum):
    """Who holds a right. `schedule` is the role under which AWS itself removes an assignment."""

    OPENER = "opener"
    CLOSER = "closer"
    SCHEDULE = "schedule"


IDENTITIES: Mapping[Duty, Identity] = {Duty.OPEN: Identity.OPENER, Duty.CLOSE: Identity.CLOSER}


class Place(StrEnum):
    """Where a right is needed: in the target's account, or in the one that administers Identity
    Center (the management account or its delegated administrator).
    """

    ACCOUNT = "account"
    HUB = "identity-center"


class Option(StrEnum):
    """What a right is needed for only when it is in use."""

    SCHEDULE = "schedule"
    CUT = "deny in the permission set"
    SCP = "deny in an SCP"


class On(StrEnum):
    """The resource of a right, in words; `resources` has the ARNs."""

    ROLES = "handed roles"
    SELF = "itself"
    ASSIGNMENT = "instance, permission sets, accounts"
    SETS = "instance, permission sets"
    ACCOUNTS = "instance, accounts"
    EVERY_SET = "instance, all its permission sets"
    EVERY_ASSIGNMENT = "instance, all its permission sets, accounts"
    INSTANCE = "instance"
    USERS = "identity store, users"
    MEMBERS = "identity store, users, memberships"
    SCHEDULES = "schedules of Tidegate's group"
    GROUP = "Tidegate's schedule group"
    SCHEDULE_ROLE = "the schedule's role"
    SCP = "Tidegate's SCP"
    DEAD_LETTERS = "the dead-letter queue"
    PEOPLE = "IAM users of the account"
    ANY = "anything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One action that one identity must be allowed. `closing`: an end needs it.

    `condition` is an IAM condition block, written as (operator, key, value); empty for none.
    """

    kind: str
    identity: Identity
    action: str
    on: On
    why: str
    closing: bool = False
    option: Option | None = None
    condition: tuple[str, str, str] | None = None

    @property
    def place(self) -> Place:
        """Where it is needed."""
        return Place.ACCOUNT if self.kind == IAM_ROLE else Place.HUB


SIMULATE = "iam:SimulatePrincipalPolicy"
_LOOK = "health: asks AWS whether it may do what it must"
_PASSED = ("StringEquals", "iam:PassedToService", "scheduler.amazonaws.com")

_Row = tuple[str, On, str]


def _rows(
    kind: str,
    identity: Identity,
    *rows: _Row,
    closing: bool = False,
    option: Option | None = None,
    condition: tuple[str, str, str] | None = None,
) -> tuple[Right, ...]:
    return tuple(
        Right(
            kind=kind,
            identity=identity,
            action=action,
            on=on,
            why=why,
            closing=closing,
            option=option,
            condition=condition,
        )
        for action, on, why in rows
    )


RIGHTS: tuple[Right, ...] = (
    *_rows(
        IAM_ROLE,
        Identity.OPENER,
        ("iam:GetRole", On.ROLES, "grant: reads the role's own id"),
        ("sts:AssumeRole", On.ROLES, "issue, probe: takes a session"),
        ("sts:TagSession", On.ROLES, "issue, probe: names grant and request"),
        ("sts:SetSourceIdentity", On.ROLES, "issue, probe: names the grant"),
        (SIMULATE, On.SELF, _LOOK),
    ),
    *_rows(
        IAM_ROLE,
        Identity.CLOSER,
        ("iam:GetRole", On.ROLES, "observe: tells a role that is gone"),
        ("iam:GetRolePolicy", On.ROLES, f"revoke, cut, observe: reads `{CUT_POLICY}`"),
        ("iam:PutRolePolicy", On.ROLES, f"revoke, cut, mend: writes `{CUT_POLICY}`"),
        ("iam:DeleteRolePolicy", On.ROLES, f"mend: takes `{CUT_POLICY}` away again"),
        closing=True,
    ),
    *_rows(
        IAM_ROLE,
        Identity.CLOSER,
        ("iam:ListAttachedRolePolicies", On.ROLES, "health: finds policies a holder could rewrite"),
        (
            "iam:GetAccountAuthorizationDetails",
            On.ANY,
            "side doors, standing: users, roles, policies made, and who may do everything",
        ),
        ("iam:ListAccessKeys", On.PEOPLE, "side doors: access keys made in a window"),
        ("iam:GetLoginProfile", On.PEOPLE, "side doors: passwords set in a window"),
        ("cloudtrail:LookupEvents", On.ANY, "side doors: trust and policies changed in a window"),
        (SIMULATE, On.SELF, _LOOK),
    ),
    *_rows(
        PERMISSION_SET,
        Identity.OPENER,
        ("identitystore:GetUserId", On.USERS, "grant: finds the person"),
        ("sso:CreateAccountAssignment", On.ASSIGNMENT, "grant: makes the assignment"),
        ("sso:DescribeAccountAssignmentCreationStatus", On.INSTANCE, "grant: waits for it"),
        (
            "sso:ListAccountAssignmentsForPrincipal",
            On.INSTANCE,
            "grant: sees what stands, also through groups, and reads the assignment back",
        ),
        (
            "sso:ListAccountAssignments",
            On.ASSIGNMENT,
            "grant: sees who holds it where AWS does not list a person",
        ),
        (
            "identitystore:ListGroupMembershipsForMember",
            On.MEMBERS,
            "grant: sees whether one of its groups is the person's",
        ),
        (SIMULATE, On.SELF, _LOOK),
    ),
    *_rows(
        PERMISSION_SET,
        Identity.OPENER,
        ("scheduler:CreateSchedule", On.SCHEDULES, "arm: an end that needs no process of ours"),
        ("scheduler:GetSchedule", On.SCHEDULES, "arm: reads it back"),
        ("scheduler:UpdateSchedule", On.SCHEDULES, "arm: moves it"),
        option=Option.SCHEDULE,
    ),
    *_rows(
        PERMISSION_SET,
        Identity.OPENER,
        ("iam:PassRole", On.SCHEDULE_ROLE, "arm: lets the schedule act as its role"),
        option=Option.SCHEDULE,
        condition=_PASSED,
    ),
    *_rows(
        PERMISSION_SET,
        Identity.CLOSER,
        ("sso:DeleteAccountAssignment", On.ASSIGNMENT, "revoke: removes it"),
        ("sso:DescribeAccountAssignmentDeletionStatus", On.INSTANCE, "revoke: waits for that"),
        (
            "sso:DescribeAccountAssignmentCreationStatus",
            On.INSTANCE,
            "revoke: waits for one that is still being made",
        ),
        (
            "sso:ListAccountAssignmentsForPrincipal",
            On.INSTANCE,
            "revoke, observe: sees what stands, also through groups",
        ),
        (
            "sso:ListAccountAssignments",
            On.ASSIGNMENT,
            "observe, cut: sees who holds the permission set",
        ),
        (
            "identitystore:ListGroupMembershipsForMember",
            On.MEMBERS,
            "observe: sees whether a group that holds it is the person's",
        ),
        ("identitystore:DescribeUser", On.USERS, "revoke, observe: tells a person who is gone"),
        (
            "sso:DescribePermissionSet",
            On.SETS,
            "health, cut: reads its session length and its name",
        ),
        closing=True,
    ),
    *_rows(
        PERMISSION_SET,
        Identity.CLOSER,
        (
            "sso:ListAccountAssignmentCreationStatus",
            On.INSTANCE,
            "side doors: assignments made in a window",
        ),
        (
            "sso:ListPermissionSetsProvisionedToAccount",
            On.ACCOUNTS,
            "standing: finds permission sets that are not handed out",
        ),
        (
            "sso:ListManagedPoliciesInPermissionSet",
            On.EVERY_SET,
            "standing: reads whether one administers the account",
        ),
        ("sso:GetInlinePolicyForPermissionSet", On.EVERY_SET, "standing: reads the same"),
        (
            "sso:ListCustomerManagedPolicyReferencesInPermissionSet",
            On.EVERY_SET,
            "standing: reads the same",
        ),
        ("sso:DescribePermissionSet", On.EVERY_SET, "standing: reads its name"),
        ("sso:ListAccountAssignments", On.EVERY_ASSIGNMENT, "standing: sees who holds it"),
    ),
    *_rows(
        PERMISSION_SET,
        Identity.CLOSER,
        ("sso:GetInlinePolicyForPermissionSet", On.SETS, "cut, mend: reads the denies"),
        ("sso:PutInlinePolicyToPermissionSet", On.SETS, "cut, mend: writes the denies"),
        ("sso:DeleteInlinePolicyFromPermissionSet", On.SETS, "mend: takes the last deny away"),
        ("sso:ProvisionPermissionSet", On.ASSIGNMENT, "cut, mend: brings the denies there"),
        (
            "sso:DescribePermissionSetProvisioningStatus",
            On.INSTANCE,
            "cut, mend: waits until they are there",
        ),
        (
            "sso:ListPermissionSetsProvisionedToAccount",
            On.ACCOUNTS,
            "cut, observe: sees whether the account has the newest",
        ),
        closing=True,
        option=Option.CUT,
    ),
    *_rows(
        PERMISSION_SET,
        Identity.CLOSER,
        ("organizations:DescribePolicy", On.SCP, "cut, mend: reads the denies"),
        ("organizations:UpdatePolicy", On.SCP, "cut, mend: writes the denies"),
        closing=True,
        option=Option.SCP,
    ),
    *_rows(
        PERMISSION_SET,
        Identity.CLOSER,
        ("organizations:ListTargetsForPolicy", On.SCP, "health: sees whom the denies reach"),
        option=Option.SCP,
    ),
    *_rows(
        PERMISSION_SET,
        Identity.CLOSER,
        ("scheduler:GetSchedule", On.SCHEDULES, "observe: sees whether the end is armed"),
        ("scheduler:DeleteSchedule", On.SCHEDULES, "disarm: once the assignment is gone"),
        ("scheduler:GetScheduleGroup", On.GROUP, "health: sees that schedules have their group"),
        ("iam:GetRole", On.SCHEDULE_ROLE, "health: sees that schedules have their role"),
        (SIMULATE, On.SCHEDULE_ROLE, "health: asks AWS whether that role may remove"),
        option=Option.SCHEDULE,
    ),
    *_rows(
        PERMISSION_SET,
        Identity.CLOSER,
        ("sso:ListInstances", On.ANY, "health: sees that the instance is the one configured"),
        (SIMULATE, On.SELF, _LOOK),
    ),
    *_rows(
        PERMISSION_SET,
        Identity.SCHEDULE,
        ("sso:DeleteAccountAssignment", On.ASSIGNMENT, "ends it with no process of ours alive"),
        closing=True,
        option=Option.SCHEDULE,
    ),
    *_rows(
        PERMISSION_SET,
        Identity.SCHEDULE,
        ("sqs:SendMessage", On.DEAD_LETTERS, "keeps what AWS could not do"),
        option=Option.SCHEDULE,
    ),
)
