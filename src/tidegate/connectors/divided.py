"""A cloud as seen by a process that holds only some of the identities, or none.

What its own identity may do it does. A look that takes the other one is asked of a process that has
it (`Ask`); a change never is: who may not open or close here does not do it through somebody else
either. Issuing goes another way, because the session is sealed where it is minted.

`perform` is the other end: it carries out what was asked, on a process's own connector.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

from tidegate.base.duty import Duty
from tidegate.base.errors import Refused
from tidegate.base.when import Instant
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors.port import (
    Administrator,
    Answer,
    Connector,
    Credential,
    Cut,
    Exposure,
    Found,
    Health,
    Hold,
    MustStay,
    Person,
    Powers,
    Probed,
    Receipt,
    Scope,
    Seen,
    SideDoors,
    administrators,
    nothing_more,
    paced_as,
)

Plain = dict[str, Any]
# Asks a process that has the duty: (duty, name of the connector, verb, arguments) to the answer.
Ask = Callable[[Duty, str, str, Plain], Any]
Made = TypeVar("Made")

# What may be asked of another process, and who must do it.
LOOKS: Mapping[str, Duty] = {
    "key": Duty.OPEN,
    "probe": Duty.OPEN,
    "health": Duty.CLOSE,
    "discover": Duty.CLOSE,
    "observe": Duty.CLOSE,
    "drift": Duty.CLOSE,
    "administrators": Duty.CLOSE,
    "prepare": Duty.CLOSE,
}


@runtime_checkable
class Prepares(Protocol):
    """A connector in which a closer must clear the way before an opener may grant."""

    def prepare(self, hold: Hold, now: Instant) -> None:
        """See that no deny of an earlier grant refuses what is to be made. Raises as verbs do."""
        ...


class Divided:
    """The port's verbs, each done with an identity this process has, or asked for, or refused."""

    def __init__(self, own: Connector, duties: frozenset[Duty], ask: Ask | None) -> None:
        self._own = own
        self._duties = duties
        self._ask = ask

    def powers(self, kind: str) -> Powers:
        """Its own word: no cloud is asked."""
        return self._own.powers(kind)

    def exposure(self, target: Target, role: Role) -> Exposure:
        """Its own word."""
        return self._own.exposure(target, role)

    def residual(self, target: Target, role: Role, cut: bool) -> timedelta:
        """Its own word."""
        return self._own.residual(target, role, cut)

    def lingers(self, target: Target, role: Role) -> timedelta:
        """Its own word."""
        return self._own.lingers(target, role)

    def check(self, target: Target, role: Role, others: tuple[Role, ...]) -> tuple[str, ...]:
        """Its own word."""
        return self._own.check(target, role, others)

    def key(self, target: Target, role: Role, grant: str, person: Person) -> AssignmentKey:
        """By whoever opens: who somebody is may take a look."""
        if self._may("key"):
            return self._own.key(target, role, grant, person)
        asked = {"target": target, "role": role, "grant": grant, "person": person}
        return self._asked("key", target, asked, AssignmentKey)

    def health(self, target: Target, now: Instant) -> Health:
        """By whoever closes: what closing needs is what shuts the gate."""
        if self._may("health"):
            return self._own.health(target, now)
        return self._asked("health", target, {"target": target, "now": now}, Health)

    def discover(self, target: Target) -> Iterator[Found]:
        """By whoever closes."""
        if self._may("discover"):
            return self._own.discover(target)
        return iter(self._asked("discover", target, {"target": target}, list[Found]))

    def observe(self, scope: Scope, now: Instant) -> Iterator[Seen]:
        """By whoever closes, also for an opener: it alone may read what it writes."""
        if self._may("observe"):
            return self._own.observe(scope, now)
        asked = {"scope": scope, "now": now}
        return iter(self._asked("observe", scope.target, asked, list[Seen]))

    def probe(self, hold: Hold, now: Instant) -> Probed:
        """As that access, which takes an opener. A closer does not ask one: it goes by what it
        reads, so that no opener's word keeps an end from being an end.
        """
        if self._may("probe"):
            return self._own.probe(hold, now)
        if Duty.CLOSE in self._duties:
            why = {"why": "this process only closes, and does not take an opener's word"}
            return Probed(
                answer=Answer.UNTOLD, control=Answer.UNTOLD, call="", cloud_at=now, detail=why
            )
        return self._asked("probe", hold.target, {"hold": hold, "now": now}, Probed)

    def grant(self, hold: Hold, now: Instant) -> Receipt:
        """Only by an opener; where a closer must clear the way, it is asked to first."""
        self._must(Duty.OPEN)
        apart = self._own.powers(hold.role.kind).cuts_apart  # else an old deny names its own grant
        if apart and Duty.CLOSE not in self._duties:
            self._asked("prepare", hold.target, {"hold": hold, "now": now}, bool)
        return self._own.grant(hold, now)

    def issue(self, hold: Hold, session: str, now: Instant) -> Credential:
        """Only by an opener."""
        self._must(Duty.OPEN)
        return self._own.issue(hold, session, now)

    def arm(self, hold: Hold, until: Instant, now: Instant) -> Receipt | None:
        """Only by an opener: a closer has it look for itself (`flow/erranding.py`)."""
        self._must(Duty.OPEN)
        return self._own.arm(hold, until, now)

    def disarm(self, hold: Hold, now: Instant) -> Receipt | None:
        """Only by a closer."""
        self._must(Duty.CLOSE)
        return self._own.disarm(hold, now)

    def revoke(self, hold: Hold, now: Instant) -> Receipt:
        """Only by a closer."""
        self._must(Duty.CLOSE)
        return self._own.revoke(hold, now)

    def cut(self, hold: Hold, now: Instant) -> Receipt:
        """Only by a closer."""
        self._must(Duty.CLOSE)
        return self._own.cut(hold, now)

    def drift(self, target: Target, role: Role, now: Instant) -> tuple[str, ...]:
        """By whoever closes."""
        if self._may("drift"):
            return self._own.drift(target, role, now)
        asked = {"target": target, "role": role, "now": now}
        return self._asked("drift", target, asked, tuple[str, ...])

    def side_doors(
        self, hold: Hold, keys: tuple[str, ...], since: Instant, until: Instant, now: Instant
    ) -> SideDoors:
        """Only by a closer, who looks when a grant ends."""
        self._must(Duty.CLOSE)
        return self._own.side_doors(hold, keys, since, until, now)

    def paced_as(self, target: Target) -> str:
        """Its own word."""
        return paced_as(self._own, target)

    def administrators(self, target: Target, now: Instant) -> tuple[Administrator, ...]:
        """By whoever closes."""
        if self._may("administrators"):
            return administrators(self._own, target, now)
        asked = {"target": target, "now": now}
        return self._asked("administrators", target, asked, tuple[Administrator, ...])

    def mend(
        self,
        target: Target,
        role: Role,
        cuts: Mapping[str, Cut],
        now: Instant,
        must_stay: MustStay = nothing_more,
    ) -> tuple[str, ...]:
        """Only by a closer."""
        self._must(Duty.CLOSE)
        return self._own.mend(target, role, cuts, now, must_stay)

    def _may(self, verb: str) -> bool:
        return LOOKS[verb] in self._duties

    def _must(self, duty: Duty) -> None:
        if duty not in self._duties:
            raise Refused(
                "not_our_duty",
                f"expected a process that may {duty}, got one that may not",
                f"a worker does it: `tidegate worker --{duty}`",
            )

    def _asked(self, verb: str, target: Target, asked: Plain, kind: type[Made]) -> Made:
        if self._ask is None:
            self._must(LOOKS[verb])
            raise RuntimeError(f"{verb} is asked of nobody")
        plain: Plain = msgspec.to_builtins(asked)
        return msgspec.convert(self._ask(LOOKS[verb], target.connector, verb, plain), kind)


