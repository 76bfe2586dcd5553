"""How one Identity Center instance is reached, and what can be said of a role without asking it.

Pure. Called by `tidegate check` through the port, and by the verbs for the same rules.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import show_duration, whole_seconds
from tidegate.catalogue import Role, Target
from tidegate.connectors.aws_calls import AwsSettings
from tidegate.connectors.aws_minting import longest_life
from tidegate.connectors.role_kinds import LONGEST_SET_SESSION, SHORTEST_SET_SESSION

# What is let through by the health check: a session lives on after the end where the cut fails.
LONGEST_SOUND_SESSION = timedelta(hours=1)
PROPAGATION = timedelta(seconds=60)

_INSTANCE = re.compile(r"arn:aws(?:-[a-z]{1,5}){0,3}:sso:::instance/((?:sso)?ins-[\w.-]{16})", re.A)
_SET = re.compile(
    r"arn:aws(?:-[a-z]{1,5}){0,3}:sso:::permissionSet/((?:sso)?ins-[\w.-]{16})/ps-[\w./-]{16}", re.A
)
_STORE = re.compile(r"d-[0-9a-f]{10}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.A)
_USER = re.compile(r"(?:[0-9a-f]{10}-)?[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.A)
_POLICY = re.compile(r"p-[0-9a-zA-Z_]{8,128}", re.A)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,576}", re.A)
_QUEUE = re.compile(r"arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:[\w.-]{1,80}", re.A)
_GROUP = re.compile(r"[\w.-]{1,64}", re.A)
_ISO = re.compile(r"PT(?:(\d{1,2})H)?(?:(\d{1,4})M)?(?:(\d{1,6})S)?", re.A)


class Deny(StrEnum):
    """Where the deny stands that ends live sessions."""

    PERMISSION_SET = "permission-set"
    SCP = "scp"
    NONE = "none"


class Match(StrEnum):
    """How a login becomes an Identity Center user when no table names them."""

    USER_NAME = "user_name"
    MAIL = "mail"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSettings:
    """Where deadlines in the cloud are kept: the group, whom they act as, where failures go."""

    role: str
    dead_letter: str
    group: str = "tidegate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """One permission set that the catalogue hands out on a target."""

    role: str
    arn: str
    session: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """What one account adds. `schedule`: its assignments get a deadline in the cloud.

    `management` says that it is the organisation's management account, where no SCP binds anybody
    and a delegated administrator may not act. `account` is its number: two targets may be of one.
    """

    schedule: bool = True
    management: bool = False
    account: str = ""
    handed: tuple[Handed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CenterSettings:
    """One instance.

    Attributes:
        instance: its ARN.
        identity_store: the store its users are in.
        opener: how Tidegate is itself when it makes assignments and deadlines.
        closer: how it is itself when it removes, cuts and looks; may equal `opener`.
        deny: where the deny stands.
        scp: the id of the policy Tidegate owns, for `Deny.SCP`.
        propagation: how long a change may take to be everywhere. AWS states no bound.
        schedule: None where no deadline is kept in the cloud.
        users: login to user id, before `match` is asked.
        targets: by target id.
    """

    instance: str
    identity_store: str
    opener: AwsSettings
    closer: AwsSettings
    deny: Deny = Deny.PERMISSION_SET
    scp: str = ""
    propagation: timedelta = PROPAGATION
    schedule: ScheduleSettings | None = None
    users: Mapping[str, str] = field(default_factory=dict)
    match: Match = Match.NONE
    targets: Mapping[str, AccountSettings] = field(default_factory=dict)

    def account(self, target: Target) -> AccountSettings:
        """What is set for a target. One that left the settings closes as one without extras."""
        return self.targets.get(target.id, AccountSettings(schedule=False))

    def handed_in(self, target: Target) -> frozenset[str]:
        """The permission sets handed out in the account of `target`, by whichever target of it."""
        there = (one for one in self.targets.values() if one.account == target.account)
        return frozenset(
            handed.arn for one in (self.account(target), *there) for handed in one.handed
        )

    def cuts(self, target: Target) -> bool:
        """Whether a deny of ours can end live sessions there."""
        return self.deny is Deny.PERMISSION_SET or (
            self.deny is Deny.SCP and not self.account(target).management
        )

    def arms(self, target: Target) -> bool:
        """Whether assignments there get a deadline in the cloud."""
        return self.schedule is not None and self.account(target).schedule


def faults_of(settings: CenterSettings) -> list[tuple[str, str]]:
    """What is wrong with the values themselves: (the key's name, expected and got)."""
    told = [
        _shaped("instance", settings.instance, _INSTANCE, "arn:aws:sso:::instance/ssoins-…"),
        _shaped("identity_store", settings.identity_store, _STORE, "d-1234567890"),
    ]
    if settings.deny is Deny.SCP:
        told.append(_shaped("scp", settings.scp, _POLICY, "p-1a2b3c4d"))
    elif settings.scp:
        told.append(("scp", 'expected `deny = "scp"` beside `scp`, got another'))
    if settings.schedule is not None:
        schedule = settings.schedule
        like = "arn:aws:iam::123456789012:role/NAME"
        told.append(_shaped("schedule.role", schedule.role, _ROLE, like))
        like = "arn:aws:sqs:REGION:123456789012:NAME"
        told.append(_shaped("schedule.dead_letter", schedule.dead_letter, _QUEUE, like))
        told.append(_shaped("schedule.group", schedule.group, _GROUP, "tidegate"))
    for login, user in sorted(settings.users.items()):
        like = "9067700001-00000000-0000-4000-8000-000000000001"
        told.append(_shaped(f"users.{login}", user, _USER, like))
    return [one for one in told if one is not None]


def set_arn(settings: CenterSettings | None, role: Role) -> str:
    """The permission set of `role`. Raises AskedWrongly `bad_permission_set`, `other_instance`."""
    arn = role.native.get("arn", "")
    found = _SET.fullmatch(arn)
    if found is None:
        raise AskedWrongly(
            "bad_permission_set",
            "expected the ARN of a permission set like "
            f"`arn:aws:sso:::permissionSet/ssoins-…/ps-…`, got `{arn[:100] or 'nothing'}`",
            "copy it from the permission set's page in the Identity Center console",
        )
    instance = _INSTANCE.fullmatch(settings.instance) if settings else None
    if instance and instance[1] != found[1]:
        raise AskedWrongly(
            "other_instance",
            f"expected a permission set of instance `{instance[1]}`, got one of `{found[1]}`",
            "correct the role's `arn` or `identity_center.instance`",
        )
    return arn


def session_of(role: Role) -> timedelta:
    """How long its sessions live by the catalogue. Raises AskedWrongly `bad_session`."""
    text = role.native.get("session_seconds", "")
    session = timedelta(seconds=int(text[:9])) if text.isascii() and text.isdigit() else None
    if session is None or not SHORTEST_SET_SESSION <= session <= LONGEST_SET_SESSION:
        raise AskedWrongly(
            "bad_session",
            f"expected a session from 15m to 12h, got `{text[:20] or 'nothing'}` seconds",
            "give the permission set's session duration as `session`",
        )
    return session


def lives(role: Role) -> timedelta:
    """`session_of`, and the longest there is for a role whose entry does not say it."""
    try:
        return session_of(role)
    except AskedWrongly:
        return LONGEST_SET_SESSION


def check_role(settings: CenterSettings | None, target: Target, role: Role) -> tuple[str, ...]:
    """What would fail later, each in one line that starts with the role's id. Sends nothing."""
    told: list[str] = []
    checks: tuple[Callable[[], object], ...] = (
        lambda: set_arn(settings, role),
        lambda: session_of(role),
        lambda: longest_life(role.allows),
    )
    for ask in checks:
        try:
            ask()
        except AskedWrongly as error:
            told.append(f"{role.id}: {error.message}: {error.help}")
    if settings is None:
        help = "add it to tidegate.toml"
        return (*told, f"{role.id}: expected `[identity_center]` for its kind, got none: {help}")
    if not settings.cuts(target):
        minutes = -(-whole_seconds(lives(role)) // 60)
        why = (
            "no SCP binds the management account" if settings.deny is Deny.SCP else 'deny = "none"'
        )
        told.append(
            f"{role.id}: a session taken before the end acts for up to {minutes} minutes after it "
            f"({why}): let Tidegate keep its deny in the permission set"
        )
    session = lives(role)
    if session > LONGEST_SOUND_SESSION:
        told.append(
            f"{role.id}: expected sessions of at most 1h, got {show_duration(session)}: "
            "shorten the permission set's session duration"
        )
    return tuple(told)


def read_iso_duration(text: str) -> timedelta | None:
    """`PT1H` or `PT1H30M` (ISO 8601, as Identity Center writes it); None for anything else."""
    found = _ISO.fullmatch(text)
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _shaped(name: str, text: str, shape: re.Pattern[str], like: str) -> tuple[str, str] | None:
    if shape.fullmatch(text):
        return None
    return name, f"expected a value like `{like}`, got `{text[:100] or 'nothing'}`"
