"""One role as its cloud shows it, held against what we know: ours is closed again, the rest found.

Called by `reconciling.py`, which says whose turn it is. A list is never acted on: before anything
is changed, the one access is read again with nobody else's hand on it, and what a list may still
show from before a change is not believed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from tidegate.base.duty import Duty
from tidegate.base.errors import TidegateError, WorldFailed
from tidegate.base.when import Instant, wire
from tidegate.catalogue import Assignment, Role, Target
from tidegate.connectors.port import Connector, Powers, Scope, Seen
from tidegate.expire import sealed_ahead
from tidegate.finding import ClosedHow, Finding, FindingKind, Sighting
from tidegate.flow.baseline import known_before, maker_of, returned, standing_of
from tidegate.flow.closing_again import close_again
from tidegate.flow.deadlines import NOT_KEPT, arm_again, latest_end
from tidegate.flow.erranding import ask_to_arm
from tidegate.flow.finding import end, see
from tidegate.flow.gone_early import tell_early
from tidegate.flow.holding import closing_hold
from tidegate.flow.house import House
from tidegate.grant import Grant, GrantState

log = structlog.get_logger("tidegate.role_look")

GRANTS_A_PAGE = 1_000
ASK_TO_ARM = "ask to arm"  # the pace's name: one waits for an opener, not one a look

MENDED_UNSEEN = frozenset(  # kinds a look no longer seeing them is the end of
    {
        FindingKind.LEFTOVER,
        FindingKind.READDED,
        FindingKind.STANDING,
        FindingKind.HELD_STILL,
        FindingKind.GONE_EARLY,
        FindingKind.ROLE_CHANGED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One step: which role was looked at, how much access the cloud showed, what was found."""

    role: str
    shown: int
    findings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One role being looked at: where, by which connector, since when, and what it showed."""

    house: House
    connector: Connector
    target: Target
    role: Role
    at: Instant
    seen: tuple[Seen, ...]

    @property
    def powers(self) -> Powers:
        """What the role's kind promises."""
        return self.connector.powers(self.role.kind)

    @property
    def usable(self) -> dict[str, Seen]:
        """What a session could be taken by, by native principal."""
        return {one.key.native_principal: one for one in self.seen if one.usable}

    def sighting(self, kind: FindingKind, what: str, says: str, **more: str) -> Sighting:
        """A fact of this role; `more` as `Sighting` has it."""
        named = {"sort": "assignment", "owner": self.target.owner, **more}
        return Sighting(
            kind=kind, target=self.target.id, what=what, says=says, role=self.role.id, **named
        )


def look_at(house: House, target: Target, role: Role) -> Looked:
    """Hold everything the cloud shows of one role against what we know.

    Raises:
        WorldFailed: the cloud or the store did not answer; what was found before stays found.
        Exception: whatever else went wrong with a part of it, once the other parts were looked at.
    """
    connector = house.connector(target.connector)
    at = house.now()
    seen = tuple(connector.observe(Scope(target=target, role=role), at))
    look = Look(house=house, connector=connector, target=target, role=role, at=at, seen=seen)
    found, fault = _found(look)
    named = {one.id for one in found}
    whole = fault is None
    for finding in house.store.live_of_role(target.id, role.id):
        try:
            if finding.id in named:
                house.unseen.pop(finding.id, None)
            else:
                _not_named(look, finding, whole)
        except Exception as other:  # noqa: BLE001 - as above: no finding's trouble keeps another open
            tell(other, "a finding could not be looked at", role)
            fault = fault or other
    if fault is not None:
        raise fault
    return Looked(role=role.id, shown=len(seen), findings=len(found))


def _found(look: Look) -> tuple[list[Finding], Exception | None]:
    """Every finding of a look, and the first fault: one access's trouble hides no other's."""
    found: list[Finding] = []
    first: Exception | None = None
    for looks in _findings(look):
        try:
            found += [one for one in looks() if one is not None]
        except Exception as fault:  # noqa: BLE001 - a rim: raised once the rest was looked at
            tell(fault, "a part of a role could not be looked at", look.role)
            first = first or fault
    return found, first


