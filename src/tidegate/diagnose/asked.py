"""Request and Approve as a trace tells them, from events alone; and what all its tellers use.

Called by `trace.py` only. States are those the events leave; the clock is only held against them.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tidegate.approve import Approver, still_missing
from tidegate.base.canonical import Json
from tidegate.base.duty import SILENT, Duty, last_heard
from tidegate.base.errors import one_line
from tidegate.base.text import short
from tidegate.base.when import Instant, show_duration, wire
from tidegate.diagnose.story import Story
from tidegate.diagnose.walk import Stage, StageState, StageView
from tidegate.evidence.events import Event
from tidegate.grant import Grant
from tidegate.request import Item, Request, RequestState


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What the tellers of all stages are handed. `request` is as the events leave it.

    `grant` is the one walked, None for a request without.
    """

    story: Story
    request: Request
    grant: Grant | None
    now: Instant
    names: Callable[[str], str]
    texts: Callable[[str], str | None]
    beats: Mapping[str, tuple[Instant, str]]

    def who(self, principal: str) -> str:
        """What people call a principal, in one short line."""
        return short(self.names(principal))

    def text(self, commitment: str) -> str:
        """A typed text in quotation marks, or that it was erased."""
        found = self.texts(commitment)
        return "erased" if found is None else f'"{short(found)}"'

    @property
    def items(self) -> tuple[Item, ...]:
        """The item of the grant walked, or every item of the request."""
        items = self.request.terms.items
        if self.grant is None:
            return items
        return tuple(item for item in items if item.role == self.grant.role)

    @property
    def silent(self) -> bool:
        """Whether nobody that opens, or nobody that closes, has been heard of for SILENT."""
        last = self._last_beat()
        return last is None or self.now - last > SILENT

    @property
    def worker(self) -> str:
        """When the worker was last heard of, as the end of a sentence."""
        last = self._last_beat()
        return f"the worker last beat at {moment(last)}" if last else "no worker has ever beaten"

    @property
    def wake(self) -> str:
        """What to do about a worker that should have acted by now."""
        if self.silent:
            return "start the worker: `tidegate serve`; it takes up what is due by itself"
        return "`tidegate doctor` says what keeps the worker from it"

    def _last_beat(self) -> Instant | None:
        heard = [last_heard(self.beats, duty) for duty in Duty]
        return None if None in heard else min(at for at in heard if at is not None)


def moment(at: Instant | str) -> str:
    """An instant for people: RFC 3339 in UTC, without milliseconds that say nothing."""
    return one_line(at if isinstance(at, str) else wire(at)).replace(".000Z", "Z")


def shown(value: Json) -> str:
    """Any value of an event as one short line."""
    return short(str(value))


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = names or [""]
    return f"{', '.join(most)} and {last}" if most else last


def again(request: Request, roles: Sequence[str]) -> str:
    """The command that asks for the same once more; a start that was asked for may be over."""
    terms = request.terms
    if terms.extends:
        longer = show_duration(terms.duration)
        return f"`tidegate extend {short(terms.extends.grant)} --for {longer} --reason '…'`"
    words = [*(short(role) for role in roles), f"--for {show_duration(terms.duration)}"]
    words.append("--reason '…'")
    if terms.ticket is not None:
        words.append(f"--ticket {shlex.quote(short(terms.ticket))}")
    if terms.emergency:
        words.append("--emergency")
    return f"`tidegate request {' '.join(words)}`"


def tell_request(telling: Telling) -> StageView:
    """Stage 1: who asked for what, and whether a rule could carry it."""
    request, terms = telling.request, telling.request.terms
    roles = [item.role for item in telling.items]
    asker = telling.who(terms.principal)
    headline = (
        f"{asker} asked for {listed([f'`{short(role)}`' for role in roles])}"
        f" for {show_duration(terms.duration)}"
    )
    if terms.start:
        headline += f" from {moment(terms.start)}"
    if terms.extends:
        headline = (
            f"{asker} asked for a later end of {short(terms.extends.grant)}: from"
            f" {moment(terms.extends.ends_at)} to {moment(terms.extends.until)}"
        )
    if terms.emergency:
        headline += ", as an emergency"
    refused = request.state is RequestState.REFUSED
    if refused:
        headline = f"refused: {short(_split(request)[0])} (`{short(request.code)}`)"
    return StageView(
        stage=Stage.REQUEST,
        state=StageState.STOPPED if refused else StageState.DONE,
        headline=headline,
        who=asker,
        when=moment(request.filed_at),
        rule=_rule(telling),
        next_step=_after_refusal(request, roles) if refused else "",
        lines=tuple(_request_lines(telling)),
    )


def tell_approve(telling: Telling) -> StageView:
    """Stage 2: who decided, or whom it waits for."""
    request = telling.request
    voters = [telling.who(vote.voter) for vote in request.votes if vote.choice == "approve"]
    state, headline, step = _approval(telling, voters)
    settled = (StageState.DONE, StageState.STOPPED)
    return StageView(
        stage=Stage.APPROVE,
        state=state,
        headline=headline,
        who=listed([telling.who(vote.voter) for vote in request.votes]),
        when=moment(request.decided_at) if request.decided_at and state in settled else "",
        rule=" and ".join(
            dict.fromkeys(short(i.requirement) for i in telling.items if i.requirement)
        ),
        next_step=step,
        lines=tuple(_vote_lines(telling)),
    )


