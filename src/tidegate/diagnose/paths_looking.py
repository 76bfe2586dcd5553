"""Reads what `paths.find_paths` reasons over: the evidence, and what the clouds show now.

Changes nothing. What does not answer is told as not looked at, never taken for "nothing there".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from tidegate.base.errors import AskedWrongly, EvidenceBroken, WorldFailed
from tidegate.base.text import many
from tidegate.base.when import Instant, wire
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors.port import Connector, Hold, Person, Scope, Seen
from tidegate.diagnose.paths import Known, Looked, find_paths
from tidegate.diagnose.paths_told import SIDE_DOORS, Cause, Ways
from tidegate.diagnose.story import Story, read_story
from tidegate.evidence.events import Event
from tidegate.evidence.seal import read_event
from tidegate.grant import LIVE, Grant, GrantState
from tidegate.store import Store

MOST_MINE = 200  # newest grants of one person on one target
MOST_HOLDS = 50  # of them read back in the cloud: each is a call or two
MOST_SEEN = 1_000  # native principals of one role
MOST_OTHERS = 1_000  # grants of other people that are not over
# Longer than a session of any cloud lives (12 hours): older ends cannot have left one behind.
LOOKED_BACK = timedelta(hours=13)
NO_GRANT = "gr_" + "0" * 26  # asked for its key, it shows whether keys are the person's own
# Ways whose cause others may share without any grant: only then everybody is listed.
_SHARED = frozenset({Cause.STANDING, Cause.UNASKED, Cause.READDED})
_FAULTS = (WorldFailed, AskedWrongly)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whose access to what is asked for.

    Attributes:
        principal: the id of the person.
        person: as a cloud may know them.
        roles: the roles of the target, as in force.
        connector: gives the target's connector; raises AskedWrongly without one.
        hold_of: a grant as connectors see it; raises EvidenceBroken when its entry is lost.
        names: what people call a principal id.
    """

    principal: str
    person: Person
    target: Target
    roles: tuple[Role, ...]
    connector: Callable[[], Connector]
    hold_of: Callable[[Grant], Hold]
    names: Callable[[str], str]
    now: Instant


class _Notes:
    """What was looked at, and what was not and why."""

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.unlooked: list[tuple[str, str]] = []

    def missed(self, what: str, fault: WorldFailed | AskedWrongly) -> None:
        self.unlooked.append((what, fault.message))


def look_for_ways(store: Store, asked: Asked) -> Ways:
    """Every way the person has to the target now, as far as everything answers.

    Raises:
        WorldFailed: the database cannot be read.
    """
    notes = _Notes()
    connector: Connector | None = None
    try:
        connector = asked.connector()
    except AskedWrongly as fault:
        notes.missed(f"the cloud behind `{asked.target.id}`", fault)
    mine = tuple(_mine(store, asked, connector, notes))
    others = _others(store, asked)
    looked = Looked(
        now=asked.now,
        mine=mine,
        ways=tuple(_ways(asked, connector, notes)) if connector else (),
        others=others,
        explained=frozenset(_explained(store, others)),
        names={grant.principal: asked.names(grant.principal) for grant in others},
    )
    paths = find_paths(looked)
    shared = {path.role for path in paths if path.cause in _SHARED}
    if shared and connector is not None:
        everybody = tuple(_everybody(asked, connector, shared, notes))
        paths = find_paths(replace(looked, everybody=everybody))
    return Ways(
        person=asked.names(asked.principal),
        target=asked.target.id,
        at=wire(asked.now),
        paths=paths,
        looked=tuple(notes.looked),
        unlooked=(*notes.unlooked, SIDE_DOORS),
    )


def _mine(
    store: Store, asked: Asked, connector: Connector | None, notes: _Notes
) -> Iterator[Known]:
    """The person's grants on the target: those that may matter still are read back."""
    rows = store.grants(principal=asked.principal, target=asked.target.id, limit=MOST_MINE)
    whose = "its" if len(rows) == 1 else "their"
    notes.looked.append(f"{many(len(rows), 'grant')} and {whose} evidence")
    if len(rows) == MOST_MINE:
        notes.unlooked.append(("older grants", f"only the newest {MOST_MINE} are looked at"))
    stories: dict[str, Story] = {}
    held = 0
    for row in rows:
        if row.request not in stories:
            stories[row.request] = read_story(_events(store, row.request), row.request)
            if gap := stories[row.request].gap:
                notes.unlooked.append((f"the whole evidence of `{row.request}`", gap))
        story = stories[row.request]
        grant = row if story.gap else story.grants.get(row.id, row)
        if grant.ends_at is None:
            continue
        try:
            hold = asked.hold_of(grant)
        except _FAULTS as fault:
            notes.missed(f"`{grant.id}` in the cloud", fault)
            continue
        matters = grant.state in LIVE or (
            grant.removed_at is not None and asked.now < grant.removed_at + LOOKED_BACK
        )
        seen = None
        if matters and held >= MOST_HOLDS:
            notes.unlooked.append((f"`{grant.id}` in the cloud", f"more than {MOST_HOLDS} of them"))
        elif matters and connector is not None:
            held += 1
            looked_for = replace(hold, removed_elsewhere=grant.removed_at)
            seen = _seen(connector, looked_for, asked.now, notes)
        yield _known(store, grant, story, hold, seen, connector, notes)