def _not_named(look: Look, finding: Finding, whole: bool) -> None:
    """A finding that is open, and not among those of this look.

    What came back of ours is over only when it was closed to the end: its sessions too. In a look
    that was not `whole` nothing else is over: it may be in what was not looked at.
    """
    ours = finding.kind in (FindingKind.LEFTOVER, FindingKind.READDED)
    if (ours and _finish(look, finding)) or not whole:
        return
    if finding.kind in MENDED_UNSEEN:
        _no_more(look, finding)
    elif finding.kind is FindingKind.DEADLINE:
        _deadline_right(look, finding)


def _no_more(look: Look, finding: Finding) -> None:
    """A look does not see it any more: it is over, unless the list may be an old one."""
    house = look.house
    if finding.kind is FindingKind.STANDING and not _absent(look, finding):
        return
    first = house.unseen.setdefault(finding.id, look.at)
    if look.at >= first + look.powers.stale_window:
        house.unseen.pop(finding.id, None)
        end(house, finding, ClosedHow.FIXED, house.now())


def _absent(look: Look, finding: Finding) -> bool:
    """Whether this look would have shown the access, and did not.

    What is in a baseline stands all the same, and a role that is another one by now in the
    catalogue shows nothing of what it was.
    """
    native = look.role.native.get("arn", look.role.id)
    shown = {seen.key.text() for seen in look.seen if seen.usable}
    return f"|{native}|" in finding.what and finding.what not in shown


def _finish(look: Look, finding: Finding) -> bool:
    """Close again to the end what a look before this one began; False: nothing of ours is left."""
    house = look.house
    grant = house.store.grant(finding.grant)
    with house.store.only_one(finding.what) as ours:
        if not ours:
            return True
        row = house.store.assignment(grant.assignment)
        if row is None or house.store.closing_on(row.id):
            return False
        if row.holders:  # opened upon while it was signed for: not over, and closed after its end
            return row.stood_before and row.native_principal in look.usable
        if grant.state is GrantState.REMOVED and not row.stood_before:
            return False  # called back to closing, where its cut was tried too
        close_again(house, look.connector, grant, closing_hold(house, grant), finding)
    return True


def _findings(look: Look) -> Iterator[Callable[[], Iterable[Finding | None]]]:
    """What there is to look at, each for itself; ours that came back first."""
    rows, unread = _rows(look)
    unknown: dict[str, Seen] = {}
    held: list[tuple[Assignment, Seen]] = []
    for name, seen in look.usable.items():
        if name in unread:  # whose it is, is not known: neither ours nor somebody's standing one
            yield partial(_not_told, unread[name])
            continue
        row = rows.get(name)
        try:
            ours = row is not None and not row.holders and maker_of(look.house, row, seen)
        except Exception as fault:  # noqa: BLE001 - as in `_found`
            yield partial(_not_told, fault)
            continue
        if row is None or not (row.holders or ours):
            unknown[name] = seen
        elif ours:
            yield partial(_one, _ours_again, look, row)
        elif not row.stood_before and not seen.inherited:
            held.append((row, seen))
    yield partial(_role_changed, look)
    yield partial(_denied_early, look)
    yield partial(_standing, look, unknown)
    yield partial(_gone_early, look)
    yield partial(_held_still, look)
    for row, seen in held:
        yield partial(_one, _deadline, look, row, seen)


def _one(
    looks: Callable[..., Finding | None], *what: Look | Assignment | Seen
) -> tuple[Finding | None]:
    return (looks(*what),)


def _not_told(fault: Exception) -> Iterable[Finding | None]:
    """Of access that no row tells of: the look is not whole, and goes on."""
    raise fault


def _role_changed(look: Look) -> Iterator[Finding | None]:
    """What somebody changed in the role itself."""
    for says in look.connector.drift(look.target, look.role, look.at):
        what = f"{look.role.id}: {says}"
        seen = look.sighting(FindingKind.ROLE_CHANGED, what[:400], says, sort="role")
        yield see(look.house, seen, look.house.now())


def _rows(look: Look) -> tuple[dict[str, Assignment], dict[str, WorldFailed]]:
    """What we know of the access shown, and of which no row can be read, by native principal.

    Read after the cloud was.
    """
    rows: dict[str, Assignment] = {}
    unread: dict[str, WorldFailed] = {}
    for place in {(one.key.connector, one.key.account, one.key.native_role) for one in look.seen}:
        found, not_read = look.house.store.readable_on(*place)
        rows |= {row.native_principal: row for row in found}
        unread |= not_read
    return rows, unread


