"""Closing without the database, from the journal alone; sealing afterwards what was done (I6)."""

from collections.abc import Sequence

import structlog

from tidegate.base.errors import NotFound, TidegateError
from tidegate.base.fact import SYSTEM, Fact, Step
from tidegate.base.when import Instant, parse_instant, wire
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors.port import Hold
from tidegate.evidence.journal import JournalLine, open_grants
from tidegate.flow.expiring import take_away
from tidegate.flow.house import House

log = structlog.get_logger("tidegate.recovering")

ACTED = ("removed", "gone")


def close_unknown(house: House) -> list[str]:
    """Close from the journal what is due and this database knows nothing of.

    That is so after an older database was restored. What else happened in between cannot be known.
    """
    waiting = {line.grant for line in open_grants(house.journal.read())}
    unknown = frozenset(name for name in waiting if not _known(house, name))
    return close_without_store(house, unknown) if unknown else []


def close_without_store(house: House, only: frozenset[str] | None = None) -> list[str]:
    """Close from the journal every grant whose end has passed; returns those now seen removed.

    For when the database cannot be read, or (`only`) knows nothing of them. Access that stood
    before, or that another grant of the journal still holds, is only read (I5).
    """
    now = house.now()
    lines = house.journal.read()
    acted = {line.grant for line in lines if line.kind in ACTED}
    # Once closing was decided the end has come, whatever the end that was fixed at opening.
    begun = {line.grant for line in lines if line.kind == "closing"}
    stood = {line.grant for line in lines if line.data.get("stood_before") is True}
    waiting = {line.grant: hold_of_line(line) for line in open_grants(lines)}
    due = {name for name, hold in waiting.items() if name in begun or now >= hold.ends_at}
    done: list[str] = []
    for name in sorted(due - acted):
        hold = waiting[name]
        if (only is not None and name not in only) or not house.journal_pace.may(name, now):
            continue
        shared = any(waiting[other].key == hold.key for other in waiting.keys() - due)
        if _close(house, hold, name in stood or shared, now):
            done.append(name)
        else:
            house.journal_pace.later(name, now, house.randomness(2))
    return done


def _close(house: House, hold: Hold, still_wanted: bool, now: Instant) -> bool:
    """One try; whether the access was seen removed and the journal says so."""
    try:
        seen = take_away(house.connector(hold.target.connector), hold, still_wanted, now)
        if seen.usable:
            return False
        data = {"cloud_at": wire(seen.cloud_at)}
        house.journal.append(JournalLine(kind="removed", grant=hold.grant, at=now, data=data))
    except TidegateError as fault:  # one grant's trouble must not keep the others open
        log.warning("closing from the journal failed", grant=hold.grant, code=fault.code)
        return False
    except OSError as fault:
        log.error("closing journal cannot be written", grant=hold.grant, errno=fault.errno)
        return False
    return True


def seal_journal(house: House) -> int:
    """Seal what the journal did while the database was away, with both instants; returns how many.

    The grants themselves are then closed and read back as usual: a line of ours is not a proof.
    """
    lines = house.journal.read()
    return sum(_seal(house, line) for line in _unsealed(lines))


def _seal(house: House, line: JournalLine) -> bool:
    """Seal one line; whether it was. A line the database knows nothing of is left for a person.

    That happens when an older database was restored: `doctor` shows the line as not sealed.
    """
    now = house.now()
    try:
        grant = house.store.grant(line.grant)
    except NotFound:
        log.error("the journal closed a grant this database does not know", grant=line.grant)
        return False
    if grant.removed_at is not None and grant.removed_at >= line.at:
        return False
    fact = Fact(
        name="journal.sealed",
        subject=grant.request,
        actor=SYSTEM,
        data={
            "grant": line.grant,
            "request": grant.request,
            "step": line.kind,
            "acted_at": wire(line.at),
            "at": wire(now),
        },
    )
    house.store.commit(Step((), (fact,)))
    house.journal.append(JournalLine(kind="noted", grant=line.grant, at=now, data={}))
    return True


def _known(house: House, grant: str) -> bool:
    try:
        house.store.grant(grant)
    except NotFound:
        return False
    return True


def hold_of_line(line: JournalLine) -> Hold:
    """The hold an `intended` line describes."""
    data = line.data
    return Hold(
        grant=line.grant,
        request=str(data["request"]),
        principal=str(data["principal"]),
        target=Target(
            id=str(data["target"]), connector=str(data["connector"]), account=str(data["account"])
        ),
        role=Role(
            id=str(data["role"]),
            kind=str(data["kind"]),
            native=dict(data["native"]),
            allows=tuple(data["allows"]),
            probe=str(data["probe"]),
        ),
        key=AssignmentKey(
            connector=str(data["connector"]),
            account=str(data["account"]),
            native_role=str(data["native_role"]),
            native_principal=str(data["native_principal"]),
        ),
        ends_at=parse_instant(str(data["ends_at"])),
    )


def _unsealed(lines: Sequence[JournalLine]) -> list[JournalLine]:
    """`removed` lines written without the database: no `noted` or `sealed` line follows them."""
    settled = {line.grant for line in lines if line.kind in ("noted", "sealed")}
    return [line for line in lines if line.kind == "removed" and line.grant not in settled]
