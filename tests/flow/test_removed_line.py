"""What a `removed` line says of an end is the same whoever writes it, and what it was."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.flow.assigned import KEY
from tests.support import START, World
from tidegate.connectors.port import Answer
from tidegate.evidence.journal_line import removed_line
from tidegate.flow.mending import mend_cuts
from tidegate.flow.recovering import close_without_store


def test_cut_made_without_the_database_is_guessed_at_when_it_is_put_back(assigned: World) -> None:
    """Somebody takes it away before the end is sealed: it is the instant that was read back."""
    world = assigned
    grant = world.granted()
    world.clock.forward(minutes=20)
    taken = world.cloud.sign_in(KEY, world.clock())
    world.clock.forward(minutes=11)
    assert close_without_store(world.house) == [grant.id]
    before = world.cloud.cut_before(KEY, world.clock())
    world.clock.forward(minutes=1)
    world.cloud._cuts.clear()
    assert mend_cuts(world.house) == [grant.id]
    assert world.cloud.cut_before(KEY, world.clock()) == before
    assert world.use(taken) is Answer.DENIED


INSTANTS = st.one_of(st.none(), st.integers(0, 10**6).map(lambda s: START + timedelta(seconds=s)))


@given(INSTANTS, INSTANTS, INSTANTS, st.booleans(), st.booleans(), st.booleans())
def test_removed_line_says_something_else_than_what_was_seen(
    cloud_at: object, before: object, until: object, uncut: bool, held: bool, alone: bool
) -> None:
    """Whatever is given is read again; until when others hold it is said of what is held alone."""
    line = removed_line(
        "gr_1",
        START,
        cloud_at=cloud_at,  # type: ignore[arg-type]
        cut_before=before,  # type: ignore[arg-type]
        uncut=uncut,
        held=held,
        held_until=until,  # type: ignore[arg-type]
        alone=alone,
    )
    assert (line.kind, line.grant, line.at) == ("removed", "gr_1", START)
    assert (line.uncut, line.held, line.alone) == (uncut, held, alone)
    assert line.held_until == (until if held else None)
    assert line.cut_before == before
    assert ("cloud_at" in line.data) is (cloud_at is not None)
