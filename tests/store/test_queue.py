"""What is due: ends before openings, one worker a grant, and nothing sleeps past its end."""

import sqlite3
from datetime import timedelta

from tidegate.expire import EndReason, ReadBack, end, removed
from tidegate.grant import Grant, GrantState, Outcome, noted, opened
from tidegate.request import RequestState, lapse
from tidegate.store import Share
from tidegate.store.writer import Free

from .making import NOW, filed, intended, lifecycle, only, readied

LEASE = timedelta(minutes=2)
HOUR = timedelta(hours=1)


def waiting(store, number, *, until=GrantState.READY):
    """A grant brought as far as `until`."""
    step, request = filed(number)
    store.commit(step)
    step, grant = readied(number, request)
    store.commit(step)
    if until is GrantState.READY:
        return grant
    step, grant = intended(grant)
    store.commit(step)
    if until is GrantState.INTENDED:
        return grant
    step = opened(grant, NOW, {}, NOW)
    store.commit(step)
    grant = only(step, Grant)
    if until is GrantState.OPEN:
        return grant
    step = end(grant, store.assignment(grant.assignment), EndReason.REVOKED, "system", NOW)
    store.commit(step)
    grant = only(step, Grant)
    if until is GrantState.CLOSING:
        return grant
    back = ReadBack(
        cloud_at=NOW,
        detail={},
        acted_at=NOW,
        changed_by=NOW,
        derived=HOUR,
        settling=timedelta(0),
        native_deadline=True,
    )
    step = removed(grant, back, NOW)
    store.commit(step)
    return only(step, Grant)


def test_ends_come_before_openings(store):
    """With everything due at once, what must end is first and what may open is last."""
    ready = waiting(store, 1)
    intent = waiting(store, 2, until=GrantState.INTENDED)
    gone_soon = waiting(store, 3, until=GrantState.REMOVED)
    closing = waiting(store, 4, until=GrantState.CLOSING)
    due = store.claim_due(NOW, 10, LEASE)
    assert [one.id for one in due] == [closing.id, gone_soon.id, ready.id, intent.id]


def test_open_grant_and_overdue_intent_come_first_at_their_end(store):
    """At the end of the window an open grant and an intent nobody opened both rank as ends."""
    ready = waiting(store, 1)
    intent = waiting(store, 2, until=GrantState.INTENDED)
    still_open = waiting(store, 3, until=GrantState.OPEN)
    assert still_open.id not in {one.id for one in store.claim_due(NOW, 10, LEASE)}
    due = store.claim_due(NOW + HOUR, 10, LEASE)
    assert [one.id for one in due] == [intent.id, still_open.id, ready.id]


def test_limit_takes_the_most_urgent(store):
    """When a look can take only some, it takes the ends."""
    for number in range(5):
        waiting(store, number)
    closing = waiting(store, 9, until=GrantState.CLOSING)
    assert [one.id for one in store.claim_due(NOW, 1, LEASE)] == [closing.id]


def test_leased_grant_is_given_to_one_worker_until_the_lease_ends(store):
    """A second look finds nothing; after the lease a grant a crash left behind is due again."""
    grant = waiting(store, 1)
    assert store.claim_due(NOW, 10, LEASE) == [grant]
    assert store.claim_due(NOW + LEASE - timedelta(milliseconds=1), 10, LEASE) == []
    assert store.claim_due(NOW + LEASE, 10, LEASE) == [grant]


def test_change_frees_the_lease_and_sets_the_next_look(store):
    """A revocation during a lease is due at once, whoever was looking."""
    grant = waiting(store, 1, until=GrantState.INTENDED)
    store.claim_due(NOW, 10, LEASE)
    held = store.assignment(grant.assignment)
    store.commit(end(grant, held, EndReason.PANIC, "system", NOW))
    (due,) = store.claim_due(NOW, 10, LEASE)
    assert due.state is GrantState.CLOSING


