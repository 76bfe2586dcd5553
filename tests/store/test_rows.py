"""Every thing that can exist is read back from its row as it was."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.base.when import from_ms
from tidegate.catalogue import Assignment, Baseline, Membership, Principal, PrincipalKind
from tidegate.finding import Finding, FindingKind, FindingState, Severity
from tidegate.grant import Grant, GrantState
from tidegate.notice import Notice
from tidegate.panic import Panic, PanicState, ScopeKind
from tidegate.request import Extension, Item, Request, RequestState, Terms, Vote
from tidegate.session import Session, SessionKind, SessionState
from tidegate.store.rows import codecs

from .making import filed

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
INSTANT = st.integers(0, 4_102_444_800_000).map(from_ms)
MAYBE = st.none() | INSTANT
SPAN = st.integers(0, 31_622_400).map(lambda seconds: timedelta(seconds=seconds))
COUNT = st.integers(0, 2**53 - 1)
TEXTS = st.lists(TEXT, max_size=4).map(tuple)

ITEM = st.builds(
    Item,
    role=TEXT,
    role_digest=TEXT,
    carrier=TEXT,
    requirement=TEXT,
    rules=TEXTS,
    grace=SPAN,
)
VOTE = st.builds(
    Vote, id=TEXT, voter=TEXT, choice=TEXT, digest=TEXT, groups=TEXTS, comment=TEXT, at=INSTANT
)
TERMS = st.builds(
    Terms,
    principal=TEXT,
    items=st.lists(ITEM, max_size=3).map(tuple),
    duration=SPAN,
    start=MAYBE,
    reason=TEXT,
    ticket=st.none() | TEXT,
    emergency=st.booleans(),
    rules_digest=TEXT,
    extends=st.none() | st.builds(Extension, grant=TEXT, ends_at=INSTANT, until=INSTANT),
)
THINGS = {
    Notice: st.builds(
        Notice,
        id=TEXT,
        kind=TEXT,
        subject=TEXT,
        audience=TEXT,
        made_at=INSTANT,
        payload=st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), TEXT, max_size=3),
        version=COUNT,
    ),
    Request: st.builds(
        Request,
        id=TEXT,
        state=st.sampled_from(RequestState),
        terms=TERMS,
        digest=TEXT,
        filed_at=INSTANT,
        decide_by=INSTANT,
        decided_at=MAYBE,
        votes=st.lists(VOTE, max_size=3).map(tuple),
        code=TEXT,
        why=TEXT,
        applied_at=MAYBE,
        version=COUNT,
    ),
    Grant: st.builds(
        Grant,
        id=TEXT,
        request=TEXT,
        principal=TEXT,
        role=TEXT,
        role_digest=TEXT,
        state=st.sampled_from(GrantState),
        opens_at=INSTANT,
        claim_by=INSTANT,
        duration=SPAN,
        start=MAYBE,
        ends_at=MAYBE,
        assignment=TEXT,
        exposure=SPAN,
        unattended=st.none() | SPAN,
        cut=st.booleans(),
        cut_before=MAYBE,
        opened_at=MAYBE,
        closing_at=MAYBE,
        end_reason=TEXT,
        removed_at=MAYBE,
        residual_until=MAYBE,
        gone_at=MAYBE,
        proof=TEXT,
        cause=TEXT,
        outcome=TEXT,
        tries=COUNT,
        sessions=COUNT,
        still_held_by=TEXT,
        searched=TEXT,
        version=COUNT,
        risk=st.integers(0, 7),
    ),
    Session: st.builds(
        Session,
        id=TEXT,
        grant=TEXT,
        request=TEXT,
        kind=st.sampled_from(SessionKind),
        state=st.sampled_from(SessionState),
        key_id=TEXT,
        issued_at=INSTANT,
        expires_at=INSTANT,
        bound_until=INSTANT,
        ended_at=MAYBE,
        why=TEXT,
        version=COUNT,
    ),
    Assignment: st.builds(
        Assignment,
        id=TEXT,
        connector=TEXT,
        account=TEXT,
        native_role=TEXT,
        native_principal=TEXT,
        holders=TEXTS,
        deadline_at=INSTANT,
        stood_before=st.booleans(),
        version=COUNT,
    ),
    Principal: st.builds(
        Principal,
        id=TEXT,
        issuer=TEXT,
        subject=TEXT,
        kind=st.sampled_from(PrincipalKind),
        name=TEXT,
        mail=TEXT,
        enabled=st.booleans(),
        seen_at=INSTANT,
        version=COUNT,
    ),
    Membership: st.builds(
        Membership,
        id=TEXT,
        principal=TEXT,
        group=TEXT,
        source=TEXT,
        first_seen_at=INSTANT,
        last_seen_at=INSTANT,
        left=st.booleans(),
        version=COUNT,
    ),
    Finding: st.builds(
        Finding,
        id=TEXT,
        kind=st.sampled_from(FindingKind),
        target=TEXT,
        what=TEXT,
        sort=TEXT,
        says=TEXT,
        remedy=TEXT,
        owner=TEXT,
        role=TEXT,
        principal=TEXT,
        grant=TEXT,
        by=TEXT,
        severity=st.sampled_from(Severity),
        state=st.sampled_from(FindingState),
        assigned_to=TEXT,
        times=COUNT,
        first_seen_at=INSTANT,
        last_seen_at=INSTANT,
        closed_at=MAYBE,
        closed_how=TEXT,
        closed_by=TEXT,
        reason=TEXT,
        accepted_until=MAYBE,
        version=COUNT,
    ),
    Baseline: st.builds(
        Baseline,
        id=TEXT,
        target=TEXT,
        role=TEXT,
        native_role=TEXT,
        document=TEXT,
        count=COUNT,
        taken_at=INSTANT,
        version=COUNT,
    ),
    Panic: st.builds(
        Panic,
        id=TEXT,
        state=st.sampled_from(PanicState),
        kind=st.sampled_from(ScopeKind),
        name=TEXT,
        actor=TEXT,
        via=TEXT,
        reason=TEXT,
        called_at=INSTANT,
        frozen_until=MAYBE,
        lifted_at=MAYBE,
        grants=COUNT,
        requests=COUNT,
        version=COUNT,
    ),
}
OWN = {
    Grant: {"due_at_ms", "lease_until_ms", "lease_by", "target", "lane"},
    Finding: {"last_seen_ms"},
    Notice: {"delivered_at_ms"},
}


def test_every_kind_of_thing_is_tried_here():
    """A new table cannot be forgotten below."""
    assert THINGS.keys() == codecs().keys()


@pytest.mark.parametrize("kind", THINGS, ids=lambda kind: kind.__name__)
def test_thing_is_read_back_as_it_was(kind):
    """Encoding loses nothing, whatever texts, instants and lists a thing holds."""
    codec = codecs()[kind]

    @settings(max_examples=60, deadline=None)
    @given(THINGS[kind])
    def round_trip(thing):
        assert codec.decode(codec.row(thing)) == thing

    round_trip()


@pytest.mark.parametrize("kind", THINGS, ids=lambda kind: kind.__name__)
def test_row_fills_its_table_exactly(kind):
    """No column is left out, none is made up, and what is the worker's is named apart."""
    codec = codecs()[kind]

    @settings(max_examples=1, deadline=None)
    @given(THINGS[kind])
    def columns(thing):
        assert list(codec.row(thing)) == [column.name for column in codec.table.columns]
        own = codec.own(thing).keys() if codec.own else set()
        assert own == OWN.get(kind, set())

    columns()


def test_unknown_state_is_refused_not_guessed():
    """A row with a state no version wrote cannot become a thing."""
    _, request = filed()
    codec = codecs()[Request]
    with pytest.raises(ValueError, match="open_for_ever"):
        codec.decode({**codec.row(request), "state": "open_for_ever"})
