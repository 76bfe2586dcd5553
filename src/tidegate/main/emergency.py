"""What is done on the server's own machine when the server cannot be asked: `recover`, and a panic
that goes through no API.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from tidegate.base.duty import SILENT, Duty, last_heard
from tidegate.base.errors import AskedWrongly, EvidenceClosed, TidegateError
from tidegate.base.fact import SYSTEM
from tidegate.base.ids import PANIC, RANDOM_BYTES, make_id
from tidegate.base.when import Instant, wire
from tidegate.catalogue import Assignment, AssignmentKey, Catalogue, role_of_entry
from tidegate.connectors.port import Connector, Hold
from tidegate.evidence.checkpoint import TrustedKey, open_checkpoint, parse_checkpoint
from tidegate.evidence.journal import ClosingJournal, JournalLine
from tidegate.evidence.witnesses import newest_in
from tidegate.flow.deadlines import held_to
from tidegate.flow.expiring import close_now
from tidegate.flow.house import Groups, House, Laws, Wanted
from tidegate.flow.panicking import begin_panic, panic_unsealed, scope_meant, stand, sweep
from tidegate.flow.panics_kept import PanicsKept
from tidegate.flow.recalling import (
    HANDS,
    Fate,
    Gathered,
    Ground,
    KnownEnd,
    Recalled,
    begin_all,
    gather,
    is_settled,
    owed_of,
    recall,
    with_copy,
)
from tidegate.grant import LIVE, Grant
from tidegate.main.clouds import Clouds
from tidegate.main.config import (
    Config,
    database_password,
    database_path,
    database_url,
    load_catalogue,
    load_config,
)
from tidegate.main.left import readable
from tidegate.main.logs import log_quietly
from tidegate.main.wiring import clock, open_store, panic_file, read_laws, read_signer
from tidegate.panic import Panic, PanicState, Scope, ScopeKind, Standing, check_freeze
from tidegate.policy.rules import load_rules
from tidegate.store.sealed import SealedState, sealed_state, state_of_copy
from tidegate.store.sqlite import path_of

Plain = Mapping[str, Any]
Tell = Callable[[str], None]

LOOK_EVERY = 1.0  # seconds between two looks at a panic
MOST_NAMED = 10  # ids in one sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """A copy of the log as found: `fault` says why there is none."""

    where: str
    state: SealedState | None = None
    fault: str = ""


def recover(
    config: Path,
    sources: Mapping[str, Sequence[str]],
    *,
    dry: bool,
    patience: timedelta,
    tell: Tell,
) -> Plain:
    """Close what is overdue by the journals and any copy of the log, and say what is not known.

    `sources` lists `journal` files, `witness` directories and at most one `database` (a URL or a
    file); this installation's own of each is taken by itself, as far as it is there.

    Raises:
        AskedWrongly: a source that was named is not there or no such thing, or the settings are
            broken.
    """
    log_quietly()
    found = load_config(config)
    _check_places(sources.get("witness", ()))
    journals, broken = _journals(found, sources.get("journal", ()))
    own = str(found.path(found.evidence.journal))
    copy = _copy(found, sources.get("database", ()))
    gathered = gather(journals, own, clock())
    gathered, lost = _with_copy(gathered, copy)
    ground = _ground(found, tell)
    done = recall(ground, gathered, patience, dry=dry)
    unknown = [
        *_lost_events(found, sources.get("witness", ()), copy),
        *_lost_grants(gathered, copy, journals, lost),
        *broken,
        *(
            f"the journals say too little of `{name}` to close it, and nothing else knows it: "
            "look in its cloud, or add the journal of the machine that opened it"
            for name in gathered.unusable
        ),
        *(
            f"nothing of `{name}` was asked of its cloud: {why}"
            for name, why in ground.shut.items()
        ),
    ]
    return _told(done, unknown, len(lost) + len(gathered.unusable), dry)


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
    process does. Without it: from the closing journal, and a later server seals it.

    Raises:
        AskedWrongly: no such scope, or the settings are broken.
    """
    log_quietly()
    found = load_config(config)
    try:
        house = _house(found)
    except TidegateError as fault:
        tell(f"the database cannot be used ({fault.message}); going by the closing journal")
        scope = Scope(ScopeKind(kind), name.strip())
        wanted = Wanted(scope=scope, by=SYSTEM, via="machine", reason=reason, freeze=freeze)
        _keep(found, wanted, tell)
        return _panic_by_journal(found, scope, patience, tell)
    try:
        scope = scope_meant(house, None, ScopeKind(kind), name)
        wanted = Wanted(scope=scope, by=SYSTEM, via="machine", reason=reason, freeze=freeze)
        try:
            panic = sweep(house, begin_panic(house, wanted))
        except EvidenceClosed as fault:
            tell(f"{fault.message}; going by the closing journal")
            panic_unsealed(house, wanted)
            return _panic_by_journal(found, scope, patience, tell)
        tell(f"{panic.id}: the end of {panic.grants} grants is sealed")
        return _watched(house, panic, patience, tell)
    finally:
        house.store.close()


