"""`tidegate verify`: what the evidence claims of a grant, held against the cloud as it is now.

Reads back, and where an end is claimed tries it: as that access, beside a credential that is not
cut. Nothing is changed or sealed, and a grant that is open is never tried: that would mint live
access which no event knows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from tidegate.base.errors import AskedWrongly, WorldFailed, one_line
from tidegate.base.when import Instant, wire
from tidegate.connectors.port import (
    Answer,
    Connector,
    Hold,
    Method,
    Powers,
    Probed,
    Proof,
    Scope,
    Seen,
)
from tidegate.diagnose.story import read_story
from tidegate.diagnose.trials import Trial, allowed_after, denied_by, trials_of, tried_says
from tidegate.diagnose.verified import Claims, How, Verdict, Verified, claims_of
from tidegate.evidence.events import Event
from tidegate.expire import ReadBack, residual_until
from tidegate.grant import Grant, GrantState

__all__ = ["Claims", "How", "Verdict", "Verified", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """Everything one look has, handed from judge to judge.

    `until` is the instant until which a session taken before the end may act. `uncut`: the cut the
    evidence claims is not seen, and a session it ended could act again.
    """

    grant: Grant
    claims: Claims
    now: Instant
    others: tuple[str, ...]
    seen: Seen
    probed: Probed | None = None
    unprobed: str = ""  # why the probe did not answer
    until: Instant | None = None
    uncut: bool = False
    stale: bool = False  # what was listed may be from before it was opened


def verify(
    grant: Grant,
    hold: Hold | None,
    connector: Connector,
    events: Sequence[Event],
    *,
    now: Instant,
    others: tuple[str, ...] = (),
    names: Callable[[str], str] = str,
) -> Verified:
    """Look at `grant` in the cloud now and judge it against its evidence. Never raises for either.

    Args:
        grant: its row.
        hold: what the cloud is asked about; None while no intent is sealed.
        connector: of the hold's target.
        events: the whole chain of its request.
        now: the instant the look counts from.
        others: other grants that hold the same assignment now: their access is not this one's.
        names: what people call a principal id.
    """
    story = read_story(events, grant.request)
    told = story.grants.get(grant.id)
    claims = claims_of(story, grant.id)
    # With a gap the events end too early to say what to look for: then the row does, and whatever
    # is seen does not agree.
    known = grant if told is None or story.gap else told
    looked = _looked(known, claims, hold, connector, now, others)
    return _with_trials(looked, known, trials_of(story.events, grant.id), names)


def _looked(
    known: Grant,
    claims: Claims,
    hold: Hold | None,
    connector: Connector,
    now: Instant,
    others: tuple[str, ...],
) -> Verified:
    if hold is None or known.ends_at is None:
        if known.ends_at is not None:
            raise RuntimeError(f"verify of {known.id} without its hold")
        said = "closed: no intent is sealed, so the cloud was never asked to open it"
        return _not_asked(known, claims, said, now)
    running = known.state in (GrantState.INTENDED, GrantState.OPEN)
    over = now >= hold.ends_at or not running
    try:
        powers = connector.powers(hold.role.kind)
        if known.state is GrantState.FAILED and powers.issues:
            # Nothing of its own is ever in such a cloud: to read it would only say "not denied".
            said = "closed: it failed to open, and no credential of it was ever issued"
            return _not_asked(known, claims, said, now)
        looked_for = replace(hold, removed_elsewhere=known.removed_at)
        seen = next(iter(connector.observe(Scope(target=hold.target, hold=looked_for), now)))
        derived = connector.residual(hold.target, hold.role, seen.cut)
    except (WorldFailed, AskedWrongly) as fault:
        return _unanswered(known, claims, fault, now)
    look = _Look(grant=known, claims=claims, now=now, others=others, seen=seen)
    if not over:
        return _judge_window(look, hold.ends_at, hold.ends_at + powers.deadline_precision)
    probed, unprobed = _try(connector, hold, now)
    until = _until(known, claims, seen, derived, powers, now)
    made_at = known.opened_at or known.closing_at
    look = replace(
        look,
        probed=probed,
        unprobed=unprobed,
        # A cut that was tried needs no settling; what was derived from a session still does.
        until=None if probed and probed.proves_denied and not derived else until,
        uncut=powers.cuts_apart and claims.cut and not seen.cut,
        stale=made_at is not None and now < made_at + powers.stale_window and not seen.cut,
    )
    return _judge_end(look)


def _try(connector: Connector, hold: Hold, now: Instant) -> tuple[Probed | None, str]:
    """What a probe got where the role can make one, and why it failed if it did."""
    if not hold.role.probe:
        return None, ""
    try:
        return connector.probe(hold, now), ""
    except (WorldFailed, AskedWrongly) as fault:
        return None, fault.message


def _until(
    grant: Grant, claims: Claims, seen: Seen, derived: timedelta, powers: Powers, now: Instant
) -> Instant | None:
    """Until when a session taken before the end may act; None: never was there one.

    As sealed, a cut counted. Where cutting is a change of its own and no cut is seen, a session
    lives out its time from the removal, whatever was sealed of a cut.
    """
    if grant.ends_at is None or grant.state is GrantState.FAILED:
        return None
    if claims.residual_until is not None:
        if powers.cuts_apart and not seen.cut and claims.removed_at is not None:
            return max(claims.residual_until, claims.removed_at + derived)
        return claims.residual_until
    # Not sealed as removed. Where the cloud has no end of its own, a session may have been taken
    # as late as just now.
    acted_at = (grant.closing_at or now) if powers.native_deadline else now
    back = ReadBack(
        cloud_at=seen.cloud_at,
        detail={},
        acted_at=acted_at,
        changed_by=acted_at,
        derived=derived,
        settling=powers.propagation,
        native_deadline=powers.native_deadline,
    )
    return residual_until(grant.ends_at, back)


def _judge_window(look: _Look, ends_at: Instant, latest: Instant) -> Verified:
    """Inside the window: open as granted, with no later end than granted."""
    seen, at = look.seen, wire(look.seen.cloud_at)
    intended = look.claims.state == GrantState.INTENDED
    if not seen.usable:
        said = f"closed before its end: read back at {at}, it is not usable"
        help = f"see `tidegate trace {look.grant.id}`; it can be asked for again"
        return _verified(look, Verdict.CLOSED, said, help, level=Proof.REMOVED, agrees=intended)
    if seen.deadline_at is not None and seen.deadline_at > latest:
        said = f"NOT CLOSED: the cloud ends it only at {wire(seen.deadline_at)}, granted was until"
        said += f" {wire(ends_at)}"
        help = f"end it now: `tidegate revoke {look.grant.id}`; then verify again"
        return _verified(look, Verdict.NOT_CLOSED, said, help, agrees=False)
    said = f"open until {wire(ends_at)}"
    if seen.inherited:
        said = f"usable by standing access by {one_line(seen.inherited)}, not by this grant; {said}"
    if intended:
        said += ", and that it opened is not sealed yet"
    agrees = intended or not seen.inherited
    return _verified(look, Verdict.OPEN_AS_GRANTED, said, "", agrees=agrees)


def _judge_end(look: _Look) -> Verified:
    """Past the end, or ended early: what was tried counts for more than what was read."""
    seen, probed = look.seen, look.probed
    trace = f"`tidegate trace {look.grant.id}`"
    if probed is not None and probed.answer is Answer.ALLOWED:
        return _judge_allowed(look, probed, trace)
    if probed is not None and probed.proves_denied:
        return _judge_tried(look, probed, trace)
    if seen.usable and look.others and not seen.inherited:
        names = ", ".join(f"`{name}`" for name in look.others)
        said = f"this grant ended; the same access is open under {names}"
        return _verified(look, Verdict.OPEN_AS_GRANTED, said, "", agrees=True)
    if seen.usable:
        return _judge_usable(look, trace)
    at, more = wire(seen.cloud_at), _why_not_tried(look)
    how = How.SIMULATED if _simulated(probed) else How.LISTED
    if look.stale:
        said = f"read back at {at}, it is not there; a list may still be from before it was opened"
        help = "verify again in a moment"
        return _verified(look, Verdict.CANNOT_TELL, said, help)
    if look.until is not None and look.now < look.until:
        cut = "removed; the cut that is sealed is not seen, and" if look.uncut else "removed;"
        said = f"{cut} a session taken before may act until {wire(look.until)}{more}"
        help = "verify again after that instant"
        if look.uncut:
            help = f"`tidegate doctor` tells whether somebody removed the cut; {help}"
        return _verified(
            look,
            Verdict.CANNOT_TELL,
            said,
            help,
            level=Proof.REMOVED,
            how=how,
            agrees=not look.uncut,
        )
    said = f"closed: read back at {at}, no new session can start{more}"
    help = _unsealed(look, trace)
    return _verified(look, Verdict.CLOSED, said, help, level=Proof.REMOVED, how=how)


def _judge_allowed(look: _Look, probed: Probed, trace: str) -> Verified:
    at, help = wire(probed.cloud_at), f"cut it in the cloud now, then see {trace}"
    if probed.method is Method.ACTED:
        said = f"NOT CLOSED: tried as this access and allowed at {at}"
        return _verified(look, Verdict.NOT_CLOSED, said, help, how=How.ACTED, agrees=False)
    said = f"NOT CLOSED: the cloud's policy simulator says allowed at {at}; not tried"
    return _verified(look, Verdict.NOT_CLOSED, said, help, how=How.SIMULATED, agrees=False)


def _judge_tried(look: _Look, probed: Probed, trace: str) -> Verified:
    at = wire(probed.cloud_at)
    if look.until is not None and look.now < look.until:
        said = f"removed; a session taken before may act until {wire(look.until)}"
        help = "what a session derived outlives it; verify again after that instant"
        return _verified(look, Verdict.CANNOT_TELL, said, help, level=Proof.DENIED, how=How.ACTED)
    said = (
        f"closed: tried as this access and refused at {at}"
        " (the same call by an uncut credential was allowed)"
    )
    help = _unsealed(look, trace)
    return _verified(look, Verdict.CLOSED, said, help, level=Proof.DENIED, how=How.ACTED)


def _judge_usable(look: _Look, trace: str) -> Verified:
    """Read back as usable after the end, with no other grant that wants it there.

    NB. a cloud may be unable to tell whose an assignment is, so that it shows as foreign proves
    nothing: what is not ours was seen before the intent, comes by a group, or is sealed as held.
    """
    at, held = wire(look.seen.cloud_at), look.claims.still_held_by
    if held or look.claims.stood_before or look.seen.inherited:
        held_by = held or "standing access"
        if look.seen.inherited:
            held_by = f"standing access by {look.seen.inherited}"
        said = f"NOT CLOSED: read back at {at}, still held by {one_line(held_by)}"
        help = "whoever owns that access ends it; it is not ours to remove"
        return _verified(look, Verdict.NOT_CLOSED, said, help, agrees=bool(held))
    closing = look.claims.state in (GrantState.OPEN, GrantState.CLOSING, GrantState.INTENDED)
    if closing:
        said = f"NOT CLOSED: read back at {at}, it is still usable"
        help = f"the worker goes on closing it, see {trace}"
    else:
        said = f"NOT CLOSED: read back at {at}, it is usable again after its end was sealed"
        help = f"find who made it again and end it there, see {trace}"
    return _verified(look, Verdict.NOT_CLOSED, said, help, agrees=closing)


def _with_trials(
    looked: Verified, grant: Grant, trials: tuple[Trial, ...], names: Callable[[str], str]
) -> Verified:
    """The same with what its holder saw. A statement: it may raise a doubt, or the level told."""
    if not trials:
        return looked
    told = replace(
        looked, trials=trials, tried=one_line(tried_says(trials, lambda who: names(who)))
    )
    if looked.verdict is not Verdict.CLOSED:
        return told
    again = allowed_after(trials)
    if again is not None:
        said = f"{looked.says}; yet it was tried by {one_line(names(again.by))} on their own"
        said += f" machine and allowed at {again.tried_at}"
        help = f"`tidegate paths {grant.id} {grant.role.partition('/')[0]}` looks for another way"
        return replace(
            told, verdict=Verdict.CANNOT_TELL, says=said, help=help, agrees=False, by_holder=False
        )
    if denied_by(trials, grant.principal) and looked.level is not Proof.DENIED:
        return replace(told, level=Proof.DENIED, how=How.ACTED, by_holder=True)
    return told


def _verified(
    look: _Look,
    verdict: Verdict,
    says: str,
    help: str,
    *,
    level: Proof | None = None,
    how: How = How.LISTED,
    agrees: bool = True,
) -> Verified:
    return Verified(
        grant=look.grant.id,
        at=look.now,
        verdict=verdict,
        says=says,
        help=help,
        claims=look.claims,
        seen=look.seen,
        probed=look.probed,
        level=level,
        how=how,
        agrees=agrees and not look.claims.gap,
    )


def _not_asked(grant: Grant, claims: Claims, says: str, now: Instant) -> Verified:
    if claims.gap:
        says = f"the evidence has a gap ({claims.gap}), so it does not say what to look for"
    return Verified(
        grant=grant.id,
        at=now,
        verdict=Verdict.CANNOT_TELL if claims.gap else Verdict.CLOSED,
        says=says,
        help=f"see `tidegate trace {grant.id}`",
        claims=claims,
        seen=None,
        probed=None,
        level=None,
        how=How.SEALED,
        agrees=not claims.gap,
    )


def _unanswered(
    grant: Grant, claims: Claims, fault: WorldFailed | AskedWrongly, now: Instant
) -> Verified:
    return Verified(
        grant=grant.id,
        at=now,
        verdict=Verdict.CANNOT_TELL,
        says=f"the cloud did not say: {fault.message}",
        help=fault.help or "`tidegate doctor` looks at the target",
        claims=claims,
        seen=None,
        probed=None,
        level=None,
        how=How.NOTHING,
        agrees=False,
    )


def _why_not_tried(look: _Look) -> str:
    if look.unprobed:
        return f" (trying it failed: {look.unprobed})"
    if _simulated(look.probed):
        return " (the cloud's policy simulator says denied; not tried)"
    if look.probed is not None and look.probed.answer is Answer.DENIED:
        return " (tried and refused, but so was an uncut credential, which proves nothing)"
    return ""


def _simulated(probed: Probed | None) -> bool:
    """Whether the cloud's simulator says denied: worth telling, and no trial."""
    return (
        probed is not None and probed.method is Method.SIMULATED and probed.answer is Answer.DENIED
    )


def _unsealed(look: _Look, trace: str) -> str:
    """What to do about a true end that the evidence does not tell yet."""
    if look.claims.state == GrantState.GONE:
        return ""
    return f"its end is not sealed yet: see {trace}"
