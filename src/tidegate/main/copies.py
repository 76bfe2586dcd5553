"""A copy of the log as `recover` takes it: read once, and asked what is owed by it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from tidegate.base.errors import AskedWrongly, EvidenceBroken, TidegateError
from tidegate.base.when import Instant
from tidegate.catalogue import Assignment, AssignmentKey, role_of_entry
from tidegate.connectors.port import Hold
from tidegate.evidence.journal_line import CLOCK_OFF
from tidegate.expire import EndReason
from tidegate.flow.believing import is_settled
from tidegate.flow.deadlines import held_to
from tidegate.flow.gathering import Gathered, KnownEnd, owed_of, with_copy
from tidegate.grant import LIVE, Grant, GrantState
from tidegate.main.config import Config, database_password, database_path, database_url
from tidegate.main.lacking import lacking
from tidegate.panic import Panic, PanicState
from tidegate.store.sealed import SealedState, sealed_state, state_of_copy
from tidegate.store.sqlite import path_of

HOLDING = frozenset({GrantState.INTENDED, GrantState.OPEN})  # and no others: an end lets go


# How what `pg_dump` makes begins: plain, custom, and as a tar.
DUMPS = (b"--\n-- PostgreSQL database dump", b"PGDMP", b"toc.dat\0")
SQLITE = b"SQLite format 3\0"  # the first 16 bytes of every database of its


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copy of the log as found: `fault` says why there is none.

    `named`: somebody named it. `elsewhere`: it is not the installation's own, so it may be older.
    """

    where: str
    state: SealedState | None = None
    fault: str = ""
    named: bool = False
    elsewhere: bool = False

    @property
    def unread(self) -> bool:
        """Whether it was named and cannot be read: what it would have said is not known."""
        return self.named and self.state is None


def read_copy(found: Config, named: Sequence[str], tell: Callable[[str], None]) -> Copy:
    """The copy of the log that was named, else the installation's own, if it can be read.

    Whatever keeps it from being read is no more than a fault, also of one that was named: the
    journals are gone by all the same.

    Raises:
        AskedWrongly: the one that was named is not there, or is plainly no database.
    """

    def progress(read: int, size: int) -> None:
        tell(f"reading the log: {read} of {size} events")

    if len(named) > 1:
        raise AskedWrongly("many_databases", "expected one database, got several", "name one")
    copy = Copy(where=named[0] if named else "the installation's own database", named=bool(named))
    try:
        own = database_path(found)
        if named and (file := _file_named(copy.where)) is not None:
            check_database(file)
            copy = replace(copy, where=str(file), elsewhere=file != own)
            if copy.elsewhere:
                return replace(copy, state=state_of_copy(file, progress))
        if "://" not in copy.where:  # the installation's own file, by its path
            copy = replace(copy, where=database_url(found))
        copy = replace(copy, elsewhere=copy.elsewhere or copy.where != database_url(found))
        # The settings' password is for their own server, and for a copy of it on another.
        password = None if copy.where.startswith("sqlite:") else database_password(found)
        return replace(copy, state=sealed_state(copy.where, password, progress))
    except TidegateError as fault:
        if named and isinstance(fault, AskedWrongly) and not isinstance(fault, EvidenceBroken):
            raise
        return replace(copy, fault=lacking(fault))
    except Exception as fault:  # noqa: BLE001 - a rim: damage that nobody foresaw keeps nothing open
        return replace(copy, fault=f"it cannot be read as a log: {type(fault).__name__}")


def _file_named(where: str) -> Path | None:
    """The SQLite file that `--from database=` names, as a path or a URL; None: another engine."""
    if "://" not in where:
        return Path(where).resolve()
    return path_of(where) if where.startswith("sqlite:") else None


def check_database(path: Path) -> None:
    """Nothing, where `path` is a SQLite database by its first bytes.

    Raises:
        AskedWrongly: it is not there, or plainly is none.
        OSError: it cannot be looked at.
    """
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(max(map(len, DUMPS)))
        if head.startswith(SQLITE):
            return
        got = "a dump of one" if head.startswith(DUMPS) else "no database"
    else:
        got = "no file"
    raise AskedWrongly(
        "no_database",
        f"expected a SQLite database at `{path}`, got {got}",
        "name a copy of the database file, or a PostgreSQL database by its URL; a dump is restored "
        "into a database of its own first, and the URL of that one is named",
    )