def _keep(found: Config, wanted: Wanted, tell: Tell) -> None:
    """The panic waits in a file until a server that starts here seals it. Raises AskedWrongly."""
    check_freeze(wanted.freeze)
    file, now = panic_file(found), clock()
    id = make_id(PANIC, now, os.urandom(RANDOM_BYTES))
    if PanicsKept(file).keep(wanted, id, now):
        tell(f"{id}: kept in `{file.path}`; a server that starts here seals it, with its freeze")
    else:
        tell(f"the panic cannot be kept in `{file.path}`: call it again once the database is back")


def _house(found: Config) -> House:
    """A house for ending only: rules that are broken must not stand in its way."""
    connectors, _ = _ways(found)
    try:
        laws = read_laws(found)
    except TidegateError:
        laws = Laws(rules=load_rules({}), catalogue=Catalogue({}, {}), groups=Groups())
        with suppress(TidegateError):
            laws = Laws(rules=laws.rules, catalogue=load_catalogue(found), groups=laws.groups)
    house = House(
        store=open_store(found),
        journal=ClosingJournal(found.path(found.evidence.journal)),
        connectors=connectors,
        laws=laws,
        clock=clock,
        randomness=os.urandom,
    )
    house.wanted = PanicsKept(panic_file(found))
    return house


def _ways(found: Config) -> tuple[Mapping[str, Connector], Mapping[str, str]]:
    """A way to every target whose keys can be read; the others, each with why it cannot be."""
    found, shut = readable(found)
    return Clouds().connect(found), shut


def _ground(found: Config, tell: Tell) -> Ground:
    connectors, shut = _ways(found)
    for target, why in shut.items():
        tell(f"`{target}` is left out, the others go on: {why}")
    return Ground(
        journal=ClosingJournal(found.path(found.evidence.journal)),
        connectors=connectors,
        shut=shut,
        clock=clock,
        randomness=os.urandom,
        rest=time.sleep,
        tell=tell,
    )


def _watched(house: House, panic: Panic, patience: timedelta, tell: Tell) -> Plain:
    """Look until nothing is closing any more, closing it here while no worker is alive."""
    until, said = clock() + patience, ""
    while True:
        now = clock()
        standing = stand(house, panic.id, now)
        line = _counts(standing)
        if line != said:
            said = line
            tell(line)
        if standing.settled or now >= until:
            return _panic_told(panic, standing, now)
        heard = last_heard(house.store.beats(), Duty.CLOSE)
        if heard is None or now - heard > SILENT:
            with ThreadPoolExecutor(HANDS, thread_name_prefix="tidegate-panic") as pool:
                list(pool.map(lambda grant: _closed(house, grant), standing.closing))
        time.sleep(LOOK_EVERY)


def _closed(house: House, grant: Grant) -> None:
    with suppress(TidegateError):  # told by the counts; the next look tries again
        close_now(house, grant)


