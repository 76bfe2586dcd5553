"""`recover`: closing on a machine of one's own when neither server nor database can be asked."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tidegate.base.errors import AskedWrongly, TidegateError
from tidegate.base.when import wire
from tidegate.evidence.checkpoint import TrustedKey, open_checkpoint, parse_checkpoint
from tidegate.evidence.journal import ClosingJournal, JournalContents, JournalLine
from tidegate.evidence.witnesses import newest_in
from tidegate.flow.gathering import Gathered, gather
from tidegate.flow.recalling import Fate, Ground, Recalled, recall
from tidegate.grant import Grant
from tidegate.main.config import (
    Config,
    load_config,
)
from tidegate.main.copies import Copy, owed_with, read_copy
from tidegate.main.logs import log_quietly
from tidegate.main.ways import ways_of
from tidegate.main.wiring import clock, read_signer

Plain = Mapping[str, Any]
Tell = Callable[[str], None]

MOST_NAMED = 10  # ids in one sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Journals:
    """Journals by their paths, this installation's own first. `broken` says in words what is not
    known of them; `unread` counts those of which something is there and cannot be read.
    """

    lines: Mapping[str, Sequence[JournalLine]]
    broken: tuple[str, ...]
    unread: int


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
    gathered = gather(journals.lines, own, clock())
    gathered, lost = owed_with(gathered, copy, clock())
    ground = ground_of(found, tell)
    done = recall(ground, gathered, patience, dry=dry)
    unknown = [
        *_lost_events(found, sources.get("witness", ()), copy),
        *_lost_grants(gathered, copy, journals.lines, lost),
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
    ]
    left = len(lost) + len(gathered.unusable)
    blind = copy.state is None and not any(journals.lines.values())
    if blind:
        unknown.insert(0, "what is open: no journal here has a line, and there is no copy")
    return _told(done, unknown, left, journals.unread, dry=dry, blind=blind)


def ground_of(found: Config, tell: Tell) -> Ground:
    """What `recall` stands on. Tells which targets are left out."""
    ways = ways_of(found)
    for target, why in ways.shut.items():
        tell(f"`{target}` is left out, the others go on: {why}")
    return Ground(
        journal=ClosingJournal(found.path(found.evidence.journal)),
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
                broken.append(f"this installation's own journal at `{own}` has no line")
        else:
            damage = ""
            broken.append(f"this installation has no journal of its own at `{own}`")
    except OSError as fault:
        damage = f"journal `{own}` cannot be read: {fault.strerror}"
    broken += [damage] if damage else []
    unread += bool(damage)
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
    return Journals(lines=lines, broken=tuple(broken), unread=unread)


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


def _lost_events(found: Config, named: Sequence[str], copy: Copy) -> list[str]:
    """What the log held beyond the copy: by the witnesses, or that nobody says."""
    places = [Path(name) for name in named]
    if found.witness.directory:
        places.append(found.path(found.witness.directory))
    told: list[str] = []
    witnessed = 0
    for place in dict.fromkeys(places):
        size, doubt = _witnessed(found, place)
        witnessed = max(witnessed, size)
        told += [doubt] if doubt else []
    rest = "requests, votes, tokens ended and accounts disabled"
    if copy.state is None:
        told.append(
            f"there is no copy of the log to read ({copy.fault}), so nothing is known of its {rest}"
        )
        if witnessed:
            told.append(f"the log had {witnessed} events when it was last witnessed")
        return told
    size, at = copy.state.head.size, wire(copy.state.head.at)
    if witnessed > size:
        told.append(
            f"{witnessed - size} events are missing: the copy has {size}, the last at {at}, and "
            f"{witnessed} were witnessed; {rest} since then cannot be known"
        )
    elif not witnessed:
        told.append(
            f"no witness was read, so nobody says whether the log went on after {at} "
            f"({size} events); {rest} since then cannot be known"
        )
    else:
        told.append(
            f"the copy holds all {witnessed} events that were witnessed; what came after {at} "
            "and was not witnessed cannot be known"
        )
    return told


def _witnessed(found: Config, place: Path) -> tuple[int, str]:
    """The size of the newest checkpoint kept at `place`, and what is doubtful about it."""
    try:
        note = newest_in(place)
        if note is None:
            return 0, f"`{place}` holds no checkpoint"
        size = parse_checkpoint(note).size
    except (OSError, TidegateError) as fault:
        why = fault.message if isinstance(fault, TidegateError) else fault.strerror
        return 0, f"witness `{place}`: {why}"
    try:
        open_checkpoint(note, (TrustedKey(key=read_signer(found).verifier()),))
    except TidegateError as fault:
        return size, f"the checkpoint at `{place}` is not certain: {fault.message}"
    return size, ""


def _lost_grants(
    gathered: Gathered,
    copy: Copy,
    journals: Mapping[str, Sequence[JournalLine]],
    lost: Sequence[tuple[Grant, str]],
) -> list[str]:
    """Which grants one side knows and the other does not, and which nobody can close from here."""
    told = [
        f"`{grant.id}` ({grant.role}) is in the copy without its entry: end {where} by hand"
        for grant, where in lost
    ]
    if copy.state is None:
        names = ", ".join(f"`{name}`" for name in journals)
        told.append(
            f"grants opened by a process whose journal is not among these cannot be known: {names}"
            if names
            else "no journal was read, so no process's grants can be known"
        )
        return told
    things = copy.state.state.things[Grant]
    elsewhere = [one.hold.grant for one in gathered.owed if one.source == copy.where]
    after = [one.hold.grant for one in gathered.owed if one.hold.grant not in things]
    if elsewhere:
        told.append(
            f"{_named(elsewhere)} in the copy and in no journal here: opened on a machine whose "
            "journal is missing; what else that machine opened since cannot be known"
        )
    if after:
        told.append(f"{_named(after)} in a journal and not in the copy: opened after it")
    return told


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"


def _told(
    done: Sequence[Recalled],
    unknown: Sequence[str],
    lost: int,
    unread: int,
    *,
    dry: bool,
    blind: bool,
) -> Plain:
    """The answer; `lost` ends are owed, and nothing here says how to bring them about; of `unread`
    journals nobody knows all that they name. `blind`: there was nothing at all to go by, which is
    one journal unread at the least.
    """
    unread = max(unread, int(blind))
    counts = {fate.value: sum(one.fate is fate for one in done) for fate in Fate}
    standing = [one for one in done if one.fate is Fate.HELD and not one.owed.shared]
    uncut = sum(one.uncut for one in done)
    open_still = counts[Fate.CLOSING] + counts[Fate.DUE] + len(standing) + uncut + lost + unread
    steps = ["start the server: it seals what was done, and closes what is due from now on"]
    if counts[Fate.CLOSING] or uncut or (counts[Fate.DUE] and not dry):
        steps.insert(0, "mend what keeps the rest open, and type the same again: it is safe")
    if blind:
        steps.insert(
            0,
            "name a journal of a machine that opened something (`--from journal=FILE`), or a copy "
            "of the log (`--from database=FILE`)",
        )
    elif unread:
        steps.insert(
            0, "mend or find the journals that are not read whole, and type the same again"
        )
    if lost:
        steps.insert(0, "look in the clouds for what cannot be closed from here: it is named above")
    steps.append("compare the log with its witness: `tidegate evidence verify --config FILE`")
    return {
        "ok": not open_still,
        "dry_run": dry,
        "counts": counts,
        "lost": lost,
        "unread": unread,
        "blind": blind,
        "grants": [_grant_told(one) for one in done],
        "unknown": list(unknown),
        "next": steps,
    }


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
