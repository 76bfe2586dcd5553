"""Each measurement, as small as it can be: that it comes to its end and counts what it says."""

from pathlib import Path

import pytest
from bench import dispatch, lateness, reconcile

from tidegate.catalogue import AssignmentKey
from tidegate.connectors.simulated import ASSIGNMENT


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_lateness_leaves_out_ends_or_keys(engine: str) -> None:
    """Every end is gone, and every key that was taken before is refused."""
    told = lateness.one_round(engine, ASSIGNMENT, 2, 2.0)
    assert (told["not_gone"], told["gone"]["n"], told["denies"]["n"]) == (0, 2, 2)


def test_end_that_is_timed_was_never_called() -> None:
    """Each end that is timed has the instant of its call; what follows it may still be going on."""
    told = dispatch.one_round("postgresql", 2, 0)
    assert told["ends"] == 2  # NB. an end just called may be closing still: it is not counted here


def test_part_of_the_cloud_is_never_looked_at() -> None:
    """Every access was shown to a look, by the first process and by the one after it."""
    told = reconcile.one_shape("sqlite", reconcile.shape_of("3x2x2"), 1)
    assert (told["assignments"], told["looked_at"], told["roles"]) == (12, 12, 6)
    assert told["rows"]["median"] >= 12 // 2  # what we know of ours, at the least


def test_cloud_with_something_wrong_in_it_is_measured(tmp_path: Path) -> None:
    """What has findings costs more than looking, so it is no measurement."""
    shape = reconcile.shape_of("1x1x2")
    world = reconcile.Kept(tmp_path, clock=lateness.Moving(), laws=reconcile.laws_of(shape))
    reconcile.fill(world, shape)
    assert reconcile.one_pass(world, shape)["looked_at"] == 2
    world.clock.forward(minutes=2)
    new = AssignmentKey(
        connector="simulated", account="t000", native_role="r0000", native_principal="new"
    )
    world.cloud.place(new, world.clock())
    with pytest.raises(RuntimeError, match="nothing wrong"):
        reconcile.one_pass(world, shape)
    world.down()
