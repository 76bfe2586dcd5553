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
from contextlib import suppress
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
from tidegate.connectors.partly_told import PartlyTold, Told
from tidegate.connectors.port import Administrator

# AWS answers 20 calls a second for a whole instance, and ends need them more: this look makes four
# (`Pace.apart`). A stop waits for it, so all of it has this time and no more: the list, and the
# second list that whoever misses somebody asks for. No call is begun later; what is not read by
# then is read by the next look.
LONGEST_LOOK = timedelta(seconds=15)
LONGEST_SECOND = timedelta(seconds=3)  # of that, for a list asked for so soon after another:
SECOND_WITHIN = timedelta(seconds=30)
# What reading again what policies say leaves of the time, for each set whose holders are listed.
FOR_EACH_HELD = timedelta(milliseconds=500)
LEAST_AGAIN = 0.5  # the share it has at least; half of that while there are sets never listed
# How long is known what a permission set may: less than lies between two looks at an account, and
# long enough for other accounts of the instance, and for the second list of one look.
KNOWN_FOR = timedelta(minutes=9)
LISTED_NOW = timedelta(minutes=1)  # longer than a look and its second list: both are one
# Between two looks of this process that lie no further apart no other process had one: that would
# begin ten minutes after the first, and be followed ten later, or five where it died looking.
ALONE_FOR = timedelta(minutes=14)
# As old a list of holders may be that completes the picture where there was no time for a new one,
# and the first of two readings: another process may have had the looks since an older one.
LISTED_FOR = timedelta(hours=2)  # more than listing MOST_HELD the first time takes
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
        doubted: it administers no longer by one reading; AWS may have told an old one.
        once: it does not by the only reading there is, which may be an old one, too.
    """

    by: str
    customer: tuple[str, ...]
    at: float
    doubted: bool = False
    once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Who holds a set in an account, each as `user` or `group` and an id.

    Whom it lacks, two lists lacked, unless it is of one list alone: `once`. `at` is by our
    monotonic clock; so is `sure`, when a list was the second one last, with no other process's
    look between the two.
    """

    holders: frozenset[tuple[str, str]]
    at: float
    sure: float
    once: bool = False