def owed_with(
    gathered: Gathered, copy: Copy, now: Instant
) -> tuple[Gathered, list[tuple[Grant, str]]]:
    """With the grants only the copy knows, and those of them nobody can tell how to close."""
    if copy.state is None:
        return gathered, []
    state = copy.state.state
    grants = [one for one in state.things[Grant].values() if isinstance(one, Grant)]
    rows = {one.id: one for one in grants}
    gathered = _sealed_of(gathered, rows, copy.state.head.at)
    panics = [
        one
        for one in state.things[Panic].values()
        if isinstance(one, Panic) and one.state is PanicState.CALLED
    ]
    holds = {one.hold.grant: one.hold for one in gathered.owed}
    more: list[KnownEnd] = []
    lost: list[tuple[Grant, str]] = []
    for grant in grants:
        if grant.state not in LIVE or grant.ends_at is None:
            continue
        try:
            more.append(
                _begun_by(panics, _owed(copy.where, copy.state, grant, holds.get(grant.id)))
            )
        except (EvidenceBroken, LookupError, TypeError, ValueError):
            if grant.id not in gathered.known:
                held = state.get(Assignment, grant.assignment)
                where = f"{held.native_role} for {held.native_principal}" if held else grant.role
                lost.append((grant, where))
    over = {one.id: one for one in grants if is_settled(one, gathered.begun.get(one.id, ()))}
    past = [
        row
        for one in gathered.owed
        if (row := over.get(one.hold.grant)) is not None and _is_past(one, row)
    ]
    gone = {row.id for row in past if row.state is GrantState.GONE}
    signed = {row.id for row in past if row.state is GrantState.SIGNED_OFF}
    gathered = _without(gathered, signed, now)
    ended: dict[AssignmentKey, set[Instant]] = {}
    for grant in grants:
        held = state.get(Assignment, grant.assignment)
        if grant.state not in HOLDING and grant.ends_at is not None and held is not None:
            ended.setdefault(held.key, set()).add(grant.ends_at)
    return with_copy(gathered, more, now, over, gone, ended), lost


def _sealed_of(gathered: Gathered, rows: Mapping[str, Grant], told_at: Instant) -> Gathered:
    """With those marked that hold nothing by a copy of the log whose last event is of `told_at`."""
    return replace(
        gathered,
        owed=tuple(
            replace(one, unsealed=_is_unsealed(one, rows.get(one.hold.grant), told_at))
            for one in gathered.owed
        ),
    )


def _is_unsealed(one: KnownEnd, row: Grant | None, told_at: Instant) -> bool:
    """Whether another journal has it opened long before the copy, which has no such grant: an
    intent is sealed before its line is written. What our own journal has may be of a log that was
    lost, and its backup put back and gone on with. Or whether its opening failed once its intent
    was sealed: what a late call made all the same is no holder either, and its end is begun.
    """
    if row is None:
        return not one.ours and told_at - one.made_at > CLOCK_OFF
    return row.state is GrantState.FAILED and row.ends_at is not None


def _is_past(one: KnownEnd, grant: Grant) -> bool:
    """Whether an end that a copy has as over is the one a journal says was read back, if any: not
    that of access which came back, and was taken after that by whatever row or clock.
    """
    at = grant.gone_at or grant.removed_at or grant.closing_at
    if one.removed_at is None or at is None:
        return True
    return one.version < grant.version and one.removed_at <= at


def _without(gathered: Gathered, signed: Collection[str], now: Instant) -> Gathered:
    """Without the grants whose end an operator signed off: it is tried no more, as by a server, and
    they hold nothing. What an end left to them until theirs is owed from now on.
    """
    lapsed = {(one.hold.key, one.hold.ends_at) for one in gathered.owed if one.hold.grant in signed}
    return replace(
        gathered,
        owed=tuple(
            replace(one, held_until=min(one.held_until, now))
            if one.held_until is not None and (one.hold.key, one.held_until) in lapsed
            else one
            for one in gathered.owed
            if one.hold.grant not in signed
        ),
    )


def _owed(where: str, copy: SealedState, grant: Grant, known: Hold | None) -> KnownEnd:
    """What the copy says of a grant that is not over. What it lacks to close it by is taken from
    what a journal says, if one does (`known`): that its end was begun counts all the same. What it
    has of that is sealed, and no line of a journal points the end at another access, or at the same
    by another role.

    Raises:
        EvidenceBroken, LookupError, TypeError, ValueError: it says too little of it, or oddly.
    """
    held = copy.state.get(Assignment, grant.assignment)
    until = None
    if held is not None:
        rows = {name: copy.state.get(Grant, name) for name in held.holders}
        until = held_to(held, {name: row for name, row in rows.items() if row is not None})
    hold = _sealed(copy, grant, held)
    if hold is None and known is not None and grant.ends_at is not None:
        hold = _as_sealed(replace(known, ends_at=grant.ends_at), held)
    if hold is None:
        raise LookupError(grant.assignment)
    return owed_of(grant, hold, where, until, copy.head.at)


def _sealed(copy: SealedState, grant: Grant, held: Assignment | None) -> Hold | None:
    """What is sealed to be closed; None: not all of that is there, or it is of an odd shape."""
    entry = copy.entries.get(grant.role_digest)
    if held is None or entry is None:
        return None
    try:
        return _hold(grant, held, entry)
    except (LookupError, TypeError, ValueError):
        return None


def _as_sealed(known: Hold, held: Assignment | None) -> Hold:
    """What a journal says to close, at the access that is sealed, where that can be told."""
    if held is None:
        return known
    target = replace(known.target, connector=held.connector, account=held.account)
    return replace(known, target=target, key=held.key, stood_before=held.stood_before)


def _begun_by(panics: Sequence[Panic], one: KnownEnd) -> KnownEnd:
    """As the panics leave it that nobody has swept yet: all that is open in their scope ends."""
    for panic in panics:
        if not one.begun and panic.scope.covers(one.hold.principal, one.hold.role.id):
            reason = EndReason.PANIC.value
            one = replace(one, begun=True, called=True, reason=reason, actor=panic.actor)
    return one


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
