"""`tidegate doctor`: what would keep access from opening, or from closing, and the fix for each.

`examine` judges values that were read already; `look` reads them. Checks come in
the order things depend on each other, so that the first fault is the one to mend first.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from tidegate.base.duty import Duty, WorkerSeen, last_heard, workers
from tidegate.base.errors import EvidenceBroken, TidegateError
from tidegate.base.ids import id_kind
from tidegate.base.text import many
from tidegate.base.when import Instant, show_duration, wire
from tidegate.connectors.port import Health, Trouble
from tidegate.diagnose.check import Check, Diagnosis, parse_diagnosis, render_text
from tidegate.diagnose.examined import (
    Examined,
    JournalSeen,
    Kept,
    Published,
    Restored,
    RulesSeen,
    TargetSeen,
)
from tidegate.diagnose.looking import InForce, Places, look
from tidegate.evidence.checkpoint import Keys, open_checkpoint
from tidegate.evidence.witnesses import witness_trouble
from tidegate.finding import Finding, Severity
from tidegate.grant import Grant, GrantState

__all__ = [
    "Check",
    "Diagnosis",
    "Examined",
    "InForce",
    "JournalSeen",
    "Kept",
    "Places",
    "Published",
    "Restored",
    "RulesSeen",
    "TargetSeen",
    "examine",
    "look",
    "parse_diagnosis",
    "render_text",
]

LATE = timedelta(seconds=5)  # after an end: the worker looks several times a second
STALLED = timedelta(seconds=30)  # of a closing: longer than one cloud call may take
CLOCK_APART = timedelta(seconds=5)  # from a cloud: nothing opens there beyond it
HOUSE_APART = timedelta(seconds=1)  # from the database: nothing opens at all beyond it
UNPUBLISHED = timedelta(minutes=1)  # checkpoints leave every two seconds
EXPIRES_SOON = timedelta(days=14)  # to renew a certificate without haste
LEAST_FREE = 100 * 1000 * 1000  # bytes: the write-ahead log alone may take 64 MiB
LOW_FREE = 1000 * 1000 * 1000
MOST_SAID = 10  # of one kind of warning: whoever has more mends these first


def examine(seen: Examined) -> Diagnosis:
    """Judge what was seen. Pure; never raises for what is wrong."""
    checks: list[Check] = [*_database(seen), *_disks(seen)]
    if seen.kept is not None:
        checks += [_clock(seen.now, seen.kept), _evidence(seen.kept, seen.keys)]
    checks += [*_witness(seen), *_journal(seen.journal)]
    if seen.kept is not None:
        checks += _workers(seen.now, seen.kept)
    checks += _rules(seen.rules, seen.kept)
    for target in seen.targets:
        checks += [*_target(target, seen.now), *_administrators(target)]
    if seen.kept is not None:
        checks += _grants(seen.now, seen.kept)
        checks += _findings(seen.kept.findings)
    return Diagnosis(at=wire(seen.now), findings=tuple(checks))


def _database(seen: Examined) -> Iterator[Check]:
    if seen.kept is None:
        said = seen.fault.message if seen.fault else "it was not read"
        fix = (seen.fault.help if seen.fault else "") or "look at the file, its rights and its disk"
        fix += "; what is due closes from the journal meanwhile, and nothing opens"
        yield Check(name="database", ok=False, says=said, fix=fix)
        return
    for problem in seen.kept.problems:
        fix = "look at the file, its rights and its disk; `tidegate evidence rebuild --check`"
        yield Check(name="database", ok=False, says=problem, fix=fix)
    if not seen.kept.problems:
        yield Check(name="database", ok=True, says="readable, writable, and whole")


def _disks(seen: Examined) -> Iterator[Check]:
    for what, free in sorted(seen.free.items()):
        ok = False if free < LEAST_FREE else None if free < LOW_FREE else True
        said = f"{free // 1_000_000} MB free where the {what} is"
        fix = "" if ok else f"make room: expected at least {LOW_FREE // 1_000_000} MB"
        yield Check(name=f"disk of the {what}", ok=ok, says=said, fix=fix)


def _clock(now: Instant, kept: Kept) -> Check:
    apart = kept.now - now
    if abs(apart) <= HOUSE_APART:
        return Check(name="clock", ok=True, says="ours and the database's agree")
    return Check(
        name="clock",
        ok=False,
        says=f"the database's clock is {_direction(apart)} ours",
        fix="mend both clocks (NTP); nothing opens until they agree",
    )


def _evidence(kept: Kept, keys: Keys) -> Check:
    head = kept.head
    fix = "`tidegate evidence verify` checks the whole log; compare with a witnessed checkpoint"
    try:
        signed = open_checkpoint(head.checkpoint_text, keys)
    except TidegateError as fault:
        key = "" if isinstance(fault, EvidenceBroken) else f"{fault.help}; "
        return Check(name="evidence", ok=False, says=fault.message, fix=key + fix)
    if (signed.size, signed.root) != (head.size, head.root):
        said = f"expected a checkpoint of {head.size} events, got one of {signed.size} or another"
        return Check(name="evidence", ok=False, says=said, fix=fix)
    said = f"{head.size} events, the last at {wire(head.at)}, under a checkpoint signed by our key"
    return Check(name="evidence", ok=True, says=said)


def _witness(seen: Examined) -> Iterator[Check]:
    told, name = seen.witness, "witness"
    if not told.configured:
        fix = "name a place on another machine in `[witness]`"
        said = "no checkpoint leaves this machine, so its operator could rewrite the log unseen"
        yield Check(name=name, ok=None, says=said, fix=fix)
        return
    if told.mismatch:
        fix = "nothing opens while it is so; keep both histories; `tidegate evidence verify` names"
        fix += " what differs; then `tidegate recover`, and begin a new log (docs/operations.md)"
        yield Check(name=name, ok=False, says=told.mismatch, fix=fix)
        return  # that nothing newer is published is what should be, and no fault of the way there
    size = seen.kept.head.size if seen.kept else 0
    silent = witness_trouble(told.places, size, seen.now)
    if silent:
        fix = "mend the way to the place named in `[witness]`, or see whether the worker runs"
        fix += "; until then nobody outside could show that these events were rewritten"
        yield Check(name=name, ok=False, says=silent, fix=fix)
    if told.fault:
        fix = "mend the way to the place named in `[witness]`; every new checkpoint tries again"
        yield Check(name=name, ok=False, says=f"the last publishing failed: {told.fault}", fix=fix)
        return
    if told.published_at is None:
        fix = "look again in a moment; if it stays, see whether the worker runs"
        yield Check(name=name, ok=None, says="nothing was published since the start", fix=fix)
        return
    ago = seen.now - told.published_at
    behind = size - told.published_size
    said = f"{told.published_size} events published {show_duration(ago)} ago"
    if silent:
        return
    if ago > UNPUBLISHED and behind > 0:
        fix = "see whether the worker runs: it publishes"
        yield Check(name=name, ok=False, says=f"{said}, {behind} events behind", fix=fix)
    elif not told.mismatch:
        yield Check(name=name, ok=True, says=said)


def _journal(seen: JournalSeen) -> Iterator[Check]:
    name = "closing journal"
    if seen.fault:
        fix = "mend its path, rights or disk; nothing opens without it, closing goes on"
        yield Check(name=name, ok=False, says=seen.fault, fix=fix)
    if seen.broken:
        said = f"line {seen.broken[0]} is damaged, and {len(seen.broken) - 1} others"
        fix = "keep a copy of the file, then look at that line; nothing is dropped until then"
        yield Check(name=name, ok=False, says=said, fix=fix)
    if seen.unsealed:
        said = f"{seen.unsealed} closings were done without the database and are not sealed yet"
        fix = "the worker seals them when it next starts with the database there"
        yield Check(name=name, ok=None, says=said, fix=fix)
    if seen == JournalSeen():
        yield Check(name=name, ok=True, says="writable, every line sound, nothing unsealed")


def _workers(now: Instant, kept: Kept) -> Iterator[Check]:
    """One living worker that closes and one that opens are enough, however many are silent."""
    fix = "start one: `tidegate serve` or `tidegate worker`; what is due is taken up by itself"
    seen = workers(kept.beats)
    alive = [one for one in seen if not one.silent(now)]
    if not any(one.duties for one in seen):
        yield Check(name="worker", ok=False, says="none has ever said that it is alive", fix=fix)
        return
    yield from _unread(seen, now)
    lacking = [duty for duty in Duty if not any(duty in one.duties for one in alive)]
    heard = last_heard(kept.beats)
    if heard is not None and len(lacking) == len(Duty):
        said = f"silent for {show_duration(now - heard)}: the last one said at {wire(heard)}"
        yield Check(name="worker", ok=False, says=f"{said} that it is alive", fix=fix)
        return
    for duty in lacking:
        last = last_heard(kept.beats, duty)
        since = f"the last one was heard at {wire(last)}" if last else "none was ever heard of"
        what = "closes" if duty is Duty.CLOSE else "opens"
        yield Check(
            name="worker", ok=False, says=f"nobody alive {what}: {since}", fix=f"{fix} (`--{duty}`)"
        )
    if not lacking and heard is not None:
        ago = show_duration(now - heard)
        count = sum(1 for one in alive if one.duties)
        said = f"alive {ago} ago" if count == 1 else f"{count} alive, the last heard {ago} ago"
        yield Check(name="worker", ok=True, says=said)
    yield from _unkept(alive)
    versions = sorted({one.version for one in alive if one.version})
    if len(versions) > 1:
        said = f"processes of {len(versions)} versions run: {', '.join(versions)}"
        fix = "finish the upgrade; two releases may share a database for its length"
        yield Check(name="versions", ok=None, says=said, fix=fix)
    rules = {one.rules: one.id for one in alive if one.rules}
    if len(rules) > 1:
        each = ", ".join(f"`{name}` by {digest[:19]}…" for digest, name in sorted(rules.items()))
        fix = (
            "copy the same rules to every machine; one that starts with replaced ones opens nothing"
        )
        yield Check(name="rules", ok=None, says=f"processes judge differently: {each}", fix=fix)


def _unkept(alive: Sequence[WorkerSeen]) -> Iterator[Check]:
    """Who closes and would not know without the database what others opened.

    As long as one that closes does keep it, the gate is open; with none it is shut everywhere.
    """
    closers = [one for one in alive if Duty.CLOSE in one.duties]
    names = sorted(f"`{one.id}`" for one in closers if not one.keeps)
    if not names:
        return
    shut = len(names) == len(closers)
    who = f"{names[0]} closes, and its journal does"
    if len(names) > 1:
        who = f"{', '.join(names[:MOST_SAID])} close, and their journals do"
    fix = "make room on the disk there, or mend that closing journal: `tidegate doctor` there says"
    fix += " what ails it, and it is tried again by itself; "
    fix += "nothing opens until then" if shut else "meanwhile another that closes keeps it"
    said = f"{who} not take what others open"
    yield Check(name="worker's journal", ok=False if shut else None, says=said, fix=fix)


def _unread(seen: Sequence[WorkerSeen], now: Instant) -> Iterator[Check]:
    """Who closes and could not read its journal: it opens nothing, and no panic is called safe;
    where others share the database also once it is silent, until its last word is a day old.
    """
    closers = [one for one in seen if Duty.CLOSE in one.duties and not one.reads]
    alive = sorted(f"`{one.id}`" for one in closers if not one.silent(now))
    if alive:
        fix = "mend that closing journal, or wait until a long one is read: it is tried again by"
        fix += " itself; ends come by the rows meanwhile, and no panic is called safe"
        said = f"the closing journal of {', '.join(alive[:MOST_SAID])} is not read"
        yield Check(name="worker's journal", ok=None, says=said, fix=fix)
    dead = [f"`{one.id}` ({wire(one.at)})" for one in closers if one.silent(now)]
    if dead:
        fix = "start what closes there with its journal's disk in place; where processes share the"
        fix += " database, no panic is called safe until that word is a day old"
        said = "the closing journal was not read when it was last heard of "
        said += ", ".join(dead[:MOST_SAID])
        yield Check(name="worker's journal", ok=None, says=said, fix=fix)


def _rules(seen: RulesSeen, kept: Kept | None) -> Iterator[Check]:
    if seen.fault is not None:
        fix = f"{seen.fault.help}; what was in force before stays in force until then"
        yield Check(name="rules", ok=False, says=seen.fault.message, fix=fix)
    for warning in seen.warnings[:MOST_SAID]:
        said = f"{warning.where}: {warning.message}"
        yield Check(name="rules", ok=None, says=said, fix=warning.help)
    if len(seen.warnings) > MOST_SAID:
        said = f"{len(seen.warnings) - MOST_SAID} more warnings"
        yield Check(name="rules", ok=None, says=said, fix="`tidegate check` lists them all")
    if not seen.count:
        fix = "write the first rule: see docs/rules.md, then `tidegate check`"
        yield Check(name="rules", ok=None, says="none, so every request is refused", fix=fix)
    pairs = [("rules", seen.digest, kept.rules_sealed if kept else None)]
    pairs.append(("catalogue", seen.catalogue_digest, kept.catalogue_sealed if kept else None))
    for name, digest, sealed in pairs if kept else ():
        if digest != sealed:
            said = f"in force is {digest[:19]}…, and last sealed was {(sealed or 'none')[:19]}"
            fix = "restart `tidegate serve`: it seals what it puts in force; where other machines"
            fix += " have other files, make them the same"
            yield Check(name=name, ok=False, says=said, fix=fix)
        elif name == "catalogue" or seen.fault is None:
            more = f"{seen.count} rule{'' if seen.count == 1 else 's'}, " if name == "rules" else ""
            yield Check(name=name, ok=True, says=f"{more}{digest[:19]}… as last sealed")


def _target(seen: TargetSeen, now: Instant) -> Iterator[Check]:
    name, health = f"target {seen.target}", seen.health
    again = "then `tidegate doctor` again"
    yield from _gate(f"{name} gate", seen.gate)
    if health is None:
        yield Check(name=name, ok=False, says=seen.fault, fix=f"mend the way to it, {again}")
        return
    if not health.reached:
        said = health.findings[0].message if health.findings else "it is not reached"
        way = health.findings[0].help if health.findings else ""
        fix = f"{way or 'mend the way to it or its credentials'}, {again}"
        fix = f"{fix}; nothing can be closed there now, so nothing opens"
        yield Check(name=name, ok=False, says=said, fix=fix)
    else:
        said = f"reached as {health.identity or 'nobody in particular'}"
        ok = None if not health.identity else True
        fix = "" if ok else "see which identity the process has there"
        yield Check(name=name, ok=ok, says=said, fix=fix)
    until = health.certificate_until
    told = health.findings if health.reached else health.findings[1:]
    for finding in told:
        # What a cloud's own look says of the certificate is judged below, with its own measure.
        if until is None or wire(until) not in finding.message:
            shut = "; nothing opens there until then" if finding.shuts else ""
            fix = f"{finding.help}, {again}{shut}"
            ok = False if finding.shuts else None
            yield Check(name=name, ok=ok, says=finding.message, fix=fix)
    if health.cloud_at is not None:
        yield _cloud_clock(f"{name} clock", seen.asked_at, health)
    if until is not None:
        yield _certificate(f"{name} certificate", until, now)


def _administrators(seen: TargetSeen) -> Iterator[Check]:
    """A warning: who comes to administer the account goes unseen, and every end comes."""
    if untold := seen.administrators:
        name = f"target {seen.target} administrators"
        yield Check(name=name, ok=None, says=untold.message, fix=untold.help)


def _gate(name: str, shut: tuple[Trouble, ...] | None) -> Iterator[Check]:
    """Whether anything opens there now, and each check that says no."""
    if shut is None:
        return
    if not shut:
        yield Check(name=name, ok=True, says="open: what opens there can be closed")
    for trouble in shut:
        said = f"shut, so nothing opens there ({trouble.code}): {trouble.message}"
        yield Check(name=name, ok=False, says=said, fix=trouble.help)


def _cloud_clock(name: str, asked_at: Instant, health: Health) -> Check:
    """The cloud read its clock between our asking and its answer's arrival: only more is skew."""
    if health.cloud_at is None:
        raise RuntimeError(f"no clock to judge for {name}")
    latest = asked_at + health.round_trip
    apart = health.cloud_at - min(max(health.cloud_at, asked_at), latest)
    if abs(apart) <= CLOCK_APART:
        return Check(name=name, ok=True, says=f"within {CLOCK_APART.seconds} s of ours")
    said = f"the cloud's clock is {_direction(apart)} ours"
    fix = "mend this machine's clock (NTP); nothing opens there until they agree"
    return Check(name=name, ok=False, says=said, fix=fix)


