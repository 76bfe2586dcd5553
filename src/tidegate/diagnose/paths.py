"""`tidegate paths`: every way a person has access to a target now, and the cause of each.

Pure: evidence, rows and what connectors showed go in, ways come out. It tells a way where one was
seen, or where the evidence says that one must be assumed; nothing is called closed here.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from tidegate.base.when import Instant, parse_instant, wire
from tidegate.connectors.port import Seen
from tidegate.diagnose.paths_told import AS_IT_SHOULD, Cause, Evidence, Path, hit
from tidegate.evidence.events import Event
from tidegate.grant import Grant, GrantState
from tidegate.session import Session

__all__ = ["AS_IT_SHOULD", "Cause", "Evidence", "Known", "Looked", "Path", "find_paths"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One grant of the person on the target, with what is known and was seen of it.

    Attributes:
        key: the natural key of its assignment in one line; empty before an intent.
        person_key: whether the key is the person's own, shared by all their grants of the role.
        stood_before: the same access was there before the intent.
        events: the events of this grant, in order.
        seen: its hold, read back; None when the cloud was not asked or did not answer.
        propagation: how long a change takes to be true everywhere.
        uncut: how long a session outlives the removal when it is not cut.
        derived: how long what a session made outlives the end even when it is cut.
    """

    grant: Grant
    key: str
    person_key: bool
    stood_before: bool
    events: tuple[Event, ...]
    sessions: tuple[Session, ...] = ()
    seen: Seen | None = None
    propagation: timedelta = timedelta(0)
    uncut: timedelta = timedelta(0)
    derived: timedelta = timedelta(0)

    def event(self, *names: str) -> tuple[Evidence, ...]:
        """The last event of one of these names, as evidence."""
        found = next((one for one in reversed(self.events) if one.name in names), None)
        if found is None:
            return ()
        return (Evidence(what=found.name, at=str(found.data["at"]), index=found.idx),)

    @property
    def acted_at(self) -> Instant | None:
        """When the removal that is sealed last acted."""
        for one in reversed(self.events):
            if one.name == "grant.removed":
                return parse_instant(str(one.data["acted_at"]))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Everything `find_paths` reasons over.

    Attributes:
        mine: the person's grants on the target, newest first.
        ways: (role id, Seen) of the person's own native principal.
        everybody: (role id, Seen) of every other native principal there.
        others: grants of other people on the target that are not over.
        explained: natural keys that a grant of somebody wants there now.
        names: what people call a principal id.
    """

    now: Instant
    mine: tuple[Known, ...] = ()
    ways: tuple[tuple[str, Seen], ...] = ()
    everybody: tuple[tuple[str, Seen], ...] = ()
    others: tuple[Grant, ...] = ()
    explained: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)


def find_paths(looked: Looked) -> tuple[Path, ...]:
    """Every way, the most alarming cause first; each role and cause of one grant once."""
    shared: dict[str, list[Known]] = {}
    found: list[Path] = []
    for known in looked.mine:
        if known.person_key and known.key:
            shared.setdefault(known.key, []).append(known)
        else:
            found += _of_issuing(looked, known)
    roles = {seen.key.text(): (role, seen) for role, seen in looked.ways if not seen.inherited}
    groups = {seen.key.text(): (role, seen) for role, seen in looked.ways if seen.inherited}
    for key in dict.fromkeys([*shared, *roles, *groups]):
        of_key = shared.get(key, [])
        role = of_key[0].grant.role if of_key else (roles.get(key) or groups[key])[0]
        direct, group = roles.get(key), groups.get(key)
        held = next((known.seen for known in of_key if known.seen is not None), None)
        found += _of_key(
            looked,
            role,
            of_key,
            direct[1] if direct else held,
            group[1] if group else held if held and held.inherited else None,
        )
    once = {(path.cause, path.role, path.grant): path for path in reversed(found)}
    order = list(Cause)
    return tuple(
        sorted(once.values(), key=lambda path: (order.index(path.cause), path.role, path.grant))
    )


def _of_key(
    looked: Looked, role: str, of_key: list[Known], seen: Seen | None, group: Seen | None
) -> Iterator[Path]:
    """Ways by one assignment that a person's grants of a role share."""
    now = looked.now
    there = seen is not None and seen.usable and not seen.inherited
    running = [known for known in of_key if _runs(known.grant, now)]
    closing = [known for known in of_key if _should_end(known.grant, now)]
    ended = [known for known in of_key if known.acted_at and not _is(known, GrantState.CLOSING)]
    newest = of_key[0] if of_key else None
    stood = newest if newest is not None and newest.stood_before else None
    if group is not None and group.usable:
        yield _standing(looked, role, group, newest)
    if seen is None:
        # The cloud did not answer: what is sealed must be assumed to be there.
        yield from (_running(looked, known, of_key, None) for known in running)
        yield from (_unclosed(looked, known, None) for known in closing if not running)
    elif there:
        yield from (_running(looked, known, of_key, seen) for known in running)
        if stood is not None:
            yield _standing(looked, role, seen, stood)
        elif not running and closing:
            yield from (_unclosed(looked, known, seen) for known in closing)
        elif not running and ended:
            last = max(ended, key=lambda known: known.acted_at or looked.now)
            yield _again(looked, last, seen)
        elif not running:
            yield _unasked(looked, role, seen)
    if not there:
        lately = [*ended, *(closing if seen is not None else ())]
        yield from (
            path for known in lately for path in _lives_on(looked, known, known.seen or seen)
        )