def _panic_told(panic: Panic, standing: Standing, now: Instant) -> Plain:
    until = standing.residual_until
    unverified = (*standing.unverified,)
    return {
        "id": panic.id,
        "scope": panic.kind.value,
        "name": panic.name,
        "sealed": True,
        "swept": panic.state is PanicState.SWEPT,
        "safe": panic.state is PanicState.SWEPT and standing.safe,
        "says": f"everything in {panic.scope.text}: {_counts(standing)}",
        "frozen_until": wire(panic.frozen_until) if panic.frozen_until else None,
        "frozen": panic.frozen(now),
        "grants": panic.grants,
        "requests": panic.requests,
        "gone": standing.gone,
        "removed": standing.removed,
        "residual_until": wire(until) if until else None,
        "closing": len(standing.closing),
        "unverified": len(unverified) + standing.unread,
        "still": [
            {"id": one.id, "role": one.role, "says": one.outcome or one.still_held_by or one.state}
            for one in (*standing.closing, *unverified)[:MOST_NAMED]
        ],
    }


def _counts(standing: Standing) -> str:
    until = standing.residual_until
    more = f" (a session taken before may act until {wire(until)})" if until else ""
    unverified = len(standing.unverified) + standing.unread
    return (
        f"{standing.gone} gone, {standing.removed} removed{more}, "
        f"{len(standing.closing)} still closing, {unverified} unverified"
    )


def _panic_by_journal(found: Config, scope: Scope, patience: timedelta, tell: Tell) -> Plain:
    """What this machine's journal knows of the scope is closed; what else is open, nobody knows."""
    own = str(found.path(found.evidence.journal))
    journals, _ = _journals(found, ())
    gathered = begin_all(gather(journals, own, clock()), scope, SYSTEM, clock())
    due = tuple(one for one in gathered.owed if one.begun)
    done = recall(
        _ground(found, tell), Gathered(owed=due, unusable=(), known=gathered.known), patience
    )
    fates = [one.fate for one in done]
    residual = max((one.residual_until for one in done if one.residual_until), default=None)
    return {
        "id": "",
        "scope": scope.kind.value,
        "name": scope.name,
        "sealed": False,
        "swept": False,
        "safe": False,  # what another machine opened, or waits for an opening, is not known here
        "says": "closed from this machine's journal alone; what it does not hold is not known",
        "frozen_until": None,
        "frozen": False,
        "grants": len(done),
        "requests": 0,
        "gone": 0,
        "removed": sum(one.closed for one in done),
        "residual_until": wire(residual) if residual else None,
        "closing": fates.count(Fate.CLOSING),
        "unverified": fates.count(Fate.HELD),
        "still": [
            {"id": one.owed.hold.grant, "role": one.owed.hold.role.id, "says": one.why}
            for one in done
            if not one.closed
        ][:MOST_NAMED],
    }


def _check_places(named: Sequence[str]) -> None:
    """Raise AskedWrongly unless every witness that was named is a directory."""
    for name in named:
        if not Path(name).is_dir():
            raise AskedWrongly(
                "no_witness",
                f"expected a directory of checkpoints at `{name}`, got no such directory",
                "check its path",
            )


def _journals(
    found: Config, named: Sequence[str]
) -> tuple[dict[str, list[JournalLine]], list[str]]:
    """Every journal by its path, this installation's own first; and what is damaged in them."""
    own = found.path(found.evidence.journal)
    lines: dict[str, list[JournalLine]] = {}
    broken: list[str] = []
    for path in (own, *(Path(name) for name in named)):
        if str(path) in lines:
            continue
        if not path.is_file():
            if path == own:
                broken.append(f"this installation has no journal of its own at `{path}`")
                continue
            raise AskedWrongly(
                "no_journal", f"expected a journal at `{path}`, got no such file", "check its path"
            )
        try:
            contents = ClosingJournal(path).inspect()
        except OSError as fault:
            broken.append(f"journal `{path}` cannot be read: {fault.strerror}")
            continue
        lines[str(path)] = list(contents.lines)
        if contents.broken and not contents.lines and path != own:
            raise AskedWrongly(
                "no_journal",
                f"expected a closing journal at `{path}`, got a file without one line of it",
                "check its path; if that is all that is left of it, leave it out",
            )
        if contents.broken:
            count = len(contents.broken)
            broken.append(
                f"{count} lines of `{path}` are damaged, the first is {contents.broken[0]}"
            )
    return lines, broken