def _certificate(name: str, until: Instant, now: Instant) -> Check:
    if until <= now:
        return Check(name=name, ok=False, says=f"expired at {wire(until)}", fix="renew it now")
    left = f"ends at {wire(until)}, in {show_duration(until - now)}"
    if until - now < EXPIRES_SOON:
        return Check(name=name, ok=None, says=left, fix="renew it before it ends")
    return Check(name=name, ok=True, says=left)


def _grants(now: Instant, kept: Kept) -> Iterator[Check]:
    overdue = sorted(
        (due, grant.id)
        for grant in kept.closing
        if (due := _due(grant)) and now > due + _grace(grant)
    )
    if overdue:
        due, oldest = overdue[0]
        said = (
            f"{many(len(overdue), 'grant')} past the end and not read back as removed; the oldest, "
        )
        said += f"`{oldest}`, for {show_duration(now - due)}"
        yield Check(name="grants", ok=False, says=said, fix=_look(oldest))
    yield from _removed(now, kept.removed)
    if kept.ungranted:
        said = f"{many(len(kept.ungranted), 'request')} approved without a grant for every item"
        fix = f"`tidegate trace {kept.ungranted[0]}`; then `tidegate evidence rebuild --check`"
        yield Check(name="grants", ok=False, says=said, fix=fix)
    for found in kept.restored[-MOST_SAID:]:
        said = f"somebody removed our deny on `{found.role}` ({', '.join(found.grants[:3])}); "
        said += f"it was put back at {found.at}"
        fix = "find who in the cloud's own trail; until then those sessions could act"
        yield Check(name="cuts", ok=None, says=said, fix=fix)
    yield from _panics(kept)
    if not (overdue or kept.removed or kept.ungranted):
        yield Check(name="grants", ok=True, says="none is past its end and still held")