def perform(connector: Connector, verb: str, asked: Plain) -> Any:
    """Carry out a look somebody asked for; its answer, ready for JSON.

    Raises:
        Refused: no look that may be asked for. What the connector raises.
    """
    if verb not in LOOKS:
        raise Refused("not_a_look", f"expected a look, got `{verb[:40]}`", "ask for one of them")
    at = msgspec.convert(asked.get("now"), Instant | None)
    target = msgspec.convert(asked.get("target"), Target | None)
    hold = msgspec.convert(asked.get("hold"), Hold | None)
    answer: Any
    if verb == "key" and target is not None:
        role, person = (
            msgspec.convert(asked["role"], Role),
            msgspec.convert(asked["person"], Person),
        )
        answer = connector.key(target, role, str(asked["grant"]), person)
    elif verb == "health" and target is not None and at is not None:
        answer = connector.health(target, at)
    elif verb == "discover" and target is not None:
        answer = list(connector.discover(target))
    elif verb == "observe" and at is not None:
        answer = list(connector.observe(msgspec.convert(asked["scope"], Scope), at))
    elif verb == "drift" and target is not None and at is not None:
        answer = connector.drift(target, msgspec.convert(asked["role"], Role), at)
    elif verb == "administrators" and target is not None and at is not None:
        answer = administrators(connector, target, at)
    elif verb == "probe" and hold is not None and at is not None:
        answer = connector.probe(hold, at)
    elif verb == "prepare" and hold is not None and at is not None:
        if isinstance(connector, Prepares):
            connector.prepare(hold, at)
        answer = True
    else:
        raise Refused("bad_look", f"expected what `{verb}` takes, got less", "use one release")
    return msgspec.to_builtins(answer)