def test_snoozed_grant_is_due_again_at_its_time(store):
    """Snoozing frees the lease and sets the next look."""
    grant = waiting(store, 1)
    store.claim_due(NOW, 10, LEASE)
    store.snooze(grant.id, NOW + timedelta(seconds=5))
    assert store.claim_due(NOW + timedelta(seconds=4), 10, LEASE) == []
    assert store.claim_due(NOW + timedelta(seconds=5), 10, LEASE) == [grant]


def test_open_grant_never_sleeps_past_its_end(store):
    """However long the pause asked for, an open grant is looked at when it ends."""
    grant = waiting(store, 1, until=GrantState.OPEN)
    store.snooze(grant.id, NOW + timedelta(days=30))
    assert [one.id for one in store.claim_due(grant.ends_at, 10, LEASE)] == [grant.id]


def test_late_snooze_does_not_delay_what_changed_meanwhile(store):
    """With the version it saw, a slow worker cannot put a revocation to sleep."""
    grant = waiting(store, 1, until=GrantState.OPEN)
    held = store.assignment(grant.assignment)
    store.commit(end(grant, held, EndReason.REVOKED, "system", NOW))
    store.snooze(grant.id, NOW + timedelta(minutes=2), version=grant.version)
    assert [one.id for one in store.claim_due(NOW, 10, LEASE)] == [grant.id]


def test_grant_that_is_over_is_never_due(store):
    """Neither by itself nor by a late snooze."""
    grant = lifecycle(store, 1)
    store.snooze(grant.id, NOW)
    assert store.claim_due(NOW + timedelta(days=400), 10, LEASE) == []
    assert store.integrity() == ()


def test_idle_look_writes_nothing(store, path):
    """A worker with nothing to do does not grow the write-ahead log."""
    waiting(store, 1, until=GrantState.OPEN)
    wal = path.with_name(f"{path.name}-wal")
    before = wal.stat().st_mtime_ns
    assert store.claim_due(NOW, 10, LEASE) == []
    assert wal.stat().st_mtime_ns == before


def test_undecided_request_is_found_when_it_lapses(store):
    """Only pending requests whose decide-by has passed, the longest over first."""
    step, request = filed(1)
    store.commit(step)
    store.commit(filed(2)[0])
    assert store.lapsed(request.decide_by - timedelta(seconds=1), 10) == []
    assert len(store.lapsed(request.decide_by, 1)) == 1
    store.commit(lapse(request, request.decide_by))
    (left,) = store.lapsed(request.decide_by, 10)
    assert left.id != request.id


def test_approved_request_without_all_its_grants_is_found(store, path):
    """A crash between approval and readying leaves nothing behind unseen."""
    step, request = filed(1, items=2)
    store.commit(step)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE requests SET state = 'approved'")
    db.close()
    assert [one.id for one in store.approved_without_grants(10)] == [request.id]
    store.commit(readied(1, request)[0])
    assert [one.state for one in store.approved_without_grants(10)] == [RequestState.APPROVED]
    store.commit(readied(2, request)[0])
    assert store.approved_without_grants(10) == []


def test_early_end_must_stay_refused_until_its_time(store):
    """Only grants that began to close before their end, and only while it lies ahead."""
    waiting(store, 1, until=GrantState.OPEN)
    early = waiting(store, 2, until=GrantState.CLOSING)
    assert [one.id for one in store.cuts_in_force(NOW)] == [early.id]
    assert store.cuts_in_force(early.ends_at) == []


def test_unsettled_outcome_keeps_a_grant_due(store):
    """Noting a failed try leaves the grant due: closing never stops by itself."""
    grant = waiting(store, 1, until=GrantState.CLOSING)
    step = noted(grant, "revoke", Outcome.UNREACHABLE, "timeout", 1, NOW)
    store.commit(step)
    assert store.claim_due(NOW, 10, LEASE) == [only(step, Grant)]


