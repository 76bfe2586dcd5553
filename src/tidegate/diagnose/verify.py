"""`tidegate verify`: what the evidence claims of a grant, held against the cloud as it is now.

Reads back, and where an end is claimed tries it: as that access, beside a credential that is not
cut. Nothing is changed or sealed, and a grant that is open is never tried: that would mint live
access which no event knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from tidegate.base.canonical import Json
from tidegate.base.errors import AskedWrongly, WorldFailed, one_line
from tidegate.base.when import Instant, wire
from tidegate.connectors.port import (
    Answer,
    Connector,
    Hold,
    Powers,
    Probed,
    Proof,
    Scope,
    Seen,
)
from tidegate.diagnose.story import read_story
from tidegate.evidence.events import Event
from tidegate.expire import ReadBack, residual_until
from tidegate.grant import Grant, GrantState


class Verdict(StrEnum):
    """What is true of the grant now."""

    CLOSED = "closed"
    OPEN_AS_GRANTED = "open_as_granted"
    NOT_CLOSED = "not_closed"
    CANNOT_TELL = "cannot_tell"


class How(StrEnum):
    """How the verdict is known."""

    ACTED = "acted"  # tried as this access
    READ_BACK = "read_back"  # the native thing was read
    SEALED = "sealed"  # by the evidence alone: the cloud was never asked to open it
    NOTHING = "nothing"  # the cloud did not answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the evidence says: the state its events leave, and the proof sealed with the end."""

    state: str
    proof: str
    ends_at: Instant | None
    still_held_by: str
    residual_until: Instant | None
    gap: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The verdict, one sentence saying it, and what it rests on.

    `level` is the strongest proof of an end reached in this look, None when none was. `agrees`:
    whether what is seen now is what the evidence claims. `seen` and `probed` are None when the
    cloud was not asked or did not answer.
    """

    grant: str
    at: Instant
    verdict: Verdict
    says: str
    help: str
    claims: Claims
    seen: Seen | None
    probed: Probed | None
    level: Proof | None
    how: How
    agrees: bool

    @property
    def ok(self) -> bool:
        """Whether the grant is what it should be: closed, or open as granted."""
        return self.verdict in (Verdict.CLOSED, Verdict.OPEN_AS_GRANTED)

    def as_json(self) -> dict[str, Json]:
        """As the API answers it."""
        return {
            "grant": self.grant,
            "at": wire(self.at),
            "ok": self.ok,
            "verdict": self.verdict.value,
            "says": self.says,
            "help": self.help,
            "level": self.level.value if self.level else None,
            "how": self.how.value,
            "agrees": self.agrees,
            "claims": _plain_claims(self.claims),
            "seen_now": _plain_seen(self.seen, self.probed),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """Everything one look has, handed from judge to judge."""

    grant: Grant
    claims: Claims
    now: Instant
    others: tuple[str, ...]
    seen: Seen
    probed: Probed | None = None
    unprobed: str = ""  # why the probe did not answer
    until: Instant | None = None  # until when a session taken before the end may act


def verify(
    grant: Grant,
    hold: Hold | None,
    connector: Connector,
    events: Sequence[Event],
    *,
    now: Instant,
    others: tuple[str, ...] = (),
) -> Verified:
    """Look at `grant` in the cloud now and judge it against its evidence. Never raises for either.

    Args:
        grant: its row.
        hold: what the cloud is asked about; None while no intent is sealed.
        connector: of the hold's target.
        events: the whole chain of its request.
        now: the instant the look counts from.
        others: other grants that hold the same assignment now: their access is not this one's.
    """
    story = read_story(events, grant.request)
    told = story.grants.get(grant.id)
    claims = _claims(told, story.gap)
    # With a gap the events end too early to say what to look for: then the row does, and whatever
    # is seen does not agree.
    known = grant if told is None or story.gap else told
    if hold is None or known.ends_at is None:
        if known.ends_at is not None:
            raise RuntimeError(f"verify of {grant.id} without its hold")
        said = "closed: no intent is sealed, so the cloud was never asked to open it"
        return _not_asked(grant, claims, said, now)
    running = known.state in (GrantState.INTENDED, GrantState.OPEN)
    over = now >= hold.ends_at or not running
    try:
        if known.state is GrantState.FAILED and connector.powers(hold.role.kind).issues:
            # Nothing of its own is ever in such a cloud: to read it would only say "not denied".
            said = "closed: it failed to open, and no credential of it was ever issued"
            return _not_asked(grant, claims, said, now)
        seen = next(iter(connector.observe(Scope(target=hold.target, hold=hold), now)))
        powers = connector.powers(hold.role.kind)
        derived = connector.residual(hold.role)
    except (WorldFailed, AskedWrongly) as fault:
        return _unanswered(grant, claims, fault, now)
    if not over:
        look = _Look(grant=grant, claims=claims, now=now, others=others, seen=seen)
        return _judge_window(look, hold.ends_at, hold.ends_at + powers.deadline_precision)
    probed, unprobed = _try(connector, hold, powers, now)
    until = claims.residual_until or _residual(known, seen, derived, powers, now)
    look = _Look(
        grant=grant,
        claims=claims,
        now=now,
        others=others,
        seen=seen,
        probed=probed,
        unprobed=unprobed,
        # A cut that was tried needs no settling; what was derived from a session still does.
        until=None if probed and probed.proves_denied and not derived else until,
    )
    return _judge_end(look)


def _try(
    connector: Connector, hold: Hold, powers: Powers, now: Instant
) -> tuple[Probed | None, str]:
    """What a probe got where the role kind can make one, and why it failed if it did."""
    if not hold.role.probe or powers.proof not in (Proof.DENIED, Proof.QUIET):
        return None, ""
    try:
        return connector.probe(hold, now), ""
    except (WorldFailed, AskedWrongly) as fault:
        return None, fault.message


def _residual(
    grant: Grant, seen: Seen, derived: timedelta, powers: Powers, now: Instant
) -> Instant | None:
    """Until when a session may act, of an end that is not sealed as removed yet."""
    if grant.ends_at is None:
        return None
    back = ReadBack(
        cloud_at=seen.cloud_at,
        detail={},
        acted_at=grant.closing_at or now,
        derived=derived,
        settling=powers.propagation,
        native_deadline=powers.native_deadline,
    )
    return residual_until(grant, back)


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
    if intended:
        said += ", and that it opened is not sealed yet"
    return _verified(look, Verdict.OPEN_AS_GRANTED, said, "", agrees=not look.claims.gap)


def _judge_end(look: _Look) -> Verified:
    """Past the end, or ended early: what was tried counts for more than what was read."""
    seen, probed = look.seen, look.probed
    trace = f"`tidegate trace {look.grant.id}`"
    if probed is not None and probed.answer is Answer.ALLOWED:
        said = f"NOT CLOSED: tried as this access and allowed at {wire(probed.cloud_at)}"
        help = f"cut it in the cloud now, then see {trace}"
        return _verified(look, Verdict.NOT_CLOSED, said, help, how=How.ACTED, agrees=False)
    if probed is not None and probed.proves_denied:
        return _judge_tried(look, probed, trace)
    if seen.usable and look.others:
        names = ", ".join(f"`{name}`" for name in look.others)
        said = f"this grant ended; the same access is open under {names}"
        return _verified(look, Verdict.OPEN_AS_GRANTED, said, "", agrees=True)
    if seen.usable:
        return _judge_usable(look, trace)
    at, more = wire(seen.cloud_at), _why_not_tried(look)
    if look.until is not None and look.now < look.until:
        said = f"removed; a session taken before may act until {wire(look.until)}"
        help = "verify again after that instant"
        return _verified(look, Verdict.CANNOT_TELL, said, help, level=Proof.REMOVED)
    said = f"closed: read back at {at}, no new session can start{more}"
    return _verified(look, Verdict.CLOSED, said, _unsealed(look, trace), level=Proof.REMOVED)


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
    """Read back as usable after the end, with no other grant that wants it there."""
    at, held = wire(look.seen.cloud_at), look.claims.still_held_by
    if held or look.seen.foreign:
        said = f"NOT CLOSED: read back at {at}, still held by {one_line(held) or 'standing access'}"
        help = "whoever owns that access ends it; it is not ours to remove"
        return _verified(look, Verdict.NOT_CLOSED, said, help, agrees=bool(held))
    said = f"NOT CLOSED: read back at {at}, it is still usable"
    closing = look.claims.state in (GrantState.OPEN, GrantState.CLOSING, GrantState.INTENDED)
    help = f"the worker goes on closing it, see {trace}" if closing else f"cut it now, see {trace}"
    return _verified(look, Verdict.NOT_CLOSED, said, help, agrees=closing)


def _verified(
    look: _Look,
    verdict: Verdict,
    says: str,
    help: str,
    *,
    level: Proof | None = None,
    how: How = How.READ_BACK,
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
    if look.probed is not None and look.probed.answer is Answer.DENIED:
        return " (tried and refused, but so was an uncut credential, which proves nothing)"
    return ""


def _unsealed(look: _Look, trace: str) -> str:
    """What to do about a true end that the evidence does not tell yet."""
    if look.claims.state == GrantState.GONE:
        return ""
    return f"its end is not sealed yet: see {trace}"


def _claims(told: Grant | None, gap: str) -> Claims:
    if told is None:
        gap = gap or "the chain does not know this grant"
        return Claims(
            state="", proof="", ends_at=None, still_held_by="", residual_until=None, gap=gap
        )
    return Claims(
        state=told.state.value,
        proof=told.proof,
        ends_at=told.ends_at,
        still_held_by=told.still_held_by,
        residual_until=told.residual_until,
        gap=gap,
    )


def _plain_claims(claims: Claims) -> dict[str, Json]:
    return {
        "state": claims.state,
        "proof": claims.proof,
        "ends_at": wire(claims.ends_at) if claims.ends_at else None,
        "still_held_by": claims.still_held_by,
        "residual_until": wire(claims.residual_until) if claims.residual_until else None,
        "gap": claims.gap,
    }


def _plain_seen(seen: Seen | None, probed: Probed | None) -> dict[str, Json] | None:
    if seen is None:
        return None
    return {
        "usable": seen.usable,
        "cut": seen.cut,
        "foreign": seen.foreign,
        "cloud_at": wire(seen.cloud_at),
        "deadline_at": wire(seen.deadline_at) if seen.deadline_at else None,
        "answer": probed.answer.value if probed else None,
        "control": probed.control.value if probed else None,
        "call": probed.call if probed else "",
    }
