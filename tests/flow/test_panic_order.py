"""In which order a panic ends what it means."""

from datetime import timedelta

import pytest

from tests.support import World
from tidegate.evidence.seal import read_event
from tidegate.flow.panicking import call_panic, sweep
from tidegate.panic import Scope, ScopeKind


@pytest.mark.parametrize("minutes", [(10, 20), (20, 10)])
def test_panic_ends_the_harmless_first(world: World, minutes: tuple[int, int]) -> None:
    """The worst ends first, whatever was opened first; of two that are alike, the later end."""
    grants = [
        world.granted(login, duration=timedelta(minutes=length))
        for login, length in zip(("ana", "eve"), minutes, strict=True)
    ]
    sweep(world.house, call_panic(world.house, world.who("op"), Scope(ScopeKind.ALL), "", None))
    began = {}
    for grant, length in zip(grants, minutes, strict=True):
        for at, leaf in world.house.store.events(grant.request):
            if read_event(leaf).name == "grant.closing":
                began[at] = length
    assert [began[at] for at in sorted(began)] == [20, 10]
