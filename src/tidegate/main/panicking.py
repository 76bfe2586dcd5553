"""A panic on the server's own machine, which goes through no API."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from tidegate.base.duty import SILENT, Duty, Process, last_heard
from tidegate.base.errors import AskedWrongly, EvidenceBroken, TidegateError
from tidegate.base.fact import SYSTEM
from tidegate.base.ids import PANIC, RANDOM_BYTES, make_id
from tidegate.base.text import LONGEST_REASON, clean_text, many
from tidegate.base.when import Instant, wire
from tidegate.catalogue import Catalogue
from tidegate.flow.expiring import close_now
from tidegate.flow.gathering import Gathered, begin_all, gather
from tidegate.flow.house import Groups, House, Laws, Wanted
from tidegate.flow.panic_names import named_by
from tidegate.flow.panic_standing import stand
from tidegate.flow.panic_unrowed import OLDER
from tidegate.flow.panicking import (
    begin_panic,
    panic_unsealed,
    scope_meant,
    sweep,
)
from tidegate.flow.panics_kept import PanicsKept
from tidegate.flow.recalling import HANDS, Fate, recall
from tidegate.grant import Grant
from tidegate.main.config import Config, load_catalogue, load_config
from tidegate.main.emergency import Plain, Tell, ground_of, read_journals
from tidegate.main.lacking import lacking
from tidegate.main.logs import log_quietly
from tidegate.main.owner import Giving, given_to_owner
from tidegate.main.panic_unknown import BY_OTHERS, close_unknown
from tidegate.main.unknown import MOST_NAMED
from tidegate.main.ways import ways_of
from tidegate.main.wiring import (
    clock,
    open_store,
    outside_of,
    panic_file,
    read_laws,
    witnesses_of,
)
from tidegate.panic import Panic, PanicState, Scope, ScopeKind, Standing, check_freeze
from tidegate.policy.rules import load_rules

log = structlog.get_logger("tidegate.panicking")

LOOK_EVERY = 1.0  # seconds between two looks at a panic


def panic_here(
    config: Path,
    kind: str,
    name: str,
    reason: str,
    freeze: timedelta | None,
    *,
    patience: timedelta,
    tell: Tell,
) -> Plain:
    """End everything in a scope from this machine, whether or not a server runs or answers.

    With the database: sealed like any panic, by `system`; a worker that is alive closes, else this
    process does. Without it, or as soon as it cannot be read or written: from the closing journal,
    and a later server seals what is not sealed.

    Raises:
        AskedWrongly: no such scope, an odd freeze or reason, or the settings are broken.
    """
    log_quietly()
    found = load_config(config)
    scope = Scope(ScopeKind(kind), name.strip())
    words = clean_text("reason", reason, LONGEST_REASON) if reason.strip() else ""
    wanted = Wanted(scope=scope, by=SYSTEM, via="machine", reason=words, freeze=freeze)
    check_freeze(freeze)
    with given_to_owner(found, tell) as giving:
        told = _panic_of(found, wanted, patience, tell, giving)
    return {**told, "owner": giving.said}  # a script reads the answer alone


def _panic_of(
    found: Config, wanted: Wanted, patience: timedelta, tell: Tell, giving: Giving
) -> Plain:
    try:
        house = _house(found, giving)
    except TidegateError as fault:
        tell(f"the database cannot be used ({lacking(fault)}); going by the closing journal")
        lost = _keep(found, PanicsKept(panic_file(found)), wanted, tell, giving)
        return _panic_by_journal(found, wanted.scope, patience, tell, giving, lost)
    try:
        return _panic_with(found, house, wanted, patience, tell, giving)
    finally:
        house.store.close()


def _panic_with(
    found: Config,
    house: House,
    wanted: Wanted,
    patience: timedelta,
    tell: Tell,
    giving: Giving,
) -> Plain:
    """With a database that is open, and may be anything but sound: whatever it does not bear of
    looking up, sealing, sweeping and watching goes by the journal.
    """
    panic, size = None, 0
    try:
        size = house.store.head().size
        scope = scope_meant(house, None, wanted.scope.kind, wanted.scope.name)
        wanted = replace(wanted, scope=scope)
        panic = begin_panic(house, wanted)
    except Exception as fault:
        if isinstance(fault, AskedWrongly) and not isinstance(fault, EvidenceBroken):
            raise  # nobody of that name, no such role: theirs to mend
        tell(f"{_why(fault)}; going by the closing journal")
    if panic is not None:
        wanted = replace(wanted, id=panic.id)  # sealed once: it is kept under no other id
        try:
            panic = sweep(house, panic)
            tell(f"{panic.id}: sealed, with {many(panic.grants, 'end')}")
            return _ended(found, house, panic, size, patience, tell, giving)
        except Exception as fault:  # noqa: BLE001 - a rim: whatever it is, the ends go on
            tell(f"{_why(fault)}; going on by the closing journal")
    lost = "whether the panic is kept is not known: call it again"
    try:
        lost = _keep(found, house.wanted, wanted, tell, giving)
        panic_unsealed(house, wanted)
    except Exception as fault:  # noqa: BLE001 - a rim: closing never waits for what is kept of it
        tell(_why(fault))
    told = _panic_by_journal(found, wanted.scope, patience, tell, giving, lost)
    if panic is None:
        return told
    # Sealed, it is for every machine; what of it is not done here, typing it again may.
    return {**told, **_sealed_told(panic, clock()), "done": False}


def _ended(
    found: Config,
    house: House,
    panic: Panic,
    size: int,
    patience: timedelta,
    tell: Tell,
    giving: Giving,
) -> Plain:
    """Once it is swept: what has rows is watched beside closing what has none. Neither waits for
    the other.

    Raises:
        TidegateError: the database does not bear it.
    """
    witness = witnesses_of(found, house)
    witness.check()  # a log that was put back may be longer by now than what was witnessed
    house.outside = partial(outside_of, house, witness)
    with ThreadPoolExecutor(1, thread_name_prefix="tidegate-unknown") as beside:
        closing = beside.submit(close_unknown, found, house, panic, size, patience, tell, giving)
        _watch(house, panic, patience, tell, closing.done)
        unknown = closing.result()
    now = clock()
    standing = stand(house, panic.id, now)
    if standing.doubt == OLDER and BY_OTHERS in unknown.unread:  # with what to do about it
        standing = replace(standing, doubt="")
    told = _panic_told(panic, standing, now)  # and `unread` keeps it from being safe
    return unknown.added_to(told, named_by(house, panic.id))


def _why(fault: Exception) -> str:
    return (
        fault.message
        if isinstance(fault, TidegateError)
        else f"a mistake of ours: {type(fault).__name__}"
    )


def _keep(found: Config, kept: PanicsKept, wanted: Wanted, tell: Tell, giving: Giving) -> str:
    """The panic waits in its file until a server that starts here seals it. One that is sealed
    waits there too, for as long as its sweep does, and has its id. Why it is not kept, else empty.
    """
    now, path = clock(), panic_file(found).path
    id = wanted.id or make_id(PANIC, now, os.urandom(RANDOM_BYTES))
    is_kept = kept.keep(wanted, id, now)
    giving.now()  # ends take minutes, and the service has to read it
    if not is_kept:
        again = "if the database loses it" if wanted.id else "once the database is back"
        lost = f"the panic cannot be kept in `{path}`: call it again {again}"
        tell(lost)
        return lost
    if not wanted.id:
        same = (one.id for one in kept.all() if replace(one, id="", at=wanted.at) == wanted)
        id = next(same, id)  # typed twice, it is kept under the first
        tell(f"{id}: kept in `{path}`; a server that starts here seals it, with its freeze")
    return ""


def _house(found: Config, giving: Giving) -> House:
    """A house for ending only: rules that are broken must not stand in its way."""
    ways = ways_of(found)
    giving.now()
    try:
        laws = read_laws(found)
    except TidegateError:
        laws = Laws(rules=load_rules({}), catalogue=Catalogue({}, {}), groups=Groups())
        with suppress(TidegateError):
            laws = Laws(rules=laws.rules, catalogue=load_catalogue(found), groups=laws.groups)
    house = House(
        store=open_store(found),
        journal=giving.journal(),
        connectors=ways.connectors,
        laws=laws,
        clock=clock,
        randomness=os.urandom,
        process=Process(duties=ways.duties),
    )
    house.wanted = PanicsKept(panic_file(found))
    return house


def _watch(
    house: House, panic: Panic, patience: timedelta, tell: Tell, is_over: Callable[[], bool]
) -> None:
    """Look until nothing is closing any more, closing it here while no worker is alive; what no row
    tells of until `is_over`.
    """
    until, said = clock() + patience, ""
    while True:
        now = clock()
        standing = stand(house, panic.id, now)
        line = _counts(standing)
        if line != said:
            said = line
            tell(line)
        if (standing.settled and is_over()) or now >= until:
            return
        heard = last_heard(house.store.beats(), Duty.CLOSE)
        if heard is None or now - heard > SILENT:
            if not standing.closing and is_over():
                return  # nobody here would try the others again
            with ThreadPoolExecutor(HANDS, thread_name_prefix="tidegate-panic") as pool:
                list(pool.map(lambda grant: _closed(house, grant), standing.closing))
        time.sleep(LOOK_EVERY)


def _closed(house: House, grant: Grant) -> None:
    """One try. Told by the counts; the next look tries again, and no grant keeps others open."""
    try:
        close_now(house, grant)
    except Exception as fault:  # noqa: BLE001 - a rim: a connector's bug with one grant too
        log.warning("an end of a panic failed", grant=grant.id, why=_why(fault))


def _panic_told(panic: Panic, standing: Standing, now: Instant) -> Plain:
    until = standing.residual_until
    doubt = f"; {standing.doubt}" if standing.doubt else ""
    rows = (*standing.closing, *standing.unverified)
    still = [
        {"id": one.id, "role": one.role, "says": one.outcome or one.still_held_by or one.state}
        for one in rows
    ]
    still += [{"id": one.id, "role": one.role, "says": one.says} for one in standing.beside]
    return {
        **_sealed_told(panic, now),
        "scope": panic.kind.value,
        "name": panic.name,
        "safe": panic.state is PanicState.SWEPT and standing.safe,
        "says": f"everything in {panic.scope.text}: {_counts(standing)}{doubt}",
        "grants": panic.grants,
        "gone": standing.gone,
        "removed": standing.removed,
        "residual_until": wire(until) if until else None,
        "closing": standing.still_closing,
        "unverified": standing.not_verified,
        "still": still[:MOST_NAMED],
    }


def _sealed_told(panic: Panic, now: Instant) -> Plain:
    """What is told of a panic because it is sealed, whatever its ends went by."""
    return {
        "id": panic.id,
        "sealed": True,
        "swept": panic.state is PanicState.SWEPT,
        "frozen_until": wire(panic.frozen_until) if panic.frozen_until else None,
        "frozen": panic.frozen(now),
        "requests": panic.requests,
    }


def _counts(standing: Standing) -> str:
    until = standing.residual_until
    more = f" (a session taken before may act until {wire(until)})" if until else ""
    return (
        f"{standing.gone} gone, {standing.removed} removed{more}, "
        f"{standing.still_closing} still closing, {standing.not_verified} unverified"
    )


def _panic_by_journal(
    found: Config, scope: Scope, patience: timedelta, tell: Tell, giving: Giving, lost: str
) -> Plain:
    """What this machine's journal knows of the scope is closed; what else is open, nobody knows.

    `done`: all that it names there has ended, the whole of it was read, and the panic waits to be
    sealed. `lost` says why it does not: nothing of it, its freeze least of all, is there later.
    """
    own = str(found.path(found.evidence.journal))
    journals = read_journals(found, ())
    for broken in journals.broken:
        tell(broken)
    at_first = gather(journals.lines, own, clock())
    for name in at_first.unusable:
        tell(f"the journal says too little of `{name}` to close it: look in its cloud")
    gathered = begin_all(at_first, scope, SYSTEM, clock())
    holds = (one.hold for one in gathered.owed)
    covered = {one.grant for one in holds if scope.covers(one.principal, one.role.id)}
    # The rest only says who holds what: no copy is read that could tell whether its end moved on.
    every = recall(ground_of(found, tell, giving), gathered, patience, only=covered)
    done = [one for one in every if one.owed.hold.grant in covered]
    rest = [one.fate for one in every if one.owed.hold.grant not in covered]
    if more := rest.count(Fate.DUE):
        tell(
            f"{many(more, 'end')} outside the scope due by this journal, and left alone: "
            "`tidegate recover` closes what is due"
        )
    fates = [one.fate for one in done]
    untils = (one.residual_until for one in done if one.at is not None)
    residual = max((one for one in untils if one is not None and one > clock()), default=None)
    missed = _missed(scope, at_first)
    says = missed or "went by this machine's journal alone; what it does not hold is not known"
    whole = bool(journals.lines.get(own)) and not (journals.unread or at_first.unusable)
    return {
        "id": "",
        "scope": scope.kind.value,
        "name": scope.name,
        "sealed": False,
        "swept": False,
        "safe": False,  # what another machine opened, or waits for an opening, is not known here
        "done": whole
        and not (missed or lost)
        and all(one.closed and not one.uncut for one in done),
        "says": f"{says}; {lost}" if lost else says,
        "frozen_until": None,
        "frozen": False,
        "grants": len(done),
        "requests": 0,
        "gone": 0,
        "removed": sum(one.closed for one in done),
        "residual_until": wire(residual) if residual else None,
        "closing": fates.count(Fate.CLOSING) + fates.count(Fate.DUE),
        "unverified": fates.count(Fate.HELD) + len(at_first.unusable),
        "still": [
            {"id": one.owed.hold.grant, "role": one.owed.hold.role.id, "says": one.why}
            for one in done
            if not one.closed or one.uncut
        ][:MOST_NAMED],
    }


def _missed(scope: Scope, gathered: Gathered) -> str:
    """Why a panic ended nothing, where the journal has something open and none of it in `scope`."""
    # What is held is there still, and a login or a slip of the pen would have left it out.
    left = [one for one in gathered.owed if one.held or not one.settled(clock())]
    holds = [one.hold for one in left]
    if not holds or any(scope.covers(hold.principal, hold.role.id) for hold in holds):
        return ""
    match scope.kind:
        case ScopeKind.PRINCIPAL:
            names = {hold.principal for hold in holds}
        case ScopeKind.TARGET:
            names = {hold.target.id for hold in holds}
        case _:
            names = {hold.role.id for hold in holds}
    shown = ", ".join(f"`{name}`" for name in sorted(names)[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    login = Wanted(scope=scope, by=SYSTEM, via="machine").names_a_login
    why = " (a login is known to the database alone)" if login else ""
    return (
        f"nothing of `{scope.text}` was ended: this machine's journal has no open grant of it"
        f"{why}; it has some of {shown}{more}: name one of them, or `--all`"
    )
