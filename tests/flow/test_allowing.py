"""What is refused to whoever can see it: each refusal says who may do just that."""

from collections.abc import Callable

import pytest

from tests.support import World
from tidegate.approve import Choice
from tidegate.base.errors import NotAllowed
from tidegate.flow.allowing import Verb, allow
from tidegate.flow.asking import take_back
from tidegate.flow.revoking import end_early
from tidegate.request import Request

ACTS: dict[str, Callable[[World, Request], object]] = {
    "withdraw": lambda world, asked: take_back(world.house, world.who("bo"), asked.id),
    "change": lambda world, asked: allow(world.house, world.who("bo"), Verb.EDIT, asked),
    "give back": lambda world, asked: allow(world.house, world.who("bo"), Verb.DONE, asked),
}


@pytest.mark.parametrize("deed", ACTS)
def test_refusal_that_names_the_wrong_way(world: World, deed: str) -> None:
    """An approver who tries what is its owner's is told so, not who can revoke it."""
    with pytest.raises(NotAllowed) as caught:
        ACTS[deed](world, world.ask())
    verb, *more = deed.split()
    assert caught.value.message.endswith(f"is not yours to {deed}")
    assert caught.value.help.startswith(f"only its owner can {' '.join([verb, 'it', *more])}; ")


def test_use_by_an_approver(world: World) -> None:
    """Who voted for a grant cannot use it, and who only audits it cannot end it."""
    grant = world.granted()
    with pytest.raises(NotAllowed, match="not yours to use") as caught:
        world.keys(grant, "bo")
    assert caught.value.help.startswith("only its owner can use it")
    with pytest.raises(NotAllowed, match="not yours to revoke") as caught:
        end_early(world.house, world.who("audit"), grant.id)
    assert caught.value.help.endswith("or an operator can revoke it")


def test_vote_by_somebody_in_no_group_is_shown_the_way(world: World) -> None:
    """Who sees a request and is no approver of it is told where their own votes are wanted."""
    with pytest.raises(NotAllowed) as caught:
        world.vote(world.ask(), "audit", Choice.APPROVE)
    assert "`tidegate requests --waiting`" in caught.value.help
