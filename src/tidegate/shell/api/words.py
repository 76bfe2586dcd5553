"""One sentence for each state: what happened, what happens next, and nothing that is not proven.

Pure. `gone` is said of a gone grant only, `refused when tried` only of the proof `denied`.
"""

from collections.abc import Mapping

from tidegate.base.when import Instant, show_duration
from tidegate.connectors.port import Exposure
from tidegate.expire import EndReason, Proof
from tidegate.finding import ClosedHow, Finding, FindingKind, FindingState
from tidegate.grant import Cause, Grant, GrantState, Outcome, ends_by
from tidegate.panic import Panic, PanicState, Standing
from tidegate.request import Item, Request, RequestState

HOW_KNOWN = {
    Proof.ACCEPTED: "the cloud accepted the removal",
    Proof.REMOVED: "read back from the cloud",
    Proof.DENIED: "tried as that access and refused",
    Proof.QUIET: "the cloud's own trail is silent since",
}
WHY_FAILED = {
    Cause.NOT_CLAIMED: "it could not be opened in time",
    Cause.NOT_PERMITTED: "the rules in force no longer permit it",
    Cause.ROLE_CHANGED: "the role is not what it was when it was voted on",
    Cause.CLOUD_REFUSED: "the cloud refused",
    Cause.JOURNAL_CLOSED: "the closing journal could not be written",
    Cause.ENDED_BEFORE: "it was ended before it opened",
    Cause.GATE_SHUT: "the health gate stayed shut",
    Cause.NO_SUCH_PERSON: "the cloud does not know who it is for",
}
WHY_ENDED = {
    EndReason.EXPIRED: "its time is over",
    EndReason.DONE: "its owner is done",
    EndReason.REVOKED: "it was revoked",
    EndReason.PANIC: "everything was revoked",
}
WHAT_CAME_BACK = {
    Outcome.UNKNOWN: "the last call got no answer",
    Outcome.UNREACHABLE: "the cloud was not reached",
    Outcome.REFUSED: "the cloud refused the last call",
    Outcome.STILL_USABLE: "the read-back does not show it removed yet",
    Outcome.CLOCK_APART: "the cloud's clock and ours disagree",
    Outcome.NOT_PROVEN: "the stronger proof was not reached yet",
    Outcome.STILL_ACTS: "tried as that access, it was still allowed",
    Outcome.LATER: "the cloud asked us to slow down",
    Outcome.NOT_CUT: "live sessions are not seen cut yet",
    Outcome.FROZEN: "a panic keeps this shut: see `tidegate doctor`",
    Outcome.GATE_SHUT: "the health gate is shut: see `tidegate doctor`",
    Outcome.STILL_CLOSING: "an earlier grant of the same access is not removed yet",
}


def request_says(request: Request, missing: list[str], grants: list[str]) -> str:
    """What happened to a request, and what happens next."""
    match request.state:
        case RequestState.PENDING:
            needs = " and ".join(missing) or "a decision"
            return f"waits for {needs} until {at(request.decide_by)}, then it lapses"
        case RequestState.APPROVED if extends := request.terms.extends:
            if request.applied_at:
                return f"approved; `{extends.grant}` ends later since {at(request.applied_at)}"
            return f"approved {_when(request.decided_at)}; the end is being moved"
        case RequestState.LAPSED if extends := request.terms.extends:
            return f"nobody decided before {at(request.decide_by)}; `{extends.grant}` keeps its end"
        case RequestState.APPROVED:
            what = f"see {', '.join(grants)}" if grants else "it opens by itself"
            return f"approved {_when(request.decided_at)}; {what}"
        case RequestState.DENIED:
            return f"denied by an approver {_when(request.decided_at)}; nothing opens"
        case RequestState.REFUSED:
            return f"refused {_when(request.decided_at)}: {request.why}"
        case RequestState.WITHDRAWN:
            return f"withdrawn by its owner {_when(request.decided_at)}; nothing opens"
        case RequestState.LAPSED:
            return f"nobody decided before {at(request.decide_by)}; nothing opens, ask again"


