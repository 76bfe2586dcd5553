"""Grant and Run as a trace tells them, from events alone.

Called by `trace.py` only.
"""

from datetime import timedelta

from tidegate.base.errors import one_line
from tidegate.base.text import short
from tidegate.base.when import parse_instant, wire
from tidegate.diagnose.asked import Telling, again, moment, shown
from tidegate.diagnose.trials import AFTER
from tidegate.diagnose.walk import Stage, StageState, StageView
from tidegate.evidence.events import Event
from tidegate.grant import Cause, Grant, GrantState, Outcome
from tidegate.request import RequestState

LATE = timedelta(seconds=5)  # the worker looks several times a second; a cloud answers in a few
STALLED = timedelta(seconds=30)  # between intent and outcome: longer than one call may take

_CAUSES = {
    Cause.NOT_CLAIMED: "it could not be opened in time",
    Cause.NOT_PERMITTED: "the rules or votes in force at opening no longer permit it",
    Cause.ROLE_CHANGED: "the role is not what it was when it was voted on",
    Cause.CLOUD_REFUSED: "the cloud refused, and certainly made nothing",
    Cause.JOURNAL_CLOSED: "the closing journal could not be written, so nothing opens",
    Cause.ENDED_BEFORE: "it was ended before it opened",
    Cause.GATE_SHUT: "the health gate stayed shut until it had to be open",
    Cause.NO_SUCH_PERSON: "the cloud does not know who it is for",
}
_AFTER_CAUSE = {
    Cause.NOT_CLAIMED: "`tidegate doctor` says what was in the way; then ask again: {again}",
    Cause.NOT_PERMITTED: "ask again under the rules in force: {again}",
    Cause.ROLE_CHANGED: "look at the role with `tidegate targets`, then ask again: {again}",
    Cause.CLOUD_REFUSED: "`tidegate doctor` names what the cloud does not allow; then: {again}",
    Cause.JOURNAL_CLOSED: "`tidegate doctor` says what ails the journal; then: {again}",
    Cause.ENDED_BEFORE: "ask again if it is still needed: {again}",
    Cause.GATE_SHUT: "mend what `tidegate doctor` names; then: {again}",
    Cause.NO_SUCH_PERSON: "map the person to the cloud's user in the settings; then: {again}",
}
_OUTCOMES = {
    Outcome.UNKNOWN: "no answer came from the cloud, so it may or may not have acted",
    Outcome.UNREACHABLE: "the cloud is not reached",
    Outcome.REFUSED: "the cloud refuses",
    Outcome.STILL_USABLE: "read back, it is still usable",
    Outcome.CLOCK_APART: "the cloud's clock and ours are apart",
    Outcome.NOT_PROVEN: "its end is not proven yet",
    Outcome.STILL_ACTS: "tried as that access, it was still allowed",
    Outcome.LATER: "the cloud asks us to slow down; it is tried again",
    Outcome.NOT_CUT: "its live sessions are not seen cut yet",
    Outcome.GATE_SHUT: "the health gate is shut: what opens now might not be closed",
    Outcome.STILL_CLOSING: "an earlier grant of the same access is not removed yet",
}
_AFTER_OUTCOME = {
    Outcome.CLOCK_APART: "mend this machine's clock (NTP); `tidegate doctor` says how far apart",
    Outcome.GATE_SHUT: "`tidegate doctor` names the check and the fix; it opens by itself then",
    Outcome.STILL_CLOSING: "wait; it opens by itself once that one is removed",
}


def outcome_words(grant: Grant) -> str:
    """What the last noted call came back with, in words."""
    words = {outcome.value: said for outcome, said in _OUTCOMES.items()}
    return words.get(grant.outcome, f"`{short(grant.outcome)}`")


def cloud_object(intended: Event | None) -> str:
    """The native thing a grant stands for, as sealed before the cloud was called."""
    if intended is None:
        return ""
    names = ("connector", "account", "native_role", "native_principal")
    return one_line(" ".join(str(intended.data[name]) for name in names))


def shown_map(value: object) -> str:
    """A sealed map as `key value` pairs.

    NB. a cloud's detail may hold a word that says more than is known of the grant (`role gone`):
    it is told in words that cannot be taken for a state or a proof.
    """
    if not isinstance(value, dict):
        return ""
    plain = {"gone": "not there", "denied": "refused"}
    told = [f"{key} {plain.get(str(item), str(item))}" for key, item in value.items() if item != ""]
    return short(", ".join(sorted(told)))


def tell_grant(telling: Telling) -> StageView:
    """Stage 3: whether it opened, as what, and what the cloud answered."""
    grant = telling.grant
    if grant is None:
        return _no_grant(telling)
    intended = telling.story.last(grant.id, "grant.intended")
    opened = telling.story.last(grant.id, "grant.opened")
    state, headline, step = _opening(telling, grant, intended, opened)
    rule = ""
    if intended is not None:
        data = intended.data
        rule = f"{shown(data['carrier'])}, which asks for {shown(data['requirement'])}"
    at = opened or telling.story.last(grant.id, "grant.failed") or intended
    return StageView(
        stage=Stage.GRANT,
        state=state,
        headline=headline,
        when=moment(str(at.data["at"])) if at else "",
        rule=rule,
        cloud_object=cloud_object(intended),
        read_back=shown_map(opened.data["receipt"]) if opened else "",
        next_step=step,
        lines=tuple(_lines(telling, grant)),
    )


