"""Confirming: whether a database that can be read owes what a closing journal says is owed.

Asked by a start that is slow, or waits for a person with its database open, where a newer release
moved the schema, and of what a database that was put back knows nothing of: nobody else may be
there to bring these ends about, and others may have given the same access anew meanwhile.
"""

from collections.abc import Sequence

import structlog

from tidegate.base.errors import TidegateError, WorldFailed
from tidegate.base.when import Instant
from tidegate.catalogue import Assignment
from tidegate.connectors.port import Hold
from tidegate.evidence.journal_book import JournalBook, ends, is_begun, read_back
from tidegate.evidence.journal_line import JournalLine
from tidegate.flow.deadlines import last_end
from tidegate.flow.holding import hold_of_line
from tidegate.grant import Grant, GrantState
from tidegate.store import Store

log = structlog.get_logger("tidegate.confirming")

DAMAGED = "row_unreadable"  # of a row no version of ours wrote: it will be so at the next try too
UNENDED = frozenset({GrantState.READY, GrantState.INTENDED, GrantState.OPEN})


def is_unopened(grant: Grant, lines: Sequence[JournalLine]) -> bool:
    """Whether its row does not say what became of the opening that these lines tell of.

    A row that failed after its intent was sealed does: the cloud refused, or was never called. What
    a late call made all the same is owed while it is being closed again (`came_late`).
    """
    if grant.state is GrantState.FAILED and grant.ends_at is not None:
        return is_begun(lines)
    return grant.state in (GrantState.READY, GrantState.FAILED)


def tells(grant: Grant, lines: Sequence[JournalLine]) -> bool:
    """Whether its row says how its access stands: not of an opening that the row is of before, and
    not of what came back after it was over and is being closed again (`closing_again.py`).
    """
    over = grant.state in (GrantState.GONE, GrantState.SIGNED_OFF)
    return not (is_unopened(grant, lines) or (over and begun_since(lines, grant)))


def is_held(store: Store, hold: Hold, book: JournalBook, now: Instant) -> bool:
    """Whether another grant holds this access by the rows: what no row tells of ends with that one
    then (I5). Not one whose end the journal says was begun, or that is due itself. Of a row that is
    damaged nobody knows, and closing waits for nobody.

    Raises:
        WorldFailed: the store did not answer.
    """
    try:
        row = store.assignment_by_key(hold.key)
    except WorldFailed as fault:
        if fault.code != DAMAGED:
            raise
        log.error("who else holds an access cannot be read", grant=hold.grant)
        return False
    until = _others_until(store, row, hold.grant, book)
    return until is not None and now < until


def begun_since(lines: Sequence[JournalLine], grant: Grant) -> bool:
    """Whether its closing was begun upon the row as it is, and not read back: by no clock."""
    begun = [line.row for line in lines if line.kind == "closing"] if is_begun(lines) else []
    return bool(begun) and (begun[-1] or 0) >= grant.version


def confirms(store: Store, name: str, book: JournalBook, now: Instant) -> bool:
    """Whether a database that can be read owes this end of the journal's (`book`) too.

    Another process may have ended the grant or moved its end, and given its access to somebody
    else: this journal knows nothing of that. An end that the journal says was decided the database
    may not have heard of yet. What it does not know, or cannot say, is as the journal says.
    """
    try:
        grant, lines = store.grants_named([name]).get(name), book.lines.get(name, ())
        if grant is None or is_unopened(grant, lines):
            hold = hold_of_line(book.waiting[name])
            return _is_only_cut(lines, now) or not is_held(store, hold, book, now)
        until = _others_until(store, store.assignment(grant.assignment), name, book)
    except TidegateError:
        return True
    except Exception:  # the rim: another release's rows may be of a shape nobody here foresaw
        log.exception("the database cannot say whether an end is owed", grant=name)
        return True
    return (until is None or now >= until) and _is_owed(grant, book, now)


def _others_until(
    store: Store, row: Assignment | None, name: str, book: JournalBook
) -> Instant | None:
    """Until when others than the grant of that name hold an access; None: nobody does.

    Not those whose end the journal says was decided. One that is due itself keeps nobody's access:
    nothing may be written here, so nobody takes it off the row, and each of two would wait for the
    other for ever. Raises WorldFailed.
    """
    if row is None:
        return None
    others = [one for one in row.holders if one != name and not _begun(book, one)]
    return last_end(store.grants_named(others), others, row.deadline_at)


def _is_owed(grant: Grant, book: JournalBook, now: Instant) -> bool:
    """Whether something of the end of `grant` is left to do, while nobody else holds its access.

    Of what was removed: its sessions, what others held on, and what the journal began once more.
    After a row is over: what came back, which the journal opened anew since.
    """
    if grant.state in UNENDED:
        return _begun(book, grant.id) or grant.ends_at is None or now >= grant.ends_at
    if grant.state is GrantState.REMOVED:
        anew = is_begun(book.lines[grant.id])
        return bool(grant.still_held_by) or not grant.cut or anew
    if grant.state is GrantState.CLOSING or begun_since(book.lines[grant.id], grant):
        return True
    over_at = grant.gone_at or grant.removed_at or grant.closing_at
    return over_at is not None and book.waiting[grant.id].at > over_at


def _is_only_cut(lines: Sequence[JournalLine], now: Instant) -> bool:
    """Whether only sessions from before its removal are left: cutting those takes nothing that was
    given since.
    """
    last = read_back(lines)
    return last is not None and last.uncut and not last.owed_again(now)


def _begun(book: JournalBook, name: str) -> bool:
    return bool(ends(book.lines.get(name, ())))
