"""The list of cut grants on a role: read, merge, write, read; one writer a role.

IAM has no compare-and-swap for inline policies, so two writers that both read first lose an entry.
`one_writer.py` prevents that on one machine. IAM may also answer a read from a replica that lags:
what was written lately (`aws_recent.py`) is merged in again, so a stale read cannot drop it. `mend`
repairs whatever slips through both.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from tidegate.base.ids import id_made_at
from tidegate.base.when import Instant
from tidegate.connectors.aws_calls import Aws, CloudNo, undated
from tidegate.connectors.aws_policy import (
    CUT_POLICY,
    LONGEST_CUT,
    CutList,
    RoleArn,
    covers,
    cut_document,
    read_cut,
    whole_second,
)
from tidegate.connectors.aws_recent import Recent, RecentCuts
from tidegate.connectors.one_writer import Between, OneWriter, file_name
from tidegate.connectors.port import MustStay, Staying, may_prune, nothing_more, worth_restoring

# IAM dates sessions in whole seconds: a deny by issue time must start at the second that follows.
ISSUE_STEP = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRead:
    """The cut as read back: what it refuses, the cloud's Date, whether the policy is there."""

    cuts: CutList
    cloud_at: Instant
    there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CutWritten:
    """What one revoke did. `how` is `list`, `issue_time` or `no_role`; `seen`: read back so."""

    how: str
    seen: bool
    wrote: bool
    cloud_at: Instant


