"""What is due: the worker's way to the grants it must look at next.

Due times and leases are the worker's own columns, not state: losing them costs a look too early,
never one too few. Every commit of a grant sets when it is due again and frees its lease.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import NamedTuple

import orjson
import structlog
from sqlalchemy import BigInteger, ColumnElement, Select, and_, bindparam, select, text

from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.grant import Grant
from tidegate.store import schema
from tidegate.store.database import Raw, Words
from tidegate.store.look import Look, Looking
from tidegate.store.reads import bounded
from tidegate.store.rows import ASLEEP, ENDING, OPENING, PROVING, UNREADABLE, codecs

log = structlog.get_logger("tidegate.store")

# Ends first, then what is waiting to be called gone, then what may open: a rush of openings must
# never keep a close waiting. What sleeps is last: there only what is due before its end.
LINES = (ENDING, PROVING, OPENING, ASLEEP)
# Rows looked at in due order before turns are taken target by target: more than the hands of a
# process, so that a look without a backlog ranks everything that is due.
HEAD = 256
MOST_TARGETS = 256  # targets one look gives a turn to; the next look goes on where it stopped
MOST_WOKEN = 1_000  # grants past their end that one look moves into line; sealing takes the rest
RISKS = range(8)  # all that `grant.risk_of` gives

# Left alone, SQLite takes the index by state and walks every open grant.
ENDING_INDEX = {"sqlite": " INDEXED BY grants_ending"}
# An open grant or an intent whose end has come stands in line with the ends, whatever line it was
# in: the worker seals its end in bulk, and what is left of that is still claimed first.
_WAKE = f"""
UPDATE grants SET lane = {ENDING} WHERE id IN (
  SELECT id FROM grants{{ending}}
  WHERE state IN ('open', 'intended') AND ends_at_ms <= :now AND lane <> {ENDING}
  ORDER BY ends_at_ms LIMIT {MOST_WOKEN}{{skip_locked}})
"""  # noqa: S608 - our own numbers
_FREE = "due_at_ms <= :now AND (lease_until_ms IS NULL OR lease_until_ms <= :now)"
_HEAD = f"""
SELECT id, target, risk, due_at_ms FROM grants
WHERE lane = :lane AND due_at_ms IS NOT NULL AND {_FREE}
ORDER BY due_at_ms, id LIMIT :most
"""  # noqa: S608 - our own words
# Every target that has something in this line, one step of the index each.
_TARGETS = """
WITH RECURSIVE one(target) AS (
  SELECT min(target) FROM grants
  WHERE lane = :lane AND lane < 3 AND due_at_ms IS NOT NULL AND target > :after
  UNION ALL
  SELECT (SELECT min(target) FROM grants
    WHERE lane = :lane AND lane < 3 AND due_at_ms IS NOT NULL AND target > one.target)
  FROM one WHERE one.target IS NOT NULL)
SELECT target FROM one WHERE target IS NOT NULL LIMIT :most
"""
# The riskiest of one target, and of those the longest due: one step of the index for each risk.
_TURN = " UNION ALL ".join(
    f"SELECT * FROM (SELECT id, target, risk, due_at_ms FROM grants"  # noqa: S608 - our own words
    f" WHERE lane = :lane AND lane < 3 AND target = :target AND risk = {risk}"
    f" AND due_at_ms IS NOT NULL AND {_FREE} ORDER BY due_at_ms LIMIT :room) AS line{risk}"
    for risk in reversed(RISKS)
)
_LEASE = f"""
UPDATE grants SET lease_until_ms = :lease, lease_by = :by WHERE id IN (
  SELECT id FROM grants WHERE id IN {{among}} AND {_FREE}{{skip_locked}})
RETURNING *
"""  # noqa: S608 - our own words
# An open grant is never put to sleep past its end.
_SNOOZE = """
UPDATE grants SET lease_until_ms = NULL, lease_by = NULL, due_at_ms = CASE
    WHEN state IN ('intended', 'open') AND ends_at_ms > :now AND ends_at_ms < :until
      THEN ends_at_ms
    ELSE :until
  END
