"""What is known of grants that ended: when their assignment was read gone, and their cut.

A document that names people, not grants, cannot say whether an entry is the cut of this end or of
an earlier one of the same person. So it is written down here, when it happens, by grant. Whoever
does not find a grant here, nor its cut in the hold as sealed, believes nothing and cuts again,
which is always right and ends at most sessions of the same person that are younger. So does
whoever removes an assignment once more: it may have been there again since, with sessions that no
earlier cut refuses, and gone before anybody looked. With a `lock_dir` it is a file, for the other
processes of the machine and for the next start.

Both files and memory hold ids and instants only.
"""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.connectors.one_writer import file_name

# Twice the longest session: afterwards no cut of it can matter.
KEPT = timedelta(hours=24)
_STEP = timedelta(milliseconds=1)  # what the record tells apart
_LAST_MS = 253_402_300_800_000  # the year 10000, which no instant can hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One end, as far as its last removal came. Instants are the cloud's, in whole milliseconds.

    `tried_at`: when that removal was begun, by our clock; it tells one removal of a grant from the
    next, whatever clocks do. `gone_at`: the assignment was read gone after it, None: not yet.
    `before`: the instant of issue up to which its sessions are refused, None: not cut. `spread`:
    the account was given a document with that cut.
    """

    tried_at: Instant
    gone_at: Instant | None = None
    before: Instant | None = None
    spread: bool = False

    @property
    def only_read(self) -> bool:
        """Whether nothing was removed here: it was read gone when its cut was tried, in vain."""
        return self.before is None and self.gone_at is not None and self._is_tried(self.gone_at)

    def gone(self, at: Instant) -> "Ended":
        """Read gone at `at` after a removal of ours: at no instant by which it was only read."""
        return replace(self, gone_at=at + _STEP if self._is_tried(at) else at)

    def _is_tried(self, at: Instant) -> bool:
        return _whole(at) == self.tried_at


class EndedGrants:
    """The record, by grant id. Thread-safe; a record that cannot be written stays in memory."""

    def __init__(self, lock_dir: Path | None) -> None:
        self._path = lock_dir / f"{file_name('identity-center')}.ended" if lock_dir else None
        self._lock = threading.Lock()
        self._memory: dict[str, Ended] = {}
        self._forgotten: dict[str, Instant] = {}

    def of(self, grant: str) -> Ended | None:
        """What is known of a grant's end."""
        with self._lock:
            return self._known().get(grant)

    def forget(self, grant: str) -> None:
        """It is being opened: whatever was known is of something else."""
        with self._lock:
            known = self._known()
            if known.pop(grant, None) is not None:
                self._keep(known)

    def forget_before(self, grant: str, removed_at: Instant) -> None:
        """A removal sealed at `removed_at` may be another process's. Done once for each."""
        with self._lock:
            if self._forgotten.get(grant) == removed_at:
                return
            known = self._known()
            if known.pop(grant, None) is not None:
                self._keep(known)
            kept = {one: at for one, at in self._forgotten.items() if removed_at - at <= KEPT}
            self._forgotten = {**kept, grant: removed_at}

    def begin(self, grant: str, at: Instant) -> Ended:
        """A removal is about to be sent: what came of an earlier one says nothing of this one."""
        return self.note(
            grant, at, lambda ended: Ended(tried_at=max(_whole(at), ended.tried_at + _STEP))
        )

    def note(
        self,
        grant: str,
        at: Instant,
        change: Callable[[Ended], Ended],
        tried_at: Instant | None = None,
    ) -> Ended:
        """Change what is known of one end; `at` is the cloud's clock now.

        With `tried_at` only what is known of the removal begun then: a later one stays as it is.
        """
        with self._lock:
            known = self._known()
            before = known.get(grant, Ended(tried_at=_whole(at)))
            if tried_at is not None and before.tried_at != tried_at:
                return before
            after = change(before)
            if after != before or grant not in known:
                known[grant] = after
                self._keep({name: one for name, one in known.items() if at - one.tried_at <= KEPT})
            return after

    def not_spread(self, grants: tuple[str, ...]) -> None:
        """The document was without their cut for a while: what accounts have is not known."""
        with self._lock:
            known = self._known()
            for grant in grants:
                if grant in known:
                    known[grant] = replace(known[grant], spread=False)
            self._keep(known)

    def _known(self) -> dict[str, Ended]:
        shared = self._shared()
        ours = {
            grant: _both(one, shared[grant]) if grant in shared else one
            for grant, one in self._memory.items()
        }
        return {**shared, **ours}

    def _keep(self, known: dict[str, Ended]) -> None:
        self._memory = known
        if self._path is None:
            return
        beside = self._path.with_suffix(f".{os.getpid()}.new")
        try:
            descriptor = os.open(
                beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(record(known))
            beside.replace(self._path)
        except OSError:
            return

    def _shared(self) -> dict[str, Ended]:
        if self._path is None:
            return {}
        try:
            return parse_record(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}


def record(known: dict[str, Ended]) -> str:
    """The text of the shared record."""
    return json.dumps(
        {
            grant: [to_ms(one.tried_at), _ms(one.gone_at), _ms(one.before), one.spread]
            for grant, one in known.items()
        }
    )


def parse_record(text: str) -> dict[str, Ended]:
    """What `record` wrote. Raises ValueError for anything else."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, got {type(found).__name__}")
    return {grant: _parse(one) for grant, one in found.items()}


def _both(ours: Ended, shared: Ended) -> Ended:
    """The later removal; two processes at one: each wrote down what was true."""
    if ours.tried_at != shared.tried_at:
        return max(ours, shared, key=lambda one: one.tried_at)
    return Ended(
        tried_at=ours.tried_at,
        gone_at=max((at for at in (ours.gone_at, shared.gone_at) if at), default=None),
        before=max((at for at in (ours.before, shared.before) if at), default=None),
        spread=shared.spread,
    )


def _parse(one: object) -> Ended:
    match one:
        case [tried, gone, before, bool(spread)]:
            at = _instant(tried)
            if at is not None:
                return Ended(
                    tried_at=at, gone_at=_instant(gone), before=_instant(before), spread=spread
                )
    raise ValueError("expected three instants and a truth value")


def _whole(at: Instant) -> Instant:
    return from_ms(to_ms(at))


def _ms(at: Instant | None) -> int | None:
    return None if at is None else to_ms(at)


def _instant(ms: object) -> Instant | None:
    if ms is None:
        return None
    if isinstance(ms, bool) or not isinstance(ms, int) or not 0 <= ms < _LAST_MS:
        raise ValueError("expected milliseconds")
    return from_ms(ms)