def _panics(kept: Kept) -> Iterator[Check]:
    for panic in kept.panics[:MOST_SAID]:
        if not panic.version:  # called, and not sealed yet
            fix = (
                "mend the database, then it is sealed by itself; a damaged `closing.journal.panics`"
            )
            fix += " is read, and removed once the panics it names are called again"
            said = f"everything in `{panic.scope.text}` is shut by a panic that waits to be sealed"
            yield Check(name="panic", ok=False, says=said, fix=fix)
            continue
        until = panic.frozen_until
        shut = f"nothing opens there until {wire(until)}" if until else "its ends are being sealed"
        said = f"`{panic.id}` ended everything in `{panic.scope.text}`, and {shut}"
        fix = (
            f"`tidegate revoke --status {panic.id}`; to open sooner: `tidegate unfreeze {panic.id}`"
        )
        yield Check(name="panic", ok=None, says=said, fix=fix)


def _findings(findings: Sequence[Finding]) -> Iterator[Check]:
    """How many are not closed, the worst target by target: a warning, never a shut gate."""
    by_target: dict[str, list[Finding]] = {}
    for finding in findings:
        by_target.setdefault(finding.target, []).append(finding)
    for target, some in sorted(by_target.items())[:MOST_SAID]:
        high = sum(one.severity is Severity.HIGH for one in some)
        said = f"{many(len(some), 'finding')} open" + (f", {high} of them high" if high else "")
        fix = f"`tidegate findings list --target {target}`"
        yield Check(name=f"findings of `{target}`", ok=None, says=said, fix=fix)