def _of_issuing(looked: Looked, known: Known) -> Iterator[Path]:
    """Ways by a grant whose credentials carry it: each grant is its own."""
    grant, seen, now = known.grant, known.seen, looked.now
    if _runs(grant, now):
        if seen is None or seen.usable:
            yield _running(looked, known, looked.mine, seen)
        return
    if grant.ends_at is None or grant.state is GrantState.FAILED:
        return
    usable = seen is not None and seen.usable
    removed = grant.state in (GrantState.REMOVED, GrantState.GONE)
    if removed and seen is not None and usable:
        yield _again(looked, known, seen)
    elif usable or (seen is None and not removed and now < grant.ends_at):
        yield _unclosed(looked, known, seen)
    elif known.sessions:
        yield from _lives_on(looked, known, seen)


def _lives_on(looked: Looked, known: Known, seen: Seen | None) -> Iterator[Path]:
    """What a session taken before may still do, though no new one can start."""
    grant, now = known.grant, looked.now
    ended_at = known.acted_at or grant.closing_at or grant.ends_at
    if ended_at is None:
        return
    cut = known.person_key and known.uncut > timedelta(0)
    if cut and not (seen.cut if seen is not None else grant.cut):
        acted_at = known.acted_at or now
        until = max(grant.residual_until or acted_at, acted_at + known.uncut)
        if now < until:
            yield _session(looked, known, seen, until)
        return
    # A credential that carries its end needs no change to be true anywhere when that comes.
    changed = known.person_key or (
        grant.closing_at is not None and ended_at < (grant.ends_at or ended_at)
    )
    span = max(known.derived, known.propagation) if changed else known.derived
    until = grant.residual_until or ended_at + span
    if now >= until:
        return
    if known.derived:
        yield _chained(looked, known, until)
    else:
        yield _propagates(looked, known, seen, until)


