"""The words of a trace: five stages a grant, each with what the evidence says of it.

Values only, ready to be sent and drawn; what they say is decided by `trace.py`. Light on purpose:
the command line reads a trace back from a server's answer with nothing but this file and
`drawing.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tidegate.base.canonical import Json
from tidegate.base.errors import WorldFailed, one_line

MOST_LINES = 10_000  # of one stage as read from a server: above the sessions a grant can have


class Stage(StrEnum):
    """The five stages, left to right."""

    REQUEST = "request"
    APPROVE = "approve"
    GRANT = "grant"
    RUN = "run"
    EXPIRE = "expire"

    @property
    def heading(self) -> str:
        """As people read it."""
        return self.value.capitalize()


class StageState(StrEnum):
    """How a stage stands, by the evidence.

    `done`: it is sealed that this stage came to its end. `now`: it is going on as it should.
    `waiting`: for a person, a start or an instant. `stopped`: the evidence stops here, by an end
    before the end or by something wrong. `not_reached`: no event of it.
    """

    DONE = "done"
    NOW = "now"
    STOPPED = "stopped"
    WAITING = "waiting"
    NOT_REACHED = "not_reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageView:
    """One stage of one grant. Every text is one printable line; empty: the evidence has none.

    Attributes:
        headline: one sentence.
        who: names of the people it turns on.
        when: the instant it turns on, RFC 3339 in UTC.
        rule: the rule that decided, and what it asked for.
        cloud_object: the native thing in the cloud.
        read_back: what the cloud showed, as sealed.
        proof: how it is known.
        next_step: the next safe step from here, with the exact command.
        lines: (instant, what) of each event of the stage.
    """

    stage: Stage
    state: StageState
    headline: str
    who: str = ""
    when: str = ""
    rule: str = ""
    cloud_object: str = ""
    read_back: str = ""
    proof: str = ""
    next_step: str = ""
    lines: tuple[tuple[str, str], ...] = ()

    def fields(self) -> tuple[tuple[str, str], ...]:
        """(label, value) of what the evidence has, in the order people read it."""
        named = (
            ("who", self.who),
            ("when", self.when),
            ("rule", self.rule),
            ("cloud object", self.cloud_object),
            ("read back", self.read_back),
            ("proof", self.proof),
        )
        return tuple((label, value) for label, value in named if value)

    def as_json(self) -> dict[str, Json]:
        """As the API answers it."""
        return {
            "stage": self.stage.value,
            "state": self.state.value,
            "headline": self.headline,
            "who": self.who,
            "when": self.when,
            "rule": self.rule,
            "cloud_object": self.cloud_object,
            "read_back": self.read_back,
            "proof": self.proof,
            "next_step": self.next_step,
            "lines": [{"when": when, "what": what} for when, what in self.lines],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The five stages of one grant, or of a request that has none (`grant` is empty then)."""

    grant: str
    role: str
    views: tuple[StageView, ...]

    @property
    def here(self) -> StageView:
        """The stage that matters now: where it stops or waits, else goes on, else the last."""
        for states in ({StageState.STOPPED, StageState.WAITING}, {StageState.NOW}):
            for view in self.views:
                if view.state in states:
                    return view
        return self.views[-1]

    @property
    def stops_at(self) -> Stage | None:
        """The stage at which the evidence stops; None while it runs on, and when it is complete."""
        here = self.here
        return here.stage if here.state in (StageState.STOPPED, StageState.WAITING) else None

    def as_json(self) -> dict[str, Json]:
        """As the API answers it."""
        return {
            "grant": self.grant,
            "role": self.role,
            "stages": [view.as_json() for view in self.views],
            "stops_at": self.stops_at.value if self.stops_at else None,
            "why": self.here.headline,
            "next_step": self.here.next_step,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A request with its grants, walked. `at` is when it was told."""

    request: str
    at: str
    walks: tuple[Walk, ...]

    @property
    def worst(self) -> Walk:
        """The walk to look at first: one that is stopped, else one that waits, else the first."""
        for state in (StageState.STOPPED, StageState.WAITING):
            for walk in self.walks:
                if walk.here.state is state:
                    return walk
        return self.walks[0]

    @property
    def stops_at(self) -> Stage | None:
        """The stage at which the evidence stops, of the worst walk."""
        return self.worst.stops_at

    @property
    def why(self) -> str:
        """One sentence: why it stops there, or how it stands."""
        return self.worst.here.headline

    @property
    def next_step(self) -> str:
        """The next safe step, with the exact command; empty when there is nothing to do."""
        return self.worst.here.next_step

    def only(self, grant: str) -> "Trace":
        """The same of one grant; unchanged when it has no walk here."""
        mine = tuple(walk for walk in self.walks if walk.grant == grant)
        return Trace(request=self.request, at=self.at, walks=mine or self.walks)

    def as_json(self) -> dict[str, Json]:
        """As the API answers it; `parse_trace` reads it back."""
        return {
            "request": self.request,
            "at": self.at,
            "walks": [walk.as_json() for walk in self.walks],
            "stops_at": self.stops_at.value if self.stops_at else None,
            "why": self.why,
            "next_step": self.next_step,
        }


def parse_trace(plain: Mapping[str, Any]) -> Trace:
    """Read what `Trace.as_json` wrote. Texts come out as one printable line each.

    Raises:
        WorldFailed: another shape: the other side is not of this version, or not ours.
    """
    walks = tuple(_walk(part) for part in _parts(plain, "walks"))
    if not walks:
        raise _strange("walks")
    return Trace(request=_text(plain, "request"), at=_text(plain, "at"), walks=walks)


def _walk(plain: Mapping[str, Any]) -> Walk:
    views = tuple(_view(part) for part in _parts(plain, "stages"))
    if [view.stage for view in views] != list(Stage):
        raise _strange("stages")
    return Walk(grant=_text(plain, "grant"), role=_text(plain, "role"), views=views)


def _view(plain: Mapping[str, Any]) -> StageView:
    try:
        stage, state = Stage(_text(plain, "stage")), StageState(_text(plain, "state"))
    except ValueError:
        raise _strange("stage") from None
    names = ("headline", "who", "when", "rule", "cloud_object", "read_back", "proof", "next_step")
    lines = tuple((_text(line, "when"), _text(line, "what")) for line in _parts(plain, "lines"))
    return StageView(
        stage=stage, state=state, lines=lines, **{name: _text(plain, name) for name in names}
    )


def _text(plain: Mapping[str, Any], name: str) -> str:
    value = plain.get(name)
    if not isinstance(value, str):
        raise _strange(name)
    return one_line(value)


def _parts(plain: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    value = plain.get(name)
    if not isinstance(value, list) or len(value) > MOST_LINES:
        raise _strange(name)
    for part in value:
        if not isinstance(part, dict):
            raise _strange(name)
    return value


def _strange(name: str) -> WorldFailed:
    return WorldFailed(
        "strange_answer",
        f"expected a trace, got one without a sound `{name}`",
        "check that client and server have the same version",
    )
