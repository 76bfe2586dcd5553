"""Whole lives a second: ask, vote, open, issue, close, prove, with the production code on a real
SQLite file and the simulated cloud. One JSON object on standard output.
"""

import json
import tempfile
import time
from pathlib import Path

from tests.support import World

from tidegate.grant import GrantState

LIVES = 150


def measure(lives: int = LIVES) -> dict[str, object]:
    """Run `lives` lives and count what came of them."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        began = time.perf_counter()
        for _ in range(lives):
            world.vote(world.ask())
        world.work()
        for grant in world.house.store.grants(limit=lives):
            world.keys(grant)
        world.clock.forward(minutes=31)
        world.work(ticks=lives)
        seconds = time.perf_counter() - began
        gone = sum(g.state is GrantState.GONE for g in world.house.store.grants(limit=lives))
        events = world.house.store.head().size
        world.down()
    return {
        "lives": lives,
        "gone": gone,
        "events": events,
        "seconds": round(seconds, 3),
        "lifecycles_per_second": round(gone / seconds, 1),
    }


if __name__ == "__main__":
    print(json.dumps(measure()))
