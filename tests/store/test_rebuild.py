"""I7: state rebuilt from events is the rows, and a row somebody touched is found."""

import sqlite3

import pytest

from tidegate.base.errors import EvidenceBroken
from tidegate.base.fact import Step
from tidegate.catalogue import Assignment
from tidegate.evidence.seal import read_event
from tidegate.expire import EndReason, end
from tidegate.grant import Cause, Grant, GrantState, failed
from tidegate.request import withdraw
from tidegate.session import SessionState
from tidegate.store import compare, rebuild

from .making import (
    NOW,
    accepted,
    baseline,
    filed,
    finding,
    intended,
    joined,
    lifecycle,
    only,
    person,
    readied,
    said,
)


@pytest.fixture
def lived(store):
    """A store in which everything has happened at least once."""
    store.commit(person(1, "ana"))
    store.commit(joined(1, "sre"))
    (held,) = store.memberships()
    store.commit(joined(1, "sre", held, "left"))
    lifecycle(store, 1)
    step, request = filed(2)
    store.commit(step)
    store.commit(withdraw(request, NOW))
    store.commit(said())
    step, found = finding(1)
    store.commit(step)
    store.commit(accepted(found))
    store.commit(baseline())
    return store


def test_rebuilt_state_is_the_rows(lived):
    """Every request, grant, session, assignment, principal and membership comes out the same."""
    assert compare(lived) == []
    rebuilt = rebuild(read_event(leaf) for _, leaf in lived.all_events())
    assert {kind.__name__: len(things) for kind, things in rebuilt.things.items()} == {
        "Request": 2,
        "Grant": 1,
        "Session": 1,
        "Assignment": 1,
        "Principal": 1,
        "Membership": 1,
        "Finding": 1,
        "Baseline": 1,
        "Panic": 0,
        "Notice": 0,
    }
    (grant,) = rebuilt.things[Grant].values()
    assert grant == lived.grant(grant.id)
    assert grant.state is GrantState.GONE
    (session,) = lived.sessions(grant.id)
    assert session.state is SessionState.ENDED


def test_shared_assignment_is_rebuilt_with_its_holders(store):
    """Two grants hold one assignment; a close and a failure each let go of it."""
    grants, held = [], None
    for number in (1, 2, 3):
        step, request = filed(number)
        store.commit(step)
        step, grant = readied(number, request)
        store.commit(step)
        step, grant = intended(grant, held, key="shared")
        held = only(step, Assignment)
        store.commit(step)
        grants.append(grant)
    assert len(held.holders) == 3
    step = end(grants[0], held, EndReason.REVOKED, "system", NOW)
    store.commit(step)
    store.commit(failed(grants[1], only(step, Assignment), Cause.CLOUD_REFUSED, "no", NOW))
    assert store.assignment(held.id).holders == (grants[2].id,)
    assert compare(store) == []


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("grants", "ends_at_ms", 9_999_999_999_999),
        ("grants", "state", "open"),
        ("grants", "state", "nonsense"),
        ("grants", "principal", "pr_mallory"),
        ("grants", "request", "rq_other"),
        ("requests", "state", "approved"),
        ("requests", "items", "[]"),
        ("sessions", "expires_at_ms", 1),
        ("assignments", "holders", "[]x"),
        ("principals", "enabled", 0),
        ("memberships", "has_left", 0),
        ("grants", "version", 99),
    ],
)
def test_tampered_column_is_named(lived, path, table, column, value):
    """Whatever is changed behind the log's back is named: table, id, column, both values."""
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE {table} SET {column} = ?", (value,))
    db.close()
    found = compare(lived)
    assert {(one.table, one.field) for one in found} == {(table, column)}
    assert all(one.got == value and one.expected != value for one in found)
    assert column in found[0].text()


def test_row_without_events_is_named(lived, path):
    """A grant put into the table by hand has no events, and is found."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TEMP TABLE copy AS SELECT * FROM grants")
        db.execute("UPDATE copy SET id = 'gr_forged', state = 'open'")
        db.execute("INSERT INTO grants SELECT * FROM copy")
    db.close()
    (found,) = compare(lived)
    assert (found.table, found.id, found.field) == ("grants", "gr_forged", "row")
    assert (found.expected, found.got) == ("absent", "present")


def test_events_without_a_row_are_named(lived, path):
    """A session taken out of the table is still in the events, and is found."""
    with sqlite3.connect(path) as db:
        (name,) = db.execute("SELECT id FROM sessions").fetchone()
        db.execute("DELETE FROM sessions")
    db.close()
    (found,) = compare(lived)
    assert (found.table, found.id, found.expected) == ("sessions", name, "present")


def test_worker_columns_are_not_state(lived, path):
    """When the worker looks next is not evidence: changing it is no difference."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE grants SET due_at_ms = 1, lease_until_ms = 2")
    db.close()
    assert compare(lived) == []


def test_event_that_cannot_follow_is_named(store):
    """An event out of its order breaks the rebuild at that event."""
    _, request = filed()
    store.commit(Step((), withdraw(request, NOW).facts))
    with pytest.raises(EvidenceBroken, match="event 0: expected one that can follow"):
        compare(store)


def test_grant_nobody_would_look_at_is_told(lived, path):
    """A live grant without a due time would never be closed: `integrity` says so."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE grants SET state = 'open'")
    db.close()
    assert lived.integrity() == ("1 grants are not over and would never be looked at again",)


def test_missing_event_row_is_told(lived, path):
    """A log table shorter than its head says is told by `integrity`."""
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM events WHERE idx = 3")
    db.close()
    (found,) = lived.integrity()
    assert "the log's head says 18 events, the table holds 17" in found
