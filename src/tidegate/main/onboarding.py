"""`tidegate onboard aws`: what Tidegate needs on AWS, for the roles that are handed out.

They come from the settings of an installation, or are named one by one. Asks no cloud and reads no
secret.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tidegate.base.errors import AskedWrongly
from tidegate.connectors.aws_ground import (
    DEAD_LETTERS,
    ROLE_NAMES,
    SCHEDULE_GROUP,
    Ground,
    instance_of,
    scp_arn,
)
from tidegate.connectors.aws_policy import parse_role_arn
from tidegate.connectors.aws_rights import Identity, Option
from tidegate.connectors.aws_templates import FORMS
from tidegate.connectors.role_kinds import PERMISSION_SET
from tidegate.main.config import Config, load_config
from tidegate.shell.cli.local import AwsAsked

_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d", re.ASCII)
_STORE = re.compile(r"d-[0-9a-f]{10}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_DENIES = {
    "permission-set": frozenset({Option.CUT}),
    "scp": frozenset({Option.SCP}),
    "none": frozenset[Option](),
}


def onboard_aws(config: Path | None, form: str, asked: AwsAsked) -> str:
    """The document in `form`, for the settings at `config` or, without, for what was `asked`.

    Raises:
        AskedWrongly: what was named is no ARN, account or region, nothing is handed out, or a
            document would be longer than AWS takes.
        SettingsBroken: the settings do not load.
    """
    return FORMS[form](grounds(asked if config is None else _of_settings(config, asked)))


def grounds(asked: AwsAsked) -> tuple[Ground, ...]:
    """One ground an account, by account: targets first come together, then the hub's own part."""
    roles: dict[str, set[str]] = {}
    partition = "aws"
    for text in asked.roles:
        role = parse_role_arn(text)
        roles.setdefault(role.account, set()).add(role.text)
        partition = role.partition
    for account in (*asked.accounts, *((asked.hub,) if asked.hub else ())):
        _check("account", _ACCOUNT, account, "123456789012")
    if not asked.roles and not asked.sets:
        raise AskedWrongly(
            "nothing_handed_out",
            "expected a role or a permission set that is handed out, got none",
            "name them in the settings, or give `--role-arn` or `--permission-set`",
        )
    hub = _hub(asked) if asked.sets else None
    found = []
    for account in sorted({*roles, *((asked.hub,) if hub else ())}):
        mine = tuple(sorted(roles.get(account, ())))
        if hub is None or account != hub.account:
            found.append(Ground(account=account, partition=partition, roles=mine))
            continue
        found.append(replace(hub, roles=mine))
    return tuple(found)


def _hub(asked: AwsAsked) -> Ground:
    """What is needed in the account that administers Identity Center."""
    instances = {instance_of(one) for one in asked.sets}
    if asked.instance and instances != {asked.instance}:
        raise AskedWrongly(
            "other_instance",
            f"expected permission sets of instance `{asked.instance[:100]}`, "
            f"got one of `{min(instances - {asked.instance})}`",
            "correct `--instance` or the permission set",
        )
    if not asked.hub:
        raise AskedWrongly(
            "no_hub",
            "expected the account that administers IAM Identity Center, got none",
            "give it with `--hub`: the delegated administrator's, or the management account",
        )
    if not asked.accounts:
        raise AskedWrongly(
            "no_accounts",
            "expected an account in which permission sets are assigned, got none",
            "give it with `--account`, once for each",
        )
    if asked.deny not in _DENIES:
        raise AskedWrongly(
            "bad_deny",
            f"expected `permission-set`, `scp` or `none`, got `{asked.deny[:40]}`",
            "see docs/connectors/aws.md for what each costs",
        )
    partition = min(instances).split(":")[1]
    scp = scp_arn(asked.scp, partition) if asked.deny == "scp" else ""
    _check("region", _REGION, asked.region, "eu-central-1")
    if asked.store:
        _check("identity store", _STORE, asked.store, "d-1234567890")
    options = _DENIES[asked.deny] | ({Option.SCHEDULE} if asked.schedules else set())
    role = asked.schedule_role or ROLE_NAMES[Identity.SCHEDULE]
    return Ground(
        account=asked.hub,
        partition=partition,
        region=asked.region,
        sets=tuple(sorted(set(asked.sets))),
        assigned=tuple(sorted(set(asked.accounts))),
        store=asked.store,
        options=frozenset(options),
        scp=scp,
        group=asked.group or SCHEDULE_GROUP,
        dead_letters=asked.dead_letters or DEAD_LETTERS,
        holders={Identity.SCHEDULE: f"arn:{partition}:iam::{asked.hub}:role/{role}"},
    )


def _check(what: str, pattern: re.Pattern[str], text: str, like: str) -> None:
    if pattern.fullmatch(text) is None:
        raise AskedWrongly(
            "bad_option",
            f"expected an {what} like `{like}`, got `{text[:60] or 'nothing'}`"
            if what[0] in "aeiou"
            else f"expected a {what} like `{like}`, got `{text[:60] or 'nothing'}`",
            "copy it from the AWS console",
        )


def _of_settings(path: Path, asked: AwsAsked) -> AwsAsked:
    """`asked` with what an installation hands out and how it reaches Identity Center."""
    config: Config = load_config(path)
    roles: list[str] = []
    sets: list[str] = []
    accounts: list[str] = []
    for target in config.target:
        if target.connector != "aws":
            continue
        for role in target.role:
            _own_account(target.account, role.arn)
            if role.kind == PERMISSION_SET:
                sets.append(role.arn)
                accounts.append(target.account)
            else:
                roles.append(role.arn)
    found = replace(asked, roles=tuple(roles), sets=tuple(sets), accounts=_once(accounts))
    center = config.identity_center
    if center is None:
        return found
    found = replace(
        found,
        region=asked.region or center.region,
        instance=asked.instance or center.instance,
        store=asked.store or center.identity_store,
        deny=center.deny,
        scp=asked.scp or center.scp,
        schedules=center.schedule is not None,
    )
    if center.schedule is None:
        return found
    acts_as = parse_role_arn(center.schedule.role)
    if acts_as.path != "/":
        raise AskedWrongly(
            "schedule_role_path",
            f"expected the schedule's role at path `/`, got `{acts_as.text}`",
            "make the template without its path and correct `identity_center.schedule.role`",
        )
    return replace(
        found,
        hub=asked.hub or acts_as.account,
        group=center.schedule.group,
        schedule_role=acts_as.name,
        dead_letters=center.schedule.dead_letter.rpartition(":")[2],
    )


def _own_account(account: str, arn: str) -> None:
    """Raises AskedWrongly `other_account` for an IAM role that is not of its target's account."""
    if ":iam:" in arn and f":iam::{account}:" not in arn:
        raise AskedWrongly(
            "other_account",
            f"expected a role of account `{account}`, got `{arn[:100]}`",
            "correct the role's `arn` or the target's `account`; see `tidegate check`",
        )


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