def tell_run(telling: Telling) -> StageView:
    """Stage 4: whether it is open, and how it was used."""
    grant = telling.grant
    before = (GrantState.READY, GrantState.INTENDED, GrantState.FAILED)
    if grant is None or grant.ends_at is None or grant.state in before:
        return StageView(stage=Stage.RUN, state=StageState.NOT_REACHED, headline="not open")
    sessions = telling.story.sessions.get(grant.id, ())
    used = "no session was taken"
    if sessions:
        used = "1 session" if len(sessions) == 1 else f"{len(sessions)} sessions"
    until = moment(grant.ends_at)
    state, headline, step = StageState.DONE, used, ""
    if grant.state is GrantState.OPEN and telling.now < grant.ends_at:
        state, headline = StageState.NOW, f"open until {until}; {used}"
        step = f"use it: `tidegate exec {grant.id} -- …`; end it early: `tidegate done {grant.id}`"
    elif grant.state is GrantState.OPEN:
        headline = f"its window ended at {until}; {used}"
    return StageView(
        stage=Stage.RUN,
        state=state,
        headline=headline,
        who=telling.who(grant.principal),
        when=moment(sessions[0].issued_at) if sessions else "",
        next_step=step,
        lines=tuple(_session_lines(telling, grant)),
    )


def _no_grant(telling: Telling) -> StageView:
    if telling.request.state is not RequestState.APPROVED:
        return StageView(stage=Stage.GRANT, state=StageState.NOT_REACHED, headline="not approved")
    if extends := telling.request.terms.extends:
        look = f"see `tidegate trace {short(extends.grant)}`"
        if telling.request.applied_at:
            said = (
                f"the end of {short(extends.grant)} moved to {moment(extends.until)} at the latest"
            )
            return StageView(
                stage=Stage.GRANT, state=StageState.DONE, headline=said, next_step=look
            )
        said = f"the end of {short(extends.grant)} is to move; {telling.worker}"
        return StageView(stage=Stage.GRANT, state=StageState.NOW, headline=said, next_step=look)
    return StageView(
        stage=Stage.GRANT,
        state=StageState.STOPPED,
        headline="approved, and that a grant was made of it is not sealed",
        next_step="`tidegate evidence rebuild --check` compares all rows with the evidence",
    )


def _opening(
    telling: Telling, grant: Grant, intended: Event | None, opened: Event | None
) -> tuple[StageState, str, str]:
    """(state, headline, next step) of stage 3."""
    until = moment(grant.ends_at) if grant.ends_at else ""
    match grant.state:
        case GrantState.READY:
            return _ready(telling, grant)
        case GrantState.INTENDED:
            return _intended(telling, grant, intended, until)
        case GrantState.FAILED:
            return _failed(telling, grant)
    if opened is not None:
        at = moment(str(opened.data["cloud_at"]))
        return StageState.DONE, f"opened at {at} by the cloud's clock, to end at {until}", ""
    said = f"never confirmed open; it was closed as if it were, to end at {until}"
    return StageState.DONE, said, ""


def _ready(telling: Telling, grant: Grant) -> tuple[StageState, str, str]:
    claim_by = moment(grant.claim_by)
    if telling.now >= grant.claim_by + LATE:
        said = f"had to open by {claim_by}, and no outcome is sealed; {telling.worker}"
        return StageState.STOPPED, said, telling.wake
    if grant.outcome:
        said = f"not opened: {_told_outcome(telling, grant)}; tried again until {claim_by}"
        return StageState.STOPPED, said, _after_outcome(grant)
    if telling.now < grant.opens_at:
        step = "wait; it opens by itself"
        return StageState.WAITING, f"opens at {moment(grant.opens_at)}", step
    if telling.now >= grant.opens_at + LATE:
        said = f"could open since {moment(grant.opens_at)}, and was not; {telling.worker}"
        return StageState.STOPPED, said, telling.wake
    return StageState.NOW, f"ready; it opens by itself before {claim_by}", ""


def _intended(
    telling: Telling, grant: Grant, intended: Event | None, until: str
) -> tuple[StageState, str, str]:
    look = f"`tidegate verify {grant.id}` reads the cloud now"
    if grant.ends_at and telling.now >= grant.ends_at + LATE:
        said = f"it had to end at {until}, and no closing is sealed; {telling.worker}"
        return StageState.STOPPED, said, f"{telling.wake}; {look}"
    if grant.outcome:
        said = f"not known to be open: {_told_outcome(telling, grant)}; its end at {until} stands"
        if grant.outcome == Outcome.UNKNOWN:
            return StageState.STOPPED, said, f"the worker reads back and asks again; {look}"
        return StageState.STOPPED, said, _after_outcome(grant)
    since = str(intended.data["at"]) if intended else wire(grant.opens_at)
    said = f"intent and end ({until}) are sealed since {moment(since)}; the cloud is being asked"
    if telling.now >= parse_instant(since) + STALLED:
        return StageState.STOPPED, f"{said}; {telling.worker}", f"{telling.wake}; {look}"
    return StageState.NOW, said, ""


