"""What Tidegate's identities may do at Identity Center, asked of AWS: too little, or too much.

Called by `identity_center_health.py`. Too little is compared with the table in `aws_rights.py`, on
the resources of `aws_ground.py`; too much is asked in `identity_center_excess.py`. Each identity
asks AWS's policy simulator about itself, and the closer about the schedule's role too.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tidegate.base.errors import AskedWrongly, WorldFailed
from tidegate.catalogue import Target
from tidegate.connectors.aws_allowed import Holder, missing_right, simulated
from tidegate.connectors.aws_calls import CloudNo
from tidegate.connectors.aws_ground import (
    DEAD_LETTERS,
    SCHEDULE_GROUP,
    Ground,
    needed,
    resources,
    scp_arn,
)
from tidegate.connectors.aws_health import trouble
from tidegate.connectors.aws_rights import SIMULATE, Identity, On, Option
from tidegate.connectors.identity_center_calls import Center
from tidegate.connectors.identity_center_excess import (
    FULFILLED,
    in_words,
    passed_elsewhere,
    powers_over,
)
from tidegate.connectors.identity_center_settings import CenterSettings, Deny, Handed
from tidegate.connectors.port import Trouble

MOST_SETS = 50  # permission sets looked at in one health check: a call each, of 20 a second

_NAMES_SCP = "organizations:DescribePolicy"
_HELP = "compare with `tidegate onboard aws --emit json`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An identity as AWS knows it: `arn` and `account` are what AWS answered, `does` its part."""

    center: Center
    arn: str
    account: str
    does: tuple[Identity, ...]


def of_rights(caller: Caller, settings: CenterSettings, target: Target) -> Iterator[Trouble]:
    """Whether AWS would let this identity do its part, and whether it would let it do more.

    Where the simulator may not be asked, the closer tries harmless reads instead. Nothing is asked
    about the account's root: it may do all, and AWS does not simulate it.
    """
    handed = settings.account(target).handed
    if not handed or caller.arn.endswith(":root"):
        return
    try:
        told = list(_simulated(caller, settings, target))
    except (WorldFailed, AskedWrongly) as error:
        yield _untold(f"what {caller.arn} may do", error)
        if Identity.CLOSER in caller.does:
            yield from _by_reading(caller, settings, target, handed[0])
        return
    yield from told


def _simulated(caller: Caller, settings: CenterSettings, target: Target) -> Iterator[Trouble]:
    ground = _ground(caller, settings, target)
    aws = caller.center.aws
    holder = Holder(aws=aws, arn=ground.holder(caller.does[0]), does=caller.does)
    yield from _of_holder(holder, ground)
    if Identity.CLOSER not in caller.does or Option.SCHEDULE not in ground.options:
        return
    kept = Holder(aws=aws, arn=ground.holder(Identity.SCHEDULE), does=(Identity.SCHEDULE,))
    try:
        yield from list(_of_holder(kept, ground))
    except WorldFailed as error:
        # That the role is missing, or may not be asked about, is told by the looks before.
        if error.code not in ("access_denied", "not_there"):
            yield _untold(f"what {kept.arn} may do", error)


def _of_holder(holder: Holder, ground: Ground) -> Iterator[Trouble]:
    """What of the table AWS would refuse, then what it would allow past it."""
    due = _due(holder, ground)
    powers = tuple(powers_over(ground))
    over = {(action, one.arn) for one in powers for action in one.actions}
    may = _allowed(holder, {*due, *over})
    lacking: dict[str, list[str]] = {}
    for action, arn in sorted(due.keys() - may):
        lacking.setdefault(action, []).append(arn)
    for action, arns in lacking.items():
        shuts = any(due[action, arn] for arn in arns)
        yield missing_right(holder, action, arns, shuts, f"allow it: {_HELP}")
    told = [in_words(one, may - due.keys()) for one in powers]
    if Option.SCHEDULE in ground.options:
        told.append(passed_elsewhere(holder, ground))
    if any(told):
        yield Trouble(
            code="excess_right",
            message=f"{holder.name} may call {'; '.join(filter(None, told))}, and need not",
            help=f"take it away: {_HELP}",
            shuts=False,
        )


def _due(holder: Holder, ground: Ground) -> dict[tuple[str, str], bool]:
    """Each action of the table with one of the things it is needed on: whether an end needs it."""
    found: dict[tuple[str, str], bool] = {}
    for identity in holder.does:
        for right in needed(ground, identity):
            if right.on is On.SCP and "*" in ground.scp and right.action != _NAMES_SCP:
                continue  # who may not read the policy does not know its ARN
            for arn in resources(right, ground):
                pair = (right.action, _one(arn, ground))
                found[pair] = found.get(pair, False) or right.closing
    return found


