"""One grant's keys in memory: fresh while it is open, gone when it is over.

Callers may come at every call they make (botocore does in the last 15 minutes), from many threads,
and give up after two seconds. So an answer is from memory unless something must be asked, and while
one thread asks, the others go on with keys that still work.
"""

import threading
from collections.abc import Callable
from datetime import timedelta

from tidegate.base.errors import (
    AskedWrongly,
    NotAllowed,
    NotSignedIn,
    TidegateError,
    WorldFailed,
)
from tidegate.base.when import Instant, wire
from tidegate.broker.material import WARN_BEFORE, Material, ended

REFRESH_AHEAD = timedelta(minutes=5)  # before the cloud's expiry: a long upload still signs in time
LOOK_EVERY = timedelta(seconds=30)  # while keys are asked for: how soon an extension is noticed
LOOK_AGAIN = timedelta(seconds=5)  # after the end, or after no answer: callers retry each second
# Before keys stop it is asked more often, so that a call signed with them still arrives in time.
LAST_LOOKS, LAST_LOOKS_EVERY = timedelta(seconds=5), timedelta(seconds=1)


class Holding:
    """The current material of `grant`.

    `fetch` mints a session (`POST …/credentials`); `look` reads the grant's end without minting and
    raises NotAllowed or AskedWrongly when the grant is over. Either may raise WorldFailed when
    nothing is known. `clock` is the only time it knows. `warn_before` is how long before the
    window's end `warning` has something to say.
    """

    def __init__(
        self,
        *,
        grant: str,
        fetch: Callable[[], Material],
        look: Callable[[], Instant],
        clock: Callable[[], Instant],
        warn_before: timedelta = WARN_BEFORE,
    ) -> None:
        self.grant = grant
        self._fetch = fetch
        self._look = look
        self._clock = clock
        self._asking = threading.Lock()
        self._material: Material | None = None
        # Both are known from the first fetch on, and moved only by the thread that asks.
        self._ends_at: Instant | None = None
        self._look_at: Instant | None = None
        self._refused_from: Instant | None = None  # new keys of `_minted_for` are refused from here
        self._minted_for: Instant | None = None
        self._told: TidegateError | None = None
        self._final = False
        self.warn_before = warn_before  # whoever looks may learn another: it moves with the end
        self._warned_of: Instant | None = None

    def take(self) -> Material:
        """Keys that work now. Mints at most one session for any number of concurrent callers.

        Raises:
            NotAllowed, AskedWrongly: the grant is over; the message names it and the end.
            WorldFailed: the server cannot be asked and no keys at hand work any more.
        """
        now = self._clock()
        at_hand = self._usable(now)
        if at_hand and not self._due(now):
            return at_hand
        if not self._asking.acquire(blocking=at_hand is None):
            # Another thread is asking for all of us, for as long as the server's time-out; and
            # it was not waited for because there are keys that still work.
            assert at_hand is not None
            return at_hand
        try:
            return self._asked(self._clock())
        finally:
            self._asking.release()

    def wipe(self) -> None:
        """Drop the keys. What Python already copied elsewhere in memory cannot be overwritten."""
        self._material = None

    def wipe_if_over(self) -> None:
        """Drop the keys when their time has passed, asking nobody: for whoever keeps watch."""
        if self._usable(self._clock()) is None:
            self.wipe()

    def warning(self) -> str:
        """One line for the holder when the end comes near, once for each end; else empty.

        For whoever keeps watch. Looks first whether the end moved while nobody asked for keys.
        """
        if not self._near(self._clock()) or not self._asking.acquire(blocking=False):
            return ""
        try:
            self._ends_at = self._look()
            if not self._near(self._clock()) or self._ends_at is None:
                return ""
        except TidegateError:
            return ""  # it has ended, or nothing is known: whoever asks for keys is told
        finally:
            self._asking.release()
        self._warned_of = self._ends_at
        window, grace = self._window(), self._grace()
        finish = f"; running work may finish until {wire(self._ends_at)}" if grace else ""
        more = f"more time: tidegate extend {self.grant} --for 30m --reason '…'"
        return f"access under {self.grant} ends at {wire(window or self._ends_at)}{finish}; {more}"

    def _near(self, now: Instant) -> bool:
        window = self._window()
        if window is None or self._ends_at == self._warned_of:
            return False
        return window - self.warn_before <= now < window

    def _grace(self) -> timedelta:
        return self._material.grace if self._material else timedelta(0)

    def _window(self) -> Instant | None:
        return None if self._ends_at is None else self._ends_at - self._grace()

    def _asked(self, now: Instant) -> Material:
        """What `take` does once alone, which is nothing if another thread has just done it."""
        material = self._usable(now)
        if self._final or not self._due(now):
            return self._or_told(material)
        try:
            self._renew(material, now)
        except (WorldFailed, NotSignedIn) as unknown:
            self._look_at = now + LOOK_AGAIN
            self._told = _without_traceback(unknown)
        except (NotAllowed, AskedWrongly) as refusal:
            self.wipe()
            self._told, self._final = _without_traceback(refusal), True
        return self._or_told(self._usable(now))

    def _or_told(self, material: Material | None) -> Material:
        if material:
            return material
        self.wipe()
        if self._told is None:
            raise RuntimeError("no keys, and nobody said why")
        raise _without_traceback(self._told)

    def _renew(self, material: Material | None, now: Instant) -> None:
        """Ask where the end is now, and mint when that buys time. The first time: mint."""
        if self._ends_at is not None:
            self._ends_at = self._look()
            self._told = ended(self.grant, self._ends_at)
            self._look_at = now + LOOK_AGAIN
            if now >= self._ends_at:
                return
            if self._ends_at == self._minted_for and self._refused(now):
                # The cloud counts whole seconds: the rest of the last one buys nothing.
                self._look_at = min(self._look_at, self._ends_at)
                return
        if material is None or self._dying(material, now):
            material = self._fetch()
            self._ends_at = material.ends_at
            self._told = ended(self.grant, material.ends_at)
            self._material = material
            self._minted_for, self._refused_from = material.ends_at, material.bound_until
        self._look_at = _next_look(now, material.usable_until)

    def _refused(self, now: Instant) -> bool:
        return self._refused_from is not None and now >= self._refused_from

    def _usable(self, now: Instant) -> Material | None:
        material = self._material
        return material if material and now < material.usable_until else None

    def _due(self, now: Instant) -> bool:
        return self._look_at is None or now >= self._look_at

    def _dying(self, material: Material, now: Instant) -> bool:
        """Whether these keys stop soon and new ones would not: they run out, or the end moved."""
        lasts = min(material.expires_at, material.bound_until)
        window = self._window()
        if window is not None and now >= window:
            return False  # nothing is minted in a grace: these are used to the last
        return self._ends_at is not None and lasts < self._ends_at and now >= lasts - REFRESH_AHEAD


def _next_look(now: Instant, stop: Instant) -> Instant:
    """When to look again with keys that stop at `stop`: a later end is known before that."""
    last = stop - LAST_LOOKS
    if now < last:
        return min(now + LOOK_EVERY, last)
    return min(now + LAST_LOOKS_EVERY, stop)


def _without_traceback(told: TidegateError) -> TidegateError:
    """`told` anew: its traceback would keep the frames that hold the keys, and grow each time."""
    return type(told)(told.code, told.message, told.help)