class CutLists:
    """The only writer of `TidegateCut` policies in this process."""

    def __init__(
        self,
        lock_dir: Path | None = None,
        longest: int = LONGEST_CUT,
        between: Between | None = None,
    ) -> None:
        self._longest = longest
        self._writer = OneWriter(lock_dir, "no_role_lock", between=between)
        self._recent = RecentCuts(lock_dir)

    def read(self, aws: Aws, arn: RoleArn) -> CutRead:
        """The cut on a role. Empty when there is none, and when there is no such role.

        Raises Unknown when the answer carries no Date: what is decided by it is decided by AWS's
        clock, never by ours.
        """
        try:
            reply = aws.call(
                "iam",
                lambda iam: iam.get_role_policy(RoleName=arn.name, PolicyName=CUT_POLICY),
                "iam:GetRolePolicy",
            )
        except CloudNo as no:
            if no.aws_code != "NoSuchEntity":
                raise
            if no.cloud_at is None:
                raise undated("iam:GetRolePolicy") from no
            return CutRead(cuts=CutList(), cloud_at=no.cloud_at, there=False)
        cuts = read_cut(reply.body.get("PolicyDocument"))
        return CutRead(cuts=cuts, cloud_at=reply.cloud_at, there=True)

    def add(self, aws: Aws, arn: RoleArn, grant: str) -> CutWritten:
        """Refuse `grant` from here on. Entries of others are kept; twice is as once.

        When the list is full, by our measure or by AWS's, every Tidegate session of the role that
        was issued up to this second is refused instead. NB. a grant that only an older deny by
        issue time seems to cover is written all the same: it may have been issued a session since.
        """
        with self._alone(arn, must=False):
            before = self.read(aws, arn)
            recent = self._recent.load(_file(arn), before.cloud_at).cuts
            named = {name for name, one in recent.items() if one.named}
            merged = before.cuts.grants | named | {grant}
            timed = grant in recent and grant not in named
            held = timed and covers(before.cuts, grant, id_made_at(grant))
            if merged == before.cuts.grants or held:
                how, at = held or "list", before.cloud_at
                return CutWritten(how=how, seen=True, wrote=False, cloud_at=at)
            wanted = replace(before.cuts, grants=merged)
            by_time = CutList(before=whole_second(before.cloud_at) + ISSUE_STEP)
            if len(cut_document(wanted)) > self._longest:
                wanted = replace(by_time, grants=before.cuts.grants)
            # Before the write: should we die in it, another process must not prune what we wrote.
            recent[grant] = Recent(written_at=before.cloud_at, named=True)
            self._recent.save(_file(arn), recent)
            try:
                written = self._put(aws, arn, wanted, by_time)
            except CloudNo as no:
                if no.aws_code != "NoSuchEntity":
                    raise
                at = no.cloud_at or before.cloud_at
                return CutWritten(how="no_role", seen=True, wrote=False, cloud_at=at)
            if grant not in written.grants:
                recent[grant] = Recent(written_at=before.cloud_at, named=False)
                self._recent.save(_file(arn), recent)
            after = self.read(aws, arn)
            how = "list" if grant in written.grants else "issue_time"
            seen = bool(covers(after.cuts, grant, id_made_at(grant)))
            return CutWritten(how=how, seen=seen, wrote=True, cloud_at=after.cloud_at)

    def mend(
        self,
        aws: Aws,
        arn: RoleArn,
        until: Mapping[str, Instant],
        now: Instant,
        must_stay: MustStay = nothing_more,
    ) -> tuple[str, ...]:
        """Make the list what it should be; the ids that were missing and are read back, sorted.

        `until` maps each grant that must stay refused to the instant until which it must. Pruned is
        what `may_prune` by AWS's clock, and ids `until` does not name only when nobody who shares
        our memory wrote them lately and `must_stay`, asked after the list was read, lets them go.

        Raises:
            Refused: `no_role_lock`; what AWS refuses.
        """
        with self._alone(arn, must=True):
            before = self.read(aws, arn)
            at = before.cloud_at
            recent = self._recent.load(_file(arn), at)
            known_now = _asked(before.cuts, until, must_stay)
            whole = recent.whole and known_now is not None
            stay = known_now or Staying()
            fresh = replace(stay, cut=stay.cut | recent.cuts.keys())
            aim, missing = self._aim(before, fresh, until, now, whole=whole)
            if aim == before.cuts and not (before.there and not _is_any(aim)):
                return ()
            back = {g: Recent(written_at=at, named=True) for g in aim.grants - before.cuts.grants}
            known = {
                grant: one
                for grant, one in recent.cuts.items()
                if grant not in until or not may_prune(until[grant], now, at)
            }
            self._recent.save(_file(arn), known | back)
            by_time = CutList(before=whole_second(at) + ISSUE_STEP)
            try:
                # Where AWS has no room either, what already refuses them all stays as it is.
                self._put(aws, arn, aim, by_time if missing else before.cuts)
            except CloudNo as no:
                if no.aws_code != "NoSuchEntity":
                    raise
                return ()
            after = self.read(aws, arn)
            return tuple(g for g in missing if covers(after.cuts, g, id_made_at(g)))

    def _aim(
        self,
        before: CutRead,
        staying: Staying,
        until: Mapping[str, Instant],
        now: Instant,
        *,
        whole: bool,
    ) -> tuple[CutList, list[str]]:
        """What the list should be, and which ids of `until` it lacks.

        `staying` is what stays though `until` does not name it; not `whole`: there may be more of
        those than are known.
        """
        at, cuts = before.cloud_at, before.cuts
        unnamed_may_go = whole and may_prune(None, now, at)

        def prunable(grant: str) -> bool:
            return may_prune(until[grant], now, at) if grant in until else unnamed_may_go

        covered = {g for g in cuts.grants | until.keys() if covers(cuts, g, id_made_at(g))}
        missing = [g for g in sorted(until.keys() - covered) if worth_restoring(until[g], at)]
        stay = {grant for grant in covered if not prunable(grant)}
        fresh = {grant for grant in staying.cut if grant not in until or not prunable(grant)}
        aim = self._fit(stay | fresh | set(missing), before)
        unnamed = staying.going_on - aim.grants
        leaned_on = any(covers(cuts, grant, id_made_at(grant)) for grant in unnamed)
        if aim.before is None and (leaned_on or not unnamed_may_go):
            # Whom the deny by issue time covers unnamed is not known: it stays until that is.
            aim = replace(aim, before=cuts.before)
        return aim, missing

    def _fit(self, wanted: set[str], before: CutRead) -> CutList:
        """As many of `wanted` by name as there is room for, the rest by issue time.

        When all fit the deny by issue time goes: each of them is refused by name.
        """
        whole = CutList(grants=frozenset(wanted))
        if not wanted or len(cut_document(whole)) <= self._longest:
            return whole
        listed = sorted(wanted, key=lambda grant: (grant not in before.cuts.grants, grant))
        room = self._longest - len(cut_document(CutList(grants=frozenset({""}))))
        chosen: set[str] = set()
        for grant in listed:
            room -= len(grant) + 3  # two quotes and a comma
            if room < 0:
                break
            chosen.add(grant)
        rest = wanted - chosen
        if all(covers(before.cuts, grant, id_made_at(grant)) == "issue_time" for grant in rest):
            return CutList(grants=frozenset(chosen), before=before.cuts.before)
        since = whole_second(before.cloud_at) + ISSUE_STEP
        return CutList(grants=frozenset(chosen), before=since)

    def _put(self, aws: Aws, arn: RoleArn, cuts: CutList, if_full: CutList) -> CutList:
        """Write `cuts`; `if_full` when AWS has no room for them. Returns what was written."""
        try:
            self._write(aws, arn, cuts)
        except CloudNo as no:
            if no.code != "limit_exceeded":
                raise
            self._write(aws, arn, if_full)
            return if_full
        return cuts

    def _write(self, aws: Aws, arn: RoleArn, cuts: CutList) -> None:
        if _is_any(cuts):
            document = cut_document(cuts)
            aws.call(
                "iam",
                lambda iam: iam.put_role_policy(
                    RoleName=arn.name, PolicyName=CUT_POLICY, PolicyDocument=document
                ),
                "iam:PutRolePolicy",
            )
            return
        aws.call(
            "iam",
            lambda iam: iam.delete_role_policy(RoleName=arn.name, PolicyName=CUT_POLICY),
            "iam:DeleteRolePolicy",
        )

    def _alone(self, arn: RoleArn, *, must: bool) -> AbstractContextManager[None]:
        return self._writer.alone(arn.text, f"role `{arn.name}`", must=must)


def _file(arn: RoleArn) -> str:
    """The name of a role's files in the lock directory, without their suffix."""
    return file_name(arn.text)


def _asked(cuts: CutList, until: Mapping[str, Instant], must_stay: MustStay) -> Staying | None:
    """What stays besides `until`, of what was read; a deny by issue time covers who knows whom."""
    unnamed, nameless = cuts.grants - until.keys(), cuts.before is not None
    return must_stay(unnamed, nameless) if unnamed or nameless else Staying()


def _is_any(cuts: CutList) -> bool:
    return bool(cuts.grants) or cuts.before is not None
