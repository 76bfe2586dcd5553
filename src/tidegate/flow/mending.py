"""Looking after cuts: put back what somebody removed, prune what can no longer matter.

What must stand is asked of the database *and* of the closing journal: a database that was restored
knows nothing of an end that came after its backup, and its denies must not be pruned for that.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import structlog

from tidegate.base.errors import EvidenceBroken, TidegateError
from tidegate.base.fact import SYSTEM, Fact, Step
from tidegate.base.when import Instant, parse_instant, wire
from tidegate.catalogue import AssignmentKey, target_chain
from tidegate.connectors.port import Cut, Hold, Staying
from tidegate.evidence.journal import JournalLine
from tidegate.finding import ClosedHow, FindingKind, Sighting
from tidegate.flow.finding import end, owner_of, sighted
from tidegate.flow.holding import closing_hold, hold_of_line
from tidegate.flow.house import House
from tidegate.grant import Grant, GrantState

log = structlog.get_logger("tidegate.mending")

# A deny may be pruned only by the cloud's own clock, which the connector reads. So denies are
# looked after this much longer than our clock says, however far ahead ours may be.
CLOCKS_MAY_DIFFER = timedelta(minutes=15)

RoleKey = tuple[str, str, str]

_ENDS = ("closing", "removed", "gone")  # lines of an end

_GOING_ON = (GrantState.READY, GrantState.INTENDED, GrantState.OPEN, GrantState.CLOSING)
# Of these the rows say whether a cut must stand: `_of_store`.
_ENDED = (GrantState.CLOSING, GrantState.REMOVED, GrantState.GONE, GrantState.SIGNED_OFF)


def mend_cuts(house: House) -> list[str]:
    """Put back cuts somebody removed and prune those that no longer matter, role by role.

    A grant that ends while a call is on its way is not named in it: what the cloud shows and the
    call does not name is asked about once more, when it was read, before it may go.

    Returns the grant ids whose cut was gone and is there again; each is sealed as `cut.restored`,
    now or, when the evidence cannot be written, as soon as it can.
    """
    restored: list[str] = []
    now = house.now()
    by_role, seen_cut = _wanted(house, now)
    for role, (hold, cuts) in by_role.items():
        must_stay = partial(_must_stay, house, role)
        try:
            connector = house.connector(hold.target.connector)
            back = connector.mend(hold.target, hold.role, cuts, now, must_stay)
        except TidegateError as fault:  # one role's trouble must not keep the others open
            log.warning("cuts could not be looked after", role=hold.role.id, code=fault.code)
            continue
        except Exception:  # the rim: a bug of one role's must not either
            log.exception("cuts could not be looked after", role=hold.role.id)
            continue
        # NB. a cut that was never read back was not removed by anybody: it is only written early.
        taken_away = tuple(grant for grant in back if grant in seen_cut)
        if taken_away:
            restored.extend(taken_away)
            house.unsealed.append(_restored(hold, taken_away, now))
    _seal_restored(house)
    return restored


def _must_stay(
    house: House, role: RoleKey, unnamed: Collection[str], nameless: bool
) -> Staying | None:
    """What of a role must stay refused, as is known now that the cloud was read (`MustStay`).

    Besides what is looked after: a cut of a grant that is not over by its row, which another
    process may have ended by its journal, or whose row cannot be read. None: the database or the
    journal cannot be read, or the log is forked.
    """
    now = house.now()
    if house.forked(now) is not None:
        return None
    try:
        house.journal.book()
        by_role, _ = _wanted(house, now)
        in_force = {grant.id for grant in house.store.cuts_in_force(now - CLOCKS_MAY_DIFFER)}
        there = house.store.grant_states(unnamed)
        rows = house.store.grants_named(there)
        held = house.store.assignments_on(*role) if nameless else []
    except (TidegateError, OSError) as fault:
        log.warning("no cut is pruned: what must stay is not known", fault=type(fault).__name__)
        return None
    _, cuts = by_role.get(role, (None, {}))
    over = {name for name, row in rows.items() if row.state not in _GOING_ON}
    return Staying(
        cut=frozenset(cuts) | (in_force & set(unnamed)) | (there.keys() - over),
        going_on=frozenset(grant for one in held for grant in one.holders),
    )


def _wanted(
    house: House, now: Instant
) -> tuple[dict[RoleKey, tuple[Hold, dict[str, Cut]]], set[str]]:
    """The cuts that must stand, by role, and which of their grants were once seen cut.

    By native role, not by catalogue entry: two entries may hand out one role, and looking after the
    denies of one alone would prune those of the other.
    """
    by_role: dict[RoleKey, tuple[Hold, dict[str, Cut]]] = {}
    seen_cut: set[str] = set()
    grants = house.store.cuts_in_force(now - CLOCKS_MAY_DIFFER)
    rows = {one.id: one for one in grants}
    for hold, needed, was_seen in (*_of_store(house, now, grants), *_of_journal(house, now, rows)):
        if needed.until > now - CLOCKS_MAY_DIFFER:
            role = (hold.key.connector, hold.key.account, hold.key.native_role)
            cuts = by_role.setdefault(role, (hold, {}))[1]
            known = cuts.get(hold.grant)
            both = cuts[hold.grant] = _both(known, needed)
            if was_seen and both.before == needed.before:
                seen_cut.add(hold.grant)
            elif not was_seen and known is not None and both.before != known.before:
                seen_cut.discard(hold.grant)  # what is to stand by now was never there
    return by_role, seen_cut


def _both(one: Cut | None, other: Cut) -> Cut:
    """What must stand of two ends of one grant: the first, and that of what came back."""
    if one is None:
        return other
    before = max((cut.before for cut in (one, other) if cut.before), default=None)
    return replace(one, until=max(one.until, other.until), before=before)


def _of_store(
    house: House, now: Instant, grants: Sequence[Grant]
) -> Iterator[tuple[Hold, Cut, bool]]:
    assignments = house.store.assignments_named(one.assignment for one in grants)
    known, house.cut_holds = house.cut_holds, {}
    for grant in grants:
        assignment = assignments.get(grant.assignment)
        held = assignment is not None and bool(assignment.holders)
        if grant.still_held_by or (grant.removed_at is None and held):
            continue  # nothing was cut: another grant's sessions go on by the same assignment
        try:
            read = known.get(grant.id)
            if read is None or read[0] is not grant or read[1] is not assignment:
                read = (grant, assignment, closing_hold(house, grant, assignment))
            if assignment is not None:  # else a cloud was asked, and may answer another time
                house.cut_holds[grant.id] = read
            hold = read[2]
            removed_at = grant.removed_at
            needed = _cut_of(house, hold, removed_at or now, grant.cut_before)
            yield hold, needed, removed_at is not None and grant.cut
        except TidegateError as fault:  # one grant's trouble must not keep the others open
            log.error("a cut cannot be looked after", grant=grant.id, code=fault.code)
        except Exception:  # the rim: a row that means nothing must not either
            log.exception("a cut cannot be looked after", grant=grant.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """An end the journal tells of: its last `intended` line, and those of its closing (`begun`).

    `again`: it was opened anew after it was gone, as what came back is (`closing_again.py`); then
    `lately` are those since, which alone say how it stands. Else they are all of them.
    `signed_off`: nobody tries to end it any more.
    """

    hold: Hold
    intended: JournalLine
    begun: Sequence[JournalLine]
    lately: Sequence[JournalLine]
    again: bool
    signed_off: bool = False


def _of_journal(
    house: House, now: Instant, rows: Mapping[str, Grant]
) -> Iterator[tuple[Hold, Cut, bool]]:
    """Ends the journal knows of and the database does not: it may be an older one, and it is never
    told of the end of what came back.

    Not of what stood before, nor of an assignment that another grant holds, by the journal or by
    the database (who took it by another machine is in that machine's journal), unless the end came
    before that. `rows` are those whose cut the database knows to be in force.
    """
    ends, living = _journal_ends(house)
    ends = _unsaid(house, ends, rows)
    held = _held(living, {one.hold.key.native_principal for one in ends}, now)
    for one in ends:
        hold, begun, lately = one.hold, one.begun, one.lately
        try:
            lingers = house.connector(hold.target.connector).lingers(hold.target, hold.role)
            over = any(line.kind == "gone" for line in lately)
            cut = over or (hold.key not in held and not _held_by_row(house, hold))
            if cut and (lingers or begun[0].at < hold.ends_at):
                removed_at, cut_before = _removed(one, now)
                seen = any(line.kind == "removed" for line in lately)
                yield hold, _cut_of(house, hold, removed_at, cut_before), seen
        except TidegateError as fault:
            log.error("a cut cannot be looked after", grant=hold.grant, code=fault.code)
        except Exception:  # the rim: nor must a line
            log.exception("a cut cannot be looked after", grant=hold.grant)


def _journal_ends(house: House) -> tuple[list[_End], list[JournalLine]]:
    """Every end of the journal, and the `intended` lines of the grants that go on by it."""
    ends: list[_End] = []
    living: list[JournalLine] = []
    known, house.line_holds = house.line_holds, {}
    for lines in _read(house).values():
        begun = [line for line in lines if line.kind in _ENDS]
        made = [place for place, line in enumerate(lines) if line.kind == "intended"]
        if not made:
            continue
        intended = lines[made[-1]]
        if not begun:
            living.append(intended)
        elif hold := _hold_kept(house, known, intended):
            again = len(made) > 1 and any(line.kind == "gone" for line in lines[: made[-1]])
            lately = [line for line in lines[made[-1] :] if line.kind in _ENDS] if again else begun
            ends.append(_End(hold=hold, intended=intended, begun=begun, lately=lately, again=again))
    return ends, living


def _removed(end: _End, now: Instant) -> tuple[Instant, Instant | None]:
    """When it was removed, and the instant before which sessions are cut, if it was read back.

    What nobody saw removed may give a session at any moment. Once that is signed off, only what was
    there when its last closing began stays cut: to cut on would be to go on trying. So it is with
    what came back: each try to close it begins anew, and none is made once somebody accepted it.
    """
    seen = [line for line in end.lately if line.kind == "removed"]
    last = end.lately[-1] if end.lately else end.intended
    if (end.signed_off or end.again) and last.kind == "closing":
        return last.at, None
    if not seen:
        return now, None
    before = seen[-1].data.get("cut_before")
    return seen[-1].at, parse_instant(str(before)) if before else None


def _unsaid(house: House, ends: list[_End], rows: Mapping[str, Grant]) -> list[_End]:
    """Those of which the database does not say itself how they ended; it is asked for no others.

    A row that cannot be read says nothing. Nothing is ever cut of what stood before: it is not ours
    (I5).
    """
    asked = [one for one in ends if not one.hold.stood_before]
    states = house.store.grant_states(one.hold.grant for one in asked if one.hold.grant not in rows)
    # NB. of the many that are just being closed on time no whole row is read.
    doubted = {
        one.hold.grant
        for one in asked
        if (state := states.get(one.hold.grant)) in _ENDED
        and (state is not GrantState.CLOSING or one.begun[0].at < one.hold.ends_at)
        and _may_matter(house, one.hold, one.begun[0].at)
    }
    read = {**rows, **house.store.grants_named(doubted)}
    found: list[_End] = []
    for one in asked:
        name, row = one.hold.grant, read.get(one.hold.grant)
        if row is not None and not _says(row, one):
            found.append(replace(one, signed_off=row.state is GrantState.SIGNED_OFF))
        elif row is None and (name in doubted or states.get(name) not in _ENDED):
            found.append(one)
    return found


def _may_matter(house: House, hold: Hold, begun_at: Instant) -> bool:
    """Whether an end that began then needs a cut, as far as is known without its row."""
    if begun_at < hold.ends_at:
        return True
    try:
        return bool(house.connector(hold.target.connector).lingers(hold.target, hold.role))
    except TidegateError:
        return True  # whoever looks after it meets the same, and tells it


def _says(row: Grant, end: _End) -> bool:
    """Whether the row tells of this very end: it came after the last opening that the journal has.

    What came back after it was gone, or signed off, is closed again beside the row.
    """
    if row.state in (GrantState.CLOSING, GrantState.REMOVED):
        return True
    over_at = row.gone_at or row.removed_at
    told = over_at is not None and not end.again and end.intended.at <= over_at
    return row.state in _ENDED and told


def _held_by_row(house: House, hold: Hold) -> bool:
    """Whether another grant than this holds its access, as the database says."""
    row = house.store.assignment_by_key(hold.key)
    return row is not None and any(grant != hold.grant for grant in row.holders)


def _held(living: list[JournalLine], by: set[str], now: Instant) -> set[AssignmentKey]:
    """What grants of the journal hold that go on, as far as it is `by` one of these.

    Of the others nobody asks, and there may be a hundred thousand.
    """
    asked = (line for line in living if str(line.data.get("native_principal")) in by)
    return {hold.key for line in asked if (hold := _hold(line)) and now < hold.ends_at}


def _hold_kept(
    house: House, known: Mapping[str, tuple[JournalLine, Hold]], line: JournalLine
) -> Hold | None:
    """`_hold`, as it was read at the last look when it is the same line; kept for the next one."""
    read = known.get(line.grant)
    if read is None or read[0] is not line:
        hold = _hold(line)
        if hold is None:
            return None
        read = (line, hold)
    house.line_holds[line.grant] = read
    return read[1]


def _hold(line: JournalLine) -> Hold | None:
    try:
        return hold_of_line(line)
    except EvidenceBroken as fault:
        log.error("a line of the journal cannot be used", grant=line.grant, why=fault.message)
        return None


def _read(house: House) -> Mapping[str, Sequence[JournalLine]]:
    try:
        return house.journal.book().lines
    except OSError as fault:
        log.error("the closing journal cannot be read", errno=fault.errno)
        return {}


def _cut_of(house: House, hold: Hold, removed_at: Instant, cut_before: Instant | None) -> Cut:
    """What must stand of a grant's cut, and until when; `cut_before` as it was read back."""
    connector = house.connector(hold.target.connector)
    lingers = connector.lingers(hold.target, hold.role)
    if not lingers:
        return Cut(until=hold.ends_at, native_principal=hold.key.native_principal)
    settling = connector.powers(hold.role.kind).propagation
    return Cut(
        until=max(hold.ends_at, removed_at + settling + lingers),
        native_principal=hold.key.native_principal,
        before=cut_before or removed_at + settling,
    )


def _seal_restored(house: House) -> None:
    """Seal what was put back, oldest first. What cannot be sealed now stays for the next look."""
    while house.unsealed:
        fact, now = house.unsealed[0], house.now()
        step, told = Step((), (fact,)), []
        for seen in _sightings(house, fact):
            found = house.store.finding_of(seen.kind, seen.target, seen.what)
            if more := sighted(house, found, seen, now, once_more=True):
                step = step.then(more)
                told.append(seen)
        house.store.commit(step)
        house.unsealed.pop(0)
        for seen in told:
            found = house.store.finding_of(seen.kind, seen.target, seen.what)
            if found is not None and found.live:  # one a crash leaves open is for a person to close
                end(house, found, ClosedHow.HEALED, house.now())


def _sightings(house: House, fact: Fact) -> Iterator[Sighting]:
    """Somebody took away a deny of ours: one finding a grant, put right already."""
    target, role = str(fact.data["target"]), str(fact.data["role"])
    grants = [str(name) for name in fact.data["grants"]]
    rows = house.store.grants_named(grants)  # a restored database need not know them
    for name in grants:
        yield Sighting(
            kind=FindingKind.DENY_REMOVED,
            target=target,
            what=name,
            sort="deny",
            says=f"somebody removed the deny of {name} on {role}; it is put back",
            owner=owner_of(house, target),
            role=role,
            principal=rows[name].principal if name in rows else "",
            grant=name,
        )


def _restored(hold: Hold, grants: tuple[str, ...], now: Instant) -> Fact:
    return Fact(
        name="cut.restored",
        subject=target_chain(hold.target.id),
        actor=SYSTEM,
        data={
            "target": hold.target.id,
            "role": hold.role.id,
            "grants": sorted(grants),
            "at": wire(now),
        },
    )
