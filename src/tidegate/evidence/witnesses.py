"""How publishing checkpoints goes, place by place, and when a place has been silent too long.

`Witnesses` is what a server holds; `witness_trouble` is the rule that `doctor` and the health gate
go by. The moving of texts is in `witness.py`.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from tidegate.base.errors import TidegateError, WorldFailed
from tidegate.base.when import Instant, show_duration
from tidegate.evidence.checkpoint import parse_checkpoint
from tidegate.evidence.note import LONGEST_NOTE
from tidegate.evidence.witness import LATEST, publish_over_http, publish_to_directory

# Checkpoints leave every ten seconds. Five minutes of events that no witness has is as much as
# may be rewritten unseen; less would tell of every restart of the other side.
SILENT = timedelta(minutes=5)
DIRECTORY, URL = "directory", "url"
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
    """

    place: str
    size: int
    at: Instant | None
    since: Instant
    fault: str = ""

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

    `beats` are those of the store: the last successes of the process before this one.
    """

    def __init__(
        self,
        *,
        directory: Path | None,
        url: str,
        started: Instant,
        beats: Mapping[str, tuple[Instant, str]],
    ) -> None:
        self._directory = directory
        self._url = url
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
                fresh = replace(seen, size=size, at=now, fault="")
            except TidegateError as fault:
                fresh = replace(seen, fault=fault.message)
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
            publish_over_http(self._url, note)
        elif self._directory is not None:
            try:
                self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
                publish_to_directory(self._directory, note)
            except OSError as fault:
                raise WorldFailed(
                    "witness_unwritable",
                    f"witness directory: {fault.strerror}",
                    "make room or mend its rights",
                ) from None


def newest_in(directory: Path) -> str | None:
    """The newest checkpoint kept in `directory`, not opened; None when there is none yet.

    Raises:
        WorldFailed: it is there and cannot be read.
    """
    try:
        with (directory / LATEST).open("rb") as file:
            return file.read(LONGEST_NOTE + 1).decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "it is no UTF-8"
        raise WorldFailed(
            "witness_unreadable",
            f"witness directory: cannot read `{LATEST}`: {why}",
            "mend its rights; the checkpoints beside it are copies by size",
        ) from None


def _recalled(place: str, started: Instant, beats: Mapping[str, tuple[Instant, str]]) -> PlaceSeen:
    at, size = beats.get(BEAT + place, (None, "0"))
    known = int(size) if size.isascii() and size.isdigit() else 0
    return PlaceSeen(place=place, size=known, at=at, since=started)