class _OutOfTime(Exception):
    """The look has no time for another call. Never leaves this module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """One list: who is asked, from when and until when.

    Since `since` no other process looked at the account: whom two lists of ours lack that were made
    since then, none found after the first of them.
    """

    center: Center
    pace: Pace
    monotonic: Callable[[], float]
    began: float
    until: float
    since: float

    def ask(self, ask: Callable[[], Made]) -> Made:
        """One call, or one list with all its pages, after a pause. Raises _OutOfTime."""
        apart = self.pace.apart.total_seconds()
        if self.monotonic() + apart >= self.until:
            raise _OutOfTime
        self.pace.wait(apart)
        return ask()

    def listed(self, operation: str, member: str, **values: object) -> tuple[Any, ...]:
        """All of a listing."""
        return self.ask(lambda: self.center.sso_pages(operation, member, **values)).found

    def before(self, span: timedelta) -> float:
        """So long before it began."""
        return self.began - span.total_seconds()


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
        self._lists: dict[tuple[str, str], Listed] = {}  # by account and set
        self._ended: dict[str, float] = {}  # by account, when it was listed last
        self._looked: dict[str, float] = {}  # by target, when its last look ended
        self._since: dict[str, float] = {}  # by account: `_Reading.since`

    def look(
        self, center: Center, target: Target, handed: frozenset[str], aws: Aws | None
    ) -> tuple[Administrator, ...]:
        """Everybody who holds such a set in the account, groups as such.

        `aws` reads the account itself; without it, what a customer managed policy says is not
        known, and its holders are told. Of sets there was no time for it is as they were read last,
        and says that it is not certain of them (`Told`).

        Raises:
            PartlyTold: `not_yet`: of some sets it was never read who holds them.
            Refused: `not_yet`, `too_many`; what AWS refuses. Never a part for the whole.
            Unreachable, Unknown: as verbs do.
        """
        reading = self._reading(center, target)
        try:
            return self._look(reading, target, handed, aws)
        except _OutOfTime:
            raise Refused(*_not_yet("who administers the account", 0, 1)) from None
        finally:
            self._ended[target.account] = self._looked[target.id] = self._monotonic()

    def _reading(self, center: Center, target: Target) -> _Reading:
        """As much time as there is: little, where this is the second list of one look."""
        began = self._monotonic()
        last = self._ended.get(target.account, _NEVER)
        second = began - last < SECOND_WITHIN.total_seconds()
        longest = LONGEST_SECOND if second else LONGEST_LOOK - LONGEST_SECOND
        if began - self._looked.get(target.id, _NEVER) >= ALONE_FOR.total_seconds():
            self._since[target.account] = began
        return _Reading(
            center=center,
            pace=self._pace,
            monotonic=self._monotonic,
            began=began,
            until=began + longest.total_seconds(),
            since=self._since[target.account],
        )

    def _look(
        self, reading: _Reading, target: Target, handed: frozenset[str], aws: Aws | None
    ) -> tuple[Administrator, ...]:
        account = target.account
        provisioned = reading.listed(
            "list_permission_sets_provisioned_to_account", "PermissionSets", AccountId=account
        )
        theirs = sorted({str(one) for one in provisioned} - handed)
        judged = self._judged(reading, account, theirs)
        if self._monotonic() >= reading.until:
            raise _OutOfTime  # the account is not asked either
        held = _held(judged, target, aws)
        if len(held) > MOST_HELD:
            raise Refused(
                "too_many",
                f"expected at most {MOST_HELD} permission sets that administer account "
                f"`{account}`, got {len(held)}",
                "let fewer of them administer it, or put those in use into the catalogue",
            )
        self._list(reading, account, list(held))
        lists = {arn: one for arn in held if (one := self._last(reading, account, arn))}
        found = [
            administrator
            for arn, one in lists.items()
            for administrator in self._told(reading, target, (arn, held[arn]), one)
        ]
        fresh = reading.before(KNOWN_FOR)
        less = {arn: one for arn, one in judged.items() if arn not in held}
        old = {arn for arn, one in less.items() if one.once or _is_old(one, fresh, reading.began)}
        old |= {arn for arn in held if arn not in lists or _is_unsure(lists[arn], reading)}

        def certain(what: str) -> bool:
            return old.isdisjoint(what.split("|"))

        if len(lists) < len(held):
            why = _not_yet("who holds them", len(lists), len(held))
            raise PartlyTold(why, found, certain)
        return Told.of(found, certain)

    def _last(self, reading: _Reading, account: str, arn: str) -> Listed | None:
        """The last list that is not too old to be told."""
        last = self._lists.get((account, arn))
        return last if last and last.at > reading.before(LISTED_FOR) else None

    def _judged(self, reading: _Reading, account: str, arns: list[str]) -> dict[str, Judged]:
        """What each says; first of what was never read, then of what was read longest ago.

        Raises:
            Refused: `not_yet` while there are some of which nothing is known.
        """
        stale = reading.before(KNOWN_FOR)
        due = [arn for arn in arns if (one := self._known.get(arn)) is None or _is_old(one, stale)]
        due.sort(key=self._read_at)
        again = replace(reading, until=self._until_again(reading, account, arns))
        with suppress(_OutOfTime):
            for arn in due:
                this = again if arn in self._known else reading
                self._known[arn] = self._doubted(reading, arn, self._read(this, arn))
        unread = [arn for arn in arns if arn not in self._known]
        if unread:
            raise Refused(*_not_yet("their policies", len(arns) - len(unread), len(arns)))
        return {arn: self._known[arn] for arn in arns}

    def _until_again(self, reading: _Reading, account: str, arns: list[str]) -> float:
        """Until when policies are read again: lists of holders come first, but never all of it."""
        held = [arn for arn in arns if arn in self._known and self._administers(arn)]
        listed = all(self._last(reading, account, arn) for arn in held)
        least = (reading.until - reading.began) * (LEAST_AGAIN if listed else LEAST_AGAIN / 2)
        kept = (len(held) + 1) * FOR_EACH_HELD.total_seconds()
        return max(reading.began + least, reading.until - kept)

    def _read_at(self, arn: str) -> float:
        known = self._known.get(arn)
        return known.at if known and not known.doubted else _NEVER

    def _administers(self, arn: str) -> bool:
        return bool(self._known[arn].by or self._known[arn].customer)

    def _read(self, reading: _Reading, arn: str) -> Judged:
        """One permission set: no further than to the first policy by which it administers."""
        at = self._monotonic()
        attached = reading.listed(
            "list_managed_policies_in_permission_set",
            "AttachedManagedPolicies",
            PermissionSetArn=arn,
        )
        arns = sorted(text_of(one, "Arn") for one in attached)
        own = next((one for one in arns if _AWS_OWN.fullmatch(one)), "")
        if own:
            return Judged(by=f"policy `{own.rpartition('/')[2]}`", customer=(), at=at)
        inline = reading.ask(
            lambda: reading.center.sso("get_inline_policy_for_permission_set", PermissionSetArn=arn)
        ).body.get("InlinePolicy")
        if inline and administers(inline):
            return Judged(by="its inline policy", customer=(), at=at)
        named = reading.listed(
            "list_customer_managed_policy_references_in_permission_set",
            "CustomerManagedPolicyReferences",
            PermissionSetArn=arn,
        )
        names = sorted(f"{one.get('Path') or '/'}{text_of(one, 'Name')}" for one in named)
        return Judged(by="", customer=tuple(names), at=at)

    def _doubted(self, reading: _Reading, arn: str, judged: Judged) -> Judged:
        """What was read, with what one reading alone says: AWS may have told an old one.

        A set that administered is `doubted`: read anew at once, by the second list that whoever
        closes a finding asks for. Of one that is not known it may be a finding too, of an earlier
        process or of another: `once`, until it is read again in its turn. That costs no call.
        """
        before = self._known.get(arn)
        if judged.by:
            return judged
        if before and (before.by or set(before.customer) - set(judged.customer)):
            return replace(judged, doubted=True)
        return replace(judged, once=not before or before.at <= reading.before(LISTED_FOR))

    def _list(self, reading: _Reading, account: str, arns: list[str]) -> None:
        """List anew who holds these, those first that were never listed, or longest ago.

        Before those of long ago come those that this look listed once, and is to list twice; of
        these, too, those that had a second list longest ago.
        """
        for key in tuple(self._lists):
            if key[0] == account and key[1] not in arns:
                self._lists.pop(key, None)
        before = {arn: self._lists.get((account, arn)) for arn in arns}

        def turn(arn: str) -> tuple[bool, float]:
            last = before[arn]
            if last is None:
                return False, _NEVER
            again = last.at > reading.before(LISTED_NOW) and _is_unsure(last, reading)
            return (False, last.sure) if again else (True, last.at)

        with suppress(_OutOfTime):
            for arn in sorted(arns, key=turn):
                self._lists[account, arn] = self._listed(reading, account, arn, before[arn])

    def _listed(self, reading: _Reading, account: str, arn: str, before: Listed | None) -> Listed:
        """Who holds it. AWS may tell an old list: nobody is missing by one of them alone."""
        if arn not in self._names:
            reply = reading.ask(
                lambda: reading.center.sso("describe_permission_set", PermissionSetArn=arn)
            )
            self._names[arn] = text_of(reply.part("PermissionSet"), "Name")
        at, holders = self._monotonic(), self._holders(reading, account, arn)
        if before is not None and not before.holders - holders:
            sure = at if before.at >= reading.since else before.sure
            return Listed(holders=holders, at=at, sure=sure)
        try:
            holders |= self._holders(reading, account, arn)
        except _OutOfTime:
            known = before.holders if before else frozenset()
            sure = before.sure if before else _NEVER
            return Listed(holders=holders | known, at=at, sure=sure, once=True)
        return Listed(holders=holders, at=at, sure=at)

    def _holders(self, reading: _Reading, account: str, arn: str) -> frozenset[tuple[str, str]]:
        found = reading.ask(lambda: self._assignments.holders(reading.center, account, arn))
        users = {("user", one) for one in found.users}
        return frozenset(users | {("group", one) for one in found.groups})

    def _told(
        self, reading: _Reading, target: Target, held: tuple[str, str], listed: Listed
    ) -> Iterable[Administrator]:
        """Who holds it, users before groups. `held` is the set, and by what it administers."""
        arn, by = held
        for sort, principal in sorted(listed.holders, key=lambda one: (one[0] == "group", one[1])):
            key = AssignmentKey(
                connector=target.connector,
                account=target.account,
                native_role=arn,
                native_principal=principal,
            )
            group = sort == "group"
            yield Administrator(
                sort=sort,
                # Not the key alone: that is what the look at a role calls the same assignment,
                # once its permission set is handed out, and one name is one finding.
                what=f"{key.text()}|{sort}",
                says=f"{sort} `{principal}` holds permission set `{self._names[arn]}` in account "
                f"`{target.account}`, which administers it by {by}",
                remedy=remedy(reading.center, target.account, arn, principal, group=group),
            )


def _is_old(judged: Judged, stale: float, began: float = float("inf")) -> bool:
    """Whether it is to be read anew, unless it was read since `began`."""
    return judged.at < began and (judged.doubted or judged.at <= stale)


def _is_unsure(listed: Listed, reading: _Reading) -> bool:
    """Whether someone it lacks may be there, for all that this list of ours can say.

    What was listed since it began is sure: whoever closes a finding asks for a second list, and
    that one is unsure of what it did not list itself, unless two lists of ours lacked it.
    """
    if listed.once or listed.at <= reading.before(LISTED_NOW):
        return True
    return listed.at < reading.began and listed.sure < reading.since


def _not_yet(what: str, got: int, of: int) -> tuple[str, str, str]:
    return (
        "not_yet",
        f"expected of {of} permission sets to be read {what}, got that of {got} in the time of "
        "one look",
        "the next look goes on where this one stopped",
    )


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