def _running(looked: Looked, known: Known, beside: Iterable[Known], seen: Seen | None) -> Path:
    """A grant inside its window; an overlap when another of the same access has ended."""
    grant = known.grant
    until = wire(grant.ends_at) if grant.ends_at else ""
    since = grant.opened_at or grant.opens_at
    over = [
        other.grant
        for other in beside
        if other.grant.id != grant.id
        and other.grant.role == grant.role
        and other.grant.closing_at is not None
        and other.grant.closing_at >= since
    ]
    proof = (*known.event("grant.opened", "grant.intended"), *_back(seen))
    fix = (
        f"end it: `tidegate revoke {grant.id} --comment …`, or `tidegate done {grant.id}` if yours"
    )
    if over:
        said = f"`{over[0].id}` ended, and `{grant.id}` holds the same access until {until}"
        return _path(Cause.OVERLAP, known, said, fix, until=until, evidence=proof)
    said = f"`{grant.id}` is open until {until}"
    if grant.state is GrantState.INTENDED:
        said = f"`{grant.id}` is being opened, until {until}"
    return _path(Cause.GRANTED, known, said, fix, until=until, evidence=proof)


def _unclosed(looked: Looked, known: Known, seen: Seen | None) -> Path:
    grant = known.grant
    due = min(at for at in (grant.ends_at, grant.closing_at) if at is not None)
    said = f"`{grant.id}` had to end at {wire(due)} and is not closed"
    said += f": read back, it is usable at {wire(seen.cloud_at)}" if seen else ", by its evidence"
    if grant.outcome:
        said += f"; the last try came back `{grant.outcome}`"
    own = [grant.ends_at] if not known.person_key and grant.ends_at else []
    until = wire(own[0]) if own and looked.now < own[0] else ""
    fix = f"mend what `tidegate doctor` and `tidegate trace {grant.id}` name; closing goes on by"
    fix += " itself"
    others = [one for one in looked.others if _should_end(one, looked.now)]
    proof = (*known.event("grant.noted", "grant.closing", "grant.opened"), *_back(seen))
    return _path(
        Cause.UNCLOSED, known, said, fix, until=until, evidence=proof, hit_=_people(looked, others)
    )


def _again(looked: Looked, known: Known, seen: Seen) -> Path:
    """There again after our removal: still spreading at first, re-added after that."""
    grant, acted_at = known.grant, known.acted_at
    if acted_at is not None and looked.now < acted_at + known.propagation:
        return _propagates(looked, known, seen, acted_at + known.propagation)
    at = wire(acted_at) if acted_at else "its end"
    if known.person_key:
        said = f"it was removed at {at} (`{grant.id}`) and is there again; no grant wants it"
        fix = "find in the cloud's own trail who made it, stop that system, and remove it there"
    else:
        said = f"our cut of `{grant.id}` at {at} is not there any more: its sessions may act"
        fix = "find in the cloud's own trail who took it; the worker puts it back by itself"
    until = "" if known.person_key or not grant.ends_at else wire(grant.ends_at)
    proof = (*known.event("grant.removed"), *_back(seen))
    others = _unexplained(looked, grant.role) if known.person_key else ()
    return _path(Cause.READDED, known, said, fix, until=until, evidence=proof, hit_=others)


def _standing(looked: Looked, role: str, seen: Seen, known: Known | None) -> Path:
    who = seen.inherited
    if who:
        said = f"{who} gives this access, beside any grant"
        fix = f"whoever owns {who} takes the person out of it, or the role off it"
        same = [one.key.native_principal for where, one in looked.everybody
                if where == role and one.inherited == who]  # fmt: skip
    else:
        said = "this access stood before any grant, so it is not ours to remove"
        fix = "whoever owns it removes it in the cloud; then it can be asked for and ends by itself"
        same = []
    held = [
        one for one in looked.others if one.held_by_standing and one.still_held_by.endswith(who)
    ]
    proof = known.event("grant.removed", "grant.intended") if known else ()
    return Path(
        cause=Cause.STANDING,
        role=role,
        says=said,
        fix=fix,
        grant=known.grant.id if known else "",
        request=known.grant.request if known else "",
        evidence=(*proof, *_back(seen)),
        hit=hit([*_people(looked, held), *same])[0],
        more=hit([*_people(looked, held), *same])[1],
    )


