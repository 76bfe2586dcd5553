"""Closing again what came back after its end.

`gone` is an end, so the grant's row does not move: the journal names the access as if it had just
been opened, closing goes the way every closing goes, and `leftover.closed` is sealed in the grant's
own chain. Side doors made meanwhile are searched for, as at every end. A grant that was only
`removed` goes back to closing as it always could, in the journal too.
"""

from dataclasses import replace

import structlog

from tidegate.base.errors import Refused, Unknown, Unreachable
from tidegate.base.fact import SYSTEM, Fact, Step
from tidegate.base.when import Instant, wire
from tidegate.connectors.port import Connector, Hold, Scope, Seen
from tidegate.evidence.journal_line import ROW, JournalLine, removed_line
from tidegate.expire import contradicted
from tidegate.finding import ClosedHow, Finding, closed
from tidegate.flow.ending import write_down
from tidegate.flow.expiring import take_away
from tidegate.flow.granting import intended_line
from tidegate.flow.house import House
from tidegate.flow.searching import owe_search
from tidegate.grant import Grant, GrantState

log = structlog.get_logger("tidegate.closing_again")


def close_again(
    house: House, connector: Connector, grant: Grant, hold: Hold, finding: Finding
) -> Finding:
    """Take the access of `hold` away, read it back, seal it and close the finding.

    For a caller that has the hold's natural key in hand and saw it usable, a moment ago or at a
    look before. What does not succeed leaves the finding open, and the next look tries again. What
    this process removed, and nobody saw there since, is not removed anew, since each removal is cut
    up to a later instant: one that is slow would never be seen made.
    """
    now = house.now()
    opened_upon = hold.stood_before  # while its return was signed for: its own end would leave it
    hold = replace(hold, stood_before=False)
    if grant.state is GrantState.REMOVED and not opened_upon:
        how = {"read_back": "usable", "finding": finding.id}
        write_down(house, _closing(grant, str(grant.end_reason), now))
        house.store.commit(contradicted(grant, "it is usable again", how, now))
        return finding
    times, since = house.uncut.get(finding.id, (0, now))
    try:
        if times == finding.times:  # removed by this process, and seen by none since
            seen = _read(connector, hold, now)
        else:
            since = now
            lingers = connector.lingers(hold.target, hold.role)
            write_down(house, intended_line(hold, stood_before=False, lingers=lingers, now=now))
            write_down(house, _closing(grant, "leftover", now))
            seen = take_away(connector, hold, still_wanted=False, now=now)
    except (Refused, Unreachable, Unknown) as fault:
        log.warning("what came back is not closed yet", grant=grant.id, code=fault.code)
        return finding
    apart = connector.powers(hold.role.kind).cuts_apart
    if apart and not seen.usable and not seen.cut:
        seen = _cut_too(connector, hold, seen, now)
    if seen.usable and not seen.inherited:  # what a group gives is not ours to take
        house.uncut.pop(finding.id, None)
        return finding
    # Else its sessions act on: either a later cut is seen, or they have had the time to run out.
    over_at = since + connector.residual(hold.target, hold.role, cut=False)
    if apart and not seen.cut and now < over_at:
        house.uncut[finding.id] = (finding.times, since)
        return finding
    done = house.now()
    line = removed_line(grant.id, done, cloud_at=seen.cloud_at, cut_before=seen.cut_before)
    write_down(house, line)
    # Before it is sealed as closed: killed in between, what was made meanwhile is searched for.
    settled = done + connector.powers(hold.role.kind).propagation
    owe_search(house, grant, grant.removed_at or grant.opens_at, settled)
    step = closed(finding, ClosedHow.HEALED, SYSTEM, done)
    house.store.commit(step.then(Step((), (_closed_fact(grant, hold, finding, seen, now, done),))))
    for kind in ("gone", "sealed"):  # kept as long as its sessions could act: see `mending.py`
        write_down(house, _line(kind, grant.id, done))
    house.uncut.pop(finding.id, None)
    return house.store.finding(finding.id)


def _cut_too(connector: Connector, hold: Hold, seen: Seen, now: Instant) -> Seen:
    """What is there after the sessions taken by it were cut, as far as that went.

    A removal alone ends no session where cutting is a change of its own, and no grant is open that
    would have the cut tried again: what fails here keeps the finding open. The cloud's yes is not
    believed.
    """
    try:
        connector.cut(hold, now)
        return _read(connector, hold, now)
    except (Refused, Unreachable, Unknown) as fault:
        log.warning("its sessions are not cut yet", grant=hold.grant, code=fault.code)
        return seen


def _read(connector: Connector, hold: Hold, now: Instant) -> Seen:
    return next(iter(connector.observe(Scope(target=hold.target, hold=hold), now)))


def _closed_fact(
    grant: Grant, hold: Hold, finding: Finding, seen: Seen, acted_at: Instant, done: Instant
) -> Fact:
    return Fact(
        name="leftover.closed",
        subject=grant.request,
        actor=SYSTEM,
        data={
            "grant": grant.id,
            "request": grant.request,
            "at": wire(done),
            "finding": finding.id,
            "native_role": hold.key.native_role,
            "native_principal": hold.key.native_principal,
            "by": finding.by,
            "acted_at": wire(acted_at),
            "cloud_at": wire(seen.cloud_at),
            "read_back": dict(seen.detail),
        },
    )


def _closing(grant: Grant, reason: str, now: Instant) -> JournalLine:
    """Of this row as it is, so that its earlier end is not taken for this one by any clock."""
    data = {"reason": reason, ROW: grant.version}
    return JournalLine(kind="closing", grant=grant.id, at=now, data=data)


def _line(kind: str, grant: str, at: Instant, **data: str) -> JournalLine:
    return JournalLine(kind=kind, grant=grant, at=at, data=data)
