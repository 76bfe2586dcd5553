"""Closing without the database, from the journal alone; sealing afterwards what was done (I6)."""

from collections.abc import Sequence

import structlog

from tidegate.base.fact import SYSTEM, Fact, Step
from tidegate.base.when import parse_instant, wire
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors.port import Hold
from tidegate.evidence.journal import JournalLine, open_grants
from tidegate.flow.expiring import CLOUD_FAULTS, take_away
from tidegate.flow.house import House

log = structlog.get_logger("tidegate.recovering")

ACTED = ("removed", "gone")


def close_without_store(house: House) -> list[str]:
    """Close from the journal every grant whose end has passed; returns those now seen removed.

    For when the database cannot be read. Standing access is safe: a line is written only for an
    intent of ours, and kinds whose access may have stood before are read, not removed, by it.
    """
    now = house.now()
    done: list[str] = []
    for line in open_grants(house.journal.read()):
        hold = hold_of_line(line)
        if now < hold.ends_at or _acted(house, line.grant):
            continue
        try:
            seen = take_away(house.connector(hold.target.connector), hold, False, now)
            if seen.usable:
                continue
            house.journal.append(
                JournalLine(
                    kind="removed", grant=line.grant, at=now, data={"cloud_at": wire(seen.cloud_at)}
                )
            )
            done.append(line.grant)
        except CLOUD_FAULTS as fault:
            log.warning("closing from the journal failed", grant=line.grant, code=fault.code)
        except OSError as fault:
            log.error("closing journal cannot be written", grant=line.grant, errno=fault.errno)
    return done


def seal_journal(house: House) -> int:
    """Seal what the journal did while the database was away, with both instants; returns how many.

    The grants themselves are then closed and read back as usual: a line of ours is not a proof.
    """
    now = house.now()
    sealed = 0
    lines = house.journal.read()
    for line in _unsealed(lines):
        request = _request_of(lines, line.grant)
        grant = house.store.grant(line.grant)
        if grant.removed_at is not None and grant.removed_at >= line.at:
            continue
        fact = Fact(
            name="journal.sealed",
            subject=request,
            actor=SYSTEM,
            data={
                "grant": line.grant,
                "request": request,
                "step": line.kind,
                "acted_at": wire(line.at),
                "at": wire(now),
            },
        )
        house.store.commit(Step((), (fact,)))
        house.journal.append(JournalLine(kind="noted", grant=line.grant, at=now, data={}))
        sealed += 1
    return sealed


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


def _request_of(lines: Sequence[JournalLine], grant: str) -> str:
    return str(next(i for i in lines if i.grant == grant and "request" in i.data).data["request"])


def _acted(house: House, grant: str) -> bool:
    return any(line.grant == grant and line.kind in ACTED for line in house.journal.read())


def _unsealed(lines: Sequence[JournalLine]) -> list[JournalLine]:
    """`removed` lines written without the database: no `noted` or `sealed` line follows them."""
    settled = {line.grant for line in lines if line.kind in ("noted", "sealed")}
    return [line for line in lines if line.kind == "removed" and line.grant not in settled]
