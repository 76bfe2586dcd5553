"""AWS IAM Identity Center: role kind `permission-set`, an assignment the person signs in by.

Granting makes an account assignment, which has no end of its own: at the end it is removed, and the
sessions taken before are ended by a deny that names the person and the instant of issue. Where it
is set up, the cloud removes the assignment by itself too. Tidegate issues nothing here.

The rules of the parts are in `identity_center_*.py`; this file is the port's verbs.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from tidegate.base.duty import ALL, Duty
from tidegate.base.errors import AskedWrongly, Refused
from tidegate.base.when import Instant, show_duration, wire
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors import (
    identity_center_account,
    identity_center_health,
    identity_center_side_doors,
)
from tidegate.connectors.aws_calls import Aws, AwsSettings
from tidegate.connectors.aws_minting import longest_life
from tidegate.connectors.aws_rights import IDENTITIES, Identity
from tidegate.connectors.identity_center_assignments import Assignments
from tidegate.connectors.identity_center_calls import Center, Pace, text_of
from tidegate.connectors.identity_center_cut import DenyDocuments, DenyRead, Place
from tidegate.connectors.identity_center_ended import Ended, EndedGrants
from tidegate.connectors.identity_center_persons import user_of
from tidegate.connectors.identity_center_schedule import BOUND, Schedules
from tidegate.connectors.identity_center_seen import Looking
from tidegate.connectors.identity_center_settings import (
    CenterSettings,
    check_role,
    lives,
    set_arn,
)
from tidegate.connectors.identity_center_standing import StandingSets
from tidegate.connectors.one_writer import Between
from tidegate.connectors.port import (
    Administrator,
    Answer,
    Credential,
    Cut,
    Exposure,
    Found,
    Health,
    Hold,
    Method,
    MustStay,
    Person,
    Powers,
    Probed,
    Proof,
    Receipt,
    Scope,
    Seen,
    SideDoors,
    nothing_more,
)
from tidegate.connectors.role_kinds import PERMISSION_SET

__all__ = ["CenterSettings", "IdentityCenterConnector"]

Made = TypeVar("Made")

# How long a listing may still show what was before a change. AWS states no bound.
STALE = timedelta(seconds=10)

# A cut asked for that lies this much after the one in our record is of a later removal, made by
# another machine. What is nearer may be ours: dated by our clock, which one removal keeps waiting
# for two minutes at most, where it is not sealed as it was read back.
LATER = timedelta(minutes=5)


class IdentityCenterConnector:
    """The port's verbs for permission sets of one instance.

    Args:
        settings: how the instance is reached; None where none is set, then every verb says so.
        lock_dir: a directory shared by the processes of this machine that may close; they then
            write one at a time and know which ends the others cut.
        monotonic: a monotonic clock in seconds, to measure the round trip of a health check and
            how long a look takes.
        pace: how asynchronous changes are followed.
        stale: see `Powers.stale_window`.
        between: keeps the writers of one document apart between machines, and counts the changes
            under way among all processes.
        duties: what this process has identities for. One that only opens leaves `prepare` to one
            that closes, and one that only closes is not asked whether it could open.
        accounts: by target id, how the account itself is reached: its IAM is searched at the end,
            and what customer managed policies of permission sets say is read there.
    """

    def __init__(
        self,
        settings: CenterSettings | None,
        *,
        lock_dir: Path | None = None,
        monotonic: Callable[[], float] | None = None,
        pace: Pace | None = None,
        stale: timedelta = STALE,
        duties: frozenset[Duty] = ALL,
        between: Between | None = None,
        accounts: Mapping[str, AwsSettings] | None = None,
    ) -> None:
        self._duties = duties
        self._settings = settings
        self._monotonic = monotonic
        self._pace = pace or Pace()
        self._stale = stale
        self._assignments = Assignments(self._pace, between=between)
        self._standing_sets = StandingSets(
            self._assignments, self._pace, monotonic or time.monotonic
        )
        self._ended = EndedGrants(lock_dir)
        self._denies = (
            DenyDocuments(settings, self._pace, lock_dir, between=between) if settings else None
        )
        schedule = settings.schedule if settings else None
        self._schedules = Schedules(schedule) if schedule else None
        self._guard = threading.Lock()
        self._centers: dict[str, Center] = {}
        self._accounts = dict(accounts or {})
        self._theirs: dict[str, Aws] = {}

    def powers(self, kind: str) -> Powers:
        """What `permission-set` promises. The bounds are settings: AWS states none."""
        if kind != PERMISSION_SET:
            raise AskedWrongly(
                "unknown_kind",
                f"expected role kind `{PERMISSION_SET}` in Identity Center, got `{kind[:40]}`",
                "correct `kind` in the catalogue",
            )
        return Powers(
            native_deadline=False,
            deadline_precision=timedelta(0),
            floor=timedelta(0),
            proof=Proof.REMOVED,
            issues=False,
            cuts_apart=True,
            propagation=self._settings.propagation if self._settings else timedelta(0),
            stale_window=self._stale,
            shared_document=True,
            earliest_close=timedelta(0),
        )

    def exposure(self, target: Target, role: Role) -> Exposure:
        """Attended: the removal is followed and spreads; unattended: the schedule's bound.

        Both with what `role` declares to outlive a session, and with the whole life of a session
        where no deny of ours ends it.
        """
        settings = self._settings
        left = lives(role) + longest_life(role.allows)
        if settings is None:
            return Exposure(attended=left, unattended=None)
        attended = self._pace.bound + settings.propagation
        attended += self.residual(target, role, cut=settings.cuts(target))
        unattended = BOUND + left if settings.arms(target) else None
        return Exposure(attended=attended, unattended=unattended)

    def residual(self, target: Target, role: Role, cut: bool) -> timedelta:
        """The life of a session unless its cut was read back, and of what `allows` names.

        NB. a permission set carries no session policy of ours, so nothing here keeps a holder from
        what its policies let them hand on; `allows` only declares it.
        """
        derived = longest_life(role.allows)
        return derived if cut else lives(role) + derived

    def lingers(self, target: Target, role: Role) -> timedelta:
        """The life of a session: as long may one live that was taken just before the removal."""
        return lives(role)

    def key(self, target: Target, role: Role, grant: str, person: Person) -> AssignmentKey:
        """The person's user in the identity store, by the table or by what the store says.

        Raises:
            Refused: `no_such_person`; what AWS refuses. Unreachable, Unknown.
        """
        settings = self._set_up(target)
        user = user_of(settings, lambda: self._opener(target), person)
        return AssignmentKey(
            connector=target.connector,
            account=target.account,
            native_role=self._arn(role),
            native_principal=user,
        )

    def check(self, target: Target, role: Role, others: tuple[Role, ...]) -> tuple[str, ...]:
        """What would fail later about this entry, in words. Sends nothing."""
        return check_role(self._settings, target, role)

    def health(self, target: Target, now: Instant) -> Health:
        """Reach, clock, identities, and whether AWS would let Tidegate close."""
        if self._settings is None:
            return identity_center_health.not_set_up(target)
        opener, closer = self._opener(target), self._closer(target)
        return identity_center_health.look(
            opener,
            closer,
            self._settings,
            target,
            now,
            self._monotonic,
            tuple(IDENTITIES[duty] for duty in Duty if duty in self._duties),
        )

    def discover(self, target: Target) -> Iterator[Found]:
        """The instance's permission sets that the account has."""
        center = self._closer(target)
        listed = center.sso_pages(
            "list_permission_sets_provisioned_to_account",
            "PermissionSets",
            AccountId=target.account,
        )
        for arn in listed.found:
            reply = center.sso("describe_permission_set", PermissionSetArn=arn)
            name = text_of(reply.part("PermissionSet"), "Name")
            yield Found(kind=PERMISSION_SET, native={"arn": str(arn)}, title=name)

    def observe(self, scope: Scope, now: Instant) -> Iterator[Seen]:
        """With a hold: its one Seen. With a principal: every way they have in. Else who has what.

        NB. the cloud does not say who made an assignment: each is `foreign`.
        """
        closer, looking = self._closer(scope.target), self._looking(scope.target)
        if scope.hold is not None:
            yield looking.at_hold(closer, scope.hold, self._arn(scope.hold.role), now)
        elif scope.principal:
            only = self._arn(scope.role) if scope.role else ""
            yield from looking.at_principal(closer, scope.target, scope.principal, only)
        else:
            handed = self._set_up(scope.target).account(scope.target).handed
            arns = [self._arn(scope.role)] if scope.role else [one.arn for one in handed]
            yield from looking.at_target(closer, scope.target, sorted(set(arns)))

    def drift(self, target: Target, role: Role, now: Instant) -> tuple[str, ...]:
        """Nothing is looked at here yet."""
        return ()

    def side_doors(
        self, hold: Hold, keys: tuple[str, ...], since: Instant, until: Instant, now: Instant
    ) -> SideDoors:
        """Assignments made inside the window, and what the account's own keys can read there."""
        closer = self._closer(hold.target)
        made = identity_center_side_doors.look(closer, self._assignments, hold, since, until)
        span = identity_center_account.Span(since=since, until=until, now=now)
        there = identity_center_account.look(closer, self._account(hold.target), hold, span)
        return identity_center_account.both(made, there)

    def paced_as(self, target: Target) -> str:
        """`permission-set`, on every target that hands one out."""
        settings = self._settings
        return PERMISSION_SET if settings and settings.account(target).handed else ""

    def administrators(self, target: Target, now: Instant) -> tuple[Administrator, ...]:
        """Who holds, in its account, a permission set that administers it and is not handed out."""
        if not self.paced_as(target):
            return ()
        handed = self._set_up(target).handed_in(target)
        closer, account = self._closer(target), self._account(target)
        return self._standing_sets.look(closer, target, handed, account)

    def grant(self, hold: Hold, now: Instant) -> Receipt:
        """Make the assignment.

        Raises:
            Refused: `not_standing` when what stood before this grant is there no more; `settling`
                while sessions of the person issued now would still be refused by an earlier cut;
                `async_failed`, `throttled`, `busy`; what AWS refuses.
            Unknown: `in_progress`: made, maybe later.
        """
        opener = self._opener(hold.target)
        if hold.stood_before:
            return self._standing(opener, hold)
        if Duty.CLOSE in self._duties:
            self.prepare(hold, now)
        changed = self._assignments.ensure(opener, hold.key)
        detail = {"assignment": changed.how, "read_back": "yes" if changed.there else "not_yet"}
        return Receipt(cloud_at=changed.cloud_at, detail=detail)

    def prepare(self, hold: Hold, now: Instant) -> None:
        """The closer's part of granting: no deny of an earlier grant may lie ahead.

        Raises:
            Refused: `settling`, as `grant`; what AWS refuses.
        """
        if not hold.stood_before:
            self._not_refused(self._closer(hold.target), hold)
            self._ended.forget(hold.grant)

    def issue(self, hold: Hold, session: str, now: Instant) -> Credential:
        """Nothing is issued. Raises Refused `portal_only`."""
        raise Refused(
            "portal_only",
            f"expected a role kind that issues credentials, got `{PERMISSION_SET}`",
            "sign in at the access portal, with `aws sso login`",
        )

    def arm(self, hold: Hold, until: Instant, now: Instant) -> Receipt | None:
        """Have EventBridge Scheduler remove the assignment from `until` on, for two hours."""
        if self._schedules is None or not self._set_up(hold.target).arms(hold.target):
            return None
        return self._schedules.arm(self._opener(hold.target), hold.key, until)

    def disarm(self, hold: Hold, now: Instant) -> Receipt | None:
        """Take that schedule away, also where schedules were switched off since."""
        if self._schedules is None:
            return None
        return self._schedules.disarm(self._closer(hold.target), hold.key)

    def revoke(self, hold: Hold, now: Instant) -> Receipt:
        """Remove the assignment and read whether it is gone.

        Whatever an earlier removal for this grant came to is forgotten before this one is sent, so
        that the cut after it reaches up to this one, also when the assignment is absent: it may
        have come back since, and gone by a removal whose answer was lost or by somebody's hand.
        """
        closer = self._closer(hold.target)
        begun = self._ended.begin(hold.grant, now)
        changed = self._assignments.remove(closer, hold.key)
        if changed.how == "left" or not changed.there:
            self._ended.note(
                hold.grant,
                changed.cloud_at,
                lambda ended: ended.gone(changed.cloud_at),
                begun.tried_at,
            )
        return Receipt(
            cloud_at=changed.cloud_at,
            detail={
                "assignment": changed.how,
                "read_back": "not_yet" if changed.there and changed.how != "left" else "yes",
            },
        )

    def cut(self, hold: Hold, now: Instant) -> Receipt:
        """End the sessions taken before the removal was everywhere.

        While the assignment cannot be removed, the person is refused altogether, for an hour at a
        time, until it is.

        Raises:
            Refused: `still_assigned` when it is there and nobody tried to remove it for this grant:
                what it gives is somebody else's; what AWS refuses, `bad_policy`, `no_room`.
        """
        settings, closer = self._set_up(hold.target), self._closer(hold.target)
        if self._denies is None or not settings.cuts(hold.target):
            at = self._assignments.ways(closer, hold.key).cloud_at
            return Receipt(cloud_at=at, detail={"deny": "none"})
        place = Place(arn=self._arn(hold.role), account=hold.target.account)
        user = hold.key.native_principal

        def holding_now() -> frozenset[str]:
            return self._assignments.holders(closer, place.account, place.arn).users

        if hold.removed_elsewhere:
            self._ended.forget_before(hold.grant, hold.removed_elsewhere)
        known = self._ended.of(hold.grant)
        gone_at = self._gone_at(closer, hold, known)
        if gone_at is None:
            held = self._denies.hold_back(closer, place, user, holding_now)
            return Receipt(
                cloud_at=held.cloud_at, detail={"deny": "held_back", "before": wire(held.before)}
            )
        if known is None or known.gone_at is None:
            # Written down first: what is tried again must be the same cut.
            at, ours = gone_at, known is not None
            noted = self._ended.note(
                hold.grant,
                at,
                lambda ended: ended.gone(at) if ours else replace(ended, gone_at=at),
                known.tried_at if known else None,
            )
            known = known or noted
        done = self._denies.cut(closer, place, user, gone_at, holding_now)
        self._ended.note(
            hold.grant,
            done.cloud_at,
            lambda ended: replace(
                ended,
                gone_at=ended.gone_at or gone_at,
                before=gone_at + settings.propagation,
                spread=done.spread,
            ),
            known.tried_at,
        )
        return Receipt(
            cloud_at=done.cloud_at,
            detail={
                "deny": "everybody" if done.everybody else "person",
                "before": wire(done.before),
                "provisioned": "yes" if done.spread else "not_yet",
                "wrote": "yes" if done.wrote else "no",
            },
        )

    def probe(self, hold: Hold, now: Instant) -> Probed:
        """UNTOLD: nobody but the person can take a session of a permission set."""
        return Probed(
            answer=Answer.UNTOLD,
            control=Answer.UNTOLD,
            call=hold.role.probe,
            cloud_at=now,
            method=Method.LISTED,
            detail={"why": "only the person can take a session of a permission set"},
        )

    def mend(
        self,
        target: Target,
        role: Role,
        cuts: Mapping[str, Cut],
        now: Instant,
        must_stay: MustStay = nothing_more,
    ) -> tuple[str, ...]:
        """Put back entries somebody removed and prune those that can no longer matter.

        An entry goes when no session from before its instant can live: whoever is named, so
        `must_stay` is not asked.

        Raises:
            Refused: `no_deny_lock` when `lock_dir` cannot be used; what AWS refuses.
        """
        settings, closer = self._set_up(target), self._closer(target)
        if self._denies is None or not settings.cuts(target):
            return ()
        place = Place(arn=self._arn(role), account=target.account)
        wanted = {grant: self._due(grant, cut, now) for grant, cut in cuts.items()}
        mended = self._denies.mend(
            closer,
            place,
            wanted,
            lives(role),
            lambda: self._assignments.holders(closer, place.account, place.arn).users,
        )
        if mended.restored and not mended.spread:
            self._ended.not_spread(mended.restored)
        return mended.restored

    def _standing(self, opener: Center, hold: Hold) -> Receipt:
        """What stood before is never made: it would not be removed at the end either."""
        ways = self._assignments.ways(opener, hold.key)
        if ways.direct(hold.key.native_role):
            return Receipt(cloud_at=ways.cloud_at, detail={"assignment": "there"})
        raise Refused(
            "not_standing",
            "expected the access that stood before this grant, got none: somebody has ended it",
            "end the other grants of this access, then ask again",
        )

    def _not_refused(self, closer: Center, hold: Hold) -> None:
        """An assignment under a deny that lies ahead would open what cannot be used."""
        if self._denies is None or not self._set_up(hold.target).cuts(hold.target):
            return
        place = Place(arn=self._arn(hold.role), account=hold.target.account)
        read = self._denies.read(closer, place)
        whose = read.whose(place, hold.key.native_principal)
        until = read.document.denies.refused_until(whose)
        if until is None or until <= read.cloud_at:
            return
        if whose in read.document.denies.holding:
            until = self._release(closer, hold, place, read)
        left = show_duration(until - read.cloud_at + timedelta(seconds=1))
        raise Refused(
            "settling",
            f"expected sessions of this person to be accepted, got a deny of an earlier grant for "
            f"{left} more",
            "it is opened by itself after that",
        )

    def _release(self, closer: Center, hold: Hold, place: Place, read: DenyRead) -> Instant:
        """What held the person back is over once their assignment is gone: shorten it."""
        ways = self._assignments.ways(closer, hold.key)
        user = hold.key.native_principal
        if self._denies is None or ways.direct(hold.key.native_role):
            return read.cloud_at
        done = self._denies.cut(
            closer,
            place,
            user,
            ways.cloud_at,
            lambda: self._assignments.holders(closer, place.account, place.arn).users,
        )
        return done.before

    def _gone_at(self, closer: Center, hold: Hold, ended: Ended | None) -> Instant | None:
        """When the assignment was gone; None: it is there although its removal was tried."""
        if ended is not None and ended.gone_at is not None:
            return ended.gone_at
        ways = self._assignments.ways(closer, hold.key)
        if not ways.direct(hold.key.native_role):
            return ways.cloud_at
        if ended is None:
            raise Refused(
                "still_assigned",
                "expected the assignment to be gone or its removal to have been tried, got it "
                "there and nothing known of its removal",
                "it is another grant's, or somebody else's; remove it first if it is neither",
            )
        return None

    def _due(self, grant: str, cut: Cut, now: Instant) -> Cut:
        """The instant that must stand. Of a grant whose removal is not read back: none yet.

        Our record of a cut counts for more than what is asked for, unless that is of a later
        removal. A removal whose cut failed here may have been cut by another machine since.
        """
        ended = self._ended.of(grant)
        if ended is not None and ended.before is not None:
            later = cut.before is not None and cut.before > ended.before + LATER
            return cut if later else replace(cut, before=ended.before)
        settling = self._settings.propagation if self._settings else timedelta(0)
        not_gone = ended is not None and ended.gone_at is None
        if not_gone or (cut.before is not None and cut.before >= now + settling):
            return replace(cut, before=None)
        return cut

    def _looking(self, target: Target) -> Looking:
        return Looking(
            settings=self._set_up(target),
            assignments=self._assignments,
            denies=self._denies,
            schedules=self._schedules,
            ended=self._ended,
        )

    def _arn(self, role: Role) -> str:
        return _refusing(lambda: set_arn(self._settings, role))

    def _set_up(self, target: Target) -> CenterSettings:
        if self._settings is None:
            raise Refused(
                "no_settings",
                f"expected `[identity_center]` for target `{target.id}`, got none",
                "add it to tidegate.toml",
            )
        return self._settings

    def _opener(self, target: Target) -> Center:
        settings = self._set_up(target)
        same = settings.opener == settings.closer
        return self._closer(target) if same else self._center("opener", settings)

    def _closer(self, target: Target) -> Center:
        return self._center("closer", self._set_up(target))

    def _account(self, target: Target) -> Aws | None:
        """Clients of the account itself, as its own closer. None: no keys are set for one.

        The process's own identity is not taken for it: nothing says of which account that is.
        """
        settings = self._accounts.get(target.id)
        if settings is None or settings.keys(Identity.CLOSER) is None:
            return None
        with self._guard:
            if target.id not in self._theirs:
                self._theirs[target.id] = Aws(settings, Identity.CLOSER)
            return self._theirs[target.id]

    def _center(self, which: str, settings: CenterSettings) -> Center:
        with self._guard:
            if which not in self._centers:
                keys = settings.opener if which == "opener" else settings.closer
                self._centers[which] = Center(settings, Aws(keys))
            return self._centers[which]


def _refusing(ask: Callable[[], Made]) -> Made:
    """`ask()`, with a wrong catalogue told as what it is to a caller of verbs: nothing happened."""
    try:
        return ask()
    except AskedWrongly as error:
        raise Refused(error.code, error.message, error.help) from error
