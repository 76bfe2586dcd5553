"""One grant's keys in memory: minted rarely, refreshed in time, gone at the end."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tidegate.base.errors import NotAllowed, NotFound, NotSignedIn, TidegateError, Unreachable
from tidegate.base.when import Instant, wire
from tidegate.broker.holding import (
    LAST_LOOKS,
    LAST_LOOKS_EVERY,
    LOOK_AGAIN,
    LOOK_EVERY,
    Holding,
)
from tidegate.broker.material import AccessEnded, Material, ended, read_end, read_material

START = datetime(2026, 1, 1, tzinfo=UTC)
DOWN = Unreachable("unreachable", "the server does not answer")


def minutes(count: float) -> Instant:
    return START + timedelta(minutes=count)


class World:
    """A server with one grant, and a clock that tests turn."""

    def __init__(self, *, ends: float = 10, lives: float = 60) -> None:
        self.now = START
        self.ends_at = minutes(ends)
        self.lives = timedelta(minutes=lives)
        self.mints = 0
        self.looks = 0
        self.fault: TidegateError | None = None
        self.gate: Callable[[], object] = lambda: None
        self.holding = Holding(
            grant="gr_one", fetch=self.fetch, look=self.look, clock=lambda: self.now
        )

    def fetch(self) -> Material:
        self.gate()
        if self.fault:
            raise self.fault
        self.mints += 1
        return Material(
            grant="gr_one",
            access_key_id=f"ASIA{self.mints}",
            secret_access_key=f"hidden-{self.mints}",
            session_token=f"token-{self.mints}",
            ends_at=self.ends_at,
            expires_at=self.now + self.lives,
            bound_until=self.ends_at.replace(microsecond=0),  # the cloud counts whole seconds
        )

    def look(self) -> Instant:
        self.gate()
        self.looks += 1
        if self.fault:
            raise self.fault
        return self.ends_at

    def holds_keys(self) -> bool:
        return self.holding._material is not None

    def key_at(self, minute: float) -> str:
        self.now = minutes(minute)
        return self.holding.take().access_key_id


def test_many_takes_mint_once() -> None:
    """Ten minutes of constant use are one session, a look every 30 seconds and a few at the end."""
    world = World()
    for second in range(600):
        assert world.key_at(second / 60) == "ASIA1"
    assert world.mints == 1
    last = LAST_LOOKS / LAST_LOOKS_EVERY
    assert world.looks <= timedelta(minutes=10) / LOOK_EVERY + last


def test_keys_of_the_old_end_in_the_last_moment_of_an_extended_grant() -> None:
    """A later end is known before the old one comes: no call is signed with keys about to stop."""
    world = World()
    world.key_at(0)
    world.key_at(9.9)
    world.ends_at = minutes(30)
    assert world.key_at(10 - 4 / 60) == "ASIA2"


def test_end_within_a_second_hands_out_what_the_cloud_refuses() -> None:
    """From the whole second on these keys are not given, and new ones are not minted for nothing;
    an extension in that very second is noticed at its end.
    """
    world = World()
    world.ends_at += timedelta(milliseconds=700)
    assert world.key_at(9.9) == "ASIA1"
    for part in (0, 300, 699):
        with pytest.raises(AccessEnded, match="ended at"):
            world.key_at(10 + part / 60_000)
    assert (world.mints, world.looks) == (1, 1)
    world.ends_at = minutes(30)
    assert world.key_at(10 + 701 / 60_000) == "ASIA2"


def test_concurrent_first_takes_mint_once() -> None:
    """Sixteen threads that come before there are keys wait for the one that asks."""
    world = World()
    gate = threading.Event()
    world.gate = lambda: gate.wait(5)
    with ThreadPoolExecutor(16) as pool:
        taken = [pool.submit(world.holding.take) for _ in range(16)]
        gate.set()
        assert {one.result().access_key_id for one in taken} == {"ASIA1"}
    assert world.mints == 1


def test_slow_refresh_does_not_stop_others() -> None:
    """While one thread waits for new keys, others go on with the old ones that still work."""
    world = World(ends=180)
    world.key_at(0)
    gate, asked = threading.Event(), threading.Event()

    def slow_server() -> None:
        asked.set()
        gate.wait(5)

    world.gate = slow_server
    world.now = minutes(56)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(world.holding.take)
        assert asked.wait(5)
        assert world.holding.take().access_key_id == "ASIA1"
        gate.set()
        assert slow.result().access_key_id == "ASIA2"


def test_keys_are_renewed_before_they_die() -> None:
    """A grant of three hours lives on sessions of one, each renewed 5 minutes ahead."""
    world = World(ends=180)
    assert [world.key_at(minute) for minute in (0, 54, 55.5, 109, 111)] == [
        "ASIA1",
        "ASIA1",
        "ASIA2",
        "ASIA2",
        "ASIA3",
    ]


def test_extension_gives_keys_of_the_new_end_before_the_old() -> None:
    """Keys are bound to the end they were minted with, so an extension needs new ones, in time."""
    world = World()
    world.key_at(0)
    world.ends_at = minutes(30)
    assert world.key_at(4) == "ASIA1"
    assert world.key_at(9.9) == "ASIA2"
    assert world.holding.take().usable_until == minutes(30)


def test_extension_in_the_last_second_is_not_missed() -> None:
    """A look just before the end does not hold back the look at the end."""
    world = World()
    world.key_at(0)
    world.key_at(9.99)
    world.ends_at = minutes(30)
    assert world.key_at(10) == "ASIA2"


def test_nothing_is_given_after_the_end() -> None:
    """Past the end every caller is refused, with the end in the message, and keys are dropped."""
    world = World()
    world.key_at(0)
    for second in range(60):
        with pytest.raises(AccessEnded, match=f"gr_one ended at {wire(minutes(10))}"):
            world.key_at(10 + second / 60)
    assert world.mints == 1
    assert world.looks <= 1 + timedelta(minutes=1) / LOOK_AGAIN
    assert not world.holds_keys()


def test_early_end_stops_the_keys() -> None:
    """A grant revoked inside its window stops within half a minute and is not asked again."""
    world = World()
    world.key_at(0)
    world.fault = ended("gr_one", minutes(2))
    for minute in (2, 3, 4):
        with pytest.raises(AccessEnded):
            world.key_at(minute)
    assert world.looks == 1
    world.fault = None
    with pytest.raises(AccessEnded):
        world.key_at(5)


@pytest.mark.parametrize("fault", [DOWN, NotSignedIn("not_signed_in", "the token has expired")])
def test_server_that_says_nothing_takes_no_keys_away(fault: TidegateError) -> None:
    """Down or signed out: keys go on to their end, and not a moment past it."""
    world = World()
    world.key_at(0)
    world.fault = fault
    assert world.key_at(9.9) == "ASIA1"
    with pytest.raises(type(fault)):
        world.key_at(10)
    with pytest.raises(type(fault)):
        world.key_at(10.01)
    assert not world.holds_keys()


def test_server_that_comes_back_is_asked_again() -> None:
    """A failure is not for ever."""
    world = World(ends=180)
    world.key_at(0)
    world.fault = DOWN
    assert world.key_at(56) == "ASIA1"
    world.fault = None
    assert world.key_at(56.05) == "ASIA1"
    assert world.key_at(56.1) == "ASIA2"


def test_first_refusal_is_the_callers() -> None:
    """Before there are any keys, what the server says is what the caller gets."""
    world = World()
    for fault in (DOWN, NotAllowed("not_yours", "the grant is not yours")):
        world.fault = fault
        with pytest.raises(type(fault)):
            world.holding.take()
        world.now = minutes(1)


def test_watch_drops_keys_nobody_asks_for() -> None:
    """At the end keys leave memory without a caller, and without asking anybody."""
    world = World()
    world.key_at(0)
    world.holding.wipe_if_over()
    assert world.holds_keys()
    world.now = minutes(10)
    world.holding.wipe_if_over()
    assert not world.holds_keys()
    assert world.looks == 0


ANSWER = {
    "kind": "aws",
    "access_key_id": "ASIA1",
    "secret_access_key": "hidden",
    "session_token": "token",
    "grant": "gr_one",
    "expires_at": "2026-01-01T00:15:00.000Z",
    "bound_until": "2026-01-01T00:10:00.000Z",
    "ends_at": "2026-01-01T00:10:00.000Z",
}


def test_material_is_read_and_its_repr_hides_the_keys() -> None:
    """The earliest instant bounds use, and no key stands in a repr."""
    material = read_material(ANSWER)
    assert material.usable_until == minutes(10)
    assert "hidden" not in repr(material) and "token" not in repr(material)


@pytest.mark.parametrize("name", sorted(ANSWER))
@pytest.mark.parametrize("value", [None, 7, "", "a\nb", "x" * 9_000])
def test_unusable_answer_is_refused_without_showing_it(name: str, value: object) -> None:
    """A missing, odd or overlong field is told by its name only."""
    with pytest.raises(TidegateError) as told:
        read_material({**ANSWER, name: value})
    assert "hidden" not in told.value.message
    assert "hidden" not in told.value.help


@pytest.mark.parametrize("state", ["closing", "removed", "gone", "failed"])
def test_closed_grant_has_no_end_to_look_at(state: str) -> None:
    """What is closing or closed is over, wherever its end lies; the help holds the command."""
    view = {"state": state, "ends_at": "2026-01-01T00:10:00.000Z", "role": "aws-prod/admin"}
    with pytest.raises(AccessEnded) as told:
        read_end("gr_one", view)
    assert "tidegate request aws-prod/admin" in told.value.help
    assert read_end("gr_one", {**view, "state": "open"}) == minutes(10)


def test_unknown_grant_is_final() -> None:
    """A grant the server does not know (or hides) ends the holding."""
    world = World()
    world.key_at(0)
    world.fault = NotFound("unknown_grant", "expected a grant of yours, got `gr_one`")
    with pytest.raises(NotFound):
        world.key_at(1)
