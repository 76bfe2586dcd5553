"""Errands: what one process asks another to do in a cloud, kept while it is on its way. Unsealed.

A row lives for at most a minute. Answers are in it only sealed to a key of the asker's own; what
was fetched is deleted, and nobody is answered after `until`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

from sqlalchemy import BigInteger, bindparam, or_, select

from tidegate.base.duty import Duty
from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.store import schema
from tidegate.store.database import Raw, Words
from tidegate.store.look import Look, Looking

MOST_WAITING = 1_000  # asked and not answered: more than every API thread of ten servers
KEPT = timedelta(minutes=1)  # beyond its end, for nobody
USED_KEPT = timedelta(hours=1)  # beyond its end: no clock that is set back by less revives it

_TAKE = """
UPDATE errands SET state = 'taken', taken_by = ?
WHERE id = ? AND state = 'asked' AND until_ms > ? RETURNING id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One thing asked: by the process `asked_by`, of one that has `duty`, until `until`.

    `asked` is JSON without secrets; `reader` the public key the answer is sealed to, in hex;
    `proof` what shows that a process of ours asked.
    """

    id: str
    kind: str
    duty: Duty
    asked_by: str
    asked: str
    reader: str = field(repr=False)
    until: Instant
    proof: str = field(default="", repr=False)


def ask(db: Raw, errand: Errand, words: Words) -> bool:
    """Put it there and wake workers; False when too many wait already."""
    (waiting,) = db.execute("SELECT count(*) FROM errands").fetchone()
    if waiting >= MOST_WAITING:
        return False
    db.execute(
        "INSERT INTO errands"
        " (id, kind, duty, asked_by, asked, reader, state, taken_by, reply, until_ms, proof)"
        " VALUES (?, ?, ?, ?, ?, ?, 'asked', '', '', ?, ?)",
        (
            errand.id,
            errand.kind,
            errand.duty.value,
            errand.asked_by,
            errand.asked,
            errand.reader,
            to_ms(errand.until),
            errand.proof,
        ),
    )
    _wake(db, words)
    return True


def asked(db: Looking, duties: Iterable[Duty], now: Instant) -> list[Errand]:
    """All that waits for one of `duties`, what runs out first ahead. It is given to nobody yet."""
    names = [duty.value for duty in duties]
    if not names:
        return []
    rows = _asked().rows(db, now=to_ms(now), first=names[0], second=names[-1])
    return [
        Errand(
            id=row["id"],
            kind=row["kind"],
            duty=Duty(row["duty"]),
            asked_by=row["asked_by"],
            asked=row["asked"],
            reader=row["reader"],
            until=from_ms(row["until_ms"]),
            proof=row["proof"],
        )
        for row in rows
    ]


@cache
def _asked() -> Look:
    table = schema.errands
    wanted = or_(table.c.duty == bindparam("first"), table.c.duty == bindparam("second"))
    query = select(table).where(table.c.state == "asked", wanted)
    query = query.where(table.c.until_ms > bindparam("now", type_=BigInteger))
    return Look(query.order_by(table.c.until_ms, table.c.id).limit(MOST_WAITING))


def take(db: Raw, names: Iterable[str], me: str, now: Instant) -> frozenset[str]:
    """Those of these errands that nobody took before; nobody else is given them."""
    at = to_ms(now)
    return frozenset(
        name for name in names if db.execute(_TAKE, (me, name, at)).fetchone() is not None
    )


def answer(db: Raw, id: str, reply: str, now: Instant, words: Words) -> bool:
    """Leave the answer for the asker; False when it is too late, or nobody waits for it."""
    changed = db.execute(
        "UPDATE errands SET state = 'done', reply = ?"
        " WHERE id = ? AND state = 'taken' AND until_ms > ?",
        (reply, id, to_ms(now)),
    )
    _wake(db, words)
    return changed.rowcount == 1


def use(db: Raw, id: str, until: Instant, now: Instant) -> bool:
    """Mark an errand as used; False when it is marked already. Old marks go with it.

    Apart from the errand's own row: that is deleted when it is fetched, and whoever puts it back
    finds the mark still there.
    """
    db.execute("DELETE FROM errands_used WHERE until_ms < ?", (to_ms(now - USED_KEPT),))
    made = db.execute(
        "INSERT INTO errands_used (id, until_ms) VALUES (?, ?) ON CONFLICT (id) DO NOTHING",
        (id, to_ms(until)),
    )
    return made.rowcount == 1


def reply_to(db: Looking, id: str) -> str | None:
    """The answer; None when there is none yet."""
    rows = _reply().rows(db, wanted=id)
    return str(rows[0]["reply"]) if rows and rows[0]["state"] == "done" else None


def drop(db: Raw, id: str, now: Instant) -> None:
    """It is fetched, or given up; what others left lying goes with it."""
    db.execute("DELETE FROM errands WHERE id = ? OR until_ms < ?", (id, to_ms(now - KEPT)))


@cache
def _reply() -> Look:
    table = schema.errands
    return Look(select(table.c.state, table.c.reply).where(table.c.id == bindparam("wanted")))


def _wake(db: Raw, words: Words) -> None:
    if words.notify:
        db.execute(words.notify)
