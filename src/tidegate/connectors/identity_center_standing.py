"""Who administers an account by a permission set that Tidegate does not hand out.

Every permission set the account has is judged by its policies, as AWS lists them: AWS's own
AdministratorAccess and IAMFullAccess, the inline policy, and customer managed policies, of which
Identity Center knows the names alone (API Reference, ListPermissionSetsProvisionedToAccount,
ListManagedPoliciesInPermissionSet, GetInlinePolicyForPermissionSet,
ListCustomerManagedPolicyReferencesInPermissionSet). Of one that administers, everybody is told whom
ListAccountAssignments names there. Sets that are handed out have their own look. Changes nothing.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from tidegate.base.errors import Refused
from tidegate.catalogue import AssignmentKey, Target
from tidegate.connectors.aws_calls import Aws
from tidegate.connectors.aws_standing import administers, caller, policies_that_administer
from tidegate.connectors.identity_center_assignments import Assignments
from tidegate.connectors.identity_center_calls import Center, Pace, text_of
from tidegate.connectors.identity_center_seen import remedy
from tidegate.connectors.port import Administrator

# AWS answers 20 calls a second for a whole instance, and ends need them more: this look makes four
# (`Pace.apart`), and a stop waits for it. What it has no time for is read by the next one.
LONGEST_READING = timedelta(seconds=15)
# How long is known what a permission set may: less than lies between two looks at an account, and
# long enough for other accounts of the instance, and for the second list of one look.
KNOWN_FOR = timedelta(minutes=9)
MOST_HELD = 50  # permission sets that administer one account; each is a list of its own
_AWS_OWN = re.compile(r"arn:[a-z-]+:iam::aws:policy/(?:AdministratorAccess|IAMFullAccess)")
_NEVER = float("-inf")

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a permission set's policies say, at `at` by our monotonic clock.

    Attributes:
        by: the policy by which it administers, in words; empty for none that can be read here.
        customer: its customer managed policies, each its path and name: what they say is read in
            the account.
    """

    by: str
    customer: tuple[str, ...]
    at: float


