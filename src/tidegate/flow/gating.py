"""The health gate: nothing opens that could not be closed (I4). Closing never asks it.

Each check says what is wrong and what to do. An emergency passes a shut gate, and that it did is
sealed with its exposure.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from tidegate.base.duty import SILENT, Duty, last_heard, workers
from tidegate.base.errors import AskedWrongly
from tidegate.base.fact import SYSTEM, Fact
from tidegate.base.when import Instant, show_duration, wire
from tidegate.catalogue import Target
from tidegate.connectors.port import Health, Trouble
from tidegate.evidence.seal import read_event
from tidegate.flow.buckets import beside
from tidegate.flow.house import House
from tidegate.grant import Grant, GrantState, Outcome, seconds_up

REMEMBERED = timedelta(minutes=5)  # at filing, where no cloud is asked, an older look says nothing
CLOSING_LATE = timedelta(minutes=2)  # an end that takes longer is late, whatever came back
OPENS_WAIT = timedelta(minutes=1)  # an end that takes longer has openings on its account wait
MOST_LATE = 100  # looked at; the gate is as shut with one
ENDS_FIRST = frozenset({"closing_fails", "closing_late"})  # they pass once the ends are done
MOST_NAMED = 3  # grants named in one trouble; the rest are counted


def shut_at_filing(house: House, target: Target, now: Instant) -> tuple[Trouble, ...]:
    """Why nothing would open on `target` now, as far as is known without asking the cloud."""
    known = house.looks.last(target.id, now, REMEMBERED)
    return (*_ours(house, target, now), *_of_closers(house, now), *(_of_health(target, known)))


def shut_as_known(house: House, target: Target, now: Instant) -> tuple[Trouble, ...]:
    """Why what is approved waits on `target` now, as far as is known without asking the cloud."""
    return (*shut_at_filing(house, target, now), *_of_late_ends(house, target, now))


def shut_at_opening(house: House, target: Target, now: Instant) -> tuple[Trouble, ...]:
    """Why nothing may open on `target` now; asks the cloud unless it was asked lately."""
    health = house.looks.look(house.connector(target.connector), target, now)
    others = () if Duty.CLOSE in house.duties else _of_closers(house, now)
    late = _of_late_ends(house, target, now)
    return (*others, *_ours(house, target, now), *late, *_of_health(target, health))


def passed(
    grant: Grant,
    shut: tuple[Trouble, ...],
    exposure: timedelta,
    unattended: timedelta | None,
    now: Instant,
) -> Fact:
    """That an emergency passes though the gate is shut: a finding, with what that exposes."""
    return Fact(
        name="gate.passed",
        subject=grant.request,
        actor=SYSTEM,
        data={
            "grant": grant.id,
            "request": grant.request,
            "at": wire(now),
            "checks": [f"{trouble.code}: {trouble.message}" for trouble in shut],
            "exposure_seconds": seconds_up(exposure),
            "unattended_seconds": None if unattended is None else seconds_up(unattended),
        },
    )


def passed_before(house: House, grant: Grant) -> frozenset[str]:
    """The codes of the checks that the grant is sealed to have passed though they said no."""
    events = (read_event(leaf) for _, leaf in house.store.events(grant.request))
    checks = (
        event.data["checks"]
        for event in events
        if event.name == "gate.passed" and event.data["grant"] == grant.id
    )
    return frozenset(
        str(check).partition(":")[0]
        for some in checks
        if isinstance(some, Sequence)
        for check in some
    )


def _ours(house: House, target: Target, now: Instant) -> Iterator[Trouble]:
    yield from _of_closings(house, target, now)
    yield from (trouble for trouble in house.outside(now) if trouble.shuts)


def _of_health(target: Target, health: Health | None) -> Iterator[Trouble]:
    if health is None:
        return
    shutting = [trouble for trouble in health.findings if trouble.shuts]
    if not health.reached and not shutting:
        yield Trouble(
            code="unreachable",
            message=f"`{target.id}` cannot be reached",
            help="look at the endpoint, the network and Tidegate's own credentials",
        )
    yield from shutting


def _of_closings(house: House, target: Target, now: Instant) -> Iterator[Trouble]:
    """An end that fails or is late: what opened beside it might not be closed either."""
    closing = house.store.grants(target=target.id, states=frozenset({GrantState.CLOSING}))
    late = house.store.late((target.id,), now, CLOSING_LATE, MOST_LATE)  # the oldest, too
    refused = (grant for grant in closing if grant.outcome == Outcome.REFUSED)
    seen = {grant.id: grant for grant in (*late, *refused)}
    failing = list(seen.values())
    if not failing:
        return
    first = min(failing, key=lambda grant: (grant.had_to_end_at or now, grant.id))
    names = ", ".join(f"`{grant.id}`" for grant in failing[:MOST_NAMED])
    more = f" and {len(failing) - MOST_NAMED} more" if len(failing) > MOST_NAMED else ""
    since = wire(first.closing_at) if first.closing_at else "an unknown instant"
    yield Trouble(
        code="closing_fails",
        message=(
            f"{names}{more} on `{target.id}` should have ended and is not removed (closing since"
            f" {since}, last outcome `{first.outcome or 'none'}`)"
        ),
        help=f"see `tidegate trace {first.id}`; nothing opens here until it is removed",
    )


def _of_late_ends(house: House, target: Target, now: Instant) -> Iterator[Trouble]:
    """An end on this account is late: what calls it bears go to ends, and openings wait."""
    account = beside(house.laws.catalogue, target.id)
    late = house.store.late(account, now, OPENS_WAIT, 1)
    if not late:
        return
    first = late[0]
    since = now - (first.had_to_end_at or now)
    span = f"for {show_duration(since)}" if since > timedelta(0) else "by a clock that is ahead"
    yield Trouble(
        code="closing_late",
        message=(
            f"`{first.id}` on `{first.role.partition('/')[0]}` has been closing"
            f" {span} and is not removed"
        ),
        help=f"openings on its account wait until it is; see `tidegate trace {first.id}`",
    )


def _of_closers(house: House, now: Instant) -> Iterator[Trouble]:
    """No worker that may close is alive, though some worker was once there."""
    beats = house.store.beats()
    seen, heard = workers(beats), last_heard(beats, Duty.CLOSE)
    if not seen:
        return
    if heard is not None and now - heard <= SILENT:
        alive = [one for one in seen if Duty.CLOSE in one.duties and not one.silent(now)]
        if not any(one.keeps for one in alive):
            yield Trouble(
                code="journal_unkept",
                message=f"`{alive[0].id}` closes, and its journal does not take what others open",
                help="without that nobody closes it when the database goes: make room on its disk,"
                " or mend its closing journal",
            )
        return
    ago = f"was last heard {show_duration(now - heard)} ago" if heard else "was never heard of"
    yield Trouble(
        code="worker_silent",
        message=f"a worker that closes {ago}",
        help="nothing closes without one: look at its log, start it: `tidegate worker`",
    )


def refusal(house: House, role_ids: tuple[str, ...], now: Instant) -> tuple[str, str] | None:
    """(code, why) when a request for these roles would find the gate shut; None when it is open."""
    for name in sorted({role_id.partition("/")[0] for role_id in role_ids}):
        target = house.laws.catalogue.target(name)
        try:
            troubles = shut_at_filing(house, target, now)
        except AskedWrongly:
            continue  # no such connector: said elsewhere, in words of its own
        if troubles:
            return "gate_shut", f"the health gate of `{name}` is shut: {_said(troubles)}"
    return None


def _said(troubles: tuple[Trouble, ...]) -> str:
    """Each with what to do; what mends several is said once, after the last of them."""
    by_help: dict[str, list[str]] = {}
    for trouble in troubles:
        by_help.setdefault(trouble.help, []).append(trouble.message)
    return "; ".join(f"{', '.join(messages)}: {help}" for help, messages in by_help.items())
