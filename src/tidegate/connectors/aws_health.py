"""What a look at an AWS account finds: reach, clock, identities, certificate, and may we close.

Called by `aws.py`. Everything wrong becomes a trouble in words; nothing is raised, because an
account that cannot be reached is what a health check is for. What each identity may do is asked in
`aws_allowed.py`.
"""

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from tidegate.base.errors import TidegateError, WorldFailed
from tidegate.base.when import Instant, from_ms, show_duration, wire
from tidegate.connectors.aws_allowed import MOST_ROLES, Holder, not_allowed
from tidegate.connectors.aws_calls import Aws, AwsSettings, CloudNo, Reply
from tidegate.connectors.aws_policy import RoleArn
from tidegate.connectors.aws_rights import Identity
from tidegate.connectors.port import Health, Trouble

# Date has whole seconds, so two right clocks may read up to a second apart; one more for the way.
SKEW = timedelta(seconds=2)
CERTIFICATE_WARNING = timedelta(days=14)
CERTIFICATE_TIMEOUT = timedelta(seconds=3)
_DEEDS = {Identity.OPENER: "opened", Identity.CLOSER: "closed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The target that is looked at: how it is reached, what is handed out there, its account."""

    settings: AwsSettings
    roles: tuple[RoleArn, ...]
    account: str


def look(
    opener: Aws,
    closer: Aws,
    looked: Looked,
    now: Instant,
    monotonic: Callable[[], float] | None,
    does: tuple[Identity, ...] = (Identity.OPENER, Identity.CLOSER),
) -> Health:
    """One look. `round_trip` is zero without a `monotonic` clock to measure it by.

    `opener` and `closer` are the same object when one identity does both, or when this process has
    one and `does` only its part. The account counts as
    reached when the closer reaches it; `identity` then names whom AWS took us for.
    """
    started = monotonic() if monotonic else 0.0
    try:
        reply = _who(closer)
    except WorldFailed as error:
        at = error.cloud_at if isinstance(error, CloudNo) else None
        both = {Identity.CLOSER: closer, Identity.OPENER: opener}
        lost = _without([one for one in Identity if one in both and both[one] is closer])
        told = [_unreached(error, lost)]
        if opener is not closer and isinstance(other := _reach_opener(opener), Trouble):
            told.append(other)
        return not_looked(tuple(told), reached=at is not None, at=at)
    took = timedelta(seconds=monotonic() - started) if monotonic else timedelta(0)
    until, fault = certificate_until(closer.endpoint())
    findings = [
        *_of_clock(reply.cloud_at, now, took),
        *_of_account(str(reply.body.get("Account", "")), looked.account),
        *_of_certificate(until, fault, now),
    ]
    identity = str(reply.body.get("Arn", ""))
    if opener is closer:
        findings += _of_rights(closer, identity, looked, does)
    else:
        findings += _of_rights(closer, identity, looked, (Identity.CLOSER,))
        other = _reach_opener(opener)
        if isinstance(other, Trouble):
            findings.append(other)
        else:
            findings += _of_rights(opener, other, looked, (Identity.OPENER,))
            if other != identity:
                identity = f"{other} (opens), {identity} (closes)"
    findings += _of_policies(closer, looked)
    return Health(
        reached=True,
        cloud_at=reply.cloud_at,
        round_trip=took,
        identity=identity,
        findings=tuple(findings),
        certificate_until=until,
    )


def not_looked(
    findings: tuple[Trouble, ...], *, reached: bool = False, at: Instant | None = None
) -> Health:
    """A look that ended before it began, and why."""
    return Health(
        reached=reached,
        cloud_at=at,
        round_trip=timedelta(0),
        identity="",
        findings=findings,
    )


def trouble(error: TidegateError, *, shuts: bool = True) -> Trouble:
    """An error as what was found."""
    return Trouble(code=error.code, message=error.message, help=error.help, shuts=shuts)


def _who(aws: Aws) -> Reply:
    """Reach and identity only: no deny stops this call, so it proves nothing about access."""
    return aws.call("sts", lambda sts: sts.get_caller_identity(), "sts:GetCallerIdentity")


def _without(identities: list[Identity]) -> str:
    return f"nothing can be {' or '.join(_DEEDS[one] for one in identities)} there"


def _unreached(error: WorldFailed, so: str) -> Trouble:
    return Trouble(code=error.code, message=f"{error.message}: {so}", help=error.help)


def _reach_opener(opener: Aws) -> str | Trouble:
    """The opener's ARN, or what keeps it from reaching the account at all."""
    try:
        return str(_who(opener).body.get("Arn", ""))
    except WorldFailed as error:
        return _unreached(error, _without([Identity.OPENER]))


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


def _of_account(seen: str, account: str) -> Iterator[Trouble]:
    if seen != account:
        yield Trouble(
            code="other_account",
            message=f"expected Tidegate's identity in account `{account}`, got one of `{seen}`",
            help="use an identity of that account",
        )


def _of_certificate(until: Instant | None, fault: str, now: Instant) -> Iterator[Trouble]:
    if fault:
        yield Trouble(
            code="certificate_unread",
            message=fault,
            help="look at the endpoint and what is between",
        )
    elif until is not None and until - now < CERTIFICATE_WARNING:
        yield Trouble(
            code="certificate_ends",
            message=f"the certificate of the endpoint ends at {wire(until)}",
            help="renew it",
            shuts=until <= now,
        )


def _of_rights(
    aws: Aws, identity: str, looked: Looked, identities: tuple[Identity, ...]
) -> Iterator[Trouble]:
    holder = Holder(aws=aws, arn=_principal_of(identity, looked.settings.own), does=identities)
    yield from not_allowed(holder, looked.roles)


def _of_policies(aws: Aws, looked: Looked) -> Iterator[Trouble]:
    """Customer managed policies on our roles that a holder with IAM rights could rewrite."""
    for role in looked.roles[:MOST_ROLES]:
        name = role.name
        try:
            attached = attached_policies(aws, name)
        except WorldFailed as error:
            yield Trouble(
                code="policies_unread",
                message=f"the policies of role `{name}` cannot be listed: {error.message}",
                help=error.help,
                shuts=False,
            )
            continue
        for arn in attached:
            if ":iam::aws:" not in arn and arn not in looked.settings.protect:
                yield Trouble(
                    code="unprotected_policy",
                    message=f"role `{name}` carries `{arn}`, which is not protected",
                    help="add it to `protect`",
                    shuts=False,
                )


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
