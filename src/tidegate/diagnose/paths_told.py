"""The words of `tidegate paths`: causes, ways with their evidence, as values, JSON and text.

Light on purpose, like `check.py`: the command line reads the answer of a server with this alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tidegate.base.canonical import Json
from tidegate.base.errors import WorldFailed, one_line
from tidegate.diagnose.drawing import LEAST_WIDTH, wrap

MOST_WAYS = 1_000  # as read from a server: a target has far fewer roles
MOST_HIT = 20  # others named in one way; the rest are counted

SIDE_DOORS = ("side doors", "what can be reached from there by other roles is not searched yet")


class Cause(StrEnum):
    """Why somebody has access, the most alarming first: ways are listed in this order."""

    UNCLOSED = "unclosed"
    READDED = "readded"
    STANDING = "standing"
    UNASKED = "unasked"
    SESSION = "session"
    CHAINED = "chained"
    PROPAGATION = "propagation"
    OVERLAP = "overlap"
    GRANTED = "granted"


MEANS: Mapping[Cause, str] = {
    Cause.UNCLOSED: "a grant had to end and its access is still there",
    Cause.READDED: "our removal is sealed, it is there again, and no grant wants it",
    Cause.STANDING: "a group, a parent or somebody else gives the access, beside any grant",
    Cause.UNASKED: "it is there, and no grant ever made it",
    Cause.SESSION: "the assignment is not there, and a session taken before may act",
    Cause.CHAINED: "the role may assume others, and a chained session outlives the end",
    Cause.PROPAGATION: "the end is younger than a change takes to be true everywhere",
    Cause.OVERLAP: "another grant of the same access runs on",
    Cause.GRANTED: "a grant runs, as approved",
}
AS_IT_SHOULD = frozenset({Cause.GRANTED, Cause.OVERLAP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a way rests on: a sealed event by its index, or a read-back (`index` None) and when."""

    what: str
    at: str
    index: int | None = None

    @property
    def says(self) -> str:
        """In one line."""
        named = f"event {self.index} `{self.what}`" if self.index is not None else self.what
        return one_line(f"{named} at {self.at}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One way a person has access now. `until` is when it ends by itself, empty: not by itself.

    `hit` names who else has the same cause on the target, `more` counts those not named.
    """

    cause: Cause
    role: str
    says: str
    fix: str
    until: str = ""
    grant: str = ""
    request: str = ""
    evidence: tuple[Evidence, ...] = ()
    hit: tuple[str, ...] = ()
    more: int = 0

    def as_json(self) -> dict[str, Json]:
        """As the API answers it."""
        return {
            "cause": self.cause.value,
            "means": MEANS[self.cause],
            "role": self.role,
            "says": one_line(self.says),
            "until": self.until or None,
            "grant": self.grant,
            "request": self.request,
            "evidence": [
                {"index": one.index, "what": one.what, "at": one.at, "says": one.says}
                for one in self.evidence
            ],
            "fix": one_line(self.fix),
            "hit": [one_line(name) for name in self.hit],
            "more": self.more,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Every way found, and what was and was not looked at. `person` is what people call them.

    `findings` are those of the person there that are not closed: id, and what it says.
    """

    person: str
    target: str
    at: str
    paths: tuple[Path, ...]
    looked: tuple[str, ...]
    unlooked: tuple[tuple[str, str], ...]
    findings: tuple[tuple[str, str], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything that is ever looked at was; side doors never are."""
        return all(what == SIDE_DOORS[0] for what, _ in self.unlooked)

    @property
    def sound(self) -> bool:
        """Whether every way found is a running grant."""
        return all(path.cause in AS_IT_SHOULD for path in self.paths)

    @property
    def says(self) -> str:
        """The first way, or that none was found and where was looked."""
        if self.paths:
            return self.paths[0].says
        looked = ", ".join(self.looked) or "nothing"
        missed = "; ".join(f"{what} ({why})" for what, why in self.unlooked)
        return one_line(f"no way found: looked at {looked}; not looked at {missed or 'nothing'}")

    def as_json(self) -> dict[str, Json]:
        """As the API answers it."""
        return {
            "person": one_line(self.person),
            "target": self.target,
            "at": self.at,
            "sound": self.sound,
            "complete": self.complete,
            "says": self.says,
            "paths": [path.as_json() for path in self.paths],
            "looked_at": [one_line(what) for what in self.looked],
            "not_looked_at": [
                {"what": one_line(what), "why": one_line(why)} for what, why in self.unlooked
            ],
            "findings": [{"id": name, "says": one_line(says)} for name, says in self.findings],
        }


def hit(names: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """Who else is hit: at most MOST_HIT named, and how many more."""
    every = list(dict.fromkeys(names))
    return tuple(every[:MOST_HIT]), max(0, len(every) - MOST_HIT)


def render_text(plain: Mapping[str, Any], width: int) -> str:
    """The answer of a server in lines of at most `width` cells.

    Raises:
        WorldFailed: another shape: the other side is not of this version, or not ours.
    """
    room = max(width, LEAST_WIDTH)
    ways = _parts(plain, "paths")
    lines = wrap(
        f"{_text(plain, 'person')} on {_text(plain, 'target')} at {_text(plain, 'at')}", room
    )
    lines.append("")
    for number, way in enumerate(ways, 1):
        lines += _hung(f"{number}. ", f"{_text(way, 'cause')}: {_text(way, 'says')}", room)
        for label, said in _details(way):
            lines += _hung(f"   {label}: ", said, room)
    if not ways:
        lines += wrap(_text(plain, "says"), room)
    lines.append("")
    looked = plain.get("looked_at")
    if ways and isinstance(looked, list):
        lines += _hung("looked at: ", ", ".join(one_line(str(one)) for one in looked), room)
    if ways:
        for missed in _parts(plain, "not_looked_at"):
            said = f"{_text(missed, 'what')}: {_text(missed, 'why')}"
            lines += _hung("not looked at: ", said, room)
    for one in _parts(plain, "findings") if "findings" in plain else ():
        lines += _hung("open finding: ", f"{_text(one, 'id')}: {_text(one, 'says')}", room)
    return "\n".join(lines).rstrip("\n") + "\n"


def _details(way: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "why", _text(way, "means")
    for one in _parts(way, "evidence"):
        yield "by", _text(one, "says")
    yield "fix", _text(way, "fix")
    others = way.get("hit")
    if isinstance(others, list) and others:
        more = way.get("more")
        count = f" and {more} more" if isinstance(more, int) and more > 0 else ""
        yield "also hit", ", ".join(one_line(str(name)) for name in others) + count


def _hung(head: str, said: str, room: int) -> list[str]:
    first, *rest = wrap(said, room - len(head))
    return [head + first, *(" " * len(head) + line for line in rest)]


def _text(plain: Mapping[str, Any], name: str) -> str:
    value = plain.get(name)
    if not isinstance(value, str):
        raise _strange(name)
    return one_line(value)


def _parts(plain: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = plain.get(name)
    if not isinstance(value, list) or len(value) > MOST_WAYS:
        raise _strange(name)
    if not all(isinstance(part, dict) for part in value):
        raise _strange(name)
    return value


def _strange(name: str) -> WorldFailed:
    return WorldFailed(
        "strange_answer",
        f"expected ways of access, got an answer without a sound `{name}`",
        "check that client and server have the same version",
    )
