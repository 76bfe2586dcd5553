"""A cloud in memory behind the same port: for the demo, the tests, the simulation, the bench.

`SimulatedCloud` (in `simulated_cloud.py`) is the cloud; `SimulatedConnector` is the way to it, and
it can fail by script. Two connectors on one cloud are two Tidegate processes; a cloud that outlives
its connector is a cloud after a crash.

Two role kinds, so that later connectors have a model:

- `iam-role`: like AWS. Granting makes nothing; `issue` gives sessions that the cloud ends at the
  grant's end; a deny that names the grant cuts them early.
- `assignment`: no deadline of its own. `grant` makes an assignment, `revoke` removes it, and a
  session somebody took before lives on until its own end unless it is cut.

Deterministic: no clock but the `now` of each call (or one given), no randomness, keys are counted.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

from tidegate.base.errors import AskedWrongly, Refused, Unknown, Unreachable
from tidegate.base.when import Instant, wire
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors.port import (
    Administrator,
    Answer,
    Credential,
    Cut,
    Exposure,
    Found,
    Health,
    Hold,
    MustStay,
    Person,
    Powers,
    Probed,
    Proof,
    Receipt,
    Scope,
    Seen,
    SideDoor,
    SideDoors,
    Staying,
    Trouble,
    ends_by_itself,
    may_prune,
    nothing_more,
    worth_restoring,
)
from tidegate.connectors.role_kinds import IAM_ROLE
from tidegate.connectors.simulated_cloud import (
    ASSIGNMENT,
    SESSION_LIFE,
    SHORTEST_SESSION,
    SIDE_DOOR_SORTS,
    LiveSession,
    SimulatedCloud,
)

__all__ = [
    "ASSIGNMENT",
    "SESSION_LIFE",
    "Fault",
    "FaultKind",
    "LiveSession",
    "SimulatedCloud",
    "SimulatedConnector",
]

PROPAGATION = timedelta(seconds=5)
DEADLINE_LATE = timedelta(minutes=1)  # how late the cloud's own removal may come

POWERS: Mapping[str, Powers] = {
    IAM_ROLE: Powers(
        native_deadline=True,
        deadline_precision=timedelta(milliseconds=1),
        floor=timedelta(0),
        proof=Proof.DENIED,
        issues=True,
        cuts_apart=False,
        propagation=PROPAGATION,
        stale_window=timedelta(0),
        shared_document=True,
        earliest_close=timedelta(0),
    ),
    ASSIGNMENT: Powers(
        native_deadline=False,
        deadline_precision=timedelta(0),
        floor=timedelta(0),
        proof=Proof.REMOVED,
        issues=False,
        cuts_apart=True,
        propagation=PROPAGATION,
        stale_window=PROPAGATION,
        shared_document=False,
        earliest_close=timedelta(0),
    ),
}

Made = TypeVar("Made")


class FaultKind(StrEnum):
    """How a call can go wrong."""

    THROTTLE = "throttle"  # turned away: Refused `throttled`, nothing changed
    REFUSE = "refuse"  # Refused, nothing changed
    LOSE_REQUEST = "lose_request"  # Unknown, and nothing changed
    LOSE_REPLY = "lose_reply"  # Unknown, and it took effect
    APPLY_LATE = "apply_late"  # answered well, takes effect `delay` later
    FAIL_LATE = "fail_late"  # accepted, under way for `delay`, then failed: nothing changed
    LIST_STALE = "list_stale"  # reads show what was `delay` ago
    DOWN = "down"  # Unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One line of the script.

    Attributes:
        verb: the port's verb it strikes; `*` is any that reaches the cloud.
        count: how many calls it strikes before it is spent; ignored with `until`.
        until: it strikes every call before this instant.
        delay: of APPLY_LATE, FAIL_LATE and LIST_STALE. FAIL_LATE strikes `grant`, `revoke` and
            `cut`; asked again while it is under way, it is still the one that fails.
    """

    kind: FaultKind
    verb: str = "*"
    count: int = 1
    until: Instant | None = None
    delay: timedelta = timedelta(0)


