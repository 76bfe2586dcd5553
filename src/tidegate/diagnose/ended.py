"""Expire as a trace tells it, from events alone: which word may be said, and what it still lacks.

*Removed* and *gone*, and every proof, are said only when the event that carries them is sealed.
Called by `trace.py` only.
"""

from collections.abc import Mapping

from tidegate.base.text import short
from tidegate.diagnose.asked import Telling, moment, shown
from tidegate.diagnose.held import (
    LATE,
    STALLED,
    cloud_object,
    note_line,
    outcome_words,
    shown_map,
    tried_line,
)
from tidegate.diagnose.trials import AFTER
from tidegate.diagnose.walk import Stage, StageState, StageView
from tidegate.evidence.events import Event
from tidegate.evidence.side_doors import NOT_YET, search_says
from tidegate.grant import Grant, GrantState, Outcome
from tidegate.session import SessionState

_PROOFS = {
    "accepted": "the cloud said yes to the removal",
    "removed": "read back: no new session can start",
    "denied": "tried as this access, and refused",
    "quiet": "the cloud's own trail is silent to the end and past its delay",
}
_ENDINGS = {
    "expired": "its time was over",
    "done": "its owner ended it",
    "revoked": "somebody else ended it",
    "panic": "everything was ended at once",
}
_PROBES = {
    "probe_allowed": "a probe as this access was still allowed",
    "probe_untold": "the probe could not tell",
    "probe_denied": "a probe as this access was refused, and what sessions derived may still act",
}
_STALE = "inside_stale_window"  # noted while the cloud's lists may still show the old state

Told = tuple[StageState, str, str]  # state, headline, next step


def tell_expire(telling: Telling) -> StageView:
    """Stage 5: whether it ended, and how that is known."""
    grant = telling.grant
    if grant is None or grant.state in (GrantState.READY, GrantState.FAILED):
        nothing = StageState.NOT_REACHED, "nothing to close", ""
        return _view(telling, grant, nothing)
    return _view(telling, grant, _ending(telling, grant))


def _view(telling: Telling, grant: Grant | None, told: Told) -> StageView:
    state, headline, step = told
    if grant is None:
        return StageView(stage=Stage.EXPIRE, state=state, headline=headline)
    last = telling.story.last
    closing, gone = last(grant.id, "grant.closing"), last(grant.id, "grant.gone")
    removed = last(grant.id, "grant.removed") if grant.removed_at else None
    at = gone or removed or closing
    actor = closing.actor if closing else ""
    return StageView(
        stage=Stage.EXPIRE,
        state=state,
        headline=headline,
        who=("tidegate" if actor == "system" else telling.who(actor)) if actor else "",
        when=moment(str(at.data["at"])) if at else "",
        cloud_object=cloud_object(last(grant.id, "grant.intended")) if closing else "",
        read_back=_read_back(removed),
        proof=_proof(gone),
        next_step=step,
        lines=tuple(_lines(telling, grant)),
    )


def _ending(telling: Telling, grant: Grant) -> Told:
    match grant.state:
        case GrantState.CLOSING:
            return _closing(telling, grant)
        case GrantState.REMOVED:
            return _removed(telling, grant)
        case GrantState.GONE:
            return _gone(telling, grant)
        case GrantState.SIGNED_OFF:
            return _signed_off(telling, grant)
    until = moment(grant.ends_at) if grant.ends_at else ""
    over = grant.ends_at is not None and telling.now >= grant.ends_at
    if grant.state is GrantState.INTENDED or not over:
        return StageState.NOT_REACHED, f"due at {until}", ""
    if grant.ends_at and telling.now < grant.ends_at + LATE:
        return StageState.NOW, f"its end at {until} has come; the worker is taking it up", ""
    look = f"`tidegate verify {grant.id}` reads the cloud now"
    said = f"it had to end at {until}, and no closing is sealed; {telling.worker}"
    return StageState.STOPPED, said, f"{telling.wake}; {look}"


