"""The report of a pack: a grant's life in plain words, as one self-contained HTML page.

Made from a pack's own content and nothing else, so a verifier makes it again and compares. It uses
a state or proof word only where an event carries it. Texts people typed always stand in quotation
marks: they are escaped for HTML, and copied into a spreadsheet they never start a formula.

Every version ever written stays renderable, or the packs that carry it could not be checked any
more: a change of the page is a new function and a new template beside the old ones, in `_PAGES`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from importlib.resources import files

import orjson
from jinja2 import Environment, StrictUndefined, Template

from tidegate.base.canonical import Json
from tidegate.base.errors import one_line
from tidegate.base.personal import Personal
from tidegate.base.when import LONGEST_DURATION, show_duration, whole_seconds
from tidegate.evidence.checkpoint import Checkpoint
from tidegate.evidence.events import Event, fields_of
from tidegate.evidence.life import Life, as_of, commitments
from tidegate.evidence.side_doors import side_doors_say

REPORT_VERSION = 3  # what new packs get; raise it with every change of what a pack renders to

_PROOFS = {
    "accepted": "the cloud said yes to the removal",
    "removed": "read back: no new session can start",
    "denied": "tried as that access, and refused by the cloud",
    "quiet": "the cloud's own trail is silent to the end and past its delay",
}
_ENDINGS = {
    "expired": "its time was over",
    "done": "its owner ended it",
    "revoked": "somebody else ended it",
    "panic": "everything was ended at once",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A label and its value; `at` is shown as an instant after it, `quoted` in quotation marks."""

    label: str
    value: str = ""
    at: str = ""
    quoted: bool = False

    @property
    def code(self) -> bool:
        """Whether the value is for machines: a digest, a list, a map."""
        return self.value.startswith(("sha256:", "[", "{"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One of the five stages. `status` is a word for the reader, `mark` one for the style sheet."""

    name: str
    status: str
    mark: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One event in the table. `mine` is False for another grant of the same request."""

    event: Event
    mine: bool
    data: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """One document that decided: rule files or a catalogue entry."""

    title: str
    digest: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a report is made of: `life`, its whole chain `events`, the checkpoint `head` it is told
    as of, disclosed texts by commitment, documents by digest."""

    life: Life
    events: Sequence[Event]
    head: Checkpoint
    texts: Mapping[str, Personal]
    documents: Mapping[str, bytes]


def render_report(told: Told, version: int) -> str:
    """The page of what is `told`, byte for byte as that `version` of the report has it.

    Raises:
        KeyError: a version that `can_render` does not know.
    """
    return _PAGES[version](told)


def can_render(version: int) -> bool:
    """Whether a report of `version` can be made here, and so be compared."""
    return version in _PAGES


def versions() -> tuple[int, ...]:
    """Every version that can be rendered, oldest first."""
    return tuple(sorted(_PAGES))


def _page_1(told: Told) -> str:
    """As before an end could move."""
    life, texts = told.life, told.texts
    return _page(told, _grant(life), _expire(life, texts))


def _page_2(told: Told) -> str:
    """With every later end, who voted for it, and the last of them as what is due."""
    return _page(told, *_with_later_ends(told))


def _page_3(told: Told) -> str:
    """With what every search for side doors came to."""
    grant, expire = _with_later_ends(told)
    lines = [Line(label="Side doors", value=said) for said in side_doors_say(told.life.own)]
    return _page(told, grant, replace(expire, lines=(*expire.lines, *lines)))


def _with_later_ends(told: Told) -> tuple[Stage, Stage]:
    life, texts = told.life, told.texts
    moved = [event for event in life.own if event.name == "grant.extended"]
    grant, expire = _grant(life), _expire(life, texts)
    lines = [line for event in moved for line in _moved(event)]
    if moved and life.closing is None:
        due = Line(label="Due", at=str(moved[-1].data["ends_at"]))
        expire = replace(expire, lines=(due,))
    return replace(grant, lines=(*grant.lines, *lines)), expire


def _moved(event: Event) -> list[Line]:
    """One later end: by which request, under which rule, and by whose votes on which digest."""
    data, votes = event.data, event.data["votes"]
    said = f"by {_show(data['extension'])}, carried by {_show(data['carrier'])}"
    lines = [
        Line(label="End moved", value=said, at=str(data["at"])),
        Line(label="From", at=str(data["ended_at"])),
        Line(label="To", at=str(data["ends_at"])),
        Line(label="Digest voted on", value=_show(data["digest"])),
    ]
    for vote in votes if isinstance(votes, list) else ():
        if isinstance(vote, dict):
            who, choice = _show(vote.get("voter")), _show(vote.get("choice"))
            at = str(vote.get("at"))
            lines.append(Line(label=f"Vote of {who}", value=choice, at=at))
    return lines


def _page(told: Told, grant: Stage, expire: Stage) -> str:
    life, events, head = told.life, told.events, told.head
    texts, documents = told.texts, told.documents
    return _template("report_v1.html").render(
        life=life,
        head=head,
        root=head.root.hex(),
        count=len(events),
        as_of=as_of(life, head.size),
        headline=headline(life),
        proof=_proof(life),
        stages=(
            _request(life, events, texts),
            _approve(life, texts),
            grant,
            _run(life, texts),
            expire,
        ),
        rows=[_row(life, event, texts) for event in events],
        papers=[
            _paper(digest, documents[digest]) for digest in life.documents if digest in documents
        ],
    )


def headline(life: Life) -> str:
    """What the grant is, in one sentence without more certainty than its events have."""
    if life.state == "removed" and life.removed:
        held = one_line(str(life.removed.data["still_held_by"]))
        if held:
            return f"Ended, still held by standing access: {held}"
        until = clock(life.residual_until)
        return f"Removed; a session taken before may act until {until}"
    if life.state == "gone":
        return "Gone: nobody can act under this grant any more"
    if life.state == "failed" and life.failed:
        return f"Never opened: {_words(life.failed.data['cause'])}"
    return {
        "ready": "Approved, not opened yet",
        "intended": "Opening",
        "open": "Open",
        "closing": "Closing",
        "signed_off": "Ended, not proven: signed off by a person",
    }[life.state]


def clock(instant: str) -> str:
    """A sealed instant for people: `2026-11-22 07:03:36 UTC`, with milliseconds unless zero."""
    return instant.replace("T", " ").removesuffix("Z").removesuffix(".000") + " UTC"


def _proof(life: Life) -> str:
    if not life.proof:
        return "none yet: no event says how its end is known"
    return f"{one_line(life.proof)}: {_PROOFS.get(life.proof, 'a word this version does not know')}"


def _request(life: Life, events: Sequence[Event], texts: Mapping[str, Personal]) -> Stage:
    terms = life.terms.data
    edits = sum(1 for event in events if event.name == "request.edited")
    lines = [
        Line(label="Asked by", value=_show(terms["principal"]), at=str(terms["at"])),
        Line(label="Role", value=_show(life.readied.data["role"])),
        Line(label="For", value=_span(life.readied.data["duration_seconds"])),
        _text("Reason", terms["reason"], texts),
    ]
    if terms["ticket"] is not None:
        lines.append(Line(label="Ticket", value=_show(terms["ticket"]), quoted=True))
    if terms["start"] is not None:
        lines.append(Line(label="To start", at=str(terms["start"])))
    if terms["emergency"]:
        lines.append(Line(label="Emergency", value="yes"))
    if edits:
        lines.append(Line(label="Edited", value=f"{edits} times; votes before the last are void"))
    lines.append(Line(label="Digest voted on", value=_show(terms["digest"])))
    return Stage(name="Request", status="filed", mark="done", lines=tuple(lines))


def _approve(life: Life, texts: Mapping[str, Personal]) -> Stage:
    lines: list[Line] = []
    for vote in life.votes:
        data = vote.data
        stale = "" if data["digest"] == life.terms.data["digest"] else " (an earlier text: void)"
        groups = _listed(data["groups"]) or "no group"
        said = f"{_show(data['choice'])}, as member of {groups}{stale}"
        lines.append(Line(label=f"Vote of {_show(data['voter'])}", value=said, at=str(data["at"])))
        if data["comment"] is not None:
            lines.append(_text("Their comment", data["comment"], texts))
    if not life.votes:
        lines.append(Line(label="Votes", value="none"))
    if life.intended:
        lines.append(Line(label="Carried by rule", value=_show(life.intended.data["carrier"])))
        needed = _show(life.intended.data["requirement"])
        lines.append(Line(label="It requires", value=needed, quoted=True))
    if life.decided:
        lines.append(Line(label="Approved", at=str(life.decided.data["at"])))
    return Stage(name="Approve", status="approved", mark="done", lines=tuple(lines))


def _grant(life: Life) -> Stage:
    lines = [
        Line(label="Could open from", at=str(life.readied.data["opens_at"])),
        Line(label="Had to open by", at=str(life.readied.data["claim_by"])),
    ]
    if life.intended:
        data = life.intended.data
        lines += [
            Line(label="End fixed before opening", at=str(data["ends_at"])),
            Line(
                label="Cloud account", value=f"{_show(data['connector'])} {_show(data['account'])}"
            ),
            Line(label="Native role", value=_show(data["native_role"])),
            Line(label="Native principal", value=_show(data["native_principal"])),
            Line(label="Exposure, at worst", value=_span(data["exposure_seconds"])),
        ]
        if "unattended_seconds" in data:
            span = data["unattended_seconds"]
            said = "until a person ends it" if span is None else _span(span)
            lines.append(Line(label="With Tidegate dead", value=said))
        if data["stood_before"]:
            lines.append(
                Line(label="Stood before", value="yes: seen in the cloud before any intent")
            )
    for event in life.own:
        if event.name == "gate.passed":
            said = f"opened though the health gate was shut: {_listed(event.data['checks'])}"
            lines.append(Line(label="Emergency", value=said, at=str(event.data["at"])))
    if life.opened:
        lines.append(
            Line(label="Opened, by the cloud's clock", at=str(life.opened.data["cloud_at"]))
        )
        return Stage(name="Grant", status="opened", mark="done", lines=tuple(lines))
    if life.failed:
        why = _show(life.failed.data["why"])
        lines.append(Line(label="Failed", value=why, quoted=True, at=str(life.failed.data["at"])))
        return Stage(name="Grant", status="failed", mark="stopped", lines=tuple(lines))
    status = "intended" if life.intended else "ready"
    return Stage(name="Grant", status=status, mark="now", lines=tuple(lines))


def _run(life: Life, texts: Mapping[str, Personal]) -> Stage:
    lines: list[Line] = []
    for event in life.own:
        data = event.data
        if event.name == "session.issued":
            said = f"{_show(data['kind'])}, key {_show(data['key_id'])}"
            lines.append(Line(label=_show(data["session"]), value=said, at=str(data["at"])))
            lines.append(Line(label="Bound until", at=str(data["bound_until"])))
        elif event.name == "session.ended":
            said = f"ended: {_words(data['why'])}"
            lines.append(Line(label=_show(data["session"]), value=said, at=str(data["at"])))
    lines += _tried(life, texts, ended=False)
    count = sum(1 for event in life.own if event.name == "session.issued")
    if not count:
        lines.insert(0, Line(label="Sessions", value="none is sealed"))
    status = "1 session" if count == 1 else f"{count} sessions"
    mark = "now" if life.state == "open" else "done" if life.opened else "waiting"
    return Stage(name="Run", status=status, mark=mark, lines=tuple(lines))


def _expire(life: Life, texts: Mapping[str, Personal]) -> Stage:
    if life.closing is None:
        waiting = "nothing to close" if life.failed else "not begun"
        due = (Line(label="Due", at=str(life.intended.data["ends_at"])),) if life.intended else ()
        return Stage(name="Expire", status=waiting, mark="waiting", lines=due)
    data = life.closing.data
    why = _ENDINGS.get(str(data["reason"]), _words(data["reason"]))
    lines = [Line(label="Closing began", value=why, at=str(data["at"]))]
    if data["comment"] is not None:
        lines.append(_text("Comment", data["comment"], texts))
    if life.removed:
        seen = life.removed.data
        lines.append(Line(label="Read back, by the cloud's clock", at=str(seen["cloud_at"])))
        lines.append(Line(label="Earlier sessions may act until", at=life.residual_until))
        if seen["still_held_by"]:
            lines.append(Line(label="Still held by", value=_show(seen["still_held_by"])))
        lines += [
            Line(label="Live sessions cut, and seen cut", at=str(event.data["cloud_at"]))
            for event in life.own
            if event.name == "grant.cut" and event.idx > life.removed.idx
        ]
    if life.gone:
        lines.append(Line(label="Gone", value=_proof(life), at=str(life.gone.data["acted_at"])))
    lines += _tried(life, texts, ended=True)
    mark = "done" if life.gone else "now"
    return Stage(name="Expire", status=life.state, mark=mark, lines=tuple(lines))


def _tried(life: Life, texts: Mapping[str, Personal], ended: bool) -> list[Line]:
    """What its holder saw on their own machine: their word, told as such, and the call below it."""
    lines: list[Line] = []
    for event in life.own:
        data = event.data
        if event.name == "access.tried" and (data["phase"] == "after") is ended:
            label = f"Tried by {_show(data['by'])} on their own machine, {_show(data['phase'])}"
            said = _words(data["outcome"])
            lines.append(Line(label=label, value=said, at=str(data["tried_at"])))
            lines.append(_text("What they called", data["call"], texts))
    return lines


def _row(life: Life, event: Event, texts: Mapping[str, Personal]) -> Row:
    hidden = {"grant", "request", "at"}
    personal = dict(commitments(event))
    lines: list[Line] = []
    for field, kind in (fields_of(event.name, event.v) or {}).items():
        value, label = event.data[field], _words(field)
        if field in hidden or value in (None, ""):
            continue
        if field in personal:
            lines.append(_text(label, value, texts))
        elif kind.startswith("instant"):
            lines.append(Line(label=label, at=str(value)))
        else:
            lines.append(Line(label=label, value=_show(value)))
    mine = event.data.get("grant", life.grant) == life.grant
    return Row(event=event, mine=mine, data=tuple(lines))


def _paper(digest: str, document: bytes) -> Paper:
    """Rule files are shown as written; any other document as indented JSON."""
    try:
        value = orjson.loads(document)
    except orjson.JSONDecodeError:
        value = document.decode(errors="replace")
    listed = value.get("files") if isinstance(value, dict) else None
    if isinstance(listed, list) and all(isinstance(entry, dict) for entry in listed):
        parts = tuple((str(entry.get("name")), str(entry.get("text"))) for entry in listed)
        return Paper(title="Rule set", digest=digest, parts=parts)
    shown = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
    return Paper(title="Catalogue entry", digest=digest, parts=(("as sealed", shown),))


def _text(label: str, commitment: Json, texts: Mapping[str, Personal]) -> Line:
    found = texts.get(str(commitment))
    if found is None:
        return Line(label=label, value=f"erased (commitment {commitment})")
    return Line(label=label, value=one_line(found.text), quoted=True)


def _show(value: Json) -> str:
    if isinstance(value, str):
        return one_line(value)
    return one_line(orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode())


def _listed(values: Json) -> str:
    return ", ".join(_show(value) for value in values) if isinstance(values, list) else ""


def _words(name: Json) -> str:
    return _show(name).replace("_", " ")


def _span(seconds: Json) -> str:
    if isinstance(seconds, int) and seconds <= whole_seconds(LONGEST_DURATION):
        return show_duration(timedelta(seconds=seconds))
    return f"{_show(seconds)} seconds"


@cache
def _template(name: str) -> Template:
    env = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    env.filters["clock"] = clock
    return env.from_string(files("tidegate.evidence").joinpath(name).read_text("utf-8"))


_PAGES: Mapping[int, Callable[[Told], str]] = {1: _page_1, 2: _page_2, 3: _page_3}
