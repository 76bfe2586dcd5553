"""One line of a closing journal."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import Instant, parse_instant, wire

# In the data of a `removed` line: it was done without the database, so nothing else tells of it.
ALONE = "alone"
HELD = "held"  # there too: read back, and usable by another grant or by what stood before
# There too, and in an `intended` line: when the last of the other grants that give this access
# ends. Until then its removal, or its own end, leaves it there; from then on it is owed.
HELD_UNTIL = "held_until"
CUT_BEFORE = "cut_before"  # there too: sessions issued before it were seen cut, as it was read back
CUT = "cut"  # there too, when it is False: sessions that outlive the removal were not seen cut

# How wrong a clock that wrote a line may be: an hour is what a time zone or a bad source makes it.
CLOCK_OFF = timedelta(hours=1)

ROW = "row"  # in the data of a `closing` line: the version of the grant's row when it was written


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """One line. `at` is when it was written; `data` a small map in the canonical subset."""

    kind: str
    grant: str
    at: Instant
    data: Mapping[str, Any]

    def before(self, version: int, at: Instant) -> bool:
        """Whether it was written before the row was of this version, or, where it names none,
        before that instant by whoever's clock.
        """
        return self.at <= at if self.row is None else self.row < version

    @property
    def row(self) -> int | None:
        """The version of the grant's row when it was written, where it says so."""
        row = self.data.get(ROW)
        return row if isinstance(row, int) else None

    @property
    def alone(self) -> bool:
        """Whether it tells of something done without the database."""
        return self.data.get(ALONE) is True

    @property
    def held(self) -> bool:
        """Whether it tells of an end after which something else gave the access."""
        return self.data.get(HELD) is True

    @property
    def held_until(self) -> Instant | None:
        """When the last of the grants that held it ends; None: it is not ours to take, ever."""
        return self.shared_until if self.held else None

    @property
    def shared_until(self) -> Instant | None:
        """When the last of the others that give this access ends; None: nothing is known of any."""
        try:
            return parse_instant(str(self.data[HELD_UNTIL]))
        except (KeyError, AskedWrongly):
            return None

    def owed_again(self, now: Instant) -> bool:
        """Whether what held the access has come to its end, so that it is to be taken after all."""
        return (until := self.held_until) is not None and now >= until

    @property
    def uncut(self) -> bool:
        """Whether it tells of a removal whose sessions were not seen cut."""
        return self.kind == "removed" and self.data.get(CUT) is False

    @property
    def cut_before(self) -> Instant | None:
        """Before which instant sessions were issued that were seen cut; None: it does not say."""
        try:
            return parse_instant(str(self.data[CUT_BEFORE]))
        except (KeyError, AskedWrongly):
            return None

    @property
    def ends_alone(self) -> bool:
        """Whether it tells of an end, sessions and all, that came without the database."""
        return self.kind == "removed" and self.alone and not self.uncut


def removed_line(
    grant: str,
    at: Instant,
    *,
    cloud_at: Instant | None = None,
    cut_before: Instant | None = None,
    uncut: bool = False,
    held: bool = False,
    held_until: Instant | None = None,
    alone: bool = False,
) -> JournalLine:
    """That a grant's end was read back: every such line, whoever writes it.

    `at` is when it was acted, or sealed where the row says so; `cloud_at` the cloud's clock then,
    where it was asked. `held_until` counts only of what is `held`.
    """
    data: dict[str, Any] = {}
    if cloud_at is not None:
        data["cloud_at"] = wire(cloud_at)
    if cut_before is not None:
        data[CUT_BEFORE] = wire(cut_before)
    if uncut:
        data[CUT] = False
    if held:
        data[HELD] = True
        data |= {HELD_UNTIL: wire(held_until)} if held_until is not None else {}
    if alone:
        data[ALONE] = True
    return JournalLine(kind="removed", grant=grant, at=at, data=data)