def _copy(found: Config, named: Sequence[str]) -> _Copy:
    """The copy of the log that was named, else the installation's own, if it can be read."""
    if len(named) > 1:
        raise AskedWrongly("many_databases", "expected one database, got several", "name one")
    where, own = named[0] if named else database_url(found), database_path(found)
    try:
        if named and (file := _file_named(where)) is not None and file != own:
            return _Copy(where=str(file), state=state_of_copy(file))
        if "://" not in where:  # the installation's own file, by its path
            where = database_url(found)
        # The settings' password is for their own server, and for a copy of it on another.
        password = None if where.startswith("sqlite:") else database_password(found)
        return _Copy(where=where, state=sealed_state(where, password))
    except TidegateError as fault:
        if named and isinstance(fault, AskedWrongly):
            raise
        return _Copy(where=where, fault=fault.message)


def _file_named(where: str) -> Path | None:
    """The SQLite file that `--from database=` names, as a path or a URL; None: another engine."""
    if "://" not in where:
        return Path(where).resolve()
    return path_of(where) if where.startswith("sqlite:") else None


def _with_copy(gathered: Gathered, copy: _Copy) -> tuple[Gathered, list[tuple[Grant, str]]]:
    """With the grants only the copy knows, and those of them nobody can tell how to close."""
    if copy.state is None:
        return gathered, []
    state = copy.state
    more: list[KnownEnd] = []
    lost: list[tuple[Grant, str]] = []
    for grant in state.state.things[Grant].values():
        assert isinstance(grant, Grant)
        if grant.id in gathered.known or grant.state not in LIVE or grant.ends_at is None:
            continue
        held = state.state.get(Assignment, grant.assignment)
        entry = state.entries.get(grant.role_digest)
        if held is None or entry is None:
            where = f"{held.native_role} for {held.native_principal}" if held else grant.role
            lost.append((grant, where))
            continue
        rows = {name: state.state.get(Grant, name) for name in held.holders}
        until = held_to(held, {name: row for name, row in rows.items() if row is not None})
        more.append(owed_of(grant, _hold(grant, held, entry), copy.where, until))
    over = {
        one.id for one in state.state.things[Grant].values()
        if isinstance(one, Grant) and is_settled(one, gathered.begun.get(one.id))
    }  # fmt: skip
    return with_copy(gathered, more, clock(), over), lost


def _hold(grant: Grant, held: Assignment, entry: bytes) -> Hold:
    target, role = role_of_entry(orjson.loads(entry))
    if grant.ends_at is None:
        raise RuntimeError(f"{grant.id} is live without an end")
    return Hold(
        grant=grant.id,
        request=grant.request,
        principal=grant.principal,
        target=target,
        role=role,
        key=AssignmentKey(
            connector=held.connector,
            account=held.account,
            native_role=held.native_role,
            native_principal=held.native_principal,
        ),
        ends_at=grant.ends_at,
        stood_before=held.stood_before,
    )


def _lost_events(found: Config, named: Sequence[str], copy: _Copy) -> list[str]:
    """What the log held beyond the copy: by the witnesses, or that nobody says."""
    places = [Path(name) for name in named]
    if found.witness.directory:
        places.append(found.path(found.witness.directory))
    told: list[str] = []
    witnessed = 0
    for place in dict.fromkeys(places):
        size, doubt = _witnessed(found, place)
        witnessed = max(witnessed, size)
        told += [doubt] if doubt else []
    rest = "requests, votes, tokens ended and accounts disabled"
    if copy.state is None:
        told.append(
            f"there is no copy of the log to read ({copy.fault}), so nothing is known of its {rest}"
        )
        if witnessed:
            told.append(f"the log had {witnessed} events when it was last witnessed")
        return told
    size, at = copy.state.head.size, wire(copy.state.head.at)
    if witnessed > size:
        told.append(
            f"{witnessed - size} events are missing: the copy has {size}, the last at {at}, and "
            f"{witnessed} were witnessed; {rest} since then cannot be known"
        )
    elif not witnessed:
        told.append(
            f"no witness was read, so nobody says whether the log went on after {at} "
            f"({size} events); {rest} since then cannot be known"
        )
    else:
        told.append(
            f"the copy holds all {witnessed} events that were witnessed; what came after {at} "
            "and was not witnessed cannot be known"
        )
    return told


