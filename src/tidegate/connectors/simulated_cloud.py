"""The cloud behind the simulated connector: it decides each use from its own state alone.

It knows assignments, denies and live sessions, and nothing of Tidegate's rows, so an oracle may ask
it who can act. Its ways mirror two families of real clouds: sessions that carry their own end and
are cut by a deny that names the grant (AWS roles), and assignments whose sessions outlive them.
"""

import threading
from dataclasses import dataclass, replace
from datetime import timedelta

from tidegate.base.errors import Refused
from tidegate.base.when import Instant
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.port import Answer, Credential, Hold

ASSIGNMENT = "assignment"
SESSION_LIFE = timedelta(hours=1)  # of a session at most, whatever the grant; AWS's default
SHORTEST_SESSION = timedelta(minutes=15)  # as on AWS: a shorter grant ends by its policy


SIDE_DOOR_SORTS = ("access_key", "user", "role", "trust_edit", "policy_attachment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Something a session made: a way back in for whoever has it."""

    sort: str
    what: str
    account: str
    at: Instant
    key_id: str


@dataclass(slots=True)
class _Span:
    """When something is so: from `since` until `until` (None: still)."""

    since: Instant
    until: Instant | None = None

    def at(self, instant: Instant) -> bool:
        return self.since <= instant and (self.until is None or instant < self.until)


@dataclass(frozen=True, slots=True)
class _CutAt:
    """From `since`, sessions issued up to `before` may not act."""

    since: Instant
    before: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSession:
    """A session the cloud knows: what it may do is asked at each use."""

    key_id: str
    kind: str
    key: AssignmentKey
    grant: str
    issued_at: Instant
    expires_at: Instant
    bound_until: Instant


class SimulatedCloud:
    """One cloud. Thread-safe. Methods that people use take `now`: the cloud's own instant."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._assigned: dict[AssignmentKey, _Span] = {}
        self._foreign: set[AssignmentKey] = set()
        self._denied: dict[tuple[str, str, str], _Span] = {}
        self._cuts: dict[AssignmentKey, list[_CutAt]] = {}
        self._deadlines: dict[AssignmentKey, Instant] = {}
        self._groups: dict[AssignmentKey, str] = {}
        self._sessions: dict[str, LiveSession] = {}
        self._missing: set[tuple[str, str]] = set()
        self._makers: dict[AssignmentKey, str] = {}
        self._trusted: dict[tuple[str, str], tuple[str, ...]] = {}
        self._made: list[Made] = []
        self._administrators: dict[str, dict[str, str]] = {}
        self._failing: dict[tuple[str, AssignmentKey], Instant] = {}
        self._keys = 0

    def make(self, credential: Credential, sort: str, what: str, now: Instant) -> Made:
        """A session makes a side door: a key, a user, a role. Raises Refused when it may not act.

        The object stays when the session ends.
        """
        with self.lock:
            if self.use(credential, now) is not Answer.ALLOWED:
                raise Refused("access_denied", "expected a session that may act, got one that not")
            session = self._sessions[credential.key_id]
            made = Made(
                sort=sort, what=what, account=session.key.account, at=now, key_id=session.key_id
            )
            self._made.append(made)
            return made

    def made_between(self, account: str, since: Instant, until: Instant) -> tuple[Made, ...]:
        """What was made in the account from `since` to `until` and is still there."""
        with self.lock:
            return tuple(
                one for one in self._made if one.account == account and since <= one.at <= until
            )

    def trust(self, account: str, native_role: str, *who: str) -> None:
        """Somebody makes the role trust others as well; nobody: as it should be."""
        with self.lock:
            self._trusted[(account, native_role)] = who

    def trusted(self, account: str, native_role: str) -> tuple[str, ...]:
        """Whom the role trusts beside us."""
        return self._trusted.get((account, native_role), ())

    def administer(self, account: str, what: str, sort: str = "user") -> None:
        """Somebody makes `what` an administrator of the whole account."""
        with self.lock:
            self._administrators.setdefault(account, {})[what] = sort

    def demote(self, account: str, what: str) -> None:
        """Somebody takes that away."""
        with self.lock:
            self._administrators[account].pop(what)

    def administrators(self, account: str) -> tuple[tuple[str, str], ...]:
        """Who administers the whole account, and what each is."""
        return tuple(self._administrators.get(account, {}).items())

    def maker_of(self, key: AssignmentKey) -> str:
        """Who made the assignment, where somebody else did and said so."""
        return self._makers.get(key, "")

    def sign_in(self, key: AssignmentKey, now: Instant, grant: str = "") -> Credential:
        """A person takes a session through an assignment. Raises Refused when there is none."""
        with self.lock:
            if not self.assigned(key, now) and not self.group_of(key):
                raise Refused("not_assigned", "expected an assignment to sign in by, got none")
            end = now + SESSION_LIFE
            return self.open(ASSIGNMENT, key, grant, now, end, end)

    def use(self, credential: Credential, now: Instant) -> Answer:
        """What the cloud answers to a call signed with `credential`, by its own state alone."""
        with self.lock:
            session = self._sessions.get(credential.key_id)
            if session is None:
                return Answer.DENIED
            return Answer.ALLOWED if self._acts(session, now) else Answer.DENIED

    def alive(self, now: Instant) -> tuple[LiveSession, ...]:
        """Every session that could act at `now`: what an oracle compares with the grants."""
        with self.lock:
            return tuple(one for one in self._sessions.values() if self._acts(one, now))

    def standing(self, now: Instant) -> tuple[AssignmentKey, ...]:
        """Every assignment by which a session could be taken at `now`."""
        with self.lock:
            for key in self._deadlines:
                self.assigned(key, now)  # each deadline has been at work
            return tuple(key for key, span in self._assigned.items() if span.at(now))

    def place(self, key: AssignmentKey, now: Instant, by: str = "") -> None:
        """Somebody else makes an assignment: access that stood before, or was added by hand."""
        with self.lock:
            self._assigned[key] = _Span(now)
            self._foreign.add(key)
            self._makers[key] = by

    def give_by_group(self, key: AssignmentKey, group: str) -> None:
        """The same access comes by a group; the empty group ends that."""
        with self.lock:
            self._groups.pop(key, None)
            if group:
                self._groups[key] = group

    def group_of(self, key: AssignmentKey) -> str:
        """The group that gives the access of `key`, or empty."""
        return self._groups.get(key, "")

    def tamper(self, account: str, native_role: str, grant: str, now: Instant) -> None:
        """Somebody removes our deny of `grant`."""
        with self.lock:
            span = self._denied.get((account, native_role, grant))
            if span is not None and span.at(now):
                span.until = now

    def set_back(self, now: Instant) -> None:
        """Its clock was set back to `now`: what had changed by then stays changed, no session lives
        longer for it, and none dates from what is the future again.
        """
        with self.lock:
            for span in (*self._assigned.values(), *self._denied.values()):
                span.since = min(span.since, now)
                span.until = span.until and min(span.until, now)
            for key, cuts in self._cuts.items():
                self._cuts[key] = [replace(cut, since=min(cut.since, now)) for cut in cuts]
            for name, one in self._sessions.items():
                self._sessions[name] = replace(
                    one,
                    issued_at=min(one.issued_at, now),
                    expires_at=min(one.expires_at, now + SESSION_LIFE),
                )

    def delete_role(self, account: str, native_role: str) -> None:
        """The role is gone, and with it the rights of its sessions."""
        with self.lock:
            self._missing.add((account, native_role))

    def has_role(self, account: str, native_role: str) -> bool:
        """Whether the role exists; every role does until it is deleted."""
        return (account, native_role) not in self._missing

    def open(
        self,
        kind: str,
        key: AssignmentKey,
        grant: str,
        now: Instant,
        expires_at: Instant,
        bound_until: Instant,
    ) -> Credential:
        """Mint a session. Its secret is as made up as its key."""
        with self.lock:
            self._keys += 1
            name = f"SIM{self._keys:013d}"
            self._sessions[name] = LiveSession(
                key_id=name,
                kind=kind,
                key=key,
                grant=grant,
                issued_at=now,
                expires_at=expires_at,
                bound_until=bound_until,
            )
        return Credential(
            kind="simulated",
            material={"access_key_id": name, "secret_access_key": f"sk-{name}"},
            key_id=name,
            issued_at=now,
            expires_at=expires_at,
            bound_until=bound_until,
        )

    def close(self, *credentials: Credential) -> None:
        """Forget sessions that a probe made for one moment."""
        with self.lock:
            for credential in credentials:
                self._sessions.pop(credential.key_id, None)

    def make_for(self, hold: Hold, at: Instant) -> None:
        """The assignment of a grant. What stood before it is never made: no end would remove it.

        Raises:
            Refused: `not_standing`: what stood before is there no more.
        """
        if not hold.stood_before:
            self.assign(hold.key, at)
        elif not self.assigned(hold.key, at):
            raise Refused(
                "not_standing",
                f"expected `{hold.key.native_role}` to stand as before, it is there no more",
                "end the other grants of this access, then ask again",
            )

    def assign(self, key: AssignmentKey, at: Instant) -> None:
        """An assignment of ours, from `at`. What is there already stays as it is."""
        span = self._assigned.get(key)
        if span is None or span.until is not None:
            self._assigned[key] = _Span(at)
            self._foreign.discard(key)
        else:
            span.since = min(span.since, at)

    def unassign(self, key: AssignmentKey, at: Instant) -> None:
        """No assignment from `at`. Its live sessions go on."""
        span = self._assigned.get(key)
        if span is not None and span.until is None:
            span.until = max(at, span.since)

    def assigned(self, key: AssignmentKey, at: Instant) -> bool:
        """Whether the assignment is there at `at`; the cloud's own deadline has been at work."""
        span, deadline = self._assigned.get(key), self._deadlines.get(key)
        if span is not None and deadline is not None and span.since < deadline <= at:
            span.until = deadline if span.until is None else min(span.until, deadline)
        return span is not None and span.at(at)

    def arm(self, key: AssignmentKey, until: Instant | None) -> None:
        """Have the cloud remove the assignment at `until`; None: not any more."""
        if until is None:
            self._deadlines.pop(key, None)
        else:
            self._deadlines[key] = until

    def deadline(self, key: AssignmentKey) -> Instant | None:
        """When the cloud removes the assignment by itself."""
        return self._deadlines.get(key)

    def is_foreign(self, key: AssignmentKey) -> bool:
        """Whether somebody else made it."""
        return key in self._foreign

    def cut_sessions(self, key: AssignmentKey, at: Instant, before: Instant | None = None) -> None:
        """From `at`, sessions of the assignment issued up to `before` (None: `at`) may not act."""
        self._cuts.setdefault(key, []).append(_CutAt(at, before or at))

    def cut_before(self, key: AssignmentKey, at: Instant) -> Instant | None:
        """Sessions issued up to this are refused at `at`; None: none are."""
        before = [cut.before for cut in self._cuts.get(key, ()) if cut.since <= at]
        return max(before, default=None)

    def sessions_cut(self, key: AssignmentKey, at: Instant) -> bool:
        """Whether every session of the assignment is refused at `at`.

        A cut of before it ended is one of an earlier end, or misses sessions taken since.
        """
        before, span = self.cut_before(key, at), self._assigned.get(key)
        if before is None or (span is not None and self.assigned(key, at)):
            return False
        return span is None or span.until is None or span.until <= before

    def deny(self, account: str, native_role: str, grant: str, at: Instant) -> bool:
        """Refuse the sessions of `grant` on the role from `at`; False when it was so already."""
        name = (account, native_role, grant)
        span = self._denied.get(name)
        if span is not None and span.until is None:
            span.since = min(span.since, at)
            return False
        self._denied[name] = _Span(at)
        return True

    def undeny(self, account: str, native_role: str, grant: str) -> None:
        """Drop the deny of `grant`."""
        self._denied.pop((account, native_role, grant), None)

    def denied(self, account: str, native_role: str, grant: str, at: Instant) -> bool:
        """Whether the deny of `grant` is in force at `at`."""
        span = self._denied.get((account, native_role, grant))
        return span is not None and span.at(at)

    def denies(self, account: str, at: Instant) -> tuple[tuple[str, str], ...]:
        """Every (native role, grant) denied in the account at `at`."""
        return tuple(
            (role, grant)
            for (owner, role, grant), span in self._denied.items()
            if owner == account and span.at(at)
        )

    def will_fail(self, change: str, key: AssignmentKey, until: Instant) -> None:
        """Take in a change that comes to nothing at `until`."""
        self._failing[change, key] = until

    def under_way(self, change: str, key: AssignmentKey, at: Instant) -> bool:
        """Whether such a change is under way at `at`, and will fail."""
        until = self._failing.get((change, key))
        return until is not None and at < until

    def _acts(self, session: LiveSession, now: Instant) -> bool:
        key = session.key
        if not session.issued_at <= now < min(session.expires_at, session.bound_until):
            return False
        if not self.has_role(key.account, key.native_role):
            return False
        if self.denied(key.account, key.native_role, session.grant, now):
            return False
        before = self.cut_before(key, now)
        return before is None or session.issued_at > before
