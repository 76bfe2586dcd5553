"""What exists in the stand-in: one `Cloud`, in memory, under the one lock of its server.

Values only, and the questions several services ask of them. What happens to them is decided in
the module of each service; what happens by time alone is in `passing.py`.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from tidegate_standin.clock import Clock

Json = dict[str, Any]

INSTANCE_ARN = "arn:aws:sso:::instance/ssoins-7223000000000001"
IDENTITY_STORE_ID = "d-9067000001"
ORGANIZATION_ID = "o-standin001"
ROOT_ID = "r-root"
REGION = "us-east-1"
FULL_ACCESS_ID = "p-FullAWSAccess"
ADMINISTRATOR: Json = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}

ADMINISTRATOR_ARN = "arn:aws:iam::aws:policy/AdministratorAccess"

Key = tuple[str, str, str, str]
"""(permission set ARN, account, principal type, principal id): one account assignment."""


@dataclass(slots=True, kw_only=True)
class User:
    """A person in the identity store."""

    user_id: str
    user_name: str
    email: str
    display_name: str
    external_id: str = ""
    external_issuer: str = ""
    enabled: bool = True


@dataclass(slots=True, kw_only=True)
class Group:
    """A group; `members` maps user id to membership id."""

    group_id: str
    name: str
    members: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class PermissionSet:
    """A permission set. `version` grows with every change of what would be provisioned.

    `managed` are the documents that act. `attached` and `customer` are only listed: ARNs of AWS's
    own policies (None: as `managed` has it) and customer managed ones, each its path and name.
    """

    arn: str
    name: str
    created_at: float
    session_duration: str = "PT1H"
    description: str = ""
    inline: str = ""
    managed: list[Json] = field(default_factory=lambda: [ADMINISTRATOR])
    attached: list[str] | None = None
    customer: list[str] = field(default_factory=list)
    version: int = 1


@dataclass(slots=True, kw_only=True)
class Provisioned:
    """A permission set as one account has it: a copy of the texts of one version."""

    version: int
    inline: str
    managed: list[Json]
    suffix: str


@dataclass(slots=True, kw_only=True)
class Identity:
    """Somebody with a long-lived access key (or a role's, given out beforehand) and policies."""

    name: str
    arn: str
    account: str
    access_key_id: str
    secret_access_key: str
    session_token: str = ""
    policies: list[Json] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Role:
    """A seeded role. `trust` holds ARN patterns, account ids and service names."""

    arn: str
    name: str
    account: str
    trust: list[str]
    policies: list[Json]
    max_seconds: int = 3600


@dataclass(slots=True, kw_only=True)
class Session:
    """Credentials given out: of a permission set (`user_id`, `set_arn`) or of a role."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    account: str
    arn: str
    unique_id: str
    principal_arn: str
    issued_at: float
    expires_at: float
    user_id: str = ""
    set_arn: str = ""
    suffix: str = ""
    role_arn: str = ""
    came_from: str = ""


Caller = Identity | Session


@dataclass(slots=True, kw_only=True)
class Job:
    """One asynchronous request: `describes` answers stay IN_PROGRESS, unless `done_at` comes."""

    job_id: str
    kind: str
    key: Key
    created_at: float
    describes: int
    done_at: float
    status: str = "IN_PROGRESS"
    reason: str = ""
    planned_failure: str = ""
    copy: Provisioned | None = None
    accounts: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Schedule:
    """One schedule of EventBridge Scheduler; `request` is the body it was made with."""

    account: str
    group: str
    name: str
    request: Json
    created_at: float
    modified_at: float
    next_at: float
    client_token: str
    fired: list[float] = field(default_factory=list)

    @property
    def arn(self) -> str:
        """The ARN AWS gives it."""
        return f"arn:aws:scheduler:{REGION}:{self.account}:schedule/{self.group}/{self.name}"


@dataclass(slots=True, kw_only=True)
class ControlPolicy:
    """A service control policy and the ids it is attached to."""

    policy_id: str
    name: str
    description: str
    content: str
    targets: list[str] = field(default_factory=list)
    aws_managed: bool = False


@dataclass(slots=True, kw_only=True)
class Options:
    """What a test may set about how this cloud behaves.

    - `describes`: how many answers of an asynchronous request stay IN_PROGRESS;
      `settle_seconds`: after which it ends although nobody asked.
    - `stale_seconds`: how far listings of assignments are behind the truth.
    - `schedule_delay_seconds`: how late every schedule fires (AWS: up to 59).
    - `outstanding_limit`, `inline_limit`, `scp_limit`: AWS's quotas.
    - `provisioning_paused`: ProvisionPermissionSet stays IN_PROGRESS until this is off again.
    - `role_goes_with_last_assignment`: the account's role, and with it its sessions, ends with the
      last assignment of its permission set there.
    - `delete_of_missing`: `fail` (asynchronously) or `raise` (ResourceNotFoundException at once).
    - `delete_for_deleted_user`: `fail` or `succeed`, when the person left the identity store.
    - `for_principal_from_management_only`: ListAccountAssignmentsForPrincipal as documented.
    """

    describes: int = 1
    settle_seconds: float = 2.0
    stale_seconds: float = 0.0
    schedule_delay_seconds: float = 0.0
    outstanding_limit: int = 10
    inline_limit: int = 10_240
    scp_limit: int = 5_120
    provisioning_paused: bool = False
    role_goes_with_last_assignment: bool = False
    delete_of_missing: str = "fail"
    delete_for_deleted_user: str = "fail"
    for_principal_from_management_only: bool = False


@dataclass(slots=True, kw_only=True)
class Cloud:
    """Everything there is. Not thread-safe by itself: the server holds its lock around each use."""

    clock: Clock
    management: str
    accounts: dict[str, str]
    delegated: str = ""
    options: Options = field(default_factory=Options)
    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    sets: dict[str, PermissionSet] = field(default_factory=dict)
    provisioned: dict[tuple[str, str], Provisioned] = field(default_factory=dict)
    assignments: dict[Key, float] = field(default_factory=dict)
    changes: list[tuple[float, Key, bool]] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    under_way: dict[str, Job] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    portal_tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    schedule_groups: dict[tuple[str, str], float] = field(default_factory=dict)
    schedules: dict[tuple[str, str, str], Schedule] = field(default_factory=dict)
    dead_letters: list[Json] = field(default_factory=list)
    policies: dict[str, ControlPolicy] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    def assign(self, key: Key, at: float) -> None:
        """Let the assignment stand from `at`; a duplicate changes nothing."""
        if key not in self.assignments:
            self.assignments[key] = at
            self.changes.append((at, key, True))

    def unassign(self, key: Key, at: float) -> None:
        """Take the assignment away at `at`."""
        if self.assignments.pop(key, None) is not None:
            self.changes.append((at, key, False))

    def listed(self) -> list[Key]:
        """The assignments as a listing shows them: `stale_seconds` behind the truth."""
        behind = self.options.stale_seconds
        if behind <= 0:
            return sorted(self.assignments)
        then = self.clock.now() - behind
        shown = set(self.assignments)
        for at, key, stood in reversed(self.changes):
            if at > then:
                (shown.discard if stood else shown.add)(key)
        return sorted(shown)

    def provision(self, set_arn: str, account: str, copy: Provisioned) -> None:
        """Let `account` have this copy of the permission set; its role keeps its suffix."""
        before = self.provisioned.get((set_arn, account))
        suffix = before.suffix if before else secrets.token_hex(8)
        self.provisioned[set_arn, account] = replace(copy, suffix=suffix)

    def groups_of(self, user_id: str) -> list[str]:
        """The ids of the groups a user is a member of."""
        return sorted(g.group_id for g in self.groups.values() if user_id in g.members)

    def role_name(self, set_arn: str, suffix: str) -> str:
        """The name of the role a permission set makes in an account."""
        return f"AWSReservedSSO_{self.sets[set_arn].name}_{suffix}"

    def outstanding(self) -> int:
        """How many changes of assignments are under way."""
        return sum(j.kind != "provision" for j in self.under_way.values())


def copy_of(permission_set: PermissionSet) -> Provisioned:
    """What provisioning would put into an account now."""
    return Provisioned(
        version=permission_set.version,
        inline=permission_set.inline,
        managed=list(permission_set.managed),
        suffix="",
    )


def new_cloud(clock: Clock, accounts: list[str], management: str) -> Cloud:
    """An organisation with these accounts, an Identity Center, and nobody in it."""
    names = {a: f"account-{a}" for a in [management, *accounts]}
    cloud = Cloud(clock=clock, management=management, accounts=names)
    cloud.policies[FULL_ACCESS_ID] = ControlPolicy(
        policy_id=FULL_ACCESS_ID,
        name="FullAWSAccess",
        description="Allows access to every operation",
        content='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}',
        targets=[ROOT_ID, *names],
        aws_managed=True,
    )
    return cloud


def derived(kind: str, name: str, length: int) -> str:
    """`length` hex digits that follow from a name, so that a restart gives the same ids."""
    return hashlib.sha256(f"{kind}:{name}".encode()).hexdigest()[:length]


def store_id(kind: str, name: str) -> str:
    """An id of the identity store's form for a name: ten hex digits and a UUID."""
    made = uuid.UUID(derived(kind, name, 32))
    return f"{derived(kind + '-partition', name, 10)}-{made}"


def key_pair(prefix: str) -> tuple[str, str]:
    """A fresh access key id (`AKIA…`, `ASIA…`) and its secret."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return prefix + "".join(secrets.choice(letters) for _ in range(16)), secrets.token_hex(20)


NEVER = math.inf
