"""Harmless calls by which an end is tried.

Each is a list call that reads little, that AWS refuses when a policy denies it (`GetCallerIdentity`
is not among them: no deny stops it), and that a role must be allowed to make for a probe to mean
anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import Instant
from tidegate.connectors.aws_calls import Aws, CloudNo
from tidegate.connectors.port import Answer, Credential


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeCall:
    """One call: the service's client and what is asked of it."""

    service: str
    act: Callable[[Any], Mapping[str, Any]]


PROBES: Mapping[str, ProbeCall] = {
    "cloudtrail:DescribeTrails": ProbeCall(
        service="cloudtrail", act=lambda client: client.describe_trails()
    ),
    "dynamodb:ListTables": ProbeCall(
        service="dynamodb", act=lambda client: client.list_tables(Limit=1)
    ),
    "ec2:DescribeRegions": ProbeCall(service="ec2", act=lambda client: client.describe_regions()),
    "iam:ListAccountAliases": ProbeCall(
        service="iam", act=lambda client: client.list_account_aliases(MaxItems=1)
    ),
    "iam:ListUsers": ProbeCall(service="iam", act=lambda client: client.list_users(MaxItems=1)),
    "lambda:ListFunctions": ProbeCall(
        service="lambda", act=lambda client: client.list_functions(MaxItems=1)
    ),
    "logs:DescribeLogGroups": ProbeCall(
        service="logs", act=lambda client: client.describe_log_groups(limit=1)
    ),
    "s3:ListAllMyBuckets": ProbeCall(service="s3", act=lambda client: client.list_buckets()),
    "sns:ListTopics": ProbeCall(service="sns", act=lambda client: client.list_topics()),
    "sqs:ListQueues": ProbeCall(service="sqs", act=lambda client: client.list_queues(MaxResults=1)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What one call got: the answer, AWS's code for it (empty when allowed), the cloud's Date."""

    answer: Answer
    code: str
    cloud_at: Instant | None


def known(call: str) -> ProbeCall:
    """The probe named `call`. Raises AskedWrongly `unknown_probe`."""
    if call not in PROBES:
        raise AskedWrongly(
            "unknown_probe",
            f"expected a probe of {', '.join(f'`{name}`' for name in PROBES)}, got `{call[:80]}`",
            "choose one the role is allowed to make",
        )
    return PROBES[call]


def attempt(aws: Aws, credential: Credential, call: str) -> Tried:
    """Make `call` signed with `credential`.

    Only a refusal by policy or expiry is DENIED; every other refusal (unknown keys, a disabled
    region, throttling) is UNTOLD, because it says nothing about the cut.

    Raises:
        Unreachable, Unknown: no answer came.
    """
    probe = known(call)
    try:
        reply = aws.call_as(credential, probe.service, probe.act, call)
    except CloudNo as no:
        answer = Answer.DENIED if no.denied else Answer.UNTOLD
        return Tried(answer=answer, code=no.aws_code, cloud_at=no.cloud_at)
    return Tried(answer=Answer.ALLOWED, code="", cloud_at=reply.cloud_at)