def _standing(look: Look, unknown: dict[str, Seen]) -> Iterator[Finding | None]:
    """Access nobody asked us for: the baseline at the first look, findings from then on."""
    before = known_before(look.house, look.connector, look.target, look.role, unknown, look.at)
    for name, seen in sorted(unknown.items()):
        if name not in before:
            yield _another_name(look, seen) or see(
                look.house, standing_of(look.target, look.role, seen), look.house.now()
            )


def _another_name(look: Look, seen: Seen) -> Finding | None:
    """The finding of the same access by another role that hands out the same native one."""
    house = look.house
    known = house.store.finding_of(FindingKind.STANDING, look.target.id, seen.key.text())
    if known is None or not known.live or known.role == look.role.id:
        return None
    if known.role not in house.laws.catalogue.roles:
        return None
    house.store.findings_seen((known.id,), house.now())
    return known


def _ours_again(look: Look, row: Assignment) -> Finding | None:
    """Access we made, or took away, is there and no grant wants it: close it again at once."""
    house, now = look.house, look.house.now()
    grant = maker_of(house, row, look.usable[row.native_principal])
    if grant is None or _may_be_stale(look, grant):
        return None
    with house.store.only_one(row.key.text()) as ours:
        if not ours:
            return None
        fresh = house.store.assignment(row.id)
        if fresh is None or fresh.holders or house.store.closing_on(row.id):
            return None
        hold = closing_hold(house, grant)
        seen = next(iter(look.connector.observe(Scope(target=hold.target, hold=hold), now)))
        if not seen.usable or maker_of(house, fresh, seen) is None:
            return None  # NB. what is somebody else's by now is told by the next look
        kind = FindingKind.READDED if grant.removed_at else FindingKind.LEFTOVER
        for known in returned(house, look.target.id, row):
            if known.accepted(now):
                return known
        found = see(house, _again_says(look, kind, row, grant, seen), now, once_more=True)
        if found is None:
            return None
        return close_again(house, look.connector, house.store.grant(grant.id), hold, found)


def _again_says(
    look: Look, kind: FindingKind, row: Assignment, grant: Grant, seen: Seen
) -> Sighting:
    by = seen.detail.get("by", "")
    who = f" by {by}" if by else " by another system"
    told = "was there again after its end, added" + who
    says = told if kind is FindingKind.READDED else "was left in the cloud with no grant open"
    return look.sighting(
        kind,
        row.key.text(),
        f"{row.native_principal} on {grant.role} {says}; it is closed again",
        principal=grant.principal,
        grant=grant.id,
        by=by,
    )


def _may_be_stale(look: Look, grant: Grant) -> bool:
    """Whether a list may still show what we have already taken away.

    What a wrong clock sealed excuses none: the one access is read again before anything is done.
    """
    changed = grant.removed_at or grant.closing_at
    if changed is None or sealed_ahead(changed, look.at):
        return False
    return look.at < changed + look.powers.stale_window + look.powers.propagation


def _deadline(look: Look, row: Assignment, seen: Seen) -> Finding | None:
    """The cloud's own deadline of open access: armed again when it is missing or another.

    One that is only later because its latest holder left is brought forward without a word.
    """
    house, now = look.house, look.house.now()
    place = (look.target.id, look.role.kind)
    if seen.deadline_at is None and place in house.unarmed:
        return None
    wanted = latest_end(house, row.holders)
    if wanted is None or _near(seen.deadline_at, wanted):
        return None
    if Duty.OPEN in house.duties:
        how = arm_again(house, row.id).get("deadline", "")
    elif not house.pace.may(ASK_TO_ARM, now):
        return None
    else:
        try:
            how = ask_to_arm(house, row.id).get("deadline", "")
            house.pace.forget(ASK_TO_ARM)
        except WorldFailed as fault:
            house.pace.later(ASK_TO_ARM, now, house.randomness(2))
            says = f"is not {wire(wanted)}, and no process that opens could set it: {fault.code}"
            return see(house, _deadline_says(look, row, says), house.now())
    if how == NOT_KEPT:  # no such thing here: connectors are set up once a process
        house.unarmed.add(place)
    if how in ("", "there", NOT_KEPT) or _near(seen.deadline_at, row.deadline_at):
        return None
    was = "was gone" if how == "made" else "was another"
    said = _deadline_says(look, row, f"{was}; set again")
    found = see(house, said, house.now(), once_more=True)
    if found is not None:
        end(house, found, ClosedHow.HEALED, house.now())
    return found


