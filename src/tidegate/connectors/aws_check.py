"""What can be said about an AWS catalogue entry without asking AWS.

Pure. Called by `tidegate check` through the port, and by the verbs for the same rules.
"""

from collections.abc import Callable

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import from_ms
from tidegate.catalogue import Role, Target
from tidegate.connectors.aws_calls import AwsSettings
from tidegate.connectors.aws_policy import RoleArn, is_policy_arn, parse_role_arn, session_policy
from tidegate.connectors.aws_probe import known

# Every instant takes the same room in a session policy; this one only measures it.
_ANY_END = from_ms(0)


def no_settings(target: Target) -> str:
    """The words for a target nobody configured."""
    return f"expected settings of connector `aws` for target `{target.id}`, got none"


def role_arn(target: Target, role: Role) -> RoleArn:
    """The ARN of `role`. Raises AskedWrongly `bad_role_arn` or `other_account`."""
    arn = parse_role_arn(role.native.get("arn", ""))
    if arn.account != target.account:
        raise AskedWrongly(
            "other_account",
            f"expected a role of account `{target.account}`, got one of `{arn.account}`",
            "correct the role's `arn` or the target's `account`",
        )
    return arn


def protected_by(settings: AwsSettings, role: Role) -> set[str]:
    """ARNs that a session of `role` may read, not change."""
    arns = {*settings.own, *settings.handed, *settings.protect, role.native.get("arn", "")}
    return arns - {""}


def check_role(
    settings: AwsSettings | None, target: Target, role: Role, others: tuple[Role, ...]
) -> tuple[str, ...]:
    """What would fail later, each in one line that starts with the role's id.

    `others` are the other roles of the same target. The session policy is measured for its longest
    case: every role handed out there protected, the end at full width.
    """
    told: list[str] = []

    def tell(ask: Callable[[], object]) -> None:
        try:
            ask()
        except AskedWrongly as error:
            told.append(f"{role.id}: {error.message}: {error.help}")

    tell(lambda: role_arn(target, role))
    if role.probe:
        tell(lambda: known(role.probe))
    if settings is None:
        return (*told, f"{role.id}: {no_settings(target)}")
    handed = {one.native.get("arn", "") for one in others}
    told += [
        f"{role.id}: `{arn}` is handed out too but not listed in `handed` of `{target.id}`: "
        "holders of this role could change it"
        for arn in sorted(handed - {"", *settings.handed})
    ]
    told += [
        f"{role.id}: expected ARNs of customer managed policies in `protect`, got `{arn[:100]}`"
        for arn in settings.protect
        if not is_policy_arn(arn)
    ]
    for arn in (*settings.own, *settings.handed):
        _append_bad(told, role, arn)
    protected = protected_by(settings, role) | handed - {""}
    tell(lambda: session_policy(ends_at=_ANY_END, allows=role.allows, protected=protected))
    return tuple(told)


def _append_bad(told: list[str], role: Role, arn: str) -> None:
    try:
        parse_role_arn(arn)
    except AskedWrongly as error:
        told.append(f"{role.id}: {error.message}: {error.help}")
