"""A trace names the stage at which the evidence stops, and never says more than is sealed."""

import re
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.diagnose.tales import (
    CASES,
    DAY,
    END,
    MINUTE,
    NAMES,
    SECOND,
    Case,
    Tale,
    closing,
    filed,
    is_gone,
    is_open,
    is_removed,
    readied,
    voted,
    with_note,
)
from tests.stages.make import NOW, TERMS
from tests.support import World
from tidegate.approve import Choice
from tidegate.base.errors import WorldFailed
from tidegate.base.fact import Step
from tidegate.base.text import cells_of
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.diagnose.drawing import wrap
from tidegate.diagnose.trace import StageState, gather, parse_trace, render_text, trace
from tidegate.evidence.events import Event
from tidegate.flow.people import shown_name
from tidegate.grant import Cause, Grant, GrantState, Outcome
from tidegate.request import RequestState, lapse, refuse, withdraw

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (60, 100, 120, 200)


def outputs(case: Case) -> list[str]:
    """Everything a trace of `case` shows, as terminals and the API see it."""
    told = case.tale().trace(case.now)
    return [*(render_text(told, width) for width in WIDTHS), str(told.as_json())]


@pytest.mark.parametrize("name", CASES)
def test_stage_where_the_evidence_stops_is_misnamed(name: str) -> None:
    """Every state names its stage, says why in one sentence, and has a next step when it stops."""
    case = CASES[name]
    told = case.tale().trace(case.now)
    assert (told.stops_at, told.worst.here.stage) == (case.stops_at, case.here)
    assert case.says in told.why
    if told.stops_at:
        assert told.next_step


def test_state_nobody_traced() -> None:
    """The cases hold every state of a request and of a grant, every cause and every outcome."""
    rows = [case.tale() for case in CASES.values()]
    grants = [grant for tale in rows for grant in tale.grants.values()]
    assert {tale.asked.state for tale in rows} == set(RequestState)
    assert {grant.state for grant in grants} == set(GrantState)
    assert {grant.cause for grant in grants} >= set(Cause)
    assert {grant.outcome for grant in grants} >= set(Outcome)


@pytest.mark.parametrize("name", CASES)
def test_word_said_before_its_event(name: str) -> None:
    """No output says gone or denied before an event carries that word."""
    case = CASES[name]
    sealed = {event.name: event for event in case.tale().events}
    over = sealed.get("grant.gone")
    proven = over is not None and over.data["proof"] == "denied"
    for text in outputs(case):
        assert over is not None or not re.search(r"\bgone\b", text), text
        assert proven or "request.denied" in sealed or not re.search(r"\bdenied\b", text), text


@pytest.mark.parametrize("name", CASES)
def test_stages_after_a_stop_look_reached(name: str) -> None:
    """Left to right: after the stage where it stops, none is done or going on."""
    case = CASES[name]
    (walk,) = case.tale().trace(case.now).walks
    states = [view.state for view in walk.views]
    if walk.stops_at:
        later = states[states.index(walk.here.state) + 1 :]
        assert set(later) <= {StageState.NOT_REACHED}


@pytest.mark.parametrize("name", CASES)
def test_answer_that_a_client_cannot_read_back(name: str) -> None:
    """What the API answers parses to the same trace."""
    case = CASES[name]
    told = case.tale().trace(case.now)
    assert parse_trace(told.as_json()) == told


@pytest.mark.parametrize(
    ("name", "case", "width"),
    [
        ("over", Case(is_gone, END + DAY, None, "expire", ""), 120),
        ("pending", Case(lambda: voted(filed(), "bo"), NOW, "approve", "approve", ""), 100),
        (
            "closing-refused",
            Case(
                lambda: with_note(closing(), "revoke", Outcome.REFUSED, "access_denied", END),
                END,
                "expire",
                "expire",
                "",
            ),
            80,
        ),
    ],
)
def test_drawing_that_changed(name: str, case: Case, width: int) -> None:
    """Three traces, byte for byte as people have seen them."""
    assert render_text(case.tale().trace(case.now), width) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("width", WIDTHS)
def test_line_wider_than_the_terminal(name: str, width: int) -> None:
    """No line is wider than the terminal it is drawn for."""
    case = CASES[name]
    for line in render_text(case.tale().trace(case.now), width).splitlines():
        assert cells_of(line) <= width


