"""The list of cut grants on a role: read, merge, write, read; one writer a role.

IAM has no compare-and-swap for inline policies, so two writers that both read first lose an entry.
Within a process a lock a role prevents that; between processes of one machine, a file lock in
`lock_dir`. IAM may also answer a read from a replica that lags: what this process wrote lately is
merged in again, so a stale read cannot drop it. `mend` repairs whatever slips through both.
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from tidegate.base.ids import id_made_at
from tidegate.base.when import Instant
from tidegate.connectors.aws_calls import Aws, CloudNo
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

# How long an own write outranks a read that lacks it. IAM's replicas agree within seconds; the rest
# is margin, also for a `mend` whose list was read just before a revoke.
FRESH = timedelta(minutes=2)
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

    def __init__(self, lock_dir: Path | None = None, longest: int = LONGEST_CUT) -> None:
        self._lock_dir = lock_dir
        self._longest = longest
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._fresh: dict[str, dict[str, Instant]] = {}
        self._timed: dict[str, dict[str, Instant]] = {}

    def read(self, aws: Aws, arn: RoleArn, now: Instant) -> CutRead:
        """The cut on a role. Empty when there is none, and when there is no such role."""
        try:
            reply = aws.call(
                "iam",
                lambda iam: iam.get_role_policy(RoleName=arn.name, PolicyName=CUT_POLICY),
                "iam:GetRolePolicy",
            )
        except CloudNo as no:
            if no.aws_code != "NoSuchEntity":
                raise
            return CutRead(cuts=CutList(), cloud_at=no.cloud_at or now, there=False)
        cuts = read_cut(reply.body.get("PolicyDocument"))
        return CutRead(cuts=cuts, cloud_at=reply.cloud_at, there=True)

    def add(self, aws: Aws, arn: RoleArn, grant: str, now: Instant) -> CutWritten:
        """Refuse `grant` from here on. Entries of others are kept; twice is as once.

        When the list is full, by our measure or by AWS's, every Tidegate session of the role that
        was issued up to this second is refused instead. NB. a grant that only an older deny by
        issue time seems to cover is written all the same: it may have been issued a session since.
        """
        with self._one_writer(arn):
            before = self.read(aws, arn, now)
            fresh = self._recent(self._fresh, arn, now)
            timed = self._recent(self._timed, arn, now)
            merged = before.cuts.grants | fresh.keys() | {grant}
            held = grant in timed and covers(before.cuts, grant, id_made_at(grant))
            if merged == before.cuts.grants or held:
                how, at = held or "list", before.cloud_at
                return CutWritten(how=how, seen=True, wrote=False, cloud_at=at)
            wanted = replace(before.cuts, grants=merged)
            by_time = CutList(before=whole_second(before.cloud_at) + ISSUE_STEP)
            if len(cut_document(wanted)) > self._longest:
                wanted = replace(by_time, grants=before.cuts.grants)
            try:
                written = self._put(aws, arn, wanted, by_time)
            except CloudNo as no:
                if no.aws_code != "NoSuchEntity":
                    raise
                at = no.cloud_at or now
                return CutWritten(how="no_role", seen=True, wrote=False, cloud_at=at)
            (fresh if grant in written.grants else timed)[grant] = now
            after = self.read(aws, arn, now)
            how = "list" if grant in written.grants else "issue_time"
            seen = bool(covers(after.cuts, grant, id_made_at(grant)))
            return CutWritten(how=how, seen=seen, wrote=True, cloud_at=after.cloud_at)

    def mend(
        self, aws: Aws, arn: RoleArn, until: Mapping[str, Instant], now: Instant
    ) -> tuple[str, ...]:
        """Make the list what it should be; the ids that were missing and are read back, sorted.

        `until` maps each grant that must stay refused to the instant until which it must. Pruned
        are ids past it and ids it does not name, except those this process wrote within FRESH.
        """
        with self._one_writer(arn):
            before = self.read(aws, arn, now)
            fresh = self._recent(self._fresh, arn, now)
            for grant in [name for name in fresh if name in until and until[name] <= now]:
                del fresh[grant]
            wanted = {grant for grant, end in until.items() if end > now}
            missing = [g for g in sorted(wanted) if not covers(before.cuts, g, id_made_at(g))]
            aim = self._fit(wanted | fresh.keys(), before)
            if aim == before.cuts and not (before.there and not _is_any(aim)):
                return ()
            by_time = CutList(before=whole_second(before.cloud_at) + ISSUE_STEP)
            try:
                # Where AWS has no room either, what already refuses them all stays as it is.
                self._put(aws, arn, aim, by_time if missing else before.cuts)
            except CloudNo as no:
                if no.aws_code != "NoSuchEntity":
                    raise
                return ()
            for grant in aim.grants - before.cuts.grants:
                fresh[grant] = now
            after = self.read(aws, arn, now)
            return tuple(g for g in missing if covers(after.cuts, g, id_made_at(g)))

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

    def _recent(
        self, memory: dict[str, dict[str, Instant]], arn: RoleArn, now: Instant
    ) -> dict[str, Instant]:
        """What `memory` holds of the role that is younger than FRESH. Only under its lock."""
        recent = memory.setdefault(arn.text, {})
        for grant in [name for name, at in recent.items() if now - at > FRESH]:
            del recent[grant]
        return recent

    @contextmanager
    def _one_writer(self, arn: RoleArn) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(arn.text, threading.Lock())
        with lock, self._one_process(arn):
            yield

    @contextmanager
    def _one_process(self, arn: RoleArn) -> Iterator[None]:
        if self._lock_dir is None:
            yield
            return
        import fcntl  # POSIX only, as are the machines that run several processes on one directory

        name = hashlib.sha256(arn.text.encode()).hexdigest()[:32] + ".lock"
        descriptor = os.open(self._lock_dir / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # and with it the lock


def _is_any(cuts: CutList) -> bool:
    return bool(cuts.grants) or cuts.before is not None
