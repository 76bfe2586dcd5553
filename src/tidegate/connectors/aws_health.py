"""What a look at an AWS account finds: reach, clock, identity, certificate, and may we close.

Called by `aws.py`. Everything wrong becomes a finding in words; nothing is raised, because an
account that cannot be reached is what a health check is for.
"""

import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from tidegate.base.errors import WorldFailed
from tidegate.base.when import Instant, from_ms, show_duration, wire
from tidegate.connectors.aws_calls import Aws, AwsSettings, CloudNo
from tidegate.connectors.aws_policy import RoleArn
from tidegate.connectors.port import Health

# Date has whole seconds, so two right clocks may read up to a second apart; one more for the way.
SKEW = timedelta(seconds=2)
CERTIFICATE_WARNING = timedelta(days=14)
CERTIFICATE_TIMEOUT = timedelta(seconds=3)
MOST_ROLES = 50  # roles looked at in one health check: two pages of a large catalogue
CLOSING_CALLS = (
    "iam:GetRole",
    "iam:GetRolePolicy",
    "iam:PutRolePolicy",
    "iam:DeleteRolePolicy",
)


def look(
    aws: Aws,
    settings: AwsSettings,
    roles: tuple[RoleArn, ...],
    account: str,
    now: Instant,
    monotonic: Callable[[], float] | None,
) -> Health:
    """One look. `round_trip` is zero without a `monotonic` clock to measure it by."""
    started = monotonic() if monotonic else 0.0
    try:
        # Reach and identity only: no deny stops this call, so it proves nothing about access.
        reply = aws.call("sts", lambda sts: sts.get_caller_identity(), "sts:GetCallerIdentity")
    except WorldFailed as error:
        at = error.cloud_at if isinstance(error, CloudNo) else None
        return not_looked((f"{error.message}: {error.help}",), reached=at is not None, at=at)
    took = timedelta(seconds=monotonic() - started) if monotonic else timedelta(0)
    identity = str(reply.body.get("Arn", ""))
    until, trouble = certificate_until(aws.endpoint())
    findings = [
        *_of_clock(reply.cloud_at, now, took),
        *_of_account(str(reply.body.get("Account", "")), account),
        *_of_certificate(until, trouble, now),
        *_of_closing(aws, _principal_of(identity, settings.own), roles),
        *_of_policies(aws, settings, roles),
    ]
    return Health(
        reached=True,
        cloud_at=reply.cloud_at,
        round_trip=took,
        identity=identity,
        findings=tuple(findings),
        certificate_until=until,
    )


def not_looked(
    findings: tuple[str, ...], *, reached: bool = False, at: Instant | None = None
) -> Health:
    """A look that ended before it began, and why."""
    return Health(
        reached=reached,
        cloud_at=at,
        round_trip=timedelta(0),
        identity="",
        findings=findings,
    )


def certificate_until(url: str) -> tuple[Instant | None, str]:
    """When the certificate at an https `url` ends, or what was wrong with it; nothing for http."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return None, ""
    address = (parts.hostname, parts.port or 443)
    timeout = CERTIFICATE_TIMEOUT.total_seconds()
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection(address, timeout=timeout) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            ends = str((secure.getpeercert() or {}).get("notAfter", ""))
        return from_ms(ssl.cert_time_to_seconds(ends) * 1_000), ""
    except (OSError, ValueError) as error:
        return None, f"the certificate of `{parts.hostname}` cannot be read: {type(error).__name__}"


def _of_clock(cloud_at: Instant, now: Instant, took: timedelta) -> Iterator[str]:
    apart = abs(cloud_at - now)
    if apart > SKEW + took:
        yield (
            f"the clocks are {show_duration(apart)} apart (cloud {wire(cloud_at)}, "
            f"here {wire(now)}): run NTP on this machine"
        )


def _of_account(seen: str, account: str) -> Iterator[str]:
    if seen != account:
        yield (
            f"expected Tidegate's identity in account `{account}` of this target, got `{seen}`: "
            "use an identity of that account"
        )


def _of_certificate(until: Instant | None, trouble: str, now: Instant) -> Iterator[str]:
    if trouble:
        yield trouble
    elif until is not None and until - now < CERTIFICATE_WARNING:
        yield f"the certificate of the endpoint ends at {wire(until)}: renew it"


def _of_closing(aws: Aws, source: str, roles: tuple[RoleArn, ...]) -> Iterator[str]:
    """Whether AWS would let `source` close what it opens. The account's root may do all."""
    if not roles or source.endswith(":root"):
        return
    wanted = [role.text for role in roles[:MOST_ROLES]]
    try:
        reply = aws.call(
            "iam",
            lambda iam: iam.simulate_principal_policy(
                PolicySourceArn=source, ActionNames=list(CLOSING_CALLS), ResourceArns=wanted
            ),
            "iam:SimulatePrincipalPolicy",
        )
    except WorldFailed as error:
        yield f"it cannot be told whether Tidegate may close here: {error.message}"
        return
    for result in reply.body.get("EvaluationResults", ()):
        if result.get("EvalDecision") != "allowed":
            yield (
                f"Tidegate may not call `{result.get('EvalActionName')}` on "
                f"`{result.get('EvalResourceName')}`: allow it as in docs/connectors/aws.md"
            )


def _of_policies(aws: Aws, settings: AwsSettings, roles: tuple[RoleArn, ...]) -> Iterator[str]:
    """Customer managed policies on our roles that a holder with IAM rights could rewrite."""
    for role in roles[:MOST_ROLES]:
        name = role.name
        try:
            attached = attached_policies(aws, name)
        except WorldFailed as error:
            yield f"the policies of role `{name}` cannot be listed: {error.message}"
            continue
        for arn in attached:
            if ":iam::aws:" not in arn and arn not in settings.protect:
                yield f"role `{name}` carries `{arn}`, which is not protected: add it to `protect`"


def attached_policies(aws: Aws, name: str) -> list[str]:
    """ARNs of the managed policies on role `name` (AWS allows 20 at most: one page)."""
    reply = aws.call(
        "iam",
        lambda iam: iam.list_attached_role_policies(RoleName=name),
        "iam:ListAttachedRolePolicies",
    )
    return [str(policy.get("PolicyArn", "")) for policy in reply.body.get("AttachedPolicies", ())]


def _principal_of(identity: str, own: tuple[str, ...]) -> str:
    """The IAM ARN behind a caller ARN: a role session is looked at as its role.

    A session's ARN lacks the role's path, so the role is taken from `own` when it is listed there.
    """
    parts = identity.split(":")
    if len(parts) != 6 or parts[2] != "sts" or not parts[5].startswith("assumed-role/"):
        return identity
    name = parts[5].split("/")[1]
    listed = [arn for arn in own if arn.rpartition("/")[2] == name]
    return listed[0] if listed else f"{parts[0]}:{parts[1]}:iam::{parts[4]}:role/{name}"