def grant_says(grant: Grant, now: Instant) -> str:
    """What happened to a grant, and what happens next, as known at `now`."""
    match grant.state:
        case GrantState.READY if now < grant.opens_at:
            return f"opens {at(grant.opens_at)}"
        case GrantState.READY:
            return f"is being opened{_lately(grant)}; given up at {at(grant.claim_by)}"
        case GrantState.INTENDED:
            return (
                f"is being opened{_lately(grant)}; whatever comes, it ends {_when(grant.ends_at)}"
            )
        case GrantState.OPEN if grant.ends_at is not None and now < grant.ends_at:
            return _open_says(grant, now)
        case GrantState.OPEN:
            return f"its time ended {_when(grant.ends_at)}; it is about to be closed"
        case GrantState.CLOSING:
            return (
                f"is being closed since {_when(grant.closing_at)}, {_ended(grant)}{_lately(grant)};"
                " it may still be usable until it is read back as removed"
            )
        case GrantState.REMOVED:
            return _removed_says(grant, now)
        case GrantState.GONE:
            known = HOW_KNOWN.get(Proof(grant.proof), grant.proof) if grant.proof else "not proven"
            return f"gone since {_when(grant.gone_at)}: {_ended(grant)}; {known}"
        case GrantState.SIGNED_OFF:
            return (
                f"signed off: its end ({_ended(grant)}) could not be proven; it may still be"
                f" usable, and nobody tries any more: see `tidegate trace {grant.id}`"
            )
        case GrantState.FAILED:
            why = WHY_FAILED.get(Cause(grant.cause), grant.cause) if grant.cause else "it failed"
            return f"never opened: {why}; ask again if it is still needed"


def ends_says(request: Request, item: Item, grant: Grant | None, now: Instant) -> str:
    """When an item's access ends, its grace in it; a span and its latest end while not yet fixed.

    Empty when it is ending already, or never opens.
    """
    until = ends_by(request, item, grant)
    if until is None:
        return ""
    grace = grant.grace if grant is not None and grant.ends_at else item.grace
    graced = f"; the last {show_duration(grace)} are grace for running work" if grace else ""
    terms = request.terms
    if terms.start or terms.extends or (grant is not None and grant.ends_at):
        return f"{at(until)}{graced}"
    span = terms.duration + grace
    return (
        f"{show_duration(span)} after it opens: {at(now + span)} if that is now, "
        f"{at(until)} at the latest{graced}"
    )


_BY_ITSELF = "once it is gone, the next look closes this"
_NEXT = {
    FindingKind.LEFTOVER: "Tidegate takes it away and closes this by itself; {keep}",
    FindingKind.READDED: "Tidegate takes it away and closes this by itself; find out who gave it "
    "again; {keep}",
    FindingKind.STANDING: "take it away with the remedy: " + _BY_ITSELF + "; {keep}, or with "
    "everything that stands there: `tidegate findings baseline {target} --reason …`",
    FindingKind.HELD_STILL: "whoever gave that access ends it: " + _BY_ITSELF + "; {keep}",
    FindingKind.GONE_EARLY: "find out who took it away; once the grant is over a look closes this",
    FindingKind.DEADLINE: "Tidegate sets it again and closes this by itself",
    FindingKind.ROLE_CHANGED: "put the role right: the next look closes this",
    FindingKind.DENY_REMOVED: "the deny is there again; find out who took it away; {close}",
    FindingKind.LATE: "`tidegate trace {grant}` tells why; once it is seen to, {close}",
    FindingKind.SIDE_DOOR: "take it away with the remedy, or see that it is harmless; {close}",
}
_AGAIN = "; seen again, it opens again"
_CLOSED_HOW = {
    ClosedHow.HEALED: "Tidegate put it right, and read that back" + _AGAIN,
    ClosedHow.FIXED: "a later look did not see it any more" + _AGAIN,
    ClosedHow.RESOLVED: "a person said that it is mended" + _AGAIN,
    ClosedHow.BASELINE: "it stands, and a new baseline called it known",
    ClosedHow.ACCEPTED: "it stands, and was signed off for a while; then it opens again",
}


def finding_next(finding: Finding) -> str:
    """What to do about a finding; of a closed one, how it was closed."""
    if finding.state is FindingState.CLOSED:
        return f"nothing to do: {_CLOSED_HOW[ClosedHow(finding.closed_how)]}"
    close = f"tidegate findings close {finding.id} --reason …"
    return _NEXT[finding.kind].format(
        keep=f"to keep it: `{close} --accept-for 30d`",
        close=f"then `{close}`",
        target=finding.target,
        grant=finding.grant or "GRANT",
    )


