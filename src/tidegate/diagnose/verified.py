"""What a look of `verify` comes to: the verdict, what the evidence claims, and as JSON.

Values only; they are judged in `verify.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tidegate.base.canonical import Json
from tidegate.base.when import Instant, parse_instant, wire
from tidegate.connectors.port import Answer, Method, Probed, Proof, Seen
from tidegate.diagnose.story import Story
from tidegate.diagnose.trials import Trial
from tidegate.grant import Grant, GrantState


class Verdict(StrEnum):
    """What is true of the grant now."""

    CLOSED = "closed"
    OPEN_AS_GRANTED = "open_as_granted"
    NOT_CLOSED = "not_closed"
    CANNOT_TELL = "cannot_tell"


class How(StrEnum):
    """How the verdict is known: the methods of a cloud, and two without asking one."""

    ACTED = Method.ACTED.value  # tried as this access
    SIMULATED = Method.SIMULATED.value  # the cloud's policy simulator was asked
    LISTED = Method.LISTED.value  # the native thing was read
    SEALED = "sealed"  # by the evidence alone: the cloud was never asked to open it
    NOTHING = "nothing"  # the cloud did not answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the evidence says: the state its events leave, and how far its end is proven.

    `level` is the proof the events carry so far, None before any; `how` the method sealed with it.
    `removed_at` is when the removal acted, by our clock; `residual_until` counts a later cut;
    `stood_before`: the same access was seen in the cloud before the intent.
    """

    state: str = ""
    level: Proof | None = None
    how: str = ""
    proof: str = ""
    ends_at: Instant | None = None
    still_held_by: str = ""
    removed_at: Instant | None = None
    residual_until: Instant | None = None
    cut: bool = False
    stood_before: bool = False
    gap: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The verdict, one sentence saying it, and what it rests on.

    `level` is the strongest proof of an end reached in this look, None when none was, and `how` by
    what; with `by_holder` it is the holder's own trial that reached it, on their word. `agrees`:
    whether what is seen now is what the evidence claims. `seen` and `probed` are None when the
    cloud was not asked or did not answer. `tried` tells the holder's trials in words.
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
    by_holder: bool = False
    trials: tuple[Trial, ...] = ()
    tried: str = ""

    @property
    def ok(self) -> bool:
        """Whether the grant is what it should be: closed, or open as granted."""
        return self.verdict in (Verdict.CLOSED, Verdict.OPEN_AS_GRANTED)

    @property
    def level_says(self) -> str:
        """The level and how it is known, for people."""
        if self.level is None:
            return f"none ({self.how})"
        return f"{self.level} ({'tried by its holder, ' if self.by_holder else ''}{self.how})"

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
            "level_says": self.level_says,
            "by_holder": self.by_holder,
            "how": self.how.value,
            "agrees": self.agrees,
            "claims": _plain_claims(self.claims),
            "seen_now": _plain_seen(self.seen, self.probed),
            "tried": self.tried,
            "trials": [
                {"phase": one.phase, "outcome": one.outcome, "tried_at": one.tried_at}
                for one in self.trials
            ],
        }


def claims_of(story: Story, grant: str) -> Claims:
    """What the events of `story` claim of `grant`."""
    told = story.grants.get(grant)
    if told is None:
        return Claims(gap=story.gap or "the chain does not know this grant")
    removed = story.last(grant, "grant.removed") if told.removed_at else None
    intended = story.last(grant, "grant.intended")
    return Claims(
        state=told.state.value,
        level=_level(story, told),
        how=_how(story, told),
        proof=told.proof,
        ends_at=told.ends_at,
        still_held_by=told.still_held_by,
        removed_at=parse_instant(str(removed.data["acted_at"])) if removed else None,
        residual_until=told.residual_until,
        cut=told.cut,
        stood_before=bool(intended and intended.data["stood_before"]),
        gap=story.gap,
    )


def _level(story: Story, told: Grant) -> Proof | None:
    """The proof the events carry. A read-back that was noted follows an accepted removal."""
    if told.state is GrantState.GONE and told.proof in set(Proof):
        return Proof(told.proof)
    if told.state is GrantState.REMOVED and not told.still_held_by:
        return Proof.REMOVED
    if told.state is GrantState.CLOSING and told.outcome:
        noted = story.last(told.id, "grant.noted")
        if noted is not None and noted.data["step"] == "read_back":
            return Proof.ACCEPTED
    return None


def _how(story: Story, told: Grant) -> str:
    """The method sealed with the level. Before it was sealed as such, the answer of the probe."""
    gone = story.last(told.id, "grant.gone") if told.state is GrantState.GONE else None
    if gone is None:
        return Method.LISTED.value if told.state is GrantState.REMOVED else ""
    how = gone.data["how"]
    if not isinstance(how, Mapping):
        return ""
    acted = how.get("answer", Answer.UNTOLD.value) != Answer.UNTOLD.value
    return str(how.get("method", Method.ACTED.value if acted else Method.LISTED.value))


def _plain_claims(claims: Claims) -> dict[str, Json]:
    return {
        "state": claims.state,
        "level": claims.level.value if claims.level else None,
        "how": claims.how,
        "proof": claims.proof,
        "ends_at": wire(claims.ends_at) if claims.ends_at else None,
        "still_held_by": claims.still_held_by,
        "residual_until": wire(claims.residual_until) if claims.residual_until else None,
        "cut": claims.cut,
        "stood_before": claims.stood_before,
        "gap": claims.gap,
    }


def _plain_seen(seen: Seen | None, probed: Probed | None) -> dict[str, Json] | None:
    if seen is None:
        return None
    return {
        "usable": seen.usable,
        "cut": seen.cut,
        "foreign": seen.foreign,
        "inherited": seen.inherited,
        "cloud_at": wire(seen.cloud_at),
        "deadline_at": wire(seen.deadline_at) if seen.deadline_at else None,
        "answer": probed.answer.value if probed else None,
        "control": probed.control.value if probed else None,
        "method": probed.method.value if probed else None,
        "call": probed.call if probed else "",
    }
