"""Before the end: its holder is warned once for each, and a grace is in it from the start."""

from datetime import timedelta

import pytest

from tests.flow.test_extending import extended
from tests.support import RULES, START, World, laws, misshape
from tidegate.base.errors import NotAllowed
from tidegate.connectors.port import Answer
from tidegate.flow.extending import warn_due
from tidegate.flow.governing import put_in_force
from tidegate.grant import Grant, GrantState
from tidegate.store.rebuild import compare

MINUTE = timedelta(minutes=1)
GRACE = RULES.replace('@id("admin")', '@id("admin") @grace("5m")')


def told(world: World, grant: Grant) -> list[str]:
    """The windows' ends its holder was told of, oldest first."""
    found = world.house.store.notices(audience=grant.principal)
    return [notice.payload["window_ends_at"][11:19] for notice, _ in reversed(found)]


def test_end_that_comes_without_a_word(world: World) -> None:
    """Ten minutes before it, to the millisecond, and once; a later end is warned of anew."""
    grant = world.granted()
    world.clock.at = START + 20 * MINUTE - timedelta(milliseconds=1)
    assert warn_due(world.house) == 0
    world.clock.forward(milliseconds=1)
    assert (warn_due(world.house), warn_due(world.house)) == (1, 0)
    assert told(world, grant) == ["09:30:00"]
    world.house.store.beat("worker", world.clock(), "")
    extended(world, world.grant(grant))
    assert warn_due(world.house) == 0
    world.clock.at = START + 50 * MINUTE
    assert warn_due(world.house) == 1
    assert told(world, grant) == ["09:30:00", "10:00:00"]
    assert compare(world.house.store) == []


def test_short_window_warned_of_as_it_opens(world: World) -> None:
    """A window shorter than twice the warning is warned of at its half."""
    world.granted(duration=6 * MINUTE)
    world.clock.forward(minutes=3, milliseconds=-1)
    assert warn_due(world.house) == 0
    world.clock.forward(milliseconds=1)
    assert warn_due(world.house) == 1


def test_row_nobody_can_read_keeps_the_others_unwarned(world: World) -> None:
    """One holder cannot be warned; whoever comes after them is."""
    broken, other = world.granted(), world.granted("eve")
    misshape(world, broken.id, "opened_at_ms")
    world.clock.forward(minutes=25)
    assert warn_due(world.house) == 1
    assert told(world, other) == ["09:30:00"]


def test_grace_that_nobody_approved(world: World) -> None:
    """The sealed end is window and grace; the credential carries it, and none is issued in it."""
    put_in_force(world.house, laws(GRACE))
    grant = world.granted()
    assert grant.window_ends_at == START + 30 * MINUTE
    assert grant.ends_at == START + 35 * MINUTE
    keys = world.keys(grant)
    world.clock.forward(minutes=30)
    world.work()
    with pytest.raises(NotAllowed):
        world.keys(grant)
    assert world.use(keys) is Answer.ALLOWED
    assert world.grant(grant).state is GrantState.OPEN
    world.clock.forward(minutes=5, milliseconds=-1)
    assert world.use(keys) is Answer.ALLOWED
    world.clock.forward(milliseconds=1)
    assert world.use(keys) is Answer.DENIED
    world.work()
    assert world.grant(grant).state is GrantState.GONE
    assert compare(world.house.store) == []


def test_grace_given_after_the_vote(world: World) -> None:
    """A grace that came into force after the votes does not make the end later than approved."""
    request = world.vote(world.ask())
    put_in_force(world.house, laws(GRACE))
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.ends_at == START + 30 * MINUTE


def test_digest_without_the_grace(world: World) -> None:
    """What an approver names covers the grace: with it the digest has another form."""
    plain = world.ask()
    put_in_force(world.house, laws(GRACE))
    graced = world.ask()
    assert (plain.terms.items[0].grace, graced.terms.items[0].grace) == (0 * MINUTE, 5 * MINUTE)
    assert plain.digest != graced.digest
