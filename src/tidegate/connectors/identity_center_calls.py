"""How Identity Center is called: as opener or closer, one attempt a call, pages put together.

The failures are those of `aws_calls.py`, with three meanings added: another change of the same
thing is under way (`busy`), too many are (`throttled`), and a delegated administrator may not act
on the management account (`delegated_administrator`).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tidegate.base.errors import Refused, Unknown
from tidegate.base.when import Instant
from tidegate.connectors.aws_calls import Aws, CloudNo, Reply
from tidegate.connectors.identity_center_settings import CenterSettings

# AWS: one change of a permission set in an account at a time, and of an assignment.
BUSY = frozenset(
    {
        "ConflictException",
        "ConcurrentModificationException",
        "PolicyChangesInProgressException",
    }
)
MOST_PAGES = 50  # of 100 entries: more people than one permission set is ever handed to
PAGE = 100

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How an asynchronous change is followed: soon, then every so often, at most so many times.

    `wait` takes seconds. Following is all that a verb waits for; trying again is the worker's.
    `apart` lies between two calls of a look that makes many of them and has time.
    """

    first: timedelta = timedelta(milliseconds=250)
    every: timedelta = timedelta(seconds=1)
    most: int = 12
    apart: timedelta = timedelta(milliseconds=250)
    wait: Callable[[float], None] = time.sleep

    @property
    def bound(self) -> timedelta:
        """The longest that one change is followed, without the calls themselves."""
        return self.every * self.most

    def pause(self, look: int) -> None:
        """Wait before look number `look`, from 0."""
        self.wait(min(self.first * 2 ** min(look, 16), self.every).total_seconds())


class Center:
    """The calls of one instance, as one of Tidegate's two identities. Thread-safe."""

    def __init__(self, settings: CenterSettings, aws: Aws) -> None:
        self.instance = settings.instance
        self.store = settings.identity_store
        self.aws = aws

    def sso(self, operation: str, /, **values: object) -> Reply:
        """One call of `sso-admin` on this instance, named as in boto3.

        Raises:
            Refused, Unreachable, Unknown: see the module.
        """
        return self.call("sso-admin", operation, InstanceArn=self.instance, **values)

    def call(self, service: str, operation: str, /, **values: object) -> Reply:
        """One call of any service."""
        what = action_of(service, operation)
        try:
            return self.aws.call(service, lambda client: _act(client, operation, values), what)
        except CloudNo as no:
            raise _meant(no, what) from no

    def pages(self, service: str, operation: str, member: str, /, **values: object) -> "Listed":
        """Every page of a listing.

        Raises:
            Refused: `too_many` beyond MOST_PAGES: half a list is never taken for the whole.
        """
        found: list[Any] = []
        more: dict[str, object] = {}
        for _ in range(MOST_PAGES):
            reply = self.call(service, operation, **values, **more)
            found += reply.body.get(member, ())
            token = reply.body.get("NextToken")
            if not token:
                return Listed(found=tuple(found), cloud_at=reply.cloud_at)
            more = {"NextToken": token}
        raise Refused(
            "too_many",
            f"expected at most {MOST_PAGES} pages of `{operation}`, got more",
            "hand the permission set out to fewer people, or split it",
        )

    def sso_pages(self, operation: str, member: str, /, **values: object) -> "Listed":
        """`pages` of `sso-admin` on this instance."""
        values = {"InstanceArn": self.instance, "MaxResults": PAGE, **values}
        return self.pages("sso-admin", operation, member, **values)

    def user_is_there(self, user: str) -> bool:
        """Whether the identity store has this user. Ids are never given twice."""
        try:
            self.call("identitystore", "describe_user", IdentityStoreId=self.store, UserId=user)
        except CloudNo as no:
            if no.aws_code == "ResourceNotFoundException":
                return False
            raise
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A whole listing and the cloud's Date on its last page."""

    found: tuple[Any, ...]
    cloud_at: Instant


def action_of(service: str, operation: str) -> str:
    """A boto3 method as the IAM action that a policy must allow for it."""
    words = "".join(word.title() for word in operation.split("_"))
    return f"{'sso' if service == 'sso-admin' else service}:{words}"


def missing(no: CloudNo) -> bool:
    """Whether AWS said that what was named is not there."""
    return no.aws_code == "ResourceNotFoundException"


def text_of(body: Body, name: str) -> str:
    """The text member `name`. Raises Unknown when AWS left it out."""
    found = body.get(name)
    if isinstance(found, str) and found:
        return found
    raise Unknown(
        "bad_answer",
        f"expected `{name}` in the answer, got none",
        "look whether a proxy in between answers for AWS",
    )


def _act(client: Any, operation: str, values: Mapping[str, object]) -> Body:
    # NB. boto3 makes its methods from the service model; the names in this package are literals.
    found: Body = getattr(client, operation)(**values)
    return found


def _meant(no: CloudNo, what: str) -> CloudNo:
    """The same refusal with what its code means here."""
    if no.aws_code in BUSY:
        code, help = "busy", "another change of it is under way; it is tried again shortly"
    elif no.aws_code == "ServiceQuotaExceededException" and "Assignment" in what:
        code, help = "throttled", "too many changes are under way; it is tried again shortly"
    elif no.code == "access_denied":
        code = "access_denied"
        help = (
            "compare the permissions with docs/connectors/identity-center.md; a delegated "
            "administrator may not act on the management account"
        )
    elif missing(no):
        code, help = "not_there", "look whether the instance, permission set and person exist"
    else:
        return no
    return CloudNo(code, no.message, help, aws_code=no.aws_code, http=no.http, at=no.cloud_at)