def _failed(telling: Telling, grant: Grant) -> tuple[StageState, str, str]:
    causes = {cause.value: cause for cause in Cause}
    cause = causes.get(grant.cause)
    event = telling.story.last(grant.id, "grant.failed")
    why = f': "{shown(event.data["why"])}"' if event and event.data["why"] else ""
    words = _CAUSES[cause] if cause else f"`{short(grant.cause)}`"
    anew = again(telling.request, [grant.role])
    step = _AFTER_CAUSE[cause].format(again=anew) if cause else f"ask again: {anew}"
    return StageState.STOPPED, f"failed: {words}{why}", step


def _told_outcome(telling: Telling, grant: Grant) -> str:
    event = telling.story.last(grant.id, "grant.noted")
    code = f" (`{shown(event.data['code'])}`)" if event else ""
    return f"{outcome_words(grant)}{code}"


def _after_outcome(grant: Grant) -> str:
    told = {outcome.value: step for outcome, step in _AFTER_OUTCOME.items()}
    return told.get(
        grant.outcome, "`tidegate doctor` looks at the target; it is tried again by itself"
    )


def _lines(telling: Telling, grant: Grant) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    opening = True
    for event in telling.story.of(grant.id):
        data, at = event.data, moment(str(event.data["at"]))
        match event.name:
            case "grant.readied":
                lines.append((at, f"ready, to open from {moment(str(data['opens_at']))}"))
            case "grant.intended":
                lines.append((at, f"intent sealed, with the end {moment(str(data['ends_at']))}"))
                if data["stood_before"]:
                    lines.append((at, "the same access stood before: it will not be removed"))
            case "grant.opened":
                lines.append((at, "the cloud said yes"))
            case "grant.failed":
                lines.append((at, f"failed: {shown(data['cause'])}"))
            case "grant.noted" if opening:
                lines.append((at, note_line(event)))
            case "gate.passed":
                lines.append((at, _passed_line(event)))
            case "grant.extended":
                lines.append((at, _extended_line(event)))
            case "grant.armed":
                kept = shown_map(data["receipt"])
                lines.append((at, f"journal and cloud have that end{f' ({kept})' if kept else ''}"))
            case "grant.closing":
                opening = False
    return lines


def _extended_line(event: Event) -> str:
    """A later end: from when to when, by which request and rule."""
    data = event.data
    moved = f"end moved {moment(str(data['ended_at']))} → {moment(str(data['ends_at']))}"
    return f"{moved} by {shown(data['extension'])}, carried by {shown(data['carrier'])}"


def _passed_line(event: Event) -> str:
    """What an emergency opened in spite of."""
    checks = event.data["checks"]
    named = [shown(check) for check in checks] if isinstance(checks, list) else []
    return short(f"opened as an emergency though the health gate was shut: {'; '.join(named)}")


def tried_line(telling: Telling, event: Event) -> str:
    """One `access.tried` as a line: whose word it is, and of which call."""
    data = event.data
    said = f"tried by {telling.who(str(data['by']))} on their own machine {shown(data['phase'])}"
    call = telling.texts(str(data["call"]))
    named = "call erased" if call is None else f'"{short(call)}"' if call else "call not told"
    return f"{said}: {shown(data['outcome'])} ({named})"


def note_line(event: Event) -> str:
    """One `grant.noted` as a line."""
    data = event.data
    step, outcome = (shown(data[name]).replace("_", " ") for name in ("step", "outcome"))
    told, code = f"try {data['tries']} to {step}: {outcome}", str(data["code"])
    # A probe's code repeats its answer, and its answer alone proves nothing.
    if code == data["outcome"] or code.startswith("probe_"):
        return told
    return f"{told} (`{shown(code)}`)"


def _session_lines(telling: Telling, grant: Grant) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for event in telling.story.of(grant.id):
        data, at = event.data, moment(str(event.data["at"]))
        if event.name == "session.issued":
            kind, key = shown(data["kind"]), shown(data["key_id"])
            lines.append((at, f"session {shown(data['session'])} {kind}, key {key}"))
        elif event.name == "grant.warned":
            lines.append((at, f"warned of its end at {moment(str(data['window_ends_at']))}"))
        elif event.name == "access.gone_early":
            lines.append((at, f"lost before its end: {shown(data['how'])}; its holder was told"))
        elif event.name == "session.ended":
            lines.append((at, f"session {shown(data['session'])} ended: {shown(data['why'])}"))
        elif event.name == "access.tried" and data["phase"] != AFTER:
            lines.append((at, tried_line(telling, event)))
    return lines