@given(st.text(max_size=300), st.integers(5, 40))
def test_word_lost_or_line_too_wide(text: str, room: int) -> None:
    """Wrapping keeps every printable character but blanks, and never exceeds the room."""
    lines = wrap(text, room)
    assert all(cells_of(line) <= max(room, 2) for line in lines)
    kept = "".join(ch if ch.isprintable() else " " for ch in text)
    assert "".join("".join(lines).split()) == "".join(kept.split())


def test_name_that_moves_the_cursor() -> None:
    """An escape sequence in a name or a reason reaches neither the terminal nor the API raw."""
    tale = is_open()
    told = tale.trace(NOW + MINUTE, names=lambda _: "a\x1b[2J\nna\u202e")
    for text in (render_text(told, 120), render_text(told, 80)):
        assert not {"\x1b", "\u202e"} & set(text)
    assert "\\n" not in str(told.as_json())


def test_dropped_event_is_told_as_a_wait() -> None:
    """A hole in the chain is where the evidence stops, and it is named."""
    tale = is_gone()
    dropped = [event for event in tale.events if event.name != "grant.closing"]
    told = replace_events(tale, dropped).trace(END + DAY)
    assert told.stops_at == "expire"
    assert "event 8 of this chain is missing: event 9 `grant.removed` is there" in told.why
    assert "tidegate evidence verify" in told.next_step
    assert "gone" not in render_text(told, 120)


def test_edited_event_is_believed() -> None:
    """An event whose successor names other bytes is where the evidence stops."""
    tale = is_open()
    events = list(tale.events)
    place = next(i for i, event in enumerate(events) if event.name == "grant.intended")
    data = {**events[place].data, "ends_at": "2027-01-01T00:00:00.000Z"}
    events[place] = replace(events[place], data=data)
    told = replace_events(tale, events).trace(NOW)
    assert "one of the two was changed" in told.why


def test_event_that_cannot_happen_is_believed() -> None:
    """An event out of nowhere, though well linked, is where the evidence stops."""
    tale = filed()
    tale.run(Step((), (readied().events[-1].fact,)), NOW)
    told = tale.trace(NOW)
    assert told.stops_at == "approve"
    assert "makes a grant of a request nobody approved" in told.why
    tale = readied()
    tale.run(Step((), (is_gone().events[-2].fact,)), NOW)
    assert "`grant.gone` cannot follow what is sealed before it" in tale.trace(NOW).why


def test_empty_chain_is_told_as_a_request() -> None:
    """A row without one event stops at Request."""
    tale = filed()
    told = replace_events(tale, []).trace(NOW)
    assert (told.stops_at, told.why) == ("request", "the chain of this request is empty")


@pytest.mark.parametrize("field", [f.name for f in fields(Grant) if f.name not in ("id",)])
def test_row_changed_by_hand_is_believed(field: str) -> None:
    """A grant's row that is not what the events leave stops the trace, whichever field it is."""
    tale = is_removed(residual=MINUTE)
    other = is_gone().grant
    value = getattr(other, field)
    if value == getattr(tale.grant, field):
        value = "other" if isinstance(value, str) else None
    if value == getattr(tale.grant, field):
        value = END
    tale.grants[other.id] = replace(tale.grant, **{field: value})
    told = tale.trace(END + SECOND)
    assert told.stops_at == "expire"
    assert f"the evidence says {field} " in told.why
    assert "tidegate evidence rebuild --check" in told.next_step
    assert not re.search(r"\bgone\b", render_text(told, 120))


def test_row_that_vanished_is_passed_over() -> None:
    """A grant the events know and the table does not is told."""
    tale = is_open()
    tale.grants.clear()
    told = tale.trace(NOW)
    assert "the evidence knows it and the table does not" in told.why