class StandingSets:
    """The look, and what it knows of an instance's permission sets from account to account.

    Two looks at a time at worst read the same twice.
    """

    def __init__(
        self, assignments: Assignments, pace: Pace, monotonic: Callable[[], float]
    ) -> None:
        self._assignments = assignments
        self._pace = pace
        self._monotonic = monotonic
        self._known: dict[str, Judged] = {}
        self._names: dict[str, str] = {}  # AWS never changes one (API, UpdatePermissionSet)

    def look(
        self, center: Center, target: Target, handed: frozenset[str], aws: Aws | None
    ) -> tuple[Administrator, ...]:
        """Everybody who holds such a set in the account, groups as such.

        `aws` reads the account itself; without it, what a customer managed policy says is not
        known, and its holders are told.

        Raises:
            Refused: `not_yet`, `too_many`; what AWS refuses. Never a part for the whole.
            Unreachable, Unknown: as verbs do.
        """
        listed = self._paced(
            lambda: center.sso_pages(
                "list_permission_sets_provisioned_to_account",
                "PermissionSets",
                AccountId=target.account,
            )
        ).found
        theirs = sorted({str(one) for one in listed} - handed)
        held = _held(self._judged(center, theirs), target, aws)
        if len(held) > MOST_HELD:
            raise Refused(
                "too_many",
                f"expected at most {MOST_HELD} permission sets that administer account "
                f"`{target.account}`, got {len(held)}",
                "let fewer of them administer it, or put those in use into the catalogue",
            )
        found: list[Administrator] = []
        for arn, by in held.items():
            found += self._holders(center, target, arn, by)
        return tuple(found)

    def _judged(self, center: Center, arns: list[str]) -> dict[str, Judged]:
        """What each says; first of what was never read, then of what was read longest ago.

        Raises:
            Refused: `not_yet` while there are some of which nothing is known.
        """
        began = self._monotonic()
        stale = began - KNOWN_FOR.total_seconds()
        read_at = {arn: self._known[arn].at if arn in self._known else _NEVER for arn in arns}
        due = sorted((arn for arn in arns if read_at[arn] <= stale), key=lambda arn: read_at[arn])
        for arn in due:
            if self._monotonic() >= began + LONGEST_READING.total_seconds():
                break
            self._known[arn] = self._doubted(arn, self._read(center, arn))
        unread = [arn for arn in arns if arn not in self._known]
        if unread:
            raise Refused(
                "not_yet",
                f"expected the policies of {len(arns)} permission sets to be read, got those of "
                f"{len(arns) - len(unread)} in the time of one look",
                "the next look goes on where this one stopped",
            )
        return {arn: self._known[arn] for arn in arns}

    def _read(self, center: Center, arn: str) -> Judged:
        """One permission set: no further than to the first policy by which it administers."""
        at = self._monotonic()
        attached = self._listed(
            center, "list_managed_policies_in_permission_set", "AttachedManagedPolicies", arn
        )
        arns = sorted(text_of(one, "Arn") for one in attached)
        own = next((one for one in arns if _AWS_OWN.fullmatch(one)), "")
        if own:
            return Judged(by=f"policy `{own.rpartition('/')[2]}`", customer=(), at=at)
        inline = self._paced(
            lambda: center.sso("get_inline_policy_for_permission_set", PermissionSetArn=arn)
        ).body.get("InlinePolicy")
        if inline and administers(inline):
            return Judged(by="its inline policy", customer=(), at=at)
        named = self._listed(
            center,
            "list_customer_managed_policy_references_in_permission_set",
            "CustomerManagedPolicyReferences",
            arn,
        )
        names = sorted(f"{one.get('Path') or '/'}{text_of(one, 'Name')}" for one in named)
        return Judged(by="", customer=tuple(names), at=at)

    def _doubted(self, arn: str, judged: Judged) -> Judged:
        """What was read, to be read anew at once where it administers no longer.

        AWS may have told an old list. Whoever closes a finding asks for a second one.
        """
        before = self._known.get(arn)
        return replace(judged, at=_NEVER) if before and before.by and not judged.by else judged

    def _holders(
        self, center: Center, target: Target, arn: str, by: str
    ) -> Iterable[Administrator]:
        if arn not in self._names:
            reply = self._paced(lambda: center.sso("describe_permission_set", PermissionSetArn=arn))
            self._names[arn] = text_of(reply.part("PermissionSet"), "Name")
        self._wait()
        holders = self._assignments.holders(center, target.account, arn)
        sorts = (("user", holders.users), ("group", holders.groups))
        for sort, principal in ((sort, one) for sort, ids in sorts for one in sorted(ids)):
            key = AssignmentKey(
                connector=target.connector,
                account=target.account,
                native_role=arn,
                native_principal=principal,
            )
            yield Administrator(
                sort=sort,
                # Not the key alone: that is what the look at a role calls the same assignment,
                # once its permission set is handed out, and one name is one finding.
                what=f"{key.text()}|{sort}",
                says=f"{sort} `{principal}` holds permission set `{self._names[arn]}` in account "
                f"`{target.account}`, which administers it by {by}",
                remedy=remedy(center, target.account, arn, principal, group=sort == "group"),
            )

    def _listed(self, center: Center, operation: str, member: str, arn: str) -> tuple[Any, ...]:
        return self._paced(lambda: center.sso_pages(operation, member, PermissionSetArn=arn)).found

    def _paced(self, ask: Callable[[], Made]) -> Made:
        self._wait()
        return ask()

    def _wait(self) -> None:
        self._pace.wait(self._pace.apart.total_seconds())


def _held(judged: Mapping[str, Judged], target: Target, aws: Aws | None) -> dict[str, str]:
    """Those that administer the account, and by what, in words.

    Raises:
        WorldFailed: the account's own policies are needed, and could not be read there.
    """
    held = {arn: one.by for arn, one in judged.items() if one.by}
    asked = {arn: one.customer for arn, one in judged.items() if not one.by and one.customer}
    if asked and aws is None:
        unread = "customer managed policy `{}`, which Tidegate has no keys of the account to read"
        return held | {arn: unread.format(names[0]) for arn, names in asked.items()}
    if asked and aws is not None:
        for _ in caller(aws, target.account):
            pass  # Refused where these are the keys of another account
        arns = policies_that_administer(aws)
        whole = {arn.partition(":policy")[2] for arn in arns}
        for arn, names in asked.items():
            if ways := [name for name in names if name in whole]:
                held[arn] = f"customer managed policy `{ways[0]}`"
    return dict(sorted(held.items()))
