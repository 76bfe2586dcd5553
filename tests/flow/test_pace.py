"""How long is waited between tries: longer each time, never too long, and never all together."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tidegate.flow.pace import LONGEST_PAUSE, SHORTEST_PAUSE, pause

TRIES = st.integers(min_value=1, max_value=1_000_000)
NOISE = st.binary(min_size=2, max_size=4)
ROUNDED = timedelta(microseconds=2)


def nominal(tries: int) -> timedelta:
    """The pause before any jitter, counted up one try after the other."""
    reached = SHORTEST_PAUSE
    for _ in range(min(tries, 50) - 1):
        reached = min(reached * 2, LONGEST_PAUSE)
    return reached


@given(TRIES, NOISE)
def test_pause_out_of_its_bounds(tries: int, noise: bytes) -> None:
    """At least half of the nominal pause and never more than it, after a million tries too."""
    asked = nominal(tries)
    assert asked / 2 <= pause(tries, noise) <= asked <= LONGEST_PAUSE


@given(st.integers(min_value=1, max_value=200), NOISE)
def test_next_pause_that_grows_too_little_or_too_much(tries: int, noise: bytes) -> None:
    """By the same bytes each is twice the one before, until the cap; then it stays."""
    before, after = pause(tries, noise), pause(tries + 1, noise)
    longer = nominal(tries + 1) / nominal(tries)
    assert abs(after - before * longer) <= ROUNDED


@given(TRIES, NOISE)
def test_pause_that_nobody_can_replay(tries: int, noise: bytes) -> None:
    """The first two bytes of randomness are all there is to it."""
    assert pause(tries, noise) == pause(tries, noise) == pause(tries, noise[:2])


def test_many_that_failed_together_come_back_together() -> None:
    """Other bytes are another pause, from half of the nominal one to nearly all of it."""
    pauses = [pause(3, high.to_bytes(1) + b"\0") for high in range(256)]
    assert pauses == sorted(set(pauses))
    assert (pauses[0], pause(3, b"\xff\xff") > timedelta(seconds=3.99)) == (nominal(3) / 2, True)


def test_millionth_try_overflows() -> None:
    """A cloud that has been away for months is still asked every two minutes."""
    assert pause(1_000_000, b"\xff\xff") <= LONGEST_PAUSE
    assert pause(1_000_000, b"\0\0") == LONGEST_PAUSE / 2
