"""SIGKILL between every pair of steps: each effect of opening and closing is made the last one.

The process dies before or after the n-th thing it does to the world (commit, journal line, cloud
call), for every n; a new process on the same files and the same cloud must come to a clean end. The
oracle is the cloud's own state and the deadline read off the approval, never our rows alone.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import START, World
from tidegate.connectors.port import Answer, Credential
from tidegate.evidence.seal import read_event
from tidegate.flow.expiring import close_now
from tidegate.flow.revoking import end_early
from tidegate.grant import GrantState
from tidegate.store import compare, rebuild

VERBS = ("observe", "grant", "issue", "revoke", "cut", "probe")
MOST_EFFECTS = 40  # far above what one life has; the test ends at the first n that is not reached


class Killed(BaseException):
    """The process is gone: nothing may catch it but the test."""


class Bomb:
    """Goes off at the n-th effect, before it or after it."""

    def __init__(self, world: World, at: int, before: bool) -> None:
        self.left, self.before, self.off = at, before, False
        self._arm(world.house.store, "commit")
        self._arm(world.house.store, "end_due")
        self._arm(world.house.journal, "append")
        for verb in VERBS:
            self._arm(world.connector, verb)

    def _arm(self, thing: object, name: str) -> None:
        real = getattr(thing, name)
        setattr(thing, name, self._wrapped(real)) if not hasattr(type(thing), "__slots__") else None

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self.off:
                raise Killed
            self.left -= 1
            if self.left == 0 and self.before:
                self.off = True
                raise Killed
            result = real(*args, **kwargs)
            if self.left == 0:
                if not isinstance(result, list | tuple) and hasattr(result, "__next__"):
                    result = list(result)
                self.off = True
                raise Killed
            return result

        return wrapped


def live(world: World, keys: list[Credential], early: bool) -> None:
    """One whole life, until the process dies or it is over."""
    request = world.vote(world.ask())
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    keys.append(world.keys(grant))
    if early:
        world.clock.forward(minutes=5)
        close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    world.clock.forward(minutes=30)
    world.work()


def check(world: World, keys: list[Credential]) -> None:
    """Nothing open, nothing orphaned, nothing missing from the evidence."""
    now = world.clock()
    for held in keys:
        assert world.use(held) is Answer.DENIED
    assert world.cloud.alive(now) == ()
    for grant in world.house.store.grants():
        assert grant.state in (GrantState.GONE, GrantState.FAILED), grant
        assert grant.ends_at is None or grant.ends_at <= START + timedelta(minutes=65)
    events = [read_event(leaf) for _, leaf in world.house.store.all_events()]
    assert [event.idx for event in events] == list(range(world.house.store.head().size))
    assert compare(world.house.store) == []
    opened = [event.name for event in events].count("grant.opened")
    gone = [event.name for event in events].count("grant.gone")
    assert opened <= 1
    assert gone <= 1
    rebuild(events)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("early", [False, True], ids=["expired", "early"])
def test_crash_between_any_two_steps_leaves_access(
    tmp_path: Path, before: bool, early: bool
) -> None:
    """Whichever effect is the last one of a process, the next process ends in a clean state."""
    for at in range(1, MOST_EFFECTS):
        directory = tmp_path / f"{at}"
        directory.mkdir()
        world, keys = World(directory), list[Credential]()
        bomb = Bomb(world, at, before)
        with suppress(Killed):
            live(world, keys, early)
        exploded = bomb.off
        world.restart()
        for _ in range(30):
            world.clock.forward(minutes=3)
            world.work()
        check(world, keys)
        world.down()
        if not exploded:
            assert at > 12, "a life has more effects than that"
            return
    pytest.fail("a life never ended")