def _unasked(looked: Looked, role: str, seen: Seen) -> Path:
    named, more = hit(_unexplained(looked, role))
    return Path(
        cause=Cause.UNASKED,
        role=role,
        says="it is there, and no request of this person ever made it",
        fix="whoever owns the target removes it in the cloud, and lets them ask for it instead",
        evidence=_back(seen),
        hit=named,
        more=more,
    )


def _session(looked: Looked, known: Known, seen: Seen | None, until: Instant) -> Path:
    grant = known.grant
    said = f"no new session can start under `{grant.id}`; one taken before may act until"
    said += f" {wire(until)}"
    if grant.cut:
        said += ": the cut that is sealed is not seen"
    fix = f"allow Tidegate the cut (`tidegate doctor` names the right), or wait until {wire(until)}"
    others = [
        one
        for one in looked.others
        if one.state is GrantState.REMOVED and not one.cut and _ahead(one, looked.now)
    ]
    proof = (*known.event("grant.cut", "grant.removed", "grant.closing"), *_back(seen))
    people = _people(looked, others)
    return _path(Cause.SESSION, known, said, fix, until=wire(until), evidence=proof, hit_=people)


def _chained(looked: Looked, known: Known, until: Instant) -> Path:
    grant = known.grant
    said = f"`{grant.role}` may make tokens or assume other roles: a session chained under"
    said += f" `{grant.id}` may act until {wire(until)}; side doors are not searched yet"
    fix = f"wait until {wire(until)}; for later grants take the call out of the role's `allows`"
    others = [one for one in looked.others if one.role == grant.role and _ahead(one, looked.now)]
    proof = (*known.event("grant.removed", "grant.closing"), *known.event("session.issued"))
    people = _people(looked, others)
    return _path(Cause.CHAINED, known, said, fix, until=wire(until), evidence=proof, hit_=people)


def _propagates(looked: Looked, known: Known, seen: Seen | None, until: Instant) -> Path:
    said = f"`{known.grant.id}` was ended just now; the change is true everywhere by {wire(until)}"
    proof = (*known.event("grant.cut", "grant.removed"), *_back(seen))
    fix = f"wait until {wire(until)}, then look again"
    return _path(Cause.PROPAGATION, known, said, fix, until=wire(until), evidence=proof)


def _path(
    cause: Cause,
    known: Known,
    says: str,
    fix: str,
    *,
    until: str = "",
    evidence: tuple[Evidence, ...] = (),
    hit_: Iterable[str] = (),
) -> Path:
    named, more = hit(hit_)
    return Path(
        cause=cause,
        role=known.grant.role,
        says=says,
        fix=fix,
        until=until,
        grant=known.grant.id,
        request=known.grant.request,
        evidence=evidence,
        hit=named,
        more=more,
    )


def _back(seen: Seen | None) -> tuple[Evidence, ...]:
    return () if seen is None else (Evidence(what="read back", at=wire(seen.cloud_at)),)


def _people(looked: Looked, grants: Iterable[Grant]) -> tuple[str, ...]:
    return tuple(looked.names.get(one.principal, one.principal) for one in grants)


def _unexplained(looked: Looked, role: str) -> tuple[str, ...]:
    """Other native principals who have the role directly, and no grant wants it there."""
    return tuple(
        seen.key.native_principal
        for where, seen in looked.everybody
        if where == role
        and seen.usable
        and not seen.inherited
        and seen.key.text() not in looked.explained
    )


def _runs(grant: Grant, now: Instant) -> bool:
    begun = grant.state in (GrantState.INTENDED, GrantState.OPEN)
    return begun and grant.ends_at is not None and now < grant.ends_at


def _should_end(grant: Grant, now: Instant) -> bool:
    """Whether it had to end and is not removed yet."""
    begun = grant.state in (GrantState.INTENDED, GrantState.OPEN)
    return grant.state is GrantState.CLOSING or (begun and not _runs(grant, now))


def _ahead(grant: Grant, now: Instant) -> bool:
    return grant.residual_until is not None and now < grant.residual_until


def _is(known: Known, state: GrantState) -> bool:
    return known.grant.state is state