def _removed(now: Instant, grants: Sequence[Grant]) -> Iterator[Check]:
    held = [grant for grant in grants if grant.still_held_by]
    for grant in held[:MOST_SAID]:
        # Held by another grant it has an end of its own; standing access has none.
        by_grant = id_kind(grant.still_held_by.partition(",")[0]) == "gr"
        said = f"`{grant.id}` ended, still held by {grant.still_held_by}"
        fix = "whoever owns that access ends it, if it should not be; it is not ours to remove"
        fix = f"`tidegate trace {grant.still_held_by.partition(',')[0]}`" if by_grant else fix
        yield Check(name="still held", ok=None if by_grant else False, says=said, fix=fix)
    late = [
        grant
        for grant in grants
        if not grant.still_held_by and grant.residual_until and now > _settled(grant) + STALLED
    ]
    if late:
        oldest = min(late, key=_settled)
        said = f"{many(len(late), 'grant')} removed and not proven; the oldest, `{oldest.id}`, "
        said += f"for {show_duration(now - _settled(oldest))}"
        yield Check(name="not proven", ok=False, says=said, fix=_look(oldest.id))
    waiting = len(grants) - len(held) - len(late)
    if waiting:
        said = f"{waiting} removed; sessions taken before may act for a while yet"
        yield Check(name="grants", ok=True, says=said)


def _settled(grant: Grant) -> Instant:
    """From when on nothing keeps a removed grant from its proof."""
    if grant.residual_until is None or grant.removed_at is None:
        raise RuntimeError(f"{grant.id} is not removed")
    return max(grant.residual_until, grant.removed_at)


def _due(grant: Grant) -> Instant | None:
    """When it had to end: its closing, or its end, whichever came first."""
    known = [at for at in (grant.ends_at, grant.closing_at) if at is not None]
    return min(known, default=None)


def _grace(grant: Grant) -> timedelta:
    return STALLED if grant.state is GrantState.CLOSING else LATE


def _look(grant: str) -> str:
    return (
        f"`tidegate trace {grant}` names where it stops; `tidegate verify {grant}` reads the cloud"
    )


def _direction(apart: timedelta) -> str:
    seconds = f"{abs(apart.total_seconds()):.1f} s"
    return f"{seconds} ahead of" if apart > timedelta(0) else f"{seconds} behind"
