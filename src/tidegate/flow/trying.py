"""Trying: what a holder saw with their own keys on their own machine, sealed as their word.

A statement, not a proof: it changes no state and makes no proof stronger. It is told beside them,
with who said it. What was called may name people and things, so it is an erasable text.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from tidegate.base.errors import AskedWrongly, NotAllowed, Stale
from tidegate.base.fact import Fact, Step
from tidegate.base.personal import Personal
from tidegate.base.text import is_hidden
from tidegate.base.when import Instant, wire
from tidegate.connectors.port import Answer
from tidegate.evidence.events import Event
from tidegate.evidence.seal import read_event
from tidegate.flow.allowing import Verb, is_operator
from tidegate.flow.house import Actor, House
from tidegate.flow.reading import find_grant
from tidegate.grant import Grant

MOST_TRIALS = 100  # a grant: before, during and after by hand; a loop would fill the log
LONGEST_CALL = 2_000  # characters: a command line people can read
OLDEST = timedelta(minutes=10)  # a trial is told at once; an older clock is a wrong one


class Phase(StrEnum):
    """When a trial was: before the access was open, during it, or after its end."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What somebody saw. `call` is the command as typed, empty when it is kept to themselves.

    `tried_at` is by their own clock.
    """

    outcome: Answer
    exit_code: int | None
    call: str
    tried_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A trial as sealed. `own_clock` is False when their clock could not be believed."""

    grant: Grant
    phase: Phase
    outcome: Answer
    tried_at: Instant
    own_clock: bool

    @property
    def expected(self) -> Answer:
        """What the outcome should be in this phase."""
        return Answer.ALLOWED if self.phase is Phase.DURING else Answer.DENIED

    @property
    def as_it_should(self) -> bool:
        """Whether it was."""
        return self.outcome is self.expected


def tell_trial(house: House, actor: Actor, some_id: str, trial: Trial) -> Tried:
    """Seal what the grant's holder, or an operator, saw trying its access.

    A `tried_at` in the future or older than OLDEST becomes our own instant, and that is answered.

    Raises:
        NotFound, NotAllowed, AskedWrongly: as `find_grant`; `not_yours_to_try`; a bad call.
        NotAllowed: `too_many_trials`.
        Stale: another trial of the same grant is being sealed.
    """
    grant = find_grant(house, actor, some_id, Verb.SEE)
    if actor.id != grant.principal and not is_operator(house, actor):
        raise NotAllowed(
            "not_yours_to_try",
            f"`{grant.id}` is somebody else's: only its holder or an operator can tell a trial",
            "ask its holder to run it on their own machine",
        )
    call = _clean(trial.call)
    with house.store.only_one(f"trial|{grant.id}") as ours:
        if not ours:
            raise Stale("busy", f"another trial of `{grant.id}` is being sealed", "try again")
        earlier = [event for event in _events(house, grant) if event.name == "access.tried"]
        if len(earlier) >= MOST_TRIALS:
            raise NotAllowed(
                "too_many_trials",
                f"expected at most {MOST_TRIALS} trials of one grant, got one more",
                f"see what was tried: `tidegate trace {grant.id}`",
            )
        now = house.now()
        own_clock = now - OLDEST <= trial.tried_at <= now
        tried_at = trial.tried_at if own_clock else now
        tried = Tried(
            grant=grant,
            phase=phase_of(grant, tried_at),
            outcome=trial.outcome,
            tried_at=tried_at,
            own_clock=own_clock,
        )
        text = _same_call(house, earlier, call) or house.personal(call)
        fact = _fact(tried, actor, trial, text, now)
        house.store.commit(Step((), (fact,), (text,)))
    return tried


def phase_of(grant: Grant, at: Instant) -> Phase:
    """Which phase of `grant` the instant is in. What never opened is always before."""
    ends = [end for end in (grant.ends_at, grant.closing_at) if end is not None]
    if grant.closing_at is not None and at >= min(ends):
        return Phase.AFTER
    if grant.opened_at is None or at < grant.opened_at:
        return Phase.BEFORE
    return Phase.AFTER if at >= min(ends) else Phase.DURING


def _same_call(house: House, earlier: Iterable[Event], call: str) -> Personal | None:
    """The text of an earlier trial of the very same call: one commitment says it is the same.

    A call that is kept back is like no other.
    """
    if not call:
        return None
    found = house.store.disclosures({str(event.data["call"]) for event in earlier})
    return next((text for text in found.values() if text.text == call), None)


def _fact(tried: Tried, actor: Actor, trial: Trial, call: Personal, now: Instant) -> Fact:
    return Fact(
        name="access.tried",
        subject=tried.grant.request,
        actor=actor.id,
        data={
            "grant": tried.grant.id,
            "request": tried.grant.request,
            "at": wire(now),
            "by": actor.id,
            "phase": tried.phase.value,
            "outcome": tried.outcome.value,
            "exit_code": trial.exit_code,
            "call": call.commitment,
            "tried_at": wire(tried.tried_at),
        },
    )


def _events(house: House, grant: Grant) -> list[Event]:
    events = (read_event(leaf) for _, leaf in house.store.events(grant.request))
    return [event for event in events if event.data.get("grant") == grant.id]


def _clean(call: str) -> str:
    """`call` without outer blanks; empty stays empty. Raises AskedWrongly."""
    kept = call.strip(" ")
    if len(kept) > LONGEST_CALL:
        raise AskedWrongly(
            "long_call",
            f"call may have at most {LONGEST_CALL} characters, got {len(kept)}",
            "shorten it, or leave it out: --no-call",
        )
    if any(is_hidden(ch) for ch in kept):
        raise AskedWrongly(
            "bad_call",
            "call may not hold control or invisible characters",
            "send it in one line, escaped, or leave it out: --no-call",
        )
    return kept