WHERE id = :grant AND due_at_ms IS NOT NULL AND version = coalesce(:version, version)
"""


_SILENT = """
lease_by IS NOT NULL AND lease_until_ms > :now
AND (lease_until_ms > :beyond
  OR lease_by NOT IN (SELECT name FROM heartbeats WHERE at_ms > :heard))
"""
# Five beats missed. Shorter, and a busy worker loses what it holds; its hands bear that, but others
# then do its work twice.
SILENCE = timedelta(seconds=10)
# No end sleeps longer than two minutes between two tries, and no lease lasts longer. What does is
# of a clock that was ahead: whoever has it may be dead, or be right again and work at it no more.
LONGEST_ASLEEP = timedelta(minutes=5)
_MISLED = f"lane IN ({ENDING}, {PROVING}) AND due_at_ms > :beyond"


# The first of each line, and the first end, after the instant asked about: one step of an index
# each, however many are alive.
_NEXT = " UNION ALL ".join(
    f"SELECT * FROM (SELECT {at} AS at FROM grants{{{index}}} WHERE {which} AND {at} > :after"  # noqa: S608
    f" ORDER BY {at} LIMIT 1) AS next{place}"
    for place, (at, index, which) in enumerate(
        (
            *(("due_at_ms", "due", f"lane = {lane} AND due_at_ms IS NOT NULL") for lane in LINES),
            ("ends_at_ms", "ending", "state IN ('open', 'intended')"),
        )
    )
)


class Candidate(NamedTuple):
    """A due grant, as far as its turn depends on it."""

    id: str
    target: str
    risk: int
    due_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many grants of one target may be in hand at a time, and how many are by target id.

    `room` says for some targets how many more may be taken, whatever their share.
    `opens` and `closes`: what the asker may do. What may open is `ready`, or an intent before its
    end; everything else is closing. `by` is the name under which the asker beats: when it falls
    silent, its leases are free. Empty: they end by time alone.
    """

    a_target: int
    in_hand: Mapping[str, int] = field(default_factory=dict)
    room: Mapping[str, int] = field(default_factory=dict)
    opens: bool = True
    closes: bool = True
    by: str = ""

    def most(self, target: str) -> int:
        """How many of a target may be in hand after this look."""
        if target not in self.room:
            return self.a_target
        return min(self.a_target, self.in_hand.get(target, 0) + self.room[target])


def any_due(db: Looking, now: Instant, share: Share | None = None) -> bool:
    """Whether a claim would find something: spares an idle worker the write."""
    lines, alone = _lines(share), share is not None and share.opens != share.closes
    if not lines:
        return False
    looks = [_due_in(lines, alone and OPENING in lines)]
    if alone and OPENING not in lines:
        looks.append(_due_over())
    return any(look.rows(db, now=to_ms(now)) for look in looks)


def next_due(db: Looking, after: Instant) -> Instant | None:
    """The first instant after `after` at which something becomes due; None when nothing does.

    What is due by then already is not asked about, and a lease that runs out is not either: the
    worker looks for those at its own pace.
    """
    rows = db.look(_next(db.words), {"after": to_ms(after)})
    return from_ms(min(row[0] for row in rows)) if rows else None


@cache
def _next(words: Words) -> str:
    lite = words.name == "sqlite"  # as with ENDING_INDEX: else it may walk what is open
    due = " INDEXED BY grants_due" if lite else ""
    return words.spelled(_NEXT.format(due=due, ending=ENDING_INDEX.get(words.name, "")))


@cache
def _due_in(lines: tuple[int, ...], before_the_end: bool) -> Look:
    """One that is due in these lines; before its end only, for who may not close it."""
    query = _due().where(text(f"lane IN ({', '.join(str(line) for line in lines)})"))
    return Look(query.where(~_over()) if before_the_end else query)