def test_opener_claims_an_end(store):
    """Who only opens is given no end, and who only closes is given nothing to open."""
    ready = waiting(store, 1)
    intent = waiting(store, 2, until=GrantState.INTENDED)
    gone_soon = waiting(store, 3, until=GrantState.REMOVED)
    closing = waiting(store, 4, until=GrantState.CLOSING)
    opens = Share(a_target=10, closes=False)
    closes = Share(a_target=10, opens=False)
    assert [one.id for one in store.claim_due(NOW, 10, LEASE, opens)] == [ready.id, intent.id]
    assert [one.id for one in store.claim_due(NOW, 10, LEASE, closes)] == [closing.id, gone_soon.id]


def test_intent_past_its_end_is_left_to_the_opener(store):
    """An intent whose end has come is a close: a closer takes it, an opener no longer does."""
    intent = waiting(store, 2, until=GrantState.INTENDED)
    at = NOW + HOUR
    assert store.claim_due(at, 10, LEASE, Share(a_target=10, closes=False)) == []
    due = store.claim_due(at, 10, LEASE, Share(a_target=10, opens=False))
    assert [one.id for one in due] == [intent.id]


def test_leases_of_a_silent_worker_hold_nothing_up(store):
    """Who beats keeps its leases, who does not loses them at once; one without a name by time."""
    for number in (1, 2, 3):
        waiting(store, number)
    held = {}
    for name in ("worker:here", "worker:gone", ""):
        store.beat(name, NOW, "")
        (held[name],) = store.claim_due(NOW, 1, LEASE, Share(a_target=9, by=name))
    late = NOW + timedelta(seconds=11)
    assert store.free_silent(NOW + timedelta(seconds=9)) == 0
    store.beat("worker:here", late, "")
    assert store.free_silent(late) == 1
    freed = store.claim_due(late, 9, LEASE, Share(a_target=9, by="worker:here"))
    assert [one.id for one in freed] == [held["worker:gone"].id]
    assert store.free_silent(late) == 0


def test_lease_by_a_clock_that_was_ahead_holds_an_end_up(store):
    """Its worker is alive, its clock is right again, and nobody works at the grant."""
    closing = waiting(store, 1, until=GrantState.CLOSING)
    ahead = NOW + HOUR
    assert store.claim_due(ahead, 9, LEASE, Share(a_target=9, by="worker:here"))
    store.beat("worker:here", NOW, "")
    assert store.claim_due(NOW + LEASE, 9, LEASE, Share(a_target=9, by="worker:there")) == []
    assert store.free_silent(NOW) == 1
    (found,) = store.claim_due(NOW, 9, LEASE, Share(a_target=9, by="worker:there"))
    assert found.id == closing.id


def test_worker_is_told_a_wrong_instant_to_wake(store):
    """The next instant is the first due time or end after the one asked about; none is none."""
    assert store.next_due(NOW) is None
    waiting(store, 1)
    opened = waiting(store, 2, until=GrantState.OPEN)
    assert store.next_due(NOW - HOUR) == NOW
    assert store.next_due(NOW) == opened.ends_at
    store.snooze(opened.id, NOW + LEASE)
    assert store.next_due(NOW) == NOW + LEASE
    assert store.next_due(NOW + LEASE) == opened.ends_at
    assert store.next_due(opened.ends_at) is None


def test_lease_waits_for_the_disk_and_evidence_does_not(store):
    """A claim commits without waiting for the disk; whatever comes after it waits again."""
    asked = (
        "PRAGMA synchronous"
        if store._database.words.name == "sqlite"
        else "SHOW synchronous_commit"
    )

    def told(db):
        return str(db.execute(asked).fetchone()[0])

    assert told_by(store, told) in ("2", "on")
    assert told_by(store, Free(told)) in ("1", "off")
    assert told_by(store, told) in ("2", "on")


def told_by(store, work):
    """What a piece of work returned."""
    return store._writer.run(work)
