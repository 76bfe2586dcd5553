"""What Identity Center shows of access: one hold, one person, or a whole account.

Called by `identity_center.py`, which says where to look. Changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from tidegate.base.errors import WorldFailed
from tidegate.base.when import Instant, wire
from tidegate.catalogue import AssignmentKey, Target
from tidegate.connectors.identity_center_assignments import Assignments
from tidegate.connectors.identity_center_calls import Center
from tidegate.connectors.identity_center_cut import DenyDocuments, Place
from tidegate.connectors.identity_center_ended import Ended, EndedGrants
from tidegate.connectors.identity_center_schedule import Schedules
from tidegate.connectors.identity_center_settings import CenterSettings
from tidegate.connectors.port import Hold, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """A look, with what it needs: how assignments, the deny and deadlines are read."""

    settings: CenterSettings
    assignments: Assignments
    denies: DenyDocuments | None
    schedules: Schedules | None
    ended: EndedGrants

    def at_hold(self, closer: Center, hold: Hold, arn: str, now: Instant) -> Seen:
        """The one thing a hold is about: the person's assignment of permission set `arn`."""
        key = hold.key
        ways = self.assignments.ways(closer, key)
        direct, group = ways.direct(key.native_role), ways.group(key.native_role)
        detail: dict[str, str] = {}
        ended = self.ended.of(hold.grant)
        closing = ended is not None or now >= hold.ends_at
        usable = direct or bool(group)
        if usable and closing and not closer.user_is_there(key.native_principal):
            usable, group, detail["person"] = False, "", "not in the identity store"
        before = _cut_known(hold, ended, self.settings.propagation)
        spread = bool(ended and ended.spread and ended.before == before)
        cut, more = self._cut(closer, hold, arn, before, spread)
        deadline, told = self._deadline(closer, hold)
        return Seen(
            key=key,
            usable=usable,
            cut=cut,
            cloud_at=ways.cloud_at,
            deadline_at=deadline,
            foreign=direct,
            inherited=f"group {group}" if group and not direct else "",
            cut_before=before if cut else None,
            detail={**detail, **more, **told},
        )

    def at_principal(
        self, closer: Center, target: Target, user: str, only: str = ""
    ) -> Iterator[Seen]:
        """Every way a person has into the account; with `only`, those of one permission set."""
        ways = self.assignments.ways_of(closer, user, target.account, only)
        for way in ways.ways:
            if only and way.permission_set != only:
                continue
            yield Seen(
                key=_key(target, way.permission_set, user),
                usable=True,
                cut=False,
                cloud_at=ways.cloud_at,
                foreign=True,
                inherited=f"group {way.group}" if way.group else "",
            )

    def at_target(self, closer: Center, target: Target, arns: list[str]) -> Iterator[Seen]:
        """Who has these permission sets in the account, groups as such."""
        for arn in arns:
            holders = self.assignments.holders(closer, target.account, arn)
            for principal in sorted(holders.users | holders.groups):
                group = principal in holders.groups
                yield Seen(
                    key=_key(target, arn, principal),
                    usable=True,
                    cut=False,
                    cloud_at=holders.cloud_at,
                    foreign=True,
                    inherited=f"group {principal}" if group else "",
                    detail={"remedy": remedy(closer, target.account, arn, principal, group=group)},
                )

    def _cut(
        self, closer: Center, hold: Hold, arn: str, before: Instant | None, spread: bool
    ) -> tuple[bool, dict[str, str]]:
        """Whether the document refuses every session of this grant, and the account has it.

        `before` is of this end: an entry for the person may be of another grant of theirs. `spread`
        says that the account is known to have it.
        """
        if self.denies is None or not self.settings.cuts(hold.target):
            return False, {"deny": "none"}
        if before is None:
            return False, {}
        place = Place(arn=arn, account=hold.target.account)
        read = self.denies.read(closer, place)
        until = read.document.denies.cut_until(read.whose(place, hold.key.native_principal))
        if until is None or until < before:
            return False, {"deny": "missing"}
        there = spread or self.denies.spread(closer, place)
        return there, {"before": wire(until), "provisioned": "yes" if there else "not_yet"}

    def _deadline(self, closer: Center, hold: Hold) -> tuple[Instant | None, dict[str, str]]:
        """The schedule's instant. That it cannot be read does not hide the rest."""
        if self.schedules is None or not self.settings.arms(hold.target):
            return None, {}
        try:
            return self.schedules.deadline(closer, hold.key), {}
        except WorldFailed as error:
            return None, {"deadline": f"untold: {error.code}"}


def remedy(closer: Center, account: str, arn: str, principal: str, *, group: bool) -> str:
    """The command that takes an assignment away."""
    return (
        f"aws sso-admin delete-account-assignment --instance-arn {closer.instance} "
        f"--permission-set-arn {arn} --target-type AWS_ACCOUNT --target-id {account} "
        f"--principal-type {'GROUP' if group else 'USER'} --principal-id {principal}"
    )


def _cut_known(hold: Hold, ended: Ended | None, propagation: timedelta) -> Instant | None:
    """The instant of this end's cut: by this machine's record, or as sealed when it has none.

    Its own record counts for more: it may have removed the assignment once more since. Not so where
    it removed nothing, and only tried to cut; where it did not cut, and the cut that is sealed
    reaches as far as its own had to; nor where it only tried to remove it, before a removal was
    sealed that another process made. Where both cut, the later one counts: the assignment may have
    come back between the two.
    """
    if ended is None or ended.only_read:
        return hold.cut_before
    sealed = hold.cut_before
    if sealed is None:
        return ended.before
    if ended.before is not None:
        return max(sealed, ended.before)
    if ended.gone_at is not None:
        covered = sealed >= ended.gone_at + propagation
    else:
        elsewhere = hold.removed_elsewhere
        covered = elsewhere is not None and ended.tried_at < elsewhere
    return sealed if covered else None


def _key(target: Target, arn: str, principal: str) -> AssignmentKey:
    return AssignmentKey(
        connector=target.connector,
        account=target.account,
        native_role=arn,
        native_principal=principal,
    )
