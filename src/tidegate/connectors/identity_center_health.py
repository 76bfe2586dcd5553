"""What a look at one account through Identity Center finds: reach, clock, and may we close.

Called by `identity_center.py`. Everything wrong becomes a trouble in words; nothing is raised.
Troubles that shut are those by which something could open that then cannot be closed in time.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta

from tidegate.base.errors import WorldFailed
from tidegate.base.when import Instant, show_duration, wire
from tidegate.catalogue import Target
from tidegate.connectors.aws_calls import CloudNo
from tidegate.connectors.aws_health import (
    CERTIFICATE_WARNING,
    SKEW,
    certificate_until,
    not_looked,
    trouble,
)
from tidegate.connectors.aws_rights import Identity
from tidegate.connectors.identity_center_calls import Center, missing, text_of
from tidegate.connectors.identity_center_rights import MOST_SETS, Caller, of_rights
from tidegate.connectors.identity_center_settings import (
    LONGEST_SOUND_SESSION,
    CenterSettings,
    Deny,
    Handed,
    faults_of,
    read_iso_duration,
)
from tidegate.connectors.port import Health, Trouble


def not_set_up(target: Target) -> Health:
    """A target whose roles need an instance that nobody configured."""
    return not_looked(
        (
            Trouble(
                code="no_settings",
                message=f"expected `[identity_center]` for target `{target.id}`, got none",
                help="add it to tidegate.toml",
            ),
        )
    )


def look(
    opener: Center,
    closer: Center,
    settings: CenterSettings,
    target: Target,
    now: Instant,
    monotonic: Callable[[], float] | None,
    does: tuple[Identity, ...] = (Identity.CLOSER, Identity.OPENER),
) -> Health:
    """One look. `round_trip` is zero without a `monotonic` clock to measure it by.

    `opener` and `closer` are one object when one identity does both, or when this process has one
    and `does` only its part. The account counts as reached
    when the closer reaches AWS.
    """
    both = opener is closer
    started = monotonic() if monotonic else 0.0
    try:
        reply = closer.call("sts", "get_caller_identity")
    except WorldFailed as error:
        at = error.cloud_at if isinstance(error, CloudNo) else None
        told = [_unreached(error, "opened or closed" if both else "closed")]
        if not both and isinstance(other := _opener(opener), Trouble):
            told.append(other)
        return not_looked(tuple(told), reached=at is not None, at=at)
    took = timedelta(seconds=monotonic() - started) if monotonic else timedelta(0)
    callers = [
        Caller(
            center=closer,
            arn=str(reply.body.get("Arn", "")),
            account=str(reply.body.get("Account", "")),
            does=does if both else (Identity.CLOSER,),
        )
    ]
    findings = list(_of_clock(reply.cloud_at, now, took))
    until, fault = certificate_until(closer.aws.endpoint())
    findings += _of_certificate(until, fault, now)
    if not both:
        found = _opener(opener)
        if isinstance(found, Trouble):
            findings.append(found)
        else:
            callers.append(found)
    for part in (_of_place, _of_instance, _of_sets, _of_schedule, _of_scp):
        findings += part(callers[0], settings, target)
    for caller in callers:
        findings += of_rights(caller, settings, target)
    return Health(
        reached=True,
        cloud_at=reply.cloud_at,
        round_trip=took,
        identity=", ".join(dict.fromkeys(caller.arn for caller in callers)),
        findings=tuple(findings),
        certificate_until=until,
    )


def _opener(center: Center) -> Caller | Trouble:
    try:
        reply = center.call("sts", "get_caller_identity")
    except WorldFailed as error:
        return _unreached(error, "opened")
    return Caller(
        center=center,
        arn=str(reply.body.get("Arn", "")),
        account=str(reply.body.get("Account", "")),
        does=(Identity.OPENER,),
    )


def _unreached(error: WorldFailed, deed: str) -> Trouble:
    said = f"{error.message}: nothing can be {deed} there"
    nobody = error.code == "no_identity"
    help = "give its keys in `[identity_center]`, or run where the process has one of its own"
    return Trouble(code=error.code, message=said, help=help if nobody else error.help)


def _of_clock(cloud_at: Instant, now: Instant, took: timedelta) -> Iterator[Trouble]:
    apart = abs(cloud_at - now)
    if apart > SKEW + took:
        yield Trouble(
            code="clocks_apart",
            message=(
                f"the clocks are {show_duration(apart)} apart "
                f"(cloud {wire(cloud_at)}, here {wire(now)})"
            ),
            help="run NTP on this machine",
        )


def _of_certificate(until: Instant | None, fault: str, now: Instant) -> Iterator[Trouble]:
    if fault:
        help = "look at the endpoint and what is between"
        yield Trouble(code="certificate_unread", message=fault, help=help)
    elif until is not None and until - now < CERTIFICATE_WARNING:
        yield Trouble(
            code="certificate_ends",
            message=f"the certificate of the endpoint ends at {wire(until)}",
            help="renew it",
            shuts=until <= now,
        )


def _of_place(caller: Caller, settings: CenterSettings, target: Target) -> Iterator[Trouble]:
    """AWS, delegated administration: not for what is provisioned in the management account."""
    for key, said in faults_of(settings):
        yield Trouble(
            code="bad_settings", message=f"`identity_center.{key}`: {said}", help="correct it"
        )
    if settings.account(target).management and caller.account != target.account:
        yield Trouble(
            code="delegated_administrator",
            message=(
                f"expected Tidegate in the management account `{target.account}` to close there, "
                f"got a delegated administrator in `{caller.account}`"
            ),
            help="use an identity of the management account, or hand nothing out there",
        )


def _of_instance(caller: Caller, settings: CenterSettings, target: Target) -> Iterator[Trouble]:
    center = caller.center
    try:
        listed = center.pages("sso-admin", "list_instances", "Instances")
    except WorldFailed as error:
        yield from _unread(error)
        return
    found = {str(one.get("InstanceArn")): str(one.get("IdentityStoreId")) for one in listed.found}
    if settings.instance not in found:
        got = ", ".join(f"`{arn}`" for arn in sorted(found)) or "none"
        yield Trouble(
            code="other_instance",
            message=f"expected instance `{settings.instance}` in this account, got {got}",
            help="correct `identity_center.instance`, or the region",
        )
    elif found[settings.instance] != settings.identity_store:
        yield Trouble(
            code="other_identity_store",
            message=(
                f"expected identity store `{settings.identity_store}` of the instance, got "
                f"`{found[settings.instance]}`"
            ),
            help="correct `identity_center.identity_store`",
        )


def _of_sets(caller: Caller, settings: CenterSettings, target: Target) -> Iterator[Trouble]:
    for handed in settings.account(target).handed[:MOST_SETS]:
        try:
            reply = caller.center.sso("describe_permission_set", PermissionSetArn=handed.arn)
            text = text_of(reply.part("PermissionSet"), "SessionDuration")
        except WorldFailed as error:
            said = f"permission set of `{handed.role}`: {error.message}"
            yield Trouble(code=error.code, message=said, help=error.help)
            continue
        yield from _of_session(handed, text)


def _of_session(handed: Handed, text: str) -> Iterator[Trouble]:
    seen = read_iso_duration(text)
    if seen is None or seen > LONGEST_SOUND_SESSION:
        yield Trouble(
            code="session_too_long",
            message=f"expected sessions of `{handed.role}` of at most PT1H, got `{text[:20]}`",
            help="shorten the permission set's session duration",
        )
    if seen != handed.session:
        yield Trouble(
            code="other_session",
            message=(
                f"expected sessions of `{handed.role}` of {show_duration(handed.session)} as its "
                f"entry says, got `{text[:20]}`"
            ),
            help="correct `session` of the role, or the permission set",
        )


def _of_schedule(caller: Caller, settings: CenterSettings, target: Target) -> Iterator[Trouble]:
    if settings.schedule is None or not settings.arms(target):
        return
    group, role = settings.schedule.group, settings.schedule.role
    try:
        reply = caller.center.call("scheduler", "get_schedule_group", Name=group)
        if reply.body.get("State") != "ACTIVE":
            yield Trouble(
                code="no_schedule_group",
                message=f"expected schedule group `{group}`, got one that is being deleted",
                help="make it again",
            )
    except CloudNo as no:
        if missing(no):
            said = f"expected schedule group `{group}`, got none"
            yield Trouble(code="no_schedule_group", message=said, help="make it")
        else:
            yield from _unread(no)
    except WorldFailed as error:
        yield from _unread(error)
    try:
        caller.center.call("iam", "get_role", RoleName=role.rpartition("/")[2])
    except CloudNo as no:
        if no.aws_code == "NoSuchEntity":
            said = f"expected the schedule's role `{role}`, got none"
            yield Trouble(code="no_schedule_role", message=said, help="make it")
        else:
            yield from _unread(no)
    except WorldFailed as error:
        yield from _unread(error)


def _unread(error: WorldFailed) -> Iterator[Trouble]:
    """What only this look asks. Not being allowed to is no trouble: a wrong value fails later."""
    if error.code != "access_denied":
        yield trouble(error, shuts=False)


def _of_scp(caller: Caller, settings: CenterSettings, target: Target) -> Iterator[Trouble]:
    if settings.deny is not Deny.SCP or not settings.cuts(target):
        return
    try:
        listed = caller.center.pages(
            "organizations", "list_targets_for_policy", "Targets", PolicyId=settings.scp
        )
    except CloudNo as no:
        yield trouble(no, shuts=no.aws_code == "PolicyNotFoundException")
        return
    except WorldFailed as error:
        yield trouble(error, shuts=False)
        return
    # What a unit holds is not asked: a policy on any unit or the root may reach the account.
    reaches = [
        one for one in listed.found if one.get("Type") != "ACCOUNT" or _is(one, target.account)
    ]
    if not reaches:
        yield Trouble(
            code="scp_not_attached",
            message=f"expected SCP `{settings.scp}` on `{target.account}`, got it elsewhere",
            help="attach it to the account, its unit or the root",
        )


def _is(one: object, account: str) -> bool:
    return isinstance(one, dict) and one.get("TargetId") == account
