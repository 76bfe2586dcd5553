"""A trial is its holder's word: sealed as such, bounded, in its phase, and no proof of anything."""

import io
import threading
import zipfile
from datetime import timedelta

import pytest

from tests.support import World
from tidegate.base.errors import AskedWrongly, NotAllowed, NotFound
from tidegate.base.fact import Fact, Step
from tidegate.base.when import wire
from tidegate.connectors.port import Answer
from tidegate.diagnose.trace import gather, trace
from tidegate.diagnose.trials import allowed_after, denied_by, trials_of, tried_says
from tidegate.evidence.checkpoint import TrustedKey
from tidegate.evidence.events import Event
from tidegate.evidence.seal import read_event
from tidegate.flow.people import shown_name
from tidegate.flow.proving import pack
from tidegate.flow.revoking import end_early
from tidegate.flow.trying import (
    LONGEST_CALL,
    MOST_TRIALS,
    OLDEST,
    Phase,
    Trial,
    Tried,
    phase_of,
    tell_trial,
)
from tidegate.grant import Grant

DENIED, ALLOWED = Answer.DENIED, Answer.ALLOWED


def tell(
    world: World,
    grant: Grant,
    outcome: Answer = ALLOWED,
    *,
    by: str = "ana",
    call: str = "aws s3 ls",
    ago: timedelta = timedelta(0),
) -> Tried:
    """Somebody tells what they saw."""
    trial = Trial(
        outcome=outcome,
        exit_code=0 if outcome is ALLOWED else 254,
        call=call,
        tried_at=world.clock() - ago,
    )
    return tell_trial(world.house, world.who(by), grant.id, trial)


def sealed(world: World, grant: Grant) -> list[Event]:
    """Every trial in the chain."""
    events = [read_event(leaf) for _, leaf in world.house.store.events(grant.request)]
    return [event for event in events if event.name == "access.tried"]


def test_trial_leaves_no_word_in_the_chain(world: World) -> None:
    """Who, phase, outcome, code and instant are sealed; the call is a text that can be erased."""
    grant = world.granted()
    before = world.grant(grant)
    told = tell(world, grant)
    assert (told.phase, told.as_it_should, told.own_clock) == (Phase.DURING, True, True)
    (event,) = sealed(world, grant)
    ana = world.who("ana").id
    assert (event.actor, event.data["by"], event.data["phase"]) == (ana, ana, "during")
    assert (event.data["outcome"], event.data["exit_code"]) == ("allowed", 0)
    assert world.house.store.text(str(event.data["call"])) == "aws s3 ls"
    assert world.grant(grant) == before  # a statement changes nothing


def test_phase_is_told_by_when_it_was_sealed(world: World) -> None:
    """Before it opens, while it is open, and from its end or its early closing on."""
    request = world.vote(world.ask())
    (ready,) = world.house.store.grants(request=request.id)
    assert tell(world, ready, DENIED).phase is Phase.BEFORE
    world.work()
    grant = world.grant(ready)
    world.clock.forward(minutes=5)
    assert tell(world, grant, ago=timedelta(minutes=1)).phase is Phase.DURING
    end_early(world.house, world.who("ana"), grant.id)
    assert tell(world, grant, ago=timedelta(minutes=1)).phase is Phase.DURING
    after = tell(world, grant, ALLOWED)
    assert (after.phase, after.expected, after.as_it_should) == (Phase.AFTER, DENIED, False)


def test_end_without_a_worker_is_during(world: World) -> None:
    """Past the granted end it is after, whether anybody has sealed a closing or not."""
    grant = world.granted()
    world.clock.forward(minutes=31)
    assert tell(world, grant, DENIED).phase is Phase.AFTER
    assert phase_of(world.grant(grant), world.clock() - timedelta(minutes=2)) is Phase.DURING


def test_grant_that_never_opened_has_an_after(world: World) -> None:
    """What was called off before it opened is before, for ever."""
    request = world.vote(world.ask())
    (grant,) = world.house.store.grants(request=request.id)
    end_early(world.house, world.who("ana"), grant.id)
    world.clock.forward(hours=3)
    assert tell(world, world.grant(grant), DENIED).phase is Phase.BEFORE


@pytest.mark.parametrize("ago", [OLDEST + timedelta(seconds=1), timedelta(seconds=-1)])
def test_wrong_clock_is_believed(world: World, ago: timedelta) -> None:
    """From the future or too long ago: our own instant is sealed, and that is answered."""
    grant = world.granted()
    world.clock.forward(minutes=20)
    told = tell(world, grant, ago=ago)
    assert (told.own_clock, told.tried_at) == (False, world.clock())
    (event,) = sealed(world, grant)
    assert event.data["tried_at"] == event.data["at"]


def test_somebody_else_tells_of_it(world: World) -> None:
    """The holder and operators may; who sees it only is refused, others find nothing."""
    grant = world.granted()
    tell(world, grant, by="op")
    for login in ("bo", "audit"):
        with pytest.raises(NotAllowed) as told:
            tell(world, grant, by=login)
        assert told.value.code == "not_yours_to_try"
    with pytest.raises(NotFound):
        tell(world, grant, by="eve")
    assert len(sealed(world, grant)) == 1


