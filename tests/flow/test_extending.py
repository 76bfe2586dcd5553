"""A later end: asked, voted on, judged again, and moved in one Step that no crash leaves half done.

The end before which it must happen is held to the millisecond: a renewal at the limit that never
ended was a hole elsewhere once.
"""

from datetime import timedelta

import pytest
import structlog

from tests.shell_api.conftest import serving
from tests.support import RULES, START, World, laws
from tidegate.base.errors import AskedWrongly, NotAllowed, NotFound, Stale
from tidegate.connectors.port import Answer
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.journal import JournalLine, open_grants
from tidegate.flow.asking import Asked, ask, change
from tidegate.flow.extending import apply_once, arm_once
from tidegate.flow.governing import put_in_force
from tidegate.flow.recovering import close_without_store
from tidegate.flow.revoking import end_early
from tidegate.grant import Cause, Grant, GrantState
from tidegate.request import Request, RequestState
from tidegate.store.rebuild import compare

MINUTE = timedelta(minutes=1)
MS = timedelta(milliseconds=1)


def longer(world: World, grant: Grant, minutes: float = 30, login: str = "ana") -> Request:
    """An extension asked for."""
    asked = Asked(roles=(), duration=minutes * MINUTE, reason="not done yet", extends=grant.id)
    return ask(world.house, world.who(login), asked)


def extended(world: World, grant: Grant, minutes: float = 30) -> Grant:
    """An extension asked for, voted on and carried out."""
    world.vote(longer(world, grant, minutes))
    world.work()
    return world.grant(grant)


def test_extension_that_moves_no_end(world: World) -> None:
    """The same grant ends later: row, assignment, new sessions and the cloud say so."""
    grant = world.granted()
    old = world.keys(grant)
    after = extended(world, grant)
    assert after.id == grant.id
    assert after.ends_at == START + 60 * MINUTE
    new = world.keys(after)
    world.clock.forward(minutes=30)
    world.work()
    assert world.use(old) is Answer.DENIED  # bound to the end it was issued under
    assert world.use(new) is Answer.ALLOWED
    assert world.grant(grant).state is GrantState.OPEN
    world.clock.forward(minutes=30, milliseconds=-1)
    assert world.use(new) is Answer.ALLOWED
    world.clock.forward(milliseconds=1)
    assert world.use(new) is Answer.DENIED
    world.work()
    assert world.grant(grant).state is GrantState.GONE
    assert compare(world.house.store) == []
    assert world.names(grant.request)[6:10] == [
        "session.issued",
        "grant.extended",
        "grant.armed",
        "session.issued",
    ]


def test_votes_on_another_end(world: World) -> None:
    """Its digest names the old end and the new one: another length is another digest."""
    grant = world.granted()
    asked = longer(world, grant, 10)
    changed = change(
        world.house,
        world.who("ana"),
        asked.id,
        Asked(roles=(), duration=20 * MINUTE, reason="not done yet", extends=grant.id),
    )
    assert changed.digest != asked.digest
    assert changed.terms.extends is not None
    assert changed.terms.extends.ends_at == grant.ends_at
    assert changed.terms.extends.until == START + 50 * MINUTE


def test_two_extensions_past_the_longest_window(world: World) -> None:
    """The rule's `@max` holds of the whole window; the refusal names the longest there is."""
    grant = world.granted()  # 30 minutes of at most 2 hours
    grant = extended(world, grant, 60)
    assert grant.ends_at == START + 90 * MINUTE
    refused = longer(world, grant, 31)
    assert (refused.state, refused.code) == (RequestState.REFUSED, "too_long")
    assert "it can be extended by 30m at most" in refused.why
    grant = extended(world, grant, 30)
    assert grant.ends_at == START + 120 * MINUTE
    refused = longer(world, grant, 1 / 60)
    assert (refused.state, refused.code) == (RequestState.REFUSED, "too_long")
    assert "that is all there is" in refused.why