def _closing(telling: Telling, grant: Grant) -> Told:
    noted = telling.story.last(grant.id, "grant.noted") if grant.outcome else None
    code = shown(noted.data["code"]) if noted else ""
    look = f"`tidegate verify {grant.id}` reads the cloud now"
    contradicted = telling.story.last(grant.id, "grant.contradicted")
    match grant.outcome:
        case Outcome.STILL_USABLE if code == _STALE:
            said = "the cloud took the removal; what it lists may be stale, so it is read again"
            return StageState.WAITING, said, "wait; it is read again by itself"
        case Outcome.STILL_USABLE:
            said = "read back after the removal, it is still usable; it is tried again"
            return StageState.STOPPED, said, f"look who puts it back; {look}"
        case Outcome.REFUSED:
            said = f"the cloud refuses the removal: `{code}`; it is tried again; {_bound(grant)}"
            step = "allow Tidegate the removal there (`tidegate doctor` names the right); "
            return StageState.STOPPED, said, f"{step}{look}"
        case outcome if outcome:
            said = f"closing: {outcome_words(grant)} (`{code}`); it is tried again"
            return StageState.STOPPED, said, f"`tidegate doctor` looks at the target; {look}"
    if contradicted is not None and not grant.outcome:
        said = f'it was called removed and then acted: "{shown(contradicted.data["why"])}"'
        return StageState.STOPPED, f"{said}; it is closed anew", look
    since = moment(grant.closing_at) if grant.closing_at else ""
    if grant.closing_at and telling.now >= grant.closing_at + STALLED:
        said = f"closing since {since}, and no outcome is sealed; {telling.worker}"
        return StageState.STOPPED, said, f"{telling.wake}; {look}"
    return StageState.NOW, f"closing since {since}: the cloud is being asked", ""


def _bound(grant: Grant) -> str:
    """Until when access that is not removed works, by the exposure sealed with the grant."""
    if grant.unattended is None or grant.ends_at is None:
        return "until it is removed, nothing ends the access"
    return f"by itself the access ends at {moment(grant.ends_at + grant.unattended)} at the latest"


def _removed(telling: Telling, grant: Grant) -> Told:
    look = f"`tidegate verify {grant.id}` reads the cloud now"
    until = moment(grant.residual_until) if grant.residual_until else ""
    if grant.still_held_by:
        holder = short(grant.still_held_by)
        step = f"whoever owns that access ends it, if it should not be; {look}"
        return StageState.STOPPED, f"ended, still held by {holder}", step
    if grant.acted:
        said = "removed, and not proven: tried as this access since, it was still allowed"
        return StageState.STOPPED, f"{said}; only a refused try ends this", look
    if grant.residual_until and telling.now < grant.residual_until:
        step = f"wait; {look}"
        return StageState.WAITING, f"removed; a session taken before may act until {until}", step
    noted = telling.story.last(grant.id, "grant.noted") if grant.outcome else None
    code = str(noted.data["code"]) if noted else ""
    if grant.outcome:
        why = _PROBES.get(code, outcome_words(grant))
        return StageState.STOPPED, f"removed, and not proven: {why}; it is tried again", look
    due = max(grant.residual_until or telling.now, grant.removed_at or telling.now)
    if telling.now >= due + STALLED:
        said = f"removed, and not proven since {moment(due)}; {telling.worker}"
        return StageState.STOPPED, said, f"{telling.wake}; {look}"
    # Not "tried": a process that only closes goes by what it reads.
    return StageState.NOW, "removed; it is looked at once more before its end is told", ""


def _signed_off(telling: Telling, grant: Grant) -> Told:
    event = telling.story.last(grant.id, "grant.signed_off")
    who = f"{telling.who(event.actor)} answers for it" if event else "nobody is named for it"
    step = (
        f"`tidegate verify {grant.id}` reads the cloud now; to have it tried again:"
        f" `tidegate sign-off {grant.id} --undo --reason …`"
    )
    return StageState.STOPPED, f"signed off, not proven: {who}, and nobody tries any more", step


