"""`python -m sim`."""

import logging
import sys
import time
import traceback
from random import Random

import structlog

from sim.points import planned
from sim.world import World, installed

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

for n in range(int(sys.argv[1]), int(sys.argv[2])):
    t = time.time()
    seed = f"1/{n}"
    world = World(seed, int(sys.argv[3]), planned(Random(seed), n))
    installed(world.loop)
    if len(sys.argv) > 5:
        import sim.loop

        world.loop.told = __import__("collections").deque(maxlen=100000)
    world.run()
    o = world.oracle
    print(
        n,
        "log",
        world.head[:8],
        "%.1fs" % (time.time() - t),
        len(o.lives),
        "lives",
        dict(o.uses),
        len(world.plan.chances),
        dict(world.plan.hits) if len(sys.argv) > 4 else "",
    )
    for v in o.violations[:5]:
        print("   ", v)
    if len(sys.argv) > 5:
        for at, words in world.loop.told:
            if sys.argv[5] in words or "VIOL" in words:
                print("    ", at, words[:200])
    for name, bug in world.loop.bugs[:1]:
        traceback.print_exception(bug)
