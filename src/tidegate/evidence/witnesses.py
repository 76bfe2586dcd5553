"""How publishing checkpoints goes, place by place, and when a place has been silent too long.

`Witnesses` is what a server holds; `witness_trouble` is the rule that `doctor` and the health gate
go by. The moving of texts is in `witness.py`.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from tidegate.base.errors import EvidenceBroken, TidegateError, WorldFailed
from tidegate.base.when import Instant, show_duration
from tidegate.evidence.checkpoint import parse_checkpoint
from tidegate.evidence.mounted import check_mounted
from tidegate.evidence.witness import (
    LATEST,
    MOST_KEPT,
    Contradicts,
    last_kept,
    publish_over_http,
    publish_to_directory,
    recall,
    refuse_fork,
    remember,
    thin,
)

# Checkpoints leave every ten seconds. Five minutes of events that no witness has is as much as
# may be rewritten unseen; less would tell of every restart of the other side.
SILENT = timedelta(minutes=5)
DIRECTORY, URL = "directory", "url"
THIN_EVERY = 500  # checkpoints brought to a directory: an hour and more of a log that never rests
BEAT = "witness "  # and the place: how its last success is kept beside other signs of life


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceSeen:
    """One place checkpoints are published to.

    Attributes:
        place: `directory` or `url`, as in `[witness]`.
        size: how many events the newest checkpoint covers that it took; 0 before the first.
        at: when it was last known to have the log's newest checkpoint; None before the first.
        since: from when on it is looked after: silence before that is nobody's.
        fault: why the last try failed; empty when it went well.
        forked: how what it has contradicts the log; empty when it does not. It holds until the
            place was seen to fit again.
    """

    place: str
    size: int
    at: Instant | None
    since: Instant
    fault: str = ""
    forked: str = ""

    def silent_for(self, size: int, now: Instant) -> timedelta | None:
        """For how long it has lacked what a log of `size` events has grown by; None: it has all."""
        return None if size <= self.size else now - (self.at or self.since)


def witness_trouble(places: Sequence[PlaceSeen], size: int, now: Instant) -> str | None:
    """Which place has been silent for more than SILENT while the log grew to `size` events.

    One sentence without a full stop, for a finding or a refusal; None when all is well, or when no
    place is configured, which is a finding of its own and no silence.
    """
    for seen in places:
        silent = seen.silent_for(size, now)
        if silent is not None and silent > SILENT:
            since = f"has had no new checkpoint for {show_duration(silent)}"
            why = f": {seen.fault}" if seen.fault else ""
            return f"witness {seen.place} {since}, {size - seen.size} events behind{why}"
    return None


class Witnesses:
    """The places of an installation. Safe to call from any thread.

    `beats` are those of the store: the last successes of the process before this one. `memory` is a
    directory on this machine where the last checkpoint an address took is kept; `contradicts` is
    asked of what a place has before anything newer is brought to it. `most`: see `witness.thin`.
    """

    def __init__(
        self,
        *,
        directory: Path | None,
        url: str,
        memory: Path,
        contradicts: Contradicts,
        started: Instant,
        beats: Mapping[str, tuple[Instant, str]],
        most: int = MOST_KEPT,
    ) -> None:
        self._most = most
        self._brought = 0
        self._directory = directory
        self._url = url
        self._memory = memory
        self._contradicts = contradicts
        self._lock = threading.Lock()
        names = [DIRECTORY] if directory else []
        names += [URL] if url else []
        self._seen = {name: _recalled(name, started, beats) for name in names}
        # Tried by this process: what was taken before it may have been lost over there.
        self._tried: set[str] = set()

    @property
    def configured(self) -> bool:
        """Whether there is any place outside."""
        return bool(self._seen)

    def seen(self) -> tuple[PlaceSeen, ...]:
        """Every place as it is now."""
        with self._lock:
            return tuple(self._seen.values())

    def trouble(self, size: int, now: Instant) -> str | None:
        """`witness_trouble` of these places. For the health gate: asks nobody, waits for none."""
        return witness_trouble(self.seen(), size, now)

    def forked(self) -> str | None:
        """Which place has a checkpoint that the log contradicts, in one sentence; None: none has.

        For the health gate: asks nobody, waits for none.
        """
        for seen in self.seen():
            if seen.forked:
                return f"witness {seen.place}: {seen.forked}"
        return None

    def check(self) -> None:
        """Hold the log against what every place has, as far as that is kept on this machine.

        To be called before anything may open. What cannot be read is told by the next `publish`.
        """
        for seen in self.seen():
            try:
                kept = self._kept(seen.place)
                said = self._contradicts(kept) if kept is not None else ""
            except EvidenceBroken as fault:
                said = fault.message
            except WorldFailed:
                continue
            with self._lock:
                self._seen[seen.place] = replace(seen, forked=said)

    def publish(self, note: str, now: Instant) -> None:
        """Bring the checkpoint `note` to every place that lacks it, each tried for itself.

        Raises:
            WorldFailed, EvidenceBroken: the first that failed, after all were tried; it is kept as
                the place's `fault` too. `beats` tells the successes, also then.
        """
        size = parse_checkpoint(note).size
        if not size:
            return
        first: TidegateError | None = None
        for seen in self.seen():
            try:
                if seen.size != size or seen.fault or seen.place not in self._tried:
                    self._bring(seen.place, note)
                    self._tried.add(seen.place)
                fresh = replace(seen, size=size, at=now, fault="", forked="")
            except TidegateError as fault:
                forked = isinstance(fault, EvidenceBroken)
                fresh = replace(
                    seen, fault=fault.message, forked=fault.message if forked else seen.forked
                )
                first = first or fault
            with self._lock:
                self._seen[seen.place] = fresh
        if first is not None:
            raise first

    def beats(self) -> dict[str, tuple[Instant, str]]:
        """The last success of every place, to be kept for the next process: (instant, size)."""
        return {BEAT + one.place: (one.at, str(one.size)) for one in self.seen() if one.at}

    def latest(self) -> str | None:
        """The newest checkpoint kept in the directory, not opened; None when there is none yet.

        Raises:
            WorldFailed: it is there and cannot be read.
        """
        return None if self._directory is None else newest_in(self._directory)

    def _bring(self, place: str, note: str) -> None:
        if place == URL:
            kept = self._kept(place)
            if kept is not None:
                refuse_fork(self._memory, note, self._contradicts(kept))
            publish_over_http(self._url, note)
            if kept is None or parse_checkpoint(kept).size <= parse_checkpoint(note).size:
                with _told(f"memory of the witness `{self._memory}`"):
                    remember(self._memory, self._url, note)
        elif self._directory is not None:
            with _told(f"witness directory `{self._directory}`"):
                # One that is not there is a disk that is away: no other is made in its place.
                check_mounted(self._directory)
                publish_to_directory(self._directory, note, self._contradicts)
            if self._brought % THIN_EVERY == 0:
                thin(self._directory, self._contradicts, self._most)
            self._brought += 1

    def _kept(self, place: str) -> str | None:
        """The last checkpoint a place took. Raises WorldFailed, EvidenceBroken."""
        if place == URL:
            with _told(f"memory of the witness `{self._memory}`"):
                check_mounted(self._memory.parent)  # the journal's own: no other is made of it
                return recall(self._memory, self._url)
        if self._directory is not None:
            with _told(f"witness directory `{self._directory}`"):
                check_mounted(self._directory)  # else what it contradicted before were forgiven
        return self.latest()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """A file that cannot be used, in our words."""
    try:
        yield
    except OSError as fault:
        raise WorldFailed(
            "witness_unwritable",
            f"{what}: {fault.strerror}",
            "mount it (a new place is a directory made by hand), make room, or mend its rights",
        ) from None


def newest_in(directory: Path) -> str | None:
    """The newest checkpoint kept in `directory`, not opened; None when there is none yet.

    Raises:
        WorldFailed: it is there and cannot be read.
    """
    try:
        return last_kept(directory)
    except (OSError, EvidenceBroken) as fault:
        why = fault.strerror if isinstance(fault, OSError) else fault.message
        raise WorldFailed(
            "witness_unreadable",
            f"witness directory: cannot read `{LATEST}`: {why}",
            "mend its rights; the checkpoints beside it are copies by size",
        ) from None


def _recalled(place: str, started: Instant, beats: Mapping[str, tuple[Instant, str]]) -> PlaceSeen:
    at, size = beats.get(BEAT + place, (None, "0"))
    known = int(size) if size.isascii() and size.isdigit() else 0
    return PlaceSeen(place=place, size=known, at=at, since=started)