def open_says(by_kind: Mapping[str, int], high: int) -> str:
    """How many findings are open, and of which kinds."""
    count = sum(by_kind.values())
    if not count:
        return "no findings are open"
    kinds = ", ".join(f"{n} {kind}" for kind, n in by_kind.items())
    severe = f", {high} of high severity" if high else ""
    return f"{count} {'finding is' if count == 1 else 'findings are'} open{severe}: {kinds}"


def open_next(target: str) -> str:
    """The command that lists them."""
    return f"tidegate findings list --target {target}" if target else "tidegate findings list"


def exposure_says(exposure: Exposure | None) -> str:
    """The worst case of an end, in words: with Tidegate at work, and with none of it alive."""
    if exposure is None:
        return "not known: the target has no connector here"
    attended, unattended = exposure.attended, exposure.unattended
    worst = "at once" if not attended else f"within {show_duration(attended)}"
    if unattended is None:
        return f"an end takes effect {worst}; with Tidegate down nothing ends it: end it by hand"
    if unattended <= attended:
        return f"an end takes effect {worst}; the cloud itself ends it, even without Tidegate"
    return (
        f"an end takes effect {worst}; with Tidegate down the cloud ends it within "
        f"{show_duration(unattended)} of its end"
    )


def change_says(asked: str, in_force: str | None) -> str:
    """Whether a role is still what was asked for, by entry digests; None: it is not there now."""
    if in_force is None:
        return "this role has left the catalogue since; shown is what was asked for; nothing opens"
    if in_force != asked:
        return (
            "this role has changed since; shown is what was asked for; nothing opens while the "
            "catalogue says otherwise"
        )
    return ""


def at(instant: Instant) -> str:
    """An instant for reading, to the second."""
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def _open_says(grant: Grant, now: Instant) -> str:
    window = grant.window_ends_at or now
    finish = f"; running work may finish until {_when(grant.ends_at)}" if grant.grace else ""
    if now >= window:
        return f"its window ended {at(window)}, and no session is issued any more{finish}"
    return f"open for another {show_duration(window - now)}, until {at(window)}{finish}"


def _removed_says(grant: Grant, now: Instant) -> str:
    if grant.still_held_by:
        return (
            f"ended, {_ended(grant)}, and still held by {grant.still_held_by}; not ours to remove"
        )
    if grant.residual_until is not None and now < grant.residual_until:
        return f"removed; a session taken before may act until {at(grant.residual_until)}"
    if grant.acted:
        return "removed; tried as this access since, it was still allowed, so its end is not proven"
    # Not "tried": a process that only closes goes by what it reads.
    return (
        f"removed and read back{_lately(grant)}; it is looked at once more before its end is told"
    )


def panic_says(panic: Panic, standing: Standing, now: Instant) -> str:
    """How a panic stands, in nothing but counts; a word for all only when it is true of all."""
    told = [f"{standing.gone} gone"]
    if standing.removed:
        until = standing.residual_until
        more = f" (a session taken before may act until {at(until)})" if until else ""
        told.append(f"{standing.removed} removed{more}")
    if standing.still_closing:
        told.append(f"{standing.still_closing} still closing")
    if standing.not_verified:
        told.append(f"{standing.not_verified} unverified")
    counts = ", ".join(told)
    going = "" if panic.state is PanicState.SWEPT else "; ends are still being sealed"
    frozen = panic.frozen_until if panic.frozen(now) else None
    shut = f"; nothing opens there until {at(frozen)}" if frozen else ""
    doubt = f"; {standing.doubt}" if standing.doubt else ""
    return f"everything in {panic.scope.text}: {counts}{going}{shut}{doubt}"


def _ended(grant: Grant) -> str:
    return WHY_ENDED.get(EndReason(grant.end_reason), "") if grant.end_reason else "it ended"


def _lately(grant: Grant) -> str:
    if not grant.outcome:
        return ""
    came = WHAT_CAME_BACK.get(Outcome(grant.outcome), grant.outcome)
    tries = f", try {grant.tries}" if grant.tries > 1 else ""
    return f" ({came}{tries})"


def _when(instant: Instant | None) -> str:
    return at(instant) if instant is not None else "at an unknown instant"
