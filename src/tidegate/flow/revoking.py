"""Ending early: by the owner who is done, or by somebody who may revoke."""

from contextlib import suppress

from tidegate.base.errors import EvidenceClosed, Stale, TidegateError, WorldFailed
from tidegate.base.text import LONGEST_REASON, clean_text
from tidegate.evidence.journal import JournalLine
from tidegate.expire import EndReason
from tidegate.flow.adopting import adopt, reading_at
from tidegate.flow.allowing import Verb
from tidegate.flow.asking import TRIES
from tidegate.flow.ending import begin
from tidegate.flow.house import Actor, House
from tidegate.flow.reading import find_grant
from tidegate.flow.recovering import close_without_store
from tidegate.grant import Grant, GrantState


def end_early(house: House, actor: Actor, some_id: str, comment: str = "") -> Grant:
    """End a grant before its time: `done` by its owner, `revoked` by anybody else allowed to.

    Idempotent: a grant that is closing or over is returned as it is.

    Raises:
        NotFound, NotAllowed, AskedWrongly: as `reading.find_grant` tells.
        WorldFailed: `ended_unsealed`: the evidence cannot be written, so the end was begun from the
            closing journal. It says whether the access was read back removed.
    """
    words = clean_text("comment", comment, LONGEST_REASON) if comment.strip() else ""
    grant = find_grant(house, actor, some_id, Verb.REVOKE)
    reason = EndReason.DONE if grant.principal == actor.id else EndReason.REVOKED
    for tried in range(1, TRIES + 1):
        grant = house.store.grant(grant.id)
        if grant.over or grant.state in (GrantState.CLOSING, GrantState.REMOVED):
            return grant
        sealed = house.personal(words) if words else None
        try:
            return begin(house, grant, reason, actor.id, house.ending_now(), sealed)
        except Stale:
            if tried == TRIES:
                raise
        except EvidenceClosed:
            if grant.state is GrantState.READY:
                raise  # nothing is in the cloud, and nothing opens without evidence either
            raise _from_journal(house, actor, grant, reason) from None
    return grant


def _says_how(house: House, name: str) -> bool:
    """Whether our journal says what to close."""
    try:
        lines = house.journal.book().lines.get(name, ())
    except OSError:
        return False
    return any(line.kind == "intended" for line in lines)


def _from_journal(house: House, actor: Actor, grant: Grant, reason: EndReason) -> WorldFailed:
    """Closing does not wait for the evidence (I6): begin it in the journal, and seal it later.

    Raises EvidenceClosed when not even the journal can be written.
    """
    data = {"reason": reason.value, "actor": actor.id}
    line = JournalLine(kind="closing", grant=grant.id, at=house.now(), data=data)
    try:
        with suppress(TidegateError):  # another machine may have opened it: it closes it, then
            adopt(house, grant, reading_at(house))
        house.journal.append(line)
    except OSError as fault:
        raise EvidenceClosed(
            "nothing_writable",
            f"neither the evidence nor the closing journal can be written: {fault.strerror}",
            f"end `{grant.id}` in the cloud by hand, and make room or mend the disk",
        ) from None
    if close_without_store(house, frozenset({grant.id})):
        how = "was removed, and that was read back"
    elif _says_how(house, grant.id):
        how = "is being closed from the journal, and is not read back as removed yet"
    else:
        how = "cannot be closed from here, where nobody knows how it was opened: do it in the cloud"
    return WorldFailed(
        "ended_unsealed",
        f"the evidence cannot be written; `{grant.id}` {how}",
        "its end is sealed as soon as the evidence can be written: see `tidegate doctor`",
    )
