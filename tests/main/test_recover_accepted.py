"""recover by our journal and the log: access that came back and that an operator signed for."""

from tests.flow.assigned import settle
from tests.flow.test_opening_upon_ours import taken_up_again, world
from tests.flow.test_reconciling import look
from tests.main.test_recover_known import by_both, fates, gives
from tests.support import World
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.flow.recalling import Fate
from tidegate.grant import GrantState

__all__ = ["world"]


def test_accepted_return_is_taken_by_recover(world: World) -> None:
    """Its holder's earlier end is taken up again, and nobody has looked yet: what an operator
    signed for stands until that is over, whatever our journal wrote before it came back.
    """
    first = taken_up_again(world)
    assert (first.state, fates(by_both(world))[first.id]) == (GrantState.CLOSING, Fate.HELD)
    assert gives(world)


def test_accepted_return_outlives_its_sign_off_by_recover(world: World) -> None:
    """The server began to close it once more, which the cloud refused, and died: it is ours to
    take, by what our journal wrote then.
    """
    first = taken_up_again(world)
    settle(world, 1)
    look(world, 2)
    world.clock.forward(minutes=30)
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="revoke", count=1_000))
    look(world)
    assert gives(world)
    world.connector.calm()
    assert fates(by_both(world))[first.id] is Fate.REMOVED
    assert not gives(world)
