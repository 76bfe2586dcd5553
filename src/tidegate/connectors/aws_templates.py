"""The policies of `aws_ground.py` as documents: JSON, a CloudFormation template, Terraform.

Pure text, the same for the same grounds. Each document holds every account; a resource of the
CloudFormation template and of the Terraform configuration is made only when it is applied in its
own account, so one document serves them all (a StackSet, or one run an account).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from tidegate.connectors.aws_ground import (
    Ground,
    PolicyJson,
    needed,
    policy,
    resources,
    trust_of_roles,
)
from tidegate.connectors.aws_rights import Identity, Option, Right

FORMAT = "tidegate-aws-rights/1"
# The longest SQS keeps a message (SQS API, SetQueueAttributes): what AWS could not end stays known.
DEAD_LETTER_SECONDS = 1_209_600
_SERVE = "no identity: it calls nothing on AWS"
_ABOUT = "The roles and policies Tidegate needs on AWS, made by `tidegate onboard aws`"
_NAMED = (Identity.OPENER, Identity.CLOSER)

Plain = dict[str, object]


def as_plain(grounds: Sequence[Ground]) -> Plain:
    """Policies by identity and account, the trust of handed roles, and every right by itself."""
    identities: Plain = {"serve": {"says": _SERVE, "policies": []}}
    for identity in Identity:
        policies = [
            {"account": ground.account, "name": _name(ground, identity), "policy": found}
            for ground in grounds
            if (found := policy(ground, identity)) is not None
        ]
        identities[identity.value] = {"policies": policies}
    return {
        "format": FORMAT,
        "identities": identities,
        "trust": _trusts(grounds),
        "rights": [
            _right(ground, right)
            for ground in grounds
            for identity in Identity
            for right in needed(ground, identity)
        ],
    }


def as_json(grounds: Sequence[Ground]) -> str:
    """`as_plain` as text."""
    return _pretty(as_plain(grounds))


def as_cloudformation(grounds: Sequence[Ground]) -> str:
    """A CloudFormation template in JSON; it makes named roles (`CAPABILITY_NAMED_IAM`)."""
    conditions: Plain = {
        "HasExternalId": {"Fn::Not": [{"Fn::Equals": [{"Ref": "ExternalId"}, ""]}]}
    }
    made: Plain = {}
    for ground in grounds:
        here = f"In{ground.account}"
        conditions[here] = {"Fn::Equals": [{"Ref": "AWS::AccountId"}, ground.account]}
        for name, kind, properties in _cloudformation_parts(ground):
            made[f"{name}{here}"] = {"Type": kind, "Condition": here, "Properties": properties}
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": _ABOUT,
        "Metadata": {"Tidegate": {"Serve": _SERVE, "TrustOfHandedRoles": _trusts(grounds)}},
        "Parameters": {
            "OpenerPrincipal": _parameter("opens: the ARN of the IAM principal it runs as"),
            "CloserPrincipal": _parameter("closes: the ARN of the IAM principal it runs as"),
            "ExternalId": {
                "Type": "String",
                "Default": "",
                "Description": "Asked of both when they come from another account; empty for none",
            },
        },
        "Conditions": conditions,
        "Resources": made,
    }
    return _pretty(template)


def as_terraform(grounds: Sequence[Ground]) -> str:
    """A Terraform configuration for the `hashicorp/aws` provider, as `terraform fmt` writes it."""
    parts = [_TERRAFORM_HEAD]
    for ground in grounds:
        parts += [text.strip() + "\n" for text in _terraform_parts(ground)]
    trusts = _trusts(grounds)
    if trusts:
        parts.append(
            'output "trust_of_handed_roles" {\n'
            '  description = "The trust policy of each role that is handed out"\n'
            f"  value       = {_heredoc(trusts)}\n}}\n"
        )
    return "\n".join(parts)


FORMS: Mapping[str, Callable[[Sequence[Ground]], str]] = {
    "cloudformation": as_cloudformation,
    "terraform": as_terraform,
    "json": as_json,
}


def _name(ground: Ground, identity: Identity) -> str:
    return ground.holder(identity).rpartition("/")[2]


def _right(ground: Ground, right: Right) -> Plain:
    return {
        "identity": right.identity.value,
        "account": ground.account,
        "place": right.place.value,
        "kind": right.kind,
        "action": right.action,
        "resources": list(resources(right, ground)),
        "condition": _condition(right),
        "why": right.why,
        "closing": right.closing,
    }


def _condition(right: Right) -> Plain:
    if right.condition is None:
        return {}
    operator, key, value = right.condition
    return {operator: {key: value}}


def _trusts(grounds: Sequence[Ground]) -> list[Plain]:
    return [
        {"role": role, "policy": trust_of_roles(ground)}
        for ground in grounds
        for role in ground.roles
    ]


def _pretty(plain: object) -> str:
    return json.dumps(plain, indent=2) + "\n"


def _parameter(what: str) -> Plain:
    return {
        "Type": "String",
        "AllowedPattern": "arn:aws(-cn|-us-gov)?:(iam|sts)::[0-9]{12}:.+",
        "Description": f"The Tidegate that {what}",
    }


def _schedule_trust(ground: Ground) -> PolicyJson:
    """Only EventBridge Scheduler, and only for our group's schedules in this account."""
    group = (
        f"arn:{ground.partition}:scheduler:{ground.region}:{ground.account}"
        f":schedule-group/{ground.group}"
    )
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "scheduler.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": ground.account, "aws:SourceArn": group}
                },
            }
        ],
    }