def test_somebody_elses_grant(world: World) -> None:
    """Only its holder asks for a later end; who cannot see it is told of nothing."""
    grant = world.granted()
    with pytest.raises(NotAllowed):
        longer(world, grant, login="bo")
    with pytest.raises(NotFound):
        longer(world, grant, login="nobody")


def test_own_vote_on_an_extension(world: World) -> None:
    """Nobody approves their own, here either: ana is an approver of others."""
    grant = world.granted()
    asked = longer(world, grant)
    with pytest.raises(NotAllowed):
        world.vote(asked, "ana")


@pytest.mark.parametrize(
    ("late", "code"), [(-MS, ""), (timedelta(0), "ended"), (MS, "ended")], ids=["-1ms", "at", "+1"]
)
def test_asking_at_the_end(world: World, late: timedelta, code: str) -> None:
    """Asked a millisecond before the end it is filed; at the end and after it, it is too late."""
    grant = world.granted()
    world.clock.at = START + 30 * MINUTE + late
    world.house.store.beat("worker", world.clock(), "")
    if not code:
        assert longer(world, grant).state is RequestState.PENDING
        return
    with pytest.raises(Stale) as told:
        longer(world, grant)
    assert told.value.code == code


@pytest.mark.parametrize(
    ("late", "ends"), [(-MS, 60), (timedelta(0), 30), (MS, 30)], ids=["-1ms", "at", "+1ms"]
)
def test_carried_out_at_the_end(world: World, late: timedelta, ends: int) -> None:
    """Approved in time and carried out at the end, the end stands, and the request says why."""
    grant = world.granted()
    asked = world.vote(longer(world, grant))
    assert asked.state is RequestState.APPROVED
    world.clock.at = START + 30 * MINUTE + late
    done = apply_once(world.house, asked)
    assert world.grant(grant).ends_at == START + ends * MINUTE
    if ends == 30:
        assert (done.state, done.code) == (RequestState.REFUSED, "ended")
        world.work()
        assert world.grant(grant).state is GrantState.GONE
    assert compare(world.house.store) == []


@pytest.mark.parametrize("late", [timedelta(0), MS])
def test_vote_at_the_end(world: World, late: timedelta) -> None:
    """An extension lapses with the window it is of."""
    grant = world.granted()
    asked = longer(world, grant)
    world.clock.at = START + 30 * MINUTE + late
    with pytest.raises(Stale):
        world.vote(asked)
    world.work()
    assert world.house.store.request(asked.id).state is RequestState.LAPSED
    assert world.grant(grant).state is GrantState.GONE


@pytest.mark.parametrize("late", [timedelta(0), MS], ids=["at", "+1ms"])
def test_asking_at_the_end_leaves_no_trace(world: World, late: timedelta) -> None:
    """Asked for over HTTP at the end, or after it, it is denied, and that is sealed."""
    grant = world.granted()
    world.clock.at = START + 30 * MINUTE + late
    body = {"roles": [], "extends": grant.id, "duration_seconds": 600, "reason": "not done"}
    with serving(world) as api:
        answer = api.post("ana", "/api/requests", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "ended")
        assert api.refusals("ana") == [("file_request", "/api/requests", "ended")]
    assert [one.id for one in world.house.store.requests()] == [grant.request]
    assert world.grant(grant).ends_at == grant.ends_at


@pytest.mark.parametrize("late", [timedelta(0), MS], ids=["at", "+1ms"])
def test_vote_at_the_end_leaves_no_trace(world: World, late: timedelta) -> None:
    """A vote that comes at the end, or after it, counts no more, and that it came is sealed."""
    grant = world.granted()
    asked = longer(world, grant)
    world.clock.at = START + 30 * MINUTE + late
    with serving(world) as api:
        answer = api.vote("bo", {"id": asked.id, "digest": asked.digest})
        assert (answer.status_code, answer.json()["code"]) == (409, "lapsed")
        assert api.refusals("bo") == [("vote_on_request", asked.id, "lapsed")]
    assert world.house.store.request(asked.id).votes == ()
    assert world.grant(grant).ends_at == grant.ends_at