def test_loop_fills_the_log(world: World) -> None:
    """A grant has at most MOST_TRIALS of them."""
    grant = world.granted()
    for _ in range(MOST_TRIALS):
        tell(world, grant)
    with pytest.raises(NotAllowed) as told:
        tell(world, grant)
    assert told.value.code == "too_many_trials"
    assert len(sealed(world, grant)) == MOST_TRIALS


def test_trials_at_once_pass_the_bound(world: World) -> None:
    """Told at the same time, no more are sealed than the bound: others are asked to come again."""
    grant = world.granted()
    for _ in range(MOST_TRIALS - 2):
        tell(world, grant)
    told: list[str] = []

    def one() -> None:
        try:
            tell(world, grant)
        except (NotAllowed, AskedWrongly) as fault:
            told.append(fault.code)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sealed(world, grant)) <= MOST_TRIALS
    assert set(told) <= {"busy", "too_many_trials"}


@pytest.mark.parametrize("call", ["a\x1b[31m", "a\nb", "a\u202eb", "x" * (LONGEST_CALL + 1)])
def test_call_that_moves_the_cursor_is_sealed(world: World, call: str) -> None:
    """Control and hidden characters and endless calls are refused."""
    grant = world.granted()
    with pytest.raises(AskedWrongly):
        tell(world, grant, call=call)
    assert sealed(world, grant) == []


def test_same_call_is_taken_for_another(world: World) -> None:
    """One commitment for one call of a grant; others, kept-back ones too, have their own."""
    grant, other = world.granted(), world.granted("eve")
    for call in ("aws s3 ls", "aws s3 ls", "aws iam list-users", "", ""):
        tell(world, grant, call=call)
    tell(world, other, by="eve")
    one, two, three, four, five = (event.data["call"] for event in sealed(world, grant))
    assert one == two
    assert len({one, three, four, five, sealed(world, other)[0].data["call"]}) == 5


def test_denial_stands_though_it_was_allowed_since(world: World) -> None:
    """What was denied after the end counts until something is allowed again."""
    grant = world.granted()
    ana = world.who("ana").id
    tell(world, grant, ALLOWED)
    world.clock.forward(minutes=31)

    def trials() -> tuple[bool, bool]:
        told = trials_of(sealed(world, grant), grant.id)
        return denied_by(told, ana) is not None, allowed_after(told) is not None

    assert trials() == (False, False)
    tell(world, grant, DENIED)
    assert trials() == (True, False)
    tell(world, grant, Answer.UNTOLD)
    assert trials() == (True, False)
    tell(world, grant, ALLOWED, by="op")
    assert trials() == (False, True)
    tell(world, grant, DENIED)
    assert trials() == (True, False)
    said = tried_says(trials_of(sealed(world, grant), grant.id), lambda who: "x")
    assert said.startswith("tried by x on their own machine during: allowed; after: denied; tried")


def test_trial_makes_rows_and_events_differ(world: World) -> None:
    """State rebuilt from events with trials in between is the state of the rows."""
    from tidegate.store import compare

    grant = world.granted()
    tell(world, grant)
    world.clock.forward(minutes=31)
    tell(world, grant, DENIED)
    world.work()
    tell(world, grant, DENIED)
    assert compare(world.house.store) == []


def test_trial_is_told_nowhere(world: World) -> None:
    """Trace and report tell a trial where it belongs, as somebody's word, with what was called."""
    grant = world.granted()
    tell(world, grant)
    world.clock.forward(minutes=31)
    world.work()
    tell(world, grant, DENIED, call="")
    events, request, grants = gather(world.house.store, grant.request)
    told = trace(
        events,
        request,
        grants,
        now=world.clock(),
        names=lambda who: shown_name(world.house, who),
        texts=world.house.store.text,
        beats={},
    )
    run, expire = told.walks[0].views[3:]
    words = "tried by ana on their own machine"
    assert run.lines[-1][1] == f'{words} during: allowed ("aws s3 ls")'
    assert expire.lines[-1][1] == f"{words} after: denied (call not told)"
    keys = (TrustedKey(key=world.signer.verifier()),)
    _, packed = pack(world.house, keys, world.who("ana"), grant.id)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".html")]
        page = archive.read(name).decode()
    assert "on their own machine, during" in page and "on their own machine, after" in page
    assert "aws s3 ls" in page


def test_gate_that_was_passed_is_told_nowhere(world: World) -> None:
    """That an emergency opened though the gate was shut stands in the trace."""
    grant = world.granted()
    fact = Fact(
        name="gate.passed",
        subject=grant.request,
        actor="system",
        data={
            "grant": grant.id,
            "request": grant.request,
            "at": wire(world.clock()),
            "checks": ["closing_fails: an end is late"],
            "exposure_seconds": 5,
            "unattended_seconds": None,
        },
    )
    world.house.store.commit(Step((), (fact,)))
    events, request, grants = gather(world.house.store, grant.request)
    told = trace(
        events, request, grants, now=world.clock(), names=str, texts=lambda _: None, beats={}
    )
    said = [what for _, what in told.walks[0].views[2].lines]
    assert (
        "opened as an emergency though the health gate was shut: closing_fails: an end is late"
        in said
    )