@cache
def _due_over() -> Look:
    """One that is due and past its end, whatever line it stands in."""
    return Look(_due().where(_over()))


def _due() -> Select[tuple[str]]:
    table, now = schema.grants, bindparam("now", type_=BigInteger)
    free = table.c.lease_until_ms.is_(None) | (table.c.lease_until_ms <= now)
    return select(table.c.id).where(table.c.due_at_ms <= now, free).limit(1)


def _over() -> ColumnElement[bool]:
    now = bindparam("now", type_=BigInteger)
    # Written out: a bound parameter would keep PostgreSQL from the partial index.
    return and_(text("state IN ('open', 'intended')"), schema.grants.c.ends_at_ms <= now)


def _lines(share: Share | None) -> tuple[int, ...]:
    """The lines that hold what the asker may do, the most urgent first."""
    if share is None:
        return LINES
    return tuple(lane for lane in LINES if (share.opens if lane == OPENING else share.closes))


class Turns:
    """Where the last look stopped going round the targets of each line. One a process.

    In memory on purpose: a new process begins at the first target, and has gone round soon.
    """

    def __init__(self) -> None:
        self.after: dict[int, str] = {}


def claim(
    db: Raw,
    words: Words,
    now: Instant,
    limit: int,
    lease: timedelta,
    share: Share | None,
    turns: Turns,
) -> list[Grant]:
    """Lease at most `limit` due grants until `now + lease`, ends first.

    Within a line every target gets its first before any gets its second, counting what is in hand
    already; within a target the riskiest come first, and of those the longest due. What it costs
    does not grow with how many grants live, nor with how many are due.

    A row that cannot be read is named in the server's log, leased and left out: it must not keep
    the others from ending. Its own end is the journal's and the cloud's.
    """
    limit = bounded(limit)
    share = share or Share(a_target=limit)
    db.execute(
        _WAKE.format(ending=ENDING_INDEX.get(words.name, ""), skip_locked=words.skip_locked),
        {"now": to_ms(now)},
    )
    ids: list[str] = []
    taken: Counter[str] = Counter(share.in_hand)
    for lane in _lines(share):
        if len(ids) < limit:
            found = _candidates(db, lane, to_ms(now), share, taken, turns)
            ids += _by_turns(found, taken, share, limit - len(ids))
    if not ids:
        return []
    cursor = db.execute(
        _LEASE.format(among=words.among.replace("?", ":ids"), skip_locked=words.skip_locked),
        {
            "now": to_ms(now),
            "lease": to_ms(now + lease),
            "by": share.by or None,
            "ids": orjson.dumps(ids).decode(),
        },
    )
    names = [column[0] for column in cursor.description]
    rows = {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}
    return [grant for id in ids if id in rows and (grant := _read(rows[id]))]


def _candidates(
    db: Raw,
    lane: int,
    now_ms: int,
    share: Share,
    taken: Counter[str],
    turns: Turns,
) -> list[Candidate]:
    """What may be next in one line: all of it when that is little, else some of each target."""
    head = db.execute(_HEAD, {"lane": lane, "now": now_ms, "most": HEAD}).fetchall()
    if len(head) < HEAD or lane == ASLEEP:
        return [Candidate(*row) for row in head]
    after = turns.after.get(lane, "")
    targets = _targets(db, lane, after)
    if after and len(targets) < MOST_TARGETS:  # round the corner
        first = _targets(db, lane, "")[: MOST_TARGETS - len(targets)]
        targets += [target for target in first if target <= after]
    turns.after[lane] = targets[-1] if len(targets) == MOST_TARGETS else ""
    found: list[Candidate] = []
    for target in targets:
        room = share.most(target) - taken[target]
        if room > 0:
            asked = {"lane": lane, "now": now_ms, "target": target, "room": room}
            found += [Candidate(*row) for row in db.execute(_TURN, asked)]
    return found


