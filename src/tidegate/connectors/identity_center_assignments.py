"""Account assignments, brought to what they should be: made, taken away, and listed.

AWS answers a change at once and makes it later. Each is followed to its end within a bounded number
of looks; what is not over then is Unknown, and the next try finds it again. Nothing is made without
looking first, and nothing is believed from an answer alone that a list can tell.
"""

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from tidegate.base.errors import Refused, Unknown, Unreachable
from tidegate.base.when import Instant
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.aws_calls import CloudNo, Reply
from tidegate.connectors.identity_center_calls import Body, Center, Listed, Pace, missing, text_of
from tidegate.connectors.one_writer import Between

# AWS: outstanding CreateAccountAssignment calls of an organisation, which cannot be raised.
MOST_OUTSTANDING = 10
MOST_DUPLICATES = 3  # removals in one call; a list that still shows it is read again later
LONGEST_REASON = 200
# In AWS's reason for a deletion that failed since the assignment, or its person, is not there. The
# API Reference lists no reasons; users of it report this one, followed by what was not found.
NOT_THERE = "404 status error"

_MADE = ("describe_account_assignment_creation_status", "AccountAssignmentCreationStatus")
_TAKEN = ("describe_account_assignment_deletion_status", "AccountAssignmentDeletionStatus")

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way by which a person has a permission set. `group` is empty for their own."""

    permission_set: str
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Every way a person has into one account, as listed at `cloud_at`."""

    ways: tuple[Way, ...]
    cloud_at: Instant

    def direct(self, permission_set: str) -> bool:
        """Whether they have it in their own name."""
        return any(way == Way(permission_set=permission_set) for way in self.ways)

    def group(self, permission_set: str) -> str:
        """The first group that gives it; empty when none does."""
        found = sorted(way.group for way in self.ways if way.permission_set == permission_set)
        return next((group for group in found if group), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a change came to, by the list read after it.

    `how`: `made`, `there` (nothing to do), `removed`, `absent` (nothing was there), `left` (the
    person is gone from the identity store and AWS keeps their assignment, by which nobody can sign
    in). `there`: whether the list shows it now.
    """

    how: str
    there: bool
    cloud_at: Instant


class Assignments:
    """The converger. Thread-safe; one a process, since it counts what is outstanding.

    `between` counts it among all processes too: each change has one of `most` keys in hand while it
    is followed, which comes back when that is over, when its process dies or loses the database.
    """

    def __init__(
        self, pace: Pace, most: int = MOST_OUTSTANDING, between: Between | None = None
    ) -> None:
        self._pace = pace
        self._most = most
        self._between = between
        self._room = threading.BoundedSemaphore(most)
        self._guard = threading.Lock()
        self._under_way: dict[str, str] = {}

    def ensure(self, center: Center, key: AssignmentKey) -> Changed:
        """Make the assignment unless it is there.

        Raises:
            Refused: `async_failed` with AWS's reason when it certainly is not there; `throttled`
                when too many changes are under way; `busy`.
            Unknown: `in_progress`; `not_seen` when AWS took the request and what came of it cannot
                be looked at, for whatever reason: it may well be there.
        """
        ways = self.ways(center, key)
        if ways.direct(key.native_role):
            return Changed(how="there", there=True, cloud_at=ways.cloud_at)
        with self._one_of_few(center, key, must=True):
            status = _once_sent(lambda: self._resumed(center, key))
            if status is None:
                reply = center.sso("create_account_assignment", **request_of(key))
                status = _once_sent(lambda: self._follow(center, key, reply, _MADE))
        after = _once_sent(lambda: self.ways(center, key))
        there = after.direct(key.native_role)
        if status.get("Status") == "FAILED" and not there:
            raise _failed("made", status)
        return Changed(how="made", there=there, cloud_at=after.cloud_at)

    def remove(self, center: Center, key: AssignmentKey) -> Changed:
        """Take the assignment away until the list is without it.

        Asked of AWS even when the list does not show it: a list may be older than the assignment.
        For the same reason a deletion that failed is believed to have had nothing to do only where
        AWS says so.

        Raises:
            Refused: `async_failed` when it is still there, or may be; `throttled`, `busy`.
            Unknown: `in_progress`: also while it is still being made.
        """
        self._not_while_made(center, key)
        how = "absent"
        for _ in range(MOST_DUPLICATES):
            status = self._delete(center, key)
            after = self.ways(center, key)
            there = after.direct(key.native_role)
            if status.get("Status") == "SUCCEEDED":
                how = "removed"
                if there:  # a list from before it, or a second one like it
                    continue
            elif status and how == "absent":
                if not there and not _nothing_there(status):  # the list may be the older one
                    raise _failed("removed", status)
                if there and center.user_is_there(key.native_principal):
                    raise _failed("removed", status)
                how = "left" if there else how
            break
        return Changed(how=how, there=there, cloud_at=after.cloud_at)

    def ways(self, center: Center, key: AssignmentKey) -> Ways:
        """Every way the person of `key` has into the account of `key`."""
        return self.ways_of(center, key.native_principal, key.account, key.native_role)

    def ways_of(self, center: Center, user: str, account: str, permission_set: str = "") -> Ways:
        """Every way `user` has into `account`.

        Where AWS does not list by person (somebody whom the identity store no longer knows, or a
        delegated administrator, whom that listing is not documented for), only `permission_set` is
        looked at, in the account's own listing and by the groups they are in.
        """
        try:
            listed = center.sso_pages(
                "list_account_assignments_for_principal",
                "AccountAssignments",
                PrincipalId=user,
                PrincipalType="USER",
                Filter={"AccountId": account},
            )
        except CloudNo as no:
            if not permission_set or not (missing(no) or no.code == "access_denied"):
                raise
            listed = self._of_set(center, account, permission_set)
            groups = _groups_of(center, user)
            ids = {user, *groups}
            mine = [one for one in listed.found if one.get("PrincipalId") in ids]
        else:
            mine = [one for one in listed.found if one.get("AccountId") == account]
        ways = {
            Way(
                permission_set=text_of(one, "PermissionSetArn"),
                group=text_of(one, "PrincipalId") if one["PrincipalType"] == "GROUP" else "",
            )
            for one in mine
        }
        ordered = sorted(ways, key=lambda way: (way.permission_set, way.group))
        return Ways(ways=tuple(ordered), cloud_at=listed.cloud_at)

    def holders(self, center: Center, account: str, permission_set: str) -> "Holders":
        """Who has the permission set in the account: user ids, and group ids."""
        listed = self._of_set(center, account, permission_set)
        by_kind: dict[str, set[str]] = {"USER": set(), "GROUP": set()}
        for one in listed.found:
            by_kind.setdefault(str(one.get("PrincipalType")), set()).add(
                text_of(one, "PrincipalId")
            )
        return Holders(
            users=frozenset(by_kind["USER"]),
            groups=frozenset(by_kind["GROUP"]),
            cloud_at=listed.cloud_at,
        )

    def _of_set(self, center: Center, account: str, permission_set: str) -> Listed:
        return center.sso_pages(
            "list_account_assignments",
            "AccountAssignments",
            AccountId=account,
            PermissionSetArn=permission_set,
        )

    def _delete(self, center: Center, key: AssignmentKey) -> Body:
        """The final status; empty when AWS knows of nothing to delete."""
        with self._one_of_few(center, key, must=False):
            try:
                reply = center.sso("delete_account_assignment", **request_of(key))
            except CloudNo as no:
                if missing(no):
                    return {}
                raise
            return _once_sent(lambda: self._follow(center, key, reply, _TAKEN))

    def _follow(
        self, center: Center, key: AssignmentKey, reply: Reply, ask: tuple[str, str]
    ) -> Body:
        """Look until it is over. A creation that is not over in time is kept in mind."""
        operation, member = ask
        status = reply.part(member)
        request = text_of(status, "RequestId")
        parameter = member.removesuffix("Status") + "RequestId"
        for look in range(self._pace.most + 1):
            if status.get("Status") != "IN_PROGRESS":
                self._forget(key)
                return status
            if ask is _MADE:
                with self._guard:
                    self._under_way[key.text()] = request
            if look < self._pace.most:
                self._pace.pause(look)
                status = center.sso(operation, **{parameter: request}).part(member)
        raise Unknown(
            "in_progress",
            f"expected AWS to be done within {self._pace.most} looks, got `IN_PROGRESS`",
            "it goes on in AWS and is looked at again",
        )

    def _resumed(self, center: Center, key: AssignmentKey) -> Body | None:
        """The end of a creation this process began earlier; None when it knows of none."""
        with self._guard:
            request = self._under_way.get(key.text())
        if request is None:
            return None
        operation, member = _MADE
        parameter = member.removesuffix("Status") + "RequestId"
        try:
            reply = center.sso(operation, **{parameter: request})
        except CloudNo as no:
            if not missing(no):
                raise
            self._forget(key)
            return None
        status = self._follow(center, key, reply, _MADE)
        # One that failed earlier is not this try's: AWS is asked again.
        return status if status.get("Status") == "SUCCEEDED" else None

    def _not_while_made(self, center: Center, key: AssignmentKey) -> None:
        """A creation that ends after a removal would undo it: first see it end."""
        with self._guard:
            begun = key.text() in self._under_way
        if not begun:
            return
        try:
            self._resumed(center, key)
        except CloudNo as no:
            # A closer need not be allowed to look at creations: AWS refuses to remove what is
            # still being made, too.
            if no.code != "access_denied":
                raise

    def _forget(self, key: AssignmentKey) -> None:
        with self._guard:
            self._under_way.pop(key.text(), None)

    @contextmanager
    def _one_of_few(self, center: Center, key: AssignmentKey, *, must: bool) -> Iterator[None]:
        """Room for one more change. Without `must` only this process counts: no removal waits for
        other processes, nor for the database they count in; AWS turns away what is too much.
        """
        if not self._room.acquire(blocking=False):
            raise _too_many(self._most)
        try:
            with ExitStack() as held:
                if not self._slot(held, center, key) and must:
                    raise _too_many(self._most)
                yield
        finally:
            self._room.release()

    def _slot(self, held: ExitStack, center: Center, key: AssignmentKey) -> bool:
        """Whether one of the keys that all processes share is in hand until `held` ends."""
        if self._between is None:
            return True
        first = zlib.crc32(key.text().encode())  # so that not everybody asks for the same one
        for number in range(self._most):
            name = f"outstanding|{center.instance}|{(first + number) % self._most}"
            taken = ExitStack()
            if taken.enter_context(self._between(name)):
                held.push(taken)
                return True
            taken.close()
        return False


def _too_many(most: int) -> Refused:
    return Refused(
        "throttled",
        f"expected fewer than {most} changes of assignments under way, got {most}",
        "it is tried again shortly",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Who has one permission set in one account, as listed at `cloud_at`."""

    users: frozenset[str]
    groups: frozenset[str]
    cloud_at: Instant


def request_of(key: AssignmentKey) -> dict[str, object]:
    """The request of both changes, and the input of a deadline in the cloud."""
    return {
        "TargetId": key.account,
        "TargetType": "AWS_ACCOUNT",
        "PermissionSetArn": key.native_role,
        "PrincipalType": "USER",
        "PrincipalId": key.native_principal,
    }


def _groups_of(center: Center, user: str) -> set[str]:
    """The ids of the groups `user` is in; none for somebody the store does not know."""
    try:
        listed = center.pages(
            "identitystore",
            "list_group_memberships_for_member",
            "GroupMemberships",
            IdentityStoreId=center.store,
            MemberId={"UserId": user},
        )
    except CloudNo as no:
        if not missing(no):
            raise
        return set()
    return {text_of(one, "GroupId") for one in listed.found}


def _nothing_there(status: Body) -> bool:
    """Whether a deletion failed since there was nothing to delete."""
    return NOT_THERE in str(status.get("FailureReason", ""))


def _failed(what: str, status: Body) -> Refused:
    reason = str(status.get("FailureReason", "no reason"))[:LONGEST_REASON]
    return Refused(
        "async_failed",
        f"expected the assignment to be {what}, got `{reason}` from AWS",
        "look the reason up in the Identity Center guide",
    )


def _once_sent(look: Callable[[], Made]) -> Made:
    """`look()` at what came of a request AWS took: no refusal of a *look* means nothing changed.

    Raises Unknown `not_seen` for it.
    """
    try:
        return look()
    except (Refused, Unreachable) as fault:
        raise Unknown(
            "not_seen",
            f"expected to see what came of a request that was taken, got: {fault.message}",
            "it is read back before anything is believed",
        ) from fault