def test_extension_of_what_was_revoked_meanwhile(world: World) -> None:
    """An end that came first wins: the approved extension is refused."""
    grant = world.granted()
    asked = world.vote(longer(world, grant))
    end_early(world.house, world.who("bo"), grant.id, "wrong account")
    world.work()
    world.clock.forward(seconds=5)  # its key may have been in another hand
    world.work()
    done = world.house.store.request(asked.id)
    assert (done.state, done.code) == (RequestState.REFUSED, "not_open")
    assert world.grant(grant).state is GrantState.GONE


def test_end_that_comes_while_it_is_being_moved(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between two reads of one move: none is moved, and the log calls it no bug."""
    grant = world.granted()
    asked = world.vote(longer(world, grant))
    write = world.house.journal.append_opening

    def revoked(line: JournalLine) -> None:
        write(line)
        monkeypatch.undo()
        end_early(world.house, world.who("bo"), grant.id, "wrong account")

    monkeypatch.setattr(world.house.journal, "append_opening", revoked)
    with structlog.testing.capture_logs() as said:
        world.work()
    assert not [one for one in said if "exc_info" in one]
    world.clock.forward(seconds=5)
    world.work()
    assert world.house.store.request(asked.id).code == "not_open"
    assert world.grant(grant).ends_at == grant.ends_at
    assert world.grant(grant).state is GrantState.GONE


def test_second_extension_voted_on_the_old_end(world: World) -> None:
    """Two asked for beside each other: the first moves the end the second was voted on."""
    grant = world.granted()
    first = longer(world, grant, 10)
    with pytest.raises(AskedWrongly):
        longer(world, grant, 20)
    world.vote(first)
    second = world.vote(longer(world, grant, 20))
    world.work()
    world.clock.forward(seconds=5)  # one of them found the key in the other's hand
    world.work()
    assert {world.house.store.request(one.id).code for one in (first, second)} == {"", "end_moved"}
    assert world.grant(grant).ends_at in (START + 40 * MINUTE, START + 50 * MINUTE)


def test_rules_changed_between_vote_and_move(world: World) -> None:
    """Judged again when it is carried out: what the rules no longer permit does not happen."""
    grant = world.granted()
    asked = world.vote(longer(world, grant))
    put_in_force(world.house, laws(RULES.replace('@max("2h")', '@max("59m")')))
    world.work()
    done = world.house.store.request(asked.id)
    assert (done.state, done.code) == (RequestState.REFUSED, "not_permitted")
    assert world.grant(grant).ends_at == grant.ends_at


def test_shut_gate_lets_an_extension_through(world: World) -> None:
    """While something on the target cannot be closed nothing is made longer; then it is."""
    grant = world.granted()
    asked = world.vote(longer(world, grant))
    world.clock.forward(minutes=6)  # the last look at the target is no longer believed
    world.connector.script(Fault(kind=FaultKind.DOWN, verb="health"))
    world.work()
    assert world.grant(grant).ends_at == grant.ends_at
    assert world.house.store.request(asked.id).state is RequestState.APPROVED
    world.clock.forward(minutes=6)
    world.work()
    assert world.grant(grant).ends_at == START + 60 * MINUTE


def test_journal_that_learns_of_the_new_end_too_early(world: World) -> None:
    """Until the new end is sealed the journal closes at the old one, without a database."""
    grant = world.granted()
    extended(world, grant)
    ends = [line.data for line in world.house.journal.read() if line.kind == "intended"]
    assert [data["ends_at"][11:16] for data in ends] == ["09:30", "09:30", "10:00"]
    assert ends[1]["moving_to"].startswith("2026-11-23T10:00")
    (last,) = open_grants(world.house.journal.read())
    assert last.data["ends_at"].startswith("2026-11-23T10:00")
    world.clock.forward(minutes=59)
    assert close_without_store(world.house) == []
    world.clock.forward(minutes=1)
    assert close_without_store(world.house) == [grant.id]


def test_crash_before_the_end_is_sealed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the journal's line and before the Step: the old end holds, then it is moved."""
    grant = world.granted()
    asked = world.vote(longer(world, grant))

    def killed(step: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(world.house.store, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        apply_once(world.house, asked)
    monkeypatch.undo()
    world.restart()
    assert world.grant(grant).ends_at == grant.ends_at
    (line,) = open_grants(world.house.journal.read())
    assert line.data["ends_at"].startswith("2026-11-23T09:30")
    world.work()
    assert world.grant(grant).ends_at == START + 60 * MINUTE


def test_crash_after_the_end_is_sealed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the Step and the journal: the new process lets both have the new end."""
    grant = world.granted()
    asked = world.vote(longer(world, grant))
    append, written = world.house.journal.append, []

    def killed(line: object) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(line)
        append(line)  # type: ignore[arg-type]

    monkeypatch.setattr(world.house.journal, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        apply_once(world.house, asked)
    monkeypatch.undo()
    world.restart()
    assert world.grant(grant).ends_at == START + 60 * MINUTE
    assert world.grant(grant).arming
    world.work()
    assert not world.grant(grant).arming
    (line,) = open_grants(world.house.journal.read())
    assert line.data["ends_at"].startswith("2026-11-23T10:00")
    assert compare(world.house.store) == []


def test_arming_twice_seals_twice(world: World) -> None:
    """What is armed is left alone."""
    grant = extended(world, world.granted())
    before = world.names(grant.request)
    arm_once(world.house, grant)
    assert world.names(grant.request) == before


def test_plain_request_for_what_is_held(world: World) -> None:
    """It is refused with the way to more time; on purpose (`--again`) it is not."""
    grant = world.granted()
    refused = world.ask(again=False)
    assert (refused.state, refused.code) == (RequestState.REFUSED, "already_held")
    assert f"`tidegate extend {grant.id} " in refused.why
    assert world.ask(role="dev/admin", again=False).state is RequestState.APPROVED
    assert world.ask().state is RequestState.PENDING


def test_two_grants_that_stack_beyond_the_longest(world: World) -> None:
    """B14: what is held counts with what is asked for, when filing and when opening."""
    world.granted(duration=60 * MINUTE)
    refused = world.ask(duration=61 * MINUTE)
    assert (refused.state, refused.code) == (RequestState.REFUSED, "too_long")
    assert world.vote(world.ask(duration=60 * MINUTE)).state is RequestState.APPROVED


def test_two_that_were_asked_for_before_either_opened(world: World) -> None:
    """Filed while nothing was held, each fits alone: the second does not open beside the first."""
    asked = [world.ask(duration=90 * MINUTE) for _ in range(2)]
    for request in asked:
        world.vote(request)
    world.work()
    grants = [one for request in asked for one in world.house.store.grants(request=request.id)]
    opened = [one for one in grants if one.state is GrantState.OPEN]
    failed = [one for one in grants if one.state is GrantState.FAILED]
    assert len(opened) <= 1
    assert failed
    assert all(one.cause == Cause.NOT_PERMITTED for one in failed)


def test_chain_of_overlapping_grants(world: World) -> None:
    """Each overlaps with the one before: holding without a break is bounded all the same."""
    world.granted(duration=60 * MINUTE)
    world.clock.forward(minutes=50)
    world.work()
    second = world.granted(duration=60 * MINUTE)
    assert second.held_since == START
    world.clock.forward(minutes=50)
    world.work()
    refused = world.ask(duration=21 * MINUTE)
    assert (refused.state, refused.code) == (RequestState.REFUSED, "too_long")
    refused = longer(world, second, 11)
    assert (refused.state, refused.code) == (RequestState.REFUSED, "too_long")
    assert longer(world, second, 10).state is RequestState.PENDING
