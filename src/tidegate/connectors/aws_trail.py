"""What CloudTrail's event history tells of a window: changes that leave no date, chained sessions.

The history is kept apart in each region, 90 days of it. What IAM did is recorded in one region of
the partition, wherever it was asked from; so is STS at its global address. STS at the address of a
region is recorded in that region (AWS CloudTrail User Guide, "Global service events" and "AWS
Security Token Service and CloudTrail").

CloudTrail delivers usually within 15 minutes (AWS CloudTrail User Guide, "How CloudTrail works"),
so the trail is not believed to be complete before that.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tidegate.base.errors import Refused, WorldFailed
from tidegate.base.when import Instant
from tidegate.connectors import aws_remedies
from tidegate.connectors.aws_calls import Aws
from tidegate.connectors.aws_policy import CUT_POLICY
from tidegate.connectors.port import SideDoor

TRAIL_LATE = timedelta(minutes=15)
MOST_PAGES = 200  # of the trail, 50 events each; of account details, 100 roles each
MARGIN = timedelta(seconds=2)  # IAM dates have whole seconds, and its clock is its own
# CloudTrail API, LookupEvents: two requests a second, an account and region.
LOOKUPS_APART = timedelta(milliseconds=500)

# Changes that leave no date on any object, by the call that makes them.
CHANGES: Mapping[str, str] = {
    "UpdateAssumeRolePolicy": "trust_edit",
    "AttachUserPolicy": "policy_attachment",
    "AttachRolePolicy": "policy_attachment",
    "AttachGroupPolicy": "policy_attachment",
    "PutUserPolicy": "inline_policy",
    "PutRolePolicy": "inline_policy",
    "PutGroupPolicy": "inline_policy",
    "AddUserToGroup": "group_membership",
    "SetDefaultPolicyVersion": "policy",
    "UpdateLoginProfile": "login_profile",
    "UpdateAccessKey": "key_reactivation",
}
CHAINED = "chained_session"
_NAMED = (
    "userName",
    "roleName",
    "groupName",
    "policyName",
    "policyArn",
    "roleArn",
    "accessKeyId",
)

# The region of each partition in which its global services are recorded, by how its regions begin.
_LEADERS = (("us-gov-", "us-gov-west-1"), ("cn-", "cn-north-1"), ("", "us-east-1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBy:
    """Sessions that are known by their names: how their role's begins, and their own.

    A user name is the same in either case.
    """

    role: str
    session: str

    def has(self, arn: str) -> bool:
        """Whether a session's ARN (`arn:…:assumed-role/ROLE/SESSION`) is of these."""
        kind, _, named = arn.rpartition(":")[2].partition("/")
        role, _, session = named.partition("/")
        begins = kind == "assumed-role" and role.startswith(self.role)
        # What follows is a suffix without `_`: the role of `Admin_2` is none of `Admin`.
        suffix = role.removeprefix(self.role)
        return begins and "_" not in suffix and session.casefold() == self.session.casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When, by which sessions, and of which account.

    `keys` are those of the sessions that Tidegate gave; `held_by` says whose they are where it gave
    none. `chains`: those sessions may take sessions of other roles. Where the policy inside them
    forbids it, none can be missed.
    """

    since: Instant
    until: Instant
    keys: tuple[str, ...]
    now: Instant
    chains: bool = True
    held_by: HeldBy | None = None

    def holds(self, at: object) -> bool:
        """Whether a date of AWS falls into it."""
        return isinstance(at, datetime) and self.since - MARGIN <= at <= self.until + MARGIN

    def begins_after(self, at: object) -> bool:
        """Whether a date of AWS is from before it."""
        return isinstance(at, datetime) and at < self.since - MARGIN


@dataclass(slots=True)
class Told:
    """What a search has come to so far."""

    found: list[SideDoor] = field(default_factory=list)
    searched: list[str] = field(default_factory=list)
    why_not: list[str] = field(default_factory=list)
    again: bool = False

    def failed(self, what: str, no: WorldFailed) -> None:
        """`what` could not be looked through. Without a plain no it is worth asking again."""
        self.why_not.append(f"{what}: {no.code}: {no.message}"[:400])
        self.again = self.again or no.code == "throttled" or not isinstance(no, Refused)


def leader_of(region: str) -> str:
    """The region in which the partition of `region` records what its global services do."""
    return next(leader for begins, leader in _LEADERS if region.startswith(begins))


class Trail:
    """The event history of one window, asked no faster than AWS answers.

    Args:
        wait: takes seconds. monotonic: a monotonic clock in seconds.
    """

    def __init__(
        self,
        aws: Aws,
        window: Window,
        wait: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._aws, self._window = aws, window
        self._wait, self._monotonic = wait, monotonic
        self._asked: dict[str, float] = {}
        # An emulator is all regions at one address, and is asked as the settings say.
        self._leader = aws.region if aws.elsewhere else leader_of(aws.region)

    def look(self, told: Told) -> Instant | None:
        """Add what it names; when it is worth reading again, None when it is complete or shut.

        A region that does not answer hides nothing of what was found elsewhere.
        """
        read = [self._changes(told), self._chained(told)]
        complete_at = self._window.until + TRAIL_LATE
        return complete_at if any(read) and self._window.now < complete_at else None

    def _changes(self, told: Told) -> bool:
        """What IAM changed; whether it could be read."""
        try:
            for name, sort in CHANGES.items():
                self._of_name(name, sort, self._leader, told)
        except WorldFailed as no:
            told.failed(f"changes of trust and policies, {self._leader}", no)
            return False
        told.searched += CHANGES.values()
        return True

    def _chained(self, told: Told) -> bool:
        """Sessions taken by a session of the grant; whether any region could be read.

        Without one there is nothing a chain could begin at.
        """
        if not self._window.keys and self._window.held_by is None:
            told.searched.append(CHAINED)
            return False
        regions = tuple(dict.fromkeys((self._leader, self._aws.region)))
        failed = 0
        for region in regions:
            try:
                self._of_name("AssumeRole", CHAINED, region, told)
            except WorldFailed as no:
                told.failed(f"chained sessions, {region}", no)
                failed += 1
        if not failed:
            told.searched.append(CHAINED)
        if self._window.chains and not self._aws.elsewhere:
            told.why_not.append(
                f"chained sessions taken at STS of regions other than {', '.join(regions)}"
            )
        return failed < len(regions)

    def _of_name(self, name: str, sort: str, region: str, told: Told) -> None:
        for event in self._events(name, region):
            door = _of_event(event, name, sort, self._window, region)
            if door is not None:
                told.found.append(door)

    def _events(self, name: str, region: str) -> Iterator[Mapping[str, Any]]:
        token = ""
        for _ in range(MOST_PAGES):
            self._pause(region)
            more = {"NextToken": token} if token else {}
            page = self._aws.call(
                "cloudtrail",
                lambda trail, more=more: trail.lookup_events(  # type: ignore[misc]
                    LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": name}],
                    StartTime=self._window.since - MARGIN,
                    EndTime=self._window.until + MARGIN,
                    **more,
                ),
                "cloudtrail:LookupEvents",
                region=region,
            ).body
            yield from page.get("Events", ())
            token = str(page.get("NextToken") or "")
            if not token:
                return
        raise Refused("too_many", f"expected at most {MOST_PAGES} pages of `{name}`, got more")

    def _pause(self, region: str) -> None:
        """Keep two lookups of a region as far apart as AWS wants them."""
        if self._aws.elsewhere:
            return
        before = self._asked.get(region)
        if before is not None:
            left = before + LOOKUPS_APART.total_seconds() - self._monotonic()
            if left > 0:
                self._wait(left)
        self._asked[region] = self._monotonic()


def _of_event(
    event: Mapping[str, Any], name: str, sort: str, window: Window, region: str
) -> SideDoor | None:
    try:
        told = json.loads(event.get("CloudTrailEvent") or "{}")
    except ValueError:
        told = {}
    if told.get("errorCode"):
        return None
    asked, who = _mapping(told.get("requestParameters")), _mapping(told.get("userIdentity"))
    key = str(who.get("accessKeyId") or "")
    ours = bool(key) and key in window.keys
    if window.held_by is not None and window.held_by.has(str(who.get("arn") or "")):
        ours, key = True, key or window.held_by.session
    if sort == CHAINED and not ours:
        return None
    if name == "PutRolePolicy" and asked.get("policyName") == CUT_POLICY and not ours:
        return None  # our own deny; no session of a grant writes one
    if name == "UpdateAccessKey" and asked.get("status") == "Inactive":
        return None  # a key that was put to sleep
    show = aws_remedies.of_event(str(event.get("EventId") or ""), name, region)
    return SideDoor(
        sort=sort,
        what="/".join([name, *(str(asked[one]) for one in _NAMED if asked.get(one))])[:400],
        at=event.get("EventTime") if isinstance(event.get("EventTime"), datetime) else None,
        says=_says(sort, key if ours else ""),
        remedy=_remedy(name, asked, told, show),
        by=key if ours else "",
    )


def _mapping(told: object) -> Mapping[str, Any]:
    """Whatever else stands there says nothing, and keeps no other event from being told."""
    return told if isinstance(told, dict) else {}


def _remedy(name: str, asked: Mapping[str, Any], told: Mapping[str, Any], show: str) -> str:
    """What takes it away; what shows the event where that does not say what was changed."""
    if name != "AssumeRole":
        return aws_remedies.of_change(name, asked, show)
    account = str((told.get("userIdentity") or {}).get("accountId") or "")
    return aws_remedies.of_session(str(asked.get("roleArn") or ""), account, show)


def _says(sort: str, key: str) -> str:
    says = f"{sort.replace('_', ' ')} made inside the window"
    return f"{says} by its session {key}" if key else says