def _witnessed(found: Config, place: Path) -> tuple[int, str]:
    """The size of the newest checkpoint kept at `place`, and what is doubtful about it."""
    try:
        note = newest_in(place)
        if note is None:
            return 0, f"`{place}` holds no checkpoint"
        size = parse_checkpoint(note).size
    except TidegateError as fault:
        return 0, f"witness `{place}`: {fault.message}"
    try:
        open_checkpoint(note, (TrustedKey(key=read_signer(found).verifier()),))
    except TidegateError as fault:
        return size, f"the checkpoint at `{place}` is not certain: {fault.message}"
    return size, ""


def _lost_grants(
    gathered: Gathered,
    copy: _Copy,
    journals: Mapping[str, Sequence[JournalLine]],
    lost: Sequence[tuple[Grant, str]],
) -> list[str]:
    """Which grants one side knows and the other does not, and which nobody can close from here."""
    told = [
        f"`{grant.id}` ({grant.role}) is in the copy without its entry: end {where} by hand"
        for grant, where in lost
    ]
    if copy.state is None:
        names = ", ".join(f"`{name}`" for name in journals) or "none"
        told.append(
            f"grants opened by a process whose journal is not among these cannot be known: {names}"
        )
        return told
    things = copy.state.state.things[Grant]
    elsewhere = [one.hold.grant for one in gathered.owed if one.source == copy.where]
    after = [one.hold.grant for one in gathered.owed if one.hold.grant not in things]
    if elsewhere:
        told.append(
            f"{_named(elsewhere)} in the copy and in no journal here: opened on a machine whose "
            "journal is missing; what else that machine opened since cannot be known"
        )
    if after:
        told.append(f"{_named(after)} in a journal and not in the copy: opened after it")
    return told


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"


def _told(
    done: Sequence[Recalled],
    unknown: Sequence[str],
    lost: int,
    dry: bool,
) -> Plain:
    """The answer; `lost` ends are owed, and nothing here says how to bring them about."""
    counts = {fate.value: sum(one.fate is fate for one in done) for fate in Fate}
    standing = [one for one in done if one.fate is Fate.HELD and not one.owed.shared]
    uncut = sum(one.uncut for one in done)
    open_still = counts[Fate.CLOSING] + counts[Fate.DUE] + len(standing) + uncut + lost
    steps = ["start the server: it seals what was done, and closes what is due from now on"]
    if counts[Fate.CLOSING] or uncut:
        steps.insert(0, "mend what keeps the rest open, and type the same again: it is safe")
    if lost:
        steps.insert(0, "look in the clouds for what cannot be closed from here: it is named above")
    steps.append("compare the log with its witness: `tidegate evidence verify --config FILE`")
    return {
        "ok": not open_still,
        "dry_run": dry,
        "counts": counts,
        "lost": lost,
        "grants": [_grant_told(one) for one in done],
        "unknown": list(unknown),
        "next": steps,
    }


def _grant_told(one: Recalled) -> Plain:
    hold = one.owed.hold
    return {
        "grant": hold.grant,
        "role": hold.role.id,
        "principal": hold.principal,
        "ends_at": wire(hold.ends_at),
        "source": one.owed.source,
        "fate": one.fate.value,
        "why": one.why,
        "at": wire(one.at) if one.at else None,
        "residual_until": wire(one.residual_until) if one.residual_until else None,
    }