def _known(
    store: Store,
    grant: Grant,
    story: Story,
    hold: Hold,
    seen: Seen | None,
    connector: Connector | None,
    notes: _Notes,
) -> Known:
    intended = story.last(grant.id, "grant.intended")
    known = Known(
        grant=grant,
        key=hold.key.text(),
        person_key=hold.key.native_principal != grant.id,
        stood_before=bool(intended and intended.data["stood_before"]),
        events=story.of(grant.id),
        sessions=tuple(store.sessions(grant.id)),
        seen=seen,
    )
    if connector is None:
        return known
    try:
        powers = connector.powers(hold.role.kind)
        return replace(
            known,
            propagation=max(powers.propagation, powers.stale_window),
            uncut=connector.residual(hold.target, hold.role, False)
            if powers.cuts_apart
            else known.uncut,
            derived=connector.residual(hold.target, hold.role, True),
        )
    except _FAULTS as fault:
        notes.missed(f"how long sessions of `{grant.role}` live", fault)
        return known


def _seen(connector: Connector, hold: Hold, now: Instant, notes: _Notes) -> Seen | None:
    what = f"`{hold.grant}` in the cloud"
    try:
        seen = next(iter(connector.observe(Scope(target=hold.target, hold=hold), now)))
    except _FAULTS as fault:
        notes.missed(what, fault)
        return None
    notes.looked.append(what)
    return seen


def _ways(asked: Asked, connector: Connector, notes: _Notes) -> Iterator[tuple[str, Seen]]:
    """What the cloud shows of the person's own native principal, role by role."""
    for role in asked.roles:
        what = f"`{role.id}` in the cloud, for this person"
        try:
            key = connector.key(asked.target, role, NO_GRANT, asked.person)
            if key.native_principal == NO_GRANT:
                continue  # nobody has it but by a grant's own credentials
            scope = Scope(target=asked.target, role=role, principal=key.native_principal)
            found = [seen for seen in _some(connector, scope, asked.now) if _of(seen, key)]
        except _FAULTS as fault:
            notes.missed(what, fault)
            continue
        notes.looked.append(what)
        yield from ((role.id, seen) for seen in found if seen.usable)


def _everybody(
    asked: Asked, connector: Connector, roles: set[str], notes: _Notes
) -> Iterator[tuple[str, Seen]]:
    for role in asked.roles:
        if role.id not in roles:
            continue
        what = f"who else has `{role.id}`"
        try:
            own = connector.key(asked.target, role, NO_GRANT, asked.person)
            found = list(_some(connector, Scope(target=asked.target, role=role), asked.now))
        except _FAULTS as fault:
            notes.missed(what, fault)
            continue
        notes.looked.append(what)
        yield from ((role.id, seen) for seen in found if seen.usable and not _of(seen, own))


def _some(connector: Connector, scope: Scope, now: Instant) -> Iterator[Seen]:
    for count, seen in enumerate(connector.observe(scope, now)):
        if count == MOST_SEEN:
            return
        yield seen


def _of(seen: Seen, key: AssignmentKey) -> bool:
    return seen.key.native_principal == key.native_principal


def _others(store: Store, asked: Asked) -> tuple[Grant, ...]:
    rows = store.grants(target=asked.target.id, states=LIVE | {GrantState.READY}, limit=MOST_OTHERS)
    return tuple(row for row in rows if row.principal != asked.principal)


def _explained(store: Store, grants: tuple[Grant, ...]) -> Iterator[str]:
    """Keys that a grant wants there, or whose removal is under way: that has a cause of its own."""
    begun = (GrantState.INTENDED, GrantState.OPEN, GrantState.CLOSING)
    for name in sorted({grant.assignment for grant in grants if grant.state in begun}):
        assignment = store.assignment(name)
        if assignment is not None:
            yield assignment.key.text()


def _events(store: Store, request: str) -> list[Event]:
    """The readable beginning of a chain."""
    events: list[Event] = []
    for _, leaf in store.events(request):
        try:
            events.append(read_event(leaf))
        except EvidenceBroken:
            break
    return events
