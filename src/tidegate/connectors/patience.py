"""How long one verb may take: after that it ends as `Unknown`, between two calls of its own.

A verb that follows a change, provisions accounts and reads back is many calls, each with a time-out
of its own; a cloud that answers every one of them late could keep a hand for minutes. Verbs that
look after whole scopes are not bounded by this: `mend`, `discover`, `health`, `administrators`,
`observe` of a scope.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

from tidegate.base.errors import Unknown

# An end is `revoke`, `cut`, `observe`: three times this and the last call's own time-outs (15 s)
# fit into the two minutes for which the worker leases a grant.
VERB = timedelta(seconds=24)

_until: ContextVar[float | None] = ContextVar("tidegate_verb_until", default=None)


@contextmanager
def one_verb(monotonic: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """The block is one verb, or a part of the verb that is under way in this thread."""
    if _until.get() is not None:
        yield
        return
    token = _until.set(monotonic() + VERB.total_seconds())
    try:
        yield
    finally:
        _until.reset(token)


def go_on(what: str, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Before each call `what` of a verb. Raises Unknown `took_long` when its time is over."""
    until = _until.get()
    if until is not None and monotonic() >= until:
        raise Unknown(
            "took_long",
            f"expected one change in the cloud to take at most {VERB.total_seconds():g} s, "
            f"got no end of it before `{what}`",
            "it is read back and tried again; look whether the cloud or the way to it is slow",
        )
