"""Assignments made inside a window, by which somebody could come back after it.

Identity Center keeps the requests that made assignments, with their dates, and says of none who
sent it: one is "made inside the window", by nobody named. Only what still stands is told, of the
holder in any account and of anybody in the grant's account. What lies in the account itself (IAM)
is `identity_center_account.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tidegate.base.errors import Refused
from tidegate.base.when import Instant, from_ms, to_ms, wire
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.identity_center_assignments import Assignments
from tidegate.connectors.identity_center_calls import Center
from tidegate.connectors.identity_center_seen import remedy
from tidegate.connectors.port import Hold, SideDoor, SideDoors

MARGIN = timedelta(seconds=2)  # the cloud's dates have whole seconds, and its clock is its own
MOST_ASKED = 200  # requests of one window that are read one by one, of 20 calls a second
ASSIGNMENT = "account_assignment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A request that made an assignment inside the window."""

    key: AssignmentKey
    at: datetime
    group: bool


def look(
    center: Center, assignments: Assignments, hold: Hold, since: Instant, until: Instant
) -> SideDoors:
    """What was assigned between `since` and `until` and still stands. Changes nothing.

    Raises:
        Unreachable, Unknown: AWS did not answer; worth asking again.
    """
    try:
        found = tuple(_found(center, assignments, hold, since, until))
    except Refused as no:
        why = f"account assignments: {no.code}: {no.message}"
        return SideDoors(why_not=(why[:400],))
    return SideDoors(searched=(ASSIGNMENT,), found=found)


def _found(
    center: Center, assignments: Assignments, hold: Hold, since: Instant, until: Instant
) -> Iterator[SideDoor]:
    asked: dict[AssignmentKey, Made] = {}
    for made in _made(center, hold, since, until):
        asked.setdefault(made.key, made)
    for key, made in asked.items():
        whose = key.native_principal == hold.key.native_principal
        if key == hold.key or not (whose or key.account == hold.target.account):
            continue
        holders = assignments.holders(center, key.account, key.native_role)
        if key.native_principal not in (holders.groups if made.group else holders.users):
            continue
        at = from_ms(to_ms(made.at))
        yield SideDoor(
            sort=ASSIGNMENT,
            what=key.text(),
            at=at,
            says=f"account assignment made at {wire(at)}, inside the window",
            remedy=remedy(
                center, key.account, key.native_role, key.native_principal, group=made.group
            ),
            key=key,
        )


def _made(center: Center, hold: Hold, since: Instant, until: Instant) -> Iterator[Made]:
    """Every request of the window that succeeded. Raises Refused `too_many`."""
    listed = center.sso_pages(
        "list_account_assignment_creation_status",
        "AccountAssignmentsCreationStatus",
        Filter={"Status": "SUCCEEDED"},
    ).found
    inside = [one for one in listed if _holds(one.get("CreatedDate"), since, until)]
    if len(inside) > MOST_ASKED:
        raise Refused(
            "too_many", f"expected at most {MOST_ASKED} requests in the window, got {len(inside)}"
        )
    for one in inside:
        told: Mapping[str, Any] = center.sso(
            "describe_account_assignment_creation_status",
            AccountAssignmentCreationRequestId=one["RequestId"],
        ).body.get("AccountAssignmentCreationStatus", {})
        if told.get("PrincipalId") and told.get("TargetId") and told.get("PermissionSetArn"):
            key = AssignmentKey(
                connector=hold.key.connector,
                account=str(told["TargetId"]),
                native_role=str(told["PermissionSetArn"]),
                native_principal=str(told["PrincipalId"]),
            )
            yield Made(key=key, at=one["CreatedDate"], group=told.get("PrincipalType") == "GROUP")


def _holds(at: object, since: Instant, until: Instant) -> bool:
    return isinstance(at, datetime) and since - MARGIN <= at <= until + MARGIN