def _allowed(holder: Holder, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of `pairs` that AWS would allow, under the conditions that the table's calls fulfil.

    One simulation a service: every action of it on every resource, of which the pairs are read.
    """
    wanted = set(pairs)
    services: dict[tuple[str, bool], set[tuple[str, str]]] = {}
    for action, arn in wanted:
        services.setdefault((action.partition(":")[0], arn == "*"), set()).add((action, arn))
    found = set()
    for _, together in sorted(services.items()):
        actions, arns = ({pair[part] for pair in together} for part in (0, 1))
        for one in simulated(holder, sorted(actions), sorted(arns), FULFILLED):
            if one.allowed:
                found.add((one.action, one.resource))
    return found & wanted


def _one(arn: str, ground: Ground) -> str:
    """One of the things a pattern stands for. A lone `*` stays: AWS binds the call to nothing."""
    return arn if arn == "*" else arn.replace("::*:", f"::{ground.account}:").replace("*", "0")


def _untold(what: str, error: WorldFailed | AskedWrongly) -> Trouble:
    return Trouble(
        code="rights_untold",
        message=f"it cannot be told {what}: {error.message}",
        help=f"allow `{SIMULATE}` on itself",
        shuts=False,
    )


def _by_reading(
    caller: Caller, settings: CenterSettings, target: Target, handed: Handed
) -> Iterator[Trouble]:
    """One read of each listing that closing needs. It tells less: changes are not tried."""
    sso = caller.center.sso
    reads: list[Callable[[], object]] = [
        lambda: sso(
            "list_account_assignments", AccountId=target.account, PermissionSetArn=handed.arn
        ),
    ]
    if settings.deny is Deny.PERMISSION_SET:
        reads += [
            lambda: sso("list_permission_sets_provisioned_to_account", AccountId=target.account),
            lambda: sso("get_inline_policy_for_permission_set", PermissionSetArn=handed.arn),
        ]
    for read in reads:
        try:
            read()
        except WorldFailed as error:
            yield trouble(error)


def _ground(caller: Caller, settings: CenterSettings, target: Target) -> Ground:
    options = set()
    if settings.arms(target):
        options.add(Option.SCHEDULE)
    if settings.cuts(target):
        options.add(Option.SCP if settings.deny is Deny.SCP else Option.CUT)
    holders = dict.fromkeys(caller.does, _principal_of(caller, settings))
    schedule = settings.schedule
    if schedule is not None:
        holders[Identity.SCHEDULE] = schedule.role
    return Ground(
        account=caller.account,
        partition=settings.instance.split(":")[1],
        region=settings.closer.region,
        sets=tuple(sorted({one.arn for one in settings.account(target).handed[:MOST_SETS]})),
        assigned=(target.account,),
        store=settings.identity_store,
        options=frozenset(options),
        scp=_scp_of(caller, settings) if Option.SCP in options else "",
        group=schedule.group if schedule else SCHEDULE_GROUP,
        dead_letters=schedule.dead_letter.rpartition(":")[2] if schedule else DEAD_LETTERS,
        holders=holders,
    )


def _scp_of(caller: Caller, settings: CenterSettings) -> str:
    """The ARN of Tidegate's SCP. A pattern of it for who may not read it, who then lacks that."""
    pattern = scp_arn(settings.scp, settings.instance.split(":")[1])
    if Identity.CLOSER not in caller.does:
        return pattern
    try:
        reply = caller.center.call("organizations", "describe_policy", PolicyId=settings.scp)
    except CloudNo as no:
        if no.code != "access_denied":
            raise
        return pattern
    return str(reply.part("Policy").get("PolicySummary", {}).get("Arn") or pattern)


def _principal_of(caller: Caller, settings: CenterSettings) -> str:
    """The IAM ARN behind a caller ARN: a role session is looked at as its role."""
    parts = caller.arn.split(":")
    if len(parts) != 6 or parts[2] != "sts" or not parts[5].startswith("assumed-role/"):
        return caller.arn
    name = parts[5].split("/")[1]
    keys = settings.closer if Identity.CLOSER in caller.does else settings.opener
    listed = [arn for arn in keys.own if arn.rpartition("/")[2] == name]
    return listed[0] if listed else f"{parts[0]}:{parts[1]}:iam::{parts[4]}:role/{name}"