def _approval(telling: Telling, voters: Sequence[str]) -> tuple[StageState, str, str]:
    """(state, headline, next step) of stage 2."""
    request = telling.request
    anew = again(request, [item.role for item in request.terms.items])
    match request.state:
        case RequestState.REFUSED if voters:
            said = f"approved by {listed(voters)}, and refused when it was to be carried out"
            return StageState.STOPPED, said, ""
        case RequestState.REFUSED:
            return StageState.NOT_REACHED, "nobody was asked", ""
        case RequestState.PENDING:
            return _pending(telling)
        case RequestState.APPROVED:
            said = f"approved by {listed(voters)}" if voters else "no vote was needed"
            return StageState.DONE, said, ""
        case RequestState.DENIED:
            by = listed([telling.who(v.voter) for v in request.votes if v.choice == "deny"])
            at = moment(request.decided_at) if request.decided_at else ""
            step = f"talk to {by}; what changed can be asked anew: {anew}"
            return StageState.STOPPED, f"denied by {by} at {at}", step
        case RequestState.WITHDRAWN:
            at = moment(request.decided_at) if request.decided_at else ""
            return StageState.STOPPED, f"withdrawn by who asked at {at}", f"ask again: {anew}"
        case RequestState.LAPSED:
            said = f"lapsed: nobody decided by {moment(request.decide_by)}"
            return StageState.STOPPED, said, f"ask again, and tell an approver: {anew}"


def _pending(telling: Telling) -> tuple[StageState, str, str]:
    request = telling.request
    by = moment(request.decide_by)
    if telling.now >= request.decide_by:
        said = f"had to be decided by {by}, and that it lapsed is not sealed; {telling.worker}"
        return StageState.STOPPED, said, telling.wake
    # By the groups sealed with each vote; who is a member today is asked at the next vote.
    voters = {
        vote.voter: Approver(
            principal=vote.voter, person=f"principal:{vote.voter}", groups=frozenset(vote.groups)
        )
        for vote in request.votes
    }
    needs = [need for open_needs in still_missing(request, voters).values() for need in open_needs]
    waits = listed(list(dict.fromkeys(short(need.text) for need in needs))) or "the last vote"
    groups = listed(list(dict.fromkeys(f"`group:{short(need.group)}`" for need in needs)))
    step = f"somebody of {groups} runs `tidegate approve {request.id}`" if groups else telling.wake
    return StageState.WAITING, f"waits for {waits} until {by}", step


def _rule(telling: Telling) -> str:
    carriers = list(dict.fromkeys(short(item.carrier) for item in telling.items if item.carrier))
    named = [short(rule) for item in telling.items for rule in item.rules]
    if not carriers:
        return f"stopped by {listed(list(dict.fromkeys(named)))}" if named else "no rule permits it"
    return f"{listed(carriers)}, of rule set {telling.request.terms.rules_digest[:19]}…"


def _after_refusal(request: Request, roles: Sequence[str]) -> str:
    code, to_do = request.code, _split(request)[1]
    if to_do:
        return short(to_do)
    if code == "too_long":
        return f"ask for a shorter time: {again(request, roles)}"
    if code in ("no_rule", "forbidden"):
        return "`tidegate targets` shows what you may ask for; a rule is changed by its author"
    if code == "rule_error":
        return "an author of the rules runs `tidegate check`: one cannot be evaluated"
    return f"mend what it says, then ask again: {again(request, roles)}"


def _split(request: Request) -> tuple[str, str]:
    """Why no rule permits it, and what the rules said to do about it (empty: nothing)."""
    what, _, to_do = request.why.partition("; ") if request.code == "no_rule" else ("", "", "")
    return what or request.why, to_do


def _request_lines(telling: Telling) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for event in telling.story.events:
        at = moment(str(event.data.get("at", event.at)))
        match event.name:
            case "request.filed" | "request.edited":
                lines.append((at, f"{event.name.partition('.')[2]}; {_terms(telling, event)}"))
            case "request.refused":
                lines.append((at, f"refused: `{shown(event.data['code'])}`"))
    return lines


def _terms(telling: Telling, event: Event) -> str:
    ticket = event.data["ticket"]
    told = f"reason {telling.text(str(event.data['reason']))}"
    return told if ticket is None else f'{told}, ticket "{shown(ticket)}"'


def _vote_lines(telling: Telling) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for event in telling.story.events:
        data, at = event.data, moment(str(event.data.get("at", event.at)))
        match event.name:
            case "request.voted":
                void = "" if data["digest"] == telling.request.digest else ", void by an edit"
                groups = data["groups"]
                among = listed([shown(name) for name in groups]) if isinstance(groups, list) else ""
                said = f"{telling.who(str(data['voter']))} said {shown(data['choice'])}"
                comment = data["comment"]
                more = f": {telling.text(str(comment))}" if comment is not None else ""
                lines.append((at, f"{said} as member of {among}{void}{more}"))
            case "request.approved" | "request.denied" | "request.withdrawn" | "request.lapsed":
                lines.append((at, event.name.partition(".")[2]))
    return lines
