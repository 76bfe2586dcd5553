"""The three policy documents Tidegate writes on AWS, as pure text.

- The *session policy* travels inside every credential. It allows all (the role bounds it), denies
  all from the exact end, denies calls that mint what outlives the session, and denies changes to
  what binds the session.
- The *control policy* bounds the credential a probe compares with.
- The *cut* is one inline policy on a role that names the grants which ended early.

Nothing here is sent; `aws.py` sends it. Rules of the language: AWS, IAM User Guide, "IAM JSON
policy elements" and "Policy evaluation logic" (an explicit deny beats every allow).
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import Instant, from_ms, parse_instant, to_ms, wire
from tidegate.connectors.aws_minting import denied_calls

GRANT_TAG = "tidegate-grant"
REQUEST_TAG = "tidegate-request"
CUT_POLICY = "TidegateCut"
LONGEST_SESSION_POLICY = 2_048  # characters: AWS STS API, AssumeRole, Policy
# Characters. All inline policies of a role share 10,240 (IAM quotas); the rest stays free for the
# role's own. About 250 grant ids.
LONGEST_CUT = 8_192

_ARN = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):iam::(\d{12}):role/((?:[\w+=,.@-]+/)*)([\w+=,.@-]{1,64})",
    re.ASCII,
)
_POLICY_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):iam::(\d{12}):policy/[!-~]{1,640}", re.ASCII)

PolicyJson = dict[str, object]

_TAG_KEY = f"aws:PrincipalTag/{GRANT_TAG}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleArn:
    """A role's ARN, taken apart. `path` starts and ends with `/`."""

    text: str
    partition: str
    account: str
    path: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CutList:
    """What our inline policy on a role refuses.

    `grants` are refused by name. `before` (whole seconds) is set once the list was full: every
    Tidegate session of the role that AWS issued before it is refused, whatever its grant.
    """

    grants: frozenset[str] = field(default_factory=frozenset)
    before: Instant | None = None


def parse_role_arn(text: str) -> RoleArn:
    """Read a role ARN with its path. Raises AskedWrongly `bad_role_arn`."""
    match = _ARN.fullmatch(text)
    if match is None:
        raise AskedWrongly(
            "bad_role_arn",
            "expected a role ARN like `arn:aws:iam::123456789012:role/NAME`, "
            f"got `{text[:100] or 'nothing'}`",
            "copy it from the role's page in the IAM console, with its path",
        )
    partition, account, path, name = match.groups()
    return RoleArn(text=text, partition=partition, account=account, path=f"/{path}", name=name)


def is_policy_arn(text: str) -> bool:
    """Whether `text` is the ARN of a customer managed policy (AWS's own cannot be changed)."""
    return _POLICY_ARN.fullmatch(text) is not None


def whole_second(at: Instant) -> Instant:
    """`at` rounded down. IAM compares dates to the second, and access is never rounded up."""
    return from_ms(to_ms(at) // 1_000 * 1_000)


def session_policy(*, ends_at: Instant, allows: Iterable[str], protected: Iterable[str]) -> str:
    """The policy inside a credential, in its shortest JSON.

    The end is rounded down to a whole second: IAM reads fractions but compares seconds, so a
    fraction would let the last part of a second through.

    Args:
        ends_at: the instant from which everything is denied.
        allows: calls of MINTING that stay open.
        protected: ARNs of roles and customer managed policies that may be read, not changed,
            passed on or assumed.

    Raises:
        AskedWrongly: `unknown_allow`, or `session_policy_too_long`.
    """
    statements: list[PolicyJson] = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        _deny_from(ends_at),
        {"Effect": "Deny", "Action": denied_calls(allows), "Resource": "*"},
    ]
    resources = _shorten(protected)
    if resources:
        # NotAction: whatever AWS adds to IAM later is closed too, PassRole and AssumeRole included.
        reading = ["iam:Get*", "iam:List*"]
        statements.append({"Effect": "Deny", "NotAction": reading, "Resource": resources})
    text = _document(statements)
    if len(text) > LONGEST_SESSION_POLICY:
        raise AskedWrongly(
            "session_policy_too_long",
            f"a session policy may have at most {LONGEST_SESSION_POLICY} characters, "
            f"got {len(text)} with {len(resources)} protected ARNs",
            "put the roles Tidegate hands out under one IAM path: a path counts once",
        )
    return text


