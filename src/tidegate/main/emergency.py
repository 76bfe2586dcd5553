"""`recover`: closing on a machine of one's own when neither server nor database can be asked."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import wire
from tidegate.evidence.journal import ClosingJournal, JournalContents, JournalLine
from tidegate.flow.gathering import gather
from tidegate.flow.recalling import Fate, Ground, Recalled, recall
from tidegate.main.config import Config, load_config
from tidegate.main.copies import owed_with, read_copy
from tidegate.main.logs import log_quietly
from tidegate.main.owner import Giving, given_to_owner
from tidegate.main.unknown import (
    came_back,
    clock_behind,
    held_by_nobody_named,
    lost_events,
    lost_grants,
    nothing_newer,
    signed_off,
    vouches,
    witnessed,
)
from tidegate.main.ways import ways_of
from tidegate.main.wiring import clock

# What to do where our own journal is not there or has nothing: what is done now makes a new one.
LOOK = "if its disk is not mounted, mount it before anything else"

Plain = Mapping[str, Any]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Journals:
    """Journals by their paths, this installation's own first. `broken` says in words what is not
    known of them; `unread` counts those of which something is there and cannot be read. `absent`:
    this installation's own is not there, or has no line.
    """

    lines: Mapping[str, Sequence[JournalLine]]
    broken: tuple[str, ...]
    unread: int
    absent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """What keeps `recover` from being a success, beside the ends that it knows.

    `lost` ends are owed, or their access is back, and nothing here says how to bring them about; of
    `unread` journals nobody knows all that they name. `blind`: no journal has a line, and no copy
    is certain to hold what was opened, which is one journal unread at the least. `absent`: that is
    the installation's own, and others have lines. `copy`: one that was named was not read. `clock`:
    what was read is later than this machine's clock, so that what is overdue may pass for not due.
    """

    lost: int = 0
    unread: int = 0
    blind: bool = False
    absent: bool = False
    copy: bool = False
    clock: bool = False


def recover(
    config: Path,
    sources: Mapping[str, Sequence[str]],
    *,
    dry: bool,
    patience: timedelta,
    tell: Tell,
) -> Plain:
    """Close what is overdue by the journals and any copy of the log, and say what is not known.

    `sources` lists `journal` files, `witness` directories and at most one `database` (a URL or a
    file); this installation's own of each is taken by itself, as far as it is there.

    Raises:
        AskedWrongly: a source that was named is not there or no such thing, or the settings are
            broken.
    """
    log_quietly()
    found = load_config(config)
    _check_places(sources.get("witness", ()))
    journals = read_journals(found, sources.get("journal", ()))
    own = str(found.path(found.evidence.journal))
    copy = read_copy(found, sources.get("database", ()), tell)
    seen = witnessed(found, sources.get("witness", ()))
    behind = clock_behind(copy, journals.lines, clock())
    gathered = gather(journals.lines, own, clock())
    gathered, lost = owed_with(gathered, copy, clock())
    with given_to_owner(found, tell) as giving:
        ground = ground_of(found, tell, giving, dry=dry)
        done = recall(ground, gathered, patience, dry=dry)
    back = came_back(copy, done)
    blind = nothing_newer(copy, seen, journals.lines)
    not_read = f"what the copy that was named says, `{copy.where}`: {copy.fault}"
    unknown = [
        *([not_read] if copy.unread else []),
        *([blind] if blind else []),
        *behind,
        *lost_events(copy, seen),
        *lost_grants(gathered, copy, journals.lines, lost),
        *signed_off(gathered, copy),
        *back,
        *journals.broken,
        *(
            f"the journals say too little of `{name}` to close it, and nothing else knows it: "
            "look in its cloud, or add the journal of the machine that opened it"
            for name in gathered.unusable
        ),
        *(
            f"nothing of `{name}` was asked of its cloud: {why}"
            for name, why in ground.shut.items()
        ),
        *held_by_nobody_named(done),
    ]
    gaps = Gaps(
        lost=len(lost) + len(gathered.unusable) + len(back),
        unread=journals.unread,
        blind=bool(blind),
        absent=journals.absent and not vouches(copy, seen),
        copy=copy.unread,
        clock=bool(behind),
    )
    return {**_told(done, unknown, gaps, dry=dry), "owner": giving.said}


def ground_of(found: Config, tell: Tell, giving: Giving, *, dry: bool = False) -> Ground:
    """What `recall` stands on; made for a `dry` run, nothing is written. Tells which targets are
    left out. What it makes is the owner's at once.
    """
    ways = ways_of(found, keeps=not dry)
    giving.now()
    for target, why in ways.shut.items():
        tell(f"`{target}` is left out, the others go on: {why}")
    return Ground(
        journal=giving.journal(),
        connectors=ways.connectors,
        shut=ways.shut,
        clock=clock,
        randomness=os.urandom,
        rest=time.sleep,
        tell=tell,
    )


def read_journals(found: Config, named: Sequence[str]) -> Journals:
    """This installation's own journal, as far as it is there, and those that were named.

    Raises:
        AskedWrongly: one that was named is not there, cannot be read, or is no journal.
    """
    own = found.path(found.evidence.journal)
    lines: dict[str, list[JournalLine]] = {}
    broken: list[str] = []
    unread = 0
    try:
        if own.exists():
            contents = ClosingJournal(own).inspect()
            lines[str(own)] = list(contents.lines)
            damage = _damage(own, contents)
            if not damage and not contents.lines:
                broken.append(f"this installation's own journal at `{own}` has no line: {LOOK}")
        else:
            damage = ""
            broken.append(f"this installation has no journal of its own at `{own}`: {LOOK}")
    except OSError as fault:
        damage = f"journal `{own}` cannot be read: {fault.strerror}"
    broken += [damage] if damage else []
    unread += bool(damage)
    absent = not damage and not lines.get(str(own))
    for path in dict.fromkeys(Path(name) for name in named):
        if str(path) in lines:
            continue
        contents = _named_journal(path)
        lines[str(path)] = list(contents.lines)
        damage = _damage(path, contents)
        if not damage and contents.torn:  # a live one is torn where nothing was acknowledged
            damage = f"`{path}` is cut off in a line: what a copy lacks behind it is not known"
        broken += [damage] if damage else []
        unread += bool(damage)
    return Journals(lines=lines, broken=tuple(broken), unread=unread, absent=absent)


def _named_journal(path: Path) -> JournalContents:
    """A journal somebody named. Raises AskedWrongly: there is none, or it cannot be read."""
    help = "check its path; if nothing is left of it, leave it out"
    try:
        if not path.is_file():
            raise AskedWrongly(
                "no_journal", f"expected a journal at `{path}`, got no such file", help
            )
        contents = ClosingJournal(path).inspect()
    except OSError as fault:
        raise AskedWrongly(
            "no_journal",
            f"expected a journal at `{path}`, it cannot be read: {fault.strerror}",
            help,
        ) from None
    if not contents.lines:
        raise AskedWrongly(
            "no_journal",
            f"expected a closing journal at `{path}`, got a file without one line of it",
            help,
        )
    return contents


def _damage(path: Path, contents: JournalContents) -> str:
    """What of it cannot be read; empty: nothing."""
    count = len(contents.broken)
    if not count:
        return ""
    which = "1 line" if count == 1 else f"{count} lines"
    return f"{which} of `{path}` cannot be read, the first is {contents.broken[0]}"


def _check_places(named: Sequence[str]) -> None:
    """Raise AskedWrongly unless every witness that was named is a directory."""
    for name in named:
        try:
            there, why = Path(name).is_dir(), "got no such directory"
        except OSError as fault:
            there, why = False, f"it cannot be read: {fault.strerror}"
        if not there:
            raise AskedWrongly(
                "no_witness",
                f"expected a directory of checkpoints at `{name}`, {why}",
                "check its path",
            )


def _told(done: Sequence[Recalled], unknown: Sequence[str], gaps: Gaps, *, dry: bool) -> Plain:
    """The answer; what is in `gaps` keeps it from being a success."""
    counts = {fate.value: sum(one.fate is fate for one in done) for fate in Fate}
    standing = sum(one.fate is Fate.HELD and not one.owed.shared for one in done)
    uncut = sum(one.uncut for one in done)
    lost, unread = gaps.lost, max(gaps.unread + gaps.absent, int(gaps.blind))
    open_still = counts[Fate.CLOSING] + counts[Fate.DUE] + standing + uncut + lost + unread
    open_still += gaps.copy + gaps.clock
    steps = _steps(counts, gaps, dry=dry, standing=bool(standing), uncut=bool(uncut))
    return {
        "ok": not open_still,
        "dry_run": dry,
        "counts": counts,
        "uncut": uncut,
        "standing": standing,
        "lost": lost,
        "unread": unread,
        "blind": gaps.blind,
        "copy_unread": gaps.copy,
        "clock_behind": gaps.clock,
        "grants": [_grant_told(one) for one in done],
        "unknown": list(unknown),
        "next": steps,
    }


def _steps(
    counts: Mapping[str, int], gaps: Gaps, *, dry: bool, standing: bool, uncut: bool
) -> list[str]:
    """What to do next, the most pressing first."""
    again = "and type the same again"
    named: list[tuple[bool | int, str]] = [
        (gaps.clock, f"set this machine's clock right, {again}"),
        (dry and counts[Fate.DUE], "type the same without `--dry-run`"),
        (gaps.lost, "look in the clouds for what cannot be closed from here: it is named above"),
        (gaps.copy, f"mend the way to the copy that was named, or name another, {again}"),
        (
            gaps.blind,
            "name a journal of a machine that opened something (`--from journal=FILE`), or a copy "
            "of the log (`--from database=FILE`)",
        ),
        (gaps.absent and not gaps.blind, f"find this machine's journal or its database, {again}"),
        (
            gaps.unread and not gaps.blind,
            f"mend or find the journals that are not read whole, {again}",
        ),
        (
            counts[Fate.CLOSING] or uncut or (counts[Fate.DUE] and not dry),
            f"mend what keeps the rest open, {again}: it is safe",
        ),
        (standing, "look whether what is still held is wanted: it is not ours to take"),
        (dry, "start the server: it closes what is due from now on"),
        (
            not dry,
            "start the server: it seals what was done, and closes what is due from now on",
        ),
        (True, "compare the log with its witness: `tidegate evidence verify --config FILE`"),
    ]
    return [step for is_so, step in named if is_so]


def _grant_told(one: Recalled) -> Plain:
    hold = one.owed.hold
    return {
        "grant": hold.grant,
        "role": hold.role.id,
        "principal": hold.principal,
        "ends_at": wire(hold.ends_at),
        "source": one.owed.source,
        "fate": one.fate.value,
        "why": one.why,
        "at": wire(one.at) if one.at else None,
        "residual_until": wire(one.residual_until) if one.residual_until else None,
    }