def _cloudformation_parts(ground: Ground) -> Iterable[tuple[str, str, Plain]]:
    for identity in Identity:
        document = policy(ground, identity)
        if document is None:
            continue
        name = _name(ground, identity)
        trust = (
            _schedule_trust(ground)
            if identity is Identity.SCHEDULE
            else _cloudformation_trust(f"{identity.value.title()}Principal")
        )
        yield (
            identity.value.title(),
            "AWS::IAM::Role",
            {
                "RoleName": name,
                "AssumeRolePolicyDocument": trust,
                "Policies": [{"PolicyName": name, "PolicyDocument": document}],
            },
        )
    if Option.SCHEDULE in ground.options and ground.sets:
        yield "ScheduleGroup", "AWS::Scheduler::ScheduleGroup", {"Name": ground.group}
        letters: Plain = {
            "QueueName": ground.dead_letters,
            "MessageRetentionPeriod": DEAD_LETTER_SECONDS,
            "SqsManagedSseEnabled": True,
        }
        yield "DeadLetters", "AWS::SQS::Queue", letters


def _cloudformation_trust(parameter: str) -> PolicyJson:
    asked = {"StringEquals": {"sts:ExternalId": {"Ref": "ExternalId"}}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": {"Ref": parameter}},
                "Action": "sts:AssumeRole",
                "Condition": {"Fn::If": ["HasExternalId", asked, {"Ref": "AWS::NoValue"}]},
            }
        ],
    }


_TERRAFORM_HEAD = f"""# {_ABOUT}.
# Apply it once in each account: what belongs to another account is not made there.
# serve: {_SERVE}.

variable "opener_principal" {{
  description = "The Tidegate that opens: the ARN of the IAM principal it runs as"
  type        = string
}}

variable "closer_principal" {{
  description = "The Tidegate that closes: the ARN of the IAM principal it runs as"
  type        = string
}}

variable "external_id" {{
  description = "Asked of both when they come from another account; empty for none"
  type        = string
  default     = ""
}}

data "aws_caller_identity" "here" {{}}

locals {{
  told  = {{ StringEquals = {{ "sts:ExternalId" = var.external_id }} }}
  asked = var.external_id == "" ? {{}} : local.told
}}
"""


def _terraform_parts(ground: Ground) -> Iterable[str]:
    only = f'data.aws_caller_identity.here.account_id == "{ground.account}" ? 1 : 0'
    for identity in Identity:
        document = policy(ground, identity)
        if document is None:
            continue
        label, name = f"{identity.value}_{ground.account}", _name(ground, identity)
        if identity is Identity.SCHEDULE:
            wide, trust = " " * 13, _heredoc(_schedule_trust(ground))
        else:
            # `terraform fmt` aligns no further than the line before an expression of many lines.
            wide, trust = "", _terraform_trust(identity)
        yield f"""
resource "aws_iam_role" "{label}" {{
  count{wide} = {only}
  name{wide}  = "{name}"
  assume_role_policy = {trust}
}}

resource "aws_iam_role_policy" "{label}" {{
  count  = {only}
  name   = "{name}"
  role   = aws_iam_role.{label}[0].id
  policy = {_heredoc(document)}
}}
"""
    if Option.SCHEDULE in ground.options and ground.sets:
        yield f"""
resource "aws_scheduler_schedule_group" "tidegate_{ground.account}" {{
  count = {only}
  name  = "{ground.group}"
}}

resource "aws_sqs_queue" "dead_letters_{ground.account}" {{
  count                     = {only}
  name                      = "{ground.dead_letters}"
  message_retention_seconds = {DEAD_LETTER_SECONDS}
  sqs_managed_sse_enabled   = true
}}
"""


def _terraform_trust(identity: Identity) -> str:
    return f"""jsonencode({{
    Version = "2012-10-17"
    Statement = [{{
      Effect    = "Allow"
      Principal = {{ AWS = var.{identity.value}_principal }}
      Action    = "sts:AssumeRole"
      Condition = local.asked
    }}]
  }})"""


def _heredoc(plain: object) -> str:
    """JSON as a Terraform string; its own `${` and `%{` are kept from being taken for templates."""
    text = json.dumps(plain, indent=2).replace("${", "$${").replace("%{", "%%{")
    return f"<<POLICY\n{text}\nPOLICY"
