"""Latencies are counted from the approved end, kept apart, and never more than was measured."""

from datetime import timedelta

import pytest

from tests.support import World
from tidegate.base.errors import Unreachable
from tidegate.base.when import from_ms
from tidegate.connectors.port import Hold, Receipt
from tidegate.diagnose.lateness import lateness_report
from tidegate.evidence.events import Event
from tidegate.evidence.lateness import Latency, Lateness, figures, measure
from tidegate.evidence.seal import read_event
from tidegate.flow.expiring import close_now
from tidegate.flow.recovering import close_without_store
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant


def chain(world: World, grant: Grant) -> list[Event]:
    """The sealed events of a grant's request."""
    return [read_event(leaf) for _, leaf in world.house.store.events(grant.request)]


def measured(world: World, grant: Grant) -> Lateness:
    """What is sealed of a grant's end."""
    found = measure(chain(world, grant), grant.id)
    assert found is not None
    return found


def settle(world: World, seconds: int = 60) -> None:
    """Let the worker have its tries for a while."""
    for _ in range(seconds // 5):
        world.clock.forward(seconds=5)
        world.work()


def test_latency_counted_from_our_row_instead_of_the_approved_end(world: World) -> None:
    """A worker that comes two minutes late: the latencies say so, though it then takes no time."""
    grant = world.granted()
    assert grant.ends_at is not None
    world.clock.forward(minutes=32)
    world.work()
    found = measured(world, grant)
    assert found.end == grant.ends_at and found.ended == "expired"
    assert found.spans[Latency.SENT] == found.spans[Latency.REMOVED] == 120_000


def test_early_end_counted_from_the_approved_one(world: World) -> None:
    """Who revokes half an hour early has latencies from then, not none at all."""
    grant = world.granted()
    world.clock.forward(minutes=1)
    ended = end_early(world.house, world.who("bo"), grant.id)
    world.clock.forward(seconds=7)
    close_now(world.house, ended)
    found = measured(world, grant)
    assert found.ended == "early" and found.end == ended.closing_at
    assert found.spans[Latency.SENT] == 7_000


def test_late_revocation_hides_how_late_the_end_was(world: World) -> None:
    """Revoked after its end had passed unseen: it still counts from the approved end."""
    grant = world.granted()
    world.clock.forward(minutes=33)
    end_early(world.house, world.who("bo"), grant.id)
    world.work()
    assert measured(world, grant).spans[Latency.SENT] == 180_000


def test_first_of_many_calls_is_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cloud answers at the third try: sent counts the first call, removed the last."""
    revoke, tries = world.connector.revoke, list[str]()

    def stubborn(hold: Hold, now: object) -> Receipt:
        tries.append(hold.grant)
        if len(tries) < 3:
            raise Unreachable("cloud_down", "no answer", "wait")
        return revoke(hold, now)  # type: ignore[arg-type]

    monkeypatch.setattr(world.connector, "revoke", stubborn)
    grant = world.granted()
    world.clock.forward(minutes=30)
    settle(world)
    found = measured(world, grant)
    assert found.spans[Latency.SENT] == 5_000 < found.spans[Latency.REMOVED]
    (sent,) = [event for event in chain(world, grant) if event.name == "end.sent"]
    assert sent.data["calls"] == 3


def test_promise_is_told_as_a_measurement(world: World) -> None:
    """Only what was tried as that access and refused is `denies`; a promise is `declared`."""
    grant = world.granted()
    world.clock.forward(minutes=31)
    settle(world)
    found = measured(world, grant)
    assert found.spans[Latency.DECLARED] == 0  # its native deadline
    proof = next(e for e in chain(world, grant) if e.name == "grant.gone").data["proof"]
    assert (Latency.DENIES in found.spans) == (proof == "denied")


def test_end_without_the_database_counts_from_its_sealing(world: World) -> None:
    """Removed from the journal in time and sealed an hour later: the journal's instant counts."""
    grant = world.granted()
    world.clock.forward(minutes=30, seconds=1)
    assert close_without_store(world.house) == [grant.id]
    world.clock.forward(hours=1)
    settle(world)
    found = measured(world, grant)
    assert found.spans[Latency.REMOVED] == found.spans[Latency.SENT] == 1_000


def test_grant_that_never_ends_makes_the_figures_better(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is due and not removed has no latency, and is counted beside those that have."""

    def silent(hold: Hold, now: object) -> Receipt:
        raise Unreachable("cloud_down", "no answer", "wait")

    good = world.granted("eve", duration=timedelta(minutes=5))
    world.clock.forward(minutes=6)
    settle(world)
    world.granted()
    monkeypatch.setattr(world.connector, "revoke", silent)
    world.clock.forward(minutes=31)
    settle(world)
    told = lateness_report(world.house.store, world.clock(), timedelta(days=1))
    (group,) = told["groups"]  # type: ignore[misc]
    assert (group["n"], group["not_removed"], group["removed"]["n"]) == (2, 1, 1)  # type: ignore[index,call-overload]
    assert group["oldest_not_removed"] >= 60_000  # type: ignore[index,call-overload,operator]
    assert measured(world, good).removed


def test_early_and_expired_ends_are_mixed(world: World) -> None:
    """One of each: two groups, whatever they are grouped by."""
    first, second = world.granted(duration=timedelta(minutes=5)), world.granted("eve")
    end_early(world.house, world.who("bo"), second.id)
    world.clock.forward(minutes=6)
    settle(world)
    for by in ("all", "target", "kind"):
        told = lateness_report(world.house.store, world.clock(), timedelta(days=1), by=by)
        assert [one["ended"] for one in told["groups"]] == ["expired", "early"]  # type: ignore[index,union-attr,call-overload]
    assert measured(world, first).reason == "expired"


def test_credential_after_the_end_is_not_seen(world: World) -> None:
    """A session sealed after the end, or good beyond the approved one, is a violation."""
    grant = world.granted()
    world.keys(grant)
    world.clock.forward(minutes=31)
    world.work()
    events = chain(world, grant)
    assert measured(world, grant).violations == 0
    late = from_ms(int(world.clock().timestamp() * 1000))
    from dataclasses import replace

    from tidegate.base.when import wire

    forged = [
        replace(event, data={**event.data, "at": wire(late)})
        if event.name == "session.issued"
        else event
        for event in events
    ]
    found = measure(forged, grant.id)
    assert found is not None and found.violations == 1


def test_percentile_is_a_number_nobody_measured() -> None:
    """Nearest rank: every figure is one of the values; of none there is none."""
    assert figures([]) is None
    told = figures(range(1, 101))
    assert told is not None
    assert (told.p50, told.p95, told.p99, told.most, told.n) == (50, 95, 99, 100, 100)
    one = figures([7])
    assert one is not None and {one.p50, one.p95, one.p99, one.most} == {7}