def control_policy(*, call: str, until: Instant) -> str:
    """The policy of a probe's control credential: `call` alone, and nothing from `until` on."""
    return _document([{"Effect": "Allow", "Action": call, "Resource": "*"}, _deny_from(until)])


def cut_document(cuts: CutList) -> str:
    """The inline policy for `cuts`, in its shortest JSON, ids sorted. `cuts` must not be empty."""
    statements: list[PolicyJson] = []
    if cuts.grants:
        statements.append(_deny_named(sorted(cuts.grants)))
    if cuts.before is not None:
        statements.append(_deny_issued(_second(cuts.before)))
    if not statements:
        raise RuntimeError("an empty cut has no document: delete the policy instead")
    return _document(statements)


def read_cut(document: object) -> CutList:
    """What a policy document that was read back refuses.

    Only statements of exactly the shape `cut_document` writes count: one that somebody narrowed or
    turned into an allow refuses nothing we may rely on, so it reads as absent and is put back.
    """
    grants: set[str] = set()
    before: list[Instant] = []
    for statement in _statements(document):
        bare = {key: value for key, value in statement.items() if key != "Sid"}
        named = _dig(bare, "Condition", "StringEquals", _TAG_KEY)
        issued = _dig(bare, "Condition", "DateLessThan", "aws:TokenIssueTime")
        if bare == _deny_named(named):
            grants |= {named} if isinstance(named, str) else set(map(str, _listed(named)))
        elif isinstance(issued, str) and bare == _deny_issued(issued):
            before += _instants(issued)
    return CutList(grants=frozenset(grants), before=max(before, default=None))


def covers(cuts: CutList, grant: str, made_at: Instant | None) -> str:
    """By what `cuts` refuses `grant`: `list`, `issue_time`, or empty for not at all.

    `made_at` is when the grant's id was made: a grant younger than the issue-time deny is never
    covered by it. An older one is, for every session it had then.
    """
    if grant in cuts.grants:
        return "list"
    if cuts.before is not None and made_at is not None and made_at < cuts.before:
        return "issue_time"
    return ""


def _shorten(arns: Iterable[str]) -> list[str]:
    """`arns` sorted, with roles that share a path other than `/` as one pattern of that path."""
    kept: set[str] = set()
    by_path: dict[str, set[str]] = {}
    for arn in arns:
        match = _ARN.fullmatch(arn)
        if match and match[3]:
            by_path.setdefault(arn.rpartition("/")[0], set()).add(arn)
        else:
            kept.add(arn)
    for path, members in by_path.items():
        kept |= members if len(members) == 1 else {f"{path}/*"}
    return sorted(kept)


def _deny(condition: PolicyJson) -> PolicyJson:
    return {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}


def _deny_from(at: Instant) -> PolicyJson:
    return _deny({"DateGreaterThanEquals": {"aws:CurrentTime": _second(at)}})


def _deny_named(grants: object) -> PolicyJson:
    return _deny({"StringEquals": {_TAG_KEY: grants}})


def _deny_issued(before: str) -> PolicyJson:
    # The tag keeps sessions that are not ours out of it.
    return _deny({"DateLessThan": {"aws:TokenIssueTime": before}, "StringLike": {_TAG_KEY: "*"}})


def _dig(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _statements(document: object) -> list[dict[str, object]]:
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            return []
    found = _dig(document, "Statement")
    return [part for part in (_listed(found) or [found]) if isinstance(part, dict)]


def _instants(text: str) -> list[Instant]:
    try:
        return [parse_instant(text)]
    except AskedWrongly:
        return []


def _second(at: Instant) -> str:
    return wire(whole_second(at))[:19] + "Z"


def _document(statements: list[PolicyJson]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))