def _deadline_says(look: Look, row: Assignment, says: str) -> Sighting:
    grant = look.house.store.grant(row.holders[-1])
    return look.sighting(
        FindingKind.DEADLINE,
        row.key.text(),
        f"the cloud's own deadline of {row.native_principal} on {look.role.id} {says}",
        sort="deadline",
        principal=grant.principal,
        grant=grant.id,
    )


def _deadline_right(look: Look, finding: Finding) -> None:
    """One that could not be set is right by now, or nobody holds the access any more."""
    shown = {seen.key.text(): seen for seen in look.seen}.get(finding.what)
    known, unread = _rows(look)
    row = {row.key.text(): row for row in known.values()}.get(finding.what)
    if row is None and unread:
        return
    wanted = latest_end(look.house, row.holders) if row else None
    if wanted is None:
        end(look.house, finding, ClosedHow.FIXED, look.house.now())
    elif shown is not None and _near(shown.deadline_at, wanted):
        end(look.house, finding, ClosedHow.HEALED, look.house.now())


def _near(got: Instant | None, wanted: Instant) -> bool:
    """Whether they are the same: clouds keep whole seconds."""
    return got is not None and abs(got - wanted) < timedelta(seconds=1)


def _gone_early(look: Look) -> Iterator[Finding | None]:
    """Open grants whose access somebody else took away: told to the holder, never made again."""
    house, powers = look.house, look.powers
    if powers.issues:
        return  # nothing is kept in the cloud while such a grant is open: see `_denied_early`
    shown = look.usable
    settled = look.at - powers.stale_window - powers.propagation
    grants = list(_grants(look, GrantState.OPEN))
    rows = house.store.assignments_named(one.assignment for one in grants)
    for grant in grants:
        row = rows.get(grant.assignment)
        if row is None or row.native_principal in shown:
            continue
        if grant.opened_at is None or grant.opened_at > settled:
            continue
        with house.store.only_one(row.key.text()) as ours:
            now = house.now()
            again = house.store.grant(grant.id)
            if not ours or again.state is not GrantState.OPEN:
                continue
            hold = closing_hold(house, again)
            seen = next(iter(look.connector.observe(Scope(target=hold.target, hold=hold), now)))
        if not seen.usable:
            yield tell_early(house, again, "somebody removed it in the cloud", now)


def _denied_early(look: Look) -> Iterator[Finding | None]:
    """A deny that names a grant still open, and that we did not write."""
    denied = {
        seen.key.native_principal
        for seen in look.seen
        if seen.cut and not seen.usable and seen.key.native_principal.startswith("gr_")
    }
    if not denied:
        return
    for grant in _grants(look, GrantState.OPEN):
        if grant.id in denied:
            says = "somebody wrote a deny that names it"
            yield tell_early(look.house, grant, says, look.house.now())


def _held_still(look: Look) -> Iterator[Finding | None]:
    """Grants that ended while other access to the same stands."""
    for grant in _grants(look, GrantState.REMOVED):
        if grant.held_by_standing:
            says = f"{grant.id} ended, and its holder still has {look.role.id}: "
            yield see(
                look.house,
                look.sighting(
                    FindingKind.HELD_STILL,
                    grant.id,
                    says + grant.still_held_by,
                    remedy=f"tidegate paths {grant.principal} {look.target.id}",
                    sort="grant",
                    principal=grant.principal,
                    grant=grant.id,
                ),
                look.house.now(),
            )


def _grants(look: Look, state: GrantState) -> Iterator[Grant]:
    """Every grant of the role in that state, a page at a time."""
    before: str | None = None
    while True:
        page = look.house.store.grants(
            role=look.role.id, states=frozenset({state}), limit=GRANTS_A_PAGE, before=before
        )
        yield from page
        if len(page) < GRANTS_A_PAGE:
            return
        before = page[-1].id


def tell(fault: Exception, what: str, role: Role) -> None:
    """In the server's log: a mistake of ours with where it was made."""
    if isinstance(fault, TidegateError):
        log.warning(what, role=role.id, code=fault.code)
    else:
        log.error(what, role=role.id, exc_info=fault)
