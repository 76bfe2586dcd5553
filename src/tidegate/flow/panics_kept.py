"""Panics that were called and could not be sealed: kept until they are, also over a crash.

Until then nothing opens in their scope (`flow/stopping.py`), and `panicking.resume` seals them as
soon as the evidence can be written. Without a file they are kept in memory alone.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from tidegate.base.errors import TidegateError, WorldFailed
from tidegate.base.ids import PRINCIPAL, id_kind
from tidegate.base.text import LONGEST_REASON
from tidegate.base.when import Instant, from_ms, parse_instant, whole_seconds, wire
from tidegate.evidence.panic_file import MOST_KEPT, PanicFile, Plain
from tidegate.panic import Panic, PanicState, Scope, ScopeKind

log = structlog.get_logger("tidegate.panics_kept")

UNSET = from_ms(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A panic as it was asked for: by whom, from where, why, and what stays shut how long.

    `id` is the one it is sealed under, so that it is sealed once whoever does it; `at` is when it
    was called. Both are set where it is kept.
    """

    scope: Scope
    by: str
    via: str
    reason: str = ""
    freeze: timedelta | None = None
    id: str = ""
    at: Instant = UNSET

    @property
    def names_a_login(self) -> bool:
        """Whether it names a person in words that only the database can make an id of."""
        return self.scope.kind is ScopeKind.PRINCIPAL and id_kind(self.scope.name) != PRINCIPAL

    def covers(self, principal: str, role: str) -> bool:
        """Whether it keeps this access shut. Of a person nobody has looked up yet: everybody's."""
        return self.names_a_login or self.scope.covers(principal, role)

    def as_panic(self) -> Panic:
        """As it will be once it is sealed: called, and not swept."""
        return Panic(
            id=self.id,
            state=PanicState.CALLED,
            kind=self.scope.kind,
            name=self.scope.name,
            actor=self.by,
            via=self.via,
            reason="",
            called_at=self.at,
            frozen_until=None,
            lifted_at=None,
            grants=0,
            requests=0,
            version=0,
        )


# A file that cannot be read may hold anything: nothing opens anywhere. It has no id: never sealed.
UNREADABLE = Wanted(scope=Scope(ScopeKind.ALL), by="", via="")


class PanicsKept:
    """Thread-safe. `file` is where they outlive the process, if there is such a place."""

    def __init__(self, file: PanicFile | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._kept: dict[str, Wanted] = {}  # what is in no file: there is none, or it is full

    def __bool__(self) -> bool:
        """Whether any waits to be sealed."""
        return bool(self.all())

    def all(self) -> tuple[Wanted, ...]:
        """Every panic that waits, oldest first; UNREADABLE in place of a file that is broken."""
        with self._lock:
            here = dict(self._kept)
        if self._file is not None:
            try:
                here = {one.id: one for one in map(_wanted, self._file.read())} | here
            except (OSError, TidegateError, LookupError, ValueError, TypeError) as fault:
                log.error("panics that wait cannot be read", why=_why(fault))
                return (UNREADABLE, *here.values())
        return tuple(here.values())

    def keep(self, wanted: Wanted, id: str, now: Instant) -> bool:
        """Keep it, once however often it is called; False when it would not outlive this process.

        It is then kept in memory all the same, and that is logged. One that has an `id` is sealed
        under that already, and the same only as one of that id.
        """
        known = [
            one
            for one in self.all()
            if replace(one, id=one.id if wanted.id else "", at=wanted.at) == wanted
        ]
        if known:
            return known[0].id not in self._kept
        kept = replace(wanted, id=id, at=now, reason=wanted.reason[:LONGEST_REASON])
        try:
            if self._file is None:
                raise WorldFailed("no_file", "there is no file for it", "")
            self._file.change(lambda before: _with(before, kept))
            return True
        except (OSError, WorldFailed) as fault:
            if self._file is not None:
                log.error("a panic is kept in memory alone", panic=id, why=_why(fault))
            with self._lock:
                self._kept[id] = kept
            return False

    def drop(self, id: str) -> None:
        """It is sealed, or nobody knows whom it means. Raises OSError, WorldFailed."""
        with self._lock:
            self._kept.pop(id, None)
        if self._file is not None and any(one["id"] == id for one in self._file.read()):
            self._file.change(lambda before: [one for one in before if one["id"] != id])


def _with(before: Sequence[Plain], kept: Wanted) -> list[Plain]:
    if len(before) >= MOST_KEPT:
        raise WorldFailed("panics_full", f"expected at most {MOST_KEPT} panics to wait", "")
    return [*before, _plain(kept)]


def _plain(wanted: Wanted) -> Plain:
    return {
        "at": wire(wanted.at),
        "by": wanted.by,
        "freeze_seconds": None if wanted.freeze is None else whole_seconds(wanted.freeze),
        "id": wanted.id,
        "name": wanted.scope.name,
        "reason": wanted.reason,
        "scope": wanted.scope.kind.value,
        "via": wanted.via,
    }


def _wanted(plain: Plain) -> Wanted:
    seconds = plain["freeze_seconds"]
    return Wanted(
        scope=Scope(ScopeKind(str(plain["scope"])), str(plain["name"])),
        by=str(plain["by"]),
        via=str(plain["via"]),
        reason=str(plain["reason"]),
        freeze=None if seconds is None else timedelta(seconds=int(str(seconds))),
        id=str(plain["id"]),
        at=parse_instant(str(plain["at"])),
    )


def _why(fault: Exception) -> str:
    return fault.message if isinstance(fault, TidegateError) else str(fault)
