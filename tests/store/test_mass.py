"""Many ends in one instant: every row and every event as if each had been ended by itself."""

import sqlite3
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.base.errors import TidegateError
from tidegate.base.fact import SYSTEM
from tidegate.base.ids import GRANT
from tidegate.expire import EndReason, end
from tidegate.grant import Grant, GrantState, intend, opened, ready
from tidegate.store import Store, compare, reads, schema
from tidegate.store.mass import AT_ONCE

from .making import ITEM, NOW, ORIGIN, SIGNER, Clock, filed, name, only, open_store, opening_of

END = NOW + timedelta(hours=1)


@dataclass(frozen=True)
class Lot:
    """One grant before the instant: how far it came, on which assignment, ending how much later."""

    state: GrantState
    key: str
    later: int
    request: int


LOTS = st.lists(
    st.builds(
        Lot,
        state=st.sampled_from(
            [GrantState.READY, GrantState.INTENDED, GrantState.OPEN, GrantState.CLOSING]
        ),
        key=st.sampled_from(["", "", "ana", "eve"]),
        later=st.sampled_from([0, 0, 0, 1, 60_000]),
        request=st.integers(0, 3),
    ),
    max_size=12,
)


def filled(lots):
    """A store in memory with these grants."""
    clock = Clock()
    store = Store.memory(origin=ORIGIN, signer=SIGNER, clock=clock)
    requests = []
    for number in range(4):
        step, request = filed(number)
        store.commit(step)
        requests.append(request)
    for number, lot in enumerate(lots):
        request = requests[lot.request]
        step = ready(name(GRANT, number), request, replace(ITEM, role=f"t{number}/admin"), NOW)
        store.commit(step)
        if lot.state is not GrantState.READY:
            put_in(store, only(step, Grant), lot)
    clock.now = END
    return store


def put_in(store, grant, lot):
    """Bring a ready grant as far as its lot."""
    opening = opening_of(grant, key=lot.key)
    held = store.assignment_by_key(opening.key)
    step = intend(grant, held, opening, NOW + timedelta(milliseconds=lot.later))
    store.commit(step)
    if lot.state is GrantState.INTENDED:
        return
    step = opened(only(step, Grant), NOW, {}, NOW)
    store.commit(step)
    if lot.state is GrantState.CLOSING:  # revoked by somebody in the same instant
        grant = only(step, Grant)
        held = store.assignment(grant.assignment)
        store.commit(end(grant, held, EndReason.REVOKED, "pr_bo", END))


def one_by_one(store, now):
    """End what is due as a worker without set statements would, the earliest end first."""
    due = [
        grant
        for grant in store.grants(states=frozenset({GrantState.OPEN, GrantState.INTENDED}))
        if grant.ends_at <= now
    ]
    for grant in sorted(due, key=lambda grant: (grant.ends_at, grant.id)):
        held = store.assignment(grant.assignment)
        store.commit(end(grant, held, EndReason.EXPIRED, SYSTEM, now))
    return len(due)


def everything(store):
    """Every row of every table, as stored."""
    with store.reading() as db:
        return {
            table.name: sorted(map(repr, db.execute(table.select()).all()))
            for table in schema.metadata.sorted_tables
        }


@settings(max_examples=60, deadline=None)
@given(LOTS, st.sampled_from([0, 1, 60_000]))
def test_bulk_differs_from_one_by_one(lots, later):
    """Rows, versions, holders, events, chains, tiles and the signed head are the same."""
    bulk, single = filled(lots), filled(lots)
    now = END + timedelta(milliseconds=later)
    assert bulk.end_due(now) == one_by_one(single, now)
    assert everything(bulk) == everything(single)
    assert compare(bulk) == []
    bulk.close()
    single.close()


def opens(store, count, first=0):
    """Open grants that all end at END."""
    for number in range(first, first + count):
        step, request = filed(number)
        store.commit(step)
        step = ready(name(GRANT, number), request, request.terms.items[0], NOW)
        store.commit(step)
        put_in(store, only(step, Grant), Lot(GrantState.OPEN, "", 0, 0))


def test_call_that_ends_some_loses_the_rest(store):
    """With a limit, the next call goes on; each is counted once, and none ends before its end."""
    opens(store, 5)
    assert store.end_due(END - timedelta(milliseconds=1)) == 0
    assert [store.end_due(END, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert compare(store) == []


def test_step_of_the_same_moment_is_lost_or_doubled(store):
    """Revocations and ends in bulk that wait together: each grant ends once, whoever is first."""
    opens(store, 6)
    grants = store.grants()
    steps = [
        end(grant, store.assignment(grant.assignment), EndReason.REVOKED, "pr_bo", END)
        for grant in grants[::2]
    ]
    waiting = [store.submit(step) for step in steps]
    ended = store.end_due(END)
    revoked = sum(future.exception() is None for future in waiting)
    assert ended + revoked == 6
    assert {grant.state for grant in store.grants()} == {GrantState.CLOSING}
    assert compare(store) == []


def test_lease_survives_the_end(store):
    """What somebody had in hand as it ended is due at once, for whoever comes first."""
    opens(store, 1)
    (grant,) = store.claim_due(END, 1, timedelta(minutes=2))
    assert grant.state is GrantState.OPEN
    assert store.end_due(END) == 1
    (grant,) = store.claim_due(END, 1, timedelta(minutes=2))
    assert grant.state is GrantState.CLOSING


def test_row_that_cannot_be_read_leaves_half_a_batch(store, path):
    """Nothing is stored when one row is damaged: the worker then ends the others one by one."""
    opens(store, 3)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE assignments SET holders = 'x' WHERE rowid = 1")
    db.close()
    size = store.head().size
    with pytest.raises((ValueError, TidegateError)):
        store.end_due(END)
    assert store.head().size == size
    assert {grant.state for grant in store.grants()} == {GrantState.OPEN}


def test_idle_look_writes(store, path):
    """Nothing to end: nothing is written."""
    opens(store, 1)
    wal = path.with_name(f"{path.name}-wal")
    before = wal.stat().st_mtime_ns
    assert store.end_due(NOW) == 0
    assert wal.stat().st_mtime_ns == before


def test_one_call_holds_the_database_for_long():
    """A batch is bounded, whatever is asked for."""
    assert AT_ONCE <= 5_000


def test_idle_look_walks_every_open_grant(path, clock):
    """On SQLite the looks at what has ended use the index of ends, never that of states."""
    store = open_store(path, clock=clock)
    with store.reading() as db:
        text, fixed, order = reads._ending("sqlite")._write("sqlite")
        values = tuple(fixed.get(name, 0) for name in order)
        plan = db.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()
    assert "grants_ending" in plan[0][3]
    store.close()
