"""Each measurement, as small as it can be: that it comes to its end and counts what it says."""

import pytest
from bench import dispatch, lateness

from tidegate.connectors.simulated import ASSIGNMENT


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_lateness_leaves_out_ends_or_keys(engine: str) -> None:
    """Every end is gone, and every key that was taken before is refused."""
    told = lateness.one_round(engine, ASSIGNMENT, 2, 2.0)
    assert (told["not_gone"], told["gone"]["n"], told["denies"]["n"]) == (0, 2, 2)


def test_end_that_is_timed_was_never_called() -> None:
    """Each end that is timed was called."""
    told = dispatch.one_round("postgresql", 2, 0)
    assert told["ends"] == 2  # NB. an end just called may be closing still: it is not counted here