def test_row_without_events_is_believed() -> None:
    """A grant the table knows and the events do not is told, and nothing of it is called open."""
    tale = voted(filed(), "bo", "cy")
    tale.grants = dict(is_open().grants)
    told = tale.trace(NOW)
    assert told.stops_at == "grant"
    assert "the table knows it and the evidence does not" in told.why


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ({}, " --ticket INC-4711"),
        ({"ticket": None}, ""),
        ({"emergency": True, "start": NOW}, " --ticket INC-4711 --emergency"),
        ({"ticket": "a b'c"}, """ --ticket 'a b'"'"'c'"""),
    ],
)
@pytest.mark.parametrize("way", ["denied", "lapsed", "withdrawn", "too_long"])
def test_next_step_that_would_be_refused(way: str, more: dict[str, Any], options: str) -> None:
    """The command that asks again keeps the ticket and the emergency, and no start of the past."""
    tale = filed(replace(TERMS, **more))
    if way == "denied":
        voted(tale, "bo", choice=Choice.DENY)
    else:
        step = {
            "lapsed": lapse(tale.asked, NOW + DAY),
            "withdrawn": withdraw(tale.asked, NOW),
            "too_long": refuse(tale.asked, "too_long", "too long", NOW, "system"),
        }[way]
        tale.run(step, NOW)
    again = f"`tidegate request aws-prod/admin --for 45m --reason '…'{options}`"
    assert tale.trace(NOW + DAY).next_step.endswith(again)


def test_hint_of_the_rules_is_the_next_step() -> None:
    """What the rules said to do is told once, as the next step; without it the targets are."""
    tale = filed()
    tale.run(refuse(tale.asked, "no_rule", "no rule; add --ticket", NOW, "system"), NOW)
    told = tale.trace(NOW)
    assert (told.why, told.next_step) == ("refused: no rule (`no_rule`)", "add --ticket")
    assert "`tidegate targets`" in CASES["refused"].tale().trace(NOW).next_step


def test_silent_worker_is_told_to_wait() -> None:
    """Past its end, with no worker alive, the next step is to start one."""
    tale = is_open()
    tale.beat = END - MINUTE
    told = tale.trace(END + MINUTE)
    assert "the worker last beat at 2026-11-22T07:44:00Z" in told.why
    assert told.next_step.startswith("start the worker: `tidegate serve`")


def test_worst_of_two_grants_is_hidden() -> None:
    """Of several grants the one that is stopped speaks for the request; each can be had alone."""
    tale = is_open()
    first = tale.grant
    told = tale.trace(NOW)
    other = closing()
    stopped = other.trace(END + MINUTE).walks[0]
    both = replace(told, walks=(*told.walks, replace(stopped, grant="gr_other")))
    assert both.stops_at == "expire"
    assert both.only(first.id).stops_at is None


@pytest.mark.parametrize(
    "damage",
    [
        {"walks": []},
        {"walks": "x"},
        {"walks": [{}]},
        {"request": 1},
        {"walks": [{"grant": "", "role": "", "stages": []}]},
    ],
)
def test_strange_answer_is_drawn(damage: dict[str, object]) -> None:
    """An answer of another shape is told as one."""
    plain = {**is_open().trace(NOW).as_json(), **damage}
    with pytest.raises(WorldFailed):
        parse_trace(plain)


def test_sound_life_disagrees_with_its_rows(world: World) -> None:
    """On the real store, every step of a life traces without any disagreement."""

    def told() -> str | None:
        house = world.house
        events, request, grants = gather(house.store, grant.request)
        found = trace(
            events,
            request,
            grants,
            now=house.now(),
            names=lambda principal: shown_name(house, principal),
            texts=house.store.text,
            beats=house.store.beats(),
        )
        assert parse_trace(found.as_json()) == found
        return found.why

    grant = world.granted(reason="a\u0301 reason")
    world.keys(grant)
    assert told() == "open until 2026-11-23T09:30:00Z; 1 session"
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="observe"))
    world.clock.forward(minutes=30)
    world.work()
    assert "closing: the cloud is not reached (`cloud_unreachable`)" in (told() or "")
    world.clock.forward(minutes=1)
    world.work()
    assert told() == "gone: its time was over; tried as this access, and refused"


def replace_events(tale: Tale, events: list[Event]) -> Tale:
    """The same rows over another chain."""
    return replace(tale, events=events)


def test_names_are_asked_for_ids() -> None:
    """Names are looked up by principal id, and only those of the people involved."""
    asked: list[str] = []

    def name(principal: str) -> str:
        asked.append(principal)
        return NAMES[principal]

    is_gone().trace(END + timedelta(days=1), names=name)
    assert set(asked) == {"pr_ana", "pr_bo", "pr_cy"}