def _targets(db: Raw, lane: int, after: str) -> list[str]:
    asked = {"lane": lane, "after": after, "most": MOST_TARGETS}
    return [row[0] for row in db.execute(_TARGETS, asked)]


def _by_turns(found: list[Candidate], taken: Counter[str], share: Share, limit: int) -> list[str]:
    """The ids to lease, in order; `taken` counts them."""
    found.sort(key=lambda one: (-one.risk, one.due_at_ms, one.id))
    before = Counter(taken)
    placed: list[tuple[int, Candidate]] = []
    for one in found:
        if before[one.target] < share.most(one.target):
            placed.append((before[one.target], one))
            before[one.target] += 1
    placed.sort(key=lambda pair: pair[0])  # stable: risk and time decide within a turn
    chosen = [one for _, one in placed[:limit]]
    taken.update(one.target for one in chosen)
    return [one.id for one in chosen]


def any_silent(db: Looking, now: Instant) -> bool:
    """Whether there is anything for `free_silent` to do."""
    misled = {"beyond": to_ms(now + LONGEST_ASLEEP)}
    silent = {"now": to_ms(now), "heard": to_ms(now - SILENCE), **misled}
    if db.look(db.words.spelled(f"SELECT 1 FROM grants WHERE {_SILENT} LIMIT 1"), silent):  # noqa: S608
        return True
    return bool(db.look(db.words.spelled(f"SELECT 1 FROM grants WHERE {_MISLED} LIMIT 1"), misled))  # noqa: S608


def free_silent(db: Raw, words: Words, now: Instant) -> int:
    """Free the leases of whoever has not beaten for SILENCE, or whose clock was far ahead, and wake
    ends that such a clock put to sleep; returns how many.
    """
    beyond = to_ms(now + LONGEST_ASLEEP)
    freed = db.execute(
        "UPDATE grants SET lease_until_ms = NULL, lease_by = NULL WHERE id IN ("  # noqa: S608
        f"SELECT id FROM grants WHERE {_SILENT}{words.skip_locked})",
        {"now": to_ms(now), "heard": to_ms(now - SILENCE), "beyond": beyond},
    )
    woken = db.execute(
        "UPDATE grants SET due_at_ms = :now, lease_until_ms = NULL, lease_by = NULL WHERE id IN ("  # noqa: S608
        f"SELECT id FROM grants WHERE {_MISLED} LIMIT {MOST_WOKEN}{words.skip_locked})",
        {"now": to_ms(now), "beyond": beyond},
    )
    return int(freed.rowcount + woken.rowcount)


def leave(db: Raw, name: str) -> None:
    """The worker that beat as `name` has stopped: it holds nothing, and is not alive."""
    db.execute(
        "UPDATE grants SET lease_until_ms = NULL, lease_by = NULL WHERE lease_by = :name",
        {"name": name},
    )
    db.execute("DELETE FROM heartbeats WHERE name = :name", {"name": name})


def free_leases(db: Raw) -> None:
    """Whoever held a lease is gone: by their names, which have an index. One that was taken without
    a name ends by time.
    """
    db.execute(
        "UPDATE grants SET lease_until_ms = NULL, lease_by = NULL WHERE lease_by IS NOT NULL"
    )


def snooze(db: Raw, grant: str, until: Instant, version: int | None, now: Instant) -> None:
    """Look at `grant` again at `until`, and free its lease.

    Nothing happens to a grant that is over, or that is no longer at `version` (None: any): a change
    since then has set its own due time.
    """
    db.execute(
        _SNOOZE,
        {"grant": grant, "until": to_ms(until), "version": version, "now": to_ms(now)},
    )


def _read(row: dict[str, int | str | None]) -> Grant | None:
    try:
        found: Grant = codecs()[Grant].decode(row)
    except UNREADABLE as fault:
        log.error("a grant's row cannot be read", grant=row["id"], why=type(fault).__name__)
        return None
    return found