class SimulatedConnector:
    """The port's verbs on a `SimulatedCloud`, with a script of faults.

    Args:
        cloud: what it acts on; a new one when none is given.
        clock: the cloud's clock; without it the cloud's time is the `now` of the call.
        cuts: whether live sessions of an `assignment` can be ended here.
        deadlines: whether the cloud removes an `assignment` by itself at its end.
    """

    def __init__(
        self,
        cloud: SimulatedCloud | None = None,
        clock: Callable[[], Instant] | None = None,
        *,
        cuts: bool = True,
        deadlines: bool = False,
    ) -> None:
        self.cloud = cloud or SimulatedCloud()
        self.cuts = cuts
        self.deadlines = deadlines
        self.tells_administrators = False
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._lock = threading.Lock()
        self._script: list[tuple[Fault, int]] = []

    def script(self, *faults: Fault) -> None:
        """Add faults. The first that fits a call strikes it."""
        with self._lock:
            self._script += [(fault, fault.count) for fault in faults]

    def calm(self) -> None:
        """Drop what is left of the script."""
        with self._lock:
            self._script.clear()

    def powers(self, kind: str) -> Powers:
        """What the kind promises."""
        if kind not in POWERS:
            raise AskedWrongly(
                "unknown_kind",
                f"expected role kind `{IAM_ROLE}` or `{ASSIGNMENT}`, got `{kind[:40]}`",
                "correct `kind` in the catalogue",
            )
        return POWERS[kind]

    def exposure(self, target: Target, role: Role) -> Exposure:
        """Propagation; for `assignment` with every Tidegate process dead only a deadline bounds."""
        if role.kind != ASSIGNMENT:
            return Exposure(attended=PROPAGATION, unattended=timedelta(0))
        unattended = SESSION_LIFE + DEADLINE_LATE if self.deadlines else None
        return Exposure(
            attended=PROPAGATION + self.residual(target, role, cut=self.cuts), unattended=unattended
        )

    def residual(self, target: Target, role: Role, cut: bool) -> timedelta:
        """A session's life for an `assignment` that was not cut; else zero."""
        return SESSION_LIFE if role.kind == ASSIGNMENT and not cut else timedelta(0)

    def lingers(self, target: Target, role: Role) -> timedelta:
        """A session's life for `assignment`; `iam-role` sessions carry their end."""
        return SESSION_LIFE if role.kind == ASSIGNMENT else timedelta(0)

    def key(self, target: Target, role: Role, grant: str, person: Person) -> AssignmentKey:
        """A grant's own for `iam-role`; the person's, whatever the grant, for `assignment`."""
        return AssignmentKey(
            connector=target.connector,
            account=target.account,
            native_role=role.native.get("arn", role.id),
            native_principal=(person.login or person.principal)
            if role.kind == ASSIGNMENT
            else grant,
        )

    def check(self, target: Target, role: Role, others: tuple[Role, ...]) -> tuple[str, ...]:
        """An unknown kind or a missing `arn`; nothing else can be wrong here."""
        told: list[str] = []
        if role.kind not in POWERS:
            told.append(f"{role.id}: unknown kind `{role.kind}`")
        if not role.native.get("arn"):
            told.append(f"{role.id}: no native `arn`")
        return tuple(told)

    def health(self, target: Target, now: Instant) -> Health:
        """Reached, unless the script says otherwise."""
        try:
            self._reach("health", now, lambda at: at)
        except (Refused, Unreachable, Unknown) as error:
            return Health(
                reached=isinstance(error, Refused),
                cloud_at=None,
                round_trip=timedelta(0),
                identity="",
                findings=(Trouble(code=error.code, message=error.message, help=error.help),),
            )
        return Health(
            reached=True, cloud_at=self._at(now), round_trip=timedelta(0), identity="simulated"
        )

    def discover(self, target: Target) -> Iterator[Found]:
        """Nothing: the cloud has every role it is asked for."""
        return iter(())

    def observe(self, scope: Scope, now: Instant) -> Iterator[Seen]:
        """With a hold: its one Seen. Else the denies and assignments of the scope."""
        with self.cloud.lock:
            if scope.hold is not None:
                hold = scope.hold
                seen = [self._reach("observe", now, lambda at: self._see(hold, at, self._at(now)))]
            else:
                seen = self._reach(
                    "observe", now, lambda at: self._see_all(scope, at, self._at(now))
                )
        yield from seen

    def drift(self, target: Target, role: Role, now: Instant) -> tuple[str, ...]:
        """That the role is gone, or whom it was made to trust."""

        def act(at: Instant) -> tuple[str, ...]:
            name = role.native.get("arn", "")
            if not self.cloud.has_role(target.account, name):
                return ("the role is gone",)
            return tuple(f"it trusts {who}" for who in self.cloud.trusted(target.account, name))

        return self._reach("drift", now, act)

    def side_doors(
        self, hold: Hold, keys: tuple[str, ...], since: Instant, until: Instant, now: Instant
    ) -> SideDoors:
        """What holders made in the window; `by` names the grant whose session made it."""

        def act(at: Instant) -> SideDoors:
            made = self.cloud.made_between(hold.key.account, since, until)
            found = tuple(
                SideDoor(
                    sort=one.sort,
                    what=one.what,
                    at=one.at,
                    says=f"{one.sort} made inside the window",
                    remedy=f"cloud delete {one.sort} {one.what}",
                    by=hold.grant if one.key_id in keys else "",
                )
                for one in made
            )
            return SideDoors(searched=SIDE_DOOR_SORTS, found=found)

        return self._reach("side_doors", now, act)

    def paced_as(self, target: Target) -> str:
        """`iam-role`, once it `tells_administrators`."""
        return IAM_ROLE if self.tells_administrators else ""

    def administrators(self, target: Target, now: Instant) -> tuple[Administrator, ...]:
        """Whom somebody made one."""
        found = self._reach(
            "administrators", now, lambda at: self.cloud.administrators(target.account)
        )
        return tuple(
            Administrator(
                sort=sort, what=what, says=f"{sort} {what} may do all", remedy=f"rm {what}"
            )
            for what, sort in found
        )

    def grant(self, hold: Hold, now: Instant) -> Receipt:
        """`iam-role`: look the role up. `assignment`: make it, unless it is there, or stood before
        and is there no more (`not_standing`).
        """

        def act(at: Instant) -> Receipt:
            self._there(hold)
            if hold.role.kind == ASSIGNMENT:
                self.cloud.make_for(hold, at)
            return Receipt(cloud_at=self._at(now), detail={"role": hold.key.native_role})

        return self._change("grant", hold, now, act)

    def issue(self, hold: Hold, session: str, now: Instant) -> Credential:
        """A session that the cloud ends at `hold.ends_at`. Raises Refused `past_end` after it."""
        if now >= hold.ends_at:
            raise Refused(
                "past_end",
                f"expected a grant that lasts, got one that ended at {wire(hold.ends_at)}",
                "request the role again",
            )
        if hold.role.kind != IAM_ROLE:
            raise Refused(
                "no_credentials",
                f"expected a role kind that issues credentials, got `{hold.role.kind}`",
                "sign in at the cloud",
            )
        return self._reach("issue", now, lambda at: self._open(hold, hold.grant, at, hold.ends_at))

    def arm(self, hold: Hold, until: Instant, now: Instant) -> Receipt | None:
        """The cloud will remove the assignment at `until`."""
        if hold.role.kind != ASSIGNMENT or not self.deadlines:
            return None

        def act(at: Instant) -> Receipt:
            before = self.cloud.deadline(hold.key)
            self.cloud.assigned(hold.key, at)  # a deadline that has passed took effect then
            how = "there" if before == until else ("made" if before is None else "moved")
            self.cloud.arm(hold.key, until)
            detail = {"deadline": how, "deadline_at": wire(until)}
            return Receipt(cloud_at=self._at(now), detail=detail)

        return self._reach("arm", now, act)

    def disarm(self, hold: Hold, now: Instant) -> Receipt | None:
        """The cloud forgets that."""
        if hold.role.kind != ASSIGNMENT or not self.deadlines:
            return None

        def act(at: Instant) -> Receipt:
            self.cloud.arm(hold.key, None)
            return Receipt(cloud_at=self._at(now), detail={"deadline": "none"})

        return self._reach("disarm", now, act)

    def revoke(self, hold: Hold, now: Instant) -> Receipt:
        """`iam-role`: deny by name, if early by the cloud's clock. `assignment`: remove it."""

        def act(at: Instant) -> Receipt:
            key = hold.key
            if hold.role.kind == ASSIGNMENT:
                self.cloud.unassign(key, at)
                return Receipt(cloud_at=self._at(now), detail={"assignment": "removed"})
            if ends_by_itself(hold.ends_at, now, self._at(now)):
                return Receipt(cloud_at=self._at(now), detail={"deny": "deadline"})
            self.cloud.deny(key.account, key.native_role, hold.grant, at)
            return Receipt(cloud_at=self._at(now), detail={"deny": "list"})

        return self._change("revoke", hold, now, act)

    def cut(self, hold: Hold, now: Instant) -> Receipt:
        """Stop the live sessions of this hold and of no other."""
        if hold.role.kind == IAM_ROLE:
            return self.revoke(hold, now)
        if not self.cuts:
            return Receipt(cloud_at=self._at(now), detail={"sessions": "not cut"})

        def act(at: Instant) -> Receipt:
            self.cloud.cut_sessions(hold.key, at)
            return Receipt(cloud_at=self._at(now), detail={"sessions": "cut"})

        return self._change("cut", hold, now, act)

    def probe(self, hold: Hold, now: Instant) -> Probed:
        """As that access, and beside it uncut. UNTOLD for `assignment` and without a probe call."""
        call = hold.role.probe
        if hold.role.kind != IAM_ROLE or not call:
            return Probed(
                answer=Answer.UNTOLD, control=Answer.UNTOLD, call=call, cloud_at=self._at(now)
            )

        def act(at: Instant) -> Probed:
            mine = self._open(hold, hold.grant, at, hold.ends_at)
            beside = self._open(hold, f"control-{hold.grant}", at, at + PROPAGATION)
            probed = Probed(
                answer=self.cloud.use(mine, at),
                control=self.cloud.use(beside, at),
                call=call,
                cloud_at=self._at(now),
                detail={"key_id": mine.key_id, "control_key_id": beside.key_id},
            )
            self.cloud.close(mine, beside)
            return probed

        return self._reach("probe", now, act)

    def mend(
        self,
        target: Target,
        role: Role,
        cuts: Mapping[str, Cut],
        now: Instant,
        must_stay: MustStay = nothing_more,
    ) -> tuple[str, ...]:
        """Deny again what somebody opened; drop the denies nobody needs."""
        arn = role.native.get("arn", "")

        def act(at: Instant) -> tuple[str, ...]:
            cloud_at = self._at(now)
            there = [g for owner, g in self.cloud.denies(target.account, at) if owner == arn]
            unnamed = [grant for grant in there if grant not in cuts]
            stay = must_stay(unnamed, False) if unnamed else Staying()
            for grant in there:
                until = cuts[grant].until if grant in cuts else None
                kept = until is None and (stay is None or grant in stay.cut)
                if not kept and may_prune(until, now, cloud_at):
                    self.cloud.undeny(target.account, arn, grant)
            return tuple(
                grant
                for grant, cut in sorted(cuts.items())
                if worth_restoring(cut.until, cloud_at)
                and self._deny_again(target, role, grant, cut, at)
            )

        return self._reach("mend", now, act)

    def _deny_again(self, target: Target, role: Role, grant: str, cut: Cut, at: Instant) -> bool:
        name = role.native.get("arn", "")
        if role.kind != ASSIGNMENT:
            return self.cloud.deny(target.account, name, grant, at)
        if not self.cuts:
            return False
        key = AssignmentKey(
            connector=target.connector,
            account=target.account,
            native_role=name,
            native_principal=cut.native_principal,
        )
        known, wanted = self.cloud.cut_before(key, at), cut.before or at
        missing = known is None or known < wanted
        if missing:
            self.cloud.cut_sessions(key, at, wanted)
        return missing

    def _see(self, hold: Hold, at: Instant, cloud_at: Instant) -> Seen:
        key, cloud, inherited = hold.key, self.cloud, ""
        there = cloud.has_role(key.account, key.native_role)
        if hold.role.kind == ASSIGNMENT:
            usable, cut = cloud.assigned(key, at), cloud.sessions_cut(key, at)
            if not usable:
                inherited = cloud.group_of(key)
            deadline, usable = cloud.deadline(key), usable or bool(inherited)
            foreign = not inherited and usable and cloud.is_foreign(key)
        else:
            cut = cloud.denied(key.account, key.native_role, hold.grant, at)
            usable, foreign = not cut and cloud_at < hold.ends_at, False
            deadline = hold.ends_at
        return Seen(
            key=key,
            usable=usable and there,
            cut=cut,
            cloud_at=cloud_at,
            deadline_at=deadline,
            foreign=foreign,
            inherited=inherited and f"group {inherited}",
            detail={"by": cloud.maker_of(key)} if foreign else {},
            cut_before=cloud.cut_before(key, at) if cut and hold.role.kind == ASSIGNMENT else None,
        )

    def _see_all(self, scope: Scope, at: Instant, cloud_at: Instant) -> list[Seen]:
        account, role = scope.target.account, scope.role
        arn = None if role is None else role.native.get("arn", "")
        seen = [
            Seen(
                key=AssignmentKey(
                    connector=scope.target.connector,
                    account=account,
                    native_role=name,
                    native_principal=grant,
                ),
                usable=False,
                cut=True,
                cloud_at=cloud_at,
            )
            for name, grant in self.cloud.denies(account, at)
            if arn is None or name == arn
        ]
        for key in self.cloud.standing(at):
            if key.account == account and (arn is None or key.native_role == arn):
                foreign = self.cloud.is_foreign(key)
                seen.append(
                    Seen(
                        key=key,
                        usable=True,
                        cut=False,
                        cloud_at=cloud_at,
                        foreign=foreign,
                        deadline_at=self.cloud.deadline(key),
                        detail={"by": self.cloud.maker_of(key)} if foreign else {},
                    )
                )
        return seen

    def _open(self, hold: Hold, tag: str, at: Instant, bound_until: Instant) -> Credential:
        self._there(hold)
        end = at + min(max(SHORTEST_SESSION, hold.ends_at - at), SESSION_LIFE)
        return self.cloud.open(IAM_ROLE, hold.key, tag, at, end, bound_until)

    def _there(self, hold: Hold) -> None:
        if not self.cloud.has_role(hold.key.account, hold.key.native_role):
            raise Refused(
                "not_there",
                f"expected role `{hold.key.native_role}`, got none",
                "look whether the role still exists in the account",
            )

    def _change(
        self, verb: str, hold: Hold, now: Instant, act: Callable[[Instant], Receipt]
    ) -> Receipt:
        """Do `act`, which the cloud takes in at once and may make later, or fail to make."""

        def made(at: Instant) -> Receipt:
            return accepted() if self.cloud.under_way(verb, hold.key, at) else act(at)

        def fails(until: Instant) -> Receipt:
            self.cloud.will_fail(verb, hold.key, until)
            return accepted()

        def accepted() -> Receipt:
            return Receipt(cloud_at=self._at(now), detail={"request": "in_progress"})

        return self._reach(verb, now, made, fails)

    def _reach(
        self,
        verb: str,
        now: Instant,
        act: Callable[[Instant], Made],
        fails: Callable[[Instant], Made] | None = None,
    ) -> Made:
        """Do `act` at the cloud's instant, unless the script strikes. `fails` takes it in instead,
        to fail at an instant.
        """
        at = self._at(now)
        with self.cloud.lock:
            self.calls[verb] += 1
            fault = self._struck(verb, at)
            match fault.kind if fault else None:
                case FaultKind.DOWN:
                    raise Unreachable(
                        "cloud_unreachable", f"expected `{verb}` to arrive, it did not"
                    )
                case FaultKind.THROTTLE:
                    raise Refused("throttled", f"`{verb}` was turned away", "it is tried again")
                case FaultKind.REFUSE:
                    raise Refused("access_denied", f"`{verb}` was refused", "allow it in the cloud")
                case FaultKind.LOSE_REQUEST:
                    raise Unknown("no_answer", f"expected an answer to `{verb}`, got none")
                case FaultKind.LOSE_REPLY:
                    act(at)
                    raise Unknown("no_answer", f"expected an answer to `{verb}`, got none")
                case FaultKind.APPLY_LATE if fault:
                    return act(at + fault.delay)
                case FaultKind.FAIL_LATE if fault and fails:
                    return fails(at + fault.delay)
                case FaultKind.LIST_STALE if fault:
                    return act(at - fault.delay if verb == "observe" else at)
                case _:
                    return act(at)

    def _at(self, now: Instant) -> Instant:
        return self._clock() if self._clock else now

    def _struck(self, verb: str, at: Instant) -> Fault | None:
        """The fault for this call, one less of it left."""
        with self._lock:
            self._script = [
                (fault, left)
                for fault, left in self._script
                if (left > 0 if fault.until is None else at < fault.until)
            ]
            for index, (fault, left) in enumerate(self._script):
                if fault.verb in ("*", verb):
                    self._script[index] = (fault, left if fault.until else left - 1)
                    return fault
        return None