def _gone(telling: Telling, grant: Grant) -> Told:
    live = [
        session.id
        for session in telling.story.sessions.get(grant.id, ())
        if session.state is SessionState.LIVE
    ]
    if live:
        said = f"gone, and that session `{short(live[0])}` ended is not sealed"
        step = "`tidegate evidence rebuild --check` compares all rows with the evidence"
        return StageState.STOPPED, said, step
    words = _PROOFS.get(grant.proof, f"`{short(grant.proof)}`")
    ending = _ENDINGS.get(grant.end_reason, short(grant.end_reason))
    step = f"keep the proof: `tidegate evidence pack {grant.id} -o {grant.id}.pack.zip`"
    return StageState.DONE, f"gone: {ending}; {words}", step


def _read_back(removed: Event | None) -> str:
    if removed is None:
        return ""
    seen = shown_map(removed.data["read_back"])
    told = f"no new session can start, seen at {moment(str(removed.data['cloud_at']))}"
    return f"{told} ({seen})" if seen else told


def _proof(gone: Event | None) -> str:
    """The sealed proof, with what was tried only where that is what proves it."""
    if gone is None:
        return ""
    word = str(gone.data["proof"])
    how = gone.data["how"]
    told = f"{short(word)}: {_PROOFS.get(word, 'a word this version does not know')}"
    if not isinstance(how, Mapping):
        return told
    if how.get("method") == "simulated":
        return f"{told}; the cloud's policy simulator said so too, nothing was tried"
    if word != "denied":
        return told
    call, at = shown(how.get("call", "")), moment(str(how.get("cloud_at", gone.data["acted_at"])))
    return f"{told} at {at} (`{call}`; an uncut credential was {shown(how.get('control', ''))})"


def _searched_after(telling: Telling, back: Event) -> bool:
    """Whether a search for side doors was told since access came back and was closed again."""
    told = telling.story.last(str(back.data["grant"]), "grant.searched")
    return told is not None and told.idx > back.idx


def _lines(telling: Telling, grant: Grant) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    closing = False
    for event in telling.story.of(grant.id):
        data, at = event.data, moment(str(event.data["at"]))
        match event.name:
            case "grant.closing":
                closing = True
                why = _ENDINGS.get(str(data["reason"]), shown(data["reason"]))
                note = data["comment"]
                more = f": {telling.text(str(note))}" if note is not None else ""
                lines.append((at, f"closing: {why}{more}"))
            case "grant.noted" if closing:
                lines.append((at, note_line(event)))
            case "grant.removed":
                cut = ", live sessions seen cut with it" if data.get("cut") else ""
                lines.append((at, f"removed, acted at {moment(str(data['acted_at']))}{cut}"))
            case "grant.cut":
                said = "live sessions were cut, and seen cut"
                lines.append((at, f"{said} at {moment(str(data['cloud_at']))}"))
            case "access.tried" if data["phase"] == AFTER:
                lines.append((at, tried_line(telling, event)))
            case "grant.contradicted":
                lines.append((at, f'contradicted: "{shown(data["why"])}"'))
            case "grant.signed_off" | "grant.resumed":
                said = "signed off" if event.name == "grant.signed_off" else "taken up again"
                who = telling.who(event.actor)
                lines.append((at, f"{said} by {who}: {telling.text(str(data['reason']))}"))
            case "grant.gone":
                lines.append((at, f"gone, proof {shown(data['proof'])}"))
            case "grant.searched":
                lines.append((at, f"side doors: {search_says(event)}"))
            case "leftover.closed":
                by = f", added by {shown(data['by'])}" if data["by"] else ""
                said = f"it was there again{by}, and closed again ({data['finding']})"
                owed = "" if _searched_after(telling, event) else f"; {NOT_YET}"
                lines.append((at, f"{said}{owed}"))
            case "journal.sealed":
                said = f"{shown(data['step'])} from the closing journal without the database"
                lines.append((at, f"{said}, at {moment(str(data['acted_at']))}"))
    return lines
