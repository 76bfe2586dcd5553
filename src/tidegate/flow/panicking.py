"""Panic: ending everything in a scope at once, in a lane of its own, and saying how it stands.

The panic itself is sealed first; from then on nothing opens in its scope. Then every grant there is
named and its end sealed, the riskiest first, in batches that go before everything else that waits
to be written. Taking access away is the worker's, as for every end. Each pass looks again, until
one finds nothing: an opening that was faster than us is met by the next.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from tidegate.base.errors import (
    AskedWrongly,
    EvidenceClosed,
    NotFound,
    Stale,
    TidegateError,
    WorldFailed,
)
from tidegate.base.fact import Step
from tidegate.base.ids import PANIC, PRINCIPAL, id_kind, id_made_at
from tidegate.base.personal import Personal
from tidegate.base.text import LONGEST_REASON, clean_text, mail_key
from tidegate.base.when import Instant
from tidegate.catalogue import Assignment
from tidegate.evidence.journal import JournalLine, open_grants
from tidegate.evidence.journal_book import is_begun, read_back
from tidegate.expire import EndReason, end
from tidegate.flow.adopting import adopt, reading_at
from tidegate.flow.allowing import allow_panic, may_see_panic
from tidegate.flow.holding import lines_by_grant
from tidegate.flow.house import Actor, House, Wanted
from tidegate.flow.panic_names import name_in, named_by
from tidegate.flow.panic_unrowed import begin_of
from tidegate.flow.recovering import close_without_store
from tidegate.grant import LIVE, Cause, Grant, GrantState, failed
from tidegate.panic import (
    Panic,
    PanicState,
    Scope,
    ScopeKind,
    by_risk,
    call,
    check_freeze,
    lift,
    swept,
)
from tidegate.request import Request, RequestState, refuse
from tidegate.store.batch import Committed

log = structlog.get_logger("tidegate.panicking")

BEFORE = frozenset({GrantState.READY, GrantState.INTENDED, GrantState.OPEN})  # not ending yet
CONCERNED = LIVE | BEFORE
PAGE = 1_000
AT_ONCE = 5_000  # Steps waited for together: some seconds of the writer's work
MOST_PASSES = 50  # each finds only what raced with the one before
LEFT_ALONE = timedelta(seconds=15)  # a sweep no process works at is taken up after this


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """How far a panic came that could not be sealed: by grant id, from the journal alone."""

    named: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def closing(self) -> tuple[str, ...]:
        """Those not read back as removed yet."""
        done = set(self.removed)
        return tuple(name for name in self.named if name not in done)


def scope_meant(house: House, actor: Actor | None, kind: ScopeKind, name: str) -> Scope:
    """The scope somebody means; a principal by login, mail address or any id of theirs.

    Raises:
        AskedWrongly: no such target or role was ever in the catalogue in force or in a grant, or
            `all` with a name.
        NotFound: no such person.
    """
    named = name.strip()[:200]
    if kind is ScopeKind.ALL:
        if named:
            raise AskedWrongly("bad_scope", f"expected no name with `all`, got `{named}`", "")
        return Scope(kind)
    if kind is ScopeKind.PRINCIPAL:
        if actor is not None and named in ("me", actor.id, house.store.login_of(actor.id)):
            return Scope(kind, actor.id)
        if actor is not None:  # before it is looked for: names of others are not tried out
            allow_panic(house, actor, Scope(kind, named))
        return Scope(kind, _principal(house, named))
    catalogue = house.laws.catalogue
    known = catalogue.targets if kind is ScopeKind.TARGET else catalogue.roles
    if named not in known and not house.store.grants(
        target=named if kind is ScopeKind.TARGET else None,
        role=named if kind is ScopeKind.ROLE else None,
        limit=1,
    ):
        raise AskedWrongly(
            "unknown_scope",
            f"expected a {kind} of the catalogue or of a grant, got `{named[:40]}`",
            "see `tidegate targets`",
        )
    return Scope(kind, named)


def call_panic(
    house: House, actor: Actor, scope: Scope, reason: str, freeze: timedelta | None
) -> Panic:
    """Seal that everything in `scope` ends. The ends follow by `sweep`.

    Raises:
        NotAllowed: not the actor's to call. AskedWrongly: an odd freeze or reason.
        EvidenceClosed: it cannot be sealed: `panic_unsealed` is the other way.
    """
    allow_panic(house, actor, scope)
    return begin_panic(
        house, Wanted(scope=scope, by=actor.id, via="api", reason=reason, freeze=freeze)
    )


def begin_panic(house: House, wanted: Wanted) -> Panic:
    """`call_panic` once it is known that it may be."""
    now = house.closing_now()  # the later: a slow clock must not shorten what stays shut
    words = clean_text("reason", wanted.reason, LONGEST_REASON) if wanted.reason.strip() else ""
    step = call(
        wanted.id or house.new_id(PANIC, now),
        wanted.scope,
        wanted.by,
        wanted.via,
        wanted.freeze,
        now,
        house.personal(words) if words else None,
    )
    house.store.submit(step, urgent=True).result()
    panic = step.changes[0].after
    assert isinstance(panic, Panic)
    return panic


def sweep(house: House, panic: Panic) -> Panic:
    """Name and end everything in scope that was approved before the panic. Safe to repeat.

    With it goes what no row tells of and this machine's journal does (`panic_unrowed.py`).

    Raises:
        EvidenceClosed: it cannot be sealed now; `resume` takes it up again.
    """
    house.sweeping.add(panic.id)
    try:
        return _sweep(house, panic)
    finally:
        house.sweeping.discard(panic.id)


def _sweep(house: House, panic: Panic) -> Panic:
    panic = house.store.panic(panic.id)
    if panic.state is not PanicState.CALLED:
        return panic
    seen = set(named_by(house, panic.id))
    refused = 0
    comment = house.store.disclosures((panic.reason,)).get(panic.reason) if panic.reason else None
    for _ in range(MOST_PASSES):
        # Requests first: one that is approved between the two readings is met as its grants.
        pending = _pending(house, panic)
        found = [g for g in _grants(house, panic.scope) if _concerns(house, g, panic)]
        new = [grant.id for grant in by_risk(found) if grant.id not in seen]
        panic = name_in(house, panic, new)
        seen.update(grant.id for grant in found)
        still = [grant for grant in found if grant.state in BEFORE]
        _end(house, panic, by_risk(still), comment)
        refused += _refuse(house, panic, pending)
        if not still and not pending:
            break
    unrowed = begin_of(house, panic)
    panic = name_in(house, panic, [name for name in unrowed if name not in seen])
    _commit(house, swept(panic, refused, house.now()))
    return house.store.panic(panic.id)


def resume(house: House) -> None:
    """Take up what nobody works at: sweeps of a process that died, and panics not sealed yet."""
    for wanted in house.wanted.all():
        if not wanted.id:
            continue  # the file that cannot be read: said in the log, and nothing opens meanwhile
        panic = _seal(house, wanted)  # raises EvidenceClosed: it stays wanted
        with suppress(OSError):  # it is sealed under its own id, so a second time does nothing
            house.wanted.drop(wanted.id)
        if panic is not None:
            sweep(house, panic)
    now = house.now()
    for panic in house.store.panics_called():
        # NB. called by a clock ahead of ours says nothing of how long nobody has worked at it.
        left = now - panic.called_at > LEFT_ALONE or panic.called_at > now
        if panic.id not in house.sweeping and left:
            sweep(house, panic)


def _seal(house: House, wanted: Wanted) -> Panic | None:
    """Seal a panic that waited, unless another process did; None: nobody knows whom it means."""
    try:
        return house.store.panic(wanted.id)
    except NotFound:
        pass
    if wanted.names_a_login:
        try:
            scope = scope_meant(house, None, wanted.scope.kind, wanted.scope.name)
        except (NotFound, AskedWrongly) as fault:
            log.error("a panic that waited means nobody", panic=wanted.id, why=fault.message)
            return None
        wanted = replace(wanted, scope=scope)
    try:
        return begin_panic(house, wanted)
    except Stale:
        return house.store.panic(wanted.id)


def panic_unsealed(house: House, wanted: Wanted) -> tuple[str, ...]:
    """Begin the same ends in the closing journal, because the evidence cannot be written (I6).

    Returns the grants named, the riskiest first as far as that can be read. The caller closes them
    by `close_named`, and the panic is sealed by `resume` as soon as that can be, by this process or
    by one that starts later. Until then nothing opens in its scope.

    Raises:
        EvidenceClosed: the journal cannot be read or written either.
        AskedWrongly: an odd freeze.
    """
    check_freeze(wanted.freeze)
    called_at = house.closing_now()
    house.wanted.keep(wanted, wanted.id or house.new_id(PANIC, called_at), called_at)
    try:
        lines = house.journal.read()
    except OSError as fault:
        raise _nothing_writable("read", fault) from None
    told = lines_by_grant(lines)
    back = {line.grant for line in open_grants(lines)}  # gone once, and being closed again
    gone = {line.grant for line in lines if line.kind == "gone"} - back
    named = [
        name for name in _named_without_evidence(house, wanted.scope, lines) if name not in gone
    ]
    _adopt(house, named)
    data = {"reason": EndReason.PANIC.value, "actor": wanted.by}
    now = house.now()
    try:
        house.journal.append_all(
            JournalLine(kind="closing", grant=name, at=now, data=data)
            for name in named
            if not is_begun(told.get(name, ()))
        )
    except OSError as fault:
        raise _nothing_writable("written", fault) from None
    return tuple(named)


def _nothing_writable(what: str, fault: OSError) -> EvidenceClosed:
    return EvidenceClosed(
        "nothing_writable",
        "the evidence cannot be written, and the closing journal cannot be "
        f"{what}: {fault.strerror}",
        "end this access in the cloud by hand, and make room or mend the disk",
    )


def _adopt(house: House, named: Sequence[str]) -> None:
    """What other machines opened of these, as far as rows can be read: else nobody here could."""
    with suppress(WorldFailed):
        read_at = reading_at(house)
        for grant in house.store.grants_named(named).values():
            try:
                adopt(house, grant, read_at)
            except (TidegateError, OSError) as fault:  # the others all the same
                log.error("nothing here says how to close it", grant=grant.id, why=str(fault))


def close_named(house: House, named: Iterable[str]) -> Unsealed:
    """One look at each of `named` from the journal; how far that came."""
    names = tuple(named)
    close_without_store(house, frozenset(names))
    return seen_removed(house, names)


def seen_removed(house: House, names: tuple[str, ...]) -> Unsealed:
    """How far `names` came, by the journal."""
    lines = house.journal.book().lines
    last = {name: read_back(lines.get(name, ())) for name in names}
    removed = (name for name, line in last.items() if line and not line.held)
    return Unsealed(named=names, removed=tuple(removed))


def find_panic(house: House, actor: Actor, panic_id: str) -> Panic:
    """A panic the actor may watch. Raises NotFound."""
    panic = house.store.panic(panic_id)
    if not may_see_panic(house, actor, panic):
        raise NotFound("unknown_id", f"nothing of yours is called `{panic_id}`", "list them")
    return panic


def unfreeze(house: House, actor: Actor, panic_id: str) -> Panic:
    """Lift the freeze of a panic before its time.

    Raises:
        NotFound: nothing the actor may see. NotAllowed: not theirs. AskedWrongly: nothing to lift.
    """
    panic = find_panic(house, actor, panic_id)
    allow_panic(house, actor, panic.scope, lifting=True)
    house.store.commit(lift(panic, actor.id, house.now()))
    return house.store.panic(panic.id)


def _end(house: House, panic: Panic, grants: list[Grant], comment: Personal | None) -> None:
    """Seal the end of each, waiting for AT_ONCE of them together. One that lost a race stays."""
    for start in range(0, len(grants), AT_ONCE):
        some = grants[start : start + AT_ONCE]
        held = house.store.assignments_named(g.assignment for g in some if g.assignment)
        now = house.ending_now()
        waiting: list[Future[Committed]] = []
        for grant in some:
            step = _ending(panic, grant, held.get(grant.assignment), comment, now)
            # Steps of one batch see each other: the next holder lets go of what this one left.
            held.update(
                (c.after.id, c.after) for c in step.changes if isinstance(c.after, Assignment)
            )
            waiting.append(house.store.submit(step, urgent=True))
        _settle(waiting)


def _ending(
    panic: Panic,
    grant: Grant,
    assignment: Assignment | None,
    comment: Personal | None,
    now: Instant,
) -> Step:
    if grant.state is GrantState.READY:
        why = f"ended before it opened, with everything in `{panic.scope.text}`"
        return failed(grant, None, Cause.ENDED_BEFORE, why, now, panic.actor)
    step = end(grant, assignment, EndReason.PANIC, panic.actor, now, comment)
    return Step(step.changes, step.facts)  # the text is kept once, with the panic


def _refuse(house: House, panic: Panic, requests: list[Request]) -> int:
    """Nothing opens from an approval of what was asked before: it is refused."""
    why = f"everything in `{panic.scope.text}` was ended; ask again if the need is still there"
    now = house.now()
    return _settle(
        [
            house.store.submit(refuse(one, "panic", why, now, panic.actor), urgent=True)
            for one in requests
        ]
    )


def _settle(waiting: Iterable["Future[Committed]"]) -> int:
    """Wait for all; returns how many went through. Raises EvidenceClosed after all have ended."""
    closed: WorldFailed | None = None
    done = 0
    for future in waiting:
        try:
            future.result()
            done += 1
        except Stale:
            continue  # somebody was faster: the next pass sees how it is now
        except WorldFailed as fault:
            closed = fault
    if closed is not None:
        raise closed
    return done


def _commit(house: House, step: Step) -> None:
    house.store.submit(step, urgent=True).result()


def _concerns(house: House, grant: Grant, panic: Panic) -> bool:
    """Whether the panic ends it. What is open, or about to be, always: nothing opens meanwhile."""
    return grant.state in LIVE or _came_before(house, grant.request, panic)


def _came_before(house: House, request: str, panic: Panic) -> bool:
    """Whether it was filed before the panic. Two servers' clocks may be hours apart, so one whose
    id says that it came later is believed only when the log says so too.
    """
    made_at = id_made_at(request)
    if made_at is None or made_at <= panic.called_at:
        return True
    filed, called = (house.store.events(subject) for subject in (request, panic.id))
    return not filed or not called or filed[0][0] < called[0][0]


def _grants(house: House, scope: Scope) -> list[Grant]:
    """Every grant in scope that is not over, in pages."""
    found: list[Grant] = []
    before: str | None = None
    while True:
        page = house.store.grants(
            principal=scope.name if scope.kind is ScopeKind.PRINCIPAL else None,
            role=scope.name if scope.kind is ScopeKind.ROLE else None,
            target=scope.name if scope.kind is ScopeKind.TARGET else None,
            states=CONCERNED,
            limit=PAGE,
            before=before,
        )
        found += page
        if len(page) < PAGE:
            return found
        before = page[-1].id


def _pending(house: House, panic: Panic) -> list[Request]:
    """Undecided requests in scope that were filed before the panic."""
    scope, found, before = panic.scope, [], None
    while True:
        page = house.store.requests(
            states=frozenset({RequestState.PENDING}),
            principal=scope.name if scope.kind is ScopeKind.PRINCIPAL else None,
            limit=PAGE,
            before=before,
        )
        found += [r for r in page if scope.covers_request(r) and _came_before(house, r.id, panic)]
        if len(page) < PAGE:
            return found
        before = page[-1].id


def _named_without_evidence(
    house: House, scope: Scope, lines: Iterable[JournalLine]
) -> dict[str, None]:
    """Grants in scope by the database, if it can be read, and by the journal."""
    names: dict[str, None] = {}
    try:
        live = [grant for grant in _grants(house, scope) if grant.state in LIVE]
        names.update((grant.id, None) for grant in by_risk(live))
    except TidegateError as fault:
        log.warning("panic goes by the journal alone", code=fault.code)
    for line in open_grants(lines):
        if scope.covers(str(line.data.get("principal")), str(line.data.get("role"))):
            names.setdefault(line.grant)
    return names


def _principal(house: House, named: str) -> str:
    store = house.store
    kind = id_kind(named)
    if kind == PRINCIPAL:
        try:
            return store.principal(named).id
        except NotFound:
            if _is_in_journal(house, named):
                return named
            raise
    if account := store.account(named):
        return account.principal
    key = mail_key(named) if "@" in named else ""
    fitting = set()
    for account in store.accounts() if key else ():
        one = store.principal(account.principal)
        mail = store.text(one.mail) if one.mail else None
        if mail and mail_key(mail) == key:
            fitting.add(one.id)
    if len(fitting) == 1:
        return fitting.pop()
    raise NotFound(
        "unknown_id" if not fitting else "ambiguous_person",
        f"expected a login, e-mail or principal id of one person, got `{named[:40]}`",
        "list people with `tidegate account list`",
    )


def _is_in_journal(house: House, principal: str) -> bool:
    """Whether our journal has something of theirs open: an older database may not know them."""
    try:
        waiting = house.journal.book().waiting.values()
    except OSError:
        return False
    return any(line.data.get("principal") == principal for line in waiting)
